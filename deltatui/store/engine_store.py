"""The engine's durable memory: journal, ledger, engine state, funding and activity (``deltatui.ports.Store``)."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from functools import partial

import msgspec

from deltatui.domain.errors import CriticalError
from deltatui.domain.event import Event, Level
from deltatui.domain.ledger import FlowKind, LedgerEntry, VenueEventId
from deltatui.domain.market import FundingRecord
from deltatui.domain.operation import JournalRecord, OpenOperation, Operation, OperationState, check_transition
from deltatui.store import venue_events
from deltatui.store.database import Database

_encode_operation = msgspec.json.Encoder().encode
_decode_operation = msgspec.json.Decoder(Operation).decode
_decode_data = msgspec.json.Decoder(dict[str, str]).decode

_NO_LIMIT = -1
# Looked up because StrEnum.value costs more than the rest of the row.
_KIND_TEXT = {kind: kind.value for kind in FlowKind}
_KIND = {text: kind for kind, text in _KIND_TEXT.items()}
_FUNDING_COLUMNS = "ts_s, rate, rate_long, rate_short, oracle_twap, mark_twap, period_revenue, interval_s"


class StoredOperation(msgspec.Struct, frozen=True):
    """An operation and where it stands. ``error_code`` and ``detail`` are those of its newest journal line."""

    operation: Operation
    state: OperationState
    updated_operator_s: float
    signature: str
    error_code: str
    detail: str


class StoredEvent(msgspec.Struct, frozen=True):
    """``number`` grows with time and is never used twice."""

    number: int
    event: Event


class EngineStore:
    """See ``deltatui.ports.Store``; besides, what exports, clients and tests read back.

    Every call is one transaction and raises what :meth:`Database.run` raises.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append_journal(self, record: JournalRecord) -> None:
        """Raises CriticalError, and writes nothing, if

        - the transition is not in the table (BAD_TRANSITION) or the operation is not known (UNKNOWN_OPERATION),
        - PLANNED comes without its operation or with an id ever used before (JOURNAL_INCOMPLETE, OPERATION_EXISTS),
        - SIGNED comes without signature or raw bytes (JOURNAL_INCOMPLETE) or with the signature of another operation
          (SIGNATURE_TAKEN), or a later record contradicts the signed bytes (SIGNATURE_CHANGED).
        """
        await self._database.run(partial(_append_journal, record))

    async def open_operations(self) -> Sequence[OpenOperation]:
        """In the order in which they were planned."""
        return await self._database.run(_open_operations)

    async def known_operation(self, operation_id: str) -> OperationState | None:
        """Remembers ids for ever, also beyond retention."""
        return await self._database.run(partial(_state_of, operation_id))

    async def append_ledger(
        self,
        entries: Sequence[LedgerEntry],
        state: Mapping[str, bytes],
        funding: Mapping[str, Sequence[FundingRecord]] | None = None,
        events: Sequence[VenueEventId] = (),
    ) -> None:
        """Entries, states, funding records (by market) and the numbers of venue events in one transaction. The
        ``sequence`` of entries grows by one from 1, the ``number`` of events by one from wherever the first began; what
        is already there, equal in every field, is passed over.

        Raises CriticalError, and writes nothing, if ``sequence`` or a ``venue_sequence`` above 0 is already booked
        differently (LEDGER_CONFLICT), if a number is left out (LEDGER_HOLE, EVENT_NUMBER_HOLE), a number has another
        event or an event another number (EVENT_NUMBER_CONFLICT), an entry's ``venue_sequence`` is neither 0 nor the
        number of an event (EVENT_NUMBER_UNKNOWN), an amount is not finite (BAD_AMOUNT) or the market has another record
        of the same time (FUNDING_CONFLICT).
        """
        await self._database.run(partial(_append_ledger, entries, state, funding=funding, events=events))

    async def funding(self, market: str, newest: int) -> list[FundingRecord]:
        """The market's ``newest`` records, oldest first."""
        return await self._database.run(partial(_funding, market, newest))

    async def save_state(self, state: Mapping[str, bytes]) -> None:
        await self._database.run(partial(_save_state, state))

    async def load_state(self) -> Mapping[str, bytes]:
        return await self._database.run(_load_state)

    async def append_events(self, events: Sequence[Event]) -> None:
        await self._database.run(partial(_append_events, events))

    async def ledger(self, since: int = 0, limit: int | None = None) -> list[LedgerEntry]:
        """Entries with a sequence above ``since``, oldest first."""
        return await self._database.run(partial(_ledger, since, limit))

    async def venue_events(self, since: int = 0, limit: int | None = None) -> list[VenueEventId]:
        """Venue events with a number above ``since``, oldest first."""
        return await self._database.run(partial(venue_events.read, since, _limit(limit)))

    async def last_ledger_sequence(self) -> int:
        """0 while nothing is booked; the next entry takes the number after it."""
        return await self._database.run(_last_ledger_sequence)

    async def journal(self, operation_id: str) -> list[JournalRecord]:
        """Oldest first; the first carries the operation. Empty if there is none (any more)."""
        return await self._database.run(partial(_journal, operation_id))

    async def operations(self, limit: int | None = None) -> list[StoredOperation]:
        """Newest first."""
        return await self._database.run(partial(_operations, limit))

    async def events(
        self, *, after: int = 0, limit: int | None = None, kinds: Collection[str] = (), newest: bool = False
    ) -> list[StoredEvent]:
        """Activity with a number above ``after``, oldest first; all kinds unless some are named. With ``newest`` the
        limit keeps the last ones instead of the first."""
        return await self._database.run(partial(_events, after, limit, tuple(kinds), newest))


