"""The size of a take, and live what it would do: within minimum, maximum and step, in whole steps, never a float."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal, InvalidOperation
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, Static

from deltatui.domain.command import Direction, SpotSource, Take
from deltatui.domain.errors import ValidationError
from deltatui.domain.units import BASE_PRECISION, base_from_text, base_to_decimal
from deltatui.tui import fmt
from deltatui.tui.actions import Context
from deltatui.tui.keymap import bindings
from deltatui.tui.modals.armed import OrderDialog, exact, size_field
from deltatui.tui.modals.base import Choice, Hint
from deltatui.tui.modals.plan import (
    NAME_CELLS,
    Lines,
    brief_gates,
    consequences,
    figures,
    named,
    refused_text,
)
from deltatui.tui.modals.previews import Previews
from deltatui.tui.panes.base import Body, Part, bright, faint, label, spread, wrapped
from deltatui.tui.store import FRESH_S

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from deltatui.domain.snapshot import ActionView, HedgeView
    from deltatui.tui.commands import Operator
    from deltatui.tui.store import View

_LEGS = {
    Direction.CARRY: ("buy spot + short perp", "receives funding while the rate is positive"),
    Direction.REVERSE: ("borrow and sell spot + long perp", "receives funding while the rate is negative"),
}
_SPOT = {SpotSource.WALLET: "in the wallet", SpotSource.DEPOSITED: "deposited, not hedged"}
"""Where an asset is that need not be bought."""
RENEW_AFTER_S = 5.0
"""Well below the age at which an engine refuses a snapshot (10 s)."""
_TALL = 30
"""Lines of a screen that has room for explanations."""


def digits(size: float) -> str:
    """``0.0152``: every digit that a size may have."""
    return f"{size:.10g}"


def proposal(wish: str, limits: ActionView) -> str:
    """What stands in the field at first: ``wish``, but the minimum where that is more than can be taken. The most that
    could be taken is never proposed."""
    high = exact(limits.max_size)
    fits = high is None or Decimal(wish) <= high
    return prefill(wish if fits else "", limits)


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
        raise ValidationError("BAD_SIZE", f"the smallest size is {digits(low / BASE_PRECISION)}")
    if high is not None and size > high:
        raise ValidationError("BAD_SIZE", f"the largest size now is {digits(high / BASE_PRECISION)}")
    if step and size % step:
        raise ValidationError("BAD_SIZE", f"sizes go in steps of {digits(step / BASE_PRECISION)}")
    return size


def sources(limits: ActionView, direction: Direction) -> dict[SpotSource, float | None]:
    """Where the spot leg could come from now, and at most how much of it; None: as much as the size may be."""
    found: dict[SpotSource, float | None] = {SpotSource.BUY: None}
    if direction == Direction.CARRY:
        names = {source.value for source in SpotSource}
        found |= {SpotSource(view.source): view.max_size for view in limits.sources if view.source in names}
    return found


class SizeRow(Horizontal):
    """``size  [ 10.00 ] SOL  min 0.01  step 0.01  max 48.2``."""

    DEFAULT_CSS = f"""
    SizeRow {{ height: 1; width: 1fr; }}
    SizeRow .name {{ width: {NAME_CELLS}; color: $label; }}
    SizeRow SizeField {{ width: 14; }}
    SizeRow #limits {{ width: 1fr; text-wrap: nowrap; text-overflow: ellipsis; }}
    """


class TakeDialog(OrderDialog):
    BINDINGS: ClassVar[list[BindingType]] = [
        # Up and down scroll any other dialog.
        *bindings(Context.TAKE, Context.EVERYWHERE, priority=frozenset({"take-more", "take-less"})),
    ]
    AUTO_FOCUS = "#size"

    def __init__(
        self,
        operator: Operator,
        hedge: HedgeView,
        snapshot_version: int,
        limits: ActionView,
        wish: str,
        direction: Direction,
    ) -> None:
        super().__init__(operator, "TAKE", snapshot_version, hedge.market)
        self.base = hedge.base_symbol
        self.limits = limits
        self.direction = direction
        self.spot = SpotSource.BUY
        self._prefilled = proposal(wish, limits)
        self._opened_at = operator.clock()
        self._held = self._holdings()
        self._height = 0
        self.previews = Previews(
            operator.app.connector.preview,
            lambda question: operator.app.background(question, "preview"),
            operator.clock,
            self._news,
        )

    def compose(self) -> ComposeResult:
        yield self.frame(
            f"Take {fmt.safe_text(self.market, 20)} · {self.operator.mode().upper()}",
            SizeRow(Static("size", classes="name"), size_field(self._prefilled, "size"), Static(id="limits")),
            Body(id="figures"),
            choices=[Choice("Cancel", "cancel"), Hint(id="hint")],
        )

    @property
    def text(self) -> str:
        return self.query_one("#size", Input).value

    def apply(self, view: View, now: float) -> None:
        said = self.offer(view)
        if said is not None:
            self.limits = said
        super().apply(view, now)

    def _news(self) -> None:
        if self.is_attached and self._painted:
            self.draw(self.operator.view, self.now)

    def draw(self, view: View, now: float) -> None:
        cells = self.cells
        wish, fault = None, ""
        try:
            wish = self._wish()
        except ValidationError as error:
            fault = error.sentence
        self.previews.want(wish, now)
        legs, receives = _LEGS[self.direction]
        if self.spot != SpotSource.BUY:
            legs = "short perp, the spot is there"
        direction_key = self.keymap.display("take-direction")
        head = [
            spread(
                named("direction", bright(self.direction.value), label(f"   {legs}")),
                [faint(f"{direction_key} changes it")],
                cells,
            )
        ]
        if self.size.height >= _TALL:
            head.append(named("", label(receives)))
        self.show([*head, *self._spot_lines(cells)])
        self.query_one("#limits", Static).update(self._limits())
        rows = self.rows(1 + len(self.query_one("#body", Body).lines))
        self.query_one("#figures", Body).show(self._lines(cells, rows, wish, fault or self.previews.fault, now))
        reason = self.why_not(now)
        hint = self.query_one("#hint", Hint)
        hint.say(Part(reason, "$warn") if reason else self.armed_text(now, "go on", "take-go"))

    @property
    def _base(self) -> str:
        return fmt.safe_text(self.base, 12)

    def _wish(self) -> Take:
        """What the dialog says now. Raises ValidationError with a sentence that says what would be right."""
        base = check_size(self.text, self.limits)
        known = sources(self.limits, self.direction)
        if self.spot not in known:
            key = self.keymap.display("take-spot")
            raise ValidationError("NO_SPOT", f"nothing is {_SPOT[self.spot]} any more; {key} chooses another source")
        most = exact(known[self.spot])
        if most is not None and base > base_from_text(most):
            raise ValidationError("BAD_SIZE", f"only {most:f} {self._base} are {_SPOT[self.spot]}")
        return Take(market=self.market, base_1e9=base, direction=self.direction, spot=self.spot)

    def _spot_lines(self, cells: int) -> Lines:
        """Where the spot leg comes from, where there is a choice."""
        known = sources(self.limits, self.direction)
        if len(known) == 1 and self.spot in known:
            return []
        most = known.get(self.spot, 0.0)
        there = f"{digits(most)} {self._base} {_SPOT[self.spot]}" if most is not None else "in the market"
        line = named("spot", bright(self.spot.value), label(f"   {there}"))
        return [spread(line, [faint(f"{self.keymap.display('take-spot')} changes it")], cells)]

    def _limits(self) -> Content:
        bounds = (("min", self.limits.min_size), ("step", self.limits.step), ("max", self.limits.max_size))
        said = "  ".join(f"{name} {digits(value)}" for name, value in bounds if value is not None)
        symbol = f" {self._base}  "
        return Content.assemble((symbol, "$bright"), (said or "limits not given by the engine", "$label"))

    def _lines(self, cells: int, rows: int, wish: Take | None, fault: str, now: float) -> Lines:
        """What the size that stands in the field would do; ``…`` where a figure of it is not known."""
        plan, last = self.previews.plan, self.previews.last_plan
        age_s = self.previews.age_s(now)
        note = ""
        if plan is None and not fault:
            note = "asking the engine"
        elif plan is not None and age_s > FRESH_S:
            note = f"{age_s:.0f} s old"
        head = [[], *figures(plan, cells), [], *consequences(plan or last, asking=plan is None, note=note)]
        foot: Lines = []
        if plan is not None and wish is not None:
            size = float(base_to_decimal(wish.base_1e9))
            if abs(plan.size - size) > 1e-9:
                said = f"the engine would trade {fmt.size(plan.size)} {self._base} of {digits(size)}"
                foot += wrapped(said, cells, "bold $warn", 2)
            refused = refused_text(plan, self.keymap.display("confirm-force"))
            foot += [refused] if refused else []
        foot += wrapped(fault, cells, "bold $warn", 3) if fault else []

        def laid_out(most: int, *, roomy: bool) -> Lines:
            middle = [] if plan is None else brief_gates(plan, cells, most)
            lines = [*head, [], *middle, *([[]] if middle and foot else []), *foot]
            return lines if roomy else [line for line in lines if line]

        lines = laid_out(3, roomy=True)
        for most in (3, 1):
            # Where the screen is short, what matters goes before white space.
            if len(lines) > rows:
                lines = laid_out(most, roomy=False)
        if plan is not None:
            self._height = len(lines)
        # Until the answer is there the dialog keeps its height, so that nothing jumps under a held key.
        return [*lines, *([] for _ in range(self._height - len(lines)))]

    def do(self, action_id: str) -> None:
        view, now = self.operator.view, self.now
        size = self.query_one("#size", Input)
        match action_id:
            case "take-direction":
                self.direction = Direction.REVERSE if self.direction == Direction.CARRY else Direction.CARRY
                if self.direction == Direction.REVERSE:
                    # Its spot leg is borrowed.
                    self.spot = SpotSource.BUY
            case "take-spot":
                known = list(sources(self.limits, self.direction))
                at = known.index(self.spot) if self.spot in known else -1
                self.spot = known[(at + 1) % len(known)]
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
                if self._go(now):
                    return
        if self._painted:
            self.draw(view, now)

    def _go(self, now: float) -> bool:
        """Whether the wish was sent. The engine judges it anew, so no preview is waited for."""
        if not self.armed(now):
            return False
        try:
            wish = self._wish()
        except ValidationError:
            return False
        self.sent = True
        intent, version = self.operator.new_intent(), self._version(now)
        self.operator.send_take(replace(wish, intent_id=intent, snapshot_version=version), self.text)
        self.dismiss(None)
        return True

    def _holdings(self) -> tuple[tuple[str, float], ...]:
        """The legs of this market."""
        snapshot = self.operator.view.snapshot
        rows = snapshot.positions if snapshot is not None else ()
        return tuple((row.key, row.size) for row in rows if row.market in (self.market, self.base))

    def _version(self, now: float) -> int:
        """The snapshot of the key press (R13.10). The engine refuses one of some seconds ago as too old, so for whoever
        has looked on for longer it is the one on the screen; not if what is held has changed meanwhile: then the
        refusal is right."""
        if now - self._opened_at > RENEW_AFTER_S and self._holdings() == self._held:
            return self.operator.snapshot_version()
        return self.snapshot_version

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.do("take-go")

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self._painted:
            self.draw(self.operator.view, self.now)
