"""Alarm levels of health, and the loss limits."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltatui.domain.health import (
    HealthLevel,
    LossLimits,
    LossState,
    LossStop,
    crossed,
    forget_losses,
    health_level,
    watch_losses,
)

DAY = 86_400.0
OFF = LossLimits()


@pytest.mark.parametrize(
    ("health", "level"),
    [
        (100, HealthLevel.OK),
        (50, HealthLevel.OK),
        (49, HealthLevel.WARNING),
        (20, HealthLevel.WARNING),
        (19, HealthLevel.CRITICAL),
        (0, HealthLevel.CRITICAL),
    ],
)
def test_levels(health: int, level: HealthLevel) -> None:
    assert health_level(health) is level


def test_thresholds_can_be_set() -> None:
    assert health_level(69, warning_below=70, critical_below=60) is HealthLevel.WARNING
    assert health_level(59, warning_below=70, critical_below=60) is HealthLevel.CRITICAL


def test_an_alert_is_due_only_on_the_way_down() -> None:
    ok, warning, critical = HealthLevel
    assert crossed(ok, warning)
    assert crossed(ok, critical)
    assert crossed(warning, critical)
    for before, after in [(ok, ok), (warning, warning), (warning, ok), (critical, warning), (critical, ok)]:
        assert not crossed(before, after)


def watch(
    equities: list[tuple[str, str]], limits: LossLimits, step_s: float = 60.0
) -> tuple[LossState, list[LossStop | None]]:
    """(equity, transfers so far) in time; returns the last state and what stood each time."""
    state, stops = LossState(), []
    for number, (equity, transfers) in enumerate(equities):
        state, stop = watch_losses(state, limits, Decimal(equity), Decimal(transfers), number * step_s)
        stops.append(stop)
    return state, stops


def test_a_daily_loss_stops_at_the_limit() -> None:
    limits = LossLimits(daily_loss=Decimal(10))
    _, stops = watch([("100", "0"), ("90.01", "0"), ("90", "0"), ("89", "0")], limits)
    lifts = "the limit lifts at 1970-01-02 00:00 UTC (market time)"
    assert stops == [
        None,
        None,
        LossStop("lost $10.00 today, limit $10.00", lifts),
        LossStop("lost $11.00 today, limit $10.00", lifts),
    ]


def test_a_new_day_begins_with_what_is_there() -> None:
    limits = LossLimits(daily_loss=Decimal(10))
    _, stops = watch([("100", "0"), ("91", "0"), ("85", "0")], limits, step_s=DAY)
    assert stops == [None, None, None]


def test_a_daily_limit_lifts_at_midnight_of_market_time() -> None:
    limits = LossLimits(daily_loss=Decimal(10))
    _, stops = watch([("100", "0"), ("80", "0"), ("80", "0")], limits, step_s=DAY / 2)
    assert [stop is not None for stop in stops] == [False, True, False]


def test_a_drawdown_is_counted_from_the_peak() -> None:
    limits = LossLimits(drawdown_pct=Decimal(10))
    state, stops = watch([("100", "0"), ("120", "0"), ("109", "0"), ("108", "0"), ("108.01", "0")], limits)
    expected = LossStop(
        "equity is 10.00 % below its peak, limit 10.00 %", "the limit lifts when equity is above $108.00"
    )
    assert stops == [None, None, None, expected, None]
    assert state.max_drawdown_pct == 10
    assert state.peak == 120


def test_transfers_are_neither_gain_nor_loss() -> None:
    state, stops = watch(
        [("100", "0"), ("1100", "1000"), ("600", "500"), ("100", "0")],
        LossLimits(daily_loss=Decimal(1), drawdown_pct=Decimal(1)),
    )
    assert stops == [None] * 4
    assert state.max_drawdown_pct == 0


def test_a_drawdown_is_a_share_of_all_that_is_there_deposits_too() -> None:
    """100 of its own and 9,900 paid in: losing 50 is half a percent, not half."""
    state, stops = watch([("100", "0"), ("10000", "9900"), ("9950", "9900")], LossLimits(drawdown_pct=Decimal(1)))
    assert stops == [None, None, None]
    assert state.max_drawdown_pct == Decimal("0.5")


def test_an_account_that_began_with_a_deposit_has_a_drawdown_too() -> None:
    state, stops = watch([("0", "0"), ("1000", "1000"), ("800", "1000")], LossLimits(drawdown_pct=Decimal(10)))
    assert stops[2] is not None
    assert state.max_drawdown_pct == 20


def test_equity_that_is_gone_is_a_whole_drawdown_or_more() -> None:
    state, stops = watch([("100", "0"), ("0", "0")], LossLimits(drawdown_pct=Decimal(99)))
    assert state.max_drawdown_pct == 100
    assert stops[1] is not None
    state, _ = watch([("100", "0"), ("-20", "0")], OFF)
    assert state.max_drawdown_pct == 120
    state, _ = watch([("0", "0"), ("-20", "0")], OFF)
    assert state.max_drawdown_pct == 100


def test_forgotten_losses_count_anew_and_stay_on_record() -> None:
    """R6.10: from the present equity on; the largest drawdown so far is not forgotten."""
    limits = LossLimits(daily_loss=Decimal(10), drawdown_pct=Decimal(20))
    state, stops = watch([("100", "0"), ("70", "0")], limits)
    assert stops[1] is not None
    state = forget_losses(state)
    for equity, stands in (("70", False), ("61", False), ("60", True)):
        state, stop = watch_losses(state, limits, Decimal(equity), Decimal(0), 120.0)
        assert (stop is not None) is stands
    assert state.day_open == state.peak == 70
    assert state.max_drawdown_pct == 30


amounts = st.decimals(-1000, 1000, places=2)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(amounts, amounts), min_size=1, max_size=20))
def test_off_means_off_and_the_peak_only_rises(steps: list[tuple[Decimal, Decimal]]) -> None:
    state, peaks, drawdowns = LossState(), [], []
    for number, (equity, transfers) in enumerate(steps):
        state, stop = watch_losses(state, OFF, equity, transfers, number * 3600.0)
        assert stop is None
        assert state.peak is not None
        assert state.peak >= equity - transfers
        peaks.append(state.peak)
        drawdowns.append(state.max_drawdown_pct)
    assert peaks == sorted(peaks)
    assert drawdowns == sorted(drawdowns)
    assert all(drawdown >= 0 for drawdown in drawdowns)
