"""A table of numbers as heat, with one cell read out in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from deltatui.tui import fmt
from deltatui.tui.widgets.glyphs import fit
from deltatui.tui.widgets.palette import STYLE_NAMES, Painted, component_css

MAX_STEPS = 16


@dataclass(frozen=True, slots=True)
class HeatCell:
    """What the cursor reads. ``row`` counts from the top, ``column`` from the left, both from 0."""

    row: int
    column: int
    row_label: str
    column_label: str
    value: float | None
    note: str


class HeatMap(Painted, Widget, can_focus=True):
    """Rows of cells, hotter where the value is higher; an unknown value is a dot, never the coldest step. The last line
    reads the cell under the cursor: labels, value and the owner's note.

    The cursor holds its labels, not its place: after :meth:`set_data` it stands where the same labels are, or nowhere.
    More columns than cells: the right ones (the newest) are shown. Where colour cannot tell the steps apart (16
    colours, NO_COLOR, ASCII) shade characters do.
    """

    DEFAULT_CSS = """
    HeatMap { height: 1fr; width: 1fr; }
    HeatMap > .heatmap--cold { background: $surface; }
    HeatMap > .heatmap--hot { background: $accent; }
    """ + component_css("HeatMap")
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "heatmap--cold",
        "heatmap--hot",
        *(f"heatmap--{name}" for name in STYLE_NAMES),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1, 0)", "up", show=False, id="row-up"),
        Binding("down,j", "move(1, 0)", "down", show=False, id="row-down"),
        Binding("left", "move(0, -1)", "left", show=False, id="cell-left"),
        Binding("right", "move(0, 1)", "right", show=False, id="cell-right"),
    ]

    class CursorMoved(Message):
        """``cell`` None: the labels under the cursor are gone."""

        def __init__(self, heatmap: HeatMap, cell: HeatCell | None) -> None:
            super().__init__()
            self.heatmap = heatmap
            self.cell = cell

        @property
        def control(self) -> HeatMap:
            return self.heatmap

    def __init__(
        self,
        *,
        formatter: Callable[[float | None], str] = fmt.compact,
        label_width: int = 7,
        steps: int = MAX_STEPS,
        low: float | None = None,
        high: float | None = None,
        empty: str = "no data",
        ascii_only: bool = False,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
    ) -> None:
        """``low`` and ``high`` fix the ends of the scale; None takes them from the data."""
        if not 2 <= steps <= MAX_STEPS:
            raise ValueError(f"a heat map has 2 to {MAX_STEPS} steps, not {steps}")
        super().__init__(id=id, classes=classes)
        self._format = formatter
        self._label_width = label_width
        self._steps = steps
        self._fixed = (low, high)
        self._empty = empty
        self._paint_with("heatmap", ascii_only=ascii_only)
        self._ramp: list[tuple[str, Style]] = []
        self._values: tuple[tuple[float | None, ...], ...] = ()
        self._row_labels: tuple[str, ...] = ()
        self._column_labels: tuple[str, ...] = ()
        self._notes: tuple[tuple[str, ...], ...] = ()
        self._columns = 0
        self._cursor: tuple[int, int] | None = None
        self._top = 0
        self._lines: list[Strip] = []
        self._lines_for: tuple[int, int, int] | None = None
        self._origin = (0, 0, 1, 0)
        """First row, first column, cells a column and rows on the screen, as painted."""

    @property
    def cursor_cell(self) -> HeatCell | None:
        """The cell under the cursor, or None."""
        if self._cursor is None:
            return None
        row, column = self._cursor
        return HeatCell(
            row,
            column,
            _at(self._row_labels, row, ""),
            _at(self._column_labels, column, ""),
            self._value(row, column),
            _at(_at(self._notes, row, ()), column, ""),
        )

    def set_data(
        self,
        values: Sequence[Sequence[float | None]],
        row_labels: Sequence[str] = (),
        column_labels: Sequence[str] = (),
        notes: Sequence[Sequence[str]] = (),
    ) -> None:
        """Replace everything; ``values[row][column]``, row 0 at the top. Rows may differ in length: what is missing is
        unknown. NaN and infinity are unknown. Does nothing when all is as before."""
        fresh = (
            tuple(
                tuple(value if value is not None and math.isfinite(value) else None for value in row) for row in values
            ),
            tuple(self._safe(label) for label in row_labels),
            tuple(self._safe(label) for label in column_labels),
            tuple(tuple(self._safe(note) for note in row) for row in notes),
        )
        before = (self._values, self._row_labels, self._column_labels, self._notes)
        if fresh == before:
            return
        read = self.cursor_cell
        self._values, self._row_labels, self._column_labels, self._notes = fresh
        self._columns = max((len(row) for row in self._values), default=0)
        if read is not None:
            row = _same(read.row, read.row_label, self._row_labels, len(self._values))
            column = _same(read.column, read.column_label, self._column_labels, self._columns)
            self._cursor = None if row is None or column is None else (row, column)
        if read != self.cursor_cell:
            self.post_message(self.CursorMoved(self, self.cursor_cell))
        self._changed()

    def set_empty(self, text: str) -> None:
        """The sentence shown while there are no data."""
        if text != self._empty:
            self._empty = text
            self._changed()

    def _safe(self, text: str) -> str:
        return fmt.safe_text(text, 60, ascii_only=self._ascii)

    def _value(self, row: int, column: int) -> float | None:
        return _at(self._values[row], column, None)

    def _changed(self) -> None:
        self._lines_for = None
        self.refresh()

    # Cursor

    def move_to(self, row: int, column: int) -> None:
        """Put the cursor on a cell, held at the edges. Does nothing without data."""
        if not self._columns:
            return
        self._cursor = (max(0, min(len(self._values) - 1, row)), max(0, min(self._columns - 1, column)))
        self.post_message(self.CursorMoved(self, self.cursor_cell))
        self._changed()

    def action_move(self, rows: int, columns: int) -> None:
        if self._cursor is None:
            # The first press shows the cursor, on the newest column.
            self.move_to(self._top, self._columns - 1)
        else:
            self.move_to(self._cursor[0] + rows, self._cursor[1] + columns)

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None or self._lines_for is None:
            return
        event.stop()
        top, left, cells, rows = self._origin
        x = offset.x - self._labels()
        if x >= 0 and offset.y < rows and left + x // cells < self._columns:
            self.move_to(top + offset.y, left + x // cells)

    # Painting

    def render_line(self, y: int) -> Strip:
        size = self.size
        key = (size.width, size.height, self._palette.generation)
        if key != self._lines_for:
            self._ramp = self._make_ramp()
            self._lines = self._draw(size.width, size.height)
            self._lines_for = key
        return self._lines[y] if y < len(self._lines) else Strip.blank(size.width, self._palette.base)

    def _labels(self) -> int:
        return self._label_width + 1 if self._row_labels and self.size.width > 2 * self._label_width else 1

    def _make_ramp(self) -> list[tuple[str, Style]]:
        """For each step what a cell shows and how."""
        app = self.app
        shades = self._glyphs.shades
        if self._ascii or app.no_color or app.native_ansi_color or app.console.color_system in (None, "standard"):
            hot = self._palette.get("accent")
            last = len(shades) - 1
            return [(shades[round(step * last / (self._steps - 1))], hot) for step in range(self._steps)]
        cold = self.get_component_styles("heatmap--cold").background
        hot_color = self.get_component_styles("heatmap--hot").background
        return [
            (" ", Style(bgcolor=cold.blend(hot_color, step / (self._steps - 1)).rich_color))
            for step in range(self._steps)
        ]

    def _step(self, value: float, low: float, high: float) -> int:
        if high <= low:
            return 0 if value <= 0 else self._steps - 1
        # Halves keep the difference of two huge numbers finite.
        share = (value / 2 - low / 2) / (high / 2 - low / 2)
        return max(0, min(self._steps - 1, int(share * (self._steps - 1) + 0.5)))

    def _draw(self, width: int, height: int) -> list[Strip]:
        base, muted = self._palette.base, self._palette.get("muted")
        known = [value for row in self._values for value in row if value is not None]
        labels = self._labels()
        plot = width - labels
        if not known or plot < 1:
            text = fmt.safe_text(self._empty, max(0, width - 1), ascii_only=self._ascii)
            return [Strip([Segment(f" {text}", muted)]).adjust_cell_length(width, base)]
        low = min(known) if self._fixed[0] is None else self._fixed[0]
        high = max(known) if self._fixed[1] is None else self._fixed[1]
        reading = height >= 2
        scale = bool(self._column_labels) and height >= 4
        rows = min(len(self._values), height - reading - scale)
        cells = max(1, plot // self._columns)
        shown = min(self._columns, plot)
        left = self._columns - shown
        if self._cursor is not None:
            row, column = self._cursor
            left = min(left, column)
            self._top = max(min(self._top, row), row - rows + 1)
        self._top = max(0, min(self._top, len(self._values) - rows))
        self._origin = (self._top, left, cells, rows)
        strips = [
            self._row_strip(row, left, shown, cells, labels, low, high, width)
            for row in range(self._top, self._top + rows)
        ]
        if scale:
            strips.append(self._scale_strip(left, shown, cells, labels, width))
        if reading:
            strips += [Strip.blank(width, base)] * (height - 1 - len(strips))
            strips.append(self._reading_strip(low, high, width))
        return strips

    def _row_strip(
        self, row: int, left: int, shown: int, cells: int, labels: int, low: float, high: float, width: int
    ) -> Strip:
        base, muted = self._palette.base, self._palette.get("muted")
        here = self._cursor is not None and self._cursor[0] == row
        label = fit(_at(self._row_labels, row, ""), labels - 1, "right", self._glyphs.ellipsis)
        sign = self._glyphs.cursor if here else " "
        segments = [Segment(label + sign, self._palette.get("accent") if here else muted)]
        run, run_step = 0, -2
        for column in range(left, left + shown):
            value = self._value(row, column)
            step = -1 if value is None else self._step(value, low, high)
            if here and self._cursor == (row, column):
                self._flush(segments, run, run_step)
                char, style = self._cell(step)
                segments.append(Segment((char if step < 0 or char != " " else "+") * cells, style + _REVERSE))
                run, run_step = 0, -2
            elif step == run_step:
                run += cells
            else:
                self._flush(segments, run, run_step)
                run, run_step = cells, step
        self._flush(segments, run, run_step)
        return Strip(segments).adjust_cell_length(width, base)

    def _cell(self, step: int) -> tuple[str, Style]:
        return self._ramp[step] if step >= 0 else ("?" if self._ascii else "·", self._palette.get("muted"))

    def _flush(self, segments: list[Segment], run: int, step: int) -> None:
        if run:
            char, style = self._cell(step)
            segments.append(Segment(char * run, style))

    def _scale_strip(self, left: int, shown: int, cells: int, labels: int, width: int) -> Strip:
        row, free = [" "] * (shown * cells), 0
        for column in range(left, left + shown):
            text = _at(self._column_labels, column, "")
            start = min((column - left) * cells, len(row) - len(text))
            if text.isascii() and text and start >= free:
                row[start : start + len(text)] = text
                free = start + len(text) + 1
        text = " " * labels + "".join(row)
        return Strip([Segment(text, self._palette.get("muted"))]).adjust_cell_length(width, self._palette.base)

    def _reading_strip(self, low: float, high: float, width: int) -> Strip:
        cell = self.cursor_cell
        if cell is None:
            text = f"{self._format(low)} to {self._format(high)}; arrows read a cell"
            style = self._palette.get("muted")
        else:
            parts = (cell.row_label, cell.column_label, self._format(cell.value), cell.note)
            text, style = "  ".join(part for part in parts if part), self._palette.get("bright")
        text = fmt.safe_text(text, max(0, width - 2), ascii_only=self._ascii)
        return Strip([Segment(f" {text}", style)]).adjust_cell_length(width, self._palette.base)


_REVERSE = Style(reverse=True, bold=True)


T = TypeVar("T")


def _at(items: Sequence[T], index: int, default: T) -> T:
    return items[index] if index < len(items) else default


def _same(index: int, label: str, labels: Sequence[str], count: int) -> int | None:
    """Where ``label`` is now; without labels the same index, as far as it exists."""
    if label:
        return labels.index(label) if label in labels[:count] else None
    return index if index < count else None
