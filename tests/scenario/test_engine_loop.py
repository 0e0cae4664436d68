"""What sources post and what the engine takes of it: the newest price, every record once and in order, and no more than
the loop has room for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from engine_harness import BOTH, GAP, HOUR_S, World, funding, rate_of, world
from replay_player import quiet

from deltatui.domain.facts import Fact, Funding, MarketChange, Prices
from deltatui.engine.loop import Loop


class Drained:
    """A loop that drains what is posted; what the engine hears of it, in order."""

    def __init__(self, w: World) -> None:
        self.w = w
        self.loop: Loop = w.loop
        self.heard: list[Fact] = []
        self.gate = asyncio.Event()
        """While it is not set the engine is busy with what it has."""
        self.gate.set()
        self.task: asyncio.Task[None] | None = None
        take = w.engine.take

        async def heard(fact: Fact) -> None:
            self.heard.append(fact)
            await self.gate.wait()
            await take(fact)

        w.engine.take = heard  # type: ignore[method-assign]

    def drain(self) -> None:
        self.task = asyncio.ensure_future(self.loop.drain())

    async def done(self, work: Coroutine[Any, Any, None]) -> None:
        """Returns when it does; fails where it waits for ever."""
        await asyncio.wait_for(work, 5)


@asynccontextmanager
async def drained(**options: Any) -> AsyncIterator[Drained]:
    async with world(**options) as w:
        d = Drained(w)
        try:
            yield d
        finally:
            if d.task is not None:
                d.task.cancel()
                await asyncio.gather(d.task, return_exceptions=True)


def price(d: Drained, oracle: int, *, market: str = "SOL-PERP", source: str = "test", after_s: float = 1.0) -> Prices:
    return Prices(market, source, d.w.clock.market_s() + after_s, Decimal(oracle), Decimal(oracle))


def record(d: Drained, hours: int, apr_pct: float = 100.0, *, market: str = "SOL-PERP") -> Funding:
    at_s = int(d.w.clock.market_s()) // HOUR_S * HOUR_S + hours * HOUR_S
    of = d.w.prices[market]
    return Funding(market, "test", float(at_s), funding(at_s, rate_of(apr_pct, of), of), priced=True)


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


# Prices


async def test_of_prices_the_newest_wins_and_nobody_waits() -> None:
    async with drained(markets=BOTH) as d:
        newest = [price(d, 160, after_s=3.0), price(d, 101_000, market="BTC-PERP", after_s=3.0)]
        for oracle in (151, 152, 153):
            await d.done(d.loop.post(price(d, oracle)))
        for fact in newest:
            await d.done(d.loop.post(fact))
        d.drain()
        await settle()
        assert d.heard == newest
        market = d.w.core.world.market("SOL-PERP")
        assert market is not None
        assert market.oracle == 160


async def test_prices_of_two_sources_are_two_things() -> None:
    """Which of them is believed is not the loop's to say."""
    async with drained() as d:
        facts = [price(d, 151, source="one"), price(d, 152, source="other")]
        for fact in (price(d, 150, source="one"), *facts):
            await d.done(d.loop.post(fact))
        d.drain()
        await settle()
        assert d.heard == facts


async def test_a_newer_price_stands_where_it_was_posted() -> None:
    """After the record that was posted between the two, not before it."""
    async with drained() as d:
        old, new, between = price(d, 151), price(d, 152, after_s=7200.0), record(d, 1)
        await d.done(d.loop.post(old))
        waiting = asyncio.ensure_future(d.loop.post(between))
        await settle()
        await d.done(d.loop.post(new))
        d.drain()
        await d.done(wait(waiting))
        await settle()
        assert d.heard == [between, new]


async def wait(task: asyncio.Task[None]) -> None:
    await task


# Records and changes


async def test_three_records_between_two_steps_are_judged_three_times() -> None:
    async with drained() as d:
        before = d.w.hedge.window.count
        facts = [record(d, hours, apr) for hours, apr in ((1, 50.0), (2, -70.0), (3, 90.0))]
        posts = [asyncio.ensure_future(d.loop.post(fact)) for fact in facts]
        await settle()
        assert not any(post.done() for post in posts)
        d.drain()
        await d.done(all_of(posts))
        assert d.heard == facts
        assert d.w.hedge.window.count == before + 3
        await d.w.core.save()
        kept = await d.w.store.funding("SOL-PERP", 3)
        assert list(kept) == [fact.record for fact in facts]


async def all_of(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks)


