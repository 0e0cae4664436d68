"""What the screen shows: sizes, states, old data, a lost engine, hostile text."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from snapshots import MARKET_S, make_confirmation, make_detail, make_hedge, make_snapshot, with_hedge
from tui_fakes import FakeEngine, log_line, make_cards, make_history, replace, tape_history, terminal

from deltatui.domain.event import Event, Level
from deltatui.domain.snapshot import AlertView, AssetView, MarketDetail, PositionView, Snapshot
from deltatui.domain.verdict import Verdict, VerdictStatus
from deltatui.tui.app import to_ascii
from deltatui.tui.panes.banner import Banner
from deltatui.tui.screens.main import MainScreen
from deltatui.tui.widgets.grid import LiveGrid
from deltatui.tui.widgets.logview import LogView

HOSTILE = (
    "[/x]",
    "[bold red]x[/]",
    "[@click=app.quit]go[/]",
    "\x1b[31mred\x1b[2J",
    "\u202eevil\u202c",
    "日本語 寬",
    "a\nb\r\tc",
    "x" * 10_000,
    "\x00\x07\x9b",
    "e\u0301\u0301\u0301",
    "👩‍👩‍👧",
    "\ud800",
    "$primary",
    "\\[",
    "]]",
    "[$",
)


def full_snapshot(**changes: Any) -> Snapshot:
    """Several markets, as an engine has them: ranked, one held, one not carried."""
    base = make_snapshot()
    row, btc = base.opportunities
    rows = (
        replace(
            btc,
            rate_hour_pct=0.0009,
            rate_8h_pct=0.0072,
            apr_pct=8.1,
            day_apr_pct=7.7,
            net_apr_pct=3.2,
            break_even_h=146.0,
            open_interest=41.2e6,
            volume_24h=88.0e6,
        ),
        row,
        replace(row, key="ETH-PERP", market="ETH-PERP", apr_pct=-18.4, net_apr_pct=-18.4, open_interest=12.9e6),
    )
    carry = replace(
        make_hedge("SOL-PERP").carry,
        held_since_market_s=MARKET_S - 86_400 * 3,
        held_earned=-12.34,
        round_trip_cost=8.91,
    )
    positions = (replace(base.positions[0], liq_distance_pct=117.8), base.positions[1])
    full = replace(with_hedge(base, carry=carry), opportunities=rows, positions=positions)
    return replace(full, **changes)


def full_detail(**changes: Any) -> MarketDetail:
    """Several gates, and a card of each kind."""
    gates = (
        Verdict("PROFITABILITY", VerdictStatus.BLOCKED, "never", "168 h", "a short pays 7.9 % a year"),
        Verdict("LEVERAGE", VerdictStatus.ALLOWED, "1.00x", "10x"),
        Verdict("HEALTH_AFTER", VerdictStatus.ALLOWED, "97", "60"),
        Verdict("LIQ_DISTANCE", VerdictStatus.ALLOWED, "118 %", "20 %"),
        Verdict("DELTA", VerdictStatus.ALLOWED, "+0.50 %", "1.0 %"),
        Verdict("GAS", VerdictStatus.NOT_APPLICABLE, "", "", "paper pays no gas"),
        Verdict("LATENCY", VerdictStatus.NOT_APPLICABLE, "", "", "a tape has no RPC"),
        Verdict("GUARDS", VerdictStatus.NOT_APPLICABLE, "", "", "a tape has no exchange guards"),
        Verdict("RATE_LIMIT", VerdictStatus.ALLOWED, "0/min", "10/min"),
    )
    return replace(make_detail(gates=gates, cards=make_cards()), **changes)


def full_engine(snapshot: Snapshot | None = None, **details: Any) -> FakeEngine:
    """An engine that has all this to tell; ``details`` are changes of what it tells of SOL-PERP."""
    return FakeEngine(snapshot or full_snapshot(), [full_detail(**details)])


def log_lines(engine: FakeEngine) -> None:
    engine.log(
        log_line(1, "revenue -0.10  costs 8.91  net -9.01  rate -0.0012 %/h", tag="PROFITABILITY"),
        log_line(2, "health 97  leverage 0.50x  collateral 3,601.80  free 3,222.80", tag="ACCOUNT"),
        log_line(3, "add to SOL-PERP blocked: profitability, break-even never (limit 168 h)", Level.WARNING, "SAFETY"),
        log_line(4, "delta +0.50 % within 1.0 %, nothing to do", tag="REBALANCER"),
        log_line(5, "SOL-PERP record 3012: short pays 0.000102 per SOL, -0.0102", tag="FUNDING"),
    )


# Sizes


@pytest.mark.parametrize("size", [(40, 10), (79, 24), (80, 23), (10, 3)])
async def test_a_small_terminal_gets_a_sentence_with_the_size_it_needs(size: tuple[int, int]) -> None:
    async with terminal(size=size) as t:
        words = " ".join(t.text().split())
        assert f"{size[0]}x{size[1]}" in words or size[0] < 20
        assert "Health" not in words
        assert size[0] < 20 or "needs a terminal of 80x24" in words


@pytest.mark.parametrize("ascii_only", [False, True])
async def test_no_line_is_wider_than_the_terminal_and_frames_are_closed(ascii_only: bool) -> None:
    from rich.cells import cell_len

    left, right = ("+", "+") if ascii_only else ("╭", "╮")
    sizes = [(80, 24), (81, 25), (100, 30), (120, 35), (159, 45), (160, 45), (200, 60)]
    async with terminal(full_engine(), size=sizes[0], ascii_only=ascii_only) as t:
        for width, height in sizes:
            await t.pilot.resize_terminal(width, height)
            await t.settle()
            lines = t.lines()
            assert len(lines) == height
            assert all(cell_len(line) <= width for line in lines)
            titles = [line for line in lines if line.startswith(left) and "Health" in line]
            assert len(titles) == 1
            assert titles[0].endswith(right)
            assert cell_len(titles[0]) == width


async def test_a_resize_changes_the_layout() -> None:
    async with terminal(size=(80, 24)) as t:
        assert "Opportunities" not in t.text()
        await t.pilot.resize_terminal(160, 48)
        await t.settle()
        assert "5 Opportunities" in t.text()
        await t.pilot.resize_terminal(40, 10)
        await t.settle()
        assert "40x10" in t.text()


# Panes


@pytest.mark.parametrize(
    ("key", "name", "words"),
    [
        ("1", "Health", "collateral"),
        ("2", "Positions", "unsettled"),
        ("3", "Why", "profitability"),
        ("4", "Delta and carry", "cooldown"),
        ("5", "Opportunities", "24h vol"),
        ("6", "Market", "no telemetry"),
        ("7", "Funding", "first history"),
        ("8", "Equity", "first history"),
        ("9", "Liquidations", "first history"),
        ("0", "Log", "follow"),
    ],
)
async def test_a_number_shows_one_pane_and_three_ways_lead_back(key: str, name: str, words: str) -> None:
    async with terminal(size=(100, 30)) as t:
        for back in (key, "escape", "q"):
            await t.press(key)
            text = t.text()
            assert f"{key} {name}" in text
            assert words in text
            others = [
                (number, other) for number, other in (("1", "Health"), ("3", "Why"), ("0", "Log")) if number != key
            ]
            assert not any(f"─ {number} {other}" in text for number, other in others)
            await t.press(back)
            assert "1 Health" in t.text()
            assert "0 Log" in t.text()
            assert isinstance(t.app.screen, MainScreen)


async def test_tab_walks_through_what_can_be_moved_in() -> None:
    async with terminal(size=(160, 48)) as t:
        seen = []
        for _ in range(5):
            assert t.app.focused is not None
            seen.append(t.app.focused.id)
            await t.press("tab")
        assert seen == ["positions", "opportunities", "liquidations", "log", "positions"]
        await t.press("shift+tab")
        assert t.app.focused is not None
        assert t.app.focused.id == "positions"


async def test_unknown_is_never_zero() -> None:
    base = make_snapshot()
    account = replace(
        base.account,
        health=None,
        equity=None,
        collateral_maintenance=None,
        free_collateral=None,
        leverage=None,
        liq_price=None,
        liq_distance_pct=None,
        maintenance_requirement=None,
        initial_requirement=None,
        quote_balance=None,
        wallet_quote=None,
        assets=(),
        liq_market="",
        reason="account not read yet",
    )
    hedge = make_hedge("SOL-PERP")
    delta = replace(hedge.delta, spot=None, perp=None, net=None, worst=None, drift_pct=None)
    carry = replace(hedge.carry, now_apr=None, day_apr=None, week_apr=None, expected_per_hour=None)
    prices = replace(hedge.prices, oracle=None, mark=None, basis_bps=None)
    clock = replace(base.clock, market_s=None)
    unknown = replace(hedge, delta=delta, carry=carry, prices=prices)
    snapshot = replace(base, account=account, hedges=(unknown,), clock=clock, positions=())
    for size in ((160, 48), (80, 24)):
        async with terminal(FakeEngine(snapshot), size=size) as t:
            text = t.text()
            assert "n/a" in text
            assert "$0.00" not in text
            assert "safe" not in text
            assert "positions not known" in text
            assert "neutral" not in text
            if size[0] == 160:
                assert "account not read yet" in text


async def test_flat_is_said() -> None:
    async with terminal(FakeEngine(make_snapshot(positions=()))) as t:
        assert "no positions: flat" in t.text()


async def test_old_data_say_their_age_and_dim() -> None:
    async with terminal(size=(160, 48)) as t:
        health = t.app.screen.query_one("#pane-1")
        assert not health.has_class("-old")
        await t.wait(180.0, publish=False)
        assert "3 m old" in t.text()
        assert health.has_class("-old")
        await t.publish()
        assert not re.search(r"\d [smh] old", t.text())
        assert not health.has_class("-old")


async def test_old_account_data_inside_a_fresh_snapshot_are_old() -> None:
    base = make_snapshot()
    account = replace(base.account, as_of_market_s=MARKET_S - 300.0)
    engine = FakeEngine(replace(base, account=account, engine=replace(base.engine, mode="paper")))
    async with terminal(engine, size=(160, 48)) as t:
        assert "5 m old" in t.text()
        assert t.app.screen.query_one("#pane-1").has_class("-old")


async def test_the_why_pane_shows_every_gate_and_refusals_first_when_short() -> None:
    async with terminal(full_engine(), size=(160, 48)) as t:
        text = t.text()
        for gate in (
            "profitability",
            "leverage",
            "health after",
            "liq distance",
            "delta",
            "gas",
            "latency",
            "guards",
            "rate limit",
        ):
            assert gate in text
        assert "a short pays 7.9 % a year" in text
    many = tuple(Verdict(f"GATE_{i}", VerdictStatus.ALLOWED, "1", "2") for i in range(40))
    refused = Verdict("LAST", VerdictStatus.BLOCKED, "9", "1", "too much")
    async with terminal(full_engine(gates=(*many, refused)), size=(120, 35)) as t:
        assert "✕ last" in t.text()
        assert "more: " in t.text()


async def test_a_near_liquidation_and_a_leverage_have_words() -> None:
    base = make_snapshot()
    account = replace(base.account, liq_distance_pct=12.0, health=15)
    async with terminal(FakeEngine(replace(base, account=account)), size=(160, 48)) as t:
        assert "NEAR" in t.text()
        assert "critical" in t.text()


@pytest.mark.parametrize("mode", ["replay", "paper", "live"])
async def test_the_mode_is_word_and_frame(mode: str) -> None:
    base = make_snapshot()
    engine = FakeEngine(replace(base, engine=replace(base.engine, mode=mode, live_mode="watch")))
    async with terminal(engine, size=(80, 24)) as t:
        text = t.text()
        assert f"▐{'LIVE WATCH' if mode == 'live' else mode.upper()}▌" in text
        corner = {"replay": "╭", "paper": "┌", "live": "┏"}[mode]
        assert sum(line.startswith(corner) for line in t.lines()) == 4
        assert t.app.screen.has_class(f"-{mode}")


# Banners, connection


async def test_an_alert_shows_for_ten_seconds_and_again_when_raised_anew() -> None:
    alert = AlertView("health-1", "WARNING", "health 45 is below 50", 0.0)
    async with terminal(FakeEngine(make_snapshot(alerts=(alert,)))) as t:
        assert "health 45 is below 50" in t.text()
        await t.wait(9.9)
        assert "health 45 is below 50" in t.text()
        await t.wait(0.2)
        assert "health 45 is below 50" not in t.text()
        assert "1 alert" in t.text(), "it still stands"
        await t.publish(alerts=(replace(alert, id="health-2"),))
        assert "health 45 is below 50" in t.text()


@pytest.mark.parametrize("key", ["x", "escape"])
async def test_an_alert_can_be_dismissed(key: str) -> None:
    alerts = (
        AlertView("a", "WARNING", "minor matter", 0.0),
        AlertView("b", "CRITICAL", "health 15, liquidation at 412.50", 0.0),
    )
    async with terminal(FakeEngine(make_snapshot(alerts=alerts))) as t:
        banner = t.app.screen.query_one(Banner)
        assert "CRITICAL: health 15, liquidation at 412.50" in t.text()
        assert "and 1 more" in t.text()
        await t.press(key)
        assert not banner.display
        await t.publish()
        assert not banner.display
        await t.publish(alerts=(*alerts, AlertView("c", "WARNING", "venue paused", 0.0)))
        assert "venue paused" in t.text()


class Sleeper:
    """Waits that end when told."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._go = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        self._go.clear()
        await self._go.wait()

    def go(self) -> None:
        self._go.set()


