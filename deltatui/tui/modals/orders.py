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
from deltatui.tui.modals.armed import OrderDialog, exact, needs_typing, plain, size_field, word_field
from deltatui.tui.modals.base import Choice, Hint
from deltatui.tui.modals.plan import (
    HEDGE_DELTA,
    Lines,
    base_symbol,
    brief_gates,
    consequences,
    named,
    refused_text,
    then_lines,
)
from deltatui.tui.modals.previews import Previews
from deltatui.tui.panes.base import Part, bright, by_sign, faint, label, spread, wrapped
from deltatui.tui.store import FRESH_S
from deltatui.tui.widgets.glyphs import fit

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from deltatui.domain.snapshot import AccountView, Snapshot
    from deltatui.tui.commands import Operator
    from deltatui.tui.store import View


@dataclass(frozen=True, slots=True)
class Asset:
    """``decimals``: the smallest unit is ten to the power of minus that."""

    symbol: str
    decimals: int


QUOTE = "USDC"
"""The asset that the quote balance is counted in."""


def transferable(view: View, *, deposit: bool) -> tuple[Asset, ...]:
    """What the engine lets be moved, in its order."""
    said = view.action("DEPOSIT" if deposit else "WITHDRAW")
    return tuple(Asset(amount.asset, amount.decimals) for amount in said.amounts) if said is not None else ()


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
    """A figure of the snapshot in whole smallest units, rounded down; less than nothing is 0, unknown stays None."""
    figure = exact(value)
    if figure is None or not figure.is_finite():
        return None
    return max(figure, Decimal(0)).quantize(Decimal(1).scaleb(-asset.decimals), ROUND_DOWN)


def value_usd(units: int, asset: Asset, snapshot: Snapshot | None) -> float | None:
    """The quote asset counts 1:1, a hedge's asset at its oracle price; None where that is not known."""
    amount = float(Decimal(units).scaleb(-asset.decimals))
    if asset.symbol == QUOTE:
        return amount
    hedges = snapshot.hedges if snapshot is not None else ()
    oracle = next((hedge.prices.oracle for hedge in hedges if hedge.base_symbol == asset.symbol), None)
    return None if oracle is None else amount * oracle


def held(account: AccountView, asset: Asset) -> tuple[float | None, float | None]:
    """What is in the account and in the wallet; None: not known."""
    if asset.symbol == QUOTE:
        return account.quote_balance, account.wallet_quote
    found = next((one for one in account.assets if one.asset == asset.symbol), None)
    return (None, None) if found is None else (found.account, found.wallet)


