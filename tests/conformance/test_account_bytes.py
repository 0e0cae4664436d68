"""Real account bytes: what our tables read, against what the sources say is in them."""

from __future__ import annotations

from pathlib import Path
from struct import pack_into

import msgspec
import pytest

from deltatui.domain import margin
from deltatui.domain.account import (
    MarginMode,
    MarketStatus,
    OraclePrice,
    OracleSource,
    UserAccount,
    base58,
)
from deltatui.domain.errors import ValidationError
from deltatui.domain.layout import (
    decode_perp_market,
    decode_spot_market,
    decode_state,
    decode_user,
    decode_user_stats,
)
from deltatui.domain.margin import Category, MarginBook
from deltatui.domain.oracle import decode_oracle

ACCOUNTS = Path(__file__).parent.parent / "data" / "accounts"
USDC_ORACLE = "9VCioxmni2gDLv11qufWzT3RDERhQE4iY5Gf7NTfYyAV"
SOL_ORACLE = "3m6i4RFWEDw2Ft4tFHPJtYgmpPe21k56M3FHeWYrgGBz"
WETH_ORACLE = "6bEp2MiyoiiiDxcVqE8rUHQWwHirXUXtKfAEATTVqNzT"
WBTC_ORACLE = "fqPfDa6uQr9ndMvwaFp4mUBeUrHmLop8Jxfb1XJNmVm"


def read(name: str) -> bytes:
    return (ACCOUNTS / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "authority", "slot", "perps", "spots", "orders"),
    [
        (
            "user_drift_short0.1SOLPERP_0.19SOLdeposit_2024-05.bin",
            "GiMXQkJXLVjScmQDkoLJShBJpTh9SDPvT2AZQq8NyEBf",
            263_807_649,
            [(0, -100_000_000, 7_000_350)],
            [(1, 192_110_758)],
            3,
        ),
        (
            "user_SOLdep_SOLPERPshort_b_2023-12.bin",
            "8jkVJsoPHMSaPY5FNKkkYdfvCNM4REaHKsd4xa8Pvsx9",
            234_740_296,
            [(0, -12_000_000_000, 868_560_000)],
            [(0, -232_796_283_316), (1, 4_883_892_729)],
            0,
        ),
        (
            "user_swift_failure_HLM_2025-06.bin",
            "7hMwrCyX6okcJT31A1Nc4QZ25SBouFa7mKwZcrRcyjcc",
            348_900_253,
            [(1, 300_000_000, -31_515_779_726), (24, 20_000_000_000_000, -8_357_080_000)],
            [(0, -583_354_081_073), (4, 133), (1, 13), (3, 26_689_705)],
            0,
        ),
        (
            "user_liq_case1_2024-12.bin",
            "7aRgpExKunwnC6gUFWG3MWNTH2fv8qmtXgkfV1M3wjGy",
            306_142_948,
            [(37, 1_000_000_000, -632_632)],
            [(1, 3_221_762)],
            0,
        ),
    ],
)
def test_users(
    name: str,
    authority: str,
    slot: int,
    perps: list[tuple[int, int, int]],
    spots: list[tuple[int, int]],
    orders: int,
) -> None:
    user = decode_user(read(name))
    assert base58(user.authority) == authority
    assert user.last_active_slot == slot
    assert user.name == "Main Account"
    assert [(p.market_index, p.base_1e9, p.quote_1e6) for p in user.perp_positions] == perps
    signed = [
        (s.market_index, -s.scaled_balance_1e9 if s.is_borrow else s.scaled_balance_1e9) for s in user.spot_positions
    ]
    assert signed == spots
    assert len(user.orders) == orders
    assert user.margin_mode is (MarginMode.HIGH_LEVERAGE if "HLM" in name else MarginMode.DEFAULT)


def test_open_spot_bids_of_a_real_account() -> None:
    user = decode_user(read("user_drift_short0.1SOLPERP_0.19SOLdeposit_2024-05.bin"))
    assert user.spot(1).open_bids == sum(
        order.base - order.base_filled for order in user.orders if not order.is_perp and order.is_buy
    )
    assert user.spot(1).open_orders == sum(not order.is_perp for order in user.orders)
    assert all(order.price_1e6 > 0 for order in user.orders)


OLD = "user_SOLdep_SOLPERPshort_d_2023-12.bin"


