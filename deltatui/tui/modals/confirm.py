"""The dialog that matters: a trade that waits for the operator, with everything that it would do (R7.1, R13.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.widgets import Input

from deltatui.domain.command import Cancel, Confirm
from deltatui.domain.verdict import VerdictStatus
from deltatui.tui import fmt
from deltatui.tui.actions import Context
from deltatui.tui.keymap import bindings
from deltatui.tui.modals.base import Choice, Dialog, Hint
from deltatui.tui.panes.base import Part, bright, faint, label, spread, wrapped
from deltatui.tui.panes.why import ASIDE, aside, by_gravity, gate_line, gate_name, limit_text
from deltatui.tui.widgets.glyphs import fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from deltatui.domain.snapshot import ConfirmationView, OperationView
    from deltatui.domain.verdict import Verdict
    from deltatui.tui.commands import Operator
    from deltatui.tui.store import View

TYPED_ABOVE_USD = 10_000.0
"""In live mode a trade above this needs the market's symbol typed (R13.10)."""


def verb(confirmation: ConfirmationView) -> str:
    return fmt.safe_text(confirmation.kind, 16).lower()


def title(confirmation: ConfirmationView, mode: str) -> str:
    return f"{verb(confirmation).capitalize()} {fmt.safe_text(confirmation.market, 20)} · {mode.upper()}"


def base_symbol(market: str) -> str:
    return fmt.safe_text(market.removesuffix("-PERP"), 12)


def consequences(confirmation: ConfirmationView) -> list[list[Part]]:
    """Health, leverage, liquidation and delta, now and after."""
    c = confirmation

    def row(name: str, before: str, after: str, note: str = "", style: str = "$bright") -> list[Part]:
        return [label(fit(name, 12)), Part(fit(before, 11, "right")), Part(fit(after, 12, "right"), style), faint(note)]

    def liquidation(price: float | None) -> str:
        return "none" if price is None else fmt.price(price)

    worse = c.health_before is not None and c.health_after is not None and c.health_after < c.health_before
    away = ""
    if c.liq_price_after is not None and c.price:
        away = f"   {fmt.pct((c.liq_price_after / c.price - 1) * 100, 0, plus=True)} away"
    return [
        [Part(" " * 12), label(fit("now", 11, "right")), label(fit("after", 12, "right"))],
        row(
            "health",
            fmt.number(c.health_before, 0),
            fmt.number(c.health_after, 0),
            "   lower" if worse else "",
            "$warn" if worse else "$bright",
        ),
        row("leverage", fmt.multiple(c.leverage_before), fmt.multiple(c.leverage_after)),
        row("liquidation", liquidation(c.liq_price_before), liquidation(c.liq_price_after), away),
        row("delta", fmt.pct(c.delta_before_pct, plus=True), fmt.pct(c.delta_after_pct, plus=True)),
    ]


