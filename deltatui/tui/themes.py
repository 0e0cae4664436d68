"""Themes: TOML files that came with the program and those of the user's folder, checked before Textual sees them.

Textual notices a bad colour only when it styles (docs/sources.md), so every colour is parsed here first, and all faults
of all files are told in one message. A file that has a fault is left out; the others work.

A file::

    name = "dusk"
    dark = true
    ansi = false          # true: the terminal's own 16 colours
    [colors]              # background, surface, panel, foreground, primary, secondary, accent, success, warning, error
    [variables]           # any of VARIABLES below
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from textual.color import Color, ColorParseError
from textual.theme import BUILTIN_THEMES, Theme

if TYPE_CHECKING:
    from collections.abc import Sequence

COLORS = (
    "primary",
    "secondary",
    "accent",
    "foreground",
    "background",
    "surface",
    "panel",
    "success",
    "warning",
    "error",
)

VARIABLES: dict[str, str] = {
    "bright": "foreground",
    "label": "foreground",
    "faint": "foreground",
    "up": "success",
    "down": "error",
    "warn": "warning",
    "mark": "accent",
    "frame": "panel",
    "frame-replay": "panel",
    "frame-paper": "panel",
    "frame-live": "error",
    "replay": "secondary",
    "paper": "primary",
    "live": "error",
    "badge-text": "background",
    "selection": "panel",
}
"""The terminal's own style variables and the colour each falls back to. ``bright`` numbers, ``label`` words, ``faint``
what is secondary or old; ``up`` and ``down`` never stand without a sign or a word; ``frame`` and ``frame-<mode>`` pane
borders; ``selection`` the line under a cursor."""

_FOR_WIDGETS = {
    "text-success": "up",
    "text-error": "down",
    "text-warning": "warn",
    "text-accent": "mark",
    "text-primary": "mark",
    "text-muted": "label",
    "text-disabled": "faint",
    "block-cursor-background": "selection",
    "block-cursor-foreground": "bright",
    "block-cursor-blurred-background": "selection",
    "block-cursor-blurred-foreground": "foreground",
    "scrollbar": "frame",
    "scrollbar-hover": "label",
    "scrollbar-active": "label",
    "scrollbar-background": "background",
    "scrollbar-background-hover": "background",
    "scrollbar-background-active": "background",
    "scrollbar-corner-color": "background",
}
"""Textual's own variables, which widgets use, follow ours."""

DEFAULT_THEME = "dark"
FEW_COLOURS_THEME = "ansi"
"""The default where the terminal has 16 colours."""
MAX_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class ThemeSet:
    """``faults`` has one clause a fault. ``stamp`` changes when a file does."""

    themes: tuple[Theme, ...]
    faults: tuple[str, ...]
    stamp: tuple[tuple[str, int], ...]


def builtin_dir() -> Path:
    """Where the shipped themes are: inside the wheel, or beside the package in a source tree."""
    packaged = Path(str(resources.files("deltatui"))) / "_themes"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[2] / "themes"


def parse_theme(text: str, source: str) -> tuple[Theme | None, list[str]]:
    """A theme from TOML text, or None and what is wrong with it."""
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return None, [f"{source}: not valid TOML ({error})"]
    faults: list[str] = []
    unknown = set(table) - {"name", "dark", "ansi", "colors", "variables", "description"}
    faults += [f"{source}: unknown entry '{name}'" for name in sorted(unknown)]
    name = table.get("name")
    if not isinstance(name, str) or not name.isascii() or not name.replace("-", "").isalnum():
        faults.append(f"{source}: 'name' must be a word of letters, digits and '-'")
        name = source
    for flag in ("dark", "ansi"):
        if not isinstance(table.get(flag, False), bool):
            faults.append(f"{source}: '{flag}' must be true or false")
    colors = _colors(table.get("colors", {}), COLORS, "colors", source, faults)
    variables = _colors(table.get("variables", {}), tuple(VARIABLES), "variables", source, faults)
    faults += [
        f"{source}: colour '{needed}' is missing"
        for needed in ("primary", "foreground", "background")
        if needed not in colors and not faults
    ]
    if faults:
        return None, faults
    for variable, fallback in VARIABLES.items():
        variables.setdefault(variable, colors.get(fallback) or colors["primary"])
    ansi, dark = table.get("ansi", False), table.get("dark", True)
    if ansi:
        # Textual's style sheets use variables that exist in its own 16-colour themes only.
        variables = {**BUILTIN_THEMES["ansi-dark" if dark else "ansi-light"].variables, **variables}
    for variable, ours in _FOR_WIDGETS.items():
        variables[variable] = variables.get(ours) or colors.get(ours) or colors["foreground"]
    return (
        Theme(
            name=name,
            primary=colors["primary"],
            secondary=colors.get("secondary"),
            accent=colors.get("accent"),
            foreground=colors["foreground"],
            background=colors["background"],
            surface=colors.get("surface"),
            panel=colors.get("panel"),
            success=colors.get("success"),
            warning=colors.get("warning"),
            error=colors.get("error"),
            dark=dark,
            ansi=ansi,
            variables=variables,
        ),
        [],
    )


def _colors(table: object, allowed: Sequence[str], where: str, source: str, faults: list[str]) -> dict[str, str]:
    if not isinstance(table, dict):
        faults.append(f"{source}: '{where}' must be a table")
        return {}
    good: dict[str, str] = {}
    for key, value in table.items():
        if key not in allowed:
            faults.append(f"{source}: unknown entry '{key}' in [{where}]")
            continue
        if not isinstance(value, str):
            faults.append(f"{source}: {key} must be a colour in quotes")
            continue
        try:
            Color.parse(value)
        except ColorParseError:
            faults.append(f"{source}: {key} = '{value}' is not a colour; it looks like '#7aa2f7' or 'ansi_green'")
            continue
        good[key] = value
    return good


def theme_stamp(user_dir: Path | None) -> tuple[tuple[str, int], ...]:
    """Names and times of the user's theme files; cheap enough to ask every few seconds."""
    if user_dir is None:
        return ()
    stamp = []
    for path in sorted(user_dir.glob("*.toml")):
        try:
            stamp.append((path.name, path.stat().st_mtime_ns))
        except OSError:
            stamp.append((path.name, 0))
    return tuple(stamp)


def load_themes(user_dir: Path | None, shipped_dir: Path | None = None) -> ThemeSet:
    """Every good theme, the user's last so that a file of the same name replaces a shipped one, and every fault."""
    themes: dict[str, Theme] = {}
    faults: list[str] = []
    owner: dict[tuple[Path, str], str] = {}
    stamp = theme_stamp(user_dir)
    for folder in (shipped_dir or builtin_dir(), user_dir):
        if folder is None:
            continue
        for path in sorted(folder.glob("*.toml")):
            try:
                # A pipe would never end, and a theme has a few hundred bytes.
                if not path.is_file() or path.stat().st_size > MAX_BYTES:
                    faults.append(f"{path.name}: not a file of at most {MAX_BYTES:,} bytes")
                    continue
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                faults.append(f"{path.name}: cannot be read ({type(error).__name__})")
                continue
            theme, found = parse_theme(text, path.name)
            faults += found
            if theme is None:
                continue
            first = owner.setdefault((folder, theme.name), path.name)
            if first != path.name:
                faults.append(f"{path.name}: the name '{theme.name}' is taken by {first}")
                continue
            themes[theme.name] = theme
    return ThemeSet(tuple(themes.values()), tuple(faults), stamp)