class SettleDialog(OrderDialog):
    """``market`` is what the key press was about."""

    def __init__(self, operator: Operator, market: str, snapshot_version: int) -> None:
        super().__init__(operator, "SETTLE", snapshot_version, market)

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
    """Shows live what the amount would do. Stays open until the engine has answered: a refusal names the largest
    amount, and shows here; a large sum is asked about once more, in the confirmation."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # Also while a word is typed.
        *bindings(Context.TAKE, Context.EVERYWHERE, priority=frozenset({"kill"})),
    ]
    AUTO_FOCUS = "#amount"

    def __init__(
        self, operator: Operator, market: str, snapshot_version: int, assets: tuple[Asset, ...], *, deposit: bool
    ) -> None:
        """``assets``: those to choose from, as the detail of ``market`` has them, the first one at first; not empty."""
        super().__init__(operator, "DEPOSIT" if deposit else "WITHDRAW", snapshot_version, market)
        self.deposit = deposit
        self.assets = assets
        self.asset = assets[0]
        self._fault = ""
        self.previews = Previews(
            operator.app.connector.preview,
            lambda question: operator.app.background(question, "preview"),
            operator.clock,
            self._news,
        )

    @property
    def word(self) -> str:
        return "deposit" if self.deposit else "withdraw"

    def compose(self) -> ComposeResult:
        yield self.frame(
            f"{self.word.capitalize()} · {self.operator.mode().upper()}",
            size_field("", "amount"),
            word_field(self.asset.symbol),
            choices=[Choice("Cancel", "cancel"), Hint(id="hint")],
        )

    @property
    def text(self) -> str:
        return self.query_one("#amount", Input).value

    def largest(self, view: View) -> Decimal | None:
        """What the engine would let move now; None where it does not tell."""
        said = self.offer(view)
        told = {amount.asset: amount.max_amount for amount in said.amounts} if said is not None else {}
        return whole(told.get(self.asset.symbol), self.asset)

    def most(self, view: View) -> Decimal | None:
        """What the key for the maximum takes: where the engine does not tell, what the source holds."""
        largest = self.largest(view)
        if largest is not None or view.snapshot is None:
            return largest
        account, wallet = held(view.snapshot.account, self.asset)
        return whole(wallet if self.deposit else account, self.asset)

    def units(self, view: View) -> int:
        """What stands in the field, in smallest units. Raises ValidationError with what would be right."""
        units = amount_units(self.text, self.asset)
        largest = self.largest(view)
        if largest is not None and units > int(largest.scaleb(self.asset.decimals)):
            symbol, noun = self.asset.symbol, "deposit" if self.deposit else "withdrawal"
            most = f"the largest {noun} now is {plain(largest)} {symbol}"
            raise ValidationError("TOO_MUCH", most if largest else f"no {symbol} can be moved now")
        return units

    def _news(self) -> None:
        if self.is_attached and self._painted and not self.sent:
            self.draw(self.operator.view, self.now)

    def needs_symbol(self, view: View) -> bool:
        """Whether the asset must be typed: a large sum that leaves a live account."""
        if self.deposit:
            return False
        try:
            units = self.units(view)
        except ValidationError:
            return False
        return needs_typing(view, value_usd(units, self.asset, view.snapshot))

    def why_not(self, now: float) -> str | None:
        reason = super().why_not(now)
        if reason or not self.needs_symbol(self.operator.view):
            return reason
        if self.query_one("#symbol", Input).value.strip() != self.asset.symbol:
            return f"type {self.asset.symbol} first"
        return reason

    def draw(self, view: View, now: float) -> None:
        units, fault = None, self._fault
        try:
            units = self.units(view)
        except ValidationError as error:
            # An empty field is no mistake.
            fault = fault or (error.sentence if self.text else "")
        wish = None
        if units is not None:
            wish = (Deposit if self.deposit else Withdraw)(asset=self.asset.symbol, amount=units)
        if not self.sent:
            self.previews.want(wish, now)
        typed = self.needs_symbol(view)
        foot: Lines = []
        if fault := fault or self.previews.fault:
            foot = wrapped(fault, self.cells, "bold $warn", 4)
        elif typed and units is not None:
            value = value_usd(units, self.asset, view.snapshot)
            worth = "of unknown value" if value is None else f"worth {fmt.usd(value)}"
            text = f"This moves real money {worth} out of the account: tab, then type {self.asset.symbol}."
            foot = wrapped(text, self.cells, "bold $warn", 2)
        self.query_one("#symbol").display = typed
        head = [*self._source_lines(view, units), []]
        lines = [*head, *self._effect_lines(now, asked=units is not None), *([[], *foot] if foot else []), []]
        if len(lines) >= self.rows(2 if typed else 1):
            # Where the screen is short, what matters goes before white space.
            lines = [line for line in lines if line]
        self.show([*lines, [label("amount")]])
        self.say(now, self.word, "take-go")

    def _source_lines(self, view: View, units: int | None) -> Lines:
        """What is where, before and after, and what could be moved at most."""
        key, symbol = self.keymap.display, self.asset.symbol
        places = 2 if symbol == QUOTE else min(6, self.asset.decimals)
        moved = None if units is None else float(Decimal(units).scaleb(-self.asset.decimals))
        place = f"{self.assets.index(self.asset) + 1} of {len(self.assets)}, "
        change = [faint(f"{place}{key('transfer-asset')} changes it")] if len(self.assets) > 1 else []
        lines = [spread(named("asset", bright(fmt.safe_text(symbol, 12))), change, self.cells)]
        if view.snapshot is not None:
            account, wallet = held(view.snapshot.account, self.asset)
            for name, there in (("wallet", wallet), ("account", account)):
                source = (name == "wallet") == self.deposit
                text = fmt.number(there, places)
                line = named(name, Part(fit(text, 20, "right"), "$bright" if source else "$foreground"))
                if moved is not None and there is not None:
                    after = there - moved if source else there + moved
                    line += [label("   after "), bright(fmt.number(after, places))]
                lines.append(line)
        largest = self.largest(view)
        told = "not told" if largest is None else plain(largest)
        step = plain(Decimal(1).scaleb(-self.asset.decimals))
        lines.append(
            spread(
                named("largest", bright(fit(told, 20, "right")), faint(f"   step {step}")),
                [faint(f"{key('transfer-most')} takes {'what is held' if largest is None else 'it'}")],
                self.cells,
            )
        )
        if largest is None:
            lines += wrapped("The engine refuses too much and names the largest amount.", self.cells, "$label", 2)
        return lines

    def _effect_lines(self, now: float, *, asked: bool) -> Lines:
        """What the amount would do to the account, as the engine says."""
        plan, age_s = self.previews.plan, self.previews.age_s(now)
        note = ""
        if plan is None and asked and not self.previews.fault:
            note = "asking the engine"
        elif plan is not None and age_s > FRESH_S:
            note = f"{age_s:.0f} s old"
        shown = plan or self.previews.last_plan
        base = base_symbol(shown.market, self.operator.view.snapshot) if shown is not None else ""
        lines = consequences(shown, asking=plan is None, note=note, delta_name=HEDGE_DELTA, base=base)
        if plan is not None:
            lines += [*then_lines(plan, self.cells), *brief_gates(plan, self.cells)]
            lines += [refused] if (refused := refused_text(plan, "")) else []
        return lines

    def do(self, action_id: str) -> None:
        view, now = self.operator.view, self.now
        if self.sent or not self._painted:
            return
        amount = self.query_one("#amount", Input)
        match action_id:
            case "transfer-asset":
                self._fault = ""
                self.asset = self.assets[(self.assets.index(self.asset) + 1) % len(self.assets)]
                # An amount of one asset is not an amount of the other.
                amount.value = ""
                word = self.query_one("#symbol", Input)
                word.value, word.placeholder = "", f"type {self.asset.symbol} to confirm"
                self.arming.restart(now)
            case "transfer-most":
                self._fault = ""
                most = self.most(view)
                if not most:
                    self._fault = f"there is no {self.asset.symbol} to {self.word}"
                else:
                    amount.value = f"{most.normalize():f}"
                    amount.cursor_position = len(amount.value)
            case "take-go":
                self._go(view, now)
        self.draw(view, now)

    def _go(self, view: View, now: float) -> None:
        if not self.armed(now):
            return
        try:
            units = self.units(view)
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
        if result is None or result.status != ResultStatus.REJECTED:
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
        if not self._painted or self.sent:
            return
        if event.input.id == "amount":
            self._fault = ""
            # The word was typed for the amount that stood there.
            self.query_one("#symbol", Input).value = ""
        self.draw(self.operator.view, self.now)
