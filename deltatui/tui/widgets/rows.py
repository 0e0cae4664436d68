"""Keyed rows without a screen: order, filter, cursor and change marks.

The cursor is a key that the user chose. It is shown where that row is, wherever sorting puts it, and nowhere when the
row is gone or filtered out; no other row takes its place until the user moves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from deltatui.tui.fmt import safe_text
from deltatui.tui.widgets.glyphs import Align
from deltatui.tui.widgets.palette import StyleName

MAX_CELL = 200
FREEZE_S = 1.5
MARK_S = 1.0

Mark = Literal["up", "down", "changed"]


@dataclass(frozen=True, slots=True)
class Column:
    """``width`` is fixed, in cells. Where space is short the columns with the largest ``priority`` are left out;
    ``marks=False`` is for columns that always change (ages)."""

    id: str
    title: str
    width: int
    align: Align = "left"
    priority: int = 0
    marks: bool = True


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    style_name: StyleName = ""


@dataclass(frozen=True, slots=True)
class Row:
    """``cells`` and ``sort`` by column id; a column without a cell stays blank. A column without a sort value sorts by
    its text; None and NaN sort last in both directions."""

    key: str
    cells: Mapping[str, Cell | str]
    sort: Mapping[str, float | str | None] = field(default_factory=dict)


@dataclass(slots=True)
class Held:
    """A row as it is kept: safe texts, and the marks of cells that changed with the moment each ends."""

    row: Row
    cells: dict[str, Cell]
    marks: dict[str, tuple[Mark, float]]


def fit_columns(columns: Sequence[Column], width: int) -> tuple[Column, ...]:
    """The columns that fit into ``width`` cells, each with one cell for its mark. At least one stays."""
    kept = list(columns)
    while len(kept) > 1 and sum(column.width + 1 for column in kept) > width:
        highest = max(column.priority for column in kept)
        index = max(i for i, column in enumerate(kept) if column.priority == highest)
        del kept[index]
    return tuple(kept)


class RowModel:
    """``dirty`` collects the keys whose picture changed and ``reordered`` whether the order did; the painter clears
    them. Raises ValueError for two rows or two columns of one name."""

    def __init__(self, columns: Sequence[Column], clock: Callable[[], float], *, ascii_only: bool = False) -> None:
        self.columns = tuple(columns)
        self._by_id = {column.id: column for column in columns}
        if not columns or len(self._by_id) != len(columns):
            raise ValueError("a grid needs columns, each with its own id")
        self._clock = clock
        self._ascii = ascii_only
        self._held: dict[str, Held] = {}
        self._order: list[str] = []
        self._index: dict[str, int] = {}
        self.view: list[str] = []
        self._chosen: str | None = None
        self._last_index = 0
        self._moved_at = -math.inf
        self._freeze = False
        self._pending = False
        self._marked: set[str] = set()
        self.sort_column: str | None = None
        self.descending = False
        self.filter_text = ""
        self.dirty: set[str] = set()
        self.reordered = False

    # What is there

    @property
    def total(self) -> int:
        return len(self._held)

    @property
    def cursor_key(self) -> str | None:
        return self._chosen if self._chosen in self._index else None

    @property
    def lost_key(self) -> str | None:
        return None if self._chosen in self._index else self._chosen

    @property
    def cursor_index(self) -> int | None:
        return None if self._chosen is None else self._index.get(self._chosen)

    def held(self, key: str) -> Held:
        return self._held[key]

    def has(self, key: str) -> bool:
        return key in self._held

    # Rows

    def set_rows(self, rows: Iterable[Row]) -> None:
        held: dict[str, Held] = {}
        now = self._clock()
        for row in rows:
            if row.key in held:
                raise ValueError(f"two rows have the key {row.key!r}; keys must differ")
            held[row.key] = self._merge(row, now)
        self._marked.intersection_update(held)
        self._held = held
        self._arrange()

    def update_row(self, row: Row) -> None:
        self._held[row.key] = self._merge(row, self._clock())
        self._arrange()

    def remove(self, key: str) -> None:
        if self._held.pop(key, None) is not None:
            self._marked.discard(key)
            self._arrange()

    def _merge(self, row: Row, now: float) -> Held:
        old = self._held.get(row.key)
        if old is not None and (old.row is row or old.row == row):
            return old
        cells: dict[str, Cell] = {}
        for column in self.columns:
            cell = row.cells.get(column.id, "")
            if isinstance(cell, str):
                cell = Cell(cell)
            text = safe_text(cell.text, MAX_CELL, ascii_only=self._ascii)
            cells[column.id] = cell if text is cell.text else Cell(text, cell.style_name)
        if old is None:
            self.dirty.add(row.key)
            return Held(row, cells, {})
        marks = old.marks
        for column in self.columns:
            if column.marks and cells[column.id].text != old.cells[column.id].text:
                marks[column.id] = (_direction(old.row.sort.get(column.id), row.sort.get(column.id)), now + MARK_S)
                self._marked.add(row.key)
        if cells != old.cells:
            self.dirty.add(row.key)
        return Held(row, cells, marks)

    def tick(self, now: float | None = None) -> None:
        """Ends marks whose time is over and sorts what the freeze held back."""
        now = self._clock() if now is None else now
        for key in tuple(self._marked):
            marks = self._held[key].marks
            ended = [column for column, (_, until) in marks.items() if until <= now]
            if ended:
                self.dirty.add(key)
                for column in ended:
                    del marks[column]
                if not marks:
                    self._marked.discard(key)
        if self._pending and not self._frozen(now):
            self._arrange(now=now)

    # Order

    @property
    def freeze(self) -> bool:
        return self._freeze

    @freeze.setter
    def freeze(self, freeze: bool) -> None:
        self._freeze = freeze
        if not freeze and self._pending:
            self._arrange()

    def sort_by(self, column_id: str | None, descending: bool = False) -> None:
        """The user's wish: done at once, unless ``freeze`` is set. Raises ValueError for an unknown column."""
        if column_id is not None and column_id not in self._by_id:
            raise ValueError(f"no column {column_id!r}; the columns are {', '.join(self._by_id)}")
        self.sort_column, self.descending = column_id, descending
        self._arrange(wish=True)

    def set_filter(self, text: str) -> None:
        if text != self.filter_text:
            self.filter_text = text
            self._arrange()

    def _frozen(self, now: float) -> bool:
        return self._freeze or now - self._moved_at < FREEZE_S

    def _arrange(self, *, now: float | None = None, wish: bool = False) -> None:
        held = self._held
        frozen = self._freeze or (not wish and self._frozen(self._clock() if now is None else now))
        if frozen:
            known = set(self._order)
            self._order = [key for key in self._order if key in held]
            self._order += [key for key in held if key not in known]
            self._pending = True
        else:
            self._order = self._sorted()
            self._pending = False
        view = self._order
        if self.filter_text:
            needle = self.filter_text.casefold()
            view = [key for key in view if any(needle in cell.text.casefold() for cell in held[key].cells.values())]
        if view != self.view:
            self.view = list(view)
            self._index = {key: index for index, key in enumerate(self.view)}
            self.reordered = True
        if self._chosen is None and self.view:
            self._chosen = self.view[0]
        self._last_index = self._index.get(self._chosen, self._last_index) if self._chosen else 0

    def _sorted(self) -> list[str]:
        column = self.sort_column
        if column is None:
            return list(self._held)
        known: list[tuple[tuple[int, float, str], str]] = []
        unknown: list[str] = []
        for key, held in self._held.items():
            value = held.row.sort.get(column, held.cells[column].text if column not in held.row.sort else None)
            if isinstance(value, str):
                known.append(((1, 0.0, value.casefold()), key))
            elif value is None or math.isnan(value):
                unknown.append(key)
            else:
                known.append(((0, float(value), ""), key))
        known.sort(key=lambda item: item[0], reverse=self.descending)
        return [key for _, key in known] + unknown

    # Cursor

    def choose(self, key: str) -> bool:
        """False (and nothing changes) when no visible row has this key."""
        if key not in self._index:
            return False
        self._moved_at = self._clock()
        self._chosen = key
        self._last_index = self._index[key]
        return True

    def move(self, delta: int) -> bool:
        """The cursor ``delta`` rows on, held at the ends. A lost cursor comes back beside where it was last."""
        if not self.view:
            return False
        index = self.cursor_index
        if index is None:
            index = self._last_index if delta > 0 else self._last_index - 1
        else:
            index += delta
        return self.choose(self.view[max(0, min(len(self.view) - 1, index))])


def _direction(old: float | str | None, new: float | str | None) -> Mark:
    if isinstance(old, (int, float)) and isinstance(new, (int, float)):
        if new > old:
            return "up"
        if new < old:
            return "down"
    return "changed"
