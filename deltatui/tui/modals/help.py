"""The help: every key of the registry, what it does here, and why it cannot be done now."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from deltatui.tui.actions import ACTIONS, Action
from deltatui.tui.modals.base import Choice, Dialog
from deltatui.tui.panes.base import Part, bright, faint, label, wrapped
from deltatui.tui.widgets.glyphs import fit

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from deltatui.tui.commands import Operator
    from deltatui.tui.store import View


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
