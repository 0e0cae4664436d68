"""Plays a tape to a running engine at a speed that the operator sets, and knows where the tape stands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from deltatui.domain.errors import TransientError, ValidationError
from deltatui.domain.event import Level
from deltatui.domain.market import FundingRecord
from deltatui.domain.snapshot import HistoryView, TapeView
from deltatui.engine.engine import Engine
from deltatui.engine.history import History
from deltatui.engine.states import EngineState
from deltatui.feeds.tape import Tape
from deltatui.venues.paper.venue import PaperVenue

_TICK_S = 0.1
_LONGEST_STEP_S = 0.5
_SLICE_S = 0.008
_HISTORY_S = 2.0
_BEAT_S = 1.0
_RUNNING = (EngineState.RUNNING, EngineState.REDUCING, EngineState.HALTED)


class ReplayClock:
    """Market time from the tape, operator time from the wall but never backwards.

    Operator time runs on the monotonic clock; a wall clock that was set, or a laptop that slept, is followed forward
    and reported by :meth:`jumped_s`.
    """

    def __init__(
        self, market_s: float, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._market_s = market_s
        self._wall, self._monotonic = wall, monotonic
        self._offset_s = wall() - monotonic()

    def market_s(self) -> float:
        return self._market_s

    def operator_s(self) -> float:
        return self._monotonic() + self._offset_s

    def advance_to(self, market_s: float) -> None:
        self._market_s = max(self._market_s, market_s)

    def jumped_s(self) -> float:
        """How far the wall clock has moved against ours since the last call, where it is worth telling (2 s)."""
        jump = self._wall() - self.operator_s()
        if abs(jump) < 2.0:
            return 0.0
        if jump > 0:
            self._offset_s += jump
        return jump

    async def sleep(self, operator_seconds: float) -> None:
        await asyncio.sleep(operator_seconds)


class Replay:
    """Drives venue and engine. ``run()`` is a supervised task; everything happens on the engine's loop in slices short
    enough that clients notice nothing."""

    def __init__(
        self,
        tape: Tape,
        clock: ReplayClock,
        venue: PaperVenue,
        engine: Engine,
        on_change: Callable[[], None],
        on_history: Callable[[HistoryView], None],
    ) -> None:
        self.tape = tape
        self._clock = clock
        self._venue = venue
        self._engine = engine
        self._on_change = on_change
        self._on_history = on_history
        self._history = History(engine.core)
        self._history_sent_s = float("-inf")
        self._history_new = False
        self._next = tape.index_at(clock.market_s())
        self.loop_lag_ms: float | None = None
        self.ended = False

    @property
    def speed(self) -> int:
        """Market seconds per operator second while the tape runs."""
        return self._engine.core.flags.speed

    @property
    def standing(self) -> bool:
        """Whether the tape stands still: paused, ended, or waiting for a confirmation (R16.1)."""
        core = self._engine.core
        return self.ended or core.pending is not None or core.state not in _RUNNING

    def view(self) -> TapeView:
        tape = self.tape
        market = self._venue.market(self._engine.core.spec.symbol)
        return TapeView(
            name=tape.name,
            first_s=float(tape.first_s),
            last_s=float(tape.last_s),
            record=self._next,
            records=len(tape),
            interpolated=market is not None and market.interpolated,
            ended=self.ended,
        )

    async def first_price(self) -> None:
        """Give a venue that has no price yet the one where the tape begins."""
        oracle, mark, interpolated = self.tape.price_at(self._clock.market_s())
        await self._venue.on_price(self._clock.market_s(), oracle, mark, interpolated=interpolated)

    def prime(self) -> None:
        """Give the engine the averages over what lies behind."""
        looked_back = self._engine.core.records_looked_back
        self._engine.prime_funding(self.tape.records[max(0, self._next - looked_back) : self._next])
        self._history.prime(self.tape.records[: self._next])
        self._on_history(self._history.view())

    async def run(self) -> None:
        """Until cancelled."""
        if not self._venue.trouble:
            # What the exchange had booked and the engine not seen when it died.
            await self._engine.step()
        before_s = beat_s = self._clock.operator_s()
        while True:
            asleep_s = self._clock.operator_s()
            await self._clock.sleep(_TICK_S)
            now_s = self._clock.operator_s()
            elapsed_s, before_s = now_s - before_s, now_s
            # Of the sleep alone: waiting for the disk is no lag of the loop.
            self.loop_lag_ms = max(0.0, now_s - asleep_s - _TICK_S) * 1e3
            if jump := self._clock.jumped_s():
                self._engine.note("clock_jump", f"the clock of this machine jumped by {jump:+.1f} s")
                before_s = self._clock.operator_s()
            await self._engine.tick()
            self._send_history(now_s)
            if await self._saved() and not self.standing:
                await self._advance(min(elapsed_s, _LONGEST_STEP_S) * self.speed)
            elif now_s - beat_s >= _BEAT_S:
                # Clients take silence for a dead engine, also while the tape stands.
                beat_s = now_s
                self._on_change()

    async def _saved(self) -> bool:
        """Whether the exchange could save its last step; the tape waits until it can (R9.7)."""
        venue, board = self._venue, self._engine.core.board
        if not venue.trouble:
            return True
        try:
            await venue.flush()
        except TransientError as error:
            board.alert("paper store", Level.ERROR, f"the tape waits: {error.sentence}")
            return False
        board.clear("paper store")
        await self._take_in(self.tape.records[self._next - 1])
        return True

    async def _take_in(self, record: FundingRecord) -> None:
        await self._engine.step()
        self._history.add(record)
        self._history_new = True

    def _send_history(self, now_s: float) -> None:
        """Charts are drawn every two seconds; more would only cost bandwidth."""
        if self._history_new and now_s - self._history_sent_s >= _HISTORY_S:
            self._history_new, self._history_sent_s = False, now_s
            self._on_history(self._history.view())

    async def _advance(self, market_seconds: float) -> None:
        target_s = self._clock.market_s() + market_seconds
        records = self.tape.records
        slice_ends = self._clock.operator_s() + _SLICE_S
        while self._next < len(records) and records[self._next].ts_s <= target_s:
            record = records[self._next]
            self._next += 1
            self._clock.advance_to(float(record.ts_s))
            await self._venue.on_record(record)
            if self._venue.trouble:
                return
            await self._take_in(record)
            if self.standing:
                return
            if self._clock.operator_s() >= slice_ends:
                await asyncio.sleep(0)
                slice_ends = self._clock.operator_s() + _SLICE_S
        if self._next == len(records):
            await self._end()
            return
        self._clock.advance_to(target_s)
        oracle, mark, interpolated = self.tape.price_at(target_s)
        await self._venue.on_price(target_s, oracle, mark, interpolated=interpolated)
        if not self._venue.trouble:
            await self._engine.step()

    async def _end(self) -> None:
        self.ended = True
        self._venue.close_market()
        self._engine.note("tape_ended", f"the tape {self.tape.name} has ended; nothing moves any more")
        self._on_change()


def check_same_tape(tape: Tape, kept: bytes | None) -> bytes:
    """The tape's mark for the profile's state; ValidationError if the state was made with another tape."""
    mark = tape.digest.encode()
    if kept is not None and kept != mark:
        raise ValidationError(
            "OTHER_TAPE",
            f"this profile's account was played on another tape than {tape.name}; "
            "use another --profile, or start it anew with --fresh",
        )
    return mark
