"""The dialog that matters: what waits for the operator, with everything that it would do (R7.1, R3.4, R13.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.widgets import Input

from deltatui.domain.command import Cancel, Confirm
from deltatui.plain import leg_text
from deltatui.tui import fmt
from deltatui.tui.actions import Context
from deltatui.tui.keymap import bindings
from deltatui.tui.modals.armed import exact, needs_typing, plain, word_field
from deltatui.tui.modals.base import Box, Choice, Dialog, Hint
from deltatui.tui.modals.plan import (
    NAME_CELLS,
    Lines,
    base_symbol,
    consequences,
    figures,
    fitted,
    leg_lines,
    named,
    refused_text,
    then_lines,
)
from deltatui.tui.panes.base import Part, bright, faint, label, spread, width, wrapped

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from deltatui.domain.snapshot import ConfirmationView, OperationView, Snapshot
    from deltatui.tui.commands import Operator
    from deltatui.tui.store import View


def verb(confirmation: ConfirmationView) -> str:
    return fmt.safe_text(confirmation.kind, 16).lower().replace("_", " ")


def subject(confirmation: ConfirmationView) -> str:
    """``take SOL-PERP``, ``withdraw USDC``, ``forget losses``."""
    word = "" if confirmation.question else fmt.safe_text(confirmation.asset or confirmation.market, 20)
    return f"{verb(confirmation)} {word}".rstrip()


def title(confirmation: ConfirmationView, mode: str, waiting: int = 1) -> str:
    """``waiting`` counts the questions that wait, this one included."""
    said = subject(confirmation)
    return f"{said[:1].upper()}{said[1:]} · {mode.upper()}" + (f" · 1 of {waiting}" if waiting > 1 else "")


def amount_text(confirmation: ConfirmationView) -> str:
    """What a transfer moves: ``1,897.10 USDC``."""
    size = exact(confirmation.size)
    figure = fmt.NA if size is None or not size.is_finite() else plain(size)
    return f"{figure} {fmt.safe_text(confirmation.asset, 12)}"


def confirmation_lines(
    confirmation: ConfirmationView,
    left_s: float | None,
    cells: int,
    rows: int,
    *,
    force: bool,
    force_key: str,
    base: str = "",
) -> Lines:
    """On at most ``rows`` lines, unless more gates refuse than that leaves room for. ``base``: the market's asset."""
    c = confirmation
    left = fmt.NA if left_s is None else f"cancels in {max(0.0, left_s):.0f} s"
    ends = [Part(left, "bold $warn" if left_s is not None and left_s < 10 else "$foreground")]
    by = faint(f"  by {fmt.safe_text(c.source, 10)}")
    if c.question:
        return [spread(named("asked", by), ends, cells), [], *wrapped(c.question, cells, "$bright", max(3, rows - 3))]
    if c.asset:
        head = [
            spread(named("amount", bright(amount_text(c)), by), ends, cells),
            named("worth", Part(fmt.usd(c.notional))),
            [],
            *consequences(c, base=base),
            *then_lines(c, cells),
        ]
    else:
        side = named("side", bright(fmt.safe_text(c.side, cells - NAME_CELLS - width(ends) - 1)))
        room = width([*side, by, *ends]) < cells
        head = [
            spread([*side, by] if room else side, ends, cells),
            *([] if room else [named("", by)]),
            *leg_lines(c, cells),
            *figures(c, cells),
            [],
            *consequences(c),
        ]
    foot: Lines = []
    if not c.allowed and c.can_force:
        if force:
            loss = c.loss_if_forced
            if loss is None:
                text = "FORCED against profitability: the expected loss is not known."
            elif loss < 0:
                text = (
                    f"FORCED against profitability: expected gain {fmt.usd(-loss)} over the horizon, less than asked."
                )
            else:
                text = f"FORCED against profitability: expected loss {fmt.usd(loss)} over the horizon."
            foot = wrapped(text, cells, "bold $down", 2)
        else:
            foot = [[label(f"refused; {force_key} forces it and shows the expected loss")]]
    elif not c.allowed:
        foot = [refused_text(c, force_key)]
    return fitted(head, c, foot, cells, rows)


def running_lines(confirmation: ConfirmationView, operation: OperationView | None, cells: int) -> list[list[Part]]:
    legs = ", ".join(fmt.safe_text(leg_text(leg), 40) for leg in confirmation.legs)
    what = amount_text(confirmation) if confirmation.asset else legs
    lines = [
        *wrapped(f"{verb(confirmation)}: {what}" if what else verb(confirmation), cells, "$bright", 3),
        [label("sent once")],
        [],
    ]
    if operation is None:
        return [*lines, [label("waiting for the engine")]]
    lines.append([label("state  "), bright(fmt.safe_text(operation.state, 20))])
    return [*lines, *wrapped(operation.detail, cells, "$label", 3)]


def operation_of(confirmation: ConfirmationView, snapshot: Snapshot | None) -> OperationView | None:
    """What became of it so far, as far as the engine says."""
    known = snapshot.operations if snapshot is not None else ()
    return next((each for each in known if each.operation_id == confirmation.operation_id), None)


