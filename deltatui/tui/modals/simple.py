"""The other dialogs that ask: kill, quit, a plain question, one line of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.widgets import Input

from deltatui.domain.command import Kill
from deltatui.tui.actions import Context
from deltatui.tui.keymap import bindings
from deltatui.tui.modals.base import Choice, Dialog, Hint
from deltatui.tui.panes.base import Part, faint, label, wrapped
from deltatui.tui.widgets.glyphs import fit

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult

    from deltatui.tui.commands import Operator
    from deltatui.tui.store import View


def no_flatten(view: View) -> str:
    """Why this engine would refuse a kill that also closes positions; empty where it would not."""
    engine = view.snapshot.engine if view.snapshot is not None else None
    if engine is None or engine.mode != "live" or engine.live_mode not in ("watch", "manage"):
        return ""
    return f"refused in live mode {engine.live_mode}"


class KillDialog(Dialog[None]):
    """Armed by time alone: it must work when the data are old (R12.4)."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Context.KILL)]

    def __init__(self, operator: Operator) -> None:
        super().__init__(operator)
        self.flatten = False
        self.sent = False

    def compose(self) -> ComposeResult:
        reason = Input(placeholder="reason, recorded", max_length=200, id="reason")
        reason.cursor_blink = False
        yield self.frame(
            f"Kill switch · {self.operator.mode().upper()}",
            reason,
            choices=[Choice("Cancel", "cancel"), Hint(id="hint")],
        )

    def apply(self, view: View, now: float) -> None:
        if not self._painted:
            return
        key = self.keymap.display
        toggle = "yes: then every position is closed" if self.flatten else "no: what is open stays open"
        lines = wrapped("Cancels everything, turns automation off and halts the engine.", self.cells, "$bright")
        lines += [
            [],
            [
                label(fit("flatten", 10)),
                Part(toggle, "bold $warn" if self.flatten else "$foreground"),
                faint("   " + (no_flatten(view) or f"{key('kill-flatten')} changes it")),
            ],
            [label(fit("reason", 10)), faint(f"{key('kill-reason')} to write one, enter when done")],
        ]
        if not view.link.up:
            lines += wrapped(
                "The engine is not connected: the command cannot reach it from here.", self.cells, "bold $down", 2
            )
        self.show(lines)
        hint = self.query_one("#hint", Hint)
        hint.say(faint("sent, waiting for the engine") if self.sent else self.armed_text(now, "kill"))

    def do(self, action_id: str) -> None:
        now = self.now
        if action_id == "kill-flatten" and not self.sent and self.arming.remaining_s(now) <= 0:
            # A kill that is refused for what it also asks would be no kill.
            self.flatten = not self.flatten and not no_flatten(self.operator.view)
            self.arming.restart(now)
        elif action_id == "kill-reason":
            self.query_one("#reason", Input).focus()
        elif action_id == "dialog-yes" and not self.sent and self._painted and self.arming.remaining_s(now) <= 0:
            self.sent = True
            self.operator.send_kill(
                Kill(
                    flatten=self.flatten,
                    reason=self.query_one("#reason", Input).value.strip() or "operator",
                    intent_id=self.operator.new_intent(),
                    snapshot_version=self.operator.snapshot_version(),
                ),
                self,
            )
        self.apply(self.operator.view, now)

    def not_sent(self) -> None:
        """The command did not get through: it may be tried again."""
        self.sent = False
        self.arming.restart(self.now)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one("#cancel").focus()


