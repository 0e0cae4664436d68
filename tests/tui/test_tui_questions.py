"""What the engine asks and answers beside whole trades: transfers, losses, parts, where the spot comes from, powers."""

from __future__ import annotations

from typing import Any

import pytest
from snapshots import (
    MARKET_S,
    OPERATOR_S,
    make_confirmation,
    make_detail,
    make_hedge,
    make_snapshot,
    make_transfer,
    with_hedge,
)
from tui_fakes import FakeEngine, offering, replace, terminal

from deltatui.domain.command import (
    CommandResult,
    Confirm,
    Deposit,
    Direction,
    ForgetLosses,
    Kill,
    LegPart,
    ResultStatus,
    SpotSource,
    Take,
    Withdraw,
)
from deltatui.domain.errors import ValidationError
from deltatui.domain.event import Event, Level
from deltatui.domain.snapshot import (
    ActionView,
    AlertView,
    ConfirmationView,
    LegView,
    PlanView,
    Snapshot,
    SourceView,
    VaultView,
)
from deltatui.domain.verdict import Verdict, VerdictStatus
from deltatui.tui.modals.confirm import ConfirmDialog, confirmation_lines, title
from deltatui.tui.modals.orders import TransferDialog
from deltatui.tui.modals.plan import consequences
from deltatui.tui.modals.take import TakeDialog, sources
from deltatui.tui.panes.base import Part as Text
from deltatui.tui.panes.delta import delta_lines
from deltatui.tui.panes.health import account_details, account_lines, small_lines
from deltatui.tui.panes.positions import FOREIGN, attribution_lines, hidden_lines, position_row, totals_lines
from deltatui.tui.screens.main import MainScreen
from deltatui.tui.store import Shown


def text_of(lines: list[list[Text]]) -> str:
    return "\n".join("".join(part.text for part in line).rstrip() for line in lines)


def asked(confirmation: ConfirmationView, cells: int = 70) -> str:
    return text_of(confirmation_lines(confirmation, 26.0, cells, 40, force=False, force_key="f", base="SOL"))


# The question of a trade


def test_every_leg_has_its_own_size() -> None:
    legs = (LegView("SOL", -2.0, 188.0), LegView("SOL-PERP", 5.0, 190.0))
    text = asked(make_confirmation(kind="LEAVE", side="close", size=2.0, legs=legs))
    assert "legs        sell 2 SOL  buy 5 SOL-PERP" in text
    assert "size" not in text


def test_the_countdown_and_who_asks_stand_whole_beside_a_long_side() -> None:
    text = asked(make_confirmation(side="short perp + deposit from the wallet"))
    first, second, *_ = text.splitlines()
    assert first.startswith("side        short perp + deposit from the wallet ")
    assert first.endswith("cancels in 26 s")
    assert second.split() == ["by", "operator"]


def test_another_size_of_the_second_leg_is_another_trade() -> None:
    async def shape(confirmation: ConfirmationView) -> object:
        async with terminal(FakeEngine(make_snapshot(confirmations=(confirmation,)))) as t:
            dialog = t.app.screen
            assert isinstance(dialog, ConfirmDialog)
            return dialog._what()

    import asyncio

    one = make_confirmation(legs=(LegView("SOL", -2.0, 1.0), LegView("SOL-PERP", 5.0, 1.0)))
    other = make_confirmation(legs=(LegView("SOL", -2.0, 1.0), LegView("SOL-PERP", 4.0, 1.0)))
    assert asyncio.run(shape(one)) != asyncio.run(shape(other))


@pytest.mark.parametrize(
    ("hedge", "shown"),
    [((0.5, 0.25), False), ((None, None), False), ((0.0, 0.0), True)],
)
def test_the_hedges_own_delta_is_shown_where_it_is_another(
    hedge: tuple[float | None, float | None], shown: bool
) -> None:
    plan = make_confirmation(
        delta_before_pct=0.5,
        delta_after_pct=0.25,
        hedge_delta_before_pct=hedge[0],
        hedge_delta_after_pct=hedge[1],
    )
    text = text_of(consequences(plan))
    assert "delta           +0.50 %     +0.25 %" in text
    assert ("hedge delta      0.00 %      0.00 %" in text) is shown


