"""The app: one store, one tick, one connection; it owns no fact of the engine and may be killed at any time."""

from __future__ import annotations

import asyncio
import functools
import locale
import os
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from rich.text import Text
from textual.app import App
from textual.filter import LineFilter

import deltatui
from deltatui.domain.event import Level
from deltatui.domain.redact import for_report
from deltatui.tui import life
from deltatui.tui.commands import Operator, Target
from deltatui.tui.connection import Connector, EngineClient
from deltatui.tui.keymap import Keymap, load_keymap
from deltatui.tui.modals.base import Dialog
from deltatui.tui.modals.confirm import ConfirmDialog, subject
from deltatui.tui.modals.simple import KillDialog
from deltatui.tui.preferences import remember_theme, remembered_theme
from deltatui.tui.screens.main import MainScreen
from deltatui.tui.store import Store
from deltatui.tui.themes import DEFAULT_THEME, FEW_COLOURS_THEME, VARIABLES, ThemeSet, load_themes, theme_stamp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
    from datetime import tzinfo

    from rich.console import RenderableType
    from textual.binding import BindingType
    from textual.color import Color
    from textual.screen import Screen

    from deltatui.domain.snapshot import ConfirmationView

TICK_S = 0.25
_SLOW_TICKS = 8
"""Every so many ticks: is the tty still there, has a theme file changed."""
_MAX_EVENT_TOASTS = 3
_END_TOLD_S = 1.0
"""The engine's word on why a question ended may come a little after the snapshot that no longer has it."""
_ENDS = frozenset({"confirmation_expired", "order_cancelled"})
"""Kinds of event that tell the end of a question."""

_ASCII = str.maketrans(
    {
        **dict.fromkeys("─━═╌┄▔▁", "-"),
        **dict.fromkeys("│┃║┊▌▐▏▕", "|"),
        **dict.fromkeys("╭╮╰╯┌┐└┘┏┓┗┛┼┤├┬┴", "+"),
        **dict.fromkeys("█▓▇▆▅▉▊▋", "#"),
        **dict.fromkeys("▒▄▃▍▎", "="),
        "▂": "_", "░": ".", "·": "|", "•": "*", "●": "o", "○": "o", "▸": ">", "▶": ">", "◀": "<", "→": ">", "←": "<",
        "▲": "^", "▼": "v", "↑": "^", "↓": "v", "✓": "+", "✕": "x", "–": "-", "—": "-", "×": "x", "⚑": "!", "…": "~",
        "∞": "i", "’": "'", "“": '"', "”": '"',
    }
)  # fmt: skip


