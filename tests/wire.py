"""A made-up engine behind a real server, and clients of it, for tests of the wire and of the terminal."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from snapshots import make_plan, make_snapshot

from deltatui.api.client import Client
from deltatui.api.limits import ServerLimits
from deltatui.api.protocol import PROTOCOL_VERSION, Hello, Previewed, ServerMessage, decode_server, encode
from deltatui.api.server import Server
from deltatui.domain.command import AnyCommand, CommandResult, ResultStatus
from deltatui.domain.principal import Principal
from deltatui.domain.snapshot import ActionView, ConfirmationView, MarketDetail, PlanView, Snapshot


def market_detail(market: str) -> MarketDetail:
    """Of a market in which everything is allowed."""
    return MarketDetail(market, 0, (), f"take of {market}", (ActionView("TAKE", True),), ())


class FakeEngine:
    """Answers DONE unless told otherwise (``answer``: a result, an error, or what makes one of a command; ``gate``:
    wait for this event first). ``confirmation`` and ``hedges`` are in its snapshots, ``details`` are
    what it says of the markets that it carries."""

    def __init__(self) -> None:
        self.version = 1
        self.asked = 0
        self.commands: list[AnyCommand] = []
        self.principals: list[Principal] = []
        self.answer: CommandResult | BaseException | Callable[[AnyCommand], CommandResult] | None = None
        self.confirmation: ConfirmationView | None = None
        self.hedges = make_snapshot().hedges
        self.mode = make_snapshot().engine.mode
        self.details: dict[str, MarketDetail | BaseException] = {
            market: market_detail(market) for market in ("SOL-PERP", "BTC-PERP")
        }
        self.judged: list[tuple[str, int]] = []
        self.gate: asyncio.Event | None = None
        self.previewed: list[AnyCommand] = []
        self.plan: PlanView | BaseException = make_plan()

    def snapshot(self) -> Snapshot:
        self.asked += 1
        return replace_engine(
            make_snapshot(
                version=self.version,
                hedges=self.hedges,
                confirmations=() if self.confirmation is None else (self.confirmation,),
            ),
            mode=self.mode,
        )

    def detail(self, market: str, version: int) -> MarketDetail | None:
        self.judged.append((market, version))
        detail = self.details.get(market)
        if isinstance(detail, BaseException):
            raise detail
        return None if detail is None else msgspec.structs.replace(detail, version=version)

    def change(self) -> None:
        self.version += 1

    async def submit(self, command: AnyCommand, principal: Principal) -> CommandResult:
        self.commands.append(command)
        self.principals.append(principal)
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.answer, BaseException):
            raise self.answer
        if callable(self.answer):
            return self.answer(command)
        if self.answer is not None:
            return self.answer
        return CommandResult(ResultStatus.DONE, "DONE", "done", intent_id=command.intent_id)

    def preview(self, command: Previewed, principal: Principal) -> PlanView:
        self.previewed.append(command)
        self.principals.append(principal)
        if isinstance(self.plan, BaseException):
            raise self.plan
        return self.plan


class Wire:
    """A running server, its engine, and what it reported."""

    def __init__(self, engine: FakeEngine, path: Path, **limits: Any) -> None:
        self.engine = engine
        self.path = path
        self.counts: list[int] = []
        self.faults: list[tuple[str, BaseException]] = []
        self.server = Server(
            engine,
            path,
            profile="default",
            mode="replay",
            pid=4242,
            limits=ServerLimits(**limits),
            on_clients=self.counts.append,
            on_fault=lambda what, error: self.faults.append((what, error)),
        )

    async def client(self, name: str = "test", **options: Any) -> Client:
        return await Client.connect(self.path, name=name, **options)

    async def raw(self, hello: bool = True, read_only: bool = False) -> Raw:
        reader, writer = await asyncio.open_unix_connection(str(self.path), limit=2**22)
        raw = Raw(reader, writer)
        if hello:
            raw.send(encode(Hello(PROTOCOL_VERSION, "raw", read_only)))
        return raw


class Raw:
    """A client that speaks bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, line: bytes) -> None:
        self.writer.write(line + b"\n")

    def send_json(self, **message: Any) -> None:
        self.send(json.dumps(message).encode())

    async def message(self) -> ServerMessage:
        async with asyncio.timeout(5):
            message: ServerMessage = decode_server(await self.reader.readline())
        return message

    async def until(self, kind: type[ServerMessage]) -> ServerMessage:
        while not isinstance(message := await self.message(), kind):
            continue
        return message

    async def ends(self) -> bool:
        """Whether the server closes the connection."""
        try:
            async with asyncio.timeout(5):
                while await self.reader.read(2**16):
                    continue
        except ConnectionError:
            return True
        return True

    def close(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def running(**limits: Any) -> AsyncIterator[Wire]:
    """A started server at a short path; closed at the end."""
    with tempfile.TemporaryDirectory(prefix="dtui-") as folder:
        wire = Wire(FakeEngine(), Path(folder) / "e.sock", **limits)
        await wire.server.start()
        try:
            yield wire
        finally:
            await wire.server.close()


async def memory_client(server: Server, name: str = "test", **options: Any) -> Client:
    """A client over a socket pair: the same bytes, no file."""
    ours, theirs = socket.socketpair()
    await server.attach(theirs)
    return await Client.over(ours, name=name, **options)


async def settle(rounds: int = 20) -> None:
    """Let every task that is ready run."""
    for _ in range(rounds):
        await asyncio.sleep(0)


async def eventually(condition: Callable[[], bool]) -> None:
    """Return as soon as ``condition`` holds; TimeoutError if it does not within 5 s."""
    async with asyncio.timeout(5):
        for _ in itertools.count():
            if condition():
                return
            await asyncio.sleep(0.001)


def replace_engine(snapshot: Snapshot, **changes: Any) -> Snapshot:
    return msgspec.structs.replace(snapshot, engine=msgspec.structs.replace(snapshot.engine, **changes))
