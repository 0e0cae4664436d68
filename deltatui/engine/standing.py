"""The account at a glance, before or after a trade, and as the gates look at it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from deltatui.domain.gates import GateFacts
from deltatui.domain.margin import (
    MarginBook,
    MarginSummary,
    margin_summary,
    perp_liquidation_prices_1e6,
    spot_liquidation_price_1e6,
)
from deltatui.domain.market import MarketSpec, MarketState
from deltatui.domain.units import QUOTE_PRECISION


class Liquidation(msgspec.Struct, frozen=True):
    """The price of one market that liquidates the account while all others stand still; ``distance_pct`` of it from the
    oracle price, signed."""

    market: str
    price: float
    distance_pct: float


class Standing(msgspec.Struct, frozen=True):
    """``leverage`` is None where equity is gone (no number says how bad that is). ``liquidations`` names the markets
    that have such a price."""

    summary: MarginSummary
    leverage: float | None
    liquidations: tuple[Liquidation, ...]

    @property
    def nearest(self) -> Liquidation | None:
        """The market that would liquidate the account first; None where no price of any does."""
        return min(self.liquidations, key=lambda each: abs(each.distance_pct), default=None)

    def liquidation(self, market: str) -> Liquidation | None:
        return next((each for each in self.liquidations if each.market == market), None)


def standing(book: MarginBook, specs: Iterable[MarketSpec]) -> Standing:
    """Looks at every perp that is held, and at the spot of those of ``specs`` without one. Raises ValidationError where
    the book cannot be judged."""
    summary = margin_summary(book)
    leverage = summary.leverage_1e4 / 10_000 if summary.net_value_1e6 > 0 else None
    user = book.user
    prices = perp_liquidation_prices_1e6(book)
    spots = {position.market_index for position in user.spot_positions if position.scaled_balance_1e9}
    for spec in specs:
        if spec.perp_index not in prices and spec.spot_index in spots:
            prices[spec.perp_index] = spot_liquidation_price_1e6(book, spec.spot_index)
    found = []
    for index, price_1e6 in prices.items():
        if price_1e6 is not None:
            market, oracle_1e6 = book.perp(index)
            found.append(Liquidation(market.name, price_1e6 / 1e6, (price_1e6 / oracle_1e6 - 1) * 100))
    return Standing(summary, leverage, tuple(found))


def standing_facts(
    after: Standing, problem: str | None, *, withdraws: bool, increases_risk: bool = True, **more: object
) -> GateFacts:
    """What the gates look at of the account as it would be. A trade is judged by the venue's own health, a whole
    number (R2.3, R4.2), a withdrawal by the exact one (R3.4). ``problem`` is why the market takes no such order
    (empty: it does; None: not known)."""
    nearest = after.nearest
    return GateFacts(
        increases_risk=increases_risk,
        venue_problem=problem,
        leverage_after=_leverage(after),
        health_after=after.summary.exact_health if withdraws else after.summary.health,
        liq_distance_pct_after=None if nearest is None else abs(nearest.distance_pct),
        no_liquidation_after=nearest is None,
        free_collateral_after=after.summary.free_initial_1e6 / QUOTE_PRECISION,
        needs_margin_after=after.summary.requirement_initial_1e6 > 0,
        **more,  # type: ignore[arg-type]
    )


def _leverage(after: Standing) -> float:
    """Equity that is gone has no leverage that could be small enough; an empty account has none."""
    if after.leverage is not None:
        return after.leverage
    empty = after.summary.net_value_1e6 == 0 and after.summary.requirement_maintenance_1e6 == 0
    return 0.0 if empty else float("inf")


def closed(market: MarketState) -> str:
    """Why the market takes no order that adds risk; empty where it does."""
    if market.ended:
        return f"{market.spec.symbol} only reduces: no prices come any more"
    return f"{market.spec.symbol} is paused: {market.paused}" if market.paused else ""


def withdrawals_closed(market: MarketState) -> str:
    """Why the market's base asset cannot be moved; empty where it can."""
    return f"{market.spec.symbol} is paused: {market.paused}" if market.paused else ""
