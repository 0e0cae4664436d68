"""The few characters that widgets draw with, in Unicode and in ASCII, and text fitted to cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len, set_cell_size

Align = Literal["left", "right", "center"]


@dataclass(frozen=True, slots=True)
class Glyphs:
    cursor: str
    up: str
    down: str
    changed: str
    lost: str
    ellipsis: str
    horizontal: str
    line: str
    axis: str
    axis_zero: str
    corner: str
    bar_left: str
    bar_right: str
    eighths: str
    """From empty to full."""
    threshold: str
    shades: str
    """From none to most, for heat without colour."""


UNICODE = Glyphs(
    cursor="▸",
    up="▲",
    down="▼",
    changed="•",
    lost="!",
    ellipsis="…",
    horizontal="─",
    line="│",
    axis="┤",
    axis_zero="┼",
    corner="└",
    bar_left="▕",
    bar_right="▏",
    eighths=" ▏▎▍▌▋▊▉█",
    threshold="│",
    shades=" ░▒▓█",
)
ASCII = Glyphs(
    cursor=">",
    up="^",
    down="v",
    changed="*",
    lost="!",
    ellipsis="~",
    horizontal="-",
    line="|",
    axis="+",
    axis_zero="+",
    corner="+",
    bar_left="[",
    bar_right="]",
    eighths=" -#",
    threshold="|",
    shades=" .:=*#",
)


def glyphs(ascii_only: bool) -> Glyphs:
    return ASCII if ascii_only else UNICODE


def width_of(text: str) -> int:
    """Cells that ``text`` takes on the screen."""
    return len(text) if text.isascii() else cell_len(text)


def fit(text: str, width: int, align: Align = "left", ellipsis: str = "…") -> str:
    """``text`` in exactly ``width`` cells: padded on the side that ``align`` leaves free, or cut with an ellipsis."""
    if width <= 0:
        return ""
    used = width_of(text)
    if used > width:
        cut = text[: width - 1] if text.isascii() else set_cell_size(text, width - 1)
        return cut + ellipsis
    space = width - used
    if align == "right":
        return " " * space + text
    if align == "center":
        return " " * (space // 2) + text + " " * (space - space // 2)
    return text + " " * space
