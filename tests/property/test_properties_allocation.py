"""Which market the capital goes to (R4.10), whatever the candidates."""

from __future__ import annotations

from itertools import pairwise, permutations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltatui.domain.allocation import Prospect, ranked, worth_leaving

examples = settings(max_examples=200, deadline=None)

HORIZON_H = 168.0
nets = st.floats(-1e-3, 1e-3)
round_trips = st.floats(0, 0.02)
notionals = st.floats(1, 1e6)
horizons = st.floats(1, 2000)


def prospects(markets: str = "ABCDE") -> st.SearchStrategy[list[Prospect]]:
    """Each market once, in any order."""
    each = st.builds(Prospect, st.sampled_from(markets), notionals, nets, round_trips)
    return st.lists(each, max_size=len(markets), unique_by=lambda one: one.market)


def one(market: str, net: float, *, notional: float = 1000.0, round_trip: float = 0.002) -> Prospect:
    return Prospect(market, notional, net, round_trip)


@examples
@given(prospects(), horizons)
def test_the_best_after_costs_comes_first_and_none_is_lost(candidates: list[Prospect], horizon_h: float) -> None:
    order = ranked(candidates, horizon_h)
    assert sorted(order, key=lambda each: each.market) == sorted(candidates, key=lambda each: each.market)
    worth = [each.net * horizon_h - each.round_trip for each in order]
    assert all(first >= second - 1e-9 for first, second in pairwise(worth))


@examples
@given(prospects("ABC"), horizons)
def test_the_order_does_not_depend_on_who_is_asked_first(candidates: list[Prospect], horizon_h: float) -> None:
    orders = [ranked(each, horizon_h) for each in permutations(candidates)]
    assert all(order == orders[0] for order in orders)


@examples
@given(nets, round_trips, notionals, notionals)
def test_equal_ones_come_in_the_order_of_their_symbols(net: float, trip: float, small: float, large: float) -> None:
    """Whatever their size: earnings are compared as fractions of what they need."""
    two = [Prospect("B", small, net, trip), Prospect("A", large, net, trip)]
    assert [each.market for each in ranked(two, HORIZON_H)] == ["A", "B"]


@examples
@given(prospects(), st.floats(1e-6, 1e-3), horizons)
def test_who_earns_more_or_costs_less_never_falls_back(
    candidates: list[Prospect], more: float, horizon_h: float
) -> None:
    for number, each in enumerate(candidates):
        before = [found.market for found in ranked(candidates, horizon_h)].index(each.market)
        for better in (
            msgspec.structs.replace(each, net=each.net + more),
            msgspec.structs.replace(each, round_trip=each.round_trip * 0.5),
        ):
            others = [*candidates[:number], better, *candidates[number + 1 :]]
            assert [found.market for found in ranked(others, horizon_h)].index(each.market) <= before


@examples
@given(prospects("HIJ"), st.builds(Prospect, st.just("A"), notionals, nets, round_trips), horizons)
def test_a_switch_gains_more_than_both_round_trips(held: list[Prospect], candidate: Prospect, horizon_h: float) -> None:
    """In quote, over the horizon; and of those that rank below it is the worst one that is left."""
    left = worth_leaving(candidate, held, horizon_h)
    rank = candidate.after_costs(horizon_h)
    held = [each for each in held if each.after_costs(horizon_h) < rank]
    if left is None:
        for each in held:
            gain = (candidate.net * candidate.notional - each.net * each.notional) * horizon_h
            costs = candidate.round_trip * candidate.notional + each.round_trip * each.notional
            worst = min(held, key=lambda found: found.net * found.notional)
            assert gain <= costs * (1 + 1e-9) + 1e-9 or each.net * each.notional > worst.net * worst.notional
        return
    assert left in held
    assert left.net * left.notional == min(each.net * each.notional for each in held)
    gain = (candidate.net * candidate.notional - left.net * left.notional) * horizon_h
    assert gain > candidate.round_trip * candidate.notional + left.round_trip * left.notional