def short_of(user: UserAccount) -> MarginBook:
    """Its SOL-PERP position alone, at 2026 prices."""
    perp = decode_perp_market(read("perp_0_SOL_2026-03-10.bin"))
    quote = decode_spot_market(read("spot_0_USDC_2026-03-10.bin"))
    oracles = {perp.oracle: OraclePrice(85_000_000), quote.oracle: OraclePrice(1_000_000)}
    short = msgspec.structs.replace(user, spot_positions=(), perp_positions=(user.perp(0),))
    return MarginBook(short, {0: perp}, {0: quote}, oracles)


def with_perp_word(data: bytes, offset: int, format_: str, value: int) -> bytes:
    """``data`` with another word in its first perp position."""
    changed = bytearray(data)
    pack_into(format_, changed, 424 + offset, value)
    return bytes(changed)


def test_bytes_from_before_isolated_positions_are_cross_margin() -> None:
    """In 2023 a flag of 3 was the size of a pool share, and what would be a balance of 2^63 and more was its
    negative base; the position is judged as the cross margin position that it is."""
    user = decode_user(read(OLD))
    assert [(p.market_index, p.base_1e9, p.quote_1e6, p.lp_shares_1e9) for p in user.perp_positions] == [
        (0, -200_000_000, 14_234_221, 377_900_000_000),
        (4, -5_000_000_000, 52_021_106, 1_060_000_000_000),
        (18, 0, 0, 3_488_000_000_000),
    ]
    for position in user.perp_positions:
        assert (position.position_flag, position.isolated_scaled_balance_1e9, position.max_margin_ratio_1e4) == (
            0,
            0,
            0,
        )
    book = short_of(user)
    position, (market, price) = user.perp(0), book.perp(0)
    funding = (market.cumulative_funding_rate_short_1e9 - position.last_cumulative_funding_rate_1e9) * 200_000_000
    summary = margin.margin_summary(book)
    assert summary.net_value_1e6 == 14_234_221 - price // 5 + funding // 10**12
    # 3 % of 17 dollars, and 5 % to open: no ratio of its own is left in it.
    assert (summary.requirement_maintenance_1e6, summary.requirement_initial_1e6) == (510_000, 850_000)


@pytest.mark.parametrize("balance", [0, 1, 2**63 - 1])
@pytest.mark.parametrize("flag", [1, 3, 5])
def test_a_flag_with_a_possible_balance_is_isolated_and_refused(balance: int, flag: int) -> None:
    data = with_perp_word(with_perp_word(read(OLD), 72, "<Q", balance), 95, "<B", flag)
    user = decode_user(data)
    assert user.perp(0).isolated_scaled_balance_1e9 == balance
    assert user.perp(0).position_flag == flag
    assert user.perp(0).max_margin_ratio_1e4 == 64_132
    book = short_of(user)
    for refused in (margin.margin_summary, margin.health, margin.leverage_1e4, margin.net_value_1e6):
        with pytest.raises(ValidationError, match="isolated margin"):
            refused(book)


@pytest.mark.parametrize("balance", [2**63, 2**64 - 1])
def test_an_empty_slot_with_such_bytes_is_empty(balance: int) -> None:
    data = read("user_SOLdep_SOLPERPshort_b_2023-12.bin")
    empty = with_perp_word(with_perp_word(data, 96 + 72, "<Q", balance), 96 + 95, "<B", 2)
    assert decode_user(empty).perp_positions == decode_user(data).perp_positions
    below = with_perp_word(with_perp_word(data, 96 + 72, "<Q", 2**63 - 1), 96 + 95, "<B", 2)
    assert len(decode_user(below).perp_positions) == 2


@pytest.mark.parametrize(
    ("name", "pubkey", "oracle", "symbol", "oracle_twap", "rate", "rate_ts"),
    [
        (
            "perp_0_SOL_2026-03-10.bin",
            "8UJgxaiQx5nTrdDgph5FiahMmzduuLTLf5WmsPegYA6W",
            "3m6i4RFWEDw2Ft4tFHPJtYgmpPe21k56M3FHeWYrgGBz",
            "SOL-PERP",
            85_043_706,
            -987_625,
            1_773_072_008,
        ),
        (
            "perp_1_BTC_2025-06-24.bin",
            "2UZMvVTBQR9yWxrEdzEQzXWE61bUjqQ5VpJAGqVb3B19",
            "35MbvS1Juz2wf7GsyHrkCw8yfKciRLxVpEhfZDZFrB4R",
            "BTC-PERP",
            105_199_120_476,
            665_012_916,
            1_750_770_004,
        ),
        (
            "perp_24_JUP_2025-06-24.bin",
            "8DdB5hHSZtPT3oqbsiHUytCrrodApNC31k3MuZhxJH61",
            "DXqKSHyhTBKEW4qgnL7ycbf3Jca5hCvUgWHFYWsh4KJa",
            "JUP-PERP",
            419_826,
            3_875,
            1_750_770_043,
        ),
    ],
)
def test_perp_markets(
    name: str, pubkey: str, oracle: str, symbol: str, oracle_twap: int, rate: int, rate_ts: int
) -> None:
    market = decode_perp_market(read(name))
    assert (base58(market.pubkey), base58(market.oracle), market.name) == (pubkey, oracle, symbol)
    assert market.oracle_source is OracleSource.PYTH_LAZER
    assert market.status is MarketStatus.ACTIVE
    assert market.oracle_twap_1e6 == oracle_twap
    assert (market.last_funding_rate_1e9, market.last_funding_rate_ts_s) == (rate, rate_ts)
    assert market.funding_period_s == 3_600


