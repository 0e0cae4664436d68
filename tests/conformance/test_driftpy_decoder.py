"""Our account tables against driftpy's decoder, on every real account. Skipped where driftpy is not installed."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import pytest

from deltatui.domain.layout import decode_perp_market, decode_spot_market, decode_user

ACCOUNTS = Path(__file__).parent.parent / "data" / "accounts"
USERS = sorted(path.name for path in ACCOUNTS.glob("user_*.bin"))
PERPS = sorted(path.name for path in ACCOUNTS.glob("perp_*.bin"))
SPOTS = sorted(path.name for path in ACCOUNTS.glob("spot_*.bin"))


def read(name: str) -> bytes:
    return (ACCOUNTS / name).read_bytes()


@pytest.fixture(scope="module")
def coder() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        driftpy = pytest.importorskip("driftpy", reason="driftpy (extra 'drift') is not installed: no second decoder")
        idl = (Path(driftpy.__file__).parent / "idl" / "drift.json").read_text()
        coders = importlib.import_module("anchorpy.coder.accounts")
        return coders.AccountsCoder(importlib.import_module("anchorpy").Idl.from_json(idl))


def _word(value: Any) -> str:
    return str(getattr(value, "name", type(value).__name__)).replace("_", "").lower()


_PERP_PATHS = {
    "pubkey": "pubkey",
    "oracle": "amm.oracle",
    "oracle_last_price_1e6": "amm.historical_oracle_data.last_oracle_price",
    "oracle_twap_1e6": "amm.historical_oracle_data.last_oracle_price_twap",
    "oracle_twap_5min_1e6": "amm.historical_oracle_data.last_oracle_price_twap5min",
    "oracle_twap_ts_s": "amm.historical_oracle_data.last_oracle_price_twap_ts",
    "fee_pool_scaled_1e9": "amm.fee_pool.scaled_balance",
    "open_interest_long_1e9": "amm.base_asset_amount_long",
    "open_interest_short_1e9": "amm.base_asset_amount_short",
    "base_with_amm_1e9": "amm.base_asset_amount_with_amm",
    "base_with_unsettled_lp_1e9": "amm.base_asset_amount_with_unsettled_lp",
    "max_open_interest_1e9": "amm.max_open_interest",
    "quote_total_1e6": "amm.quote_asset_amount",
    "last_funding_rate_1e9": "amm.last_funding_rate",
    "last_funding_rate_long_1e9": "amm.last_funding_rate_long",
    "last_funding_rate_short_1e9": "amm.last_funding_rate_short",
    "last_24h_avg_funding_rate_1e9": "amm.last24h_avg_funding_rate",
    "cumulative_funding_rate_long_1e9": "amm.cumulative_funding_rate_long",
    "cumulative_funding_rate_short_1e9": "amm.cumulative_funding_rate_short",
    "bid_twap_1e6": "amm.last_bid_price_twap",
    "ask_twap_1e6": "amm.last_ask_price_twap",
    "mark_twap_1e6": "amm.last_mark_price_twap",
    "mark_twap_5min_1e6": "amm.last_mark_price_twap5min",
    "mark_twap_ts_s": "amm.last_mark_price_twap_ts",
    "last_funding_rate_ts_s": "amm.last_funding_rate_ts",
    "funding_period_s": "amm.funding_period",
    "order_step_1e9": "amm.order_step_size",
    "order_tick_1e6": "amm.order_tick_size",
    "min_order_1e9": "amm.min_order_size",
    "volume_24h_1e6": "amm.volume24h",
    "base_spread_1e6": "amm.base_spread",
    "max_spread_1e6": "amm.max_spread",
    "oracle_source": "amm.oracle_source",
    "net_unsettled_funding_pnl_1e6": "amm.net_unsettled_funding_pnl",
    "quote_with_unsettled_lp_1e6": "amm.quote_asset_amount_with_unsettled_lp",
    "pnl_pool_scaled_1e9": "pnl_pool.scaled_balance",
    "unrealized_pnl_max_imbalance_1e6": "unrealized_pnl_max_imbalance",
    "next_funding_rate_record_id": "next_funding_rate_record_id",
    "imf_factor_1e6": "imf_factor",
    "unrealized_pnl_imf_factor_1e6": "unrealized_pnl_imf_factor",
    "margin_ratio_initial_1e4": "margin_ratio_initial",
    "margin_ratio_maintenance_1e4": "margin_ratio_maintenance",
    "unrealized_pnl_initial_asset_weight_1e4": "unrealized_pnl_initial_asset_weight",
    "unrealized_pnl_maintenance_asset_weight_1e4": "unrealized_pnl_maintenance_asset_weight",
    "high_leverage_margin_ratio_initial_1e4": "high_leverage_margin_ratio_initial",
    "high_leverage_margin_ratio_maintenance_1e4": "high_leverage_margin_ratio_maintenance",
    "market_index": "market_index",
    "status": "status",
    "contract_type": "contract_type",
    "contract_tier": "contract_tier",
    "paused_operations": "paused_operations",
    "quote_spot_index": "quote_spot_market_index",
    "fee_adjustment_pct": "fee_adjustment",
    "pool_id": "pool_id",
    "expiry_price_1e6": "expiry_price",
}
_SPOT_PATHS = {
    "pubkey": "pubkey",
    "oracle": "oracle",
    "mint": "mint",
    "vault": "vault",
    "oracle_twap_1e6": "historical_oracle_data.last_oracle_price_twap",
    "oracle_twap_5min_1e6": "historical_oracle_data.last_oracle_price_twap5min",
    "insurance_total_factor_1e6": "insurance_fund.total_factor",
    "deposit_balance_1e9": "deposit_balance",
    "borrow_balance_1e9": "borrow_balance",
    "cumulative_deposit_interest_1e10": "cumulative_deposit_interest",
    "cumulative_borrow_interest_1e10": "cumulative_borrow_interest",
    "withdraw_guard_threshold": "withdraw_guard_threshold",
    "max_token_deposits": "max_token_deposits",
    "utilization_twap_1e6": "utilization_twap",
    "last_interest_ts_s": "last_interest_ts",
    "order_step": "order_step_size",
    "order_tick_1e6": "order_tick_size",
    "min_order": "min_order_size",
    "initial_asset_weight_1e4": "initial_asset_weight",
    "maintenance_asset_weight_1e4": "maintenance_asset_weight",
    "initial_liability_weight_1e4": "initial_liability_weight",
    "maintenance_liability_weight_1e4": "maintenance_liability_weight",
    "imf_factor_1e6": "imf_factor",
    "optimal_utilization_1e6": "optimal_utilization",
    "optimal_borrow_rate_1e6": "optimal_borrow_rate",
    "max_borrow_rate_1e6": "max_borrow_rate",
    "decimals": "decimals",
    "market_index": "market_index",
    "oracle_source": "oracle_source",
    "status": "status",
    "asset_tier": "asset_tier",
    "paused_operations": "paused_operations",
    "max_token_borrows_fraction_1e4": "max_token_borrows_fraction",
    "scale_initial_asset_weight_start_1e6": "scale_initial_asset_weight_start",
    "min_borrow_rate": "min_borrow_rate",
    "pool_id": "pool_id",
}


def _compare(ours: object, theirs: Any, paths: dict[str, str]) -> None:
    different = {}
    for name, path in paths.items():
        value, other = getattr(ours, name), theirs
        for step in path.split("."):
            other = getattr(other, step)
        if isinstance(value, bytes):
            same = value == bytes(other)
        elif isinstance(other, int):
            same = (value or 0) == other
        else:
            same = _word(value) == _word(other)
        if not same:
            different[name] = (value, other)
    assert not different


@pytest.mark.parametrize("name", PERPS)
def test_driftpy_reads_the_same_perp_market(coder: Any, name: str) -> None:
    _compare(decode_perp_market(read(name)), coder.decode(read(name)), _PERP_PATHS)


@pytest.mark.parametrize("name", SPOTS)
def test_driftpy_reads_the_same_spot_market(coder: Any, name: str) -> None:
    _compare(decode_spot_market(read(name)), coder.decode(read(name)), _SPOT_PATHS)


@pytest.mark.parametrize("name", USERS)
def test_driftpy_reads_the_same_user(coder: Any, name: str) -> None:
    """Position flags and margin ratios are left out: driftpy's older IDL has other names in their place."""
    user, theirs = decode_user(read(name)), coder.decode(read(name))
    assert user.authority == bytes(theirs.authority)
    for ours_name, their_name in (
        ("total_deposits_1e6", "total_deposits"),
        ("settled_perp_pnl_1e6", "settled_perp_pnl"),
        ("cumulative_perp_funding_1e6", "cumulative_perp_funding"),
        ("last_active_slot", "last_active_slot"),
        ("next_order_id", "next_order_id"),
        ("max_margin_ratio_1e4", "max_margin_ratio"),
        ("sub_account_id", "sub_account_id"),
        ("status", "status"),
        ("pool_id", "pool_id"),
    ):
        assert getattr(user, ours_name) == getattr(theirs, their_name), ours_name
    spots = [
        (p.market_index, p.scaled_balance, _word(p.balance_type) == "borrow", p.open_bids, p.open_asks, p.open_orders)
        for p in theirs.spot_positions
        if p.scaled_balance or p.open_orders
    ]
    assert [
        (p.market_index, p.scaled_balance_1e9, p.is_borrow, p.open_bids, p.open_asks, p.open_orders)
        for p in user.spot_positions
    ] == spots
    perps = [
        (
            p.market_index,
            p.base_asset_amount,
            p.quote_asset_amount,
            p.quote_entry_amount,
            p.quote_break_even_amount,
            p.last_cumulative_funding_rate,
            p.open_bids,
            p.open_asks,
            p.open_orders,
            p.settled_pnl,
        )
        for p in theirs.perp_positions
        if p.base_asset_amount or p.quote_asset_amount or p.open_orders
    ]
    assert [
        (
            p.market_index,
            p.base_1e9,
            p.quote_1e6,
            p.quote_entry_1e6,
            p.quote_break_even_1e6,
            p.last_cumulative_funding_rate_1e9,
            p.open_bids_1e9,
            p.open_asks_1e9,
            p.open_orders,
            p.settled_pnl_1e6,
        )
        for p in user.perp_positions
        if p.base_1e9 or p.quote_1e6 or p.open_orders
    ] == perps
    orders = [
        (o.order_id, o.market_index, o.base_asset_amount, o.price, o.trigger_price, o.slot, o.max_ts, o.reduce_only)
        for o in theirs.orders
        if _word(o.status) == "open"
    ]
    assert [
        (o.order_id, o.market_index, o.base, o.price_1e6, o.trigger_price_1e6, o.slot, o.max_ts_s, o.reduce_only)
        for o in user.orders
    ] == orders
