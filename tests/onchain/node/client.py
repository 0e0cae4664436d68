"""The plainest client of the node: one request, one answer, no retries, no cleverness."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import aiohttp

if TYPE_CHECKING:
    from types import TracebackType

    from solders.transaction import VersionedTransaction

    from node.cluster import Node


class Refused(Exception):  # noqa: N818 (an answer, not a failure of the client)
    """A JSON-RPC error reply."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: Any = error.get("data")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    text: str
    headers: dict[str, str]

    def json(self) -> Any:
        return json.loads(self.text)


class Client:
    """Requests to ``node``. ``seconds`` bounds each one, so that no test waits for ever."""

    def __init__(self, node: Node, seconds: float = 10.0) -> None:
        self._node = node
        self._seconds = seconds
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._seconds))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the client is not open: use `async with Client(node)`")
        return self._session

    async def post(self, url: str, body: object) -> Answer:
        async with self.session.post(url, json=body) as response:
            return Answer(response.status, await response.text(), dict(response.headers))

    async def ask(self, method: str, *params: object, endpoint: int = 0) -> Answer:
        url = self._node.endpoint(endpoint).url
        return await self.post(url, {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)})

    async def call(self, method: str, *params: object, endpoint: int = 0) -> Any:
        """The result; Refused for an error reply."""
        return _result((await self.ask(method, *params, endpoint=endpoint)).json())

    async def ask_jito(self, method: str, *params: object, path: str = "/api/v1/bundles") -> Answer:
        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}
        return await self.post(self._node.jito_url + path, body)

    async def jito(self, method: str, *params: object, path: str = "/api/v1/bundles") -> Any:
        return _result((await self.ask_jito(method, *params, path=path)).json())

    async def blockhash(self, level: str = "confirmed", endpoint: int = 0) -> str:
        reply = await self.call("getLatestBlockhash", {"commitment": level}, endpoint=endpoint)
        return str(reply["value"]["blockhash"])

    async def send(self, transaction: VersionedTransaction, *, endpoint: int = 0, preflight: bool = False) -> str:
        """sendTransaction as a careful sender calls it; the signature."""
        config = {
            "encoding": "base64",
            "skipPreflight": not preflight,
            "preflightCommitment": "confirmed",
            "maxRetries": 0,
        }
        return str(await self.call("sendTransaction", encoded(transaction), config, endpoint=endpoint))

    async def status(self, signature: str, endpoint: int = 0) -> Any:
        """The value of getSignatureStatuses with the history search: None or a status."""
        config = {"searchTransactionHistory": True}
        return (await self.call("getSignatureStatuses", [signature], config, endpoint=endpoint))["value"][0]


def encoded(transaction: VersionedTransaction) -> str:
    return base64.b64encode(bytes(transaction)).decode()


def _result(reply: Any) -> Any:
    if "error" in reply:
        raise Refused(reply["error"])
    return reply["result"]
