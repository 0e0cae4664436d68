"""The search for the largest amount."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltatui.engine.capital import largest


@given(st.integers(-5, 10**12), st.integers(-5, 10**12), st.integers(1, 10**6), st.integers(1, 4))
def test_it_finds_the_limit_whatever_the_curve(most: int, limit: int, slope: int, power: int) -> None:
    """``room`` falls through zero right after ``limit``, straight or bent."""
    asked = 0

    def room(number: int) -> int:
        nonlocal asked
        asked += 1
        room = slope
        for _ in range(power):
            room *= abs(limit - number)
        return room if number <= limit else -room

    assert largest(most, room) == max(0, min(most, limit))
    assert asked <= 90


@pytest.mark.parametrize("slope", [1, 7, 12_345])
def test_a_straight_line_takes_a_handful_of_looks(slope: int) -> None:
    asked: list[int] = []

    def room(number: int) -> int:
        asked.append(number)
        return slope * (1_234_567_890 - number) // 3

    assert largest(10**10, room) == 1_234_567_890
    assert len(asked) <= 8


def test_a_cliff_is_found_by_halves() -> None:
    asked: list[int] = []

    def room(number: int) -> int:
        asked.append(number)
        return 10**15 if number <= 999_999 else -1

    assert largest(10**9, room) == 999_999
    assert len(asked) <= 70
