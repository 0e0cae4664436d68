"""Collateral, requirement, health, leverage, PnL and liquidation prices of an account.

The venue's own formulas in integer arithmetic, equal to the official SDK's results (R2.8; docs/sources.md, Drift).
Quote amounts 1e6. Every function takes a :class:`MarginBook` and raises ValidationError where the book lacks a market
or a price that a position needs, or where the account holds an isolated position: an unknown number is refused, not
guessed.

Initial figures decide whether risk may be added and are *strict* in the program: assets and gains at the lower of
price and 5-minute average, debts and losses at the higher. Maintenance figures decide liquidation and use the price.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from deltatui.domain.account import QUOTE_SPOT_INDEX, ContractType, MarketStatus, PerpMarket, SpotMarket, SpotPosition
from deltatui.domain.position_margin import MarginBook as MarginBook
from deltatui.domain.position_margin import (
    OPEN_ORDER_REQUIREMENT_1e6,
    high_leverage,
    perp_liability_value_1e6,
    perp_margin,
    position_funding_1e6,
    position_pnl_1e6,
    refuse_isolated,
    spot_margin,
    spot_tokens,
    worst_base_1e9,
    worst_spot_fill,
)
from deltatui.domain.units import (
    BASE_PRECISION,
    MARGIN_PRECISION,
    PRICE_PRECISION,
    WEIGHT_PRECISION,
    div_trunc,
    floor_to_step,
)
from deltatui.domain.weights import Category as Category
from deltatui.domain.weights import (
    asset_weight_1e4,
    liability_weight_1e4,
    net_user_pnl_1e6,
    perp_margin_ratio_1e4,
    token_amount,
    token_unit,
    token_value_1e6,
)

_LEVERAGE_PRECISION = 10**4


class MarginSummary(msgspec.Struct, frozen=True):
    """The account at a glance. Initial figures are strict (see the module), so that
    ``free_initial_1e6 = max(0, collateral_initial_1e6 - requirement_initial_1e6)``."""

    collateral_initial_1e6: int
    collateral_maintenance_1e6: int
    requirement_initial_1e6: int
    requirement_maintenance_1e6: int
    free_initial_1e6: int
    health: int
    leverage_1e4: int
    net_value_1e6: int
    exact_health: float
    """Not rounded: what limits look at. ``health`` is for people."""


def _margin(book: MarginBook, category: Category, strict: bool, orders: bool = True) -> tuple[int, int]:
    """(total collateral, margin requirement)."""
    user = book.user
    collateral = requirement = 0
    for spot_position in user.spot_positions:
        market, price = book.spot(spot_position.market_index)
        more_collateral, more_requirement = spot_margin(user, spot_position, market, price, category, strict, orders)
        collateral += more_collateral
        requirement += more_requirement
    for position in user.perp_positions:
        more_collateral, more_requirement = perp_margin(book, position, category, strict, orders)
        collateral += more_collateral
        requirement += more_requirement
    return collateral, requirement


def total_collateral_1e6(book: MarginBook, category: Category, strict: bool = False) -> int:
    """Weighted deposits plus weighted PnL. May be negative."""
    return _margin(book, category, strict)[0]


def margin_requirement_1e6(book: MarginBook, category: Category, strict: bool = False) -> int:
    """Margin on perp positions in their worst case, weighted debts, and a cent for each open order."""
    return _margin(book, category, strict)[1]


def free_collateral_1e6(book: MarginBook, category: Category) -> int:
    """Collateral less requirement, never negative. Initial is strict, as in the program."""
    collateral, requirement = _margin(book, category, category is Category.INITIAL)
    return max(0, collateral - requirement)


def health_from(requirement_1e6: int, collateral_1e6: int, being_liquidated: bool = False) -> int:
    """Health 0..100 from maintenance figures: ``100 * (1 - requirement / collateral)``, half up (R2.3)."""
    if being_liquidated:
        return 0
    if requirement_1e6 == 0 and collateral_1e6 >= 0:
        return 100
    if collateral_1e6 <= 0:
        return 0
    free = collateral_1e6 - requirement_1e6
    return min(100, max(0, (200 * free + collateral_1e6) // (2 * collateral_1e6)))


def exact_health(requirement_1e6: int, collateral_1e6: int, being_liquidated: bool = False) -> float:
    """The same without rounding up, for limits (R3.4): never more than the true figure."""
    if being_liquidated:
        return 0.0
    if requirement_1e6 == 0 and collateral_1e6 >= 0:
        return 100.0
    if collateral_1e6 <= 0:
        return 0.0
    billionths = 100 * 10**9 * (collateral_1e6 - requirement_1e6) // collateral_1e6
    return min(100.0, max(0.0, billionths / 1e9))


def documented_health(collateral: float, requirement: float) -> float:
    """The documented ``C / M * 100`` clamped to 0..100. Reads 100 at the point of liquidation: never shown."""
    if requirement <= 0:
        return 100.0
    return min(100.0, max(0.0, collateral / requirement * 100.0))


def documented_health_first(collateral: float, requirement: float) -> float:
    """The first paper's ``(C - M) / C * 100`` clamped to 0..100, without the rules for C <= 0 and M = 0."""
    if collateral == 0:
        return 0.0
    return min(100.0, max(0.0, (collateral - requirement) / collateral * 100.0))


