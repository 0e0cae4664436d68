"""The log: many lines, of which only the visible ones cost anything."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from deltatui.tui.fmt import safe_text
from deltatui.tui.widgets.logbuffer import LEVELS, LogBuffer, LogRecord, Matcher, matcher, rank
from deltatui.tui.widgets.logline import LogStatus, draw_line
from deltatui.tui.widgets.palette import STYLE_NAMES, Painted, component_css

__all__ = ["LEVELS", "LogRecord", "LogStatus", "LogView"]

_STRIPS = 512


class LogView(Painted, ScrollView, can_focus=True):
    """Follows the tail until the user scrolls up; End (or :meth:`set_follow`) follows again, nothing else does.

    The cursor is one record: the last while following, else where the user put it; scrolling takes it along. Hand
    lines over in batches a few times a second, not one by one. A hostile regular expression given by the user can be
    slow: it runs on at most MAX_MESSAGE cells a line.
    """

    DEFAULT_CSS = """
    LogView { height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; }
    LogView > .logview--cursor { background: $foreground 10%; }
    LogView:focus > .logview--cursor { background: $accent 30%; }
    LogView > .logview--match { text-style: reverse; }
    """ + component_css("LogView")
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "logview--cursor",
        "logview--match",
        *(f"logview--{name}" for name in STYLE_NAMES),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "line up", show=False, id="row-up"),
        Binding("down,j", "move(1)", "line down", show=False, id="row-down"),
        Binding("pageup", "page(-1)", "page up", show=False, id="page-up"),
        Binding("pagedown", "page(1)", "page down", show=False, id="page-down"),
        Binding("home", "move(-1000000000)", "first line", show=False, id="first-row"),
        Binding("end", "follow", "follow the tail", show=False, id="last-row"),
        Binding("n", "find(1)", "next match", show=False, id="next-match"),
        Binding("N", "find(-1)", "previous match", show=False, id="previous-match"),
    ]

    class StatusChanged(Message):
        """``status`` differs from the one told last."""

        def __init__(self, view: LogView, status: LogStatus) -> None:
            super().__init__()
            self.view = view
            self.status = status

        @property
        def control(self) -> LogView:
            return self.view

    def __init__(
        self,
        *,
        capacity: int = 10_000,
        empty: str = "no log lines yet",
        ascii_only: bool = False,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._buffer = LogBuffer(capacity, ascii_only=ascii_only)
        self._paint_with("logview", ascii_only=ascii_only)
        self._empty = empty
        self._follow = True
        self._left_at = 0
        self._cursor: int | None = None
        self._wrap = False
        self._search: Matcher | None = None
        self._search_text = ""
        self._error = ""
        self._own_scroll = False
        self._strips: dict[tuple[int, int, bool], Strip] = {}
        self._strips_for = (-1, -1)
        self._painted: dict[int, tuple[int, int, bool] | str | None] = {}
        self._told = self.status

    # State

    @property
    def status(self) -> LogStatus:
        buffer = self._buffer
        return LogStatus(
            follow=self._follow,
            new=0 if self._follow else len(buffer.view) - buffer.index_of(self._left_at),
            shown=len(buffer.view),
            total=buffer.total,
            minimum=buffer.minimum,
            filter=buffer.filter_text,
            search=self._search_text,
            wrap=self._wrap,
            error=self._error,
        )

    @property
    def cursor_record(self) -> LogRecord | None:
        index = self._cursor_index()
        return None if index is None else self._buffer.record(self._buffer.view[index])

    def copy_line(self) -> str | None:
        """The whole line under the cursor, without control characters; None while no line is shown."""
        index = self._cursor_index()
        return None if index is None else self._buffer.whole_line(self._buffer.view[index])

    # Lines

    def append_many(self, records: Iterable[LogRecord]) -> None:
        """Add records in their order; the oldest leave when the log is full."""
        top = self._buffer.base + self.scroll_offset.y
        self._buffer.append_many(records)
        self._changed(top - self._buffer.base)

    def clear(self) -> None:
        self._buffer.clear()
        self._changed(0)

    def set_empty(self, text: str) -> None:
        """The line shown while there are no records."""
        self._empty = text
        self._repaint()

    # The user's wishes

    def set_minimum(self, level: str) -> None:
        """Show records of this level and above. Raises ValueError for a level that is none."""
        self._rebuild(lambda: self._buffer.set_minimum(level))

    def set_filter(self, text: str, *, regex: bool = False) -> bool:
        """Show only lines with ``text`` (case ignored); empty shows all. False, and a sentence in ``status.error``,
        for a bad regular expression: the filter stays as it was."""
        try:
            self._rebuild(lambda: self._buffer.set_filter(text, regex=regex))
        except re.error as fault:
            return self._refused(text, fault)
        self._accepted()
        return True

    def search(self, text: str, *, regex: bool = False) -> bool:
        """Mark ``text`` in all lines and go to the last match at or above the cursor, else to the next one. False
        when nothing matches or the expression is bad (then ``status.error`` says so and the old search holds)."""
        try:
            self._search = matcher(text, regex=regex) if text else None
        except re.error as fault:
            return self._refused(text, fault)
        self._search_text = text
        self._strips.clear()
        self.refresh()
        self._accepted()
        if self._search is None:
            return False
        return self._go(0, -1, self._matches) or self._go(1, 1, self._matches)

    def next_match(self) -> bool:
        """False when there is none below the cursor."""
        return self._search is not None and self._go(1, 1, self._matches)

    def previous_match(self) -> bool:
        """False when there is none above the cursor."""
        return self._search is not None and self._go(-1, -1, self._matches)

    def next_error(self) -> bool:
        """To the next record of level ERROR or above; while following, where nothing is below, to the newest one. False
        when there is none."""
        return self.previous_error() if self._follow else self._go(1, 1, self._is_error)

    def previous_error(self) -> bool:
        """To the record above; while following, the newest line counts too."""
        return self._go(0 if self._follow else -1, -1, self._is_error)

    def set_wrap(self, wrap_lines: bool) -> None:
        """Long lines go on in the next one instead of being cut."""
        self._wrap = wrap_lines
        self._rebuild(lambda: self._buffer.set_wrap_width(self._text_width() if wrap_lines else 0))

    def set_follow(self, follow: bool) -> None:
        """True jumps to the tail and stays there."""
        if follow:
            self._follow = True
        else:
            self._leave_tail()
        self._changed(self.scroll_offset.y)

    def action_follow(self) -> None:
        self.set_follow(True)

    def action_find(self, direction: int) -> None:
        if not (self.next_match() if direction > 0 else self.previous_match()):
            self.app.bell()

    def action_move(self, delta: int) -> None:
        index = self._cursor_index()
        if index is None or (self._follow and delta > 0):
            return
        self._put_cursor(max(0, min(len(self._buffer.view) - 1, index + delta)))

    def action_page(self, direction: int) -> None:
        lines = max(1, self.size.height - 1)
        if self._follow and direction > 0:
            return
        self._leave_tail()
        self._scroll_own(self.scroll_offset.y + direction * lines)
        self._take_cursor_along(direction * lines)
        self._repaint()
        self._tell()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        # Without the animation of the base class, which a batch of new lines would override.
        event.stop()
        event.prevent_default()
        self._wheel(-3)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        event.prevent_default()
        self._wheel(3)

    def _wheel(self, lines: int) -> None:
        if self.max_scroll_y and not (self._follow and lines > 0):
            self._leave_tail()
            self._scroll_own(self.scroll_offset.y + lines)
            self._take_cursor_along(0)
            self._repaint()
            self._tell()

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None:
            return
        event.stop()
        painted = self._painted.get(offset.y)
        if isinstance(painted, tuple):
            index = self._buffer.index_of(painted[0])
            if index < len(self._buffer.view) and self._buffer.view[index] == painted[0]:
                self._put_cursor(index)

    # Cursor and scrolling

    def _cursor_index(self) -> int | None:
        view = self._buffer.view
        if not view:
            return None
        if self._follow or self._cursor is None:
            return len(view) - 1
        return min(self._buffer.index_of(self._cursor), len(view) - 1)

    def _matches(self, number: int) -> bool:
        return self._search is not None and bool(self._search(self._buffer.line(number)[0]))

    def _is_error(self, number: int) -> bool:
        return rank(self._buffer.record(number).level) >= LEVELS["ERROR"]

    def _go(self, offset: int, step: int, wanted: Callable[[int], bool]) -> bool:
        index = self._cursor_index()
        found = None if index is None else self._buffer.find(index + offset, step, wanted)
        if found is None:
            return False
        self._put_cursor(found)
        return True

    def _leave_tail(self) -> None:
        if self._follow:
            self._follow = False
            self._left_at = self._buffer.next_number
            self._cursor = self._buffer.view[-1] if self._buffer.view else self._left_at

    def _put_cursor(self, index: int) -> None:
        self._leave_tail()
        self._cursor = self._buffer.view[index]
        top, lines = self.scroll_offset.y, self.size.height
        row = self._buffer.row_of(index)
        end = row + min(self._buffer.height_of(index), max(1, lines))
        if row < top:
            self._scroll_own(row)
        elif end > top + lines:
            self._scroll_own(end - lines)
        self._repaint()
        self._tell()

    def _take_cursor_along(self, delta_rows: int) -> None:
        """The cursor moves ``delta_rows`` and then into the visible part."""
        index = self._cursor_index()
        if index is None:
            return
        top = self.scroll_offset.y
        row = self._buffer.row_of(index) + delta_rows
        row = max(top, min(row, top + self.size.height - 1, self._buffer.rows - 1))
        place = self._buffer.at_row(row)
        if place is not None:
            self._cursor = place[0]

    def _scroll_own(self, row: int) -> None:
        if not self.size:
            # Not laid out yet; the first resize scrolls.
            return
        self._own_scroll = True
        try:
            self.scroll_to(y=max(0, row), animate=False, force=True)
        finally:
            self._own_scroll = False

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        # The scrollbar was dragged: everything else scrolls by itself.
        if not self._own_scroll and round(new_value) < self.max_scroll_y:
            self._leave_tail()
            self._take_cursor_along(0)
            self._tell()

    def on_resize(self) -> None:
        if self._wrap:
            self._rebuild(lambda: self._buffer.set_wrap_width(self._text_width()))
        else:
            self._changed(self.scroll_offset.y)

    def _rebuild(self, change: Callable[[], None]) -> None:
        """Do what makes the view anew, and keep the cursor's record on its line of the screen."""
        index = self._cursor_index()
        number = None if index is None else self._buffer.view[index]
        screen_row = 0 if index is None else self._buffer.row_of(index) - self.scroll_offset.y
        change()
        self._strips.clear()
        self.refresh()
        top = self.scroll_offset.y
        if number is not None and self._buffer.view:
            index = min(self._buffer.index_of(number), len(self._buffer.view) - 1)
            top = self._buffer.row_of(index) - max(0, min(screen_row, self.size.height - 1))
        self._changed(top)

    def _changed(self, top: int) -> None:
        """Take over what the buffer changed. ``top`` is the row to stand first while not following."""
        rows, held = self._buffer.rows, self.virtual_size.height
        if rows != held and min(rows, held) > self.size.height > 0:
            # The scrollbar stays: nothing on the screen moves, so the screen need not be laid out anew.
            self.set_reactive(LogView.virtual_size, Size(0, rows))
            self.vertical_scrollbar.window_virtual_size = rows
        elif rows != held:
            self.virtual_size = Size(0, rows)
            self.call_after_refresh(self._place_thumb)
        self._scroll_own(rows - self.size.height if self._follow else top)
        self._repaint()
        self._tell()

    def _place_thumb(self) -> None:
        """A scrollbar that has just come does not know where the view stands."""
        if self.show_vertical_scrollbar:
            self.vertical_scrollbar.position = self.scroll_y

    # Painting

    def _text_width(self) -> int:
        # One cell for the cursor sign, one for the scrollbar, whether it is there or not: text must not jump.
        return max(1, self.size.width - 2)

    def _line(self, y: int) -> tuple[int, int, bool] | str | None:
        """What stands in screen line ``y``: record number, which of its lines, under the cursor; or a sentence."""
        place = self._buffer.at_row(y + self.scroll_offset.y)
        if place is not None:
            return (*place, not self._follow and place[0] == self._cursor_number())
        if y or self._buffer.view:
            return None
        total = self._buffer.total
        return self._empty if not total else f"none of {total:,} lines passes level and filter"

    def _cursor_number(self) -> int | None:
        index = self._cursor_index()
        return None if index is None else self._buffer.view[index]

    def _repaint(self) -> None:
        painted, width = self._painted, self.size.width
        regions = [Region(0, y, width, 1) for y in range(self.size.height) if self._line(y) != painted.get(y)]
        if len(regions) == self.size.height:
            self.refresh()
        elif regions:
            self.refresh(*regions)

    def _tell(self) -> None:
        status = self.status
        if status != self._told:
            self._told = status
            self.post_message(self.StatusChanged(self, status))

    def _accepted(self) -> None:
        self._error = ""
        self._tell()

    def _refused(self, text: str, fault: re.error) -> bool:
        sentence = f"'{safe_text(text, 24, ascii_only=self._ascii)}' is no regular expression: {fault}"
        self._error = safe_text(sentence, 120, ascii_only=self._ascii)
        self._tell()
        return False

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if self._strips_for != (width, self._palette.generation):
            self._strips_for = (width, self._palette.generation)
            self._strips.clear()
        line = self._painted[y] = self._line(y)
        if line is None:
            return Strip.blank(width, self._palette.base)
        if isinstance(line, str):
            text = safe_text(line, self._text_width(), ascii_only=self._ascii)
            return Strip([Segment(f" {text}", self._palette.get("muted"))]).adjust_cell_length(
                width, self._palette.base
            )
        strip = self._strips.get(line)
        if strip is None:
            if len(self._strips) >= _STRIPS:
                self._strips.clear()
            strip = self._strips[line] = self._record_strip(*line)
        return strip

    def _record_strip(self, number: int, part: int, under_cursor: bool) -> Strip:
        text, level_at, message_at = self._buffer.line(number)
        return draw_line(
            text,
            level_at,
            message_at,
            rank(self._buffer.record(number).level),
            self._search(text) if self._search is not None else [],
            self._palette,
            "cursor" if under_cursor else "",
            self._glyphs,
            self.size.width,
            self._text_width(),
            part if self._wrap else None,
        )
