"""The memory of a run that nobody looks back at: the same promises as the database's, kept in the process alone.

For backtests, which are over before anything could be lost: no row is written that nobody reads. What a database must
check because several lives write to it (numbers that another life has given out, signatures used twice) cannot happen
here; transitions and holes are checked all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deltatui.domain.errors import CriticalError
from deltatui.domain.event import Event
from deltatui.domain.ledger import LedgerEntry, VenueEvent, VenueEventId
from deltatui.domain.market import FundingRecord
from deltatui.domain.operation import JournalRecord, OpenOperation, OperationState, check_transition
from deltatui.store.paper_tables import PaperImage


class MemoryStore:
    """See ``deltatui.ports.Store``."""

    def __init__(self) -> None:
        self._journal: dict[str, list[JournalRecord]] = {}
        self._state: dict[str, bytes] = {}
        self._funding: dict[str, list[FundingRecord]] = {}
        self._ledger: list[LedgerEntry] = []
        self._told = 0

    async def append_journal(self, record: JournalRecord) -> None:
        """Raises CriticalError for a transition that is not in the table, an operation that was never planned, and an
        id that is used twice."""
        lines = self._journal.get(record.operation_id)
        if record.state == OperationState.PLANNED:
            if lines is not None:
                raise CriticalError("OPERATION_EXISTS", f"operation '{record.operation_id}' is already in the journal")
            self._journal[record.operation_id] = [record]
            return
        if lines is None:
            raise CriticalError("UNKNOWN_OPERATION", f"operation '{record.operation_id}' was never planned")
        check_transition(lines[-1].state, record.state)
        lines.append(record)

    async def open_operations(self) -> Sequence[OpenOperation]:
        """None is left open by an earlier life: there was none."""
        return ()

    async def known_operation(self, operation_id: str) -> OperationState | None:
        lines = self._journal.get(operation_id)
        return None if lines is None else lines[-1].state

    async def append_ledger(
        self,
        entries: Sequence[LedgerEntry],
        state: Mapping[str, bytes],
        funding: Mapping[str, Sequence[FundingRecord]] | None = None,
        events: Sequence[VenueEventId] = (),
    ) -> None:
        """Raises CriticalError where a number of an entry or an event is left out or comes twice."""
        if events and (events[0].number != self._told + 1 and self._told):
            raise CriticalError("EVENT_NUMBER_HOLE", f"venue event {events[0].number} cannot follow {self._told}")
        if entries and entries[0].sequence != len(self._ledger) + 1:
            raise CriticalError("LEDGER_HOLE", f"ledger entry {entries[0].sequence} cannot follow {len(self._ledger)}")
        if events:
            self._told = events[-1].number
        self._ledger.extend(entries)
        for market, records in (funding or {}).items():
            self._funding.setdefault(market, []).extend(records)
        self._state.update(state)

    async def funding(self, market: str, newest: int) -> Sequence[FundingRecord]:
        return self._funding.get(market, [])[-newest:]

    async def save_state(self, state: Mapping[str, bytes]) -> None:
        self._state.update(state)

    async def load_state(self) -> Mapping[str, bytes]:
        return dict(self._state)

    async def append_events(self, events: Sequence[Event]) -> None:
        """Nobody reads them."""

    async def ledger(self) -> Sequence[LedgerEntry]:
        """All entries, oldest first."""
        return self._ledger


class MemoryTables:
    """See :class:`deltatui.venues.paper.venue.PaperTables`."""

    def __init__(self) -> None:
        self._state: dict[str, bytes] = {}
        self._events: list[VenueEvent] = []
        self._receipts: dict[str, bytes] = {}

    async def load(self) -> PaperImage:
        return PaperImage(dict(self._state), len(self._events))

    async def commit(
        self,
        state: Mapping[str, bytes],
        events: Sequence[VenueEvent],
        operation_id: str | None = None,
        receipt: bytes | None = None,
    ) -> bytes | None:
        """Raises CriticalError, and changes nothing, where an event's number is left out or comes twice."""
        if operation_id is not None and operation_id in self._receipts:
            return self._receipts[operation_id]
        if events and events[0].sequence != len(self._events) + 1:
            raise CriticalError(
                "VENUE_EVENT_HOLE", f"venue event {events[0].sequence} cannot follow {len(self._events)}"
            )
        if operation_id is not None and receipt is not None:
            self._receipts[operation_id] = receipt
        self._events.extend(events)
        self._state.update(state)
        return None

    async def receipt(self, operation_id: str) -> bytes | None:
        return self._receipts.get(operation_id)

    async def events_after(self, sequence: int, limit: int = 10_000) -> Sequence[VenueEvent]:
        return self._events[sequence : sequence + limit]
