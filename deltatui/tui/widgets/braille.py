"""Lines and areas as dots: 2 x 4 to a cell in braille, one to a cell in ASCII. Pure."""

from __future__ import annotations

from collections.abc import Sequence

Sampled = list[tuple[float, float, float, float] | None]
"""First, lowest, highest and last value of each column of dots; None is a gap."""

# Unicode's dot numbering: a bit for each (row, left or right).
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_ASCII = "*+ox"
# Which columns of dots a line uses, by its index: solid, dashed, dotted. Lines must differ without colour.
_DASHES = ((1,), (1, 1, 1, 1, 0, 0), (1, 0, 0))


def sample(values: Sequence[float | None], columns: int) -> Sampled:
    """Evenly spaced ``values`` on ``columns`` columns; a single value stands at the right end.

    With more values than columns each column keeps first, lowest, highest and last of its share, so no spike is lost
    (a gap narrower than a column is). With fewer, neighbours are joined by a straight line.
    """
    out: Sampled = [None] * columns
    count = len(values)
    if not count or columns < 1:
        return out
    if count >= columns:
        for column in range(columns):
            share = values[column * count // columns : (column + 1) * count // columns]
            known = [value for value in share if value is not None]
            if known:
                out[column] = (known[0], min(known), max(known), known[-1])
        return out
    scale = (columns - 1) / (count - 1) if count > 1 else 0.0
    places = [round(index * scale) for index in range(count)] if count > 1 else [columns - 1]
    for index, value in enumerate(values):
        if value is None:
            continue
        at = places[index]
        out[at] = (value, value, value, value)
        following = values[index + 1] if index + 1 < count else None
        if following is not None:
            slope = (following - value) / (places[index + 1] - at)
            for column in range(at + 1, places[index + 1]):
                between = value + slope * (column - at)
                out[column] = (between, between, between, between)
    return out


class Canvas:
    """``rows`` x ``columns`` cells. Line 0 is the front: draw it last."""

    def __init__(self, columns: int, rows: int, *, ascii_only: bool = False) -> None:
        self.columns = columns
        self.rows = rows
        self._ascii = ascii_only
        self.dots_x = columns if ascii_only else columns * 2
        self.dots_y = rows if ascii_only else rows * 4
        self._bits = [bytearray(columns) for _ in range(rows)]
        self._lines = [bytearray(columns) for _ in range(rows)]

    def _dots(self, x: int, top: int, bottom: int, line: int) -> None:
        if self._ascii:
            for y in range(top, bottom + 1):
                self._bits[y][x] = 1
                self._lines[y][x] = line
            return
        cell, side = x >> 1, x & 1
        for y in range(top, bottom + 1):
            row = y >> 2
            self._bits[row][cell] |= _BITS[y & 3][side]
            self._lines[row][cell] = line

    def draw(self, sampled: Sampled, low: float, high: float, line: int, *, fill_to: float | None = None) -> None:
        """One line, ``high`` at the top and ``low`` at the bottom; ``fill_to`` fills down or up to that value.
        ``high`` must be above ``low``; values beyond them are drawn on the edge."""
        scale = (self.dots_y - 1) / (high - low)
        last = self.dots_y - 1

        def to_y(value: float) -> int:
            return max(0, min(last, int((high - value) * scale + 0.5)))

        ground = None if fill_to is None else to_y(fill_to)
        dashes = _DASHES[min(line, len(_DASHES) - 1)] if ground is None else (1,)
        before: int | None = None
        for x, column in enumerate(sampled):
            if column is None:
                before = None
                continue
            first, lowest, highest, end = column
            if lowest == highest:
                top = bottom = to_y(first)
                begin = after = top
            else:
                top, bottom, begin, after = to_y(highest), to_y(lowest), to_y(first), to_y(end)
            if before is not None and abs(begin - before) > 1:
                joined = before + (1 if begin > before else -1)
                top, bottom = min(top, joined), max(bottom, joined)
            before = after
            if ground is not None:
                top, bottom = min(top, ground), max(bottom, ground)
            if dashes[x % len(dashes)]:
                self._dots(x, top, bottom, line)

    def row(self, index: int) -> list[tuple[str, int]]:
        """The cells of a row as runs: text and the line that owns it, -1 where nothing is drawn."""
        runs: list[tuple[str, int]] = []
        text, owner = "", -2
        for bits, line in zip(self._bits[index], self._lines[index], strict=True):
            of = line if bits else -1
            if not bits:
                char = " "
            elif self._ascii:
                char = _ASCII[line % len(_ASCII)]
            else:
                char = chr(0x2800 + bits)
            if of == owner:
                text += char
            else:
                if text:
                    runs.append((text, owner))
                text, owner = char, of
        if text:
            runs.append((text, owner))
        return runs
