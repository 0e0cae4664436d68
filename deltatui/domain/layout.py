"""Decode Drift v2 accounts by small tables of offsets (docs/sources.md, Drift; IDL 2.163.0).

Every account starts with an 8-byte discriminator (the first bytes of sha256 of ``account:<Name>``). Forks of the
program kept the discriminators and changed the layouts, so the length must match exactly too; anything else raises
ValidationError. Oracle accounts are in ``domain.oracle``.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Any, Final, NamedTuple, TypeVar

from deltatui.domain.account import (
    AssetTier,
    ContractTier,
    ContractType,
    FeeTier,
    MarginMode,
    MarketStatus,
    OpenOrder,
    OracleSource,
    OrderType,
    PerpMarket,
    PerpPosition,
    PositionFlag,
    SpotMarket,
    SpotPosition,
    StateAccount,
    UserAccount,
    UserStats,
)
from deltatui.domain.errors import ValidationError

E = TypeVar("E", bound=IntEnum)

_FORMATS: Final = {
    "u8": "B",
    "i8": "b",
    "bool": "?",
    "u16": "H",
    "i16": "h",
    "u32": "I",
    "i32": "i",
    "u64": "Q",
    "i64": "q",
    "u128": "16s",
    "i128": "16s",
    "key": "32s",
    "text": "32s",
}


class Layout(NamedTuple):
    """Where the wanted fields of one account type are; the bytes between them are skipped."""

    name: str
    discriminator: bytes
    size: int
    unpack: Struct
    fields: tuple[str, ...]
    kinds: tuple[tuple[int, str], ...]

    def check(self, data: bytes) -> None:
        """Raise ValidationError unless ``data`` can be an account of this type."""
        if data[:8] != self.discriminator:
            raise ValidationError(
                "BAD_ACCOUNT",
                f"these bytes are no {self.name}: they start with {data[:8].hex() or 'nothing'}, "
                f"a {self.name} starts with {self.discriminator.hex()}",
            )
        if len(data) != self.size:
            raise ValidationError(
                "BAD_ACCOUNT",
                f"a {self.name} of Drift v2 has {self.size} bytes, these are {len(data)}; "
                "forks of the program lay it out differently",
            )

    def read(self, data: bytes) -> dict[str, Any]:
        """The wanted fields by name, after :meth:`check`."""
        self.check(data)
        values: list[Any] = list(self.unpack.unpack_from(data))
        for index, kind in self.kinds:
            raw: bytes = values[index]
            if kind == "text":
                values[index] = raw.rstrip(b"\0 ").decode("utf-8", "replace")
            else:
                values[index] = int.from_bytes(raw, "little", signed=kind == "i128")
        return dict(zip(self.fields, values, strict=True))


def _struct(size: int, fields: tuple[tuple[int, str, str], ...]) -> Struct:
    parts, at = ["<"], 0
    for offset, kind, _ in fields:
        if offset > at:
            parts.append(f"{offset - at}x")
        parts.append(_FORMATS[kind])
        at = offset + Struct("<" + _FORMATS[kind]).size
    parts.append(f"{size - at}x" if size > at else "")
    packed = Struct("".join(parts))
    if packed.size != size:
        raise AssertionError(f"the table describes {packed.size} bytes, not {size}")
    return packed


def layout(name: str, discriminator: str, size: int, *fields: tuple[int, str, str]) -> Layout:
    """A table from ``(offset, kind, field name)`` in rising order of offset."""
    special = tuple((i, kind) for i, (_, kind, _) in enumerate(fields) if kind in ("text", "u128", "i128"))
    names = tuple(field for _, _, field in fields)
    return Layout(name, bytes.fromhex(discriminator), size, _struct(size, fields), names, special)


def choice(kind: type[E], value: int, what: str) -> E:
    """``value`` as a member of an enumeration. Raises ValidationError for one that this version does not know."""
    try:
        return kind(value)
    except ValueError:
        known = f"0 to {len(kind) - 1}"
        raise ValidationError("BAD_ACCOUNT", f"{what} is {value}; known are {known}") from None


USER: Final = layout(
    "User",
    "9f755fe3ef973aec",
    4376,
    (8, "key", "authority"),
    (40, "key", "delegate"),
    (72, "text", "name"),
    (4272, "u64", "total_deposits_1e6"),
    (4280, "u64", "total_withdraws_1e6"),
    (4288, "u64", "total_social_loss_1e6"),
    (4296, "i64", "settled_perp_pnl_1e6"),
    (4304, "i64", "cumulative_spot_fees_1e6"),
    (4312, "i64", "cumulative_perp_funding_1e6"),
    (4320, "u64", "liquidation_margin_freed_1e6"),
    (4328, "u64", "last_active_slot"),
    (4336, "u32", "next_order_id"),
    (4340, "u32", "max_margin_ratio_1e4"),
    (4346, "u16", "sub_account_id"),
    (4348, "u8", "status"),
    (4349, "bool", "is_margin_trading_enabled"),
    (4350, "bool", "idle"),
    (4355, "u8", "margin_mode"),
    (4356, "u8", "pool_id"),
)
_SPOT_AT, _PERP_AT, _ORDERS_AT, _ORDERS_END = 104, 424, 1192, 4264
_SPOT_POSITION = Struct("<QqqqHBB4x")
_PERP_POSITION = Struct("<qqqqqqqqQQ8x2xHHBB")
_PERP_FIELDS = (
    "last_cumulative_funding_rate_1e9",
    "base_1e9",
    "quote_1e6",
    "quote_break_even_1e6",
    "quote_entry_1e6",
    "open_bids_1e9",
    "open_asks_1e9",
    "settled_pnl_1e6",
    "lp_shares_1e9",
    "isolated_scaled_balance_1e9",
    "max_margin_ratio_1e4",
    "market_index",
    "open_orders",
    "position_flag",
)
_PERP_OCCUPIED = ("base_1e9", "quote_1e6", "open_orders", "lp_shares_1e9", "isolated_scaled_balance_1e9")
_NO_BALANCE = 2**63
_ORDER = Struct("<QQQQQQqqqiIHxBBBxB??2xB3x")
_ORDER_FIELDS = (
    "slot",
    "price_1e6",
    "base",
    "base_filled",
    "quote_filled_1e6",
    "trigger_price_1e6",
    "auction_start_price_1e6",
    "auction_end_price_1e6",
    "max_ts_s",
    "oracle_price_offset_1e6",
    "order_id",
    "market_index",
    "order_type",
    "market_type",
    "user_order_id",
    "direction",
    "reduce_only",
    "post_only",
    "auction_slots",
)
_ORDER_STATUS_AT, _ORDER_OPEN = 82, 1
_LIQUIDATION_FLAGS = int(PositionFlag.BEING_LIQUIDATED | PositionFlag.BANKRUPT)


def _known(value: int, what: str) -> None:
    if value > 1:
        raise ValidationError("BAD_ACCOUNT", f"{what} is {value}; known are 0 to 1")


def _spot_positions(data: bytes) -> tuple[SpotPosition, ...]:
    found = []
    for scaled, bids, asks, cumulative, market, balance_type, orders in _SPOT_POSITION.iter_unpack(
        data[_SPOT_AT:_PERP_AT]
    ):
        if scaled or orders:
            _known(balance_type, f"the balance type in spot market {market}")
            found.append(SpotPosition(market, scaled, balance_type == 1, bids, asks, orders, cumulative))
    return tuple(found)


def _read_as_of_today(fields: dict[str, int]) -> None:
    """Bytes of a perp position from before isolated positions, in the words of today.

    Where the isolated balance stands now, the program once kept the signed base of a pool share
    (``last_base_asset_amount_per_lp``), with its rest where the margin ratio of the position is now and its size
    where the flag is (``remainder_base_asset_amount``, ``per_lp_base``). Nobody has touched such a position since,
    so it has neither a balance of its own nor a flag nor a ratio: it is in cross margin. It shows only where that
    number was negative, which read without its sign is 2^63 or more: no balance can be that large. A smaller one may
    be a balance, and with its flag the position stays an isolated one, which margin refuses.
    """
    if fields["isolated_scaled_balance_1e9"] >= _NO_BALANCE:
        fields.update(isolated_scaled_balance_1e9=0, position_flag=0, max_margin_ratio_1e4=0)


def _perp_positions(data: bytes) -> tuple[PerpPosition, ...]:
    found = []
    for values in _PERP_POSITION.iter_unpack(data[_PERP_AT:_ORDERS_AT]):
        fields = dict(zip(_PERP_FIELDS, values, strict=True))
        _read_as_of_today(fields)
        flag = fields["position_flag"] & _LIQUIDATION_FLAGS
        if flag or any(fields[name] for name in _PERP_OCCUPIED):
            found.append(PerpPosition(**fields))
    return tuple(found)


def _orders(data: bytes) -> tuple[OpenOrder, ...]:
    found = []
    for at in range(_ORDERS_AT, _ORDERS_END, _ORDER.size):
        if data[at + _ORDER_STATUS_AT] != _ORDER_OPEN:
            continue
        values = dict(zip(_ORDER_FIELDS, _ORDER.unpack_from(data, at), strict=True))
        what = f"order {values['order_id']}"
        values["order_type"] = choice(OrderType, values["order_type"], f"the type of {what}")
        market_type, direction = values.pop("market_type"), values.pop("direction")
        _known(market_type, f"the market type of {what}")
        _known(direction, f"the direction of {what}")
        found.append(OpenOrder(is_perp=market_type == 1, is_buy=direction == 0, **values))
    return tuple(found)


def decode_user(data: bytes) -> UserAccount:
    """A User account. Empty position slots and orders that are not open are left out, as in the official SDK."""
    fields = USER.read(data)
    fields["margin_mode"] = choice(MarginMode, fields["margin_mode"], "the user's margin mode")
    return UserAccount(_spot_positions(data), _perp_positions(data), _orders(data), **fields)


PERP_MARKET: Final = layout(
    "PerpMarket",
    "0adf0c2c6bf537f7",
    1216,
    (8, "key", "pubkey"),
    (40, "key", "oracle"),
    (72, "i64", "oracle_last_price_1e6"),
    (96, "i64", "oracle_twap_1e6"),
    (104, "i64", "oracle_twap_5min_1e6"),
    (112, "i64", "oracle_twap_ts_s"),
    (152, "u128", "fee_pool_scaled_1e9"),
    (304, "i128", "open_interest_long_1e9"),
    (320, "i128", "open_interest_short_1e9"),
    (336, "i128", "base_with_amm_1e9"),
    (352, "i128", "base_with_unsettled_lp_1e9"),
    (368, "u128", "max_open_interest_1e9"),
    (384, "i128", "quote_total_1e6"),
    (480, "i64", "last_funding_rate_1e9"),
    (488, "i64", "last_funding_rate_long_1e9"),
    (496, "i64", "last_funding_rate_short_1e9"),
    (504, "i64", "last_24h_avg_funding_rate_1e9"),
    (608, "i128", "cumulative_funding_rate_long_1e9"),
    (624, "i128", "cumulative_funding_rate_short_1e9"),
    (736, "u64", "bid_twap_1e6"),
    (744, "u64", "ask_twap_1e6"),
    (752, "u64", "mark_twap_1e6"),
    (760, "u64", "mark_twap_5min_1e6"),
    (792, "i64", "last_funding_rate_ts_s"),
    (800, "i64", "funding_period_s"),
    (808, "u64", "order_step_1e9"),
    (816, "u64", "order_tick_1e6"),
    (824, "u64", "min_order_1e9"),
    (832, "u64", "mm_oracle_slot"),
    (840, "u64", "volume_24h_1e6"),
    (888, "i64", "mark_twap_ts_s"),
    (896, "u32", "base_spread_1e6"),
    (900, "u32", "max_spread_1e6"),
    (912, "i64", "mm_oracle_price_1e6"),
    (926, "u8", "oracle_source"),
    (944, "i64", "net_unsettled_funding_pnl_1e6"),
    (952, "i64", "quote_with_unsettled_lp_1e6"),
    (968, "i64", "last_funding_oracle_twap_1e6"),
    (976, "u128", "pnl_pool_scaled_1e9"),
    (1000, "text", "name"),
    (1072, "u64", "unrealized_pnl_max_imbalance_1e6"),
    (1080, "i64", "expiry_ts_s"),
    (1088, "i64", "expiry_price_1e6"),
    (1104, "u64", "next_funding_rate_record_id"),
    (1120, "u32", "imf_factor_1e6"),
    (1124, "u32", "unrealized_pnl_imf_factor_1e6"),
    (1128, "u32", "liquidator_fee_1e6"),
    (1132, "u32", "if_liquidation_fee_1e6"),
    (1136, "u32", "margin_ratio_initial_1e4"),
    (1140, "u32", "margin_ratio_maintenance_1e4"),
    (1144, "u32", "unrealized_pnl_initial_asset_weight_1e4"),
    (1148, "u32", "unrealized_pnl_maintenance_asset_weight_1e4"),
    (1160, "u16", "market_index"),
    (1162, "u8", "status"),
    (1163, "u8", "contract_type"),
    (1164, "u8", "contract_tier"),
    (1165, "u8", "paused_operations"),
    (1166, "u16", "quote_spot_index"),
    (1168, "i16", "fee_adjustment_pct"),
    (1173, "u8", "pool_id"),
    (1174, "u16", "high_leverage_margin_ratio_initial_1e4"),
    (1176, "u16", "high_leverage_margin_ratio_maintenance_1e4"),
    (1184, "u64", "last_fill_price_1e6"),
)
_PERP_AVERAGES = (
    "oracle_last_price_1e6",
    "oracle_twap_1e6",
    "oracle_twap_5min_1e6",
    "mark_twap_1e6",
    "mark_twap_5min_1e6",
    "bid_twap_1e6",
    "ask_twap_1e6",
)


def _zero_is_none(fields: dict[str, Any], names: tuple[str, ...]) -> None:
    """The program keeps 0 in an average that was never made; a price of 0 is none."""
    for name in names:
        fields[name] = fields[name] or None


def decode_perp_market(data: bytes) -> PerpMarket:
    """A PerpMarket account."""
    fields = PERP_MARKET.read(data)
    what = f"of perp market {fields['market_index']}"
    fields["oracle_source"] = choice(OracleSource, fields["oracle_source"], f"the oracle source {what}")
    fields["status"] = choice(MarketStatus, fields["status"], f"the status {what}")
    fields["contract_type"] = choice(ContractType, fields["contract_type"], f"the contract type {what}")
    fields["contract_tier"] = choice(ContractTier, fields["contract_tier"], f"the contract tier {what}")
    _zero_is_none(fields, _PERP_AVERAGES)
    return PerpMarket(**fields)


SPOT_MARKET: Final = layout(
    "SpotMarket",
    "64b1086ba8414127",
    776,
    (8, "key", "pubkey"),
    (40, "key", "oracle"),
    (72, "key", "mint"),
    (104, "key", "vault"),
    (136, "text", "name"),
    (168, "i64", "oracle_last_price_1e6"),
    (192, "i64", "oracle_twap_1e6"),
    (200, "i64", "oracle_twap_5min_1e6"),
    (208, "i64", "oracle_twap_ts_s"),
    (408, "u32", "insurance_total_factor_1e6"),
    (432, "u128", "deposit_balance_1e9"),
    (448, "u128", "borrow_balance_1e9"),
    (464, "u128", "cumulative_deposit_interest_1e10"),
    (480, "u128", "cumulative_borrow_interest_1e10"),
    (528, "u64", "withdraw_guard_threshold"),
    (536, "u64", "max_token_deposits"),
    (544, "u64", "deposit_token_twap"),
    (552, "u64", "borrow_token_twap"),
    (560, "u64", "utilization_twap_1e6"),
    (568, "u64", "last_interest_ts_s"),
    (576, "u64", "last_twap_ts_s"),
    (592, "u64", "order_step"),
    (600, "u64", "order_tick_1e6"),
    (608, "u64", "min_order"),
    (640, "u32", "initial_asset_weight_1e4"),
    (644, "u32", "maintenance_asset_weight_1e4"),
    (648, "u32", "initial_liability_weight_1e4"),
    (652, "u32", "maintenance_liability_weight_1e4"),
    (656, "u32", "imf_factor_1e6"),
    (660, "u32", "liquidator_fee_1e6"),
    (664, "u32", "if_liquidation_fee_1e6"),
    (668, "u32", "optimal_utilization_1e6"),
    (672, "u32", "optimal_borrow_rate_1e6"),
    (676, "u32", "max_borrow_rate_1e6"),
    (680, "u32", "decimals"),
    (684, "u16", "market_index"),
    (686, "bool", "orders_enabled"),
    (687, "u8", "oracle_source"),
    (688, "u8", "status"),
    (689, "u8", "asset_tier"),
    (690, "u8", "paused_operations"),
    (694, "u16", "max_token_borrows_fraction_1e4"),
    (720, "u64", "scale_initial_asset_weight_start_1e6"),
    (728, "u8", "min_borrow_rate"),
    (735, "u8", "pool_id"),
)
_MAX_DECIMALS = 19


def decode_spot_market(data: bytes) -> SpotMarket:
    """A SpotMarket account."""
    fields = SPOT_MARKET.read(data)
    what = f"of spot market {fields['market_index']}"
    fields["oracle_source"] = choice(OracleSource, fields["oracle_source"], f"the oracle source {what}")
    fields["status"] = choice(MarketStatus, fields["status"], f"the status {what}")
    fields["asset_tier"] = choice(AssetTier, fields["asset_tier"], f"the asset tier {what}")
    if fields["decimals"] > _MAX_DECIMALS:
        raise ValidationError(
            "BAD_ACCOUNT", f"the decimals {what} are {fields['decimals']}; the program allows at most {_MAX_DECIMALS}"
        )
    _zero_is_none(fields, ("oracle_last_price_1e6", "oracle_twap_1e6", "oracle_twap_5min_1e6"))
    return SpotMarket(**fields)


STATE: Final = layout(
    "State",
    "d8926b5e684bb6b1",
    992,
    (8, "key", "admin"),
    (104, "key", "signer"),
    (888, "u64", "mark_oracle_divergence_1e6"),
    (896, "u64", "oracle_twap_5min_divergence_1e6"),
    (904, "i64", "slots_before_stale_for_amm"),
    (912, "i64", "slots_before_stale_for_margin"),
    (920, "u64", "confidence_interval_max_1e6"),
    (928, "i64", "too_volatile_ratio"),
    (960, "u32", "liquidation_margin_buffer_ratio_1e4"),
    (966, "u16", "number_of_markets"),
    (968, "u16", "number_of_spot_markets"),
    (971, "u8", "min_perp_auction_slots"),
    (972, "u8", "market_order_time_in_force_slots"),
    (974, "u8", "exchange_status"),
)
_FEE_TIERS_AT, _FEE_TIERS_END = 168, 488
_FEE_TIER = Struct("<IIII16x")


def decode_state(data: bytes) -> StateAccount:
    """The State account. Unused fee tiers (no fee and no rebate) at the end are left out."""
    fields = STATE.read(data)
    tiers = [FeeTier(*values) for values in _FEE_TIER.iter_unpack(data[_FEE_TIERS_AT:_FEE_TIERS_END])]
    while tiers and not (tiers[-1].fee_numerator or tiers[-1].maker_rebate_numerator):
        tiers.pop()
    return StateAccount(perp_fee_tiers=tuple(tiers), **fields)


USER_STATS: Final = layout(
    "UserStats",
    "b0df881b7a4f20e3",
    240,
    (8, "key", "authority"),
    (40, "key", "referrer"),
    (72, "u64", "total_fee_paid_1e6"),
    (80, "u64", "total_fee_rebate_1e6"),
    (128, "u64", "maker_volume_30d_1e6"),
    (136, "u64", "taker_volume_30d_1e6"),
    (152, "i64", "last_maker_volume_ts_s"),
    (160, "i64", "last_taker_volume_ts_s"),
    (184, "u16", "number_of_sub_accounts"),
    (190, "u8", "paused_operations"),
    (216, "u64", "staked_gov_token"),
)


def decode_user_stats(data: bytes) -> UserStats:
    """A UserStats account."""
    return UserStats(**USER_STATS.read(data))
