"""What every client is told of the present: snapshot, markets and charts, each encoded once for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from deltatui.api.protocol import HistoryMessage, MarketMessage, SnapshotMessage, encode
from deltatui.domain.errors import DeltatuiError

if TYPE_CHECKING:
    from deltatui.domain.snapshot import HistoryView, MarketDetail, Snapshot


class Newest:
    """Only ever the latest of each, as lines that are ready to be written; empty while there is none.

    ``detail(market, version)`` asks the engine for what depends on a market; None: it carries no such market.
    """

    def __init__(self, detail: Callable[[str, int], MarketDetail | None]) -> None:
        self._detail = detail
        self._snapshot: Snapshot | None = None
        self._snapshot_encoded: tuple[int, bytes] | None = None
        self._markets: dict[str, bytes] = {}
        """Of the markets that somebody looks at, under the version of the snapshot."""
        self._history: HistoryView | None = None
        self._history_encoded: tuple[int, bytes] | None = None

    def put_snapshot(self, snapshot: Snapshot) -> bool:
        """False: it is not newer than the one that is here."""
        if self._snapshot is not None and snapshot.version <= self._snapshot.version:
            return False
        self._snapshot = snapshot
        self._markets.clear()
        return True

    def put_history(self, history: HistoryView) -> None:
        self._history = history

    def judge(self, markets: Iterable[str]) -> None:
        """Have the lines about ``markets`` that go with the snapshot. To be called as soon as it is here, so that both
        are of the same moment. What cannot be judged just now has none."""
        if self._snapshot is None:
            return
        for market in markets:
            if not market or market in self._markets:
                continue
            try:
                detail = self._detail(market, self._snapshot.version)
            except DeltatuiError:
                continue
            if detail is not None:
                self._markets[market] = encode(MarketMessage(detail)) + b"\n"

    def snapshot_line(self) -> bytes:
        if self._snapshot is None:
            return b""
        if self._snapshot_encoded is None or self._snapshot_encoded[0] != self._snapshot.version:
            self._snapshot_encoded = (self._snapshot.version, encode(SnapshotMessage(self._snapshot)) + b"\n")
        return self._snapshot_encoded[1]

    def market_line(self, market: str) -> bytes:
        return self._markets.get(market, b"")

    def history_line(self) -> bytes:
        if self._history is None:
            return b""
        if self._history_encoded is None or self._history_encoded[0] != self._history.version:
            self._history_encoded = (self._history.version, encode(HistoryMessage(self._history)) + b"\n")
        return self._history_encoded[1]
