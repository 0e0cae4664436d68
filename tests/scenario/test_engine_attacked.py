"""Lives found by attacking the engine: each once ended with something told that was not so, or with something open
that nobody looked after."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec
import pytest
from engine_harness import (
    FREE,
    SOL,
    USD,
    Gremlin,
    HauntedDatabase,
    Killed,
    World,
    deposit,
    leave,
    rebalance,
    take,
    withdraw,
    world,
)

from deltatui.domain.command import (
    AnyCommand,
    Confirm,
    Deposit,
    Direction,
    Kill,
    Pause,
    ResultStatus,
    Resume,
    SetAutomation,
    Settle,
    SpotSource,
    Take,
)
from deltatui.domain.facts import Prices
from deltatui.domain.gates import GateLimits
from deltatui.domain.health import LossLimits
from deltatui.domain.principal import OPERATOR
from deltatui.engine.engine import Engine
from deltatui.ports import AccountReport, Outcome, Signed
from deltatui.store.database import Durability
from deltatui.store.engine_store import EngineStore
from deltatui.venues.paper.settings import PaperFaults, PaperSettings

CALM = PaperSettings(costs=FREE, quote_borrow_apr_pct=Decimal(0), base_borrow_apr_pct=Decimal(0))
LOOSE = GateLimits(max_leverage=10, min_health_after=0, min_liq_distance_pct=0, min_health_withdraw=0)
DONE, REJECTED = ResultStatus.DONE, ResultStatus.REJECTED


# A resume forgets nothing that is under way


async def test_a_kill_and_a_resume_while_a_take_is_sent_change_nothing_of_its_answer() -> None:
    """It was told "one leg was not filled, the other was undone" while both stood, and had no owner."""
    async with world() as w:

        async def the_operator() -> None:
            await w.give(Kill())
            await w.resume()

        w.sender.on_send = the_operator
        result = await w.take(5)
        assert w.legs == (5, -5)
        assert result.status is DONE
        assert w.hedge.memory.held_by == "operator"
        await w.check()


async def test_an_odd_leg_is_mended_although_the_operator_resumed_meanwhile() -> None:
    async with world() as w:

        async def the_operator() -> None:
            w.with_faults(PaperFaults(odd_leg_rate=1.0 if len(w.sender.sent) == 1 else 0.0))
            if len(w.sender.sent) == 1:
                await w.give(Kill())
                await w.resume()

        w.sender.on_send = the_operator
        result = await w.take(5)
        assert w.legs == (0, 0)
        assert (result.status, result.code) == (REJECTED, "ODD_LEG")


async def test_a_flatten_goes_on_although_the_operator_resumed_meanwhile() -> None:
    async with world() as w:
        await w.take(5)

        async def the_operator() -> None:
            w.with_faults(PaperFaults(partial_rate=1.0 if len(w.sender.sent) == 2 else 0.0))
            if len(w.sender.sent) == 2:
                await w.resume()

        w.sender.on_send = the_operator
        result = await w.give(Kill(flatten=True))
        assert w.legs == (0, 0)
        assert result.status is DONE


async def test_an_unresolved_take_is_looked_after_although_it_was_killed_and_resumed() -> None:
    """It landed on one leg, RUNNING, without an alert and without an owner."""
    async with world() as w:
        w.with_faults(PaperFaults(odd_leg_rate=1.0))
        w.sender.mute = True
        assert (await w.take(5)).status is ResultStatus.UNRESOLVED
        await w.give(Kill())
        await w.resume()
        w.sender.mute = False
        w.with_faults(PaperFaults())
        w.wait(5)
        await w.engine.tick()
        assert w.legs == (0, 0)
        assert [kind for kind, _ in await w.outcomes()] == ["TAKE", "UNWIND"]
        await w.check()


# SOL that a hedge covers without having bought it


def take_deposited(size: int) -> Take:
    return Take(market="SOL-PERP", base_1e9=size * SOL, spot=SpotSource.DEPOSITED)


def set_wallet(w: World, sol: int) -> None:
    w.tamper(wallet={"SOL": Decimal(sol)})


async def test_automation_does_not_undo_a_close_that_filled_in_part() -> None:
    """It widened the short again to all that had once been covered: leave, expand, leave, expand."""
    async with world(wallet_sol=5, paper=CALM, automation=True, apr_pct=0) as w:
        await w.sure(deposit(5 * SOL, "SOL"))
        assert (await w.sure(take_deposited(5))).status is DONE
        before = len(w.sender.sent)

        async def only_a_part() -> None:
            first = len(w.sender.sent) == before + 1
            w.with_faults(PaperFaults(partial_rate=1.0) if first else PaperFaults(fail_rate=1.0))

        w.sender.on_send = only_a_part
        assert (await w.leave()).status is ResultStatus.PARTLY_DONE
        w.sender.on_send = None
        w.with_faults(PaperFaults())
        spot, perp = w.legs
        assert (spot, -5 < perp < 0) == (5, True)
        await w.to_price("150")
        assert w.legs == (spot, perp)


async def test_sol_that_comes_later_is_not_covered_by_an_older_hedge() -> None:
    """R5.7: it widened the short from 2 to 5 as soon as there was SOL in the wallet again."""
    async with world(wallet_sol=5, paper=CALM) as w:
        await w.sure(deposit(5 * SOL, "SOL"))
        assert (await w.sure(take_deposited(5))).status is DONE
        assert (await w.sure(withdraw(3 * SOL, "SOL"))).status is DONE
        set_wallet(w, 0)
        await w.give(SetAutomation(on=True))
        await w.to_price("150")
        assert w.legs == (2, -2)
        set_wallet(w, 10)
        await w.to_price("150", after_s=4000)
        assert w.legs == (2, -2)


async def test_a_hedge_that_the_venue_or_somebody_else_closed_covers_nothing_any_more() -> None:
    """The next take of 2 was widened by all the wallet held."""
    async with world(wallet_sol=20, paper=CALM) as w:
        await w.sure(deposit(5 * SOL, "SOL"))
        assert (await w.sure(take_deposited(5))).status is DONE
        await w.venue.fill_from_elsewhere("SOL-PERP", 5 * SOL, w.price)
        await w.engine.step()
        assert (await w.take(2)).status is DONE
        await w.give(SetAutomation(on=True))
        await w.to_price("150")
        assert w.legs == (7, -2)


# Losses


async def test_a_deposit_that_is_not_booked_yet_is_no_peak() -> None:
    """A resume between landing and booking saw a gain of $1,000, and a drawdown of 20 % ever after."""
    async with world(paper=CALM, losses=LossLimits(drawdown_pct=Decimal(10))) as w:
        await w.give(Pause())
        told = w.sender.outcome

        async def the_operator(signed: Signed) -> Outcome | None:
            await w.give(Resume())
            return await told(signed)

        w.sender.outcome = the_operator  # type: ignore[method-assign]
        assert (await w.sure(deposit(1000 * USD))).status is DONE
        await w.to_price("150")
        assert w.state == "RUNNING"
        assert w.core.memory.losses.peak == 3000


async def test_a_loss_limit_that_is_met_during_a_pause_does_not_end_it() -> None:
    """ "paused: no new risk, nothing automatic" was told, and 60 records later the hedge was gone."""
    async with world(paper=CALM, automation=True, losses=LossLimits(daily_loss=Decimal(100))) as w:
        assert w.legs == (5, -5)
        await w.give(Pause())
        await w.to_price("150", mark="174")
        assert w.state == "REDUCING"
        await w.records(60, -60)
        assert w.legs == (5, -5)
        assert (await w.give(Resume())).status is DONE
        await w.records(10, -60)
        assert ("LEAVE", "LANDED") in await w.outcomes()


# SOL that was paid in and sold elsewhere


async def test_a_kill_buys_no_sol_that_somebody_else_has_sold() -> None:
    """It bought 3 SOL to give back what "the hedge had sold"."""
    async with world(wallet_sol=3, paper=CALM) as w:
        await w.sure(deposit(3 * SOL, "SOL"))
        await w.venue.fill_from_elsewhere("SOL", -3 * SOL, w.price)
        await w.engine.step()
        result = await w.give(Kill(flatten=True))
        assert (result.status, result.parts) == (DONE, ())
        assert w.legs == (0, 0)
        await w.check()


async def test_what_was_sold_elsewhere_backs_no_take() -> None:
    """It opened a naked short of 3."""
    async with world(wallet_sol=3, paper=CALM) as w:
        await w.sure(deposit(3 * SOL, "SOL"))
        await w.venue.fill_from_elsewhere("SOL", -3 * SOL, w.price)
        await w.engine.step()
        assert (await w.sure(take_deposited(3))).code == "NOT_DEPOSITED"
        assert w.legs == (0, 0)


async def test_a_sale_elsewhere_takes_what_was_paid_in_first() -> None:
    async with world(wallet_sol=3, paper=CALM) as w:
        await w.sure(deposit(3 * SOL, "SOL"))
        await w.take(5)
        await w.venue.fill_from_elsewhere("SOL", -4 * SOL, w.price)
        await w.give(SetAutomation(on=True))
        await w.to_price("150")
        assert w.legs == (4, -4)
        assert (await w.leave()).status is DONE
        assert w.legs == (0, 0)
        await w.check()


# Intents and answers


async def test_an_intent_is_told_what_became_of_its_question() -> None:
    """After a confirmation it was the question for ever, also where nothing waited any more."""
    async with world(paper=CALM) as w:
        asked = await w.give(take(15, intent_id="a"))
        w.tamper(quote=Decimal(500))
        assert (await w.confirm(asked)).code == "BLOCKED"
        assert (await w.give(take(15, intent_id="a"))).code == "BLOCKED"
    async with world(paper=CALM) as w:
        answer = await w.confirm(await w.give(take(5, intent_id="b")))
        again = await w.give(take(5, intent_id="b"))
        assert (again.status, again.message, again.parts) == (DONE, answer.message, answer.parts)
        assert w.legs == (5, -5)


async def test_an_intent_that_failed_before_a_restart_is_not_told_as_carried_out() -> None:
    async with world(faults=PaperFaults(fail_rate=1.0)) as w:
        ten = Deposit(asset="USDC", amount=10 * USD, intent_id="a")
        assert (await w.give(ten)).code == "SimulatedFailure"
        await w.restart()
        again = await w.give(ten)
        assert again.code == "SAME_INTENT"
        assert again.message.endswith("which is FAILED")


async def test_a_take_from_the_wallet_names_what_it_deposited() -> None:
    async with world(wallet_sol=5, paper=CALM) as w:
        result = await w.sure(Take(market="SOL-PERP", base_1e9=3 * SOL, spot=SpotSource.WALLET))
        assert result.message == "take done: sold 3 SOL-PERP; deposited 3 SOL"


# A close that gives back SOL of the operator (R4.5): its second half is as much a part of it as the first


async def reverse_on_paid_in(w: World) -> None:
    await w.sure(deposit(SOL, "SOL"))
    assert (await w.take(8, Direction.REVERSE)).status is DONE
    assert w.legs == (-7, 8)


async def test_the_rest_of_a_close_is_traded_although_its_outcome_came_late() -> None:
    """The operator's SOL was gone, with nothing that said so."""
    async with world(wallet_sol=1, paper=CALM, limits=LOOSE) as w:
        await reverse_on_paid_in(w)
        w.sender.mute = True
        assert (await w.leave()).status is ResultStatus.UNRESOLVED
        w.sender.mute = False
        w.wait(5)
        await w.engine.tick()
        assert w.legs == (1, 0)
        assert w.hedge.check is None
        await w.check()


