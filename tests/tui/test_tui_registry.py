"""Actions, keymap, themes, store: what needs no screen."""

from __future__ import annotations

from dataclasses import replace as replace_view
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshots import make_detail, make_snapshot
from textual.color import Color
from tui_fakes import log_line, make_history, offering, replace, terminal, with_action

from deltatui.domain.command import Leave, Rebalance
from deltatui.domain.errors import ValidationError
from deltatui.domain.snapshot import MarketDetail
from deltatui.tui import actions
from deltatui.tui.actions import ACTIONS, BY_ID, Context
from deltatui.tui.commands import listed
from deltatui.tui.enabled import next_speed, pause_command
from deltatui.tui.keymap import Keymap, display, key_name, load_keymap, parse_keymap
from deltatui.tui.modals import palette
from deltatui.tui.panes.base import Pane
from deltatui.tui.screens.main import MainScreen
from deltatui.tui.store import MAX_PENDING_LINES, Link, LinkState, Store, View
from deltatui.tui.themes import VARIABLES, builtin_dir, load_themes, parse_theme
from deltatui.tui.widgets.grid import LiveGrid
from deltatui.tui.widgets.logview import LogView
from deltatui.tui.widgets.pricebars import PriceBars

UP = Link(LinkState.CONNECTED)


def view(**changes: Any) -> View:
    return View(make_snapshot(**changes), 100.0, UP, 1, market="SOL-PERP", detail=make_detail())


def told(detail: MarketDetail | None) -> View:
    return replace_view(view(), detail=detail)


# Actions


def test_ids_are_unique_and_every_main_action_does_something() -> None:
    assert len(BY_ID) == len(ACTIONS)
    for action in ACTIONS:
        if action.context in (Context.MAIN, Context.EVERYWHERE):
            assert action.handler is not None, action.id


def test_the_keys_document_is_what_the_registry_says() -> None:
    document = (builtin_dir().parent / "docs" / "keys.md").read_text(encoding="utf-8")
    assert document == actions.keys_markdown(display), "write docs/keys.md anew from keys_markdown(display)"


def test_the_default_keys_pass_their_own_check() -> None:
    def written(key: str) -> str:
        """As a user may write it: some keys are displayed shorter than they are named."""
        return key if key in ("escape", "pageup", "pagedown") else display(key)

    lines = "\n".join(f"{action.id} = {[written(key) for key in action.keys]}" for action in ACTIONS)
    keymap = parse_keymap("[keys]\n" + lines.replace("'", '"'), "defaults")
    assert {action.id: keymap.keys(action.id) for action in ACTIONS} == {action.id: action.keys for action in ACTIONS}


@pytest.mark.parametrize(
    ("the_view", "now", "reason"),
    [
        (View(link=Link(LinkState.LOST)), 100.0, "the engine is not connected"),
        (View(link=UP), 100.0, "no data from the engine yet"),
        (view(), 105.0, "the data are 5 s old"),
        (
            View(make_snapshot(), 100.0, Link(LinkState.CONNECTED, read_only=True), 1),
            100.0,
            "this terminal is read-only",
        ),
        (told(with_action(make_detail(), "TAKE", enabled=False, reason="venue paused")), 100.0, "venue paused"),
        (told(make_detail(actions=())), 100.0, "this engine does not offer it"),
        (told(None), 100.0, "asking the engine about SOL-PERP"),
        (view(), 100.0, None),
    ],
)
def test_take_is_refused_with_the_reason(the_view: View, now: float, reason: str | None) -> None:
    assert BY_ID["take"].enabled(the_view, now) == reason


def test_kill_needs_only_a_connection() -> None:
    old = View(make_snapshot(actions=()), 0.0, UP, 1)
    assert BY_ID["kill"].enabled(old, 1_000.0) is None
    assert BY_ID["kill"].enabled(View(), 0.0) == "the engine is not connected"


def test_speed_goes_by_steps_and_only_in_a_replay() -> None:
    assert [next_speed(3600, True), next_speed(3600, False), next_speed(100, True)] == [21_600, 600, 600]
    assert next_speed(604_800, True) is None
    assert next_speed(1, False) is None
    snapshot = make_snapshot()
    fastest = view(clock=replace(snapshot.clock, speed=604_800))
    assert BY_ID["speed-up"].enabled(fastest, 100.0) == "already the fastest speed"
    assert BY_ID["speed-down"].enabled(fastest, 100.0) is None
    assert (
        BY_ID["speed-up"].enabled(view(clock=replace(snapshot.clock, tape=None)), 100.0) == "only a replay has a speed"
    )