def _append_journal(record: JournalRecord, connection: sqlite3.Connection) -> None:
    if record.state == OperationState.PLANNED:
        _plan(record, connection)
    else:
        _advance(record, connection)
    connection.execute(
        "INSERT INTO journal (operation_id, state, operator_s, signature, raw, last_valid_block_height, error_code,"
        " detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.operation_id,
            record.state.value,
            record.operator_s,
            record.signature,
            record.raw,
            record.last_valid_block_height,
            record.error_code,
            record.detail,
        ),
    )


def _plan(record: JournalRecord, connection: sqlite3.Connection) -> None:
    operation = record.operation
    if operation is None or operation.id != record.operation_id or not operation.id:
        raise CriticalError(
            "JOURNAL_INCOMPLETE",
            f"the first journal line of operation '{record.operation_id}' must carry that operation",
        )
    if _state_of(operation.id, connection) is not None:
        raise CriticalError(
            "OPERATION_EXISTS", f"operation '{operation.id}' is already in the journal; an id is used once"
        )
    connection.execute(
        "INSERT INTO operations (id, kind, market, source, created_market_s, created_operator_s, body, state,"
        " updated_operator_s) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            operation.id,
            operation.kind.value,
            operation.market,
            operation.source,
            operation.created_market_s,
            operation.created_operator_s,
            _encode_operation(operation),
            record.state.value,
            record.operator_s,
        ),
    )


def _advance(record: JournalRecord, connection: sqlite3.Connection) -> None:
    before = _state_of(record.operation_id, connection)
    if before is None:
        raise CriticalError("UNKNOWN_OPERATION", f"operation '{record.operation_id}' was never planned")
    check_transition(before, record.state)
    if record.state == OperationState.SIGNED:
        _check_new_signature(record, connection)
    elif record.signature or record.raw:
        _check_same_signature(record, connection)
    connection.execute(
        "UPDATE operations SET state = ?, updated_operator_s = ? WHERE id = ?",
        (record.state.value, record.operator_s, record.operation_id),
    )


def _check_new_signature(record: JournalRecord, connection: sqlite3.Connection) -> None:
    if not record.signature or not record.raw:
        raise CriticalError(
            "JOURNAL_INCOMPLETE",
            f"operation '{record.operation_id}' cannot become SIGNED without its signature and raw bytes",
        )
    other = connection.execute(
        "SELECT operation_id FROM journal WHERE signature = ? AND state = 'SIGNED'", (record.signature,)
    ).fetchone()
    if other is not None:
        raise CriticalError(
            "SIGNATURE_TAKEN", f"operation '{record.operation_id}' has the signature of operation '{other[0]}'"
        )


def _check_same_signature(record: JournalRecord, connection: sqlite3.Connection) -> None:
    signed = connection.execute(
        "SELECT signature, raw FROM journal WHERE operation_id = ? AND state = 'SIGNED'", (record.operation_id,)
    ).fetchone()
    if (
        signed is None
        or (record.signature and record.signature != signed[0])
        or (record.raw and record.raw != signed[1])
    ):
        raise CriticalError(
            "SIGNATURE_CHANGED",
            f"the {record.state} line of operation '{record.operation_id}' has other bytes than those that were signed",
        )


def _state_of(operation_id: str, connection: sqlite3.Connection) -> OperationState | None:
    row = connection.execute(
        "SELECT state FROM operations WHERE id = :id UNION ALL SELECT state FROM past_operations WHERE id = :id",
        {"id": operation_id},
    ).fetchone()
    return None if row is None else OperationState(row[0])