@pytest.mark.parametrize("step", range(1, 26))
async def test_the_rest_of_a_close_is_traded_although_the_process_died(step: int) -> None:
    async with world(wallet_sol=1, paper=CALM, limits=LOOSE) as w:
        await reverse_on_paid_in(w)
        asked = await w.give(leave())
        w.gremlin.kill_at(step, after=True)
        try:
            await w.confirm(asked)
        except Killed:
            await w.restart()
            await w.engine.tick()
        w.gremlin.quiet()
        assert w.legs in ((-7, 8), (1, 0))
        assert w.hedge.check is None
        await w.check()


async def test_the_rest_of_a_close_that_is_not_told_in_time_is_booked_later() -> None:
    async with world(wallet_sol=1, paper=CALM, limits=LOOSE) as w:
        await reverse_on_paid_in(w)
        w.with_faults(PaperFaults(report_late_s=45))
        w.wait(45)
        assert (await w.leave()).status is ResultStatus.UNRESOLVED
        for _ in range(3):
            w.wait(46)
            await w.engine.tick()
        assert w.legs == (1, 0)
        assert (w.hedge.check, w.state) == (None, "RUNNING")
        await w.check()


async def test_a_transfer_that_is_told_late_is_an_alert_until_it_is_told_and_no_longer() -> None:
    async with world(paper=CALM) as w:
        await w.take(5)
        w.with_faults(PaperFaults(report_late_s=45))
        result = await w.sure(deposit(100 * USD))
        assert (result.status, result.code) == (ResultStatus.UNRESOLVED, "NOT_REPORTED")
        await w.engine.tick()
        (alert,) = w.snapshot().alerts
        assert "what it did to the account is not known" in alert.message
        w.wait(46)
        await w.engine.tick()
        assert not w.snapshot().alerts
        assert w.core.accountant.transfers == 100
        await w.check()


