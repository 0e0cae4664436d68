"""Token amounts, margin weights and interest rates of a market: what one market says, before any account is looked at.

Formulas of the Drift v2 program (docs/sources.md, Drift), in its own integer arithmetic.
"""

from __future__ import annotations

from enum import StrEnum
from math import isqrt
from typing import TYPE_CHECKING

from deltatui.domain.account import MarketStatus
from deltatui.domain.units import (
    BASE_PRECISION,
    IMF_PRECISION,
    MARGIN_PRECISION,
    RATE_PRECISION,
    WEIGHT_PRECISION,
    div_trunc,
)

if TYPE_CHECKING:
    from deltatui.domain.account import PerpMarket, SpotMarket

_TEN_TO: tuple[int, ...] = tuple(10**n for n in range(20))
_SQRT_PRECISION = 100_000
_MAX_BORROW_RATE_STEPS = ((850_000, 50), (900_000, 100), (950_000, 150), (990_000, 200), (995_000, 250), (10**6, 250))
"""Utilisation up to which, and which thousandth of the rise from the optimal to the highest rate falls into it."""


class Category(StrEnum):
    INITIAL = "initial"
    """May new risk be taken, may collateral leave."""
    MAINTENANCE = "maintenance"
    """Is the account liquidated."""


def token_unit(market: SpotMarket) -> int:
    """How many smallest units one token has."""
    return _TEN_TO[market.decimals]


