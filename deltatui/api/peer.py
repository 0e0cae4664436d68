"""One attached client as the server sees it: what it is still owed, and the task that writes it out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Generic, TypeVar

from deltatui.api.newest import Newest
from deltatui.api.protocol import Bye, EventBatch, LogBatch, Pong, PreviewResult, ResultMessage, Welcome, encode
from deltatui.domain.event import Event, LogLine
from deltatui.domain.principal import Principal

_BATCH = 500

_Item = TypeVar("_Item")


class _Queue(Generic[_Item]):
    """The newest ``size`` items not yet written, and how many older ones had to go."""

    def __init__(self, size: int) -> None:
        self._items: deque[_Item] = deque(maxlen=size)
        self._dropped = 0

    def add(self, item: _Item) -> None:
        if len(self._items) == self._items.maxlen:
            self._dropped += 1
        self._items.append(item)

    def take(self) -> tuple[tuple[_Item, ...], int]:
        """Up to a batch of items, and the number dropped since the last take."""
        items = self._items
        batch = tuple(items.popleft() for _ in range(min(_BATCH, len(items))))
        dropped, self._dropped = self._dropped, 0
        return batch, dropped


class Rate:
    """How often a client asked within the last second."""

    def __init__(self) -> None:
        self._recent_s: deque[float] = deque()

    def allow(self, per_second: int, now_s: float) -> bool:
        """Count one more, unless it would be too many."""
        recent = self._recent_s
        while recent and recent[0] <= now_s - 1.0:
            recent.popleft()
        if len(recent) >= per_second:
            return False
        recent.append(now_s)
        return True


class Peer:
    """``newest`` is what all clients share. ``principal`` is who gives this client's commands."""

    def __init__(
        self,
        writer: asyncio.StreamWriter,
        newest: Newest,
        *,
        principal: Principal,
        read_only: bool,
        queue: int,
        unread_results: int,
        write_buffer_bytes: int,
        stall_s: float,
    ) -> None:
        self.principal = principal
        self.read_only = read_only
        self.selected = ""
        """The market that the client looks at; empty: none."""
        self.in_flight = 0
        self.wake = asyncio.Event()
        self._writer = writer
        self._newest = newest
        self._snapshot_due = False
        self._market_due = False
        self._history_due = False
        self._greeting: list[bytes] = []
        self._replies: deque[ResultMessage | PreviewResult | Pong] = deque()
        self._unread_results = unread_results
        self._logs: _Queue[LogLine] = _Queue(queue)
        self._events: _Queue[Event] = _Queue(queue)
        self._stall_s = stall_s
        self.commands = Rate()
        self.previews = Rate()
        self._bye: Bye | None = None
        self._finished = False
        writer.transport.set_write_buffer_limits(high=write_buffer_bytes)

    def welcome(self, welcome: Welcome, logs: Sequence[LogLine], events: Sequence[Event]) -> None:
        """Greet, with the past lines and events asked for, and the newest snapshot."""
        self._greeting.append(encode(welcome) + b"\n")
        for start in range(0, len(events), _BATCH):
            batch = tuple(islice(events, start, start + _BATCH))
            self._greeting.append(encode(EventBatch(batch, backlog=True)) + b"\n")
        for start in range(0, len(logs), _BATCH):
            lines = tuple(islice(logs, start, start + _BATCH))
            self._greeting.append(encode(LogBatch(lines, backlog=True)) + b"\n")
        self.offer_snapshot()
        self.offer_history()

    def offer_snapshot(self) -> None:
        """A snapshot, and after it what depends on the selected market."""
        self._snapshot_due = True
        self.offer_market()

    def offer_market(self) -> None:
        self._market_due = True
        self.wake.set()

    def offer_history(self) -> None:
        self._history_due = True
        self.wake.set()

    def offer_log(self, line: LogLine) -> None:
        """Queue without waking the writer; the server wakes it once for a burst."""
        self._logs.add(line)

    def offer_event(self, event: Event) -> None:
        self._events.add(event)

    def reply(self, message: ResultMessage | PreviewResult | Pong) -> None:
        """Queue an answer. A client that reads none of them is cut off rather than kept in memory."""
        if self._finished:
            return
        self._replies.append(message)
        if len(self._replies) > self._unread_results:
            self._cut_off()
        self.wake.set()

    def finish(self, bye: Bye | None) -> None:
        """Write what is owed and BYE, then close; without a BYE the client has gone and nothing is written."""
        if not self._finished:
            self._finished = True
            self._bye = bye
            if bye is None:
                self._writer.transport.abort()
        self.wake.set()

    async def send_all(self, close_s: float) -> None:
        """Write until the client is finished, has gone, or has not drained for ``stall_s``."""
        try:
            while True:
                await self.wake.wait()
                self.wake.clear()
                while chunk := self._next_chunk():
                    await self._write(chunk, close_s if self._finished else self._stall_s)
                # Only now: what was owed when the end came is written before BYE.
                if self._finished:
                    break
            if self._bye is not None:
                await self._write(encode(self._bye) + b"\n", close_s)
                self._writer.close()
                async with asyncio.timeout(close_s):
                    await self._writer.wait_closed()
        except (TimeoutError, ConnectionError):
            self._cut_off()

    async def _write(self, chunk: bytes, within_s: float) -> None:
        self._writer.write(chunk)
        async with asyncio.timeout(within_s):
            await self._writer.drain()

    def _next_chunk(self) -> bytes:
        """Everything owed in the order in which it is wanted, bounded by one batch of lines and events."""
        parts = self._greeting
        self._greeting = []
        # The snapshot goes before the results: it already shows what they report.
        if self._snapshot_due:
            self._snapshot_due = False
            parts.append(self._newest.snapshot_line())
        if self._market_due:
            self._market_due = False
            parts.append(self._newest.market_line(self.selected))
        if self._history_due:
            self._history_due = False
            parts.append(self._newest.history_line())
        while self._replies:
            parts.append(encode(self._replies.popleft()) + b"\n")
        events, dropped = self._events.take()
        if events:
            parts.append(encode(EventBatch(events, dropped)) + b"\n")
        lines, dropped = self._logs.take()
        if lines:
            parts.append(encode(LogBatch(lines, dropped)) + b"\n")
        return b"".join(parts)

    def _cut_off(self) -> None:
        self._finished = True
        self._writer.transport.abort()
