from __future__ import annotations

import asyncio
import csv
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from store_builders import entry, fill, flow, operation, record, told

from deltatui.domain.errors import CriticalError, ValidationError
from deltatui.domain.event import Event, Level
from deltatui.domain.ledger import FlowKind
from deltatui.domain.market import FundingRecord
from deltatui.domain.operation import JournalRecord, OperationState
from deltatui.store import maintenance
from deltatui.store.database import Database, Durability
from deltatui.store.engine_store import EngineStore
from deltatui.store.export import ExportFormat, ExportKind, export
from deltatui.store.maintenance import (
    DAY_S,
    HOUR_S,
    RETRY_S,
    Maintenance,
    Pruned,
    backup_config,
    backup_database,
    prune,
    reset_vault,
    size_bytes,
    stamp_s,
    stamp_text,
    superseded,
)
from deltatui.store.paper_tables import PaperTables

S = OperationState
NOON_S = 1_750_420_800.0  # 2025-06-20 12:00 UTC


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "engine.db", Durability.NORMAL)
    yield database
    await database.close()


async def saved_state(path: Path) -> object:
    copy = await Database.open(path, read_only=True)
    state = await EngineStore(copy).load_state()
    await copy.close()
    return state


def test_stamps_go_there_and_back() -> None:
    assert stamp_text(NOON_S + 61) == "20250620T120101Z"
    assert stamp_s("engine-backup-20250620T120101Z.db") == NOON_S + 61
    assert stamp_s("engine-config-20250620T120101Z-0123456789ab.toml") == NOON_S + 61
    assert stamp_s("engine-backup-20251320T120101Z.db") is None
    assert stamp_s("engine-version-1.db") is None


def test_rotation_keeps_24_hours_and_7_days() -> None:
    names = [f"x-{stamp_text(NOON_S + hour * HOUR_S)}.db" for hour in range(24 * 20)]
    given_up = set(superseded([*names, "notes.txt"]))
    kept = [name for name in names if name not in given_up]
    assert kept[-24:] == names[-24:]
    older = kept[:-24]
    # The newest day and the one before are among the hours; five more days are left, each by its last hour.
    assert [name[-11:-4] for name in older] == ["T230000"] * 5
    assert len({name[:10] for name in kept}) == 7
    assert "notes.txt" not in given_up
    assert superseded(names[:3], hourly=0, daily=0) == names[:3]
    assert superseded(names[:3], hourly=0, daily=1) == names[:2]
    assert superseded(names[:3], hourly=2, daily=0) == names[:1]


def test_rotation_step_by_step_is_rotation_at_once() -> None:
    names: list[str] = []
    every = [f"x-{stamp_text(NOON_S + hour * HOUR_S)}.db" for hour in range(24 * 9)]
    for name in every:
        names.append(name)
        given_up = set(superseded(names))
        names = [item for item in names if item not in given_up]
    assert names == [name for name in every if name not in set(superseded(every))]


async def test_a_backup_is_whole_while_the_writer_writes(database: Database, tmp_path: Path) -> None:
    store = EngineStore(database)
    await store.append_ledger([entry(1)], {"cursor": b"1"}, events=told(1))

    async def book() -> None:
        for number in range(2, 200):
            await store.append_ledger([entry(number)], {"cursor": str(number).encode()}, events=told(number, number))

    writing = asyncio.ensure_future(book())
    folder = tmp_path / "backups"
    copy = await backup_database(tmp_path / "engine.db", folder, NOON_S)
    await writing
    assert copy == folder / "engine-backup-20250620T120000Z.db"
    assert [item.name for item in folder.iterdir()] == [copy.name]
    back = await Database.open(copy)
    booked = await EngineStore(back).ledger()
    state = await EngineStore(back).load_state()
    await back.close()
    assert booked == [entry(number) for number in range(1, len(booked) + 1)]
    assert state == {"cursor": str(len(booked)).encode()}
    assert len(await store.ledger()) == 199


