"""The live table: rows, cursor and messages go by key, never by position."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from deltatui.tui.fmt import safe_text
from deltatui.tui.widgets.glyphs import fit
from deltatui.tui.widgets.palette import STYLE_NAMES, Painted, component_css
from deltatui.tui.widgets.rows import Cell, Column, Row, RowModel, fit_columns

__all__ = ["Cell", "Column", "LiveGrid", "Row"]

_MARK_STYLES = {"up": "good", "down": "bad", "changed": "accent"}
_CHANGED = Style(bold=True)


class LiveGrid(Painted, ScrollView, can_focus=True):
    """A header line and one line a row. The owner calls :meth:`set_rows` when data change and :meth:`tick` a few
    times a second; the latter ends change marks and sorts what was held back while the cursor moved.

    The cursor starts on the first row and from then on holds its key. When that row vanishes (or is filtered out)
    ``cursor_key`` is None, ``lost_key`` names it and a sentence says so, until it returns or the user moves.

    A grid takes 2 cells (cursor sign, scrollbar) and, for each column, its width and one cell for the change mark.
    """

    DEFAULT_CSS = """
    LiveGrid { height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; }
    LiveGrid > .livegrid--header { color: $text-muted; }
    LiveGrid > .livegrid--sorted { color: $text-accent; }
    LiveGrid > .livegrid--cursor { background: $foreground 10%; }
    LiveGrid:focus > .livegrid--cursor { background: $accent 30%; text-style: bold; }
    """ + component_css("LiveGrid")
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "livegrid--header",
        "livegrid--sorted",
        "livegrid--cursor",
        *(f"livegrid--{name}" for name in STYLE_NAMES),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "row up", show=False, id="row-up"),
        Binding("down,j", "move(1)", "row down", show=False, id="row-down"),
        Binding("pageup", "page(-1)", "page up", show=False, id="page-up"),
        Binding("pagedown", "page(1)", "page down", show=False, id="page-down"),
        Binding("home", "move(-1000000000)", "first row", show=False, id="first-row"),
        Binding("end", "move(1000000000)", "last row", show=False, id="last-row"),
        Binding("enter", "activate", "open row", show=False, id="open-row"),
    ]

    class Activated(Message):
        """Enter on a row. Not sent while the cursor is lost."""

        def __init__(self, grid: LiveGrid, key: str) -> None:
            super().__init__()
            self.grid = grid
            self.key = key

        @property
        def control(self) -> LiveGrid:
            return self.grid

    class CursorMoved(Message):
        """``cursor_key`` changed; None: the chosen row is gone."""

        def __init__(self, grid: LiveGrid, key: str | None) -> None:
            super().__init__()
            self.grid = grid
            self.key = key

        @property
        def control(self) -> LiveGrid:
            return self.grid

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        empty: str = "no rows",
        ascii_only: bool = False,
        clock: Callable[[], float] = time.monotonic,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._model = RowModel(columns, clock, ascii_only=ascii_only)
        self._paint_with("livegrid", ascii_only=ascii_only)
        self._empty = empty
        self._strips: dict[str, Strip] = {}
        self._strips_for = (-1, -1)
        self._fitted: tuple[Column, ...] = tuple(columns)
        self._header: Strip | None = None
        self._painted: dict[int, tuple[str, str]] = {}
        self._cursor_index: int | None = None
        self._told_key: str | None = None
        self._told_lost: str | None = None
        self.virtual_size = Size(sum(column.width + 1 for column in columns), 1)

    # State

    @property
    def cursor_key(self) -> str | None:
        """The key under the cursor; None while there are no rows or the chosen row is gone."""
        return self._model.cursor_key

    @property
    def lost_key(self) -> str | None:
        """The chosen row that is not visible (any more), or None."""
        return self._model.lost_key

    @property
    def shown(self) -> int:
        """Rows that pass the filter."""
        return len(self._model.view)

    @property
    def total(self) -> int:
        return self._model.total

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the shown rows, in their order on the screen."""
        return tuple(self._model.view)

    @property
    def sorting(self) -> tuple[str | None, bool]:
        """Column id (None: the owner's order) and whether descending."""
        return self._model.sort_column, self._model.descending

    @property
    def filter_text(self) -> str:
        return self._model.filter_text

    @property
    def freeze(self) -> bool:
        """Set while a dialog is open: rows keep their order (values still change, rows still come and go)."""
        return self._model.freeze

    @freeze.setter
    def freeze(self, freeze: bool) -> None:
        self._model.freeze = freeze
        self._apply()

    # Data

    def set_rows(self, rows: Iterable[Row]) -> None:
        """Replace all rows; only lines that look different are painted again. Raises ValueError for a key twice."""
        self._model.set_rows(rows)
        self._apply()

    def update_row(self, row: Row) -> None:
        """Replace the row of this key, or add it at the end."""
        self._model.update_row(row)
        self._apply()

    def remove_row(self, key: str) -> None:
        """Does nothing for a key that is not there."""
        self._model.remove(key)
        self._apply()

    def set_empty(self, text: str) -> None:
        """The line shown while there are no rows (``no positions``, ``loading``)."""
        if text != self._empty:
            self._empty = text
            self._apply()

    def tick(self, now: float | None = None) -> None:
        """Call a few times a second. ``now`` in seconds of the ``clock`` given at the start."""
        self._model.tick(now)
        self._apply()

    # The user's wishes

    def sort_by(self, column_id: str | None, descending: bool = False) -> None:
        """None: the owner's order. Raises ValueError for an unknown column."""
        self._model.sort_by(column_id, descending)
        self._header_changed()

    def cycle_sort(self) -> None:
        """By the next visible column that has a title, after the last in the owner's order. Right-aligned columns start
        descending."""
        columns = [column for column in self._fitted if column.title]
        ids = [column.id for column in columns]
        now = self._model.sort_column
        at = ids.index(now) + 1 if now in ids else 0
        if at == len(ids):
            self.sort_by(None)
        else:
            self.sort_by(ids[at], columns[at].align == "right")

    def reverse_sort(self) -> None:
        """Does nothing in the owner's order."""
        if self._model.sort_column is not None:
            self.sort_by(self._model.sort_column, not self._model.descending)

    def set_filter(self, text: str) -> None:
        """Show only rows with ``text`` (case does not matter) in one of their cells; empty shows all."""
        self._model.set_filter(text)
        self._apply()

    def move_to(self, key: str) -> bool:
        """Choose a row for the user; False when it is not shown."""
        chosen = self._model.choose(key)
        self._apply(follow=True)
        return chosen

    def action_move(self, delta: int) -> None:
        self._model.move(delta)
        self._apply(follow=True)

    def action_page(self, direction: int) -> None:
        self.action_move(direction * max(1, self.size.height - 2))

    def action_activate(self) -> None:
        key = self._model.cursor_key
        if key is not None:
            self.post_message(self.Activated(self, key))

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None:
            return
        event.stop()
        if offset.y == 0:
            self._click_header(offset.x)
            return
        # What was painted there, not what may have moved there since.
        kind, key = self._painted.get(offset.y, ("", ""))
        if kind == "row":
            self.move_to(key)

    def _click_header(self, x: int) -> None:
        at = 1
        for column in self._fitted:
            at += column.width + 1
            if x < at:
                if column.id == self._model.sort_column:
                    self.reverse_sort()
                elif column.title:
                    self.sort_by(column.id, column.align == "right")
                return

    # Painting

    def _header_changed(self) -> None:
        self._header = None
        self.refresh(Region(0, 0, self.size.width, 1))
        self._apply()

    def _line(self, y: int) -> tuple[str, str]:
        """What stands in content line ``y``: a kind (``row``, ``empty``, ``lost`` or nothing) and its key or text."""
        view = self._model.view
        index = y - 1 + self.scroll_offset.y
        if index < len(view):
            return "row", view[index]
        free = index - len(view)
        if not view:
            if free == 0:
                return "empty", self._empty if not self._model.total else self._no_match()
            free -= 1
        lost = self._lost()
        if free == 0 and lost is not None:
            why = "is hidden by the filter" if self._model.has(lost) else "is gone"
            return "lost", f"{safe_text(lost, 40, ascii_only=self._ascii)} {why}; move to choose another"
        return "", ""

    def _lost(self) -> str | None:
        """The lost key, where saying so tells anything: an empty table speaks for itself."""
        return self._model.lost_key if self._model.total else None

    def _no_match(self) -> str:
        return f"none of {self._model.total} rows has '{self._model.filter_text}'"

    def _apply(self, *, follow: bool = False) -> None:
        """Take over what the model changed: scroll, messages, and a repaint of the lines that differ."""
        model = self._model
        dirty, model.dirty = model.dirty, set()
        reordered, model.reordered = model.reordered, False
        key, lost = model.cursor_key, self._lost()
        if key != self._told_key:
            dirty.update(k for k in (key, self._told_key) if k is not None)
        for changed in dirty:
            self._strips.pop(changed, None)
        if reordered:
            self._rearranged()
        if follow:
            self._show_cursor()
        self._cursor_index = model.cursor_index
        regions = [
            Region(0, y, self.size.width, 1)
            for y in range(1, self.size.height)
            if (line := self._line(y)) != self._painted.get(y) or line[1] in dirty
        ]
        if lost != self._told_lost:
            self._told_lost = lost
            self._header = None
            regions.append(Region(0, 0, self.size.width, 1))
        if regions:
            self.refresh(*regions)
        if key != self._told_key:
            self._told_key = key
            self.post_message(self.CursorMoved(self, key))

    def _rearranged(self) -> None:
        """The scroll range follows the rows; a visible cursor row stays on its line of the screen."""
        rows = len(self._model.view)
        was, now = self._cursor_index, self._model.cursor_index
        top = self.scroll_offset.y
        self.virtual_size = Size(self.virtual_size.width, rows + 1)
        if was is not None and now is not None and was != now and 0 <= was - top < self.size.height - 1:
            self.scroll_to(y=now - (was - top), animate=False, force=True)

    def _show_cursor(self) -> None:
        index = self._model.cursor_index
        lines = self.size.height - 1
        if index is None or lines < 1:
            return
        top = self.scroll_offset.y
        if index < top:
            self.scroll_to(y=index, animate=False, force=True)
        elif index >= top + lines:
            self.scroll_to(y=index - lines + 1, animate=False, force=True)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if self._strips_for != (width, self._palette.generation):
            self._strips_for = (width, self._palette.generation)
            self._strips.clear()
            self._header = None
            self._fitted = fit_columns(self._model.columns, width - 2)
        if y == 0:
            if self._header is None:
                self._header = self._header_strip(width)
            return self._header
        line = self._painted[y] = self._line(y)
        kind, text = line
        if kind == "row":
            strip = self._strips.get(text)
            if strip is None:
                strip = self._strips[text] = self._row_strip(text, width)
            return strip
        if not kind:
            return Strip.blank(width, self._palette.base)
        style = self._palette.get("warn" if kind == "lost" else "muted")
        sign = self._glyphs.lost if kind == "lost" else " "
        sentence = safe_text(text, max(0, width - 2), ascii_only=self._ascii)
        return self._strip([(f"{sign} {sentence}", style)], width, self._palette.base)

    def _header_strip(self, width: int) -> Strip:
        model = self._model
        header, sorted_style = self._palette.get("header"), self._palette.get("sorted")
        lost = self._lost() is not None
        pieces = [(self._glyphs.lost if lost else " ", self._palette.get("warn" if lost else "header"))]
        for column in self._fitted:
            by_this = column.id == model.sort_column
            arrow = (self._glyphs.down if model.descending else self._glyphs.up) if by_this else " "
            title = safe_text(column.title, ascii_only=self._ascii)
            style = sorted_style if by_this else header
            pieces += self._column(column, title, style, arrow, style)
        return self._strip(pieces, width, header)

    def _row_strip(self, key: str, width: int) -> Strip:
        held = self._model.held(key)
        under_cursor = key == self._model.cursor_key
        ground = "cursor" if under_cursor else ""
        plain = self._palette.get("", ground)
        pieces = [(self._glyphs.cursor if under_cursor else " ", self._palette.get("accent", ground))]
        for column in self._fitted:
            mark = held.marks.get(column.id)
            cell = held.cells[column.id]
            style = self._palette.get(cell.style_name, ground)
            if mark is None:
                pieces += self._column(column, cell.text, style, " ", plain)
            else:
                sign, sign_style = getattr(self._glyphs, mark[0]), self._palette.get(_MARK_STYLES[mark[0]], ground)
                pieces += self._column(column, cell.text, style + _CHANGED, sign, sign_style)
        return self._strip(pieces, width, plain)

    def _column(self, column: Column, text: str, style: Style, sign: str, sign_style: Style) -> list[tuple[str, Style]]:
        """One cell more than the column is wide: the sign stands left of the text, wherever that begins."""
        fitted = fit(text, column.width, column.align, self._glyphs.ellipsis)
        if sign == " " or column.align == "left":
            return [(sign, sign_style), (fitted, style)]
        bare = fitted.lstrip(" ")
        return [(" " * (len(fitted) - len(bare)), style), (sign, sign_style), (bare, style)]

    def _strip(self, pieces: list[tuple[str, Style]], width: int, rest: Style) -> Strip:
        """Pieces joined where their style is the same, in exactly ``width`` cells."""
        segments: list[Segment] = []
        text, style = "", rest
        for piece, piece_style in pieces:
            if piece_style is style or piece_style == style:
                text += piece
            else:
                if text:
                    segments.append(Segment(text, style))
                text, style = piece, piece_style
        if text:
            segments.append(Segment(text, style))
        return Strip(segments).adjust_cell_length(width, rest)
