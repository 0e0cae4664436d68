"""The real binary on a pty before a real engine: a session by keys, a resize storm, a stalled reader, a suspension.

How a terminal ends (SIGHUP, SIGTERM, a cut line, a lost tty) and that none of it moves the engine is in
test_process_terminals.py. Every wait is for something seen, with a deadline.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_probe import DELTATUI, EngineProcess, attach, engine_process, write_tape
from pty_terminal import LEAVES_SCREEN, SHOWS_CURSOR, PtyTerminal
from tapes import FIRST_S, apr_rate, csv_bytes, row

pytestmark = [pytest.mark.slow, pytest.mark.serial]

GO_ON = re.compile(r"go on: enter\s*│")
ENTERS_SCREEN = b"\x1b[?1049h"
_PLACED = re.compile(rb"\x1b\[(\d+);(\d+)H")
_PIECE = re.compile(rb"\x1b\[(\d+);(\d+)H([^\x1b]*(?:\x1b\[[0-9;:]*m[^\x1b]*)*)")
_STYLE = re.compile(rb"\x1b\[[0-9;:]*m")


def until(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.01)


def press_until(terminal: PtyTerminal, key: str, condition: Callable[[], bool], what: str) -> None:
    """Press ``key`` again until ``condition``: a dialog takes its key only once it is armed."""

    def pressed() -> bool:
        if terminal.process.poll() is None:
            terminal.press(key)
        time.sleep(0.1)
        return condition()

    until(pressed, what)


def press(terminal: PtyTerminal, key: str, text: str) -> None:
    """Press ``key`` once; ``text`` must be drawn anew."""
    terminal.forget()
    terminal.press(key)
    terminal.wait_for(text)


def resize(terminal: PtyTerminal, columns: int, rows: int) -> None:
    """As a terminal window does it: the kernel sends the SIGWINCH."""
    fcntl.ioctl(terminal._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def run_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


# A session


class Session:
    """``deltatui`` in a home of its own on a tape that pays too little: the engine stands aside by itself."""

    def __init__(self, home: Path) -> None:
        tape = home / "tape.csv"
        tape.write_bytes(csv_bytes(row(FIRST_S + 3600 * n, apr_rate(3.0), "150") for n in range(20_000)))
        self.env = {**os.environ, "DELTATUI_HOME": str(home)}
        self.home = home
        self.terminal = PtyTerminal(
            [*DELTATUI, "--tape", str(tape), "--speed", "36000"], self.env, columns=120, rows=40, cwd=home
        )

    def status(self) -> dict[str, Any] | None:
        """What the engine says of itself; None where there is none."""
        done = subprocess.run(
            [*DELTATUI, "status", "--json"], env=self.env, cwd=self.home, capture_output=True, text=True, timeout=20
        )
        if done.returncode == 3:
            return None
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def held(self) -> dict[str, float]:
        status = self.status()
        assert status is not None
        return {position["key"]: position["size"] for position in status["positions"]}

    def close(self) -> None:
        self.terminal.close()
        status = self.status()
        if status is not None:
            os.kill(status["engine"]["pid"], signal.SIGTERM)


@pytest.fixture
def session() -> Iterator[Session]:
    # Not tmp_path: the path of a socket has to be short.
    with tempfile.TemporaryDirectory(prefix="dtui-", ignore_cleanup_errors=True) as home:
        running = Session(Path(home))
        try:
            yield running
        finally:
            running.close()


def test_a_session_by_keys(session: Session) -> None:
    """Start, help, take against the gate's advice, pause, resume, leave, quit with the engine."""
    terminal = session.terminal
    for text in ("REPLAY", "RUNNING", "no positions: flat"):
        terminal.wait_for(text)
    press(terminal, "?", "Trade")
    press(terminal, "q", "no positions: flat")
    # The gate can judge once it has seen a few records.
    until(lambda: "limit 168 h" in str(session.status()), "a verdict on profitability")

    press(terminal, "t", "Take SOL-PERP")
    # Once: a second one would press the Cancel that has the focus of the next dialog.
    until(lambda: GO_ON.search("\n".join(screen(terminal.output, 120, 40))) is not None, "the dialog is armed")
    press(terminal, "\r", "cancels in")
    press(terminal, "y", "refused")
    assert session.held() == {}, "a refused trade is not sent by its confirm key"
    until(lambda: forced(terminal), "the dialog takes the force key")
    taken = {"SOL-PERP": -10.0, "SOL": 10.0}
    press_until(terminal, "y", lambda: session.held() == taken, "both legs are held")

    # The answer, not the state: until it is there the key is refused as running.
    press(terminal, "p", "paused: no new risk")
    press(terminal, "p", "resume: running")
    press(terminal, "l", "Leave SOL-PERP")
    press_until(terminal, "y", lambda: session.held() == {}, "both legs are closed")
    terminal.wait_for("no positions: flat")

    press(terminal, "\x11", "Stop the engine too")
    press_until(terminal, "y", lambda: terminal.process.poll() is not None, "it quits")
    assert terminal.wait(10) == 0
    assert terminal.settings == terminal.before
    until(lambda: session.status() is None, "the engine that this terminal started has stopped")


