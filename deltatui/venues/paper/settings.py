"""What the paper exchange lists and charges."""

from __future__ import annotations

from collections.abc import Mapping
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
    spot_step_1e9=100_000,
    spot_min_1e9=100_000_000,
    spot_tick_1e6=100,
)
"""As on chain: perp market 0 on 2026-03-10, spot market 1 (SOL) on 2025-06-24, read from the accounts' own bytes
(docs/sources.md, Drift)."""

BTC_PERP = MarketSpec(
    symbol="BTC-PERP",
    base_symbol="wBTC",
    perp_index=1,
    spot_index=3,
    step_base_1e9=100_000,
    min_base_1e9=100_000,
    tick_price_1e6=100_000,
    margin_initial_1e4=500,
    margin_maintenance_1e4=300,
    spot_asset_weight_initial_1e4=8_000,
    spot_asset_weight_maintenance_1e4=9_000,
    spot_liability_weight_initial_1e4=12_000,
    spot_liability_weight_maintenance_1e4=11_000,
    base_decimals=8,
    spot_step_1e9=100_000,
    spot_min_1e9=100_000,
    spot_tick_1e6=10_000,
)
"""As on chain on 2025-06-24: perp market 1, spot market 3 (wBTC; its step and minimum are 10,000 of its 1e8).

The paper exchange marks wBTC at the oracle price of BTC, beta 1: the tape has no other. On chain the two have oracles
of their own, and the official liquidation price, which moves only what has the same oracle, holds wBTC still."""

MARKETS = {spec.symbol: spec for spec in (SOL_PERP, BTC_PERP)}
"""What the exchange knows. An account may hold a position in any of them, but only those that a venue is opened with
have a tape and take orders."""


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
    Borrowed base costs by default what the carry rule reckons with. ``borrow_apr_pct`` and ``lend_apr_pct`` hold, by
    asset, the rates of those that have another than the base or quote assets in general.
    """

    costs: CostModel = CostModel(DRIFT_FEES, DRIFT_SLIPPAGE)
    faults: PaperFaults = PaperFaults()
    max_leverage: float = 10.0
    base_borrow_apr_pct: Decimal = Decimal(str(CarrySettings().base_borrow_apr_pct))
    base_lend_apr_pct: Decimal = Decimal(0)
    quote_borrow_apr_pct: Decimal = Decimal(10)
    quote_lend_apr_pct: Decimal = Decimal(0)
    borrow_apr_pct: Mapping[str, Decimal] = {}
    lend_apr_pct: Mapping[str, Decimal] = {}
    funding_period_s: int = 0
    liquidation_fee_1e5: Decimal = Decimal(1500)
    maintenance_fallback_1e4: int = 500
    save_every: int = 1
    """Steps of the market between two commits; operations always commit."""

    def base_apr_pct(self, asset: str, tokens: Decimal) -> Decimal:
        """What ``tokens`` of a base asset earn (deposits) or cost (debts)."""
        if tokens > 0:
            return self.lend_apr_pct.get(asset, self.base_lend_apr_pct)
        return self.borrow_apr_pct.get(asset, self.base_borrow_apr_pct)

    def quote_apr_pct(self, quote: Decimal) -> Decimal:
        """The same of the quote asset."""
        if quote > 0:
            return self.lend_apr_pct.get(QUOTE_ASSET, self.quote_lend_apr_pct)
        return self.borrow_apr_pct.get(QUOTE_ASSET, self.quote_borrow_apr_pct)
