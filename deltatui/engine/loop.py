"""The one loop: facts come in by it, and time passes by it. The same in live trading, replay and backtest.

Two tasks run it: :meth:`Loop.drain` takes facts in their order, one at a time, and :meth:`Loop.pass_time` ticks. A
backtest hands its facts to :meth:`Loop.take` itself.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from deltatui.domain.errors import CriticalError, TransientError
from deltatui.domain.event import Level
from deltatui.domain.facts import Fact, Funding, Prices
from deltatui.domain.snapshot import HistoryView
from deltatui.engine.engine import Engine
from deltatui.engine.history import History
from deltatui.ports import Clock

TICK_S = 0.1
_BEAT_S = 1.0
_HISTORY_S = 2.0


class MarketClock(Clock, Protocol):
    """A clock whose market time follows the facts."""

    def advance_to(self, market_s: float) -> None:
        """Market time goes forward to ``market_s``, never back."""

    def jumped_s(self) -> float:
        """How far the wall clock has moved against operator time since the last call; 0 where it is not worth
        telling."""


class Exchange(Protocol):
    """A simulated exchange that follows the market by the same facts, and hears of each before the engine does."""

    @property
    def trouble(self) -> str:
        """Why its last step is not saved yet; empty where it is."""

    async def take(self, fact: Fact) -> None: ...

    async def flush(self) -> None:
        """Raises TransientError where the disk refuses."""


class Loop:
    """``exchange`` None: the venue is a real one. ``on_history`` gets the charts' data, seldom; None: nobody draws."""

    def __init__(
        self,
        engine: Engine,
        clock: MarketClock,
        exchange: Exchange | None,
        on_change: Callable[[], None] = lambda: None,
        on_history: Callable[[HistoryView], None] | None = None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._exchange = exchange
        self._on_change = on_change
        self._on_history = on_history
        self.history = History(engine.core)
        self._drawn: list[Funding] = []
        """Records that the charts do not have yet: they are drawn when what follows from them is done."""
        self._history_new = True
        self._history_sent_s = float("-inf")
        self._inbox: OrderedDict[object, tuple[Fact, asyncio.Future[None] | None]] = OrderedDict()
        self._posted = asyncio.Event()
        self.loop_lag_ms: float | None = None

    async def begin(self, facts: Iterable[Fact]) -> None:
        """Start the engine on what is known of the markets by now."""
        for fact in facts:
            self._clock.advance_to(fact.source_s)
            if self._exchange is not None:
                await self._exchange.take(fact)
            self._engine.core.world.take(fact)
        await self._engine.start()

    async def post(self, fact: Fact) -> None:
        """For sources. Of the prices of one instrument and source the newest is enough, and it does not wait; anything
        else is taken in its order, and has been taken when this returns."""
        if isinstance(fact, Prices):
            key = (fact.instrument, fact.source)
            self._inbox.pop(key, None)
            self._inbox[key] = fact, None
            self._posted.set()
            return
        taken = asyncio.get_running_loop().create_future()
        self._inbox[taken] = fact, taken
        self._posted.set()
        await taken

    async def drain(self) -> None:
        """Take what was posted, until cancelled."""
        # What the exchange had booked and the engine not seen when it died.
        with self._halting():
            await self._engine.step()
        while True:
            await self._posted.wait()
            while self._inbox:
                _, (fact, taken) = self._inbox.popitem(last=False)
                try:
                    with self._halting():
                        await self._saved()
                        await self.take(fact)
                        await self._saved()
                finally:
                    if taken is not None and not taken.done():
                        taken.set_result(None)
            self._posted.clear()

    @contextmanager
    def _halting(self) -> Iterator[None]:
        """What cannot be trusted halts the engine; facts and time go on, for what is open may have to be closed by
        hand, at prices of now."""
        try:
            yield
        except CriticalError as error:
            self._engine.core.halt(error.sentence)

    async def take(self, fact: Fact) -> None:
        """Clock, exchange, engine, charts, in this order."""
        self._draw()
        self._clock.advance_to(fact.source_s)
        if self._exchange is not None:
            await self._exchange.take(fact)
            if self._exchange.trouble:
                await self._saved()
        await self._engine.take(fact)
        if self._on_history is not None and isinstance(fact, Funding):
            self._drawn.append(fact)

    async def _saved(self) -> None:
        """Return when the exchange has saved its last step: nothing that it may forget is acted on (R9.7)."""
        exchange, board = self._exchange, self._engine.core.board
        while exchange is not None and exchange.trouble:
            try:
                await exchange.flush()
            except TransientError as error:
                board.alert("paper store", Level.ERROR, f"the tape waits: {error.sentence}")
                await self._clock.sleep(TICK_S)
            else:
                board.clear("paper store")

    async def pass_time(self) -> None:
        """Ticks, the beat that clients know a living engine by, the lag, clocks that jump; until cancelled."""
        beat_s = self._clock.operator_s()
        while True:
            asleep_s = self._clock.operator_s()
            await self._clock.sleep(TICK_S)
            now_s = self._clock.operator_s()
            self.loop_lag_ms = max(0.0, now_s - asleep_s - TICK_S) * 1e3
            if jump := self._clock.jumped_s():
                self._engine.note("clock_jump", f"the clock of this machine jumped by {jump:+.1f} s")
            with self._halting():
                await self.tick()
            self._draw()
            self._send_history(now_s)
            if not 0 <= now_s - beat_s < _BEAT_S:
                # Clients take silence for a dead engine, also while the market stands still.
                beat_s = now_s
                self._on_change()

    async def tick(self) -> None:
        """Operator time has passed. What the exchange may still forget is not booked (R9.7)."""
        await self._engine.tick()
        if self._exchange is None or not self._exchange.trouble:
            await self._engine.notice()

    def _draw(self) -> None:
        if self._drawn and self._engine.automation.resting:
            for fact in self._drawn:
                self.history.add(fact.instrument, fact.record)
            self._drawn.clear()
            self._history_new = True

    def _send_history(self, now_s: float) -> None:
        """Charts are drawn every two seconds; more would only cost bandwidth."""
        if self._on_history is not None and self._history_new and not 0 <= now_s - self._history_sent_s < _HISTORY_S:
            self._history_new, self._history_sent_s = False, now_s
            self._on_history(self.history.view())
