"""The socket file of an engine: one owner, mode 0600 in a folder of mode 0700.

A lock file beside the engine's state, held for the life of the process, decides who owns the socket; the kernel
releases it however the process ends, so a socket file without a lock holder is stale and is removed.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import time
from pathlib import Path

from deltatui.domain.errors import CriticalError, TransientError, ValidationError

MAX_PATH_BYTES = 103
"""Longest usable path of a unix socket: 104 bytes with the closing zero on macOS, 108 on Linux."""

_PROBE_S = 1.0
_BACKLOG = 32
_ASKING_S = 0.01


def check_path(path: Path) -> Path:
    """Return ``path``; raise ValidationError if it is longer than a unix socket may be called."""
    length = len(os.fsencode(path))
    if length > MAX_PATH_BYTES:
        raise ValidationError(
            "SOCKET_PATH_TOO_LONG",
            f"the socket path {path} has {length} bytes and a unix socket may have {MAX_PATH_BYTES}; "
            "set XDG_RUNTIME_DIR to a shorter folder or choose a shorter profile name",
        )
    return path


def private_folder(folder: Path, *, close: bool = True) -> None:
    """Create ``folder`` for this user only. One that exists is closed to others, or left as it is (``close=False``, for
    a folder that the user chose). Raises ValidationError if it cannot be used or, closing, if others may write."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not close:
            return
        status = folder.stat()
        mode = stat.S_IMODE(status.st_mode)
        # Closing somebody else's folder, or one that everybody shares (/tmp), would break it for them.
        if status.st_uid != os.geteuid() or mode & 0o1022:
            raise ValidationError("SHARED_FOLDER", f"others may write in the folder {folder}; choose a private one")
        if mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise ValidationError("BAD_FOLDER", f"the folder {folder} cannot be used: {error.strerror}") from error


def lock_holder(lock: Path) -> int | None:
    """The process id of the engine that holds ``lock``; 0 if it is held without saying by whom, None if it is free."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_pid(descriptor)
    finally:
        os.close(descriptor)
    return None


class Endpoint:
    """The listening socket at ``path``, owned through ``lock`` (default: ``path`` with ``.lock`` appended)."""

    def __init__(self, path: Path, lock: Path | None = None) -> None:
        self.path = check_path(path)
        self.lock = lock if lock is not None else path.with_name(path.name + ".lock")
        self._lock_descriptor: int | None = None

    def open(self) -> socket.socket:
        """Take the lock and listen. Raises ValidationError ENGINE_RUNNING if another engine has it."""
        private_folder(self.lock.parent)
        self._take_lock()
        try:
            return self.bind()
        except BaseException:
            self._release_lock()
            raise

    def bind(self) -> socket.socket:
        """Listen at the path, replacing a stale file. Only for the holder of the lock."""
        private_folder(self.path.parent)
        self._remove_stale()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            listener.bind(os.fspath(self.path))
            self.path.chmod(0o600)
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise TransientError("CANNOT_LISTEN", f"cannot listen at {self.path}: {error.strerror}") from error
        return listener

    def lost(self) -> bool:
        """Whether the socket file is gone (a runtime folder is removed when its user has logged out)."""
        return not self.path.exists()

    def close(self) -> None:
        """Remove the socket file and give the lock back."""
        if self._lock_descriptor is not None:
            self.path.unlink(missing_ok=True)
            self._release_lock()

    def _take_lock(self) -> None:
        if self._lock_descriptor is not None:
            raise CriticalError("ALREADY_OPEN", f"the socket {self.path} is already open in this process")
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for last in (False, False, True):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if last:
                    pid = _read_pid(descriptor)
                    os.close(descriptor)
                    raise _running(self.lock, pid) from None
            # Somebody who only asks who holds it (lock_holder) has it for some microseconds.
            time.sleep(_ASKING_S)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock_descriptor = descriptor

    def _release_lock(self) -> None:
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    def _remove_stale(self) -> None:
        try:
            mode = self.path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise ValidationError("NOT_A_SOCKET", f"{self.path} exists and is no socket; move it away")
        # Somebody may listen without the lock (its file was removed by hand): ask before removing.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_PROBE_S)
            try:
                probe.connect(os.fspath(self.path))
            except (ConnectionRefusedError, FileNotFoundError):
                self.path.unlink(missing_ok=True)
                return
            except OSError as error:
                raise TransientError("CANNOT_LISTEN", f"cannot probe {self.path}: {error.strerror}") from error
        raise _running(self.path, 0)


def _read_pid(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else 0


def _running(path: Path, pid: int) -> ValidationError:
    who = f"process {pid}" if pid else "another process"
    return ValidationError("ENGINE_RUNNING", f"an engine of this profile already runs: {who} holds {path}")