async def test_a_rest_that_cannot_be_traded_is_told_and_is_no_fault_of_the_legs() -> None:
    async with world(wallet_sol=1, paper=CALM, limits=LOOSE) as w:
        await reverse_on_paid_in(w)
        before = len(w.sender.sent)

        async def only_the_first() -> None:
            w.with_faults(PaperFaults(fail_rate=0.0 if len(w.sender.sent) == before + 1 else 1.0))

        w.sender.on_send = only_the_first
        result = await w.leave()
        assert result.status is ResultStatus.PARTLY_DONE
        assert [(part.market, part.asked, part.filled, part.open) for part in result.parts] == [
            ("SOL-PERP", -8, -8, 0),
            ("SOL", 8, 7, 1),
        ]
        assert w.state == "RUNNING"
        w.sender.on_send = None
        w.with_faults(PaperFaults())
        assert (await w.leave()).status is DONE
        assert w.legs == (1, 0)


async def test_a_flatten_that_is_told_late_is_carried_to_its_end() -> None:
    """Halted, what had been asked for was dropped as soon as it was known to be incomplete, and nobody said so."""
    async with world(paper=CALM) as w:
        await w.take(10)
        w.with_faults(PaperFaults(partial_rate=1.0, report_late_s=45))
        w.wait(45)
        assert (await w.give(Kill(flatten=True))).status is ResultStatus.UNRESOLVED
        w.with_faults(PaperFaults())
        w.wait(46)
        await w.engine.tick()
        assert w.legs == (0, 0)
        assert w.state == "HALTED"
        await w.check()


