"""Runs a policy over a tape (R16.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec

from deltatui.backtest.clock import SimulatedClock
from deltatui.backtest.refusals import Refusals, RefusedEntries, wants_capital
from deltatui.domain.carry import CarrySettings, Stance
from deltatui.domain.command import ResultStatus
from deltatui.domain.costs import DRIFT_FEES, DRIFT_SLIPPAGE, NO_FEES, NO_SLIPPAGE, CostModel
from deltatui.domain.errors import CriticalError, ValidationError
from deltatui.domain.funding import fraction_to_apr_pct, hour_fractions
from deltatui.domain.gates import GateLimits
from deltatui.domain.health import LossLimits, watch_losses
from deltatui.domain.ledger import FlowKind, LedgerEntry
from deltatui.domain.units import base_from_text, base_to_decimal
from deltatui.engine.engine import Engine
from deltatui.engine.planner import stance_of
from deltatui.engine.settings import EngineSettings
from deltatui.engine.states import EngineState
from deltatui.feeds.tape import Tape
from deltatui.store.database import Database, Durability
from deltatui.store.engine_store import EngineStore
from deltatui.store.paper_tables import PaperTables
from deltatui.venues.paper.settings import MARKETS, PaperSettings
from deltatui.venues.paper.venue import PaperVenue

T = TypeVar("T")


class Policy(StrEnum):
    ALWAYS_SHORT = "always-short"
    FLAT = "flat"
    CARRY = "carry"


class Fees(StrEnum):
    NONE = "none"
    DRIFT = "drift"

    @property
    def costs(self) -> CostModel:
        return CostModel(NO_FEES, NO_SLIPPAGE) if self == Fees.NONE else CostModel(DRIFT_FEES, DRIFT_SLIPPAGE)


class BacktestSettings(msgspec.Struct, frozen=True):
    """``size_1e9`` is one leg in base. ``start_equity`` None: twice the opening notional. ``batch`` is how many records
    go into one commit of the exchange's tables and of the ledger. ``path`` is where the database goes; with durability
    MEMORY it is not used."""

    policy: Policy
    size_1e9: int
    fees: Fees = Fees.DRIFT
    market: str = "SOL-PERP"
    start_equity: Decimal | None = None
    carry: CarrySettings = CarrySettings()
    limits: GateLimits = GateLimits(max_leverage=10.0)
    paper: PaperSettings = PaperSettings()
    batch: int = 1000
    durability: Durability = Durability.MEMORY
    path: Path | None = None


class EquityPoint(msgspec.Struct, frozen=True):
    market_s: int
    equity: float
    stance: Stance


class EnoughCapital(msgspec.Struct, frozen=True):
    """A what-if: the same policy with the least start equity, in tenths of the opening notional (one leg at the
    tape's first price), at which no entry is refused for want of capital. ``net_per_base_usd`` is what one unit of
    base in each leg brings."""

    multiple: float
    equity_start_usd: float
    net_usd: float
    net_per_base_usd: float
    switches: int
    max_drawdown_pct: float


class BacktestResult(msgspec.Struct, frozen=True):
    """Cash flows positive when received (R10.4): fees are negative when paid.

    ``equity_end = equity_start + funding + fees + interest + trading_pnl``; trading PnL is realised and unrealised, of
    both legs. ``ledger_gap_usd`` is the difference between the exchange's equity and the ledger's, which is computed
    from the ledger's entries. A switch is a change of stance.

    ``refused_entries`` counts what the policy wanted to enter and was not let; ``refused`` tells it by gate.
    ``enough_capital`` None: nothing was refused for want of capital, or no multiple was enough, or nobody looked
    (:func:`run_backtest` alone does not).
    """

    tape: str
    tape_digest: str
    policy: str
    market: str
    size: float
    fees: str
    points: int
    first_s: int
    last_s: int
    funding_usd: float
    fees_usd: float
    interest_usd: float
    trading_pnl_usd: float
    equity_start_usd: float
    equity_end_usd: float
    switches: int
    time_in_market_pct: float
    max_drawdown_pct: float
    ledger_gap_usd: float
    round_trip_bps: float
    mean_short_apr_pct: float
    entries: int
    state: str
    result_hash: str
    refused_entries: int = 0
    refused: tuple[RefusedEntries, ...] = ()
    enough_capital: EnoughCapital | None = None


def size_from_text(text: str, market: str = "SOL-PERP") -> int:
    """A size for the market, in base 1e9. Raises ValidationError for anything the market would not trade."""
    spec = MARKETS.get(market)
    if spec is None:
        raise ValidationError("UNKNOWN_MARKET", f"there is no market {market}; listed: {', '.join(MARKETS)}")
    size = base_from_text(text)
    least, step = base_to_decimal(spec.min_base_1e9), base_to_decimal(spec.step_base_1e9)
    if size < spec.min_base_1e9:
        raise ValidationError("BAD_SIZE", f"size {text} is too small; the least is {least:f} {spec.base_symbol}")
    if size % spec.step_base_1e9 or base_to_decimal(size) != Decimal(text):
        raise ValidationError("BAD_SIZE", f"size {text} is no multiple of the step {step:f} {spec.base_symbol}")
    return size


async def run_backtest(tape: Tape, settings: BacktestSettings) -> tuple[BacktestResult, list[EquityPoint]]:
    """Play the whole tape. Raises ValidationError for a size or market the exchange does not take."""
    return await _run(tape, settings, end_when_refused=False)


async def run_unrefused(tape: Tape, settings: BacktestSettings) -> BacktestResult | None:
    """As :func:`run_backtest`, but ends with None at the first entry that is refused for want of capital."""
    result, _ = await _run(tape, settings, end_when_refused=True)
    return None if wants_capital(result.refused) else result


async def _run(
    tape: Tape, settings: BacktestSettings, *, end_when_refused: bool
) -> tuple[BacktestResult, list[EquityPoint]]:
    """``end_when_refused``: what comes back ends at the first entry that is refused for want of capital."""
    spec = MARKETS.get(settings.market)
    if spec is None:
        raise ValidationError("UNKNOWN_MARKET", f"there is no market {settings.market}; listed: {', '.join(MARKETS)}")
    database = await Database.open(settings.path, settings.durability)
    try:
        clock = SimulatedClock(float(tape.first_s))
        venue = PaperVenue(
            spec,
            msgspec.structs.replace(settings.paper, costs=settings.fees.costs, save_every=settings.batch),
            PaperTables(database),
            clock,
            "paper",
        )
        first = tape.records[0]
        opening = settings.start_equity
        if opening is None:
            opening = 2 * base_to_decimal(settings.size_1e9) * first.oracle_twap
        await venue.open(opening, Decimal(0))
        store = EngineStore(database)
        engine = Engine(_engine_settings(settings), clock, venue, venue, store)
        course = await _play(tape, settings, clock, venue, engine, end_when_refused=end_when_refused)
        return await _result(tape, settings, venue, engine, store, course), course.curve
    finally:
        await database.close()


def _engine_settings(settings: BacktestSettings) -> EngineSettings:
    hold = {Policy.ALWAYS_SHORT: Stance.CARRY, Policy.FLAT: Stance.FLAT, Policy.CARRY: None}[settings.policy]
    return EngineSettings(
        profile="backtest",
        market=settings.market,
        mode="replay",
        limits=settings.limits,
        carry_size_1e9=settings.size_1e9,
        hold=hold,
        carry=settings.carry,
        auto_limit_usd=float("inf"),
        loop_interval_s=60.0,
        save_interval_s=3600.0 * settings.batch,
        save_every_step=False,
    )


class _Course:
    """What is seen of a run from record to record."""

    def __init__(self, engine: Engine, venue: PaperVenue, symbol: str) -> None:
        self.curve: list[EquityPoint] = []
        self.switches = self.in_market = 0
        self.max_drawdown_pct = Decimal(0)
        self.refusals = Refusals()
        self._engine, self._venue, self._symbol = engine, venue, symbol
        self._held = Stance.FLAT
        self._answered = engine.desk.last_result

    def see(self, ts_s: int, held_1e9: int, held_at_step_1e9: int) -> None:
        """After the engine took a record in: ``held_1e9`` was the perp before it, ``held_at_step_1e9`` when the engine
        was asked."""
        account = _known(self._venue.account(self._symbol))
        after = stance_of(account.perp_1e9)
        if after is not self._held:
            self.switches += 1
            self._held = after
        self.in_market += held_1e9 != 0
        self.curve.append(EquityPoint(ts_s, float(account.equity), after))
        core, answer = self._engine.core, self._engine.desk.last_result
        drawdown_pct = core.flags.losses.max_drawdown_pct
        if answer is not None and answer is not self._answered:
            self._answered = answer
            # The engine looked before it traded; what that trade cost is part of the curve too.
            losses, _ = watch_losses(
                core.flags.losses, LossLimits(), account.equity, core.accountant.transfers, account.as_of_s
            )
            drawdown_pct = losses.max_drawdown_pct
            # From flat nothing but an entry is ever tried.
            if not held_at_step_1e9 and not account.perp_1e9 and answer.status == ResultStatus.REJECTED:
                self.refusals.add(answer, self._wanted(), ts_s)
        self.max_drawdown_pct = max(self.max_drawdown_pct, drawdown_pct)

    def _wanted(self) -> Stance:
        core = self._engine.core
        if core.settings.hold is not None:
            return core.settings.hold
        return Stance.FLAT if core.decision is None else core.decision.target


async def _play(
    tape: Tape,
    settings: BacktestSettings,
    clock: SimulatedClock,
    venue: PaperVenue,
    engine: Engine,
    *,
    end_when_refused: bool,
) -> _Course:
    first = tape.records[0]
    await venue.on_price(float(first.ts_s), first.oracle_twap, first.mark_twap, interpolated=False)
    await engine.start()
    await engine.step()
    if settings.policy == Policy.ALWAYS_SHORT and venue.perp_1e9 == 0:
        reason = engine.desk.last_result.message if engine.desk.last_result is not None else "it was not tried"
        raise ValidationError("NOT_TAKEN", f"the position could not be taken at the first record: {reason}")
    course = _Course(engine, venue, settings.market)
    for record in tape.records:
        clock.advance_to(float(record.ts_s))
        before = venue.perp_1e9
        await venue.on_record(record)
        at_step = venue.perp_1e9
        await engine.step()
        course.see(record.ts_s, before, at_step)
        if end_when_refused and wants_capital(course.refusals.told()):
            break
    await venue.flush()
    await engine.core.save()
    return course


def _known(known: T | None) -> T:
    if known is None:
        raise CriticalError("NO_ACCOUNT", "the paper exchange lost its account")
    return known


async def _result(
    tape: Tape,
    settings: BacktestSettings,
    venue: PaperVenue,
    engine: Engine,
    store: EngineStore,
    course: _Course,
) -> BacktestResult:
    symbol, core = settings.market, engine.core
    account, market = _known(venue.account(symbol)), _known(venue.market(symbol))
    entries = await store.ledger()
    books = core.accountant.books
    totals = _totals(entries)
    marks = core.accountant.marks(market, account)
    unrealized = books.unrealized(marks, spot=False) + books.unrealized(marks, spot=True)
    trading = totals[FlowKind.TRADING_PNL] + unrealized
    fees = totals[FlowKind.FEE] + totals[FlowKind.TIP] + totals[FlowKind.GAS]
    ledger_equity = books.opening_equity + sum(totals.values()) + unrealized
    return BacktestResult(
        tape=tape.name,
        tape_digest=tape.digest,
        policy=settings.policy,
        market=symbol,
        size=float(base_to_decimal(settings.size_1e9)),
        fees=settings.fees,
        points=len(tape),
        first_s=tape.first_s,
        last_s=tape.last_s,
        funding_usd=float(totals[FlowKind.FUNDING]),
        fees_usd=float(fees),
        interest_usd=float(totals[FlowKind.INTEREST]),
        trading_pnl_usd=float(trading),
        equity_start_usd=float(books.opening_equity),
        equity_end_usd=float(account.equity),
        switches=course.switches,
        time_in_market_pct=100.0 * course.in_market / len(tape),
        max_drawdown_pct=float(course.max_drawdown_pct),
        ledger_gap_usd=abs(float(account.equity - ledger_equity)),
        round_trip_bps=core.round_trip().total * 1e4,
        mean_short_apr_pct=_mean_short_apr_pct(tape),
        entries=len(entries),
        state=core.state if core.state != EngineState.HALTED else f"HALTED: {core.state_reason}",
        result_hash=result_hash(entries),
        refused_entries=course.refusals.entries,
        refused=course.refusals.told(),
    )


def _mean_short_apr_pct(tape: Tape) -> float:
    fractions = [hour_fractions(record).short_receives for record in tape.records]
    return fraction_to_apr_pct(sum(fractions) / len(fractions))


def _totals(entries: Iterable[LedgerEntry]) -> dict[FlowKind, Decimal]:
    totals = dict.fromkeys(FlowKind, Decimal(0))
    for entry in entries:
        totals[entry.kind] += entry.amount
    return totals


def result_hash(entries: Iterable[LedgerEntry]) -> str:
    """SHA-256 over the ledger's entries, in order, amounts exact."""
    digest = hashlib.sha256()
    for entry in entries:
        line = f"{entry.sequence}|{entry.market_s:.3f}|{entry.kind}|{entry.instrument}|{entry.amount}\n"
        digest.update(line.encode())
    return digest.hexdigest()
