"""``async with playing(tapes) as p``: tapes played to a whole engine by its own loop and source, in simulated time.

Put together as ``deltatui.assembly`` does it, but for server, signals and log files. Inside ``chainkit.run`` only:
:meth:`Player.play` lets operator time pass, and nothing waits for real.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, ParamSpec

from chainkit import VirtualLoop, run
from engine_harness import FREE, START_S, Gremlin, HauntedDatabase, World, engine_settings
from tapes import apr_rate, row, tape

from deltatui.assembly.replay import EngineTempo, _prime, _tape_start
from deltatui.backtest.clock import ReplayClock
from deltatui.domain.facts import Fact
from deltatui.domain.snapshot import HistoryView
from deltatui.engine.loop import Loop
from deltatui.feeds.recorded import RecordedSource
from deltatui.feeds.tape import Tape
from deltatui.settings import Settings
from deltatui.store.database import Durability
from deltatui.venues.paper.settings import PaperSettings

P = ParamSpec("P")

WALL_S = 1_800_000_000.0
_BETWEEN_TICKS_S = 0.05


def simulated(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test on a loop of simulated time."""

    @functools.wraps(test)
    def whole(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs), limit_s=100_000.0)

    return whole


def hourly(count: int, apr_pct: float = 100.0, first_s: int = START_S, price: int = 150, step: int = 1) -> Tape:
    """A record an hour, its price ``step`` above the one before."""
    return tape(
        row(first_s + 3600 * n, apr_rate(apr_pct, Decimal(price)), Decimal(price + step * n)) for n in range(count)
    )


class Player:
    def __init__(self, w: World, tapes: Mapping[str, Tape], start_s: float | None) -> None:
        self.w, self.tapes = w, tapes
        self.start_s = _tape_start(Settings(), tapes) if start_s is None else start_s
        self.wall_ahead_s = 0.0
        """By how much the wall clock has been set ahead of the monotonic one."""
        self.histories: list[HistoryView] = []
        self.changes = 0
        self.heard: list[Fact] = []
        """What the engine took, in order."""
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, speed: int) -> None:
        w, loop = self.w, asyncio.get_running_loop()
        w.clock = self.clock = ReplayClock(  # type: ignore[assignment]
            self.start_s, wall=lambda: WALL_S + loop.time() + self.wall_ahead_s, monotonic=loop.time
        )
        w._build()
        self._listen()
        reached_s = await w.venue.open(w.opening, w.wallet_quote, w.wallet)
        if reached_s is not None:
            self.clock.advance_to(reached_s)
        last_record_s = {symbol: float(w.venue.last_record_s(symbol)) for symbol in self.tapes}
        self.source = RecordedSource(self.tapes, self.clock, EngineTempo(w.engine), last_record_s)
        self.loop = w.loop = Loop(w.engine, self.clock, w.venue, self._changed, self.histories.append)
        await self.loop.begin(self.source.known())
        _prime(w.engine, self.loop, self.tapes, self.source.taken)
        w.core.set_memory(speed=speed)
        works = (self.loop.drain(), self.loop.pass_time(), self.source.run(self.loop.post))
        self._tasks = [asyncio.ensure_future(work) for work in works]
        await asyncio.sleep(_BETWEEN_TICKS_S)

    def _listen(self) -> None:
        engine, take = self.w.engine, self.w.engine.take

        async def heard(fact: Fact) -> None:
            self.heard.append(fact)
            await take(fact)

        engine.take = heard  # type: ignore[method-assign]

    def _changed(self) -> None:
        self.changes += 1

    async def play(self, seconds: float) -> None:
        """So much operator time, in ticks of a tenth; fails with what a task died of."""
        await asyncio.sleep(seconds)
        for task in self._tasks:
            if task.done():
                task.result()
                raise AssertionError(f"{task} has ended")

    def stall(self, seconds: float) -> None:
        """Something holds the whole process up."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.now_s += seconds

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def restart(self, speed: int = 3600) -> None:
        """As if the process had died: only the database is left."""
        await self.stop()
        self.w.gremlin.quiet()
        await self.start(speed)

    @property
    def record(self) -> int:
        return self.source.view().record

    def heard_of(self, kind: type[Fact], market: str = "SOL-PERP") -> list[Any]:
        return [fact for fact in self.heard if isinstance(fact, kind) and fact.instrument == market]


@asynccontextmanager
async def playing(
    tapes: Mapping[str, Tape] | Tape,
    *,
    speed: int = 3600,
    start_s: float | None = None,
    paper: PaperSettings | None = None,
    opening: int = 3000,
    **settings: Any,
) -> AsyncIterator[Player]:
    """A tape alone is of SOL-PERP. ``settings`` are those of :func:`engine_harness.engine_settings`."""
    tapes = {"SOL-PERP": tapes} if isinstance(tapes, Tape) else tapes
    paper = PaperSettings(costs=FREE, quote_borrow_apr_pct=Decimal(0)) if paper is None else paper
    database = await HauntedDatabase.open(None, Durability.MEMORY)
    assert isinstance(database, HauntedDatabase)
    database.gremlin = Gremlin()
    w = World(engine_settings(**settings), paper, database, Decimal(opening), {}, START_S)
    player = Player(w, tapes, start_s)
    try:
        await player.start(speed)
        yield player
    finally:
        await player.stop()
        w.gremlin.quiet()
        await database.close()


async def quiet(work: Awaitable[Any]) -> bool:
    """Whether ``work`` still waits after everything else that can happen has happened."""
    task = asyncio.ensure_future(work)
    for _ in range(50):
        await asyncio.sleep(0)
    done = task.done()
    if not done:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return not done
