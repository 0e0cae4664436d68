"""A tape played to a running engine: speed, standing still, waiting for the disk, and going on after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal

import pytest
from deltatui.backtest.replay import Replay, ReplayClock, check_same_tape
from engine_harness import START_S, Killed, World, rate_of, take, world
from tapes import apr_rate, row, tape

from deltatui.domain.carry import CarrySettings
from deltatui.domain.command import Cancel, Kill, Pause, Resume, SetSpeed
from deltatui.domain.errors import ValidationError
from deltatui.domain.snapshot import HistoryView
from deltatui.feeds.tape import Tape


class PlayedClock(ReplayClock):
    """Operator time that only passes in :meth:`sleep`; ends the run after so many sleeps."""

    def __init__(self, market_s: float) -> None:
        self.now_s = self.wall_s = 1000.0
        self.left = 0
        self.slow_s = 0.0
        self.on_sleep: Callable[[], None] | None = None
        super().__init__(market_s, wall=lambda: self.wall_s, monotonic=lambda: self.now_s)

    async def sleep(self, operator_seconds: float) -> None:
        if not self.left:
            raise asyncio.CancelledError
        self.left -= 1
        self.now_s += operator_seconds + self.slow_s
        self.wall_s += operator_seconds + self.slow_s
        if self.on_sleep is not None:
            self.on_sleep()
        await asyncio.sleep(0)


class Player:
    """A replay over the exchange and the engine of a world, on a clock of its own."""

    def __init__(self, w: World, t: Tape, *, speed: int = 3600) -> None:
        self.w, self.tape = w, t
        self.clock = PlayedClock(w.clock.market_s())
        self.histories: list[HistoryView] = []
        self.changes = 0
        w.core.clock = w.venue._clock = self.clock
        w.core.board._clock = self.clock
        w.core.set_flags(speed=speed)
        self.replay = Replay(t, self.clock, w.venue, w.engine, self._changed, self.histories.append)

    def _changed(self) -> None:
        self.changes += 1

    async def play(self, seconds: float) -> None:
        self.clock.left = round(seconds / 0.1)
        with pytest.raises(asyncio.CancelledError):
            await self.replay.run()


def hourly(count: int, apr_pct: float = 100.0, first_s: int = START_S + 3600) -> Tape:
    return tape(row(first_s + 3600 * n, apr_rate(apr_pct), Decimal(150 + n)) for n in range(count))


async def test_speed_is_market_seconds_per_second() -> None:
    async with world(primed=0) as w:
        p = Player(w, hourly(50))
        p.replay.prime()
        await p.play(3.0)
        assert p.clock.market_s() == pytest.approx(START_S + 3 * 3600)
        assert p.replay.view().record == 3
        await w.give(SetSpeed(speed=36_000))
        await p.play(1.0)
        assert p.clock.market_s() == pytest.approx(START_S + 13 * 3600)
        assert p.replay.view().record == 13
        assert w.hedge.window.count == 13
        assert not p.replay.view().interpolated or p.replay.view().record == 13
        await p.play(0.1)
        assert p.replay.speed == 36_000


async def test_the_tape_before_the_first_start_fills_every_average_and_the_count() -> None:
    async with world(primed=0, carry=CarrySettings(average_h=400, min_records=410)) as w:
        w.clock.advance_to(START_S + 420 * 3600)
        p = Player(w, hourly(450))
        p.replay.prime()
        assert (len(w.hedge.window), w.hedge.window.count) == (400, 410)
        await p.play(1.1)
        assert w.hedge.memory.decision is not None
        assert w.hedge.memory.decision.carry is not None


async def test_between_records_the_price_is_interpolated_and_says_so() -> None:
    async with world(primed=0) as w:
        p = Player(w, hourly(50))
        await p.play(1.5)
        market = w.venue.market("SOL-PERP")
        assert market is not None
        assert market.interpolated
        assert market.oracle == Decimal("150.5")
        assert p.replay.view().interpolated


async def test_a_pause_an_open_question_and_the_end_stop_the_tape() -> None:
    async with world(primed=0, apr_pct=0) as w:
        p = Player(w, hourly(30))
        await p.play(10.0)
        at = p.clock.market_s()
        await w.give(Pause())
        assert p.replay.standing
        beats = p.changes
        await p.play(5.0)
        assert p.clock.market_s() == at
        # Clients take silence for a dead engine.
        assert p.changes > beats
        await w.give(Resume())
        asked = await w.give(take(5))
        await p.play(5.0)
        assert p.clock.market_s() == at
        await w.give(Cancel(operation_id=asked.operation_id))
        await p.play(25.0)
        assert p.replay.ended
        assert p.clock.market_s() == p.tape.last_s
        assert "tape_ended" in w.kinds()
        await p.play(1.0)
        assert w.kinds().count("tape_ended") == 1
        assert (await w.give(take(0.5))).verdicts[0].reason.startswith("SOL-PERP is closed")


async def test_a_question_that_nobody_answers_lets_the_tape_go_on() -> None:
    async with world(primed=0) as w:
        p = Player(w, hourly(50))
        await p.play(10.0)
        await w.give(take(5))
        at = p.clock.market_s()
        await p.play(29.0)
        assert p.clock.market_s() == at
        await p.play(3.0)
        assert p.clock.market_s() > at
        assert "confirmation_expired" in w.kinds()


async def test_a_halted_engine_still_sees_the_market() -> None:
    async with world(primed=0) as w:
        p = Player(w, hourly(50))
        await w.give(Kill())
        await p.play(5.0)
        assert p.replay.view().record == 5
        assert w.state == "HALTED"


async def test_it_takes_by_itself_on_the_way() -> None:
    async with world(primed=0, automation=True) as w:
        p = Player(w, hourly(50), speed=36_000)
        await p.play(2.0)
        assert w.legs == (5.0, -5.0)
        await w.check()


async def test_the_tape_waits_for_a_disk_that_refuses() -> None:
    """R9.7: every record is judged and booked once, however long it takes."""
    async with world(primed=0, automation=True) as w:
        p = Player(w, hourly(60), speed=36_000)
        await p.play(1.0)
        assert w.legs == (5.0, -5.0)
        w.gremlin.refuse()
        await p.play(3.0)
        stood = p.replay.view().record
        assert stood <= 11
        assert any(a.id.startswith("paper store") for a in w.snapshot().alerts)
        w.gremlin.quiet()
        await p.play(2.0)
        assert p.replay.view().record > stood
        assert w.hedge.window.count == p.replay.view().record
        assert not w.snapshot().alerts
        await w.check()
        funding = [e for e in await w.store.ledger() if e.kind == "funding"]
        assert [e.market_s for e in funding] == sorted({e.market_s for e in funding})


async def test_a_clock_that_jumps_is_told_and_followed() -> None:
    async with world(primed=0) as w:
        p = Player(w, hourly(50))
        await p.play(1.0)
        p.clock.wall_s += 3600.0
        before = p.clock.market_s()
        await p.play(1.0)
        assert "clock_jump" in w.kinds()
        # A laptop that slept does not make the tape leap.
        assert p.clock.market_s() - before <= 1.1 * 3600
        p.clock.wall_s -= 7200.0
        at = p.clock.operator_s()
        await p.play(0.5)
        assert p.clock.operator_s() >= at


async def test_a_stall_makes_no_leap_and_is_measured() -> None:
    async with world(primed=0) as w:
        p = Player(w, hourly(50))
        await p.play(1.0)
        before = p.clock.market_s()
        p.clock.slow_s = 5.0
        await p.play(0.1)
        assert p.clock.market_s() - before <= 0.5 * 3600 + 1
        assert p.replay.loop_lag_ms == pytest.approx(5000.0)


async def test_history_for_the_charts() -> None:
    async with world(primed=0, automation=True) as w:
        p = Player(w, hourly(60), speed=36_000)
        p.replay.prime()
        await p.play(4.0)
        view = p.histories[-1]
        assert view.version > p.histories[0].version
        assert len(view.funding) == len(view.equity) == len(view.always_short)
        assert view.funding[-1][1] == pytest.approx(100.0, rel=0.5)
        short = float(sum((r.rate_short for r in p.tape.records[: len(view.equity)]), Decimal(0))) * 5
        assert view.always_short[-1][1] == pytest.approx(3000 + short)
        assert len(p.histories) <= 4


def test_a_profile_keeps_its_tape() -> None:
    one, other = hourly(3), hourly(4)
    mark = check_same_tape(one, None)
    assert check_same_tape(one, mark) == mark
    with pytest.raises(ValidationError, match="another tape"):
        check_same_tape(other, mark)


async def test_the_first_price_of_a_new_exchange() -> None:
    async with world(primed=0) as w:
        p = Player(w, hourly(3, first_s=START_S + 7200))
        await p.replay.first_price()
        market = w.venue.market("SOL-PERP")
        assert market is not None
        assert (market.oracle, market.interpolated) == (Decimal(150), False)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("after", [False, True])
async def test_a_death_around_a_record_changes_no_decision(number: int, after: bool) -> None:
    """What was booked and not judged is judged after the restart, what was judged is not judged twice."""

    async def life(w: World) -> tuple[object, object, object, object]:
        for apr in (150.0, -80.0, 120.0, -30.0):
            await w.record(rate_of(apr))
        core = w.core
        return core.carry_state, core.decision, core.window.mean, core.memory.records

    async with world(primed=7) as w:
        undisturbed = await life(w)
    async with world(primed=7) as w:
        w.gremlin.kill_at(number, after=after)
        try:
            await w.record(rate_of(150))
        except Killed:
            await w.restart()
        else:
            w.gremlin.quiet()
        for apr in (-80.0, 120.0, -30.0):
            await w.record(rate_of(apr))
        core = w.core
        assert (core.carry_state, core.decision, core.memory.records) == (
            undisturbed[0],
            undisturbed[1],
            undisturbed[3],
        )
        mean, expected = core.window.mean, undisturbed[2]
        assert mean == expected
        assert core.window.count == 11
