"""What one command costs: its plan and every gate; and a snapshot of the engine's state on its way out."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from itertools import islice

from bench.table import Row
from deltatui.api.protocol import SnapshotMessage, encode
from deltatui.backtest.clock import SimulatedClock
from deltatui.domain.command import Confirm, ResultStatus, Take
from deltatui.domain.facts import Prices
from deltatui.domain.gates import GateLimits
from deltatui.domain.principal import OPERATOR
from deltatui.engine.engine import Engine
from deltatui.engine.loop import Loop
from deltatui.engine.settings import EngineSettings, MarketSettings
from deltatui.engine.snapshots import SnapshotBuilder, Surroundings
from deltatui.feeds.recorded import prices_at, records_in_order
from deltatui.feeds.tape import shipped_tape
from deltatui.store.database import Database, Durability
from deltatui.store.engine_store import EngineStore
from deltatui.store.paper_tables import PaperTables
from deltatui.venues.paper.settings import SOL_PERP, PaperSettings
from deltatui.venues.paper.venue import PaperVenue

P50_US, P99_US = 100.0, 200.0
"""Most that plan and gates of one command may take of the processor."""
ROUNDS = 3_000
WARM_UP = 200
RECORDS = 400


async def _percentiles(
    work: Callable[[], object], before: Callable[[], Awaitable[object]] | None = None
) -> tuple[float, float]:
    """p50 and p99 of the processor time of one call, in microseconds; ``before`` each call and not counted, something
    new to look at."""
    took: list[float] = []
    for _ in range(WARM_UP + ROUNDS):
        if before is not None:
            await before()
        began_ns = time.thread_time_ns()
        work()
        took.append((time.thread_time_ns() - began_ns) / 1e3)
    cuts = statistics.quantiles(took[WARM_UP:], n=100)
    return cuts[49], cuts[98]


async def _measure() -> list[Row]:
    tape = shipped_tape(SOL_PERP.symbol)
    database = await Database.open(None, Durability.MEMORY)
    clock = SimulatedClock(float(tape.first_s))
    venue = PaperVenue([SOL_PERP], PaperSettings(), PaperTables(database), clock, "paper")
    await venue.open(tape.records[0].oracle_twap * 20, tape.records[0].oracle_twap)
    settings = EngineSettings(
        profile="bench",
        mode="replay",
        limits=GateLimits(max_leverage=10.0),
        markets={SOL_PERP.symbol: MarketSettings(10**9)},
        automation=False,
        confirm_above_usd=0.0,
    )
    engine = Engine(settings, clock, venue, venue, EngineStore(database))
    loop = Loop(engine, clock, venue)
    await loop.begin([prices_at(SOL_PERP.symbol, tape, clock.market_s())])
    for fact in islice(records_in_order({SOL_PERP.symbol: tape}), RECORDS):
        await loop.take(fact)
    assess = engine.desk.assess
    take = Take(market=SOL_PERP.symbol, base_1e9=5 * 10**9)
    # An account with a hedge has more to reckon with than a flat one.
    asked = await engine.submit(take, OPERATOR)
    held = await engine.submit(Confirm(operation_id=asked.operation_id, force=True), OPERATOR)
    if held.status is not ResultStatus.DONE:
        raise AssertionError(f"there is no hedge to add to: {held.message}")

    async def new_price() -> None:
        """Nothing that was reckoned for the last command can be used for the next."""
        now_s = clock.market_s() + 1.0
        price = fact.record.oracle_twap + Decimal(int(now_s) % 100) / 1000
        await loop.take(Prices(SOL_PERP.symbol, "bench", now_s, price, price, True))

    plan = assess.plan(take)
    verdicts = assess.judge(plan)
    if len(verdicts) < 10:
        raise AssertionError(f"only {len(verdicts)} gates were judged")
    # As the engine's process does once it is up: no collection looks at the program and the tape again.
    gc.collect()
    gc.freeze()
    whole = await _percentiles(lambda: assess.judge(assess.plan(take)), new_price)
    gates = await _percentiles(lambda: assess.judge(plan))
    builder = SnapshotBuilder(engine)
    around = Surroundings(clients=1, pid=1, started_operator_s=0.0, speed=1)
    build = await _percentiles(lambda: builder.build(around))
    message = SnapshotMessage(builder.build(around))
    line = await _percentiles(lambda: encode(message))
    size = len(encode(message))
    gc.unfreeze()
    await database.close()
    name, alone = f"plan and {len(verdicts)} gates for one TAKE", "the gates alone:"
    return [
        Row(f"{name}, p50", whole[0], "us", P50_US, beside=f"{alone} {gates[0]:.0f} us"),
        Row(f"{name}, p99", whole[1], "us", P99_US, beside=f"{alone} {gates[1]:.0f} us"),
        Row("snapshot, built, p50", build[0], "us", beside=f"p99 {build[1]:.0f} us"),
        Row("snapshot, encoded, p50", line[0], "us", beside=f"p99 {line[1]:.0f} us, {size:,} bytes"),
    ]


def measure() -> list[Row]:
    return asyncio.run(_measure())