async def test_a_lost_engine_is_said_and_found_again() -> None:
    sleeper = Sleeper()
    engine = FakeEngine()
    async with terminal(engine, sleep=sleeper) as t:
        old = engine.clients[0]
        engine.drop()
        await t.settle()
        text = t.text()
        assert "ENGINE GONE: the engine closed the connection" in text
        assert "Reconnecting by itself" in text
        assert old.closed
        for _ in range(6):
            sleeper.go()
            await t.settle()
        assert sleeper.asked == [0.25, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0]
        assert "no engine answers" in t.text()
        engine.up = True
        engine.snapshot = replace(engine.snapshot, version=99)
        sleeper.go()
        await t.settle()
        assert "ENGINE GONE" not in t.text()
        assert t.app.store.view.snapshot is engine.snapshot
        await t.press("r")
        assert len(engine.commands) == 1


async def test_a_silent_engine_is_said_to_be_silent() -> None:
    async with terminal() as t:
        await t.wait(6.0, publish=False)
        assert "ENGINE SILENT: connected, but no data for 6 s" in t.text()
        await t.publish()
        assert "SILENT" not in t.text()


async def test_a_stopped_engine_is_said_to_be_stopped() -> None:
    sleeper = Sleeper()
    engine = FakeEngine()
    async with terminal(engine, sleep=sleeper) as t:
        engine.drop("STOPPING", "stopped by the operator")
        await t.settle()
        assert "ENGINE STOPPED: stopped by the operator" in t.text()
        sleeper.go()
        await t.settle()
        assert "ENGINE STOPPED: stopped by the operator" in t.text(), "a failed try does not change what happened"


