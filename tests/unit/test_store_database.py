from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from store_builders import at_once

from deltatui.domain.errors import CriticalError, ValidationError
from deltatui.store.database import Database, Durability
from deltatui.store.migrations import MIGRATIONS

ON_DISK = (Durability.FULL, Durability.NORMAL)


def put(connection: sqlite3.Connection, name: str = "vault", value: bytes = b"1") -> int:
    connection.execute("INSERT INTO engine_state VALUES (?, ?)", (name, value))
    return threading.get_ident()


def names(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT name FROM engine_state ORDER BY name")]


@pytest.mark.parametrize("durability", ON_DISK)
async def test_work_on_disk_runs_in_one_other_thread(tmp_path: Path, durability: Durability) -> None:
    database = await Database.open(tmp_path / "a.db", durability)
    first = await database.run(lambda c: put(c, "a"))
    second = await database.run(lambda c: put(c, "b"))
    await database.close()
    assert first == second != threading.get_ident()


def test_memory_runs_inline_without_waiting() -> None:
    database = at_once(Database.open(None, Durability.MEMORY))
    assert at_once(database.run(put)) == threading.get_ident()
    assert at_once(database.run(names)) == ["vault"]
    at_once(database.close())


@pytest.mark.parametrize(("durability", "level"), [(Durability.FULL, 2), (Durability.NORMAL, 1)])
async def test_durability_sets_the_sync_level_in_wal(tmp_path: Path, durability: Durability, level: int) -> None:
    database = await Database.open(tmp_path / "a.db", durability)
    found = await database.run(
        lambda c: (c.execute("PRAGMA synchronous").fetchone()[0], c.execute("PRAGMA journal_mode").fetchone()[0])
    )
    await database.close()
    assert found == (level, "wal")


@pytest.mark.parametrize("durability", list(Durability))
async def test_an_error_rolls_everything_back(tmp_path: Path, durability: Durability) -> None:
    database = await Database.open(tmp_path / "a.db", durability)

    def half(connection: sqlite3.Connection) -> None:
        put(connection, "half")
        raise ValidationError("NO", "no")

    with pytest.raises(ValidationError, match="no"):
        await database.run(half)
    assert await database.run(names) == []
    with pytest.raises(CriticalError, match="DATABASE_ERROR") as refused:
        await database.run(lambda c: (put(c, "twice"), put(c, "twice")))
    assert "engine_state" in refused.value.sentence
    assert await database.run(names) == []
    await database.close()


async def test_data_survive_closing_and_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "state" / "a.db"
    database = await Database.open(path)
    await database.run(put)
    await database.close()
    again = await Database.open(path)
    assert await again.run(names) == ["vault"]
    assert again.migration_backup is None
    await again.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [item.name for item in path.parent.iterdir()] == ["a.db"]


async def test_close_carries_out_what_is_queued_and_then_refuses(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "a.db", Durability.NORMAL)
    go = threading.Event()
    first = asyncio.ensure_future(database.run(lambda _: go.wait(30)))
    queued = [asyncio.ensure_future(database.run(lambda c, n=n: put(c, f"{n:02}"))) for n in range(20)]  # type: ignore[misc]
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(database.close())
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(first, *queued, closing)
    with pytest.raises(CriticalError, match="DATABASE_CLOSED"):
        await database.run(names)
    await database.close()
    again = await Database.open(tmp_path / "a.db")
    assert len(await again.run(names)) == 20
    await again.close()


async def test_memory_refuses_after_closing() -> None:
    database = await Database.open(None, Durability.MEMORY)
    await database.close()
    await database.close()
    with pytest.raises(CriticalError, match="DATABASE_CLOSED"):
        await database.run(names)


async def test_a_cancelled_caller_does_not_undo_the_work(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "a.db", Durability.NORMAL)
    go = threading.Event()
    first = asyncio.ensure_future(database.run(lambda _: go.wait(30)))
    second = asyncio.ensure_future(database.run(put))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    go.set()
    await first
    assert await database.run(names) == ["vault"]
    await database.close()


async def test_a_cancelled_open_leaves_no_thread_behind(tmp_path: Path) -> None:
    opening = asyncio.ensure_future(Database.open(tmp_path / "a.db", Durability.NORMAL))
    await asyncio.sleep(0)
    writers = [thread for thread in threading.enumerate() if thread.name == "deltatui-store"]
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    for writer in writers:
        await asyncio.to_thread(writer.join, 30)
    assert not any(writer.is_alive() for writer in writers)
    again = await Database.open(tmp_path / "a.db", Durability.NORMAL)
    assert await again.run(names) == []
    await again.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_dead_writer_is_an_error_and_never_a_hang(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "a.db", Durability.NORMAL)
    (writer,) = [thread for thread in threading.enumerate() if thread.name == "deltatui-store"]
    go = threading.Event()

    def die(connection: sqlite3.Connection) -> None:
        put(connection)
        go.wait(30)
        raise SystemExit

    killer = asyncio.ensure_future(database.run(die))
    queued = asyncio.ensure_future(database.run(names))
    await asyncio.sleep(0)
    go.set()
    for waiting in (killer, queued):
        with pytest.raises(CriticalError, match="DATABASE_WRITER_DEAD"):
            await asyncio.wait_for(waiting, 30)
    with pytest.raises(CriticalError, match="DATABASE_WRITER_DEAD"):
        await asyncio.wait_for(database.run(names), 30)
    await asyncio.wait_for(database.close(), 30)
    writer.join(30)
    again = await Database.open(tmp_path / "a.db")
    assert await again.run(names) == []
    await again.close()


async def test_read_only_reads_beside_a_writer_and_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with pytest.raises(ValidationError, match="NO_DATABASE"):
        await Database.open(path, read_only=True)
    assert not path.exists()
    writer = await Database.open(path)
    await writer.run(put)
    reader = await Database.open(path, read_only=True)
    assert await reader.run(names) == ["vault"]
    await writer.run(lambda c: put(c, "later"))
    assert await reader.run(names) == ["later", "vault"]
    with pytest.raises(CriticalError, match="DATABASE_READ_ONLY"):
        await reader.run(lambda c: put(c, "no"))
    await reader.close()
    await writer.close()


async def test_a_path_is_needed_and_must_be_usable(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="NO_PATH"):
        await Database.open(None, Durability.FULL)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValidationError, match="BAD_PATH"):
        await Database.open(tmp_path / "file" / "a.db")
    with pytest.raises(ValidationError, match="BAD_PATH"):
        await Database.open(tmp_path)


