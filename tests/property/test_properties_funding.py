"""Documented property 1, the booking that is right beside it, and the running averages."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltatui.domain.funding import (
    DOCUMENTED_PERIOD_S,
    FundingWindow,
    HourFractions,
    documented_cycle,
    documented_funding_cash,
    fraction_to_apr_pct,
    funding_cash,
    hour_fractions,
)
from deltatui.domain.market import FundingRecord
from deltatui.domain.units import BASE_PRECISION
from deltatui.venues.paper.account import Change, PaperAccount, PaperPerp
from deltatui.venues.paper.markets import Markets
from deltatui.venues.paper.settings import SOL_PERP

examples = settings(max_examples=200, deadline=None)

bases = st.integers(-(10**15), 10**15)
rates = st.decimals(-5, 5, places=9)
prices = st.decimals("0.01", 10_000, places=6)
spacings = st.integers(3539, 3665)


def markets_at(price: Decimal, funding_interval_s: int = 3600) -> Markets:
    markets = Markets([msgspec.structs.replace(SOL_PERP, funding_interval_s=funding_interval_s)])
    markets.perp("SOL-PERP").price(price, price)
    return markets


@examples
@given(bases.filter(bool), rates, prices, st.integers(0, 10**10), st.lists(spacings, min_size=1, max_size=30))
def test_property_01_documented_funding_is_booked_once_a_cycle(
    base_1e9: int, rate: Decimal, price: Decimal, start_s: int, gaps: list[int]
) -> None:
    """A position of size S with rate R over one 8-hour cycle changes PnL by S*R*mark, however often it is asked."""
    size = Decimal(base_1e9) / BASE_PRECISION
    start_s = start_s // DOCUMENTED_PERIOD_S * DOCUMENTED_PERIOD_S
    perp = PaperPerp(base_1e9=base_1e9, booked_cycle=documented_cycle(start_s))
    account, markets = PaperAccount(perps={"SOL-PERP": perp}), markets_at(price)
    now_s = start_s
    cycles = set()
    for gap in gaps:
        now_s += gap
        record = FundingRecord(now_s, rate, rate, rate, price, price, Decimal(0))
        for _ in range(3):
            Change(account, now_s, markets).fund(markets.perp("SOL-PERP"), record, DOCUMENTED_PERIOD_S)
        cycles.add(documented_cycle(now_s))
    booked = perp.quote
    per_cycle = documented_funding_cash(size, price, rate / price * 8)
    assert per_cycle == -size * price * (rate / price * 8)
    cycles.discard(documented_cycle(start_s))
    assert float(booked) == pytest.approx(float(per_cycle) * len(cycles), rel=1e-12, abs=1e-12)
    assert account.sequence == len(cycles)


@examples
@given(bases.filter(bool), st.lists(st.tuples(rates, rates), min_size=1, max_size=30), prices)
def test_property_01_right_is_the_index_difference_per_record(
    base_1e9: int, pairs: list[tuple[Decimal, Decimal]], price: Decimal
) -> None:
    """R1.2: each record once, with the rate of the position's own side, unrounded."""
    perp = PaperPerp(base_1e9=base_1e9)
    account, markets = PaperAccount(perps={"SOL-PERP": perp}), markets_at(price)
    listing = markets.perp("SOL-PERP")
    market = listing.state()
    for number, (rate_long, rate_short) in enumerate(pairs, 1):
        market.index_long += rate_long
        market.index_short += rate_short
        market.records, market.last_record_s = number, 3600 * number
        record = FundingRecord(3600 * number, Decimal(99), rate_long, rate_short, price, price, Decimal(0))
        booking = Change(account, 3600.0 * number, markets)
        booking.fund(listing, record, 0)
        (event,) = booking.events
        assert event.record == number
    own = sum((pair[0] if base_1e9 > 0 else pair[1] for pair in pairs), Decimal(0))
    booked = perp.quote
    assert booked == -Decimal(base_1e9) * own / BASE_PRECISION
    # The same record again changes nothing: what is booked is the difference.
    Change(account, 0.0, markets).fund(listing, record, 0)
    assert perp.quote == booked


@pytest.mark.parametrize(("base", "rate", "sign"), [(1, 1, -1), (1, -1, 1), (-1, 1, 1), (-1, -1, -1)])
def test_property_01_signs_of_side_and_rate(base: int, rate: int, sign: int) -> None:
    """Positive: longs pay. A cash flow is positive when we receive."""
    base_1e9, index = base * 10**9, Decimal(rate) / 100
    assert funding_cash(base_1e9, index, Decimal(0)) == Decimal(sign) / 100
    assert documented_funding_cash(Decimal(base), Decimal(100), index / 100) == Decimal(sign) / 100


