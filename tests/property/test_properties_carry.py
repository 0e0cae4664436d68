"""Property 28 as it is right, and what the carry decision may never do, whatever the rates."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltatui.domain.carry import (
    CarryEstimate,
    CarryRule,
    CarrySettings,
    CarryState,
    Decision,
    Stance,
    decide,
    estimate,
    hedge_yield,
    holding,
    side_fraction,
)
from deltatui.domain.costs import RoundTrip
from deltatui.domain.funding import FundingWindow, HourFractions
from deltatui.domain.units import HOURS_PER_YEAR

examples = settings(max_examples=200, deadline=None)

DRIFT, FREE = RoundTrip(0.0017, 0.0008), RoundTrip(0.0, 0.0)
aprs = st.floats(-2000, 2000, allow_nan=False)
hours = st.lists(st.tuples(aprs, aprs), min_size=1, max_size=80)
some_settings = st.builds(
    CarrySettings,
    horizon_h=st.floats(1, 1000),
    prediction_weight=st.floats(0, 1),
    average_records=st.integers(1, 48),
    confirm_records=st.integers(1, 6),
    min_records=st.integers(1, 12),
    gain_haircut=st.floats(0.1, 1),
    fee_multiple=st.floats(0, 4),
    base_borrow_apr_pct=st.floats(0, 50),
    base_lend_apr_pct=st.floats(0, 20),
    quote_lend_apr_pct=st.floats(0, 20),
)
costs = st.builds(RoundTrip, st.floats(0, 0.01), st.floats(0, 0.01))


def per_hour(apr_pct: float) -> float:
    return apr_pct / 100 / HOURS_PER_YEAR


def fractions(short_apr: float, long_apr: float) -> HourFractions:
    return HourFractions(per_hour(short_apr), per_hour(long_apr))


class Play:
    """The decision over a row of records, with the account following at once."""

    def __init__(self, cost: RoundTrip, limits: CarrySettings, interval_h: float = 1.0) -> None:
        self.cost, self.limits = cost, limits
        self.window = FundingWindow(limits.average_records, interval_h)
        self.state, self.held = CarryState(), Stance.FLAT
        self.history: list[tuple[Stance, Decision]] = []

    def add(self, short_apr: float, long_apr: float | None = None) -> Decision:
        self.window.add(fractions(short_apr, short_apr if long_apr is None else long_apr))
        before = self.held
        self.state, decision = decide(holding(self.state, self.held), self.window, self.cost, self.limits)
        self.history.append((before, decision))
        # A reversal goes by way of flat.
        direct = self.held is decision.target or Stance.FLAT in (self.held, decision.target)
        self.held = decision.target if direct else Stance.FLAT
        return decision

    @property
    def switches(self) -> int:
        targets = [Stance.FLAT, *(decision.target for _, decision in self.history)]
        return sum(one is not other for one, other in pairwise(targets))


@examples
@given(hours, costs, some_settings)
def test_it_never_enters_while_the_expected_carry_is_negative(
    records: list[tuple[float, float]], cost: RoundTrip, limits: CarrySettings
) -> None:
    """R6.2, R18.3: entering needs a positive carry by forecast and by average, and a break-even within the horizon."""
    play = Play(cost, limits)
    for short, long in records:
        play.add(short, long)
    for before, decision in play.history:
        if decision.target is before:
            continue
        if decision.target is Stance.FLAT:
            continue
        entered = decision.judged
        assert entered is not None
        assert entered.allowed
        assert entered.net > 0
        assert entered.net_by_average > 0
        assert entered.break_even_h is not None
        assert entered.break_even_h <= limits.horizon_h
        assert entered.net * limits.horizon_h > limits.fee_multiple * cost.fees
        assert before is Stance.FLAT


@examples
@given(hours, costs, some_settings)
def test_it_never_goes_straight_from_one_side_to_the_other_and_never_before_enough_records(
    records: list[tuple[float, float]], cost: RoundTrip, limits: CarrySettings
) -> None:
    play = Play(cost, limits)
    for number, (short, long) in enumerate(records, 1):
        decision = play.add(short, long)
        if number < max(limits.min_records, limits.confirm_records):
            assert decision.target is Stance.FLAT
        assert decision.sentence
    for before, decision in play.history:
        assert Stance.FLAT in (before, decision.target) or before is decision.target


@examples
@given(st.floats(-3000, 3000), st.floats(-3000, 3000), costs, some_settings)
def test_property_28_right_gains_are_halved_and_losses_taken_whole(
    short_apr: float, long_apr: float, cost: RoundTrip, limits: CarrySettings
) -> None:
    window = FundingWindow(limits.average_records)
    for _ in range(limits.min_records):
        window.add(fractions(short_apr, long_apr))
    for stance, received in [(Stance.CARRY, per_hour(short_apr)), (Stance.REVERSE, -per_hour(long_apr))]:
        found = estimate(stance, window, cost, limits)
        assert found is not None
        share = limits.gain_haircut if received > 0 else 1.0
        expected = received * share + hedge_yield(stance, limits)
        assert found.gross == pytest.approx(received, rel=1e-9, abs=1e-15)
        assert found.net == pytest.approx(expected, rel=1e-6, abs=1e-12)
        if found.break_even_h is not None:
            total = max(cost.total, limits.least_round_trip)
            assert found.break_even_h == pytest.approx(total / found.net)
        assert (found.break_even_h is None) is (found.net <= 0)


@examples
@given(aprs, aprs, costs, some_settings, st.floats(0, 0.01))
def test_dearer_is_never_allowed_where_cheaper_is_not(
    short_apr: float, long_apr: float, cost: RoundTrip, limits: CarrySettings, more: float
) -> None:
    window = FundingWindow(limits.average_records)
    for _ in range(limits.min_records):
        window.add(fractions(short_apr, long_apr))
    dearer = RoundTrip(cost.fees + more, cost.slippage)
    for stance in (Stance.CARRY, Stance.REVERSE):
        cheap, dear = estimate(stance, window, cost, limits), estimate(stance, window, dearer, limits)
        assert cheap is not None
        assert dear is not None
        assert cheap.allowed or not dear.allowed


@examples
@given(st.floats(0.2, 2000), st.sampled_from([DRIFT, FREE]), st.booleans())
def test_hourly_flips_do_not_churn(apr: float, cost: RoundTrip, up_first: bool) -> None:
    """R18.3, also at 2,000 % and where trading is free."""
    play = Play(cost, CarrySettings())
    for hour in range(24 * 30):
        play.add(apr if (hour % 2 == 0) is up_first else -apr)
    assert play.switches <= 2
    assert play.held is Stance.FLAT


@examples
@given(st.floats(100, 3000), st.sampled_from([DRIFT, FREE]))
def test_a_steady_gain_is_taken_and_kept(apr: float, cost: RoundTrip) -> None:
    play = Play(cost, CarrySettings())
    for _ in range(24 * 14):
        play.add(apr)
    assert play.held is Stance.CARRY
    assert play.switches == 1


@examples
@given(st.floats(-3000, -0.01), st.sampled_from([DRIFT, FREE]))
def test_a_steady_loss_is_never_carried(apr: float, cost: RoundTrip) -> None:
    play = Play(cost, CarrySettings())
    for _ in range(24 * 14):
        play.add(apr)
        assert play.held is not Stance.CARRY
    if apr <= -100:
        assert play.held is Stance.REVERSE


@examples
@given(hours, st.sampled_from([DRIFT, FREE]), st.sampled_from([1.0, 4.0, 8.0]))
def test_a_held_stance_bleeds_at_most_a_round_trip_and_one_record(
    records: list[tuple[float, float]], cost: RoundTrip, interval_h: float
) -> None:
    """The ski renter: it is left as soon as the losses since the best moment exceed what leaving costs. A record of
    eight hours costs eight times what an hour does."""
    limits = CarrySettings()
    play = Play(cost, limits, interval_h)
    for _ in range(12):
        play.add(300)
    assert play.held is Stance.CARRY
    earned, best, stances = 0.0, 0.0, []
    total = max(cost.total, limits.least_round_trip)
    for short, long in records:
        play.add(short, long)
        earned += per_hour(short) * interval_h
        best = max(best, earned)
        stances.append(play.held)
        if set(stances) != {Stance.CARRY}:
            break
        assert best - earned <= total + 1e-12


def test_the_yields_of_the_stances() -> None:
    limits = CarrySettings(base_borrow_apr_pct=7.5, base_lend_apr_pct=2.0, quote_lend_apr_pct=5.0)
    assert hedge_yield(Stance.CARRY, limits) == pytest.approx(per_hour(-3.0))
    assert hedge_yield(Stance.REVERSE, limits) == pytest.approx(per_hour(-2.5))
    assert hedge_yield(Stance.FLAT, limits) == 0.0
    assert side_fraction(Stance.FLAT, HourFractions(1.0, 1.0)) == 0.0
    assert side_fraction(Stance.CARRY, HourFractions(1.0, 2.0)) == 1.0
    assert side_fraction(Stance.REVERSE, HourFractions(1.0, 2.0)) == -2.0


def test_a_refusal_names_its_rule() -> None:
    """Each with what that rule looked at and its own limit, not those of another."""

    def judged(values: list[float], cost: RoundTrip = DRIFT, **changes: float) -> CarryEstimate:
        window = FundingWindow(24)
        for value in values:
            window.add(fractions(value, value))
        found = estimate(Stance.CARRY, window, cost, msgspec.structs.replace(CarrySettings(), **changes))
        assert found is not None
        assert found.allowed is (found.refused_by is None)
        return found

    def rule(found: CarryEstimate) -> tuple[CarryRule | None, str, str]:
        return found.refused_by, found.observed, found.limit

    negative = judged([-50.0] * 24)
    assert rule(negative) == (CarryRule.NEGATIVE, "-50.0 % APR", "> 0 % APR expected")
    assert "-50.0 % APR" in negative.reason
    slow = judged([5.0] * 24)
    assert rule(slow) == (CarryRule.BREAK_EVEN, "876 h", "<= 168 h")
    assert slow.reason == "break-even after 876 h, limit 168 h"
    dear = judged([30.0] * 24, RoundTrip(0.0029, -0.0019))
    assert rule(dear) == (CarryRule.FEES, "28.8 bp", "> 58.0 bp, 2 times the fees")
    assert "times the fees" in dear.reason
    turned = judged([100.0] * 23 + [-3.1])
    assert rule(turned) == (CarryRule.NEWEST_RECORD, "-3.1 % APR", "> 0 % APR, newest record")
    assert "newest record" in turned.reason
    loud = judged([0.0] * 23 + [300.0])
    assert rule(loud) == (CarryRule.AVERAGE, "+6.2 % APR", ">= +13.0 % APR, average alone")
    assert "only the newest record" in loud.reason
    good = judged([100.0] * 24)
    assert rule(good) == (None, "44 h", "<= 168 h")
    assert rule(judged([100.0] * 24, horizon_h=100.0))[2] == "<= 100 h"


def test_too_few_records() -> None:
    window = FundingWindow(24)
    assert estimate(Stance.CARRY, window, DRIFT, CarrySettings()) is None
    for _ in range(5):
        window.add(fractions(100, 100))
    state = CarryState()
    after, decision = decide(state, window, DRIFT, CarrySettings())
    assert after is state
    assert decision.target is Stance.FLAT
    assert "5 of 6" in decision.sentence
    assert decision.judged is None


def test_a_new_stance_begins_with_a_clean_memory() -> None:
    state = CarryState(Stance.CARRY, Stance.FLAT, 2, 0.5)
    assert holding(state, Stance.CARRY) is state
    assert holding(state, Stance.FLAT) == CarryState()
    assert holding(state, Stance.REVERSE) == CarryState(held=Stance.REVERSE)


def test_a_short_dip_is_sat_out_and_a_long_one_is_left() -> None:
    play = Play(DRIFT, CarrySettings())
    for _ in range(30):
        play.add(100)
    for _ in range(5):
        play.add(-50)
    assert play.held is Stance.CARRY
    for _ in range(60):
        play.add(-50)
    assert play.held is not Stance.CARRY


def test_what_is_held_bleeds_by_the_hours_of_its_records() -> None:
    """At -50 % a year eight hours cost 4.6 bp and a round trip 25 bp: the sixth record has eaten it, of hourly ones the
    average turns first."""
    left_after: dict[float, int] = {}
    for interval_h in (1.0, 8.0):
        play = Play(DRIFT, CarrySettings(), interval_h)
        for _ in range(30):
            play.add(100)
        earned, records = play.state.earned, 0
        while play.held is Stance.CARRY:
            play.add(-50)
            records += 1
        assert play.state.earned == pytest.approx(earned - records * interval_h * per_hour(50), rel=1e-9)
        left_after[interval_h] = records
    assert left_after[8.0] == 6
    assert left_after[1.0] > 10
