"""What sqlite and the file system can say, as the four kinds of error."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

from deltatui.domain.errors import CriticalError, DeltatuiError, TransientError, ValidationError

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def corrupt(path: Path | None, what: str) -> CriticalError:
    """The database is there and cannot be trusted; ``what`` is sqlite's own complaint."""
    return CriticalError(
        "DATABASE_CORRUPT",
        f"the database {_named(path)} is damaged ({what}); stop the engine, keep the file, and either put a backup in "
        "its place or reset the vault, as docs/runbooks/vault-reset.md says",
    )


def from_sqlite(error: sqlite3.Error, path: Path | None) -> DeltatuiError:
    """Translate by sqlite's result code. What is neither busy, nor disk, nor damage is a fault of the program or of
    the schema, hence critical."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    named = _named(path)
    match primary:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return TransientError("DATABASE_LOCKED", f"another program holds the database {named} locked")
        case sqlite3.SQLITE_FULL:
            return TransientError(
                "DISK_FULL",
                f"there is no room left to write the database {named}; nothing was changed; free some space",
            )
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN:
            return TransientError("DISK_ERROR", f"the disk refused the database {named} ({error}); nothing was changed")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return CriticalError("DATABASE_READ_ONLY", f"the database {named} cannot be written ({error})")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return corrupt(path, str(error))
        case _:
            return CriticalError("DATABASE_ERROR", f"the database {named} refused a statement ({error})")


def from_os(error: OSError, path: Path) -> DeltatuiError:
    """Translate a failure on a file or folder: no room and broken disks may pass, wrong paths and rights do not."""
    reason = error.strerror or type(error).__name__
    if error.errno in _NO_SPACE:
        return TransientError("DISK_FULL", f"there is no room left to write {path}; free some space")
    if isinstance(
        error, PermissionError | FileNotFoundError | NotADirectoryError | IsADirectoryError | FileExistsError
    ):
        return ValidationError(
            "BAD_PATH", f"{path} cannot be used ({reason}); a path that this user may write is needed"
        )
    return TransientError("DISK_ERROR", f"the disk refused {path} ({reason})")


def _named(path: Path | None) -> str:
    return "in memory" if path is None else str(path)
