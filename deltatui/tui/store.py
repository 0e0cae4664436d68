"""What the terminal knows: one immutable value per topic, each with a version and the moment it arrived.

The connection writes, the tick reads. Times are seconds of the terminal's own monotonic clock unless a name says
``operator`` or ``market``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deltatui.domain.event import Event, LogLine
    from deltatui.domain.snapshot import ActionView, HedgeView, HistoryView, MarketDetail, Snapshot

FRESH_S = 2.0
"""Data older than this disarm a confirmation (R13.10)."""
STALE_S = 3.0
"""Data older than this are drawn dim: twice the slowest interval at which an engine publishes, and a little."""
MAX_PENDING_LINES = 5000
MARKET_COMMANDS = frozenset({"TAKE", "LEAVE", "REBALANCE", "SETTLE", "DEPOSIT", "WITHDRAW"})
"""Commands that the engine speaks of in a market's detail; of all others in the snapshot."""


class LinkState(StrEnum):
    CONNECTING = "connecting"
    CONNECTED = "connected"
    LOST = "lost"
    STOPPED = "stopped"
    """The engine said goodbye: it was stopped, not lost."""


@dataclass(frozen=True, slots=True)
class Link:
    """``retry_at`` is when the next try starts, None while one is under way. ``tries`` counts failed tries in a row."""

    state: LinkState = LinkState.CONNECTING
    since: float = 0.0
    reason: str = ""
    retry_at: float | None = None
    tries: int = 0
    read_only: bool = False

    @property
    def up(self) -> bool:
        return self.state is LinkState.CONNECTED


@dataclass(frozen=True, slots=True)
class Shown:
    """A snapshot as this terminal looks at it: ``market`` is the selected one (empty where the engine carries none),
    ``hedge`` and ``detail`` are that market's. ``detail`` None: the engine has not told it yet."""

    snapshot: Snapshot
    market: str = ""
    hedge: HedgeView | None = None
    detail: MarketDetail | None = None


@dataclass(frozen=True, slots=True)
class View:
    """What the tick hands to panes. ``received_at`` belongs to ``snapshot``, ``detail`` to ``market``, which is the
    selected one; ``version`` counts the changes of what snapshot, selection, detail and link say, ``history_version``
    those of what the charts draw."""

    snapshot: Snapshot | None = None
    received_at: float | None = None
    link: Link = Link()
    version: int = 0
    history: HistoryView | None = None
    history_version: int = 0
    market: str = ""
    detail: MarketDetail | None = None

    @property
    def shown(self) -> Shown | None:
        """None before the first snapshot."""
        if self.snapshot is None:
            return None
        return Shown(self.snapshot, self.market, self.snapshot.hedge(self.market), self.detail)

    def at(self, market: str) -> View:
        """The same with ``market`` selected: what is known of it."""
        return self if market == self.market else replace(self, market=market, detail=None)

    def age_s(self, now: float) -> float | None:
        """Seconds since the snapshot arrived; None before the first one."""
        return None if self.received_at is None else max(0.0, now - self.received_at)

    def stale(self, now: float) -> bool:
        """True when what is shown can no longer be taken for the present."""
        age = self.age_s(now)
        return age is None or age > STALE_S or not self.link.up

    def not_fresh(self, now: float) -> str | None:
        """Why an order must not be confirmed on these data; None when it may."""
        age = self.age_s(now)
        if not self.link.up:
            return "engine not connected"
        if age is None:
            return "no data yet"
        if age >= FRESH_S:
            return f"data {age:.0f} s old"
        return None

    def operator_now(self, now: float) -> float | None:
        """The engine's operator clock, carried on from the last snapshot by the terminal's own clock."""
        if self.snapshot is None or self.received_at is None:
            return None
        return self.snapshot.clock.operator_s + (now - self.received_at)

    def action(self, name: str) -> ActionView | None:
        """What the engine says of one command, where it speaks of the selected market's; None if it says nothing."""
        teller = self.detail if name in MARKET_COMMANDS else self.snapshot
        return None if teller is None else next((view for view in teller.actions if view.action == name), None)


def _same_engine(one: Snapshot, other: Snapshot) -> bool:
    """A process id alone returns: in a container it is always the same."""
    return (one.engine.pid, one.engine.started_operator_s) == (other.engine.pid, other.engine.started_operator_s)


