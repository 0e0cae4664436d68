"""Net SOL exposure and the correction it asks for (R5)."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from deltatui.domain.units import BASE_PRECISION, floor_to_step


class Correction(StrEnum):
    NONE = "none"
    EXPAND_SHORT = "expand_short"
    REDUCE_SHORT = "reduce_short"
    EXPAND_LONG = "expand_long"
    REDUCE_LONG = "reduce_long"

    @property
    def reduce_only(self) -> bool:
        return self in (Correction.REDUCE_SHORT, Correction.REDUCE_LONG)


class Exposure(msgspec.Struct, frozen=True):
    """All SOL exposure in base 1e9, signed. ``spot`` counts wallet, deposits and borrows; ``worst`` is the net with
    the open orders that would widen it filled."""

    spot_1e9: int
    perp_1e9: int
    step_1e9: int
    open_bids_1e9: int = 0
    open_asks_1e9: int = 0

    @property
    def net_1e9(self) -> int:
        return self.spot_1e9 + self.perp_1e9

    @property
    def worst_1e9(self) -> int:
        up, down = self.net_1e9 + abs(self.open_bids_1e9), self.net_1e9 - abs(self.open_asks_1e9)
        return max(up, down, key=abs)

    @property
    def drift_pct(self) -> float:
        """``net / max(|spot|, |perp|, step) * 100``, signed (R5.1)."""
        return self.net_1e9 / max(abs(self.spot_1e9), abs(self.perp_1e9), self.step_1e9) * 100.0


def documented_drift_pct(spot: float, perp: float, reserved: float) -> float:
    """Property 18: ``(S - R + P) / (S - R) * 100``; 0 where S <= R, as the original does (a naked short reads 0)."""
    hedgeable = spot - reserved
    return (hedgeable + perp) / hedgeable * 100.0 if hedgeable > 0 else 0.0


def documented_drift_pct_first(spot: float, perp: float, reserved: float) -> float:
    """The first paper's ``(S + P) / max(S - R, 0.001) * 100``."""
    return (spot + perp) / max(spot - reserved, 0.001) * 100.0


def out_of_tolerance(drift_pct: float, tolerance_pct: float) -> bool:
    """A signal iff ``|drift| > tolerance``, strictly (R5.2)."""
    return abs(drift_pct) > tolerance_pct


class RebalanceSettings(msgspec.Struct, frozen=True):
    tolerance_pct: float = 1.0
    emergency_pct: float = 5.0
    cooldown_s: float = 1800.0
    min_trade_1e9: int = 5_000_000


class RebalancePlan(msgspec.Struct, frozen=True):
    """``base_1e9`` is the signed perp order (0 where nothing is to be done), ``reason`` says why or why not.

    ``code`` is one of ``within_tolerance``, ``cooldown``, ``too_small``, ``not_reducible``, ``correct``.
    """

    correction: Correction
    base_1e9: int
    reduce_only: bool
    code: str
    reason: str
    cooldown_remaining_s: float = 0.0


def correction_for(net_1e9: int, perp_1e9: int) -> Correction:
    """R5.5. The direction follows the perp's sign; a flat perp is opened on the hedging side."""
    if net_1e9 == 0:
        return Correction.NONE
    if net_1e9 > 0:
        return Correction.REDUCE_LONG if perp_1e9 > 0 else Correction.EXPAND_SHORT
    return Correction.REDUCE_SHORT if perp_1e9 < 0 else Correction.EXPAND_LONG


def plan_rebalance(
    exposure: Exposure, settings: RebalanceSettings, *, cooldown_remaining_s: float, manual: bool = False
) -> RebalancePlan:
    """What to do about the present exposure.

    A manual request ignores the cooldown. Beyond the emergency band a risk-reducing correction ignores it too (R5.7);
    every correction towards neutral reduces risk, one that shrinks the perp position is reduce-only as well.
    """
    drift = exposure.drift_pct
    if not out_of_tolerance(drift, settings.tolerance_pct) and not (manual and exposure.net_1e9):
        reason = f"delta {drift:+.2f} % within {settings.tolerance_pct:.1f} %, nothing to do"
        return RebalancePlan(Correction.NONE, 0, False, "within_tolerance", reason)
    correction = correction_for(exposure.net_1e9, exposure.perp_1e9)
    size = abs(exposure.net_1e9)
    if correction.reduce_only:
        size = min(size, abs(exposure.perp_1e9))  # a correction never flips the perp
    size = floor_to_step(size, exposure.step_1e9)
    least = max(settings.min_trade_1e9, exposure.step_1e9)
    if size < least:
        wanted = abs(exposure.net_1e9) / BASE_PRECISION
        reason = f"correction of {wanted:g} is below the minimum of {least / BASE_PRECISION:g}"
        return RebalancePlan(correction, 0, correction.reduce_only, "too_small", reason)
    emergency = abs(drift) > settings.emergency_pct
    if cooldown_remaining_s > 0 and not manual and not emergency:
        reason = f"delta {drift:+.2f} %, cooldown runs another {cooldown_remaining_s:.0f} s"
        return RebalancePlan(correction, 0, correction.reduce_only, "cooldown", reason, cooldown_remaining_s)
    base = -size if exposure.net_1e9 > 0 else size
    reason = f"delta {drift:+.2f} %, {correction.value.replace('_', ' ')} by {size / BASE_PRECISION:g}"
    return RebalancePlan(correction, base, correction.reduce_only, "correct", reason)
