"""Properties 10, 41, 42, 51 and 52 as far as they live in the chain room, on a scripted chain in simulated time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import pytest
from chainkit import FakeChain, Room, room, run, unsigned
from hypothesis import given, settings
from hypothesis import strategies as st

from deltatui.chain.errors import RpcError
from deltatui.chain.http import Reply, TransportError
from deltatui.domain.errors import TransientError, ValidationError
from deltatui.domain.operation import OperationState
from deltatui.ports import Outcome, Signed

NOTHING = "nothing"
FAULTS = (
    NOTHING,
    "reset",
    "lost reply",
    "hang",
    "429",
    "429 null id",
    "429 text",
    "502 html",
    "empty",
    "null",
    "behind",
    "garbage",
)
BODIES: dict[str, Reply] = {
    "429": Reply(
        429, b'{"jsonrpc":"2.0","error":{"code":429,"message":"Too many requests"},"id":1}', {"retry-after": "1"}
    ),
    "429 null id": Reply(
        429,
        b'{"jsonrpc":"2.0","error":{"code":-32097,"message":"Network congested. Endpoint is globally rate limited.",'
        b'"data":null},"id":null}',
    ),
    "429 text": Reply(429, b"Rate limit exceeded. Limit: 1 per second for txn requests. Retry after 1606ms"),
    "502 html": Reply(502, b"<html><body>502 Bad Gateway</body></html>"),
    "empty": Reply(200, b""),
    "null": Reply(200, b'{"jsonrpc":"2.0","result":null,"id":1}'),
    "behind": Reply(
        200,
        b'{"jsonrpc":"2.0","error":{"code":-32005,"message":"Node is behind by 42 slots",'
        b'"data":{"numSlotsBehind":42}},"id":1}',
    ),
    "garbage": Reply(200, b'\x00\xff{"result":'),
}

faults = st.lists(st.sampled_from(FAULTS), min_size=1, max_size=40).filter(lambda found: NOTHING in found)
fates = st.lists(st.none() | st.integers(0, 180), min_size=1, max_size=6)


def make_faulty(chain: FakeChain, schedule: Sequence[str], landing: Sequence[int | None], most: int = 120) -> None:
    """Every request takes the next fault of ``schedule``; after ``most`` of them the network is well."""
    turns = itertools.chain(itertools.islice(itertools.cycle(schedule), most), itertools.repeat(NOTHING))
    now: dict[str, str] = {}

    def hang(host: str, method: str) -> float:
        now[host + method] = next(turns)
        return 30.0 if now[host + method] == "hang" else 0.0

    def script(host: str, method: str) -> Reply | None:
        fault = now[host + method]
        if fault == "reset":
            raise TransportError("ServerDisconnectedError")
        return BODIES.get(fault)

    chain.hang, chain.script = hang, script
    chain.after = lambda host, method: now[host + method] == "lost reply"
    fate = itertools.cycle(landing)
    chain.fate = lambda signature: next(fate)


async def until_signed(found: Room, operation_id: str) -> Signed:
    """As the engine would: transient failures before anything was sent are simply tried again."""
    while True:
        try:
            await found.sender.simulate(unsigned(operation_id))
            return await found.sender.sign(unsigned(operation_id))
        except TransientError:
            await found.clock.sleep(1.0)


async def send(found: Room, signed: Signed) -> None:
    for _ in range(3):
        try:
            await found.sender.send(signed)
        except TransientError:
            await found.clock.sleep(1.0)
        else:
            return


async def until_ended(found: Room, signed: Signed) -> Outcome:
    while (outcome := await found.sender.outcome(signed)) is None:
        pass
    return outcome


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    schedule=faults, landing=fates, lag=st.sampled_from((0, 0, 3, 40, 400)), die_after_s=st.none() | st.floats(0, 90)
)
def test_property_51_at_most_once_whatever_fails(
    schedule: list[str], landing: list[int | None], lag: int, die_after_s: float | None
) -> None:
    """An intent that is tried again after EXPIRED lands at most once, and each operation has one signature."""

    async def story() -> None:
        chain = FakeChain()
        chain.lags["two.test"] = lag
        found = room(chain)
        watching = asyncio.create_task(found.pool.watch())
        await asyncio.sleep(1.0)
        make_faulty(chain, schedule, landing)
        ends: dict[str, OperationState] = {}
        for attempt in range(1, 4):
            operation_id = f"intent.{attempt}"
            signed = await until_signed(found, operation_id)
            assert await found.sender.sign(unsigned(operation_id)) == signed
            if die_after_s is None:
                await send(found, signed)
            else:
                # kill -9: all that is left is the journal's record
                dying = asyncio.create_task(send(found, signed))
                await found.clock.sleep(die_after_s)
                dying.cancel()
                await found.sender.close()
                watching.cancel()
                found = room(chain)
                watching = asyncio.create_task(found.pool.watch())
            ends[operation_id] = (await until_ended(found, signed)).state
            if ends[operation_id] is not OperationState.EXPIRED:
                break
        watching.cancel()
        await asyncio.sleep(150.0)
        landed = chain.operations_landed()
        assert len(landed) <= 1
        assert landed == [each for each, state in ends.items() if state is OperationState.LANDED]
        assert all(len(signatures) == 1 for signatures in chain.signatures_on_wire().values())
        assert not found.sender.watched()
        await found.sender.close()

    run(story(), limit_s=36_000.0)


@settings(max_examples=100, deadline=None)
@given(number=st.integers(0, 2**32 - 1), transient=st.lists(st.sampled_from(FAULTS[1:]), max_size=3))
def test_property_10_failed_simulation_rejects_without_retry(number: int, transient: list[str]) -> None:
    """Transient faults of the nodes are retried; the first verdict of a simulation is the last."""

    async def story() -> None:
        found = room(hosts=("one.test",), jito=False)
        make_faulty(found.chain, [*transient, NOTHING], [1], most=len(transient))
        found.chain.simulation = {
            "err": {"InstructionError": [2, {"Custom": number}]},
            "logs": None,
            "unitsConsumed": 1,
        }
        with pytest.raises(ValidationError) as caught:
            await found.sender.simulate(unsigned("a"))
        assert not isinstance(caught.value, RpcError)
        assert caught.value.code == f"CUSTOM_{number}"
        asked = [method for _, _, method in found.chain.requests].count("simulateTransaction")
        assert asked <= 1 + len(transient)
        before = len(found.chain.requests)
        await asyncio.sleep(100.0)
        assert len(found.chain.requests) == before
        assert not found.chain.wire

    run(story())


@settings(max_examples=100, deadline=None)
@given(hidden_s=st.floats(0, 100), poll=st.integers(0, 3))
def test_property_41_status_is_queried_until_known(hidden_s: float, poll: int) -> None:
    """Without a confirmation in 30 s the caller is told so and the query goes on; it is never given up (R8.4)."""

    async def story() -> None:
        found = room(hosts=("one.test",), jito=False)
        watching = asyncio.create_task(found.pool.watch())
        await asyncio.sleep(1.0)
        chain = found.chain
        signed = await until_signed(found, "a")
        chain.fate = lambda signature: poll
        chain.stuck_at_processed.add(signed.signature)
        sent_s = asyncio.get_running_loop().time()
        await found.sender.send(signed)
        asyncio.get_running_loop().call_later(hidden_s, chain.stuck_at_processed.clear)
        windows: list[float] = []
        outcome = None
        while outcome is None:
            outcome = await found.sender.outcome(signed)
            windows.append(asyncio.get_running_loop().time() - sent_s)
            assert outcome is not None or found.sender.watched()[signed.signature]
        assert outcome.state is OperationState.LANDED
        assert windows[0] <= 30.0 + 1e-6
        assert all(later - earlier <= 5.0 + 1e-6 for earlier, later in itertools.pairwise(windows))
        assert windows[-1] <= max(hidden_s, 5.0) + 6.0
        watching.cancel()
        await found.sender.close()

    run(story())


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(silent_s=st.floats(61, 200))
def test_property_42_unresolved_until_the_chain_answers(silent_s: float) -> None:
    """With no node answering it stays unresolved, is reported once after 60 s, and ends when a node comes back."""

    async def story() -> None:
        found = room(hosts=("one.test",), jito=False)
        signed = await until_signed(found, "a")
        await found.sender.send(signed)

        def down(host: str, method: str) -> Reply | None:
            raise TransportError("ClientConnectorError")

        found.chain.script = down
        found.chain.pending.clear()
        began_s = asyncio.get_running_loop().time()
        asyncio.get_running_loop().call_later(silent_s, setattr, found.chain, "script", lambda host, method: None)
        while (outcome := await found.sender.outcome(signed)) is None:
            pass
        assert asyncio.get_running_loop().time() - began_s >= silent_s
        assert outcome.state is OperationState.EXPIRED or found.chain.operations_landed() == ["a"]
        alerts = [line for line in found.log.tagged("TX") if "is unresolved after" in line]
        assert len(alerts) == 1
        assert signed.signature in alerts[0]
        await found.sender.close()

    run(story())


@settings(max_examples=100, deadline=None)
@given(schedule=faults, fails=st.booleans())
def test_property_52_simulated_before_it_is_sent(schedule: list[str], fails: bool) -> None:
    """Nothing is on the wire before its simulation passed, and nothing at all when that failed."""

    async def story() -> None:
        found = room()
        if fails:
            found.chain.simulation = {"err": {"InstructionError": [2, "InvalidAccountData"]}, "logs": []}
        make_faulty(found.chain, schedule, [1])
        operation = unsigned("a")
        with pytest.raises(ValidationError, match="NOT_SIMULATED"):
            await found.sender.sign(operation)
        if fails:
            with pytest.raises(ValidationError, match="InvalidAccountData"):
                await until_signed(found, "a")
            with pytest.raises(ValidationError, match="NOT_SIMULATED"):
                await found.sender.sign(operation)
        else:
            signed = await until_signed(found, "a")
            assert not found.chain.wire
            await send(found, signed)
        await found.sender.close()
        assert bool(found.chain.wire) is not fails

    run(story())
