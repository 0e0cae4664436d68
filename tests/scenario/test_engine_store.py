"""A disk that refuses, a sender that keeps silent, a process that dies: one outcome, a balanced ledger."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from engine_harness import (
    BOTH,
    USD,
    Killed,
    World,
    deposit,
    in_world,
    leave,
    rate_of,
    rebalance,
    take,
    withdraw,
    world,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from deltatui.domain.command import Confirm, Kill, Pause, ResultStatus, Resume, SetAutomation
from deltatui.domain.errors import CriticalError, TransientError, ValidationError
from deltatui.domain.event import Level
from deltatui.venues.paper.settings import PaperFaults

STEPS = ["PLANNED", "SIMULATED", "SIGNED", "SENT", "LANDED"]


async def taken(w: World) -> None:
    await w.take(5)


Scenario = tuple[Callable[[World], Awaitable[None]], Callable[[World], Awaitable[object]]]


async def nothing(w: World) -> None:
    pass


SCENARIOS: dict[str, Scenario] = {
    "take": (nothing, lambda w: w.take(5)),
    "add": (taken, lambda w: w.take(2)),
    "leave": (taken, lambda w: w.leave()),
    "deposit": (taken, lambda w: w.sure(deposit(250 * USD))),
    "withdraw": (taken, lambda w: w.sure(withdraw(250 * USD))),
    "flatten": (taken, lambda w: w.give(Kill(flatten=True))),
}


def only(step: str) -> Callable[[str], bool]:
    return lambda name: name == f"journal {step}"


# A store that refuses


@pytest.mark.parametrize("kind", SCENARIOS)
@pytest.mark.parametrize("step", STEPS)
async def test_the_journal_refuses_one_line(kind: str, step: str) -> None:
    prepare, act = SCENARIOS[kind]
    async with world() as w:
        await prepare(w)
        before = w.account
        w.gremlin.refuse(only(step), times=1)
        result = await act(w)
        assert result.status in (ResultStatus.REJECTED, ResultStatus.UNRESOLVED), result  # type: ignore[attr-defined]
        if step == "PLANNED":
            assert result.status is ResultStatus.REJECTED  # type: ignore[attr-defined]
            assert not w.core.unresolved
        else:
            assert result.status is ResultStatus.UNRESOLVED  # type: ignore[attr-defined]
            assert len(w.core.unresolved) == 1
            # New risk has to wait, and the snapshot says what for.
            assert any(alert.id.startswith("unresolved") for alert in w.snapshot().alerts)
        w.gremlin.quiet()
        await w.engine.tick()
        assert not w.core.unresolved
        if step == "LANDED":
            assert w.account != before
        else:
            assert w.account == before
        await w.check()


@pytest.mark.parametrize("step", STEPS[1:])
async def test_the_database_stays_locked_for_a_while(step: str) -> None:
    """From one journal line on nothing can be read or written, and it must still be known what is not known."""
    async with world() as w:
        asked = await w.give(take(5))
        locked = False

        def lock(number: int, name: str) -> None:
            nonlocal locked
            locked = locked or name == f"journal {step}"
            if locked:
                raise TransientError("DATABASE_LOCKED", "another program holds the database locked")

        w.gremlin.before = lock
        result = await w.confirm(asked)
        assert result.status is ResultStatus.UNRESOLVED, result
        assert len(w.core.unresolved) == 1
        for _ in range(3):
            await w.engine.tick()
        assert len(w.core.unresolved) == 1
        w.gremlin.quiet()
        assert (await w.take(1)).code == "UNRESOLVED_OPEN"
        await w.engine.tick()
        assert not w.core.unresolved
        assert w.state == "RUNNING"
        assert w.legs == ((5.0, -5.0) if step == "LANDED" else (0.0, 0.0))
        await w.check()
        assert (await w.take(1)).status is ResultStatus.DONE


@pytest.mark.parametrize("refused", ["journal UNRESOLVED", "journal LANDED"])
async def test_resolving_goes_on_after_a_refused_line(refused: str) -> None:
    async with world() as w:
        w.sender.mute = True
        asked = await w.give(take(5))
        if refused == "journal UNRESOLVED":
            w.gremlin.refuse(lambda name: name == refused, times=2)
        result = await w.confirm(asked)
        assert result.status is ResultStatus.UNRESOLVED
        w.sender.mute = False
        if refused == "journal LANDED":
            w.gremlin.refuse(lambda name: name == refused, times=2)
        for _ in range(4):
            await w.engine.tick()
        assert not w.core.unresolved
        assert w.state == "RUNNING"
        assert w.legs == (5.0, -5.0)
        await w.check()


async def test_what_follows_a_landed_trade_cannot_make_it_a_rejected_one() -> None:
    """Once landed, whatever the disk refuses afterwards is not told as 'nothing was changed'."""
    async with world() as w:
        asked = await w.give(take(5))
        landed = False

        def lock_when_landed(number: int, name: str) -> None:
            nonlocal landed
            if landed:
                raise TransientError("DATABASE_LOCKED", "another program holds the database locked")
            landed = name == "journal LANDED"

        w.gremlin.before = lock_when_landed
        result = await w.confirm(asked)
        assert result.status is ResultStatus.DONE, result
        assert w.hedge.memory.held_by == "operator"
        assert any(alert.id.startswith("store") for alert in w.snapshot().alerts)
        w.gremlin.quiet()
        w.wait(60)
        await w.engine.tick()
        assert not any(alert.id.startswith("store") for alert in w.snapshot().alerts)
        await w.check()


async def test_a_leave_whose_settling_is_refused_is_still_done() -> None:
    async with world() as w:
        await w.take(5)
        await w.to_price("140")
        asked = await w.give(leave())
        planned = 0

        def refuse_the_second_operation(number: int, name: str) -> None:
            nonlocal planned
            planned += name == "journal PLANNED"
            if planned == 2:
                raise TransientError("DATABASE_LOCKED", "another program holds the database locked")

        w.gremlin.before = refuse_the_second_operation
        result = await w.confirm(asked)
        assert result.status is ResultStatus.DONE, result
        assert "settling failed" in result.message
        w.gremlin.quiet()
        await w.check()


async def test_a_resume_while_the_disk_refuses_does_not_hang_in_between() -> None:
    async with world() as w:
        await w.give(Kill(reason="test"))
        asked = await w.give(Resume())
        w.gremlin.refuse()
        # A question has a number of its own, and numbers are looked up: it is refused, and nothing hangs.
        assert (await w.give(Resume())).code == "DATABASE_LOCKED"
        assert w.state == "HALTED"
        assert (await w.confirm(asked)).status is ResultStatus.DONE
        assert w.state == "RUNNING"
        w.gremlin.quiet()
        await w.check()


async def test_events_and_entries_survive_a_save_that_fails() -> None:
    async with world() as w:
        await w.take(5)
        stored = len(await w.store.events())
        w.gremlin.refuse(lambda name: name in ("_append_ledger", "_append_events"))
        for _ in range(3):
            await w.record(rate_of(50))
        await w.give(SetAutomation(on=False))
        w.gremlin.quiet()
        w.wait(60)
        await w.engine.tick()
        kinds = [stored.event.kind for stored in (await w.store.events())[stored:]]
        assert kinds.count("automation") == 1
        assert kinds.count("alert") == 1
        await w.check()


async def test_events_refused_after_the_ledger_was_saved_are_kept_and_not_written_twice() -> None:
    async with world() as w:
        await w.take(5)
        w.gremlin.refuse(lambda name: name == "_append_events", times=2)
        await w.give(SetAutomation(on=False))
        await w.core.save()
        await w.core.save()
        await w.core.save()
        kinds = [stored.event.kind for stored in await w.store.events()]
        assert kinds.count("automation") == 1
        await w.check()


async def test_another_program_locks_the_file_while_the_engine_saves(tmp_path: Path) -> None:
    """R9.7, with a real file and a real lock: said, nothing lost, said again when it is over."""
    path = tmp_path / "deltatui.sqlite"
    async with world(path=path) as w:
        await w.take(5)
        await w.record(rate_of(100))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await w.record(rate_of(100))
            assert "locked" in w.venue.trouble
            await w.give(SetAutomation(on=False))
            await w.core.save()
            assert [a.level for a in w.snapshot().alerts if a.id.startswith("store")] == [Level.ERROR]
            result = await w.sure(withdraw(10 * USD))
            assert result.status is ResultStatus.REJECTED
            assert result.code == "DATABASE_LOCKED"
            other.execute("ROLLBACK")
        await w.to_price("151")
        assert not w.snapshot().alerts
        await w.record(rate_of(100))
        await w.check()
        funding = [entry for entry in await w.store.ledger() if entry.kind == "funding"]
        assert len(funding) == 3
        equity = w.account.equity
        await w.restart()
        assert w.account.equity == equity
        await w.check()


async def test_what_happens_while_the_market_is_quiet_is_booked() -> None:
    async with world() as w:
        await w.venue.fill_from_elsewhere("SOL", 10**9, w.price)
        known = w.core.accountant.books.cursor
        await w.loop.tick()
        assert w.core.accountant.books.cursor == w.account.events > known
        await w.check()


async def test_the_engine_never_books_what_the_exchange_could_not_keep() -> None:
    """Else a crash would leave a ledger that is ahead of the exchange."""
    async with world() as w:
        await w.take(5)
        kept = w.account.events
        w.gremlin.refuse(lambda name: name == "_commit")
        await w.record(rate_of(100))
        await w.to_price("151")
        await w.loop.tick()
        assert w.core.accountant.books.cursor == kept
        await w.restart()
        # The exchange had forgotten the record; the tape gave it once more, and it was booked once.
        assert w.core.accountant.books.cursor == w.account.events == kept + 1
        await w.record(rate_of(100))
        await w.check()


# A sender that keeps silent


async def test_an_unresolved_operation_blocks_new_risk_and_resolves() -> None:
    async with world() as w:
        await w.take(2)
        w.sender.mute = True
        result = await w.take(1)
        assert result.status is ResultStatus.UNRESOLVED
        (alert,) = [a for a in w.snapshot().alerts if a.id.startswith("unresolved")]
        assert alert.level == Level.ERROR
        assert w.snapshot().operation is not None
        assert w.snapshot().operation.state == "UNRESOLVED"  # type: ignore[union-attr]
        await w.engine.tick()
        w.sender.mute = False
        refused = await w.take(1)
        assert refused.status is ResultStatus.REJECTED
        assert refused.code == "UNRESOLVED_OPEN"
        # What only reduces risk passes (R6.11).
        assert (await w.sure(deposit(10 * USD))).status is ResultStatus.DONE
        await w.engine.tick()
        assert not w.core.unresolved
        assert not w.snapshot().alerts
        assert "resolved" in w.kinds()
        assert (await w.take(1)).status is ResultStatus.DONE
        await w.check()


async def test_an_operation_that_never_arrived_expires() -> None:
    async with world() as w:
        before = w.account
        w.sender.lost = w.sender.mute = True
        result = await w.take(5)
        assert result.status is ResultStatus.UNRESOLVED
        w.sender.lost = w.sender.mute = False
        await w.engine.tick()
        assert await w.outcomes() == [("TAKE", "EXPIRED")]
        assert w.account == before
        await w.check()
        assert (await w.take(5)).status is ResultStatus.DONE


@pytest.mark.parametrize("error", [ValidationError("BAD", "no"), CriticalError("WORSE", "no")])
async def test_a_sender_that_raises_after_sending_leaves_nothing_forgotten(error: Exception) -> None:
    async with world() as w:

        async def fail() -> None:
            raise error

        w.sender.on_send = fail
        w.sender.mute = True
        asked = await w.give(take(5))
        await w.confirm(asked)
        assert list(w.core.unresolved) == [asked.operation_id]
        w.sender.on_send = None
        w.sender.mute = False
        await w.engine.tick()
        assert await w.outcomes() == [("TAKE", "EXPIRED")]
        assert w.state == ("HALTED" if isinstance(error, CriticalError) else "RUNNING")


async def test_unresolved_over_a_restart() -> None:
    async with world() as w:
        w.sender.mute = True
        assert (await w.take(5)).status is ResultStatus.UNRESOLVED
        await w.restart()
        assert not w.core.unresolved
        assert w.legs == (5.0, -5.0)
        assert w.hedge.memory.held_by == "operator"
        assert await w.outcomes() == [("TAKE", "LANDED")]
        await w.check()


async def test_still_unresolved_after_a_restart_blocks_on() -> None:
    async with world() as w:
        w.sender.mute = True
        await w.take(5)
        w._build()
        w.sender.mute = True
        await w.start()
        assert len(w.core.unresolved) == 1
        assert w.state == "RUNNING"
        w.sender.mute = False
        assert (await w.take(1)).code == "UNRESOLVED_OPEN"
        await w.engine.tick()
        assert w.legs == (5.0, -5.0)
        await w.check()


async def test_slow_transactions_are_waited_for() -> None:
    """R1.6: with latency an operation takes its time, and the books are right afterwards."""
    async with world(faults=PaperFaults(latency_s=2.5)) as w:
        before = w.clock.operator_s()
        assert (await w.take(5)).status is ResultStatus.DONE
        assert w.clock.operator_s() == before + 2.5
        assert w.legs == (5.0, -5.0)
        await w.check()


# A process that dies


async def _transactions_of(kind: str) -> int:
    prepare, act = SCENARIOS[kind]
    async with world() as w:
        await prepare(w)
        before = w.gremlin.count
        await act(w)
        return w.gremlin.count - before


COUNTS = {kind: asyncio.run(_transactions_of(kind)) for kind in SCENARIOS}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("kind", "number"), [(kind, n) for kind, count in COUNTS.items() for n in range(1, count + 1)])
async def test_killed_around_every_transaction(kind: str, number: int, after: bool) -> None:
    prepare, act = SCENARIOS[kind]
    async with world() as w:
        await prepare(w)
        operations = len(await w.store.operations())
        before, equity = w.legs, w.account.equity
        w.gremlin.kill_at(number, after=after)
        with pytest.raises(Killed):
            await act(w)
        await w.restart()
        assert w.state == ("HALTED" if kind == "flatten" and w.core.memory.halted else "RUNNING")
        assert not w.core.unresolved
        await w.check()
        new = (await w.outcomes())[operations:]
        assert len([o for o in new if o[0] != "SETTLE"]) <= 1
        landed = any(state == "LANDED" for _, state in new)
        spot, perp = w.legs
        assert spot == -perp
        if not landed:
            assert (w.legs, w.account.equity) == (before, equity)
        # It goes on as if nothing had happened: numbers are not used twice, records are booked once.
        await w.record(rate_of(100))
        if w.state == "HALTED":
            await w.resume()
        assert (await w.take(1)).status is ResultStatus.DONE
        await w.check()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_killed_anywhere_in_a_long_life(data: st.DataObject) -> None:
    """Random commands and records with deaths in between: legs even, ledger balanced, one outcome each."""

    async def both_records(w: World) -> None:
        await w.record(rate_of(80))
        await w.record(rate_of(60, w.prices["BTC-PERP"]), market="BTC-PERP", same_hour=True)

    async def scenario(w: World) -> None:
        acts: list[Callable[[], Awaitable[object]]] = [
            lambda: w.take(2),
            w.leave,
            lambda: w.sure(take(0.005, market="BTC-PERP")),
            lambda: w.sure(leave("BTC-PERP")),
            lambda: both_records(w),
            lambda: w.to_price("151", after_s=700),
            lambda: w.sure(deposit(5 * USD)),
            lambda: w.sure(withdraw(5 * USD)),
            lambda: w.sure(rebalance()),
            lambda: w.give(SetAutomation(on=True)),
        ]
        for _ in range(data.draw(st.integers(1, 8))):
            act = data.draw(st.sampled_from(range(len(acts))))
            if data.draw(st.booleans()):
                w.gremlin.kill_at(data.draw(st.integers(1, 14)), after=data.draw(st.booleans()))
            try:
                await acts[act]()
            except Killed:
                await w.restart()
            w.gremlin.quiet()
            w.wait(61)
            for market, least in (("SOL-PERP", 0.01), ("BTC-PERP", 0.0001)):
                spot, perp = w.legs_of(market)
                assert abs(spot + perp) < least
                assert w.core.hedges[market].window.count == len(w.past(market))
            await w.check()

    in_world(scenario, markets=BOTH)


async def test_a_pause_and_a_kill_survive_a_restart() -> None:
    async with world() as w:
        await w.give(Pause())
        await w.core.save()
        await w.restart()
        assert w.state == "PAUSED"
        await w.give(Kill(reason="enough"))
        await w.restart()
        assert w.state == "HALTED"
        assert w.core.state_reason == "kill switch: enough"
        assert w.core.memory.automation is False
        assert (await w.resume()).status is ResultStatus.DONE
        await w.core.save()
        await w.restart()
        assert w.state == "RUNNING"


async def test_what_the_engine_remembers_survives_a_restart() -> None:
    async with world(automation=True, primed=8) as w:
        assert w.legs == (5.0, -5.0)
        await w.record(rate_of(100))
        memory, hedge = w.core.memory, w.hedge.memory
        books = w.core.accountant.image()
        await w.restart()
        assert w.core.memory == memory
        assert w.hedge.memory == hedge
        assert hedge.decision is not None
        assert w.core.accountant.image() == books
        assert w.snapshot().carry.held_by == "engine"


async def test_a_confirmation_does_not_survive_a_restart() -> None:
    async with world() as w:
        asked = await w.give(take(5))
        await w.restart()
        assert (await w.give(Confirm(operation_id=asked.operation_id))).code == "NOT_PENDING"
        assert w.legs == (0.0, 0.0)
