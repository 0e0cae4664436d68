"""What every pane has: a numbered title with the age of what it shows, and its states without data."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from deltatui.tui import fmt
from deltatui.tui.store import FRESH_S, LinkState
from deltatui.tui.widgets.glyphs import fit, width_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from textual import events
    from textual.widget import Widget

    from deltatui.tui.store import Shown, View


class Part(NamedTuple):
    """Text that is drawn as it stands, in a style of the theme (``$bright``, ``bold $down``)."""

    text: str
    style: str = "$foreground"


def bright(text: str) -> Part:
    return Part(text, "$bright")


def label(text: str) -> Part:
    return Part(text, "$label")


def faint(text: str) -> Part:
    return Part(text, "$faint")


def by_sign(value: float | None, text: str) -> Part:
    """Green or red by the sign that stands in ``text``; unknown and zero plain."""
    if value is None:
        return Part(text, "$faint")
    return Part(text, "$up" if value > 0 else "$down" if value < 0 else "$bright")


def width(parts: Iterable[Part]) -> int:
    return sum(width_of(part.text) for part in parts)


def spread(left: Sequence[Part], right: Sequence[Part], cells: int) -> list[Part]:
    """``left`` and ``right`` at the two ends of a line."""
    gap = max(1, cells - width(left) - width(right))
    return [*left, Part(" " * gap), *right]


def joined(groups: Iterable[Sequence[Part]], cells: int, gap: int = 3) -> list[Part]:
    """As many of ``groups``, in order, as fit whole into ``cells``."""
    line: list[Part] = []
    used = 0
    for group in groups:
        need = width(group) + (gap if line else 0)
        if used + need > cells:
            continue
        if line:
            line.append(Part(" " * gap))
        line.extend(group)
        used += need
    return line


def wrapped(text: str, cells: int, style: str, most: int = 3) -> list[list[Part]]:
    """A foreign sentence on at most ``most`` lines."""
    words = fmt.safe_text(text).split(" ")
    lines: list[str] = []
    for word in words:
        if lines and width_of(lines[-1]) + 1 + width_of(word) <= cells:
            lines[-1] += " " + word
        else:
            lines.append(word)
    if len(lines) > most:
        lines[most - 1] = fit(" ".join(lines[most - 1 :]), cells).rstrip()
        del lines[most:]
    return [[Part(fit(line, cells).rstrip(), style)] for line in lines]


def content(lines: Iterable[Sequence[Part]]) -> Content:
    """Lines of parts as something to draw; nothing in them is read as markup."""
    out: list[Content] = []
    for line in lines:
        out.append(Content.assemble(*((part.text, part.style) for part in line)))
    return Content("\n").join(out)


class Body(Static):
    """Drawn text of fixed layout: cut at the edge, never wrapped."""

    DEFAULT_CSS = "Body { height: auto; width: 1fr; text-wrap: nowrap; text-overflow: clip; }"

    lines: tuple[tuple[Part, ...], ...] = ()
    """What is drawn."""

    def show(self, lines: Iterable[Sequence[Part]]) -> None:
        """Draw ``lines``; nothing is done where they stand already, and only another height moves the neighbours."""
        held, self.lines = self.lines, tuple(tuple(line) for line in lines)
        if self.lines != held:
            self.update(content(self.lines), layout=len(held) != len(self.lines))


class Pane(Vertical, can_focus=True, inherit_bindings=False):
    """One numbered pane. ``EVERY`` is how many ticks of the 4 Hz clock lie between two applications.

    Focused, it hands the focus to what can be moved in inside it; a pane of plain text keeps it, and scrolls when it
    is shown alone and is longer than the screen.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_by(-1)", "line up", show=False, id="row-up"),
        Binding("down,j", "scroll_by(1)", "line down", show=False, id="row-down"),
        Binding("pageup", "scroll_by(-10)", "page up", show=False, id="page-up"),
        Binding("pagedown", "scroll_by(10)", "page down", show=False, id="page-down"),
        Binding("home", "scroll_by(-100000)", "top", show=False, id="first-row"),
        Binding("end", "scroll_by(100000)", "bottom", show=False, id="last-row"),
        Binding("enter", "show_alone", "show alone", show=False, id="open-row"),
    ]
    NUMBER: ClassVar[str] = ""
    NAME: ClassVar[str] = ""
    EVERY: ClassVar[int] = 2
    OF_MARKET: ClassVar[bool] = False
    """Shows the selected market, which the title names."""
    STALE_AFTER_S: ClassVar[float | None] = None
    """Own limit for the age of the data inside the snapshot; None: only the snapshot's own age counts."""

    def __init__(self, clock: Callable[[], float], ascii_only: bool) -> None:
        super().__init__(id=f"pane-{self.NUMBER}", classes="pane")
        self.clock = clock
        self.ascii_only = ascii_only
        self.view: View | None = None
        """The view that was applied last."""
        self._drawn: tuple[object, ...] = ()
        self._title: tuple[object, ...] = ()

    # What a pane overrides

    def data_age_s(self, shown: Shown) -> float | None:
        """Age at the engine of what this pane shows, in seconds of the market's clock; None where it is not known."""
        return None

    def draw(self, shown: Shown, now: float) -> None:
        """Bring the widgets up to date; called when the view or the size changed."""
        raise NotImplementedError

    def no_data(self, lines: Sequence[Sequence[Part]]) -> None:
        """Show ``lines`` in the place of data that have never come."""
        raise NotImplementedError

    @property
    def heading(self) -> str:
        """The name in the title."""
        return self.NAME

    def headline(self) -> list[Part]:
        """What follows the name in the title."""
        return [bright(f"  {fmt.safe_text(self.market, 16)}")] if self.OF_MARKET and self.market else []

    @property
    def market(self) -> str:
        """The selected market; empty where there is none."""
        return self.view.market if self.view is not None else ""

    def tail(self, view: View, now: float) -> Part:
        """What stands at the right of the title."""
        age = view.age_s(now)
        if age is None:
            return faint(fmt.NA)
        if view.shown is not None:
            inside = self.data_age_s(view.shown)
            if inside is not None:
                age += max(0.0, inside)
        if age < FRESH_S:
            return Part(f"<{FRESH_S:.0f} s", "$label")
        return Part(fmt.age(age) + (" old" if self.old(view, now) else ""), "$label")

    def stamp(self, view: View) -> object:
        """What the drawing depends on besides size and theme: the pane is drawn anew when it changes."""
        return view.version

    # Focus and scrolling

    @property
    def zoomed(self) -> bool:
        """Shown alone, with all it has."""
        return self.has_class("-zoomed")

    def inside(self) -> Widget | None:
        """What can be moved in inside this pane, as it is drawn now."""
        return next((child for child in self.query("*") if child.focusable and child.display), None)

    def on_focus(self) -> None:
        inside = self.inside()
        if inside is not None:
            inside.focus()

    def action_show_alone(self) -> None:
        if not self.zoomed:
            self.screen.action_do(f"pane-{self.NUMBER}")  # type: ignore[attr-defined]

    def action_scroll_by(self, lines: int) -> None:
        self.scroll_relative(y=lines, animate=False)

    # What the tick calls

    def old(self, view: View, now: float) -> bool:
        if view.stale(now):
            return True
        inside = self.data_age_s(view.shown) if view.shown is not None else None
        return self.STALE_AFTER_S is not None and inside is not None and inside > self.STALE_AFTER_S

    def apply(self, view: View, now: float) -> None:
        """Show ``view``. Cheap when nothing changed."""
        self.set_class(view.snapshot is not None and self.old(view, now), "-old")
        self.view = view
        self._draw_title(view, now)
        state = (self.stamp(view), view.snapshot is None, view.link.state, self.size, self.zoomed, self.app.theme)
        if state == self._drawn:
            return
        self._drawn = state
        if view.shown is None:
            self.no_data(waiting(view))
        else:
            self.draw(view.shown, now)

    def _draw_title(self, view: View, now: float) -> None:
        head = [Part(f"{self.NUMBER} ", "$faint"), Part(self.heading, "bold $foreground"), *self.headline()]
        tail = self.tail(view, now)
        state = (tuple(head), tail, self.size.width, self.screen.classes, self.has_class("-old"), self._frame_style())
        if state == self._title:
            return
        self._title = state
        # Textual keeps a corner, one line character and a space on each side of the label.
        cells = self.outer_size.width - 6
        if cells < 8:
            self.border_title = None
            return
        room = cells - width([tail]) - 2
        heading = Content.assemble(*((part.text, part.style) for part in head)).truncate(max(1, room), ellipsis=True)
        line = "━" if self.screen.has_class("-live") else "─"
        fill = line * max(0, cells - heading.cell_length - width([tail]) - 2)
        self.border_title = Content.assemble(heading, (f" {fill} ", self._frame_style()), (tail.text, tail.style))

    def _frame_style(self) -> str:
        for mode in ("replay", "paper", "live"):
            if self.screen.has_class(f"-{mode}"):
                return f"$frame-{mode}" if not self.has_focus_within else "$mark"
        return "$frame"

    def _on_resize(self, event: events.Resize) -> None:
        self._drawn = ()
        self._title = ()

    @property
    def inner(self) -> int:
        """Cells of one line inside the frame and its padding."""
        return max(0, self.content_size.width)

    @property
    def rows(self) -> int:
        return max(0, self.content_size.height)


NO_MARKET = "this engine carries no market yet"


def waiting(view: View) -> list[list[Part]]:
    """The state of a pane before the first snapshot."""
    match view.link.state:
        case LinkState.CONNECTING:
            return [[faint("connecting to the engine")]]
        case LinkState.CONNECTED:
            return [[faint("waiting for the first data")]]
        case LinkState.STOPPED:
            return [[Part("the engine has stopped", "$warn")]]
        case LinkState.LOST:
            return [[Part("no connection to the engine", "$warn")], *wrapped(view.link.reason, 36, "$faint", 2)]
