"""256 colours, 16, none, and no UTF-8: everything is still read, and nothing is told by colour alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pytest
from painted import Look, contrast, painted, runs
from rich.color import ColorSystem
from snapshots import make_confirmation, make_hedge, make_snapshot, with_hedge
from test_tui_screen import full_snapshot, log_lines
from tui_fakes import FakeEngine, log_line, replace, terminal

from deltatui.domain.event import Level
from deltatui.domain.snapshot import Snapshot
from deltatui.domain.verdict import Verdict, VerdictStatus
from deltatui.tui.themes import load_themes

HEX_THEMES = [theme.name for theme in load_themes(None).themes if not theme.ansi]
MODES = (("replay", ""), ("paper", ""), ("live", "watch"), ("live", "manage"), ("live", "trade"), ("live", "auto"))
LEAST = {ColorSystem.TRUECOLOR: 4.5, ColorSystem.EIGHT_BIT: 4.5, ColorSystem.STANDARD: 3.0}


def in_mode(mode: str, live_mode: str = "", snapshot: Snapshot | None = None) -> Snapshot:
    base = snapshot or full_snapshot()
    return replace(base, engine=replace(base.engine, mode=mode, live_mode=live_mode))


@pytest.mark.parametrize("theme", HEX_THEMES)
async def test_every_word_on_the_screen_is_readable(theme: str) -> None:
    """The painted screen itself, main panes and a dialog, after the terminal has rounded the colours."""
    engine = FakeEngine(in_mode("live", "trade"))
    async with terminal(engine, size=(160, 48), theme=theme) as t:
        log_lines(engine)
        await t.settle()
        pieces = {system: list(painted(t.app, system)) for system in LEAST}
        await t.press("question_mark")
        # What lies under a dialog is dimmed on purpose.
        dialog = t.app.screen.query_one("#dialog").region
        inside = {
            system: [piece for piece in painted(t.app, system) if dialog.contains(piece.x, piece.y)] for system in LEAST
        }
    for system, least in LEAST.items():
        assert len(pieces[system]) > 150
        assert len(inside[system]) > 50
        poor = {
            (system.name, piece.text, piece.ink, piece.paper)
            for piece in (*pieces[system], *inside[system])
            if any(char.isalnum() for char in piece.text) and contrast(piece.ink, piece.paper) < least
        }
        assert poor == set()


async def _looks(
    modes: Sequence[tuple[str, str]], theme: str, ascii_only: bool = False
) -> list[tuple[str, str, tuple[Look, ...]]]:
    """Of each mode, one after the other: the badge's line, and the frame's characters and looks down the left edge."""
    looks = []
    async with terminal(FakeEngine(in_mode(*modes[0])), size=(80, 24), theme=theme, ascii_only=ascii_only) as t:
        for mode, live_mode in modes:
            await t.publish(engine=in_mode(mode, live_mode).engine)
            lines = t.lines()
            edge = tuple(line[0].look for line in runs(t.app, ColorSystem.TRUECOLOR)[1:-1])
            looks.append((lines[0], "".join(line[:1] for line in lines[1:-1]), edge))
    return looks


@pytest.mark.parametrize("theme", [theme.name for theme in load_themes(None).themes])
async def test_the_mode_is_word_frame_and_colour_in_every_theme(theme: str) -> None:
    words = {"replay": "REPLAY", "paper": "PAPER", "live": "LIVE"}
    modes = (("replay", ""), ("paper", ""), ("live", "trade"))
    looks = await _looks(modes, theme)
    for (mode, live_mode), (top, _, _) in zip(modes, looks, strict=True):
        assert f"{words[mode]} {live_mode.upper()}".strip() in top
        assert not any(word in top for other, word in words.items() if other != mode)
    assert len({frame for _, frame, _ in looks}) == 3
    assert len({edge for _, _, edge in looks}) == 3


async def test_the_mode_is_a_word_without_utf8() -> None:
    for (mode, live_mode), (top, _, _) in zip(MODES, await _looks(MODES, "dark", ascii_only=True), strict=True):
        assert f"{mode.upper()} {live_mode.upper()}".strip() in top
        assert top.isascii()


async def test_a_dialog_says_the_mode() -> None:
    async with terminal(FakeEngine(in_mode("replay")), size=(80, 24), theme="ansi") as t:
        for mode in ("replay", "paper", "live"):
            await t.publish(engine=in_mode(mode, "trade" if mode == "live" else "").engine, confirmations=())
            await t.publish(confirmations=(make_confirmation(operation_id=f"op-{mode}"),))
            assert f"· {mode.upper()}" in t.text()


async def test_no_color_leaves_only_greys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    engine = FakeEngine(in_mode("live", "trade"))
    async with terminal(engine, size=(160, 48)) as t:
        log_lines(engine)
        await t.settle()
        pieces = list(painted(t.app))
        assert len(pieces) > 150
        # Rounded to a grey, each of the three parts on its own.
        assert all(max(piece.ink) - min(piece.ink) <= 1 for piece in pieces)
        assert all(max(piece.paper) - min(piece.paper) <= 1 for piece in pieces)
        assert "LIVE TRADE" in t.lines()[0]


def _account(**changes: Any) -> Snapshot:
    base = make_snapshot()
    return replace(base, account=replace(base.account, **changes))


def _pnl(value: float) -> Snapshot:
    base = make_snapshot()
    first, *others = base.positions
    return replace(base, positions=(replace(first, unrealized_pnl=value, funding=value), *others))


def _carry(value: float) -> Snapshot:
    carry = replace(make_hedge("SOL-PERP").carry, now_apr=value, expected_per_hour=value)
    return with_hedge(make_snapshot(), carry=carry)


def _state(state: str) -> Snapshot:
    base = make_snapshot()
    return replace(base, engine=replace(base.engine, state=state))


TELLS: dict[str, Sequence[Snapshot | tuple[Verdict, ...]]] = {
    "a gate's verdict": [(Verdict("LEVERAGE", status, "1.00x", "10x"),) for status in VerdictStatus],
    "health": [_account(health=value) for value in (97, 40, 10)],
    "profit or loss": [_pnl(31.2), _pnl(-31.2)],
    "carry": [_carry(7.9), _carry(-7.9)],
    "state": [_state(state) for state in ("RUNNING", "PAUSED", "REDUCING", "HALTED", "RECOVERING")],
}


@pytest.mark.parametrize("ascii_only", [False, True], ids=["utf8", "ascii"])
@pytest.mark.parametrize("what", TELLS)
async def test_a_difference_is_told_without_colour(what: str, ascii_only: bool) -> None:
    """Two states of one thing differ in their characters, digits aside."""
    pages = []
    async with terminal(size=(160, 48), ascii_only=ascii_only) as t:
        for told in TELLS[what]:
            if isinstance(told, Snapshot):
                t.engine.snapshot = replace(told, version=t.engine.snapshot.version)
                await t.publish()
            else:
                await t.publish_detail(gates=told)
            # Until the marks of changed figures have gone.
            for _ in range(2):
                await t.wait(2.0)
            pages.append("".join(char for char in t.text() if not char.isdigit()))
    for one, other in combinations(pages, 2):
        assert one != other


async def test_a_log_line_has_its_level_as_a_word() -> None:
    engine = FakeEngine()
    async with terminal(engine, size=(80, 24)) as t:
        engine.log(*[log_line(number, f"something {number}", level) for number, level in enumerate(Level, 1)])
        await t.settle()
        await t.press("0")
        seen = set()
        for _ in range(4):
            lines = t.lines()
            for number, level in enumerate(Level, 1):
                said = [line for line in lines if f"something {number}" in line]
                assert all(str(level.value) in line for line in said)
                seen |= {level} if said else set()
            await t.press("v")
        assert seen == set(Level)


async def test_the_chosen_row_has_a_mark() -> None:
    async with terminal(size=(160, 48), ascii_only=True) as t:
        assert any("> SOL-PERP" in line for line in t.lines())