@pytest.mark.parametrize(
    ("state", "command"),
    [("RUNNING", "PAUSE"), ("PAUSED", "RESUME"), ("HALTED", "RESUME"), ("REDUCING", "RESUME"), ("RECOVERING", "PAUSE")],
)
def test_pause_turns_into_resume(state: str, command: str) -> None:
    assert pause_command(view(engine=replace(make_snapshot().engine, state=state))) == command


# Keymap


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("+", "plus"),
        ("?", "question_mark"),
        ("!", "exclamation_mark"),
        ("x", "x"),
        ("E", "E"),
        (" ", "space"),
        ("ctrl+x", "ctrl+x"),
        ("f5", "f5"),
        ("ctrl+m", "enter"),
        ("plus", "plus"),
    ],
)
def test_keys_may_be_written_as_on_the_keyboard(written: str, name: str) -> None:
    assert key_name(written) == name


@pytest.mark.parametrize("written", ["esc", "entre", "", "ctrl+", "ctrl+escapee", "xx"])
def test_unknown_keys_are_refused(written: str) -> None:
    with pytest.raises(ValueError, match="unknown key"):
        key_name(written)


def test_a_keymap_moves_what_it_names_and_leaves_the_rest() -> None:
    keymap = parse_keymap('[keys]\ntake = "l"\nleave = ["t", "ctrl+l"]\n', "mine")
    assert keymap.keys("take") == ("l",)
    assert keymap.keys("leave") == ("t", "ctrl+l")
    assert keymap.keys("kill") == ("exclamation_mark",)
    assert keymap.display("leave") == "t"


def test_the_keys_of_rows_and_prompts_are_known_to_the_check() -> None:
    with pytest.raises(ValidationError) as caught:
        parse_keymap('[keys]\nsort = "z"\nrow-down = "z"\nnext-match = "r"\nprompt-regex = "y"\n', "mine")
    for fault in (
        "'z' is both 'sort' and 'row-down'",
        "'r' is both 'rebalance' and 'next-match'",
        "'y' is both 'dialog-yes' and 'prompt-regex'",
    ):
        assert fault in caught.value.sentence


def test_all_faults_of_a_keymap_come_in_one_message() -> None:
    text = """
    theme = "x"
    [keys]
    take = "l"
    paus = "z"
    settle = []
    help = "esc"
    follow = 3
    copy = "down"
    take-direction = "5"
    kill-flatten = "y"
    """
    with pytest.raises(ValidationError) as caught:
        parse_keymap(text, "keymap.toml")
    assert caught.value.code == "BAD_KEYMAP"
    for fault in (
        "unknown entry 'theme'",
        "unknown action 'paus', did you mean 'pause'?",
        "'help': unknown key 'esc', did you mean 'escape'?",
        "'settle' is left without a key",
        "'follow' must be a key or a list of keys",
        "'l' is both 'take' and 'leave'",
        "'down' is both 'copy' and 'row-down'",
        "'take-direction' cannot have '5'",
        "'y' is both 'dialog-yes' and 'kill-flatten'",
    ):
        assert fault in caught.value.sentence


def test_the_same_key_may_mean_different_things_in_two_dialogs() -> None:
    assert parse_keymap('[keys]\nconfirm-force = "f"\nkill-flatten = "f"\n', "x").keys("kill-flatten") == ("f",)


def test_every_pair_of_actions_that_work_together_is_checked() -> None:
    """TOGETHER decides, and nothing else: a key of the tables is free once they have left it."""
    keymap = parse_keymap('[keys]\nrow-down = "down"\nrow-up = "up"\nsort = "j"\ncopy = "k"\n', "mine")
    assert (keymap.keys("sort"), keymap.keys("copy"), keymap.keys("row-down")) == (("j",), ("k",), ("down",))
    for key, owner in (("j", "row-down"), ("home", "first-row"), ("enter", "open-row"), ("N", "previous-match")):
        with pytest.raises(ValidationError, match=f"'{key}' is both 'sort' and '{owner}'"):
            parse_keymap(f'[keys]\nsort = "{key}"\n', "mine")


