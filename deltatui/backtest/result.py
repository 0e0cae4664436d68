"""What a run made: the figures of the report and of the JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import msgspec

from deltatui.backtest.course import Course, known
from deltatui.backtest.refusals import RefusedEntries
from deltatui.backtest.settings import BacktestSettings, Tapes
from deltatui.domain.funding import fraction_to_apr_pct, hour_fractions
from deltatui.domain.ledger import FlowKind, LedgerEntry
from deltatui.domain.units import base_to_decimal
from deltatui.engine.core import Core
from deltatui.engine.engine import Engine
from deltatui.engine.hedge import Hedge
from deltatui.engine.states import EngineState
from deltatui.feeds.tape import Tape


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


def result_of(
    tapes: Tapes, settings: BacktestSettings, engine: Engine, entries: Sequence[LedgerEntry], course: Course
) -> BacktestResult:
    core = engine.core
    account = known(core.world.account())
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
    course: Course,
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
