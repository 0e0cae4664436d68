"""A faster Pilot: it waits for what is left to do and not for wall-clock time, and style sheets are parsed once.

Textual takes 20 ms of little CPU time for "idle", twice for each key, and longer on a busy machine. Here it means that
nothing in the loop can run and that the screen has painted: the same answer sooner, and the same on any machine.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Any, cast

import pytest
import textual.app
import textual.pilot
from textual._context import active_app
from textual._styles_cache import StylesCache
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet
from textual.css.types import CSSLocation

_PARSED: dict[tuple[object, ...], list[RuleSet]] = {}
_parse_rules = Stylesheet._parse_rules


async def wait_for_idle(min_sleep: float = 0.0, max_sleep: float = 1.0) -> None:
    """Until the loop has nothing to run and the app nothing to paint or to lay out; at most ``max_sleep`` seconds."""
    ready = cast("deque[object]", asyncio.get_running_loop()._ready)  # type: ignore[attr-defined]
    end = monotonic() + max_sleep
    while monotonic() < end:
        await asyncio.sleep(0)
        if not ready and not _bring_forward():
            return


def _bring_forward() -> bool:
    """Do now what a timer of Textual would do within 16 ms: paint the screen, pass a resize on. False if neither."""
    app: Any = active_app.get(None)
    if app is None or not app._screen_stack:
        return False
    if app._resize_timer is not None:
        with app._context():
            app._check_resize()
        return True
    if app.screen._update_timer._active.is_set():
        with app.screen._context():
            app.screen._on_timer_update()
        return True
    return False


def _parse_once(
    self: Stylesheet,
    css: str,
    read_from: CSSLocation,
    is_default_rules: bool = False,
    tie_breaker: int = 0,
    scope: str = "",
) -> list[RuleSet]:
    """Rules are only read once they are parsed, and each app starts with the same three dozen sheets."""
    sheet = (css, read_from, is_default_rules, tie_breaker, scope)
    if sheet not in self._parse_cache:
        key = (*sheet, *sorted(self._variables.items()))
        if key not in _PARSED:
            _PARSED[key] = _parse_rules(self, *sheet)
        self._parse_cache[sheet] = _PARSED[key]
    return self._parse_cache[sheet]


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """For one test. The default theme is chosen by what the terminal can show; whoever runs the tests may have none."""
    monkeypatch.setattr(textual.app, "wait_for_idle", wait_for_idle)
    monkeypatch.setattr(textual.pilot, "wait_for_idle", wait_for_idle)
    monkeypatch.setattr(Stylesheet, "_parse_rules", _parse_once)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)


def clean_up() -> None:
    """A cache of Textual's keeps the last thousand widgets with all lines they painted: half a million objects that
    each collection of garbage would look through."""
    StylesCache.get_inner_outer.cache_clear()