# The question of a transfer


def test_a_transfer_is_shown_as_one() -> None:
    then = "automation will reduce short by 3 SOL after the cooldown"
    text = asked(make_transfer(size=300.0, then=then, hedge_delta_after_pct=-30.0))
    assert "amount      300.00 USDC" in text
    assert "worth       $300.00" in text
    assert "health               97          61   lower" in text
    assert "liquidation    412.5000    388.2500" in text
    assert "away" not in text, "the price of the transfer is its asset's, not the market's"
    assert "hedge delta      0.00 %    -30.00 %" in text
    assert f"afterwards  {then}" in text
    assert "✓ health 61  limit 60" in text
    for word in ("SOL-PERP", "break-even", "costs", "limit 0", "legs", "size"):
        assert word not in text, word


def test_a_transfer_of_the_markets_own_asset_says_how_far_the_liquidation_is() -> None:
    text = asked(make_transfer(asset="SOL", size=0.123456789))
    assert "amount      0.123456789 SOL" in text
    assert "388.2500   +105 % away" in text


def test_a_refused_transfer_cannot_be_forced() -> None:
    verdict = Verdict("withdraw_health", VerdictStatus.BLOCKED, "41", ">= 80")
    text = asked(make_transfer(allowed=False, verdicts=(verdict,)))
    assert "✕ health after  41       >= 80" in text
    assert "refused by its gates" in text


def test_titles() -> None:
    assert title(make_transfer(), "live") == "Withdraw USDC · LIVE"
    assert title(make_transfer("DEPOSIT", "SOL", 2.0), "replay") == "Deposit SOL · REPLAY"
    assert title(losses(), "paper") == "Forget losses · PAPER"


async def test_a_transfer_above_the_threshold_is_confirmed_in_its_own_dialog() -> None:
    engine = FakeEngine()
    waits = CommandResult(ResultStatus.NEEDS_CONFIRMATION, "CONFIRM", "confirm withdraw of 300 USDC", "op-0007")
    engine.answer = lambda command: waits if isinstance(command, Withdraw) else CommandResult(ResultStatus.DONE, "", "")
    async with terminal(engine) as t:
        await t.press("w", *"300")
        await t.wait(0.5)
        engine.publish(confirmations=(make_transfer(),))
        await t.press("enter")
        await t.settle()
        assert isinstance(t.app.screen, ConfirmDialog)
        assert not any(isinstance(screen, TransferDialog) and not screen.over for screen in t.app.screen_stack)
        await t.wait(0.5)
        await t.press("y")
        assert [type(sent).__name__ for sent in engine.commands] == ["Withdraw", "Confirm"]
        await t.publish(confirmations=())
        await t.settle()
        assert isinstance(t.app.screen, MainScreen)


@pytest.mark.parametrize(("kind", "typed"), [("WITHDRAW", True), ("DEPOSIT", False)])
async def test_what_leaves_a_live_account_in_a_large_sum_needs_its_asset_typed(kind: str, typed: bool) -> None:
    base = make_snapshot(confirmations=(make_transfer(kind),))
    live = replace(base, engine=replace(base.engine, mode="live", live_mode="trade", typed_above_usd=200.0))
    async with terminal(FakeEngine(live)) as t:
        await t.wait(0.5)
        await t.press("y")
        assert (len(t.engine.commands) == 0) is typed
        if typed:
            assert "type USDC first" in t.text()


# The transfer while it is typed


