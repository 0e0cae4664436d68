"""Funding: what a record pays, and what the recent records say (R1.2, R11.3).

Rates are quote per base unit per hour, positive when longs pay. The short's hourly *fraction* is rate over the
oracle TWAP of the same record (docs/sources.md, Drift); a short receives a positive fraction, a long pays it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from decimal import Decimal
from math import ldexp

import msgspec

from deltatui.domain.market import FundingRecord
from deltatui.domain.units import BASE_PRECISION, HOURS_PER_YEAR

_BASE = Decimal(BASE_PRECISION)

DOCUMENTED_PERIOD_S = 28_800


def funding_cash(base_1e9: int, index_now: Decimal, index_at_last_booking: Decimal) -> Decimal:
    """Cash of one booking in quote, positive when we receive: ``-base * (index_now - index_at_last_booking)``.

    The index is the cumulative rate of the position's own side in quote per base unit. Exact, unrounded.
    """
    return -base_1e9 * (index_now - index_at_last_booking) / _BASE


def documented_funding_cash(size: Decimal, mark: Decimal, rate_8h: Decimal) -> Decimal:
    """What the original papers book per 8-hour cycle for a long: ``size * mark * rate_8h``, paid when positive.

    ``size`` signed (positive long), ``rate_8h`` a fraction of notional. Kept for conformance; the venue pays hourly
    by index difference (:func:`funding_cash`).
    """
    return -size * mark * rate_8h


def documented_cycle(market_s: float, period_s: int = DOCUMENTED_PERIOD_S) -> int:
    """Number of the funding cycle that ``market_s`` lies in; a cycle is booked once however often it is asked for."""
    return int(market_s // period_s)


class HourFractions(msgspec.Struct, frozen=True):
    """One record as fractions of notional an hour: what a short receives and what a long pays."""

    short_receives: float
    long_pays: float


def hour_fractions(record: FundingRecord) -> HourFractions:
    """The rates of a record are for its whole interval, whatever that is."""
    oracle = float(record.oracle_twap)
    short, long = float(record.rate_short) / oracle, float(record.rate_long) / oracle
    if record.interval_s == _HOUR_S:
        return HourFractions(short, long)
    hours = record.interval_s / _HOUR_S
    return HourFractions(short / hours, long / hours)


_HOUR_S = 3600
_SUM_BITS = 96


def _whole(fraction: float) -> int:
    return int(ldexp(fraction, _SUM_BITS))


def add_to_all(fractions: HourFractions, windows: Iterable[FundingWindow]) -> None:
    """Take one record into several windows."""
    short, long = _whole(fractions.short_receives), _whole(fractions.long_pays)
    for window in windows:
        window.add_exact(fractions, short, long)


class FundingWindow:
    """The last ``records`` records and their running means. Records are counted, whatever their interval is
    (``interval_h``, in hours) and however exactly they keep it.

    ``count`` is how many were ever added. The sums are whole numbers of 2^-96: unlike a running sum of floats they do
    not remember what has left the window, so that an engine that was started anew has the very same mean.
    """

    __slots__ = ("_fractions", "_long", "_short", "count", "interval_h", "records")

    def __init__(self, records: int, interval_h: float = 1.0) -> None:
        self.records = records
        self.interval_h = interval_h
        self.count = 0
        self._fractions: deque[tuple[HourFractions, int, int]] = deque(maxlen=records)
        self._short = 0
        self._long = 0

    def add(self, fractions: HourFractions) -> None:
        """Take the next record in, as what it pays."""
        self.add_exact(fractions, _whole(fractions.short_receives), _whole(fractions.long_pays))

    def add_exact(self, fractions: HourFractions, short: int, long: int) -> None:
        """:meth:`add` where the whole numbers are known already."""
        if len(self._fractions) == self.records:
            _, oldest_short, oldest_long = self._fractions[0]
            self._short -= oldest_short
            self._long -= oldest_long
        self._fractions.append((fractions, short, long))
        self._short += short
        self._long += long
        self.count += 1

    def emptied(self) -> FundingWindow:
        """A window like this one that has seen nothing."""
        return FundingWindow(self.records, self.interval_h)

    def __len__(self) -> int:
        return len(self._fractions)

    @property
    def latest(self) -> HourFractions | None:
        return self._fractions[-1][0] if self._fractions else None

    @property
    def mean(self) -> HourFractions | None:
        """None while no record has been seen."""
        if not self._fractions:
            return None
        divisor = len(self._fractions) << _SUM_BITS
        return HourFractions(self._short / divisor, self._long / divisor)


def fraction_to_apr_pct(fraction_per_hour: float) -> float:
    """Hourly fraction of notional to percent a year of 365 days."""
    return fraction_per_hour * HOURS_PER_YEAR * 100.0
