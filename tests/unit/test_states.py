"""Operation states and the supervisor: what may follow what, and that no task dies unnoticed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping

import pytest

from deltatui.backtest.clock import SimulatedClock
from deltatui.domain.errors import CriticalError
from deltatui.domain.event import Level
from deltatui.domain.operation import TRANSITIONS, OperationState, check_transition
from deltatui.engine.supervisor import Supervisor

S = OperationState


@pytest.mark.parametrize(("before", "after"), list(itertools.product(S, S)))
def test_an_operation_takes_only_listed_steps(before: S, after: S) -> None:
    if after in TRANSITIONS[before]:
        check_transition(before, after)
    else:
        with pytest.raises(CriticalError, match=f"from {before} to {after}"):
            check_transition(before, after)


def test_the_ends_are_ends_and_can_be_reached_from_everywhere() -> None:
    final = {state for state in S if state.final}
    assert final == {S.LANDED, S.FAILED, S.EXPIRED}
    for state in S:
        assert bool(TRANSITIONS[state]) is not state.final
        reached, frontier = {state}, {state}
        while frontier:
            frontier = {after for before in frontier for after in TRANSITIONS[before]} - reached
            reached |= frontier
        assert reached & final
    # Before anything was sent it can only fail.
    assert TRANSITIONS[S.PLANNED] & final == {S.FAILED}
    assert TRANSITIONS[S.SIMULATED] & final == {S.FAILED}


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[Level, str]] = []

    def __call__(self, level: Level, tag: str, message: str, fields: Mapping[str, object] | None = None) -> None:
        assert fields is not None
        assert isinstance(fields["error"], Exception)
        self.lines.append((level, message))


class SteppedClock(SimulatedClock):
    """Remembers how long was slept."""

    def __init__(self) -> None:
        super().__init__(1000.0)
        self.slept: list[float] = []

    async def sleep(self, operator_seconds: float) -> None:
        self.slept.append(operator_seconds)
        await super().sleep(operator_seconds)
        await asyncio.sleep(0)


async def rest(times: int = 200) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def test_a_task_that_dies_is_reported_and_started_again_later_each_time() -> None:
    clock, log = SteppedClock(), Log()
    supervisor = Supervisor(clock, log, lambda name, error: pytest.fail("not critical"))
    lives = 0

    async def work() -> None:
        nonlocal lives
        lives += 1
        if lives <= 9:
            raise KeyError("feed")

    supervisor.start("feed", work)
    await rest()
    assert lives == 10
    assert clock.slept == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert log.lines[0] == (Level.ERROR, "task feed died: KeyError: 'feed'")
    assert len(log.lines) == 9
    assert supervisor.names == ()
    await supervisor.stop()


async def test_a_long_life_earns_a_quick_restart() -> None:
    clock, log = SteppedClock(), Log()
    supervisor = Supervisor(clock, log, lambda name, error: None)
    lives = 0

    async def work() -> None:
        nonlocal lives
        lives += 1
        if lives == 4:
            await SimulatedClock.sleep(clock, 61.0)
        if lives <= 5:
            raise RuntimeError("again")

    supervisor.start("feed", work)
    await rest()
    assert clock.slept == [1.0, 2.0, 4.0, 1.0, 2.0]
    await supervisor.stop()


async def test_a_critical_error_stays_down_and_is_handed_on() -> None:
    log, told = Log(), []
    supervisor = Supervisor(SteppedClock(), log, lambda name, error: told.append((name, error.code)))

    async def work() -> None:
        raise CriticalError("EVENT_GAP", "an event is missing")

    supervisor.start("replay", work)
    await rest()
    assert told == [("replay", "EVENT_GAP")]
    assert log.lines == [(Level.CRITICAL, "task replay stopped: an event is missing")]
    assert supervisor.names == ()


async def test_one_that_fails_never_stops_another_and_all_can_be_stopped() -> None:
    log = Log()
    supervisor = Supervisor(SteppedClock(), log, lambda name, error: None)
    beats = 0

    async def good() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0)

    async def bad() -> None:
        raise OSError("gone")

    supervisor.start("good", good)
    supervisor.start("bad", bad)
    await rest(50)
    assert set(supervisor.names) == {"good", "bad"}
    assert beats > 40
    await supervisor.stop()
    stopped = beats
    await rest(5)
    assert beats == stopped
    assert supervisor.names == ()
