"""Documented properties 18, 19, 21, 22 and 23, and the right exposure and correction beside them."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deltatui.domain.delta import (
    Correction,
    Exposure,
    RebalanceSettings,
    correction_for,
    documented_drift_pct,
    documented_drift_pct_first,
    out_of_tolerance,
    plan_rebalance,
)

examples = settings(max_examples=300, deadline=None)

STEP = 10_000_000
SOL = 10**9

amounts = st.floats(-1e6, 1e6, allow_nan=False)
signed = st.integers(-(10**6), 10**6).map(lambda steps: steps * STEP)
finer = st.integers(-(10**15), 10**15)
settings_of = st.builds(
    RebalanceSettings,
    tolerance_pct=st.floats(0.1, 10),
    emergency_pct=st.floats(10, 50),
    cooldown_s=st.just(1800.0),
    min_trade_1e9=st.integers(0, 10 * SOL),
)


@examples
@given(amounts, amounts, st.floats(0, 10))
def test_property_18_drift(spot: float, perp: float, reserved: float) -> None:
    """(S-R+P)/(S-R)*100, and the first paper's (S+P)/max(S-R, 0.001)*100."""
    documented = documented_drift_pct(spot, perp, reserved)
    if spot > reserved:
        assert documented == pytest.approx((spot - reserved + perp) / (spot - reserved) * 100)
    else:
        assert documented == 0.0
    assert documented_drift_pct_first(spot, perp, reserved) == pytest.approx(
        (spot + perp) / max(spot - reserved, 0.001) * 100
    )


@examples
@given(finer, finer)
def test_property_18_right_drift_is_of_all_exposure(spot: int, perp: int) -> None:
    """R5.1: signed like the net, at most 200 %, 100 % for a naked leg, 0 only where neutral."""
    exposure = Exposure(spot, perp, STEP)
    assert exposure.net_1e9 == spot + perp
    drift = exposure.drift_pct
    assert (drift > 0) == (spot + perp > 0)
    assert (drift == 0) == (spot + perp == 0)
    assert abs(drift) <= 200.0
    assert Exposure(-spot, -perp, STEP).drift_pct == -drift
    assert Exposure(perp, spot, STEP).drift_pct == drift


def test_what_the_documented_drift_hides() -> None:
    naked_short = Exposure(0, -10 * SOL, STEP)
    assert naked_short.drift_pct == -100.0
    assert documented_drift_pct(0.0, -10.0, 0.0) == 0.0
    reverse = Exposure(-10 * SOL, 10 * SOL, STEP)
    assert reverse.drift_pct == 0.0
    assert Exposure(10 * SOL, 10 * SOL, STEP).drift_pct == 200.0


@examples
@given(finer, finer, st.integers(0, 10**15), st.integers(0, 10**15))
def test_the_worst_case_is_never_better_than_now(spot: int, perp: int, bids: int, asks: int) -> None:
    exposure = Exposure(spot, perp, STEP, bids, -asks)
    assert abs(exposure.worst_1e9) >= abs(exposure.net_1e9)
    assert exposure.worst_1e9 in (exposure.net_1e9 + bids, exposure.net_1e9 - asks)
    assert Exposure(spot, perp, STEP).worst_1e9 == spot + perp


@examples
@given(st.floats(-1000, 1000), st.floats(0, 100))
def test_property_19_a_signal_iff_drift_exceeds_the_tolerance(drift: float, tolerance: float) -> None:
    assert out_of_tolerance(drift, tolerance) is (abs(drift) > tolerance)
    assert not out_of_tolerance(tolerance, tolerance)
    assert not out_of_tolerance(-tolerance, tolerance)


@examples
@given(signed, signed, settings_of)
def test_property_21_the_correction_is_the_net_delta(spot: int, perp: int, limits: RebalanceSettings) -> None:
    plan = plan_rebalance(Exposure(spot, perp, STEP), limits, cooldown_remaining_s=0)
    assume(plan.code == "correct")
    if not plan.reduce_only:
        assert abs(plan.base_1e9) == abs(spot + perp)
    else:
        assert abs(plan.base_1e9) == min(abs(spot + perp), abs(perp))


@examples
@given(finer, finer, settings_of)
def test_property_22_too_small_a_correction_is_skipped(spot: int, perp: int, limits: RebalanceSettings) -> None:
    """The larger of minimum and step; what is left is a multiple of the step."""
    plan = plan_rebalance(Exposure(spot, perp, STEP), limits, cooldown_remaining_s=0)
    least = max(limits.min_trade_1e9, STEP)
    if plan.code == "correct":
        assert abs(plan.base_1e9) >= least
        assert plan.base_1e9 % STEP == 0
    else:
        assert plan.base_1e9 == 0
        assert plan.reason
    if plan.code == "too_small":
        possible = abs(spot + perp) if not plan.reduce_only else min(abs(spot + perp), abs(perp))
        assert possible // STEP * STEP < least


@examples
@given(finer, finer)
def test_property_23_direction(spot: int, perp: int) -> None:
    """Net long: expand the short. Net short: reduce it, reduce-only. With a long perp the mirror."""
    net = spot + perp
    correction = correction_for(net, perp)
    if net == 0:
        assert correction is Correction.NONE
    elif net > 0:
        assert correction is (Correction.REDUCE_LONG if perp > 0 else Correction.EXPAND_SHORT)
    else:
        assert correction is (Correction.REDUCE_SHORT if perp < 0 else Correction.EXPAND_LONG)
    mirror = {
        Correction.NONE: Correction.NONE,
        Correction.EXPAND_SHORT: Correction.EXPAND_LONG,
        Correction.EXPAND_LONG: Correction.EXPAND_SHORT,
        Correction.REDUCE_SHORT: Correction.REDUCE_LONG,
        Correction.REDUCE_LONG: Correction.REDUCE_SHORT,
    }
    if perp:
        assert correction_for(-net, -perp) is mirror[correction]


@examples
@given(finer, finer, settings_of, st.booleans())
def test_a_correction_goes_towards_neutral_and_never_flips_the_perp(
    spot: int, perp: int, limits: RebalanceSettings, manual: bool
) -> None:
    exposure = Exposure(spot, perp, STEP)
    plan = plan_rebalance(exposure, limits, cooldown_remaining_s=0, manual=manual)
    after = perp + plan.base_1e9
    assert after * perp >= 0
    assert abs(spot + after) <= abs(spot + perp)
    assert plan.reduce_only == plan.correction.reduce_only
    if plan.reduce_only:
        assert abs(after) <= abs(perp)
    elif plan.base_1e9:
        assert abs(after) > abs(perp)


@examples
@given(signed, signed, st.floats(0.001, 1800), settings_of)
def test_property_20_the_cooldown_skips_and_says_how_long(
    spot: int, perp: int, remaining_s: float, limits: RebalanceSettings
) -> None:
    exposure = Exposure(spot, perp, STEP)
    now = plan_rebalance(exposure, limits, cooldown_remaining_s=0)
    cooling = plan_rebalance(exposure, limits, cooldown_remaining_s=remaining_s)
    if now.code != "correct":
        assert cooling == now
    elif abs(exposure.drift_pct) > limits.emergency_pct:
        assert cooling == now  # R5.7
    else:
        assert cooling.code == "cooldown"
        assert cooling.base_1e9 == 0
        assert cooling.cooldown_remaining_s == remaining_s
        assert f"{remaining_s:.0f} s" in cooling.reason
        assert plan_rebalance(exposure, limits, cooldown_remaining_s=remaining_s, manual=True).base_1e9 == now.base_1e9
