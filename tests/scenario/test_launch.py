"""Finding and starting engine processes. Real processes, each ended by its own id."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from wire import eventually

from deltatui import launch
from deltatui.api.protocol import PROTOCOL_VERSION, Bye, encode
from deltatui.domain.errors import CriticalError, TransientError, ValidationError
from deltatui.launch import find, find_or_start
from deltatui.paths import Paths

pytestmark = pytest.mark.serial

TESTS = Path(__file__).parents[1]
COMMAND = (sys.executable, str(TESTS / "engine_process.py"))


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> Iterator[Paths]:
    with tempfile.TemporaryDirectory(prefix="dtui-") as home:
        monkeypatch.setenv("DELTATUI_HOME", home)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent)]))
        before = list(launch._started)
        yield Paths.of("p")
        for process in launch._started:
            if process not in before and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(5)


async def test_nobody_is_there(paths: Paths) -> None:
    assert await find(paths) is None


async def test_an_engine_is_started_once_in_a_session_of_its_own_and_found_again(paths: Paths) -> None:
    first = await find_or_start(paths, command=COMMAND)
    assert first.started
    assert first.socket == paths.socket
    assert (first.welcome.profile, first.welcome.mode) == ("p", "replay")
    pid = first.welcome.pid
    assert os.getsid(pid) == pid != os.getsid(0)
    second = await find_or_start(paths, command=("/nonexistent",))
    assert (second.welcome.pid, second.started) == (pid, False)
    assert (paths.log_folder / launch.START_LOG).exists()
    process = launch._started[-1]
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    assert not paths.socket.exists()


async def test_two_terminals_at_once_get_one_engine(paths: Paths) -> None:
    found = await asyncio.gather(*(find_or_start(paths, command=COMMAND) for _ in range(2)))
    assert len({one.welcome.pid for one in found}) == 1
    assert sum(one.started for one in found) == 1


async def test_an_engine_that_dies_is_told_with_the_end_of_its_log_and_no_secret(paths: Paths) -> None:
    with pytest.raises(CriticalError) as caught:
        await find_or_start(paths, ["die"], command=COMMAND)
    assert caught.value.code == "ENGINE_DIED"
    assert "exit code 1" in caught.value.sentence
    assert "the disk is full; key [redacted]" in caught.value.sentence


async def test_an_engine_that_cannot_be_started_is_told(paths: Paths) -> None:
    with pytest.raises(CriticalError, match="could not be started"):
        await find_or_start(paths, command=("/nonexistent",))


async def test_an_engine_that_never_answers_is_told(paths: Paths) -> None:
    with pytest.raises(TransientError, match="ENGINE_SLOW"):
        await find_or_start(paths, ["mute"], command=COMMAND, timeout_s=0.2)


async def test_an_engine_of_another_version_is_not_started_over(paths: Paths) -> None:
    paths.socket.parent.mkdir(parents=True)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(encode(Bye("BAD_PROTOCOL", f"speaks {PROTOCOL_VERSION + 1}")) + b"\n")
        await writer.drain()
        writer.close()

    listener = await asyncio.start_unix_server(refuse, str(paths.socket))
    before = len(launch._started)
    with pytest.raises(ValidationError, match="BAD_PROTOCOL"):
        await find_or_start(paths, command=COMMAND)
    assert len(launch._started) == before
    listener.close()


def test_the_engine_survives_the_death_of_whoever_started_it(paths: Paths) -> None:
    code = (
        "import asyncio, sys; from deltatui.launch import find_or_start; from deltatui.paths import Paths;"
        f"print(asyncio.run(find_or_start(Paths.of('p'), command={COMMAND!r})).welcome.pid)"
    )
    starter = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    pid = int(starter.stdout)
    try:
        found = asyncio.run(find(paths))
        assert found is not None
        assert found.welcome.pid == pid
    finally:
        os.kill(pid, signal.SIGTERM)
    # Its orderly end removes the socket, after which the folder may go.
    asyncio.run(eventually(lambda: not paths.socket.exists()))


def test_log_folder_may_lie_elsewhere(paths: Paths) -> None:
    other = paths.state_folder / "elsewhere"
    moved = dataclasses.replace(paths)
    with pytest.raises(CriticalError):
        asyncio.run(find_or_start(moved, ["die"], command=COMMAND, log_folder=other))
    assert "the disk is full" in (other / launch.START_LOG).read_text()
