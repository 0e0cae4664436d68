"""The paper venue's own books (R1.7). They play the exchange's side: in the engine's file, in transactions of their
own, so that engine and venue can disagree after a crash as they do in real life."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial

import msgspec

from deltatui.domain.errors import CriticalError
from deltatui.domain.ledger import FlowKind, VenueEvent
from deltatui.store.database import Database

_Row = tuple[int, float, str, str, str, str, str, str, int, str]

_INSERT = "INSERT INTO paper_events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# Looked up because StrEnum.value costs more than the rest of the row.
_KIND_TEXT: dict[FlowKind | None, str] = {None: "", **{kind: kind.value for kind in FlowKind}}
_KIND = {text: kind for kind, text in _KIND_TEXT.items()}


class PaperImage(msgspec.Struct, frozen=True):
    """What the venue remembers. ``last_sequence`` is 0 before the first event."""

    state: dict[str, bytes]
    last_sequence: int


class PaperTables:
    """Every call is one transaction and raises what :meth:`Database.run` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> PaperImage:
        return await self._database.run(_load)

    async def commit(
        self,
        state: Mapping[str, bytes],
        events: Sequence[VenueEvent],
        operation_id: str | None = None,
        receipt: bytes | None = None,
    ) -> bytes | None:
        """Save the named states, the events and, if there is one, the operation's receipt: all or nothing.

        None when it took effect. If ``operation_id`` was accepted before, nothing changes and the receipt of that
        time comes back. Events already there, equal in every field, are passed over.

        Raises CriticalError, and changes nothing, if a sequence is taken by another event (VENUE_EVENT_CONFLICT) or
        left out (VENUE_EVENT_HOLE), an amount is not finite (BAD_AMOUNT), or id and receipt do not come together
        (RECEIPT_MISSING).
        """
        if (operation_id is None) is not (receipt is None):
            raise CriticalError(
                "RECEIPT_MISSING", "an operation is accepted with its receipt, both or neither are needed"
            )
        return await self._database.run(partial(_commit, state, events, operation_id, receipt))

    async def receipt(self, operation_id: str) -> bytes | None:
        """None if the operation was never accepted."""
        return await self._database.run(partial(_receipt, operation_id))

    async def events_after(self, sequence: int, limit: int = 10_000) -> list[VenueEvent]:
        """Oldest first."""
        return await self._database.run(partial(_events_after, sequence, limit))


def _load(connection: sqlite3.Connection) -> PaperImage:
    return PaperImage(
        dict(connection.execute("SELECT name, value FROM paper_state").fetchall()), _last_sequence(connection)
    )


def _commit(
    state: Mapping[str, bytes],
    events: Sequence[VenueEvent],
    operation_id: str | None,
    receipt: bytes | None,
    connection: sqlite3.Connection,
) -> bytes | None:
    if operation_id is not None:
        accepted = _receipt(operation_id, connection)
        if accepted is not None:
            return accepted
        connection.execute("INSERT INTO paper_operations VALUES (?, ?)", (operation_id, receipt))
    if events:
        _append(events, connection)
    if state:
        connection.executemany(
            "INSERT INTO paper_state VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            state.items(),
        )
    return None


def _append(events: Sequence[VenueEvent], connection: sqlite3.Connection) -> None:
    last = _last_sequence(connection)
    known = max(0, last + 1 - events[0].sequence)
    if known:
        _check_known(events[:known], connection)
        events = events[known:]
    rows = [_row(event) for event in events]
    for expected, row in enumerate(rows, last + 1):
        if row[0] != expected:
            raise CriticalError(
                "VENUE_EVENT_HOLE",
                f"venue event {row[0]} came where {expected} was due: something that happened is missing",
            )
    connection.executemany(_INSERT, rows)


def _check_known(events: Sequence[VenueEvent], connection: sqlite3.Connection) -> None:
    stored = {event.sequence: event for event in _events_after(events[0].sequence - 1, len(events), connection)}
    for event in events:
        if stored.get(event.sequence) != event:
            raise CriticalError(
                "VENUE_EVENT_CONFLICT", f"venue event {event.sequence} has already happened and was something else"
            )


def _row(event: VenueEvent) -> _Row:
    amount, base, price = event.amount, event.base, event.price
    if not (amount.is_finite() and base.is_finite() and price.is_finite()):
        raise CriticalError(
            "BAD_AMOUNT", f"venue event {event.sequence} has an amount, base or price that is no number"
        )
    return (
        event.sequence,
        event.market_s,
        event.instrument,
        event.operation_id,
        _KIND_TEXT[event.kind],
        str(amount),
        str(base),
        str(price),
        event.record,
        event.note,
    )


def _receipt(operation_id: str, connection: sqlite3.Connection) -> bytes | None:
    row = connection.execute("SELECT receipt FROM paper_operations WHERE operation_id = ?", (operation_id,)).fetchone()
    return None if row is None else row[0]


def _events_after(sequence: int, limit: int, connection: sqlite3.Connection) -> list[VenueEvent]:
    rows = connection.execute(
        "SELECT * FROM paper_events WHERE sequence > ? ORDER BY sequence LIMIT ?", (sequence, limit)
    )
    return [
        VenueEvent(
            number,
            market_s,
            instrument,
            operation_id,
            _KIND[kind],
            Decimal(amount),
            Decimal(base),
            Decimal(price),
            *rest,
        )
        for number, market_s, instrument, operation_id, kind, amount, base, price, *rest in rows
    ]


def _last_sequence(connection: sqlite3.Connection) -> int:
    (last,) = connection.execute("SELECT coalesce(max(sequence), 0) FROM paper_events").fetchone()
    return int(last)
