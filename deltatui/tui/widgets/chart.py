"""Lines over time that read without a legend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from textual.strip import Strip
from textual.widget import Widget

from deltatui.tui import fmt
from deltatui.tui.widgets.braille import Canvas, sample
from deltatui.tui.widgets.glyphs import fit, width_of
from deltatui.tui.widgets.palette import STYLE_NAMES, Painted, StyleName, component_css

MIN_PLOT = 8
TINY, HUGE = 1e-90, 1e90
"""Where the arithmetic of a scale would under- or overflow."""


@dataclass(frozen=True, slots=True)
class Series:
    """``values`` are evenly spaced in time, oldest first. None is a gap, and so are NaN, infinity and anything
    from 1e90 on. ``area`` fills to zero."""

    name: str
    values: Sequence[float | None]
    style: StyleName = "accent"
    area: bool = False


class BrailleChart(Painted, Widget):
    """All series share the time axis and the scale. The first is drawn over the others; the second is dashed, the third
    dotted. The newest value of each stands at the line's end (``n/a`` when it is a gap), with the name before it
    when there are several. Zero is drawn whenever it is in range.

    ``label_width`` and ``value_width`` are fixed so that the plot does not jump. On a narrow widget the values go
    first, then the labels.
    """

    DEFAULT_CSS = """
    BrailleChart { height: 1fr; width: 1fr; }
    BrailleChart > .braillechart--axis { color: $text-muted; }
    BrailleChart > .braillechart--zero { color: $text-muted; }
    """ + component_css("BrailleChart")
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "braillechart--axis",
        "braillechart--zero",
        *(f"braillechart--{name}" for name in STYLE_NAMES),
    }

    def __init__(
        self,
        *,
        formatter: Callable[[float | None], str] = fmt.compact,
        label_width: int = 7,
        value_width: int = 8,
        include_zero: bool = False,
        empty: str = "no data",
        ascii_only: bool = False,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._format = formatter
        self._label_width = label_width
        self._value_width = value_width
        self._include_zero = include_zero
        self._empty = empty
        self._paint_with("braillechart", ascii_only=ascii_only)
        self._series: tuple[Series, ...] = ()
        self._x_labels: tuple[tuple[float, str], ...] = ()
        self._lines: list[Strip] = []
        self._lines_for: tuple[int, int, int] | None = None

    def set_series(self, series: Sequence[Series], x_labels: Sequence[tuple[float, str]] = ()) -> None:
        """``x_labels``: position from 0 (left) to 1 (right) and text. Does nothing when all is as before."""
        known = tuple(
            Series(
                fmt.safe_text(one.name, 40, ascii_only=self._ascii),
                tuple(value if value is not None and abs(value) < HUGE else None for value in one.values),
                one.style,
                one.area,
            )
            for one in series
        )
        labels = tuple((at, fmt.safe_text(text, 40, ascii_only=self._ascii)) for at, text in x_labels)
        if (known, labels) != (self._series, self._x_labels):
            self._series, self._x_labels = known, labels
            self._changed()

    def set_empty(self, text: str) -> None:
        """The sentence shown while no series has a value."""
        if text != self._empty:
            self._empty = text
            self._changed()

    def _changed(self) -> None:
        self._lines_for = None
        self.refresh()

    def render_line(self, y: int) -> Strip:
        size = self.size
        key = (size.width, size.height, self._palette.generation)
        if key != self._lines_for:
            self._lines = self._draw(size.width, size.height)
            self._lines_for = key
        return self._lines[y] if y < len(self._lines) else Strip.blank(size.width, self._palette.base)

    def _range(self) -> tuple[float, float] | None:
        """Lowest and highest value, apart from each other; None without a value."""
        known = [value for one in self._series for value in one.values if value is not None]
        if not known:
            return None
        low, high = min(known), max(known)
        if self._include_zero or any(one.area for one in self._series):
            low, high = min(low, 0.0), max(high, 0.0)
        largest = max(abs(low), abs(high))
        if high - low <= max(1e-12 * largest, TINY):
            room = largest * 0.01 if largest > TINY else 1.0
            low, high = low - room, high + room
        return low, high

    def _draw(self, width: int, height: int) -> list[Strip]:
        limits = self._range()
        base = self._palette.base
        if limits is None:
            text = fmt.safe_text(self._empty, max(0, width - 1), ascii_only=self._ascii)
            return [Strip([Segment(f" {text}", self._palette.get("muted"))]).adjust_cell_length(width, base)]
        low, high = limits
        labels, values = self._label_width, self._value_width
        if width - labels - values - 2 < MIN_PLOT:
            values = 0
        if width - labels - values - 2 < MIN_PLOT:
            labels = 0
        columns = width - values - (1 if values else 0) - (labels + 1 if labels else 0)
        rows = height - (1 if self._x_labels and height >= 4 else 0)
        if columns < 1 or rows < 1:
            return []
        canvas = Canvas(columns, rows, ascii_only=self._ascii)
        for index in range(len(self._series) - 1, -1, -1):
            one = self._series[index]
            fill = min(max(0.0, low), high) if one.area else None
            canvas.draw(sample(one.values, canvas.dots_x), low, high, index, fill_to=fill)
        ends = self._ends(low, high, rows)
        ticks = self._ticks(low, high, rows)
        zero_row = self._row_of(0.0, low, high, rows) if low <= 0.0 <= high else None
        strips = [
            self._plot_strip(canvas.row(row), row == zero_row, ticks.get(row), ends.get(row), labels, values, width)
            for row in range(rows)
        ]
        if rows < height:
            strips.append(self._x_strip(columns, labels, width))
        return strips

    @staticmethod
    def _row_of(value: float, low: float, high: float, rows: int) -> int:
        dots = rows * 4 - 1
        return max(0, min(rows - 1, int((high - value) / (high - low) * dots + 0.5) // 4))

    def _ticks(self, low: float, high: float, rows: int) -> dict[int, float]:
        """Row -> value: both ends, a middle where there is room, and zero, which beats a neighbour."""
        ticks = {0: high}
        if rows > 1:
            ticks[rows - 1] = low
        if rows >= 7:
            ticks[rows // 2] = high - (high - low) * (rows // 2 * 4 + 1.5) / (rows * 4 - 1)
        if low <= 0.0 <= high:
            zero = self._row_of(0.0, low, high, rows)
            if zero not in (0, rows - 1):
                for near in (zero - 1, zero + 1):
                    if near not in (0, rows - 1):
                        ticks.pop(near, None)
            ticks[zero] = 0.0
        return ticks

    def _ends(self, low: float, high: float, rows: int) -> dict[int, tuple[str, str, StyleName]]:
        """Row -> name, newest value and style, each series on a row of its own."""
        several = len(self._series) > 1
        wanted: list[tuple[int, str, str, StyleName]] = []
        for one in self._series:
            known = [value for value in reversed(one.values) if value is not None]
            row = self._row_of(known[0], low, high, rows) if known else 0
            text = self._format(one.values[-1]) if one.values and one.values[-1] is not None else fmt.NA
            wanted.append((row, one.name if several else "", text, one.style))
        # Names that meet move apart: down in their order, then back up from the bottom.
        wanted = sorted(wanted, key=lambda end: end[0])[:rows]
        places = [end[0] for end in wanted]
        for index in range(1, len(places)):
            places[index] = max(places[index], places[index - 1] + 1)
        ceiling = rows
        for index in range(len(places) - 1, -1, -1):
            places[index] = ceiling = min(places[index], ceiling - 1)
        return {place: end[1:] for place, end in zip(places, wanted, strict=True)}

    def _number(self, value: float, width: int) -> str:
        text = fmt.safe_text(self._format(value), ascii_only=self._ascii)
        if width_of(text) > width:
            # A cut number would be a wrong number.
            text = fmt.compact(value)
        return fit(text, width, "right", self._glyphs.ellipsis)

    def _plot_strip(
        self,
        runs: list[tuple[str, int]],
        zero: bool,
        tick: float | None,
        end: tuple[str, str, StyleName] | None,
        labels: int,
        values: int,
        width: int,
    ) -> Strip:
        axis = self._palette.get("axis")
        segments: list[Segment] = []
        if labels:
            if tick is None:
                segments.append(Segment(" " * labels + ("+" if self._ascii and zero else self._glyphs.line), axis))
            else:
                sign = self._glyphs.axis_zero if zero else self._glyphs.axis
                segments.append(Segment(self._number(tick, labels) + sign, axis))
        for text, owner in runs:
            if owner >= 0:
                segments.append(Segment(text, self._palette.get(self._series[owner].style)))
            elif zero:
                segments.append(Segment(self._glyphs.horizontal * len(text), self._palette.get("zero")))
            else:
                segments.append(Segment(text, self._palette.base))
        if values and end is not None:
            name, text, style = end
            text = fmt.safe_text(text, ascii_only=self._ascii)
            room = values - width_of(text)
            if room < 0:
                text = self._glyphs.ellipsis * values
            elif name and room > 1:
                text = fit(name, min(width_of(name), room - 1), "left", self._glyphs.ellipsis) + " " + text
            segments.append(Segment(" " + text, self._palette.get(style)))
        return Strip(segments).adjust_cell_length(width, self._palette.base)

    def _x_strip(self, columns: int, labels: int, width: int) -> Strip:
        row = [" "] * columns
        free = 0
        for at, text in sorted(self._x_labels):
            length = width_of(text)
            if length != len(text) or length > columns:
                continue
            start = max(0, min(columns - length, round(at * (columns - 1)) - (length // 2 if 0 < at < 1 else 0)))
            if at >= 1:
                start = columns - length
            if start >= free:
                row[start : start + length] = text
                free = start + length + 1
        lead = " " * labels + self._glyphs.corner if labels else ""
        return Strip([Segment(lead + "".join(row), self._palette.get("axis"))]).adjust_cell_length(
            width, self._palette.base
        )
