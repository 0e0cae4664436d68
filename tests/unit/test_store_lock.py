from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from store_builders import child

from deltatui.domain.errors import ValidationError
from deltatui.store.lock import EngineLock, LockHolder

NAME = "engine.lock"
HOLDER = LockHolder(os.getpid(), "here", "paper", 1_750_424_400.0)

HOLD = """
import os, sys
from pathlib import Path
from deltatui.store.lock import EngineLock, LockHolder
lock = EngineLock.acquire(Path(sys.argv[1]), LockHolder(os.getpid(), "far-host", "live-main", 1750424400.0))
print("held", flush=True)
sys.stdin.readline()
lock.release()
print("released", flush=True)
sys.stdin.readline()
"""


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    with child(HOLD, tmp_path / NAME) as other:
        assert other.line() == "held"
        with pytest.raises(ValidationError, match="ENGINE_RUNNING") as refused:
            EngineLock.acquire(tmp_path / NAME, HOLDER)
        for part in ("'live-main'", f"process {other.process.pid} ", "far-host", "2025-06-20 13:00:00 UTC"):
            assert part in refused.value.sentence
        EngineLock.acquire(tmp_path / "another" / NAME, HOLDER).release()


def test_the_lock_dies_with_its_process_and_old_contents_mean_nothing(tmp_path: Path) -> None:
    with child(HOLD, tmp_path / NAME) as other:
        assert other.line() == "held"
        other.kill()
    assert b"far-host" in (tmp_path / NAME).read_bytes()
    lock = EngineLock.acquire(tmp_path / NAME, HOLDER)
    assert msgspec.json.decode((tmp_path / NAME).read_bytes(), type=LockHolder) == HOLDER
    lock.release()


def test_a_released_lock_is_free_while_its_process_lives(tmp_path: Path) -> None:
    with child(HOLD, tmp_path / NAME) as other:
        assert other.line() == "held"
        assert other.process.stdin is not None
        other.process.stdin.write(b"\n")
        other.process.stdin.flush()
        assert other.line() == "released"
        EngineLock.acquire(tmp_path / NAME, HOLDER).release()


def test_one_process_cannot_take_it_twice(tmp_path: Path) -> None:
    lock = EngineLock.acquire(tmp_path / NAME, HOLDER)
    with pytest.raises(ValidationError, match="ENGINE_RUNNING"):
        EngineLock.acquire(tmp_path / NAME, HOLDER)
    lock.release()
    lock.release()
    EngineLock.acquire(tmp_path / NAME, HOLDER).release()


@pytest.mark.parametrize(
    "contents", [b"", b"nonsense", b'{"pid":1,"host":"h","profile":"p","started_operator_s":1e300}']
)
def test_a_holder_that_did_not_say_who_it_is(tmp_path: Path, contents: bytes) -> None:
    lock = EngineLock.acquire(tmp_path / NAME, HOLDER)
    (tmp_path / NAME).write_bytes(contents)
    with pytest.raises(ValidationError, match="has not said who it is"):
        EngineLock.acquire(tmp_path / NAME, HOLDER)
    lock.release()


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValidationError, match="BAD_PATH"):
        EngineLock.acquire(tmp_path / "file" / NAME, HOLDER)
    with pytest.raises(ValidationError, match="BAD_PATH"):
        EngineLock.acquire(tmp_path, HOLDER)
