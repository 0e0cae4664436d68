"""What the dialogs share that send a command: armed by time and fresh data, a field for a number, a word to type."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING

from textual.widgets import Input

from deltatui.tui import fmt
from deltatui.tui.enabled import asking
from deltatui.tui.modals.base import Dialog, Hint
from deltatui.tui.panes.base import Part

if TYPE_CHECKING:
    from textual import events

    from deltatui.domain.snapshot import ActionView
    from deltatui.tui.commands import Operator
    from deltatui.tui.store import View


def exact(value: float | None) -> Decimal | None:
    """A figure of the snapshot as the decimal that it was before it became a float."""
    return None if value is None else Decimal(repr(value))


def plain(figure: Decimal) -> str:
    """``1,897.10``: every digit, but no zeros at the end beyond the second decimal."""
    places = -int(figure.normalize().as_tuple().exponent)
    return f"{figure:,.{max(2, places)}f}"


def needs_typing(view: View, value_usd: float | None) -> bool:
    """Whether a command of this value needs a word typed (R13.10): live, above the engine's threshold. What is not
    known, be it the mode, the value or the threshold, counts as above."""
    engine = view.snapshot.engine if view.snapshot is not None else None
    if engine is not None and engine.mode in ("replay", "paper"):
        return False
    if engine is None or value_usd is None or not math.isfinite(engine.typed_above_usd):
        return True
    return not value_usd <= engine.typed_above_usd


def _engine(view: View) -> tuple[object, ...]:
    """Which engine it is that answers."""
    if view.snapshot is None:
        return ()
    engine = view.snapshot.engine
    return engine.pid, engine.started_operator_s, engine.mode


class SizeField(Input):
    """Takes digits and a point, and leaves every other key to the dialog. What stands in it at first is a proposal: the
    first digit typed or pasted takes its place, so that 3 after a proposed 1 is not 13."""

    untouched = True

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return character is not None and character in "0123456789."

    def on_key(self, event: events.Key) -> None:
        if event.is_printable and not self.check_consume_key(event.key, event.character):
            # Textual's field would eat it all the same.
            event.prevent_default()
            return
        if event.is_printable:
            self._replace_proposal()
        self.untouched = False

    def on_paste(self, event: events.Paste) -> None:
        self._replace_proposal()

    def _replace_proposal(self) -> None:
        if self.untouched:
            self.untouched = False
            with self.prevent(Input.Changed):
                self.value = ""


def size_field(value: str, name: str) -> SizeField:
    field = SizeField(value, restrict=r"[0-9]*\.?[0-9]*", max_length=24, id=name, select_on_focus=False)
    field.cursor_blink = False
    return field


def word_field(word: str) -> Input:
    """Where ``word`` is typed to confirm; hidden until it is needed."""
    field = Input(placeholder=f"type {fmt.safe_text(word, 20)} to confirm", id="symbol")
    field.cursor_blink = False
    field.display = False
    return field


class OrderDialog(Dialog[None]):
    """A command that is armed after 400 ms and only while the data are fresh and the engine takes it. ``command_name``
    is the engine's name of it, ``market`` the one whose detail speaks of it."""

    def __init__(self, operator: Operator, command_name: str, snapshot_version: int, market: str) -> None:
        super().__init__(operator)
        self.command_name = command_name
        self.market = market
        self.snapshot_version = snapshot_version
        self.sent = False
        self._engine = _engine(operator.view)

    def why_not(self, now: float) -> str | None:
        """Why the key does nothing now; an empty text while it only has to wait for its arming."""
        view = self.operator.view
        if self.sent:
            return "sent, waiting for the engine"
        if view.link.read_only:
            return "this terminal is read-only"
        if _engine(view) != self._engine:
            return "another engine answers now; open this again"
        reason = view.not_fresh(now)
        if reason is not None:
            return reason
        said = self.offer(view)
        if said is None:
            told = view.at(self.market).detail is not None
            return "this engine does not offer it" if told else asking(self.market)
        if not said.enabled:
            return fmt.safe_text(said.reason, 60) or "not possible now"
        if not self._painted or self.arming.remaining_s(now) > 0:
            return ""
        return None

    def offer(self, view: View) -> ActionView | None:
        """What the engine says of the command now."""
        return view.at(self.market).action(self.command_name)

    def apply(self, view: View, now: float) -> None:
        if not self._painted:
            return
        if view.not_fresh(now) is not None:
            self.arming.hold()
        else:
            self.arming.resume(now)
        self.draw(view, now)

    def armed(self, now: float) -> bool:
        """Judged at the key press and not at the last tick. A key pressed too early counts anew, so that one held down
        since before the dialog never arms."""
        if self.operator.view.not_fresh(now) is not None:
            self.arming.hold()
        elif self._painted and self.arming.remaining_s(now) > 0:
            self.arming.restart(now)
        return self.why_not(now) is None

    def draw(self, view: View, now: float) -> None:
        raise NotImplementedError

    def say(self, now: float, verb: str, action_id: str) -> None:
        reason = self.why_not(now)
        self.query_one("#hint", Hint).say(Part(reason, "$warn") if reason else self.armed_text(now, verb, action_id))
