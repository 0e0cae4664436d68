"""Who may do what, and what happens to a question: powers of live modes, intents, words that are no words."""

from __future__ import annotations

import msgspec
import pytest
from engine_harness import SOL, USD, World, deposit, held, leave, rebalance, take, withdraw, world

from deltatui.domain.carry import Stance
from deltatui.domain.command import (
    AnyCommand,
    Cancel,
    Confirm,
    Deposit,
    ForgetLosses,
    Kill,
    Pause,
    ResultStatus,
    Resume,
    SetAutomation,
    Settle,
    Take,
)
from deltatui.domain.costs import DRIFT_FEES, DRIFT_SLIPPAGE, NO_FEES, NO_SLIPPAGE, CostModel
from deltatui.domain.errors import ValidationError
from deltatui.venues.paper.settings import SOL_PERP

DONE, REJECTED = ResultStatus.DONE, ResultStatus.REJECTED


# Words


async def test_a_plain_word_means_what_it_says() -> None:
    async with world() as w:
        assert (await w.sure(Take(market="SOL-PERP", base_1e9=5 * SOL, direction="carry"))).status is DONE  # type: ignore[arg-type]
        assert held(w) is Stance.CARRY
    with pytest.raises(ValidationError, match="it must be one of carry, reverse"):
        Take(market="SOL-PERP", base_1e9=SOL, direction="long")  # type: ignore[arg-type]


# Powers

ALWAYS: list[AnyCommand] = [Pause(), Resume(), Kill(), SetAutomation(on=False)]
MANAGE: list[AnyCommand] = [deposit(5 * USD), withdraw(5 * USD), Settle(market="SOL-PERP")]
TRADE: list[AnyCommand] = [take(1), leave(), rebalance(), Kill(flatten=True), ForgetLosses()]
AUTO: list[AnyCommand] = [SetAutomation(on=True)]


@pytest.mark.parametrize(
    ("mode", "refused"),
    [
        ("watch", [*MANAGE, *TRADE, *AUTO]),
        ("manage", [*TRADE, *AUTO]),
        ("trade", AUTO),
        ("auto", []),
    ],
)
async def test_a_live_mode_has_its_powers_and_no_more(mode: str, refused: list[AnyCommand]) -> None:
    for command in [*ALWAYS, *MANAGE, *TRADE, *AUTO]:
        async with world(mode="live", live_mode=mode) as w:
            result = await w.give(command)
            assert (result.code == "NO_POWER") is (command in refused), (command, result)
            if result.code == "NO_POWER":
                assert f"live mode {mode} does not allow" in result.message
                assert w.legs == (0, 0)


async def test_watch_is_the_default_of_live_and_the_snapshot_says_why() -> None:
    async with world(mode="live") as w:
        assert (await w.give(take(1))).code == "NO_POWER"
        action = next(a for a in w.snapshot().actions if a.action == "TAKE")
        assert action.reason == "live mode watch does not allow take; it needs live_mode trade"
        with pytest.raises(ValidationError, match="needs live_mode trade"):
            w.preview(take(1))
        assert (await w.give(Kill())).status is DONE


@pytest.mark.parametrize("mode", ["watch", "manage", "trade"])
async def test_below_auto_the_engine_does_nothing_by_itself(mode: str) -> None:
    async with world(mode="live", live_mode=mode, automation=True) as w:
        await w.records(12, 100)
        assert await w.outcomes() == []


@pytest.mark.parametrize("mode", ["paper", "replay"])
async def test_paper_and_replay_have_every_power(mode: str) -> None:
    async with world(mode=mode, automation=True) as w:
        assert held(w) is Stance.CARRY


# Costs


async def test_costs_are_those_of_now_everywhere() -> None:
    async with world() as w:
        cheap = w.preview(take(5))
        settings = w.venue._settings
        dear = CostModel(
            msgspec.structs.replace(DRIFT_FEES, perp_taker_1e5=DRIFT_FEES.perp_taker_1e5 * 2), DRIFT_SLIPPAGE
        )
        w.venue._settings = msgspec.structs.replace(settings, costs=dear)
        preview = w.preview(take(5))
        assert preview.fees > cheap.fees
        assert preview.round_trip > cheap.round_trip
        snapshot = w.snapshot()
        assert snapshot.carry.round_trip_cost == pytest.approx(preview.round_trip)
        assert snapshot.opportunities[0].entry_cost_bps == pytest.approx(w.hedge.round_trip().total * 1e4)
        w.venue._settings = msgspec.structs.replace(settings, costs=CostModel(NO_FEES, NO_SLIPPAGE))
        assert w.preview(take(5)).fees == 0


