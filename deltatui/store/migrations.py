"""The schema as numbered steps; ``PRAGMA user_version`` says how many have been taken."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from deltatui.domain.errors import CriticalError, ValidationError
from deltatui.store.copies import copy_database

APPLICATION_ID = 0x64544755
"""Marks the file as ours, so that a wrong path is refused instead of filled with tables."""

Migration = tuple[str, ...]

_FIRST: Migration = (
    # number keeps the order of planning; body is the whole operation as JSON, the other columns are for queries.
    """CREATE TABLE operations (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        market TEXT NOT NULL,
        source TEXT NOT NULL,
        created_market_s REAL NOT NULL,
        created_operator_s REAL NOT NULL,
        body BLOB NOT NULL,
        state TEXT NOT NULL,
        updated_operator_s REAL NOT NULL
    )""",
    "CREATE INDEX operations_open ON operations (number) WHERE state NOT IN ('LANDED', 'FAILED', 'EXPIRED')",
    # Ids are unique for ever, also those of operations that retention has removed.
    "CREATE TABLE past_operations (id TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE journal (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        operation_id TEXT NOT NULL,
        state TEXT NOT NULL,
        operator_s REAL NOT NULL,
        signature TEXT NOT NULL,
        raw BLOB NOT NULL,
        last_valid_block_height INTEGER,
        error_code TEXT NOT NULL,
        detail TEXT NOT NULL,
        UNIQUE (operation_id, state)
    )""",
    "CREATE UNIQUE INDEX journal_signature ON journal (signature) WHERE state = 'SIGNED'",
    """CREATE TRIGGER journal_is_append_only BEFORE UPDATE ON journal
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END""",
    """CREATE TABLE ledger (
        sequence INTEGER PRIMARY KEY,
        venue_sequence INTEGER NOT NULL,
        market_s REAL NOT NULL,
        kind TEXT NOT NULL,
        instrument TEXT NOT NULL,
        amount TEXT NOT NULL,
        operation_id TEXT NOT NULL,
        note TEXT NOT NULL
    )""",
    "CREATE UNIQUE INDEX ledger_venue ON ledger (venue_sequence) WHERE venue_sequence > 0",
    """CREATE TRIGGER ledger_is_append_only BEFORE UPDATE ON ledger
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    """CREATE TRIGGER ledger_is_kept BEFORE DELETE ON ledger
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    "CREATE TABLE engine_state (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE activity (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        level TEXT NOT NULL,
        message TEXT NOT NULL,
        market_s REAL NOT NULL,
        operator_s REAL NOT NULL,
        operation_id TEXT NOT NULL,
        data TEXT NOT NULL
    )""",
    "CREATE TABLE paper_state (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE paper_operations (operation_id TEXT PRIMARY KEY, receipt BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE paper_events (
        sequence INTEGER PRIMARY KEY,
        market_s REAL NOT NULL,
        instrument TEXT NOT NULL,
        operation_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        amount TEXT NOT NULL,
        base TEXT NOT NULL,
        price TEXT NOT NULL,
        record INTEGER NOT NULL,
        note TEXT NOT NULL
    )""",
)

_SECOND: Migration = (
    # The records that the engine has judged; numbers as exact text.
    """CREATE TABLE funding (
        market TEXT NOT NULL,
        ts_s INTEGER NOT NULL,
        rate TEXT NOT NULL,
        rate_long TEXT NOT NULL,
        rate_short TEXT NOT NULL,
        oracle_twap TEXT NOT NULL,
        mark_twap TEXT NOT NULL,
        period_revenue TEXT NOT NULL,
        PRIMARY KEY (market, ts_s)
    ) WITHOUT ROWID""",
)

