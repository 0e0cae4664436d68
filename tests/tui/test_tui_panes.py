"""Charts, cards, zoomed panes, jump letters, tables and the log's keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from snapshots import MARKET_S, make_confirmation, make_hedge, make_snapshot
from test_tui_screen import full_detail, full_engine, full_snapshot, log_lines
from tui_fakes import (
    FakeEngine,
    Terminal,
    log_line,
    make_cards,
    make_history,
    replace,
    tape_history,
    terminal,
    with_market,
)

from deltatui.domain.event import Level
from deltatui.domain.snapshot import CardView, ClockView, EngineView, FeedView, LiquidationBucket
from deltatui.tui.actions import PANES
from deltatui.tui.modals.confirm import ConfirmDialog
from deltatui.tui.modals.jump import JumpScreen
from deltatui.tui.modals.simple import PromptDialog
from deltatui.tui.panes.base import Body, width
from deltatui.tui.panes.charts import grid_of, mean_since, slots, x_labels
from deltatui.tui.panes.delta import clock_line, left_to_earn
from deltatui.tui.panes.liquidations import by_hour
from deltatui.tui.panes.market import card_value
from deltatui.tui.screens.main import MainScreen
from deltatui.tui.store import Shown
from deltatui.tui.widgets.chart import BrailleChart
from deltatui.tui.widgets.grid import LiveGrid
from deltatui.tui.widgets.logview import LogView
from deltatui.tui.widgets.pricebars import PriceBars

WIDE = (160, 48)


# Charts


def test_points_go_into_even_slots_and_a_gap_stays_a_gap() -> None:
    points = ((0.0, 1.0), (3_600.0, 2.0), (10_800.0, 4.0))
    assert grid_of(points) == (0.0, 3_600.0, 4)
    assert slots(points, 0.0, 3_600.0, 4) == [1.0, 2.0, None, 4.0]
    assert grid_of(points[:1]) == (0.0, 3_600.0, 1)
    start, step, count = grid_of(tuple((float(i) * 3_600, 0.0) for i in range(5_000)))
    assert (start, count) == (0.0, 720)
    assert step > 3_600


def test_the_axis_ends_now() -> None:
    assert x_labels(0.0, 0.0, 80) == [(1.0, "now")]
    assert x_labels(0.0, 30 * 86_400.0, 30)[0] == (0.0, "01 Jan")
    assert x_labels(0.0, 7_200.0, 30)[-1] == (1.0, "now")
    assert x_labels(0.0, 7_200.0, 30)[0] == (0.0, "00:00")


def test_means() -> None:
    points = ((0.0, 10.0), (86_400.0, 1.0), (90_000.0, 3.0))
    assert mean_since(points, 86_400) == 2.0
    assert mean_since(points, 10 * 86_400) == pytest.approx(14 / 3)


def test_hours_of_the_day() -> None:
    day = 86_400.0 * 10
    values, rows, columns = by_hour(((day, 1.0), (day + 3_600, 3.0), (day + 86_400 * 2 + 7 * 3_600, 9.0)), 4)
    assert values == [[2.0, None, None], [None, None, 9.0], [None, None, None], [None, None, None]]
    assert rows[0] == "00-06 h"
    assert columns == ["11 Jan", "12 Jan", "13 Jan"]


async def test_charts_wait_draw_and_speak() -> None:
    async with terminal(full_engine(), size=WIDE) as t:
        assert t.text().count("waiting for the first history") == 3
        t.engine.tell_history(make_history())
        await t.settle()
        text = t.text()
        assert "waiting for the first history" not in text
        assert "short SOL 3,778.43" in text
        assert "flat 3,800.00" in text
        await t.press("8")
        assert "always-short SOL 3,778.43" in t.text()
        t.app.operator.select("BTC-PERP")
        await t.settle()
        assert "always-short BTC 3,835.95" in t.text(), "the equity is the account's, always-short the market's"
        t.app.operator.select("SOL-PERP")
        await t.press("8")
        assert "9 Liquidations by price" in text
        await t.press("8")
        assert t.app.screen.query_one("#equity", BrailleChart).size.height > 30
        await t.press("8", "7")
        assert "short receives" in t.text()


async def test_charts_are_drawn_at_half_a_hertz() -> None:
    async with terminal(full_engine(), size=WIDE) as t:
        t.engine.tell_history(make_history())
        await t.pilot.pause()
        drawn = []
        for _ in range(16):
            t.app.tick()
            drawn.append(bool(t.app.screen.query_one("#equity", BrailleChart)._series))
        assert drawn[0] is False or sum(drawn) >= 8
        assert drawn[-1]


async def test_empty_histories_say_so() -> None:
    async with terminal(full_engine(), size=WIDE) as t:
        nothing = tape_history(funding=(), always_short=())
        t.engine.tell_history(replace(nothing, equity=(), flat=None))
        await t.settle()
        text = t.text()
        assert "no funding record yet" in text
        assert "one comes with each funding record" in text
        assert "no liquidations: a tape has none" in text


async def test_a_chart_of_a_lost_engine_is_old() -> None:
    async with terminal(full_engine(), size=WIDE) as t:
        t.engine.tell_history(make_history())
        await t.settle()
        t.engine.drop()
        await t.wait(180.0, publish=False)
        titles = [line for line in t.lines() if "7 Funding" in line]
        assert titles[0].count("3 m old") == 3
        assert t.app.screen.query_one("#pane-8").has_class("-old")


async def test_pane_nine_shows_what_there_is_and_switches() -> None:
    async with terminal(full_engine(), size=WIDE) as t:
        t.engine.tell_history(tape_history())
        await t.settle()
        assert "9 Funding by hour" in t.text()
        assert "no liquidations: a tape has none" in t.text()
        await t.press("i")
        assert "9 Liquidations by price" in t.text()
        await t.press("i")
        assert "9 Open interest" in t.text()
        assert "no open interest: a tape has none" in t.text()
        await t.press("9", "i")
        assert "Funding by hour" in t.text()
        assert t.app.focused is not None
        assert t.app.focused.id == "hours"


async def test_liquidations_are_read_by_price() -> None:
    async with terminal(full_engine(), size=WIDE) as t:
        t.engine.tell_history(make_history())
        await t.settle()
        await t.press("9")
        bars = t.app.screen.query_one(PriceBars)
        assert t.app.focused is bars
        assert "mark" in t.text()
        await t.press("down")
        near = bars.cursor_bar
        assert near is not None
        assert abs(near.price - 189.31) < 0.5
        await t.press("up")
        above = bars.cursor_bar
        assert above is not None
        assert above.price > near.price
        assert f"{above.count} liquidations" in t.text()
        gone = tuple(
            LiquidationBucket(bucket.price, 99, bucket.notional)
            for bucket in make_history().markets[0].liquidations
            if bucket.price != above.price
        )
        t.engine.tell_history(with_market(make_history(version=2), liquidations=gone))
        await t.settle()
        assert bars.cursor_bar is None, "another bucket never takes its place"


# Cards


@pytest.mark.parametrize(
    ("card", "text"),
    [
        (CardView("spread", "spread", 1.23, "bps", "good"), "1.2 bps"),
        (CardView("basis", "basis", 2.1, "bps", "neutral"), "+2.1 bps"),
        (CardView("depth", "depth", 412e3, "usd", "good"), "$412K"),
        (CardView("funding", "funding", -9.9, "%", "good"), "-9.9 %"),
        (CardView("liquidations", "liqs", 3, "", "good"), "3"),
        (CardView("x", "x", None, "", "unknown", "why"), "n/a"),
        (CardView("x", "x", float("nan"), "", "unknown", "why"), "n/a"),
    ],
)
def test_card_values(card: CardView, text: str) -> None:
    assert card_value(card) == text


async def test_cards_have_a_word_a_sign_and_a_reason() -> None:
    async with terminal(full_engine(), size=WIDE) as t:
        text = t.text()
        for words in ("✓ good", "▲ warning", "✕ bad", "─ neutral", "? no feed"):
            assert words in text
        known = tuple(replace(card, value=1.0, status="good") for card in make_cards())
        await t.publish_detail(cards=known)
        assert t.text().count("✓ good") == 6
        await t.press("6")
        assert "1 m old" in t.text(), "the age of the funding card"


# Zoom


async def test_a_card_that_is_not_renewed_is_old() -> None:
    async with terminal(full_engine(), size=WIDE) as t:
        pane = t.app.main.pane("6")
        depth = replace(make_cards()[1], age_s=7.0)
        late = tuple(depth if card.id == "depth" else card for card in make_cards())
        await t.publish_detail(cards=late)
        assert not pane.has_class("-old"), "a tape has a time of its own"
        await t.publish(engine=replace(t.engine.snapshot.engine, mode="paper"))
        assert pane.has_class("-old")
        assert any("6 Market" in line and "7 s old" in line for line in t.lines())
        await t.publish_detail(cards=make_cards())
        assert not pane.has_class("-old"), "the funding card may be older"


async def test_why_alone_shows_every_gate_with_all_it_has() -> None:
    verdicts = tuple(
        replace(verdict, reason=f"because of {verdict.code.lower()}", age_s=90.0) for verdict in full_detail().gates
    )
    async with terminal(full_engine(gates=verdicts), size=(80, 24)) as t:
        await t.press("3")
        pane = t.app.screen.query_one("#pane-3")
        assert t.app.focused is pane
        seen = t.text()
        await t.press("end")
        await t.press("pagedown")
        seen += t.text()
        for verdict in verdicts:
            assert verdict.code.lower().replace("_", " ") in seen
            assert verdict.reason in seen
        assert "1 m" in seen
        assert pane.scroll_offset.y > 0
        await t.press("home")
        assert pane.scroll_offset.y == 0


async def test_positions_alone_show_where_the_equity_came_from() -> None:
    async with terminal(full_engine(), size=(120, 35)) as t:
        await t.press("2")
        text = t.text()
        for words in ("notional", "unsettled", "to liq", "+118%", "opening equity", "spot, revaluation", "unexplained"):
            assert words in text


async def test_unknown_equity_is_not_attributed() -> None:
    base = full_snapshot()
    snapshot = replace(base, attribution=replace(base.attribution, opening_equity=None, closing_equity=None, gap=None))
    async with terminal(FakeEngine(snapshot), size=(120, 35)) as t:
        await t.press("2")
        assert "not known yet" in t.text()
        assert "fees, tips, gas" not in t.text()


async def test_an_unexplained_gap_comes_first() -> None:
    base = full_snapshot()
    snapshot = replace(base, attribution=replace(base.attribution, gap=-3.5))
    async with terminal(FakeEngine(snapshot), size=WIDE) as t:
        assert "UNEXPLAINED -3.50" in t.text()


async def test_a_near_liquidation_of_a_leg_has_a_sign() -> None:
    base = full_snapshot()
    near = replace(base, positions=(replace(base.positions[0], liq_distance_pct=12.0), base.positions[1]))
    async with terminal(FakeEngine(near), size=WIDE) as t:
        assert "!+12.0%" in t.text()


@pytest.mark.parametrize(
    ("earned", "cost", "per_hour", "words"),
    [
        (3.0, 8.0, 0.5, "10 h 00 m"),
        (-3.0, 8.0, -0.1, "never"),
        (3.0, 8.0, 0.0, "never"),
        (9.0, 8.0, -0.1, "broken even"),
        (3.0, 8.0, None, "n/a"),
        (None, 8.0, 0.5, "n/a"),
        (3.0, None, 0.5, "n/a"),
    ],
)
def test_the_break_even_clock(earned: float | None, cost: float | None, per_hour: float | None, words: str) -> None:
    carry = replace(
        make_hedge("SOL-PERP").carry,
        held_since_market_s=MARKET_S,
        held_earned=earned,
        round_trip_cost=cost,
        expected_per_hour=per_hour,
    )
    assert left_to_earn(carry).text == words
    assert words in "".join(part.text for part in clock_line(carry, 60))


async def test_the_clock_stands_where_something_is_held() -> None:
    async with terminal(full_engine(), size=WIDE) as t:
        assert "earned -12.34 of 8.91  left never" in t.text()
        await t.press("4")
        assert "held since 2024-12-29" in t.text()
    async with terminal(FakeEngine(make_snapshot()), size=WIDE) as t:
        assert "left never" not in t.text()


# Status line


async def test_the_status_line_tells_wallet_rpc_and_feeds() -> None:
    async with terminal(full_engine(), size=WIDE) as t:
        assert "wallet paper · rpc, feeds n/a replay" in t.lines()[0]
    base = make_snapshot()
    live = replace(
        base,
        engine=replace(base.engine, mode="live", live_mode="watch"),
        account=replace(base.account, delegate="7xKpQm4tZr9AbCdEfGh2"),
    )
    async with terminal(FakeEngine(live), size=(190, 48)) as t:
        assert "delegate 7xKp…fGh2" in t.lines()[0]
        assert "rpc n/a · slot n/a · feeds n/a" in t.lines()[0]
        feeds = (
            FeedView("drift account", True, 0.4),
            FeedView("[b]ticks[/b]", False, 42.0, "the socket closed"),
            FeedView("prices", False, None, "no key"),
        )
        told = replace(t.engine.snapshot.engine, rpc_ms=42.4, slot=312_345_678, feeds=feeds)
        await t.publish(engine=told)
        assert "rpc 42 ms · slot 312,345,678 · feeds 1 of 3" in t.lines()[0]
        await t.press("6")
        for words in ("✓ up", "heard 42 s ago   the socket closed", "[b]ticks[/b]", "never heard   no key"):
            assert words in t.text(), words
        await t.press("6")
        await t.press("D")
        assert any("7xKpQm4tZr9AbCdEfGh2 may trade" in toast for toast in t.toasts())


async def test_delegates_are_refused_with_a_reason() -> None:
    async with terminal() as t:
        await t.press("D")
        assert any("belongs to an account on the chain" in toast for toast in t.toasts())
        assert isinstance(t.app.screen, MainScreen)


# Jump letters


async def test_a_letter_focuses_its_pane() -> None:
    async with terminal(full_engine(), size=WIDE) as t:
        await t.press("ctrl+o")
        assert isinstance(t.app.screen, JumpScreen)
        assert "─ q Log" in t.text().replace("  ", " ")
        await t.press("g")
        assert isinstance(t.app.screen, MainScreen)
        assert t.app.focused is not None
        assert t.app.focused.id == "opportunities"
        await t.press("ctrl+o", "d")
        assert t.app.focused is t.app.screen.query_one("#pane-3")
        await t.press("enter")
        assert t.app.screen.has_class("-zoom")
        assert t.engine.commands == []


async def test_any_other_key_only_takes_the_letters_away() -> None:
    async with terminal(size=(80, 24)) as t:
        focused = t.app.focused
        for key in ("escape", "r", "h", "enter"):
            await t.press("ctrl+o", key)
            assert isinstance(t.app.screen, MainScreen)
            assert t.app.focused is focused
        assert t.engine.commands == []


async def test_the_letters_go_when_the_panes_move_even_under_a_dialog() -> None:
    async with terminal(size=WIDE) as t:
        await t.press("ctrl+o")
        await t.pilot.resize_terminal(120, 35)
        await t.settle()
        assert isinstance(t.app.screen, MainScreen)
        await t.press("ctrl+o")
        await t.publish(confirmations=(make_confirmation(),))
        assert isinstance(t.app.screen, ConfirmDialog)
        await t.pilot.resize_terminal(160, 48)
        await t.settle()
        assert isinstance(t.app.screen, ConfirmDialog)
        assert not t.app._exit


async def test_pane_nine_comes_when_it_is_asked_for() -> None:
    async with terminal(full_engine(), size=(80, 24)) as t:
        t.engine.tell_history(make_history())
        await t.settle()
        await t.press("i")
        assert "9 Liquidations by price" in t.text()
        await t.press("i")
        assert "9 Open interest" in t.text()
        assert "$1.02B" in t.text()


async def test_buckets_that_are_no_numbers_are_left_out() -> None:
    bad = (LiquidationBucket(float("nan"), 1, 1.0), LiquidationBucket(190.0, 1, float("inf")))
    good = LiquidationBucket(189.0, 7, 5e5)
    async with terminal(full_engine(), size=WIDE) as t:
        t.engine.tell_history(with_market(make_history(), liquidations=(*bad, good)))
        await t.settle()
        assert "7 in all, $500K" in t.text()


# Tables


async def test_sort_filter_and_open() -> None:
    async with terminal(full_engine(), size=WIDE) as t:
        await t.press("tab")
        grid = t.app.screen.query_one("#opportunities", LiveGrid)
        await t.press("o")
        assert grid.sorting == ("market", False)
        assert grid.keys[0] == "BTC-PERP"
        await t.press("O")
        assert grid.keys[0] == "SOL-PERP"
        await t.press("o")
        assert grid.sorting == ("apr", True)
        await t.press("F", *"eth", "enter")
        assert grid.keys == ("ETH-PERP",)
        await t.press("F", *["backspace"] * 3, "enter")
        assert grid.shown == 3
        await t.press("enter")
        assert t.app.store.view.market == "BTC-PERP"
        await t.press("enter")
        assert t.app.screen.has_class("-zoom")
        assert "1. BTC-PERP" in " ".join(t.text().split())


@pytest.mark.parametrize("key", ["o", "O", "F"])
async def test_without_a_table_it_says_so(key: str) -> None:
    async with terminal(size=WIDE) as t:
        await t.press("ctrl+o", "d", key)
        assert any("table first" in toast for toast in t.toasts())


async def test_a_changed_figure_is_marked_and_the_mark_ends() -> None:
    async with terminal(full_engine(), size=WIDE) as t:
        first = t.engine.snapshot.positions[0]
        await t.publish(positions=(replace(first, mark_price=190.0), *t.engine.snapshot.positions[1:]))
        assert "▲190.0000" in t.text()
        await t.wait(1.5)
        assert "▲190.0000" not in t.text()


async def test_rows_move_with_remapped_keys(tmp_path: Path) -> None:
    keymap = tmp_path / "keys.toml"
    keymap.write_text('[keys]\nrow-down = ["down", "z"]\nnext-match = "ctrl+n"\n', encoding="utf-8")
    async with terminal(full_engine(), size=WIDE, keymap=keymap) as t:
        grid = t.app.screen.query_one("#positions", LiveGrid)
        await t.press("z")
        assert grid.cursor_key == "SOL"


# Log


async def log_with(t: Terminal, *messages: str) -> LogView:
    t.engine.log(*[log_line(number, message) for number, message in enumerate(messages, 1)])
    await t.settle()
    return t.app.screen.query_one(LogView)


async def test_a_regular_expression_filters_and_a_bad_one_stays_open() -> None:
    async with terminal(size=WIDE) as t:
        log = await log_with(t, "rate 12", "rate xx", "other 34")
        await t.press("slash", "ctrl+r", *"(rate", "enter")
        assert isinstance(t.app.screen, PromptDialog)
        assert "is no regular expression" in t.text()
        await t.press(*["backspace"] * 5, *"rate ", "backslash", "d", "enter")
        assert isinstance(t.app.screen, MainScreen)
        assert (log.status.shown, log.status.filter) == (1, "rate \\d")
        await t.press("slash")
        assert "regular expression" in t.text(), "remembered"
        await t.press("ctrl+r", "enter")
        assert log.status.shown == 0, "as it stands nobody wrote a backslash"


async def test_search_goes_on_with_n() -> None:
    async with terminal(size=WIDE) as t:
        log = await log_with(t, "pear 1", "fig", "pear 2", "fig", "pear 3")
        await t.press("ctrl+f", "ctrl+r", *"p.ar", "enter")
        found = []
        for key in ("N", "N", "n"):
            await t.press(key)
            assert log.cursor_record is not None
            found.append(log.cursor_record.message)
        assert found == ["pear 2", "pear 1", "pear 2"]


async def test_wrap_copy_full_screen_and_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    async with terminal(size=(80, 24)) as t:
        monkeypatch.setattr(t.app, "copy_to_clipboard", copied.append)
        t.engine.log(log_line(1, "word " * 40), log_line(2, "broken", Level.ERROR), log_line(3, "fine"))
        await t.settle()
        log = t.app.screen.query_one(LogView)
        await t.press("W")
        assert log.status.wrap
        assert "wrap" in t.text()
        rows = log.virtual_size.height
        await t.press("W")
        assert log.virtual_size.height < rows
        await t.press("0")
        assert log.size.height > 15
        await t.press("E", "c")
        assert "broken" in copied[0]
        t.engine.log(log_line(4, "more"))
        await t.settle()
        assert "+1 new" in t.text()
        await t.press("f")
        assert "newest" in t.text()


async def test_log_lines_helper_is_drawn() -> None:
    async with terminal(full_engine(), size=(120, 35)) as t:
        log_lines(t.engine)
        await t.settle()
        assert "[REBALANCER]" in t.text()
        assert "7 Funding" in t.text()
        assert "8 Equity" not in t.text()


# No figure is cut in silence


def scaled(value: Any, factor: float) -> Any:
    """``value`` with every float in it times ``factor``; clock and engine as they are."""
    if isinstance(value, float):
        return value * factor
    if isinstance(value, tuple):
        return tuple(scaled(item, factor) for item in value)
    if isinstance(value, msgspec.Struct) and not isinstance(value, (ClockView, EngineView)):
        return replace(value, **{name: scaled(getattr(value, name), factor) for name in value.__struct_fields__})
    return value


@pytest.mark.parametrize("size", [(80, 24), (120, 35), (160, 48)])
async def test_no_line_is_longer_than_its_pane(size: tuple[int, int]) -> None:
    """What is cut at the edge reads as another number."""
    looked_at = 0

    def look() -> None:
        nonlocal looked_at
        for body in (body for body in t.app.main.query(Body) if body.is_on_screen):
            looked_at += 1
            for line in body.lines:
                assert width(line) <= body.size.width, "".join(part.text for part in line)

    async with terminal(full_engine(), size=size) as t:
        t.engine.tell_history(make_history())
        snapshots = [scaled(full_snapshot(), factor) for factor in (1.0, -1.0, 1e6)]
        for snapshot in snapshots:
            t.engine.snapshot = replace(snapshot, version=t.engine.snapshot.version)
            await t.publish()
            look()
        for number, _ in PANES:
            await t.press(number)
            pane = t.app.main.pane(number)
            for snapshot in snapshots:
                # Its lines alone: nothing needs to be painted.
                pane.draw(Shown(snapshot, "SOL-PERP", snapshot.hedge("SOL-PERP"), full_detail()), t.clock())
                look()
            await t.press(number)
    assert looked_at >= 30
