"""Every action of the registry: what each of its keys does, why it is refused, and how its dialog guards it.

The tables below are checked against the registry: an action without an entry fails. What else an order may or may not
do stands in test_tui_orders and test_tui_transfers; that rows, log and charts move as they should in test_widgets_*.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
from painted import painted
from snapshots import make_confirmation, make_detail
from test_tui_screen import full_detail, full_engine, full_snapshot
from textual.color import Color
from textual.screen import Screen
from textual.widgets import OptionList, Static
from tui_fakes import (
    FakeClient,
    FakeEngine,
    Terminal,
    log_line,
    make_history,
    replace,
    tape_history,
    terminal,
    with_action,
)

from deltatui.domain import command as commands
from deltatui.domain.event import Level
from deltatui.domain.snapshot import ActionView, AlertView, Snapshot, SourceView
from deltatui.tui import enabled
from deltatui.tui.actions import ACTIONS, BY_ID, PANES, Context
from deltatui.tui.modals.base import ARM_AFTER_S, Dialog
from deltatui.tui.modals.confirm import ConfirmDialog
from deltatui.tui.modals.simple import AskDialog, QuitDialog
from deltatui.tui.panes.footer import key_text
from deltatui.tui.screens.main import MainScreen
from deltatui.tui.widgets.grid import LiveGrid
from deltatui.tui.widgets.heatmap import HeatMap
from deltatui.tui.widgets.logview import LogView

OPEN = (Context.EVERYWHERE, Context.MAIN)
"""Contexts of the main screen."""
SIZE = (160, 48)


async def fresh(t: Terminal, snapshot: Snapshot | None = None) -> None:
    """As after the start: all panes, no dialog, no toast, nothing sent, fresh data."""
    app, engine = t.app, t.engine
    while len(app.screen_stack) > 1:
        app.pop_screen()
        await t.pilot.pause()
    app.clear_notifications()
    app.answered.clear()
    app.main.zoom(None)
    app.main.query_one("#positions").focus()
    log = app.main.log_view
    log.set_filter("")
    log.search("")
    log.set_minimum("INFO")
    log.set_wrap(False)
    log.set_follow(True)
    engine.snapshot = replace(snapshot or full_snapshot(), version=engine.snapshot.version)
    engine.details["SOL-PERP"] = full_detail()
    app.operator.select("SOL-PERP")
    engine.hold = None
    engine.publish()
    await t.settle()
    engine.commands.clear()


def sent(t: Terminal) -> list[str]:
    return [type(command).__name__ for command in t.engine.commands]


def top(t: Terminal) -> Screen[Any]:
    return t.app.screen


# What each key does


Case = Callable[[Terminal, str], Awaitable[None]]
DOES: dict[str, Case] = {}


def does(*action_ids: str) -> Callable[[Case], Case]:
    def enter(case: Case) -> Case:
        assert not DOES.keys() & set(action_ids)
        DOES.update(dict.fromkeys(action_ids, case))
        return case

    return enter


def sends(action_id: str, command: type, **fields: object) -> None:
    """The key is one command, about what was on the screen."""

    async def case(t: Terminal, key: str) -> None:
        version = t.engine.snapshot.version
        await t.press(key)
        assert sent(t) == [command.__name__]
        only = t.engine.commands[0]
        assert {name: getattr(only, name) for name in fields} == fields
        assert (only.snapshot_version, len(only.intent_id), only.source) == (version, 32, "operator")
        assert isinstance(top(t), MainScreen)

    does(action_id)(case)


def opens(action_id: str, dialog: str) -> None:
    """The key opens a dialog, and nothing else happens."""

    async def case(t: Terminal, key: str) -> None:
        await t.press(key)
        assert type(top(t)).__name__ == dialog
        assert sent(t) == []

    does(action_id)(case)


def changes(action_id: str, what: Callable[[Terminal], object], *before: str) -> None:
    """After the keys ``before`` the key changes what ``what`` reads."""

    async def case(t: Terminal, key: str) -> None:
        await t.press(*before)
        old = what(t)
        await t.press(key)
        assert what(t) != old
        assert sent(t) == []

    does(action_id)(case)


sends("leave", commands.Leave, market="SOL-PERP")
sends("rebalance", commands.Rebalance, market="SOL-PERP")
sends("forget-losses", commands.ForgetLosses)
sends("speed-up", commands.SetSpeed, speed=21_600)
sends("speed-down", commands.SetSpeed, speed=600)
opens("take", "TakeDialog")
opens("settle", "SettleDialog")
opens("deposit", "TransferDialog")
opens("withdraw", "TransferDialog")
opens("kill", "KillDialog")
opens("jump", "JumpScreen")
opens("filter-rows", "PromptDialog")
opens("log-filter", "PromptDialog")
opens("log-search", "PromptDialog")
opens("palette", "PaletteDialog")
opens("help", "HelpDialog")
opens("quit", "QuitDialog")


def focused(t: Terminal) -> str | None:
    return t.app.focused.id if t.app.focused is not None else None


def log_of(t: Terminal) -> LogView:
    return t.app.main.log_view


def grid_of(t: Terminal) -> LiveGrid:
    return t.app.main.query_one("#opportunities", LiveGrid)


changes("next-pane", focused)
changes("previous-pane", focused)
changes("sort", lambda t: grid_of(t).sorting, "tab")
changes("sort-reverse", lambda t: grid_of(t).sorting, "tab", "o")
changes("picture", lambda t: next(line for line in t.lines() if "─ 9 " in line))
changes("log-level", lambda t: log_of(t).status.minimum)
changes("follow", lambda t: log_of(t).status.follow)
changes("wrap", lambda t: log_of(t).status.wrap)
changes("theme", lambda t: t.app.theme)


@does("delegate")
async def _(t: Terminal, key: str) -> None:
    account = replace(t.engine.snapshot.account, delegate="7xKpQm4tZr9AbCdEfGh2")
    await t.publish(account=account)
    await t.press(key)
    assert t.toasts() == ["7xKpQm4tZr9AbCdEfGh2 may trade for this account; it cannot withdraw"]
    assert sent(t) == []


@does("pause")
async def _(t: Terminal, key: str) -> None:
    await t.press(key)
    for state in ("PAUSED", "REDUCING", "HALTED"):
        await t.publish(engine=replace(t.engine.snapshot.engine, state=state))
        await t.press(key)
    assert sent(t) == ["Pause", "Resume", "Resume", "Resume"]


@does("automation")
async def _(t: Terminal, key: str) -> None:
    await t.press(key)
    assert [command.on for command in t.engine.commands] == [False]  # type: ignore[union-attr]
    await t.publish(engine=replace(t.engine.snapshot.engine, automation=False))
    await t.press(key)
    assert isinstance(top(t), AskDialog)
    assert sent(t) == ["SetAutomation"], "on asks first"


@does(*(f"pane-{number}" for number, _ in PANES))
async def _(t: Terminal, key: str) -> None:
    name = dict(PANES)[key]
    await t.press(key)
    shown = [pane for pane in t.app.main.panes if pane.display]
    assert [pane.NUMBER for pane in shown] == [key]
    assert any(line.startswith(f"╭─ {key} {name.split()[0]}") for line in t.lines())
    await t.press(key)
    assert all(pane.display for pane in t.app.main.panes)


@does("copy")
async def _(t: Terminal, key: str) -> None:
    await t.press(key)
    assert "market=SOL-PERP" in t.app.clipboard
    assert "copied" in t.toasts()[0]


@does("back")
async def _(t: Terminal, key: str) -> None:
    await t.publish(alerts=(AlertView("a", "WARNING", "venue paused", 0.0),))
    await t.press("3")
    assert t.app.main.has_class("-zoom")
    await t.press(key)
    assert not t.app.main.has_class("-zoom")
    assert "venue paused" in t.text()
    await t.press(key)
    assert "venue paused" not in t.text()
    assert isinstance(top(t), MainScreen)


@does("dismiss")
async def _(t: Terminal, key: str) -> None:
    await t.publish(alerts=(AlertView("b", "WARNING", "funding late", 0.0),))
    assert "funding late" in t.text()
    await t.press(key)
    assert "funding late" not in t.text()


@does("next-error", "previous-error")
async def _(t: Terminal, key: str) -> None:
    await t.press("E")
    assert cursor_line(t) == "broken 2"
    await t.press("E" if key == "e" else key)
    assert cursor_line(t) == "broken 1"
    if key == "e":
        await t.press(key)
        assert cursor_line(t) == "broken 2"


@does("next-match", "previous-match")
async def _(t: Terminal, key: str) -> None:
    await t.press("ctrl+f", *"pear", "enter")
    assert cursor_line(t) == "pear 3"
    await t.press("N")
    if key == "n":
        assert cursor_line(t) == "pear 2"
        await t.press(key)
        assert cursor_line(t) == "pear 3"
    else:
        await t.press(key)
        assert cursor_line(t) == "pear 1"


def cursor_line(t: Terminal) -> str:
    record = log_of(t).cursor_record
    assert record is not None
    return record.message


ROWS = {
    "row-up": (("down", "down"), 1),
    "row-down": ((), 1),
    "page-up": (("end",), 0),
    "page-down": ((), 2),
    "first-row": (("end",), 0),
    "last-row": ((), 2),
}


@does(*ROWS)
async def _(t: Terminal, key: str) -> None:
    before, expected = ROWS[next(action.id for action in ACTIONS if key in action.keys and action.id in ROWS)]
    grid = grid_of(t)
    grid.focus()
    await t.press("home", *before)
    await t.press(key)
    assert grid.cursor_key == grid.keys[expected]


@does("cell-left", "cell-right")
async def _(t: Terminal, key: str) -> None:
    heat = t.app.main.query_one(HeatMap)
    t.engine.tell_history(tape_history())
    await t.settle()
    await t.press("9")
    while not heat.is_on_screen:
        await t.press("i")
    heat.focus()
    await t.press("left", "left", "left")
    before = heat.cursor_cell
    await t.press(key)
    after = heat.cursor_cell
    assert before is not None
    assert after is not None
    assert (after.row, after.column - before.column) == (before.row, -1 if key == "left" else 1)


@does("open-row")
async def _(t: Terminal, key: str) -> None:
    def shown() -> list[str]:
        return [pane.NUMBER for pane in t.app.main.panes if pane.display]

    await t.press("tab", "home", key)
    assert t.app.store.view.market == "BTC-PERP"
    assert len(shown()) == 10
    await t.press(key)
    assert shown() == ["5"]
    assert sent(t) == []


@does("close")
async def _(t: Terminal, key: str) -> None:
    await t.press("3", key)
    assert isinstance(top(t), MainScreen)
    assert not t.app.main.has_class("-zoom")
    await t.press(key)
    assert isinstance(top(t), QuitDialog)


@does("suspend")
async def _(t: Terminal, key: str) -> None:
    # That the tty comes back is proved with a real one, in test_tui_e2e.
    calls: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(t.app, "action_suspend_process", lambda: calls.append("suspended"))
        await t.press(key)
        await t.press("exclamation_mark", key)
    assert calls == ["suspended"] * 2
    assert sent(t) == []


@does("dialog-no")
async def _(t: Terminal, key: str) -> None:
    for opener in ("s", "exclamation_mark", "ctrl+q", "question_mark"):
        await t.press(opener)
        assert isinstance(top(t), Dialog)
        await t.wait(0.5)
        await t.press(key)
        assert isinstance(top(t), MainScreen), opener
    assert sent(t) == []
    assert not t.app._exit


@does("dialog-yes")
async def _(t: Terminal, key: str) -> None:
    await t.press("s")
    await t.wait(0.5)
    await t.press(key)
    assert sent(t) == ["Settle"]


@does("take-go")
async def _(t: Terminal, key: str) -> None:
    await t.press("t")
    await t.wait(0.5)
    await t.press(key)
    assert sent(t) == ["Take"]
    await t.press("w", "5")
    await t.wait(0.5)
    await t.press(key)
    assert sent(t) == ["Take", "Withdraw"]


changes("transfer-asset", lambda t: top(t).asset, "w")  # type: ignore[attr-defined]
changes("transfer-most", lambda t: top(t).text, "w")  # type: ignore[attr-defined]
changes("take-direction", lambda t: top(t).direction, "t")  # type: ignore[attr-defined]


@does("take-spot")
async def _(t: Terminal, key: str) -> None:
    sources = (SourceView("wallet", 2.5), SourceView("deposited", 4.0))
    await t.publish_detail(actions=with_action(make_detail(), "TAKE", sources=sources).actions)
    await t.press("t")
    seen = []
    for _ in range(4):
        await t.press(key)
        seen.append(top(t).spot)  # type: ignore[attr-defined]
    assert seen == ["wallet", "deposited", "buy", "wallet"]
    assert sent(t) == []


changes("take-more", lambda t: top(t).text, "t")  # type: ignore[attr-defined]
changes("take-less", lambda t: top(t).text, "t", "up", "up")  # type: ignore[attr-defined]
changes("kill-reason", focused, "exclamation_mark")
changes("prompt-regex", lambda t: top(t).regex, "slash")  # type: ignore[attr-defined]


@does("confirm-force")
async def _(t: Terminal, key: str) -> None:
    await t.publish(confirmations=(make_confirmation(),))
    dialog = top(t)
    assert isinstance(dialog, ConfirmDialog)
    await t.wait(0.5)
    await t.press(key)
    assert dialog.force
    await t.wait(0.5)
    await t.press("y")
    assert [command.force for command in t.engine.commands] == [True]  # type: ignore[union-attr]


@does("kill-flatten")
async def _(t: Terminal, key: str) -> None:
    await t.press("exclamation_mark")
    await t.wait(0.5)
    await t.press(key)
    await t.wait(0.5)
    await t.press("y")
    assert [command.flatten for command in t.engine.commands] == [True]  # type: ignore[union-attr]


@does("quit-keep")
async def _(t: Terminal, key: str) -> None:
    codes: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(t.app, "leave", codes.append)
        await t.press("ctrl+q", key)
        assert codes == [], "typed ahead"
        await t.wait(0.5)
        await t.press(key)
    assert codes == [0]
    assert sent(t) == [], "the engine goes on"


def test_every_action_has_a_case() -> None:
    assert DOES.keys() == BY_ID.keys()


@pytest.mark.parametrize("group", sorted({action.group for action in ACTIONS}))
async def test_every_key_does_what_it_says(group: str) -> None:
    async with terminal(full_engine(), size=SIZE, theme="dark") as t:
        t.engine.tell_history(make_history())
        lines = ("pear 1", "broken 1", "pear 2", "broken 2", "pear 3")
        levels = (Level.ERROR if "broken" in line else Level.INFO for line in lines)
        t.engine.log(*[log_line(at, line, level) for at, (line, level) in enumerate(zip(lines, levels, strict=True))])
        for action in ACTIONS:
            for key in action.keys if action.group == group else ():
                await fresh(t)
                try:
                    await DOES[action.id](t, key)
                except AssertionError as error:
                    raise AssertionError(f"{action.id}, key {key}: {error}") from error


# Why it is refused

TRADES = {"take", "leave", "rebalance", "settle", "deposit", "withdraw"}
LIMITED = {"take", "deposit", "withdraw"}
"""What asks for an amount."""
SPEEDS = {"speed-up", "speed-down"}
STEERING = {"pause", "automation", "forget-losses", *SPEEDS}
ORDERS = TRADES | STEERING
NO_CHAIN = {"a delegate belongs to an account on the chain; replay has none": {"delegate"}}


class SilentEngine(FakeEngine):
    """Connected, and has sent nothing yet."""

    async def connect(self) -> FakeClient:
        client = await super().connect()
        client._queue.get_nowait()
        return client


class Situation(NamedTuple):
    """``refused``: each reason and the actions that it holds for. Every other action is possible."""

    refused: dict[str, set[str]]
    engine: Callable[[], FakeEngine]
    then: Callable[[Terminal], Awaitable[None]] | None = None


def with_(change: Callable[[Snapshot], Snapshot]) -> Callable[[], FakeEngine]:
    return lambda: full_engine(change(full_snapshot()))


def offers_nothing() -> FakeEngine:
    return full_engine(full_snapshot(actions=()), actions=())


def says_no(reason: str) -> Callable[[], FakeEngine]:
    def refused(actions: tuple[ActionView, ...]) -> tuple[ActionView, ...]:
        return tuple(replace(action, enabled=False, reason=reason) for action in actions)

    return lambda: full_engine(
        full_snapshot(actions=refused(full_snapshot().actions)), actions=refused(full_detail().actions)
    )


def silent_about_markets() -> FakeEngine:
    """Sends snapshots, and has not told yet what it says of any market."""
    engine = FakeEngine()
    engine.details.clear()
    return engine


def carries_nothing(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, hedges=(), positions=())


def at_speed(speed: int) -> Callable[[Snapshot], Snapshot]:
    return lambda snapshot: replace(snapshot, clock=replace(snapshot.clock, speed=speed))


def only_no_resume(snapshot: Snapshot) -> Snapshot:
    paused = replace(snapshot, engine=replace(snapshot.engine, state="PAUSED"))
    return with_action(paused, "RESUME", enabled=False, reason="reconcile first")


async def lose(t: Terminal) -> None:
    t.engine.drop()
    await t.settle()


async def grow_old(t: Terminal) -> None:
    await t.wait(5.0, publish=False)


def live(snapshot: Snapshot) -> Snapshot:
    engine = replace(snapshot.engine, mode="live", live_mode="trade")
    return replace(snapshot, engine=engine, clock=replace(snapshot.clock, tape=None, speed=1))


SITUATIONS = {
    "all is well": Situation(NO_CHAIN, FakeEngine),
    "engine lost": Situation({"the engine is not connected": {*ORDERS, "kill"}, **NO_CHAIN}, FakeEngine, lose),
    "read-only": Situation(
        {"this terminal is read-only": {*ORDERS, "kill"}, **NO_CHAIN}, lambda: FakeEngine(read_only=True)
    ),
    "no data yet": Situation({"no data from the engine yet": {*ORDERS, "delegate"}}, SilentEngine),
    "old data": Situation({"the data are 5 s old": TRADES, **NO_CHAIN}, FakeEngine, grow_old),
    "nothing offered": Situation({"this engine does not offer it": ORDERS, **NO_CHAIN}, offers_nothing),
    "the engine says no": Situation({"venue paused [/x]": ORDERS, **NO_CHAIN}, says_no("venue paused [/x]")),
    "no, and no reason": Situation({"not possible now": ORDERS, **NO_CHAIN}, says_no("")),
    # What the engine judges itself is not held up.
    "not told yet": Situation({"asking the engine about SOL-PERP": LIMITED, **NO_CHAIN}, silent_about_markets),
    "no market": Situation({"this engine carries no market": TRADES, **NO_CHAIN}, with_(carries_nothing)),
    "no resume": Situation({"reconcile first": {"pause"}, **NO_CHAIN}, with_(only_no_resume)),
    "fastest": Situation({"already the fastest speed": {"speed-up"}, **NO_CHAIN}, with_(at_speed(604_800))),
    "slowest": Situation({"already the slowest speed": {"speed-down"}, **NO_CHAIN}, with_(at_speed(1))),
    "live": Situation(
        {
            "only a replay has a speed": SPEEDS,
            "no delegate is set, and this engine has no command that sets one": {"delegate"},
        },
        with_(live),
    ),
}
GUARDED = [action for action in ACTIONS if action.enabled is not enabled.always]


def test_every_guarded_action_is_refused_somewhere_and_possible_somewhere() -> None:
    refused = [set().union(*situation.refused.values()) for situation in SITUATIONS.values()]
    guarded = {action.id for action in GUARDED}
    assert set().union(*refused) == guarded
    assert {action_id for action_id in guarded if all(action_id in one for one in refused)} <= {"delegate"}
    assert all(action.context in OPEN for action in GUARDED)


def test_every_reason_in_the_source_has_a_situation() -> None:
    """A sentence that a predicate may give is one that some situation here provokes."""
    tree = ast.parse(inspect.getsource(enabled))
    docs: set[object] = {
        ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    }
    docs |= {
        node.value.value for node in tree.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    pieces = {
        node.value.strip()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in docs
    }
    sentences = {piece for piece in pieces if " " in piece}
    assert len(sentences) > 8
    reasons = [reason for situation in SITUATIONS.values() for reason in situation.refused]
    assert {piece for piece in sentences if not any(piece in reason for reason in reasons)} == set()


@pytest.mark.parametrize("name", SITUATIONS)
async def test_a_refused_key_sends_nothing_and_tells_why(name: str) -> None:
    situation = SITUATIONS[name]
    async with terminal(situation.engine(), size=(200, 24), theme="dark") as t:
        if situation.then is not None:
            await situation.then(t)
        t.engine.commands.clear()
        expected = {action_id: reason for reason, ids in situation.refused.items() for action_id in ids}
        assert {a.id: reason for a in GUARDED if (reason := t.app.operator.why_not(a)) is not None} == expected
        assert dim_in_footer(t) == expected.keys() & shown_in_footer(t)
        for action_id, reason in expected.items():
            for key in BY_ID[action_id].keys:
                t.app.clear_notifications()
                await t.press(key)
                assert t.toasts() == [f"{BY_ID[action_id].label}: {reason}"]
                assert isinstance(top(t), MainScreen)
        assert t.engine.commands == []
        assert in_palette(t, await listed(t, "colon")) == expected
        assert in_help(t, await listed(t, "question_mark")) == expected


async def listed(t: Terminal, key: str) -> Screen[Any]:
    if not isinstance(top(t), MainScreen):
        await t.press("escape")
    await t.press(key)
    return top(t)


def in_palette(t: Terminal, dialog: Screen[Any]) -> dict[str, str]:
    """What the palette shows as not possible, with the reasons."""
    options = dialog.query_one(OptionList)
    prompts = {option.id: str(option.prompt) for option in options.options}
    refused = {action.id: prompts[action.id].partition("not now: ")[2].strip() for action in GUARDED}
    return {action_id: reason for action_id, reason in refused.items() if reason}


def in_help(t: Terminal, dialog: Screen[Any]) -> dict[str, str]:
    """The same of the help: a reason stands below the action's own text, wrapped."""
    text = " ".join(str(dialog.query_one("#body", Static).content).split())
    found = {}
    ours = {action.id: " ".join(action.help.split()) for action in ACTIONS}
    for action in GUARDED:
        assert ours[action.id] in text
        rest = text.partition(ours[action.id])[2].strip()
        if rest.startswith("not now: "):
            reasons = {reason for situation in SITUATIONS.values() for reason in situation.refused}
            found[action.id] = next(reason for reason in reasons if rest[len("not now: ") :].startswith(reason))
    return found


