"""One engine a profile, and one an account (R9.5)."""

from __future__ import annotations

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from deltatui.domain.errors import ValidationError
from deltatui.store.copies import make_folder
from deltatui.store.faults import from_os


class LockHolder(msgspec.Struct, frozen=True):
    """Who holds a lock, in the words it wrote when it got it. ``account`` is empty in the lock of a profile."""

    pid: int
    host: str
    profile: str
    started_operator_s: float
    account: str = ""


class EngineLock:
    """An exclusive lock that the kernel takes back when its process ends, however it ends. The file stays; only the
    kernel's lock counts, its contents are for people."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, path: Path, holder: LockHolder) -> EngineLock:
        """Take the lock file ``path``, which is created if need be, or raise ValidationError: with who holds it,
        ACCOUNT_IN_USE where ``holder`` names an account and ENGINE_RUNNING where it does not; BAD_PATH if the path
        cannot be used. A few microseconds of disk work."""
        try:
            make_folder(path.parent)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise from_os(error, path) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, msgspec.json.encode(holder), 0)
        except BlockingIOError:
            text = os.pread(descriptor, 65536, 0)
            os.close(descriptor)
            code = "ACCOUNT_IN_USE" if holder.account else "ENGINE_RUNNING"
            raise ValidationError(code, _sentence(text, path, holder.account)) from None
        except OSError as error:
            os.close(descriptor)
            raise from_os(error, path) from error
        return cls(path, descriptor)

    def release(self) -> None:
        """Releasing twice is harmless."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            # Emptied, not removed: whoever opens the path while it is removed would lock a file that has no name.
            os.ftruncate(descriptor, 0)
            os.close(descriptor)


def _sentence(text: bytes, path: Path, account: str) -> str:
    advice = "stop that one first, or attach to it"
    if account:
        advice = f"two engines never run on one account ({account}); {advice}"
    try:
        holder = msgspec.json.decode(text, type=LockHolder)
        since = datetime.fromtimestamp(holder.started_operator_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (msgspec.DecodeError, ValueError, OverflowError, OSError):
        return f"another process holds {path} and has not said who it is; {advice}"
    return (
        f"an engine for profile '{holder.profile}' already runs as process {holder.pid} on {holder.host} since {since} "
        f"(it holds {path}); {advice}"
    )
