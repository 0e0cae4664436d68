"""What keys do to an engine: each action, its refusal and its dialog. A wrong order is the worst bug here."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from snapshots import OPERATOR_S, make_confirmation, make_snapshot, make_verdicts
from textual.events import Paste
from tui_fakes import FakeEngine, Terminal, offering, plan_for, replace, terminal

from deltatui.domain.command import (
    Cancel,
    CommandResult,
    Confirm,
    Direction,
    Kill,
    Leave,
    Pause,
    Rebalance,
    ResultStatus,
    Resume,
    SetSpeed,
    Stop,
    Take,
)
from deltatui.domain.errors import DeltatuiError, TransientError, UnresolvedError, ValidationError
from deltatui.domain.snapshot import ConfirmationView, LegView, OperationView, PlanView
from deltatui.domain.verdict import Verdict, VerdictStatus
from deltatui.tui.modals.confirm import ConfirmDialog
from deltatui.tui.modals.simple import AskDialog, KillDialog, QuitDialog
from deltatui.tui.modals.take import TakeDialog
from deltatui.tui.screens.main import MainScreen
from deltatui.tui.widgets.grid import LiveGrid


def allowed_confirmation(**changes: Any) -> ConfirmationView:
    return make_confirmation(allowed=True, can_force=False, verdicts=(), loss_if_forced=None, **changes)


def pending(**changes: Any) -> FakeEngine:
    return FakeEngine(make_snapshot(confirmations=(allowed_confirmation(**changes),)))


# Plain commands


@pytest.mark.parametrize(
    ("key", "command"),
    [("r", Rebalance), ("l", Leave), ("p", Pause), ("plus", SetSpeed), ("minus", SetSpeed)],
)
async def test_a_key_is_one_command_with_intent_and_version(key: str, command: type) -> None:
    async with terminal(FakeEngine(make_snapshot(version=41))) as t:
        await t.press(key)
        assert [type(sent) for sent in t.engine.commands] == [command]
        sent = t.engine.commands[0]
        assert sent.snapshot_version == 41
        assert len(sent.intent_id) == 32
        assert sent.source == "operator"
        if isinstance(sent, (Rebalance, Leave)):
            assert sent.market == "SOL-PERP"
        assert any("done" in toast for toast in t.toasts())


async def test_speed_steps() -> None:
    async with terminal() as t:
        await t.press("plus")
        await t.press("minus")
        assert [command.speed for command in t.engine.commands] == [21_600, 600]  # type: ignore[union-attr]


async def test_pause_becomes_resume() -> None:
    snapshot = make_snapshot()
    async with terminal(FakeEngine(replace(snapshot, engine=replace(snapshot.engine, state="PAUSED")))) as t:
        assert "p resume" in t.text()
        await t.press("p")
        assert isinstance(t.engine.commands[0], Resume)


@pytest.mark.parametrize(
    ("key", "action"),
    [
        ("t", "TAKE"),
        ("l", "LEAVE"),
        ("r", "REBALANCE"),
        ("s", "SETTLE"),
        ("d", "DEPOSIT"),
        ("w", "WITHDRAW"),
        ("p", "PAUSE"),
        ("a", "SET_AUTOMATION"),
        ("plus", "SET_SPEED"),
    ],
)
async def test_a_refused_action_says_why_and_sends_nothing(key: str, action: str) -> None:
    engine = offering(action, enabled=False, reason="the venue is paused [/x]")
    async with terminal(engine) as t:
        await t.press(key)
        assert t.engine.commands == []
        assert isinstance(t.app.screen, MainScreen)
        assert any("the venue is paused [/x]" in toast for toast in t.toasts())


async def test_no_order_on_stale_data() -> None:
    async with terminal() as t:
        await t.wait(5.0, publish=False)
        for key in ("t", "l", "r", "s", "d", "w"):
            await t.press(key)
        assert t.engine.commands == []
        assert isinstance(t.app.screen, MainScreen)
        assert any("5 s old" in toast for toast in t.toasts())


async def test_a_read_only_terminal_sends_nothing() -> None:
    async with terminal(FakeEngine(read_only=True)) as t:
        assert "read-only" in t.text()
        for key in ("t", "l", "r", "s", "d", "w", "p", "a", "plus", "exclamation_mark"):
            await t.press(key)
        assert t.engine.commands == []


async def test_a_rejection_tells_reason_and_failing_gates() -> None:
    engine = FakeEngine()
    engine.answer = lambda command: CommandResult(
        ResultStatus.REJECTED, "GATE", "carry does not pay", verdicts=make_verdicts()
    )
    async with terminal(engine) as t:
        await t.press("r")
        toast = t.toasts()[-1]
        assert "rebalance SOL-PERP rejected: carry does not pay" in toast
        assert "profitability never (limit 168 h): a short pays 0.0009 %/h" in toast
        assert "oracle age unknown" in toast
        assert "leverage" not in toast


async def test_a_toast_has_a_sign_for_its_severity() -> None:
    async with terminal() as t:
        t.app.operator.toast("said")
        t.app.operator.toast("looked out for", "warning")
        t.app.operator.toast("went wrong", "error")
        await t.settle()
        for words in ("▌ said", "▌ ▲ looked out for", "▌ ✕ went wrong"):
            assert any(line.endswith(words) for line in t.lines()), words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TransientError("NOT_CONNECTED", "not connected to the engine"), "not connected"),
        (UnresolvedError("NO_ANSWER", "it may be carried out"), "outcome not known"),
    ],
)
async def test_a_command_without_a_result_says_what_is_known(error: Exception, words: str) -> None:
    engine = FakeEngine()

    def fail(command: object) -> CommandResult:
        raise error

    engine.answer = fail
    async with terminal(engine) as t:
        await t.press("r")
        assert words in t.toasts()[-1]


async def test_an_action_that_runs_is_not_started_again() -> None:
    engine = FakeEngine()
    engine.hold = asyncio.Event()
    async with terminal(engine) as t:
        await t.press("r", "r", "r")
        assert len(engine.commands) == 1
        assert any("it is running" in toast for toast in t.toasts())
        engine.hold.set()
        await t.settle()
        await t.press("r")
        assert len(engine.commands) == 2


# The row is a key


async def test_leave_is_about_the_row_and_not_the_place() -> None:
    sol, btc = make_snapshot().opportunities
    async with terminal(size=(160, 48)) as t:
        grid = t.app.screen.query_one("#opportunities", LiveGrid)
        grid.focus()
        await t.press("down", "enter")
        assert grid.cursor_key == "BTC-PERP"
        await t.wait(2.0)
        await t.publish(opportunities=(btc, sol))
        assert grid.keys == ("BTC-PERP", "SOL-PERP")
        await t.press("l")
        command = t.engine.commands[0]
        assert isinstance(command, Leave)
        assert command.market == "BTC-PERP"
        assert command.snapshot_version == t.engine.snapshot.version


async def test_a_row_that_vanished_under_the_cursor_sends_nothing() -> None:
    rows = make_snapshot().opportunities
    async with terminal(size=(160, 48)) as t:
        t.app.screen.query_one("#opportunities", LiveGrid).focus()
        await t.press("down", "enter")
        await t.wait(2.0)
        await t.publish(opportunities=rows[:1])
        await t.press("l")
        await t.press("t")
        assert t.engine.commands == []
        assert any("BTC-PERP is gone" in toast for toast in t.toasts())
        await t.press("up", "enter", "l")
        assert [command.market for command in t.engine.commands] == ["SOL-PERP"]  # type: ignore[union-attr]


async def test_the_spot_leg_means_its_perp_market() -> None:
    async with terminal() as t:
        await t.press("down", "l")
        assert t.engine.commands[0].market == "SOL-PERP"  # type: ignore[union-attr]


# Take


async def test_take_sends_whole_steps_as_an_integer() -> None:
    async with terminal(FakeEngine(make_snapshot(version=9))) as t:
        await t.press("t")
        assert isinstance(t.app.screen, TakeDialog)
        await t.publish()
        await t.wait(0.5)
        await t.press("backspace", "2", "full_stop", "5", "enter")
        take = t.engine.commands[0]
        assert isinstance(take, Take)
        assert (take.base_1e9, take.market, take.direction) == (2_500_000_000, "SOL-PERP", Direction.CARRY)
        # The version is the one that was on the screen at the key press.
        assert take.snapshot_version == 9
        assert isinstance(t.app.screen, MainScreen)


async def test_take_remembers_direction_and_steps() -> None:
    async with terminal() as t:
        await t.press("t")
        await t.wait(0.5)
        await t.press("d", "up", "up", "down", "enter")
        take = t.engine.commands[0]
        assert isinstance(take, Take)
        assert (take.base_1e9, take.direction) == (1_010_000_000, Direction.REVERSE)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("0.001", "the smallest size is 0.01"),
        ("100.01", "the largest size now is 100"),
        ("1.005", "sizes go in steps of 0.01"),
        ("0", "the size must be above 0"),
        ("", "is not a number"),
        (".", "is not a number"),
    ],
)
async def test_a_wrong_size_says_what_would_be_right(typed: str, sentence: str) -> None:
    async with terminal() as t:
        await t.press("t")
        await t.wait(0.5)
        keys = [{".": "full_stop"}.get(char, char) for char in typed]
        await t.press("backspace", *keys, "enter")
        assert t.engine.commands == []
        assert sentence in t.text()


async def test_letters_minus_and_exponents_cannot_be_typed_as_a_size() -> None:
    async with terminal() as t:
        await t.press("t")
        await t.wait(0.5)
        await t.press("e", "minus", "9", "x")
        assert isinstance(t.app.screen, TakeDialog)
        assert t.app.screen.text == "9", "the first digit takes the proposal's place"
        await t.press("5")
        assert t.app.screen.text == "95"


async def test_keys_typed_ahead_send_nothing() -> None:
    async with terminal() as t:
        await t.press("t", "enter", "y", "enter")
        assert isinstance(t.app.screen, TakeDialog)
        assert t.engine.commands == []


async def test_take_is_disarmed_by_old_data() -> None:
    async with terminal() as t:
        await t.press("t")
        await t.wait(3.0, publish=False)
        await t.press("enter")
        assert t.engine.commands == []
        assert "data 3 s old" in t.text()


# The preview of a take


def figures(t: Terminal) -> dict[str, str]:
    """What stands in the dialog beside each name."""
    found: dict[str, str] = {}
    for line in t.lines():
        inside = line.replace("┃", "│").split("│")
        for part in inside:
            words = part.split()
            names = ("notional", "costs", "break-even", "health", "leverage", "liquidation", "delta")
            if words and words[0] in names and part.startswith(f" {words[0]}  "):
                found.setdefault(words[0], " ".join(words[1:]))
    return found


ASKED = "…"


async def test_take_shows_what_it_would_do() -> None:
    async with terminal(size=(80, 24)) as t:
        await t.press("t")
        assert [type(asked) for asked in t.engine.previews] == [Take]
        asked = t.engine.previews[0]
        assert isinstance(asked, Take)
        assert (asked.market, asked.base_1e9, asked.direction) == ("SOL-PERP", 1_000_000_000, Direction.CARRY)
        assert asked.snapshot_version == 0, "what it would do now, however long ago the key was pressed"
        assert figures(t) == {
            "notional": "$189.42 price 189.4200 limit 188.4800 (-50 bps)",
            "costs": "$0.35 (fees 0.16 · slippage 0.19) round trip $0.70",
            "break-even": "never a short pays 7.9 % a year",
            "health": "100 97 lower",
            "leverage": "0.00x 0.10x",
            "liquidation": "none 412.5000 +118 % away",
            "delta": "0.00 % 0.00 %",
        }
        text = t.text()
        for words in (
            "✕ profitability never    limit 168 h",
            "? oracle age    unknown  limit 30 s",
            "✓ 2 more gates ok",
            "1 n/a: latency",
            "1 exempt: rate limit",
            "f in the confirmation forces it",
            "min 0.01  step 0.01  max 100",
        ):
            assert words in text, words
        assert t.engine.commands == []


async def test_a_preview_that_cannot_be_forced_says_so_and_the_wish_can_still_be_sent() -> None:
    engine = FakeEngine()
    engine.plan = lambda command: replace(plan_for(command), can_force=False)
    async with terminal(engine) as t:
        await t.press("t")
        assert "refused: this trade cannot be forced" in t.text()
        await t.wait(0.5)
        await t.press("enter")
        assert len(engine.commands) == 1, "the engine judges it anew"


async def test_an_allowed_preview_says_nothing_of_a_refusal() -> None:
    engine = FakeEngine()
    engine.plan = lambda command: replace(
        plan_for(command), allowed=True, can_force=False, verdicts=make_verdicts()[1:3]
    )
    async with terminal(engine) as t:
        await t.press("t")
        text = t.text()
        assert "✓ 2 gates ok" in text
        assert "refused" not in text


async def test_figures_of_another_size_are_never_shown() -> None:
    engine = FakeEngine()
    async with terminal(engine, size=(80, 24)) as t:
        await t.press("t")
        before = figures(t)
        engine.preview_hold = asyncio.Event()
        await t.wait(0.3)
        await t.press("backspace", "2")
        assert t.app.screen.text == "2"  # type: ignore[attr-defined]
        after = figures(t)
        assert after["notional"] == after["costs"] == after["break-even"] == ASKED
        assert {name: said.split()[-1] for name, said in after.items()} == dict.fromkeys(before, ASKED)
        assert after["health"].split()[0] == "100", "what holds now holds for each size"
        assert "profitability never    limit" not in t.text().split("Take SOL-PERP")[1].split("[ Cancel ]")[0]
        assert "asking the engine" in t.text()
        engine.preview_hold.set()
        await t.wait(0.3)
        assert figures(t)["notional"].startswith("$378.84")
        assert "asking the engine" not in t.text()


async def test_the_direction_asks_anew() -> None:
    async with terminal() as t:
        await t.press("t")
        await t.wait(0.3)
        await t.press("d")
        assert [asked.direction for asked in t.engine.previews] == ["carry", "reverse"]  # type: ignore[union-attr]


async def test_an_answer_to_an_older_size_is_dropped() -> None:
    engine = FakeEngine()
    engine.preview_hold = first = asyncio.Event()
    async with terminal(engine, size=(80, 24)) as t:
        await t.press("t")
        await t.wait(0.3)
        await t.press("up")
        assert len(engine.previews) == 1, "one question at a time"
        engine.preview_hold = second = asyncio.Event()
        first.set()
        await t.settle()
        assert figures(t)["notional"] == ASKED
        assert [asked.base_1e9 for asked in engine.previews] == [1_000_000_000, 1_010_000_000]  # type: ignore[union-attr]
        second.set()
        await t.settle()
        assert figures(t)["notional"].startswith("$191.31")


async def test_a_late_answer_does_not_take_the_place_of_the_size_that_was_gone_back_to() -> None:
    engine = FakeEngine()
    async with terminal(engine, size=(80, 24)) as t:
        await t.press("t")
        await t.wait(0.3)
        engine.preview_hold = asyncio.Event()
        await t.press("up", "down")
        assert len(engine.previews) == 2
        assert figures(t)["notional"].startswith("$189.42"), "known from before"
        release, engine.preview_hold = engine.preview_hold, asyncio.Event()
        release.set()
        await t.settle()
        assert figures(t)["notional"].startswith("$189.42")


async def test_a_held_key_does_not_flood_the_engine() -> None:
    async with terminal() as t:
        await t.press("t")
        for _ in range(40):
            t.clock.now += 0.025
            await t.press("up")
        assert 3 <= len(t.engine.previews) <= 6, "a second of it"
        await t.wait(0.3)
        asked = t.engine.previews[-1]
        assert isinstance(asked, Take)
        assert asked.base_1e9 == 1_400_000_000, "the last wish is asked for"
        assert "1.40" in t.text()
        assert t.engine.commands == []


async def test_the_preview_is_asked_for_again_about_once_a_second() -> None:
    engine = FakeEngine()
    async with terminal(engine, size=(80, 24)) as t:
        await t.press("t")
        for _ in range(12):
            await t.wait(0.25)
        assert len(engine.previews) == 4
        engine.plan = lambda command: replace(plan_for(command), health_after=42)
        await t.wait(1.0)
        assert figures(t)["health"] == "100 42 lower"
        await t.press("escape")
        await t.wait(5.0)
        assert len(engine.previews) == 5, "not once the dialog is closed"


async def test_an_answer_after_the_dialog_is_closed_does_nothing() -> None:
    engine = FakeEngine()
    engine.preview_hold = asyncio.Event()
    async with terminal(engine) as t:
        await t.press("t", "escape")
        engine.preview_hold.set()
        await t.settle()
        assert isinstance(t.app.screen, MainScreen)


async def test_a_preview_that_stays_away_grows_old_in_sight() -> None:
    engine = FakeEngine()
    async with terminal(engine) as t:
        await t.press("t")
        engine.preview_hold = asyncio.Event()
        await t.wait(1.5)
        assert " s old" not in t.text().split("Take SOL-PERP")[1].split("[ Cancel ]")[0]
        await t.wait(1.5)
        assert "3 s old" in t.text()


@pytest.mark.parametrize(
    "error",
    [
        ValidationError("OTHER_STANCE", "SOL-PERP holds REVERSE; leave it before taking CARRY"),
        TransientError("NO_ANSWER", "the engine did not answer within 5 s"),
        UnresolvedError("CONNECTION_LOST", "the connection broke"),
    ],
)
async def test_a_failed_preview_says_its_sentence_and_the_wish_can_still_be_sent(error: DeltatuiError) -> None:
    engine = FakeEngine()

    def fail(command: object) -> PlanView:
        raise error

    engine.plan = fail
    async with terminal(engine, size=(80, 24)) as t:
        await t.press("t")
        assert error.sentence in t.text()
        assert figures(t)["notional"] == ASKED
        assert "asking the engine" not in t.text()
        engine.plan = plan_for
        await t.wait(1.0)
        assert error.sentence not in t.text(), "asked again, it works"
        assert figures(t)["notional"].startswith("$189.42")
        await t.press("enter")
        assert len(engine.commands) == 1


async def test_a_wish_without_a_preview_can_be_sent() -> None:
    engine = FakeEngine()
    engine.preview_hold = asyncio.Event()
    async with terminal(engine) as t:
        await t.press("t")
        await t.wait(0.5)
        await t.press("enter")
        assert len(engine.commands) == 1


async def test_a_size_that_cannot_be_is_not_asked_about() -> None:
    async with terminal(size=(80, 24)) as t:
        await t.press("t")
        await t.wait(0.3)
        await t.press("backspace", "0")
        await t.wait(3.0)
        assert [asked.base_1e9 for asked in t.engine.previews] == [1_000_000_000]  # type: ignore[union-attr]
        assert "the size must be above 0" in t.text()
        assert figures(t)["notional"] == ASKED


async def test_another_size_than_the_one_asked_for_is_told() -> None:
    engine = FakeEngine()
    engine.plan = lambda command: replace(plan_for(command), size=0.9)
    async with terminal(engine) as t:
        await t.press("t")
        assert "the engine would trade 0.9000 SOL of 1" in t.text()


async def test_take_is_armed_anew_after_old_data() -> None:
    async with terminal() as t:
        await t.press("t")
        await t.wait(2.5, publish=False)
        await t.wait(0.1)
        await t.press("enter")
        assert t.engine.commands == [], "fresh, but not for long enough"
        await t.wait(0.5)
        await t.press("enter")
        assert len(t.engine.commands) == 1


async def test_a_paste_into_the_size_sends_nothing() -> None:
    async with terminal() as t:
        await t.press("t")
        await t.wait(0.5)
        t.app.screen.query_one("#size").post_message(Paste("2.5\n\n"))
        await t.settle()
        assert t.engine.commands == []
        assert isinstance(t.app.screen, TakeDialog)
        assert t.app.screen.text == "2.5"


async def test_a_long_look_at_the_preview_does_not_make_the_wish_too_old() -> None:
    async with terminal(FakeEngine(make_snapshot(version=9))) as t:
        await t.press("t")
        for _ in range(8):
            await t.wait(1.0)
        await t.press("enter")
        assert t.engine.commands[0].snapshot_version == t.engine.snapshot.version > 9


async def test_but_a_position_that_changed_meanwhile_does() -> None:
    async with terminal(FakeEngine(make_snapshot(version=9))) as t:
        await t.press("t")
        for _ in range(8):
            await t.wait(1.0)
        positions = t.engine.snapshot.positions
        await t.publish(positions=(replace(positions[0], size=-20.0), *positions[1:]))
        await t.press("enter")
        assert t.engine.commands[0].snapshot_version == 9, "the engine refuses it and the operator looks again"


@pytest.mark.parametrize("size", [(80, 24), (120, 35), (160, 48)])
async def test_a_take_fits_on_every_screen(size: tuple[int, int]) -> None:
    engine = FakeEngine()
    engine.plan = lambda command: replace(plan_for(command), verdicts=every_gate(), notional=12_345_678.9)
    async with terminal(engine, size=size) as t:
        await t.press("t")
        assert "▐REPLAY▌" in t.lines()[0], "the badge stays in sight"
        text = t.text()
        for words in (
            "✕ profitability",
            "✓ 9 more gates ok",
            "7 n/a: gas, latency",
            "in the confirmation forces it",
            "[ Cancel ]",
        ):
            assert words in text, words
        assert "lines 1-" not in text, "nothing is scrolled away"


# The confirmation


async def test_a_confirmation_opens_by_itself_and_shows_everything() -> None:
    engine = FakeEngine()
    async with terminal(engine) as t:
        await t.publish(confirmations=(make_confirmation(source="engine"),))
        assert isinstance(t.app.screen, ConfirmDialog)
        text = t.text()
        for words in (
            "Take SOL-PERP · REPLAY",
            "by engine",
            "cancels in 26 s",
            "sell 10 SOL-PERP  buy 10 SOL",
            "$1,894.20",
            "188.4800",
            "(-50 bps)",
            "$3.50",
            "fees 1.61",
            "slippage 1.89",
            "never",
            "a short pays 7.9 % a year",
            "100          97",
            "0.00x",
            "1.00x",
            "412.5000",
            "+118 % away",
            "✕ profitability",
            "limit 168 h",
            "? oracle age",
            "✓ leverage 1.00x  limit 10x",
            "n/a: latency",
            "exempt: rate limit",
            "[ Cancel ]",
            "refused by its gates",
        ):
            assert words in text, words


def every_gate(*, live: bool = False) -> tuple[Verdict, ...]:
    """All seventeen, as an engine judges a take that does not pay; on a tape seven do not apply."""
    allowed, other = VerdictStatus.ALLOWED, VerdictStatus.ALLOWED if live else VerdictStatus.NOT_APPLICABLE
    return (
        Verdict("venue", allowed, "open", "open"),
        Verdict("funding_age", allowed, "1,800 s", "<= 7,200 s"),
        Verdict("size", allowed, "ok", ""),
        Verdict("profitability", VerdictStatus.BLOCKED, "never", "<= 168 h", "expected carry is -10.2 % APR"),
        Verdict("leverage", allowed, "1.00x", "<= 5x"),
        Verdict("health_after", allowed, "97", ">= 60"),
        Verdict("liq_distance", allowed, "118 %", ">= 20 %"),
        Verdict("margin", allowed, "$3,222.80", "> $0"),
        Verdict("quote_reserve", allowed, "3,223 $", ">= 0 $"),
        Verdict("gas", other, "0.5 SOL", ">= 0.017 SOL", "" if live else "a tape has none"),
        Verdict("latency", other, "34 ms", "<= 500 ms", "" if live else "a tape has none"),
        Verdict("oracle_age", other, "2 s", "<= 60 s", "" if live else "a tape has none"),
        Verdict("slot_lag", other, "1 slots", "<= 50 slots", "" if live else "a tape has none"),
        Verdict("clock_skew", other, "0.1 s", "<= 2 s", "" if live else "a tape has none"),
        Verdict("guards", other, "passing", "passing", "" if live else "a tape has none"),
        Verdict("open_interest", other, "ok", "", "" if live else "a tape has none"),
        Verdict("rate", allowed, "ok", ""),
    )


async def test_all_of_a_confirmation_stands_on_the_smallest_screen() -> None:
    reason = "expected carry is -10.2 % APR"
    confirmation = make_confirmation(verdicts=every_gate(), carry_sentence=reason, side="short perp + buy spot")
    async with terminal(FakeEngine(make_snapshot(confirmations=(confirmation,))), size=(80, 24)) as t:
        text = t.text()
        assert "▐REPLAY▌" in t.lines()[0], "the badge stays in sight"
        for verdict in every_gate():
            assert verdict.code.replace("_", " ").split()[0] in text, verdict.code
        for words in (
            "cancels in 26 s",
            "$3.50",
            "412.5000",
            "7 n/a: gas, latency",
            "interest",
            "f forces it",
            "[ Cancel ]",
        ):
            assert words in text, words
        assert text.count(reason) == 1, "said once, beside the break-even"
        assert "lines 1-" not in text, "nothing is scrolled away"


async def test_a_large_live_confirmation_stands_on_the_smallest_screen() -> None:
    confirmation = make_confirmation(
        verdicts=tuple(replace(v, status=VerdictStatus.ALLOWED) for v in every_gate(live=True)),
        carry_sentence="+12.4 % APR expected, break-even after 40 h",
        break_even_h=40.0,
        allowed=True,
        can_force=False,
        notional=1_000_000.0,
    )
    snapshot = make_snapshot(confirmations=(confirmation,))
    live = replace(snapshot, engine=replace(snapshot.engine, mode="live", live_mode="trade"))
    async with terminal(FakeEngine(live), size=(80, 24)) as t:
        text = t.text()
        assert "LIVE TRADE" in t.lines()[0]
        for words in ("✓ venue open", "clock skew 0.1 s <= 2 s", "✓ rate ok", "type SOL-PERP to confirm", "[ Cancel ]"):
            assert words in text, words
        assert "lines 1-" not in text, "nothing is scrolled away"


async def test_more_than_a_screen_of_refusals_scrolls_and_says_so() -> None:
    verdicts = tuple(replace(v, status=VerdictStatus.UNKNOWN, observed="unknown") for v in every_gate())
    confirmation = make_confirmation(verdicts=verdicts, can_force=False)
    async with terminal(FakeEngine(make_snapshot(confirmations=(confirmation,))), size=(80, 24)) as t:
        await t.settle()
        assert "[ Cancel ]" in t.text()
        assert "take: refused by its gates" in t.text()
        assert "lines 1-19 of " in t.text()
        assert "cannot be forced" not in t.text()
        await t.press("pagedown", "pagedown")
        assert "cannot be forced" in t.text()
        assert "lines 1-" not in t.text()
        assert "[ Cancel ]" in t.text()


async def test_a_long_reason_of_the_break_even_goes_on_below() -> None:
    reason = "only the newest record pays; the average over the last week is -12.4 % APR and falling since Monday"
    confirmation = make_confirmation(carry_sentence=reason)
    async with terminal(FakeEngine(make_snapshot(confirmations=(confirmation,))), size=(80, 24)) as t:
        said = " ".join(" ".join(line.split("│")[2] for line in t.lines() if line.count("│") >= 3).split())
        assert reason in said


async def test_after_leaving_the_empty_table_is_about_the_market_again() -> None:
    async with terminal() as t:
        await t.press("down", "up")
        await t.publish(positions=())
        await t.press("t")
        assert isinstance(t.app.screen, TakeDialog)
        assert t.app.screen.market == "SOL-PERP"
        await t.press("escape")
        t.app.operator.select("BTC-PERP")
        await t.settle()
        await t.press("l")
        assert t.engine.commands == [], "the lost row was of another market"
        assert any("the chosen row SOL-PERP is gone" in toast for toast in t.toasts())


async def test_a_key_held_down_since_before_never_arms() -> None:
    async with terminal() as t:
        await t.press("t")
        for _ in range(40):
            await t.wait(0.033)
            await t.press("enter")
        assert t.engine.commands == []
        await t.wait(0.5)
        await t.press("enter")
        assert len(t.engine.commands) == 1


async def test_a_dialog_of_one_engine_sends_nothing_to_another() -> None:
    async with terminal() as t:
        await t.press("t")
        await t.wait(0.5)
        other = replace(t.engine.snapshot.engine, pid=99, mode="live")
        await t.publish(engine=other)
        await t.wait(0.5)
        await t.press("enter")
        assert t.engine.commands == []
        assert "another engine answers now" in t.text()


async def test_force_does_not_outlive_its_warning() -> None:
    refused = make_confirmation()
    async with terminal(FakeEngine(make_snapshot(confirmations=(refused,)))) as t:
        await t.wait(0.5)
        await t.press("f")
        assert "FORCED" in t.text()
        await t.publish(confirmations=(replace(refused, allowed=True, can_force=False, verdicts=()),))
        await t.wait(0.5)
        await t.press("y")
        assert [command.force for command in t.engine.commands if isinstance(command, Confirm)] == [False]


async def test_a_leave_has_nothing_to_earn_back() -> None:
    leave = make_confirmation(kind="LEAVE", side="close")
    async with terminal(FakeEngine(make_snapshot(confirmations=(leave,))), size=(80, 24)) as t:
        text = t.text()
        assert "Leave SOL-PERP" in text
        assert "costs       $3.50" in text
        assert "│ break-even" not in text
        assert "round trip" not in text


async def test_a_break_even_nobody_can_judge_is_not_never() -> None:
    verdict = Verdict("profitability", VerdictStatus.UNKNOWN, "unknown", "", "too few funding records")
    confirmation = make_confirmation(verdicts=(verdict,), break_even_h=None, carry_sentence="")
    async with terminal(FakeEngine(make_snapshot(confirmations=(confirmation,))), size=(80, 24)) as t:
        line = next(line for line in t.lines() if "│ break-even  " in line)
        assert "n/a" in line
        assert "never" not in line


async def test_y_works_after_the_arming_time_and_once() -> None:
    engine = pending()
    engine.hold = asyncio.Event()
    async with terminal(engine) as t:
        assert "take: y in 0.4 s" in t.text()
        await t.wait(0.3)
        await t.press("y", "y")
        assert engine.commands == []
        await t.wait(0.1)
        assert "take: y in" not in t.text()
        await t.press("y", "y", "y", "enter", "y")
        assert [type(command) for command in engine.commands] == [Confirm]
        confirm = engine.commands[0]
        assert isinstance(confirm, Confirm)
        assert (confirm.operation_id, confirm.force, confirm.snapshot_version) == (
            "op-0007",
            False,
            engine.snapshot.version,
        )
        engine.hold.set()
        await t.publish(confirmations=())
        assert isinstance(t.app.screen, MainScreen)
        assert any("take SOL-PERP: done" in toast for toast in t.toasts())


async def test_l_and_y_in_one_burst_send_no_confirmation() -> None:
    engine = FakeEngine()

    def answer(command: object) -> CommandResult:
        if isinstance(command, Leave):
            engine.publish(confirmations=(allowed_confirmation(kind="LEAVE"),))
            return CommandResult(ResultStatus.NEEDS_CONFIRMATION, "", "", "op-0007")
        return CommandResult(ResultStatus.DONE, "", "done")

    engine.answer = answer
    async with terminal(engine) as t:
        await t.pilot.press("l", "y", "y", "y")
        await t.settle()
        assert isinstance(t.app.screen, ConfirmDialog)
        await t.pilot.press("y", "y")
        await t.settle()
        assert [type(command) for command in engine.commands] == [Leave]


async def test_the_running_state_is_shown_until_the_result() -> None:
    engine = pending()
    engine.hold = asyncio.Event()
    async with terminal(engine) as t:
        await t.wait(0.5)
        await t.press("y")
        assert "sent once" in t.text()
        operation = OperationView("op-0007", "TAKE", "SOL-PERP", "SENT", "leg 1 of 2", OPERATOR_S, False)
        await t.publish(confirmations=(), operations=(operation,))
        assert "SENT" in t.text()
        assert "leg 1 of 2" in t.text()
        await t.press("enter")
        assert isinstance(t.app.screen, MainScreen)
        assert [type(command) for command in engine.commands] == [Confirm], "closing a running dialog cancels nothing"
        engine.hold.set()
        await t.settle()
        assert any("done" in toast for toast in t.toasts())


@pytest.mark.parametrize("key", ["enter", "escape", "n", "ctrl+c"])
async def test_no_is_the_default_and_has_its_keys(key: str) -> None:
    async with terminal(pending()) as t:
        await t.press(key)
        assert [type(command) for command in t.engine.commands] == [Cancel]
        assert t.engine.commands[0].operation_id == "op-0007"  # type: ignore[union-attr]
        await t.settle()
        assert isinstance(t.app.screen, MainScreen), "an answered confirmation does not come back"


async def test_stale_data_disarm_and_fresh_data_arm_anew() -> None:
    async with terminal(pending()) as t:
        await t.wait(0.5)
        await t.wait(2.0, publish=False)
        assert "data 2 s old" in t.text()
        await t.press("y")
        assert t.engine.commands == []
        await t.publish()
        await t.press("y")
        assert t.engine.commands == [], "it must have been fresh for the arming time"
        await t.wait(0.4)
        await t.press("y")
        assert [type(command) for command in t.engine.commands] == [Confirm]


async def test_old_data_disarm_at_once_and_not_at_the_next_tick() -> None:
    async with terminal(pending()) as t:
        await t.wait(0.5)
        t.clock.now += 2.0
        await t.pilot.press("y")
        await t.pilot.pause()
        assert t.engine.commands == []


async def test_a_lost_engine_disarms() -> None:
    async with terminal(pending()) as t:
        await t.wait(0.5)
        t.engine.drop()
        await t.settle()
        await t.press("y")
        assert t.engine.commands == []
        assert "engine not connected" in t.text()


async def test_the_countdown_runs_and_an_expired_confirmation_cannot_be_sent() -> None:
    async with terminal(pending()) as t:
        await t.wait(10.0)
        assert "cancels in 16 s" in t.text()
        await t.wait(16.0)
        assert "cancels in 0 s" in t.text()
        await t.press("y")
        assert t.engine.commands == []
        assert "expired" in t.text()
        await t.publish(confirmations=())
        assert isinstance(t.app.screen, MainScreen)
        await t.wait(1.0)
        assert any("the question has ended" in toast for toast in t.toasts())


async def test_a_change_of_the_trade_arms_anew() -> None:
    async with terminal(pending()) as t:
        await t.wait(0.5)
        legs = (LegView("SOL-PERP", -10.0, 188.48), LegView("SOL", 20.0, 190.37))
        await t.publish(confirmations=(allowed_confirmation(legs=legs),))
        assert "sell 10 SOL-PERP  buy 20 SOL" in t.text()
        await t.press("y")
        assert t.engine.commands == []


async def test_another_confirmation_is_another_dialog() -> None:
    async with terminal(pending()) as t:
        await t.wait(0.5)
        await t.publish(confirmations=(allowed_confirmation(operation_id="op-0008"),))
        await t.press("y")
        assert t.engine.commands == []
        await t.wait(0.5)
        await t.press("y")
        assert [command.operation_id for command in t.engine.commands] == ["op-0008"]  # type: ignore[union-attr]


async def test_force_shows_the_loss_and_arms_anew() -> None:
    async with terminal(FakeEngine(make_snapshot(confirmations=(make_confirmation(),)))) as t:
        await t.press("f")
        assert "FORCED" not in t.text(), "typed ahead, f does nothing"
        await t.wait(0.5)
        await t.press("y")
        assert t.engine.commands == []
        await t.press("f")
        assert "FORCED against profitability: expected loss $5.25 over the horizon" in t.text()
        await t.press("y")
        assert t.engine.commands == [], "the loss must have been on the screen for the arming time"
        await t.wait(0.5)
        await t.press("y")
        confirm = t.engine.commands[0]
        assert isinstance(confirm, Confirm)
        assert confirm.force


async def test_what_cannot_be_forced_cannot() -> None:
    async with terminal(FakeEngine(make_snapshot(confirmations=(make_confirmation(can_force=False),)))) as t:
        await t.wait(0.5)
        await t.press("f", "y")
        assert t.engine.commands == []
        assert "cannot be forced" in t.text()


async def test_a_large_live_trade_needs_its_symbol() -> None:
    snapshot = make_snapshot(confirmations=(allowed_confirmation(notional=10_001.0),))
    engine = FakeEngine(replace(snapshot, engine=replace(snapshot.engine, mode="live", live_mode="trade")))
    async with terminal(engine) as t:
        await t.wait(0.5)
        await t.press("y")
        assert t.engine.commands == []
        assert "type SOL-PERP first" in t.text()
        t.app.screen.query_one("#symbol").focus()
        await t.press(*"SOL", "minus", *"PERP", "enter")
        await t.wait(0.5)
        await t.press("y")
        assert [type(command) for command in t.engine.commands] == [Confirm]


@pytest.mark.parametrize(
    ("mode", "threshold", "typed"),
    [
        ("live", 1_894.2, False),
        ("live", 1_894.19, True),
        ("live", float("nan"), True),
        ("live", float("inf"), True),
        ("paper", 0.0, False),
        ("replay", 0.0, False),
    ],
)
async def test_the_engine_says_what_is_a_large_trade(mode: str, threshold: float, typed: bool) -> None:
    snapshot = make_snapshot(confirmations=(allowed_confirmation(),))
    engine = FakeEngine(replace(snapshot, engine=replace(snapshot.engine, mode=mode, typed_above_usd=threshold)))
    async with terminal(engine) as t:
        await t.wait(0.5)
        await t.press("y")
        assert ("type SOL-PERP first" in t.text()) is typed
        assert len(engine.commands) == (0 if typed else 1)


async def test_a_read_only_terminal_sees_the_confirmation_but_answers_nothing() -> None:
    engine = FakeEngine(make_snapshot(confirmations=(allowed_confirmation(),)), read_only=True)
    async with terminal(engine) as t:
        await t.wait(0.5)
        await t.press("y")
        await t.press("n")
        assert engine.commands == []
        assert isinstance(t.app.screen, MainScreen)


async def test_a_paste_confirms_nothing() -> None:
    async with terminal(pending()) as t:
        await t.wait(0.5)
        t.app.screen.post_message(Paste("y\ny\n"))
        await t.settle()
        assert t.engine.commands == []


# Automation, kill, quit


async def test_automation_on_asks_and_off_does_not() -> None:
    snapshot = make_snapshot()
    async with terminal(FakeEngine(replace(snapshot, engine=replace(snapshot.engine, automation=False)))) as t:
        assert "Automation: off" in t.text()
        await t.press("a", "y")
        assert isinstance(t.app.screen, AskDialog)
        assert t.engine.commands == []
        await t.wait(0.5)
        await t.press("y")
        assert [command.on for command in t.engine.commands] == [True]  # type: ignore[union-attr]
        await t.publish(engine=snapshot.engine)
        await t.press("a")
        assert [command.on for command in t.engine.commands] == [True, False]  # type: ignore[union-attr]


async def test_kill_works_on_old_data_but_not_typed_ahead() -> None:
    async with terminal() as t:
        await t.wait(60.0, publish=False)
        await t.press("exclamation_mark", "y")
        assert isinstance(t.app.screen, KillDialog)
        assert t.engine.commands == []
        await t.wait(0.5, publish=False)
        await t.press("f")
        assert "then every position is closed" in t.text()
        await t.wait(0.5, publish=False)
        await t.press("r", *"odd!", "enter")
        await t.press("y", "y")
        kill = t.engine.commands[0]
        assert len(t.engine.commands) == 1
        assert isinstance(kill, Kill)
        assert (kill.flatten, kill.reason) == (True, "odd!")
        assert isinstance(t.app.screen, MainScreen)


async def test_no_toast_lies_on_a_dialog_and_none_is_lost() -> None:
    async with terminal(size=(80, 24)) as t:
        t.app.operator.toast_lines([f"take partly done, line {n}" for n in range(8)], "warning", 30.0)
        await t.settle()
        assert "take partly done, line 0" in t.text()
        await t.press("exclamation_mark")
        t.app.operator.toast("odd leg: spot moved +5, perp -1.12; mending", "error")
        await t.settle()
        assert "flatten   no: what is open stays open" in t.text()
        assert "kill: " in t.text(), "the line with the keys"
        await t.press("escape")
        await t.settle()
        assert "take partly done, line 0" in t.text()
        assert "odd leg: spot moved +5, perp -1.12; mending" in t.text()


async def test_kill_opens_over_any_dialog_and_once() -> None:
    async with terminal(pending()) as t:
        await t.press("exclamation_mark", "exclamation_mark")
        assert isinstance(t.app.screen, KillDialog)
        assert sum(isinstance(screen, KillDialog) for screen in t.app.screen_stack) == 1


async def test_the_kill_dialog_stays_when_the_confirmation_under_it_ends() -> None:
    async with terminal(pending()) as t:
        await t.press("exclamation_mark")
        await t.publish(confirmations=())
        assert isinstance(t.app.screen, KillDialog)
        await t.publish(confirmations=(allowed_confirmation(operation_id="op-0008"),))
        assert isinstance(t.app.screen, KillDialog), "no other dialog comes over it"
        await t.press("escape")
        await t.settle()
        assert isinstance(t.app.screen, ConfirmDialog)
        assert t.app.screen.confirmation.operation_id == "op-0008"
        assert sum(isinstance(screen, ConfirmDialog) for screen in t.app.screen_stack) == 1
        assert t.engine.commands == []


@pytest.mark.parametrize("answer", ["rejected", "not sent"])
async def test_a_confirm_that_changed_nothing_may_be_given_again_while_the_engine_waits(answer: str) -> None:
    engine = pending()

    def refuse(command: object) -> CommandResult:
        if answer == "not sent":
            raise TransientError("NOT_CONNECTED", "not sent")
        return CommandResult(ResultStatus.REJECTED, "RATE", "too many commands")

    engine.answer = refuse
    async with terminal(engine) as t:
        await t.wait(0.5)
        await t.press("y")
        await t.settle()
        assert isinstance(t.app.screen, MainScreen), "not on the same snapshot"
        await t.publish()
        assert isinstance(t.app.screen, ConfirmDialog)
        await t.press("y")
        assert len(engine.commands) == 1, "armed anew"
        await t.wait(0.5)
        await t.press("y")
        assert len(engine.commands) == 2


async def test_a_kill_that_did_not_get_through_can_be_repeated() -> None:
    engine = FakeEngine()
    answers = iter([TransientError("NOT_CONNECTED", "not sent"), None])

    def answer(command: object) -> CommandResult:
        error = next(answers)
        if error is not None:
            raise error
        return CommandResult(ResultStatus.DONE, "", "halted")

    engine.answer = answer
    async with terminal(engine) as t:
        await t.press("exclamation_mark")
        await t.wait(0.5)
        await t.press("y")
        assert isinstance(t.app.screen, KillDialog)
        assert "not sent" in t.toasts()[-1]
        await t.wait(0.5)
        await t.press("y")
        assert len(engine.commands) == 2
        assert isinstance(t.app.screen, MainScreen)


async def test_quitting_the_last_terminal_of_a_replay_stops_the_engine_by_default() -> None:
    async with terminal() as t:
        await t.press("ctrl+q")
        assert isinstance(t.app.screen, QuitDialog)
        assert "Stop the engine too?" in t.text()
        await t.wait(0.5)
        await t.pilot.press("enter")
        await t.pilot.pause()
        assert [type(command) for command in t.engine.commands] == [Stop]
        assert t.app._exit


async def test_a_stop_is_sent_once_and_may_be_tried_again_when_it_was_refused() -> None:
    engine = FakeEngine()
    engine.answer = lambda command: CommandResult(ResultStatus.REJECTED, "BUSY", "a trade is under way")
    engine.hold = asyncio.Event()
    async with terminal(engine) as t:
        await t.press("ctrl+q")
        await t.wait(0.5)
        await t.press("y", "y", "enter", "k")
        assert [type(command) for command in engine.commands] == [Stop]
        assert not t.app._exit
        assert "waiting for the engine" in t.text()
        engine.hold.set()
        await t.settle()
        assert "a trade is under way" in t.toasts()[-1]
        await t.press("y")
        assert len(engine.commands) == 1, "armed anew"
        await t.wait(0.5)
        await t.press("y")
        assert [type(command) for command in engine.commands] == [Stop, Stop]


@pytest.mark.parametrize(
    ("mode", "clients", "key"), [("replay", 1, "k"), ("replay", 2, "y"), ("live", 1, "y"), ("live", 1, "enter")]
)
async def test_the_engine_goes_on(mode: str, clients: int, key: str) -> None:
    snapshot = make_snapshot()
    engine = FakeEngine(replace(snapshot, engine=replace(snapshot.engine, mode=mode, clients=clients)))
    async with terminal(engine) as t:
        await t.press("q")
        await t.wait(0.5)
        await t.pilot.press(key)
        await t.pilot.pause()
        assert engine.commands == []
        assert t.app._exit


async def test_q_leaves_a_zoomed_pane_first_and_cancel_stays() -> None:
    async with terminal() as t:
        await t.press("3", "q")
        assert isinstance(t.app.screen, MainScreen)
        await t.press("q")
        assert isinstance(t.app.screen, QuitDialog)
        await t.press("escape")
        assert isinstance(t.app.screen, MainScreen)
        assert not t.app._exit


async def test_remapped_keys_do_the_same(tmp_path: Path) -> None:
    path = tmp_path / "keymap.toml"
    path.write_text('[keys]\nrebalance = "l"\nleave = "r"\ndialog-yes = "z"\n', encoding="utf-8")
    engine = pending()
    async with terminal(engine, keymap=path) as t:
        await t.wait(0.5)
        assert "take: z" in t.text()
        await t.press("y")
        assert engine.commands == []
        await t.press("z")
        await t.publish(confirmations=())
        await t.press("l", "r")
        assert [type(command) for command in engine.commands] == [Confirm, Rebalance, Leave]
