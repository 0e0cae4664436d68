"""The least that Textual can be: what start, key and memory cost before a line of ours runs. ``x`` draws a word."""

from __future__ import annotations

from textual.app import App, ComposeResult
from textual.widgets import Static

READY = "BAREREADY"
DRAWN = "BAREPRESS"


class BareApp(App[None]):
    ENABLE_COMMAND_PALETTE = False
    presses = 0

    def compose(self) -> ComposeResult:
        yield Static(READY, id="text")

    def key_x(self) -> None:
        self.presses += 1
        self.query_one("#text", Static).update(f"{DRAWN}{self.presses}.")


if __name__ == "__main__":
    BareApp().run()
