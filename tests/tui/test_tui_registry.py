"""Actions, keymap, themes, store: what needs no screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from snapshots import make_snapshot
from textual.color import Color
from tui_fakes import log_line, make_history, replace, with_action

from deltatui.domain.errors import ValidationError
from deltatui.tui import actions
from deltatui.tui.actions import ACTIONS, BY_ID, Context, next_speed, pause_command
from deltatui.tui.keymap import Keymap, display, key_name, load_keymap, parse_keymap
from deltatui.tui.store import MAX_PENDING_LINES, Link, LinkState, Store, View
from deltatui.tui.themes import VARIABLES, builtin_dir, load_themes, parse_theme

UP = Link(LinkState.CONNECTED)


def view(**changes: Any) -> View:
    return View(snapshot=make_snapshot(**changes), received_at=100.0, link=UP, version=1)


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
        (
            View(with_action(make_snapshot(), "TAKE", enabled=False, reason="venue paused"), 100.0, UP, 1),
            100.0,
            "venue paused",
        ),
        (view(actions=()), 100.0, "this engine does not offer it"),
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
        "'copy' cannot have 'down'",
        "'take-direction' cannot have '5'",
        "'y' is both 'dialog-yes' and 'kill-flatten'",
    ):
        assert fault in caught.value.sentence


def test_the_same_key_may_mean_different_things_in_two_dialogs() -> None:
    assert parse_keymap('[keys]\nconfirm-force = "f"\nkill-flatten = "f"\n', "x").keys("kill-flatten") == ("f",)


def test_broken_and_missing_keymap_files(tmp_path: Path) -> None:
    assert load_keymap(None).keys("take") == Keymap().keys("take")
    assert load_keymap(tmp_path / "none.toml").keys("take") == ("t",)
    bad = tmp_path / "keymap.toml"
    bad.write_text("[keys", encoding="utf-8")
    with pytest.raises(ValidationError, match="not valid TOML"):
        load_keymap(bad)


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
