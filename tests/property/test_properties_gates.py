"""Documented properties 4, 12, 29 and 30 as verdicts, and what every gate owes: unknown blocks, reducing passes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltatui.domain.carry import CarryEstimate, CarryRule, Stance
from deltatui.domain.gates import (
    CODES,
    GateFacts,
    GateLimits,
    _shown,
    allowed,
    blocking,
    judge,
    judge_withdrawal,
    only_profitability_blocks,
)
from deltatui.domain.verdict import Verdict, VerdictStatus

examples = settings(max_examples=200, deadline=None)

PAPER, LIVE = GateLimits(max_leverage=10.0), GateLimits(max_leverage=5.0)
PAYS = CarryEstimate(Stance.CARRY, 1e-4, 5e-5, 5e-5, 50.0)
GOOD = GateFacts(
    increases_risk=True,
    carry=PAYS,
    leverage_after=1.0,
    health_after=90,
    liq_distance_pct_after=50.0,
    free_collateral_after=100.0,
    latency_ms=100.0,
    oracle_age_s=1.0,
    slot_lag=1,
    clock_skew_s=0.1,
    funding_age_s=60.0,
    gas_sol_after=1.0,
    guards="passing",
    open_interest_problem="",
)
INPUTS = {
    "venue_problem": "venue",
    "carry": "profitability",
    "leverage_after": "leverage",
    "health_after": "health_after",
    "liq_distance_pct_after": "liq_distance",
    "free_collateral_after": "margin",
    "latency_ms": "latency",
    "oracle_age_s": "oracle_age",
    "slot_lag": "slot_lag",
    "clock_skew_s": "clock_skew",
    "funding_age_s": "funding_age",
    "gas_sol_after": "gas",
    "guards": "guards",
    "open_interest_problem": "open_interest",
}


def facts(**changes: Any) -> GateFacts:
    return msgspec.structs.replace(GOOD, **changes)


def verdict(code: str, limits: GateLimits = PAPER, **changes: Any) -> Verdict:
    return next(v for v in judge(facts(**changes), limits, {}) if v.code == code)


def test_all_good_is_allowed() -> None:
    verdicts = judge(GOOD, PAPER, {})
    assert tuple(v.code for v in verdicts) == CODES
    assert allowed(verdicts)
    assert blocking(verdicts) == ()


@examples
@given(st.floats(0, 100), st.sampled_from([PAPER, LIVE]))
def test_property_04_leverage_above_the_limit_is_rejected(leverage: float, limits: GateLimits) -> None:
    assert verdict("leverage", limits, leverage_after=leverage).allowed is (leverage <= limits.max_leverage)
    assert verdict("leverage", limits, leverage_after=leverage, increases_risk=False).allowed


@examples
@given(st.floats(0, 1000), st.integers(0, 100), st.floats(0, 50))
def test_property_04_health_and_liquidation_distance_count_too(distance: float, health: int, least: float) -> None:
    """R4.2."""
    limits = GateLimits(max_leverage=10.0, min_liq_distance_pct=least)
    assert verdict("liq_distance", limits, liq_distance_pct_after=distance).allowed is (distance >= least)
    assert verdict("liq_distance", limits, liq_distance_pct_after=None, no_liquidation_after=True).allowed
    assert verdict("health_after", health_after=health).allowed is (health >= 60)
    assert not verdict("health_after", health_after=59.5).allowed
    assert verdict("health_after", health_after=59.5).observed == "59.50"


def withdrawal(code: str, limits: GateLimits = PAPER, **changes: Any) -> Verdict:
    return next(v for v in judge_withdrawal(facts(**changes), limits) if v.code == code)


@examples
@given(st.one_of(st.floats(0, 100), st.integers(0, 100)), st.integers(0, 100))
def test_property_12_a_withdrawal_must_leave_health(health: float, least: int) -> None:
    """Unrounded: 79.5 is not 80."""
    limits = GateLimits(max_leverage=10.0, min_health_withdraw=least)
    assert withdrawal("withdraw_health", limits, health_after=health).allowed is (health >= least)
    assert withdrawal("withdraw_health", health_after=health).allowed is (health >= 80)
    assert withdrawal("withdraw_health", health_after=None).status is VerdictStatus.UNKNOWN
    assert not withdrawal("withdraw_health", health_after=79.999999).allowed


@examples
@given(st.floats(0, 20), st.floats(0, 50), st.floats(-10, 10), st.sampled_from([PAPER, LIVE]))
def test_property_12_a_withdrawal_passes_what_a_trade_passes(
    leverage: float, distance: float, free: float, limits: GateLimits
) -> None:
    """R3.4: leverage, distance to liquidation, initial margin and an open venue, on what remains."""
    changes = {"leverage_after": leverage, "liq_distance_pct_after": distance, "free_collateral_after": free}
    for code in ("venue", "leverage", "liq_distance", "margin"):
        assert withdrawal(code, limits, **changes) == verdict(code, limits, **changes)
    fine = leverage <= limits.max_leverage and distance >= limits.min_liq_distance_pct and free > 0
    assert allowed(judge_withdrawal(facts(**changes), limits)) is fine
    assert allowed(judge_withdrawal(GOOD, limits))
    assert not allowed(judge_withdrawal(facts(venue_problem="paused"), limits))


@pytest.mark.parametrize("name", ["venue_problem", "leverage_after", "liq_distance_pct_after", "free_collateral_after"])
def test_an_unknown_input_blocks_a_withdrawal_too(name: str) -> None:
    stopped = blocking(judge_withdrawal(facts(**{name: None}), PAPER))
    assert INPUTS[name] in [verdict.code for verdict in stopped]
    assert {verdict.status for verdict in stopped} == {VerdictStatus.UNKNOWN}


@pytest.mark.parametrize(
    ("value", "limit", "shown"),
    [
        (90.0, 60, "90"),
        (60.0, 60, "60"),
        (59.5, 60, "59.50"),
        (59.6, 60, "59.60"),
        (59.4, 60, "59"),
        (60.4, 60, "60.40"),
        (60.001, 60, "60.001"),
        (79.99, 80, "79.99"),
        (79.99996, 80, "79.99996"),
        (99.99999999999999, 100, "99.999999999999986"),
        (0.0, 60, "0"),
    ],
)
def test_a_figure_is_rounded_where_that_does_not_hide_its_side_of_the_limit(
    value: float, limit: float, shown: str
) -> None:
    assert _shown(value, limit) == shown


near_a_limit = st.integers(1, 99).flatmap(lambda whole: st.floats(whole - 0.001, whole + 0.001))


@examples
@given(st.one_of(st.floats(0, 100), near_a_limit), st.integers(0, 100))
def test_what_is_shown_never_stands_on_the_other_side_of_the_limit(value: float, limit: int) -> None:
    shown = float(_shown(value, limit))
    assert abs(shown - value) <= 0.5
    assert (shown >= limit) is (value >= limit)


@examples
@given(st.floats(0, 10_000), st.floats(1, 1000))
def test_property_29_latency_above_the_threshold_rejects(latency: float, most: float) -> None:
    limits = GateLimits(max_leverage=10.0, max_latency_ms=most)
    assert verdict("latency", limits, latency_ms=latency).allowed is (latency <= most)
    assert verdict("latency", limits, latency_ms=latency, increases_risk=False).allowed


@examples
@given(st.floats(0, 1), st.booleans())
def test_property_30_sol_below_the_reserve_rejects(sol: float, increases: bool) -> None:
    """Gas is needed by whatever is sent: a reduction without gas cannot be sent either."""
    assert verdict("gas", gas_sol_after=sol, increases_risk=increases).allowed is (sol >= 0.017)
    paper = judge(facts(gas_sol_after=None), PAPER, {"gas": "paper pays no gas"})
    assert next(v for v in paper if v.code == "gas").status is VerdictStatus.NOT_APPLICABLE
    assert allowed(paper)


@pytest.mark.parametrize(("name", "code"), INPUTS.items())
def test_an_unknown_input_blocks(name: str, code: str) -> None:
    verdicts = judge(facts(**{name: None}), PAPER, {})
    stopped = {v.code for v in blocking(verdicts)}
    assert code in stopped
    found = next(v for v in verdicts if v.code == code)
    assert found.status is VerdictStatus.UNKNOWN
    assert found.reason
    assert not allowed(verdicts)


@examples
@given(st.dictionaries(st.sampled_from(sorted(INPUTS)), st.none(), min_size=1))
def test_unknown_blocks_in_every_combination(unknown: dict[str, None]) -> None:
    verdicts = judge(facts(**unknown), PAPER, {})
    codes = {v.code for v in blocking(verdicts)}
    assert {INPUTS[name] for name in unknown} <= codes
    assert codes <= {INPUTS[name] for name in unknown} | {"quote_reserve"}


bad_numbers = st.one_of(st.none(), st.floats(allow_nan=False))


@examples
@given(
    st.builds(
        GateFacts,
        increases_risk=st.just(False),
        rate_problem=st.sampled_from(["", "too many"]),
        carry=st.sampled_from(
            [None, PAYS, msgspec.structs.replace(PAYS, refused_by=CarryRule.NEGATIVE, break_even_h=None)]
        ),
        leverage_after=bad_numbers,
        health_after=st.one_of(st.none(), st.integers(0, 100)),
        liq_distance_pct_after=bad_numbers,
        free_collateral_after=bad_numbers,
        latency_ms=bad_numbers,
        oracle_age_s=bad_numbers,
        slot_lag=st.one_of(st.none(), st.integers()),
        clock_skew_s=bad_numbers,
        funding_age_s=bad_numbers,
        guards=st.sampled_from([None, "passing", "warning", "breach", "unknown"]),
        open_interest_problem=st.sampled_from([None, "", "full"]),
    )
)
def test_what_reduces_risk_is_never_stopped_by_an_economic_gate(given_facts: GateFacts) -> None:
    """R6.11: it needs a venue that is open, a size and gas, nothing else."""
    verdicts = judge(given_facts, PAPER, {"gas": "paper pays no gas"})
    assert allowed(verdicts)
    assert {v.code for v in verdicts if v.status is VerdictStatus.EXEMPT} >= {"profitability", "latency", "guards"}


@examples
@given(st.sampled_from(["warning", "breach", "unknown", "", "PASSING"]))
def test_anything_but_passing_guards_blocks(status: str) -> None:
    assert not verdict("guards", guards=status).allowed


@examples
@given(st.floats(-100, 1e6))
def test_ages(age: float) -> None:
    assert verdict("funding_age", funding_age_s=age).allowed is (age <= 7200)
    assert verdict("oracle_age", oracle_age_s=age).allowed is (age <= 60)


@pytest.mark.parametrize("number", [float("nan")])
@pytest.mark.parametrize(
    "name",
    [
        "leverage_after",
        "liq_distance_pct_after",
        "free_collateral_after",
        "latency_ms",
        "oracle_age_s",
        "clock_skew_s",
        "funding_age_s",
        "gas_sol_after",
    ],
)
def test_no_number_is_not_a_good_number(name: str, number: float) -> None:
    assert not allowed(judge(facts(**{name: number}), PAPER, {}))


@examples
@given(st.floats(-1000, 1000))
def test_a_clock_may_be_wrong_either_way(skew: float) -> None:
    assert verdict("clock_skew", clock_skew_s=skew).allowed is (abs(skew) <= 2.0)


def test_a_problem_in_words_blocks_with_its_words() -> None:
    for name, code in [("venue_problem", "venue"), ("size_problem", "size"), ("rate_problem", "rate")]:
        found = verdict(code, PAPER, **{name: "it is so"})
        assert not found.allowed
        assert found.reason == "it is so"
    assert not verdict("venue", venue_problem="closed", increases_risk=False).allowed
    assert not verdict("size", size_problem="too fine", increases_risk=False).allowed


def test_profitability() -> None:
    never = msgspec.structs.replace(
        PAYS, refused_by=CarryRule.AVERAGE, net_by_average=-0.01 / 8760, costs=0.02 / 8760 * 168
    )
    told = verdict("profitability", carry=never)
    assert told.reason == never.reason == "only the newest record pays; the average is -1.0 % APR"
    assert (told.observed, told.limit) == ("-1.0 % APR", ">= +2.0 % APR, average alone")
    assert not verdict("profitability", carry=never).allowed
    assert verdict("profitability", carry=None, carry_exempt="it corrects").reason == "it corrects"
    assert only_profitability_blocks(judge(facts(carry=never), PAPER, {}))
    assert not only_profitability_blocks(judge(facts(carry=never, health_after=1), PAPER, {}))
    assert not only_profitability_blocks(judge(GOOD, PAPER, {}))


def test_a_gate_that_the_venue_does_not_have_says_so() -> None:
    verdicts = judge(facts(latency_ms=None, guards=None), PAPER, {"latency": "no RPC", "guards": "a tape has none"})
    assert allowed(verdicts)
    assert {v.code: v.reason for v in verdicts if v.status is VerdictStatus.NOT_APPLICABLE} == {
        "latency": "no RPC",
        "guards": "a tape has none",
    }
