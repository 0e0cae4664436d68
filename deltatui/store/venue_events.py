"""The local numbers of what venues told (table ``venue_events``)."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from deltatui.domain.errors import CriticalError
from deltatui.domain.ledger import LedgerEntry, VenueEventId

_INSERT = "INSERT INTO venue_events VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
# Each of the two is a step down the tree; asked for as one, sqlite reads the whole table.
_ENDS = "SELECT (SELECT min(number) FROM venue_events), (SELECT max(number) FROM venue_events)"


def append(events: Sequence[VenueEventId], connection: sqlite3.Connection) -> None:
    """Keep the numbers that are new; what is there already, equal in every field, is passed over.

    Raises CriticalError if a number is left out or comes out of order (EVENT_NUMBER_HOLE), or if a number has another
    event or an event another number (EVENT_NUMBER_CONFLICT).
    """
    if not events:
        return
    _, last = _ends(connection)
    if last is None:
        # The books may have been opened on an account that had a history.
        last = max(1, events[0].number) - 1
    new: list[tuple[object, ...]] = []
    for event in events:
        if event.number <= last and not new:
            _check_known(event, connection)
            continue
        due = last + 1 + len(new)
        if event.number != due:
            raise CriticalError(
                "EVENT_NUMBER_HOLE",
                f"venue event {event.number} came where {due} was due: something that happened is missing",
            )
        new.append(msgspec.structs.astuple(event))
    if new and connection.executemany(_INSERT, new).rowcount != len(new):
        for event in events:
            _check_known(event, connection)


def check_refers_to_known(entries: Sequence[LedgerEntry], connection: sqlite3.Connection) -> None:
    """Raise CriticalError (EVENT_NUMBER_UNKNOWN) if an entry books a venue event that has no number here."""
    numbers = [entry.venue_sequence for entry in entries if entry.venue_sequence]
    if not numbers:
        return
    first, last = _ends(connection)
    for number in (min(numbers), max(numbers)):
        # There are no holes, so the ends say all.
        if first is None or last is None or not first <= number <= last:
            raise CriticalError(
                "EVENT_NUMBER_UNKNOWN",
                f"a ledger entry books venue event {number}, which is not among the known ones "
                f"({'none' if first is None else f'{first} to {last}'}); it must be kept with the entry or before it",
            )


def read(since: int, limit: int, connection: sqlite3.Connection) -> list[VenueEventId]:
    rows = connection.execute("SELECT * FROM venue_events WHERE number > ? ORDER BY number LIMIT ?", (since, limit))
    return [VenueEventId(*row) for row in rows]


def _check_known(event: VenueEventId, connection: sqlite3.Connection) -> None:
    rows = connection.execute(
        "SELECT * FROM venue_events WHERE number = ? OR (venue = ? AND account = ? AND event_id = ?) ORDER BY number",
        msgspec.structs.astuple(event),
    )
    known = [VenueEventId(*row) for row in rows]
    if known != [event]:
        told = ", ".join(f"{item.number} is event '{item.event_id}' of {item.account}" for item in known)
        raise CriticalError(
            "EVENT_NUMBER_CONFLICT",
            f"event '{event.event_id}' of {event.account} came with number {event.number}, but "
            f"{told or 'no event has that number and younger ones have theirs'}; a number is for ever",
        )


def _ends(connection: sqlite3.Connection) -> tuple[int | None, int | None]:
    """Smallest and largest number; None for an empty table."""
    first, last = connection.execute(_ENDS).fetchone()
    return first, last
