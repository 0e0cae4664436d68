"""What happens to the engine's memory when the process, the disk or another program does its worst (R9.4, R9.7)."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from store_builders import child, entry, flow, operation, record, told

from deltatui.domain.errors import CriticalError, TransientError
from deltatui.domain.operation import OpenOperation, OperationState
from deltatui.store.database import Database, Durability
from deltatui.store.engine_store import EngineStore
from deltatui.store.maintenance import Maintenance
from deltatui.store.paper_tables import PaperImage, PaperTables

S = OperationState

PRELUDE = """
import asyncio, sys
from pathlib import Path
from store_builders import entry, flow, record, told
from deltatui.domain.operation import OperationState as S
from deltatui.store import engine_store, paper_tables
from deltatui.store.database import Database, Durability
from deltatui.store.engine_store import EngineStore
from deltatui.store.paper_tables import PaperTables
path, durability = Path(sys.argv[1]), Durability(sys.argv[2])

def say(word):
    print(word, flush=True)

def hang(word):
    say(word)
    sys.stdin.read()
"""

DIE_IN_A_TRANSACTION = """
async def main():
    database = await Database.open(path, durability)
    store, tables = EngineStore(database), PaperTables(database)
    for state in (S.PLANNED, S.SIMULATED, S.SIGNED):
        await store.append_journal(record("op", state))
    await store.append_ledger([entry(1)], {"cursor": b"1"}, events=told(1))
    await tables.commit({"account": b"1"}, [flow(1)], "op-0", b"receipt-0")

    def half_done(connection):
        engine_store._append_journal(record("op", S.SENT), connection)
        engine_store._append_ledger([entry(2)], {"cursor": b"2"}, connection, events=told(2))
        paper_tables._commit({"account": b"2"}, [flow(2)], "op", b"receipt", connection)
        # Large enough to be in the WAL file before the commit.
        connection.execute("PRAGMA cache_size = 1")
        connection.executemany("INSERT INTO engine_state VALUES (?, zeroblob(5000))", [(f"n{n}",) for n in range(500)])
        hang("in the middle")

    await database.run(half_done)

asyncio.run(main())
"""

DIE_WHILE_BUSY = """
async def main():
    database = await Database.open(path, durability)
    store, tables = EngineStore(database), PaperTables(database)
    for number in range(1, 1_000_000):
        await store.append_journal(record(f"op-{number}", S.PLANNED))
        await tables.commit({"account": str(number).encode()}, [flow(number)], f"op-{number}", b"receipt")
        await store.append_ledger([entry(number)], {"cursor": str(number).encode()}, events=told(number, number))
        say(number)