async def test_the_amount_is_judged_while_it_is_typed() -> None:
    async with terminal(size=(80, 24)) as t:
        await t.press("w")
        assert t.engine.previews == [], "an empty field asks nothing"
        assert "health …" in " ".join(t.text().split()).replace("… …", "…")
        await t.press(*"30")
        await t.wait(0.3)
        assert t.engine.previews[-1] == Withdraw(asset="USDC", amount=30_000_000)
        text = t.text()
        assert "health               97          61   lower" in text
        assert "hedge delta" in text
        assert "✓ 2 gates ok" in text
        await t.press("a", "2")
        await t.wait(0.3)
        assert t.engine.previews[-1] == Withdraw(asset="SOL", amount=2_000_000_000)
    async with terminal() as t:
        await t.press("d", *"7")
        await t.wait(0.3)
        assert t.engine.previews[-1] == Deposit(asset="USDC", amount=7_000_000)


async def test_what_speaks_against_an_amount_is_said_before_it_is_sent() -> None:
    def plan(command: object) -> PlanView:
        raise ValidationError("UNRESOLVED_OPEN", "an operation is unresolved")

    engine = FakeEngine()
    engine.plan = plan
    async with terminal(engine) as t:
        await t.press("w", "5")
        await t.wait(0.3)
        assert "an operation is unresolved" in t.text()
        assert engine.commands == []


# The losses


def losses() -> ConfirmationView:
    question = "forget the day's loss and the peak, and count both from the present equity? the day lost 120.00"
    return make_confirmation(
        kind="FORGET_LOSSES", side="", size=0.0, notional=0.0, price=0.0, question=question, legs=(), verdicts=(),
        allowed=True, can_force=False, loss_if_forced=None,
    )  # fmt: skip


def test_a_question_that_moves_nothing_is_only_its_words() -> None:
    text = asked(losses())
    assert "the day lost 120.00" in " ".join(text.split())
    for word in ("notional", "health", "delta", "SOL", "legs", "0.00x"):
        assert word not in text, word


async def test_forgetting_the_losses_asks_and_is_confirmed() -> None:
    engine = FakeEngine()
    waits = CommandResult(ResultStatus.NEEDS_CONFIRMATION, "CONFIRM", "confirm forgetting the losses", "op-0007")
    engine.answer = lambda command: (
        waits if isinstance(command, ForgetLosses) else CommandResult(ResultStatus.DONE, "", "losses forgotten")
    )
    async with terminal(engine) as t:
        engine.publish(confirmations=(losses(),))
        await t.press("ctrl+g")
        assert isinstance(t.app.screen, ConfirmDialog)
        await t.wait(0.5)
        await t.press("y")
        assert [type(sent) for sent in engine.commands] == [ForgetLosses, Confirm]


async def test_a_resume_that_a_loss_limit_refuses_says_when_it_lifts() -> None:
    engine = FakeEngine(replace(make_snapshot(), engine=replace(make_snapshot().engine, state="REDUCING")))
    why = "not resumed: lost 120.00 today, the limit is 100; lifts at 00:00Z, or forget the losses"
    engine.answer = lambda command: CommandResult(ResultStatus.REJECTED, "LOSS_LIMIT", why)
    async with terminal(engine) as t:
        await t.press("p")
        assert any(why in toast for toast in t.toasts())


# Answers


async def told(result: CommandResult, key: str = "l") -> tuple[list[str], list[str], list[float]]:
    """The toasts of a leave that is answered so, their severities and how long they stay."""
    engine = FakeEngine()
    engine.answer = lambda command: result
    async with terminal(engine) as t:
        await t.press(key)
        notes = list(t.app._notifications)
        return t.toasts(), [note.severity for note in notes], [note.timeout for note in notes]


async def test_what_is_partly_done_names_every_leg_and_stays() -> None:
    message = "leave partly done: bought 3 SOL-PERP, sold 5 SOL; not filled: 2 of 5 SOL-PERP"
    parts = (LegPart("SOL-PERP", "perp", 5.0, 3.0, 2.0), LegPart("SOL", "spot", -5.0, -5.0, 0.0))
    result = CommandResult(ResultStatus.PARTLY_DONE, "PARTIAL", message, "op-1", parts=parts)
    toasts, severities, timeouts = await told(result)
    assert toasts == [f"{message}\n  SOL-PERP: bought 3 of 5, 2 open\n  SOL: sold 5 of 5"]
    assert severities == ["warning"]
    assert timeouts == [30.0]


