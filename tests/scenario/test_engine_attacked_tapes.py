"""Tapes that are taken away and come back, end at one moment, or are played by a source that dies."""

from __future__ import annotations

import asyncio

import msgspec
from engine_harness import BOTH, START_S, take
from replay_player import Player, playing, simulated
from test_engine_replay import of_two

from deltatui.domain.facts import Fact, Funding, MarketChange
from deltatui.venues.paper.settings import PaperFaults


async def restarted_with(p: Player, *symbols: str) -> None:
    """Only with the tapes of ``symbols``."""
    tapes = of_two(0, 60, 0, 60)
    p.tapes = {symbol: tapes[symbol] for symbol in symbols}
    p.w.settings = msgspec.structs.replace(p.w.settings, markets={symbol: BOTH[symbol] for symbol in symbols})
    await p.restart()


@simulated
async def test_what_a_tape_had_while_it_was_away_is_booked_and_not_traded_on_at_prices_that_are_over() -> None:
    """The records of two days were posted in one go, each decided on with the price of its hour."""
    tapes = of_two(0, 60, 0, 60)
    async with playing(tapes, markets=BOTH, automation=True) as p:
        await p.play(10.5)
        assert p.w.seen("BTC-PERP").perp_1e9 == -(10**7)
        await restarted_with(p, "SOL-PERP")
        await p.play(20.0)
        now_s = p.clock.market_s()
        assert now_s > START_S + 28 * 3600
        await restarted_with(p, "SOL-PERP", "BTC-PERP")
        market = p.w.core.world.market("BTC-PERP")
        assert market is not None
        assert market.as_of_s >= START_S + 28 * 3600
        begun = len(p.heard)
        await p.play(3.0)
        late = [f for f in p.heard[begun:] if isinstance(f, Funding) and f.source_s < START_S + 28 * 3600]
        assert late == []
        hedge = p.w.core.hedges["BTC-PERP"]
        assert hedge.window.count == tapes["BTC-PERP"].index_at(p.clock.market_s())
        await p.w.core.save()
        paid = [e for e in await p.w.store.ledger() if e.kind == "funding" and e.instrument == "BTC-PERP"]
        first_held = 8
        assert len(paid) == hedge.window.count - first_held
        await p.w.check()


@simulated
async def test_the_last_record_is_booked_although_the_engine_died_between_it_and_the_other_tape_s() -> None:
    """Both tapes end at one moment; the market was told to have ended before its last record came."""
    async with playing(of_two(0, 20, 0, 20), markets=BOTH) as p:
        await p.play(9.5)
        await p.w.sure(take(5))
        await p.w.sure(take(0.01, market="BTC-PERP"))
        await p.play(9.0)
        fatal_s = START_S + 19 * 3600.0
        taken = p.w.venue.take

        async def dies(fact: Fact) -> None:
            if isinstance(fact, Funding) and (fact.instrument, fact.source_s) == ("SOL-PERP", fatal_s):
                await never.wait()
            await taken(fact)

        never = asyncio.Event()
        p.w.venue.take = dies  # type: ignore[method-assign]
        await p.play(1.0)
        await p.restart()
        await p.play(3.0)
        await p.w.core.save()
        paid = [(e.instrument, e.market_s) for e in await p.w.store.ledger() if e.kind == "funding"]
        assert paid.count(("SOL-PERP", fatal_s)) == 1
        assert paid.count(("BTC-PERP", fatal_s)) == 1
        assert p.w.venue.last_record_s("SOL-PERP") == fatal_s
        for symbol in BOTH:
            market = p.w.core.world.market(symbol)
            assert market is not None
            assert market.ended
        await p.w.check()


@simulated
async def test_an_end_is_told_although_the_source_died_over_what_followed_from_the_last_record() -> None:
    """The source was started again behind the last record, and the market never ended."""
    async with playing(of_two(0, 10, 0, 30), markets=BOTH) as p:
        rest, died = p.source._tempo.rest, False

        async def dies_once() -> None:
            nonlocal died
            await rest()
            if not died and p.w.venue.last_record_s("SOL-PERP") == START_S + 9 * 3600:
                died = True
                raise RuntimeError("something nobody thought of")

        p.source._tempo.rest = dies_once  # type: ignore[method-assign]
        await p.play(8.5)
        task = p._tasks.pop()
        await asyncio.sleep(1.0)
        assert died
        assert task.done()
        task.exception()
        p._tasks.append(asyncio.ensure_future(p.source.run(p.loop.post)))
        await p.play(3.0)
        assert [fact.instrument for fact in p.heard if isinstance(fact, MarketChange)] == ["SOL-PERP"]


@simulated
async def test_an_odd_leg_is_found_although_its_market_was_not_carried_when_it_was_told() -> None:
    """Its fills were booked by an engine without that market, and the check that waited for them counted none."""
    async with playing(of_two(0, 60, 0, 60), markets=BOTH) as p:
        await p.play(9.5)
        p.w.with_faults(PaperFaults(odd_leg_rate=1.0))
        p.w.sender.mute = True
        assert (await p.w.sure(take(0.01, market="BTC-PERP"))).status == "unresolved"
        assert p.w.seen("BTC-PERP").perp_1e9 == -(10**7)
        await restarted_with(p, "SOL-PERP")
        await p.play(2.0)
        await p.w.core.save()
        await restarted_with(p, "SOL-PERP", "BTC-PERP")
        await p.play(1.0)
        assert (p.w.seen("BTC-PERP").spot_1e9, p.w.seen("BTC-PERP").perp_1e9) == (0, 0)
        await p.w.check()