class QuitDialog(Dialog[None]):
    """Leave the terminal; where this is the last one on paper or replay, the engine with it (R13.8)."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Context.QUIT)]

    def __init__(self, operator: Operator, *, may_stop: bool) -> None:
        super().__init__(operator)
        self.may_stop = may_stop
        self.sent = False

    def compose(self) -> ComposeResult:
        stop = [Choice("Stop the engine too", "stop")] if self.may_stop else []
        yield self.frame(
            "Quit",
            choices=[*stop, Choice("Keep it running" if self.may_stop else "Quit", "keep"), Choice("Cancel", "cancel")],
        )

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#stop" if self.may_stop else "#keep").focus()

    def apply(self, view: View, now: float) -> None:
        if not self._painted:
            return
        mode = self.operator.mode()
        key = self.keymap.display
        if self.may_stop:
            text = f"This is the last terminal of this {mode} engine. Stop the engine too?"
            keys = f"{key('dialog-yes')} stop   {key('quit-keep')} keep it running   {key('dialog-no')} cancel"
        else:
            text = "Leave this terminal? The engine keeps running."
            keys = f"{key('dialog-yes')} quit   {key('dialog-no')} cancel"
        if self.sent:
            keys = "sent, waiting for the engine"
        self.show([*wrapped(text, self.cells, "$bright"), [], [label(keys)], []])

    def not_sent(self) -> None:
        """The engine was not stopped: it may be tried again."""
        self.sent = False
        self.arming.restart(self.now)

    def do(self, action_id: str) -> None:
        if self.sent or not self._painted or self.arming.remaining_s(self.now) > 0:
            return
        if action_id in ("stop", "dialog-yes") and self.may_stop:
            self.sent = True
            self.operator.stop_and_leave(self)
            self.apply(self.operator.view, self.now)
        elif action_id in ("keep", "quit-keep", "dialog-yes"):
            self.operator.leave_terminal()


class AskDialog(Dialog[None]):
    """A question with a yes that is armed by time."""

    def __init__(self, operator: Operator, title: str, text: str, verb: str, yes: Callable[[], None]) -> None:
        super().__init__(operator)
        self._title, self._text, self._verb, self._yes = title, text, verb, yes

    def compose(self) -> ComposeResult:
        yield self.frame(self._title, choices=[Choice("Cancel", "cancel"), Hint(id="hint")])

    def apply(self, view: View, now: float) -> None:
        if self._painted:
            self.show([*wrapped(self._text, self.cells, "$bright", 6), []])
            self.query_one("#hint", Hint).say(self.armed_text(now, self._verb))

    def do(self, action_id: str) -> None:
        if action_id == "dialog-yes" and self._painted and self.arming.remaining_s(self.now) <= 0:
            self.dismiss(None)
            self._yes()


class PromptDialog(Dialog[None]):
    """One line of text. Enter takes it, empty included; escape leaves things as they are.

    ``take`` gets the text and whether it is a regular expression, and answers with what is wrong with it: then the
    dialog stays. ``regex`` None: the text is always taken as it stands.
    """

    AUTO_FOCUS = "#text"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Context.PROMPT, priority=frozenset({"prompt-regex"}))]

    def __init__(
        self,
        operator: Operator,
        title: str,
        help_text: str,
        value: str,
        take: Callable[[str, bool], str | None],
        *,
        regex: bool | None = None,
    ) -> None:
        super().__init__(operator)
        self._title, self._help, self._value, self._take = title, help_text, value, take
        self.regex = regex
        self._fault = ""

    def compose(self) -> ComposeResult:
        text = Input(self._value, max_length=200, id="text")
        text.cursor_blink = False
        yield self.frame(self._title, text, choices=[Choice("Cancel", "cancel")])

    def apply(self, view: View, now: float) -> None:
        if not self._painted:
            return
        lines = wrapped(self._help, self.cells, "$label", 3)
        if self.regex is not None:
            kind = "a regular expression" if self.regex else "text as it stands"
            key = self.keymap.display("prompt-regex")
            lines.append([label(fit("taken as", 10)), Part(kind), faint(f"   {key} changes it")])
        if self._fault:
            lines += wrapped(self._fault, self.cells, "bold $warn", 3)
        self.show(lines)

    def do(self, action_id: str) -> None:
        if action_id == "prompt-regex" and self.regex is not None:
            self.regex = not self.regex
            self._fault = ""
            self.apply(self.operator.view, self.now)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._fault = self._take(event.value, bool(self.regex)) or ""
        if self._fault:
            self.apply(self.operator.view, self.now)
        else:
            self.dismiss(None)
