"""One number on a bar, with its limits and a word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from deltatui.tui import fmt
from deltatui.tui.widgets.glyphs import fit, width_of
from deltatui.tui.widgets.palette import STYLE_NAMES, Painted, StyleName, component_css


@dataclass(frozen=True, slots=True)
class Band:
    """Values up to and without ``below`` are called ``word``; None: no upper end."""

    below: float | None
    word: str
    style: StyleName


_NOTCH = Style(reverse=True)
HEALTH_BANDS = (Band(20, "critical", "bad"), Band(50, "warning", "warn"), Band(None, "safe", "good"))


def bar(fraction: float, width: int, eighths: str) -> str:
    """``fraction`` (0..1) of ``width`` cells, filled from the left. ``eighths`` runs from an empty to a full cell."""
    steps = len(eighths) - 1
    filled = int(max(0.0, min(1.0, fraction)) * width * steps + 0.5)
    whole, part = divmod(filled, steps)
    return (eighths[-1] * whole + (eighths[part] if part else "")).ljust(width)[:width]


class Gauge(Painted, Widget):
    """``   97 |######  | safe``: a bar of one line; from two lines up the ends and limits stand below it.

    ``set_value(None)`` shows ``n/a`` and the reason in the place of bar and word.
    """

    DEFAULT_CSS = "Gauge { height: 1; width: 1fr; }" + component_css("Gauge")
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"gauge--{name}" for name in STYLE_NAMES}

    def __init__(
        self,
        *,
        low: float = 0.0,
        high: float = 100.0,
        bands: Sequence[Band] = HEALTH_BANDS,
        formatter: Callable[[float | None], str] | None = None,
        value_width: int = 5,
        ascii_only: bool = False,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
    ) -> None:
        if not high > low:
            raise ValueError(f"a gauge's high must be above its low, they are {high} and {low}")
        if not bands or bands[-1].below is not None:
            raise ValueError("the last band of a gauge must have no upper end (below=None)")
        super().__init__(id=id, classes=classes)
        self._low = low
        self._high = high
        self._bands = tuple(bands)
        self._format = formatter or (lambda value: fmt.number(value, 0))
        self._value_width = value_width
        self._word_width = max(width_of(band.word) for band in self._bands)
        self._paint_with("gauge", ascii_only=ascii_only)
        self._value: float | None = None
        self._reason = ""

    @property
    def value(self) -> float | None:
        """None while unknown; never NaN or infinite."""
        return self._value

    @property
    def word(self) -> str:
        """The word of the band, or ``n/a``."""
        band = self._band()
        return fmt.NA if band is None else band.word

    def set_value(self, value: float | None, reason: str = "") -> None:
        """Show ``value``; None, NaN and infinity are unknown, ``reason`` says why."""
        if value is not None and fmt.number(value) == fmt.NA:
            value = None
        if (value, reason) != (self._value, self._reason):
            self._value, self._reason = value, reason
            self.refresh()

    def _band(self) -> Band | None:
        if self._value is None:
            return None
        for band in self._bands:
            if band.below is None or self._value < band.below:
                return band
        raise AssertionError("the last band has no upper end")

    def _limits(self, width: int) -> list[tuple[int, float]]:
        """Cell and value of each limit strictly inside the bar."""
        span = self._high - self._low
        return [
            (min(width - 1, int((band.below - self._low) / span * width)), band.below)
            for band in self._bands
            if band.below is not None and self._low < band.below < self._high
        ]

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        # "value |bar| word"
        bar_width = width - self._value_width - self._word_width - 4
        if bar_width < 4:
            bar_width = 0
        if y == 0:
            segments = self._value_line(width, bar_width)
        elif y == 1 and bar_width:
            segments = self._scale_line(bar_width)
        else:
            segments = []
        return Strip(segments).adjust_cell_length(width, self._palette.base)

    def _value_line(self, width: int, bar_width: int) -> list[Segment]:
        band = self._band()
        style = self._palette.get(band.style if band else "muted")
        text = fmt.safe_text(self._format(self._value), ascii_only=self._ascii) if band else fmt.NA
        segments = [Segment(fit(text, self._value_width, "right", self._glyphs.ellipsis) + " ", style)]
        if bar_width and self._value is not None:
            fraction = (self._value - self._low) / (self._high - self._low)
            cells = bar(fraction, bar_width, self._glyphs.eighths)
            muted = self._palette.get("muted")
            segments.append(Segment(self._glyphs.bar_left, muted))
            at = 0
            for cell, _ in self._limits(bar_width):
                # A notch in the full part, a line in the empty one; the one cell that is partly full stays.
                full = cells[cell] == self._glyphs.eighths[-1]
                if cell >= at and (full or cells[cell] == " "):
                    segments.append(Segment(cells[at:cell], style))
                    segments.append(Segment(self._glyphs.threshold, style + _NOTCH if full else muted))
                    at = cell + 1
            segments.append(Segment(cells[at:], style))
            segments.append(Segment(self._glyphs.bar_right + " ", muted))
        used = sum(segment.cell_length for segment in segments)
        word = band.word if band else fmt.safe_text(self._reason or "unknown", ascii_only=self._ascii)
        segments.append(Segment(fit(word, max(0, width - used), "left", self._glyphs.ellipsis), style))
        return [segment for segment in segments if segment.text]

    def _scale_line(self, bar_width: int) -> list[Segment]:
        row = [" "] * bar_width
        marks = [(0, self._low), *self._limits(bar_width), (bar_width - 1, self._high)]
        taken = -1
        for cell, value in marks:
            text = fmt.safe_text(self._format(value), ascii_only=self._ascii)
            start = min(cell, bar_width - width_of(text))
            if start > taken and text.isascii():
                row[start : start + len(text)] = text
                taken = start + len(text)
        return [Segment(" " * (self._value_width + 2) + "".join(row), self._palette.get("muted"))]
