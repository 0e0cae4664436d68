"""Pane 6: six telemetry cards, each with its verdict in a word, and why it has none."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from deltatui.tui import fmt
from deltatui.tui.enabled import asking
from deltatui.tui.panes.base import NO_MARKET, Body, Pane, Part, bright, faint, label, width, wrapped
from deltatui.tui.widgets.glyphs import fit, width_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from deltatui.domain.snapshot import CardView, FeedView
    from deltatui.tui.store import Shown

STATUS: dict[str, tuple[str, str, str]] = {
    "good": ("✓", "$up", "good"),
    "warning": ("▲", "bold $warn", "warning"),
    "bad": ("✕", "bold $down", "bad"),
    "neutral": ("─", "$label", "neutral"),
    "unknown": ("?", "$faint", "unknown"),
}
"""Mark, style and word of each status."""


def card_value(card: CardView) -> str:
    """``1.2 bps``, ``$412K``, ``-9.9 %``, ``3``; a basis keeps its sign."""
    if card.value is None or not math.isfinite(card.value):
        return fmt.NA
    value, unit = float(card.value), card.unit
    if unit == "usd":
        return fmt.compact_usd(value)
    if unit == "%":
        return fmt.apr(value)
    if unit == "bps":
        return f"{fmt.signed(value, 1) if card.id == 'basis' else fmt.number(value, 1)} bps"
    text = fmt.compact(value) if abs(value) >= 1000 or not value.is_integer() else fmt.number(value, 0)
    return f"{text} {fmt.safe_text(unit, 8)}".rstrip()


def status_parts(card: CardView) -> list[Part]:
    """Mark and word; for an unknown one its reason in the word's place."""
    mark, style, word = STATUS.get(card.status, STATUS["unknown"])
    if card.status == "unknown":
        word = fmt.safe_text(card.reason, 60) or word
    return [Part(f"{mark} ", style), Part(word, style)]


def cut(parts: Sequence[Part], cells: int) -> list[Part]:
    """``parts`` in exactly ``cells`` cells."""
    out: list[Part] = []
    room = cells
    for part in parts:
        text = part.text if width_of(part.text) <= room else fit(part.text, room)
        if text:
            out.append(Part(text, part.style))
        room -= width_of(text)
    return [*out, Part(" " * room)] if room > 0 else out


def card_block(card: CardView, cells: int) -> list[list[Part]]:
    """Title, value and status on three lines of ``cells``."""
    value = card_value(card)
    return [
        cut([label(fmt.safe_text(card.title, 20))], cells),
        cut([bright(value) if card.value is not None else faint(value)], cells),
        cut(status_parts(card), cells),
    ]


def card_line(card: CardView, cells: int, *, with_age: bool = False) -> list[Part]:
    """One card on one line."""
    title, value = fmt.safe_text(card.title, 20), card_value(card)
    line = [
        label(fit(title, 11)),
        Part(fit(value, 9, "right"), "$bright" if card.value is not None else "$faint"),
        Part(" "),
        *status_parts(card),
    ]
    if with_age and card.age_s is not None:
        line.append(faint(f"   {fmt.age(card.age_s)} old"))
    return cut(line, cells) if width(line) > cells else line


def market_lines(cards: Sequence[CardView], cells: int, rows: int) -> list[list[Part]]:
    """Cards three abreast where all are known and a block of three lines fits, else one a line with its reason."""
    if not cards:
        return [[faint("this engine sends no telemetry")]]
    each = (cells - 4) // 3
    if cells < 34 or rows < 6 or any(card.status == "unknown" for card in cards):
        return [card_line(card, cells) for card in cards[: max(1, rows)]]
    lines: list[list[Part]] = []
    bands = [cards[at : at + 3] for at in range(0, len(cards), 3)]
    gap = rows >= 4 * len(bands) - 1
    for band in bands:
        if lines and gap:
            lines.append([])
        blocks = [card_block(card, each) for card in band]
        for row in range(3):
            line: list[Part] = []
            for block in blocks:
                line += [*([Part("  ")] if line else []), *block[row]]
            lines.append(line)
    return lines


def feed_lines(feeds: Sequence[FeedView], cells: int) -> list[list[Part]]:
    """Every source of data: whether it is up, since when it was last heard, and why it is down."""
    if not feeds:
        return []
    lines = [[], [label("feeds")]]
    for feed in feeds:
        mark, style, word = ("✓", "$up", "up") if feed.up else ("✕", "bold $down", "down")
        age = f"heard {fmt.age(feed.age_s)} ago" if feed.age_s is not None else "never heard"
        line = [label(fit(fmt.safe_text(feed.name, 18), 19)), Part(f"{mark} {fit(word, 6)}", style), faint(age)]
        room = cells - width(line) - 3
        if feed.reason and room > 8:
            line.append(faint("   " + fmt.safe_text(feed.reason, room)))
        lines.append(line)
    return lines


def zoomed_lines(cards: Sequence[CardView], cells: int) -> list[list[Part]]:
    """Every card with status, reason and age."""
    lines: list[list[Part]] = []
    for card in cards:
        lines.append(card_line(card, cells, with_age=True))
        if card.reason and card.status != "unknown":
            lines += [[Part(" " * 21), *line] for line in wrapped(card.reason, max(20, cells - 21), "$faint", 3)]
    return lines or [[faint("this engine sends no telemetry")]]


class MarketPane(Pane):
    NUMBER: ClassVar[str] = "6"
    NAME: ClassVar[str] = "Market"
    EVERY: ClassVar[int] = 2
    OF_MARKET: ClassVar[bool] = True
    STALE_AFTER_S: ClassVar[float | None] = 4.0
    """Cards are at most 2 s old (R13.1): one may be missed."""

    def compose(self) -> ComposeResult:
        yield Body()

    def data_age_s(self, shown: Shown) -> float | None:
        """Of the oldest card but funding, which stands for an hour. A tape runs at its own speed."""
        if shown.snapshot.engine.mode == "replay" or shown.detail is None:
            return None
        ages = [card.age_s for card in shown.detail.cards if card.id != "funding" and card.value is not None]
        return max((age for age in ages if age is not None), default=None)

    def no_data(self, lines: Sequence[Sequence[Part]]) -> None:
        self.query_one(Body).show(lines)

    def draw(self, shown: Shown, now: float) -> None:
        cells = self.inner
        if shown.detail is None:
            lines = [[faint(asking(shown.market) if shown.market else NO_MARKET)]]
        elif self.zoomed:
            lines = zoomed_lines(shown.detail.cards, cells)
        else:
            lines = market_lines(shown.detail.cards, cells, self.rows)
        feeds = feed_lines(shown.snapshot.engine.feeds, cells) if self.zoomed else []
        self.query_one(Body).show([*lines, *feeds])
