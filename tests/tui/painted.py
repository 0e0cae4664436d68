"""The screen as it is painted: pieces of text with the colours that a terminal of few or no colours would show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rich.cells import cell_len
from rich.color import Color, ColorSystem
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from deltatui.tui.app import DeltatuiApp

Rgb = tuple[int, int, int]

_VGA = [(0, 0, 0), (170, 0, 0), (0, 170, 0), (170, 85, 0), (0, 0, 170), (170, 0, 170), (0, 170, 170), (170, 170, 170)]
_BRIGHT = [(85, 85, 85), (255, 85, 85), (85, 255, 85), (255, 255, 85)]
_BRIGHT += [(85, 85, 255), (255, 85, 255), (85, 255, 255), (255, 255, 255)]
CONSOLE = TerminalTheme((0, 0, 0), (170, 170, 170), _VGA, _BRIGHT)


class Piece(NamedTuple):
    """Text painted in one style, from column ``x`` of line ``y``."""

    x: int
    y: int
    text: str
    ink: Rgb
    paper: Rgb


def contrast(one: Rgb, other: Rgb) -> float:
    """Contrast ratio, 1 to 21 (WCAG 2.1, 1.4.3)."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: Rgb) -> float:
    parts = [value / 255 for value in color]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def painted(app: DeltatuiApp, system: ColorSystem = ColorSystem.TRUECOLOR) -> Iterator[Piece]:
    """Every piece of text that is not blank, in the colours of ``system``; 16 colours in those of a Linux console."""
    width, height = app.size
    console = Console(width=width, height=height, force_terminal=True, color_system="truecolor", legacy_windows=False)
    update = app.screen._compositor.render_update(full=True, screen_stack=app._background_screens)
    assert update is not None
    x = y = 0
    for text, style, control in console.render(update, console.options.update(width=width, height=height)):
        if control:
            continue
        for index, piece in enumerate(text.split("\n")):
            if index:
                x, y = 0, y + 1
            at, x = x, x + cell_len(piece)
            if not piece.strip() or style is None:
                continue
            ink, paper = style.color or Color.default(), style.bgcolor or Color.default()
            shown = (_shown(ink, system, True), _shown(paper, system, False))
            yield Piece(at, y, piece, *(shown[::-1] if style.reverse else shown))


def _shown(color: Color, system: ColorSystem, foreground: bool) -> Rgb:
    return tuple(color.downgrade(system).get_truecolor(CONSOLE, foreground=foreground))  # type: ignore[return-value]
