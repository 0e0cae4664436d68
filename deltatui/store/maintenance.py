"""What keeps the database small, whole and recoverable: backups, retention, size, and the vault reset (R10.5)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from deltatui.domain.errors import CriticalError, DeltatuiError, ValidationError
from deltatui.domain.event import Event, Level
from deltatui.store.copies import PART_SUFFIX, copy_database, make_folder, sync, write_file
from deltatui.store.database import Database, Durability
from deltatui.store.engine_store import EngineStore
from deltatui.store.faults import from_os, from_sqlite
from deltatui.store.retention import DAILY_KEPT, HOURLY_KEPT

HOUR_S = 3600.0
DAY_S = 86400.0
RETRY_S = 600.0
"""How long a failed backup is left alone before the next try."""
SIZE_WARNING_BYTES = 80_000_000
SIZE_LIMIT_BYTES = 100_000_000
CONFIGS_KEPT = 20
RETENTION_DAYS = 90.0
FUNDING_KEPT = 26_280
"""Funding records kept of each market: three years of hours, many times what any average looks back."""
_PRUNE_ROWS = 5_000
_GIVE_BACK_PAGES = 2_000

_STAMP = "%Y%m%dT%H%M%SZ"
_STAMP_PATTERN = re.compile(r"-(\d{8}T\d{6}Z)(?:-[0-9a-f]{12})?(?:\.[^.]*)?$")


class Pruned(msgspec.Struct, frozen=True):
    """Rows that retention removed."""

    operations: int
    journal: int
    activity: int
    funding: int = 0


def stamp_text(operator_s: float) -> str:
    """``20250620T130000Z``, UTC: sorts by time."""
    return datetime.fromtimestamp(operator_s, UTC).strftime(_STAMP)


def stamp_s(name: str) -> float | None:
    """The time in a backup's name in unix seconds; None if it has none."""
    found = _STAMP_PATTERN.search(name)
    if found is None:
        return None
    try:
        return datetime.strptime(found[1], _STAMP).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def superseded(names: Sequence[str], hourly: int = HOURLY_KEPT, daily: int = DAILY_KEPT) -> list[str]:
    """Which backups rotation gives up: all but the newest ``hourly`` and the newest of each of the last ``daily``
    days (UTC) that have one. Counted, not aged, so that a jumping clock takes nothing away. Other names are left."""
    dated = sorted((stamp, name) for name in names if (stamp := stamp_s(name)) is not None)
    kept = {name for _, name in dated[max(0, len(dated) - hourly) :]}
    newest_of_day = {stamp // DAY_S: name for stamp, name in dated}
    kept.update(newest_of_day[day] for day in sorted(newest_of_day, reverse=True)[:daily])
    return [name for _, name in dated if name not in kept]


async def backup_database(
    path: Path, folder: Path, operator_s: float, hourly: int = HOURLY_KEPT, daily: int = DAILY_KEPT
) -> Path:
    """A checked, self-contained copy of the database as it is now, named by ``operator_s``; then rotation. The writer
    is not held up. Raises TransientError (DISK_FULL, DISK_ERROR ...) or CriticalError (DATABASE_CORRUPT)."""
    return await asyncio.to_thread(_backup_database, path, folder, operator_s, hourly, daily)


async def backup_config(path: Path, folder: Path, operator_s: float) -> Path | None:
    """Keep a copy of the config file unless one with the same contents is kept already (then None, as when there is
    no config file). The newest 20 copies stay. Raises TransientError or ValidationError."""
    return await asyncio.to_thread(_backup_config, path, folder, operator_s)


async def prune(database: Database, operator_s: float, keep_days: float = RETENTION_DAYS) -> Pruned:
    """Remove operations that ended, their journal, and activity, all older than ``keep_days``, and of each market's
    funding all but the newest records: they are counted, not aged, since a replay's are as old as its tape. Open
    operations, the ledger, the numbers of venue events and the ids of all operations stay. In short transactions, so
    that trading never waits long."""
    cutoff = operator_s - keep_days * DAY_S
    operations = journal = activity = 0
    while True:
        removed = await database.run(partial(_prune_operations, cutoff))
        operations, journal = operations + removed[0], journal + removed[1]
        if removed[0] < _PRUNE_ROWS:
            break
    while True:
        rows = await database.run(partial(_prune_activity, cutoff))
        activity += rows
        if rows < _PRUNE_ROWS:
            break
    funding = await database.run(partial(_prune_funding, FUNDING_KEPT))
    if operations or activity or funding:
        await database.run(_give_back)
    return Pruned(operations, journal, activity, funding)


async def size_bytes(database: Database) -> int:
    """The database file as sqlite counts it, without the WAL."""
    return await database.run(_size_bytes)


class Maintenance:
    """Does what is due. Knows what was done from the backups' names, so a restart neither repeats nor forgets."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        config: Path | None = None,
        *,
        hourly: int = HOURLY_KEPT,
        daily: int = DAILY_KEPT,
    ) -> None:
        """Raises ValidationError for a database in memory, which has nothing to keep."""
        if database.durability is Durability.MEMORY or database.path is None:
            raise ValidationError("NO_PATH", "a database in memory has no backups")
        self._database = database
        self._path = database.path
        self._folder = folder
        self._config = config
        self._kept = (hourly, daily)
        self._not_before_s: float | None = None
        self._warned_size = False

    async def run_due(self, market_s: float, operator_s: float) -> list[Event]:
        """Call it every minute or so; it returns what is worth telling.

        Hourly: ``database_backup``, then retention (``database_pruned``) and, once when 80 MB are passed,
        ``database_size``. Whenever the config has changed: ``config_backup``. If one of these cannot be done:
        ``backup_failed``, and the next try is ten minutes later. Nothing is pruned unless a backup was made just
        before. Raises CriticalError if the database is damaged or was moved away (DATABASE_MOVED).
        """
        if self._not_before_s is not None and 0 <= self._not_before_s - operator_s <= RETRY_S:
            return []
        self._not_before_s = None
        told = _Told(market_s, operator_s)
        try:
            await self._database.check_in_place()
            if await asyncio.to_thread(_backup_due, self._folder, self._path, operator_s):
                copy = await backup_database(self._path, self._folder, operator_s, *self._kept)
                told.add("database_backup", Level.DEBUG, f"database backed up as {copy.name}", path=str(copy))
                await self._keep_small(told)
            if self._config is not None:
                saved = await backup_config(self._config, self._folder, operator_s)
                if saved is not None:
                    told.add("config_backup", Level.INFO, f"the config changed; kept as {saved.name}", path=str(saved))
        except CriticalError:
            raise
        except DeltatuiError as error:
            self._not_before_s = operator_s + RETRY_S
            told.add("backup_failed", Level.ERROR, error.sentence, code=error.code)
        return told.events

    async def _keep_small(self, told: _Told) -> None:
        pruned = await prune(self._database, told.operator_s)
        if pruned.operations or pruned.activity:
            told.add(
                "database_pruned",
                Level.INFO,
                f"{pruned.operations} operations and {pruned.activity} events over {RETENTION_DAYS:.0f} d removed",
                operations=str(pruned.operations),
                journal=str(pruned.journal),
                activity=str(pruned.activity),
            )
        size = await size_bytes(self._database)
        if size < SIZE_WARNING_BYTES:
            self._warned_size = False
        elif not self._warned_size:
            self._warned_size = True
            told.add(
                "database_size",
                Level.WARNING,
                f"the database has {size / 1e6:.0f} MB of the {SIZE_LIMIT_BYTES / 1e6:.0f} MB it should stay under; "
                "the ledger is never deleted by itself: export it and reset the vault when that suits",
                bytes=str(size),
            )


class _Told:
    """Events of one moment."""

    def __init__(self, market_s: float, operator_s: float) -> None:
        self.operator_s = operator_s
        self.events: list[Event] = []
        self._market_s = market_s

    def add(self, kind: str, level: Level, message: str, **data: str) -> None:
        self.events.append(Event(kind, level, message, self._market_s, self.operator_s, data=data))


async def reset_vault(path: Path, operator_s: float, *, abandon_open: bool = False) -> Path:
    """Move the database aside, so that the next start builds it anew; returns the folder that now holds it, named
    ``<database>-reset-<time>``, beside the database. Nothing is deleted. The caller holds the engine lock.

    Raises ValidationError if there is no database (NO_DATABASE), or, unless ``abandon_open``, if operations in it are
    still open (OPEN_OPERATIONS) or it cannot be read to find out (OPEN_UNKNOWN). TransientError if the disk refuses;
    then the database is still in place.
    """
    if not await asyncio.to_thread(path.is_file):
        raise ValidationError("NO_DATABASE", f"there is no database {path}; nothing to reset")
    if not abandon_open:
        await _refuse_open_operations(path)
    return await asyncio.to_thread(_move_aside, path, operator_s)


async def _refuse_open_operations(path: Path) -> None:
    try:
        database = await Database.open(path, Durability.FULL)
        try:
            open_operations = await EngineStore(database).open_operations()
        finally:
            await database.close()
    except (CriticalError, ValidationError) as error:
        raise ValidationError(
            "OPEN_UNKNOWN",
            f"the journal cannot be read, so nobody knows whether operations are open ({error.sentence}); check "
            "the account at the venue, then reset with abandon_open",
        ) from error
    if open_operations:
        named = ", ".join(f"{item.operation.id} ({item.state})" for item in open_operations[:5])
        raise ValidationError(
            "OPEN_OPERATIONS",
            f"{len(open_operations)} operations have not ended: {named}; start the engine until they are resolved, or "
            "reset with abandon_open after checking each at the venue",
        )


def _move_aside(path: Path, operator_s: float) -> Path:
    aside = path.with_name(f"{path.stem}-reset-{stamp_text(operator_s)}")
    parts = [part for suffix in ("", "-wal", "-shm") if (part := path.with_name(path.name + suffix)).exists()]
    try:
        aside.mkdir(mode=0o700)
        # Everything has its second name before the first one goes: a crash in between loses nothing.
        for part in parts:
            _second_name(part, aside / part.name)
        sync(aside)
        for part in parts:
            part.unlink()
        sync(path.parent)
    except FileExistsError:
        raise ValidationError("RESET_TWICE", f"{aside} is already there; wait a second and reset again") from None
    except OSError as error:
        raise from_os(error, aside) from error
    return aside


def _second_name(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Some file systems have no hard links.
        shutil.copy2(source, target)
        sync(target)


def _backup_due(folder: Path, database: Path, operator_s: float) -> bool:
    stamps = [stamp for name in _names(folder, _prefix(database), ".db") if (stamp := stamp_s(name)) is not None]
    # A clock that was set back must not stop the backups until it has caught up.
    return not stamps or abs(operator_s - max(stamps)) >= HOUR_S


def _backup_database(path: Path, folder: Path, operator_s: float, hourly: int, daily: int) -> Path:
    target = folder / f"{_prefix(path)}{stamp_text(operator_s)}.db"
    try:
        make_folder(folder)
        for left in _names(folder, _prefix(path), ""):
            if PART_SUFFIX in left:
                (folder / left).unlink(missing_ok=True)
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as source:
            copy_database(source, target)
        for name in superseded(_names(folder, _prefix(path), ".db"), hourly, daily):
            (folder / name).unlink(missing_ok=True)
    except sqlite3.Error as error:
        raise from_sqlite(error, path) from error
    except OSError as error:
        raise from_os(error, target) from error
    return target


def _backup_config(path: Path, folder: Path, operator_s: float) -> Path | None:
    prefix = f"{path.stem}-config-"
    try:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        digest = hashlib.sha256(content).hexdigest()[:12]
        if any(name.endswith(f"-{digest}{path.suffix}") for name in _names(folder, prefix, path.suffix)):
            return None
        target = folder / f"{prefix}{stamp_text(operator_s)}-{digest}{path.suffix}"
        write_file(target, content)
        for name in sorted(_names(folder, prefix, path.suffix))[:-CONFIGS_KEPT]:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise from_os(error, path) from error
    return target


def _prefix(database: Path) -> str:
    return f"{database.stem}-backup-"


def _names(folder: Path, prefix: str, suffix: str) -> list[str]:
    if not folder.is_dir():
        return []
    return [item.name for item in folder.iterdir() if item.name.startswith(prefix) and item.name.endswith(suffix)]


def _prune_operations(cutoff: float, connection: sqlite3.Connection) -> tuple[int, int]:
    leaving = connection.execute(
        "SELECT id, state FROM operations WHERE state IN ('LANDED', 'FAILED', 'EXPIRED') AND updated_operator_s < ?"
        " ORDER BY number LIMIT ?",
        (cutoff, _PRUNE_ROWS),
    ).fetchall()
    connection.executemany("INSERT INTO past_operations VALUES (?, ?)", leaving)
    ids = [row[:1] for row in leaving]
    journal = connection.executemany("DELETE FROM journal WHERE operation_id = ?", ids).rowcount if ids else 0
    connection.executemany("DELETE FROM operations WHERE id = ?", ids)
    return len(ids), journal


def _prune_activity(cutoff: float, connection: sqlite3.Connection) -> int:
    return connection.execute(
        "DELETE FROM activity WHERE number IN"
        " (SELECT number FROM activity WHERE operator_s < ? ORDER BY number LIMIT ?)",
        (cutoff, _PRUNE_ROWS),
    ).rowcount


def _prune_funding(kept: int, connection: sqlite3.Connection) -> int:
    markets = connection.execute("SELECT DISTINCT market FROM funding").fetchall()
    return sum(
        connection.execute(
            "DELETE FROM funding WHERE market = :market AND ts_s <="
            " (SELECT ts_s FROM funding WHERE market = :market ORDER BY ts_s DESC LIMIT 1 OFFSET :kept)",
            {"market": market, "kept": kept},
        ).rowcount
        for (market,) in markets
    )


def _give_back(connection: sqlite3.Connection) -> None:
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    for _ in range(min(free, _GIVE_BACK_PAGES)):
        # The module takes one step of this pragma, which is one page, whatever number it is given.
        connection.execute("PRAGMA incremental_vacuum(1)")


def _size_bytes(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages) * int(page)