def _open_operations(connection: sqlite3.Connection) -> list[OpenOperation]:
    rows = connection.execute(
        "SELECT o.body, o.state, j.signature, j.raw, j.last_valid_block_height FROM operations o"
        " LEFT JOIN journal j ON j.operation_id = o.id AND j.state = 'SIGNED'"
        # Written as the index operations_open has it, or sqlite would not use that.
        " WHERE o.state NOT IN ('LANDED', 'FAILED', 'EXPIRED') ORDER BY o.number"
    )
    return [
        OpenOperation(_decode_operation(body), OperationState(state), signature or "", raw or b"", height)
        for body, state, signature, raw, height in rows
    ]


def _append_ledger(
    entries: Sequence[LedgerEntry],
    state: Mapping[str, bytes],
    connection: sqlite3.Connection,
    *,
    funding: Mapping[str, Sequence[FundingRecord]] | None = None,
    events: Sequence[VenueEventId] = (),
) -> None:
    venue_events.append(events, connection)
    venue_events.check_refers_to_known(entries, connection)
    last = _last_ledger_sequence(connection)
    new: list[LedgerEntry] = []
    for entry in entries:
        if not entry.amount.is_finite():
            raise CriticalError("BAD_AMOUNT", f"ledger entry {entry.sequence} has the amount {entry.amount}")
        if entry.sequence <= last:
            _check_booked(entry, connection)
            continue
        ahead = entry.sequence - last - 1
        if ahead < len(new):
            if new[ahead] != entry:
                raise _booked_otherwise(entry)
            continue
        if ahead > len(new):
            raise CriticalError(
                "LEDGER_HOLE",
                f"ledger entry {entry.sequence} cannot follow {last + len(new)}: a cash flow would be missing",
            )
        new.append(entry)
    _insert_entries(new, connection)
    for market, records in (funding or {}).items():
        _append_funding(market, records, connection)
    _save_state(state, connection)


def _insert_entries(entries: Sequence[LedgerEntry], connection: sqlite3.Connection) -> None:
    rows = [
        (
            entry.sequence,
            entry.venue_sequence,
            entry.market_s,
            _KIND_TEXT[entry.kind],
            entry.instrument,
            str(entry.amount),
            entry.operation_id,
            entry.note,
        )
        for entry in entries
    ]
    insert = "INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
    if rows and connection.executemany(insert, rows).rowcount != len(rows):
        _refuse_booked_twice(entries, connection)


def _refuse_booked_twice(entries: Sequence[LedgerEntry], connection: sqlite3.Connection) -> None:
    for entry in entries:
        row = connection.execute("SELECT 1 FROM ledger WHERE sequence = ?", (entry.sequence,)).fetchone()
        if row is None:
            raise CriticalError(
                "LEDGER_CONFLICT",
                f"venue event {entry.venue_sequence} is already booked under another number than {entry.sequence}",
            )


def _check_booked(entry: LedgerEntry, connection: sqlite3.Connection) -> None:
    row = connection.execute("SELECT * FROM ledger WHERE sequence = ?", (entry.sequence,)).fetchone()
    if row is None or _entry(row) != entry:
        raise _booked_otherwise(entry)


def _booked_otherwise(entry: LedgerEntry) -> CriticalError:
    return CriticalError(
        "LEDGER_CONFLICT",
        f"ledger entry {entry.sequence} (venue event {entry.venue_sequence}) is already booked with other contents",
    )


def _entry(row: tuple[int, int, float, str, str, str, str, str]) -> LedgerEntry:
    sequence, venue_sequence, market_s, kind, instrument, amount, operation_id, note = row
    return LedgerEntry(sequence, venue_sequence, market_s, _KIND[kind], instrument, Decimal(amount), operation_id, note)


def _ledger(since: int, limit: int | None, connection: sqlite3.Connection) -> list[LedgerEntry]:
    rows = connection.execute(
        "SELECT * FROM ledger WHERE sequence > ? ORDER BY sequence LIMIT ?", (since, _limit(limit))
    )
    return [_entry(row) for row in rows]


def _last_ledger_sequence(connection: sqlite3.Connection) -> int:
    (last,) = connection.execute("SELECT coalesce(max(sequence), 0) FROM ledger").fetchone()
    return int(last)


def _append_funding(market: str, records: Sequence[FundingRecord], connection: sqlite3.Connection) -> None:
    inserted = connection.executemany(
        "INSERT INTO funding VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [
            (
                market,
                record.ts_s,
                str(record.rate),
                str(record.rate_long),
                str(record.rate_short),
                str(record.oracle_twap),
                str(record.mark_twap),
                str(record.period_revenue),
                record.interval_s,
            )
            for record in records
        ],
    ).rowcount
    if inserted != len(records):
        _check_same_funding(market, records, connection)


