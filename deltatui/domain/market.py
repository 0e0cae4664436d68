"""What a market is and what is known of it at a moment."""

from __future__ import annotations

from decimal import Decimal

import msgspec


class MarketSpec(msgspec.Struct, frozen=True):
    """Fixed facts of a listed perp market and of the spot market that hedges it.

    Steps and sizes in base 1e9, ticks in price 1e6, margin ratios and weights in 1e4 (500 is 5 %), fees in 1e-5 of
    notional (35 is 3.5 bp; negative: rebate). ``margin_maintenance_1e4`` None: the market tells no ratio of
    its own, and the venue uses its fallback (R1.5).
    """

    symbol: str
    base_symbol: str
    perp_index: int
    spot_index: int
    step_base_1e9: int
    min_base_1e9: int
    tick_price_1e6: int
    margin_initial_1e4: int
    margin_maintenance_1e4: int | None
    spot_asset_weight_initial_1e4: int
    spot_asset_weight_maintenance_1e4: int
    spot_liability_weight_initial_1e4: int
    spot_liability_weight_maintenance_1e4: int


class FundingRecord(msgspec.Struct, frozen=True):
    """One hourly funding record as the venue published it.

    ``ts_s`` unix seconds; rates in quote per base unit per hour (positive: longs pay); prices in quote.
    """

    ts_s: int
    rate: Decimal
    rate_long: Decimal
    rate_short: Decimal
    oracle_twap: Decimal
    mark_twap: Decimal
    period_revenue: Decimal


class MarketState(msgspec.Struct, frozen=True):
    """What the venue says of one market now. ``as_of_s`` is market time; ``interpolated`` marks a price between two
    records. ``funding`` is the newest record, ``funding_count`` how many have been seen. ``paused`` is why the venue
    takes no orders just now, empty where it does."""

    spec: MarketSpec
    as_of_s: float
    oracle: Decimal
    mark: Decimal
    interpolated: bool
    active: bool
    funding: FundingRecord | None
    funding_count: int
    next_funding_s: float | None
    paused: str = ""