def test_every_key_that_a_pane_binds_is_in_the_registry() -> None:
    """The map that Textual gets is complete by the ids of the registry, without names of its own."""
    assert set(Keymap().for_textual()) == set(BY_ID)
    ids = {
        binding.id
        for widget in (LiveGrid, LogView, PriceBars, Pane)
        for bound in widget._merged_bindings.key_to_bindings.values()  # type: ignore[union-attr]
        for binding in bound
        if binding.id is not None
    }
    assert ids <= set(BY_ID)
    assert {"row-up", "next-match", "open-row"} <= ids


async def test_a_key_that_the_tables_have_left_does_something_else(tmp_path: Path) -> None:
    path = tmp_path / "keymap.toml"
    path.write_text('[keys]\nrow-down = "down"\nrow-up = "up"\nrebalance = "j"\nleave = "k"\n', encoding="utf-8")
    async with terminal(keymap=path) as t:
        grid = t.app.screen.query_one("#positions", LiveGrid)
        assert t.app.focused is grid
        before = grid.cursor_key
        await t.press("j", "k")
        assert [type(command) for command in t.engine.commands] == [Rebalance, Leave]
        assert grid.cursor_key == before
        await t.press("down")
        assert grid.cursor_key != before


def test_a_yes_cannot_be_a_key_that_presses_what_has_the_focus() -> None:
    for action_id, key in (("dialog-yes", "space"), ("confirm-force", "enter"), ("kill-flatten", "tab")):
        with pytest.raises(ValidationError) as caught:
            parse_keymap(f'[keys]\n{action_id} = "{key}"\n', "keys.toml")
        assert "a dialog moves and presses with it" in caught.value.sentence


def test_broken_and_missing_keymap_files(tmp_path: Path) -> None:
    assert load_keymap(None).keys("take") == Keymap().keys("take")
    assert load_keymap(tmp_path / "none.toml").keys("take") == ("t",)
    bad = tmp_path / "keymap.toml"
    bad.write_text("[keys", encoding="utf-8")
    with pytest.raises(ValidationError, match="not valid TOML"):
        load_keymap(bad)


# Palette and help


def names(query: str, themes: tuple[str, ...] = ("ansi-light", "ansi", "dark", "light", "colour-blind")) -> list[str]:
    return [entry.id for entry in palette.found(query, palette.entries(themes))]


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("take", ["take"]),
        ("TAKE", ["take"]),
        ("thm", ["theme"]),
        ("theme", ["theme", "theme: ansi-light", "theme: ansi"]),
        ("light", ["theme: light"]),
        ("blind", ["theme: colour-blind"]),
        ("li", ["pane-9", "theme: light"]),
        ("pal", ["palette"]),
        ("next", ["next-pane", "next-error"]),
        ("ansi", ["theme: ansi", "theme: ansi-light"]),
        ("err", ["next-error", "previous-error"]),
        ("prev err", ["previous-error"]),
        ("balance", ["rebalance", "settle"]),
        ("tk", ["take"]),
    ],
)
def test_the_palette_lists_the_best_first(query: str, first: list[str]) -> None:
    assert names(query)[: len(first)] == first


@pytest.mark.parametrize("query", ["rebalance", "delegate", "take", "log", "error line", "te", "zzz", "q z"])
def test_the_palette_lists_nothing_that_does_not_have_the_words(query: str) -> None:
    for entry in palette.found(query, palette.entries(("dark",))):
        said = f"{entry.label} {entry.id} {entry.help}".lower()
        assert all(word in said for word in query.split()), entry
    assert names("zzz") == names("q z") == []


def test_the_help_text_finds_an_action_below_those_that_are_called_so() -> None:
    found = names("wallet")
    assert found == ["deposit", "withdraw"]
    assert "follow" in names("newest log")
    assert names("quidation")[0] == "pane-9", "the middle of a name before the middle of a help text"
    found = names("pause")
    assert found[0] == "pause"


def test_one_letter_is_the_beginning_of_a_word() -> None:
    for entry in palette.found("t", palette.entries(("dark",))):
        words = f"{entry.label} {entry.id}".lower().replace("-", " ").split()
        assert any(word.startswith("t") for word in words), entry


def test_without_a_query_everything_is_there_once() -> None:
    everything = names("")
    assert len(set(everything)) == len(everything)
    assert {a.id for a in ACTIONS if a.context in (Context.MAIN, Context.EVERYWHERE)} < set(everything)
    assert everything[-3:] == ["theme: dark", "theme: light", "theme: colour-blind"]


