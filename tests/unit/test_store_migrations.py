"""What earlier versions of the schema held is still there, and in the shape of today."""

from __future__ import annotations

import lzma
import sqlite3
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from store_builders import entry

from deltatui.domain.errors import CriticalError
from deltatui.domain.ledger import LedgerEntry, VenueEventId
from deltatui.domain.market import FundingRecord
from deltatui.store.database import Database
from deltatui.store.engine_store import EngineStore
from deltatui.store.migrations import MIGRATIONS

OLD_DATABASES = Path(__file__).parent.parent / "data" / "databases"


def book(connection: sqlite3.Connection, *entries: LedgerEntry) -> None:
    """As version 2 and earlier did."""
    connection.executemany(
        "INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (e.sequence, e.venue_sequence, e.market_s, e.kind, e.instrument, str(e.amount), "op-1", e.note)
            for e in entries
        ],
    )


async def migrated(path: Path, old_life: Callable[[sqlite3.Connection], object]) -> Database:
    """A database that ``old_life`` filled with version 2, opened by the present code."""
    old = await Database.open(path, migrations=MIGRATIONS[:2])
    await old.run(old_life)
    await old.close()
    return await Database.open(path)


def of_paper(last: int) -> list[VenueEventId]:
    return [VenueEventId(number, "paper", "paper/?/0", str(number)) for number in range(1, last + 1)]


async def test_a_database_from_before_funding_was_kept_opens_with_all_it_had(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    old = await Database.open(path, migrations=MIGRATIONS[:1])
    await old.run(lambda c: book(c, entry(1)))
    await old.run(lambda c: c.execute("INSERT INTO engine_state VALUES ('flags', x'31')"))
    await old.close()
    new = await Database.open(path)
    store = EngineStore(new)
    assert new.migration_backup is not None
    assert await store.ledger() == [entry(1)]
    assert await store.load_state() == {"flags": b"1"}
    assert await store.funding("SOL-PERP", 100) == []
    await new.close()


@pytest.mark.parametrize(
    ("cursor", "booked", "last"), [(None, [], 0), (0, [], 0), (4, [], 4), (5, [1, 3, 4], 5), (None, [2, 0, 3], 3)]
)
async def test_events_that_an_older_version_took_in_get_their_numbers(
    tmp_path: Path, cursor: int | None, booked: list[int], last: int
) -> None:
    """Those too that made no entry; not those that the exchange did and the books have not seen."""

    def old_life(connection: sqlite3.Connection) -> None:
        if cursor is not None:
            connection.execute("INSERT INTO engine_state VALUES ('books', ?)", (b'{"cursor":%d}' % cursor,))
        book(connection, *(entry(n, venue_sequence=sequence) for n, sequence in enumerate(booked, 1)))
        paper = [(n, 1.0, "SOL", "", "", "0", "1", "150", 0, "") for n in range(1, last + 3)]
        connection.executemany("INSERT INTO paper_events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", paper)

    database = await migrated(tmp_path / "a.db", old_life)
    store = EngineStore(database)
    assert await store.venue_events() == of_paper(last)
    # The account has a name from now on, and the exchange numbers as it did.
    seen = [VenueEventId(last + 1, "paper", "paper/default/0", str(last + 1))]
    await store.append_ledger([entry(len(booked) + 1, venue_sequence=last + 1)], {}, events=seen)
    assert await store.venue_events() == [*of_paper(last), *seen]
    await database.close()


async def test_books_that_cannot_be_read_stop_the_migration(tmp_path: Path) -> None:
    with pytest.raises(CriticalError, match="MIGRATION_FAILED") as failed:
        await migrated(tmp_path / "a.db", lambda c: c.execute("INSERT INTO engine_state VALUES ('books', x'7b')"))
    assert "a-version-2.db" in failed.value.sentence


async def test_funding_that_an_older_version_kept_was_hourly(tmp_path: Path) -> None:
    database = await migrated(
        tmp_path / "a.db",
        lambda c: c.execute("INSERT INTO funding VALUES ('SOL-PERP', 7200, '1', '2', '3', '4', '5', '6')"),
    )
    one, two, three, four, five, six = map(Decimal, range(1, 7))
    assert await EngineStore(database).funding("SOL-PERP", 9) == [
        FundingRecord(7200, one, two, three, four, five, six, interval_s=3600)
    ]
    await database.close()


@pytest.mark.parametrize("path", sorted(OLD_DATABASES.glob("*.xz")), ids=lambda path: path.name.partition(".")[0])
async def test_old_databases_have_every_event_of_their_books_numbered(tmp_path: Path, path: Path) -> None:
    copy = tmp_path / "a.db"
    copy.write_bytes(lzma.decompress(path.read_bytes()))
    database = await Database.open(copy)
    store = EngineStore(database)
    cursor = msgspec.json.decode((await store.load_state())["books"])["cursor"]
    assert await store.venue_events() == of_paper(cursor)
    # Written again, ledger and events are the same.
    await store.append_ledger(await store.ledger(), {}, events=of_paper(cursor))
    await database.close()
