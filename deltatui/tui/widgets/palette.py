"""The styles of one widget, from its component classes, rebuilt when the theme or what lies behind it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rich.style import Style

from deltatui.tui.widgets.glyphs import glyphs

if TYPE_CHECKING:
    from textual.geometry import Region
    from textual.strip import Strip
    from textual.widget import Widget

    _Widget = Widget
else:
    # Only beside a widget: Textual takes the style sheet of the first base that is one.
    _Widget = object

StyleName = Literal["", "good", "bad", "warn", "muted", "accent", "bright"]
"""How a piece of text looks; ``""`` is plain. Every widget here has one component class for each."""

STYLE_NAMES: tuple[StyleName, ...] = ("good", "bad", "warn", "muted", "accent", "bright")


def component_css(widget: str) -> str:
    """The rules of the common style names for the widget class ``widget``."""
    prefix = widget.lower()
    return f"""
    {widget} > .{prefix}--good {{ color: $text-success; }}
    {widget} > .{prefix}--bad {{ color: $text-error; }}
    {widget} > .{prefix}--warn {{ color: $text-warning; }}
    {widget} > .{prefix}--muted {{ color: $text-muted; }}
    {widget} > .{prefix}--accent {{ color: $text-accent; }}
    {widget} > .{prefix}--bright {{ text-style: bold; }}
    """


class Palette:
    """Looks component styles up by their short name and keeps them.

    ``generation`` grows whenever the kept styles became invalid; line caches are valid for one generation.
    """

    def __init__(self, widget: Widget, prefix: str) -> None:
        self._widget = widget
        self._prefix = prefix
        self._styles: dict[tuple[str, str], Style] = {}
        self._base: Style | None = None
        self.generation = 0

    def clear(self) -> None:
        """Call from ``notify_style_update``."""
        self._styles.clear()
        self._base = None
        self.generation += 1

    def check(self) -> None:
        """Call before painting: a changed background behind the widget does not notify the widget."""
        base = self._widget.rich_style
        if base != self._base:
            self._styles.clear()
            self._base = base
            self.generation += 1

    @property
    def base(self) -> Style:
        if self._base is None:
            self._base = self._widget.rich_style
        return self._base

    def get(self, name: str, ground: str = "") -> Style:
        """The style ``name`` on the background (and with the weight) of the style ``ground``."""
        key = (name, ground)
        style = self._styles.get(key)
        if style is None:
            style = self.base if not name else self._widget.get_component_rich_style(f"{self._prefix}--{name}")
            if ground:
                under = self._widget.get_component_rich_style(f"{self._prefix}--{ground}")
                # Only what the ground adds; plain text also takes its colour.
                style = under if not name else style + Style(bgcolor=under.bgcolor, bold=under.bold, dim=under.dim)
            self._styles[key] = style
        return style


class Painted(_Widget):
    """For widgets that paint their own lines: the palette of their component classes ``<prefix>--<name>``, kept valid,
    and the characters that the terminal has. Stands before the widget among the bases."""

    def _paint_with(self, prefix: str, *, ascii_only: bool) -> None:
        """Call once, before anything is painted."""
        self._ascii = ascii_only
        self._glyphs = glyphs(ascii_only)
        self._palette = Palette(self, prefix)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._palette.clear()

    def render_lines(self, crop: Region) -> list[Strip]:
        self._palette.check()
        return super().render_lines(crop)