@pytest.mark.parametrize("code", ["OVERTAKEN", "CANCELLED", "KILLED"])
async def test_a_question_that_ended_is_no_failure(code: str) -> None:
    toasts, severities, _ = await told(CommandResult(ResultStatus.REJECTED, code, "nothing was done", "op-1"))
    assert toasts == [f"leave SOL-PERP {code.lower()}: nothing was done"]
    assert severities == ["warning"]


@pytest.mark.parametrize(
    ("code", "message"),
    [("INTENT_USED", "intent x was a take"), ("EXPIRED", "leave failed: its blockhash expired, it can never land")],
)
async def test_what_was_refused_or_failed_is_an_error(code: str, message: str) -> None:
    toasts, severities, _ = await told(CommandResult(ResultStatus.REJECTED, code, message))
    assert toasts == [f"leave SOL-PERP rejected: {message}"]
    assert severities == ["error"]


def ended(kind: str, text: str) -> Event:
    return Event(kind, Level.INFO, text, MARKET_S, OPERATOR_S, "op-0007")


@pytest.mark.parametrize("late", [False, True])
async def test_the_end_of_a_question_is_told_in_the_engines_words(late: bool) -> None:
    event = ended("confirmation_expired", "not confirmed in time, nothing was done")
    async with terminal(FakeEngine(make_snapshot(confirmations=(make_transfer(),)))) as t:
        if not late:
            t.engine.events(event)
        await t.publish(confirmations=())
        if late:
            assert t.toasts() == []
            t.engine.events(event)
            await t.settle()
        assert t.toasts() == ["withdraw USDC: not confirmed in time, nothing was done"]
        await t.wait(5.0)
        assert len(t.toasts()) == 1


async def test_a_question_that_comes_back_has_not_ended() -> None:
    async with terminal(FakeEngine(make_snapshot(confirmations=(make_transfer(),)))) as t:
        await t.publish(confirmations=())
        await t.publish(confirmations=(make_transfer(),))
        assert isinstance(t.app.screen, ConfirmDialog)
        await t.wait(2.0)
        assert t.toasts() == []


# Where the spot comes from


LIMITS = ActionView(
    "TAKE", True, "", 0.01, 100.0, 0.01, sources=(SourceView("wallet", 2.5), SourceView("deposited", 4.0))
)


def test_sources_are_those_that_have_some_and_fit_the_direction() -> None:
    assert sources(LIMITS, Direction.CARRY) == {SpotSource.BUY: None, SpotSource.WALLET: 2.5, SpotSource.DEPOSITED: 4.0}
    assert sources(LIMITS, Direction.REVERSE) == {SpotSource.BUY: None}
    unknown = replace(LIMITS, sources=(SourceView("borrowed", 1.0),))
    assert sources(unknown, Direction.CARRY) == {SpotSource.BUY: None}


def with_sources(*views: SourceView) -> FakeEngine:
    return offering("TAKE", sources=views)


async def test_without_a_choice_the_dialog_has_no_line_for_it() -> None:
    async with terminal(FakeEngine(make_snapshot())) as t:
        await t.press("t")
        assert "s changes it" not in t.text()
        await t.press("s")
        assert isinstance(t.app.screen, TakeDialog)
        assert t.app.screen.spot is SpotSource.BUY


async def test_spot_from_the_wallet_is_previewed_and_sent() -> None:
    async with terminal(with_sources(SourceView("wallet", 2.5)), size=(80, 24)) as t:
        await t.press("t")
        assert "spot        buy   in the market" in t.text()
        await t.press("s", *"2.5")
        await t.wait(0.5)
        text = t.text()
        assert "spot        wallet   2.5 SOL in the wallet" in text
        assert "buy spot" not in text
        assert t.engine.previews[-1] == Take(market="SOL-PERP", base_1e9=2_500_000_000, spot=SpotSource.WALLET)
        await t.press("enter")
        (sent,) = t.engine.commands
        assert isinstance(sent, Take)
        assert (sent.spot, sent.base_1e9) == (SpotSource.WALLET, 2_500_000_000)


