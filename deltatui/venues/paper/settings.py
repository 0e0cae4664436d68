"""What the paper exchange lists and charges."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from deltatui.domain.carry import CarrySettings
from deltatui.domain.costs import DRIFT_FEES, DRIFT_SLIPPAGE, CostModel
from deltatui.domain.market import MarketSpec

QUOTE_ASSET = "USDC"
QUOTE_INDEX = 0

SOL_PERP = MarketSpec(
    symbol="SOL-PERP",
    base_symbol="SOL",
    perp_index=0,
    spot_index=1,
    step_base_1e9=10_000_000,
    min_base_1e9=10_000_000,
    tick_price_1e6=100,
    margin_initial_1e4=500,
    margin_maintenance_1e4=300,
    spot_asset_weight_initial_1e4=8_000,
    spot_asset_weight_maintenance_1e4=9_000,
    spot_liability_weight_initial_1e4=12_000,
    spot_liability_weight_maintenance_1e4=11_000,
)
"""As on chain: perp 2026-03-10, SOL spot 2025-06-24 (docs/sources.md, Drift)."""

MARKETS = {SOL_PERP.symbol: SOL_PERP}


class OtherPerp(msgspec.Struct, frozen=True):
    """A perp market that the exchange lists without a tape: positions in it come from elsewhere and count in margin."""

    symbol: str
    perp_index: int
    margin_initial_1e4: int
    margin_maintenance_1e4: int


OTHER_PERPS = {"BTC-PERP": OtherPerp("BTC-PERP", 1, 500, 300)}


class PaperFaults(msgspec.Struct, frozen=True):
    """What goes wrong in paper, so that it is not a world where everything works (R1.6). Rates are probabilities per
    operation, drawn from ``seed`` and the operation's id, so a scenario repeats exactly. ``partial_leg`` is the leg
    that a partial fill falls on, ``report_late_s`` by how many operator seconds the account is told late."""

    seed: int = 7
    fail_rate: float = 0.0
    partial_rate: float = 0.0
    odd_leg_rate: float = 0.0
    latency_s: float = 0.0
    partial_leg: Literal["perp", "spot", "any"] = "any"
    report_late_s: float = 0.0


class PaperSettings(msgspec.Struct, frozen=True):
    """Rates in percent a year. ``funding_period_s`` 0 books every record (right); 28800 is the documented 8-hour cycle.

    ``liquidation_fee_1e5`` is liquidator plus insurance fee on the closed notional (0.75 % each on Drift).
    ``maintenance_fallback_1e4`` is the maintenance margin of a market that tells none (R1.5; 5 % is documented).
    Borrowed base costs by default what the carry rule reckons with.
    """

    costs: CostModel = CostModel(DRIFT_FEES, DRIFT_SLIPPAGE)
    faults: PaperFaults = PaperFaults()
    max_leverage: float = 10.0
    base_borrow_apr_pct: Decimal = Decimal(str(CarrySettings().sol_borrow_apr_pct))
    base_lend_apr_pct: Decimal = Decimal(0)
    quote_borrow_apr_pct: Decimal = Decimal(10)
    quote_lend_apr_pct: Decimal = Decimal(0)
    funding_period_s: int = 0
    liquidation_fee_1e5: Decimal = Decimal(1500)
    maintenance_fallback_1e4: int = 500
    save_every: int = 1
    """Steps of the market between two commits; operations always commit."""