def footer_places(t: Terminal) -> dict[str, int]:
    """Where each guarded action stands in the footer."""
    line, places = t.lines()[-1], {}
    for action in GUARDED:
        label = action.footer_label or t.app.operator.label_of(action)
        at = f" {line} ".find(f" {key_text(action, t.app.operator.keymap)} {label} ") if action.footer else -1
        if at >= 0:
            places[action.id] = at
    return places


def shown_in_footer(t: Terminal) -> set[str]:
    shown = set(footer_places(t))
    assert shown >= {action.id for action in GUARDED if action.footer}, "the line is long enough for all"
    return shown


def dim_in_footer(t: Terminal) -> set[str]:
    faint = Color.parse(t.app.current_theme.variables["faint"]).rgb
    pieces = [piece for piece in painted(t.app) if piece.y == t.app.size.height - 1]
    return {
        action_id
        for action_id, at in footer_places(t).items()
        if next(piece for piece in pieces if piece.x <= at < piece.x + len(piece.text)).ink == faint
    }


# How its dialog guards it


class Guard(NamedTuple):
    """A dialog that sends: ``focus`` has the focus at first, ``keys`` fill it in, ``go`` confirms. ``needs_fresh``
    where old data disarm it. ``ends`` where the confirmed command ends the terminal."""

    focus: str
    go: str
    command: str
    keys: tuple[str, ...] = ()
    needs_fresh: bool = True
    snapshot: Callable[[Snapshot], Snapshot] = lambda snapshot: snapshot
    ends: bool = False


