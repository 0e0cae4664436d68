"""Files that are either wholly there or not there: database copies and small files."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from deltatui.store.faults import corrupt

PART_SUFFIX = ".part"


def make_folder(folder: Path) -> None:
    """Create it for this user alone. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def copy_database(source: sqlite3.Connection, target: Path) -> None:
    """Write a consistent, checked, self-contained copy (no WAL beside it) and let it appear under its name only when
    it is on disk. Blocking. Raises sqlite3.Error, OSError, or CriticalError if the copy fails its check."""
    make_folder(target.parent)
    part = target.with_name(target.name + PART_SUFFIX)
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with closing(sqlite3.connect(part, isolation_level=None)) as copy:
            # One step under one read transaction: a writer neither waits for it nor makes it start again.
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
            check(copy, part)
        publish(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def check(connection: sqlite3.Connection, path: Path | None) -> None:
    """Raise CriticalError unless ``PRAGMA quick_check`` finds nothing."""
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise corrupt(path, str(found))


def write_file(target: Path, content: bytes) -> None:
    """Write a file for this user alone, whole or not at all. Blocking. Raises OSError."""
    make_folder(target.parent)
    part = target.with_name(target.name + PART_SUFFIX)
    part.unlink(missing_ok=True)
    try:
        with open(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(content)
        publish(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def publish(part: Path, target: Path) -> None:
    """Bring ``part`` to disk and give it its name."""
    sync(part)
    part.replace(target)
    sync(target.parent)


def sync(path: Path) -> None:
    """fsync a file or, for the names in it, a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
