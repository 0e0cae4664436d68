"""One sqlite connection, owned by one thread, used through transactions only."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from enum import StrEnum
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from deltatui.domain.errors import CriticalError, ValidationError
from deltatui.store.copies import check, make_folder, sync
from deltatui.store.faults import from_os, from_sqlite
from deltatui.store.migrations import MIGRATIONS, Migration, check_version, migrate

T = TypeVar("T")

Work = Callable[[sqlite3.Connection], T]


class Durability(StrEnum):
    """When a commit counts as done. FULL: it survives a power cut. NORMAL: it survives the death of the process, a
    power cut may take the last commits. MEMORY: nothing is kept, for backtests and tests."""

    FULL = "full"
    NORMAL = "normal"
    MEMORY = "memory"


class _Job:
    """Work on its way to the writer thread."""

    def __init__(self, work: Work[Any]) -> None:
        self.work = work
        self.done: Future[Any] = Future()


class Database:
    """``await Database.open(...)``, then ``run``, then ``close``.

    With FULL and NORMAL a thread of its own does all disk work. With MEMORY everything runs inline on the caller's
    thread, which must be the one that opened it.
    """

    def __init__(
        self,
        path: Path | None,
        durability: Durability,
        busy_timeout_s: float,
        read_only: bool,
        migrations: Sequence[Migration],
    ) -> None:
        self.path = path
        self.durability = durability
        self.read_only = read_only
        self.migration_backup: Path | None = None
        self._busy_timeout_s = busy_timeout_s
        self._migrations = migrations
        self._begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"
        self._inline: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._gate = threading.Lock()
        self._refusal: CriticalError | None = None
        self._opened: Future[None] = Future()
        self._closed: Future[None] = Future()

    @classmethod
    async def open(
        cls,
        path: Path | None,
        durability: Durability = Durability.FULL,
        *,
        busy_timeout_s: float = 5.0,
        read_only: bool = False,
        migrations: Sequence[Migration] = MIGRATIONS,
    ) -> Database:
        """Open, check (``PRAGMA quick_check``) and migrate; a missing file is created, for this user alone.

        ``path`` is not used with MEMORY. ``busy_timeout_s`` bounds the wait for another program's lock. ``read_only``
        is for exports beside a running engine: nothing is created or migrated, and writing raises CriticalError.
        ``migration_backup`` tells afterwards where a migration left its copy.

        Raises ValidationError (path unusable, database newer than the program or another program's), CriticalError
        (DATABASE_CORRUPT, MIGRATION_FAILED), TransientError (DATABASE_LOCKED, DISK_FULL, DISK_ERROR).
        """
        if durability is Durability.MEMORY:
            self = cls(None, durability, busy_timeout_s, False, migrations)
            self._inline = self._connect()
            return self
        if path is None:
            raise ValidationError("NO_PATH", f"a database with durability {durability} needs the path of a file")
        self = cls(path, durability, busy_timeout_s, read_only, migrations)
        threading.Thread(target=self._write, name="deltatui-store", daemon=True).start()
        try:
            await asyncio.shield(asyncio.wrap_future(self._opened))
        except asyncio.CancelledError:
            # Nobody will hold it, so nobody would close it.
            self._jobs.put(None)
            raise
        return self

    async def run(self, work: Work[T]) -> T:
        """Call ``work(connection)`` in a transaction of its own and return what it returns.

        If it raises, everything it did is rolled back and the error comes out. Calls are carried out in the order in
        which they were made. Once called, the work is done to its end even if the awaiting task is cancelled.

        Raises TransientError (DATABASE_LOCKED, DISK_FULL, DISK_ERROR: nothing changed), CriticalError
        (DATABASE_CORRUPT, DATABASE_ERROR, DATABASE_CLOSED, DATABASE_WRITER_DEAD), and whatever ``work`` raises.
        """
        if self._inline is not None:
            return self._transact(self._inline, work)
        job = _Job(work)
        with self._gate:
            if self._refusal is not None:
                raise CriticalError(self._refusal.code, self._refusal.sentence)
            self._jobs.put(job)
        result: T = await asyncio.shield(asyncio.wrap_future(job.done))
        return result

    async def check_in_place(self) -> None:
        """Raise CriticalError (DATABASE_MOVED) if the file that is open no longer lies at ``path``.

        sqlite notices nothing: it would go on writing to a file that the next start does not find.
        """
        await self.run(lambda _: self._check_identity())

    async def close(self) -> None:
        """Carry out what is queued, then close. Closing twice is harmless; a dead writer has nothing left to close."""
        with self._gate:
            if self._refusal is None:
                self._refusal = CriticalError("DATABASE_CLOSED", "the database has been closed and takes no more work")
                self._jobs.put(None)
        if self.durability is Durability.MEMORY:
            if self._inline is not None:
                self._inline.close()
                self._inline = None
            return
        await asyncio.shield(asyncio.wrap_future(self._closed))

    def _write(self) -> None:
        cause = "it ended without a reason"
        try:
            try:
                connection = self._connect()
            except Exception as error:  # noqa: BLE001 - the opener gets it
                self._opened.set_exception(error)
                return
            self._opened.set_result(None)
            try:
                while (job := self._jobs.get()) is not None:
                    self._carry_out(connection, job)
            finally:
                connection.close()
        except BaseException as error:
            cause = type(error).__name__
            raise
        finally:
            self._bury(cause)

    def _carry_out(self, connection: sqlite3.Connection, job: _Job) -> None:
        try:
            result = self._transact(connection, job.work)
        except Exception as error:  # noqa: BLE001 - the caller gets it
            job.done.set_exception(error)
        except BaseException as error:
            job.done.set_exception(_dead(type(error).__name__))
            raise
        else:
            job.done.set_result(result)

    def _bury(self, cause: str) -> None:
        """Nothing may wait for a thread that has gone: answer what is queued and refuse what comes."""
        with self._gate:
            if self._refusal is None:
                self._refusal = _dead(cause)
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is not None:
                job.done.set_exception(_dead(cause))
        if not self._opened.done():
            self._opened.set_exception(_dead(cause))
        self._closed.set_result(None)

    def _transact(self, connection: sqlite3.Connection, work: Work[T]) -> T:
        try:
            connection.execute(self._begin)
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise from_sqlite(error, self.path) from error
        return result

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = self._connection()
            try:
                if self.path is not None:
                    self._identity = _identity(self.path)
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise from_sqlite(error, self.path) from error
        except OSError as error:
            raise from_os(error, self.path or Path()) from error
        return connection

    def _connection(self) -> sqlite3.Connection:
        if self.path is None:
            return sqlite3.connect(":memory:", isolation_level=None)
        if self.read_only:
            if not self.path.is_file():
                raise ValidationError("NO_DATABASE", f"there is no database {self.path}; nothing has been recorded yet")
            return sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=self._busy_timeout_s, isolation_level=None
            )
        make_folder(self.path.parent)
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        sync(self.path.parent)
        return sqlite3.connect(self.path, timeout=self._busy_timeout_s, isolation_level=None)

    def _check_identity(self) -> None:
        if self.path is None:
            return
        try:
            found = _identity(self.path)
        except FileNotFoundError:
            found = None
        except OSError as error:
            raise from_os(error, self.path) from error
        if found != self._identity:
            raise CriticalError(
                "DATABASE_MOVED",
                f"the database {self.path} was moved or replaced while it was open; stop the engine, put the file back "
                "together with its -wal file, and start again",
            )

    def _prepare(self, connection: sqlite3.Connection) -> None:
        newest = len(self._migrations)
        version = check_version(connection, self.path, newest)
        if self.read_only:
            if version != newest:
                raise ValidationError(
                    "DATABASE_TOO_OLD",
                    f"the database {self.path} has version {version} and {newest} is needed; starting the engine once "
                    "migrates it",
                )
            return
        if self.path is not None:
            if version == 0:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise ValidationError(
                    "NO_WAL",
                    f"the file system of {self.path} has no shared memory for a database; give a path on a local disk",
                )
            full = self.durability is Durability.FULL
            connection.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
            # Only macOS knows it: there a plain fsync does not reach the disk.
            connection.execute(f"PRAGMA fullfsync = {int(full)}")
            connection.execute("PRAGMA journal_size_limit = 16777216")
            check(connection, self.path)
        backups = None if self.path is None else self.path.parent / "backups"
        self.migration_backup = migrate(connection, self.path, backups, self._migrations)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _dead(cause: str) -> CriticalError:
    return CriticalError(
        "DATABASE_WRITER_DEAD", f"the thread that writes the database has died ({cause}); restart the engine"
    )
