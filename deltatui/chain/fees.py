"""What a submission may cost: compute limit and priority fee from simulation and recent fees, tip from the floor,
each with a cap (R8.2, R8.6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from deltatui.chain.transaction import MAX_COMPUTE_UNITS, Budget
from deltatui.chain.wire import PrioritizationFee, TipFloor
from deltatui.domain.errors import ValidationError

LAMPORTS_PER_SOL = 10**9
JITO_LEAST_TIP_LAMPORTS = 1_000
Percentile = Literal[25, 50, 75, 95, 99]


class FeePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Prices in micro-lamports per compute unit, fees and tips in lamports a transaction.

    ``units_if_unknown`` and ``price_if_unknown`` stand in where a node does not say; ``tip_lamports`` fixes the tip,
    None takes it from the floor.
    """

    units_margin_pct: int = 20
    units_if_unknown: int = 600_000
    price_percentile: int = 75
    price_min: int = 1_000
    price_if_unknown: int = 10_000
    priority_fee_cap_lamports: int = 200_000
    tip_lamports: int | None = None
    tip_percentile: Percentile = 75
    tip_min_lamports: int = JITO_LEAST_TIP_LAMPORTS
    tip_if_unknown_lamports: int = 10_000
    tip_cap_lamports: int = 100_000

    def __post_init__(self) -> None:
        numbers = (self.units_margin_pct, self.price_min, self.price_if_unknown, self.priority_fee_cap_lamports)
        if min(numbers) < 0:
            raise ValidationError("BAD_FEES", "margins, prices and caps of the priority fee cannot be negative")
        if not 0 < self.units_if_unknown <= MAX_COMPUTE_UNITS:
            raise ValidationError("BAD_FEES", f"units_if_unknown must be from 1 to {MAX_COMPUTE_UNITS}")
        if not 0 <= self.price_percentile <= 100:
            raise ValidationError("BAD_FEES", "price_percentile must be from 0 to 100")
        tips = (self.tip_min_lamports, self.tip_if_unknown_lamports, self.tip_lamports or self.tip_min_lamports)
        if min(tips) < JITO_LEAST_TIP_LAMPORTS or self.tip_lamports == 0:
            raise ValidationError("BAD_FEES", f"Jito takes no tip below {JITO_LEAST_TIP_LAMPORTS} lamports")
        if max(tips) > self.tip_cap_lamports:
            raise ValidationError("BAD_FEES", f"a tip is above tip_cap_lamports ({self.tip_cap_lamports})")


def compute_units(consumed: int | None, policy: FeePolicy) -> int:
    """The limit for a transaction that took ``consumed`` in simulation."""
    if not consumed:
        return policy.units_if_unknown
    return min(-(-consumed * (100 + policy.units_margin_pct) // 100), MAX_COMPUTE_UNITS)


def unit_price(recent: Sequence[PrioritizationFee] | None, policy: FeePolicy) -> int:
    """A percentile of the recent fees, at least ``price_min``. The node gives each slot's least fee (often 0), so
    this is a floor of the market and no more (docs/sources.md, Solana and Jito)."""
    if not recent:
        return policy.price_if_unknown
    ordered = sorted(max(0, each.prioritization_fee) for each in recent)
    rank = max(0, math.ceil(len(ordered) * policy.price_percentile / 100) - 1)
    return max(ordered[rank], policy.price_min)


def budget(units: int, price: int, policy: FeePolicy) -> Budget:
    """``price`` lowered so far that the fee for ``units`` stays within its cap."""
    return Budget(units, min(price, policy.priority_fee_cap_lamports * 1_000_000 // units))


def tip_lamports(floor: TipFloor | None, policy: FeePolicy) -> int:
    """The configured tip, else the floor's percentile within minimum and cap."""
    if policy.tip_lamports is not None:
        return policy.tip_lamports
    if floor is None:
        return policy.tip_if_unknown_lamports
    sol = {
        25: floor.landed_tips_25th_percentile,
        50: floor.landed_tips_50th_percentile,
        75: floor.landed_tips_75th_percentile,
        95: floor.landed_tips_95th_percentile,
        99: floor.landed_tips_99th_percentile,
    }[policy.tip_percentile]
    if not math.isfinite(sol) or sol < 0:
        return policy.tip_if_unknown_lamports
    # Clamp before the conversion, so that no float, however large, becomes an amount.
    sol = min(sol, policy.tip_cap_lamports / LAMPORTS_PER_SOL)
    return min(max(round(sol * LAMPORTS_PER_SOL), policy.tip_min_lamports), policy.tip_cap_lamports)