def _says_the_same(one: Snapshot, other: Snapshot) -> bool:
    """True where only the number, the operator's clock and the engine's pulse differ: an engine at rest beats on."""
    replaced = msgspec.structs.replace
    return one == replaced(
        other,
        version=one.version,
        clock=replaced(other.clock, operator_s=one.clock.operator_s),
        engine=replaced(other.engine, loop_lag_ms=one.engine.loop_lag_ms),
    )


def first_choice(snapshot: Snapshot) -> str:
    """The market that is selected before the operator has: the best ranked of those that the engine carries and that
    prices still come for."""
    carried = [hedge.market for hedge in [h for h in snapshot.hedges if not h.ended] or snapshot.hedges]
    ranked = [row.market for row in snapshot.opportunities if row.market in carried]
    return next(iter([*ranked, *carried]), "")


class Store:
    """The one mutable place of the terminal. Not thread-safe: everything runs on the event loop."""

    def __init__(self) -> None:
        self._view = View()
        self._lines: list[LogLine] = []
        self._dropped = 0
        self._events: list[Event] = []
        self._last_sequence = -1
        self._pid: int | None = None
        self._detail_at = 0.0

    @property
    def view(self) -> View:
        return self._view

    def put_snapshot(self, snapshot: Snapshot, now: float) -> None:
        """Replace the snapshot. An older version from the same engine process is ignored. The selection stays as long
        as the engine carries its market; a detail that has not come along for long is not known any more."""
        view, held = self._view, self._view.snapshot
        if held is not None and _same_engine(held, snapshot) and snapshot.version < held.version:
            return
        market = view.market if snapshot.hedge(view.market) is not None else first_choice(snapshot)
        detail = view.detail if market == view.market and now - self._detail_at <= STALE_S else None
        same = held is not None and _says_the_same(held, snapshot) and (market, detail) == (view.market, view.detail)
        self._view = replace(
            view,
            snapshot=snapshot,
            received_at=now,
            version=view.version + (0 if same else 1),
            market=market,
            detail=detail,
        )

    def put_detail(self, detail: MarketDetail, now: float) -> None:
        """Replace what is told of the selected market; what is told of another is late, and dropped."""
        view = self._view
        if detail.market != view.market:
            return
        self._detail_at = now
        same = view.detail is not None and msgspec.structs.replace(detail, version=view.detail.version) == view.detail
        self._view = replace(view, detail=detail, version=view.version + (0 if same else 1))

    def select(self, market: str) -> bool:
        """Select ``market``; False where the engine does not carry it."""
        view = self._view
        if view.snapshot is None or view.snapshot.hedge(market) is None:
            return False
        if market != view.market:
            self._view = replace(view, market=market, detail=None, version=view.version + 1)
        return True

    def put_history(self, history: HistoryView) -> None:
        """Replace what the charts draw; the engine sends only the newest."""
        if history != self._view.history:
            self._view = replace(self._view, history=history, history_version=self._view.history_version + 1)

    def put_link(self, link: Link) -> None:
        if link != self._view.link:
            self._view = replace(self._view, link=link, version=self._view.version + 1)

    def engine_is(self, pid: int) -> None:
        """Called at each welcome: another engine process numbers its log lines anew, and what was told over the old
        connection is told again."""
        if self._view.detail is not None:
            self._view = replace(self._view, detail=None, version=self._view.version + 1)
        if pid != self._pid:
            self._pid = pid
            self._last_sequence = -1

    def add_lines(self, lines: Sequence[LogLine], dropped: int = 0) -> None:
        """Queue log lines for the next tick. Lines seen before (the backlog after a reconnection) are left out."""
        fresh = [line for line in lines if line.sequence > self._last_sequence]
        if fresh:
            self._last_sequence = fresh[-1].sequence
            self._lines.extend(fresh)
        overflow = len(self._lines) - MAX_PENDING_LINES
        if overflow > 0:
            del self._lines[:overflow]
            dropped += overflow
        self._dropped += dropped

    def take_lines(self) -> tuple[list[LogLine], int]:
        """The queued lines and how many were lost, once."""
        lines, dropped = self._lines, self._dropped
        self._lines, self._dropped = [], 0
        return lines, dropped

    def add_events(self, events: Sequence[Event]) -> None:
        self._events.extend(events)
        del self._events[:-MAX_PENDING_LINES]

    def take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events