async def test_a_record_that_is_told_twice_counts_once() -> None:
    async with drained() as d:
        d.drain()
        before, fact = d.w.hedge.window.count, record(d, 1)
        await d.done(d.loop.post(fact))
        await d.done(d.loop.post(fact))
        assert d.heard == [fact, fact]
        assert d.w.hedge.window.count == before + 1


async def test_changes_of_a_market_are_each_taken() -> None:
    async with drained() as d:
        now_s = d.w.clock.market_s()
        changes = [MarketChange("SOL-PERP", "test", now_s, paused=why) for why in ("an upgrade", "", "another")]
        posts = [asyncio.ensure_future(d.loop.post(change)) for change in changes]
        d.drain()
        await d.done(all_of(posts))
        assert d.heard == changes


async def test_records_of_a_market_that_is_not_carried_change_nothing() -> None:
    async with drained() as d:
        d.drain()
        before = d.w.core.world.market("SOL-PERP")
        at_s = d.w.clock.market_s() + HOUR_S
        stranger = Funding("BTC-PERP", "test", at_s, funding(int(at_s), "1", Decimal(100_000)), priced=True)
        await d.done(d.loop.post(stranger))
        assert d.w.core.world.market("BTC-PERP") is None
        assert d.w.core.world.market("SOL-PERP") is before


# Back-pressure


async def test_a_source_of_records_is_held_while_the_engine_is_busy() -> None:
    async with drained() as d:
        d.drain()
        d.gate.clear()
        first = asyncio.ensure_future(d.loop.post(record(d, 1)))
        await settle()
        assert len(d.heard) == 1
        # The next record waits, however often it is looked; a price never does, and the newest is enough.
        assert await quiet(d.loop.post(record(d, 2)))
        assert not first.done()
        for oracle in range(151, 171):
            await d.done(d.loop.post(price(d, oracle, after_s=8000.0)))
        d.gate.set()
        await d.done(wait(first))
        await settle()
        assert [type(fact) for fact in d.heard] == [Funding, Funding, Prices]
        assert isinstance(d.heard[-1], Prices)
        assert d.heard[-1].oracle == 170


async def test_a_fact_that_kills_the_loop_holds_no_source_for_ever() -> None:
    """The supervisor starts the loop again, and what had been posted meanwhile is still there."""
    async with drained() as d:
        take = d.w.engine.take
        dies = True

        async def broken(fact: Fact) -> None:
            if dies:
                raise RuntimeError("a fault of the program")
            await take(fact)

        d.w.engine.take = broken  # type: ignore[method-assign]
        first, second = record(d, 1), record(d, 2)
        posts = [asyncio.ensure_future(d.loop.post(fact)) for fact in (first, second)]
        await settle()
        d.drain()
        assert d.task is not None
        with pytest.raises(RuntimeError, match="a fault of the program"):
            await asyncio.wait_for(d.task, 5)
        await settle()
        assert [post.done() for post in posts] == [True, False]
        dies = False
        d.drain()
        await d.done(all_of(posts))
        assert d.heard == [second]


# The disk


async def test_what_the_exchange_has_not_saved_the_engine_does_not_learn() -> None:
    """R9.7: the exchange may forget it; nothing is judged or traded on it before it is on disk."""
    async with drained() as d:
        d.drain()
        await settle()
        heard_when_saved: list[int] = []
        flush = d.w.venue.flush

        async def noted() -> None:
            heard_when_saved.append(len(d.heard))
            await flush()

        d.w.venue.flush = noted  # type: ignore[method-assign]
        before = d.w.hedge.window.count
        d.w.gremlin.refuse(times=4)
        await d.done(d.loop.post(record(d, 1)))
        assert heard_when_saved
        assert set(heard_when_saved[:3]) == {0}
        assert len(d.heard) == 1
        assert d.w.hedge.window.count == before + 1
        assert "paper store" not in d.w.core.board.alerts
        await d.w.check()


async def test_time_passes_for_the_exchange_before_the_engine_looks() -> None:
    """Clock, exchange, engine, in this order: interest and funding of a record are booked when it is judged."""
    async with drained() as d:
        await d.w.take(5)
        seen: list[tuple[float, Decimal]] = []
        take = d.w.engine.take

        async def looked(fact: Fact) -> None:
            account = d.w.venue.account()
            assert account is not None
            seen.append((d.w.clock.market_s(), account.perps["SOL-PERP"].unsettled))
            await take(fact)

        d.w.engine.take = looked  # type: ignore[method-assign]
        before = d.w.account.unsettled
        fact = record(d, 1)
        await d.loop.take(fact)
        ((at_s, unsettled),) = seen
        assert at_s == fact.source_s
        assert abs(unsettled - before - 5 * fact.record.rate_short) < GAP