def health(book: MarginBook) -> int:
    """0..100 from maintenance collateral and requirement, open orders included (R2.3)."""
    collateral, requirement = _margin(book, Category.MAINTENANCE, False)
    return health_from(requirement, collateral, book.user.being_liquidated)


def _exposure(book: MarginBook) -> tuple[int, int, int]:
    """(liabilities with open orders, net assets with open orders, net value without), all unweighted.

    As in the SDK, leverage counts perp liabilities without the quote asset's own price and PnL with it.
    """
    assets = debts = cash = net = 0
    for position in book.user.spot_positions:
        market, price = book.spot(position.market_index)
        tokens = spot_tokens(market, position)
        value = token_value_1e6(market, tokens, price)
        net += value
        if market.market_index == QUOTE_SPOT_INDEX:
            cash += value
            continue
        if position.open_bids or position.open_asks:
            tokens, order_cash = worst_spot_fill(market, position, tokens, value, price)
            value = token_value_1e6(market, tokens, price)
            cash += order_cash
        if value >= 0:
            assets += value
        else:
            debts -= value
        debts += position.open_orders * OPEN_ORDER_REQUIREMENT_1e6
    if cash >= 0:
        assets += cash
    else:
        debts -= cash
    liabilities = pnl = 0
    for perp_position in book.user.perp_positions:
        refuse_isolated(perp_position)
        perp_market, price = book.perp(perp_position.market_index)
        if perp_market.status is MarketStatus.SETTLEMENT:
            price = perp_market.expiry_price_1e6
        base = worst_base_1e9(perp_market, perp_position, price, True)
        liabilities += perp_liability_value_1e6(perp_market, base, price)
        quote_price = book.spot(perp_market.quote_spot_index)[1]
        raw = position_pnl_1e6(perp_market, perp_position, price) + position_funding_1e6(perp_market, perp_position)
        pnl += div_trunc(raw * quote_price, PRICE_PRECISION)
    return liabilities + debts, assets - debts + pnl, net + pnl


def _leverage(liabilities_1e6: int, net_assets_1e6: int) -> int:
    return div_trunc(liabilities_1e6 * _LEVERAGE_PRECISION, net_assets_1e6) if net_assets_1e6 else 0


def leverage_1e4(book: MarginBook) -> int:
    """Liabilities over net assets, unweighted, open orders included; 10000 is 1x. Negative when net assets are, and
    0 when they are exactly 0, as in the SDK: read it beside ``net_value_1e6``."""
    liabilities, net_assets, _ = _exposure(book)
    return _leverage(liabilities, net_assets)


def net_value_1e6(book: MarginBook) -> int:
    """Equity: deposits less debts plus unrealised PnL and unsettled funding, unweighted, without open orders."""
    return _exposure(book)[2]


