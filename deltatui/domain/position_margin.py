"""What one position adds to collateral and requirement, and the book that it is looked up in.

Formulas of the program's margin calculation (docs/sources.md, Drift) in its own integer arithmetic. Quote amounts
1e6. ``orders`` says whether open orders count; ``strict`` prices assets and gains at the lower of price and 5-minute
average, debts and losses at the higher.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import msgspec

from deltatui.domain.account import (
    QUOTE_SPOT_INDEX,
    ContractType,
    MarginMode,
    MarketStatus,
    OraclePrice,
    PerpMarket,
    PerpPosition,
    PositionFlag,
    SpotMarket,
    SpotPosition,
    UserAccount,
    base58,
)
from deltatui.domain.errors import ValidationError
from deltatui.domain.units import BASE_PRECISION, MARGIN_PRECISION, PRICE_PRECISION, WEIGHT_PRECISION, div_trunc
from deltatui.domain.weights import (
    Category,
    asset_weight_1e4,
    liability_weight_1e4,
    perp_margin_ratio_1e4,
    pnl_asset_weight_1e4,
    scaled_initial_asset_weight_1e4,
    token_amount,
    token_unit,
    token_value_1e6,
)

OPEN_ORDER_REQUIREMENT_1e6 = 10_000
"""One cent for each open order."""
MAX_INITIAL_PNL_1e6 = 100_000_000
"""The program counts at most $100 of unrealised gain a position as initial collateral."""
_FUNDING_DIVISOR = 10**12
_MAX_PREDICTION_PRICE = 10**6
_ISOLATED = int(PositionFlag.ISOLATED)


class MarginBook(msgspec.Struct, frozen=True):
    """One account and everything its margin depends on. ``oracles`` by the markets' oracle pubkeys."""

    user: UserAccount
    perp_markets: Mapping[int, PerpMarket]
    spot_markets: Mapping[int, SpotMarket]
    oracles: Mapping[bytes, OraclePrice]

    def perp(self, market_index: int) -> tuple[PerpMarket, int]:
        """A perp market and its oracle price."""
        market = self.perp_markets.get(market_index)
        if market is None:
            _missing(f"perp market {market_index}")
        oracle = self.oracles.get(market.oracle)
        if oracle is None or oracle.price_1e6 <= 0:
            _no_price(f"perp market {market_index}", market.oracle, oracle)
        return market, oracle.price_1e6

    def spot(self, market_index: int) -> tuple[SpotMarket, int]:
        """A spot market and its oracle price."""
        market = self.spot_markets.get(market_index)
        if market is None:
            _missing(f"spot market {market_index}")
        oracle = self.oracles.get(market.oracle)
        if oracle is None or oracle.price_1e6 <= 0:
            _no_price(f"spot market {market_index}", market.oracle, oracle)
        return market, oracle.price_1e6


def _missing(what: str) -> NoReturn:
    raise ValidationError("MISSING_MARKET", f"the account depends on {what}, but that market is not known")


def _no_price(what: str, oracle: bytes, price: OraclePrice | None) -> NoReturn:
    found = "no price" if price is None else f"the price {price.price_1e6}, which is not positive,"
    raise ValidationError("MISSING_PRICE", f"there is {found} from oracle {base58(oracle)} of {what}")


def refuse_isolated(position: PerpPosition) -> None:
    """Raise ValidationError for an isolated position: cross margin figures would be wrong for the account."""
    if position.position_flag & _ISOLATED:
        raise ValidationError(
            "ISOLATED_POSITION",
            f"the position in perp market {position.market_index} has its own isolated margin, which is not "
            "supported; only cross margin accounts can be judged",
        )


def _refuse_pool(user: UserAccount, what: str, pool_id: int) -> NoReturn:
    raise ValidationError(
        "WRONG_POOL",
        f"the account is in pool {user.pool_id}, but {what} is in pool {pool_id}; the program refuses that",
    )


