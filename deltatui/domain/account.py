"""The venue's accounts as values: positions, user, markets, exchange state and oracle price.

Integers in the program's own precisions (docs/sources.md, Drift); the suffix of a name says which. Pubkeys are 32 raw
bytes. Values decoded from the chain (``domain.layout``) and values made by the paper venue are of the same types;
a field that a paper account has no use for keeps its default.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

import msgspec

from deltatui.domain.units import BASE_PRECISION, FUNDING_PRECISION, INTEREST_PRECISION, WEIGHT_PRECISION, div_trunc

QUOTE_SPOT_INDEX = 0
"""The settlement asset is spot market 0 (USDC on Drift, USDT on Velocity)."""

NO_KEY = bytes(32)

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58(key: bytes) -> str:
    """A pubkey as people write it."""
    zeros = len(key) - len(key.lstrip(b"\0"))
    number, text = int.from_bytes(key, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return "1" * zeros + text


class OracleSource(IntEnum):
    PYTH = 0
    SWITCHBOARD = 1
    QUOTE_ASSET = 2
    PYTH_1K = 3
    PYTH_1M = 4
    PYTH_STABLE_COIN = 5
    PRELAUNCH = 6
    PYTH_PULL = 7
    PYTH_1K_PULL = 8
    PYTH_1M_PULL = 9
    PYTH_STABLE_COIN_PULL = 10
    SWITCHBOARD_ON_DEMAND = 11
    PYTH_LAZER = 12
    PYTH_LAZER_1K = 13
    PYTH_LAZER_1M = 14
    PYTH_LAZER_STABLE_COIN = 15

    @property
    def multiple(self) -> int:
        """How many tokens one price of this source is for: 1, 1,000 or 1,000,000."""
        return _MULTIPLES.get(self, 1)


_MULTIPLES = {
    OracleSource.PYTH_1K: 1_000,
    OracleSource.PYTH_1K_PULL: 1_000,
    OracleSource.PYTH_LAZER_1K: 1_000,
    OracleSource.PYTH_1M: 1_000_000,
    OracleSource.PYTH_1M_PULL: 1_000_000,
    OracleSource.PYTH_LAZER_1M: 1_000_000,
}


class MarketStatus(IntEnum):
    """2 to 5 are deprecated in favour of paused operations."""

    INITIALIZED = 0
    ACTIVE = 1
    FUNDING_PAUSED = 2
    AMM_PAUSED = 3
    FILL_PAUSED = 4
    WITHDRAW_PAUSED = 5
    REDUCE_ONLY = 6
    SETTLEMENT = 7
    DELISTED = 8


class ContractType(IntEnum):
    PERPETUAL = 0
    FUTURE = 1
    PREDICTION = 2


class ContractTier(IntEnum):
    A = 0
    B = 1
    C = 2
    SPECULATIVE = 3
    HIGHLY_SPECULATIVE = 4
    ISOLATED = 5


class AssetTier(IntEnum):
    COLLATERAL = 0
    PROTECTED = 1
    CROSS = 2
    ISOLATED = 3
    UNLISTED = 4


class MarginMode(IntEnum):
    DEFAULT = 0
    HIGH_LEVERAGE = 1
    HIGH_LEVERAGE_MAINTENANCE = 2
    """Entered high leverage for maintenance only: initial margin stays ordinary."""


class UserStatus(IntFlag):
    BEING_LIQUIDATED = 1
    BANKRUPT = 2
    REDUCE_ONLY = 4
    ADVANCED_LP = 8
    PROTECTED_MAKER = 16


_LOST = int(UserStatus.BEING_LIQUIDATED | UserStatus.BANKRUPT)


class PositionFlag(IntFlag):
    ISOLATED = 1
    BEING_LIQUIDATED = 2
    BANKRUPT = 4


class PerpPause(IntFlag):
    """Bits of PerpMarket.paused_operations."""

    UPDATE_FUNDING = 1
    AMM_FILL = 2
    FILL = 4
    SETTLE_PNL = 8
    SETTLE_PNL_WITH_POSITION = 16
    LIQUIDATION = 32
    AMM_IMMEDIATE_FILL = 64
    SETTLE_REVENUE_POOL = 128


class SpotPause(IntFlag):
    """Bits of SpotMarket.paused_operations."""

    UPDATE_INTEREST = 1
    FILL = 2
    DEPOSIT = 4
    WITHDRAW = 8
    LIQUIDATION = 16


class ExchangeStatus(IntFlag):
    """Bits of State.exchange_status; 0 means nothing is paused."""

    DEPOSIT_PAUSED = 1
    WITHDRAW_PAUSED = 2
    AMM_PAUSED = 4
    FILL_PAUSED = 8
    LIQUIDATION_PAUSED = 16
    FUNDING_PAUSED = 32
    SETTLE_PNL_PAUSED = 64
    AMM_IMMEDIATE_FILL_PAUSED = 128


class OraclePrice(msgspec.Struct, frozen=True):
    """An oracle's price in quote per base, already scaled for its source. ``slot`` is when it was posted;
    ``twap_1e6`` the oracle's own average where it publishes one."""

    price_1e6: int
    confidence_1e6: int = 0
    slot: int = 0
    twap_1e6: int | None = None
    sufficient_data: bool = True


