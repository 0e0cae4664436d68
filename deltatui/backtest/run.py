"""Runs a policy over a tape (R16.1)."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec

from deltatui.backtest.clock import SimulatedClock
from deltatui.backtest.refusals import Refusals, RefusedEntries, wants_capital
from deltatui.domain.carry import Stance
from deltatui.domain.command import ResultStatus, SpotSource
from deltatui.domain.costs import DRIFT_FEES, DRIFT_SLIPPAGE, NO_FEES, NO_SLIPPAGE, CostModel
from deltatui.domain.errors import CriticalError, ValidationError
from deltatui.domain.funding import fraction_to_apr_pct, hour_fractions
from deltatui.domain.gates import GateLimits
from deltatui.domain.health import LossLimits, watch_losses
from deltatui.domain.ledger import FlowKind, LedgerEntry
from deltatui.domain.units import base_from_text, base_to_decimal
from deltatui.engine.core import Core
from deltatui.engine.engine import Engine
from deltatui.engine.hedge import Hedge
from deltatui.engine.loop import Loop
from deltatui.engine.planner import stance_of, take_sizes
from deltatui.engine.settings import EngineSettings, MarketSettings
from deltatui.engine.states import EngineState
from deltatui.feeds.recorded import prices_at, records_in_order
from deltatui.feeds.tape import Tape
from deltatui.ports import NO_PERP
from deltatui.store.database import Database, Durability
from deltatui.store.engine_store import EngineStore
from deltatui.store.memory import MemoryStore, MemoryTables
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
    """``markets`` are what is played, with the size of one leg in each. ``start_equity`` None: twice the opening
    notionals of all. ``batch`` is how many records go into one commit of the exchange's tables and of the ledger.
    ``path`` is where the database goes; with durability MEMORY there is none."""

    policy: Policy
    markets: Mapping[str, MarketSettings]
    fees: Fees = Fees.DRIFT
    start_equity: Decimal | None = None
    limits: GateLimits = GateLimits(max_leverage=10.0)
    paper: PaperSettings = PaperSettings()
    max_market_usd: float | None = None
    max_total_usd: float | None = None
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
    net_per_base_usd: float | None
    switches: int
    max_drawdown_pct: float


class MarketResult(msgspec.Struct, frozen=True):
    """What one market brought; cash flows positive when received. ``interest_usd`` is of its spot asset,
    ``trading_pnl_usd`` realised and unrealised, of both legs; ``contribution_usd`` is the sum."""

    size: float
    funding_usd: float
    fees_usd: float
    trading_pnl_usd: float
    interest_usd: float
    contribution_usd: float
    switches: int
    round_trip_bps: float
    mean_short_apr_pct: float


class AccountResult(msgspec.Struct, frozen=True):
    """What is of no market: ``interest_usd`` on the quote balance, and debts that were written off."""

    interest_usd: float
    write_offs_usd: float = 0.0


class AloneResult(msgspec.Struct, frozen=True):
    """The same policy on one market alone, over the shared span and with the basket's whole equity."""

    net_usd: float
    funding_usd: float
    fees_usd: float
    trading_pnl_usd: float
    interest_usd: float
    switches: int
    time_in_market_pct: float
    max_drawdown_pct: float
    result_hash: str


class BacktestResult(msgspec.Struct, frozen=True):
    """Cash flows positive when received (R10.4): fees are negative when paid.

    ``equity_end = equity_start + funding + fees + interest + trading_pnl``; trading PnL is realised and unrealised, of
    both legs. ``ledger_gap_usd`` is the difference between the exchange's equity and the ledger's, which is computed
    from the ledger's entries. A switch is a change of stance.

    Of several tapes the shared span is played; ``market`` is then joined by "+", ``size`` None, ``tape_digest`` the
    digest of the digests, and rates are weighted with the opening notionals. ``markets`` and ``account`` together are
    the whole; ``alone`` is empty where there is one market, or nobody looked.

    ``refused_entries`` counts what the policy wanted to enter and was not let; ``refused`` tells it by gate.
    ``enough_capital`` None: nothing was refused for want of capital, or no multiple was enough, or nobody looked
    (:func:`run_backtest` alone does not).
    """

    tape: str
    tape_digest: str
    policy: str
    market: str
    size: float | None
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
    markets: Mapping[str, MarketResult] = {}
    account: AccountResult | None = None
    alone: Mapping[str, AloneResult] = {}