def margin_summary(book: MarginBook) -> MarginSummary:
    """All of the above in one go."""
    initial, initial_requirement = _margin(book, Category.INITIAL, True)
    maintenance, requirement = _margin(book, Category.MAINTENANCE, False)
    liabilities, net_assets, net_value = _exposure(book)
    return MarginSummary(
        initial,
        maintenance,
        initial_requirement,
        requirement,
        max(0, initial - initial_requirement),
        health_from(requirement, maintenance, book.user.being_liquidated),
        _leverage(liabilities, net_assets),
        net_value,
        exact_health(requirement, maintenance, book.user.being_liquidated),
    )


def unrealized_pnl_1e6(book: MarginBook, perp_index: int | None = None, *, with_funding: bool = False) -> int:
    """PnL of one market or of all, times the quote asset's own price; unsettled funding only on demand."""
    total = 0
    for position in book.user.perp_positions:
        if perp_index is None or position.market_index == perp_index:
            market, price = book.perp(position.market_index)
            pnl = position_pnl_1e6(market, position, price)
            if with_funding:
                pnl += position_funding_1e6(market, position)
            total += div_trunc(pnl * book.spot(market.quote_spot_index)[1], PRICE_PRECISION)
    return total


def unsettled_funding_1e6(book: MarginBook, perp_index: int | None = None) -> int:
    """Funding that has accrued and not been settled, positive when received; one market or all."""
    return sum(
        position_funding_1e6(book.perp(position.market_index)[0], position)
        for position in book.user.perp_positions
        if perp_index is None or position.market_index == perp_index
    )


def fees_and_funding_1e6(book: MarginBook, perp_index: int) -> int:
    """What fees and funding, settled or not, have done to the position since it was opened."""
    position = book.user.perp(perp_index)
    settled = position.quote_break_even_1e6 - position.quote_entry_1e6
    return settled + position_funding_1e6(book.perp(perp_index)[0], position)


def claimable_pnl_1e6(book: MarginBook, perp_index: int) -> int:
    """What settling would move now: a loss whole, a gain as far as the market's pool can pay it."""
    position = book.user.perp(perp_index)
    market, price = book.perp(perp_index)
    pnl = position_pnl_1e6(market, position, price) + position_funding_1e6(market, position)
    if pnl <= 0:
        return pnl
    quote_market = book.spot(market.quote_spot_index)[0]
    pool = token_amount(quote_market, market.pnl_pool_scaled_1e9, False)
    pool += token_amount(quote_market, market.fee_pool_scaled_1e9, False) // 5
    excess = max(0, pool - net_user_pnl_1e6(market, price))
    return min(pnl, max(0, position.quote_1e6 - position.quote_entry_1e6) + excess)


# Liquidation prices


