"""Bytes that are not what they should be, and the small rules of decoding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from struct import pack_into

import pytest

from deltatui.domain import layout, oracle
from deltatui.domain.account import OracleSource, OrderType, base58
from deltatui.domain.errors import ValidationError
from deltatui.domain.layout import Layout, decode_perp_market, decode_spot_market, decode_state, decode_user
from deltatui.domain.oracle import decode_oracle

ACCOUNTS = Path(__file__).parent.parent / "data" / "accounts"
USER = (ACCOUNTS / "user_drift_short0.1SOLPERP_0.19SOLdeposit_2024-05.bin").read_bytes()
PERP = (ACCOUNTS / "perp_0_SOL_2026-03-10.bin").read_bytes()
SPOT = (ACCOUNTS / "spot_0_USDC_2026-03-10.bin").read_bytes()
STATE = (ACCOUNTS / "state_SYNTHETIC.bin").read_bytes()
LAZER = (ACCOUNTS / "oracle_lazer_SOL_2025-06-24.bin").read_bytes()
PULL = (ACCOUNTS / "oracle_pythpull_USDC_2024-12.bin").read_bytes()
LEGACY = (ACCOUNTS / "oracle_legacypyth.bin").read_bytes()


def changed(data: bytes, offset: int, value: int, form: str = "<B") -> bytes:
    copy = bytearray(data)
    pack_into(form, copy, offset, value)
    return bytes(copy)


@pytest.mark.parametrize(
    ("decode", "good"),
    [(decode_user, USER), (decode_perp_market, PERP), (decode_spot_market, SPOT), (decode_state, STATE)],
)
def test_other_bytes_are_refused(decode: Callable[[bytes], object], good: bytes) -> None:
    decode(good)
    with pytest.raises(ValidationError, match="start with nothing"):
        decode(b"")
    with pytest.raises(ValidationError, match="starts with " + good[:8].hex()):
        decode(bytes(8) + good[8:])
    with pytest.raises(ValidationError, match=rf"{len(good)} bytes, these are {len(good) - 1}"):
        decode(good[:-1])
    with pytest.raises(ValidationError, match=f"these are {len(good) + 120}; forks"):
        decode(good + bytes(120))


@pytest.mark.parametrize(
    ("decode", "data", "sentence"),
    [
        (decode_user, changed(USER, 4355, 3), "the user's margin mode is 3; known are 0 to 2"),
        (decode_user, changed(USER, 178, 2), "the balance type in spot market 1 is 2; known are 0 to 1"),
        (decode_user, changed(USER, 1275, 9), "the type of order .* is 9; known are 0 to 4"),
        (decode_user, changed(USER, 1276, 2), "the market type of order .* is 2; known are 0 to 1"),
        (decode_user, changed(USER, 1279, 2), "the direction of order .* is 2; known are 0 to 1"),
        (decode_perp_market, changed(PERP, 926, 16), "the oracle source of perp market 0 is 16; known are 0 to 15"),
        (decode_perp_market, changed(PERP, 1162, 9), "the status of perp market 0 is 9; known are 0 to 8"),
        (decode_perp_market, changed(PERP, 1163, 3), "the contract type of perp market 0 is 3"),
        (decode_perp_market, changed(PERP, 1164, 6), "the contract tier of perp market 0 is 6"),
        (decode_spot_market, changed(SPOT, 687, 99), "the oracle source of spot market 0 is 99"),
        (decode_spot_market, changed(SPOT, 689, 5), "the asset tier of spot market 0 is 5"),
        (decode_spot_market, changed(SPOT, 680, 20, "<I"), "the decimals of spot market 0 are 20"),
    ],
)
def test_values_nobody_knows_are_refused(decode: Callable[[bytes], object], data: bytes, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        decode(data)


def test_averages_never_made_are_none() -> None:
    market = decode_perp_market(changed(PERP, 104, 0, "<q"))
    assert market.oracle_twap_5min_1e6 is None
    assert decode_spot_market(changed(SPOT, 200, 0, "<q")).oracle_twap_5min_1e6 is None


def test_first_open_order_of_a_real_account() -> None:
    order = decode_user(USER).orders[0]
    assert order.order_type is OrderType.LIMIT
    assert order.base > order.base_filled >= 0


def test_only_open_orders_are_listed() -> None:
    assert len(decode_user(USER).orders) == 3
    assert len(decode_user(changed(USER, 1192 + 82, 3)).orders) == 2


def test_a_slot_with_a_flag_alone_is_occupied_as_in_the_sdk() -> None:
    free = 424 + 7 * 96
    assert len(decode_user(changed(USER, free + 95, 2)).perp_positions) == 2
    assert len(decode_user(changed(USER, free + 95, 1)).perp_positions) == 1


def test_wide_integers_keep_their_sign() -> None:
    short = changed(changed(PERP, 320, 2**64 - 1, "<Q"), 328, 2**64 - 1, "<Q")
    assert decode_perp_market(short).open_interest_short_1e9 == -1


@pytest.mark.parametrize(
    "table", [layout.USER, layout.PERP_MARKET, layout.SPOT_MARKET, layout.STATE, layout.USER_STATS, oracle.LAZER]
)
def test_tables_cover_the_account_and_name_nothing_twice(table: Layout) -> None:
    assert table.unpack.size == table.size
    assert len(set(table.fields)) == len(table.fields)


@pytest.mark.parametrize(
    ("exponent", "source", "price"),
    [
        (-8, OracleSource.PYTH_LAZER, 143_798_202),
        (-6, OracleSource.PYTH_LAZER, 14_379_820_286),
        (-4, OracleSource.PYTH_LAZER, 1_437_982_028_600),
        (-8, OracleSource.PYTH_LAZER_1K, 143_798_202_860),
        (-8, OracleSource.PYTH_LAZER_1M, 143_798_202_860_000),
    ],
)
def test_prices_are_scaled_for_exponent_and_source(exponent: int, source: OracleSource, price: int) -> None:
    raw = changed(changed(LAZER, 32, exponent, "<i"), 8, 14_379_820_286, "<q")
    assert decode_oracle(raw, source).price_1e6 == price


def test_negative_prices_round_toward_zero() -> None:
    assert decode_oracle(changed(LAZER, 8, -199, "<q"), OracleSource.PYTH_LAZER).price_1e6 == -1


@pytest.mark.parametrize(
    ("exponent", "source", "bound"),
    [(1, OracleSource.PYTH_LAZER, 0), (-3, OracleSource.PYTH_LAZER_1K, -3), (-6, OracleSource.PYTH_LAZER_1M, -6)],
)
def test_exponents_that_leave_no_precision_are_refused(exponent: int, source: OracleSource, bound: int) -> None:
    with pytest.raises(ValidationError, match=f"exponent is {exponent}; for {source.name} it must be below {bound}"):
        decode_oracle(changed(LAZER, 32, exponent, "<i"), source)


@pytest.mark.parametrize(
    ("price", "confidence", "shown"),
    [
        (100_040_000, 60_000, 1_000_000),  # 4 bp off, confidence 6 bp
        (100_060_000, 90_000, 1_000_600),  # 6 bp off: beyond the band
        (100_040_000, 30_000, 1_000_400),  # confidence says it really is off
        (99_960_000, 60_000, 1_000_000),
    ],
)
def test_a_stable_coin_near_one_is_one(price: int, confidence: int, shown: int) -> None:
    raw = changed(changed(LAZER, 8, price, "<q"), 40, confidence, "<Q")
    assert decode_oracle(raw, OracleSource.PYTH_LAZER_STABLE_COIN).price_1e6 == shown


def test_fully_verified_pull_prices_start_one_byte_earlier() -> None:
    full = PULL[:40] + b"\x01" + PULL[42:] + b"\0"
    assert decode_oracle(full, OracleSource.PYTH_PULL) == decode_oracle(PULL, OracleSource.PYTH_PULL)


@pytest.mark.parametrize(
    ("data", "source", "sentence"),
    [
        (PULL[:-1], OracleSource.PYTH_PULL, "no PriceUpdateV2: it has 134 bytes"),
        (changed(PULL, 40, 2), OracleSource.PYTH_PULL, "verification level is 2; it must be 0"),
        (LEGACY[:100], OracleSource.PYTH, "has 3312 bytes or more, these are 100"),
        (changed(LEGACY, 0, 1), OracleSource.PYTH, "no Pyth price account"),
        (LAZER, OracleSource.PRELAUNCH, "no PrelaunchOracle"),
        (LAZER, OracleSource.SWITCHBOARD_ON_DEMAND, "no PullFeedAccountData"),
        (LAZER, OracleSource.SWITCHBOARD, "source SWITCHBOARD cannot be read; supported are"),
    ],
)
def test_other_oracle_bytes_are_refused(data: bytes, source: OracleSource, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        decode_oracle(data, source)


def test_too_few_publishers_are_said() -> None:
    assert decode_oracle(LEGACY, OracleSource.PYTH).sufficient_data
    assert not decode_oracle(changed(LEGACY, 28, 2, "<I"), OracleSource.PYTH).sufficient_data


def test_the_quote_asset_needs_no_account() -> None:
    assert decode_oracle(b"", OracleSource.QUOTE_ASSET).price_1e6 == 1_000_000


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (bytes(32), "1" * 32),
        (bytes(31) + b"\x01", "1" * 31 + "2"),
        (
            bytes.fromhex("06a7d51718c774c928566398691d5eb68b5eb8a39b4b6d5c73555b2100000000"),
            "SysvarC1ock11111111111111111111111111111111",
        ),
    ],
)
def test_base58(key: bytes, text: str) -> None:
    assert base58(key) == text
