"""The recent past for the charts: funding, equity and what always-short would have made."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from deltatui.domain.funding import fraction_to_apr_pct, hour_fractions
from deltatui.domain.market import FundingRecord
from deltatui.domain.snapshot import HistoryView
from deltatui.domain.units import BASE_PRECISION
from deltatui.engine.core import Core

RECORDS = 720
"""Thirty days of hourly records."""


class History:
    """One point a funding record, in memory: after a restart funding is there again, the equity curve begins anew."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._funding: deque[tuple[float, float]] = deque(maxlen=RECORDS)
        self._equity: deque[tuple[float, float]] = deque(maxlen=RECORDS)
        self._always_short: deque[tuple[float, float]] = deque(maxlen=RECORDS)
        self._short_funding = 0.0
        self._version = 0

    def prime(self, records: Iterable[FundingRecord]) -> None:
        """Past records up to now, oldest first; those since the account was opened count for always-short."""
        opened_s = self._core.flags.opened_s
        for record in records:
            self._funding.append((float(record.ts_s), _apr(record)))
            if opened_s is not None and record.ts_s >= opened_s:
                self._short_funding += self._short_cash(record)
        self._version += 1

    def add(self, record: FundingRecord) -> None:
        """Call after the engine has taken the record in, and traded on it: the point contains what the trade cost."""
        ts_s = float(record.ts_s)
        self._short_funding += self._short_cash(record)
        self._funding.append((ts_s, _apr(record)))
        self._equity.append((ts_s, float(self._core.known_facts().account.equity)))
        self._always_short.append((ts_s, self._put_in() + self._short_funding))
        self._version += 1

    def _put_in(self) -> float:
        """The opening equity and what was moved in or out since: a deposit is no profit."""
        accountant = self._core.accountant
        return float(accountant.books.opening_equity + accountant.transfers)

    def _short_cash(self, record: FundingRecord) -> float:
        return float(record.rate_short) * self._core.settings.carry_size_1e9 / BASE_PRECISION

    def view(self) -> HistoryView:
        core = self._core
        none = "a tape has none" if core.settings.mode == "replay" else "no feed"
        return HistoryView(
            version=self._version,
            market=core.spec.symbol,
            funding=tuple(self._funding),
            equity=tuple(self._equity),
            always_short=tuple(self._always_short),
            flat=self._put_in() if core.accountant.opened else None,
            open_interest_reason=none,
            liquidations_reason=none,
        )


def _apr(record: FundingRecord) -> float:
    return fraction_to_apr_pct(hour_fractions(record).short_receives)
