"""How the terminal ends: a signal, a tty that is gone, a crash; and what a report may not contain."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tui_fakes import replace, terminal

from deltatui.tui import life
from deltatui.tui.app import CrashError
from deltatui.tui.panes.health import HealthPane


def test_crash_text_has_no_local_variables() -> None:
    def fail(local_value: str) -> None:
        raise ValueError("no good")

    try:
        fail("very-private-local")
    except ValueError as error:
        text = life.crash_text(error)
    assert "no good" in text
    assert "very-private-local" not in text.replace('fail("very-private-local")', "")


def test_the_report_is_for_its_owner_only(tmp_path: Path) -> None:
    path = life.write_crash_report(tmp_path / "state", "body", "1.0")
    assert path is not None
    assert path.stat().st_mode & 0o777 == 0o600
    assert "body" in path.read_text()
    (tmp_path / "file").write_text("")
    assert life.write_crash_report(tmp_path / "file" / "x", "body", "1.0") is None
    assert "could not be written" in life.crash_sentence("ValueError", None)


async def test_a_crash_is_one_line_and_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(self: HealthPane, snapshot: object, now: float) -> None:
        private_local = "hunter2-local"
        raise RuntimeError(f"broken with password={private_local}")

    async def crash() -> None:
        async with terminal(state_dir=tmp_path) as t:
            monkeypatch.setattr(HealthPane, "draw", broken)
            t.engine.publish(account=replace(t.engine.snapshot.account, equity=1.0))
            await t.pilot.pause()
            t.app.call_later(t.app.tick, force=True)
            await t.pilot.pause()

    with pytest.raises(CrashError) as caught:
        await crash()
    assert isinstance(caught.value.__cause__, RuntimeError)
    reports = list(tmp_path.glob("crash-*.txt"))
    assert len(reports) == 1
    report = reports[0].read_text()
    assert "RuntimeError: broken with" in report
    assert "hunter2-local" not in report.replace('private_local = "hunter2-local"', "")
    shown = capfd.readouterr().err
    assert "the terminal crashed (RuntimeError)" in shown
    assert "Traceback" not in shown
    assert "hunter2" not in shown


class Leaver:
    def __init__(self) -> None:
        self.codes: list[int] = []

    def leave(self, return_code: int) -> None:
        self.codes.append(return_code)

    def continued(self) -> None:
        raise AssertionError("nobody sent SIGCONT")

    def refresh(self, *, layout: bool = False) -> None:
        raise AssertionError("nobody sent SIGCONT")


def test_a_lost_tty_is_noticed() -> None:
    master, slave = pty.openpty()
    watch = life.Life(Leaver(), fds=(slave,))
    assert not watch.tty_lost()
    os.close(master)
    try:
        assert watch.tty_lost()
    finally:
        os.close(slave)
    assert not life.Life(Leaver(), fds=()).tty_lost()


_LOST_STDOUT = """
import os, sys
from deltatui.tui import life
read, write = os.pipe()
os.dup2(write, 1)
os.close(write)
os.close(read)
sys.stdout.write("nobody reads this any more")
if sys.argv[1] == "let go":
    life.let_go_of_lost_streams()
sys.exit(129)
"""


@pytest.mark.parametrize(("how", "code"), [("let go", 129), ("keep", 120)])
def test_a_stream_that_is_lost_does_not_change_the_exit_code(how: str, code: int) -> None:
    """``keep`` is what Python does by itself."""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    ended = subprocess.run(
        [sys.executable, "-c", _LOST_STDOUT, how], stderr=subprocess.DEVNULL, env=buffered, timeout=30
    )
    assert ended.returncode == code


def test_a_shutdown_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[float, tuple[int, ...]]] = []

    class Timer:
        daemon = False

        def __init__(self, seconds: float, function: object, args: tuple[int, ...]) -> None:
            started.append((seconds, args))
            self.function, self.args = function, args

        def start(self) -> None:
            self.function(*self.args)  # type: ignore[operator]

    monkeypatch.setattr("deltatui.tui.life.threading.Timer", Timer)
    exits: list[int] = []
    leaver = Leaver()
    watch = life.Life(leaver, fds=(), hard_exit=exits.append)
    watch.end(143)
    watch.end(143)
    assert started == [(life.EXIT_WITHIN_S, (143,))]
    assert life.EXIT_WITHIN_S < 1.0
    assert exits == [143]
    assert leaver.codes == [143, 143]


PROGRAM = """
import signal, sys
from pathlib import Path
from deltatui.domain.errors import TransientError
from deltatui.tui.app import Options, run
if "ignore" in sys.argv:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
async def connect():
    raise TransientError("NO_ENGINE", "no engine answers at /run/x.sock")
sys.exit(run(connect, Options(state_dir=Path(sys.argv[1]))))
"""


@contextmanager
def real_terminal(tmp_path: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The program on a pty of its own, once it has painted."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path), *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        start_new_session=True,
    )
    os.close(slave)
    seen = b""
    deadline = time.monotonic() + 15
    try:
        while b"NO ENGINE" not in seen and time.monotonic() < deadline:
            if select.select([master], [], [], 0.1)[0]:
                seen += os.read(master, 65536)
        assert b"NO ENGINE" in seen
        yield process, master
    finally:
        process.kill()
        process.wait()


def read_to_end(master: int) -> bytes:
    """All that the program writes until it closes its side."""
    out = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            return out
        out += piece


@pytest.mark.serial
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_cleanly_within_a_second(tmp_path: Path, number: signal.Signals) -> None:
    with real_terminal(tmp_path) as (process, master):
        began = time.monotonic()
        process.send_signal(number)
        out = read_to_end(master)
        assert process.wait(timeout=5) == 128 + number
        assert time.monotonic() - began < 2.0
        assert b"\x1b[?1049l" in out, "the terminal is restored"
        assert b"\x1b[?25h" in out
    assert list(tmp_path.glob("crash-*")) == []


@pytest.mark.serial
@pytest.mark.slow
def test_a_tty_that_is_gone_ends_it_without_spinning(tmp_path: Path) -> None:
    with real_terminal(tmp_path, "ignore") as (process, master):
        os.close(master)
        process.wait(timeout=6)
        assert process.returncode == 129


@pytest.mark.serial
@pytest.mark.slow
def test_a_terminal_that_does_not_read_does_not_hold_it(tmp_path: Path) -> None:
    with real_terminal(tmp_path) as (process, master):
        # Every resize is a full repaint; the pty is full and the loop held when the main thread waits on a lock.
        for turn in range(400):
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 60 + turn % 2, 200, 0, 0))
            os.kill(process.pid, signal.SIGWINCH)
            select.select([], [], [], 0.03)
            if "futex" in Path(f"/proc/{process.pid}/wchan").read_text():
                break
        else:
            pytest.fail("the program was never held by its terminal")
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=6)
        assert time.monotonic() - began < 2.0
        assert process.returncode == 143
