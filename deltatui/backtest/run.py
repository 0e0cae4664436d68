"""Runs a policy over tapes (R16.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import msgspec

from deltatui.backtest.clock import SimulatedClock
from deltatui.backtest.course import Course, EquityPoint
from deltatui.backtest.refusals import wants_capital
from deltatui.backtest.result import AloneResult, BacktestResult, result_of
from deltatui.backtest.settings import BacktestSettings, Policy, Tapes, opening_notional, shared_span
from deltatui.domain.carry import Stance
from deltatui.domain.errors import ValidationError
from deltatui.engine.engine import Engine
from deltatui.engine.loop import Loop
from deltatui.engine.settings import EngineSettings
from deltatui.feeds.recorded import prices_at, records_in_order
from deltatui.store.database import Database, Durability
from deltatui.store.engine_store import EngineStore
from deltatui.store.memory import MemoryStore, MemoryTables
from deltatui.store.paper_tables import PaperTables
from deltatui.venues.paper.settings import MARKETS
from deltatui.venues.paper.venue import PaperVenue


async def run_backtest(tapes: Tapes, settings: BacktestSettings) -> tuple[BacktestResult, list[EquityPoint]]:
    """Play the whole of the span that the tapes share, by market. Raises ValidationError for a size or market the
    exchange does not take, and for tapes that share no time."""
    return await _run(tapes, settings, end_when_refused=False)


async def run_unrefused(tapes: Tapes, settings: BacktestSettings) -> BacktestResult | None:
    """As :func:`run_backtest`, but ends with None at the first entry that is refused for want of capital."""
    result, _ = await _run(tapes, settings, end_when_refused=True)
    return None if wants_capital(result.refused) else result


async def run_alone(tapes: Tapes, settings: BacktestSettings, basket: BacktestResult) -> dict[str, AloneResult]:
    """What each market of a basket would have made by itself (:class:`AloneResult`)."""
    if len(tapes) < 2:
        return {}
    equity, alone = Decimal(str(basket.equity_start_usd)), {}
    for symbol, tape in shared_span(tapes).items():
        of_one = msgspec.structs.replace(
            settings, markets={symbol: settings.markets[symbol]}, start_equity=equity, path=None
        )
        result, _ = await run_backtest({symbol: tape}, of_one)
        alone[symbol] = AloneResult(
            net_usd=result.equity_end_usd - result.equity_start_usd,
            funding_usd=result.funding_usd,
            fees_usd=result.fees_usd,
            trading_pnl_usd=result.trading_pnl_usd,
            interest_usd=result.interest_usd,
            switches=result.switches,
            time_in_market_pct=result.time_in_market_pct,
            max_drawdown_pct=result.max_drawdown_pct,
            result_hash=result.result_hash,
        )
    return alone


async def _run(
    tapes: Tapes, settings: BacktestSettings, *, end_when_refused: bool
) -> tuple[BacktestResult, list[EquityPoint]]:
    """``end_when_refused``: what comes back ends at the first entry that is refused for want of capital."""
    for symbol in tapes:
        if symbol not in MARKETS:
            raise ValidationError("UNKNOWN_MARKET", f"there is no market {symbol}; listed: {', '.join(MARKETS)}")
    tapes = shared_span(tapes)
    async with _memory(settings) as (store, tables):
        clock = SimulatedClock(float(next(iter(tapes.values())).first_s))
        venue = PaperVenue(
            [MARKETS[symbol] for symbol in tapes],
            msgspec.structs.replace(settings.paper, costs=settings.fees.costs, save_every=settings.batch),
            tables,
            clock,
        )
        await venue.open(_opening(tapes, settings), Decimal(0))
        engine = Engine(_engine_settings(tapes, settings), clock, venue, venue, store)
        course = await _play(tapes, settings, Loop(engine, clock, venue), engine, end_when_refused=end_when_refused)
        await venue.flush()
        await engine.core.save()
        return result_of(tapes, settings, engine, await store.ledger(), course), course.curve


@asynccontextmanager
async def _memory(
    settings: BacktestSettings,
) -> AsyncIterator[tuple[MemoryStore, MemoryTables] | tuple[EngineStore, PaperTables]]:
    """The engine's memory and the exchange's."""
    if settings.durability == Durability.MEMORY:
        yield MemoryStore(), MemoryTables()
        return
    database = await Database.open(settings.path, settings.durability)
    try:
        yield EngineStore(database), PaperTables(database)
    finally:
        await database.close()


def _opening(tapes: Tapes, settings: BacktestSettings) -> Decimal:
    if settings.start_equity is not None:
        return settings.start_equity
    return 2 * opening_notional(tapes, settings)


def _engine_settings(tapes: Tapes, settings: BacktestSettings) -> EngineSettings:
    hold = {Policy.ALWAYS_SHORT: Stance.CARRY, Policy.FLAT: Stance.FLAT, Policy.CARRY: None}[settings.policy]
    return EngineSettings(
        profile="backtest",
        mode="replay",
        limits=settings.limits,
        markets={symbol: settings.markets[symbol] for symbol in tapes},
        hold=hold,
        auto_limit_usd=float("inf"),
        max_market_usd=settings.max_market_usd,
        max_total_usd=settings.max_total_usd,
        loop_interval_s=60.0,
        save_interval_s=3600.0 * settings.batch,
        save_every_step=False,
    )


async def _play(
    tapes: Tapes, settings: BacktestSettings, loop: Loop, engine: Engine, *, end_when_refused: bool
) -> Course:
    await loop.begin([prices_at(symbol, tape, float(tape.first_s)) for symbol, tape in tapes.items()])
    await engine.step()
    await engine.automation.rest()
    if settings.policy == Policy.ALWAYS_SHORT:
        for symbol, hedge in engine.core.hedges.items():
            if hedge.held == Stance.FLAT:
                answer = engine.desk.last_results.get(symbol)
                reason = "it was not tried" if answer is None else answer.message
                raise ValidationError(
                    "NOT_TAKEN", f"the position in {symbol} could not be taken at the first record: {reason}"
                )
    course, automation = Course(engine), engine.automation
    for fact in records_in_order(tapes):
        await loop.take(fact)
        if not automation.resting:
            await automation.rest()
        course.see(fact.instrument, fact.record.ts_s)
        if end_when_refused and wants_capital(course.refusals.told()):
            break
    return course
