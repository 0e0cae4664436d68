"""The held hedge of ``bench.replay`` in nautilus_trader 1.221: a job in JSON on stdin, figures in JSON on stdout.

Runs in whatever interpreter has nautilus_trader (``bench.peer`` starts it) and imports nothing of deltatui.

One venue with one margin account in USDC. For each record of the tape three events: a quote of spot at the oracle's
price, a quote of the perp at its mark, a funding rate. Version 1.221 knows funding rates but settles none, so the
strategy does, the way nautilus books its own rollover interest: a simulation module has the exchange adjust the
account. (A sum kept beside the account would be twice as fast, but then the account's balance and margin would not
know of the funding.) After each settlement equity is read from the account and the portfolio. What nautilus can leave
out is left out: its log, its analysis after a run, quotes that the strategy does not need, sums over a venue where two
positions are known by name. Building the events is not timed.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import TypedDict

import nautilus_trader
from nautilus_trader.backtest.config import BacktestEngineConfig, SimulationModuleConfig
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.backtest.modules import SimulationModule
from nautilus_trader.common.config import LoggingConfig
from nautilus_trader.core.data import Data
from nautilus_trader.model.data import FundingRateUpdate, QuoteTick
from nautilus_trader.model.enums import AccountType, CurrencyType, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import CryptoPerpetual, CurrencyPair, Instrument
from nautilus_trader.model.objects import Currency, Money, Price, Quantity
from nautilus_trader.portfolio.config import PortfolioConfig
from nautilus_trader.trading.strategy import Strategy

VENUE = Venue("TAPE")
SPOT = InstrumentId(Symbol("SOL/USDC"), VENUE)
PERP = InstrumentId(Symbol("SOL-PERP"), VENUE)
PRICE_DIGITS = 6
SIZE_DIGITS = 9
RATE_DIGITS = 9
"""Of a tape's funding rate. Nautilus rounds money to its currency's digits, and its own USDC has 8."""
USDC = Currency("USDC", RATE_DIGITS, 0, "USDC", CurrencyType.CRYPTO)
SOL = Currency("SOL", SIZE_DIGITS, 0, "SOL", CurrencyType.CRYPTO)
NEVER_MS = 10**12
DEPTH = Quantity(1e6, SIZE_DIGITS)
"""Of each quote in base: no order of a benchmark is larger."""


class Job(TypedDict):
    """As ``bench.peer`` writes it, amounts as text. ``size`` is one leg in base, ``opening_usd`` the account's money
    before the first trade. ``records``: unix seconds, oracle price, mark price, what a short of one base receives."""

    size: str
    opening_usd: str
    runs: int
    records: list[tuple[int, str, str, str]]


@dataclass
class Course:
    """What is seen of one run; ``max_drawdown`` is a fraction of the peak."""

    opening_usd: float
    settlements: int = 0
    funding_usd: Decimal = Decimal(0)
    equity_usd: float = 0.0
    peak_usd: float = 0.0
    max_drawdown: float = 0.0

    def see(self, paid_usd: Decimal, equity_usd: float) -> None:
        self.settlements += 1
        self.funding_usd += paid_usd
        self.equity_usd = equity_usd
        self.peak_usd = max(self.peak_usd, equity_usd)
        self.max_drawdown = max(self.max_drawdown, 1 - equity_usd / self.peak_usd)


class Settling(SimulationModule):
    """Has the exchange; nautilus gives it to modules only."""

    def process(self, ts_now: int) -> None:
        """Nothing is due by time alone."""

    def settle(self, amount: Money) -> None:
        self.exchange.adjust_account(amount)

    def log_diagnostics(self, logger: object) -> None:
        """Called after a run; must exist."""

    def reset(self) -> None:
        """No state."""


class HeldHedge(Strategy):
    """Buys spot and sells the perp at the first quotes, holds both, settles funding and follows equity."""

    def __init__(self, size: Quantity, settling: Settling, course: Course) -> None:
        super().__init__()
        self._size, self._settling, self._course = size, settling, course

    def on_start(self) -> None:
        self.subscribe_quote_ticks(PERP)
        self.subscribe_funding_rates(PERP)

    def on_quote_tick(self, tick: QuoteTick) -> None:
        self.unsubscribe_quote_ticks(PERP)
        self.submit_order(self.order_factory.market(SPOT, OrderSide.BUY, self._size))
        self.submit_order(self.order_factory.market(PERP, OrderSide.SELL, self._size))

    def on_funding_rate(self, funding_rate: FundingRateUpdate) -> None:
        paid_usd = -self.portfolio.net_position(PERP) * funding_rate.rate
        self._settling.settle(Money(paid_usd, USDC))
        money = self.portfolio.account(VENUE).balance_total(USDC).as_double()
        spot, perp = self.portfolio.unrealized_pnl(SPOT), self.portfolio.unrealized_pnl(PERP)
        self._course.see(paid_usd, money + spot.as_double() + perp.as_double())


def instruments() -> list[Instrument]:
    """Free of fees, margin as in the paper exchange; spot is paid in full."""
    tick, step = Price(10**-PRICE_DIGITS, PRICE_DIGITS), Quantity(10**-SIZE_DIGITS, SIZE_DIGITS)
    spot = CurrencyPair(
        instrument_id=SPOT,
        raw_symbol=SPOT.symbol,
        base_currency=SOL,
        quote_currency=USDC,
        price_precision=PRICE_DIGITS,
        size_precision=SIZE_DIGITS,
        price_increment=tick,
        size_increment=step,
        ts_event=0,
        ts_init=0,
        margin_init=Decimal(1),
        margin_maint=Decimal(1),
    )
    perp = CryptoPerpetual(
        instrument_id=PERP,
        raw_symbol=PERP.symbol,
        base_currency=SOL,
        quote_currency=USDC,
        settlement_currency=USDC,
        is_inverse=False,
        price_precision=PRICE_DIGITS,
        size_precision=SIZE_DIGITS,
        price_increment=tick,
        size_increment=step,
        ts_event=0,
        ts_init=0,
        margin_init=Decimal("0.05"),
        margin_maint=Decimal("0.03"),
    )
    return [spot, perp]


def events(records: list[tuple[int, str, str, str]]) -> list[Data]:
    """Two quotes a second before the first record, to trade at; then each record's quotes and its funding rate."""
    first_s, first_oracle, first_mark, _ = records[0]
    found = _quotes(first_s - 1, first_oracle, first_mark)
    for ts_s, oracle, mark, rate in records:
        at_ns = ts_s * 10**9
        found += _quotes(ts_s, oracle, mark)
        found.append(FundingRateUpdate(PERP, Decimal(rate), at_ns, at_ns))
    return found