class SpotPosition(msgspec.Struct, frozen=True):
    """A deposit or, with ``is_borrow``, a debt.

    ``scaled_balance_1e9`` is never negative and independent of the token's decimals: tokens are it times the
    market's cumulative interest of the side (``margin.token_amount``). Open orders in the token's own decimals,
    ``open_asks`` negative. ``cumulative_deposits`` is what went in minus what went out, in tokens.
    """

    market_index: int
    scaled_balance_1e9: int = 0
    is_borrow: bool = False
    open_bids: int = 0
    open_asks: int = 0
    open_orders: int = 0
    cumulative_deposits: int = 0


class PerpPosition(msgspec.Struct, frozen=True):
    """``base_1e9`` positive is long; quote amounts have the opposite sign of the base that they paid for.

    ``quote_1e6`` is the running cost basis with fees, funding and settled PnL, ``quote_entry_1e6`` the plain entry,
    ``quote_break_even_1e6`` the entry with fees. ``open_asks_1e9`` is negative.
    """

    market_index: int
    base_1e9: int = 0
    quote_1e6: int = 0
    quote_entry_1e6: int = 0
    quote_break_even_1e6: int = 0
    last_cumulative_funding_rate_1e9: int = 0
    open_bids_1e9: int = 0
    open_asks_1e9: int = 0
    open_orders: int = 0
    settled_pnl_1e6: int = 0
    max_margin_ratio_1e4: int = 0
    position_flag: int = 0
    isolated_scaled_balance_1e9: int = 0
    lp_shares_1e9: int = 0

    @property
    def entry_price_1e6(self) -> int | None:
        """Average entry, without fees; None when flat."""
        return _price_of(self.quote_entry_1e6, self.base_1e9)

    @property
    def break_even_price_1e6(self) -> int | None:
        """Entry with fees and settled funding; None when flat."""
        return _price_of(self.quote_break_even_1e6, self.base_1e9)


def _price_of(quote_1e6: int, base_1e9: int) -> int | None:
    return abs(div_trunc(quote_1e6 * BASE_PRECISION, base_1e9)) if base_1e9 else None


class OrderType(IntEnum):
    MARKET = 0
    LIMIT = 1
    TRIGGER_MARKET = 2
    TRIGGER_LIMIT = 3
    ORACLE = 4


class OpenOrder(msgspec.Struct, frozen=True):
    """An order that rests on the account. Sizes are positive (``is_buy`` says which way) and in base 1e9, or in the
    token's decimals for a spot order. ``price_1e6`` 0: none of its own (market, oracle offset)."""

    order_id: int
    market_index: int
    is_perp: bool
    is_buy: bool
    order_type: OrderType
    base: int
    base_filled: int = 0
    quote_filled_1e6: int = 0
    price_1e6: int = 0
    trigger_price_1e6: int = 0
    oracle_price_offset_1e6: int = 0
    auction_start_price_1e6: int = 0
    auction_end_price_1e6: int = 0
    auction_slots: int = 0
    slot: int = 0
    max_ts_s: int = 0
    user_order_id: int = 0
    reduce_only: bool = False
    post_only: bool = False


class UserAccount(msgspec.Struct, frozen=True):
    """One sub-account. Only occupied position slots and open orders are listed."""

    spot_positions: tuple[SpotPosition, ...] = ()
    perp_positions: tuple[PerpPosition, ...] = ()
    orders: tuple[OpenOrder, ...] = ()
    authority: bytes = NO_KEY
    delegate: bytes = NO_KEY
    name: str = ""
    sub_account_id: int = 0
    status: int = 0
    margin_mode: MarginMode = MarginMode.DEFAULT
    max_margin_ratio_1e4: int = 0
    is_margin_trading_enabled: bool = True
    idle: bool = False
    pool_id: int = 0
    total_deposits_1e6: int = 0
    total_withdraws_1e6: int = 0
    total_social_loss_1e6: int = 0
    settled_perp_pnl_1e6: int = 0
    cumulative_spot_fees_1e6: int = 0
    cumulative_perp_funding_1e6: int = 0
    liquidation_margin_freed_1e6: int = 0
    last_active_slot: int = 0
    next_order_id: int = 1

    @property
    def being_liquidated(self) -> bool:
        """Cross margin in liquidation, or bankrupt."""
        return self.status & _LOST != 0

    def perp(self, market_index: int) -> PerpPosition:
        """The position in a perp market; an empty one if there is none."""
        for position in self.perp_positions:
            if position.market_index == market_index:
                return position
        return PerpPosition(market_index)

    def spot(self, market_index: int) -> SpotPosition:
        """The balance in a spot market; an empty one if there is none."""
        for position in self.spot_positions:
            if position.market_index == market_index:
                return position
        return SpotPosition(market_index)


