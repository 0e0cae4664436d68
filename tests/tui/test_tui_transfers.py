"""Deposit, withdraw and settle: what is asked, what is sent, and what is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from snapshots import make_detail, make_hedge, make_snapshot, with_hedge
from textual.events import Paste
from tui_fakes import DECIMALS, FakeEngine, replace, terminal, with_action

from deltatui.domain.command import CommandResult, Deposit, ResultStatus, Settle, Withdraw
from deltatui.domain.errors import UnresolvedError, ValidationError
from deltatui.domain.snapshot import AmountView, MarketDetail, Snapshot
from deltatui.tui.modals.orders import Asset, SettleDialog, TransferDialog, amount_units, value_usd, whole
from deltatui.tui.screens.main import MainScreen

USDC, SOL, WBTC = Asset("USDC", 6), Asset("SOL", 9), Asset("wBTC", 8)


@pytest.mark.parametrize(
    ("text", "asset", "units"),
    [
        ("1", USDC, 1_000_000),
        ("0.1", USDC, 100_000),
        ("16942.184001", USDC, 16_942_184_001),
        ("0.000001", USDC, 1),
        ("1.10", SOL, 1_100_000_000),
        ("9007199254740993.000001", USDC, 9_007_199_254_740_993_000_001),
        (" 2. ", SOL, 2_000_000_000),
        ("0.0152", WBTC, 1_520_000),
        ("0.00000001", WBTC, 1),
    ],
)
def test_amounts_are_read_exactly(text: str, asset: Asset, units: int) -> None:
    assert amount_units(text, asset) == units


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "type an amount"),
        (".", "is not a number"),
        ("nan", "above 0"),
        ("0", "above 0"),
        ("-1", "above 0"),
        ("1.0000001", "at most 6 decimals"),
    ],
)
def test_a_wrong_amount_says_what_would_be_right(text: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        amount_units(text, USDC)


def test_the_maximum_is_rounded_down_and_unknown_stays_unknown() -> None:
    assert str(whole(1_897.1234567, USDC)) == "1897.123456"
    assert whole(None, USDC) is None
    assert whole(0.0, SOL) == 0
    assert whole(-1.0, SOL) == 0
    assert whole(float("nan"), SOL) is None


@pytest.mark.parametrize(("key", "command"), [("d", Deposit), ("w", Withdraw)])
async def test_a_transfer_is_one_command_in_smallest_units(key: str, command: type[Deposit | Withdraw]) -> None:
    async with terminal(FakeEngine(make_snapshot(version=41))) as t:
        await t.press(key)
        assert isinstance(t.app.screen, TransferDialog)
        await t.wait(0.5)
        t.engine.hold = asyncio.Event()
        await t.press(*"12.5", "enter", "enter", "enter")
        assert len(t.engine.commands) == 1
        sent = t.engine.commands[0]
        assert type(sent) is command
        assert isinstance(sent, (Deposit, Withdraw))
        assert (sent.asset, sent.amount, sent.snapshot_version) == ("USDC", 12_500_000, 41)
        assert len(sent.intent_id) == 32
        assert isinstance(t.app.screen, TransferDialog), "open until the engine has answered"
        t.engine.hold.set()
        await t.settle()
        await t.settle()
        assert isinstance(t.app.screen, MainScreen)


@pytest.mark.parametrize(
    ("key", "presses", "asset", "amount"),
    [
        ("d", ("m",), "USDC", 10_000_000_000),
        ("d", ("a", "m"), "SOL", 500_000_000),
        ("w", ("m",), "USDC", 1_897_100_000),
        ("w", ("a", "m"), "SOL", 10_000_000_000),
    ],
)
async def test_all_there_is(key: str, presses: tuple[str, ...], asset: str, amount: int) -> None:
    async with terminal() as t:
        await t.press(key, *presses)
        await t.wait(0.5)
        await t.press("enter")
        sent = t.engine.commands[0]
        assert isinstance(sent, (Deposit, Withdraw))
        assert (sent.asset, sent.amount) == (asset, amount)


async def test_another_asset_clears_the_amount_and_arms_anew() -> None:
    async with terminal() as t:
        await t.press("w")
        await t.wait(0.5)
        await t.press("5", "a", "enter")
        assert t.engine.commands == []
        assert isinstance(t.app.screen, TransferDialog)
        assert t.app.screen.text == ""
        await t.wait(0.5)
        await t.press("enter")
        assert t.engine.commands == []
        assert "type an amount" in t.text()


async def test_a_refusal_shows_the_largest_amount_and_another_may_be_tried() -> None:
    engine = FakeEngine()
    refused = CommandResult(ResultStatus.REJECTED, "BLOCKED", "health would be 41, limit 60; at most 803.2 USDC")
    engine.answer = lambda command: refused
    async with terminal(engine) as t:
        await t.press("w", *"1800")
        await t.wait(0.5)
        await t.press("enter")
        assert isinstance(t.app.screen, TransferDialog)
        assert "at most 803.2 USDC" in " ".join(t.text().split())
        assert t.toasts() == [], "said once, where it is read"
        engine.answer = lambda command: CommandResult(ResultStatus.DONE, "", "withdrawn")
        await t.press(*["backspace"] * 4, *"803.2", "enter")
        assert len(engine.commands) == 1, "armed anew after the refusal"
        await t.wait(0.5)
        await t.press("enter")
        assert len(engine.commands) == 2
        first, second = engine.commands
        assert first.intent_id != second.intent_id
        assert isinstance(t.app.screen, MainScreen)


async def test_an_unknown_outcome_closes_the_dialog_and_cannot_be_sent_again() -> None:
    engine = FakeEngine()

    def answer(command: object) -> CommandResult:
        raise UnresolvedError("TIMEOUT", "no answer in time")

    engine.answer = answer
    async with terminal(engine) as t:
        await t.press("d", "1")
        await t.wait(0.5)
        await t.press("enter", "enter")
        assert len(engine.commands) == 1
        assert isinstance(t.app.screen, MainScreen)
        assert any("outcome not known" in toast for toast in t.toasts())


@pytest.mark.parametrize("key", ["d", "w", "s"])
async def test_typed_ahead_and_old_data_send_nothing(key: str) -> None:
    go = "y" if key == "s" else "enter"
    async with terminal() as t:
        await t.press(key, *("" if key == "s" else "1"), go)
        assert t.engine.commands == []
        await t.wait(2.5, publish=False)
        await t.press(go)
        assert t.engine.commands == []
        assert "data 2 s old" in t.text()
        await t.wait(0.1)
        await t.press(go)
        assert t.engine.commands == [], "fresh again, but not yet armed"
        await t.wait(0.5)
        await t.press(go)
        assert len(t.engine.commands) == 1


async def test_it_shows_what_is_where_afterwards() -> None:
    async with terminal(size=(80, 24)) as t:
        await t.press("w")
        assert "10,000.00   after" not in t.text()
        await t.press(*"97.1")
        text = " ".join(t.text().split())
        assert "wallet 10,000.00 after 10,097.10" in text
        assert "account 1,897.10 after 1,800.00" in text


@pytest.mark.parametrize("key", ["d", "w", "s"])
async def test_escape_sends_nothing(key: str) -> None:
    async with terminal() as t:
        await t.press(key)
        await t.wait(0.5)
        await t.press("escape")
        assert isinstance(t.app.screen, MainScreen)
        assert t.engine.commands == []


async def test_a_transfer_that_became_impossible_says_why() -> None:
    async with terminal() as t:
        await t.press("w", "1")
        await t.wait(0.5)
        await t.publish_detail(
            actions=with_action(make_detail(), "WITHDRAW", enabled=False, reason="venue paused").actions
        )
        assert "venue paused" in t.text()
        await t.press("enter")
        assert t.engine.commands == []


async def test_settle_asks_shows_and_sends_once() -> None:
    async with terminal(FakeEngine(make_snapshot(version=41))) as t:
        await t.press("s")
        assert isinstance(t.app.screen, SettleDialog)
        assert t.app.focused is not None
        assert t.app.focused.id == "cancel"
        text = t.text()
        assert "+18.90" in text
        assert "1,916.00" in text, "the quote balance after it"
        await t.wait(0.5)
        await t.press("y", "y")
        assert [type(sent) for sent in t.engine.commands] == [Settle]
        sent = t.engine.commands[0]
        assert isinstance(sent, Settle)
        assert (sent.market, sent.snapshot_version) == ("SOL-PERP", 41)


async def test_settle_with_unknown_figures_shows_none() -> None:
    base = make_snapshot()
    unknown = replace(base, positions=(), account=replace(base.account, quote_balance=None))
    async with terminal(FakeEngine(unknown)) as t:
        await t.press("s")
        assert "n/a" in t.text()
        assert "0.00" not in "".join(line for line in t.lines() if "quote" in line)


# The largest amount and the large amount


def told(market: str = "SOL-PERP", **amounts: float | None) -> MarketDetail:
    """The largest withdrawal and deposit of each asset."""
    views = tuple(AmountView(asset, most, DECIMALS[asset]) for asset, most in amounts.items())
    return with_action(with_action(make_detail(market), "WITHDRAW", amounts=views), "DEPOSIT", amounts=views)


def live(**engine: Any) -> Snapshot:
    snapshot = make_snapshot()
    return replace(snapshot, engine=replace(snapshot.engine, mode="live", live_mode="trade", **engine))


@pytest.mark.parametrize("key", ["d", "w"])
async def test_the_maximum_is_what_the_engine_says(key: str) -> None:
    async with terminal(FakeEngine(details=[told(USDC=803.2, SOL=0.123456789)])) as t:
        await t.press(key)
        text = t.text()
        assert "803.20" in text
        assert "0.000001" in text, "the smallest step"
        await t.press("a")
        assert "0.123456789" in t.text()
        assert "0.000000001" in t.text()
        await t.press("m")
        await t.wait(0.5)
        await t.press("enter")
        sent = t.engine.commands[0]
        assert isinstance(sent, (Deposit, Withdraw))
        assert (sent.asset, sent.amount) == ("SOL", 123_456_789)


@pytest.mark.parametrize(("key", "noun"), [("d", "deposit"), ("w", "withdrawal")])
async def test_more_than_the_engine_allows_is_refused_before_it_is_sent(key: str, noun: str) -> None:
    async with terminal(FakeEngine(details=[told(USDC=803.2)])) as t:
        await t.press(key, *"803.200001")
        await t.wait(0.5)
        await t.press("enter")
        assert t.engine.commands == []
        assert f"the largest {noun} now is 803.20 USDC" in t.text()
        await t.press("backspace", "0", "enter")
        assert [sent.amount for sent in t.engine.commands] == [803_200_000]  # type: ignore[union-attr]


async def test_the_maximum_is_the_one_of_now() -> None:
    async with terminal(FakeEngine(details=[told(USDC=803.2)])) as t:
        await t.press("w", "m")
        await t.wait(0.5)
        await t.publish_detail(actions=told(USDC=500.0).actions)
        assert "the largest withdrawal now is 500.00 USDC" in t.text()
        await t.press("enter")
        assert t.engine.commands == []


async def test_where_nothing_can_be_moved_the_maximum_is_nothing() -> None:
    async with terminal(FakeEngine(details=[told(USDC=0.0)])) as t:
        await t.press("w", "m")
        assert "there is no USDC to withdraw" in t.text()
        await t.press("1")
        await t.wait(0.5)
        await t.press("enter")
        assert t.engine.commands == []
        assert "no USDC can be moved now" in t.text()


async def test_an_untold_maximum_falls_back_to_what_is_held_and_says_so() -> None:
    async with terminal(FakeEngine(details=[told(USDC=None)])) as t:
        await t.press("w")
        assert "not told" in t.text()
        assert "m takes what is held" in t.text()
        await t.press("m")
        assert isinstance(t.app.screen, TransferDialog)
        assert t.app.screen.text == "1897.1"


async def test_a_large_live_withdrawal_needs_its_symbol() -> None:
    async with terminal(FakeEngine(live(typed_above_usd=500.0))) as t:
        await t.press("w", *"500.01")
        await t.wait(0.5)
        await t.press("enter")
        assert t.engine.commands == []
        assert "type USDC first" in t.text()
        assert "worth $500.01" in t.text()
        await t.press("tab", *"USD", "enter")
        assert t.engine.commands == []
        await t.press("C", "enter")
        sent = t.engine.commands[0]
        assert isinstance(sent, Withdraw)
        assert (sent.asset, sent.amount, len(t.engine.commands)) == ("USDC", 500_010_000, 1)


async def test_another_amount_needs_the_symbol_again() -> None:
    async with terminal(FakeEngine(live(typed_above_usd=500.0), [told(USDC=None)])) as t:
        await t.press("w", *"600", "tab", *"USDC")
        await t.wait(0.5)
        await t.press("shift+tab", "0", "enter")
        assert t.engine.commands == []
        assert "type USDC first" in t.text()


@pytest.mark.parametrize(
    ("snapshot", "keys", "typed"),
    [
        (live(typed_above_usd=500.0), ("5", "0", "0"), False),
        (live(typed_above_usd=500.0), ("a", "2"), False),
        (live(typed_above_usd=500.0), ("a", "3"), True),
        (live(typed_above_usd=float("nan")), ("1",), True),
        (live(typed_above_usd=float("inf")), ("1",), True),
        (live(typed_above_usd=0.0), ("1",), True),
        (with_hedge(live(), prices=replace(make_hedge("SOL-PERP").prices, oracle=None)), ("a", "0.001"), True),
        (replace(make_snapshot(), engine=replace(make_snapshot().engine, typed_above_usd=0.0)), ("1",), False),
    ],
)
async def test_what_counts_as_large(snapshot: Snapshot, keys: tuple[str, ...], typed: bool) -> None:
    """USDC counts 1:1, SOL at the oracle price of 189.42, what is not known is large, and only live asks."""
    async with terminal(FakeEngine(snapshot)) as t:
        await t.press("w", *(char for key in keys for char in key))
        await t.wait(0.5)
        await t.press("enter")
        assert (" first ┃" in t.text()) is typed
        assert len(t.engine.commands) == (0 if typed else 1)


@pytest.mark.parametrize(("amount", "typed"), [("0.0053", False), ("0.0054", True)])
async def test_an_asset_counts_at_its_own_markets_price(amount: str, typed: bool) -> None:
    """wBTC at 94,214.50, whatever else is carried."""
    engine = FakeEngine(live(typed_above_usd=500.0), [told("BTC-PERP", USDC=1.0, wBTC=1.0)])
    async with terminal(engine, market="BTC-PERP") as t:
        await t.press("w", "a", *amount)
        await t.wait(0.5)
        await t.press("enter")
        assert ("type wBTC first" in t.text()) is typed
        assert len(engine.commands) == (0 if typed else 1)


def test_an_asset_of_no_market_has_no_known_value() -> None:
    assert value_usd(1_000_000_000, SOL, replace(make_snapshot(), hedges=())) is None
    assert value_usd(1_000_000_000, SOL, None) is None
    assert value_usd(1_520_000, WBTC, make_snapshot()) == pytest.approx(1_432.06, abs=0.01)


async def test_a_deposit_of_any_size_needs_no_symbol() -> None:
    async with terminal(FakeEngine(live(typed_above_usd=0.0))) as t:
        await t.press("d", "9")
        await t.wait(0.5)
        await t.press("enter")
        assert [type(sent) for sent in t.engine.commands] == [Deposit]


async def test_the_symbol_does_not_loosen_the_other_rules() -> None:
    async with terminal(FakeEngine(live(typed_above_usd=0.0))) as t:
        await t.press("w", "1", "tab", *"USDC", "enter")
        assert t.engine.commands == [], "typed ahead"
        await t.wait(2.5, publish=False)
        await t.press("enter")
        assert t.engine.commands == []
        assert "data 2 s old" in t.text()
        await t.wait(0.1)
        await t.press("enter")
        assert t.engine.commands == [], "fresh, but not for long enough"
        await t.wait(0.5)
        await t.press("enter")
        assert len(t.engine.commands) == 1


async def test_letters_of_remapped_keys_are_letters_in_the_word(tmp_path: Path) -> None:
    path = tmp_path / "keymap.toml"
    path.write_text('[keys]\ntransfer-asset = "U"\ntransfer-most = "S"\n', encoding="utf-8")
    async with terminal(FakeEngine(live(typed_above_usd=0.0)), keymap=path) as t:
        await t.press("w", "1", "tab", *"USDC")
        await t.wait(0.5)
        await t.press("enter")
        assert [(sent.asset, sent.amount) for sent in t.engine.commands] == [("USDC", 1_000_000)]  # type: ignore[union-attr]


async def test_a_paste_into_the_amount_sends_nothing() -> None:
    async with terminal() as t:
        await t.press("w")
        await t.wait(0.5)
        t.app.screen.query_one("#amount").post_message(Paste("12.5\n\n"))
        await t.settle()
        assert t.engine.commands == []
        assert isinstance(t.app.screen, TransferDialog)
        assert t.app.screen.text == "12.5"


@pytest.mark.parametrize("size", [(80, 24), (120, 35), (160, 48)])
@pytest.mark.parametrize("key", ["d", "w", "s"])
async def test_a_transfer_fits_on_every_screen(key: str, size: tuple[int, int]) -> None:
    async with terminal(FakeEngine(live(typed_above_usd=0.0), [told(USDC=803.2)]), size=size) as t:
        await t.press(key, *("" if key == "s" else "9999"))
        text = t.text()
        assert "LIVE TRADE" in t.lines()[0], "the badge stays in sight"
        assert "[ Cancel ]" in text
        assert "lines 1-" not in text, "nothing is scrolled away"