def _check_same_funding(market: str, records: Sequence[FundingRecord], connection: sqlite3.Connection) -> None:
    for record in records:
        row = connection.execute(
            f"SELECT {_FUNDING_COLUMNS} FROM funding WHERE market = ? AND ts_s = ?",  # noqa: S608
            (market, record.ts_s),
        ).fetchone()
        if row is None or _funding_record(row) != record:
            raise CriticalError(
                "FUNDING_CONFLICT",
                f"the funding record of {market} at {record.ts_s} is already kept with other contents; records do not "
                "change once they are published",
            )


def _funding_record(row: tuple[int, str, str, str, str, str, str, int]) -> FundingRecord:
    ts_s, rate, rate_long, rate_short, oracle_twap, mark_twap, period_revenue, interval_s = row
    return FundingRecord(
        ts_s,
        Decimal(rate),
        Decimal(rate_long),
        Decimal(rate_short),
        Decimal(oracle_twap),
        Decimal(mark_twap),
        Decimal(period_revenue),
        interval_s,
    )


def _funding(market: str, newest: int, connection: sqlite3.Connection) -> list[FundingRecord]:
    rows = connection.execute(
        f"SELECT {_FUNDING_COLUMNS} FROM funding WHERE market = ? ORDER BY ts_s DESC LIMIT ?",  # noqa: S608
        (market, newest),
    ).fetchall()
    return [_funding_record(row) for row in reversed(rows)]


def _save_state(state: Mapping[str, bytes], connection: sqlite3.Connection) -> None:
    connection.executemany(
        "INSERT INTO engine_state VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", state.items()
    )


def _load_state(connection: sqlite3.Connection) -> dict[str, bytes]:
    return dict(connection.execute("SELECT name, value FROM engine_state").fetchall())


def _append_events(events: Sequence[Event], connection: sqlite3.Connection) -> None:
    connection.executemany(
        "INSERT INTO activity (kind, level, message, market_s, operator_s, operation_id, data)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (
                event.kind,
                event.level.value,
                event.message,
                event.market_s,
                event.operator_s,
                event.operation_id,
                msgspec.json.encode(event.data).decode() if event.data else "{}",
            )
            for event in events
        ],
    )


def _events(
    after: int, limit: int | None, kinds: tuple[str, ...], newest: bool, connection: sqlite3.Connection
) -> list[StoredEvent]:
    columns = "number, kind, level, message, market_s, operator_s, operation_id, data"
    wanted = f"AND kind IN ({', '.join('?' * len(kinds))})" if kinds else ""
    order = "DESC" if newest else "ASC"
    rows = connection.execute(
        f"SELECT {columns} FROM activity WHERE number > ? {wanted} ORDER BY number {order} LIMIT ?",  # noqa: S608
        (after, *kinds, _limit(limit)),
    ).fetchall()
    if newest:
        rows.reverse()
    return [
        StoredEvent(number, Event(kind, Level(level), message, market_s, operator_s, operation_id, _decode_data(data)))
        for number, kind, level, message, market_s, operator_s, operation_id, data in rows
    ]


def _journal(operation_id: str, connection: sqlite3.Connection) -> list[JournalRecord]:
    planned = connection.execute("SELECT body FROM operations WHERE id = ?", (operation_id,)).fetchone()
    rows = connection.execute(
        "SELECT state, operator_s, signature, raw, last_valid_block_height, error_code, detail FROM journal"
        " WHERE operation_id = ? ORDER BY number",
        (operation_id,),
    )
    return [
        JournalRecord(
            operation_id,
            OperationState(state),
            operator_s,
            _decode_operation(planned[0]) if state == OperationState.PLANNED else None,
            *rest,
        )
        for state, operator_s, *rest in rows
    ]


def _operations(limit: int | None, connection: sqlite3.Connection) -> list[StoredOperation]:
    rows = connection.execute(
        "SELECT o.body, o.state, o.updated_operator_s, coalesce(s.signature, ''), j.error_code, j.detail"
        " FROM operations o JOIN journal j ON j.operation_id = o.id AND j.state = o.state"
        " LEFT JOIN journal s ON s.operation_id = o.id AND s.state = 'SIGNED' ORDER BY o.number DESC LIMIT ?",
        (_limit(limit),),
    )
    return [
        StoredOperation(_decode_operation(body), OperationState(state), updated, signature, code, detail)
        for body, state, updated, signature, code, detail in rows
    ]


def _limit(limit: int | None) -> int:
    return _NO_LIMIT if limit is None else limit
