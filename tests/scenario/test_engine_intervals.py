"""A market whose funding comes every eight hours: windows, counts and ages are in its own intervals, rates in hours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from engine_harness import BOTH, PRICES, START_S, World, funding, held, rate_of, take, world
from msgspec.structs import replace

from deltatui.domain.carry import CarrySettings, Stance
from deltatui.domain.facts import Funding, Prices
from deltatui.domain.market import FundingRecord
from deltatui.venues.paper.settings import BTC_PERP, MARKETS, SOL_PERP

INTERVAL_S = 8 * 3600


@pytest.fixture(autouse=True)
def every_eight_hours() -> Iterator[None]:
    """SOL-PERP pays every eight hours, BTC-PERP every hour."""
    MARKETS["SOL-PERP"] = replace(SOL_PERP, funding_interval_s=INTERVAL_S)
    yield
    MARKETS["SOL-PERP"] = SOL_PERP


def eighth(number: int, apr_pct: float) -> FundingRecord:
    """The record of the ``number``-th interval: what eight hours at ``apr_pct`` a year pay."""
    rate = rate_of(apr_pct, PRICES["SOL-PERP"]) * 8
    return replace(funding(START_S + INTERVAL_S * number, rate), interval_s=INTERVAL_S)


async def hear(w: World, *records: FundingRecord) -> None:
    for record in records:
        await w.hear(Funding("SOL-PERP", "test", float(record.ts_s), record, priced=True))


async def test_rates_are_told_by_the_hour_and_by_the_year() -> None:
    async with world(primed=0) as w:
        await hear(w, *(eighth(n, 100.0) for n in range(1, 9)))
        (row,) = w.snapshot().opportunities
        assert row.apr_pct == pytest.approx(100.0, rel=1e-6)
        assert row.rate_8h_pct == pytest.approx(100.0 / 365 / 3, rel=1e-6)
        assert row.rate_hour_pct == pytest.approx(100.0 / 8760, rel=1e-6)
        mean = w.hedge.window.mean
        assert mean is not None
        assert mean.short_receives * 8760 == pytest.approx(1.0, rel=1e-6)


async def test_records_are_counted_whatever_their_interval() -> None:
    """Six until anything is judged, three in a row that agree: as of hourly ones, so two days and a half."""
    async with world(primed=0, automation=True) as w:
        await hear(w, *(eighth(n, 100.0) for n in range(1, 8)))
        assert held(w) is Stance.FLAT
        await hear(w, eighth(8, 100.0))
        assert held(w) is Stance.CARRY
        assert w.clock.market_s() == START_S + 8 * INTERVAL_S


async def test_the_windows_hold_as_many_records_as_they_have_intervals() -> None:
    async with world(primed=0, carry=CarrySettings(average_records=24)) as w:
        await hear(w, *(eighth(n, 100.0 if n <= 30 else 0.0) for n in range(1, 52)))
        hedge = w.hedge
        # A week is 21 of them.
        assert (len(hedge.window), len(hedge.week), hedge.week.records) == (24, 21, 21)
        week, average = hedge.week.mean, hedge.window.mean
        assert week is not None
        assert average is not None
        assert week.short_receives == 0.0
        assert average.short_receives * 8760 == pytest.approx(3 / 24, rel=1e-6)


async def test_a_restart_looks_back_in_intervals_too() -> None:
    async with world(primed=0) as w:
        records = [eighth(n, 100.0 - n) for n in range(1, 40)]
        await hear(w, *records)
        before = w.hedge.window.mean, w.hedge.week.mean, w.hedge.window.count
        await w.restart()
        assert (w.hedge.window.mean, w.hedge.week.mean) == before[:2]
        kept = await w.store.funding("SOL-PERP", 100)
        assert [record.interval_s for record in kept] == [INTERVAL_S] * 39
        assert w.hedge.window.interval_h == 8.0


@pytest.mark.parametrize(("after_s", "allowed"), [(2 * INTERVAL_S, True), (2 * INTERVAL_S + 1, False)])
async def test_a_record_is_stale_after_two_of_its_intervals(after_s: int, allowed: bool) -> None:
    async with world(primed=0) as w:
        await hear(w, *(eighth(n, 100.0) for n in range(1, 9)))
        at_s = w.clock.market_s() + after_s
        await w.hear(Prices("SOL-PERP", "test", at_s, PRICES["SOL-PERP"], PRICES["SOL-PERP"]))
        plan = w.engine.desk.assess.plan(take(5))
        (age,) = [verdict for verdict in w.engine.desk.assess.judge(plan) if verdict.code == "funding_age"]
        assert (age.allowed, age.limit) == (allowed, "<= 57,600 s")


async def test_beside_a_market_that_pays_hourly_each_has_its_own_age() -> None:
    async with world(primed=0, markets=BOTH) as w:
        hourly = [
            funding(START_S + 3600 * n, rate_of(100, PRICES["BTC-PERP"]), PRICES["BTC-PERP"]) for n in range(1, 9)
        ]
        for record in hourly:
            await w.hear(Funding("BTC-PERP", "test", float(record.ts_s), record, priced=True))
        await hear(w, *(eighth(n, 100.0) for n in range(1, 9)))
        limits = {}
        for symbol in BOTH:
            plan = w.engine.desk.assess.plan(take(5 if symbol == "SOL-PERP" else 0.01, market=symbol))
            (age,) = [verdict for verdict in w.engine.desk.assess.judge(plan) if verdict.code == "funding_age"]
            limits[symbol] = age.limit, age.allowed
        # The last hourly record is 56 hours old.
        assert limits == {"SOL-PERP": ("<= 57,600 s", True), "BTC-PERP": ("<= 7,200 s", False)}
        assert {symbol: hedge.week.records for symbol, hedge in w.core.hedges.items()} == {
            "SOL-PERP": 21,
            "BTC-PERP": 168,
        }
        assert MARKETS["BTC-PERP"] is BTC_PERP


async def test_the_next_record_is_due_after_an_interval() -> None:
    async with world(primed=0) as w:
        await hear(w, eighth(1, 100.0))
        market = w.core.world.market("SOL-PERP")
        assert market is not None
        assert market.next_funding_s == START_S + 2 * INTERVAL_S


async def test_an_interval_that_changes_counts_from_its_first_record_on() -> None:
    """A venue turns to hourly records: what a record pays is of its own hours, and so is what the hedge loses."""
    async with world(primed=0) as w:
        await hear(w, *(eighth(n, 100.0) for n in range(1, 9)))
        await w.take(5)
        assert held(w) is Stance.CARRY
        await hear(w, eighth(9, -50.0))
        after_eight = w.hedge.memory.carry
        assert after_eight.earned == pytest.approx(-0.5 / 8760 * 8, rel=1e-6)
        await w.change(spec=SOL_PERP)
        hour = funding(START_S + 9 * INTERVAL_S + 3600, rate_of(-50, PRICES["SOL-PERP"]))
        await hear(w, hour)
        assert w.hedge.memory.carry.earned - after_eight.earned == pytest.approx(-0.5 / 8760, rel=1e-6)
        plan = w.engine.desk.assess.plan(take(1))
        (age,) = [verdict for verdict in w.engine.desk.assess.judge(plan) if verdict.code == "funding_age"]
        assert age.limit == "<= 7,200 s"


async def test_records_that_come_before_the_first_price_are_decided_on_with_it() -> None:
    """A real venue tells its past funding before its prices, or before the account."""
    async with world(primed=0, priced=False) as w:
        for number in range(1, 9):
            record = eighth(number, 100.0)
            await w.hear(Funding("SOL-PERP", "test", float(record.ts_s), record, priced=False))
        assert w.hedge.memory.decision is None
        assert w.hedge.window.count == 0
        at_s = float(START_S + INTERVAL_S * 8 + 60)
        await w.hear(Prices("SOL-PERP", "test", at_s, PRICES["SOL-PERP"], PRICES["SOL-PERP"]))
        assert w.hedge.window.count == 8
        assert w.hedge.target is Stance.CARRY
        await w.hear(Prices("SOL-PERP", "test", at_s + 1, PRICES["SOL-PERP"], PRICES["SOL-PERP"]))
        assert w.hedge.window.count == 8