class SpotMarket(msgspec.Struct, frozen=True):
    """A token's deposits, debts, weights and rates. The default weights fit the quote asset and no other.

    Interest 1e10, weights 1e4 (8000 is 80 %), utilisation and rates 1e6, token amounts in the token's ``decimals``.
    ``oracle_twap_1e6`` (1 h) and ``oracle_twap_5min_1e6`` are the program's own averages; None: there is none, and
    strict pricing then uses the price alone.
    """

    market_index: int
    oracle: bytes
    decimals: int
    initial_asset_weight_1e4: int = WEIGHT_PRECISION
    maintenance_asset_weight_1e4: int = WEIGHT_PRECISION
    initial_liability_weight_1e4: int = WEIGHT_PRECISION
    maintenance_liability_weight_1e4: int = WEIGHT_PRECISION
    imf_factor_1e6: int = 0
    scale_initial_asset_weight_start_1e6: int = 0
    cumulative_deposit_interest_1e10: int = INTEREST_PRECISION
    cumulative_borrow_interest_1e10: int = INTEREST_PRECISION
    deposit_balance_1e9: int = 0
    borrow_balance_1e9: int = 0
    optimal_utilization_1e6: int = 0
    optimal_borrow_rate_1e6: int = 0
    max_borrow_rate_1e6: int = 0
    min_borrow_rate: int = 0
    """In units of 0.5 % a year."""
    insurance_total_factor_1e6: int = 0
    last_interest_ts_s: int = 0
    oracle_source: OracleSource = OracleSource.PYTH_LAZER
    oracle_last_price_1e6: int | None = None
    oracle_twap_1e6: int | None = None
    oracle_twap_5min_1e6: int | None = None
    oracle_twap_ts_s: int = 0
    pubkey: bytes = NO_KEY
    mint: bytes = NO_KEY
    vault: bytes = NO_KEY
    name: str = ""
    status: MarketStatus = MarketStatus.ACTIVE
    asset_tier: AssetTier = AssetTier.COLLATERAL
    paused_operations: int = 0
    orders_enabled: bool = False
    pool_id: int = 0
    order_step: int = 1
    order_tick_1e6: int = 1
    min_order: int = 0
    max_token_deposits: int = 0
    max_token_borrows_fraction_1e4: int = 0
    withdraw_guard_threshold: int = 0
    deposit_token_twap: int = 0
    borrow_token_twap: int = 0
    utilization_twap_1e6: int = 0
    last_twap_ts_s: int = 0
    liquidator_fee_1e6: int = 0
    if_liquidation_fee_1e6: int = 0


