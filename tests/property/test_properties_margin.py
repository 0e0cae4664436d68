"""Documented properties 2, 4 (its input) and 14, and what margin figures must obey whatever the numbers."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deltatui.domain import margin
from deltatui.domain.account import OraclePrice, PerpMarket, PerpPosition, SpotMarket, SpotPosition, UserAccount
from deltatui.domain.margin import (
    Category,
    MarginBook,
    documented_health,
    documented_health_first,
    exact_health,
    health_from,
    margin_summary,
)
from deltatui.domain.position_margin import spot_tokens
from deltatui.domain.preview import Change, account_after, leverage_after
from deltatui.domain.units import div_ceil, div_trunc, floor_to_step, limit_price_1e6

SOL_KEY, USD_KEY = b"s" * 32, b"u" * 32
SOL, USD = 10**9, 10**6
QUOTE = SpotMarket(0, USD_KEY, 6)
SPOT = SpotMarket(1, SOL_KEY, 9, 8_000, 9_000, 12_000, 11_000)
PERP = PerpMarket(0, SOL_KEY, 500, 300, imf_factor_1e6=50)

amounts = st.integers(0, 10**15)
signed = st.integers(-(10**15), 10**15)
prices = st.integers(10 * USD, 1_000 * USD)
bases = st.integers(SOL // 100, 10_000 * SOL)

examples = settings(max_examples=200, deadline=None)


def book(base: int, entry: int, usd: int, price: int, sol: int = 0) -> MarginBook:
    """``base`` and ``sol`` 1e9, ``usd`` and prices 1e6; ``usd`` and ``sol`` negative are debts."""
    cost = div_trunc(-base * entry, SOL)
    user = UserAccount(
        (SpotPosition(0, abs(usd) * 1_000, usd < 0), SpotPosition(1, abs(sol), sol < 0)),
        (PerpPosition(0, base, cost, cost, cost),) if base else (),
    )
    return MarginBook(user, {0: PERP}, {0: QUOTE, 1: SPOT}, {SOL_KEY: OraclePrice(price), USD_KEY: OraclePrice(USD)})


@examples
@given(amounts, amounts)
def test_property_02_health(collateral: int, requirement: int) -> None:
    """Both papers' formulas as documented, and the right one beside them."""
    documented = documented_health(float(collateral), float(requirement))
    first = documented_health_first(float(collateral), float(requirement))
    assert 0.0 <= documented <= 100.0
    assert 0.0 <= first <= 100.0
    if requirement:
        assert documented == pytest.approx(min(100.0, collateral / requirement * 100))
    if collateral:
        assert first == pytest.approx(max(0.0, (collateral - requirement) / collateral * 100))
    right = health_from(requirement, collateral)
    assert 0 <= right <= 100
    if collateral > 0:
        assert abs(right - first) <= 0.5 + 1e-9
    if requirement >= collateral > 0:
        assert right == 0
        assert documented == pytest.approx(100.0 * collateral / requirement)


@examples
@given(amounts.filter(bool), amounts)
def test_health_is_0_from_the_point_of_liquidation_on(collateral: int, requirement: int) -> None:
    """Never above 0 when liquidatable; 0 before that only in the last half percent, which rounds down to it."""
    health = health_from(requirement, collateral)
    if requirement >= collateral:
        assert health == 0
    if health == 0:
        assert 200 * (collateral - requirement) < collateral
    assert health_from(requirement, collateral, being_liquidated=True) == 0


@examples
@given(amounts.filter(bool), amounts, st.integers(0, 10**12), st.integers(0, 10**12))
def test_health_falls_with_requirement_and_rises_with_collateral(
    collateral: int, requirement: int, more: int, extra: int
) -> None:
    health = health_from(requirement, collateral)
    assert health_from(requirement + more, collateral) <= health
    assert health_from(requirement, collateral + extra) >= health


@settings(max_examples=500, deadline=None)
@given(st.integers(1, 10**15), st.data(), st.integers(0, 100))
def test_exact_health_passes_a_limit_iff_the_true_figure_does(collateral: int, data: st.DataObject, limit: int) -> None:
    """Against whole numbers; what is shown to people is the same rounded half up."""
    at_limit = collateral * (100 - limit) // 100
    requirement = data.draw(
        st.one_of(st.integers(0, 2 * collateral), st.integers(max(0, at_limit - 2), at_limit + 2)), "requirement"
    )
    exact = exact_health(requirement, collateral)
    assert (exact >= limit) is (max(0, 100 * (collateral - requirement)) >= limit * collateral)
    assert 0 <= exact <= 100
    assert abs(exact - health_from(requirement, collateral)) <= 0.5 + 1e-9


