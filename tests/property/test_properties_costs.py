"""Documented properties 25 to 28, and what costs must obey whatever the numbers."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltatui.domain.costs import (
    DOCUMENTED_SLIPPAGE,
    DRIFT_FEES,
    DRIFT_SLIPPAGE,
    NO_FEES,
    NO_SLIPPAGE,
    CostModel,
    FeeSchedule,
    SlippageModel,
    documented_cost,
    documented_daily_revenue,
    documented_gate,
    documented_revenue,
    round_trip,
)

examples = settings(max_examples=200, deadline=None)

sizes = st.floats(0.0, 1e6)
prices = st.floats(0.01, 1e5)
rates = st.floats(-1.0, 1.0)
tips = st.integers(0, 10**9)
bases = st.decimals("0.01", 10**6, places=2)
marks = st.decimals("0.01", 10**5, places=4)


@examples
@given(sizes, prices, tips)
def test_property_25_cost_of_a_trade(size: float, price: float, tip: int) -> None:
    """tip*P + A*0.001 + A*0.0002 + base fee."""
    notional = size * price
    expected = tip / 1e9 * price + notional * 0.001 + notional * 0.0002 + 5_000 / 1e9 * price
    assert documented_cost(size, price, tip) == pytest.approx(expected)
    assert documented_cost(10, 150) == pytest.approx(1.80225)


@examples
@given(sizes, prices, rates)
def test_property_26_revenue_is_size_rate_price(size: float, price: float, rate: float) -> None:
    assert documented_revenue(size, price, rate) * 2 == pytest.approx(size * rate * price)
    assert documented_daily_revenue(size, price, rate) == pytest.approx(3 * documented_revenue(size, price, rate))


@examples
@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_property_27_rejected_if_revenue_is_below_cost(revenue: float, cost: float) -> None:
    assert documented_gate(revenue, cost) is not (revenue < cost)


@examples
@given(sizes, prices, rates)
def test_property_28_half_the_rate_is_used(size: float, price: float, rate: float) -> None:
    assert documented_revenue(size, price, rate) == pytest.approx(0.5 * (size * price * rate))


@examples
@given(marks, bases, st.booleans())
def test_property_03_paper_slippage_is_within_its_bounds(mark: Decimal, size: Decimal, buy: bool) -> None:
    """0.1 % to 0.3 %, against us, growing with size."""
    base = size if buy else -size
    price = DOCUMENTED_SLIPPAGE.fill_price(mark, base)
    slip = (price / mark - 1) * (1 if buy else -1)
    assert Decimal("0.001") <= slip <= Decimal("0.003")
    more = DOCUMENTED_SLIPPAGE.fill_price(mark, base * 2)
    assert (more > price) if buy else (more < price)


@examples
@given(st.decimals(0, "0.01", places=5), st.decimals(0, "0.01", places=5), marks, bases, st.booleans())
def test_property_54_a_fill_lies_within_its_slippage(
    one: Decimal, other: Decimal, mark: Decimal, size: Decimal, buy: bool
) -> None:
    model = SlippageModel(min(one, other), max(one, other))
    price = model.fill_price(mark, size if buy else -size)
    assert mark * (1 - model.maximum) <= price <= mark * (1 + model.maximum)
    assert (price >= mark) if buy else (price <= mark)


@examples
@given(bases)
def test_presets(size: Decimal) -> None:
    """R1.8: 3.5 bp and 5 bp in and out are 17 bp, slippage is 2 bp on each of four legs."""
    drift = round_trip(CostModel(DRIFT_FEES, DRIFT_SLIPPAGE), size)
    assert drift.fees == pytest.approx(0.0017)
    assert drift.slippage == pytest.approx(0.0008)
    assert drift.total == pytest.approx(0.0025)
    free = round_trip(CostModel(NO_FEES, NO_SLIPPAGE), size)
    assert free.total == 0.0
    assert NO_SLIPPAGE.fill_price(Decimal(150), size) == 150


@examples
@given(st.decimals(0, 100, places=2), st.decimals(0, 100, places=2), bases, bases)
def test_a_round_trip_is_what_four_fills_cost(perp: Decimal, spot: Decimal, size: Decimal, more: Decimal) -> None:
    model = CostModel(FeeSchedule(perp, Decimal(0), spot), DOCUMENTED_SLIPPAGE)
    cost = round_trip(model, size)
    fraction = DOCUMENTED_SLIPPAGE.fraction(size)
    assert cost.slippage == pytest.approx(float(4 * fraction))
    assert cost.fees == pytest.approx(float(2 * (perp + spot)) / 100_000)
    assert round_trip(model, size + more).total >= cost.total
