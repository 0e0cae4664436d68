from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
import pytest
from store_builders import child

from deltatui.domain.errors import ValidationError
from deltatui.paths import Paths
from deltatui.ports import AccountId
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


HOLD_ACCOUNT = """
import os, sys
from deltatui.paths import Paths
from deltatui.ports import AccountId
from deltatui.store.lock import EngineLock, LockHolder
account = AccountId("drift", "DriftKey", 2)
path = Paths.of("one", {"DELTATUI_HOME": sys.argv[1]}).account_lock(account)
lock = EngineLock.acquire(path, LockHolder(os.getpid(), "far-host", "one", 1750424400.0, str(account)))
print("held", flush=True)
sys.stdin.readline()
"""


def lock_account(home: Path, profile: str, account: AccountId) -> EngineLock:
    path = Paths.of(profile, {"DELTATUI_HOME": str(home)}).account_lock(account)
    return EngineLock.acquire(path, LockHolder(os.getpid(), "here", profile, 1.0, str(account)))


def test_two_profiles_cannot_run_on_one_account(tmp_path: Path) -> None:
    account = AccountId("drift", "DriftKey", 2)
    with child(HOLD_ACCOUNT, tmp_path) as other:
        assert other.line() == "held"
        with pytest.raises(ValidationError, match="ACCOUNT_IN_USE") as refused:
            lock_account(tmp_path, "two", account)
        for part in ("'one'", f"process {other.process.pid} ", "far-host", "drift/DriftKey/2", "stop that one first"):
            assert part in refused.value.sentence
        for different in (AccountId("drift", "DriftKey"), AccountId("paper", "DriftKey", 2)):
            lock_account(tmp_path, "two", different).release()
        other.kill()
    lock_account(tmp_path, "two", account).release()


def test_an_account_whose_holder_did_not_say_who_it_is(tmp_path: Path) -> None:
    account = AccountId("drift", "DriftKey")
    lock = lock_account(tmp_path, "one", account)
    lock.path.write_bytes(b"")
    with pytest.raises(ValidationError, match="ACCOUNT_IN_USE") as refused:
        lock_account(tmp_path, "two", account)
    assert "has not said who it is" in refused.value.sentence
    assert "drift/DriftKey/0" in refused.value.sentence
    lock.release()


def test_paper_accounts_of_two_profiles_run_side_by_side(tmp_path: Path) -> None:
    locks = [lock_account(tmp_path, profile, AccountId("paper", profile)) for profile in ("one", "two")]
    assert locks[0].path.parent == locks[1].path.parent
    for lock in locks:
        lock.release()


def test_an_account_has_one_lock_for_all_profiles(tmp_path: Path) -> None:
    one, two = (Paths.of(name, {"DELTATUI_HOME": str(tmp_path)}) for name in ("one", "two"))
    account = AccountId("drift", "key")
    assert one.account_lock(account) == two.account_lock(account)
    strange = ("", "../../x", "a/b", "a" * 5000, "\x00", "\ud800", "KEY", "Ü", "U\u0308", "key/0", 'key", 0]')
    ids = [account, AccountId("drift/key", ""), AccountId("drift", "key", 1), *(AccountId("drift", t) for t in strange)]
    locks = {one.account_lock(account) for account in ids}
    assert len(locks) == len(ids)
    for lock in locks:
        assert lock.parent == tmp_path / "state" / ".accounts"
        assert re.fullmatch(r"[0-9a-f]{32}\.lock", lock.name)
    with pytest.raises(ValidationError, match="BAD_PROFILE"):
        Paths.of(one.account_locks.name, {})


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValidationError, match="BAD_PATH"):
        EngineLock.acquire(tmp_path / "file" / NAME, HOLDER)
    with pytest.raises(ValidationError, match="BAD_PATH"):
        EngineLock.acquire(tmp_path, HOLDER)