@given(st.text(max_size=12))
def test_any_query_lists_each_entry_at_most_once_and_by_falling_quality(query: str) -> None:
    known = palette.entries(("dark", "light"))
    found = palette.found(query, known)
    assert len({entry.id for entry in found}) == len(found)
    if query.strip():
        ranks = [palette.quality(query, entry) for entry in found]
        assert ranks == sorted(ranks, reverse=True)
        assert all(ranks) or not any(ranks), "scattered letters stand alone"


async def test_the_palette_shows_key_and_reason() -> None:
    engine = offering("LEAVE", enabled=False, reason="there is no position")
    async with terminal(engine, size=(80, 24)) as t:
        await t.press("colon", *"leave")
        assert isinstance(t.app.screen, palette.PaletteDialog)
        line = next(line for line in t.lines() if "not now" in line)
        assert line.split()[1:8] == ["l", "leave", "not", "now:", "there", "is", "no"]
        await t.publish_detail(actions=make_detail().actions)
        assert "not now" not in t.text(), "told as it is now"
        await t.wait(0.5)
        await t.press("enter")
        assert [type(command) for command in engine.commands] == [Leave]


async def test_the_palette_sets_a_theme_by_its_name() -> None:
    async with terminal() as t:
        await t.press("colon", *"light")
        await t.wait(0.5)
        await t.press("enter")
        assert t.app.theme == "light"
        assert isinstance(t.app.screen, MainScreen)
        assert t.engine.commands == []


async def test_the_palette_runs_nothing_typed_ahead_and_nothing_that_is_not_there() -> None:
    async with terminal() as t:
        await t.press("colon", *"leave", "enter")
        assert isinstance(t.app.screen, palette.PaletteDialog)
        assert t.engine.commands == []
        await t.wait(0.5)
        await t.press("z", "enter", "down", "enter")
        assert "nothing is called so" in t.text()
        assert isinstance(t.app.screen, palette.PaletteDialog)
        assert t.engine.commands == []


@pytest.mark.parametrize("size", [(80, 24), (120, 35), (160, 48)])
@pytest.mark.parametrize("key", ["colon", "question_mark", "exclamation_mark", "ctrl+q", "slash"])
async def test_every_dialog_leaves_the_badge_in_sight(key: str, size: tuple[int, int]) -> None:
    async with terminal(size=size) as t:
        await t.press(key)
        assert t.app.screen is not t.app.main
        assert "▐REPLAY▌" in t.lines()[0]
        assert "[ C" in t.text(), "cancel or close"


async def test_a_long_help_scrolls_and_says_so() -> None:
    async with terminal(size=(80, 24)) as t:
        await t.press("question_mark")
        assert "lines 1-16 of " in t.text()
        assert "pageup pagedown" in t.text()
        await t.press("j", "j")
        assert "lines 3-18 of " in t.text()
        await t.press("pagedown")
        assert "lines 18-33 of " in t.text(), "no line is passed over"


# Toasts


def test_a_list_is_told_whole_or_with_the_number_of_what_is_left_out() -> None:
    faults = [f"theme-{n}.toml: colour 'primary' is missing" for n in range(30)]
    assert listed("themes", faults[:3], 500) == "themes: " + "; ".join(faults[:3])
    said = listed("themes", faults, 500)
    told = said.count("theme-")
    assert said.endswith(f"; … and {30 - told} more")
    assert 5 < told < 30
    assert len(said) < 520


def test_a_hostile_item_of_a_list_is_cut_and_the_first_is_always_told() -> None:
    said = listed("themes", ["\x1b[2J" + "[/x]" * 5_000, "other"], 100)
    assert len(said) < 200
    assert "\x1b" not in said
    assert said.startswith("themes: ␛[2J[/x]")
    assert said.endswith("… and 1 more")


async def test_all_that_is_told_of_a_list_fits_on_half_the_screen() -> None:
    async with terminal(size=(80, 24)) as t:
        t.app.operator.toast_list("themes", [f"theme-{n}.toml: {'x' * 400}" for n in range(30)], "warning", 15.0)
        await t.settle()
        said = t.toasts()[-1]
        assert 300 < len(said) < 24 // 2 * 70
        assert "… and " in said


# Themes


def test_the_shipped_themes_are_complete() -> None:
    found = load_themes(None)
    assert found.faults == ()
    names = {theme.name for theme in found.themes}
    assert {"dark", "light", "colour-blind", "ansi"} <= names
    assert any(not theme.dark for theme in found.themes)
    for theme in found.themes:
        for variable in VARIABLES:
            Color.parse(theme.variables[variable])
        if theme.name == "ansi":
            assert theme.ansi
            assert all(theme.variables[variable].startswith("ansi_") for variable in VARIABLES)