def automation_off(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, engine=replace(snapshot.engine, automation=False))


GUARDS = {
    "take": Guard("size", "enter", "Take"),
    "settle": Guard("cancel", "y", "Settle"),
    "deposit": Guard("amount", "enter", "Deposit", ("5",)),
    "withdraw": Guard("amount", "enter", "Withdraw", ("5",)),
    "automation": Guard("cancel", "y", "SetAutomation", needs_fresh=False, snapshot=automation_off),
    # It must work on old data (R12.4).
    "kill": Guard("cancel", "y", "Kill", needs_fresh=False),
    # Where this is the last terminal of a replay, stopping it is what quitting means (R13.8); it is armed all the same.
    "quit": Guard("stop", "y", "Stop", needs_fresh=False, ends=True),
}
HARMLESS = {
    "filter-rows": "text",
    "log-filter": "text",
    "log-search": "text",
    "palette": "text",
    "help": "cancel",
    "jump": None,
    "close": "stop",
}
"""Dialogs that send nothing, or that another action opens as well, and what has the focus in them."""


async def test_every_action_that_opens_a_dialog_has_a_guard() -> None:
    opened: dict[str, str | None] = {}
    async with terminal(full_engine(automation_off(full_snapshot())), size=(80, 24)) as t:
        t.app.action_suspend_process = lambda: None  # type: ignore[method-assign]
        for action in ACTIONS:
            if action.context in OPEN:
                await fresh(t, automation_off(full_snapshot()))
                await t.press(action.keys[0])
                if not isinstance(top(t), MainScreen):
                    opened[action.id] = focused(t)
                    assert sent(t) == []
    assert opened == {**{action_id: guard.focus for action_id, guard in GUARDS.items()}, **HARMLESS}


