"""What a failed call to a Solana node says, as one of the four kinds (docs/sources.md, Solana and Jito).

``elsewhere`` is the one thing callers branch on besides the kind: whether another endpoint may well answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from deltatui.chain.http import Reply
from deltatui.domain.errors import DeltatuiError, TransientError, ValidationError

_TEXT_LIMIT = 200


class RpcError(DeltatuiError):
    """A failed call. ``rpc_code`` and ``data`` are the node's own, ``retry_after_s`` its wish."""

    def __init__(
        self,
        code: str,
        sentence: str,
        *,
        elsewhere: bool = True,
        rpc_code: int | None = None,
        data: Any = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(code, sentence)
        self.elsewhere = elsewhere
        self.rpc_code = rpc_code
        self.data = data
        self.retry_after_s = retry_after_s


class RpcTransientError(RpcError, TransientError):
    """A call that may succeed later or on another endpoint."""


class RpcRefusedError(RpcError, ValidationError):
    """A call that this endpoint will not carry out as asked."""


_Kind = type[RpcTransientError] | type[RpcRefusedError]

# JSON-RPC code -> (code, kind, whether another endpoint may answer)
_BY_CODE: dict[int, tuple[str, _Kind, bool]] = {
    -32700: ("RPC_BAD_PARAMS", RpcRefusedError, False),
    -32600: ("RPC_BAD_PARAMS", RpcRefusedError, False),
    -32601: ("RPC_METHOD_UNKNOWN", RpcRefusedError, True),
    -32602: ("RPC_BAD_PARAMS", RpcRefusedError, False),
    -32603: ("RPC_INTERNAL", RpcTransientError, True),
    -32001: ("RPC_NO_HISTORY", RpcRefusedError, True),
    -32002: ("RPC_PREFLIGHT_FAILED", RpcRefusedError, False),
    -32003: ("RPC_BAD_SIGNATURE", RpcRefusedError, False),
    -32004: ("RPC_BLOCK_NOT_AVAILABLE", RpcTransientError, True),
    -32005: ("RPC_NODE_UNHEALTHY", RpcTransientError, True),
    -32006: ("RPC_PRECOMPILE_FAILED", RpcRefusedError, False),
    -32007: ("RPC_SLOT_SKIPPED", RpcRefusedError, True),
    -32008: ("RPC_NO_HISTORY", RpcRefusedError, True),
    -32009: ("RPC_SLOT_SKIPPED", RpcRefusedError, True),
    -32010: ("RPC_NOT_INDEXED", RpcRefusedError, True),
    -32011: ("RPC_NO_HISTORY", RpcRefusedError, True),
    -32012: ("RPC_SCAN_FAILED", RpcTransientError, True),
    -32013: ("RPC_BAD_SIGNATURE", RpcRefusedError, False),
    -32014: ("RPC_BLOCK_NOT_AVAILABLE", RpcTransientError, True),
    -32015: ("RPC_TX_VERSION", RpcRefusedError, False),
    -32016: ("RPC_MIN_CONTEXT_SLOT", RpcTransientError, True),
}
_RATE_LIMIT_CODES = frozenset({429, -32429, -32097})
_RATE_LIMIT_WORDS = ("rate limit", "too many requests", "max usage reached", "rate-limit")


class _Envelope(msgspec.Struct):
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_envelope = msgspec.json.Decoder(_Envelope)


def read_result(reply: Reply, request_id: int, where: str, hide: Callable[[str], str]) -> bytes:
    """The raw JSON of ``result``; raises RpcError for every other shape.

    ``where`` names the endpoint and method, ``hide`` takes the endpoint's secrets out of a text. An error belongs
    to its request by the HTTP exchange (its ``id`` is often null); a result must carry the request's id.
    """
    envelope = _decode(reply.body)
    error = b"null" if envelope is None or isinstance(envelope.error, msgspec.UnsetType) else bytes(envelope.error)
    if error != b"null":
        raise _json_error(error, reply, where, hide)
    if reply.status != 200:
        raise _http_error(reply, where, hide)
    if envelope is None:
        text = _shorten(reply.body.decode("utf-8", "replace"), hide)
        if _speaks_of_rate_limit(text):
            raise _rate_limited(reply, where, text, None)
        shown = f"it said '{text}'" if text else "its body was empty"
        raise RpcTransientError("RPC_GARBAGE", f"{where} did not answer in JSON-RPC; {shown}")
    if envelope.result is msgspec.UNSET:
        raise RpcTransientError("RPC_GARBAGE", f"{where} answered with neither a result nor an error")
    if envelope.id is msgspec.UNSET or bytes(envelope.id) != b"%d" % request_id:
        raise RpcTransientError("RPC_GARBAGE", f"{where} answered another request than the one that was asked")
    return bytes(envelope.result)


def timed_out(where: str, seconds: float) -> RpcTransientError:
    return RpcTransientError("RPC_TIMEOUT", f"{where} did not answer within {seconds:g} s")


def _decode(body: bytes) -> _Envelope | None:
    try:
        return _envelope.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _json_error(raw: bytes, reply: Reply, where: str, hide: Callable[[str], str]) -> RpcError:
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return RpcTransientError("RPC_GARBAGE", f"{where} answered with an error that cannot be read")
    fields: dict[str, Any] = body if isinstance(body, dict) else {"message": body}
    code = _integer(fields.get("code"))
    message = _shorten(str(fields.get("message", "")), hide)
    data = fields.get("data")
    if code in _RATE_LIMIT_CODES or reply.status == 429 or _speaks_of_rate_limit(message):
        return _rate_limited(reply, where, message, code)
    name, kind, elsewhere = _BY_CODE.get(code or 0, ("RPC_ERROR", RpcTransientError, True))
    if name == "RPC_ERROR" and reply.status in (401, 403):
        return _http_error(reply, where, hide)
    if name == "RPC_NODE_UNHEALTHY" and (_slots_behind(data) or "behind" in message):
        name = "RPC_NODE_BEHIND"
    if name == "RPC_PREFLIGHT_FAILED" and _blockhash_unknown(data, message):
        name, kind, elsewhere = "RPC_BLOCKHASH_NOT_FOUND", RpcTransientError, True
    said = f"'{message}'" if message else "no message"
    number = f" ({code})" if code is not None else ""
    return kind(
        name,
        f"{where} answered with an error: {said}{number}",
        elsewhere=elsewhere,
        rpc_code=code,
        data=data,
        retry_after_s=_retry_after(reply, message),
    )


def _http_error(reply: Reply, where: str, hide: Callable[[str], str]) -> RpcError:
    status = reply.status
    text = _shorten(reply.body.decode("utf-8", "replace"), hide)
    if status == 429:
        return _rate_limited(reply, where, text, None)
    if status in (401, 403):
        return RpcRefusedError(
            "RPC_FORBIDDEN",
            f"{where} refuses us (HTTP {status}); check the key in its URL and its list of allowed users",
        )
    if status >= 500 or status == 408:
        return RpcTransientError(
            "RPC_SERVER_ERROR", f"{where} failed (HTTP {status})", retry_after_s=_retry_after(reply, text)
        )
    if status == 413:
        return RpcRefusedError("RPC_TOO_LARGE", f"{where} finds the request too large (HTTP 413)")
    return RpcRefusedError("RPC_HTTP", f"{where} answered HTTP {status}; is its URL that of a Solana RPC node?")


def _rate_limited(reply: Reply, where: str, text: str, code: int | None) -> RpcError:
    said = f": '{text}'" if text else ""
    return RpcTransientError(
        "RPC_RATE_LIMITED",
        f"{where} limits our rate{said}",
        rpc_code=code,
        retry_after_s=_retry_after(reply, text),
    )


def _retry_after(reply: Reply, text: str) -> float | None:
    """Seconds from the Retry-After header (a date there is ignored) or from Jito's 'Retry after 1606ms'."""
    header = reply.headers.get("retry-after", "").strip()
    if header.isascii() and header.isdigit():
        return float(header[:9])
    _, found, rest = text.lower().partition("retry after ")
    number, unit, _ = rest.partition("ms")
    if found and unit and number.strip().isascii() and number.strip().isdigit():
        return int(number.strip()[:9]) / 1000.0
    return None


def _slots_behind(data: Any) -> bool:
    return isinstance(data, dict) and _integer(data.get("numSlotsBehind")) is not None


def _blockhash_unknown(data: Any, message: str) -> bool:
    return (isinstance(data, dict) and data.get("err") == "BlockhashNotFound") or "Blockhash not found" in message


def _integer(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and len(value) <= 12:
        try:
            return int(value)
        except ValueError:
            return None
    return None


def _speaks_of_rate_limit(text: str) -> bool:
    lowered = text.lower()
    return any(words in lowered for words in _RATE_LIMIT_WORDS)


def _shorten(text: str, hide: Callable[[str], str]) -> str:
    # Hide before cutting: a secret that is cut in two would no longer be found.
    plain = " ".join("".join(c if c.isprintable() else " " for c in hide(text[:5000])).split())
    return plain if len(plain) <= _TEXT_LIMIT else plain[: _TEXT_LIMIT - 1] + "…"