def _quotes(ts_s: int, oracle: str, mark: str) -> list[Data]:
    """Without a spread: the replay trades at the oracle's price and at the mark."""
    at_ns = ts_s * 10**9
    spot, perp = Price(Decimal(oracle), PRICE_DIGITS), Price(Decimal(mark), PRICE_DIGITS)
    return [
        QuoteTick(SPOT, spot, spot, DEPTH, DEPTH, at_ns, at_ns),
        QuoteTick(PERP, perp, perp, DEPTH, DEPTH, at_ns, at_ns),
    ]


def play(job: Job, stream: list[Data]) -> tuple[float, Course]:
    """One run: seconds of ``BacktestEngine.run`` and what was seen. Raises RuntimeError where the hedge was not held
    from the first record to the last."""
    engine = BacktestEngine(
        BacktestEngineConfig(
            logging=LoggingConfig(bypass_logging=True),
            # A bypassed log still builds its lines.
            portfolio=PortfolioConfig(min_account_state_logging_interval_ms=NEVER_MS),
            run_analysis=False,
        )
    )
    try:
        settling = Settling(SimulationModuleConfig())
        engine.add_venue(
            venue=VENUE,
            oms_type=OmsType.NETTING,
            account_type=AccountType.MARGIN,
            base_currency=USDC,
            starting_balances=[Money(Decimal(job["opening_usd"]), USDC)],
            default_leverage=Decimal(1),
            modules=[settling],
        )
        for instrument in instruments():
            engine.add_instrument(instrument)
        engine.add_data(stream)
        course = Course(float(job["opening_usd"]))
        size = Quantity(Decimal(job["size"]), SIZE_DIGITS)
        engine.add_strategy(HeldHedge(size, settling, course))
        began_s = time.perf_counter()
        engine.run()
        took_s = time.perf_counter() - began_s
        held = {one.instrument_id: one.signed_decimal_qty() for one in engine.cache.positions_open()}
    finally:
        engine.dispose()
    asked = Decimal(job["size"])
    if held != {SPOT: asked, PERP: -asked} or course.settlements != len(job["records"]):
        raise RuntimeError(
            f"the hedge was not held: {held} at the end, {course.settlements} of {len(job['records'])} settlements"
        )
    return took_s, course


def main() -> None:
    job: Job = json.load(sys.stdin)
    # Nautilus looks currencies up by code again and again.
    Currency.register(USDC, overwrite=True)
    stream = events(job["records"])
    runs = [play(job, stream) for _ in range(job["runs"])]
    course = runs[0][1]
    figures = {
        "version": nautilus_trader.__version__,
        "python": platform.python_version(),
        "best_s": min(took_s for took_s, _ in runs),
        "funding_usd": float(course.funding_usd),
        "equity_usd": course.equity_usd,
        "max_drawdown": course.max_drawdown,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
