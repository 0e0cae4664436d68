"""A ring of log records with a filtered, wrapped view on it; no screen."""

from __future__ import annotations

import re
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

from rich.cells import get_character_cell_size

from deltatui.tui.fmt import safe_text
from deltatui.tui.widgets.glyphs import width_of

MAX_MESSAGE = 2_000
"""Cells of one message that are shown and searched; more would let one line fill the screen."""
INDENT = 2
LEVELS = {"DEBUG": 0, "INFO": 1, "WARNING": 2, "ERROR": 3, "CRITICAL": 4}


class LogRecord(NamedTuple):
    """``level`` is one of LEVELS; ``time`` is text ready to show (``07:00:00``)."""

    sequence: int
    level: str
    tag: str
    message: str
    time: str


def rank(level: str) -> int:
    """A level that nobody knows counts as INFO: it is shown, and is no error."""
    return LEVELS.get(level, LEVELS["INFO"])


Matcher = Callable[[str], list[tuple[int, int]]]


def matcher(text: str, *, regex: bool) -> Matcher:
    """Finds all places of ``text``, case ignored, as (start, end). Raises re.error for a bad expression."""
    try:
        # A doubtful expression makes a warning, and a warning on stderr would be drawn over the screen.
        with warnings.catch_warnings(action="ignore"):
            pattern = re.compile(text if regex else re.escape(text), re.IGNORECASE)
    except (OverflowError, RecursionError) as fault:
        raise re.error(f"it is too large ({fault})") from None
    return lambda line: [found.span() for found in pattern.finditer(line) if found.end() > found.start()]


def wrap(text: str, width: int) -> list[tuple[int, int]]:
    """``text`` in pieces (start, end) of at most ``width`` cells, the following ones ``INDENT`` cells narrower.

    Breaks after a space where there is one in the second half of the line; never loses a character.
    """
    if width_of(text) <= width:
        return [(0, len(text))]
    narrow = max(2, width - INDENT)
    width = max(2, width)
    pieces: list[tuple[int, int]] = []
    start, room = 0, width
    while start < len(text):
        end = _reach(text, start, room)
        if end < len(text):
            space = text.rfind(" ", start + (end - start) // 2, end)
            if space >= 0:
                end = space + 1
        pieces.append((start, end))
        start, room = end, narrow
    return pieces


def _reach(text: str, start: int, room: int) -> int:
    if text.isascii():
        return min(len(text), start + room)
    used, end = 0, start
    while end < len(text):
        used += get_character_cell_size(text[end])
        if used > room:
            break
        end += 1
    return max(end, start + 1)


class LogBuffer:
    """Records are numbered from 0 in the order of arrival; ``view`` holds the numbers that pass level and filter.

    Rows count screen lines of the view from its first one; with ``wrap_width`` 0 every record takes one.
    """

    def __init__(self, capacity: int, *, ascii_only: bool = False) -> None:
        if capacity < 1:
            raise ValueError(f"a log needs room for at least one line, the capacity is {capacity}")
        self._capacity = capacity
        self._ascii = ascii_only
        self._records: list[LogRecord] = []
        self._first = 0
        self.view: list[int] = []
        self._starts: list[int] = []
        self._end = 0
        self.minimum = "DEBUG"
        self._filter: Matcher | None = None
        self.filter_text = ""
        self.wrap_width = 0

    @property
    def total(self) -> int:
        return len(self._records)

    @property
    def next_number(self) -> int:
        """The number that the next record gets."""
        return self._first + len(self._records)

    @property
    def rows(self) -> int:
        return self._end - self.base

    @property
    def base(self) -> int:
        """Number of the first row, counted from the first record ever seen since the view was last rebuilt."""
        return self._starts[0] if self._starts else self._end

    def record(self, number: int) -> LogRecord:
        """``number`` as it stands in ``view``."""
        return self._records[number - self._first]

    def line(self, number: int) -> tuple[str, int, int]:
        """The safe text of a record, and where its level and its message begin."""
        record = self.record(number)
        at = safe_text(record.time, 24, ascii_only=self._ascii)
        level = safe_text(record.level, 8, ascii_only=self._ascii)
        message = safe_text(record.message, MAX_MESSAGE, ascii_only=self._ascii)
        head = f"{at} " if at else ""
        tag = f"[{safe_text(record.tag, 24, ascii_only=self._ascii)}] " if record.tag else ""
        start = f"{head}{level:<8} {tag}"
        return start + message, len(head), len(start)

    def whole_line(self, number: int) -> str:
        """For the clipboard: the whole message, still free of control characters."""
        text, _, start = self.line(number)
        return text[:start] + safe_text(self.record(number).message, ascii_only=self._ascii)

    # Changes

    def append_many(self, records: Iterable[LogRecord]) -> None:
        """The oldest records make room."""
        fresh = list(records)
        number = self.next_number
        self._records += fresh
        overflow = len(self._records) - self._capacity
        if overflow > 0:
            del self._records[:overflow]
            self._first += overflow
            gone = bisect_left(self.view, self._first)
            del self.view[:gone]
            del self._starts[:gone]
        skipped = max(0, self._first - number)
        self._extend(number + skipped)

    def clear(self) -> None:
        self._first += len(self._records)
        self._records.clear()
        self.view.clear()
        self._starts.clear()

    def set_minimum(self, level: str) -> None:
        """Raises ValueError for a level that is none."""
        if level not in LEVELS:
            raise ValueError(f"no log level {level!r}; the levels are {', '.join(LEVELS)}")
        self.minimum = level
        self._rebuild()

    def set_filter(self, text: str, *, regex: bool) -> None:
        """Raises re.error for a bad expression; then the filter stays as it was."""
        self._filter = matcher(text, regex=regex) if text else None
        self.filter_text = text
        self._rebuild()

    def set_wrap_width(self, width: int) -> None:
        if width != self.wrap_width:
            self.wrap_width = width
            self._rebuild()

    def _rebuild(self) -> None:
        self.view.clear()
        self._starts.clear()
        self._end = 0
        self._extend(self._first)

    def _extend(self, number: int) -> None:
        minimum = LEVELS[self.minimum]
        for record in islice(self._records, number - self._first, None):
            if rank(record.level) >= minimum and (self._filter is None or self._filter(self.line(number)[0])):
                self.view.append(number)
                self._starts.append(self._end)
                self._end += len(wrap(self.line(number)[0], self.wrap_width)) if self.wrap_width else 1
            number += 1

    # Places

    def at_row(self, row: int) -> tuple[int, int] | None:
        """Which record stands in ``row`` of the view, and which of its lines."""
        absolute = self.base + row
        if row < 0 or absolute >= self._end:
            return None
        index = bisect_right(self._starts, absolute) - 1
        return self.view[index], absolute - self._starts[index]

    def row_of(self, index: int) -> int:
        """First row of the record at ``index`` of the view."""
        return self._starts[index] - self.base

    def height_of(self, index: int) -> int:
        end = self._starts[index + 1] if index + 1 < len(self._starts) else self._end
        return end - self._starts[index]

    def index_of(self, number: int) -> int:
        """Index in the view of record ``number``, or of the next one that is shown."""
        return bisect_left(self.view, number)

    def find(self, start: int, step: int, wanted: Callable[[int], bool]) -> int | None:
        """The first index from ``start`` on, stepping by ``step``, whose record number is wanted."""
        index = start
        while 0 <= index < len(self.view):
            if wanted(self.view[index]):
                return index
            index += step
        return None