def high_leverage(user: UserAccount, category: Category) -> bool:
    """Whether the high-leverage ratios apply."""
    return user.margin_mode is MarginMode.HIGH_LEVERAGE or (
        category is Category.MAINTENANCE and user.margin_mode is MarginMode.HIGH_LEVERAGE_MAINTENANCE
    )


def spot_tokens(market: SpotMarket, position: SpotPosition) -> int:
    """Tokens in smallest units, negative for a debt."""
    tokens = token_amount(market, position.scaled_balance_1e9, position.is_borrow)
    return -tokens if position.is_borrow else tokens


def _weighted_spot(
    market: SpotMarket, tokens: int, value_1e6: int, price_1e6: int, category: Category, custom_1e4: int
) -> int:
    """``value_1e6`` (signed, of the signed ``tokens``) times its weight; ``custom_1e4`` is the user's own ratio."""
    if value_1e6 > 0:
        weight = asset_weight_1e4(market, abs(tokens), price_1e6, category)
        if custom_1e4:
            weight = min(weight, max(0, WEIGHT_PRECISION - custom_1e4))
        return value_1e6 * weight // WEIGHT_PRECISION
    if value_1e6 < 0:
        weight = liability_weight_1e4(market, abs(tokens), category)
        if custom_1e4:
            weight = max(weight, WEIGHT_PRECISION + custom_1e4)
        return div_trunc(value_1e6 * weight, WEIGHT_PRECISION)
    return 0


