"""One HTTP exchange: what goes out, what comes back. aiohttp is imported when the first one happens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    import aiohttp


class Reply(msgspec.Struct, frozen=True):
    """``headers`` have lower-case names."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}


class Transport(Protocol):
    """Carries one exchange. Raises TransportError when there is no complete reply; never times out by itself."""

    async def exchange(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Reply: ...

    async def close(self) -> None: ...


class TransportError(Exception):
    """No complete reply. ``reason`` is safe to show: it never quotes a URL."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class AiohttpTransport:
    """Keeps connections open between exchanges. Redirects are not followed (a URL may hold a key)."""

    def __init__(self, max_reply_bytes: int = 256 * 1024 * 1024) -> None:
        self._max_reply_bytes = max_reply_bytes
        self._session: aiohttp.ClientSession | None = None

    async def exchange(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        import aiohttp

        if self._session is None:
            # The callers bound their waiting on the Clock port, so aiohttp's own timeouts are off.
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                connector=aiohttp.TCPConnector(limit=64, keepalive_timeout=30.0, ttl_dns_cache=300),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        reason = ""
        try:
            async with self._session.request(
                method, url, data=body or None, headers=headers, allow_redirects=False
            ) as response:
                parts: list[bytes] = []
                size = 0
                async for part in response.content.iter_chunked(1 << 16):
                    size += len(part)
                    if size > self._max_reply_bytes:
                        response.close()
                        reason = f"the reply is longer than {self._max_reply_bytes} bytes"
                        break
                    parts.append(part)
                else:
                    lowered = {name.lower(): value for name, value in response.headers.items()}
                    return Reply(response.status, b"".join(parts), lowered)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            # The text of these errors may quote the URL; their type says enough.
            reason = type(error).__name__
        raise TransportError(reason)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