async def test_an_odd_leg_that_is_known_after_a_kill_is_mended() -> None:
    async with world(paper=CALM) as w:
        w.with_faults(PaperFaults(odd_leg_rate=1.0))
        w.sender.mute = True
        assert (await w.take(5)).status is ResultStatus.UNRESOLVED
        await w.give(Kill())
        w.sender.mute = False
        w.with_faults(PaperFaults())
        w.wait(5)
        await w.engine.tick()
        assert w.legs == (0, 0)
        assert w.state == "HALTED"


@pytest.mark.parametrize("resumes", [False, True])
async def test_a_mending_that_is_told_late_is_looked_at_again(resumes: bool) -> None:
    """It halted, and after a resume an odd leg stood for ever without an alert."""
    async with world(paper=CALM) as w:

        async def the_repair_is_late_and_in_part() -> None:
            first = len(w.sender.sent) == 1
            w.with_faults(PaperFaults(odd_leg_rate=1.0) if first else PaperFaults(partial_rate=1.0, report_late_s=45))

        w.sender.on_send = the_repair_is_late_and_in_part
        result = await w.take(5)
        assert (result.status, result.code) == (ResultStatus.PARTLY_DONE, "ODD_LEG")
        assert w.state == "HALTED"
        w.sender.on_send = None
        w.with_faults(PaperFaults())
        if resumes:
            await w.resume()
        w.wait(46)
        await w.engine.tick()
        assert w.legs == (0, 0)
        assert w.hedge.check is None
        await w.check()


@pytest.mark.parametrize("first", [deposit(10 * USD), deposit(SOL, "SOL"), Settle(market="SOL-PERP")])
async def test_a_kill_does_not_wait_for_a_deposit_or_a_settlement(first: AnyCommand) -> None:
    """ "halted, but closing failed: an earlier operation is not resolved yet", and nobody closed it later."""
    async with world(wallet_sol=1, paper=CALM) as w:
        await w.take(5)
        await w.to_price("151")
        w.sender.mute = True
        assert (await w.sure(first)).status is ResultStatus.UNRESOLVED
        w.sender.mute = False
        assert (await w.give(Kill(flatten=True))).status is DONE
        w.wait(5)
        await w.engine.tick()
        assert w.legs == (1 if first == deposit(SOL, "SOL") else 0, 0)
        assert not w.core.unresolved
        await w.check()


# Not mended yet


async def test_a_withdrawal_leaves_the_quote_reserve() -> None:
    """R3.4 and R6.4: what a trade may not use up, a withdrawal may not take away."""
    async with world(paper=CALM, limits=GateLimits(max_leverage=10, min_free_quote_usd=2000)) as w:
        result = await w.sure(withdraw(2900 * USD))
        assert result.code == "BLOCKED"
        assert "at most 1000 USDC" in result.message


async def test_borrowed_sol_without_a_perp_is_closed_or_told() -> None:
    """A rebalance by hand makes the whole account neutral with the perp; the borrowed 5 SOL stay and cost interest.
    Automation then takes on top of them: TAKE, REBALANCE, TAKE."""
    async with world(wallet_sol=10, paper=CALM, limits=LOOSE) as w:
        assert (await w.take(5, Direction.REVERSE)).status is DONE
        await w.sure(rebalance())
        assert w.legs == (-5, 0)
        await w.to_price("150")
        assert w.snapshot().alerts
        await w.give(SetAutomation(on=True))
        await w.records(13, 100)
        kinds = [kind for kind, _ in await w.outcomes()]
        assert kinds.count("REBALANCE") == 1