def test_the_modes_look_different_in_every_theme() -> None:
    for theme in load_themes(None).themes:
        assert len({theme.variables[mode] for mode in ("replay", "paper", "live")}) == 3, theme.name


def test_all_faults_of_all_theme_files_come_together_and_good_files_still_work(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('name = "a"\n[colors]\nprimary = "#12"\nfoo = "#fff"\n[variables]\nup = 3\n')
    (tmp_path / "b.toml").write_text("name = ")
    (tmp_path / "c.toml").write_text('name = "c"\n[colors]\nprimary="#fff"\nforeground="#eee"\nbackground="#000"\n')
    (tmp_path / "d.toml").write_text('name = "x y"\ndark = 1\n[colors]\nprimary="#fff"\n')
    found = load_themes(tmp_path)
    text = "; ".join(found.faults)
    for fault in (
        "primary = '#12' is not a colour",
        "unknown entry 'foo'",
        "up must be a colour",
        "b.toml: not valid",
        "'name' must be a word",
        "'dark' must be true or false",
    ):
        assert fault in text
    names = {theme.name for theme in found.themes}
    assert "c" in names
    assert "a" not in names
    assert "dark" in names


def test_a_theme_without_its_base_colours_is_refused() -> None:
    theme, faults = parse_theme('name = "x"\n[colors]\nprimary = "#fff"\n', "x.toml")
    assert theme is None
    assert any("'foreground' is missing" in fault for fault in faults)


# Store


def test_an_older_snapshot_never_replaces_a_newer_one() -> None:
    store = Store()
    store.put_snapshot(make_snapshot(version=5), 1.0)
    store.put_snapshot(make_snapshot(version=4), 2.0)
    held = store.view.snapshot
    assert held is not None
    assert (held.version, store.view.received_at) == (5, 1.0)
    restarted = make_snapshot(version=1, engine=replace(make_snapshot().engine, pid=77))
    store.put_snapshot(restarted, 3.0)
    assert store.view.snapshot is restarted


def test_a_history_is_a_topic_of_its_own() -> None:
    store = Store()
    store.put_snapshot(make_snapshot(), 1.0)
    before = store.view
    store.put_history(make_history())
    first = store.view
    assert (first.version, first.history_version) == (before.version, before.history_version + 1)
    store.put_history(make_history())
    assert store.view is first, "the same again changes nothing"
    store.put_history(make_history(version=2, flat=1.0))
    assert store.view.history_version == first.history_version + 1


def test_freshness() -> None:
    fresh = view()
    assert fresh.not_fresh(101.9) is None
    assert fresh.not_fresh(102.0) == "data 2 s old"
    assert not fresh.stale(103.0)
    assert fresh.stale(103.1)
    lost = View(fresh.snapshot, 100.0, Link(LinkState.LOST), 2)
    assert lost.not_fresh(100.0) == "engine not connected"
    assert lost.stale(100.0)
    assert View(link=UP).not_fresh(0.0) == "no data yet"


def test_the_operator_clock_goes_on_between_snapshots() -> None:
    snapshot = make_snapshot()
    assert view().operator_now(101.5) == snapshot.clock.operator_s + 1.5
    assert View().operator_now(1.0) is None


def test_a_log_backlog_after_a_reconnection_is_not_shown_twice() -> None:
    store = Store()
    store.engine_is(1)
    store.add_lines([log_line(1, "a"), log_line(2, "b")])
    assert [line.message for line in store.take_lines()[0]] == ["a", "b"]
    store.engine_is(1)
    store.add_lines([log_line(2, "b"), log_line(3, "c")])
    assert [line.message for line in store.take_lines()[0]] == ["c"]
    store.engine_is(2)
    store.add_lines([log_line(1, "new engine")])
    assert [line.message for line in store.take_lines()[0]] == ["new engine"]


def test_a_flood_of_log_lines_is_bounded_and_counted() -> None:
    store = Store()
    store.add_lines([log_line(i, "x") for i in range(MAX_PENDING_LINES + 7)], dropped=2)
    lines, dropped = store.take_lines()
    assert (len(lines), dropped) == (MAX_PENDING_LINES, 9)
    assert store.take_lines() == ([], 0)