async def test_backups_rotate_on_disk_and_clear_what_a_crash_left(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    left = folder / "engine-backup-20250101T000000Z.db.part"
    left.write_bytes(b"half")
    (folder / "other-backup-20250101T000000Z.db").write_bytes(b"not ours")
    for hour in range(24 * 20):
        (folder / f"engine-backup-{stamp_text(NOON_S + hour * HOUR_S)}.db").write_bytes(b"")
    await backup_database(tmp_path / "engine.db", folder, NOON_S + 24 * 20 * HOUR_S)
    assert not left.exists()
    names = sorted(item.name for item in folder.iterdir())
    assert "other-backup-20250101T000000Z.db" in names
    assert len(names) == 1 + 24 + 5


async def test_a_damaged_database_is_not_backed_up(tmp_path: Path) -> None:
    (tmp_path / "engine.db").write_bytes(b"this is no database" * 1000)
    with pytest.raises(CriticalError, match="DATABASE_CORRUPT"):
        await backup_database(tmp_path / "engine.db", tmp_path / "backups", NOON_S)
    assert list((tmp_path / "backups").iterdir()) == []


async def test_the_config_is_kept_when_it_changes(tmp_path: Path) -> None:
    config, folder = tmp_path / "deltatui.toml", tmp_path / "backups"
    assert await backup_config(config, folder, NOON_S) is None
    config.write_text("a = 1")
    first = await backup_config(config, folder, NOON_S)
    assert first is not None
    assert first.read_text() == "a = 1"
    assert first.stat().st_mode & 0o777 == 0o600
    assert await backup_config(config, folder, NOON_S + 60) is None
    config.write_text("a = 2")
    second = await backup_config(config, folder, NOON_S + 120)
    assert second is not None
    assert sorted(folder.iterdir()) == [first, second]
    for number in range(maintenance.CONFIGS_KEPT):
        config.write_text(f"b = {number}")
        await backup_config(config, folder, NOON_S + 180 + number)
    kept = sorted(folder.iterdir())
    assert len(kept) == maintenance.CONFIGS_KEPT
    assert first not in kept
    assert kept[-1].read_text() == f"b = {maintenance.CONFIGS_KEPT - 1}"


async def run_through(store: EngineStore, name: str, *states: OperationState, operator_s: float) -> None:
    for state in states:
        line = record(name, state, operator_s)
        await store.append_journal(msgspec.structs.replace(line, operator_s=operator_s))


async def test_retention_takes_only_what_is_old_and_ended(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "_PRUNE_ROWS", 3)
    store = EngineStore(database)
    now, old = 200 * DAY_S, 100 * DAY_S
    for number in range(7):
        await run_through(store, f"old-{number}", S.PLANNED, S.FAILED, operator_s=old)
    await run_through(store, "old-open", S.PLANNED, S.SIMULATED, S.SIGNED, S.SENT, operator_s=old)
    await run_through(store, "young", S.PLANNED, S.FAILED, operator_s=now)
    await store.append_ledger([entry(1), entry(2)], {}, events=told(3))
    await store.append_events([Event("x", Level.INFO, "old", 1.0, old) for _ in range(7)])
    await store.append_events([Event("x", Level.INFO, "young", 1.0, now - 89 * DAY_S)])
    assert await prune(database, now) == Pruned(7, 14, 7)
    assert await prune(database, now) == Pruned(0, 0, 0)
    assert [item.operation.id for item in await store.operations()] == ["young", "old-open"]
    assert [item.event.message for item in await store.events()] == ["young"]
    assert await store.ledger() == [entry(1), entry(2)]
    assert await store.venue_events() == told(3)
    assert await store.journal("old-3") == []
    assert await store.known_operation("old-3") is S.FAILED
    with pytest.raises(CriticalError, match="OPERATION_EXISTS"):
        await store.append_journal(JournalRecord("old-3", S.PLANNED, now, operation("old-3")))


async def test_retention_keeps_the_newest_funding_of_each_market(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However old it is: the tape of a replay may be years behind the clock."""
    monkeypatch.setattr(maintenance, "FUNDING_KEPT", 3)
    store, one = EngineStore(database), Decimal(1)
    records = [FundingRecord(3600 * n, one, one, one, one, one, one) for n in range(1, 7)]
    await store.append_ledger([], {}, {"SOL-PERP": records, "BTC-PERP": records[:3]})
    assert await prune(database, 1e9) == Pruned(0, 0, 0, 3)
    assert await store.funding("SOL-PERP", 100) == records[3:]
    assert await store.funding("BTC-PERP", 100) == records[:3]


async def test_pruning_gives_the_room_back(database: Database) -> None:
    store = EngineStore(database)
    await store.append_events([Event("x", Level.INFO, "m" * 1000, 1.0, 1.0) for _ in range(2000)])
    before = await size_bytes(database)
    await prune(database, 91 * DAY_S)
    assert await size_bytes(database) < before / 5


async def test_due_work_is_done_once_an_hour_and_survives_a_restart(database: Database, tmp_path: Path) -> None:
    folder, config = tmp_path / "backups", tmp_path / "deltatui.toml"
    config.write_text("a = 1")

    async def kinds(keeper: Maintenance, operator_s: float) -> list[str]:
        events = await keeper.run_due(5.0, operator_s)
        assert all((event.market_s, event.operator_s) == (5.0, operator_s) for event in events)
        return [event.kind for event in events]

    keeper = Maintenance(database, folder, config)
    assert await kinds(keeper, NOON_S) == ["database_backup", "config_backup"]
    assert await kinds(keeper, NOON_S + 60) == []
    config.write_text("a = 2")
    restarted = Maintenance(database, folder, config)
    assert await kinds(restarted, NOON_S + HOUR_S - 1) == ["config_backup"]
    assert await kinds(restarted, NOON_S + HOUR_S) == ["database_backup"]
    # The clock was set back by a week: backups go on.
    assert await kinds(restarted, NOON_S - 7 * DAY_S) == ["database_backup"]


async def test_a_failed_backup_is_told_and_tried_again_later(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.write_text("a file is in the way")
    await EngineStore(database).append_events([Event("x", Level.INFO, "old", 1.0, 1.0)])
    keeper = Maintenance(database, folder)
    (failed,) = await keeper.run_due(5.0, NOON_S)
    assert (failed.kind, failed.level, failed.data["code"]) == ("backup_failed", Level.ERROR, "BAD_PATH")
    assert str(folder) in failed.message
    assert await keeper.run_due(5.0, NOON_S + RETRY_S - 1) == []
    assert len(await EngineStore(database).events()) == 1
    folder.unlink()
    told = await keeper.run_due(5.0, NOON_S + RETRY_S + 1)
    assert [event.kind for event in told] == ["database_backup", "database_pruned"]


async def test_a_large_database_is_told_once(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "SIZE_WARNING_BYTES", 10_000)
    keeper = Maintenance(database, tmp_path / "backups")
    first = await keeper.run_due(5.0, NOON_S)
    second = await keeper.run_due(5.0, NOON_S + HOUR_S)
    assert [event.kind for event in first] == ["database_backup", "database_size"]
    assert [event.kind for event in second] == ["database_backup"]


async def test_memory_has_nothing_to_keep() -> None:
    database = await Database.open(None, Durability.MEMORY)
    with pytest.raises(ValidationError, match="NO_PATH"):
        Maintenance(database, Path("unused"))
    await database.close()


async def test_reset_moves_the_vault_aside_and_the_next_start_is_new(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    with pytest.raises(ValidationError, match="NO_DATABASE"):
        await reset_vault(path, NOON_S)
    database = await Database.open(path)
    await EngineStore(database).save_state({"vault": b"1"})
    await run_through(EngineStore(database), "op", S.PLANNED, S.FAILED, operator_s=1.0)
    await database.close()
    aside = await reset_vault(path, NOON_S)
    assert aside == tmp_path / "engine-reset-20250620T120000Z"
    assert sorted(item.name for item in tmp_path.iterdir()) == [aside.name]
    assert await saved_state(aside / "engine.db") == {"vault": b"1"}
    fresh = await Database.open(path)
    assert await EngineStore(fresh).load_state() == {}
    await fresh.close()
    with pytest.raises(ValidationError, match="RESET_TWICE"):
        await reset_vault(path, NOON_S)
    assert path.exists()


async def test_reset_refuses_while_operations_are_open(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    database = await Database.open(path)
    await run_through(EngineStore(database), "op-7", S.PLANNED, S.SIMULATED, S.SIGNED, S.SENT, operator_s=1.0)
    await database.close()
    with pytest.raises(ValidationError, match="OPEN_OPERATIONS") as refused:
        await reset_vault(path, NOON_S)
    assert "op-7 (SENT)" in refused.value.sentence
    assert path.exists()
    aside = await reset_vault(path, NOON_S, abandon_open=True)
    assert not path.exists()
    assert (aside / "engine.db").exists()


async def test_reset_of_a_damaged_vault_keeps_every_byte(tmp_path: Path) -> None:
    parts = {name: name.encode() * 1000 for name in ("engine.db", "engine.db-wal", "engine.db-shm")}
    for name, content in parts.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValidationError, match="OPEN_UNKNOWN"):
        await reset_vault(tmp_path / "engine.db", NOON_S)
    for name, content in parts.items():
        (tmp_path / name).write_bytes(content)
    aside = await reset_vault(tmp_path / "engine.db", NOON_S, abandon_open=True)
    assert {item.name: item.read_bytes() for item in aside.iterdir()} == parts
    assert list(tmp_path.iterdir()) == [aside]


async def filled(database: Database) -> None:
    store = EngineStore(database)
    await run_through(store, "op-1", S.PLANNED, S.SIMULATED, S.SIGNED, S.SENT, S.LANDED, operator_s=7.0)
    await run_through(store, "op-2", S.PLANNED, S.FAILED, operator_s=8.0)
    fee = msgspec.structs.replace(
        entry(2, "-0.1000000000000000000000001"), kind=FlowKind.FEE, note='a "note", two\nlines'
    )
    await store.append_ledger([entry(1), fee, entry(3, venue_sequence=0)], {}, events=told(2))
    await PaperTables(database).commit({}, [fill(1), flow(2), fill(3, "2")])


async def test_export_to_csv(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deltatui.store.export._PAGE_ROWS", 2)
    await filled(database)
    tables: dict[ExportKind, list[dict[str, str]]] = {}
    for kind in ExportKind:
        path = tmp_path / f"{kind}.csv"
        count = await export(database, kind, path)
        with path.open(newline="") as file:
            tables[kind] = list(csv.DictReader(file))
        assert count == len(tables[kind])
    operations, ledger = tables[ExportKind.OPERATIONS], tables[ExportKind.LEDGER]
    assert [(row["id"], row["state"], row["signature"], row["error_code"]) for row in operations] == [
        ("op-1", "LANDED", "signature-op-1", ""),
        ("op-2", "FAILED", "", "6010"),
    ]
    assert msgspec.json.decode(operations[0]["body"], type=type(operation())) == operation("op-1")
    assert [(row["sequence"], row["kind"], row["amount"]) for row in ledger] == [
        ("1", "funding", "-1.25"),
        ("2", "fee", "-0.1000000000000000000000001"),
        ("3", "funding", "-1.25"),
    ]
    assert ledger[1]["note"] == 'a "note", two\nlines'
    assert [(row["venue_sequence"], row["account"], row["event_id"]) for row in ledger] == [
        ("1", "paper/test/0", "signature-1:0"),
        ("2", "paper/test/0", "signature-2:0"),
        ("0", "", ""),
    ]
    assert [row["sequence"] for row in tables[ExportKind.FUNDING]] == ["1", "3"]
    assert [(row["sequence"], Decimal(row["base"]), row["price"]) for row in tables[ExportKind.FILLS]] == [
        ("1", Decimal("-10.5"), "151.123456"),
        ("3", Decimal(2), "151.123456"),
    ]


async def test_export_overwrites_only_when_told(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    path.write_text("mine")
    with pytest.raises(ValidationError, match="EXPORT_EXISTS"):
        await export(database, ExportKind.LEDGER, path)
    assert path.read_text() == "mine"
    assert await export(database, ExportKind.LEDGER, path, overwrite=True) == 0
    assert path.read_text().startswith("sequence,")
    with pytest.raises(ValidationError, match="BAD_PATH"):
        await export(database, ExportKind.LEDGER, tmp_path / "nowhere" / "ledger.csv")
    assert {item.name for item in tmp_path.iterdir() if not item.name.startswith("engine.db")} == {"ledger.csv"}


async def test_parquet_without_duckdb_is_refused(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ValidationError, match="NO_PARQUET"):
        await export(database, ExportKind.LEDGER, tmp_path / "x.parquet", ExportFormat.PARQUET)
    assert not (tmp_path / "x.parquet").exists()


async def test_parquet_has_the_same_rows(database: Database, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    await filled(database)
    for kind in ExportKind:
        path = tmp_path / f"{kind}.parquet"
        count = await export(database, kind, path, ExportFormat.PARQUET)
        await export(database, kind, tmp_path / f"{kind}.csv")
        with (tmp_path / f"{kind}.csv").open(newline="") as file:
            expected = list(csv.reader(file))[1:]
        with duckdb.connect() as connection:
            rows = connection.execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchall()
        assert len(rows) == count == len(expected) > 0
        for row, texts in zip(rows, expected, strict=True):
            assert [type(value)(text) for value, text in zip(row, texts, strict=True)] == list(row)


async def test_a_backup_can_be_restored_by_copying_it(database: Database, tmp_path: Path) -> None:
    await EngineStore(database).save_state({"vault": b"1"})
    copy = await backup_database(tmp_path / "engine.db", tmp_path / "backups", NOON_S)
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    other = tmp_path / "restored" / "engine.db"
    other.parent.mkdir()
    other.write_bytes(copy.read_bytes())
    restored = await Database.open(other)
    assert await EngineStore(restored).load_state() == {"vault": b"1"}
    await restored.close()
