"""The chain room against the test node: real signatures, blockhashes that expire, real sockets.

Time moves only while nothing is under way: ``Stage`` waits until every request has come back (or hangs on purpose),
then jumps to the next timer and lets the node make the blocks of that time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Literal

import pytest
from chainkit import LogLines
from node import (
    Blackhole,
    Body,
    Chaos,
    Dropped,
    FailOnChain,
    Hang,
    Hide,
    Late,
    LostReply,
    Node,
    NullResult,
    RateLimited,
    Reorg,
    Stuck,
    Wallet,
    transfer_instructions,
)
from solders.instruction import Instruction as SoldersInstruction

from deltatui.chain.blockclock import BlockClock
from deltatui.chain.confirm import Commitment
from deltatui.chain.http import AiohttpTransport, Reply
from deltatui.chain.jito import Jito, JitoConfig
from deltatui.chain.pool import Pool
from deltatui.chain.rpc import EndpointConfig
from deltatui.chain.sender import SenderPolicy, SolanaSender
from deltatui.chain.signer import Secret, SeedSigner
from deltatui.chain.transaction import AccountMeta, Instruction, Payload
from deltatui.chain.ws import Subscriptions
from deltatui.domain.errors import TransientError, ValidationError
from deltatui.domain.operation import OperationState
from deltatui.ports import Outcome, Signed, Unsigned

ALICE, BOB = Wallet("alice"), Wallet("bob")
SOL = 10**9
Verdict = Literal["LANDED", "FAILED", "EXPIRED"]


class StageClock:
    def __init__(self, now_s: float) -> None:
        self.now_s = now_s
        self.sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def operator_s(self) -> float:
        return self.now_s

    def market_s(self) -> float:
        return self.now_s

    async def sleep(self, operator_seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sleepers.append((self.now_s + operator_seconds, future))
        await future


class CountingTransport(AiohttpTransport):
    def __init__(self) -> None:
        super().__init__()
        self.under_way = 0

    async def exchange(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        self.under_way += 1
        try:
            return await super().exchange(method, url, body, headers)
        finally:
            self.under_way -= 1


class Stage:
    """The product's room on the node. ``restart`` is kill -9: only what the test kept of the journal survives."""

    def __init__(self, node: Node, jito: bool, policy: SenderPolicy) -> None:
        self.node = node
        self.clock = StageClock(node.chain.unix_s)
        self.log = LogLines()
        self._jito = jito
        self._policy = policy
        self._background: list[asyncio.Task[None]] = []
        self.start()

    def start(self) -> None:
        node = self.node
        self.transport = CountingTransport()
        self.block_clock = BlockClock(self.clock)
        configs = [EndpointConfig(url=node.endpoint(n).url, requests_per_s=200, burst=100) for n in range(2)]
        self.pool = Pool(configs, self.clock, self.transport, self.block_clock, self.log)
        jito = None
        if self._jito:
            config = JitoConfig(url=node.jito_url, tip_floor_url=node.jito_url + "/api/v1/bundles/tip_floor")
            jito = Jito(config, self.clock, self.transport, self.log)
        signer = SeedSigner(Secret(bytes(ALICE.keypair)[:32]))
        self.sender = SolanaSender(self.pool, signer, self.clock, self.log, self._policy, jito)

    async def restart(self) -> None:
        await self.stop()
        self.start()
        self._background.append(asyncio.create_task(self.pool.watch()))

    async def stop(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._background.clear()
        await self.sender.close()
        await self.pool.close()

    async def run(self) -> None:
        """Move time for ever."""
        while True:
            quiet = 0
            while quiet < 12:
                held = sum(not future.done() for _, future in self.node.gate._waiting)
                if self.transport.under_way > held:
                    quiet = 0
                    await asyncio.sleep(0.0002)
                else:
                    quiet += 1
                    await asyncio.sleep(0)
            waiting = [each for each in self.clock.sleepers if not each[1].done()]
            if not waiting:
                self.clock.sleepers = []
                await asyncio.sleep(0.0002)
                continue
            due_s = min(at_s for at_s, _ in waiting)
            # In steps of a block, so that a long sleep does not swallow what happens in between.
            step_s = min(max(due_s - self.clock.now_s, 0.0), self.node.chain.slot_s)
            self.clock.now_s += step_s
            self.node.advance(step_s)
            self.clock.sleepers = [each for each in waiting if each[0] > self.clock.now_s + 1e-9]
            for at_s, future in waiting:
                if at_s <= self.clock.now_s + 1e-9 and not future.done():
                    future.set_result(None)


@asynccontextmanager
async def stage(seed: int = 0, jito: bool = True, commitment: Commitment = "confirmed") -> AsyncIterator[Stage]:
    async with Node(endpoints=2, seed=seed) as node:
        node.fund(ALICE.key, 1000 * SOL)
        node.tick(40)
        found = Stage(node, jito, SenderPolicy(commitment=commitment))
        moving = asyncio.create_task(found.run())
        found._background.append(asyncio.create_task(found.pool.watch()))
        try:
            async with asyncio.timeout(60.0):
                yield found
        finally:
            moving.cancel()
            await asyncio.gather(moving, return_exceptions=True)
            await found.stop()


def ours(step: SoldersInstruction) -> Instruction:
    metas = tuple(AccountMeta(str(each.pubkey), each.is_signer, each.is_writable) for each in step.accounts)
    return Instruction(str(step.program_id), metas, bytes(step.data))


def unsigned(operation_id: str, lamports: int = SOL // 100) -> Unsigned:
    steps = transfer_instructions(operation_id, ALICE.key, BOB.key, lamports)
    return Unsigned(operation_id, Payload(tuple(ours(step) for step in steps)).encoded())


async def signed(on: Stage, operation_id: str) -> Signed:
    while True:
        try:
            await on.sender.simulate(unsigned(operation_id))
            return await on.sender.sign(unsigned(operation_id))
        except TransientError:
            await on.clock.sleep(1.0)


async def send(on: Stage, each: Signed) -> None:
    for pause_s in (1.0, 2.0, 4.0):
        try:
            await on.sender.send(each)
        except TransientError:
            await on.clock.sleep(pause_s)
        else:
            return


async def until_ended(on: Stage, each: Signed) -> Outcome:
    while (outcome := await on.sender.outcome(each)) is None:
        pass
    return outcome


async def carried_out(on: Stage, operation_id: str) -> Outcome:
    each = await signed(on, operation_id)
    await send(on, each)
    return await until_ended(on, each)


async def test_healthy_by_jito_and_by_rpc() -> None:
    for jito in (True, False):
        async with stage(jito=jito) as on:
            before = on.node.balance(BOB.key)
            outcome = await carried_out(on, "a")
            assert outcome.state is OperationState.LANDED
            assert on.node.balance(BOB.key) - before == SOL // 100
            assert on.node.records.transactions("a") == 1
            assert bool(on.log.tagged("JITO")) is jito


async def test_failed_simulation_is_named_and_nothing_is_sent() -> None:
    async with stage() as on:
        with pytest.raises(ValidationError) as caught:
            await on.sender.simulate(unsigned("a", 10_000 * SOL))
        # the system program's own number for too few lamports
        assert caught.value.code == "CUSTOM_1"
        assert on.node.records.transactions("a") == 0
        assert on.node.records.requests["rpc", "simulateTransaction"] == 1


Setup = Callable[[Node], object]
MATRIX: dict[str, tuple[Setup, Verdict]] = {
    "jito down": (lambda node: node.faults.requests(Dropped(), host="jito", methods=("sendTransaction",)), "LANDED"),
    "jito 429 id null": (
        lambda node: node.faults.requests(RateLimited("null_id"), host="jito", methods=("sendTransaction",)),
        "LANDED",
    ),
    "jito 429 in 200": (
        lambda node: node.faults.requests(
            RateLimited("null_id", status=200), host="jito", methods=("sendTransaction",)
        ),
        "LANDED",
    ),
    "jito takes it and it never lands": (lambda node: node.faults.transactions(Blackhole(), via="jito"), "LANDED"),
    "one rpc 429": (lambda node: node.faults.requests(RateLimited("html"), host="rpc", endpoint=0), "LANDED"),
    "one rpc hangs": (lambda node: node.faults.requests(Hang(), host="rpc", endpoint=0), "LANDED"),
    "one rpc answers null": (lambda node: node.faults.requests(NullResult(), host="rpc", endpoint=0), "LANDED"),
    "replies lost": (lambda node: node.faults.requests(LostReply(), methods=("sendTransaction",)), "LANDED"),
    "502 pages": (lambda node: node.faults.requests(Body(), probability=0.5), "LANDED"),
    "never lands": (lambda node: node.faults.transactions(Blackhole()), "EXPIRED"),
    "late": (lambda node: node.faults.transactions(Late(60)), "LANDED"),
    "too late": (lambda node: node.faults.transactions(Late(400)), "EXPIRED"),
    "hidden": (lambda node: node.faults.transactions(Hide(25)), "LANDED"),
    "stuck at processed": (lambda node: node.faults.transactions(Stuck(30)), "LANDED"),
    "reorg": (lambda node: node.faults.transactions(Reorg(after=0, reland_after=None), count=1), "LANDED"),
    "fails on chain": (lambda node: node.faults.transactions(FailOnChain(6004)), "FAILED"),
}


@pytest.mark.parametrize("fault", MATRIX)
async def test_each_fault_ends_as_the_chain_says(fault: str) -> None:
    setup, verdict = MATRIX[fault]
    async with stage(seed=3) as on:
        await on.sender.warm_up()
        each = await signed(on, "a")
        setup(on.node)
        await send(on, each)
        outcome = await until_ended(on, each)
        assert outcome.state == verdict
        if verdict == "FAILED":
            assert outcome.error_code == "CUSTOM_6004"
        on.node.calm()
        on.node.expire_blockhashes()
        assert on.node.records.disagreements({"a": verdict}) == []
        assert on.node.records.transactions("a") == 1
        assert on.node.double_landings == 0


@pytest.mark.parametrize("sent", [False, True])
async def test_killed_before_and_after_sending(sent: bool) -> None:
    async with stage(seed=4) as on:
        each = await signed(on, "a")
        if sent:
            await send(on, each)
        await on.restart()
        outcome = await until_ended(on, each)
        assert outcome.state is (OperationState.LANDED if sent else OperationState.EXPIRED)
        assert on.node.double_landings == 0


async def test_a_notification_is_faster_than_the_poll() -> None:
    async with stage(seed=5, jito=False) as on:
        sockets = Subscriptions([on.node.ws_url], on.clock, on.log)
        running = asyncio.create_task(sockets.run())
        while not sockets.connected:
            await on.clock.sleep(0.4)
            await asyncio.sleep(0.005)
        signer = SeedSigner(Secret(bytes(ALICE.keypair)[:32]))
        sender = SolanaSender(on.pool, signer, on.clock, on.log, subscriptions=sockets)
        await sender.simulate(unsigned("a"))
        each = await sender.sign(unsigned("a"))
        await sender.send(each)
        outcome = await sender.outcome(each)
        assert outcome is not None
        assert outcome.state is OperationState.LANDED
        assert sockets.connections == 1
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await sender.close()


async def soak(seed: int, operations: int) -> None:
    """With finality as the measure: the chaos takes confirmed blocks back, which real clusters never did."""
    async with stage(seed=seed, commitment="finalized") as on:
        on.node.faults.chaos = Chaos(seed)
        verdicts: dict[str, Verdict] = {}
        for number in range(operations):
            operation_id = f"op {number}"
            try:
                each = await signed(on, operation_id)
            except ValidationError:
                continue  # a fault that looks like a refusal: the engine would tell its caller; nothing was sent
            await send(on, each)
            if number % 5 == 2:
                await on.restart()
            outcome = await until_ended(on, each)
            assert outcome.state.final
            verdicts[operation_id] = outcome.state.value  # type: ignore[assignment]
        on.node.calm()
        on.node.expire_blockhashes()
        assert on.node.double_landings == 0
        assert on.node.records.disagreements(verdicts) == []
        assert all(on.node.records.transactions(each) <= 1 for each in verdicts)


@pytest.mark.parametrize("seed", range(2))
async def test_chaos_ends_every_operation_as_the_chain_says(seed: int) -> None:
    await soak(seed, 15)