async def test_more_than_the_source_has_is_not_sent() -> None:
    async with terminal(with_sources(SourceView("wallet", 2.5))) as t:
        await t.press("t", "s", *"2.51")
        await t.wait(0.5)
        await t.press("enter")
        assert t.engine.commands == []
        assert "only 2.5 SOL are in the wallet" in t.text()
        await t.publish_detail(actions=make_detail().actions)
        assert "nothing is in the wallet any more; s chooses another source" in t.text()
        await t.press("enter")
        assert t.engine.commands == []


async def test_a_reverse_has_no_source() -> None:
    async with terminal(with_sources(SourceView("wallet", 2.5))) as t:
        await t.press("t", "s", "d")
        await t.wait(0.5)
        await t.press("enter")
        (sent,) = t.engine.commands
        assert isinstance(sent, Take)
        assert (sent.direction, sent.spot) == (Direction.REVERSE, SpotSource.BUY)


# Panes


def test_a_foreign_position_is_marked_with_more_than_a_colour() -> None:
    ours = make_snapshot().positions[0]
    foreign = replace(ours, key="BTC-PERP", market="BTC-PERP", foreign=True)
    assert position_row(ours).cells["side"] == "short"
    cell = position_row(foreign).cells["side"]
    assert not isinstance(cell, str)
    assert cell.text == f"short{FOREIGN}"


@pytest.mark.parametrize("size", [(80, 24), (120, 35), (160, 48)])
async def test_the_mark_of_a_foreign_position_is_explained_on_every_screen(size: tuple[int, int]) -> None:
    base = make_snapshot()
    async with terminal(FakeEngine(base), size=size) as t:
        assert "not ours" not in t.text()
        foreign = replace(base.positions[0], key="BTC-PERP", market="BTC-PERP", foreign=True)
        await t.publish(positions=(*base.positions, foreign))
        assert "* not ours, left alone" in t.text()
        assert "short*" in t.text()


def test_settled_and_total_are_said_where_the_table_has_no_room() -> None:
    text = text_of(hidden_lines(make_snapshot().positions, 76, 200))
    assert "settled -31.24  total PnL -12.34" in text


def shown(snapshot: Snapshot) -> Shown:
    return Shown(snapshot, "SOL-PERP", snapshot.hedge("SOL-PERP"), make_detail())


def test_the_account_says_what_is_unsettled() -> None:
    snapshot = make_snapshot()
    for cells in (36, 38, 60):
        assert "+18.90" in text_of(account_lines(shown(snapshot), cells)), cells
    details = text_of(account_details(snapshot))
    for words in ("settled PnL               -31.24", "unsettled PnL             +18.90", "total PnL"):
        assert words in details
    flat = replace(make_hedge("SOL-PERP").carry, stance="FLAT", decision="FLAT", expected_per_hour=None)
    account = replace(snapshot.account, unsettled_pnl=-310.0)
    closed = with_hedge(replace(snapshot, positions=(), account=account), carry=flat)
    assert "unsettled -310.00" in text_of(small_lines(shown(closed), 76)), (
        "after a losing leave it must not be invisible"
    )


def test_what_is_not_known_is_not_zero() -> None:
    snapshot = make_snapshot()
    account = replace(snapshot.account, settled_pnl=None, unsettled_pnl=None, total_pnl=None)
    unknown = VaultView(None, None, None, None, None)
    details = text_of(account_details(replace(snapshot, account=account, vault=unknown)))
    for name in ("settled PnL", "unsettled PnL", "total PnL", "available", "deployed", "realised funding"):
        line = next(line for line in details.splitlines() if line.startswith(name))
        assert "n/a" in line
        assert "0.00" not in line


def delta(**changes: Any) -> str:
    return text_of(delta_lines(replace(make_hedge("SOL-PERP").delta, **changes), "SOL", 38))


