"""The real engine, the real sender and the test node, in one process and in simulated time.

``async with scene() as s`` (inside ``chainkit.run``): the node makes its blocks as time passes, requests reach it
through memory instead of sockets, so every run is the same and minutes take milliseconds. :meth:`Scene.kill` is
kill -9: only the database and the chain survive it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from unittest.mock import patch

from chainkit import LogLines, LoopClock
from engine_harness import Gremlin, HauntedDatabase, Killed, engine_settings
from node import Node, Wallet, transfer_instructions
from node.cluster import Endpoint
from node.pubsub import Connection
from node.server import Answerer, AnswerInstead, ResetConnection

from deltatui.chain.blockclock import BlockClock
from deltatui.chain.confirm import Commitment
from deltatui.chain.fees import FeePolicy
from deltatui.chain.http import Reply, TransportError
from deltatui.chain.jito import Jito, JitoConfig
from deltatui.chain.link import PoolLink
from deltatui.chain.pool import Pool
from deltatui.chain.rpc import EndpointConfig
from deltatui.chain.sender import SenderPolicy, SolanaSender
from deltatui.chain.signer import Secret, SeedSigner
from deltatui.chain.transaction import AccountMeta, Instruction, Payload
from deltatui.chain.ws import Subscriptions
from deltatui.domain.command import CommandResult, Deposit
from deltatui.domain.errors import TransientError
from deltatui.domain.event import Event
from deltatui.domain.facts import Prices
from deltatui.domain.operation import JournalRecord, Operation, OperationState
from deltatui.domain.principal import OPERATOR
from deltatui.engine.engine import Engine
from deltatui.engine.supervisor import Supervisor
from deltatui.ports import Signed, Unsigned
from deltatui.store.database import Durability
from deltatui.store.engine_store import EngineStore
from deltatui.store.paper_tables import PaperTables
from deltatui.venues.paper.settings import SOL_PERP, PaperSettings
from deltatui.venues.paper.venue import PaperVenue

ALICE, BOB = Wallet("alice"), Wallet("bob")
SOL = 10**9
AMOUNT = SOL // 100
LATENCY_S = 0.02
TICK_S = 1.0
HOSTS = {"rpc0.test": 0, "rpc1.test": 1}
JITO = "jito.test"


class _Request:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        return self._body


class NodeTransport:
    """The node's HTTP without sockets. ``first_byte`` is called with each request's method as it leaves."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.first_byte: Callable[[str], None] = lambda method: None

    async def exchange(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        host = url.split("/")[2]
        name = "tip_floor" if method == "GET" else str(json.loads(body)["method"])
        self.first_byte(name)
        await asyncio.sleep(LATENCY_S)
        try:
            return await (self._jito(name, url, body) if host == JITO else self._rpc(HOSTS[host], body))
        except ResetConnection:
            raise TransportError("ServerDisconnectedError") from None
        except AnswerInstead as instead:
            lowered = {key.lower(): value for key, value in instead.headers.items()}
            return Reply(instead.status, instead.text.encode(), lowered)

    async def _rpc(self, index: int, body: bytes) -> Reply:
        endpoint = self._node.endpoint(index)
        reply, _ = await _answer(endpoint._http, body, endpoint._rpc.call)
        return Reply(200, json.dumps(reply).encode())

    async def _jito(self, name: str, url: str, body: bytes) -> Reply:
        host = self._node.jito
        if name == "tip_floor":
            if await host._answerer.fault(name, None):
                raise ResetConnection
            return Reply(200, json.dumps(host.engine.tip_floor()).encode())
        headers: dict[str, str] = {}

        def call(method: str, params: object) -> object:
            result, extra = host.engine.call(method, params, bundle_only="bundleOnly=true" in url)
            headers.update(extra)
            return result

        if host.engine.limited():
            raise host._answerer.too_soon()
        reply, failed = await _answer(host._answerer, body, call)
        return Reply(400 if failed else 200, json.dumps(reply).encode(), headers)

    async def close(self) -> None:
        pass


async def _answer(answerer: Answerer, body: bytes, call: Callable[[str, object], object]) -> tuple[object, bool]:
    return await answerer.body(_Request(body), call)  # type: ignore[arg-type]


class _Abort:
    def __init__(self, socket: MemorySocket) -> None:
        self._socket = socket

    def abort(self) -> None:
        self._socket.endpoint.pubsub.connections.discard(self._socket.connection)


class MemorySocket:
    """What the product uses of a WebSocket, on the node's own queues."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.connection = Connection()
        self.transport = _Abort(self)
        endpoint.pubsub.connections.add(self.connection)

    async def send(self, text: str) -> None:
        pubsub = self.endpoint.pubsub
        try:
            asked = json.loads(text)
            reply = await self.endpoint._ws.one(
                asked, lambda method, params: pubsub.call(self.connection, method, params)
            )
        except ResetConnection:
            raise ConnectionResetError from None
        except AnswerInstead as instead:
            self.connection.queue.put_nowait(instead.text)
            return
        if not pubsub.mute_replies:
            self.connection.put(reply)

    def __aiter__(self) -> MemorySocket:
        return self

    async def __anext__(self) -> str:
        return await self.connection.queue.get()


class TransferVenue(PaperVenue):
    """Every operation is a transfer on the chain that carries its id; prices and margin are the paper exchange's."""

    lamports: int = AMOUNT
    """More than the wallet has makes the simulation fail."""

    async def build(self, operation: Operation) -> Unsigned:
        steps = transfer_instructions(operation.id, ALICE.key, BOB.key, self.lamports)
        ours = tuple(
            Instruction(
                str(step.program_id),
                tuple(AccountMeta(str(each.pubkey), each.is_signer, each.is_writable) for each in step.accounts),
                bytes(step.data),
            )
            for step in steps
        )
        return Unsigned(operation.id, Payload(ours).encoded())


class HookedSender(SolanaSender):
    """``on_sent`` is called when the bytes have gone, whatever became of them. ``raws`` are all that were sent."""

    on_sent: Callable[[], None]

    async def send(self, signed: Signed) -> None:
        try:
            await super().send(signed)
        finally:
            self.on_sent()


class Scene:
    """One engine over one node. ``states`` and ``kinds`` tell the engine's states and events in order."""

    def __init__(self, node: Node, database: HauntedDatabase, commitment: Commitment, jito: bool) -> None:
        self.node = node
        self.database = database
        self.gremlin = database.gremlin
        self.clock = LoopClock()
        self.clock.ahead_s = node.chain.unix_s - self.clock.operator_s()
        self.log = LogLines()
        self.events: list[Event] = []
        self.on_journal: Callable[[str], None] = lambda state: None
        self.on_sent: Callable[[], None] = lambda: None
        self.synced = 0
        self._policy = SenderPolicy(commitment=commitment, fees=FeePolicy(tip_lamports=None))
        self._jito = jito
        self._moving = asyncio.create_task(self._move())
        self.gremlin.after = self._journalled

    def _build(self) -> None:
        node = self.node
        self.transport = NodeTransport(node)
        self.block_clock = BlockClock(self.clock)
        configs = [EndpointConfig(url=f"http://{host}", requests_per_s=200, burst=100) for host in HOSTS]
        self.pool = Pool(configs, self.clock, self.transport, self.block_clock, self.log)
        self.jito = None
        if self._jito:
            config = JitoConfig(url=f"http://{JITO}", tip_floor_url=f"http://{JITO}/api/v1/bundles/tip_floor")
            self.jito = Jito(config, self.clock, self.transport, self.log)
        self.sockets = Subscriptions([f"ws://{host}" for host in HOSTS], self.clock, self.log, jitter=lambda: 0.5)
        signer = SeedSigner(Secret(bytes(ALICE.keypair)[:32]))
        self.sender = HookedSender(
            self.pool, signer, self.clock, self.log, self._policy, self.jito,
            subscriptions=self.sockets, on_undone=lambda signed: self.engine.undone(signed),
        )  # fmt: skip
        self.sender.on_sent = lambda: self.on_sent()
        self.store = EngineStore(self.database)
        tables = PaperTables(self.database)
        self.venue = TransferVenue([SOL_PERP], PaperSettings(), tables, self.clock, "transfers")
        self.link = PoolLink(self.pool, self.clock, [self._sync])
        self.engine = Engine(
            engine_settings(mode="paper"), self.clock, self.venue, self.sender, self.store,
            log=self.log, on_event=self.events.append, link=self.link,
        )  # fmt: skip
        self.supervisor = Supervisor(self.clock, self.log, lambda name, error: self.engine.core.halt(error.sentence))

    async def _sync(self) -> None:
        """The account is read anew, from the chain."""
        await self.pool.balance(str(ALICE.key))
        self.synced += 1

    async def start(self) -> None:
        self._build()
        prices = Prices(SOL_PERP.symbol, "test", self.clock.market_s(), Decimal(150), Decimal(150))
        if await self.venue.open(Decimal(3000), Decimal(1000), {"SOL": Decimal(100)}) is None:
            await self.venue.take(prices)
        self.engine.core.world.take(prices)
        recovery = self.engine.recovery
        assert recovery is not None
        self.supervisor.start("pool", self.pool.watch)
        self.supervisor.start("sockets", self.sockets.run)
        await self.clock.sleep(1.0)
        await self.sender.warm_up()
        await self.engine.start()
        self.supervisor.start("recovery", recovery.run)
        self.supervisor.start("tick", self._tick)

    async def kill(self) -> None:
        """The process is gone: nothing is finished and nothing is saved any more."""
        await self.supervisor.stop()
        await self.engine.desk.finish()
        await self.sender.close()

    async def restart(self) -> None:
        await self.kill()
        await self.start()

    async def close(self) -> None:
        await self.kill()
        self._moving.cancel()
        await asyncio.gather(self._moving, return_exceptions=True)

    async def _move(self) -> None:
        while True:
            await asyncio.sleep(self.node.chain.slot_s)
            self.node.advance(self.node.chain.slot_s)

    async def _tick(self) -> None:
        while True:
            await self.clock.sleep(TICK_S)
            await self.engine.tick()

    def _journalled(self, number: int, name: str) -> None:
        if name.startswith("journal "):
            self.on_journal(name.removeprefix("journal "))

    async def deposit(self, intent: str) -> CommandResult:
        return await self.engine.submit(Deposit(intent_id=intent, asset="SOL", amount=AMOUNT), OPERATOR)

    @property
    def state(self) -> str:
        return str(self.engine.core.state)

    async def operations(self) -> dict[str, OperationState]:
        return {each.operation.id: each.state for each in await self.store.operations()}

    async def journal(self, operation_id: str) -> list[JournalRecord]:
        return await self.store.journal(operation_id)

    async def until(self, holds: Callable[[], Any], limit_s: float = 400.0) -> None:
        """Wait in simulated time; fail where it does not come to hold."""
        for _ in range(int(limit_s)):
            if holds():
                return
            await asyncio.sleep(1.0)
        raise AssertionError(f"still not so after {limit_s:.0f} s; the engine is {self.state}")

    async def settle(self, limit_s: float = 500.0) -> None:
        """Wait until nothing is open, lost or unsaved any more, or the engine stands still for the operator."""
        core = self.engine.core
        quiet = 0
        for _ in range(int(limit_s)):
            try:
                final = all(each.final for each in (await self.operations()).values())
            except TransientError:  # a disk that refuses
                final = False
            calm = final and not core.unresolved and self.state in ("RUNNING", "HALTED")
            quiet = quiet + 1 if calm and not {"link", "store"} & set(core.board.alerts) else 0
            if quiet > 3:
                return
            await asyncio.sleep(1.0)
        raise AssertionError(f"not settled after {limit_s:.0f} s: {await self.operations()}, {self.state}")


@asynccontextmanager
async def scene(seed: int = 0, commitment: Commitment = "confirmed", jito: bool = True) -> AsyncIterator[Scene]:
    node = Node(endpoints=2, seed=seed)
    node.fund(ALICE.key, 10_000 * SOL)
    node.tick(40)
    database = await HauntedDatabase.open(None, Durability.MEMORY)
    assert isinstance(database, HauntedDatabase)
    database.gremlin = Gremlin()

    async def connect(url: str, **_: object) -> MemorySocket:
        endpoint = node.endpoint(HOSTS[url.split("/")[2]])
        try:
            await endpoint._ws.fault("connect", None)
        except (ResetConnection, AnswerInstead):
            raise ConnectionResetError from None
        return MemorySocket(endpoint)

    with patch("websockets.asyncio.client.connect", connect):
        found = Scene(node, database, commitment, jito)
        try:
            await found.start()
            yield found
        finally:
            database.gremlin.quiet()
            await found.close()
            await database.close()


__all__ = ["ALICE", "AMOUNT", "BOB", "SOL", "Killed", "Scene", "scene"]