def _perp_slope(book: MarginBook, market: PerpMarket, base_1e9: int) -> int:
    """Change of free maintenance collateral for a rise of the price by one, with a position of ``base_1e9``."""
    if market.contract_type is ContractType.PREDICTION:
        return 0  # PnL and requirement move together
    category = Category.MAINTENANCE
    ratio = perp_margin_ratio_1e4(market, abs(base_1e9), category, high_leverage=high_leverage(book.user, category))
    ratio_1e6 = ratio * (PRICE_PRECISION // MARGIN_PRECISION)
    if base_1e9 > 0:
        return (PRICE_PRECISION - ratio_1e6) * base_1e9 // BASE_PRECISION
    return -((PRICE_PRECISION + ratio_1e6) * -base_1e9 // BASE_PRECISION)


def _spot_slope(market: SpotMarket, tokens: int, price_1e6: int) -> int:
    """The same for signed ``tokens``."""
    size = abs(tokens)
    if tokens > 0:
        weight = asset_weight_1e4(market, size, price_1e6, Category.MAINTENANCE)
    else:
        weight = liability_weight_1e4(market, size, Category.MAINTENANCE)
    slope = PRICE_PRECISION * weight // WEIGHT_PRECISION * size // token_unit(market)
    return slope if tokens > 0 else -slope


def _liquidation_price(price_1e6: int, free_1e6: int, slope: int) -> int | None:
    if slope == 0:
        return None
    liquidation = price_1e6 - div_trunc(free_1e6 * PRICE_PRECISION, slope)
    return liquidation if liquidation > 0 else None


def perp_liquidation_price_1e6(book: MarginBook, perp_index: int, size_change_1e9: int = 0) -> int | None:
    """The oracle price at which free maintenance collateral is used up; today's if it already is, None if none will.

    Linear, at today's weights, and with everything else standing still; spot balances priced by the *same* oracle
    move along, open orders are left out. ``size_change_1e9`` asks for the price after a trade of that size at the
    oracle price (toward zero to the market's step).
    """
    market, price = book.perp(perp_index)
    position = book.user.perp(perp_index)
    collateral, requirement = _margin(book, Category.MAINTENANCE, False, orders=False)
    free = max(0, collateral - requirement)
    base = position.base_1e9
    if size_change_1e9:
        after = base + floor_to_step(size_change_1e9, market.order_step_1e9)
        category = Category.MAINTENANCE
        for sign, size in ((1, base), (-1, after)):
            ratio = perp_margin_ratio_1e4(market, abs(size), category, high_leverage=high_leverage(book.user, category))
            free += sign * (perp_liability_value_1e6(market, size, price) * ratio // MARGIN_PRECISION)
        base = after
    if base == 0:
        return None
    return _perp_liquidation(book, perp_index, base, free, _spots_by_oracle(book))


def perp_liquidation_prices_1e6(book: MarginBook) -> dict[int, int | None]:
    """:func:`perp_liquidation_price_1e6` of every perp that is held, by market index; the account is looked at once."""
    collateral, requirement = _margin(book, Category.MAINTENANCE, False, orders=False)
    free, spots = max(0, collateral - requirement), _spots_by_oracle(book)
    return {
        position.market_index: _perp_liquidation(book, position.market_index, position.base_1e9, free, spots)
        for position in book.user.perp_positions
        if position.base_1e9
    }


def _spots_by_oracle(book: MarginBook) -> dict[bytes, list[SpotPosition]]:
    found: dict[bytes, list[SpotPosition]] = {}
    for position in book.user.spot_positions:
        found.setdefault(book.spot(position.market_index)[0].oracle, []).append(position)
    return found


def _perp_liquidation(
    book: MarginBook, perp_index: int, base_1e9: int, free: int, spots: Mapping[bytes, list[SpotPosition]]
) -> int | None:
    market, price = book.perp(perp_index)
    slope = _perp_slope(book, market, base_1e9)
    for spot_position in spots.get(market.oracle, ()):
        spot_market, spot_price = book.spot(spot_position.market_index)
        tokens = spot_tokens(spot_market, spot_position)
        spot_slope = _spot_slope(spot_market, tokens, spot_price)
        slope += div_trunc(spot_slope * spot_market.oracle_source.multiple, market.oracle_source.multiple)
    return _liquidation_price(price, free, slope)


def spot_liquidation_price_1e6(book: MarginBook, spot_index: int) -> int | None:
    """The same for a spot balance, open orders included as in the SDK. None without a balance, and where nothing is
    owed."""
    market, price = book.spot(spot_index)
    tokens = spot_tokens(market, book.user.spot(spot_index))
    collateral, requirement = _margin(book, Category.MAINTENANCE, False)
    if tokens == 0 or requirement == 0:
        return None
    slope = _spot_slope(market, tokens, price)
    for position in book.user.perp_positions:
        perp_market, _ = book.perp(position.market_index)
        if perp_market.oracle == market.oracle:
            perp_slope = _perp_slope(book, perp_market, position.base_1e9)
            slope += div_trunc(perp_slope * perp_market.oracle_source.multiple, market.oracle_source.multiple)
    return _liquidation_price(price, max(0, collateral - requirement), slope)