# Questions


async def asked_take(w: World, intent: str = "") -> str:
    asked = await w.give(take(5, intent_id=intent))
    assert asked.status is ResultStatus.NEEDS_CONFIRMATION
    return asked.operation_id


async def test_a_question_of_automation_never_stands_in_the_way_of_a_leave() -> None:
    async with world(auto_limit_usd=None) as w:
        await w.take(1)
        asked = await w.give(take(5, source="engine"))
        assert asked.status is ResultStatus.NEEDS_CONFIRMATION
        assert (await w.leave()).status is DONE
        assert w.legs == (0, 0)
        assert not w.core.pending


async def test_a_leave_overtakes_a_take_and_the_take_is_told_so() -> None:
    async with world() as w:
        await w.take(1)
        taken = await asked_take(w, "mine")
        result = await w.give(leave())
        assert [pending.operation_id for pending in w.core.pending.values()] == [result.operation_id]
        assert (await w.give(Confirm(operation_id=taken))).code == "NOT_PENDING"
        again = await w.give(take(5, intent_id="mine"))
        assert (again.status, again.code) == (REJECTED, "OVERTAKEN")
        # Two questions that both reduce, or both widen, still come one after the other.
        assert (await w.give(leave())).code == "CONFIRMATION_OPEN"
        assert (await w.give(take(1))).code == "CONFIRMATION_OPEN"


async def test_another_command_under_a_used_intent_is_refused_by_name() -> None:
    async with world() as w:
        first = await w.give(Deposit(asset="USDC", amount=10 * USD, intent_id="a"))
        assert await w.give(Deposit(asset="USDC", amount=10 * USD, intent_id="a")) == first
        wallet = w.account.wallet_quote
        more = await w.give(Deposit(asset="USDC", amount=11 * USD, intent_id="a"))
        assert (more.status, more.code) == (REJECTED, "INTENT_USED")
        other = await w.give(Pause(intent_id="a"))
        assert (other.status, other.code) == (REJECTED, "INTENT_USED")
        assert "intent a was a deposit, and this is a pause" in other.message
        assert w.state == "RUNNING"
        assert w.account.wallet_quote == wallet


async def test_a_kill_is_never_refused_for_its_intent() -> None:
    async with world() as w:
        await w.take(5)
        await w.give(Deposit(asset="USDC", amount=10 * USD, intent_id="a"))
        result = await w.give(Kill(intent_id="a"))
        assert (result.status, result.code) == (DONE, "KILLED")
        assert w.state == "HALTED"
        # The same again, now with flatten: it does what it says.
        assert (await w.give(Kill(intent_id="a", flatten=True))).status is DONE
        assert w.legs == (0, 0)


@pytest.mark.parametrize("end", ["expired", "cancelled", "killed"])
async def test_a_question_that_ended_ends_its_intent(end: str) -> None:
    async with world() as w:
        operation = await asked_take(w, "mine")
        if end == "expired":
            w.wait(31)
            await w.engine.tick()
        elif end == "cancelled":
            await w.give(Cancel(operation_id=operation))
        else:
            await w.give(Kill())
        again = await w.give(take(5, intent_id="mine"))
        assert (again.status, again.code) == (REJECTED, end.upper())
        assert again.intent_id == "mine"
        assert w.legs == (0, 0)
        assert not w.core.pending


async def test_the_intent_of_a_confirmed_question_is_still_one_question() -> None:
    async with world() as w:
        operation = await asked_take(w, "mine")
        assert (await w.give(Confirm(operation_id=operation))).status is DONE
        await w.give(take(5, intent_id="mine"))
        assert w.legs == (5, -5)


# A size that the market does not take


async def test_an_increase_below_the_markets_minimum_is_refused_by_its_size() -> None:
    async with world(wallet_sol=2) as w:
        assert (await w.take(5)).status is DONE
        assert (await w.sure(deposit(SOL, "SOL"))).status is DONE
        await w.change(spec=msgspec.structs.replace(SOL_PERP, min_base_1e9=3 * SOL))
        result = await w.sure(rebalance())
        assert (result.status, result.code) == (REJECTED, "BLOCKED")
        assert result.message == "blocked by size: 2 SOL-PERP is below the minimum of 3"
        # The same little less is no new risk.
        await w.change(spec=msgspec.structs.replace(SOL_PERP, min_base_1e9=30 * SOL))
        assert (await w.leave()).status is DONE
        assert w.legs == (1.0, 0.0)