def size_from_text(text: str, market: str) -> int:
    """A size for the market, in base 1e9. Raises ValidationError for anything the market would not trade."""
    spec = MARKETS.get(market)
    if spec is None:
        raise ValidationError("UNKNOWN_MARKET", f"there is no market {market}; listed: {', '.join(MARKETS)}")
    size = base_from_text(text)
    step_1e9, least_1e9 = take_sizes(spec, SpotSource.BUY)
    least, step = base_to_decimal(least_1e9), base_to_decimal(step_1e9)
    if size < least_1e9:
        raise ValidationError("BAD_SIZE", f"size {text} is too small; the least is {least:f} {spec.base_symbol}")
    if size % step_1e9 or base_to_decimal(size) != Decimal(text):
        raise ValidationError("BAD_SIZE", f"size {text} is no multiple of the step {step:f} {spec.base_symbol}")
    return size


Tapes = Mapping[str, Tape]


def sizes_from_texts(texts: Iterable[str], markets: Collection[str]) -> dict[str, int]:
    """Sizes by market from ``N`` (each market) and ``SYMBOL=N``, base 1e9; the latter wins. What no text names is
    missing. Raises ValidationError for a market that is not played, two sizes of one, and what
    :func:`size_from_text` refuses."""
    each: str | None = None
    named: dict[str, str] = {}
    for text in texts:
        symbol, equals, size = text.partition("=")
        if not equals:
            if each is not None:
                raise ValidationError("TWO_SIZES", f"both {each} and {text} are sizes of every market; give one")
            each = text
        elif symbol not in markets:
            raise ValidationError("UNKNOWN_MARKET", f"{symbol} is not played; played: {', '.join(markets)}")
        elif symbol in named:
            raise ValidationError("TWO_SIZES", f"there are two sizes of {symbol}; give one")
        else:
            named[symbol] = size
    if each is not None:
        named = dict.fromkeys(markets, each) | named
    return {symbol: size_from_text(text, symbol) for symbol, text in named.items()}


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


def shared_span(tapes: Tapes) -> dict[str, Tape]:
    """The tapes, by symbol, cut to the time that all of them have. Raises ValidationError where there is none."""
    first_s, last_s = max(tape.first_s for tape in tapes.values()), min(tape.last_s for tape in tapes.values())
    if first_s > last_s:
        raise ValidationError("BAD_TAPE", "the tapes share no time; a backtest of several plays what they share")
    return {symbol: tape.between(first_s, last_s) for symbol, tape in sorted(tapes.items())}


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
        return _result(tapes, settings, engine, await store.ledger(), course), course.curve


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


def opening_notional(tapes: Tapes, settings: BacktestSettings) -> Decimal:
    """Of one leg in every market, at the first prices."""
    notionals = (
        base_to_decimal(settings.markets[symbol].size_1e9) * tape.records[0].oracle_twap
        for symbol, tape in tapes.items()
    )
    return sum(notionals, Decimal(0))


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