async def test_a_newer_database_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    newer = await Database.open(path, migrations=(*MIGRATIONS, ("CREATE TABLE extra (x)",)))
    await newer.close()
    before = path.read_bytes()
    with pytest.raises(ValidationError, match="DATABASE_TOO_NEW") as refused:
        await Database.open(path)
    assert f"version {len(MIGRATIONS) + 1}" in refused.value.sentence
    assert path.read_bytes() == before


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE photos (x)")
    other.close()
    with pytest.raises(ValidationError, match="NOT_OUR_DATABASE"):
        await Database.open(path)


async def test_a_migration_keeps_a_copy_from_before(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    old = await Database.open(path)
    await old.run(put)
    await old.close()
    steps = (*MIGRATIONS, ("ALTER TABLE engine_state ADD COLUMN saved_s REAL", "UPDATE engine_state SET saved_s = 7"))
    with pytest.raises(ValidationError, match="DATABASE_TOO_OLD"):
        await Database.open(path, read_only=True, migrations=steps)
    new = await Database.open(path, migrations=steps)
    assert await new.run(lambda c: c.execute("SELECT * FROM engine_state").fetchall()) == [("vault", b"1", 7.0)]
    await new.close()
    copy = new.migration_backup
    assert copy == tmp_path / "backups" / f"a-version-{len(MIGRATIONS)}.db"
    kept = await Database.open(copy)
    assert await kept.run(lambda c: c.execute("SELECT * FROM engine_state").fetchall()) == [("vault", b"1")]
    await kept.close()


async def test_a_failing_migration_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    old = await Database.open(path)
    await old.run(put)
    await old.close()
    broken = (*MIGRATIONS, ("CREATE TABLE extra (x)", "INSERT INTO nowhere VALUES (1)"))
    for number in ("", "-2"):
        with pytest.raises(CriticalError, match="MIGRATION_FAILED") as failed:
            await Database.open(path, migrations=broken)
        assert f"a-version-{len(MIGRATIONS)}{number}.db" in failed.value.sentence
    again = await Database.open(path)
    assert await again.run(names) == ["vault"]
    await again.close()
