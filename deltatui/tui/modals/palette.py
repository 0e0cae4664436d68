"""The palette (find an action by name) and the help (every key, and why not)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.fuzzy import Matcher
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from deltatui.tui import fmt
from deltatui.tui.actions import ACTIONS, BY_ID, Action, Context
from deltatui.tui.modals.base import Choice, Dialog
from deltatui.tui.panes.base import Part, bright, faint, label, wrapped
from deltatui.tui.widgets.glyphs import fit

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from deltatui.tui.commands import Operator, Target
    from deltatui.tui.store import View

_OPEN = (Context.EVERYWHERE, Context.MAIN)


def found(text: str) -> list[Action]:
    """Actions of the main screen that match ``text``, the best first; all of them for an empty text."""
    actions = [action for action in ACTIONS if action.context in _OPEN and action.handler is not None]
    if not text.strip():
        return actions
    matcher = Matcher(text.strip())
    scored = [(max(matcher.match(f"{a.id} {a.label}"), matcher.match(a.help) / 2), a) for a in actions]
    return [action for score, action in sorted(scored, key=lambda pair: -pair[0]) if score > 0]


class PaletteDialog(Dialog[None]):
    """The target was captured when the palette was opened: that is the row the operator was looking at."""

    AUTO_FOCUS = "#text"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "move(1)", "next", show=False, priority=True),
        Binding("up", "move(-1)", "previous", show=False, priority=True),
    ]

    def __init__(self, operator: Operator, target: Target) -> None:
        super().__init__(operator)
        self._target = target

    def compose(self) -> ComposeResult:
        text = Input(placeholder="name of an action", max_length=40, id="text")
        text.cursor_blink = False
        options = OptionList(id="found", markup=False)
        options.can_focus = False
        yield self.frame("Actions", text, options, choices=[Choice("Cancel", "cancel")])

    def on_mount(self) -> None:
        super().on_mount()
        self._fill("")

    def _fill(self, text: str) -> None:
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options([Option(self._prompt(action), id=action.id) for action in found(text)])
        if options.option_count:
            options.highlighted = 0

    def _prompt(self, action: Action) -> Content:
        reason = self.operator.why_not(action)
        name = fit(self.operator.label_of(action), 16)
        key = fit(self.keymap.display(action.id), 7)
        if reason is not None:
            return Content.assemble((key + name, "$faint"), (f"not now: {fmt.safe_text(reason, 80)}", "$faint"))
        return Content.assemble((key, "$mark"), (name, "$bright"), (action.help, "$label"))

    def action_move(self, step: int) -> None:
        options = self.query_one(OptionList)
        if options.option_count:
            options.highlighted = ((options.highlighted or 0) + step) % options.option_count

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._fill(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        options = self.query_one(OptionList)
        if options.highlighted is not None and options.option_count:
            self._run(options.get_option_at_index(options.highlighted).id)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._run(event.option.id)

    def _run(self, action_id: str | None) -> None:
        # Enter typed ahead must not run what was never seen.
        if action_id is None or not self._painted or self.arming.remaining_s(self.now) > 0:
            return
        self.dismiss(None)
        self.operator.run(BY_ID[action_id], self._target)


class HelpDialog(Dialog[None]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,q", "close_help", "close", show=False),
        Binding("j", "scroll_dialog(1)", "down", show=False),
        Binding("k", "scroll_dialog(-1)", "up", show=False),
    ]

    def __init__(self, operator: Operator, pane: str) -> None:
        super().__init__(operator)
        self._pane = pane

    def compose(self) -> ComposeResult:
        yield self.frame("Help", choices=[Choice("Close", "cancel")])

    def apply(self, view: View, now: float) -> None:
        if self._painted:
            self.show(help_lines(self.operator, self._pane, self.cells))

    def action_close_help(self) -> None:
        self.dismiss(None)


def help_lines(operator: Operator, pane: str, cells: int) -> list[list[Part]]:
    """What can be done here first: the group of the focused pane, then the others; a reason under what cannot."""
    groups: dict[str, list[Action]] = {}
    for action in ACTIONS:
        groups.setdefault(action.group, []).append(action)
    first = "Log" if pane == "Log" else "Trade"
    order = sorted(groups, key=lambda group: group != first)
    lines: list[list[Part]] = []
    if pane in ("Positions", "Opportunities", "Log"):
        lines += [
            [bright(pane)],
            [label("  up down pageup pagedown home end"), faint("  move the selection")],
            [],
        ]
    for group in order:
        lines.append([bright(group)])
        for action in groups[group]:
            reason = operator.why_not(action) if action.handler is not None else None
            style = "$label" if reason is None else "$faint"
            keys = operator.keymap.display_all(action.id)
            head = [
                Part("  " + fit(keys, 12), "$mark" if reason is None else "$faint"),
                Part(fit(operator.label_of(action), 15), style),
            ]
            text = wrapped(action.help, max(20, cells - 29), style, 4)
            lines.append([*head, *text[0]])
            lines += [[Part(" " * 29), *more] for more in text[1:]]
            if reason is not None:
                lines += [
                    [Part(" " * 29), *more] for more in wrapped(f"not now: {reason}", max(20, cells - 29), "$warn", 3)
                ]
        lines.append([])
    return lines
