"""What every dialog has: keys of the registry, a harmless focus, and arming against keys typed ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Static

from deltatui.tui.actions import BY_ID, Context
from deltatui.tui.keymap import Keymap, bindings
from deltatui.tui.panes.base import Body, Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual import events
    from textual.widget import Widget

    from deltatui.tui.commands import Operator
    from deltatui.tui.store import View

ARM_AFTER_S = 0.4
"""A confirm key works only this long after its dialog could be seen (R13.10)."""

_CHOICES = 2
_AROUND = 1 + 2 + _CHOICES
"""The status line, the frame, and the choices with the blank line above them."""

Result = TypeVar("Result")


class Arming:
    """Counts ARM_AFTER_S from the last moment at which something spoke against confirming."""

    def __init__(self) -> None:
        self._since: float | None = None

    def restart(self, now: float) -> None:
        """Count anew from ``now``."""
        self._since = now

    def hold(self) -> None:
        """Do not count (the data are old)."""
        self._since = None

    def resume(self, now: float) -> None:
        """Start counting if it was held."""
        if self._since is None:
            self._since = now

    def remaining_s(self, now: float) -> float:
        return ARM_AFTER_S if self._since is None else max(0.0, self._since + ARM_AFTER_S - now)


class Choice(Static, can_focus=True):
    """A word to press: ``[ Cancel ]``. Enter or a click presses it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,space", "press", "press", show=False)]

    class Pressed(Message):
        def __init__(self, choice: Choice) -> None:
            super().__init__()
            self.choice = choice

        @property
        def control(self) -> Choice:
            return self.choice

    def __init__(self, text: str, name: str) -> None:
        super().__init__(Content(f"[ {text} ]"), id=name, classes="choice")

    def relabel(self, text: str) -> None:
        self.update(Content(f"[ {text} ]"))

    def action_press(self) -> None:
        self.post_message(self.Pressed(self))

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.action_press()


class Box(VerticalScroll, inherit_bindings=False):
    """The frame of a dialog. It leaves every key to the dialog: its own pages would be two lines too long, since the
    choices lie on the last ones."""


class Dialog(ModalScreen[Result], Generic[Result], inherit_bindings=False):
    """``clock`` is the terminal's monotonic clock. Subclasses fill the body from ``lines`` and answer ``do``."""

    # The top line says whether it is real money: no dialog lies on it.
    DEFAULT_CSS = "Dialog #dialog { margin: 1 0 0 0; }"
    AUTO_FOCUS = "#cancel"
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(Context.EVERYWHERE, Context.DIALOG),
        Binding("tab", "app.focus_next", "next", show=False),
        Binding("shift+tab", "app.focus_previous", "previous", show=False),
        Binding("right", "app.focus_next", "next", show=False),
        Binding("left", "app.focus_previous", "previous", show=False),
        Binding("down", "scroll_dialog(1)", "down", show=False),
        Binding("up", "scroll_dialog(-1)", "up", show=False),
        Binding("pagedown", "scroll_page(1)", "page down", show=False),
        Binding("pageup", "scroll_page(-1)", "page up", show=False),
    ]

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.operator = operator
        self.arming = Arming()
        self._painted = False
        self._scrolled = ""
        self.over = False
        """Its subject is over; it closes as soon as nothing lies on it."""

    @property
    def keymap(self) -> Keymap:
        return self.operator.keymap

    @property
    def now(self) -> float:
        return self.operator.clock()

    def on_mount(self) -> None:
        self.set_class(True, *(name for name in self.operator.mode_classes()))
        self.watch(self.query_one(Box), "scroll_y", self._tell_scrolling, init=False)
        self.call_after_refresh(self._has_painted)

    def _has_painted(self) -> None:
        self._painted = True
        self.arming.restart(self.now)
        self.apply(self.operator.view, self.now)

    def frame(self, title: str, *between: Widget, choices: Sequence[Static]) -> Box:
        """The box of the dialog: body, what stands between, and the row of choices."""
        box = Box(Body(id="body"), *between, Horizontal(*choices, id="choices"), id="dialog", can_focus=False)
        box.border_title = Content(title)
        return box

    @property
    def cells(self) -> int:
        """Cells of one line of the body."""
        box = self.query_one(Box)
        return max(10, box.scrollable_content_region.width or min(70, self.size.width - 6))

    def rows(self, fields: int = 0) -> int:
        """Lines of the body that can be seen without scrolling, beside ``fields`` other lines."""
        return self.size.height - _AROUND - fields

    def show(self, lines: Sequence[Sequence[Part]]) -> None:
        self.query_one("#body", Body).show(lines)
        self.call_after_refresh(self._tell_scrolling)

    def _tell_scrolling(self) -> None:
        """Say at the lower edge of the frame what part is seen, where it is not all."""
        # Called after a refresh: the dialog may be gone by then.
        for box in self.query(Box):
            hidden, seen = round(box.max_scroll_y), _lines_seen(box)
            first = round(box.scroll_y) + 1
            said = f"lines {first}-{first + seen - 1} of {seen + hidden} · pageup pagedown" if hidden > 0 else ""
            if said != self._scrolled:
                self._scrolled = said
                box.border_subtitle = Content(said) if said else None

    def apply(self, view: View, now: float) -> None:
        """Called by the tick: show what is true now."""

    def action_scroll_dialog(self, lines: int) -> None:
        self.query_one(Box).scroll_relative(y=lines, animate=False)

    def action_scroll_page(self, pages: int) -> None:
        box = self.query_one(Box)
        box.scroll_relative(y=pages * max(1, _lines_seen(box) - 1), animate=False)

    def action_do(self, action_id: str) -> None:
        """Run an action of the registry by its id."""
        if BY_ID[action_id].context is Context.EVERYWHERE:
            self.operator.do(action_id)
        elif action_id == "dialog-no":
            self.no()
        else:
            self.do(action_id)

    def do(self, action_id: str) -> None:
        """An action of this dialog; unknown ones do nothing."""

    def no(self) -> None:
        self.dismiss(None)

    def on_choice_pressed(self, event: Choice.Pressed) -> None:
        event.stop()
        if event.choice.id == "cancel":
            self.no()
        else:
            self.do(event.choice.id or "")

    def armed_text(self, now: float, verb: str, action_id: str = "dialog-yes") -> Part:
        """``take: y in 0.4 s`` while not armed, ``take: y`` when the key works."""
        key = self.keymap.display(action_id)
        remaining = self.arming.remaining_s(now)
        if remaining > 0:
            return Part(f"{verb}: {key} in {remaining:.1f} s", "$faint")
        return Part(f"{verb}: {key}", "bold $mark")


def _lines_seen(box: Box) -> int:
    return box.scrollable_content_region.height - _CHOICES


class Hint(Static):
    """The text beside the choices of a dialog."""

    def say(self, part: Part) -> None:
        self.update(Content.assemble((part.text, part.style)))