def gates(verdicts: Sequence[Verdict], cells: int) -> list[list[Part]]:
    """Every verdict: refusals on a line of their own with the reason, the others two a line, n/a in one."""
    lines: list[list[Part]] = []
    ordered = by_gravity(verdicts)
    for verdict in (v for v in ordered if not v.allowed):
        lines.append(gate_line(verdict, cells))
    half = max(20, (cells - 2) // 2)
    allowed = [v for v in ordered if v.status is VerdictStatus.ALLOWED]
    for at in range(0, len(allowed), 2):
        line: list[Part] = []
        for verdict in allowed[at : at + 2]:
            text = f"{gate_name(verdict)} {fmt.safe_text(verdict.observed, 16)}"
            limit = f"  {limit_text(verdict)}" if verdict.limit else ""
            line += [Part("✓ ", "$up"), Part(fit(text + limit, half - 2), "$label")]
        lines.append(line)
    for status in ASIDE:
        lines += aside(ordered, status, cells)
    return lines


def break_even(confirmation: ConfirmationView) -> str:
    """``never`` only where profitability could be judged."""
    judged = not any(
        v.code.lower() == "profitability" and v.status is VerdictStatus.UNKNOWN for v in confirmation.verdicts
    )
    return fmt.hours(confirmation.break_even_h, never=confirmation.break_even_h is None and judged)


def confirmation_lines(
    confirmation: ConfirmationView, left_s: float | None, cells: int, *, force: bool, force_key: str
) -> list[list[Part]]:
    c = confirmation
    bps = (c.limit_price / c.price - 1) * 10_000 if c.price else None
    left = fmt.NA if left_s is None else f"cancels in {max(0.0, left_s):.0f} s"

    def named(name: str, *parts: Part) -> list[Part]:
        return [label(fit(name, 12)), *parts]

    lines = [
        spread(
            named("side", bright(fmt.safe_text(c.side, 34)), faint(f"  by {fmt.safe_text(c.source, 10)}")),
            [Part(left, "bold $warn" if left_s is not None and left_s < 10 else "$foreground")],
            cells,
        ),
        named(
            "size",
            bright(f"{fmt.size(c.size)} {base_symbol(c.market)}"),
            label("   notional "),
            bright(fmt.usd(c.notional)),
        ),
        named(
            "price",
            Part(fmt.price(c.price)),
            label("   limit "),
            Part(fmt.price(c.limit_price)),
            faint(f"  ({fmt.signed(bps, 0)} bps)" if bps is not None else ""),
        ),
        named(
            "costs",
            Part(fmt.usd(c.fees + c.slippage)),
            faint(f"   fees {fmt.number(c.fees)} · slippage {fmt.number(c.slippage)}"),
        ),
        named(
            "break-even",
            bright(break_even(c)),
            faint("  " + fmt.safe_text(c.carry_sentence, 60)),
        ),
        [],
        *consequences(c),
        [],
        *gates(c.verdicts, cells),
    ]
    if not c.allowed and c.can_force:
        lines.append([])
        if force:
            loss = c.loss_if_forced
            text = (
                f"FORCED against profitability: expected loss {fmt.usd(loss)} over the horizon."
                if loss is not None
                else "FORCED against profitability: the expected loss is not known."
            )
            lines += wrapped(text, cells, "bold $down", 2)
        else:
            lines.append([label(f"refused; {force_key} forces it and shows the expected loss")])
    elif not c.allowed:
        lines += [[], [Part("refused: this trade cannot be forced", "bold $down")]]
    return lines


def running_lines(confirmation: ConfirmationView, operation: OperationView | None, cells: int) -> list[list[Part]]:
    lines = [
        [
            bright(f"{verb(confirmation)} {fmt.size(confirmation.size)} {base_symbol(confirmation.market)}"),
            label(" sent once"),
        ],
        [],
    ]
    if operation is None or operation.operation_id != confirmation.operation_id:
        return [*lines, [label("waiting for the engine")]]
    lines.append([label("state  "), bright(fmt.safe_text(operation.state, 20))])
    return [*lines, *wrapped(operation.detail, cells, "$label", 3)]


class ConfirmDialog(Dialog[None]):
    """Shows ``snapshot.confirmation`` while it is there. One confirmation is sent at most once."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Context.CONFIRM)]

    def __init__(self, operator: Operator, confirmation: ConfirmationView) -> None:
        super().__init__(operator)
        self.confirmation = confirmation
        self.force = False
        self.sent = False
        self._shape = self._what()

    def compose(self) -> ComposeResult:
        symbol = Input(placeholder=f"type {fmt.safe_text(self.confirmation.market, 20)} to confirm", id="symbol")
        symbol.cursor_blink = False
        symbol.display = False
        yield self.frame(
            title(self.confirmation, self.operator.mode()),
            symbol,
            choices=[Choice("Cancel", "cancel"), Hint(id="hint")],
        )

    def _what(self) -> tuple[object, ...]:
        """What must not change under a hand that is about to press yes."""
        c = self.confirmation
        return c.kind, c.market, c.side, round(c.size, 9), c.allowed, c.can_force

    def needs_symbol(self) -> bool:
        return self.operator.mode() == "live" and (self.force or self.confirmation.notional > TYPED_ABOVE_USD)

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
        pending = view.snapshot.confirmation if view.snapshot is not None else None
        if pending is None or pending.operation_id != self.confirmation.operation_id:
            return "no longer pending"
        if not self.confirmation.allowed and not (self.force and self.confirmation.can_force):
            return "refused by its gates"
        if self.needs_symbol() and self.query_one("#symbol", Input).value.strip() != self.confirmation.market:
            return f"type {fmt.safe_text(self.confirmation.market, 20)} first"
        if not self._painted or self.arming.remaining_s(now) > 0:
            return ""
        return None

    def apply(self, view: View, now: float) -> None:
        pending = view.snapshot.confirmation if view.snapshot is not None else None
        if pending is not None and pending.operation_id == self.confirmation.operation_id:
            self.confirmation = pending
            if self._what() != self._shape:
                self._shape = self._what()
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
        if self.sent:
            operation = view.snapshot.operation if view.snapshot is not None else None
            self.query_one("#symbol").display = False
            self.query_one("#cancel", Choice).relabel("Close")
            self.show(running_lines(self.confirmation, operation, self.cells))
            hint.say(faint("the engine goes on when this is closed"))
            return
        operator_now = view.operator_now(now)
        left_s = None if operator_now is None else self.confirmation.expires_operator_s - operator_now
        self.query_one("#symbol").display = self.needs_symbol()
        force_key = self.keymap.display("confirm-force")
        lines = confirmation_lines(self.confirmation, left_s, self.cells, force=self.force, force_key=force_key)
        if len(lines) + 4 > self.size.height:
            # Where the screen is short, what matters goes before white space.
            lines = [line for line in lines if line]
        self.show(lines)
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
