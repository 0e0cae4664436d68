"""What a market is and what is known of it at a moment."""

from __future__ import annotations

from decimal import Decimal
from math import lcm

import msgspec

from deltatui.domain.units import div_trunc


class MarketSpec(msgspec.Struct, frozen=True):
    """What a venue says of a listed perp market and of the spot market that hedges it. May change while it is listed
    (:class:`deltatui.domain.facts.MarketChange`).

    Sizes and steps in base 1e9, also of an asset that has other decimals: ``base_decimals`` are those of the spot
    asset (SOL 9, wBTC 8), in which transfers are counted (:meth:`native`). Ticks in price 1e6, margin ratios and
    weights in 1e4 (500 is 5 %). ``margin_maintenance_1e4`` None: the market tells no ratio of its own, and the venue
    uses its fallback (R1.5). ``funding_interval_s`` is the time between two funding records.
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
    base_decimals: int = 9
    spot_step_1e9: int = 1
    spot_min_1e9: int = 1
    spot_tick_1e6: int = 1
    funding_interval_s: int = 3600

    def order_sizes(self, *, spot_leg: bool) -> tuple[int, int]:
        """Step and least size, base 1e9, that an order of the perp can have; with ``spot_leg`` one of the spot too."""
        if not spot_leg:
            return self.step_base_1e9, self.min_base_1e9
        step = lcm(self.step_base_1e9, self.spot_step_1e9)
        return step, -(-max(self.min_base_1e9, self.spot_min_1e9) // step) * step

    def native(self, base_1e9: int) -> int:
        """Base 1e9 in the spot asset's own smallest units, towards zero."""
        return div_trunc(base_1e9, 10 ** (9 - self.base_decimals))

    def base_1e9(self, native: int) -> int:
        """The spot asset's smallest units in base 1e9, exact."""
        scale: int = 10 ** (9 - self.base_decimals)
        return native * scale


class FundingRecord(msgspec.Struct, frozen=True):
    """One funding record as the venue published it.

    ``ts_s`` unix seconds; rates in quote per base unit for the whole interval of ``interval_s`` seconds (positive:
    longs pay); prices in quote. The interval stands in the record because a venue may change that of its market.
    """

    ts_s: int
    rate: Decimal
    rate_long: Decimal
    rate_short: Decimal
    oracle_twap: Decimal
    mark_twap: Decimal
    period_revenue: Decimal
    interval_s: int = 3600


class MarketState(msgspec.Struct, frozen=True):
    """What the venue says of one market now. ``as_of_s`` is market time; ``interpolated`` marks a price between two
    records. ``funding`` is the newest record. ``paused`` is why the venue takes no orders just now, empty where it
    does. ``ended``: no prices come any more, and the last one stands; what only reduces is still taken."""

    spec: MarketSpec
    as_of_s: float
    oracle: Decimal
    mark: Decimal
    interpolated: bool
    funding: FundingRecord | None = None
    paused: str = ""
    ended: bool = False

    @property
    def next_funding_s(self) -> float | None:
        """When the next record is due; None before the first, and where none will come."""
        return None if self.funding is None or self.ended else float(self.funding.ts_s + self.spec.funding_interval_s)
