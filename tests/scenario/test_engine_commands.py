"""The one command path: asked, judged, confirmed, carried out, or refused with a reason and nothing changed."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import msgspec
import pytest
from engine_harness import (
    BOTH,
    SOL,
    USD,
    blocked_by,
    deposit,
    leave,
    quiet,
    rate_of,
    rebalance,
    take,
    verdicts_of,
    withdraw,
    world,
)

from deltatui.domain.command import (
    AnyCommand,
    Cancel,
    Confirm,
    Direction,
    Kill,
    Leave,
    Pause,
    Rebalance,
    ResultStatus,
    Resume,
    SetAutomation,
    SetSpeed,
    Settle,
    Stop,
    Take,
)
from deltatui.domain.errors import CriticalError, ValidationError
from deltatui.domain.gates import GateLimits
from deltatui.engine.engine import Engine
from deltatui.engine.states import ACCEPTS, TRANSITIONS, EngineState, check_transition, refusal

REJECTED, DONE, ASKS = ResultStatus.REJECTED, ResultStatus.DONE, ResultStatus.NEEDS_CONFIRMATION


# Confirmation (R7)


async def test_a_take_above_the_threshold_asks_and_is_done_when_confirmed() -> None:
    async with world() as w:
        result = await w.give(take(5))
        assert result.status is ASKS
        assert w.legs == (0.0, 0.0)
        view = w.snapshot().confirmation
        assert view is not None
        assert (view.kind, view.size, view.allowed, view.source) == ("TAKE", 5.0, True, "operator")
        assert view.expires_operator_s == view.created_operator_s + 30
        result = await w.confirm(result)
        assert result.status is DONE
        assert w.legs == (5.0, -5.0)
        assert w.snapshot().confirmation is None
        await w.check()


async def test_a_small_take_does_not_ask_and_every_leave_does() -> None:
    async with world() as w:
        assert (await w.give(take(0.5))).status is DONE
        assert w.legs == (0.5, -0.5)
        assert (await w.give(leave())).status is ASKS


@pytest.mark.parametrize(("waited", "code"), [(29.9, "DONE"), (30.0, "EXPIRED"), (31.0, "EXPIRED")])
async def test_a_confirmation_counts_for_30_seconds(waited: float, code: str) -> None:
    async with world() as w:
        asked = await w.give(take(5))
        w.wait(waited)
        result = await w.confirm(asked)
        assert result.code == code
        assert w.legs == ((5.0, -5.0) if code == "DONE" else (0.0, 0.0))


async def test_an_open_confirmation_closes_itself() -> None:
    async with world() as w:
        asked = await w.give(take(5))
        w.wait(29.9)
        await w.engine.tick()
        assert w.snapshot().confirmation is not None
        w.wait(0.2)
        await w.engine.tick()
        assert w.snapshot().confirmation is None
        assert w.kinds()[-1] == "confirmation_expired"
        assert (await w.confirm(asked)).code == "NOT_PENDING"
        assert (await w.give(take(5))).status is ASKS


async def test_cancel() -> None:
    async with world() as w:
        asked = await w.give(take(5))
        assert (await w.give(Cancel(operation_id="another"))).code == "NOT_PENDING"
        assert (await w.give(Cancel(operation_id=asked.operation_id))).status is DONE
        assert (await w.confirm(asked)).code == "NOT_PENDING"
        assert (await w.give(Cancel(operation_id=asked.operation_id))).code == "NOT_PENDING"
        assert w.legs == (0.0, 0.0)
        assert await w.outcomes() == []
        assert "order_cancelled" in w.kinds()


async def test_a_second_trade_waits_for_the_answer_to_the_first() -> None:
    async with world() as w:
        await w.give(take(5))
        assert (await w.give(take(1))).code == "CONFIRMATION_OPEN"
        # What asks for no confirmation may still happen.
        assert (await w.sure(deposit(10 * USD))).status is DONE


async def test_a_confirmation_of_something_else_leaves_the_question_open() -> None:
    async with world() as w:
        asked = await w.give(take(5))
        assert (await w.give(Confirm(operation_id="another"))).code == "NOT_PENDING"
        assert (await w.confirm(asked)).status is DONE


async def test_a_confirmed_trade_is_judged_again() -> None:
    """Between question and answer the market went against it."""
    async with world(confirm_timeout_s=1e6) as w:
        asked = await w.give(take(5))
        assert blocked_by(asked) == []
        for _ in range(24):
            await w.record(rate_of(-300))
        result = await w.confirm(asked)
        assert result.status is REJECTED
        assert blocked_by(result) == ["profitability"]
        assert w.legs == (0.0, 0.0)


async def test_force_takes_what_does_not_pay_and_nothing_else() -> None:
    async with world(apr_pct=-100.0) as w:
        asked = await w.give(take(5))
        assert blocked_by(asked) == ["profitability"]
        view = w.snapshot().confirmation
        assert view is not None
        assert view.can_force
        assert not view.allowed
        assert view.loss_if_forced is not None
        assert view.loss_if_forced > 0
        result = await w.confirm(asked)
        assert result.code == "BLOCKED"
        asked = await w.give(take(5))
        assert (await w.confirm(asked, force=True)).status is DONE
        assert w.legs == (5.0, -5.0)


async def test_force_is_no_help_against_leverage_or_in_live_mode() -> None:
    async with world(opening=100, limits=GateLimits(max_leverage=2.0)) as w:
        result = await w.give(take(50))
        assert result.status is REJECTED
        assert "leverage" in blocked_by(result)
    async with world(apr_pct=-100.0, mode="live", live_mode="trade") as w:
        result = await w.give(take(5))
        assert result.status is REJECTED
        assert blocked_by(result) == ["profitability"]
        assert not w.core.pending


async def test_a_small_take_that_does_not_pay_may_be_forced_too_but_never_by_the_engine() -> None:
    async with world(apr_pct=-100.0) as w:
        asked = await w.give(take(0.5))
        assert (asked.code, blocked_by(asked)) == ("CONFIRM", ["profitability"])
        assert (await w.confirm(asked)).code == "BLOCKED"
        own = await w.give(Take(market="SOL-PERP", base_1e9=5 * 10**8, source="engine"))
        assert (own.status, blocked_by(own)) == (REJECTED, ["profitability"])
        asked = await w.give(take(0.5))
        assert (await w.confirm(asked, force=True)).status is DONE
        assert w.legs == (0.5, -0.5)


# One intent, one order


async def test_two_confirmations_are_one_order() -> None:
    async with world() as w:
        asked = await w.give(take(5))
        both = await asyncio.gather(
            w.give(Confirm(operation_id=asked.operation_id, intent_id="enter-1")),
            w.give(Confirm(operation_id=asked.operation_id, intent_id="enter-2")),
        )
        assert sorted(result.code for result in both) == ["DONE", "NOT_PENDING"]
        assert w.legs == (5.0, -5.0)


async def test_the_same_intent_twice_is_one_order_with_one_answer() -> None:
    async with world() as w:
        first, second = await asyncio.gather(w.give(take(0.5, intent_id="press")), w.give(take(0.5, intent_id="press")))
        third = await w.give(take(0.5, intent_id="press"))
        assert first == second == third
        assert first.status is DONE
        assert first.intent_id == "press"
        assert w.legs == (0.5, -0.5)
        assert (await w.give(take(0.5, intent_id="press again"))).status is DONE
        assert w.legs == (1.0, -1.0)


async def test_the_same_intent_after_a_restart_is_refused() -> None:
    async with world() as w:
        await w.give(take(0.5, intent_id="press"))
        await w.restart()
        result = await w.give(take(0.5, intent_id="press"))
        assert result.code == "SAME_INTENT"
        assert w.legs == (0.5, -0.5)


async def test_the_same_intent_of_a_question_is_one_question() -> None:
    async with world() as w:
        asked = await w.give(take(5, intent_id="press"))
        assert await w.give(take(5, intent_id="press")) == asked
        answer = await w.confirm(asked)
        assert answer.status is DONE
        assert (await w.give(take(5, intent_id="press"))).parts == answer.parts
        assert w.legs == (5.0, -5.0)


# What the operator saw (R13.10)


async def test_a_snapshot_that_is_too_old_or_unknown_is_refused() -> None:
    async with world() as w:
        version = w.snapshot().version
        assert (await w.give(take(0.5, snapshot_version=version))).status is DONE
        assert (await w.give(take(0.5, snapshot_version=version))).code == "POSITION_CHANGED"
        version = w.snapshot().version
        w.wait(10.5)
        assert (await w.give(take(0.5, snapshot_version=version))).code == "STALE_SNAPSHOT"
        assert (await w.give(take(0.5, snapshot_version=version + 100))).code == "STALE_SNAPSHOT"
        assert (await w.give(take(0.5, snapshot_version=w.snapshot().version))).status is DONE


async def test_the_position_changed_while_the_dialog_was_open() -> None:
    async with world() as w:
        await w.give(take(0.5))
        asked = await w.give(leave())
        # Another client, or the exchange itself, was quicker.
        pending = dict(w.core.pending)
        w.core.pending.clear()
        await w.give(take(0.3))
        w.core.pending.update(pending)
        result = await w.confirm(asked)
        assert result.code == "POSITION_CHANGED"
        assert not w.core.pending
        assert w.legs == (0.8, -0.8)


async def test_a_leave_takes_the_size_of_the_moment() -> None:
    """R4.5: what the dialog showed may be a minute old, the close is computed anew."""
    async with world(confirm_timeout_s=1e6) as w:
        await w.take(5, Direction.REVERSE)
        asked = await w.give(leave())
        await w.record(rate_of(-50))
        result = await w.confirm(asked)
        assert result.status is DONE
        assert w.account.spot_1e9 == 0
        assert w.account.perp_1e9 == 0


# Refusals


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (Take(market="DOGE-PERP", base_1e9=SOL), "UNKNOWN_MARKET"),
        (Leave(market="DOGE-PERP"), "UNKNOWN_MARKET"),
        (Rebalance(market=""), "UNKNOWN_MARKET"),
        (Settle(market="sol-perp"), "UNKNOWN_MARKET"),
        (take(0.001), "SIZE_TOO_SMALL"),
        (take(0), "SIZE_TOO_SMALL"),
        (take(-1), "SIZE_TOO_SMALL"),
        (leave(), "NOTHING_TO_LEAVE"),
        (rebalance(), "NOTHING_TO_REBALANCE"),
        (Settle(market="SOL-PERP"), "NOTHING_TO_SETTLE"),
        (deposit(0), "BAD_AMOUNT"),
        (deposit(-5), "BAD_AMOUNT"),
        (withdraw(0), "BAD_AMOUNT"),
        (deposit(5, "DOGE"), "UNKNOWN_ASSET"),
        (withdraw(5, "usdc"), "UNKNOWN_ASSET"),
        (deposit(1001 * USD), "WALLET_TOO_SMALL"),
        (deposit(1, "SOL"), "WALLET_TOO_SMALL"),
        (withdraw(3001 * USD), "BLOCKED"),
        (withdraw(1, "SOL"), "InsufficientDeposit"),
        (SetSpeed(speed=0), "BAD_SPEED"),
        (SetSpeed(speed=1_000_001), "BAD_SPEED"),
        (Confirm(operation_id="o1"), "NOT_PENDING"),
        (Cancel(operation_id=""), "NOT_PENDING"),
        (Resume(), "NOT_ACCEPTED"),
    ],
)
async def test_what_cannot_be_done_is_said_and_changes_nothing(command: AnyCommand, code: str) -> None:
    async with world() as w:
        before, memory = w.account, w.hedge.memory
        result = await w.give(command)
        assert result.status is REJECTED
        assert result.code == code
        assert len(result.message) > 10
        assert not result.success
        assert w.account == before
        assert w.hedge.memory.held_by == memory.held_by
        assert all(state == "FAILED" for _, state in await w.outcomes())
        assert w.state == "RUNNING"


async def test_the_other_direction_needs_a_leave_first() -> None:
    async with world() as w:
        await w.take(5)
        result = await w.give(take(1, Direction.REVERSE))
        assert result.code == "OTHER_STANCE"
        assert "CARRY" in result.message


async def test_a_market_that_the_exchange_does_not_list_cannot_be_traded_at_all() -> None:
    async with world() as w:
        settings = msgspec.structs.replace(w.settings, markets=BOTH)
        with pytest.raises(ValidationError, match=r"paper does not list BTC-PERP; it lists SOL-PERP"):
            Engine(settings, w.clock, w.venue, w.sender, w.store)


async def test_a_paused_market_refuses_everything() -> None:
    async with world() as w:
        await w.take(5)
        await w.change(paused="the oracle is being repaired")
        for command in (take(1), leave()):
            result = await w.give(command)
            assert (result.status, result.code) == (REJECTED, "VENUE_PAUSED")
            assert result.message == "SOL-PERP is paused: the oracle is being repaired"
        result = await w.give(Kill(flatten=True))
        assert (result.status, result.code) == (REJECTED, "VENUE_PAUSED")
        assert w.legs == (5.0, -5.0)
        assert w.state == "HALTED"


async def test_before_the_first_price_nothing_is_known() -> None:
    async with world(primed=0, priced=False) as w:
        assert (await w.give(take(5))).code == "NO_ACCOUNT"
        snapshot = w.snapshot()
        assert snapshot.account.health is None
        assert snapshot.account.reason
        assert snapshot.prices.oracle is None
        assert snapshot.delta.net is None
        assert snapshot.gates == ()
        assert not next(a for a in snapshot.actions if a.action == "TAKE").enabled
        result = await w.give(Kill(flatten=True))
        # Halted it is; that it is flat as well nobody can say.
        assert result.status is REJECTED
        assert result.message.startswith("halted, but closing failed: the venue has not told")
        assert w.state == "HALTED"


async def test_too_few_records_block_as_unknown() -> None:
    async with world(primed=5) as w:
        asked = await w.give(take(5))
        assert verdicts_of(asked)["profitability"] == "unknown"
        assert asked.code == "BLOCKED"  # there is no expected loss that forcing could accept


async def test_an_old_funding_record_blocks_new_risk_and_not_a_leave() -> None:
    async with world() as w:
        await w.take(5)
        await w.to_price("150", after_s=7201)
        result = await w.give(take(1))
        assert result.status is REJECTED
        assert blocked_by(result) == ["funding_age"]
        assert (await w.leave()).status is DONE


async def test_ten_position_operations_a_minute() -> None:
    async with world() as w:
        for _ in range(10):
            assert (await w.give(take(0.1))).status is DONE
        result = await w.give(take(0.1))
        assert blocked_by(result) == ["rate"]
        assert (await w.leave()).status is DONE
        w.wait(60)
        assert (await w.give(take(0.1))).status is DONE


# Control


async def test_a_kill_halts_at_once_and_says_why() -> None:
    async with world(automation=True) as w:
        asked = await w.give(take(1))
        result = await w.give(Kill(reason="fat finger"))
        assert result.status is DONE
        assert w.state == "HALTED"
        assert not w.core.pending
        assert not w.core.memory.automation
        assert w.core.state_reason == "kill switch: fat finger"
        assert w.kinds().count("kill_switch") == 1
        assert [a.message for a in w.snapshot().alerts] == ["kill switch: fat finger"]
        assert (await w.confirm(asked)).code == "NOT_PENDING"
        assert (await w.give(take(1))).code == "NOT_ACCEPTED"
        assert w.legs == (5.0, -5.0)
        for _ in range(3):
            await w.record(rate_of(-500))
        assert w.legs == (5.0, -5.0)


async def test_a_kill_with_flatten_closes_everything_without_asking() -> None:
    async with world(automation=True) as w:
        result = await w.give(Kill(flatten=True, reason="enough"))
        assert result.status is DONE
        assert w.legs == (0.0, 0.0)
        assert w.state == "HALTED"
        again = await w.give(Kill(flatten=True, reason="sure"))
        assert again.status is DONE
        assert "no position" in again.message
        await w.check()


async def test_a_kill_during_a_running_operation() -> None:
    """The kill is answered while the order is on its way; the order ends in one known state, and flattening waits."""
    async with world() as w:
        asked = await w.give(take(5))
        arrived, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> None:
            arrived.set()
            await go_on.wait()

        w.sender.on_send = slow
        running = asyncio.create_task(w.confirm(asked))
        await arrived.wait()
        result = await w.give(Kill(reason="now"))
        assert result.status is DONE
        assert w.state == "HALTED"
        assert not running.done()
        flatten = asyncio.create_task(w.give(Kill(flatten=True, reason="all")))
        await quiet()
        waiting = asyncio.create_task(w.give(leave()))
        await quiet()
        assert not flatten.done()
        go_on.set()
        assert (await running).status is DONE
        assert (await flatten).status is DONE
        assert w.legs == (0.0, 0.0)
        assert (await waiting).code == "NOTHING_TO_LEAVE"
        assert w.state == "HALTED"
        await w.check()


async def test_a_kill_overtakes_what_is_signed_and_not_sent() -> None:
    async with world() as w:

        async def kill() -> None:
            assert (await w.give(Kill(reason="stop that"))).status is DONE

        w.sender.on_sign = kill
        result = await w.take(5)
        assert (result.status, result.code) == (REJECTED, "STOPPED")
        assert w.sender.sent == []
        assert w.account.perp_1e9 == 0
        assert w.state == "HALTED"
        await w.check()


async def test_what_closes_is_not_stopped_by_a_kill() -> None:
    async with world() as w:
        await w.take(5)

        async def kill() -> None:
            w.sender.on_sign = None
            assert (await w.give(Kill(reason="stop that"))).status is DONE

        w.sender.on_sign = kill
        assert (await w.leave()).status is DONE
        assert w.account.perp_1e9 == 0
        assert w.state == "HALTED"
        await w.check()


async def test_nothing_trades_while_an_operation_is_unresolved() -> None:
    async with world() as w:
        await w.take(5)
        w.sender.mute = True
        assert (await w.take(1)).code == "UNRESOLVED"
        assert (await w.leave()).code == "UNRESOLVED_OPEN"
        w.sender.mute = False
        await w.engine.tick()
        assert (await w.leave()).status is DONE
        await w.check()


async def test_a_take_that_waits_behind_another_does_not_pass_a_kill() -> None:
    async with world() as w:
        arrived, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> None:
            arrived.set()
            await go_on.wait()

        w.sender.on_send = slow
        first = asyncio.create_task(w.give(take(0.5)))
        await arrived.wait()
        second = asyncio.create_task(w.give(take(0.5)))
        await asyncio.sleep(0)
        await w.give(Kill())
        go_on.set()
        assert (await first).status is DONE
        assert (await second).code == "NOT_ACCEPTED"
        assert w.legs == (0.5, -0.5)


async def test_trades_are_carried_out_one_after_the_other() -> None:
    async with world() as w:
        running = most = 0

        async def count() -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

        w.sender.on_send = count
        results = await asyncio.gather(*(w.give(take(0.1)) for _ in range(5)))
        assert all(result.status is DONE for result in results)
        assert most == 1
        await w.check()


async def test_pause_and_resume() -> None:
    async with world(automation=True, primed=3) as w:
        await w.give(Pause())
        assert w.state == "PAUSED"
        assert (await w.give(take(1))).code == "NOT_ACCEPTED"
        await w.records(8, 100)
        assert w.legs == (0.0, 0.0)
        assert (await w.give(Resume())).status is DONE
        assert w.state == "RUNNING"
        await w.records(3, 100)
        assert w.legs == (5.0, -5.0)
        await w.give(Pause())
        assert (await w.leave()).status is DONE


async def test_a_take_confirmed_while_paused_is_refused() -> None:
    async with world() as w:
        asked = await w.give(take(5))
        await w.give(Pause())
        assert (await w.confirm(asked)).code == "NOT_ACCEPTED"
        assert not w.core.pending
        assert w.legs == (0.0, 0.0)


async def test_speed_and_stop() -> None:
    async with world() as w:
        assert (await w.give(SetSpeed(speed=3600))).status is DONE
        assert w.core.memory.speed == 3600
        assert (await w.give(Stop())).status is DONE
        assert w.engine.desk.stopping.is_set()
        await w.engine.stop()
        assert w.state == "STOPPED"
        assert (await w.give(take(1))).code == "NOT_ACCEPTED"
        assert (await w.give(Kill())).code == "NOT_ACCEPTED"
    async with world(mode="paper") as w:
        assert (await w.give(SetSpeed(speed=2))).code == "NO_TAPE"


async def test_a_stop_waits_for_the_trade_that_runs() -> None:
    async with world() as w:
        arrived, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> None:
            arrived.set()
            await go_on.wait()

        w.sender.on_send = slow
        running = asyncio.create_task(w.give(take(0.5)))
        await arrived.wait()
        stopping = asyncio.create_task(w.engine.stop())
        await asyncio.sleep(0)
        assert not stopping.done()
        go_on.set()
        assert (await running).status is DONE
        await stopping
        await w.check()


async def test_every_answer_carries_the_intent_and_verdicts_are_logged() -> None:
    async with world(apr_pct=-100) as w:
        w.lines.clear()
        result = await w.give(take(0.5, intent_id="x"))
        assert result.intent_id == "x"
        (line,) = [line for line in w.lines if line.tag == "SAFETY" and "profitability" in line.message]
        assert line.level == "WARNING"


async def test_a_fault_of_the_store_that_is_critical_halts() -> None:
    async with world() as w:
        asked = await w.give(take(5))

        def broken(number: int, name: str) -> None:
            if name == "journal SENT":
                raise CriticalError("DATABASE_CORRUPT", "the database is damaged")

        w.gremlin.before = broken
        result = await w.confirm(asked)
        assert result.status is REJECTED
        assert w.state == "HALTED"
        assert "damaged" in w.core.state_reason
        w.gremlin.quiet()
        assert list(w.core.unresolved) == [asked.operation_id]
        await w.engine.tick()
        assert await w.outcomes() == [("TAKE", "EXPIRED")]
        await w.check()


# The table of states

PROBES: dict[type[Any], AnyCommand] = {
    Take: take(0.5),
    Leave: leave(),
    Rebalance: rebalance(),
    Settle: Settle(market="SOL-PERP"),
    type(deposit(1)): deposit(5 * USD),
    type(withdraw(1)): withdraw(5 * USD),
    Confirm: Confirm(operation_id="o1"),
    Cancel: Cancel(operation_id="o1"),
    Pause: Pause(),
    Resume: Resume(),
    Kill: Kill(),
    SetSpeed: SetSpeed(speed=2),
    SetAutomation: SetAutomation(on=False),
    Stop: Stop(),
}


@pytest.mark.parametrize("state", list(EngineState))
@pytest.mark.parametrize("kind", list(PROBES), ids=lambda kind: kind.__name__)
async def test_every_state_against_every_command(state: EngineState, kind: type[Any]) -> None:
    async with world() as w:
        await w.take(1)
        w.core.state = state
        result = await w.give(PROBES[kind])
        accepted = kind in ACCEPTS[state]
        assert (result.code != "NOT_ACCEPTED") is accepted
        if not accepted:
            assert result.status is REJECTED
            assert result.message == refusal(state, kind)
            assert len(result.message) > 10
            assert w.legs == (1.0, -1.0)


@pytest.mark.parametrize("state", [EngineState.PAUSED, EngineState.REDUCING, EngineState.HALTED])
async def test_what_is_open_can_be_closed_in_every_standing_state(state: EngineState) -> None:
    async with world() as w:
        await w.take(5)
        if state is EngineState.PAUSED:
            await w.give(Pause())
        elif state is EngineState.HALTED:
            await w.give(Kill())
        else:
            w.core.reduce("test")
        assert (await w.give(take(0.5))).code == "NOT_ACCEPTED"
        assert (await w.leave()).status is DONE
        assert w.legs == (0.0, 0.0)
        assert w.state == state
        assert (await w.resume()).status is DONE
        assert w.state == "RUNNING"


@pytest.mark.parametrize(("before", "after"), list(itertools.product(EngineState, EngineState)))
async def test_only_listed_transitions_are_possible(before: EngineState, after: EngineState) -> None:
    if after in TRANSITIONS[before]:
        check_transition(before, after)
        return
    with pytest.raises(CriticalError, match=f"from {before} to {after}"):
        check_transition(before, after)


def test_the_table_says_what_the_design_says() -> None:
    s = EngineState
    assert TRANSITIONS[s.STOPPED] == frozenset()
    for state in s:
        if state is not s.STOPPED:
            assert s.STOPPED in TRANSITIONS[state]
        if state not in (s.STOPPED, s.HALTED):
            assert s.HALTED in TRANSITIONS[state]
            assert Kill in ACCEPTS[state]
    # Out of a halt only by way of reconciliation.
    assert TRANSITIONS[s.HALTED] == {s.RECONCILING, s.STOPPED}
    assert Take not in {command for state in s if state is not s.RUNNING for command in ACCEPTS[state]}
