"""Dialogs that move money without a trade: deposit, withdraw and settle. One intent is one command."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal, InvalidOperation
from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.widgets import Input

from deltatui.domain.command import CommandResult, Deposit, ResultStatus, Settle, Withdraw
from deltatui.domain.errors import ValidationError
from deltatui.tui import fmt
from deltatui.tui.actions import Context
from deltatui.tui.keymap import bindings
from deltatui.tui.modals.base import Choice, Dialog, Hint
from deltatui.tui.modals.take import SizeField, exact
from deltatui.tui.panes.base import Part, bright, by_sign, faint, label, wrapped
from deltatui.tui.widgets.glyphs import fit

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from deltatui.domain.snapshot import Snapshot
    from deltatui.tui.commands import Operator
    from deltatui.tui.store import View


@dataclass(frozen=True, slots=True)
class Asset:
    """``decimals``: the smallest unit is ten to the power of minus that."""

    symbol: str
    decimals: int


ASSETS = (Asset("USDC", 6), Asset("SOL", 9))


def amount_units(text: str, asset: Asset) -> int:
    """``"1.5"`` in the asset's smallest units, exactly. Raises ValidationError with what would be right."""
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        said = fmt.safe_text(text.strip(), 24)
        sentence = f"'{said}' is not a number; an amount looks like 12.5" if said else "type an amount, like 12.5"
        raise ValidationError("BAD_AMOUNT", sentence) from None
    if not value.is_finite() or value <= 0:
        raise ValidationError("BAD_AMOUNT", "the amount must be above 0")
    units = value.scaleb(asset.decimals)
    if units != units.to_integral_value():
        raise ValidationError("BAD_AMOUNT", f"{asset.symbol} has at most {asset.decimals} decimals")
    return int(units)


def whole(value: float | None, asset: Asset) -> Decimal | None:
    """A figure of the snapshot in whole smallest units, rounded down; None and what is not above 0 stay None."""
    figure = exact(value)
    if figure is None or not figure.is_finite() or figure <= 0:
        return None
    return figure.quantize(Decimal(1).scaleb(-asset.decimals), ROUND_DOWN)


def held_in_account(snapshot: Snapshot, asset: Asset) -> float | None:
    if asset.symbol == "USDC":
        return snapshot.account.quote_balance
    found = [row.size for row in snapshot.positions if row.side == "spot" and row.market == asset.symbol]
    return found[0] if found else 0.0 if snapshot.account.health is not None else None


def held_in_wallet(snapshot: Snapshot, asset: Asset) -> float | None:
    return snapshot.account.wallet_quote if asset.symbol == "USDC" else snapshot.account.wallet_sol


class OrderDialog(Dialog[None]):
    """A command that is armed after 400 ms and only while the data are fresh and the engine takes it. ``command_name``
    is the engine's name of it."""

    def __init__(self, operator: Operator, command_name: str, snapshot_version: int) -> None:
        super().__init__(operator)
        self.command_name = command_name
        self.snapshot_version = snapshot_version
        self.sent = False

    def why_not(self, now: float) -> str | None:
        """Why the key does nothing now; an empty text while it only has to wait for its arming."""
        view = self.operator.view
        if self.sent:
            return "sent, waiting for the engine"
        if view.link.read_only:
            return "this terminal is read-only"
        reason = view.not_fresh(now)
        if reason is not None:
            return reason
        said = view.action(self.command_name)
        if said is None:
            return "this engine does not offer it"
        if not said.enabled:
            return fmt.safe_text(said.reason, 60) or "not possible now"
        if not self._painted or self.arming.remaining_s(now) > 0:
            return ""
        return None

    def apply(self, view: View, now: float) -> None:
        if not self._painted:
            return
        if view.not_fresh(now) is not None:
            self.arming.hold()
        else:
            self.arming.resume(now)
        self.draw(view, now)

    def armed(self, now: float) -> bool:
        """Judged at the key press and not at the last tick."""
        if self.operator.view.not_fresh(now) is not None:
            self.arming.hold()
        return self.why_not(now) is None

    def draw(self, view: View, now: float) -> None:
        raise NotImplementedError

    def say(self, now: float, verb: str, action_id: str) -> None:
        reason = self.why_not(now)
        self.query_one("#hint", Hint).say(Part(reason, "$warn") if reason else self.armed_text(now, verb, action_id))


class SettleDialog(OrderDialog):
    """``market`` was under the cursor when the key was pressed."""

    def __init__(self, operator: Operator, market: str, snapshot_version: int) -> None:
        super().__init__(operator, "SETTLE", snapshot_version)
        self.market = market

    def compose(self) -> ComposeResult:
        title = f"Settle {fmt.safe_text(self.market, 20)} · {self.operator.mode().upper()}"
        yield self.frame(title, choices=[Choice("Cancel", "cancel"), Hint(id="hint")])

    def draw(self, view: View, now: float) -> None:
        lines = wrapped(
            "Moves what the position has gained or lost since the last settlement into the quote balance. Size and"
            " equity stay as they are.",
            self.cells,
            "$label",
            3,
        )
        if view.snapshot is not None:
            rows = [row for row in view.snapshot.positions if row.market == self.market]
            unsettled = rows[0].unsettled_pnl if rows else None
            quote = view.snapshot.account.quote_balance
            after = None if quote is None or unsettled is None else quote + unsettled
            lines += [
                [],
                [label(fit("unsettled", 16)), by_sign(unsettled, fit(fmt.signed(unsettled), 14, "right"))],
                [label(fit("quote now", 16)), Part(fit(fmt.number(quote), 14, "right"))],
                [label(fit("quote after", 16)), bright(fit(fmt.number(after), 14, "right"))],
            ]
        self.show(lines)
        self.say(now, "settle", "dialog-yes")

    def do(self, action_id: str) -> None:
        now = self.now
        if action_id != "dialog-yes":
            return
        if self.armed(now):
            self.sent = True
            self.operator.send_settle(
                Settle(market=self.market, intent_id=self.operator.new_intent(), snapshot_version=self.snapshot_version)
            )
            self.dismiss(None)
        else:
            self.draw(self.operator.view, now)