async def test_no_engine_at_the_start() -> None:
    engine = FakeEngine()
    engine.up = False
    async with terminal(engine) as t:
        assert "NO ENGINE: no engine answers" in t.text()
        assert "no connection to the engine" in t.text()
        await t.press("t", "exclamation_mark")
        assert isinstance(t.app.screen, MainScreen)
        await t.pilot.press("ctrl+q")
        await t.pilot.pause()
        assert t.app._exit, "nothing to ask"


async def test_what_the_banner_says_is_no_toast_too() -> None:
    alert = AlertView("halted-1", "CRITICAL", "kill switch: operator", 0.0)
    async with terminal(FakeEngine(make_snapshot(alerts=(alert,))), size=(80, 24)) as t:
        t.engine.events(
            Event("alert", Level.CRITICAL, alert.message, 0.0, 0.0), Event("x", Level.ERROR, "odd", 0.0, 0.0)
        )
        await t.settle()
        assert t.toasts() == ["odd"]
        assert "CRITICAL: kill switch: operator" in t.lines()[1]


async def test_the_one_line_says_first_that_the_engine_does_not_run() -> None:
    snapshot = make_snapshot()
    halted = replace(snapshot, engine=replace(snapshot.engine, state="HALTED", state_reason="kill switch: operator"))
    async with terminal(FakeEngine(halted), size=(80, 24)) as t:
        why = t.lines()[12]
        assert "HALTED: kill switch: operator" in why
        assert "profitability" not in why


