"""HTTP and WebSocket on loopback: the request faults happen here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import TYPE_CHECKING

from aiohttp import WSMsgType, web

from node.faults import (
    JITO_CONGESTED,
    JITO_PER_IP,
    PUBLIC_RPC_429,
    Body,
    Dropped,
    ErrorReply,
    Hang,
    LostReply,
    NullResult,
    RateLimited,
)
from node.pubsub import Connection
from node.wire import RpcError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from node.faults import Faults, Host
    from node.pubsub import PubSub
    from node.records import Records

_HTML_429 = "<html><head><title>429 Too Many Requests</title></head><body>429 Too Many Requests</body></html>"


class ResetConnection(Exception):  # noqa: N818 (not an error of this program)
    """The client gets no answer but a reset."""


class AnswerInstead(Exception):  # noqa: N818
    """The client gets these bytes."""

    def __init__(self, text: str, status: int, content_type: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.content_type = content_type
        self.headers = headers or {}

    def response(self) -> web.Response:
        return web.Response(text=self.text, status=self.status, content_type=self.content_type, headers=self.headers)


class Gate:
    """Where hanging requests wait for blocks."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int | None, asyncio.Future[bool]]] = []
        self._arrival = asyncio.Event()

    async def wait(self, height: int | None) -> bool:
        """True when the chain has reached ``height`` (None: never), False when the node closes."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((height, future))
        self._arrival.set()
        return await future

    async def held(self, requests: int = 1) -> None:
        """Return when so many requests are waiting here."""
        while sum(not future.done() for _, future in self._waiting) < requests:
            self._arrival.clear()
            await self._arrival.wait()

    def reached(self, height: int) -> None:
        self._release(True, height)

    def close(self) -> None:
        self._release(False, None)

    def _release(self, value: bool, height: int | None) -> None:
        rest = []
        for wanted, future in self._waiting:
            if future.done():
                continue
            if height is None or (wanted is not None and wanted <= height):
                future.set_result(value)
            else:
                rest.append((wanted, future))
        self._waiting = rest


class Site:
    """One port. ``down`` closes it, so that connections are refused and open ones die; ``up`` opens it again."""

    def __init__(self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        app = web.Application(client_max_size=2**20)
        app.router.add_route("*", "/{tail:.*}", handler)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        self._site: web.SockSite | None = None
        self._reserved: socket.socket | None = None
        self.port = 0

    async def start(self) -> None:
        await self._runner.setup()
        # A bound socket that does not listen keeps the port ours, and refuses, while the site is down.
        self._reserved = self._bound(0)
        self.port = int(self._reserved.getsockname()[1])
        await self.up()

    @staticmethod
    def _bound(port: int) -> socket.socket:
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port))
        return bound

    async def up(self) -> None:
        if self._site is None:
            self._site = web.SockSite(self._runner, self._bound(self.port))
            await self._site.start()

    async def down(self) -> None:
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self.abort_connections()

    def abort_connections(self) -> None:
        server = self._runner.server
        for connection in server.connections if server is not None else ():
            if connection.transport is not None:
                connection.transport.abort()

    async def close(self) -> None:
        await self.down()
        await self._runner.cleanup()
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None


class Answerer:
    """Answers JSON-RPC for one host, with the faults that are switched on for it."""

    def __init__(self, host: Host, index: int, faults: Faults, records: Records, gate: Gate) -> None:
        self._host = host
        self._index = index
        self._faults = faults
        self._records = records
        self._gate = gate

    async def one(self, request: object, call: Callable[[str, object], object]) -> dict[str, object]:
        """The reply to one request. Raise ResetConnection or AnswerInstead where a fault says so."""
        method = request.get("method") if isinstance(request, dict) else None
        if not isinstance(request, dict) or not isinstance(method, str):
            return {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid request"}, "id": None}
        number = request.get("id")
        lost = await self.fault(method, number)
        if lost is not None and not lost:
            return {"jsonrpc": "2.0", "result": None, "id": number}
        try:
            reply: dict[str, object] = {"jsonrpc": "2.0", "result": call(method, request.get("params")), "id": number}
        except RpcError as error:
            reply = {"jsonrpc": "2.0", "error": error.json(), "id": number}
        if lost:
            raise ResetConnection
        return reply

    async def fault(self, method: str, number: object) -> bool | None:
        """Apply a request fault. None: none; True: carry out, then lose the reply; False: answer null."""
        self._records.request(self._host, self._index, method)
        fault = self._faults.for_request(self._host, self._index, method)
        if fault is None:
            return None
        self._records.faults[type(fault).__name__] += 1
        if isinstance(fault, Dropped):
            raise ResetConnection
        if isinstance(fault, Hang):
            height = None if fault.blocks is None else self._faults.height() + fault.blocks
            if not await self._gate.wait(height):
                raise ResetConnection
            return None
        if isinstance(fault, Body):
            raise AnswerInstead(fault.text, fault.status, fault.content_type)
        if isinstance(fault, ErrorReply):
            raise _error_answer(fault, number)
        if isinstance(fault, RateLimited):
            raise self._rate_limited(fault, number)
        return isinstance(fault, LostReply) if isinstance(fault, LostReply | NullResult) else None

    def too_soon(self) -> AnswerInstead:
        """The engine's own limit per address."""
        return self._rate_limited(RateLimited("null_id", message=JITO_PER_IP), None)

    def _rate_limited(self, fault: RateLimited, number: object) -> AnswerInstead:
        jito = self._host == "jito"
        headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
        message = fault.message or (JITO_CONGESTED if jito else PUBLIC_RPC_429)
        if fault.shape in ("text", "html"):
            text = _HTML_429 if fault.shape == "html" else message
            kind = "text/html" if fault.shape == "html" else "text/plain"
            return AnswerInstead(text, fault.status, kind, headers)
        code = fault.code if fault.code is not None else -32097 if jito else 429
        error: dict[str, object] = {"code": code, "message": message}
        if jito:
            error["data"] = None
        body = {"jsonrpc": "2.0", "error": error, "id": None if fault.shape == "null_id" else number}
        return AnswerInstead(json.dumps(body), fault.status, "application/json", headers)

    async def body(self, request: web.Request, call: Callable[[str, object], object]) -> tuple[object, bool]:
        """(reply to the HTTP request's body, does it carry an error)."""
        raw = await request.read()
        try:
            asked = json.loads(raw)
        except ValueError:
            return {"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": None}, True
        if isinstance(asked, list):
            replies = [await self.one(one, call) for one in asked]
            return replies, any("error" in reply for reply in replies)
        reply = await self.one(asked, call)
        return reply, "error" in reply


