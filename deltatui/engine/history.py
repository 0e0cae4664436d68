"""The recent past for the charts: funding, equity and what always-short would have made."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from deltatui.domain.funding import fraction_to_apr_pct, hour_fractions
from deltatui.domain.market import FundingRecord
from deltatui.domain.snapshot import HistoryView, MarketHistory
from deltatui.domain.units import BASE_PRECISION
from deltatui.engine.core import Core
from deltatui.engine.hedge import Hedge

RECORDS = 720
"""Thirty days of hourly records."""


class _Lane:
    """Of one market."""

    def __init__(self, hedge: Hedge) -> None:
        self.hedge = hedge
        self.funding: deque[tuple[float, float]] = deque(maxlen=RECORDS)
        self.always_short: deque[tuple[float, float]] = deque(maxlen=RECORDS)
        self.short_funding = 0.0

    def short_cash(self, record: FundingRecord) -> float:
        return float(record.rate_short) * self.hedge.size_1e9 / BASE_PRECISION


class History:
    """One point a funding record, in memory: after a restart funding is there again, the equity curve begins anew."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lanes = {symbol: _Lane(hedge) for symbol, hedge in core.hedges.items()}
        self._equity: deque[tuple[float, float]] = deque(maxlen=RECORDS)
        self._version = 0

    def prime(self, symbol: str, records: Iterable[FundingRecord]) -> None:
        """Past records of a market up to now, oldest first; those since the account was opened count for
        always-short."""
        lane, opened_s = self._lanes[symbol], self._core.memory.opened_s
        for record in records:
            lane.funding.append((float(record.ts_s), _apr(record)))
            if opened_s is not None and record.ts_s >= opened_s:
                lane.short_funding += lane.short_cash(record)
        self._version += 1

    def add(self, symbol: str, record: FundingRecord) -> None:
        """Call after the engine has taken the record in, and traded on it: the point contains what the trade cost."""
        account, lane = self._core.world.account(), self._lanes.get(symbol)
        if account is None or lane is None:
            return
        ts_s = float(record.ts_s)
        lane.short_funding += lane.short_cash(record)
        lane.funding.append((ts_s, _apr(record)))
        lane.always_short.append((ts_s, self._put_in() + lane.short_funding))
        if self._equity and self._equity[-1][0] == ts_s:
            self._equity.pop()  # two markets at the same time: the later one has seen both
        self._equity.append((ts_s, float(account.equity)))
        self._version += 1

    def _put_in(self) -> float:
        """The opening equity and what was moved in or out since: a deposit is no profit."""
        accountant = self._core.accountant
        return float(accountant.books.opening_equity + accountant.transfers)

    def view(self) -> HistoryView:
        core = self._core
        none = "a tape has none" if core.settings.mode == "replay" else "no feed"
        return HistoryView(
            version=self._version,
            markets=tuple(
                MarketHistory(
                    market=symbol,
                    funding=tuple(lane.funding),
                    always_short=tuple(lane.always_short),
                    open_interest_reason=none,
                    liquidations_reason=none,
                )
                for symbol, lane in self._lanes.items()
            ),
            equity=tuple(self._equity),
            flat=self._put_in() if core.accountant.opened else None,
        )


def _apr(record: FundingRecord) -> float:
    return fraction_to_apr_pct(hour_fractions(record).short_receives)
