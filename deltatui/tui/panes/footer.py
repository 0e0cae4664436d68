"""The line at the bottom: what can be done now, and dim what cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content
from textual.style import Style
from textual.widgets import Static

from deltatui.tui.actions import Action, footer_actions
from deltatui.tui.panes.base import Part
from deltatui.tui.widgets.glyphs import width_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from deltatui.tui.keymap import Keymap

_GIVE_WAY = (
    "pane-1",
    "speed-up",
    "automation",
    "deposit",
    "withdraw",
    "settle",
    "log-filter",
    "rebalance",
    "pause",
    "leave",
    "take",
)
"""What is left out first where the line is short; kill, palette, help and quit stay."""


def key_text(action: Action, keymap: Keymap) -> str:
    first = keymap.display(action.id)
    if action.footer_to is None:
        return first
    sign, other = action.footer_to
    return f"{first}{sign}{keymap.display(other)}"


def footer_items(
    keymap: Keymap, reason: Callable[[Action], str | None], label_of: Callable[[Action], str], cells: int
) -> list[tuple[str, Part, Part]]:
    """Action id, key and label of what fits into ``cells``."""
    items = [
        (action.id, key_text(action, keymap), action.footer_label or label_of(action), reason(action) is None)
        for action in footer_actions()
    ]
    gap = 2 if cells >= 100 else 1

    def need(chosen: list[tuple[str, str, str, bool]]) -> int:
        return 1 + sum(width_of(key) + 1 + width_of(name) + gap for _, key, name, _ in chosen)

    # The order of giving way does not depend on what can be done now: hints must not jump.
    for action_id in _GIVE_WAY:
        if need(items) - gap <= cells:
            break
        items = [item for item in items if item[0] != action_id]
    return [
        (
            action_id,
            Part(key, "bold $mark" if usable else "$faint"),
            Part(f" {name}" + " " * gap, "$label" if usable else "$faint"),
        )
        for action_id, key, name, usable in items
    ]


class FooterLine(Static):
    """A click on a hint does what its key does."""

    def __init__(self) -> None:
        super().__init__(id="footer")
        # Hints keep their own colours: what cannot be done is dim.
        self.auto_links = False
        self._state: object = None
        self._shown: object = None

    def apply(
        self,
        keymap: Keymap,
        reason: Callable[[Action], str | None],
        label_of: Callable[[Action], str],
        stamp: Hashable,
    ) -> None:
        """``stamp`` is what reasons and labels depend on: while it stands, so do the hints."""
        state = (stamp, self.size.width, self.app.theme)
        if state == self._state:
            return
        self._state = state
        items = footer_items(keymap, reason, label_of, self.size.width)
        shown = (tuple(items), self.app.theme)
        if shown == self._shown:
            return
        self._shown = shown
        line = Content(" ")
        for action_id, key, name in items:
            hint = Content.assemble((key.text, key.style), (name.text, name.style))
            line += hint.stylize(Style.from_meta({"@click": f"screen.do('{action_id}')"}))
        self.update(line, layout=False)