def spot_margin(
    user: UserAccount,
    position: SpotPosition,
    market: SpotMarket,
    price_1e6: int,
    category: Category,
    strict: bool,
    orders: bool,
) -> tuple[int, int]:
    """(collateral, requirement) of one balance, in the worse of the cases that its bids or its asks fill."""
    tokens = spot_tokens(market, position)
    low = high = price_1e6
    if strict:
        twap = market.oracle_twap_5min_1e6
        if twap is not None:
            if twap < low:
                low = twap
            else:
                high = twap
    unit = token_unit(market)
    # The program rounds values of balances toward minus infinity: a debt up.
    value = tokens * (high if tokens < 0 else low) // unit
    quote = market.market_index == QUOTE_SPOT_INDEX
    if market.pool_id != user.pool_id:
        if not (user.pool_id == 1 and quote and tokens >= 0):
            _refuse_pool(user, f"spot market {market.market_index}", market.pool_id)
        value = 0
    if quote:
        return (value, 0) if value >= 0 else (0, -value)
    custom = user.max_margin_ratio_1e4 if category is Category.INITIAL else 0
    if not orders or not (position.open_bids or position.open_asks):
        weighted, cash = _weighted_spot(market, tokens, value, price_1e6, category, custom), 0
    else:
        # What a fill would pay (negative) or bring, at the price that is worse for a buyer.
        fills = ((change, -change * high // unit) for change in (position.open_asks, position.open_bids))
        _, change, cash = min(
            (_weighted_spot(market, tokens + change, value - cash, price_1e6, category, 0) + cash, change, cash)
            for change, cash in fills
        )
        weighted = _weighted_spot(market, tokens + change, value - cash, price_1e6, category, custom)
    requirement = max(-weighted, 0) + max(-cash, 0)
    if orders and position.open_orders:
        requirement += position.open_orders * OPEN_ORDER_REQUIREMENT_1e6
    return max(weighted, 0) + max(cash, 0), requirement


def perp_liability_value_1e6(market: PerpMarket, base_1e9: int, price_1e6: int) -> int:
    """Size times price; a short in a prediction market risks what is left up to 1."""
    if market.contract_type is ContractType.PREDICTION and base_1e9 < 0:
        price_1e6 = _MAX_PREDICTION_PRICE - price_1e6
    return abs(base_1e9) * price_1e6 // BASE_PRECISION


def worst_base_1e9(market: PerpMarket, position: PerpPosition, price_1e6: int, orders: bool) -> int:
    """The base after the fills that would leave the larger liability."""
    base = position.base_1e9
    if not orders or not (position.open_bids_1e9 or position.open_asks_1e9):
        return base
    bids, asks = base + position.open_bids_1e9, base + position.open_asks_1e9
    if market.contract_type is ContractType.PREDICTION:
        bids_value = perp_liability_value_1e6(market, bids, price_1e6)
        return asks if perp_liability_value_1e6(market, asks, price_1e6) >= bids_value else bids
    return asks if abs(asks) >= abs(bids) else bids


def position_funding_1e6(market: PerpMarket, position: PerpPosition) -> int:
    """Funding since the position last settled it, positive when received (longs pay a positive rate)."""
    base = position.base_1e9
    if base == 0:
        return 0
    rate = market.cumulative_funding_rate_long_1e9 if base > 0 else market.cumulative_funding_rate_short_1e9
    delta = rate - position.last_cumulative_funding_rate_1e9
    return div_trunc(-delta * base, _FUNDING_DIVISOR) if delta else 0


def position_pnl_1e6(market: PerpMarket, position: PerpPosition, price_1e6: int) -> int:
    """PnL at the price, without unsettled funding and before the quote asset's own price."""
    if market.status is MarketStatus.SETTLEMENT:
        price_1e6 = market.expiry_price_1e6
    return div_trunc(position.base_1e9 * price_1e6, BASE_PRECISION) + position.quote_1e6


def perp_margin(
    book: MarginBook, position: PerpPosition, category: Category, strict: bool, orders: bool
) -> tuple[int, int]:
    """(collateral, requirement) of one position: its weighted PnL with funding, and margin on its worst case."""
    refuse_isolated(position)
    user = book.user
    market, price = book.perp(position.market_index)
    if market.pool_id != user.pool_id:
        _refuse_pool(user, f"perp market {market.market_index}", market.pool_id)
    quote_market, quote_price = book.spot(market.quote_spot_index)
    low = high = quote_price
    if strict:
        twap = quote_market.oracle_twap_5min_1e6
        if twap is not None:
            if twap < low:
                low = twap
            else:
                high = twap

    initial = category is Category.INITIAL
    base = worst_base_1e9(market, position, price, orders)
    custom = max(user.max_margin_ratio_1e4, position.max_margin_ratio_1e4) if initial else 0
    ratio = perp_margin_ratio_1e4(
        market, abs(base), category, high_leverage=high_leverage(user, category), custom_1e4=custom
    )
    liability = perp_liability_value_1e6(market, base, price) * high // PRICE_PRECISION
    requirement = liability * ratio // MARGIN_PRECISION
    if orders and position.open_orders:
        requirement += position.open_orders * OPEN_ORDER_REQUIREMENT_1e6

    pnl = position_pnl_1e6(market, position, price) + position_funding_1e6(market, position)
    if pnl <= 0:
        return div_trunc(pnl * high, PRICE_PRECISION), requirement
    weight = pnl_asset_weight_1e4(market, pnl, price, category)
    weighted = pnl * weight // WEIGHT_PRECISION * low // PRICE_PRECISION
    return (min(weighted, MAX_INITIAL_PNL_1e6) if initial else weighted), requirement


def worst_spot_fill(
    market: SpotMarket, position: SpotPosition, tokens: int, value_1e6: int, price_1e6: int
) -> tuple[int, int]:
    """(tokens, quote cash) after the riskier fill, by the plain initial weights that the SDK uses for leverage."""
    asset, debt = scaled_initial_asset_weight_1e4(market, price_1e6), market.initial_liability_weight_1e4

    def contribution(change: int) -> int:
        cash = token_value_1e6(market, -change, price_1e6)
        after = value_1e6 - cash
        return div_trunc(after * (asset if after >= 0 else debt), WEIGHT_PRECISION) + cash

    change = min(position.open_bids, position.open_asks, key=contribution)
    return tokens + change, token_value_1e6(market, -change, price_1e6)