@examples
@given(bases, rates, rates, rates)
def test_bookings_add_up_over_any_split(base_1e9: int, first: Decimal, middle: Decimal, last: Decimal) -> None:
    whole = funding_cash(base_1e9, last, first)
    parts = funding_cash(base_1e9, middle, first) + funding_cash(base_1e9, last, middle)
    assert abs(whole - parts) < Decimal("1e-12")
    assert funding_cash(-base_1e9, last, first) == -whole
    assert funding_cash(base_1e9, first, first) == 0


@examples
@given(rates, rates, prices)
def test_fractions_are_of_the_records_own_oracle_price(rate_long: Decimal, rate_short: Decimal, price: Decimal) -> None:
    record = FundingRecord(0, Decimal(7), rate_long, rate_short, price, price * 2, Decimal(0))
    fractions = hour_fractions(record)
    assert fractions.short_receives == pytest.approx(float(rate_short / price))
    assert fractions.long_pays == pytest.approx(float(rate_long / price))
    assert fraction_to_apr_pct(fractions.short_receives) == pytest.approx(float(rate_short / price * 876_000))


@examples
@given(rates, rates, prices, st.integers(1, 48).map(lambda halves: halves * 1800))
def test_a_record_of_any_interval_is_spread_over_its_hours(
    rate_long: Decimal, rate_short: Decimal, price: Decimal, interval_s: int
) -> None:
    """What eight hours pay is an eighth of it an hour: a long interval that pays more pays no more a year."""
    long = FundingRecord(0, Decimal(7), rate_long, rate_short, price, price, Decimal(0), interval_s)
    hourly = FundingRecord(0, Decimal(7), rate_long, rate_short, price, price, Decimal(0))
    fractions, each = hour_fractions(long), hour_fractions(hourly)
    hours = interval_s / 3600
    assert fractions.short_receives * hours == pytest.approx(each.short_receives, rel=1e-12, abs=1e-18)
    assert fractions.long_pays * hours == pytest.approx(each.long_pays, rel=1e-12, abs=1e-18)


@examples
@given(bases.filter(bool), rates, prices, st.sampled_from([3600, 7200, 14_400, 28_800]))
def test_the_documented_cycle_books_what_a_year_pays_whatever_the_interval(
    base_1e9: int, rate: Decimal, price: Decimal, interval_s: int
) -> None:
    """Per interval ``rate``: a cycle of eight hours holds as many of them as fit."""
    perp = PaperPerp(base_1e9=base_1e9, booked_cycle=0)
    markets = markets_at(price, interval_s)
    record = FundingRecord(DOCUMENTED_PERIOD_S, rate, rate, rate, price, price, Decimal(0), interval_s)
    account = PaperAccount(perps={"SOL-PERP": perp})
    Change(account, float(record.ts_s), markets).fund(markets.perp("SOL-PERP"), record, DOCUMENTED_PERIOD_S)
    whole = -float(base_1e9) / BASE_PRECISION * float(rate) * (DOCUMENTED_PERIOD_S / interval_s)
    assert float(perp.quote) == pytest.approx(whole, rel=1e-9, abs=1e-12)


@examples
@given(
    st.integers(1, 30),
    st.lists(st.tuples(st.floats(-1, 1, width=32), st.floats(-1, 1, width=32)), min_size=1, max_size=120),
)
def test_the_running_mean_is_the_mean_of_the_last_records(records: int, values: list[tuple[float, float]]) -> None:
    window = FundingWindow(records)
    assert (window.latest, window.mean) == (None, None)
    for number, (short, long) in enumerate(values, 1):
        window.add(HourFractions(short, long))
        kept = values[max(0, number - records) : number]
        assert len(window) == len(kept)
        assert window.count == number
        assert window.latest == HourFractions(short, long)
        mean = window.mean
        assert mean is not None
        assert mean.short_receives == pytest.approx(sum(v[0] for v in kept) / len(kept), abs=1e-12)
        assert mean.long_pays == pytest.approx(sum(v[1] for v in kept) / len(kept), abs=1e-12)


def test_the_running_mean_does_not_drift_away() -> None:
    window = FundingWindow(24)
    for number in range(5000):
        window.add(HourFractions(1e9 if number < 4000 else 1e-9, 0.1))
    mean = window.mean
    assert mean is not None
    assert mean.short_receives == pytest.approx(1e-9, rel=1e-6)
    assert mean.long_pays == pytest.approx(0.1, rel=1e-12)
