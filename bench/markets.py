"""A snapshot of an account with many markets, after a price has changed; and what one market's detail costs."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Callable
from decimal import Decimal

import msgspec

from bench.table import Row
from deltatui.backtest.clock import SimulatedClock
from deltatui.domain.command import ResultStatus, Take
from deltatui.domain.facts import Funding, Prices
from deltatui.domain.gates import GateLimits
from deltatui.domain.market import FundingRecord, MarketSpec
from deltatui.domain.principal import OPERATOR
from deltatui.engine.engine import Engine
from deltatui.engine.loop import Loop
from deltatui.engine.settings import EngineSettings, MarketSettings
from deltatui.engine.snapshots import SnapshotBuilder, Surroundings
from deltatui.store.database import Database, Durability
from deltatui.store.engine_store import EngineStore
from deltatui.store.paper_tables import PaperTables
from deltatui.venues.paper.settings import SOL_PERP, PaperSettings
from deltatui.venues.paper.venue import PaperVenue

MARKETS, HELD = 50, 20
SNAPSHOT_MS = 2.0
"""Most that a snapshot may take of the processor, half of the time."""
ROUNDS = 300
HOURS = 30
START_S = 1_700_000_000
PRICE = Decimal(150)
RATE = Decimal("0.05")


def _specs() -> list[MarketSpec]:
    return [
        msgspec.structs.replace(
            SOL_PERP, symbol=f"M{number:02}-PERP", base_symbol=f"M{number:02}", perp_index=number, spot_index=number
        )
        for number in range(10, 10 + MARKETS)
    ]


class _Account:
    """An engine that carries all markets and holds a hedge in some of them."""

    def __init__(self, database: Database) -> None:
        self.specs = _specs()
        self._clock = SimulatedClock(float(START_S))
        self._venue = PaperVenue(self.specs, PaperSettings(), PaperTables(database), self._clock)
        settings = EngineSettings(
            profile="bench",
            mode="replay",
            limits=GateLimits(max_leverage=10.0),
            markets={spec.symbol: MarketSettings(10**9) for spec in self.specs},
            automation=False,
            confirm_above_usd=1_000.0,
            position_ops_per_min=MARKETS,
        )
        self.engine = Engine(settings, self._clock, self._venue, self._venue, EngineStore(database))
        self._loop = Loop(self.engine, self._clock, self._venue)
        self._now_s = float(START_S)

    async def open(self) -> None:
        await self._venue.open(Decimal(200_000), Decimal(1_000))
        await self._loop.begin([Prices(spec.symbol, "bench", self._now_s, PRICE, PRICE) for spec in self.specs])
        for hour in range(1, HOURS + 1):
            self._now_s = float(START_S + 3600 * hour)
            record = FundingRecord(int(self._now_s), RATE, RATE, RATE, PRICE, PRICE, Decimal(0))
            for spec in self.specs:
                await self._loop.take(Funding(spec.symbol, "bench", self._now_s, record, True))
        for spec in self.specs[:HELD]:
            result = await self.engine.submit(Take(market=spec.symbol, base_1e9=10**9), OPERATOR)
            if result.status is not ResultStatus.DONE:
                raise AssertionError(f"{spec.symbol} was not taken: {result.message}")

    async def new_price(self, number: int) -> None:
        self._now_s += 1.0
        price = PRICE + Decimal(number % 50) / 100
        symbol = self.specs[number % MARKETS].symbol
        await self._loop.take(Prices(symbol, "bench", self._now_s, price, price))


def _ms(work: Callable[[], object]) -> float:
    began_ns = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - began_ns) / 1e6


async def _measure() -> list[Row]:
    database = await Database.open(None, Durability.MEMORY)
    account = _Account(database)
    await account.open()
    builder, around = SnapshotBuilder(account.engine), Surroundings(1, 1, float(START_S), 1)
    snapshot = builder.build(around)
    if (len(snapshot.hedges), len(snapshot.positions)) != (MARKETS, 2 * HELD):
        raise AssertionError(f"{len(snapshot.hedges)} markets and {len(snapshot.positions)} legs are shown")
    gc.collect()
    gc.freeze()
    whole: list[float] = []
    details: list[float] = []
    for number in range(ROUNDS):
        await account.new_price(number)
        whole.append(_ms(lambda: builder.build(around)))
        details.append(_ms(lambda: builder.detail(account.specs[0].symbol, snapshot.version)))
    gc.unfreeze()
    await database.close()
    what = f"snapshot of {MARKETS} markets, {HELD} of them held, after a price change"
    p99 = statistics.quantiles(whole, n=100)[98]
    return [
        Row(f"{what}, p50", statistics.median(whole), "ms", SNAPSHOT_MS, beside=f"p99 {p99:.2f} ms"),
        Row("the detail of one of them, p50", statistics.median(details), "ms"),
    ]


def measure() -> list[Row]:
    return asyncio.run(_measure())