def test_sol_perp_in_numbers() -> None:
    """docs/sources.md, Drift."""
    market = decode_perp_market(read("perp_0_SOL_2026-03-10.bin"))
    assert (market.margin_ratio_initial_1e4, market.margin_ratio_maintenance_1e4, market.imf_factor_1e6) == (
        500,
        300,
        50,
    )
    assert market.unrealized_pnl_initial_asset_weight_1e4 == 0
    assert (market.cumulative_funding_rate_long_1e9, market.cumulative_funding_rate_short_1e9) == (
        44_901_176_776,
        44_694_977_101,
    )
    assert market.last_24h_avg_funding_rate_1e9 == -1_206_903
    assert market.open_interest_long_1e9 // 10**9 == 422_751
    assert -market.open_interest_short_1e9 // 10**9 == 425_175
    assert market.open_interest_1e9 == -market.open_interest_short_1e9
    assert (market.order_step_1e9, market.min_order_1e9, market.order_tick_1e6) == (10_000_000, 10_000_000, 100)
    assert (market.base_spread_1e6, market.max_spread_1e6, market.mm_oracle_price_1e6) == (200, 20_000, 84_980_000)
    assert (market.liquidator_fee_1e6, market.if_liquidation_fee_1e6) == (7_500, 7_500)
    assert market.last_funding_pct_per_hour == pytest.approx(-0.0011615, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "symbol", "oracle", "source", "interest", "interest_ts", "decimals"),
    [
        ("0_USDC_2026-03-10", "USDC", USDC_ORACLE, 15, 12_010_470_919, 1_773_139_105, 6),
        ("0_USDC_2025-06-24", "USDC", USDC_ORACLE, 15, 11_583_068_761, 1_750_772_065, 6),
        ("1_SOL_2025-06-24", "SOL", SOL_ORACLE, 12, 10_620_222_934, 1_750_772_014, 9),
        ("4_wETH_2025-06-24", "wETH", WETH_ORACLE, 7, 10_197_053_040, 1_750_770_917, 8),
        ("3_wBTC_2025-06-24", "wBTC", WBTC_ORACLE, 12, 10_040_932_879, 1_750_770_262, 8),
        ("1_SOL_2024-12", "SOL", "BAtFj4kQttZRVep3UZS2aZRDixkGYgWsbqTBVDbnSsPF", 7, 10_366_612_724, 1_734_648_627, 9),
        ("1_testvalidator_v1.76", "", "J83w4HKfqxwcq3BEMMkPFSppX3gqekLyLJBexebFVkix", 0, 10_000_000_000, 0, 9),
    ],
)  # fmt: skip
def test_spot_markets(
    name: str, symbol: str, oracle: str, source: int, interest: int, interest_ts: int, decimals: int
) -> None:
    market = decode_spot_market(read(f"spot_{name}.bin"))
    assert (market.name, base58(market.oracle), market.decimals) == (symbol, oracle, decimals)
    assert market.oracle_source is OracleSource(source)
    assert (market.cumulative_deposit_interest_1e10, market.last_interest_ts_s) == (interest, interest_ts)
    if symbol != "USDC":
        assert (market.initial_asset_weight_1e4, market.maintenance_asset_weight_1e4) == (8_000, 9_000)


