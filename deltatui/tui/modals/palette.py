"""The palette: find an action or a theme by a part of its name or of what it does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from deltatui.tui import fmt
from deltatui.tui.actions import ACTIONS, BY_ID, Context
from deltatui.tui.modals.base import Choice, Dialog
from deltatui.tui.widgets.glyphs import fit, width_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from deltatui.tui.commands import Operator, Target
    from deltatui.tui.store import View

_OPEN = (Context.EVERYWHERE, Context.MAIN)
_THEME = "theme: "
_WORDS = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the palette. ``id`` is an action's, or ``theme: <name>``; ``names`` is what it may be called."""

    id: str
    label: str
    help: str
    names: tuple[str, ...]


def entries(themes: Sequence[str]) -> list[Entry]:
    """The actions of the main screen in the order of the registry, then a line for each theme."""
    actions = [a for a in ACTIONS if a.context in _OPEN and a.handler is not None]
    return [
        *(Entry(a.id, a.label, a.help, (a.label.lower(), a.id)) for a in actions),
        *(
            Entry(
                f"{_THEME}{name}",
                f"{_THEME}{name}",
                f"Draw everything in the colours of {name}.",
                (f"{_THEME}{name}".lower(), name.lower()),
            )
            for name in themes
        ),
    ]


def _begins_words(query: str, text: str) -> bool:
    """Whether each word of ``query`` begins a word of ``text``."""
    words = _WORDS.findall(text)
    return all(any(word.startswith(part) for word in words) for part in query.split())


def quality(query: str, entry: Entry) -> int:
    """How well an entry matches; 0: not. Names before what the help says, beginnings of words before their middles."""
    query = " ".join(query.lower().split())
    names, text = entry.names, entry.help.lower()
    if query in names:
        return 6
    if any(name.startswith(query) for name in names):
        return 5
    if any(_begins_words(query, name) for name in names):
        return 4
    # A letter or two stand in the middle of nearly every word.
    if len(query) >= 2 and any(query in name for name in names):
        return 3
    if len(query) >= 2 and _begins_words(query, text):
        return 2
    return 1 if len(query) >= 3 and query in text else 0


def scattered(query: str, entry: Entry) -> int | None:
    """Letters of ``query`` in their order from the beginning of a word on: over how many letters they are spread.
    None where they are not there, or too far apart to be meant."""
    letters = [re.escape(letter) for letter in query.lower() if not letter.isspace()]
    if len(letters) < 2:
        return None
    pattern = re.compile(r"\b" + ".*?".join(letters))
    spans = [found.end() - found.start() for name in entry.names if (found := pattern.search(name))]
    return min(spans, default=None) if min(spans, default=0) <= 3 * len(letters) else None


def found(query: str, known: Sequence[Entry]) -> list[Entry]:
    """The best first, equals in their order; all for an empty query. Scattered letters count only where nothing else
    is found."""
    if not query.strip():
        return list(known)
    good = [entry for entry in known if quality(query, entry)]
    if good:
        return sorted(good, key=lambda entry: -quality(query, entry))
    loose = [(spread, entry) for entry in known if (spread := scattered(query, entry)) is not None]
    return [entry for _, entry in sorted(loose, key=lambda pair: pair[0])]


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
        self._known = entries(operator.app.theme_names)
        self._name_cells = max(width_of(entry.label) for entry in self._known) + 2
        self._shown: list[Entry] = []
        self._prompts: list[Content] = []

    def compose(self) -> ComposeResult:
        text = Input(placeholder="part of a name, or of what it does", max_length=40, id="text")
        text.cursor_blink = False
        options = OptionList(id="found", markup=False)
        options.can_focus = False
        yield self.frame("Actions", text, options, choices=[Choice("Cancel", "cancel")])

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#body").display = False
        self._fill("")

    def _fill(self, text: str) -> None:
        options = self.query_one(OptionList)
        self._shown = found(text, self._known)
        self._prompts = [self._prompt(entry) for entry in self._shown]
        options.clear_options()
        options.add_options(
            [Option(prompt, id=entry.id) for prompt, entry in zip(self._prompts, self._shown, strict=True)]
        )
        if not self._shown:
            options.add_option(Option(Content.styled("nothing is called so", "$faint"), disabled=True))
        else:
            options.highlighted = 0

    def apply(self, view: View, now: float) -> None:
        """What can be done, and why not, is told as it is now."""
        if not self._painted:
            return
        options = self.query_one(OptionList)
        for index, entry in enumerate(self._shown):
            prompt = self._prompt(entry)
            if prompt != self._prompts[index]:
                self._prompts[index] = prompt
                options.replace_option_prompt_at_index(index, prompt)

    def _prompt(self, entry: Entry) -> Content:
        action = BY_ID.get(entry.id)
        if action is None:
            used = " In use now." if entry.id == _THEME + self.operator.app.theme else ""
            return Content.assemble(
                (" " * 7 + fit(entry.label, self._name_cells), "$bright"), (entry.help + used, "$label")
            )
        reason = self.operator.why_not(action, self._target)
        name = fit(self.operator.label_of(action), self._name_cells)
        key = fit(self.keymap.display(action.id), 7)
        if reason is not None:
            return Content.assemble((key + name, "$faint"), (f"not now: {fmt.safe_text(reason, 80)}", "$faint"))
        return Content.assemble((key, "$mark"), (name, "$bright"), (action.help, "$label"))

    def action_move(self, step: int) -> None:
        options = self.query_one(OptionList)
        if self._shown:
            options.highlighted = ((options.highlighted or 0) + step) % options.option_count

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._fill(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        options = self.query_one(OptionList)
        if options.highlighted is not None and self._shown:
            self._run(self._shown[options.highlighted].id)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._run(event.option.id)

    def _run(self, entry_id: str | None) -> None:
        # Enter typed ahead must not run what was never seen.
        if entry_id is None or not self._painted or self.arming.remaining_s(self.now) > 0:
            return
        self.dismiss(None)
        if entry_id in BY_ID:
            self.operator.run(BY_ID[entry_id], self._target)
        else:
            self.operator.app.set_theme(entry_id.removeprefix(_THEME))