def test_the_hedges_delta_has_words_of_its_own_where_it_is_another() -> None:
    same = delta(hedge_spot=10.0, hedge_net=0.05, hedge_drift_pct=0.5)
    assert same.startswith("net +0.0500 SOL  +0.50 %  neutral")
    assert same == delta()
    other = delta(net=3.05, drift_pct=18.0, hedge_spot=10.0, hedge_net=0.05, hedge_drift_pct=0.5)
    first, second, band, *_ = other.splitlines()
    assert first == "account +3.0500 SOL  +18.00 %"
    assert second == "hedge +0.0500 SOL  +0.50 %  neutral"
    assert "●" in band, "inside the tolerance: the band is the hedge's"
    drifted = delta(net=0.0, drift_pct=0.0, hedge_net=0.5, hedge_drift_pct=5.0)
    assert "hedge +0.5000 SOL  +5.00 %  OFF" in drifted


def test_the_small_screen_says_both_deltas() -> None:
    delta = replace(make_hedge("SOL-PERP").delta, drift_pct=18.0, net=3.0, hedge_net=0.0, hedge_drift_pct=0.0)
    assert "delta +18.00 % hedge 0.00 % ok" in text_of(small_lines(shown(with_hedge(make_snapshot(), delta=delta)), 76))


def test_a_write_off_is_a_source_of_its_own() -> None:
    base = make_snapshot()
    assert "written off" not in text_of(attribution_lines(base, 80))
    snapshot = replace(base, attribution=replace(base.attribution, write_offs=18_366.0))
    assert "written off             +18,366.00" in text_of(attribution_lines(snapshot, 80))


def test_perps_of_unknown_worth_are_not_worth_nothing() -> None:
    base = make_snapshot()
    unknown = replace(base, attribution=replace(base.attribution, unrealized_perp=None, gap=None))
    line = next(line for line in text_of(attribution_lines(unknown, 80)).splitlines() if line.startswith("perp"))
    assert line.split() == ["perp,", "unrealised", "n/a"]
    assert "perp n/a" in text_of(totals_lines(unknown, 80, 2))


async def test_a_standing_alert_shows_its_new_figures() -> None:
    alert = AlertView("health@1", "CRITICAL", "health 11, liquidation at 767.79", OPERATOR_S)
    async with terminal(FakeEngine(make_snapshot(alerts=(alert,)))) as t:
        assert "health 11, liquidation at 767.79" in t.text()
        await t.publish(alerts=(replace(alert, message="health 5, liquidation at 767.79"),))
        text = t.text()
        assert "health 5, liquidation at 767.79" in text
        assert "health 11" not in text
        await t.press("x")
        await t.publish(alerts=(replace(alert, message="health 1, liquidation at 767.79"),))
        assert "health 1," not in t.text(), "dismissed, and not raised anew"


# Powers


@pytest.mark.parametrize(("live_mode", "may"), [("watch", False), ("manage", False), ("trade", True), ("auto", True)])
async def test_a_kill_does_not_ask_for_a_flatten_that_the_mode_refuses(live_mode: str, may: bool) -> None:
    base = make_snapshot()
    live = replace(base, engine=replace(base.engine, mode="live", live_mode=live_mode))
    async with terminal(FakeEngine(live)) as t:
        await t.press("exclamation_mark")
        await t.wait(0.5)
        assert (f"refused in live mode {live_mode}" in t.text()) is not may
        await t.press("f")
        await t.wait(0.5)
        await t.press("y")
        (sent,) = t.engine.commands
        assert isinstance(sent, Kill)
        assert sent.flatten is may


async def test_what_the_mode_does_not_allow_is_refused_in_the_engines_words() -> None:
    why = "live mode watch does not allow take; it needs live_mode trade"
    async with terminal(offering("TAKE", enabled=False, reason=why)) as t:
        await t.press("t")
        assert t.toasts() == [f"take: {why}"]
        assert t.engine.commands == []
