"""Two legs or none (R4.8): what a leg that fails, fills in part or cannot be mended leads to."""

from __future__ import annotations

import pytest
from engine_harness import SOL, World, deposit, in_world, leave, take, world

from deltatui.domain.command import Direction, Kill, ResultStatus
from deltatui.domain.errors import TransientError
from deltatui.domain.event import Level
from deltatui.domain.operation import OperationState
from deltatui.venues.paper.settings import PaperFaults

WAYS = [Direction.CARRY, Direction.REVERSE]


async def only_first(w: World, faults: PaperFaults) -> None:
    """``faults`` for the next operation alone."""
    first = len(w.sender.sent) + 1

    async def before_sending() -> None:
        w.with_faults(faults if len(w.sender.sent) == first else PaperFaults())

    w.sender.on_send = before_sending


async def odd_take_then_nothing_works(w: World) -> None:
    async def before_sending() -> None:
        w.with_faults(PaperFaults(odd_leg_rate=1.0) if len(w.sender.sent) == 1 else PaperFaults(fail_rate=1.0))

    w.sender.on_send = before_sending


@pytest.mark.parametrize("way", WAYS)
async def test_a_take_whose_second_leg_fails_is_undone_at_once(way: Direction) -> None:
    async with world() as w:
        await only_first(w, PaperFaults(odd_leg_rate=1.0))
        result = await w.take(5, way)
        assert w.legs == (0.0, 0.0)
        assert w.state == "RUNNING"
        assert [o for o, _ in await w.outcomes()] == ["TAKE", "UNWIND"]
        assert "odd_leg" in w.kinds()
        # Nothing is held, so nobody may be told that it was done.
        assert result.status is ResultStatus.REJECTED
        assert result.code == "ODD_LEG"
        assert "undone" in result.message
        await w.check()


@pytest.mark.parametrize("way", WAYS)
async def test_a_take_that_fills_in_part_is_made_even(way: Direction) -> None:
    async with world() as w:
        await only_first(w, PaperFaults(partial_rate=1.0))
        result = await w.take(5, way)
        spot, perp = w.legs
        assert spot == -perp
        assert 0 < abs(perp) < 5
        assert w.state == "RUNNING"
        assert (result.status, result.code) == (ResultStatus.PARTLY_DONE, "PARTIAL")
        assert [(part.leg, part.filled) for part in result.parts] == [("perp", perp), ("spot", spot)]
        assert [part.open for part in result.parts] == pytest.approx(
            [perp / abs(perp) * 5 - perp, spot / abs(spot) * 5 - spot]
        )
        assert "of 5 SOL-PERP" in result.message
        await w.check()


@pytest.mark.parametrize("faults", [PaperFaults(odd_leg_rate=1.0), PaperFaults(partial_rate=1.0)])
@pytest.mark.parametrize("way", WAYS)
async def test_a_leave_goes_on_until_both_legs_are_closed(way: Direction, faults: PaperFaults) -> None:
    async with world() as w:
        assert (await w.take(5, way)).status is ResultStatus.DONE
        await only_first(w, faults)
        result = await w.leave()
        assert result.status is ResultStatus.DONE
        assert w.legs == (0.0, 0.0)
        assert [o for o, _ in await w.outcomes()][:3] == ["TAKE", "LEAVE", "LEAVE"]
        await w.check()


async def test_mending_tries_three_times_and_then_halts_with_what_is_open() -> None:
    async with world() as w:
        await odd_take_then_nothing_works(w)
        result = await w.take(5)
        assert (result.status, result.code) == (ResultStatus.PARTLY_DONE, "ODD_LEG")
        assert [(part.leg, part.filled, part.open) for part in result.parts] == [("perp", -5, 0), ("spot", 0, 5)]
        assert w.state == "HALTED"
        assert w.legs == (0.0, -5.0)
        assert await w.outcomes() == [("TAKE", "LANDED"), *[("UNWIND", "FAILED")] * 3]
        alert = w.snapshot().alerts[0]
        assert alert.level == Level.CRITICAL
        assert "perp -5" in alert.message
        assert "spot moved +0" in alert.message
        await w.check()

        # It stays so over a restart, and nothing is mended behind the operator's back.
        w.sender.on_send = None
        await w.restart()
        assert w.state == "HALTED"
        assert w.legs == (0.0, -5.0)
        # What is open can be closed by hand.
        result = await w.leave()
        assert result.status is ResultStatus.DONE
        assert w.legs == (0.0, 0.0)
        assert (await w.resume()).status is ResultStatus.DONE
        assert w.state == "RUNNING"
        await w.check()


async def test_a_resume_after_an_odd_leg_hands_the_legs_to_the_operator() -> None:
    async with world() as w:
        await odd_take_then_nothing_works(w)
        await w.take(5)
        assert (await w.resume()).status is ResultStatus.DONE
        await w.restart()
        assert w.state == "RUNNING"
        assert w.legs == (0.0, -5.0)


async def test_a_mend_that_the_journal_refuses_is_tried_again() -> None:
    async with world() as w:
        await only_first(w, PaperFaults(odd_leg_rate=1.0))
        planned = 0

        def refuse_the_first_mend(number: int, name: str) -> None:
            nonlocal planned
            planned += name == "journal PLANNED"
            if name == "journal PLANNED" and planned == 2:
                raise TransientError("DATABASE_LOCKED", "locked")

        w.gremlin.before = refuse_the_first_mend
        await w.take(5)
        assert w.legs == (0.0, 0.0)
        assert w.state == "RUNNING"
        await w.check()


