"""What is played: policy, fees, markets with their sizes, tapes (R16.1)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

import msgspec

from deltatui.domain.command import SpotSource
from deltatui.domain.costs import DRIFT_FEES, DRIFT_SLIPPAGE, NO_FEES, NO_SLIPPAGE, CostModel
from deltatui.domain.errors import ValidationError
from deltatui.domain.gates import GateLimits
from deltatui.domain.units import base_from_text, base_to_decimal
from deltatui.engine.planner import take_sizes
from deltatui.engine.settings import MarketSettings
from deltatui.feeds.tape import Tape
from deltatui.store.database import Durability
from deltatui.venues.paper.settings import MARKETS, PaperSettings

Tapes = Mapping[str, Tape]


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


def shared_span(tapes: Tapes) -> dict[str, Tape]:
    """The tapes, by symbol, cut to the time that all of them have. Raises ValidationError where there is none."""
    first_s, last_s = max(tape.first_s for tape in tapes.values()), min(tape.last_s for tape in tapes.values())
    if first_s > last_s:
        raise ValidationError("BAD_TAPE", "the tapes share no time; a backtest of several plays what they share")
    return {symbol: tape.between(first_s, last_s) for symbol, tape in sorted(tapes.items())}


def opening_notional(tapes: Tapes, settings: BacktestSettings) -> Decimal:
    """Of one leg in every market, at the first prices."""
    notionals = (
        base_to_decimal(settings.markets[symbol].size_1e9) * tape.records[0].oracle_twap
        for symbol, tape in tapes.items()
    )
    return sum(notionals, Decimal(0))