class _Course:
    """What is seen of a run from record to record."""

    def __init__(self, engine: Engine) -> None:
        self.curve: list[EquityPoint] = []
        self.switches = dict.fromkeys(engine.core.hedges, 0)
        self.in_market = self.points = 0
        self.max_drawdown_pct = Decimal(0)
        self.refusals = Refusals()
        self._engine = engine
        self._held = dict.fromkeys(engine.core.hedges, Stance.FLAT)
        self._in = {symbol: hedge.held for symbol, hedge in engine.core.hedges.items()}
        """What was held when the record came; at first what was taken before there was any."""
        self._overall = Stance.FLAT
        self._answered = dict(engine.desk.last_results)

    def see(self, symbol: str, ts_s: int) -> None:
        """After the engine took a record of that market in, and acted on it."""
        core = self._engine.core
        account = _known(core.world.account())
        perp = account.perps.get(symbol, NO_PERP)
        before, after = self._in[symbol], stance_of(perp.base_1e9)
        self._in[symbol] = after
        if after is not self._held[symbol]:
            self.switches[symbol] += 1
            self._held[symbol] = after
            self._overall = _overall(self._held.values())
        self.points += 1
        self.in_market += before is not Stance.FLAT
        if self.curve and self.curve[-1].market_s == ts_s:
            self.curve.pop()  # of two markets at the same time the later one has seen both
        self.curve.append(EquityPoint(ts_s, float(account.equity), self._overall))
        answer = self._engine.desk.last_results.get(symbol)
        drawdown_pct = core.memory.losses.max_drawdown_pct
        if answer is not None and answer is not self._answered.get(symbol):
            self._answered[symbol] = answer
            # The engine looked before it traded; what that trade cost is part of the curve too.
            losses, _ = watch_losses(
                core.memory.losses, LossLimits(), account.equity, core.accountant.transfers, account.as_of_s
            )
            drawdown_pct = losses.max_drawdown_pct
            # From flat nothing but an entry is ever tried.
            if before is Stance.FLAT and after is Stance.FLAT and answer.status == ResultStatus.REJECTED:
                self.refusals.add(answer, core.hedges[symbol].target or Stance.FLAT, ts_s)
        self.max_drawdown_pct = max(self.max_drawdown_pct, drawdown_pct)


def _overall(held: Iterable[Stance]) -> Stance:
    """One letter for the curve: CARRY or REVERSE where any market is held so, CARRY first."""
    stances = set(held)
    return next((each for each in (Stance.CARRY, Stance.REVERSE) if each in stances), Stance.FLAT)


async def _play(
    tapes: Tapes, settings: BacktestSettings, loop: Loop, engine: Engine, *, end_when_refused: bool
) -> _Course:
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
    course, automation = _Course(engine), engine.automation
    for fact in records_in_order(tapes):
        await loop.take(fact)
        if not automation.resting:
            await automation.rest()
        course.see(fact.instrument, fact.record.ts_s)
        if end_when_refused and wants_capital(course.refusals.told()):
            break
    return course


def _known(known: T | None) -> T:
    if known is None:
        raise CriticalError("NO_ACCOUNT", "the paper exchange lost its account")
    return known


def _result(
    tapes: Tapes, settings: BacktestSettings, engine: Engine, entries: Sequence[LedgerEntry], course: _Course
) -> BacktestResult:
    core = engine.core
    account = _known(core.world.account())
    books = core.accountant.books
    by_instrument = _totals(entries)
    totals = _sum_of(by_instrument.values())
    marks = core.world.marks(account)
    unrealized = books.unrealized(marks, spot=False) + books.unrealized(marks, spot=True)
    trading = totals[FlowKind.TRADING_PNL] + unrealized
    fees = totals[FlowKind.FEE] + totals[FlowKind.TIP] + totals[FlowKind.GAS]
    ledger_equity = books.opening_equity + sum(totals.values()) + unrealized
    markets = {
        symbol: _market_result(core.hedges[symbol], tape, by_instrument, core, marks, course)
        for symbol, tape in tapes.items()
    }
    weights = {
        symbol: core.hedges[symbol].size_1e9 * float(tape.records[0].oracle_twap) for symbol, tape in tapes.items()
    }
    quote_interest = by_instrument.get(core.venue.quote_symbol, _NOTHING)[FlowKind.INTEREST]
    only = next(iter(markets.values())) if len(markets) == 1 else None
    return BacktestResult(
        tape="+".join(tape.name for tape in tapes.values()),
        tape_digest=_digest(tapes),
        policy=settings.policy,
        market="+".join(tapes),
        size=None if only is None else only.size,
        fees=settings.fees,
        points=sum(len(tape) for tape in tapes.values()),
        first_s=min(tape.first_s for tape in tapes.values()),
        last_s=max(tape.last_s for tape in tapes.values()),
        funding_usd=float(totals[FlowKind.FUNDING]),
        fees_usd=float(fees),
        interest_usd=float(totals[FlowKind.INTEREST]),
        trading_pnl_usd=float(trading),
        equity_start_usd=float(books.opening_equity),
        equity_end_usd=float(account.equity),
        switches=sum(course.switches.values()),
        time_in_market_pct=100.0 * course.in_market / course.points,
        max_drawdown_pct=float(course.max_drawdown_pct),
        ledger_gap_usd=abs(float(account.equity - ledger_equity)),
        round_trip_bps=_weighted(weights, {symbol: each.round_trip_bps for symbol, each in markets.items()}),
        mean_short_apr_pct=_weighted(weights, {symbol: each.mean_short_apr_pct for symbol, each in markets.items()}),
        entries=len(entries),
        state=core.state if core.state != EngineState.HALTED else f"HALTED: {core.state_reason}",
        result_hash=result_hash(entries),
        refused_entries=course.refusals.entries,
        refused=course.refusals.told(),
        markets=markets,
        account=AccountResult(float(quote_interest), float(totals[FlowKind.WRITE_OFF])),
    )


