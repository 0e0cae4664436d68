"""What the engine is told once, at its start."""

from __future__ import annotations

from typing import Literal

import msgspec

from deltatui.domain.carry import CarrySettings, Stance
from deltatui.domain.delta import RebalanceSettings
from deltatui.domain.gates import GateLimits
from deltatui.domain.health import HEALTH_CRITICAL, HEALTH_WARNING, LossLimits
from deltatui.domain.units import Slippage


class EngineSettings(msgspec.Struct, frozen=True):
    """``hold`` makes the engine hold that stance whatever it pays (the policies always-short and flat); None judges
    carry. ``auto_limit_usd`` None: automatic trades above ``confirm_above_usd`` ask the operator. ``typed_above_usd``
    is for the terminals: the engine tells it to them and does not look at it itself."""

    profile: str
    market: str
    mode: Literal["replay", "paper", "live"]
    limits: GateLimits
    carry_size_1e9: int
    live_mode: Literal["watch", "manage", "trade", "auto"] = "watch"
    hold: Stance | None = None
    automation: bool = True
    carry: CarrySettings = CarrySettings()
    rebalance: RebalanceSettings = RebalanceSettings()
    losses: LossLimits = LossLimits()
    slippage_bps: int = Slippage().enter_bps
    reduce_slippage_bps: int = Slippage().reduce_bps
    kill_slippage_bps: int = Slippage().kill_bps
    confirm_above_usd: float = 100.0
    typed_above_usd: float = 10_000.0
    auto_limit_usd: float | None = None
    confirm_timeout_s: float = 30.0
    loop_interval_s: float = 60.0
    save_interval_s: float = 60.0
    position_ops_per_min: int = 10
    health_warning: int = HEALTH_WARNING
    health_critical: int = HEALTH_CRITICAL
    settle_above_quote: float = 1.0
    stale_snapshot_s: float = 10.0
    save_every_step: bool = True

    @property
    def slippage(self) -> Slippage:
        return Slippage(self.slippage_bps, self.reduce_slippage_bps, self.kill_slippage_bps)