async def test_a_mend_that_the_journal_always_refuses_halts() -> None:
    async with world() as w:
        result = await w.give(take(5))

        async def lock_after_the_take() -> None:
            w.gremlin.refuse(lambda name: name == "journal PLANNED")

        w.sender.on_send = lock_after_the_take
        w.with_faults(PaperFaults(odd_leg_rate=1.0))
        result = await w.confirm(result)
        assert (result.status, result.code) == (ResultStatus.PARTLY_DONE, "ODD_LEG")
        assert w.state == "HALTED"
        assert "perp -5" in w.core.state_reason


async def test_an_unresolved_take_that_landed_with_an_odd_leg_is_mended_when_it_resolves() -> None:
    async with world() as w:
        await only_first(w, PaperFaults(odd_leg_rate=1.0))
        w.sender.mute = True
        result = await w.take(5)
        assert result.status is ResultStatus.UNRESOLVED
        assert w.legs == (0.0, -5.0)
        w.sender.mute = False
        await w.engine.tick()
        assert w.legs == (0.0, 0.0)
        assert not w.core.unresolved
        assert w.state == "RUNNING"
        await w.check()


async def test_a_crash_between_the_legs_is_mended_after_the_restart() -> None:
    async with world() as w:
        await only_first(w, PaperFaults(odd_leg_rate=1.0))
        w.sender.mute = True
        assert (await w.take(5)).status is ResultStatus.UNRESOLVED
        await w.restart()
        assert w.legs == (0.0, 0.0)
        assert w.state == "RUNNING"
        assert [o for o, _ in await w.outcomes()] == ["TAKE", "UNWIND"]
        await w.check()


async def test_a_finished_take_is_not_mended_again_after_later_trades() -> None:
    """The note of a hedge that is over must not outlive it, even where the disk refused to forget it."""
    async with world() as w:
        result = await w.give(take(5))
        saves = 0

        def refuse_forgetting(number: int, name: str) -> None:
            nonlocal saves
            saves += name == "_save_state"
            if name == "_save_state" and saves == 2:
                raise TransientError("DATABASE_LOCKED", "locked")

        w.gremlin.before = refuse_forgetting
        result = await w.confirm(result)
        assert result.status is ResultStatus.DONE, result
        w.gremlin.quiet()
        await w.to_price(w.price, after_s=0)
        legs = w.legs
        await w.restart()
        assert w.legs == legs == (5.0, -5.0)


def test_mending_needs_no_confirmation_and_no_gate() -> None:
    """R6.11: the unwind passes though the rate limit is used up and nothing pays."""

    async def scenario(w: World) -> None:
        await only_first(w, PaperFaults(odd_leg_rate=1.0))
        await w.take(5)
        assert w.legs == (0.0, 0.0)

    in_world(scenario, position_ops_per_min=1, apr_pct=-50.0)


async def test_a_failed_transaction_leaves_all_as_it_was() -> None:
    async with world() as w:
        await w.take(5)
        before = w.account
        totals = dict(w.core.accountant.books.totals)
        w.with_faults(PaperFaults(fail_rate=1.0))
        for command in (take(2), leave()):
            result = await w.sure(command)
            assert result.status is ResultStatus.REJECTED
            assert result.code == "SimulatedFailure"
        assert w.account == before
        assert w.core.accountant.books.totals == totals
        assert w.state == "RUNNING"
        assert await w.outcomes() == [("TAKE", "LANDED"), ("TAKE", "FAILED"), ("LEAVE", "FAILED")]
        assert w.kinds().count("order_failed") == 2
        await w.check()


async def test_a_flatten_that_fails_says_what_stays() -> None:
    async with world() as w:
        await w.take(5)
        w.with_faults(PaperFaults(fail_rate=1.0))
        result = await w.give(Kill(flatten=True, reason="test"))
        assert w.state == "HALTED"
        assert result.status is ResultStatus.REJECTED
        assert "halted, but closing failed" in result.message
        assert w.legs == (5.0, -5.0)


async def test_a_reverse_that_accrued_interest_since_the_last_record_still_ends_at_zero() -> None:
    """R4.5: between two records the debt grows; a close takes all of it."""
    async with world() as w:
        await w.take(5, Direction.REVERSE)
        for step in range(3):
            await w.to_price("151", after_s=1000.0 + step)
        result = await w.leave()
        assert result.status is ResultStatus.DONE
        assert w.account.spot_1e9 == 0
        assert w.account.perp_1e9 == 0
        assert w.snapshot().positions == ()
        await w.check()


async def test_own_sol_is_no_part_of_the_hedge() -> None:
    async with world(wallet_sol=20) as w:
        assert (await w.sure(deposit(2 * SOL, "SOL"))).status is ResultStatus.DONE
        await w.take(5)
        assert w.legs == (7.0, -5.0)
        assert (await w.leave()).status is ResultStatus.DONE
        assert w.legs == (2.0, 0.0)
        assert (await w.leave()).code == "NOTHING_TO_LEAVE"
        await w.check()


async def test_every_operation_ends_in_one_state() -> None:
    async with world(faults=PaperFaults(seed=3, fail_rate=0.3, partial_rate=0.2, odd_leg_rate=0.2)) as w:
        for number in range(12):
            await w.sure(take(1 + number % 3) if number % 2 else leave())
            if w.state == "HALTED":
                await w.resume()
            w.wait(61)
            await w.check()
        states = {state for _, state in await w.outcomes()}
        assert states == {OperationState.LANDED, OperationState.FAILED}