class TransferDialog(OrderDialog):
    """Stays open until the engine has answered: a refusal names the largest amount, and shows here."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # The field eats digits and the point only; letters must not wait for it.
        *bindings(Context.TAKE, Context.EVERYWHERE, priority=frozenset({"transfer-asset", "transfer-most", "kill"})),
    ]
    AUTO_FOCUS = "#amount"

    def __init__(self, operator: Operator, snapshot_version: int, *, deposit: bool) -> None:
        super().__init__(operator, "DEPOSIT" if deposit else "WITHDRAW", snapshot_version)
        self.deposit = deposit
        self.asset = ASSETS[0]
        self._fault = ""

    @property
    def word(self) -> str:
        return "deposit" if self.deposit else "withdraw"

    def compose(self) -> ComposeResult:
        amount = SizeField("", restrict=r"[0-9]*\.?[0-9]*", max_length=24, id="amount", select_on_focus=False)
        amount.cursor_blink = False
        yield self.frame(
            f"{self.word.capitalize()} · {self.operator.mode().upper()}",
            amount,
            choices=[Choice("Cancel", "cancel"), Hint(id="hint")],
        )

    @property
    def text(self) -> str:
        return self.query_one("#amount", Input).value

    def most(self, snapshot: Snapshot) -> Decimal | None:
        """What the source holds; the engine may allow less."""
        held = held_in_wallet(snapshot, self.asset) if self.deposit else held_in_account(snapshot, self.asset)
        return whole(held, self.asset)

    def draw(self, view: View, now: float) -> None:
        key = self.keymap.display
        lines = [
            [label(fit("asset", 12)), bright(self.asset.symbol), faint(f"   {key('transfer-asset')} changes it")],
        ]
        if view.snapshot is not None:
            for name, held in (
                ("wallet", held_in_wallet(view.snapshot, self.asset)),
                ("account", held_in_account(view.snapshot, self.asset)),
            ):
                source = (name == "wallet") == self.deposit
                text = fmt.number(held, 2 if self.asset.symbol == "USDC" else 4)
                line = [label(fit(name, 12)), Part(fit(text, 16, "right"), "$bright" if source else "$foreground")]
                if source:
                    line.append(faint(f"   {key('transfer-most')} takes all of it"))
                lines.append(line)
        lines.append([])
        bound = (
            "What the wallet gives moves into the account." if self.deposit else "Health after it bounds the amount."
        )
        lines += wrapped(bound + " The engine refuses too much and names the largest amount.", self.cells, "$label", 2)
        fault = self._fault
        if not fault and self.text:
            try:
                amount_units(self.text, self.asset)
            except ValidationError as error:
                fault = error.sentence
        if fault:
            lines += [[], *wrapped(fault, self.cells, "bold $warn", 4)]
        self.show([*lines, [], [label("amount")]])
        self.say(now, self.word, "take-go")

    def do(self, action_id: str) -> None:
        view, now = self.operator.view, self.now
        if self.sent or not self._painted:
            return
        amount = self.query_one("#amount", Input)
        match action_id:
            case "transfer-asset":
                self._fault = ""
                self.asset = ASSETS[(ASSETS.index(self.asset) + 1) % len(ASSETS)]
                # An amount of one asset is not an amount of the other.
                amount.value = ""
                self.arming.restart(now)
            case "transfer-most":
                self._fault = ""
                most = self.most(view.snapshot) if view.snapshot is not None else None
                if most is None:
                    self._fault = f"there is no {self.asset.symbol} to {self.word}"
                else:
                    amount.value = f"{most.normalize():f}"
                    amount.cursor_position = len(amount.value)
            case "take-go":
                self._go(now)
        self.draw(view, now)

    def _go(self, now: float) -> None:
        if not self.armed(now):
            return
        try:
            units = amount_units(self.text, self.asset)
        except ValidationError as error:
            self._fault = error.sentence
            return
        self.sent = True
        make = Deposit if self.deposit else Withdraw
        self.operator.send_transfer(
            make(
                asset=self.asset.symbol,
                amount=units,
                intent_id=self.operator.new_intent(),
                snapshot_version=self.snapshot_version,
            ),
            self,
        )

    def answered(self, result: CommandResult | None) -> None:
        """Refused: nothing was moved, so another amount may be tried. Anything else ends the dialog."""
        if result is None or result.status is not ResultStatus.REJECTED:
            self.operator.app.remove(self)
            return
        self.sent = False
        self._fault = f"refused: {result.message}"
        self.arming.restart(self.now)
        self.draw(self.operator.view, self.now)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.do("take-go")

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self._painted and not self.sent:
            self._fault = ""
            self.draw(self.operator.view, self.now)