class AsciiFilter(LineFilter):
    """Every character of the screen as ASCII of the same width, for locales without UTF-8 (R13.13)."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment if segment.text.isascii() else Segment(to_ascii(segment.text), segment.style, segment.control)
            for segment in segments
        ]


@functools.lru_cache(2048)
def to_ascii(text: str) -> str:
    """``text`` in ASCII, as many cells wide as before."""
    from rich.cells import cell_len

    return "".join(char if char.isascii() else "?" * cell_len(char) for char in text.translate(_ASCII))


def locale_is_ascii(env: Mapping[str, str] = os.environ) -> bool:
    """True where the locale has no UTF-8. Python takes a plain C locale for UTF-8 and encodes so, whatever the terminal
    shows: hence the variables. None set says nothing, and most terminals of today know UTF-8."""
    told = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG")
    if told:
        return "utf" not in told.lower()
    encoding = getattr(sys.__stderr__, "encoding", None) or locale.getpreferredencoding(False)
    return "utf" not in encoding.lower()


@dataclass(frozen=True, slots=True)
class Options:
    """How a terminal is run. ``theme`` None: the one chosen last, kept in the file ``preferences``. ``ascii_only``
    None: as the locale says. ``timezone`` None: the system's, for the operator clock. ``take_size`` is proposed where
    none was taken yet. ``tick_s`` None: no timer, the owner calls ``tick`` (tests)."""

    theme: str | None = None
    preferences: Path | None = None
    themes_dir: Path | None = None
    keymap: Path | None = None
    state_dir: Path | None = None
    ascii_only: bool | None = None
    timezone: tzinfo | None = None
    take_size: str = "1"
    mouse: bool = True
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    tick_s: float | None = TICK_S


class CrashError(Exception):
    """What is left of an exception for the screen: one line. The cause stays attached for tests."""

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.line = line

    def __rich__(self) -> Text:
        return Text(self.line)


class DeltatuiApp(App[None], inherit_bindings=False):
    CSS_PATH = "screens/deltatui.tcss"
    TITLE = "deltatui"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(
        self, connect: Callable[[], Awaitable[EngineClient]], options: Options, keymap: Keymap, themes: ThemeSet
    ) -> None:
        self._ascii = locale_is_ascii() if options.ascii_only is None else options.ascii_only
        self._ascii_filter = AsciiFilter()
        super().__init__()
        self.animation_level = "none"
        self.options = options
        self.clock = options.clock
        self.store = Store()
        self.operator = Operator(self, options.clock, keymap)
        self.connector = Connector(
            connect,
            self.store,
            options.clock,
            sleep=options.sleep,
            late=lambda result: self.operator.tell(result, "late answer"),
        )
        self.answered: dict[str, int | None] = {}
        """Confirmations answered here: not shown again (None), or only if a snapshot newer than this still has one."""
        self._ends: dict[str, str] = {}
        """Why questions ended, by operation, as the engine said; those of the last events."""
        self._untold: dict[str, tuple[str, float]] = {}
        """Questions that ended by themselves: what they were about, and until when the engine's word is waited for."""
        self._waiting: dict[str, str] = {}
        """Questions of the last snapshot, by operation, and what each is about."""
        self.take_sizes: dict[str, str] = {}
        """The size taken last, by market."""
        self._themes = themes
        self._tasks: set[asyncio.Task[None]] = set()
        self._main = MainScreen(options.clock, ascii_only=self._ascii, timezone=options.timezone)
        # Made before Textual changes the tty: it keeps the settings to put back.
        self._life = life.Life(self)
        self._ticks = 0
        self._crashed = False
        for theme in themes.themes:
            self.register_theme(theme)
        self.set_keymap(keymap.for_textual())
        few_colours = self.console.color_system == "standard"
        default = FEW_COLOURS_THEME if few_colours else DEFAULT_THEME
        self._wanted_theme = options.theme or remembered_theme(options.preferences) or default
        for name in (self._wanted_theme, DEFAULT_THEME):
            if name in self.theme_names:
                self.theme = name
                break

    @property
    def main(self) -> MainScreen:
        return self._main

    def get_default_screen(self) -> Screen[None]:
        return self._main

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """So that a theme of Textual's own works too."""
        variables = self.current_theme.to_color_system().generate()
        return {name: variables[fallback] for name, fallback in VARIABLES.items()}

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = super().get_line_filters()
        return [*filters, self._ascii_filter] if self._ascii else filters

    # Life

    def on_mount(self) -> None:
        self._life.start()
        self.background(self.connector.run(), "connection")
        if self.options.tick_s is not None:
            self.set_interval(self.options.tick_s, self.tick)
        faults = list(self._themes.faults)
        if self._wanted_theme not in self.theme_names:
            faults.append(f"there is no theme '{self._wanted_theme}'")
        self._tell_theme_faults(faults)
        self.call_after_refresh(self.tick_soon)

    async def on_unmount(self) -> None:
        self._life.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def ended(self) -> None:
        """Called when the run is over and the terminal restored."""
        self._life.ended()

    def leave(self, return_code: int) -> None:
        """End the terminal; the engine is not told."""
        self.exit(return_code=return_code)

    def continued(self) -> None:
        """Draw anew after a SIGCONT.

        Textual takes it for the end of its own suspension and starts the driver again. After a SIGSTOP, of which it
        knows nothing, that would be a second one: the first one's input thread keeps the process from ending, and
        the raw tty is taken for the one to restore.
        """
        driver = self._driver
        if driver is None or self._exit:
            return
        if not getattr(driver, "_must_signal_resume", False):
            driver.suspend_application_mode()
        driver.resume_application_mode()

    def background(self, work: Coroutine[None, None, None], name: str) -> None:
        """Run ``work``; if it dies, the terminal reports and ends rather than go on half alive."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._background_done)

    def _background_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, Exception):
            self._handle_exception(error)

    def _handle_exception(self, error: Exception) -> None:
        if self._crashed or isinstance(error, CrashError):
            super()._handle_exception(error)
            return
        self._crashed = True
        crash = CrashError(self._report(life.crash_text(error), type(error).__name__))
        crash.__cause__ = error
        super()._handle_exception(crash)

    def _fatal_error(self) -> None:
        error = sys.exc_info()[1]
        body = life.crash_text(error) if error is not None else "".join(traceback.format_stack())
        self.panic(Text(self._report(body, type(error).__name__)))

    def panic(self, *renderables: RenderableType) -> None:
        """Textual panics with tracebacks of its own; only one line of ours reaches the screen."""
        if any(isinstance(item, (Text, CrashError)) for item in renderables):
            super().panic(*renderables[:1])
            return
        with self.console.capture() as capture:
            for item in renderables:
                self.console.print(item)
        super().panic(Text(self._report(for_report(capture.get()), "error")))

    def _report(self, body: str, kind: str) -> str:
        folder = self.options.state_dir
        if folder is None:
            from platformdirs import user_state_path

            folder = user_state_path("deltatui")
        return life.crash_sentence(kind, life.write_crash_report(folder, body, deltatui.__version__))

    # The tick

    def tick_soon(self) -> None:
        self.tick(force=True)

    def tick(self, *, force: bool = False) -> None:
        """Hand what changed to what is visible; everything on the screen moves here and nowhere else."""
        if not self._main.is_mounted or self._exit:
            return
        now = self.clock()
        self._ticks += 1
        if self._ticks % _SLOW_TICKS == 0:
            self._look_around()
        with self.batch_update():
            self._tell_events()
            self._close_what_is_over()
            self._sync_confirmation(now)
            self._tell_ends(now)
            self._main.tick(self.store, now, force=force, frozen=len(self.screen_stack) > 1)
            for screen in self.screen_stack[1:]:
                if isinstance(screen, Dialog):
                    screen.apply(self.store.view, now)

    def _look_around(self) -> None:
        if self._life.tty_lost():
            self._life.end(129)
            return
        if theme_stamp(self.options.themes_dir) != self._themes.stamp:
            self._reload_themes()

    def _tell_events(self) -> None:
        snapshot = self.store.view.snapshot
        # The banner says these.
        standing = {alert.message for alert in snapshot.alerts} if snapshot is not None else set()
        events = self.store.take_events()
        if ends := {event.operation_id: event.message for event in events if event.kind in _ENDS}:
            self._ends = ends
        events = [event for event in events if event.message not in standing]
        grave = [event for event in events if event.level in (Level.ERROR, Level.CRITICAL)]
        for event in grave[:_MAX_EVENT_TOASTS]:
            self.operator.toast(event.message, "error")
        if len(grave) > _MAX_EVENT_TOASTS:
            self.operator.toast(f"{len(grave) - _MAX_EVENT_TOASTS} more errors, see the log", "error")

    def _tell_ends(self, now: float) -> None:
        """Say how a question ended that nobody answered here."""
        for operation_id, (what, until) in list(self._untold.items()):
            why = self._ends.get(operation_id)
            if why is None and now < until:
                continue
            del self._untold[operation_id]
            said = why or "the question has ended: expired, or answered elsewhere"
            self.operator.toast(f"{what}: {said}", "warning")

    def _sync_confirmation(self, now: float) -> None:
        """A pending confirmation opens in every terminal, whoever asked for it, and closes when it is over: one at a
        time, in the engine's order, of whatever market.

        Not over the kill dialog: nothing may come between the operator and that one.
        """
        snapshot = self.store.view.snapshot
        if snapshot is None:
            return
        waiting = {question.operation_id: subject(question) for question in snapshot.confirmations}
        open_dialogs = [screen for screen in self.screen_stack if isinstance(screen, ConfirmDialog) and not screen.over]
        dialog = open_dialogs[0] if open_dialogs else None
        sent = dialog.confirmation.operation_id if dialog is not None and dialog.sent else ""
        for operation_id in self._waiting.keys() - waiting.keys() - self.answered.keys() - {sent}:
            self._untold[operation_id] = self._waiting[operation_id], now + _END_TOLD_S
        self._waiting = waiting
        if dialog is not None and not dialog.sent and dialog.confirmation.operation_id not in waiting:
            self.remove(dialog)
            dialog = None
        if dialog is not None or any(isinstance(screen, KillDialog) for screen in self.screen_stack):
            return
        for question in self.unanswered():
            if snapshot.version > (self.answered.get(question.operation_id) or -1):
                self.answered.pop(question.operation_id, None)
                self._untold.pop(question.operation_id, None)
                self.push_screen(ConfirmDialog(self.operator, question))
                return

    def unanswered(self) -> list[ConfirmationView]:
        """What waits for an answer and was not given one here."""
        snapshot = self.store.view.snapshot
        waiting = snapshot.confirmations if snapshot is not None else ()
        return [question for question in waiting if self.answered.get(question.operation_id, -1) is not None]

    def remove(self, dialog: Dialog[None]) -> None:
        """Close a dialog, at once or as soon as what lies over it is closed."""
        dialog.over = True
        self._close_what_is_over()

    def _close_what_is_over(self) -> None:
        if isinstance(self.screen, Dialog) and self.screen.over:
            self.screen.dismiss(None)

    def target(self) -> Target:
        return self._main.target(self.store.view)

    # Themes

    @property
    def theme_names(self) -> list[str]:
        """In the order of the key that goes through them."""
        return [theme.name for theme in self._themes.themes]

    def next_theme(self) -> None:
        names = self.theme_names
        if names:
            at = names.index(self.theme) + 1 if self.theme in names else 0
            self.set_theme(names[at % len(names)])

    def set_theme(self, name: str) -> None:
        """Draw in the theme ``name``, now and in later runs."""
        if name not in self.theme_names:
            self.operator.toast(f"there is no theme '{name}'", "warning")
            return
        self.theme = name
        fault = remember_theme(self.options.preferences, name)
        self.operator.toast(f"theme {name}" + (f"; not kept for the next run: {fault}" if fault else ""))
        self.call_after_refresh(self.tick_soon)

    def _reload_themes(self) -> None:
        self._themes = load_themes(self.options.themes_dir)
        for theme in self._themes.themes:
            self.register_theme(theme)
        self._tell_theme_faults(self._themes.faults)
        if self.theme in self.theme_names:
            self.refresh_css(animate=False)

    def _tell_theme_faults(self, faults: Sequence[str]) -> None:
        if faults:
            self.operator.toast_list("themes", faults, "warning", 15.0)


def build(connect: Callable[[], Awaitable[EngineClient]], options: Options) -> DeltatuiApp:
    """The app, ready to run. Raises ValidationError (BAD_KEYMAP) for a keymap file with faults; faults of theme files
    are told in a toast."""
    return DeltatuiApp(connect, options, load_keymap(options.keymap), load_themes(options.themes_dir))


def run(connect: Callable[[], Awaitable[EngineClient]], options: Options | None = None) -> int:
    """Run a terminal until the operator leaves; the exit code (0, 1 after a crash, 128 + signal).

    ``connect`` is called for each try and raises a DeltatuiError or OSError while there is no engine.
    """
    options = options or Options()
    app = build(connect, options)
    app.run(mouse=options.mouse)
    app.ended()
    return app.return_code or 0
