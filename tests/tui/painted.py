"""The screen as it is painted: pieces of text with the colours that a terminal of few or no colours would show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rich.cells import cell_len
from rich.color import Color, ColorSystem, ColorType
from rich.console import Console
from rich.style import Style
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
    for x, y, text, style in _pieces(app):
        if not text.strip() or style is None:
            continue
        ink, paper = style.color or Color.default(), style.bgcolor or Color.default()
        shown = (_shown(ink, system, True), _shown(paper, system, False))
        yield Piece(x, y, text, *(shown[::-1] if style.reverse else shown))


def _pieces(app: DeltatuiApp) -> Iterator[tuple[int, int, str, Style | None]]:
    """Column, line, text and style of all that goes to the terminal, dialogs included."""
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
            yield x, y, piece, style
            x += cell_len(piece)


def _shown(color: Color, system: ColorSystem, foreground: bool) -> Rgb:
    return tuple(color.downgrade(system).get_truecolor(CONSOLE, foreground=foreground))  # type: ignore[return-value]


# The screen as a picture: characters and looks


class Look(NamedTuple):
    """How cells are painted: names of colours (``#rrggbb``, one of the 16, ``default``) and attributes. No ink: blank,
    only the paper shows."""

    ink: str
    paper: str
    attributes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((*self.attributes, self.ink or "blank", "on", self.paper))


class Run(NamedTuple):
    """So many cells of one line that look the same."""

    look: Look
    cells: int


_NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
SIXTEEN = (*_NAMES, *(f"bright_{name}" for name in _NAMES))
_ATTRIBUTES = ("bold", "dim", "italic", "underline", "blink", "reverse", "strike")
_ON_BLANKS = frozenset({"underline", "reverse", "strike"})


def runs(app: DeltatuiApp, system: ColorSystem) -> list[list[Run]]:
    """Each line of the screen as runs of one look, in the colours that a terminal of ``system`` paints. Blanks belong
    to the characters beside them on the same paper."""
    lines: list[list[Run]] = [[] for _ in range(app.size.height)]
    for _, y, text, style in _pieces(app):
        look, line = _look(style or Style.null(), system), lines[y]
        for part in _words_and_blanks(text):
            shown = part.strip() or not _ON_BLANKS.isdisjoint(look.attributes)
            new = Run(look if shown else Look("", look.paper), cell_len(part))
            joint = _joint(line[-1].look, new.look) if line else None
            if joint is None:
                line.append(new)
            else:
                line[-1] = Run(joint, line[-1].cells + new.cells)
    return lines


def _joint(one: Look, other: Look) -> Look | None:
    """The look of two neighbours that make one run; None if they do not."""
    if one == other:
        return one
    if one.paper != other.paper or (one.ink and other.ink):
        return None
    inked = one if one.ink else other
    return inked if _ON_BLANKS.isdisjoint(inked.attributes) else None


def _words_and_blanks(text: str) -> Iterator[str]:
    start = 0
    for at in range(1, len(text) + 1):
        if at == len(text) or (text[at] == " ") is not (text[start] == " "):
            if at > start:
                yield text[start:at]
            start = at


def _look(style: Style, system: ColorSystem) -> Look:
    attributes = tuple(name for name in _ATTRIBUTES if getattr(style, name))
    return Look(_name(style.color, system), _name(style.bgcolor, system), attributes)


def _name(color: Color | None, system: ColorSystem) -> str:
    shown = (color or Color.default()).downgrade(system)
    if shown.type is ColorType.DEFAULT:
        return "default"
    if shown.triplet is not None:
        return shown.triplet.hex
    assert shown.number is not None
    return SIXTEEN[shown.number] if shown.number < len(SIXTEEN) else f"colour {shown.number}"
