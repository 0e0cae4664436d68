"""Horizontal bars by price, the highest at the top, with the mark between them and one bucket read out in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.strip import Strip
from textual.widget import Widget

from deltatui.tui import fmt
from deltatui.tui.widgets.gauge import bar
from deltatui.tui.widgets.glyphs import fit
from deltatui.tui.widgets.palette import STYLE_NAMES, Painted, component_css

TAIL = 16
"""Cells for count and notional at the right."""


def price_text(price: float | None) -> str:
    """Cents are fine enough for a bucket from ten dollars on."""
    return fmt.price(price, 2 if price is not None and abs(price) >= 10 else None)


@dataclass(frozen=True, slots=True)
class PriceBar:
    """One bucket: ``price`` is its middle, ``value`` (at least 0) the length of its bar."""

    price: float
    count: int
    value: float


class PriceBars(Painted, Widget, can_focus=True):
    """The cursor holds a price, not a place: after :meth:`set_bars` it stands on the same bucket, or nowhere. The last
    line reads the bucket under the cursor; without one, the totals.

    More buckets than lines: the part around the cursor, else around the mark, is shown.
    """

    DEFAULT_CSS = """
    PriceBars { height: 1fr; width: 1fr; }
    PriceBars > .pricebars--cursor { background: $foreground 10%; }
    PriceBars:focus > .pricebars--cursor { background: $accent 30%; }
    """ + component_css("PriceBars")
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "pricebars--cursor",
        *(f"pricebars--{name}" for name in STYLE_NAMES),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False, id="row-up"),
        Binding("down,j", "move(1)", "down", show=False, id="row-down"),
        Binding("pageup", "move(-5)", "page up", show=False, id="page-up"),
        Binding("pagedown", "move(5)", "page down", show=False, id="page-down"),
        Binding("home", "move(-100000)", "highest price", show=False, id="first-row"),
        Binding("end", "move(100000)", "lowest price", show=False, id="last-row"),
    ]

    def __init__(
        self,
        *,
        formatter: Callable[[float | None], str] = fmt.compact_usd,
        label_width: int = 9,
        empty: str = "no data",
        ascii_only: bool = False,
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(id=id)
        self._format = formatter
        self._label_width = label_width
        self._empty = empty
        self._paint_with("pricebars", ascii_only=ascii_only)
        self._bars: tuple[PriceBar, ...] = ()
        self._mark: float | None = None
        self._cursor: float | None = None
        self._top = 0
        self._lines: list[Strip] = []
        self._painted: list[int | None] = []
        self._lines_for: tuple[int, int, int] | None = None

    def set_bars(self, bars: Sequence[PriceBar], mark: float | None) -> None:
        """Replace all buckets; ``mark`` is the price that the line between them shows."""
        fresh = tuple(sorted(bars, key=lambda one: -one.price))
        if (fresh, mark) == (self._bars, self._mark):
            return
        self._bars, self._mark = fresh, mark
        if self._cursor is not None and all(one.price != self._cursor for one in fresh):
            self._cursor = None
        self._changed()

    def set_empty(self, text: str) -> None:
        """The sentence shown while there are no buckets."""
        if text != self._empty:
            self._empty = text
            self._changed()

    @property
    def cursor_bar(self) -> PriceBar | None:
        """The bucket under the cursor, or None."""
        return next((one for one in self._bars if one.price == self._cursor), None)

    def _changed(self) -> None:
        self._lines_for = None
        self.refresh()

    def action_move(self, rows: int) -> None:
        if not self._bars:
            return
        here = self._index()
        if here is None:
            # The first press shows the cursor, on the bucket next to the mark.
            here = min(range(len(self._bars)), key=lambda i: abs(self._bars[i].price - (self._mark or 0.0)))
        else:
            here = max(0, min(len(self._bars) - 1, here + rows))
        self._cursor = self._bars[here].price
        self._changed()

    def _index(self) -> int | None:
        return next((i for i, one in enumerate(self._bars) if one.price == self._cursor), None)

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None or offset.y >= len(self._painted):
            return
        event.stop()
        index = self._painted[offset.y]
        if index is not None and index < len(self._bars):
            self._cursor = self._bars[index].price
            self._changed()

    # Painting

    def render_line(self, y: int) -> Strip:
        size = self.size
        key = (size.width, size.height, self._palette.generation)
        if key != self._lines_for:
            self._lines = self._draw(size.width, size.height)
            self._lines_for = key
        return self._lines[y] if y < len(self._lines) else Strip.blank(size.width, self._palette.base)

    def _draw(self, width: int, height: int) -> list[Strip]:
        self._painted = []
        if not self._bars:
            text = fmt.safe_text(self._empty, max(0, width - 1), ascii_only=self._ascii)
            return [self._strip([(f" {text}", "muted")], width)]
        # None is the line of the mark, between the bucket above it and the one below.
        order: list[int | None] = list(range(len(self._bars)))
        if self._mark is not None:
            order.insert(sum(one.price > self._mark for one in self._bars), None)
        rows = max(1, height - 1)
        focus = self._index() if self._index() is not None else None
        at = order.index(focus) if focus is not None or None in order else 0
        if focus is not None:
            self._top = max(min(self._top, at), at - rows + 1)
        else:
            self._top = at - rows // 2
        self._top = max(0, min(self._top, len(order) - rows))
        self._painted = order[self._top : self._top + rows]
        largest = max(one.value for one in self._bars)
        lines = [self._bar_strip(index, largest, width) for index in self._painted]
        if height > 1:
            lines += [Strip.blank(width, self._palette.base)] * (height - 1 - len(lines))
            lines.append(self._reading(width))
        return lines

    def _bar_strip(self, index: int | None, largest: float, width: int) -> Strip:
        labels = self._label_width
        if index is None:
            text = fit(price_text(self._mark), labels, "right")
            rest = max(0, width - labels - 7)
            return self._strip(
                [(text, "bright"), (" mark ", "accent"), (self._glyphs.horizontal * rest, "muted")], width
            )
        one = self._bars[index]
        here = one.price == self._cursor
        room = max(1, width - labels - 2 - TAIL)
        share = one.value / largest if largest > 0 else 0.0
        drawn = bar(share, room, self._glyphs.eighths)
        if not drawn.strip() and one.value > 0:
            drawn = self._glyphs.eighths[1] + drawn[1:]
        ground = "cursor" if here else ""
        sign = self._glyphs.cursor if here else " "
        text = fit(price_text(one.price), labels, "right", self._glyphs.ellipsis)
        tail = fit(f"{one.count:,}", 6, "right", self._glyphs.ellipsis) + fit(
            self._format(one.value), TAIL - 7, "right", self._glyphs.ellipsis
        )
        above = self._mark is not None and one.price > self._mark
        return self._strip(
            [(text, ""), (sign, "accent"), (drawn, "accent" if above else "warn"), (f" {tail}", "bright")],
            width,
            ground,
        )

    def _reading(self, width: int) -> Strip:
        one = self.cursor_bar
        if one is not None:
            text = f"{price_text(one.price)}   {one.count:,} liquidations   {self._format(one.value)}"
            return self._strip(
                [(" " + fmt.safe_text(text, max(0, width - 2), ascii_only=self._ascii), "bright")], width
            )
        count, value = sum(one.count for one in self._bars), sum(one.value for one in self._bars)
        text = f"{count:,} in all, {self._format(value)}; arrows read one"
        return self._strip([(" " + fmt.safe_text(text, max(0, width - 2), ascii_only=self._ascii), "muted")], width)

    def _strip(self, pieces: Sequence[tuple[str, str]], width: int, ground: str = "") -> Strip:
        segments = [Segment(text, self._palette.get(style, ground)) for text, style in pieces if text]
        return Strip(segments).adjust_cell_length(
            width, self._palette.get("", ground) if ground else self._palette.base
        )
