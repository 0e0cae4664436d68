"""An app around a few widgets, and what their lines look like."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.widget import Widget

if TYPE_CHECKING:
    from rich.style import Style
    from textual.strip import Strip

HOSTILE = (
    "",
    "[/INST] [b]bold[/b] [red]x[/] [@click=app.quit]quit[/]",
    "[[[",
    "\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "\x9b31m\x90q\x9c",
    "line\nbreak\rreturn\ttab\x00nul\x7f",
    "pay \u202eLOS\u202c \u2066x\u2069 \u200f\u200e",
    "\u05e9\u05dc\u05d5\u05dd 123 \u0645\u0631",
    "日本語のとても長い説明文" * 5,
    "한글 각",
    "👩\u200d👩\u200d👧 🇨🇭 👍🏽 ⚠\ufe0f",
    "Z\u0351\u036b\u0343\u036aalgo\u0300" * 10,
    "\ud800\udfff\ufffe\U000e0041\ue000",
    "zero\u200bwidth\ufeff\u00adsoft\u2028para\u2029",
    "x" * 10_000,
    "日" * 10_000,
    "\x1b[31m" * 2_000,
    " \u00a0\u3000\u1680 ",
    "\\[escaped\\] {curly} %s %n $HOME `id`",
)


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


class Bench(App[None]):
    """``widgets`` stand one below the other, sharing the height; messages land in ``seen``."""

    CSS = "Screen > * { height: 1fr; }"

    def __init__(self, *widgets: Widget, css: str = "") -> None:
        super().__init__()
        self.widgets = widgets
        self.seen: list[object] = []
        if css:
            self.stylesheet.add_source(css)

    def compose(self) -> ComposeResult:
        yield from self.widgets

    def _remember(self, message: object) -> None:
        self.seen.append(message)

    on_live_grid_activated = _remember
    on_live_grid_cursor_moved = _remember
    on_log_view_status_changed = _remember
    on_heat_map_cursor_moved = _remember


def strips(widget: Widget) -> list[Strip]:
    return [widget.render_line(y) for y in range(widget.size.height)]


def lines(widget: Widget) -> list[str]:
    """The widget's lines as text, without spaces at the end."""
    return [strip.text.rstrip() for strip in strips(widget)]


def screen(app: App[None]) -> list[str]:
    """What the terminal shows."""
    return [strip.text for strip in app.screen._compositor.render_strips()]


def style_of(widget: Widget, y: int, text: str) -> Style:
    """The style of the first segment in line ``y`` that contains ``text``."""
    for segment in widget.render_line(y):
        if text in segment.text:
            assert segment.style is not None
            return segment.style
    raise AssertionError(f"{text!r} is not in {widget.render_line(y).text!r}")


def assert_inert(widgets: Sequence[Widget], *, ascii_only: bool = False) -> None:
    """Every line is exactly as wide as its widget, and nothing in it can do more than be drawn."""
    for widget in widgets:
        assert widget.size.height > 0
        for strip in strips(widget):
            assert strip.cell_length == widget.size.width, strip.text
            assert cell_len(strip.text) == widget.size.width, strip.text
            assert sum(cell_len(segment.text) for segment in strip) == widget.size.width
            for char in strip.text:
                assert unicodedata.category(char)[0] not in "CM", f"{char!r} in {strip.text!r}"
            for segment in strip:
                assert segment.control is None
                assert segment.style is None or not segment.style.meta
            if ascii_only:
                assert strip.text.isascii(), strip.text