@examples
@given(st.integers(0, 100), st.integers(1, 10**9))
def test_health_rounds_half_up(whole: int, unit: int) -> None:
    """Exactly ``whole`` and a half percent shows as ``whole + 1``."""
    collateral = 200 * unit
    requirement = collateral - (2 * whole + 1) * unit
    assert health_from(max(0, requirement), collateral) == min(100, whole + 1)


@examples
@given(bases, prices, st.integers(0, 10**12), prices, prices)
def test_health_of_a_short_never_rises_with_the_price(base: int, entry: int, usd: int, one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert margin.health(book(-base, entry, usd, high)) <= margin.health(book(-base, entry, usd, low))


@examples
@given(bases, prices, st.integers(1, 99), prices, prices)
def test_health_of_a_leveraged_long_never_falls_with_the_price(
    base: int, entry: int, paid_pct: int, one: int, other: int
) -> None:
    """Leveraged: less deposited than the position cost. (A long that is paid in full gains requirement faster than
    collateral: its health falls from 100 toward 97 as the price rises.)"""
    usd = base * entry // SOL * paid_pct // 100
    low, high = sorted((one, other))
    before, after = (margin.health(book(base, entry, usd, price)) for price in (low, high))
    assert after >= before - 1  # toward-zero rounding of tiny positions


@examples
@given(bases, prices, prices, prices)
def test_health_of_an_equal_hedge_never_rises_with_the_price(size: int, entry: int, one: int, other: int) -> None:
    """Short-convex: liquidation is on the way up only."""
    low, high = sorted((one, other))
    before, after = (margin.health(book(-size, entry, 0, price, sol=size)) for price in (low, high))
    assert after <= before + 1


@examples
@given(st.sampled_from([-1, 1]), bases, bases, prices, st.integers(10**9, 10**13))
def test_property_04_leverage_after_grows_with_size(side: int, size: int, more: int, price: int, usd: int) -> None:
    """The gate's input: a larger increase never shows a lower leverage, and a reduction never a higher one."""

    def after(base: int) -> int:
        change = Change(perp_index=0, base_delta_1e9=base, quote_delta_1e6=div_trunc(-base * price, SOL))
        return leverage_after(empty, change)

    empty = book(0, price, usd, price)
    one, other = after(side * size), after(side * (size + more))
    assert 0 <= one <= other
    assert one == pytest.approx(size * price / SOL / usd * 10_000, abs=2)


@examples
@given(st.sampled_from([-1, 1]), bases, st.integers(1, 99), prices, st.integers(10**9, 10**13))
def test_property_04_leverage_after_a_reduction_is_lower(
    side: int, size: int, part_pct: int, price: int, usd: int
) -> None:
    held = book(side * size, price, usd, price)
    cut = -side * (size * part_pct // 100)
    change = Change(perp_index=0, base_delta_1e9=cut, quote_delta_1e6=div_trunc(-cut * price, SOL))
    assert leverage_after(held, change) <= margin.leverage_1e4(held) + 1


@examples
@given(prices, st.booleans(), st.integers(0, 1_000), st.integers(1, USD))
def test_property_14_limit_price_is_inward(price: int, buy: bool, slippage_bps: int, tick: int) -> None:
    limit = limit_price_1e6(price, buy=buy, slippage_bps=slippage_bps, tick_1e6=tick)
    assert limit % tick == 0
    exact = price * (10_000 + slippage_bps if buy else 10_000 - slippage_bps)
    if buy:
        assert limit * 10_000 <= exact < (limit + tick) * 10_000 + 10_000
    else:
        assert (limit - tick) * 10_000 - 10_000 < exact <= limit * 10_000


@examples
@given(signed, signed.filter(bool))
def test_division_is_rusts(numerator: int, denominator: int) -> None:
    """Toward zero: the remainder has the sign of the numerator and is smaller than the divisor."""
    quotient = div_trunc(numerator, denominator)
    remainder = numerator - quotient * denominator
    assert abs(remainder) < abs(denominator)
    assert remainder == 0 or (remainder < 0) == (numerator < 0)
    assert div_trunc(-numerator, denominator) == -quotient
    if denominator > 0:
        assert div_ceil(numerator, denominator) - (numerator // denominator) == (numerator % denominator > 0)


@examples
@given(signed, st.integers(1, 10**12))
def test_sizes_are_floored_to_the_step_toward_zero(size: int, step: int) -> None:
    """R4.4: never larger than asked, on neither side."""
    floored = floor_to_step(size, step)
    assert floored % step == 0
    assert abs(floored) <= abs(size) < abs(floored) + step
    assert floored * size >= 0


@examples
@given(st.integers(-(10**13), 10**13).filter(bool), prices, prices)
def test_unrealized_pnl_is_the_price_move_times_the_size(base: int, entry: int, price: int) -> None:
    pnl = margin.unrealized_pnl_1e6(book(base, entry, 0, price))
    assert pnl == pytest.approx((price - entry) * base / SOL, abs=2)


@examples
@given(st.integers(-(10**13), 10**13), prices, st.integers(-(10**12), 10**12), st.integers(-(10**13), 10**13), prices)
def test_summary_adds_up(base: int, entry: int, usd: int, sol: int, price: int) -> None:
    whole = book(base, entry, usd, price, sol)
    summary = margin_summary(whole)
    assert summary.free_initial_1e6 == max(0, summary.collateral_initial_1e6 - summary.requirement_initial_1e6)
    assert summary.collateral_initial_1e6 <= summary.collateral_maintenance_1e6
    assert summary.requirement_initial_1e6 >= summary.requirement_maintenance_1e6
    assert summary.health == health_from(summary.requirement_maintenance_1e6, summary.collateral_maintenance_1e6)
    assert summary.net_value_1e6 == pytest.approx(usd + (sol * price + base * (price - entry)) / SOL, abs=4)
    assert summary.health == margin.health(whole)
    assert summary.leverage_1e4 == margin.leverage_1e4(whole)


@examples
@given(st.integers(SOL, 10_000 * SOL), prices, st.integers(0, 10**13), prices, st.booleans())
def test_an_account_is_liquidatable_just_beyond_its_liquidation_price(
    base: int, entry: int, usd: int, price: int, short: bool
) -> None:
    """With the quote asset at 1 and no size premium the linear price is exact up to rounding."""
    flat = msgspec.structs.replace(PERP, imf_factor_1e6=0)
    signed_base = -base if short else base
    now = msgspec.structs.replace(book(signed_base, entry, usd, price), perp_markets={0: flat})
    liquidation = margin.perp_liquidation_price_1e6(now, 0)
    free = margin.free_collateral_1e6(now, Category.MAINTENANCE)
    assume(liquidation is not None and free > 0)
    assert liquidation is not None
    room = 10 + (liquidation + price) // 10**5
    beyond, before = (liquidation + room, liquidation - room) if short else (liquidation - room, liquidation + room)
    assume(beyond > 0)  # below a price of nothing there is nothing to look at
    for at, liquidatable in ((beyond, True), (before, False)):
        there = msgspec.structs.replace(now, oracles={**now.oracles, SOL_KEY: OraclePrice(at)})
        collateral = margin.total_collateral_1e6(there, Category.MAINTENANCE)
        requirement = margin.margin_requirement_1e6(there, Category.MAINTENANCE)
        assert (collateral < requirement) is liquidatable


@examples
@given(st.integers(-(10**13), 10**13), prices, st.integers(-(10**13), 10**13), prices)
def test_a_trade_at_the_oracle_price_keeps_the_equity(base: int, entry: int, delta: int, price: int) -> None:
    now = book(base, entry, 10**12, price)
    change = Change(perp_index=0, base_delta_1e9=delta, quote_delta_1e6=div_trunc(-delta * price, SOL))
    after = msgspec.structs.replace(now, user=account_after(now, change))
    assert margin.net_value_1e6(after) == pytest.approx(margin.net_value_1e6(now), abs=2)
    assert after.user.perp(0).base_1e9 == base + delta


@examples
@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_a_transfer_changes_the_balance_by_exactly_its_amount(usd: int, moved: int) -> None:
    """A debt's scaled balance rounds up by a whole unit, a thousandth of the smallest unit of USDC."""
    now = book(0, USD, usd, 85 * USD)
    after = account_after(now, Change(token_deltas={0: moved}))
    assert spot_tokens(QUOTE, after.spot(0)) == pytest.approx(usd + moved, abs=1)
    assert after.spot(0).is_borrow is (usd + moved < 0)
