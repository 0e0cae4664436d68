"""What one command costs: every gate, the plan before them; and a snapshot of the engine's state on its way out."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

from bench.table import Row
from deltatui.api.protocol import SnapshotMessage, encode
from deltatui.backtest.clock import SimulatedClock
from deltatui.domain.command import Take
from deltatui.domain.gates import GateLimits
from deltatui.engine.engine import Engine
from deltatui.engine.settings import EngineSettings
from deltatui.engine.snapshots import SnapshotBuilder, Surroundings
from deltatui.feeds.tape import load_tape
from deltatui.store.database import Database, Durability
from deltatui.store.engine_store import EngineStore
from deltatui.store.paper_tables import PaperTables
from deltatui.venues.paper.settings import SOL_PERP, PaperSettings
from deltatui.venues.paper.venue import PaperVenue

GATES_US = 1_000.0
ROUNDS = 3_000
WARM_UP = 200
RECORDS = 400


def _percentiles(work: Callable[[], object]) -> tuple[float, float]:
    """p50 and p99 of the processor time of one call, in microseconds."""
    for _ in range(WARM_UP):
        work()
    took: list[float] = []
    for _ in range(ROUNDS):
        began_ns = time.thread_time_ns()
        work()
        took.append((time.thread_time_ns() - began_ns) / 1e3)
    cuts = statistics.quantiles(took, n=100)
    return cuts[49], cuts[98]


async def _measure() -> list[Row]:
    tape = load_tape()
    database = await Database.open(None, Durability.MEMORY)
    clock = SimulatedClock(float(tape.first_s))
    venue = PaperVenue(SOL_PERP, PaperSettings(), PaperTables(database), clock, "paper")
    await venue.open(tape.records[0].oracle_twap * 20, tape.records[0].oracle_twap)
    settings = EngineSettings(
        profile="bench",
        market=SOL_PERP.symbol,
        mode="replay",
        limits=GateLimits(max_leverage=10.0),
        carry_size_1e9=10**9,
        automation=False,
        confirm_above_usd=float("inf"),
    )
    engine = Engine(settings, clock, venue, venue, EngineStore(database))
    await venue.on_price(clock.market_s(), tape.records[0].oracle_twap, tape.records[0].mark_twap, interpolated=False)
    await engine.start()
    for record in tape.records[:RECORDS]:
        clock.advance_to(float(record.ts_s))
        await venue.on_record(record)
        await engine.step()
    desk = engine.desk
    take = Take(market=SOL_PERP.symbol, base_1e9=5 * 10**9)
    plan = desk.plan(take)
    verdicts = desk.judge(plan)
    if len(verdicts) < 10:
        raise AssertionError(f"only {len(verdicts)} gates were judged")
    gates = _percentiles(lambda: desk.judge(plan))
    whole = _percentiles(lambda: desk.judge(desk.plan(take)))
    builder = SnapshotBuilder(engine)
    around = Surroundings(clients=1, pid=1, started_operator_s=0.0, speed=1)
    build = _percentiles(lambda: builder.build(around))
    message = SnapshotMessage(builder.build(around))
    line = _percentiles(lambda: encode(message))
    size = len(encode(message))
    await database.close()
    names = f"{len(verdicts)} gates for one TAKE"
    return [
        Row(f"{names}, p50", gates[0], "us", GATES_US),
        Row(
            f"{names}, p99",
            gates[1],
            "us",
            GATES_US,
            beside=f"with the plan: p50 {whole[0]:.0f}, p99 {whole[1]:.0f} us",
        ),
        Row("snapshot, built, p50", build[0], "us", beside=f"p99 {build[1]:.0f} us"),
        Row("snapshot, encoded, p50", line[0], "us", beside=f"p99 {line[1]:.0f} us, {size:,} bytes"),
    ]


def measure() -> list[Row]:
    return asyncio.run(_measure())