async def test_grave_events_become_toasts() -> None:
    async with terminal() as t:
        t.engine.events(*[Event("x", Level.ERROR, f"bad thing {i}", 0.0, 0.0) for i in range(5)])
        t.engine.events(Event("y", Level.INFO, "quiet", 0.0, 0.0))
        await t.settle()
        assert t.toasts() == ["bad thing 0", "bad thing 1", "bad thing 2", "2 more errors, see the log"]


# Log


async def test_log_keys() -> None:
    async with terminal(size=(160, 48)) as t:
        log = t.app.screen.query_one(LogView)
        t.engine.log(
            log_line(1, "detail", Level.DEBUG),
            log_line(2, "apple"),
            log_line(3, "broken", Level.ERROR),
            log_line(4, "pear"),
            dropped=3,
        )
        await t.settle()
        assert "3 lines were lost here" in t.text()
        assert "detail" not in t.text()
        await t.press("v", "v", "v")
        assert log.status.minimum == "DEBUG"
        await t.press("v")
        assert log.status.minimum == "INFO"
        await t.press("slash", *"app", "enter")
        assert "filter app (1 of 5)" in t.text()
        assert "pear" not in t.text()
        await t.press("slash", "backspace", "backspace", "backspace", "enter")
        assert "pear" in t.text()
        await t.press("e")
        await t.press("f")
        follow = log.status.follow
        await t.press("f")
        assert log.status.follow is not follow
        await t.press("ctrl+f", *"pear", "enter")
        assert log.status.search == "pear"
        assert t.app.focused is log
        await t.press("c")
        assert "copied" in t.toasts()[-1]


