"""What the engine is told once, at its start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

from deltatui.domain.carry import CarrySettings, Stance
from deltatui.domain.command import one_of
from deltatui.domain.delta import RebalanceSettings
from deltatui.domain.errors import ValidationError
from deltatui.domain.gates import GateLimits
from deltatui.domain.health import HEALTH_CRITICAL, HEALTH_WARNING, LossLimits
from deltatui.domain.principal import Power
from deltatui.domain.units import SlippageLimits

Mode = Literal["replay", "paper", "live"]
MODES: tuple[Mode, ...] = get_args(Mode)
LIVE_MODES: tuple[Power, ...] = get_args(Power)
"""In rising power (R2.1)."""


class MarketSettings(msgspec.Struct, frozen=True):
    """How one market is carried: ``size_1e9`` is what automation takes of each leg, base 1e9."""

    size_1e9: int
    carry: CarrySettings = CarrySettings()
    rebalance: RebalanceSettings = RebalanceSettings()


class EngineSettings(msgspec.Struct, frozen=True):
    """``markets`` are those that the engine carries.

    ``hold`` makes the engine hold that stance everywhere whatever it pays (the policies always-short and flat); None
    judges carry. ``auto_limit_usd`` None: automatic trades above ``confirm_above_usd`` ask the operator.
    ``max_market_usd`` is the most notional that automation opens in one market (None: what it may do without asking),
    ``max_total_usd`` in all (None: the gates bind). Above ``typed_above_usd`` a live trade is confirmed with the
    market's symbol (R13.10)."""

    profile: str
    mode: Mode
    limits: GateLimits
    markets: Mapping[str, MarketSettings]
    live_mode: Power = "watch"
    hold: Stance | None = None
    automation: bool = True
    losses: LossLimits = LossLimits()
    slippage_bps: int = SlippageLimits().enter_bps
    reduce_slippage_bps: int = SlippageLimits().reduce_bps
    kill_slippage_bps: int = SlippageLimits().kill_bps
    confirm_above_usd: float = 100.0
    typed_above_usd: float = 10_000.0
    auto_limit_usd: float | None = None
    max_market_usd: float | None = None
    max_total_usd: float | None = None
    confirm_timeout_s: float = 30.0
    loop_interval_s: float = 60.0
    save_interval_s: float = 60.0
    position_ops_per_min: int = 10
    health_warning: int = HEALTH_WARNING
    health_critical: int = HEALTH_CRITICAL
    settle_above_quote: float = 1.0
    stale_snapshot_s: float = 10.0
    save_every_step: bool = True

    def __post_init__(self) -> None:
        """Raises ValidationError for a mode, a live mode or a stance that does not exist, and where no market is
        carried."""
        if not self.markets:
            raise ValidationError("NO_MARKET", "the engine needs at least one market to carry")
        for name, words in (("mode", MODES), ("live_mode", LIVE_MODES)):
            if (word := getattr(self, name)) not in words:
                raise ValidationError("BAD_WORD", f"{name} is '{word}'; it must be one of {', '.join(words)}")
        if self.hold is not None:
            msgspec.structs.force_setattr(self, "hold", one_of(Stance, self.hold, "hold"))

    @property
    def hold_reason(self) -> str:
        """Why carry is not judged; empty where it is."""
        return "" if self.hold is None else f"this run holds {self.hold} whatever it pays"

    @property
    def slippage(self) -> SlippageLimits:
        return SlippageLimits(self.slippage_bps, self.reduce_slippage_bps, self.kill_slippage_bps)
