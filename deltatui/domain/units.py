"""Units, precisions and rounding.

On-chain quantities are integers in base units; the suffix of a name is its precision (``base_1e9``,
``price_1e6``, ``quote_1e6``). Rust and TypeScript divide toward zero and Python floors, so every integer
division of a signed quantity goes through :func:`div_trunc`.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal, InvalidOperation

import msgspec

from deltatui.domain.errors import ValidationError

BASE_PRECISION = 10**9
PRICE_PRECISION = 10**6
QUOTE_DECIMALS = 6
QUOTE_PRECISION = 10**QUOTE_DECIMALS
FUNDING_PRECISION = 10**9
MARGIN_PRECISION = 10**4
WEIGHT_PRECISION = 10**4
IMF_PRECISION = 10**6
RATE_PRECISION = 10**6
INTEREST_PRECISION = 10**10

HOURS_PER_YEAR = 8760
"""365 days; stated because some sources use 365.25 (docs/sources.md, Drift)."""
SECONDS_PER_YEAR = HOURS_PER_YEAR * 3600

_BASE = Decimal(BASE_PRECISION)
_PRICE = Decimal(PRICE_PRECISION)
_MOST_BASE = Decimal(2**63 - 1) / _BASE
"""What fits the program's signed 64-bit amounts."""


def div_trunc(numerator: int, denominator: int) -> int:
    """Divide toward zero, as Rust and BN.js do. Raises ZeroDivisionError on a zero denominator."""
    quotient = abs(numerator) // abs(denominator)
    return quotient if (numerator < 0) == (denominator < 0) else -quotient


def div_ceil(numerator: int, denominator: int) -> int:
    """Divide toward plus infinity."""
    return -(-numerator // denominator)


def sign(value: int | float | Decimal) -> int:
    """-1, 0 or 1."""
    return (value > 0) - (value < 0)


def floor_to_step(value: int, step: int) -> int:
    """The largest multiple of ``step`` that is not farther from zero than ``value`` (R4.4)."""
    return div_trunc(value, step) * step


class SlippageLimits(msgspec.Struct, frozen=True):
    """How far from the present price an order may fill, in basis points. What reduces risk has to get out (R6.11), so
    its limit is wider, and that of a kill the widest; never narrower than that of an entry."""

    enter_bps: int = 50
    reduce_bps: int = 100
    kill_bps: int = 500

    def bps(self, *, reduces: bool, kill: bool) -> int:
        if kill:
            return max(self.enter_bps, self.reduce_bps, self.kill_bps)
        return max(self.enter_bps, self.reduce_bps) if reduces else self.enter_bps


def limit_price_1e6(price_1e6: int, *, buy: bool, slippage_bps: int, tick_1e6: int) -> int:
    """Worst acceptable price of a market-type order, rounded to tick inward (R4.3).

    A buy is limited at ``price * (1 + slippage)`` rounded down, a sell at ``price * (1 - slippage)`` rounded up,
    so the limit is never wider than configured.
    """
    if price_1e6 <= 0 or tick_1e6 <= 0:
        raise ValidationError("BAD_PRICE", f"price and tick must be positive, they are {price_1e6} and {tick_1e6}")
    if buy:
        return price_1e6 * (10_000 + slippage_bps) // 10_000 // tick_1e6 * tick_1e6
    return div_ceil(price_1e6 * (10_000 - slippage_bps), 10_000 * tick_1e6) * tick_1e6


def base_from_text(text: str | Decimal) -> int:
    """``"1.5"`` -> 1_500_000_000, rounded down. Raises ValidationError on anything that is no finite number."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValidationError("BAD_SIZE", f"'{text}' is not a number; a size looks like 1.5") from None
    if not value.is_finite():
        raise ValidationError("BAD_SIZE", f"'{text}' is not a finite number; a size looks like 1.5")
    if not -_MOST_BASE <= value <= _MOST_BASE:
        raise ValidationError("BAD_SIZE", f"'{text}' is more than any market trades; a size looks like 1.5")
    return int((value * _BASE).to_integral_value(ROUND_DOWN))


def base_to_decimal(base_1e9: int) -> Decimal:
    """Base units to whole units, exact."""
    return Decimal(base_1e9) / _BASE


def price_to_1e6(price: Decimal) -> int:
    """A price in quote per base to 1e6, half to even."""
    return int((price * _PRICE).to_integral_value())


def apr_pct(rate_per_hour: float, price: float) -> float:
    """Funding APR in percent: an hourly rate in quote per base, over the price, times 8760 (R11.3)."""
    return rate_per_hour / price * HOURS_PER_YEAR * 100.0
