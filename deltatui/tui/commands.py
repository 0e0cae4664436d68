"""What the actions do: the one place that turns keys into commands and results into toasts."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from deltatui.domain.command import (
    CommandResult,
    Direction,
    ForgetLosses,
    Leave,
    Pause,
    Rebalance,
    ResultStatus,
    Resume,
    SetAutomation,
    SetSpeed,
    Stop,
)
from deltatui.domain.errors import DeltatuiError, UnresolvedError
from deltatui.plain import part_text
from deltatui.tui import fmt
from deltatui.tui.actions import BY_ID, Action
from deltatui.tui.enabled import next_speed, pause_command
from deltatui.tui.modals.confirm import ConfirmDialog, subject
from deltatui.tui.modals.help import HelpDialog
from deltatui.tui.modals.jump import JumpScreen
from deltatui.tui.modals.orders import SettleDialog, TransferDialog, transferable
from deltatui.tui.modals.palette import PaletteDialog
from deltatui.tui.modals.simple import AskDialog, KillDialog, PromptDialog, QuitDialog
from deltatui.tui.modals.take import TakeDialog
from deltatui.tui.widgets.glyphs import width_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deltatui.domain.command import AnyCommand, Cancel, Confirm, Deposit, Kill, Settle, Take, Withdraw
    from deltatui.domain.verdict import Verdict
    from deltatui.tui.app import DeltatuiApp
    from deltatui.tui.keymap import Keymap
    from deltatui.tui.store import View

Severity = Literal["information", "warning", "error"]
_MAX_TOAST = 300
_TOASTS: dict[Severity, tuple[str, float]] = {"information": ("", 4.0), "warning": ("▲ ", 8.0), "error": ("✕ ", 12.0)}
"""Sign before the text, which must not hang on its colour alone, and seconds on the screen."""
_TOAST_CELLS = 70
"""Of one line of a toast on the smallest screen."""
_MAX_FAULT = 160
_READ_S = 30.0
"""What is partly done has several lines, and each is money."""
ENDED = frozenset({"OVERTAKEN", "CANCELLED", "KILLED"})
"""Codes of a question that is over without having been confirmed: nothing failed, and nothing was done. EXPIRED is an
operation's code too."""


_OF_A_POSITION = frozenset({"leave", "rebalance", "settle"})
"""Actions that are about the position under the cursor, where there is one."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a key press was about: the selected market (empty: none) and the snapshot that was on the screen (R13.10).
    ``position`` is the market of the position under the cursor, where the positions have the focus, ``candidate`` that
    of the opportunity under the cursor. ``lost`` names a chosen opportunity that is no longer there, ``lost_position``
    a chosen position."""

    market: str
    snapshot_version: int
    position: str | None = None
    candidate: str | None = None
    lost: str | None = None
    lost_position: str | None = None

    def market_of(self, action_id: str) -> str:
        """The market that an action is about."""
        return self.position if self.position is not None and action_id in _OF_A_POSITION else self.market


def refusals(verdicts: tuple[Verdict, ...]) -> str:
    """``profitability never (limit 168 h)`` of every verdict that refuses."""
    return "; ".join(
        f"{verdict.code.lower().replace('_', ' ')} {verdict.observed}"
        + (f" (limit {verdict.limit})" if verdict.limit else "")
        + (f": {verdict.reason}" if verdict.reason else "")
        for verdict in verdicts
        if not verdict.allowed
    )


def listed(head: str, items: Sequence[str], cells: int) -> str:
    """``head: item; item; … and 3 more`` in about ``cells`` cells: the first item always, each cut to a few lines."""
    said = fmt.safe_text(head, 80) + ":"
    for number, item in enumerate(items):
        more = fmt.safe_text(item, _MAX_FAULT)
        if number and width_of(said) + width_of(more) + 2 > cells:
            return f"{said} … and {len(items) - number} more"
        said += f" {more}" + (";" if number < len(items) - 1 else "")
    return said


def headed(what: str, message: str) -> str:
    """``message``, after what was asked where it does not begin with that itself."""
    return message if message.split(" ")[0] == what.split(" ")[0] else f"{what}: {message}"