def forced(terminal: PtyTerminal) -> bool:
    """Press the force key; it is not taken before the dialog is armed, and a second one would take it back."""
    terminal.forget()
    terminal.press("f")
    try:
        terminal.wait_for("FORCED", 2.0)
    except AssertionError:
        return False
    return True


# What a terminal goes through


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    with tempfile.TemporaryDirectory(prefix="dtui-") as home:
        tape = write_tape(Path(home) / "tape.csv")
        with engine_process(Path(home), tape, speed=36_000) as running:
            asyncio.run(_answers(running))
            yield running
            assert running.process.poll() is None, running.output()


async def _answers(engine: EngineProcess) -> None:
    await (await engine.client()).close()


@pytest.fixture
def terminal(engine: EngineProcess) -> Iterator[PtyTerminal]:
    opened = attach(engine)
    yield opened
    opened.close()


def screen(output: bytes, columns: int, rows: int) -> list[str]:
    """The lines that a terminal of this size shows: text goes where the cursor was put."""
    lines = [[" "] * columns for _ in range(rows)]
    for place in _PIECE.finditer(output):
        y, x = int(place[1]) - 1, int(place[2]) - 1
        for row_text in _STYLE.sub(b"", place[3]).decode(errors="replace").split("\r\n"):
            for character in row_text:
                if y < rows and x < columns:
                    lines[y][x] = character
                x += 1
            y, x = y + 1, 0
    return ["".join(line).rstrip() for line in lines]


def whole(lines: list[str], columns: int) -> bool:
    """Status line, a closed frame of the first pane, footer."""
    return (
        "REPLAY" in lines[0]
        and lines[1].startswith("╭─ 1 Health")
        and lines[1].endswith("╮")
        and len(lines[1]) == columns
        and any("5 Opportunities" in line for line in lines)
        and "ctrl+q" in lines[-1]
    )


def test_a_resize_storm_ends_in_the_right_layout(terminal: PtyTerminal) -> None:
    sizes = [(20 + 37 * n % 200, 3 + 13 * n % 60) for n in range(199)]
    began_s = time.monotonic()
    for n, (columns, rows) in enumerate(sizes):
        resize(terminal, columns, rows)
        time.sleep(max(0.0, began_s + (n + 1) / 200 - time.monotonic()))
    terminal.forget()
    resize(terminal, 120, 40)

    until(lambda: whole(screen(terminal.output, 120, 40), 120), "the layout of 120x40")
    terminal.forget()
    press(terminal, "?", "Trade")
    assert all(int(row) <= 40 and int(column) <= 120 for row, column in _PLACED.findall(terminal.output))
    assert terminal.process.poll() is None


def test_a_terminal_that_was_not_read_goes_on(terminal: PtyTerminal) -> None:
    terminal.stall()
    until(lambda: terminal.backlog > 1000, "the pty fills")
    # So that there is always more to draw than the pty takes.
    for n in range(20):
        resize(terminal, 160, 48 - n % 2)
    terminal.press("?")
    terminal.forget()
    terminal.resume()
    terminal.wait_for("Trade")
    press(terminal, "q", "equity")


def test_a_suspended_terminal_gives_the_tty_back_and_comes_again(terminal: PtyTerminal, engine: EngineProcess) -> None:
    drawn_for = terminal.settings
    assert drawn_for != terminal.before
    terminal.forget()
    terminal.signal(signal.SIGTSTP)
    until(lambda: run_state(terminal.pid) == "T", "the terminal stops")
    assert terminal.settings == terminal.before
    until(lambda: LEAVES_SCREEN in terminal.output and SHOWS_CURSOR in terminal.output, "the shell's screen is back")
    assert run_state(engine.pid) in "SR"
    terminal.forget()
    terminal.signal(signal.SIGCONT)
    until(lambda: ENTERS_SCREEN in terminal.output, "the terminal's own screen is back")
    until(lambda: whole(screen(terminal.output, 160, 48), 160), "the whole screen is drawn anew")
    assert terminal.settings == drawn_for
    press(terminal, "?", "Trade")
    terminal.signal(signal.SIGTERM)
    assert terminal.wait(5) == 128 + signal.SIGTERM
    assert terminal.settings == terminal.before