@pytest.mark.parametrize("action_id", GUARDS)
async def test_a_dialog_waits_disarms_and_sends_once(action_id: str) -> None:
    guard, key = GUARDS[action_id], BY_ID[action_id].keys[0]
    left: list[int] = []
    async with terminal(full_engine(guard.snapshot(full_snapshot())), size=(80, 24)) as t:
        t.app.leave = lambda return_code: left.append(return_code)  # type: ignore[method-assign]

        async def opened() -> None:
            await fresh(t, guard.snapshot(full_snapshot()))
            await t.press(key, *guard.keys)

        # Before its time nothing of a hand that was already typing gets through.
        await opened()
        for wait in (0.0, ARM_AFTER_S - 0.02):
            await t.wait(wait)
            await t.press(guard.go)
            assert sent(t) == []
        # What closes it sends nothing.
        for no in BY_ID["dialog-no"].keys:
            await opened()
            await t.wait(0.5)
            await t.press(no)
            assert sent(t) == [], no
            assert isinstance(top(t), MainScreen), no
        # Old data: judged at the key press.
        await opened()
        await t.wait(0.5)
        t.clock.now += 3.0
        if guard.needs_fresh:
            await t.press(guard.go)
            assert sent(t) == []
            await t.publish()
            await t.press(guard.go)
            assert sent(t) == [], "fresh again, and not yet for the arming time"
            await t.wait(0.5)
        # However often the key comes, while the engine thinks and after: one intent, one order.
        t.engine.hold = asyncio.Event()
        await t.pilot.press(guard.go, guard.go, guard.go)
        await t.settle()
        await t.press(guard.go)
        assert sent(t) == [guard.command]
        t.engine.hold.set()
        await t.settle()
        if guard.ends:
            assert left == [0]
        else:
            assert isinstance(top(t), MainScreen)
        assert sent(t) == [guard.command]


@pytest.mark.parametrize("action_id", ["filter-rows", "log-filter", "log-search", "palette", "help", "jump"])
async def test_a_harmless_dialog_closes_without_a_trace(action_id: str) -> None:
    async with terminal(full_engine(), size=(80, 24)) as t:
        before = t.text()
        await t.press(BY_ID[action_id].keys[0], "escape")
        assert isinstance(top(t), MainScreen)
        assert t.text() == before
        assert sent(t) == []
