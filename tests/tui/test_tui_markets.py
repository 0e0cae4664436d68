"""One terminal, many markets: which one is selected, what is shown of it, and which one an action is about."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from snapshots import make_confirmation, make_detail, make_hedge, make_snapshot, make_verdicts, with_hedge
from test_tui_pictures import two_held
from test_tui_screen import full_engine, full_snapshot
from tui_fakes import FakeEngine, Terminal, make_cards, offering, replace, terminal

from deltatui.api.protocol import MarketMessage
from deltatui.domain.command import (
    Cancel,
    CommandResult,
    Confirm,
    Deposit,
    Leave,
    Rebalance,
    ResultStatus,
    Settle,
    Take,
)
from deltatui.domain.snapshot import ConfirmationView, OperationView
from deltatui.tui.actions import BY_ID
from deltatui.tui.modals.confirm import ConfirmDialog
from deltatui.tui.modals.orders import SettleDialog, TransferDialog
from deltatui.tui.modals.take import TakeDialog, proposal
from deltatui.tui.panes.health import liq_text
from deltatui.tui.panes.positions import away_cell, price_text
from deltatui.tui.screens.main import MainScreen
from deltatui.tui.store import STALE_S, Store, first_choice
from deltatui.tui.widgets.grid import LiveGrid

WIDE = (160, 48)


def selected(t: Terminal) -> str:
    return t.app.store.view.market


async def choose(t: Terminal, grid: str, key: str) -> None:
    """Focus a table and put its cursor on a row, as the operator does."""
    table = t.app.main.query_one(f"#{grid}", LiveGrid)
    table.focus()
    assert table.move_to(key)
    await t.settle()


# What is selected


def test_the_first_choice_is_the_best_ranked_market_that_is_carried() -> None:
    snapshot = full_snapshot()
    assert first_choice(snapshot) == "BTC-PERP"
    foreign = replace(snapshot.opportunities[0], key="X-PERP", market="X-PERP")
    assert first_choice(replace(snapshot, opportunities=(foreign, *snapshot.opportunities[1:]))) == "SOL-PERP"
    assert first_choice(replace(snapshot, opportunities=())) == "SOL-PERP"
    assert first_choice(replace(snapshot, hedges=())) == ""
    ended = with_hedge(snapshot, "BTC-PERP", ended=True)
    assert first_choice(ended) == "SOL-PERP", "nothing can be taken where no prices come any more"
    assert first_choice(with_hedge(ended, "SOL-PERP", ended=True)) == "BTC-PERP", "but one is shown"


async def test_a_selection_stays_while_its_market_is_carried() -> None:
    async with terminal(full_engine(), market="") as t:
        assert selected(t) == "BTC-PERP"
        await t.publish(opportunities=t.engine.snapshot.opportunities[::-1])
        assert selected(t) == "BTC-PERP", "another ranking selects nothing"
        await t.publish(hedges=(make_hedge("SOL-PERP"),))
        assert selected(t) == "SOL-PERP"
        await t.publish(hedges=(make_hedge("SOL-PERP"), make_hedge("BTC-PERP")))
        assert selected(t) == "SOL-PERP"
        assert t.engine.selected == ["BTC-PERP", "SOL-PERP"], "the engine is told once of each"


async def test_enter_on_an_opportunity_selects_it_and_every_pane_says_so() -> None:
    async with terminal(full_engine(), size=WIDE) as t:
        text = t.text()
        assert text.count("SOL-PERP ─") == 4, "the titles of Why, Delta, Market and Funding"
        assert "paper · SOL-PERP   ⚑ 1 block   oracle ~189.4200" in text
        await choose(t, "opportunities", "BTC-PERP")
        assert selected(t) == "SOL-PERP", "the cursor alone selects nothing"
        await t.press("enter")
        text = t.text()
        assert selected(t) == "BTC-PERP"
        assert not t.app.main.has_class("-zoom")
        assert text.count("BTC-PERP ─") == 4
        for words in (
            "paper · BTC-PERP   1 client   ⚑ 2 blocks",
            "net 0.0000 wBTC",
            "a short pays 10.5 % a year",
            "gates of TAKE BTC-PERP",
            "0.0200 wBTC",
            "oracle ~94,214.5  mark ~94,190.0",
        ):
            assert words in text, words
        assert "gates of TAKE SOL-PERP" not in text
        assert t.engine.selected[-1] == "BTC-PERP"


async def test_a_market_that_is_not_carried_cannot_be_selected() -> None:
    async with terminal(full_engine(), size=WIDE) as t:
        await choose(t, "opportunities", "ETH-PERP")
        await t.press("enter")
        assert selected(t) == "SOL-PERP"
        assert t.toasts() == ["ETH-PERP is not carried by this engine: it cannot be selected"]


async def test_enter_on_a_position_selects_its_market() -> None:
    async with terminal(full_engine(two_held()), size=WIDE) as t:
        await choose(t, "positions", "wBTC")
        await t.press("enter")
        assert selected(t) == "BTC-PERP"
        await t.press("enter")
        assert t.app.main.has_class("-zoom"), "selected already, so it opens"


@pytest.mark.parametrize("size", [(80, 24), (120, 35), WIDE])
async def test_an_engine_without_a_market_says_so(size: tuple[int, int]) -> None:
    async with terminal(FakeEngine(make_snapshot(hedges=(), positions=(), opportunities=())), size=size) as t:
        assert selected(t) == ""
        assert "this engine carries no market yet" in t.text()
        for key in "1234567890":
            await t.press(key, key)
        assert t.engine.selected == []


async def test_selected_and_held_markets_are_marked_in_the_ranking() -> None:
    async with terminal(full_engine(two_held()), size=(120, 35)) as t:
        rows = [line.rpartition("││")[2].split()[:3] for line in t.lines()[13:16]]
        assert rows == [["▸", "C", "BTC-PERP"], ["●C", "SOL-PERP", "-15.4%"], ["ETH-PERP", "-18.4%", "never"]]
        await t.press("5")
        assert [line.split()[-2] for line in t.lines() if "-PERP" in line and "│" in line][:2] == ["carry", "carry"]


async def test_the_ranking_is_the_engines() -> None:
    async with terminal(full_engine(), size=WIDE) as t:
        rows = t.engine.snapshot.opportunities
        await t.publish(opportunities=(rows[2], rows[0], rows[1]))
        await t.wait(2.0)
        assert t.app.main.query_one("#opportunities", LiveGrid).keys == ("ETH-PERP", "BTC-PERP", "SOL-PERP")


async def test_a_market_that_has_ended_is_marked_in_the_ranking_and_makes_no_pane_old() -> None:
    base = full_snapshot()
    old = tuple(replace(row, age_s=61_200.0) if row.market == "BTC-PERP" else row for row in base.opportunities)
    for size in (WIDE, (120, 35)):
        async with terminal(full_engine(replace(base, opportunities=old)), size=size) as t:
            assert "17 h old" in t.text(), "a record that is missing is told"
            await t.publish(hedges=with_hedge(replace(base, opportunities=old), "BTC-PERP", ended=True).hedges)
            await t.wait(2.0)
            assert "17 h old" not in t.text()
            (row,) = [line for line in t.lines() if "BTC-PERP" in line and "SOL-PERP" not in line and "%" in line]
            assert "  ended " in row
            rates = [row.apr_pct for row in old if row.market != "BTC-PERP" and row.apr_pct is not None]
            assert f"average {sum(rates) / len(rates):+.1f} % APR" in t.text()


# What is told of it


async def test_what_is_told_of_another_market_is_never_shown() -> None:
    engine = full_engine()
    del engine.details["BTC-PERP"]
    async with terminal(engine, size=WIDE) as t:
        assert "✓ good" in t.text()
        t.app.operator.select("BTC-PERP")
        await t.settle()
        for client in engine.clients:
            client.put(MarketMessage(engine.details["SOL-PERP"]))
        await t.settle()
        text = t.text()
        assert text.count("asking the engine about BTC-PERP") == 2, "gates and cards"
        assert "✓ good" not in text
        assert "profitability" not in text.split("0 Log")[0]
        assert "blocks n/a" in text
        engine.details["BTC-PERP"] = make_detail("BTC-PERP", cards=make_cards())
        await t.publish()
        assert "asking the engine" not in t.text()
        assert "✓ good" in t.text()


async def test_the_one_line_asks_too() -> None:
    engine = FakeEngine()
    engine.details.clear()
    async with terminal(engine, size=(80, 24)) as t:
        assert "CARRY→FLAT  asking the engine about SOL-PERP" in t.text()


def test_a_detail_that_does_not_come_along_is_not_known_any_more() -> None:
    store = Store()
    store.put_snapshot(make_snapshot(), 100.0)
    store.put_detail(make_detail(), 100.0)
    store.put_snapshot(make_snapshot(version=2), 100.0 + STALE_S)
    before = store.view
    assert before.detail is not None, "older by a moment"
    store.put_snapshot(make_snapshot(version=3), 100.1 + STALE_S)
    assert store.view.detail is None
    assert store.view.version == before.version + 1


def test_a_new_connection_tells_anew() -> None:
    store = Store()
    store.put_snapshot(make_snapshot(), 1.0)
    store.put_detail(make_detail(), 1.0)
    store.engine_is(4242)
    assert store.view.detail is None
    assert store.view.market == "SOL-PERP"


async def test_after_a_reconnection_the_selection_is_asked_for_again() -> None:
    waits: list[float] = []

    async def no_wait(seconds: float) -> None:
        waits.append(seconds)
        engine.up = True

    engine = full_engine()
    async with terminal(engine, sleep=no_wait) as t:
        t.app.operator.select("BTC-PERP")
        await t.settle()
        engine.drop()
        await t.settle()
        await t.settle()
        assert waits
        assert engine.selected[-2:] == ["BTC-PERP", "BTC-PERP"]
        assert "gates of TAKE BTC-PERP" in t.text()


async def test_a_market_that_was_left_by_hand_says_so() -> None:
    """Automation stays out of it."""
    carry = replace(make_hedge("SOL-PERP").carry, stance="FLAT", decision="FLAT", held_by="operator")
    async with terminal(FakeEngine(with_hedge(make_snapshot(), carry=carry)), size=WIDE) as t:
        assert "holds FLAT  left by hand" in t.text()
        held = replace(carry, stance="CARRY", decision="CARRY")
        await t.publish(hedges=with_hedge(make_snapshot(), carry=held).hedges)
        await t.wait(0.5)
        assert "holds CARRY  by hand" in t.text()


async def test_a_market_that_stands_still_says_why() -> None:
    async with terminal(size=WIDE) as t:
        await t.publish(hedges=with_hedge(make_snapshot(), paused="the venue is paused").hedges)
        assert "paused: the venue is paused" in t.text()
        await t.publish(hedges=with_hedge(make_snapshot(), ended=True).hedges)
        assert "ended: no prices come any more" in t.text()
    ended = with_hedge(make_snapshot(), ended=True)
    async with terminal(FakeEngine(ended), size=(80, 24)) as t:
        assert "ended: no prices come any more" in t.text()


async def test_the_delta_alone_says_what_liquidates_in_this_market() -> None:
    async with terminal(size=WIDE) as t:
        await t.press("4")
        assert "liquidation 412.5000  +117.8 % away" in t.text()


def test_prices_of_six_digits_stay_in_their_column() -> None:
    assert [price_text(price) for price in (94_214.5, 101_234.5, 189.42, None)] == [
        "94,214.5",
        "101,234",
        "189.4200",
        "n/a",
    ]


def test_a_far_liquidation_stays_in_its_column() -> None:
    prices = (412.5, 9_999.994, 94_190.0, 99_999.94, 141_870.4, 2_575_688.0, 1e12, -2_575_688.0)
    said = [liq_text(price) for price in prices]
    assert said[:6] == ["412.50", "9,999.99", "94,190.0", "99,999.9", "141,870", "2.58M"]
    assert all(len(text) <= 8 for text in said)


def test_a_very_far_liquidation_is_not_cut() -> None:
    base = two_held().positions[0]
    distances = (31.4, 26_345.4, 99_999.4, 155_070.0, 4_653_740.0, -155_070.0)
    said = [away_cell(replace(base, liq_distance_pct=distance), "").text for distance in distances]
    assert said == ["+31.4%", "+26,345%", "+99,999%", "+155K%", "+4.65M%", "-155K%"]


async def test_a_liquidation_at_hundreds_of_millions_is_told_whole() -> None:
    far = make_confirmation(liq_price_before=2_575_769.4, liq_price_after=538_833_221.0)
    async with terminal(FakeEngine(make_snapshot(confirmations=(far,))), size=WIDE) as t:
        assert "liquidation 2,575,769.4        539M" in t.text()


async def test_the_smallest_screen_says_in_which_market_the_account_is_liquidated() -> None:
    async with terminal(full_engine(two_held()), size=(80, 24)) as t:
        assert "liq SOL 412.50" in t.text()
        account = t.engine.snapshot.account
        large = replace(account, equity=51_968.0, free_collateral=48_100.0, liq_price=116_200.0, liq_market="BTC-PERP")
        await t.publish(account=large)
        assert "equity $51,968  lev 0.50x  liq BTC 116,200  free $48,100" in t.text()


# What a key is about


async def test_a_take_is_about_the_selected_market_in_its_own_units() -> None:
    async with terminal(full_engine(), size=(80, 24)) as t:
        t.app.operator.select("BTC-PERP")
        await t.settle()
        await t.press("t")
        text = t.text()
        for words in ("Take BTC-PERP · REPLAY", "wBTC  min 0.0001  step 0.0001  max 0.3015", "price 94,214.5"):
            assert words in text, words
        assert t.app.screen.text == "0.0001", "one unit is more than can be taken; the most is never proposed"  # type: ignore[attr-defined]
        await t.press(*"0.0152")
        await t.wait(0.5)
        await t.press("enter")
        (sent,) = t.engine.commands
        assert isinstance(sent, Take)
        assert (sent.market, sent.base_1e9) == ("BTC-PERP", 15_200_000)
        await t.press("t")
        assert t.app.screen.text == "0.0152", "remembered"  # type: ignore[attr-defined]
        await t.press("escape")
        t.app.operator.select("SOL-PERP")
        await t.settle()
        await t.press("t")
        assert t.app.screen.text == "1", "for its own market"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("0.00001", "the smallest size is 0.0001"),
        ("0.3016", "the largest size now is 0.3015"),
        ("0.01525", "sizes go in steps of 0.0001"),
    ],
)
async def test_sizes_of_a_small_unit_are_told_whole(typed: str, sentence: str) -> None:
    async with terminal(full_engine(), market="BTC-PERP") as t:
        await t.press("t", *typed)
        assert sentence in t.text()


def test_what_is_proposed() -> None:
    sol, btc = (make_detail(market).actions[0] for market in ("SOL-PERP", "BTC-PERP"))
    assert proposal("1", sol) == "1"
    assert proposal("1", btc) == "0.0001"
    assert proposal("0.0152", btc) == "0.0152"
    assert proposal("1", replace(btc, max_size=None)) == "1", "what is not told does not bound"


async def test_a_take_waits_for_its_limits() -> None:
    engine = full_engine()
    del engine.details["BTC-PERP"]
    async with terminal(engine, market="BTC-PERP") as t:
        await t.press("t")
        assert isinstance(t.app.screen, MainScreen)
        assert t.toasts() == ["take: asking the engine about BTC-PERP"]


async def test_a_take_dialog_whose_market_is_gone_sends_nothing() -> None:
    async with terminal(full_engine(), market="BTC-PERP") as t:
        await t.press("t")
        await t.wait(0.5)
        await t.publish(hedges=(make_hedge("SOL-PERP"),))
        await t.press("enter")
        assert isinstance(t.app.screen, TakeDialog)
        assert "asking the engine about BTC-PERP" in t.text()
        assert t.engine.commands == []


async def test_the_direction_is_the_one_that_the_market_wants() -> None:
    carry = replace(make_hedge("BTC-PERP").carry, decision="REVERSE")
    async with terminal(FakeEngine(with_hedge(make_snapshot(), "BTC-PERP", carry=carry))) as t:
        await t.press("t")
        assert t.app.screen.direction == "carry"  # type: ignore[attr-defined]
        await t.press("escape")
        t.app.operator.select("BTC-PERP")
        await t.settle()
        await t.press("t")
        assert t.app.screen.direction == "reverse"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("key", "command"), [("l", Leave), ("r", Rebalance)])
@pytest.mark.parametrize("row", ["BTC-PERP", "wBTC"])
async def test_an_action_on_a_position_is_about_its_market_and_selects_it(
    key: str, command: type[Leave | Rebalance], row: str
) -> None:
    async with terminal(full_engine(two_held()), size=WIDE) as t:
        await choose(t, "positions", row)
        await t.press(key)
        (sent,) = t.engine.commands
        assert isinstance(sent, Leave | Rebalance)
        assert (type(sent), sent.market) == (command, "BTC-PERP")
        assert selected(t) == "BTC-PERP"


async def test_but_a_take_is_not() -> None:
    async with terminal(full_engine(two_held()), size=WIDE) as t:
        await choose(t, "positions", "BTC-PERP")
        await t.press("t")
        assert "Take SOL-PERP" in t.text()


async def test_a_position_that_was_left_does_not_stand_in_the_way_of_a_take() -> None:
    """What is left takes the row under the cursor with it; a take is about the selected market all the same."""
    engine = full_engine(two_held())
    async with terminal(engine, size=WIDE, market="BTC-PERP") as t:
        await choose(t, "positions", "BTC-PERP")
        await t.publish(positions=tuple(p for p in engine.snapshot.positions if p.market not in ("BTC-PERP", "wBTC")))
        await t.press("l", "r")
        assert engine.commands == []
        assert t.toasts()[-1] == "rebalance: the chosen row BTC-PERP is gone; choose one with an arrow key"
        await t.press("t")
        assert isinstance(t.app.screen, TakeDialog)
        assert t.app.screen.market == "BTC-PERP"


async def test_a_settlement_of_a_position_of_another_market() -> None:
    async with terminal(full_engine(two_held()), size=WIDE) as t:
        await choose(t, "positions", "BTC-PERP")
        await t.press("s")
        assert isinstance(t.app.screen, SettleDialog)
        assert "Settle BTC-PERP" in t.text()
        assert "+2.00" in t.text()
        await t.wait(0.5)
        await t.press("y")
        assert [sent.market for sent in t.engine.commands if isinstance(sent, Settle)] == ["BTC-PERP"]


async def test_what_can_be_done_is_told_of_the_market_under_the_cursor() -> None:
    engine = offering("LEAVE", "BTC-PERP", two_held(), enabled=False, reason="there is no position")
    async with terminal(engine, size=WIDE, market="BTC-PERP") as t:
        assert t.app.operator.why_not(BY_ID["leave"]) is None, "the cursor is on SOL-PERP: the engine judges that"
        await choose(t, "positions", "BTC-PERP")
        await t.press("l")
        assert t.engine.commands == []
        assert t.toasts() == ["leave: there is no position"]


@pytest.mark.parametrize("key", ["t", "l", "r", "s"])
async def test_a_cursor_on_another_market_than_the_selected_one_is_ambiguous(key: str) -> None:
    async with terminal(full_engine(), size=WIDE) as t:
        await choose(t, "opportunities", "BTC-PERP")
        await t.press(key)
        assert t.engine.commands == []
        assert isinstance(t.app.screen, MainScreen)
        assert "the cursor is on BTC-PERP, but SOL-PERP is selected; enter selects BTC-PERP" in t.toasts()[0]


async def test_a_position_that_is_not_ours_is_left_to_the_engine_to_refuse() -> None:
    foreign = replace(make_snapshot().positions[0], key="ETH-PERP", market="ETH-PERP", foreign=True)
    engine = FakeEngine(make_snapshot(positions=(*make_snapshot().positions, foreign)))
    engine.answer = lambda command: CommandResult(ResultStatus.REJECTED, "NO_MARKET", "ETH-PERP is not carried")
    async with terminal(engine) as t:
        await choose(t, "positions", "ETH-PERP")
        await t.press("l")
        assert [sent.market for sent in t.engine.commands if isinstance(sent, Leave)] == ["ETH-PERP"]
        assert selected(t) == "SOL-PERP"
        assert t.toasts() == ["leave ETH-PERP rejected: ETH-PERP is not carried"]


async def test_another_markets_position_does_not_spoil_a_wish() -> None:
    async with terminal(full_engine(two_held())) as t:
        await t.press("t")
        for _ in range(8):
            await t.wait(1.0)
        rows = t.engine.snapshot.positions
        await t.publish(positions=(*rows[:2], replace(rows[2], size=-0.03), rows[3]))
        await t.press("enter")
        assert t.engine.commands[0].snapshot_version == t.engine.snapshot.version


# Questions


def question(operation_id: str, market: str = "SOL-PERP", **changes: Any) -> ConfirmationView:
    return make_confirmation(
        operation_id=operation_id,
        market=market,
        allowed=True,
        can_force=False,
        verdicts=make_verdicts()[1:3],
        loss_if_forced=None,
        **changes,
    )


def top(t: Terminal) -> ConfirmDialog:
    assert isinstance(t.app.screen, ConfirmDialog)
    return t.app.screen


async def test_questions_come_one_after_the_other() -> None:
    engine = FakeEngine(make_snapshot(confirmations=(question("op-1"), question("op-2", "BTC-PERP"))))
    async with terminal(engine) as t:
        assert "Take SOL-PERP · REPLAY · 1 of 2" in t.text()
        await t.wait(0.5)
        engine.snapshot = replace(engine.snapshot, confirmations=(question("op-2", "BTC-PERP"),))
        await t.press("y")
        await t.settle()
        assert top(t).confirmation.operation_id == "op-2"
        assert "Take BTC-PERP · REPLAY" in t.text()
        assert "1 of" not in t.text()
        assert selected(t) == "SOL-PERP", "a question selects nothing"
        await t.press("y")
        assert len(engine.commands) == 1, "armed anew"
        await t.wait(0.5)
        await t.press("y")
        assert [sent.operation_id for sent in engine.commands if isinstance(sent, Confirm)] == ["op-1", "op-2"]


async def test_a_question_that_comes_before_the_open_one_waits() -> None:
    async with terminal(FakeEngine(make_snapshot(confirmations=(question("op-1"),)))) as t:
        await t.wait(0.5)
        await t.publish(confirmations=(question("op-0", "BTC-PERP"), question("op-1")))
        assert top(t).confirmation.operation_id == "op-1"
        await t.press("n")
        assert [sent.operation_id for sent in t.engine.commands if isinstance(sent, Cancel)] == ["op-1"]
        await t.settle()
        assert top(t).confirmation.operation_id == "op-0"
        await t.press("n")
        await t.settle()
        assert isinstance(t.app.screen, MainScreen), "both are answered"


async def test_a_running_command_says_that_another_question_waits() -> None:
    engine = FakeEngine(make_snapshot(confirmations=(question("op-1"), question("op-2", "BTC-PERP"))))
    engine.hold = asyncio.Event()
    async with terminal(engine) as t:
        await t.wait(0.5)
        await t.press("y")
        running = (
            OperationView("op-9", "LEAVE", "BTC-PERP", "LANDED", "another", 0.0, True),
            OperationView("op-1", "TAKE", "SOL-PERP", "SENT", "leg 1 of 2", 0.0, False),
        )
        await t.publish(confirmations=(question("op-2", "BTC-PERP"),), operations=running)
        text = t.text()
        assert "leg 1 of 2" in text
        assert "another" not in text
        assert "1 more to answer" in text
        await t.press("enter")
        await t.settle()
        assert top(t).confirmation.operation_id == "op-2"
        assert [type(sent) for sent in engine.commands] == [Confirm], "closing it cancels nothing"
        engine.hold.set()
        await t.settle()


async def test_a_question_that_ends_unseen_is_told() -> None:
    both = (question("op-1"), question("op-2", "BTC-PERP"))
    async with terminal(FakeEngine(make_snapshot(confirmations=both))) as t:
        await t.publish(confirmations=both[:1])
        await t.wait(1.5)
        assert t.toasts() == ["take BTC-PERP: the question has ended: expired, or answered elsewhere"]
        assert top(t).confirmation.operation_id == "op-1"


async def test_the_word_travels_as_it_was_typed() -> None:
    live = make_snapshot(confirmations=(question("op-1", "BTC-PERP", notional=20_000.0),))
    engine = FakeEngine(replace(live, engine=replace(live.engine, mode="live", live_mode="trade")))
    async with terminal(engine) as t:
        await t.wait(0.5)
        t.app.screen.query_one("#symbol").focus()
        await t.press(*"SOL", "minus", *"PERP", "enter", "y")
        assert engine.commands == [], "the word is that of the question's market"
        assert "type BTC-PERP first" in t.text()
        t.app.screen.query_one("#symbol").focus()
        await t.press(*["backspace"] * 8, *"BTC", "minus", *"PERP", "enter")
        await t.wait(0.5)
        await t.press("y")
        assert [sent.word for sent in engine.commands if isinstance(sent, Confirm)] == ["BTC-PERP"]


# Transfers


async def test_the_asset_of_the_selected_market_is_moved_in_its_own_units() -> None:
    async with terminal(size=(80, 24), market="BTC-PERP") as t:
        await t.press("d", "a")
        text = " ".join(t.text().split())
        for words in ("asset wBTC 2 of 2, a changes it", "wallet 0.020000", "largest 0.02 step 0.00000001"):
            assert words in text, words
        await t.press(*"0.0152")
        await t.wait(0.5)
        assert "after 0.004800" in t.text()
        await t.press("enter")
        assert [(sent.asset, sent.amount) for sent in t.engine.commands if isinstance(sent, Deposit)] == [
            ("wBTC", 1_520_000)
        ]
        await t.press("d", "a", "a")
        assert "asset       USDC" in t.text()


async def test_an_engine_that_names_no_asset_moves_none() -> None:
    async with terminal(offering("WITHDRAW", amounts=())) as t:
        await t.press("w")
        assert not isinstance(t.app.screen, TransferDialog)
        assert t.toasts() == ["withdraw: the engine names no asset that could be moved"]
