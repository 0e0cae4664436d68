"""What a trade costs (R6.1, R1.3, R1.8), and the documented cost, revenue and gate beside it."""

from __future__ import annotations

from decimal import Decimal

import msgspec

FEE_PRECISION = 100_000


class FeeSchedule(msgspec.Struct, frozen=True):
    """Fees in 1e-5 of notional (35 is 3.5 bp); negative is a rebate."""

    perp_taker_1e5: Decimal
    perp_maker_1e5: Decimal
    spot_1e5: Decimal


NO_FEES = FeeSchedule(Decimal(0), Decimal(0), Decimal(0))
DRIFT_FEES = FeeSchedule(Decimal(35), Decimal("-2.5"), Decimal(50))
"""The `drift` preset (R1.8): perp taker 3.5 bp, maker -0.25 bp, spot 5 bp."""


class SlippageModel(msgspec.Struct, frozen=True):
    """Slippage of one leg as a fraction of price where there is no book to walk (R1.3).

    Grows with size from ``minimum`` towards ``maximum``, half way at ``half_size`` base units; equal bounds make it
    a constant.
    """

    minimum: Decimal
    maximum: Decimal
    half_size: Decimal = Decimal(1000)

    def fraction(self, base: Decimal) -> Decimal:
        size = abs(base)
        return self.minimum + (self.maximum - self.minimum) * size / (size + self.half_size)

    def fill_price(self, mark: Decimal, base: Decimal) -> Decimal:
        """Price of a taker fill of signed ``base``: above the mark for a buy, below it for a sell."""
        slip = self.fraction(base)
        return mark * (1 + slip) if base > 0 else mark * (1 - slip)


NO_SLIPPAGE = SlippageModel(Decimal(0), Decimal(0))
DRIFT_SLIPPAGE = SlippageModel(Decimal("0.0002"), Decimal("0.0002"))
"""The `drift` preset: 2 bp a leg."""
DOCUMENTED_SLIPPAGE = SlippageModel(Decimal("0.001"), Decimal("0.003"))
"""0.1 % to 0.3 %, the default of paper trading on live prices."""


class CostModel(msgspec.Struct, frozen=True):
    fees: FeeSchedule
    slippage: SlippageModel


class RoundTrip(msgspec.Struct, frozen=True):
    """Cost of both legs, in and out, as fractions of one leg's notional."""

    fees: float
    slippage: float

    @property
    def total(self) -> float:
        return self.fees + self.slippage


def round_trip(model: CostModel, base: Decimal, *, spot_leg: bool = True) -> RoundTrip:
    """Entry and exit of a hedged pair of ``base`` units, each leg a taker. Without ``spot_leg`` the spot side is there
    already and stays: only the perp is traded."""
    fees = 2 * (model.fees.perp_taker_1e5 + (model.fees.spot_1e5 if spot_leg else 0)) / FEE_PRECISION
    fills = 4 if spot_leg else 2
    return RoundTrip(float(fees), float(fills * model.slippage.fraction(base)))


def documented_cost(size: float, price: float, tip_lamports: int = 10_000) -> float:
    """The papers' cost of a trade in quote: tip, 0.1 % taker, 0.02 % slippage, base fee (property 25).

    1.80225 for 10 SOL at 150.
    """
    notional = size * price
    return tip_lamports / 1e9 * price + 0.001 * notional + 0.0002 * notional + 0.000005 * price


def documented_revenue(size: float, price: float, rate: float) -> float:
    """The papers' revenue of one period in quote: half the rate on the notional (properties 26 and 28)."""
    return size * price * rate * 0.5


def documented_daily_revenue(size: float, price: float, rate: float) -> float:
    """Three 8-hour periods."""
    return documented_revenue(size, price, rate) * 3


def documented_gate(revenue: float, cost: float) -> bool:
    """True when the papers would trade: revenue not below cost (property 27)."""
    return revenue >= cost
