"""Margin by hand: signs, rounding, worst cases, refusals, and what a trade does to the account."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from deltatui.domain import margin, weights
from deltatui.domain.account import (
    ContractType,
    MarginMode,
    MarketStatus,
    OraclePrice,
    OracleSource,
    PerpMarket,
    PerpPosition,
    PositionFlag,
    SpotMarket,
    SpotPosition,
    UserAccount,
    UserStatus,
)
from deltatui.domain.errors import ValidationError
from deltatui.domain.gates import GateFacts, GateLimits, allowed, judge, judge_withdrawal
from deltatui.domain.margin import (
    Category,
    MarginBook,
    documented_health,
    documented_health_first,
    exact_health,
    health_from,
)
from deltatui.domain.preview import Change, account_after, book_after, health_after, leverage_after

SOL_KEY, USD_KEY = b"s" * 32, b"u" * 32
SOL, USD = 10**9, 10**6
INITIAL, MAINTENANCE = Category.INITIAL, Category.MAINTENANCE

QUOTE = SpotMarket(0, USD_KEY, 6)
SPOT = SpotMarket(1, SOL_KEY, 9, 8_000, 9_000, 12_000, 11_000)
PERP = PerpMarket(0, SOL_KEY, 500, 300, order_step_1e9=10**7)


def changed(value: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(value, **fields)


def book(
    base: int = 0,
    entry: int = 85,
    sol: int = 0,
    usd: int = 0,
    price: int = 85 * USD,
    *,
    perp: PerpMarket = PERP,
    spot: SpotMarket = SPOT,
    quote: SpotMarket = QUOTE,
    quote_price: int = USD,
    user: UserAccount | None = None,
    **position: int,
) -> MarginBook:
    """``base``, ``sol``, ``usd`` and ``entry`` in whole units; ``sol`` and ``usd`` negative are debts."""
    spots = []
    if usd:
        spots.append(SpotPosition(0, abs(usd) * 10**9, usd < 0))
    if sol:
        spots.append(SpotPosition(1, abs(sol) * 10**9, sol < 0))
    perps: list[PerpPosition] = []
    if base or position:
        cost = -base * entry * USD
        perps.append(changed(PerpPosition(0, base * SOL, cost, cost, cost), **position))
    user = changed(user or UserAccount(), spot_positions=tuple(spots), perp_positions=tuple(perps))
    oracles = {SOL_KEY: OraclePrice(price), USD_KEY: OraclePrice(quote_price)}
    return MarginBook(user, {0: perp}, {0: quote, 1: spot}, oracles)


# Signs


@pytest.mark.parametrize(("base", "price", "pnl"), [(10, 90, 50), (10, 80, -50), (-10, 90, -50), (-10, 80, 50)])
def test_sign_of_pnl(base: int, price: int, pnl: int) -> None:
    assert margin.unrealized_pnl_1e6(book(base, 85, usd=1_000, price=price * USD)) == pnl * USD


@pytest.mark.parametrize(
    ("base", "rate", "received"),
    [(10, 1_000_000, -10_000), (10, -1_000_000, 10_000), (-10, 1_000_000, 10_000), (-10, -1_000_000, -10_000)],
)
def test_sign_of_funding(base: int, rate: int, received: int) -> None:
    """A cumulative rate that rose by 0.001 quote per base: longs pay a cent on 10, shorts receive it."""
    perp = changed(PERP, cumulative_funding_rate_long_1e9=rate, cumulative_funding_rate_short_1e9=rate)
    assert margin.unsettled_funding_1e6(book(base, perp=perp)) == received


def test_each_side_has_its_own_cumulative_rate() -> None:
    perp = changed(PERP, cumulative_funding_rate_long_1e9=5_000_000, cumulative_funding_rate_short_1e9=2_000_000)
    assert margin.unsettled_funding_1e6(book(1, perp=perp)) == -5_000
    assert margin.unsettled_funding_1e6(book(-1, perp=perp)) == 2_000


@pytest.mark.parametrize(("base_1e9", "received"), [(-1_500_000, 0), (1_500_000, 0), (-1_999_999, 1), (1_999_999, -1)])
def test_funding_rounds_toward_zero(base_1e9: int, received: int) -> None:
    perp = changed(
        PERP, cumulative_funding_rate_long_1e9=10**6 // 2 + 1, cumulative_funding_rate_short_1e9=10**6 // 2 + 1
    )
    assert margin.unsettled_funding_1e6(book(perp=perp, base_1e9=base_1e9)) == received


@pytest.mark.parametrize(("base_1e9", "pnl"), [(3, 0), (-3, 0), (10**9, 333_333), (-(10**9), -333_333)])
def test_position_value_rounds_toward_zero(base_1e9: int, pnl: int) -> None:
    assert margin.unrealized_pnl_1e6(book(price=333_333, base_1e9=base_1e9)) == pnl


def test_pnl_is_in_dollars_not_in_quote() -> None:
    b = book(-100, 85, usd=10_000, price=80 * USD, quote_price=999_940)
    assert margin.unrealized_pnl_1e6(b) == 499_970_000
    assert margin.unrealized_pnl_1e6(b, perp_index=3) == 0


def test_funding_as_a_percentage_needs_the_average_it_was_made_from() -> None:
    perp = changed(PERP, last_funding_rate_1e9=-987_625)
    assert perp.last_funding_pct_per_hour is None
    assert changed(perp, last_funding_oracle_twap_1e6=85_029_676).last_funding_pct_per_hour == pytest.approx(
        -0.0011615, rel=1e-4
    )


# Collateral and requirement


def test_debts_round_up_and_deposits_down() -> None:
    market = changed(SPOT, cumulative_deposit_interest_1e10=10**10 + 1, cumulative_borrow_interest_1e10=10**10 + 1)
    assert weights.token_amount(market, 10**9, False) == 10**9
    assert weights.token_amount(market, 10**9, True) == 10**9 + 1
    assert weights.scaled_balance(market, 10**9, False) == 10**9 - 1
    assert weights.scaled_balance(market, 10**9, True) == 10**9
    b = book(usd=-1_000, quote=changed(QUOTE, cumulative_borrow_interest_1e10=10**10 + 1))
    assert margin.margin_requirement_1e6(b, MAINTENANCE) == 1_000_000_001


def test_hedged_account_by_hand() -> None:
    """100 SOL deposited, short 100 at 85: 80 and 90 % of 8,500, and 5 and 3 % of it required."""
    b = book(-100, sol=100)
    assert margin.total_collateral_1e6(b, INITIAL) == 6_800 * USD
    assert margin.total_collateral_1e6(b, MAINTENANCE) == 7_650 * USD
    assert margin.margin_requirement_1e6(b, INITIAL) == 425 * USD
    assert margin.margin_requirement_1e6(b, MAINTENANCE) == 255 * USD
    assert margin.free_collateral_1e6(b, INITIAL) == 6_375 * USD
    assert margin.health(b) == 97
    assert margin.leverage_1e4(b) == 10_000
    assert margin.net_value_1e6(b) == 8_500 * USD


def test_reversed_account_by_hand() -> None:
    """100 SOL borrowed, long 100 at 85, $20,000 deposited."""
    b = book(100, sol=-100, usd=20_000)
    assert margin.total_collateral_1e6(b, MAINTENANCE) == 20_000 * USD
    assert margin.margin_requirement_1e6(b, MAINTENANCE) == 8_500 * USD * 11_000 // 10_000 + 255 * USD
    assert margin.leverage_1e4(b) == 17_000 * 10_000 // 11_500
    assert margin.net_value_1e6(b) == 11_500 * USD


def test_gains_count_little_initially_and_losses_whole() -> None:
    gain, loss = book(-100, 85, usd=1_000, price=80 * USD), book(-100, 85, usd=1_000, price=86 * USD)
    assert margin.total_collateral_1e6(gain, INITIAL) == 1_000 * USD
    assert margin.total_collateral_1e6(gain, MAINTENANCE) == 1_500 * USD
    assert margin.total_collateral_1e6(loss, INITIAL) == margin.total_collateral_1e6(loss, MAINTENANCE) == 900 * USD


def test_initial_gains_are_capped_at_100_dollars() -> None:
    whole = changed(PERP, unrealized_pnl_initial_asset_weight_1e4=10_000)
    b = book(-100, 85, usd=1_000, price=80 * USD, perp=whole)
    assert margin.total_collateral_1e6(b, INITIAL) == 1_100 * USD
    assert margin.total_collateral_1e6(b, MAINTENANCE) == 1_500 * USD


def test_initial_gains_shrink_with_the_markets_imbalance() -> None:
    perp = changed(
        PERP,
        unrealized_pnl_initial_asset_weight_1e4=10_000,
        unrealized_pnl_max_imbalance_1e6=1_000 * USD,
        quote_total_1e6=4_000 * USD,
    )
    b = book(-10, 85, usd=1_000, price=80 * USD, perp=perp)
    assert margin.total_collateral_1e6(b, INITIAL) == 1_012_500_000
    calm = changed(perp, quote_total_1e6=1_000 * USD)
    assert margin.total_collateral_1e6(book(-10, 85, usd=1_000, price=80 * USD, perp=calm), INITIAL) == 1_050 * USD


def test_strict_takes_the_worse_of_price_and_average() -> None:
    low, high = changed(SPOT, oracle_twap_5min_1e6=80 * USD), changed(SPOT, oracle_twap_5min_1e6=90 * USD)
    assert margin.total_collateral_1e6(book(sol=100, spot=low), INITIAL, True) == 6_400 * USD
    assert margin.total_collateral_1e6(book(sol=100, spot=high), INITIAL, True) == 6_800 * USD
    assert margin.margin_requirement_1e6(book(sol=-100, usd=1, spot=low), INITIAL, True) == 10_200 * USD
    assert margin.margin_requirement_1e6(book(sol=-100, usd=1, spot=high), INITIAL, True) == 10_800 * USD
    assert margin.total_collateral_1e6(book(sol=100, spot=low), INITIAL) == 6_800 * USD


def test_strict_prices_the_quote_asset_too() -> None:
    quote = changed(QUOTE, oracle_twap_5min_1e6=990_000)
    b = book(-100, 85, usd=1_000, price=86 * USD, quote=quote)
    assert margin.total_collateral_1e6(b, INITIAL, True) == 890 * USD
    assert margin.margin_requirement_1e6(b, INITIAL, True) == 430 * USD
    dear = changed(QUOTE, oracle_twap_5min_1e6=1_010_000)
    b = book(-100, 85, usd=1_000, price=86 * USD, quote=dear)
    assert margin.total_collateral_1e6(b, INITIAL, True) == 899 * USD
    assert margin.margin_requirement_1e6(b, INITIAL, True) == 434_300_000


@pytest.mark.parametrize(
    ("position", "requirement"),
    [
        ({}, 8_500 * 300 // 10_000 * USD),
        ({"open_asks_1e9": -50 * SOL, "open_orders": 1}, 382_510_000),
        ({"open_bids_1e9": 50 * SOL, "open_orders": 1}, 255_010_000),
        ({"open_bids_1e9": 250 * SOL, "open_orders": 2}, 382_520_000),
    ],
)
def test_open_perp_orders_count_in_their_worst_case(position: dict[str, Any], requirement: int) -> None:
    assert margin.margin_requirement_1e6(book(-100, sol=100, **position), MAINTENANCE) == requirement


@pytest.mark.parametrize(
    ("bids", "asks", "collateral", "requirement"),
    [
        (0, 0, 850_000_000 * 9 // 10, 0),
        # Buying 10 more: 20 SOL at 90 % and 850 to pay.
        (10 * SOL, 0, 1_530_000_000, 850_010_000),
        # Selling 5: 5 SOL at 90 % and 425 received would be better than selling nothing: the bids' side is worse.
        (0, -5 * SOL, 765_000_000, 10_000),
        # Selling 40: 30 borrowed at 110 %, and 3,400 received.
        (0, -40 * SOL, 3_400_000_000, 2_805_010_000),
    ],
)
def test_open_spot_orders_count_in_their_worst_case(bids: int, asks: int, collateral: int, requirement: int) -> None:
    b = book(sol=10)
    position = changed(b.user.spot_positions[0], open_bids=bids, open_asks=asks, open_orders=int(bool(bids or asks)))
    b = changed(b, user=changed(b.user, spot_positions=(position,)))
    assert margin.total_collateral_1e6(b, MAINTENANCE) == collateral
    assert margin.margin_requirement_1e6(b, MAINTENANCE) == requirement


def test_leverage_counts_open_orders_and_equity_does_not() -> None:
    b = book(usd=1_700, sol=10)
    position = changed(b.user.spot_positions[1], open_bids=10 * SOL, open_orders=1)
    ordered = changed(b, user=changed(b.user, spot_positions=(b.user.spot_positions[0], position)))
    assert margin.net_value_1e6(ordered) == margin.net_value_1e6(b) == 2_550 * USD
    assert margin.leverage_1e4(b) == 0
    asked = book(-100, usd=10_000, open_asks_1e9=-100 * SOL, open_orders=1)
    assert margin.leverage_1e4(asked) == 17_000


@pytest.mark.parametrize(
    ("user_ratio", "position_ratio", "ratio"),
    [(0, 0, 500), (2_000, 0, 2_000), (0, 1_000, 1_000), (1_000, 2_000, 2_000), (100, 100, 500)],
)
def test_own_margin_ratios_raise_the_initial_requirement_only(user_ratio: int, position_ratio: int, ratio: int) -> None:
    b = book(-100, usd=10_000, user=UserAccount(max_margin_ratio_1e4=user_ratio), max_margin_ratio_1e4=position_ratio)
    assert margin.margin_requirement_1e6(b, INITIAL) == 8_500 * USD * ratio // 10_000
    assert margin.margin_requirement_1e6(b, MAINTENANCE) == 255 * USD


def test_own_margin_ratio_changes_spot_weights() -> None:
    user = UserAccount(max_margin_ratio_1e4=3_000)
    assert margin.total_collateral_1e6(book(sol=100, user=user), INITIAL) == 5_950 * USD
    assert margin.margin_requirement_1e6(book(sol=-100, user=user), INITIAL) == 11_050 * USD
    assert margin.total_collateral_1e6(book(usd=100, user=user), INITIAL) == 100 * USD


@pytest.mark.parametrize(
    ("mode", "initial", "maintenance"),
    [
        (MarginMode.DEFAULT, 500, 300),
        (MarginMode.HIGH_LEVERAGE, 99, 66),
        (MarginMode.HIGH_LEVERAGE_MAINTENANCE, 500, 66),
    ],
)
def test_high_leverage_modes(mode: MarginMode, initial: int, maintenance: int) -> None:
    perp = changed(PERP, high_leverage_margin_ratio_initial_1e4=99, high_leverage_margin_ratio_maintenance_1e4=66)
    b = book(-100, usd=10_000, perp=perp, user=UserAccount(margin_mode=mode))
    assert margin.margin_requirement_1e6(b, INITIAL) == 8_500 * USD * initial // 10_000
    assert margin.margin_requirement_1e6(b, MAINTENANCE) == 8_500 * USD * maintenance // 10_000


def test_high_leverage_ratio_grows_to_the_ordinary_one_and_beyond() -> None:
    """``ordinary`` 500 and imf 4000 (BTC): 400 + root(size) * 4000 / 1e9, in between a share of 500 - 99."""
    perp = changed(
        PERP,
        imf_factor_1e6=4_000,
        high_leverage_margin_ratio_initial_1e4=99,
        high_leverage_margin_ratio_maintenance_1e4=66,
    )

    def ratio(size_1e9: int) -> int:
        return weights.perp_margin_ratio_1e4(perp, size_1e9, INITIAL, high_leverage=True)

    assert ratio(0) == 99
    assert ratio(15_625 * 10**5) == 99 + 401 * 50 // 100  # root 125,000: adjusted 450
    assert ratio(625 * 10**7) == 99  # root 250,000: adjusted exactly 500, as the program has it
    assert ratio(900 * 10**7) == 520  # root 300,000
    assert [ratio(s * 10**8) for s in (1, 5, 10, 20)] == sorted(ratio(s * 10**8) for s in (1, 5, 10, 20))


def test_size_raises_requirements_and_lowers_weights() -> None:
    perp, spot = changed(PERP, imf_factor_1e6=50), changed(SPOT, imf_factor_1e6=1_250)
    ratio = [weights.perp_margin_ratio_1e4(perp, size * SOL, MAINTENANCE) for size in (1, 14_000, 100_000)]
    assert ratio == [300, 300, 398]
    asset = [weights.asset_weight_1e4(spot, size * SOL, 85 * USD, MAINTENANCE) for size in (1, 31_000, 100_000)]
    assert asset == [9_000, 9_000, 7_883]
    debt = [weights.liability_weight_1e4(spot, size * SOL, MAINTENANCE) for size in (1, 100_000)]
    assert debt == [11_000, 12_752]


def test_initial_asset_weight_scales_with_all_deposits() -> None:
    spot = changed(SPOT, scale_initial_asset_weight_start_1e6=10**6 * USD, deposit_balance_1e9=20_000 * SOL)
    assert weights.scaled_initial_asset_weight_1e4(spot, 85 * USD) == 8_000 * 10 // 17
    assert weights.scaled_initial_asset_weight_1e4(spot, 49 * USD) == 8_000


def test_a_market_in_settlement_needs_no_margin_and_pays_its_expiry_price() -> None:
    perp = changed(PERP, status=MarketStatus.SETTLEMENT, expiry_price_1e6=80 * USD)
    b = book(-100, 85, usd=1_000, perp=perp)
    assert margin.margin_requirement_1e6(b, MAINTENANCE) == 0
    assert margin.total_collateral_1e6(b, MAINTENANCE) == 1_500 * USD
    assert margin.leverage_1e4(b) == 8_000 * 10_000 // 1_500


def test_a_short_in_a_prediction_market_risks_what_is_left_to_one() -> None:
    perp = changed(PERP, contract_type=ContractType.PREDICTION)
    b = book(usd=1_000, price=300_000, perp=perp, base_1e9=-100 * SOL, quote_1e6=30 * USD)
    assert margin.margin_requirement_1e6(b, MAINTENANCE) == 70 * USD * 300 // 10_000
    assert margin.perp_liquidation_price_1e6(b, 0) is None
    ordered = book(
        usd=1_000,
        price=300_000,
        perp=perp,
        base_1e9=-100 * SOL,
        quote_1e6=30 * USD,
        open_bids_1e9=250 * SOL,
        open_orders=1,
    )
    assert margin.margin_requirement_1e6(ordered, MAINTENANCE) == 70 * USD * 300 // 10_000 + 10_000


# Health


@pytest.mark.parametrize(
    ("requirement", "collateral", "liquidated", "health"),
    [
        (0, 0, False, 100),
        (0, 100, False, 100),
        (0, -1, False, 0),
        (1, 0, False, 0),
        (1, -5, False, 0),
        (100, 100, False, 0),
        (200, 100, False, 0),
        (995, 1_000, False, 1),  # exactly 0.5: up
        (996, 1_000, False, 0),
        (985, 1_000, False, 2),  # exactly 1.5: half even would say 2 as well
        (975, 1_000, False, 3),  # exactly 2.5: half even would say 2
        (974, 1_000, False, 3),
        (3, 100, False, 97),
        (0, 100, True, 0),
    ],
)
def test_health_table(requirement: int, collateral: int, liquidated: bool, health: int) -> None:
    assert health_from(requirement, collateral, liquidated) == health


@pytest.mark.parametrize(
    ("requirement", "collateral", "liquidated", "exact"),
    [
        (0, 0, False, 100.0),
        (0, 100, False, 100.0),
        (0, -1, False, 0.0),
        (1, 0, False, 0.0),
        (1, -5, False, 0.0),
        (100, 100, False, 0.0),
        (200, 100, False, 0.0),
        (995, 1_000, False, 0.5),
        (405, 1_000, False, 59.5),
        (200, 1_000, False, 80.0),
        (1, 3, False, 66.666666666),
        (0, 100, True, 0.0),
    ],
)
def test_exact_health_table(requirement: int, collateral: int, liquidated: bool, exact: float) -> None:
    assert exact_health(requirement, collateral, liquidated) == exact


def test_59_and_a_half_reads_60_and_the_figure_itself_does_not_pass_a_limit_of_60() -> None:
    perp = changed(PERP, margin_ratio_maintenance_1e4=500)
    summary = margin.margin_summary(book(-81, 100, usd=1_000, price=100 * USD, perp=perp))
    assert (summary.health, summary.exact_health) == (60, 59.5)
    facts = GateFacts(increases_risk=True, health_after=summary.exact_health)
    (judged,) = (v for v in judge(facts, GateLimits(max_leverage=10.0), {}) if v.code == "health_after")
    assert (judged.allowed, judged.observed, judged.limit) == (False, "59.50", ">= 60")


@pytest.mark.parametrize(("less_1e6", "passes"), [(0, True), (1, False), (-1, True)])
def test_health_of_exactly_80_passes_and_a_millionth_of_a_dollar_less_does_not(less_1e6: int, passes: bool) -> None:
    """1000 of collateral, 200 of maintenance margin."""
    perp = changed(PERP, margin_ratio_maintenance_1e4=400)
    account = book(-50, 100, usd=1_000, price=100 * USD, perp=perp)
    summary = margin.margin_summary(book_after(account, Change(token_deltas={0: -less_1e6})))
    assert summary.requirement_maintenance_1e6 == 200 * USD
    assert summary.health == 80
    assert (summary.exact_health >= 80) is passes
    facts = GateFacts(
        increases_risk=True,
        health_after=summary.exact_health,
        leverage_after=1.0,
        no_liquidation_after=True,
        free_collateral_after=1.0,
    )
    assert allowed(judge_withdrawal(facts, GateLimits(max_leverage=10.0))) is passes


@pytest.mark.parametrize("status", [UserStatus.BEING_LIQUIDATED, UserStatus.BANKRUPT])
def test_health_is_0_in_liquidation_whatever_the_numbers(status: int) -> None:
    user = UserAccount(status=status)
    assert margin.health(book(-1, usd=10_000, user=user)) == 0
    summary = margin.margin_summary(book(-1, usd=10_000, user=user))
    assert (summary.health, summary.exact_health) == (0, 0.0)
    assert margin.health(book(-1, usd=10_000, user=UserAccount(status=UserStatus.REDUCE_ONLY))) == 100


def test_documented_health_is_blind_at_the_point_of_liquidation() -> None:
    assert documented_health(100.0, 100.0) == 100.0
    assert documented_health_first(100.0, 100.0) == 0.0
    assert documented_health(50.0, 100.0) == 50.0
    assert documented_health_first(100.0, 25.0) == 75.0
    assert documented_health(1.0, 0.0) == 100.0
    assert documented_health_first(0.0, 5.0) == 0.0
    assert health_from(100, 100) == 0


# Liquidation prices


def test_hedge_of_equal_size_is_liquidated_at_7_69_times_the_entry() -> None:
    """docs/sources.md, Drift: P0 / (1 - w + m)."""
    price = margin.perp_liquidation_price_1e6(book(-100, sol=100), 0)
    assert price == 653_846_153
    assert margin.spot_liquidation_price_1e6(book(-100, sol=100), 1) == price


@pytest.mark.parametrize(("base", "sol"), [(-100, 150), (-87, 100)])
def test_no_liquidation_price_above_for_an_underhedged_deposit(base: int, sol: int) -> None:
    assert margin.perp_liquidation_price_1e6(book(base, sol=sol), 0) is None


def test_a_deposit_alone_has_no_liquidation_price() -> None:
    assert margin.perp_liquidation_price_1e6(book(sol=100), 0) is None
    assert margin.spot_liquidation_price_1e6(book(sol=100), 1) is None
    assert margin.spot_liquidation_price_1e6(book(sol=100, price=85_000_001), 1) is None
    assert margin.spot_liquidation_price_1e6(book(sol=100), 0) is None


@pytest.mark.parametrize(("base", "usd", "price"), [(100, 1_700, 70_103_093), (-100, 1_700, 99_029_126)])
def test_plain_long_and_short(base: int, usd: int, price: int) -> None:
    assert margin.perp_liquidation_price_1e6(book(base, usd=usd), 0) == price


def test_liquidation_price_leaves_open_orders_out() -> None:
    plain, ordered = book(-100, sol=100), book(-100, sol=100, open_asks_1e9=-50 * SOL, open_orders=1)
    assert margin.perp_liquidation_price_1e6(ordered, 0) == margin.perp_liquidation_price_1e6(plain, 0)


def test_liquidation_price_after_a_trade_is_that_of_the_account_after_it() -> None:
    b = book(-100, sol=100)
    change = Change(perp_index=0, base_delta_1e9=-50 * SOL, quote_delta_1e6=50 * 85 * USD)
    assert margin.perp_liquidation_price_1e6(b, 0, -50 * SOL) == margin.perp_liquidation_price_1e6(
        book_after(b, change), 0
    )
    assert margin.perp_liquidation_price_1e6(b, 0, 100 * SOL) is None
    assert margin.perp_liquidation_price_1e6(b, 0, -50 * SOL - 5) == margin.perp_liquidation_price_1e6(b, 0, -50 * SOL)


def test_an_account_already_below_is_liquidated_at_todays_price() -> None:
    assert margin.perp_liquidation_price_1e6(book(-100, 80, usd=100), 0) == 85 * USD


def test_1k_markets_move_a_thousand_times_their_tokens() -> None:
    """A perp quoted per 1,000 tokens and a deposit of the same oracle quoted per token."""
    perp = changed(PERP, oracle_source=OracleSource.PYTH_LAZER_1K)
    b = book(-100, usd=20_000, price=85 * USD, perp=perp)
    alone = margin.perp_liquidation_price_1e6(b, 0)
    tokens = SpotPosition(1, 100 * 1_000 * SOL)
    user = changed(b.user, spot_positions=(*b.user.spot_positions, tokens))
    cheap = changed(b, user=user, oracles={**b.oracles, SOL_KEY: OraclePrice(85 * USD)})
    together = margin.perp_liquidation_price_1e6(cheap, 0)
    assert alone is not None
    assert together is not None
    free = 7_650_000 * USD + 20_000 * USD - 255 * USD
    assert together == 85 * USD + free * 10**6 // (103 * USD - 90 * USD)


# Refusals


def test_what_is_not_known_is_refused() -> None:
    b = book(-100, sol=100)
    for broken, sentence in (
        (changed(b, perp_markets={}), "depends on perp market 0, but that market is not known"),
        (changed(b, spot_markets={0: QUOTE}), "depends on spot market 1"),
        (changed(b, oracles={USD_KEY: OraclePrice(USD)}), "no price from oracle .* of spot market 1"),
        (changed(b, oracles={**b.oracles, SOL_KEY: OraclePrice(0)}), "the price 0, which is not positive"),
        (changed(book(-1, usd=1), oracles={USD_KEY: OraclePrice(USD)}), "no price from oracle .* of perp market 0"),
        (changed(b, spot_markets={1: SPOT}), "depends on spot market 0"),
    ):
        with pytest.raises(ValidationError, match=sentence):
            margin.margin_summary(broken)


def test_isolated_positions_are_refused() -> None:
    b = book(-100, sol=100, position_flag=PositionFlag.ISOLATED)
    for figure in (margin.health, margin.margin_summary, margin.leverage_1e4, margin.net_value_1e6):
        with pytest.raises(ValidationError, match="only cross margin"):
            figure(b)
    with pytest.raises(ValidationError, match="only cross margin"):
        margin.perp_liquidation_price_1e6(b, 0)
    with pytest.raises(ValidationError, match="only cross margin"):
        account_after(b, Change(perp_index=0, base_delta_1e9=SOL, quote_delta_1e6=-85 * USD))


def test_pools_do_not_mix() -> None:
    with pytest.raises(ValidationError, match="account is in pool 2, but spot market 1 is in pool 0"):
        margin.health(book(sol=100, user=UserAccount(pool_id=2)))
    with pytest.raises(ValidationError, match="perp market 0 is in pool 3"):
        margin.health(book(-1, usd=100, perp=changed(PERP, pool_id=3)))
    assert margin.total_collateral_1e6(book(usd=100, user=UserAccount(pool_id=1)), MAINTENANCE) == 0


# PnL that can be claimed, rates


def test_claimable_pnl_is_bounded_by_the_pool() -> None:
    poor = book(-100, 85, usd=1_000, price=80 * USD)
    assert margin.claimable_pnl_1e6(poor, 0) == 0
    rich = changed(PERP, pnl_pool_scaled_1e9=200 * SOL, fee_pool_scaled_1e9=500 * SOL)
    assert margin.claimable_pnl_1e6(book(-100, 85, usd=1_000, price=80 * USD, perp=rich), 0) == 300 * USD
    assert margin.claimable_pnl_1e6(book(-100, 85, usd=1_000, price=90 * USD), 0) == -500 * USD


def test_rates_along_the_curve() -> None:
    market = changed(
        SPOT,
        optimal_utilization_1e6=800_000,
        optimal_borrow_rate_1e6=100_000,
        max_borrow_rate_1e6=1_100_000,
        insurance_total_factor_1e6=100_000,
        deposit_balance_1e9=1_000 * SOL,
    )

    def rate(borrowed: int) -> int:
        return weights.borrow_rate_1e6(changed(market, borrow_balance_1e9=borrowed * SOL))

    assert [rate(b) for b in (0, 400, 800, 850, 875, 900, 950, 1_000)] == [
        0, 50_000, 100_000, 150_000, 200_000, 250_000, 400_000, 1_100_000,
    ]  # fmt: skip
    assert weights.deposit_rate_1e6(changed(market, borrow_balance_1e9=400 * SOL)) == 18_000
    assert weights.borrow_rate_1e6(changed(market, min_borrow_rate=4)) == 20_000
    assert rate(2_000) == 1_100_000
    assert weights.utilization_1e6(SPOT) == 0
    assert weights.utilization_1e6(changed(SPOT, borrow_balance_1e9=1)) == 10**6


# After a trade


def fill(base: int, price: int, fee: int = 0) -> Change:
    return Change(perp_index=0, base_delta_1e9=base * SOL, quote_delta_1e6=-base * price * USD, fee_1e6=fee)


@pytest.mark.parametrize(
    ("before", "delta", "entry", "quote"),
    [
        (0, -100, 90, 9_000),
        (-100, -100, 87.5, 17_500),
        (-100, 50, 85, 4_000),
        (-100, 150, 90, -5_000),
        (100, 100, 87.5, -17_500),
        (100, -50, 85, -4_000),
        (100, -150, 90, 5_000),
    ],
)
def test_entry_and_cost_after_a_fill_at_90(before: int, delta: int, entry: float, quote: int) -> None:
    position = account_after(book(before, usd=10_000), fill(delta, 90)).perp(0)
    assert position.base_1e9 == (before + delta) * SOL
    assert position.entry_price_1e6 == entry * USD
    assert position.quote_1e6 == quote * USD


def test_a_closed_position_leaves_its_result_to_be_settled() -> None:
    position = account_after(book(-100, usd=10_000), fill(100, 80, fee=2 * USD)).perp(0)
    assert (position.base_1e9, position.quote_1e6, position.quote_entry_1e6) == (0, 498 * USD, 0)
    assert position.entry_price_1e6 is None
    assert account_after(book(-100, usd=10_000), fill(100, 85)).perp_positions == ()


def test_a_fill_settles_funding_first() -> None:
    perp = changed(PERP, cumulative_funding_rate_long_1e9=7, cumulative_funding_rate_short_1e9=2_000_000)
    b = book(-100, usd=10_000, perp=perp)
    position = account_after(b, fill(-1, 85)).perp(0)
    assert position.quote_1e6 == 101 * 85 * USD + 200_000
    assert position.last_cumulative_funding_rate_1e9 == 2_000_000
    assert account_after(b, fill(101, 85)).perp(0).last_cumulative_funding_rate_1e9 == 7
    assert margin.unsettled_funding_1e6(book_after(b, fill(-1, 85))) == 0


def test_balances_after_a_transfer() -> None:
    b = book(usd=100, sol=-1)
    user = account_after(b, Change(token_deltas={0: -150 * USD, 1: 3 * SOL}))
    assert [(p.market_index, p.is_borrow) for p in user.spot_positions] == [(0, True), (1, False)]
    after = changed(b, user=user)
    assert margin.net_value_1e6(after) == -50 * USD + 2 * 85 * USD - 1  # a debt's scaled balance rounds up
    assert account_after(b, Change(token_deltas={0: -100 * USD, 1: 0})).spot_positions == b.user.spot_positions[1:]
    assert b.user.spot_positions[0].scaled_balance_1e9 == 100 * SOL


def test_leverage_and_health_after_a_trade() -> None:
    b = book(usd=1_700)
    assert leverage_after(b, fill(-100, 85)) == 50_000
    assert health_after(b, fill(-100, 85)) == 85
    assert leverage_after(b, Change()) == 0


def test_a_perp_change_needs_a_market() -> None:
    with pytest.raises(ValidationError, match="needs the market's perp_index"):
        account_after(book(usd=1), Change(base_delta_1e9=1))
    with pytest.raises(ValidationError, match="depends on perp market 9"):
        account_after(book(usd=1), Change(perp_index=9, base_delta_1e9=1))
