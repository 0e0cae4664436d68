"""A letter on every pane; pressing it focuses that pane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content
from textual.geometry import Offset
from textual.screen import ModalScreen
from textual.widgets import Static

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from textual import events
    from textual.app import ComposeResult

LETTERS = "asdfghjklq"
"""Of the home row, in the order of the panes."""


class JumpScreen(ModalScreen[None], inherit_bindings=False):
    """``panes``: number of each visible pane and where its frame begins. Any other key only closes this."""

    def __init__(self, panes: Sequence[tuple[str, Offset]], focus: Callable[[str], None]) -> None:
        super().__init__()
        self._panes = dict(zip(LETTERS, panes, strict=False))
        self._focus = focus
        self._laid_out = False

    def compose(self) -> ComposeResult:
        for letter, (_, place) in self._panes.items():
            label = Static(Content.styled(f" {letter} ", "bold $badge-text on $mark"), classes="jump")
            label.absolute_offset = place + Offset(2, 0)
            yield label

    def on_key(self, event: events.Key) -> None:
        event.stop()
        event.prevent_default()
        chosen = self._panes.get(event.key)
        self.dismiss(None)
        if chosen is not None:
            self._focus(chosen[0])

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.dismiss(None)

    def on_resize(self, event: events.Resize) -> None:
        # The panes are elsewhere now. The first resize is the one that shows this screen.
        if self._laid_out and self.is_current:
            self.dismiss(None)
        self._laid_out = True