_THIRD: Migration = (
    # Which event of which account has the local number that the ledger's venue_sequence is. An event without a cash
    # flow (a fill that realises nothing) has a number and no entry.
    """CREATE TABLE venue_events (
        number INTEGER PRIMARY KEY CHECK (number > 0),
        venue TEXT NOT NULL CHECK (venue <> ''),
        account TEXT NOT NULL CHECK (account <> ''),
        event_id TEXT NOT NULL CHECK (event_id <> ''),
        UNIQUE (venue, account, event_id)
    )""",
    # Until now there was paper alone, which calls its events by their number. How its account will be called is not
    # known here, hence the '?', which no account is called. Numbered is what the books had taken in: of what the
    # exchange did after that (paper_events) the engine is told at its next start.
    """INSERT INTO venue_events
        WITH RECURSIVE
            books (seen) AS (
                SELECT json_extract(CAST(value AS TEXT), '$.cursor') FROM engine_state WHERE name = 'books'
            ),
            booked (last) AS (
                SELECT max(coalesce((SELECT seen FROM books), 0), coalesce((SELECT max(venue_sequence) FROM ledger), 0))
            ),
            numbers (number) AS (
                SELECT 1 FROM booked WHERE last > 0 UNION ALL SELECT number + 1 FROM numbers, booked WHERE number < last
            )
        SELECT number, 'paper', 'paper/?/0', CAST(number AS TEXT) FROM numbers""",
    """CREATE TRIGGER venue_events_are_append_only BEFORE UPDATE ON venue_events
        BEGIN SELECT RAISE(ABORT, 'numbers of venue events are append-only'); END""",
    """CREATE TRIGGER venue_events_are_kept BEFORE DELETE ON venue_events
        BEGIN SELECT RAISE(ABORT, 'numbers of venue events are append-only'); END""",
    # A venue may change the interval of its market; all there was until now came hourly.
    "ALTER TABLE funding ADD COLUMN interval_s INTEGER NOT NULL DEFAULT 3600",
)

MIGRATIONS: tuple[Migration, ...] = (_FIRST, _SECOND, _THIRD)
"""Append, never edit: step n brings a database of version n - 1 to version n."""


def check_version(connection: sqlite3.Connection, path: Path | None, newest: int) -> int:
    """The database's version, 0 for a new one.

    Raises ValidationError if it is newer than this program or not deltatui's.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (version or application or tables):
        raise ValidationError("NOT_OUR_DATABASE", f"{path} is a database of another program; give another path")
    if version > newest:
        raise ValidationError(
            "DATABASE_TOO_NEW",
            f"the database {path} has version {version} and this deltatui knows versions up to {newest}; "
            "start the newer deltatui that wrote it, or give another path",
        )
    return version


def migrate(
    connection: sqlite3.Connection,
    path: Path | None,
    backups: Path | None,
    migrations: Sequence[Migration] = MIGRATIONS,
) -> Path | None:
    """Take the missing steps, each in a transaction of its own. Blocking.

    An existing database is copied to ``backups`` first, named by the version it has; that path is returned. Raises
    ValidationError (see :func:`check_version`), CriticalError if a step fails (the database keeps the version before
    it), and sqlite3.Error or OSError if the copy cannot be made.
    """
    version = check_version(connection, path, len(migrations))
    if version == len(migrations):
        return None
    saved = None
    if version > 0 and path is not None and backups is not None:
        saved = _free_name(backups, f"{path.stem}-version-{version}")
        copy_database(connection, saved)
    for number in range(version + 1, len(migrations) + 1):
        try:
            _step(connection, number, migrations[number - 1])
        except (sqlite3.OperationalError, sqlite3.IntegrityError) as error:
            if getattr(error, "sqlite_errorcode", None) not in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT):
                raise
            kept = "" if saved is None else f"; a copy from before is {saved}"
            raise CriticalError(
                "MIGRATION_FAILED", f"step {number} of the schema failed on {path} ({error}); it was undone{kept}"
            ) from error
    return saved


def _step(connection: sqlite3.Connection, number: int, statements: Migration) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _free_name(folder: Path, stem: str) -> Path:
    candidate, count = folder / f"{stem}.db", 1
    while candidate.exists():
        count += 1
        candidate = folder / f"{stem}-{count}.db"
    return candidate