async def test_an_odd_leg_is_told_as_long_as_it_stands() -> None:
    async with world(paper=CALM) as w:

        async def then_nothing_works() -> None:
            first = len(w.sender.sent) == 1
            w.with_faults(PaperFaults(odd_leg_rate=1.0) if first else PaperFaults(fail_rate=1.0))

        w.sender.on_send = then_nothing_works
        assert (await w.take(5)).code == "ODD_LEG"
        assert w.legs == (0, -5)
        await w.resume()
        await w.to_price("150")
        assert w.snapshot().alerts


async def test_a_question_never_stands_in_the_way_of_a_reducing_rebalance() -> None:
    async with world(paper=CALM) as w:
        await w.take(5)
        await w.venue.fill_from_elsewhere("SOL", -2 * SOL, w.price)
        await w.engine.step()
        assert (await w.give(take(1))).status is ResultStatus.NEEDS_CONFIRMATION
        assert (await w.sure(rebalance())).status is DONE  # R6.11
        assert w.legs == (3, -3)


async def test_automation_reduces_while_a_question_waits() -> None:
    async with world(paper=CALM, automation=True) as w:
        await w.venue.fill_from_elsewhere("SOL", -2 * SOL, w.price)
        assert (await w.give(withdraw(200 * USD))).status is ResultStatus.NEEDS_CONFIRMATION
        await w.to_price("150")
        assert w.legs == (3, -3)


async def test_no_answer_is_made_from_books_that_are_not_open() -> None:
    """The account holds a market whose price is not known: the take stood and was told "the other was undone"."""
    async with world(paper=CALM) as w:
        await w.venue.fill_from_elsewhere("BTC-PERP", 10**7, Decimal(60_000))
        real = w.venue.account

        def unpriced() -> AccountReport | None:
            account = real()
            assert account is not None
            perps = {symbol: msgspec.structs.replace(perp, mark=None) for symbol, perp in account.perps.items()}
            return msgspec.structs.replace(account, perps=perps)

        w.venue.account = unpriced  # type: ignore[method-assign]
        database = await HauntedDatabase.open(None, Durability.MEMORY)
        assert isinstance(database, HauntedDatabase)
        database.gremlin = Gremlin()
        engine = Engine(w.settings, w.clock, w.venue, w.sender, EngineStore(database))
        engine.core.world.take(Prices("SOL-PERP", "test", w.clock.market_s(), w.price, w.price))
        await engine.start()
        engine.prime("SOL-PERP", w.past())
        await engine.step()
        asked = await engine.submit(take(5), OPERATOR)
        result = await engine.submit(Confirm(operation_id=asked.operation_id, force=True), OPERATOR)
        await database.close()
        assert w.legs == (5, -5)
        assert (result.status, result.code) == (ResultStatus.UNRESOLVED, "NOT_BOOKED")


async def test_a_kill_while_the_engine_loads_is_a_kill() -> None:
    async with world(paper=CALM) as w:
        w._build()
        await w.venue.open(w.opening, w.wallet_quote, w.wallet)
        real = w.store.load_state

        async def killed() -> Mapping[str, bytes]:
            state = await real()
            assert (await w.give(Kill())).status is DONE
            return state

        w.store.load_state = killed  # type: ignore[method-assign]
        await w.engine.start()
        assert w.state == "HALTED"


async def test_a_perp_that_somebody_else_closed_during_a_leave_is_no_odd_leg() -> None:
    """Nothing is open, and the engine halts over "it is still open"."""
    async with world(paper=CALM) as w:
        await w.take(10)
        told = w.sender.outcome

        async def in_part() -> None:
            second = len(w.sender.sent) == 2
            w.with_faults(PaperFaults(partial_rate=1.0 if second else 0.0, partial_leg="perp"))

        async def somebody_else(signed: Signed) -> Outcome | None:
            if len(w.sender.sent) == 2 and w.account.perp_1e9:
                await w.venue.fill_from_elsewhere("SOL-PERP", -w.account.perp_1e9, w.price)
            return await told(signed)

        w.sender.on_send = in_part
        w.sender.outcome = somebody_else  # type: ignore[method-assign]
        await w.leave()
        assert (w.legs, w.state) == ((0, 0), "RUNNING")
