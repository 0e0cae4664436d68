"""How one line of the log is drawn, and what the pane around it is told."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from rich.segment import Segment
from textual.strip import Strip

from deltatui.tui.fmt import safe_text
from deltatui.tui.widgets.glyphs import Glyphs
from deltatui.tui.widgets.logbuffer import INDENT, LEVELS, wrap
from deltatui.tui.widgets.palette import Palette, StyleName

_LEVEL_STYLES: tuple[StyleName, ...] = ("muted", "", "warn", "bad", "bad")
_LEVEL_CELLS = 9


@dataclass(frozen=True, slots=True)
class LogStatus:
    """What a pane's title tells. ``new`` counts lines that came since the view left the tail (and pass the filter).
    ``error`` is a sentence when the text given for filter or search is no regular expression; the old one holds."""

    follow: bool
    new: int
    shown: int
    total: int
    minimum: str
    filter: str
    search: str
    wrap: bool
    error: str = ""

    @property
    def text(self) -> str:
        """``follow  level INFO  filter -``, or ``+12 new  level INFO ...`` away from the tail."""
        parts = ["follow" if self.follow else f"+{self.new:,} new", f"level {self.minimum}"]
        parts.append(f"filter {safe_text(self.filter, 24) if self.filter else '-'}")
        if self.search:
            parts.append(f"search {safe_text(self.search, 24)}")
        if self.wrap:
            parts.append("wrap")
        if self.error:
            parts.append(self.error)
        return "  ".join(parts)


def draw_line(
    text: str,
    level_at: int,
    message_at: int,
    level: int,
    matches: list[tuple[int, int]],
    palette: Palette,
    ground: str,
    signs: Glyphs,
    width: int,
    room: int,
    part: int | None,
) -> Strip:
    """A record in ``width`` cells: one for the cursor sign, ``room`` for text. ``part`` is which of its wrapped lines,
    None cuts with an ellipsis. ``ground`` is ``cursor`` under the cursor, else empty."""
    plain, muted = palette.get("", ground), palette.get("muted", ground)
    # Where each style begins; the level's word and its colour say the same.
    starts = [
        (0, muted),
        (level_at, palette.get(_LEVEL_STYLES[level], ground)),
        (level_at + _LEVEL_CELLS, muted),
        (message_at, muted if level == LEVELS["DEBUG"] else plain),
    ]
    first, last, indent = 0, len(text), 0
    if part is not None:
        pieces = wrap(text, room)
        first, last = pieces[min(part, len(pieces) - 1)]
        indent = INDENT if part else 0
    cuts = sorted({first, last, *(at for at, _ in starts), *(edge for span in matches for edge in span)})
    sign = signs.cursor if ground and not part else " "
    segments = [Segment(sign + " " * indent, palette.get("accent", ground))]
    for start, end in pairwise(cuts):
        if start < first or end > last:
            continue
        if any(begin <= start < stop for begin, stop in matches):
            style = palette.get("match", ground)
        else:
            style = next(found for at, found in reversed(starts) if at <= start)
        segments.append(Segment(text[start:end], style))
    strip = Strip(segments)
    if strip.cell_length > room + 1:
        strip = Strip([*strip.crop(0, room), Segment(signs.ellipsis, plain)])
    return strip.adjust_cell_length(width, plain)