@examples
@given(
    st.builds(Prospect, st.just("A"), notionals, nets, round_trips),
    st.builds(Prospect, st.just("B"), notionals, nets, round_trips),
    horizons,
)
def test_of_two_never_each_is_worth_leaving_for_the_other(first: Prospect, second: Prospect, horizon_h: float) -> None:
    """A switch back at the same rates would pay both round trips again for nothing: no churn."""
    there, back = worth_leaving(first, [second], horizon_h), worth_leaving(second, [first], horizon_h)
    assert there is None or back is None
    if (first.net * first.notional) == (second.net * second.notional):
        assert there is back is None


@examples
@given(
    st.builds(Prospect, st.just("A"), notionals, nets, round_trips),
    st.builds(Prospect, st.just("B"), notionals, nets, round_trips),
    horizons,
    st.floats(1, 10),
)
def test_what_costs_more_or_has_less_time_is_never_switched_to_where_the_other_is_not(
    candidate: Prospect, held: Prospect, horizon_h: float, factor: float
) -> None:
    if worth_leaving(candidate, [held], horizon_h) is not None:
        return
    if held.after_costs(horizon_h) >= candidate.after_costs(horizon_h):
        return  # their order may turn with the horizon
    for harder, dearer in (
        (horizon_h / factor, candidate),
        (horizon_h, msgspec.structs.replace(candidate, round_trip=candidate.round_trip * factor)),
    ):
        assert worth_leaving(dearer, [held], harder) is None


def test_nothing_is_left_where_nothing_is_held() -> None:
    assert worth_leaving(one("A", 1.0), [], HORIZON_H) is None
    assert ranked([], HORIZON_H) == []


@pytest.mark.parametrize(
    ("net", "left"),
    [
        # 1000 at 0.002 in and out each: 4 of costs. Over 168 h the candidate has to earn more than 4 above the held.
        (2 / 168 / 1000 + 4 / 168 / 1000, None),
        (2 / 168 / 1000 + 4.001 / 168 / 1000, "H"),
        (2 / 168 / 1000, None),
        (-1e-3, None),
    ],
)
def test_exactly_what_both_round_trips_cost_is_not_enough(net: float, left: str | None) -> None:
    held = one("H", 2 / 168 / 1000)
    found = worth_leaving(one("A", net - 1e-15), [held], HORIZON_H)
    assert (None if found is None else found.market) == left


def test_quote_decides_not_the_rate() -> None:
    """Twice the rate on a tenth of the notional is less money."""
    held = one("H", 5e-5, notional=10_000.0)
    assert worth_leaving(one("A", 1e-4, notional=1_000.0), [held], HORIZON_H) is None
    # Two times 20 to pay: 33.60 more in a week are not enough, 50.40 are.
    assert worth_leaving(one("A", 7e-5, notional=10_000.0), [held], HORIZON_H) is None
    assert worth_leaving(one("A", 8e-5, notional=10_000.0), [held], HORIZON_H) is held


def test_what_ranks_above_is_not_left_for_more_of_a_lower_rate() -> None:
    """Where nothing is held it would be entered first, and left again a few records later."""
    small, large = one("A", 2e-4, notional=1_000.0), one("B", 1e-4, notional=10_000.0)
    assert [each.market for each in ranked([large, small], HORIZON_H)] == ["A", "B"]
    assert worth_leaving(large, [small], HORIZON_H) is None
    assert worth_leaving(large, [small, one("C", 1e-6, notional=1_000.0)], HORIZON_H) is not None


def test_of_several_the_worst_is_left_and_ties_go_by_symbol() -> None:
    held = [one("K", 3e-5), one("J", 1e-5), one("I", 1e-5)]
    found = worth_leaving(one("A", 1e-3), held, HORIZON_H)
    assert found is not None
    assert found.market == "I"