class ConfirmDialog(Dialog[None]):
    """Shows one of ``snapshot.confirmations`` while it is there, and sends it at most once. The others wait until it
    closes."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Context.CONFIRM)]

    def __init__(self, operator: Operator, confirmation: ConfirmationView) -> None:
        super().__init__(operator)
        self.confirmation = confirmation
        self.force = False
        self.sent = False
        self._shape = self._what()

    def compose(self) -> ComposeResult:
        yield self.frame(
            title(self.confirmation, self.operator.mode()),
            word_field(self.word),
            choices=[Choice("Cancel", "cancel"), Hint(id="hint")],
        )

    @property
    def word(self) -> str:
        """What has to be typed for a large sum."""
        return self.confirmation.asset or self.confirmation.market

    def _what(self) -> tuple[object, ...]:
        """What must not change under a hand that is about to press yes."""
        c = self.confirmation
        legs = tuple((leg.market, round(leg.size, 9)) for leg in c.legs)
        return c.kind, c.market, c.side, c.asset, round(c.size, 9), legs, c.allowed, c.can_force

    def needs_symbol(self) -> bool:
        """In live mode above the engine's threshold, and for whatever is forced; never for what brings money in."""
        if self.confirmation.kind == "DEPOSIT":
            return False
        return needs_typing(self.operator.view, None if self.force else self.confirmation.notional)

    def why_not(self, now: float) -> str | None:
        """Why yes does nothing now; an empty text while it only has to wait for its arming."""
        view = self.operator.view
        if self.sent:
            return "sent"
        if view.link.read_only:
            return "this terminal is read-only"
        reason = view.not_fresh(now)
        if reason is not None:
            return reason
        operator_now = view.operator_now(now)
        if operator_now is None or operator_now >= self.confirmation.expires_operator_s:
            return "expired"
        if self._pending(view) is None:
            return "no longer pending"
        if not self.confirmation.allowed and not (self.force and self.confirmation.can_force):
            return "refused by its gates"
        if self.needs_symbol() and self.typed != self.word:
            return f"type {fmt.safe_text(self.word, 20)} first"
        if not self._painted or self.arming.remaining_s(now) > 0:
            return ""
        return None

    @property
    def typed(self) -> str:
        return self.query_one("#symbol", Input).value.strip()

    def _pending(self, view: View) -> ConfirmationView | None:
        """What waits of this question now."""
        waiting = view.snapshot.confirmations if view.snapshot is not None else ()
        return next((each for each in waiting if each.operation_id == self.confirmation.operation_id), None)

    def apply(self, view: View, now: float) -> None:
        pending = self._pending(view)
        if pending is not None:
            self.confirmation = pending
            if self._what() != self._shape:
                self._shape = self._what()
                # What was forced was forced against what stood there.
                self.force = False
                self.arming.restart(now)
        if not self._painted:
            return
        if view.not_fresh(now) is not None:
            self.arming.hold()
        else:
            self.arming.resume(now)
        self._draw(view, now)

    def _draw(self, view: View, now: float) -> None:
        hint = self.query_one("#hint", Hint)
        snapshot, mode = view.snapshot, self.operator.mode()
        waiting = self.operator.app.unanswered()
        if self.sent:
            others = sum(each.operation_id != self.confirmation.operation_id for each in waiting)
            more = f"; {others} more to answer" if others else ""
            self.query_one(Box).border_title = Content(title(self.confirmation, mode))
            self.query_one("#symbol").display = False
            self.query_one("#cancel", Choice).relabel("Close")
            self.show(running_lines(self.confirmation, operation_of(self.confirmation, snapshot), self.cells))
            hint.say(faint(f"the engine goes on when this is closed{more}"))
            return
        self.query_one(Box).border_title = Content(title(self.confirmation, mode, len(waiting)))
        operator_now = view.operator_now(now)
        left_s = None if operator_now is None else self.confirmation.expires_operator_s - operator_now
        self.query_one("#symbol").display = self.needs_symbol()
        force_key = self.keymap.display("confirm-force")
        rows = self.rows(1 if self.needs_symbol() else 0)
        self.show(
            confirmation_lines(
                self.confirmation,
                left_s,
                self.cells,
                rows,
                force=self.force,
                force_key=force_key,
                base=base_symbol(self.confirmation.market, snapshot),
            )
        )
        reason = self.why_not(now)
        word = f"force {verb(self.confirmation)}" if self.force else verb(self.confirmation)
        hint.say(Part(f"{word}: {reason}", "$warn") if reason else self.armed_text(now, word))

    def do(self, action_id: str) -> None:
        now = self.now
        if action_id == "dialog-yes":
            # The operator means what is on the screen now, so freshness is judged now and not at the last tick.
            if self.operator.view.not_fresh(now) is not None:
                self.arming.hold()
            if self.why_not(now) is None:
                self.sent = True
                self.operator.confirm(
                    Confirm(
                        operation_id=self.confirmation.operation_id,
                        force=self.force,
                        word=self.typed,
                        intent_id=self.operator.new_intent(),
                        snapshot_version=self.operator.snapshot_version(),
                    ),
                    self,
                )
            self._draw(self.operator.view, now)
        elif action_id == "confirm-force" and not self.sent and self._painted:
            # Typed ahead it must not force; and after it there must be time to read the loss.
            if self.arming.remaining_s(now) <= 0 and self.confirmation.can_force and not self.confirmation.allowed:
                self.force = not self.force
                self.arming.restart(now)
            self._draw(self.operator.view, now)

    def no(self) -> None:
        if not self.sent:
            self.operator.cancel(
                Cancel(operation_id=self.confirmation.operation_id, intent_id=self.operator.new_intent())
            )
        self.operator.confirmation_closed(self.confirmation.operation_id)
        self.dismiss(None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one("#cancel").focus()