def _error_answer(fault: ErrorReply, number: object) -> AnswerInstead:
    error = RpcError(fault.code, fault.message, fault.data).json()
    body = {"jsonrpc": "2.0", "error": error, "id": None if fault.null_id else number}
    return AnswerInstead(json.dumps(body), fault.status, "application/json")


def reset(request: web.Request) -> web.Response:
    """Kill the connection under the request; what is returned goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


async def serve_socket(request: web.Request, answerer: Answerer, pubsub: PubSub) -> web.StreamResponse:
    """One WebSocket until it ends."""
    try:
        await answerer.fault("connect", None)
    except ResetConnection:
        return reset(request)
    except AnswerInstead as instead:
        return instead.response()
    ws = web.WebSocketResponse(autoping=True, max_msg_size=2**20)
    await ws.prepare(request)
    connection = Connection()
    pubsub.connections.add(connection)
    pump = asyncio.create_task(_pump(ws, request, connection))
    try:
        async for message in ws:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                await _answer_socket(request, message.data, answerer, pubsub, connection)
    finally:
        pubsub.connections.discard(connection)
        pump.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionResetError):
            await pump
    return ws


async def _pump(ws: web.WebSocketResponse, request: web.Request, connection: Connection) -> None:
    while True:
        text = await connection.queue.get()
        if connection.overrun:
            reset(request)
            return
        await ws.send_str(text)


async def _answer_socket(
    request: web.Request, raw: str | bytes, answerer: Answerer, pubsub: PubSub, connection: Connection
) -> None:
    reply: object
    try:
        asked = json.loads(raw)
        reply = await answerer.one(asked, lambda method, params: pubsub.call(connection, method, params))
    except ValueError:
        reply = {"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": None}
    except ResetConnection:
        reset(request)
        return
    except AnswerInstead as instead:
        if not pubsub.mute_replies:
            connection.queue.put_nowait(instead.text)
        return
    if not pubsub.mute_replies:
        connection.put(reply)