class Operator:
    """The operator's hands. One per app; methods of actions return at once, answers come as toasts."""

    def __init__(self, app: DeltatuiApp, clock: Callable[[], float], keymap: Keymap) -> None:
        self.app = app
        self.clock = clock
        self.keymap = keymap
        self._running: set[str] = set()
        self._regex = {"filter": False, "search": False}

    # What dialogs and panes ask

    @property
    def view(self) -> View:
        return self.app.store.view

    def mode(self) -> str:
        snapshot = self.view.snapshot
        return snapshot.engine.mode if snapshot is not None else "unknown"

    def mode_classes(self) -> tuple[str, ...]:
        mode = self.mode()
        return (f"-{mode}",) if mode in ("replay", "paper", "live") else ()

    def snapshot_version(self) -> int:
        snapshot = self.view.snapshot
        return snapshot.version if snapshot is not None else 0

    def new_intent(self) -> str:
        return uuid.uuid4().hex

    def why_not(self, action: Action, target: Target | None = None) -> str | None:
        """Why ``action`` cannot be done now; None when it can. ``target`` None: what a key pressed now is about."""
        if action.id in self._running:
            return "it is running"
        target = self.app.target() if target is None else target
        return action.enabled(self.view.at(target.market_of(action.id)), self.clock())

    @property
    def running(self) -> frozenset[str]:
        """Ids of the actions whose command has no answer yet."""
        return frozenset(self._running)

    def label_of(self, action: Action) -> str:
        """The label, where it depends on the state."""
        if action.id == "pause":
            return pause_command(self.view).lower()
        return action.label

    def toast(self, text: str, severity: Severity = "information", timeout_s: float | None = None) -> None:
        """A message as text, never as markup."""
        self._notify(fmt.safe_text(text, _MAX_TOAST), severity, timeout_s)

    def toast_list(self, head: str, items: Sequence[str], severity: Severity, timeout_s: float | None = None) -> None:
        """``head: item; item; ...`` with as many items whole as take half the screen, and how many more there are."""
        self._notify(listed(head, items, _TOAST_CELLS * max(4, self.app.size.height // 2 - 3)), severity, timeout_s)

    def toast_lines(self, lines: Sequence[str], severity: Severity, timeout_s: float) -> None:
        """One message of several lines."""
        self._notify("\n".join(fmt.safe_text(line, _MAX_TOAST) for line in lines), severity, timeout_s)

    def _notify(self, safe: str, severity: Severity, timeout_s: float | None) -> None:
        mark, wait = _TOASTS[severity]
        wait = wait if timeout_s is None else timeout_s
        self.app.notify(mark + safe, severity=severity, timeout=wait, markup=False)

    # Running an action

    def do(self, action_id: str) -> None:
        """Run an action by its id on what is selected now."""
        self.run(BY_ID[action_id], self.app.target())

    def run(self, action: Action, target: Target) -> None:
        reason = self.why_not(action, target)
        if reason is not None:
            self.toast(f"{action.label}: {reason}", "warning")
        elif action.handler is not None:
            action.handler(self, target)

    def send(
        self,
        command: AnyCommand,
        what: str,
        *,
        action_id: str = "",
        done: Callable[[CommandResult | None], None] | None = None,
        refusal_shown: Callable[[], bool] = lambda: False,
    ) -> None:
        """Send in the background; the result becomes a toast. ``done`` gets None when there was none.
        ``refusal_shown``: whether a dialog is there to say a refusal in the toast's place."""
        if action_id:
            self._running.add(action_id)
        self.app.background(self._send(command, what, action_id, done, refusal_shown), f"command {what}")

    async def _send(
        self,
        command: AnyCommand,
        what: str,
        action_id: str,
        done: Callable[[CommandResult | None], None] | None,
        refusal_shown: Callable[[], bool],
    ) -> None:
        result: CommandResult | None = None
        try:
            result = await self.app.connector.command(command)
        except UnresolvedError as error:
            self.toast(f"{what}: outcome not known. {error.sentence}", "warning", 15.0)
        except DeltatuiError as error:
            self.toast(f"{what}: {error.sentence}", "error")
        finally:
            self._running.discard(action_id)
        if result is not None and not (result.status == ResultStatus.REJECTED and refusal_shown()):
            self.tell(result, what)
        if done is not None:
            done(result)
        self.app.tick_soon()

    def tell(self, result: CommandResult, what: str) -> None:
        """A result in words; what waits for a confirmation is told by its dialog."""
        match result.status:
            case ResultStatus.DONE:
                self.toast(headed(what, result.message or "done"))
            case ResultStatus.PARTLY_DONE:
                legs = [f"  {part_text(part)}" for part in result.parts]
                self.toast_lines([headed(what, result.message), *legs], "warning", _READ_S)
            case ResultStatus.UNRESOLVED:
                self.toast(f"{what}: not resolved yet. {result.message}", "warning", 15.0)
            case ResultStatus.REJECTED if result.code in ENDED:
                self.toast(f"{what} {result.code.lower()}: {result.message}", "warning")
            case ResultStatus.REJECTED:
                gates = refusals(result.verdicts)
                self.toast(f"{what} rejected: {result.message}" + (f" [{gates}]" if gates else ""), "error")

    # Trade

    def select(self, market: str) -> None:
        """Select ``market``: what the panes show, and what the actions are about. Says so where it cannot be."""
        if not self.app.store.select(market):
            self.toast(f"{market} is not carried by this engine: it cannot be selected", "warning")
            return
        self.app.background(self.app.connector.tell_selection(), "select")
        self.app.tick_soon()

    def _market(self, target: Target, what: str) -> str | None:
        """The market that the action ``what`` is about. A position's is selected with it, so that the panes show what
        is acted on. A cursor on another market than the selected one is ambiguous, and refused."""
        lost = target.lost_position if what in _OF_A_POSITION else None
        lost = target.lost if lost is None else lost
        if lost is not None:
            self.toast(f"{what}: the chosen row {lost} is gone; choose one with an arrow key", "warning")
            return None
        if target.candidate is not None and target.candidate != target.market:
            key = self.keymap.display("open-row")
            self.toast(
                f"{what}: the cursor is on {target.candidate}, but {target.market} is selected;"
                f" {key} selects {target.candidate}",
                "warning",
            )
            return None
        market = target.market_of(what)
        snapshot = self.view.snapshot
        if market != target.market and snapshot is not None and snapshot.hedge(market) is not None:
            self.select(market)
        return market

    def take(self, target: Target) -> None:
        market = self._market(target, "take")
        if market is None:
            return
        view = self.view.at(market)
        limits, shown = view.action("TAKE"), view.shown
        if limits is None or shown is None or shown.hedge is None:
            return
        direction = Direction.REVERSE if shown.hedge.carry.decision == "REVERSE" else Direction.CARRY
        usual = self.app.options.take_size if limits.usual_size is None else f"{limits.usual_size:.10g}"
        wish = self.app.take_sizes.get(market, usual)
        self.app.push_screen(TakeDialog(self, shown.hedge, target.snapshot_version, limits, wish, direction))

    def send_take(self, command: Take, wish: str) -> None:
        self.app.take_sizes[command.market] = wish
        self.send(command, f"take {command.market}", action_id="take")

    def leave(self, target: Target) -> None:
        market = self._market(target, "leave")
        if market is not None:
            command = Leave(market=market, intent_id=self.new_intent(), snapshot_version=target.snapshot_version)
            self.send(command, f"leave {market}", action_id="leave")

    def rebalance(self, target: Target) -> None:
        market = self._market(target, "rebalance")
        if market is not None:
            command = Rebalance(market=market, intent_id=self.new_intent(), snapshot_version=target.snapshot_version)
            self.send(command, f"rebalance {market}", action_id="rebalance")

    def settle(self, target: Target) -> None:
        market = self._market(target, "settle")
        if market is not None:
            self.app.push_screen(SettleDialog(self, market, target.snapshot_version))

    def send_settle(self, command: Settle) -> None:
        self.send(command, f"settle {command.market}", action_id="settle")

    def deposit(self, target: Target) -> None:
        self._transfer(target, deposit=True)

    def withdraw(self, target: Target) -> None:
        self._transfer(target, deposit=False)

    def _transfer(self, target: Target, *, deposit: bool) -> None:
        market = target.market
        assets = transferable(self.view.at(market), deposit=deposit)
        if assets:
            self.app.push_screen(TransferDialog(self, market, target.snapshot_version, assets, deposit=deposit))
        else:
            word = "deposit" if deposit else "withdraw"
            self.toast(f"{word}: the engine names no asset that could be moved", "warning")

    def send_transfer(self, command: Deposit | Withdraw, dialog: TransferDialog) -> None:
        def done(result: CommandResult | None) -> None:
            if dialog.is_attached:
                dialog.answered(result)

        what = f"{dialog.word} {command.asset}"
        self.send(command, what, action_id=dialog.word, done=done, refusal_shown=lambda: dialog.is_attached)

    def delegate(self) -> None:
        snapshot = self.view.snapshot
        who = snapshot.account.delegate if snapshot is not None else ""
        self.toast(f"{who} may trade for this account; it cannot withdraw", timeout_s=12.0)

    def confirm(self, command: Confirm, dialog: ConfirmDialog) -> None:
        def done(result: CommandResult | None) -> None:
            if result is None or result.status == ResultStatus.REJECTED:
                # Nothing was done that is known of: if the engine still waits for an answer, ask again.
                self.app.answered[command.operation_id] = self.snapshot_version()
            else:
                self.confirmation_closed(command.operation_id)
            if dialog.is_attached:
                self.app.remove(dialog)

        self.send(command, subject(dialog.confirmation), done=done)

    def cancel(self, command: Cancel) -> None:
        if self.view.link.up and not self.view.link.read_only:
            self.send(command, "cancel")

    def confirmation_closed(self, operation_id: str) -> None:
        """This confirmation has been answered here: do not show it again."""
        self.app.answered[operation_id] = None

    # Engine

    def pause(self, target: Target) -> None:
        intent, version = self.new_intent(), target.snapshot_version
        if pause_command(self.view) == "RESUME":
            self.send(Resume(intent_id=intent, snapshot_version=version), "resume", action_id="pause")
        else:
            self.send(Pause(intent_id=intent, snapshot_version=version), "pause", action_id="pause")

    def automation(self, target: Target) -> None:
        snapshot = self.view.snapshot
        if snapshot is None:
            return

        def switch(on: bool) -> None:
            command = SetAutomation(on=on, intent_id=self.new_intent(), snapshot_version=target.snapshot_version)
            self.send(command, f"automation {'on' if on else 'off'}", action_id="automation")

        if snapshot.engine.automation:
            switch(False)
            return
        text = (
            f"From now on this {snapshot.engine.mode} engine takes, leaves and rebalances by itself within its gates"
            " and limits, a position opened by hand included."
        )
        self.app.push_screen(AskDialog(self, "Automation on", text, "turn on", lambda: switch(True)))

    def forget_losses(self, target: Target) -> None:
        """The engine asks before it does it: its question opens like that of a trade."""
        command = ForgetLosses(intent_id=self.new_intent(), snapshot_version=target.snapshot_version)
        self.send(command, "forget losses", action_id="forget-losses")

    def speed(self, target: Target, *, up: bool) -> None:
        snapshot = self.view.snapshot
        speed = next_speed(snapshot.clock.speed, up) if snapshot is not None else None
        if speed is not None:
            command = SetSpeed(speed=speed, intent_id=self.new_intent(), snapshot_version=target.snapshot_version)
            self.send(command, f"speed ×{speed}")

    def kill(self, target: Target) -> None:
        if not any(isinstance(screen, KillDialog) for screen in self.app.screen_stack):
            self.app.push_screen(KillDialog(self))

    def send_kill(self, command: Kill, dialog: KillDialog) -> None:
        def done(result: CommandResult | None) -> None:
            if not dialog.is_attached:
                return
            if result is None or result.status == ResultStatus.REJECTED:
                dialog.not_sent()
            else:
                self.app.remove(dialog)

        self.send(command, "kill", done=done)

    # Panes and log

    def zoom(self, number: str) -> None:
        self.app.main.zoom(number)

    def focus_pane(self, step: int) -> None:
        self.app.main.focus_pane(step)

    def jump(self) -> None:
        main = self.app.main
        self.app.push_screen(JumpScreen(main.places(), main.focus_number))

    def sort(self) -> None:
        grid = self.app.main.focused_grid()
        if grid is None:
            self.toast("sort: focus a table first", "warning")
        else:
            grid.cycle_sort()

    def reverse_sort(self) -> None:
        grid = self.app.main.focused_grid()
        if grid is None or grid.sorting[0] is None:
            self.toast("reverse sort: sort the focused table first", "warning")
        else:
            grid.reverse_sort()

    def filter_rows(self) -> None:
        grid = self.app.main.focused_grid()
        if grid is None:
            self.toast("filter rows: focus a table first", "warning")
            return

        def take(text: str, regex: bool) -> str | None:
            grid.set_filter(text)
            self.app.tick_soon()
            return None

        help_text = "Only rows with this text in one of their cells; empty shows all."
        self.app.push_screen(PromptDialog(self, "Filter the table", help_text, grid.filter_text, take))

    def next_picture(self) -> None:
        self.app.main.next_picture()

    def back(self) -> None:
        if not self.app.main.zoom(None):
            self.dismiss()

    def close(self) -> None:
        if not self.app.main.zoom(None):
            self.quit()

    def dismiss(self) -> None:
        self.app.main.dismiss_banner()

    def copy(self) -> None:
        text = self.app.main.selected_text()
        if text is None:
            self.toast("copy: nothing is selected", "warning")
            return
        self.app.copy_to_clipboard(text)
        self.toast("copied; if nothing arrived, the terminal or tmux refuses OSC 52")

    def log_filter(self) -> None:
        log = self.app.main.log_view

        def take(text: str, regex: bool) -> str | None:
            if not log.set_filter(text, regex=regex):
                return log.status.error
            self._regex["filter"] = regex
            self.app.tick_soon()
            return None

        help_text = "Only lines with this text; empty shows all."
        self.app.push_screen(
            PromptDialog(self, "Filter the log", help_text, log.status.filter, take, regex=self._regex["filter"])
        )

    def log_search(self) -> None:
        log = self.app.main.log_view

        def take(text: str, regex: bool) -> str | None:
            same = (text, regex) == (log.status.search, self._regex["search"])
            found = log.next_match() if same else log.search(text, regex=regex)
            if log.status.error:
                return log.status.error
            self._regex["search"] = regex
            log.focus()
            if text and not found:
                self.toast(f"'{text}' is not in the log" + (" below this line" if same else ""), "warning")
            return None

        keys = f"{self.keymap.display('next-match')} and {self.keymap.display('previous-match')}"
        help_text = f"In the log {keys} go to the next and the previous hit."
        self.app.push_screen(
            PromptDialog(self, "Search the log", help_text, log.status.search, take, regex=self._regex["search"])
        )

    def log_wrap(self) -> None:
        log = self.app.main.log_view
        log.set_wrap(not log.status.wrap)
        self.app.tick_soon()

    def log_level(self) -> None:
        self.app.main.cycle_log_level()

    def log_error(self, step: int) -> None:
        log = self.app.main.log_view
        following = log.status.follow
        if not (log.next_error() if step > 0 else log.previous_error()):
            where = "" if following else " further down" if step > 0 else " further up"
            self.toast(f"no ERROR line{where or ' in the log'}")

    def log_follow(self) -> None:
        log = self.app.main.log_view
        log.set_follow(not log.status.follow)

    # Terminal

    def palette(self, target: Target) -> None:
        self.app.push_screen(PaletteDialog(self, target))

    def help(self) -> None:
        self.app.push_screen(HelpDialog(self, self.app.main.focused_name()))

    def next_theme(self) -> None:
        self.app.next_theme()

    def quit(self) -> None:
        if any(isinstance(screen, QuitDialog) for screen in self.app.screen_stack):
            return
        snapshot, link = self.view.snapshot, self.view.link
        if snapshot is None or not link.up:
            self.leave_terminal()
            return
        stop = self.view.action("STOP_ENGINE")
        may_stop = (
            snapshot.engine.mode in ("replay", "paper")
            and snapshot.engine.clients <= 1
            and not link.read_only
            and (stop is None or stop.enabled)
        )
        self.app.push_screen(QuitDialog(self, may_stop=may_stop))

    def suspend(self) -> None:
        self.app.action_suspend_process()

    def leave_terminal(self) -> None:
        self.app.leave(0)

    def stop_and_leave(self, dialog: QuitDialog) -> None:
        self.app.background(self._stop_and_leave(dialog), "stop the engine")

    async def _stop_and_leave(self, dialog: QuitDialog) -> None:
        try:
            result = await self.app.connector.command(Stop(intent_id=self.new_intent()))
        except UnresolvedError:
            # The engine closed the door while it stopped, before it could say so.
            self.app.leave(0)
            return
        except DeltatuiError as error:
            why = error.sentence
        else:
            if result.success:
                self.app.leave(0)
                return
            why = result.message
        self.toast(f"the engine was not stopped: {why}", "error")
        if dialog.is_attached:
            dialog.not_sent()
        self.app.tick_soon()