def _market_result(
    hedge: Hedge,
    tape: Tape,
    totals_of: Mapping[str, _Totals],
    core: Core,
    marks: Mapping[str, Decimal],
    course: _Course,
) -> MarketResult:
    ours = (hedge.symbol, hedge.spec.base_symbol)
    totals = _sum_of(totals_of.get(each, _NOTHING) for each in ours)
    holdings = core.accountant.books.holdings
    unrealized = sum((holdings[each].unrealized(marks[each]) for each in ours if each in holdings), Decimal(0))
    fees = totals[FlowKind.FEE] + totals[FlowKind.TIP] + totals[FlowKind.GAS]
    trading = totals[FlowKind.TRADING_PNL] + unrealized
    return MarketResult(
        size=float(base_to_decimal(hedge.size_1e9)),
        funding_usd=float(totals[FlowKind.FUNDING]),
        fees_usd=float(fees),
        trading_pnl_usd=float(trading),
        interest_usd=float(totals[FlowKind.INTEREST]),
        contribution_usd=float(totals[FlowKind.FUNDING] + fees + trading + totals[FlowKind.INTEREST]),
        switches=course.switches[hedge.symbol],
        round_trip_bps=hedge.round_trip().total * 1e4,
        mean_short_apr_pct=_mean_short_apr_pct(tape),
    )


def _weighted(weights: Mapping[str, float], values: Mapping[str, float]) -> float:
    if len(values) == 1:
        return next(iter(values.values()))
    return sum(weights[symbol] * value for symbol, value in values.items()) / sum(weights.values())


def _digest(tapes: Tapes) -> str:
    digests = [tape.digest for tape in tapes.values()]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _mean_short_apr_pct(tape: Tape) -> float:
    fractions = [hour_fractions(record).short_receives for record in tape.records]
    return fraction_to_apr_pct(sum(fractions) / len(fractions))


_Totals = Mapping[FlowKind, Decimal]
_NOTHING: _Totals = dict.fromkeys(FlowKind, Decimal(0))


def _totals(entries: Iterable[LedgerEntry]) -> dict[str, _Totals]:
    """By instrument and kind."""
    totals: dict[str, dict[FlowKind, Decimal]] = {}
    for entry in entries:
        of = totals.get(entry.instrument)
        if of is None:
            of = totals[entry.instrument] = dict(_NOTHING)
        of[entry.kind] += entry.amount
    return dict(totals)


def _sum_of(parts: Iterable[_Totals]) -> dict[FlowKind, Decimal]:
    total = dict(_NOTHING)
    for part in parts:
        for kind, amount in part.items():
            total[kind] += amount
    return total


def result_hash(entries: Iterable[LedgerEntry]) -> str:
    """SHA-256 over the ledger's entries, in order, amounts exact."""
    digest = hashlib.sha256()
    for entry in entries:
        line = f"{entry.sequence}|{entry.market_s:.3f}|{entry.kind}|{entry.instrument}|{entry.amount}\n"
        digest.update(line.encode())
    return digest.hexdigest()
