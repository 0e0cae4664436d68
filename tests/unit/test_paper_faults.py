"""What the paper exchange may be told to do wrong: fills in part on either leg, and an account that is told late."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest
from paper_exchange import BOTH, BTC, FREE, PRICE, SOL, START_S, Exchange, order, record_of
from paper_exchange import exchange as opened

from deltatui.domain.errors import TransientError
from deltatui.domain.operation import Leg, Operation, OperationKind, OperationState
from deltatui.venues.paper.settings import BTC_PERP, SOL_PERP, PaperFaults, PaperSettings
from deltatui.venues.paper.told import Commits

STEP = SOL_PERP.step_base_1e9


@asynccontextmanager
async def exchange(**faults: object) -> AsyncIterator[Exchange]:
    async with opened(PaperSettings(costs=FREE, faults=PaperFaults(**faults))) as x:  # type: ignore[arg-type]
        yield x


def pair(size: int) -> tuple[Leg, Leg]:
    return Leg("SOL-PERP", -size, 1), Leg("SOL", size, 10**15)


# Fills in part


@pytest.mark.parametrize(("leg", "hit"), [("perp", "SOL-PERP"), ("spot", "SOL")])
async def test_a_partial_fill_falls_on_the_leg_it_is_set_to(leg: str, hit: str) -> None:
    """One of the two is filled whole, the other from a fifth to nine tenths, in whole steps."""
    async with exchange(partial_rate=1.0, partial_leg=leg) as x:
        for _ in range(20):
            spot, perp = x.legs
            assert (await x.do(*pair(5 * SOL))).state is OperationState.LANDED
            filled = {"SOL": x.legs[0] - spot, "SOL-PERP": perp - x.legs[1]}
            part = filled.pop(hit)
            assert set(filled.values()) == {5 * SOL}
            assert SOL - STEP < part <= 5 * SOL * 9 // 10
            assert part % STEP == 0


async def test_any_leg_means_now_one_and_now_the_other() -> None:
    async with exchange(partial_rate=1.0) as x:
        short = set()
        for _ in range(20):
            spot, perp = x.legs
            await x.do(*pair(5 * SOL))
            filled = (x.legs[0] - spot, perp - x.legs[1])
            assert sum(base < 5 * SOL for base in filled) == 1
            short.add(filled.index(min(filled)))
        assert short == {0, 1}


@pytest.mark.parametrize("leg", ["perp", "spot"])
async def test_a_partial_fill_of_another_market_falls_on_its_own_legs(leg: str) -> None:
    paper = PaperSettings(costs=FREE, faults=PaperFaults(partial_rate=1.0, partial_leg=leg))  # type: ignore[arg-type]
    async with opened(paper, specs=BOTH) as x:
        await x.do(order("BTC-PERP", -BTC // 10), order("wBTC", BTC // 10), market="BTC-PERP")
        filled = {"perp": -x.perp("BTC-PERP").base_1e9, "spot": x.spot("wBTC").base_1e9}
        part = filled.pop(leg)
        assert set(filled.values()) == {BTC // 10}
        assert BTC // 50 - BTC_PERP.step_base_1e9 < part <= BTC // 10 * 9 // 10
        assert part % BTC_PERP.step_base_1e9 == 0
        assert x.legs == (0, 0)


async def test_an_operation_without_that_leg_is_filled_whole() -> None:
    async with exchange(partial_rate=1.0, partial_leg="spot") as x:
        await x.do(Leg("SOL-PERP", -5 * SOL, 1))
        assert x.legs == (0, -5 * SOL)
    async with exchange(partial_rate=1.0, partial_leg="perp") as x:
        await x.do(Leg("SOL-PERP", -5 * SOL, 1))
        assert -5 * SOL < x.legs[1] < 0


async def test_the_least_order_is_never_filled_to_nothing() -> None:
    async with exchange(partial_rate=1.0, partial_leg="perp") as x:
        await x.do(Leg("SOL-PERP", -STEP, 1))
        assert x.legs == (0, -STEP)


async def test_a_simulation_has_no_bad_luck() -> None:
    async with exchange(partial_rate=0.0, fail_rate=1.0) as x:
        operation = Operation("op", OperationKind.TAKE, "SOL-PERP", "test", 0.0, 0.0, pair(SOL))
        await x.venue.simulate(await x.venue.build(operation))
        assert (await x.do(*pair(SOL))).error_code == "SimulatedFailure"


# Told late


async def test_an_account_that_is_told_late_is_the_account_as_it_was() -> None:
    """All of it, the margin too; and when its time has come, all of it as it became."""
    async with exchange(report_late_s=10.0) as x:
        before, book, health = x.account, x.venue.margin_book(), x.venue.health()
        outcome = await x.do(*pair(5 * SOL))
        assert outcome.state is OperationState.LANDED
        assert outcome.at is not None
        assert x.venue.perp_1e9("SOL-PERP") == -5 * SOL
        for _ in range(9):
            assert x.account == before
            assert not x.account.mark.covers(outcome.at)
            assert (x.venue.margin_book(), x.venue.health()) == (book, health)
            await x.clock.sleep(1.0)
        await x.clock.sleep(1.0)
        assert x.legs == (5 * SOL, -5 * SOL)
        assert x.account.mark.covers(outcome.at)
        now = x.venue.margin_book()
        assert now is not None
        assert now.user.perp(0).base_1e9 == -5 * SOL


async def test_prices_are_never_late() -> None:
    """Only what the account holds is; it is worth what the market says now."""
    async with exchange(report_late_s=10.0) as x:
        await x.do(*pair(5 * SOL))
        await x.clock.sleep(10.0)
        await x.do(Leg("SOL-PERP", -SOL, 1))
        await x.price(PRICE * 2)
        assert x.legs == (5 * SOL, -5 * SOL)
        assert x.perp().mark == PRICE * 2
        assert x.perp().unsettled == -5 * PRICE


async def test_each_commit_is_told_in_its_turn() -> None:
    async with exchange(report_late_s=10.0) as x:
        for number in range(1, 4):
            await x.do(Leg("SOL-PERP", -number * SOL, 1))
            await x.clock.sleep(4.0)
        told = []
        for _ in range(4):
            told.append(x.legs[1] // SOL)
            await x.clock.sleep(4.0)
        assert told == [-1, -3, -6, -6]


async def test_events_are_never_ahead_of_the_account() -> None:
    """Books that heard of more than the account shows would not agree with it."""
    async with exchange(report_late_s=10.0) as x:
        for _ in range(3):
            await x.do(*pair(SOL))
            await x.clock.sleep(4.0)
        for expected in (2, 4, 6, 6):
            events = await x.venue.events_after(0)
            assert [event.sequence for event in events] == list(range(1, expected + 1))
            assert x.account.events == expected
            assert [event.sequence for event in await x.venue.events_after(1)] == list(range(2, expected + 1))
            assert list(await x.venue.events_after(expected)) == []
            await x.clock.sleep(4.0)


async def test_nor_are_those_that_the_tables_have_to_tell() -> None:
    """After a restart nothing is in memory: what is read back ends where the account does."""
    async with exchange(report_late_s=10.0) as x:
        await x.do(*pair(SOL))
        await x.clock.sleep(10.0)
        await x.do(*pair(SOL))
        del x.venue._recent[:]
        assert [event.sequence for event in await x.venue.events_after(0)] == [1, 2]
        await x.clock.sleep(10.0)
        assert [event.sequence for event in await x.venue.events_after(0)] == [1, 2, 3, 4]


async def test_a_report_waits_on_the_clock_until_it_covers_what_was_asked() -> None:
    async with exchange(report_late_s=10.0) as x:
        outcome = await x.do(*pair(5 * SOL))
        began_s = x.clock.operator_s()
        told = await x.venue.report(outcome.at)
        assert told.perps["SOL-PERP"].base_1e9 == -5 * SOL
        assert told == x.account
        assert x.clock.operator_s() - began_s == pytest.approx(10.0, abs=0.11)
        assert x.clock.market_s() == START_S
        # What is there already is told at once.
        began_s = x.clock.operator_s()
        assert await x.venue.report(outcome.at) == told
        assert await x.venue.report(None) == told
        assert x.clock.operator_s() == began_s


async def test_without_the_fault_a_report_does_not_wait() -> None:
    async with exchange() as x:
        outcome = await x.do(*pair(5 * SOL))
        told = await x.venue.report(outcome.at)
        assert told.perps["SOL-PERP"].base_1e9 == -5 * SOL
        assert x.clock.operator_s() == START_S


async def test_a_report_that_does_not_come_ends_at_the_deadline() -> None:
    async with exchange(report_late_s=60.0) as x:
        outcome = await x.do(*pair(5 * SOL))
        began_s = x.clock.operator_s()
        with pytest.raises(TransientError) as late:
            await x.venue.report(outcome.at)
        assert late.value.code == "NOT_REPORTED"
        assert late.value.sentence == "the exchange has not told the account anew for 30 s"
        assert x.clock.operator_s() - began_s == pytest.approx(30.0, abs=0.11)
        # It comes later.
        await x.clock.sleep(30.0)
        assert (await x.venue.report(outcome.at)).perps["SOL-PERP"].base_1e9 == -5 * SOL
        with pytest.raises(TransientError):
            await x.venue.report(Commits(10**6))


async def test_a_liquidation_looks_at_the_account_as_it_is() -> None:
    """The exchange itself is never late."""
    async with exchange(report_late_s=10.0) as x:
        await x.do(Leg("SOL-PERP", -5000 * SOL, 1))
        await x.price(PRICE * 2)
        assert x.venue.perp_1e9("SOL-PERP") == 0
        assert x.perp().base_1e9 == 0
        assert x.account.liquidations == 0
        await x.clock.sleep(10.0)
        assert x.account.liquidations == 1
        assert x.account.equity == 0


async def test_funding_that_is_booked_is_told_late_too() -> None:
    async with exchange(report_late_s=10.0) as x:
        await x.do(*pair(5 * SOL))
        await x.clock.sleep(10.0)
        before = x.account
        await x.record(record_of(int(x.clock.market_s()) + 3600, "0.5"))
        assert x.account.events == before.events
        assert x.perp().unsettled == before.perps["SOL-PERP"].unsettled
        await x.clock.sleep(10.0)
        assert x.account.events == before.events + 1
        assert x.perp().unsettled == before.perps["SOL-PERP"].unsettled + Decimal("2.5")


async def test_what_another_program_trades_is_told_late_too() -> None:
    async with exchange(report_late_s=10.0) as x:
        await x.venue.fill_from_elsewhere("SOL", 2 * SOL, PRICE)
        assert x.legs == (0, 0)
        await x.clock.sleep(10.0)
        assert x.legs == (2 * SOL, 0)


class OtherMark:
    """Of another kind of venue."""

    def covers(self, other: object, /) -> bool:
        return True


async def test_a_mark_that_will_never_come_does_not_hang_the_engine() -> None:
    """After a failover the engine may ask for what another endpoint had told: the count of another process, the mark
    of another kind."""
    async with exchange() as x:
        for never in (Commits(10**6), OtherMark()):
            began_s = x.clock.operator_s()
            with pytest.raises(TransientError, match="NOT_REPORTED"):
                await x.venue.report(never)
            assert x.clock.operator_s() - began_s == pytest.approx(30.0, abs=0.11)
        assert x.account.mark.covers(x.account.mark)
        assert not x.account.mark.covers(OtherMark())


async def test_the_same_report_is_told_until_something_changes() -> None:
    """Who keeps it may compare by identity."""
    async with exchange() as x:
        told = x.account
        assert x.account is told
        assert await x.venue.report(told.mark) is told
        await x.price(PRICE + 1)
        assert x.account is not told
        assert x.account.mark == told.mark
        told = x.account
        await x.do(*pair(SOL))
        assert x.account is not told
        assert x.account.mark.covers(told.mark)
        assert not told.mark.covers(x.account.mark)
