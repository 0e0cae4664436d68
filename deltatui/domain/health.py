"""When health and losses become alarming (R2.4, R6.10)."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum

import msgspec

HEALTH_WARNING = 50
HEALTH_CRITICAL = 20


class HealthLevel(IntEnum):
    OK = 0
    WARNING = 1
    CRITICAL = 2


def health_level(
    health: int, warning_below: int = HEALTH_WARNING, critical_below: int = HEALTH_CRITICAL
) -> HealthLevel:
    """WARNING below the first threshold, CRITICAL below the second."""
    if health < critical_below:
        return HealthLevel.CRITICAL
    return HealthLevel.WARNING if health < warning_below else HealthLevel.OK


def crossed(before: HealthLevel, after: HealthLevel) -> bool:
    """True where an alert is due: once per crossing into a worse level."""
    return after > before


class LossLimits(msgspec.Struct, frozen=True):
    """None: no such stop. ``daily_loss`` in quote, ``drawdown_pct`` of the highest equity, transfers set aside."""

    daily_loss: Decimal | None = None
    drawdown_pct: Decimal | None = None

    @property
    def any_set(self) -> bool:
        """Whether there is a loss limit at all."""
        return self.daily_loss is not None or self.drawdown_pct is not None


class LossState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Equity without transfers: where the market day began and the highest so far."""

    day: int = -1
    day_open: Decimal = Decimal(0)
    peak: Decimal | None = None
    max_drawdown_pct: Decimal = Decimal(0)


_DAY_S = 86_400


class LossStop(msgspec.Struct, frozen=True):
    """A loss limit that stands: why, and when it stops standing by itself, both in words."""

    reason: str
    lifts: str


def watch_losses(
    state: LossState, limits: LossLimits, equity: Decimal, transfers: Decimal, market_s: float
) -> tuple[LossState, LossStop | None]:
    """Take one equity into account; returns the new state and the limit that stands, if one does.

    ``transfers`` is net deposits so far, so that a withdrawal is no loss. Drawdown is what was lost since the best
    moment, in percent of what would be there without that loss.
    """
    earned = equity - transfers
    day = int(market_s // _DAY_S)
    day_open = earned if day != state.day else state.day_open
    peak = earned if state.peak is None or earned > state.peak else state.peak
    lost, whole = peak - earned, peak + transfers
    drawdown = lost / whole * 100 if whole > 0 else Decimal(100 if lost > 0 else 0)
    worst = max(state.max_drawdown_pct, drawdown)
    if day != state.day or peak is not state.peak or worst is not state.max_drawdown_pct:
        state = LossState(day, day_open, peak, worst)
    if limits.daily_loss is not None and day_open - earned >= limits.daily_loss:
        reason = f"lost ${day_open - earned:,.2f} today, limit ${limits.daily_loss:,.2f}"
        midnight = datetime.fromtimestamp((day + 1) * _DAY_S, UTC)
        return state, LossStop(reason, f"the limit lifts at {midnight:%Y-%m-%d %H:%M} UTC (market time)")
    if limits.drawdown_pct is not None and drawdown >= limits.drawdown_pct:
        reason = f"equity is {drawdown:.2f} % below its peak, limit {limits.drawdown_pct:.2f} %"
        enough = whole * (1 - limits.drawdown_pct / 100)
        return state, LossStop(reason, f"the limit lifts when equity is above ${enough:,.2f}")
    return state, None


def forget_losses(state: LossState) -> LossState:
    """Count day and peak anew; the largest drawdown so far stays on record."""
    return LossState(max_drawdown_pct=state.max_drawdown_pct)
