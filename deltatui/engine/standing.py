"""The account at a glance, before or after a trade, and as the gates look at it."""

from __future__ import annotations

import msgspec

from deltatui.domain.gates import GateFacts
from deltatui.domain.margin import (
    MarginBook,
    MarginSummary,
    margin_summary,
    perp_liquidation_price_1e6,
    spot_liquidation_price_1e6,
)
from deltatui.domain.market import MarketSpec, MarketState
from deltatui.domain.units import QUOTE_PRECISION


class Standing(msgspec.Struct, frozen=True):
    """``leverage`` is None where equity is gone (no number says how bad that is), ``liq_price`` where no price
    liquidates. ``liq_distance_pct`` is its distance from the oracle price, signed."""

    summary: MarginSummary
    leverage: float | None
    liq_price: float | None
    liq_distance_pct: float | None


def standing(book: MarginBook, spec: MarketSpec) -> Standing:
    """Raises ValidationError where the book cannot be judged."""
    summary = margin_summary(book)
    leverage = summary.leverage_1e4 / 10_000 if summary.net_value_1e6 > 0 else None
    if book.user.perp(spec.perp_index).base_1e9:
        liq_1e6 = perp_liquidation_price_1e6(book, spec.perp_index)
    else:
        liq_1e6 = spot_liquidation_price_1e6(book, spec.spot_index)
    if liq_1e6 is None:
        return Standing(summary, leverage, None, None)
    oracle_1e6 = book.perp(spec.perp_index)[1]
    return Standing(summary, leverage, liq_1e6 / 1e6, (liq_1e6 / oracle_1e6 - 1) * 100)


def standing_facts(
    after: Standing, market: MarketState | None, *, withdraws: bool, increases_risk: bool = True, **more: object
) -> GateFacts:
    """What the gates look at of the account as it would be. A trade is judged by the venue's own health, a whole
    number (R2.3, R4.2), a withdrawal by the exact one (R3.4)."""
    return GateFacts(
        increases_risk=increases_risk,
        venue_problem=None if market is None else closed(market),
        leverage_after=_leverage(after),
        health_after=after.summary.exact_health if withdraws else after.summary.health,
        liq_distance_pct_after=None if after.liq_distance_pct is None else abs(after.liq_distance_pct),
        no_liquidation_after=after.liq_price is None,
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
    """Why the market takes no orders; empty where it does."""
    if not market.active:
        return f"{market.spec.symbol} is closed: no prices come any more"
    return f"{market.spec.symbol} is paused: {market.paused}" if market.paused else ""