asyncio.run(main())
"""


@pytest.mark.parametrize("durability", [Durability.FULL, Durability.NORMAL])
async def test_killed_in_the_middle_of_a_transaction(tmp_path: Path, durability: Durability) -> None:
    path = tmp_path / "engine.db"
    with child(PRELUDE + DIE_IN_A_TRANSACTION, path, durability) as engine:
        assert engine.line() == "in the middle"
        engine.kill()
    assert path.with_name("engine.db-wal").stat().st_size > 2_000_000
    database = await Database.open(path, durability)
    store, tables = EngineStore(database), PaperTables(database)
    assert await store.open_operations() == [
        OpenOperation(operation("op"), S.SIGNED, "signature-op", b"raw-op", 250_000_000)
    ]
    assert await store.ledger() == [entry(1)]
    assert await store.venue_events() == told(1)
    assert await store.load_state() == {"cursor": b"1"}
    assert await tables.load() == PaperImage({"account": b"1"}, 1)
    assert (await tables.receipt("op-0"), await tables.receipt("op")) == (b"receipt-0", None)
    # The work is done again and is done once.
    await store.append_journal(record("op", S.SENT))
    assert await tables.commit({"account": b"2"}, [flow(2)], "op", b"receipt") is None
    assert await tables.events_after(0) == [flow(1), flow(2)]
    await database.close()


@pytest.mark.parametrize("acknowledged", [1, 7, 60])
async def test_killed_at_any_moment_nothing_acknowledged_is_lost(tmp_path: Path, acknowledged: int) -> None:
    path = tmp_path / "engine.db"
    with child(PRELUDE + DIE_WHILE_BUSY, path, Durability.NORMAL) as engine:
        for number in range(1, acknowledged + 1):
            assert engine.line() == str(number)
        engine.kill()
    database = await Database.open(path)
    store, tables = EngineStore(database), PaperTables(database)
    booked = len(await store.ledger())
    happened = (await tables.load()).last_sequence
    planned = len(await store.open_operations())
    assert acknowledged <= booked <= happened <= planned <= booked + 1
    assert await store.ledger() == [entry(number) for number in range(1, booked + 1)]
    assert await store.venue_events() == told(booked)
    assert await store.load_state() == {"cursor": str(booked).encode()}
    assert await tables.load() == PaperImage({"account": str(happened).encode()}, happened)
    assert await tables.events_after(0) == [flow(number) for number in range(1, happened + 1)]
    assert await tables.receipt(f"op-{happened}") == b"receipt"
    assert await tables.receipt(f"op-{happened + 1}") is None
    await database.close()


async def test_locked_by_another_program(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    database = await Database.open(path, busy_timeout_s=0.01)
    store = EngineStore(database)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TransientError, match="DATABASE_LOCKED"):
            await store.append_journal(record("op", S.PLANNED))
        other.execute("ROLLBACK")
    assert await store.known_operation("op") is None
    await store.append_journal(record("op", S.PLANNED))
    assert await store.known_operation("op") is S.PLANNED
    await database.close()


async def test_the_writer_waits_for_a_short_lock(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    database = await Database.open(path, busy_timeout_s=30)
    store = EngineStore(database)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.ensure_future(store.append_journal(record("op", S.PLANNED)))
        await asyncio.sleep(0)
        assert not writing.done()
        other.execute("COMMIT")
    await writing
    assert await store.known_operation("op") is S.PLANNED
    await database.close()


@pytest.mark.parametrize("durability", list(Durability))
async def test_disk_full_loses_nothing_and_passes(tmp_path: Path, durability: Durability) -> None:
    database = await Database.open(tmp_path / "engine.db", durability)
    store, tables = EngineStore(database), PaperTables(database)
    await store.append_ledger([entry(1)], {"cursor": b"1"}, events=told(1))

    def allow(connection: sqlite3.Connection, more: int) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + more}")

    await database.run(lambda c: allow(c, 3))
    with pytest.raises(TransientError, match="DISK_FULL"):
        await store.append_ledger([entry(2)], {"cursor": b"2" * 50_000}, events=told(2))
    with pytest.raises(TransientError, match="DISK_FULL"):
        await tables.commit({"account": b"2" * 50_000}, [flow(1)], "op", b"receipt")
    assert await store.ledger() == [entry(1)]
    assert await store.load_state() == {"cursor": b"1"}
    assert await tables.load() == PaperImage({}, 0)
    assert await tables.receipt("op") is None
    await store.append_journal(record("op", S.PLANNED))
    await database.run(lambda c: allow(c, 1000))
    await store.append_ledger([entry(2)], {"cursor": b"2" * 50_000}, events=told(2))
    assert await store.ledger() == [entry(1), entry(2)]
    await database.close()


async def filled(path: Path) -> None:
    database = await Database.open(path)
    entries = [entry(number) for number in range(1, 3000)]
    await EngineStore(database).append_ledger(entries, {"vault": b"1" * 5000}, events=told(2999))
    await database.close()


@pytest.mark.parametrize("first", [0, 4096, 40_960])
async def test_a_damaged_database_is_refused_with_what_to_do(tmp_path: Path, first: int) -> None:
    path = tmp_path / "engine.db"
    await filled(path)
    content = bytearray(path.read_bytes())
    content[first : first + 4096] = b"\xa5" * 4096
    path.write_bytes(content)
    with pytest.raises(CriticalError, match="DATABASE_CORRUPT") as damaged:
        await Database.open(path)
    assert str(path) in damaged.value.sentence
    assert "docs/runbooks/vault-reset.md" in damaged.value.sentence
    assert path.read_bytes() == bytes(content)


async def test_a_truncated_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    await filled(path)
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(CriticalError, match="DATABASE_CORRUPT"):
        await Database.open(path)


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    path.write_text("not a database, but long enough to be one\n" * 100)
    with pytest.raises(CriticalError, match="DATABASE_CORRUPT"):
        await Database.open(path)


async def test_damage_while_running_is_critical(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    await filled(path)
    database = await Database.open(path)
    content = bytearray(path.read_bytes())
    content[40_960:] = b"\xa5" * (len(content) - 40_960)
    path.write_bytes(content)
    # Or sqlite answers from the pages it has read for its check.
    await database.run(lambda c: c.execute("PRAGMA shrink_memory"))
    with pytest.raises(CriticalError, match="DATABASE_CORRUPT"):
        await EngineStore(database).ledger()
    await database.close()


@pytest.mark.parametrize("replaced", [False, True])
async def test_another_program_moved_the_file_away(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "engine.db"
    database = await Database.open(path)
    await database.check_in_place()
    path.rename(tmp_path / "moved.db")
    if replaced:
        path.write_bytes(b"")
    with pytest.raises(CriticalError, match="DATABASE_MOVED"):
        await Maintenance(database, tmp_path / "backups").run_due(1.0, 1.0)
    await database.close()