def test_state_and_user_stats() -> None:
    state = decode_state(read("state_SYNTHETIC.bin"))
    assert state.exchange_status == 0
    assert [tier.fee_numerator for tier in state.perp_fee_tiers] == [100, 90, 80, 70, 60, 50]
    assert (state.slots_before_stale_for_amm, state.slots_before_stale_for_margin) == (10, 120)
    assert (state.confidence_interval_max_1e6, state.too_volatile_ratio) == (20_000, 5)
    assert state.liquidation_margin_buffer_ratio_1e4 == 200
    stats = decode_user_stats(read("userstats_a.bin"))
    assert base58(stats.authority) == "7WfzddGFZEXwJMA1EhuCasKGZwP4xbvkN4hcXaNY6fxp"
    assert (stats.taker_volume_30d_1e6, stats.maker_volume_30d_1e6, stats.number_of_sub_accounts) == (
        14_226_074_343,
        0,
        1,
    )


@pytest.mark.parametrize(
    ("name", "source", "price"),
    [
        ("lazer_USDC_2025-06-24", OracleSource.PYTH_LAZER_STABLE_COIN, OraclePrice(1_000_000, 99, 348_900_640)),
        ("lazer_SOL_2025-06-24", OracleSource.PYTH_LAZER, OraclePrice(143_798_202, 13_961, 348_900_662)),
        ("lazer_wBTC_2025-06-24", OracleSource.PYTH_LAZER, OraclePrice(104_895_244_472, 1_459_618, 348_900_640)),
        ("lazer_JUP_2025-06-24", OracleSource.PYTH_LAZER, OraclePrice(416_666, 79, 348_900_662)),
        ("lazer_BTC_2025-06-24", OracleSource.PYTH_LAZER, OraclePrice(104_966_773_750, 2_391_981, 348_900_662)),
        # driftpy leaves confidence and average of these three unscaled.
        (
            "pythpull_wETH_2025-06-24",
            OracleSource.PYTH_PULL,
            OraclePrice(2_408_645_000, 1_399_932, 348_900_646, 2_414_135_300),
        ),
        ("pythpull_SOL_2024-12", OracleSource.PYTH_PULL, OraclePrice(196_186_936, 229_299, 308_552_311, 194_876_256)),
        ("pythpull_USDC_2024-12", OracleSource.PYTH_PULL, OraclePrice(1_000_001, 1_200, 308_552_321, 999_988)),
        (
            "pythpull_USDC_2024-12",
            OracleSource.PYTH_STABLE_COIN_PULL,
            OraclePrice(1_000_000, 1_200, 308_552_321, 999_988),
        ),
        ("prelaunch_2024-12", OracleSource.PRELAUNCH, OraclePrice(2, 2, 303_826_071)),
        ("legacypyth", OracleSource.PYTH, OraclePrice(14, 0, 234_897_840, 14)),
        ("legacypyth", OracleSource.PYTH_1K, OraclePrice(14_597, 21, 234_897_840, 14_345)),
        ("legacypyth", OracleSource.PYTH_1M, OraclePrice(14_597_500, 21_900, 234_897_840, 14_345_200)),
        # The program's own test asserts this price of these bytes.
        ("switchboard_ondemand", OracleSource.SWITCHBOARD_ON_DEMAND, OraclePrice(226_556_945, 132_899, 339_847_514)),
    ],
)  # fmt: skip
def test_oracles(name: str, source: OracleSource, price: OraclePrice) -> None:
    assert decode_oracle(read(f"oracle_{name}.bin"), source) == price


def test_storage_account_of_lazer_is_no_oracle() -> None:
    with pytest.raises(ValidationError, match="no PythLazerOracle"):
        decode_oracle(read("oracle_pyth_lazer_storage.bin"), OracleSource.PYTH_LAZER)


def test_real_net_value_without_open_order_margin() -> None:
    """docs/sources.md, Drift: 20.331686 for this account at 2026 prices in the official SDK."""
    user = decode_user(read("user_drift_short0.1SOLPERP_0.19SOLdeposit_2024-05.bin"))
    perp = decode_perp_market(read("perp_0_SOL_2026-03-10.bin"))
    quote = decode_spot_market(read("spot_0_USDC_2026-03-10.bin"))
    sol = decode_spot_market(read("spot_1_SOL_2025-06-24.bin"))
    oracles = {perp.oracle: OraclePrice(85_000_000), quote.oracle: OraclePrice(999_940)}
    book = MarginBook(user, {0: perp}, {0: quote, 1: sol}, oracles)
    assert margin.net_value_1e6(book) == 20_331_686
    bare = msgspec.structs.replace(user, spot_positions=(), perp_positions=())
    assert margin.total_collateral_1e6(msgspec.structs.replace(book, user=bare), Category.INITIAL) == 0
