"""How the terminal ends: signals, a lost tty, a crash.

Textual alone dies on SIGHUP without unmounting, spins on a tty that is gone, and prints local variables when it
crashes (docs/sources.md). None of it may disturb the engine, hang an SSH session or show a secret.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from deltatui.domain.redact import for_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

EXIT_WITHIN_S = 0.9
"""After this a shutdown that hangs (a terminal that does not read) is ended the hard way (R13.9: one second)."""


def crash_text(error: BaseException) -> str:
    """A traceback without local variables, redacted."""
    return for_report("".join(traceback.format_exception(error)))


def write_crash_report(folder: Path, body: str, version: str) -> Path | None:
    """Write a report that only its owner may read; None where the disk refuses."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    path = folder / f"crash-{stamp}-{os.getpid()}.txt"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"deltatui {version}, python {sys.version.split()[0]}, {stamp}Z\n\n{body}\n")
    except OSError:
        return None
    return path


def crash_sentence(kind: str, report: Path | None) -> str:
    """The one line on the screen."""
    where = f"report: {report}" if report is not None else "the report could not be written"
    return f"deltatui: the terminal crashed ({kind}); {where}. The engine is not affected; start deltatui again."


class Leaving(Protocol):
    """The part of the app that this module needs."""

    def leave(self, return_code: int) -> None: ...

    def continued(self) -> None: ...

    def refresh(self, *, layout: bool = False) -> object: ...


class Life:
    """Watches over one run of the app. ``hard_exit`` and ``fds`` are replaced in tests."""

    def __init__(
        self,
        app: Leaving,
        *,
        fds: tuple[int, ...] | None = None,
        hard_exit: Callable[[int], None] = os._exit,
    ) -> None:
        self._app = app
        self._fds = _tty_fds() if fds is None else fds
        self._hard_exit = hard_exit
        self._deadline: threading.Timer | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tty_settings = _tty_settings()

    def start(self) -> None:
        """Install the signal handlers; call on the running loop of the main thread.

        Not ``loop.add_signal_handler``: while a terminal does not read, Textual's full write queue holds the loop,
        and only a handler of the interpreter itself still runs.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGHUP, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        self._before[signal.SIGCONT] = signal.signal(signal.SIGCONT, self._on_continue)

    def stop(self) -> None:
        """Give the signals back. A deadline that runs goes on: the driver's last writes may hang too."""
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before.clear()

    def ended(self) -> None:
        """The terminal has been restored; nothing is left to force."""
        if self._deadline is not None:
            self._deadline.cancel()
        let_go_of_lost_streams()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._start_deadline(128 + number)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._app.leave, 128 + number)

    def _on_continue(self, number: int, frame: FrameType | None) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._go_on)

    def _go_on(self) -> None:
        self._app.continued()
        # The shell has had the screen; only the driver comes back by itself.
        self._app.refresh(layout=True)

    def tty_lost(self) -> bool:
        """True once a terminal that was there at the start is gone; SIGHUP may have been ignored (nohup)."""
        return any(not os.isatty(fd) for fd in self._fds)

    def end(self, return_code: int) -> None:
        """Leave in good order, and in any order after EXIT_WITHIN_S."""
        self._start_deadline(return_code)
        self._app.leave(return_code)

    def _start_deadline(self, return_code: int) -> None:
        if self._deadline is None:
            self._deadline = threading.Timer(EXIT_WITHIN_S, self._give_up, (return_code,))
            self._deadline.daemon = True
            self._deadline.start()

    def _give_up(self, return_code: int) -> None:
        _restore_tty(self._tty_settings)
        self._hard_exit(return_code)


def let_go_of_lost_streams() -> None:
    """Take away streams that cannot be written any more: Python would flush them at its end, fail, and leave with the
    code 120 instead of ours."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            setattr(sys, name, None)


def _tty_fds() -> tuple[int, ...]:
    """Textual reads stdin and draws on stderr; only those that are terminals can be lost."""
    fds = []
    for stream in (sys.__stdin__, sys.__stderr__):
        try:
            if stream is not None and os.isatty(stream.fileno()):
                fds.append(stream.fileno())
        except (OSError, ValueError):
            continue
    return tuple(fds)


_TtySettings = tuple[int, "list[int | list[bytes | int]]"]


def _tty_settings() -> _TtySettings | None:
    if sys.__stdin__ is None:
        return None
    try:
        import termios

        fd = sys.__stdin__.fileno()
        return fd, termios.tcgetattr(fd)
    except (ImportError, OSError, ValueError, termios.error):
        return None


def _restore_tty(settings: _TtySettings | None) -> None:
    if settings is None:
        return
    import termios

    try:
        termios.tcsetattr(settings[0], termios.TCSANOW, settings[1])
    except (OSError, termios.error):
        return