class PerpMarket(msgspec.Struct, frozen=True):
    """A perp market's rules, funding and open interest.

    Funding rates 1e9 in quote per base per hour, positive: longs pay. Margin ratios and weights 1e4, ``imf`` factors
    1e6. Open interest in base 1e9, ``open_interest_short_1e9`` negative. Pools are scaled balances (1e9) of the quote
    spot market. Oracle and mark averages are the program's own; None: there is none.
    """

    market_index: int
    oracle: bytes
    margin_ratio_initial_1e4: int
    margin_ratio_maintenance_1e4: int
    imf_factor_1e6: int = 0
    high_leverage_margin_ratio_initial_1e4: int = 0
    high_leverage_margin_ratio_maintenance_1e4: int = 0
    unrealized_pnl_initial_asset_weight_1e4: int = 0
    unrealized_pnl_maintenance_asset_weight_1e4: int = WEIGHT_PRECISION
    unrealized_pnl_imf_factor_1e6: int = 0
    unrealized_pnl_max_imbalance_1e6: int = 0
    cumulative_funding_rate_long_1e9: int = 0
    cumulative_funding_rate_short_1e9: int = 0
    last_funding_rate_1e9: int = 0
    last_funding_rate_long_1e9: int = 0
    last_funding_rate_short_1e9: int = 0
    last_24h_avg_funding_rate_1e9: int = 0
    last_funding_rate_ts_s: int = 0
    last_funding_oracle_twap_1e6: int = 0
    funding_period_s: int = 3600
    net_unsettled_funding_pnl_1e6: int = 0
    next_funding_rate_record_id: int = 0
    oracle_source: OracleSource = OracleSource.PYTH_LAZER
    oracle_last_price_1e6: int | None = None
    oracle_twap_1e6: int | None = None
    oracle_twap_5min_1e6: int | None = None
    oracle_twap_ts_s: int = 0
    mark_twap_1e6: int | None = None
    mark_twap_5min_1e6: int | None = None
    mark_twap_ts_s: int = 0
    bid_twap_1e6: int | None = None
    ask_twap_1e6: int | None = None
    mm_oracle_price_1e6: int = 0
    mm_oracle_slot: int = 0
    last_fill_price_1e6: int = 0
    open_interest_long_1e9: int = 0
    open_interest_short_1e9: int = 0
    max_open_interest_1e9: int = 0
    base_with_amm_1e9: int = 0
    base_with_unsettled_lp_1e9: int = 0
    quote_total_1e6: int = 0
    quote_with_unsettled_lp_1e6: int = 0
    pnl_pool_scaled_1e9: int = 0
    fee_pool_scaled_1e9: int = 0
    order_step_1e9: int = 1
    order_tick_1e6: int = 1
    min_order_1e9: int = 0
    base_spread_1e6: int = 0
    max_spread_1e6: int = 0
    volume_24h_1e6: int = 0
    pubkey: bytes = NO_KEY
    name: str = ""
    status: MarketStatus = MarketStatus.ACTIVE
    contract_type: ContractType = ContractType.PERPETUAL
    contract_tier: ContractTier = ContractTier.A
    paused_operations: int = 0
    quote_spot_index: int = QUOTE_SPOT_INDEX
    pool_id: int = 0
    fee_adjustment_pct: int = 0
    liquidator_fee_1e6: int = 0
    if_liquidation_fee_1e6: int = 0
    expiry_ts_s: int = 0
    expiry_price_1e6: int = 0

    @property
    def open_interest_1e9(self) -> int:
        """The larger side, never negative."""
        return max(abs(self.open_interest_long_1e9), abs(self.open_interest_short_1e9))

    @property
    def last_funding_pct_per_hour(self) -> float | None:
        """The last rate as a percent of the oracle average that it was made from; None where that is not known."""
        if self.last_funding_oracle_twap_1e6 <= 0:
            return None
        return self.last_funding_rate_1e9 / FUNDING_PRECISION / (self.last_funding_oracle_twap_1e6 / 1e6) * 100


class FeeTier(msgspec.Struct, frozen=True):
    """Fractions of notional: ``fee_numerator / fee_denominator`` taker, the others likewise."""

    fee_numerator: int
    fee_denominator: int
    maker_rebate_numerator: int
    maker_rebate_denominator: int


class StateAccount(msgspec.Struct, frozen=True):
    """The exchange as a whole. Divergence, confidence limits 1e6; ``liquidation_margin_buffer_ratio_1e4`` is what a
    liquidation must restore beyond the maintenance requirement."""

    exchange_status: int = 0
    perp_fee_tiers: tuple[FeeTier, ...] = ()
    mark_oracle_divergence_1e6: int = 0
    oracle_twap_5min_divergence_1e6: int = 0
    slots_before_stale_for_amm: int = 0
    slots_before_stale_for_margin: int = 0
    confidence_interval_max_1e6: int = 0
    too_volatile_ratio: int = 0
    liquidation_margin_buffer_ratio_1e4: int = 0
    number_of_markets: int = 0
    number_of_spot_markets: int = 0
    min_perp_auction_slots: int = 0
    market_order_time_in_force_slots: int = 0
    admin: bytes = NO_KEY
    signer: bytes = NO_KEY


class UserStats(msgspec.Struct, frozen=True):
    """What decides the fee tier: 30-day volumes (quote 1e6) as of their timestamps, and the governance stake."""

    authority: bytes = NO_KEY
    referrer: bytes = NO_KEY
    maker_volume_30d_1e6: int = 0
    taker_volume_30d_1e6: int = 0
    last_maker_volume_ts_s: int = 0
    last_taker_volume_ts_s: int = 0
    staked_gov_token: int = 0
    total_fee_paid_1e6: int = 0
    total_fee_rebate_1e6: int = 0
    number_of_sub_accounts: int = 0
    paused_operations: int = 0
