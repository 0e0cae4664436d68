"""The size of a take: within minimum, maximum and step as the engine gives them; whole steps, never a float."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal, InvalidOperation
from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.widgets import Input

from deltatui.domain.command import Direction, Take
from deltatui.domain.errors import ValidationError
from deltatui.domain.units import base_from_text
from deltatui.tui import fmt
from deltatui.tui.actions import Context
from deltatui.tui.keymap import bindings
from deltatui.tui.modals.base import Choice, Dialog, Hint
from deltatui.tui.panes.base import Part, bright, faint, label, wrapped
from deltatui.tui.widgets.glyphs import fit

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from deltatui.domain.snapshot import ActionView
    from deltatui.tui.commands import Operator
    from deltatui.tui.store import View

_LEGS = {
    Direction.CARRY: "buy spot + short perp: receives funding while the rate is positive",
    Direction.REVERSE: "borrow and sell spot + long perp: receives funding while the rate is negative",
}


def exact(value: float | None) -> Decimal | None:
    """A figure of the snapshot as the decimal that it was before it became a float."""
    return None if value is None else Decimal(repr(value))


def prefill(wish: str, limits: ActionView) -> str:
    """``wish`` held within the limits, in whole steps; the minimum where there is nothing better."""
    low, high, step = exact(limits.min_size), exact(limits.max_size), exact(limits.step)
    try:
        size = Decimal(wish)
    except InvalidOperation:
        size = low or Decimal(0)
    if high is not None:
        size = min(size, high)
    if low is not None:
        size = max(size, low)
    if step:
        size = (size / step).to_integral_value(ROUND_DOWN) * step
    return f"{size:f}"


def check_size(text: str, limits: ActionView) -> int:
    """The size in 1e9. Raises ValidationError with a sentence that says what would be right."""
    size = base_from_text(text.strip())
    low, high, step = (
        None if value is None else base_from_text(value)
        for value in (exact(limits.min_size), exact(limits.max_size), exact(limits.step))
    )
    if size <= 0:
        raise ValidationError("BAD_SIZE", "the size must be above 0; direction is a key of its own")
    if low is not None and size < low:
        raise ValidationError("BAD_SIZE", f"the smallest size is {limits.min_size:g}")
    if high is not None and size > high:
        raise ValidationError("BAD_SIZE", f"the largest size now is {limits.max_size:g}")
    if step and size % step:
        raise ValidationError("BAD_SIZE", f"sizes go in steps of {limits.step:g}")
    return size


class SizeField(Input):
    """Takes digits and a point, and leaves every other key to the dialog."""

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return character is not None and character in "0123456789."


class TakeDialog(Dialog[None]):
    BINDINGS: ClassVar[list[BindingType]] = [
        # A field eats printable keys before any binding that has no priority.
        *bindings(
            Context.TAKE,
            Context.EVERYWHERE,
            priority=frozenset({"take-direction", "take-more", "take-less", "kill"}),
        ),
    ]
    AUTO_FOCUS = "#size"

    def __init__(
        self,
        operator: Operator,
        market: str,
        snapshot_version: int,
        limits: ActionView,
        wish: str,
        direction: Direction,
    ) -> None:
        super().__init__(operator)
        self.market = market
        self.snapshot_version = snapshot_version
        self.limits = limits
        self.direction = direction
        self._wish = prefill(wish, limits)
        self._fault = ""
        self.sent = False

    def compose(self) -> ComposeResult:
        size = SizeField(self._wish, restrict=r"[0-9]*\.?[0-9]*", max_length=24, id="size", select_on_focus=False)
        size.cursor_blink = False
        yield self.frame(
            f"Take {fmt.safe_text(self.market, 20)} · {self.operator.mode().upper()}",
            size,
            choices=[Choice("Cancel", "cancel"), Hint(id="hint")],
        )

    @property
    def text(self) -> str:
        return self.query_one("#size", Input).value

    def apply(self, view: View, now: float) -> None:
        said = view.action("TAKE")
        if said is not None:
            self.limits = said
        if self._painted:
            self._draw(view, now)

    def _why_not(self, view: View, now: float) -> str | None:
        if view.not_fresh(now) is not None:
            return view.not_fresh(now)
        if not self.limits.enabled:
            return fmt.safe_text(self.limits.reason, 60) or "not possible now"
        return None

    def _draw(self, view: View, now: float) -> None:
        snapshot, cells = view.snapshot, self.cells
        limits = "   ".join(
            f"{name} {value:g}"
            for name, value in (
                ("min", self.limits.min_size),
                ("step", self.limits.step),
                ("max", self.limits.max_size),
            )
            if value is not None
        )
        price = snapshot.prices.oracle if snapshot is not None else None
        try:
            base = check_size(self.text, self.limits)
            notional = "" if price is None else f"about {fmt.usd(base / 1e9 * price)}"
            fault = self._fault
        except ValidationError as error:
            notional, fault = "", error.sentence
        direction_key = self.keymap.display("take-direction")
        lines = [
            [label(fit("direction", 12)), bright(self.direction.value), faint(f"   {direction_key} changes it")],
            *wrapped(_LEGS[self.direction], cells, "$label", 2),
            [],
            [label(fit("limits", 12)), Part(limits or "not given by the engine")],
            [label(fit("notional", 12)), Part(notional or fmt.NA)],
        ]
        if snapshot is not None and snapshot.carry.sentence:
            lines += wrapped(snapshot.carry.sentence, cells, "$label", 2)
        if fault:
            lines.append([Part(fit(fault, cells).rstrip(), "bold $warn")])
        self.show([*lines, [], [label("size")]])
        reason = self._why_not(view, now)
        hint = self.query_one("#hint", Hint)
        hint.say(Part(reason, "$warn") if reason else self.armed_text(now, "go on", "take-go"))

    def do(self, action_id: str) -> None:
        view, now = self.operator.view, self.now
        size = self.query_one("#size", Input)
        self._fault = ""
        match action_id:
            case "take-direction":
                self.direction = Direction.REVERSE if self.direction is Direction.CARRY else Direction.CARRY
            case "take-more" | "take-less":
                step = exact(self.limits.step) or exact(self.limits.min_size) or Decimal(1)
                try:
                    value = Decimal(size.value or "0")
                except InvalidOperation:
                    value = Decimal(0)
                value += step if action_id == "take-more" else -step
                size.value = prefill(f"{value:f}", self.limits)
                size.cursor_position = len(size.value)
            case "take-go":
                self._go(view, now)
                return
        if self._painted:
            self._draw(view, now)

    def _go(self, view: View, now: float) -> None:
        if self.sent or not self._painted or self.arming.remaining_s(now) > 0 or self._why_not(view, now) is not None:
            return
        try:
            base = check_size(self.text, self.limits)
        except ValidationError as error:
            self._fault = error.sentence
            self._draw(view, now)
            return
        self.sent = True
        self.operator.send_take(
            Take(
                market=self.market,
                base_1e9=base,
                direction=self.direction,
                intent_id=self.operator.new_intent(),
                snapshot_version=self.snapshot_version,
            ),
            self.text,
        )
        self.dismiss(None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.do("take-go")

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._fault = ""
        if self._painted:
            self._draw(self.operator.view, self.now)
