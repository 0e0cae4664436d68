"""The user's keymap: read, checked as a whole, and turned into bindings.

Textual accepts unknown ids and key names in silence and unbinds on a clash (docs/sources.md), so a file is checked here
and refused with all its faults in one message: keys that do something else than the operator believes are worse
than no start.
"""

from __future__ import annotations

import difflib
import re
import tomllib
import unicodedata
from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.keys import KEY_NAME_REPLACEMENTS, Keys, format_key

from deltatui.domain.errors import ValidationError
from deltatui.tui.actions import ACTIONS, BY_ID, TOGETHER, Action, Context, in_contexts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MODIFIERS = re.compile(r"^((?:ctrl|shift|alt|super|hyper|meta)\+)+")
_NAMED = frozenset(key.value for key in Keys if not key.value.startswith("<")) | {"space"}
_SAME = {"ctrl+i": "tab", "ctrl+m": "enter", "ctrl+space": "ctrl+at"}
"""Keys that a terminal cannot tell apart; Textual knows the right-hand name."""
_SIZE_FIELD = frozenset({*"0123456789", "full_stop", "backspace", "delete", "left", "right", "home", "end"})
_FOCUS_KEYS = frozenset({"enter", "space", "tab", "shift+tab", "up", "down", "left", "right", "pageup", "pagedown"})
"""In a dialog these press or move what has the focus, which may be Cancel."""
_DISPLAY = {"escape": "esc", "enter": "enter", "up": "up", "down": "down", "left": "left", "right": "right"}


def _from_character(character: str) -> str:
    if character.isalnum():
        return character
    name = unicodedata.name(character, "").lower().replace("-", "_").replace(" ", "_")
    return KEY_NAME_REPLACEMENTS.get(name, name)


_PUNCTUATION = frozenset(_from_character(chr(code)) for code in range(33, 127) if not chr(code).isalnum())


def key_name(text: str) -> str:
    """The terminal's name of a key written as a character or a name: ``+`` -> ``plus``. Raises ValueError."""
    if len(text) == 1 and text.isprintable():
        return "space" if text == " " else _from_character(text)
    if text in _SAME:
        return _SAME[text]
    modifiers = _MODIFIERS.match(text)
    base = text[modifiers.end() :] if modifiers else text
    if text in _NAMED or base in _NAMED or base in _PUNCTUATION or (modifiers and len(base) == 1 and base.isalnum()):
        return text
    near = difflib.get_close_matches(text, [*_NAMED, *_PUNCTUATION], n=1)
    raise ValueError(f"unknown key '{text}'" + (f", did you mean '{near[0]}'?" if near else ""))


def display(key: str) -> str:
    """What stands on the key: ``plus`` -> ``+``."""
    prefix, plus, base = key.rpartition("+")
    return prefix + plus + _DISPLAY.get(base, format_key(base))


class Keymap:
    """Action id -> keys, every action included."""

    def __init__(self, changes: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self._keys = {action.id: action.keys for action in ACTIONS} | dict(changes or {})

    def keys(self, action_id: str) -> tuple[str, ...]:
        return self._keys[action_id]

    def display(self, action_id: str) -> str:
        """The first key of an action as it is printed in hints."""
        return display(self._keys[action_id][0])

    def display_all(self, action_id: str) -> str:
        return " ".join(display(key) for key in self._keys[action_id])

    def for_textual(self) -> dict[str, str]:
        """Every action with its keys, for ``App.set_keymap``: a complete map leaves no default behind to clash with."""
        return {action_id: ",".join(keys) for action_id, keys in self._keys.items()}


def _faults(keys: Mapping[str, tuple[str, ...]]) -> list[str]:
    faults = [f"'{action_id}' is left without a key" for action_id, bound in keys.items() if not bound]
    for action in in_contexts(Context.TAKE):
        typed = [display(key) for key in keys[action.id] if key in _SIZE_FIELD]
        faults += [f"'{action.id}' cannot have '{key}', the size field needs it" for key in typed]
    for action in in_contexts(Context.DIALOG, Context.CONFIRM, Context.KILL, Context.QUIT):
        moving = [display(key) for key in keys[action.id] if key in _FOCUS_KEYS]
        faults += [f"'{action.id}' cannot have '{key}', a dialog moves and presses with it" for key in moving]
    seen: set[tuple[str, str, str]] = set()
    for together in TOGETHER:
        owner: dict[str, str] = {}
        for action in in_contexts(*together):
            for key in keys[action.id]:
                first = owner.setdefault(key, action.id)
                if first != action.id and (key, first, action.id) not in seen:
                    seen.add((key, first, action.id))
                    faults.append(f"'{display(key)}' is both '{first}' and '{action.id}'")
    return faults


def parse_keymap(text: str, source: str) -> Keymap:
    """A keymap from TOML text. Raises ValidationError (BAD_KEYMAP) with every fault in one message."""
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValidationError("BAD_KEYMAP", f"{source} is not valid TOML: {error}") from None
    faults = [f"unknown entry '{name}', keys stand in the table [keys]" for name in table if name != "keys"]
    entries = table.get("keys", {})
    if not isinstance(entries, dict):
        raise ValidationError("BAD_KEYMAP", f"{source}: 'keys' must be a table of action = key")
    changes: dict[str, tuple[str, ...]] = {}
    for action_id, value in entries.items():
        if action_id not in BY_ID:
            near = difflib.get_close_matches(action_id, list(BY_ID), n=1)
            faults.append(f"unknown action '{action_id}'" + (f", did you mean '{near[0]}'?" if near else ""))
            continue
        written = [value] if isinstance(value, str) else value
        if not isinstance(written, list) or not all(isinstance(key, str) for key in written):
            faults.append(f"'{action_id}' must be a key or a list of keys")
            continue
        bound = []
        for key in written:
            try:
                bound.append(key_name(key))
            except ValueError as error:
                faults.append(f"'{action_id}': {error}")
        if bound or not written:
            changes[action_id] = tuple(bound)
    keymap = Keymap(changes)
    faults += _faults({action.id: keymap.keys(action.id) for action in ACTIONS})
    if faults:
        raise ValidationError("BAD_KEYMAP", f"{source}: " + "; ".join(faults))
    return keymap


def load_keymap(path: Path | None) -> Keymap:
    """The keymap of a file; the defaults where there is no file. Raises ValidationError (BAD_KEYMAP)."""
    if path is None or not path.exists():
        return Keymap()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValidationError("BAD_KEYMAP", f"{path} cannot be read: {error}") from None
    return parse_keymap(text, str(path))


def bindings(*contexts: Context, priority: frozenset[str] = frozenset()) -> list[Binding]:
    """Textual bindings of the actions of ``contexts``; the action they run is ``do('<id>')``."""

    def binding(action: Action) -> Binding:
        return Binding(
            ",".join(action.keys),
            f"do('{action.id}')",
            action.label,
            show=False,
            id=action.id,
            tooltip=action.help,
            priority=action.id in priority,
        )

    return [binding(action) for action in in_contexts(*contexts)]
