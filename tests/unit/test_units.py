"""Rounding and signs: tables, because each row is a case that has cost somebody money."""

from __future__ import annotations

from decimal import Decimal

import pytest

from deltatui.domain.errors import ValidationError
from deltatui.domain.units import (
    apr_pct,
    base_from_text,
    base_to_decimal,
    div_ceil,
    div_trunc,
    floor_to_step,
    limit_price_1e6,
    price_to_1e6,
    sign,
)


@pytest.mark.parametrize(
    ("numerator", "denominator", "quotient"),
    [(7, 2, 3), (-7, 2, -3), (7, -2, -3), (-7, -2, 3), (0, 5, 0), (-1, 2, 0), (1, -2, 0), (6, 3, 2), (-6, 3, -2)],
)
def test_division_goes_toward_zero(numerator: int, denominator: int, quotient: int) -> None:
    assert div_trunc(numerator, denominator) == quotient


def test_division_by_zero_is_an_error() -> None:
    with pytest.raises(ZeroDivisionError):
        div_trunc(1, 0)


@pytest.mark.parametrize(("numerator", "denominator", "quotient"), [(7, 2, 4), (-7, 2, -3), (6, 3, 2), (0, 3, 0)])
def test_ceiling(numerator: int, denominator: int, quotient: int) -> None:
    assert div_ceil(numerator, denominator) == quotient


@pytest.mark.parametrize(("value", "expected"), [(3, 1), (-0.5, -1), (0, 0), (Decimal("-2"), -1)])
def test_sign(value: int | float | Decimal, expected: int) -> None:
    assert sign(value) == expected


@pytest.mark.parametrize(
    ("value", "step", "floored"),
    [(15, 10, 10), (-15, 10, -10), (9, 10, 0), (-9, 10, 0), (20, 10, 20), (-20, 10, -20)],
)
def test_sizes_shrink_to_the_step_on_both_sides(value: int, step: int, floored: int) -> None:
    assert floor_to_step(value, step) == floored


@pytest.mark.parametrize(
    ("buy", "limit"),
    [(True, 85_425_000), (False, 84_575_000)],
)
def test_limit_price_of_85_at_50_bps(buy: bool, limit: int) -> None:
    assert limit_price_1e6(85_000_000, buy=buy, slippage_bps=50, tick_1e6=100) == limit


@pytest.mark.parametrize(
    ("buy", "limit"),
    [(True, 85_400_000), (False, 84_600_000)],
)
def test_limit_price_is_rounded_inward(buy: bool, limit: int) -> None:
    assert limit_price_1e6(85_000_000, buy=buy, slippage_bps=50, tick_1e6=100_000) == limit


@pytest.mark.parametrize(("price", "tick"), [(0, 100), (-1, 100), (85_000_000, 0)])
def test_limit_price_of_nonsense_is_refused(price: int, tick: int) -> None:
    with pytest.raises(ValidationError, match="must be positive"):
        limit_price_1e6(price, buy=True, slippage_bps=50, tick_1e6=tick)


@pytest.mark.parametrize(
    ("text", "base"),
    [("1.5", 1_500_000_000), ("0.0000000019", 1), ("-0.0000000019", -1), ("2", 2_000_000_000), ("1e-3", 1_000_000)],
)
def test_sizes_from_text_round_toward_zero(text: str, base: int) -> None:
    assert base_from_text(text) == base


@pytest.mark.parametrize("text", ["", "ten", "1,5", "NaN", "Infinity", "-Infinity"])
def test_no_size_from_what_is_no_number(text: str) -> None:
    with pytest.raises(ValidationError, match="a size looks like"):
        base_from_text(text)


def test_base_and_price_to_decimal_and_back() -> None:
    assert base_to_decimal(1_500_000_001) == Decimal("1.500000001")
    assert price_to_1e6(Decimal("85.0000005")) == 85_000_000
    assert price_to_1e6(Decimal("85.0000015")) == 85_000_002


def test_apr_of_the_last_record_before_the_freeze() -> None:
    """docs/sources.md, Drift: -987625 over 85.04 is about -10.2 % a year."""
    assert apr_pct(-987_625 / 1e9, 85.043706) == pytest.approx(-10.173, abs=0.001)