def token_amount(market: SpotMarket, scaled_balance_1e9: int, is_borrow: bool) -> int:
    """Tokens (smallest units, never negative) of a scaled balance: deposits round down, debts up."""
    if is_borrow:
        product = scaled_balance_1e9 * market.cumulative_borrow_interest_1e10
        return -(-product // _TEN_TO[19 - market.decimals])
    return scaled_balance_1e9 * market.cumulative_deposit_interest_1e10 // _TEN_TO[19 - market.decimals]


def scaled_balance(market: SpotMarket, tokens: int, is_borrow: bool) -> int:
    """The scaled balance of so many tokens (not negative): deposits round down, debts up by a whole unit."""
    interest = market.cumulative_borrow_interest_1e10 if is_borrow else market.cumulative_deposit_interest_1e10
    scaled = tokens * _TEN_TO[19 - market.decimals] // interest
    return scaled + 1 if is_borrow and scaled else scaled


def token_value_1e6(market: SpotMarket, tokens: int, price_1e6: int) -> int:
    """Value of signed tokens at a price, toward zero."""
    return div_trunc(tokens * price_1e6, _TEN_TO[market.decimals])


def _size_root(size_1e9: int) -> int:
    return isqrt(size_1e9 * 10 + 1)


def size_premium(weight: int, size_1e9: int, imf_1e6: int, precision: int, *, bounded: bool = True) -> int:
    """A weight raised with the size of the risk: 80 % of it plus a root of the size, and where ``bounded`` never less
    than the weight itself."""
    if imf_1e6 == 0:
        return weight
    raised = weight - weight // 5 + _size_root(size_1e9) * imf_1e6 // (_SQRT_PRECISION * IMF_PRECISION // precision)
    return max(weight, raised) if bounded else raised


def size_discount(weight_1e4: int, size_1e9: int, imf_1e6: int) -> int:
    """An asset's weight lowered with its size."""
    if imf_1e6 == 0:
        return weight_1e4
    discounted = 1_100_000 * WEIGHT_PRECISION // (IMF_PRECISION + _size_root(size_1e9) * imf_1e6 // _SQRT_PRECISION)
    return min(weight_1e4, discounted)


def scaled_initial_asset_weight_1e4(market: SpotMarket, price_1e6: int) -> int:
    """The initial weight, lowered in proportion once the market's deposits are worth more than its start value."""
    start = market.scale_initial_asset_weight_start_1e6
    if start == 0:
        return market.initial_asset_weight_1e4
    deposits = token_amount(market, market.deposit_balance_1e9, False)
    value = deposits * price_1e6 // _TEN_TO[market.decimals]
    return market.initial_asset_weight_1e4 if value < start else market.initial_asset_weight_1e4 * start // value


def asset_weight_1e4(market: SpotMarket, tokens: int, price_1e6: int, category: Category) -> int:
    """Weight of a deposit of ``tokens`` (not negative)."""
    if category is Category.INITIAL:
        weight = scaled_initial_asset_weight_1e4(market, price_1e6)
    else:
        weight = market.maintenance_asset_weight_1e4
    if market.imf_factor_1e6 == 0:
        return weight
    return size_discount(weight, tokens * BASE_PRECISION // _TEN_TO[market.decimals], market.imf_factor_1e6)


def liability_weight_1e4(market: SpotMarket, tokens: int, category: Category) -> int:
    """Weight of a debt of ``tokens`` (not negative)."""
    if category is Category.INITIAL:
        weight = market.initial_liability_weight_1e4
    else:
        weight = market.maintenance_liability_weight_1e4
    if market.imf_factor_1e6 == 0:
        return weight
    size_1e9 = tokens * BASE_PRECISION // _TEN_TO[market.decimals]
    return size_premium(weight, size_1e9, market.imf_factor_1e6, WEIGHT_PRECISION)


def perp_margin_ratio_1e4(
    market: PerpMarket, size_1e9: int, category: Category, *, high_leverage: bool = False, custom_1e4: int = 0
) -> int:
    """Margin per notional of a position of ``size_1e9`` (not negative). ``custom_1e4`` is the larger of the user's and
    the position's own ratio; it counts for initial margin only."""
    if market.status is MarketStatus.SETTLEMENT:
        return 0
    initial = category is Category.INITIAL
    ordinary = market.margin_ratio_initial_1e4 if initial else market.margin_ratio_maintenance_1e4
    imf = market.imf_factor_1e6
    lowered_initial = market.high_leverage_margin_ratio_initial_1e4
    lowered_maintenance = market.high_leverage_margin_ratio_maintenance_1e4
    if not (high_leverage and lowered_initial and lowered_maintenance):
        ratio = size_premium(ordinary, size_1e9, imf, MARGIN_PRECISION) if imf else ordinary
    elif not initial:
        ratio = size_premium(lowered_maintenance, size_1e9, imf, MARGIN_PRECISION)
    else:
        adjusted = size_premium(ordinary, size_1e9, imf, MARGIN_PRECISION, bounded=False)
        ratio = _high_leverage_initial_1e4(ordinary, adjusted, lowered_initial)
    return max(ratio, custom_1e4) if initial else ratio


def _high_leverage_initial_1e4(ordinary: int, adjusted: int, lowered: int) -> int:
    """From the lowered ratio at size zero to the ordinary one as the size-adjusted ordinary ratio reaches it."""
    if adjusted > ordinary:
        return adjusted
    if adjusted == ordinary:
        return lowered
    share_1e6 = max(0, 10**6 - (ordinary - adjusted) * 10**6 // (ordinary // 5))
    return lowered + max(1, ordinary - lowered) * share_1e6 // 10**6


def net_user_pnl_1e6(market: PerpMarket, price_1e6: int) -> int:
    """What all users together have won in this market and not settled."""
    base = market.base_with_amm_1e9 + market.base_with_unsettled_lp_1e9
    cost = market.quote_total_1e6 + market.quote_with_unsettled_lp_1e6 + market.net_unsettled_funding_pnl_1e6
    return div_trunc(base * price_1e6, BASE_PRECISION) + cost


def pnl_asset_weight_1e4(market: PerpMarket, pnl_1e6: int, price_1e6: int, category: Category) -> int:
    """Weight of a positive unrealised PnL. ``price_1e6`` stands in where the market has no last oracle price."""
    if category is Category.MAINTENANCE:
        return market.unrealized_pnl_maintenance_asset_weight_1e4
    weight = market.unrealized_pnl_initial_asset_weight_1e4
    limit = market.unrealized_pnl_max_imbalance_1e6
    if weight == 0:
        return 0
    if limit:
        last = market.oracle_last_price_1e6
        net = net_user_pnl_1e6(market, price_1e6 if last is None else last)
        if net > limit:
            weight = weight * limit // net
    return size_discount(weight, pnl_1e6 * 1_000, market.unrealized_pnl_imf_factor_1e6)


def utilization_1e6(market: SpotMarket) -> int:
    """Share of the deposits that is lent out."""
    deposits = token_amount(market, market.deposit_balance_1e9, False)
    borrows = token_amount(market, market.borrow_balance_1e9, True)
    if deposits == 0:
        return RATE_PRECISION if borrows else 0
    return borrows * RATE_PRECISION // deposits


def borrow_rate_1e6(market: SpotMarket) -> int:
    """What a borrower pays a year, at the present utilisation."""
    utilization = utilization_1e6(market)
    optimal = market.optimal_utilization_1e6
    if utilization <= optimal:
        slope = market.optimal_borrow_rate_1e6 * RATE_PRECISION // optimal if optimal else 0
        rate = utilization * slope // RATE_PRECISION
    else:
        rate = market.optimal_borrow_rate_1e6
        rise = market.max_borrow_rate_1e6 - rate
        start = optimal
        for end, thousandths in _MAX_BORROW_RATE_STEPS:
            part = rise * thousandths // 1_000
            if utilization <= end:
                rate += part * (utilization - start) // (end - start)
                break
            rate += part
            start = end
    return max(rate, market.min_borrow_rate * (RATE_PRECISION // 200))


def deposit_rate_1e6(market: SpotMarket) -> int:
    """What a depositor earns a year: the borrowers' payments less the insurance fund's share."""
    kept = RATE_PRECISION - market.insurance_total_factor_1e6
    return borrow_rate_1e6(market) * kept * utilization_1e6(market) // RATE_PRECISION // RATE_PRECISION