async def test_help_shows_every_action_and_why_one_cannot_be_done() -> None:
    engine = FakeEngine(make_snapshot(actions=()))
    async with terminal(engine, size=(120, 200)) as t:
        await t.press("question_mark")
        text = t.text()
        for words in (
            "Trade",
            "Engine",
            "Panes",
            "Log",
            "Terminal",
            "Dialogs",
            "ctrl+q",
            "not now: this engine does not offer it",
        ):
            assert words in text
        await t.press("question_mark")
        assert isinstance(t.app.screen, MainScreen)


async def test_the_palette_finds_and_runs_on_the_row_of_its_opening() -> None:
    async with terminal() as t:
        await t.press("colon", *"rebal", "enter")
        assert t.engine.commands == [], "typed ahead"
        await t.wait(0.5)
        version = t.engine.snapshot.version
        await t.publish()
        await t.press("enter")
        assert len(t.engine.commands) == 1
        assert t.engine.commands[0].snapshot_version < version
        assert isinstance(t.app.screen, MainScreen)


async def test_the_footer_can_be_clicked() -> None:
    async with terminal(size=(160, 48)) as t:
        line = t.lines()[-1]
        await t.pilot.click("#footer", offset=(line.index("rebalance"), 0))
        await t.settle()
        assert len(t.engine.commands) == 1


async def test_themes_switch_live_and_reload(tmp_path: Path) -> None:
    async with terminal(themes_dir=tmp_path) as t:
        names = {t.app.theme}
        for _ in range(5):
            await t.press("T")
            names.add(t.app.theme)
        assert {"dark", "light", "ansi", "colour-blind", "high-contrast"} <= names
        good = 'name = "mine"\n[colors]\nprimary="#fff"\nforeground="#eee"\nbackground="#000"\n'
        (tmp_path / "mine.toml").write_text(good, encoding="utf-8")
        for _ in range(10):
            await t.settle()
        assert "mine" in t.app.available_themes
        (tmp_path / "mine.toml").write_text('name = "mine"\n[colors]\nprimary="#1"\n', encoding="utf-8")
        for _ in range(10):
            await t.settle()
        assert any("mine.toml" in toast for toast in t.toasts())


async def test_tables_keep_their_order_while_a_dialog_is_open() -> None:
    async with terminal(size=(160, 48)) as t:
        grid = t.app.screen.query_one("#opportunities", LiveGrid)
        await t.press("question_mark")
        assert grid.freeze
        await t.press("escape")
        assert not grid.freeze


# Hostile text


def hostile_snapshot(text: str) -> Snapshot:
    """``text`` wherever the engine may send a string."""
    base, hedge = full_snapshot(), make_hedge("SOL-PERP")
    position = PositionView(text, text, "short", -1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    return replace(
        base,
        engine=replace(base.engine, venue=text, profile=text, state=text, state_reason=text),
        account=replace(base.account, reason=text, delegate=text, liq_market=text, assets=(AssetView(text, 1.0, 1.0),)),
        hedges=(
            replace(
                hedge,
                market=text,
                base_symbol=text,
                delta=replace(hedge.delta, reason=text, direction=text),
                carry=replace(hedge.carry, stance=text, decision=text, sentence=text),
                paused=text,
            ),
        ),
        positions=(position,),
        opportunities=(replace(base.opportunities[0], key=text, market=text, side=text),),
        alerts=(AlertView(text, text, text, 0.0),),
        actions=tuple(replace(action, enabled=False, reason=text) for action in base.actions),
    )


def hostile_detail(text: str) -> MarketDetail:
    verdict = Verdict(text, VerdictStatus.BLOCKED, text, text, text, 3.0)
    return full_detail(
        market=text,
        gates=(
            verdict,
            replace(verdict, status=VerdictStatus.ALLOWED),
            replace(verdict, status=VerdictStatus.NOT_APPLICABLE),
        ),
        gates_subject=text,
        cards=tuple(replace(card, title=text, unit=text, reason=text) for card in make_cards()),
        actions=tuple(replace(action, enabled=False, reason=text) for action in make_detail().actions),
    )


TOUR = (
    *"123456789",
    "i",
    "i",
    "0",
    "0",
    "ctrl+o",
    "a",
    "d",
    "escape",
    "D",
    "t",
    "question_mark",
    "escape",
    "colon",
    "escape",
    "T",
)
"""Through every pane and dialog."""


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_text_is_drawn_as_text_everywhere(text: str) -> None:
    from rich.cells import cell_len

    engine = FakeEngine(hostile_snapshot(text), [hostile_detail(text)])
    async with terminal(engine, size=(160, 48)) as t:
        engine.log(log_line(1, text, Level.ERROR, text))
        engine.events(Event(text, Level.ERROR, text, 0.0, 0.0))
        reasons = replace(
            tape_history().markets[0], market=text, funding=(), open_interest_reason=text, liquidations_reason=text
        )
        engine.tell_history(make_history(markets=(reasons,)))
        await t.settle()
        for key in TOUR if HOSTILE.index(text) % 4 == 0 else ("3", "3"):
            await t.press(key)
        hostile = make_confirmation(
            kind=text, market=text, side=text, carry_sentence=text, source=text, verdicts=hostile_detail(text).gates
        )
        await t.publish(confirmations=(hostile,))
        lines = t.lines()
        assert all(cell_len(line) <= 160 for line in lines)
        assert not any(char in "".join(lines) for char in "\x1b\x00\x07\x9b\u202e")
        await t.press("escape")
        engine.drop(text, text)
        await t.settle()
        assert not t.app._exit


async def test_markup_shows_as_it_is_written() -> None:
    base = make_snapshot()
    carry = replace(make_hedge("SOL-PERP").carry, sentence="[bold]not[/bold] markup [/x]")
    engine = FakeEngine(with_hedge(base, carry=carry))
    async with terminal(engine, size=(160, 48)) as t:
        assert "[bold]not[/bold] markup [/x]" in t.text()


def test_ascii_keeps_the_width() -> None:
    assert to_ascii("╭─ 日 ✓ é ╮") == "+- ?? + ? +"
