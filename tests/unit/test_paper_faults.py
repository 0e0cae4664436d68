"""What the paper exchange may be told to do wrong: fills in part on either leg, and an account that is told late."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest
from engine_harness import FREE, PRICE, SOL, START_S, funding

from deltatui.backtest.clock import SimulatedClock
from deltatui.domain.errors import TransientError
from deltatui.domain.operation import Leg, Operation, OperationKind, OperationState
from deltatui.ports import AccountState, Mark, Outcome
from deltatui.store.database import Database, Durability
from deltatui.store.paper_tables import PaperTables
from deltatui.venues.paper.settings import SOL_PERP, PaperFaults, PaperSettings
from deltatui.venues.paper.venue import PaperVenue

STEP = SOL_PERP.step_base_1e9


class Exchange:
    def __init__(self, venue: PaperVenue, clock: SimulatedClock) -> None:
        self.venue = venue
        self.clock = clock
        self.number = 0

    async def do(self, *legs: Leg, name: str = "") -> Outcome:
        self.number += 1
        operation = Operation(name or f"op-{self.number}", OperationKind.TAKE, "SOL-PERP", "test", 0.0, 0.0, legs)
        signed = await self.venue.sign(await self.venue.build(operation))
        await self.venue.send(signed)
        outcome = await self.venue.outcome(signed)
        assert outcome is not None
        return outcome

    async def price(self, price: Decimal) -> None:
        await self.venue.on_price(self.clock.market_s(), price, price, interpolated=True)

    @property
    def account(self) -> AccountState:
        account = self.venue.account("SOL-PERP")
        assert account is not None
        return account

    @property
    def legs(self) -> tuple[int, int]:
        return self.account.spot_1e9, self.account.perp_1e9


@asynccontextmanager
async def exchange(**faults: object) -> AsyncIterator[Exchange]:
    database = await Database.open(None, Durability.MEMORY)
    clock = SimulatedClock(float(START_S))
    paper = PaperSettings(costs=FREE, faults=PaperFaults(**faults))  # type: ignore[arg-type]
    venue = PaperVenue(SOL_PERP, paper, PaperTables(database), clock, "paper")
    await venue.open(Decimal(100_000), Decimal(1000))
    x = Exchange(venue, clock)
    await x.price(PRICE)
    try:
        yield x
    finally:
        await database.close()


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
        assert x.venue.perp_1e9 == -5 * SOL
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
        market = x.venue.market("SOL-PERP")
        assert market is not None
        assert market.mark == PRICE * 2
        assert x.account.unsettled == -5 * PRICE


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
        told = await x.venue.report("SOL-PERP", outcome.at)
        assert told.perp_1e9 == -5 * SOL
        assert told == x.account
        assert x.clock.operator_s() - began_s == pytest.approx(10.0, abs=0.11)
        assert x.clock.market_s() == START_S
        # What is there already is told at once.
        began_s = x.clock.operator_s()
        assert await x.venue.report("SOL-PERP", outcome.at) == told
        assert await x.venue.report("SOL-PERP", None) == told
        assert x.clock.operator_s() == began_s


async def test_without_the_fault_a_report_does_not_wait() -> None:
    async with exchange() as x:
        outcome = await x.do(*pair(5 * SOL))
        told = await x.venue.report("SOL-PERP", outcome.at)
        assert told.perp_1e9 == -5 * SOL
        assert x.clock.operator_s() == START_S


async def test_a_report_that_does_not_come_ends_at_the_deadline() -> None:
    async with exchange(report_late_s=60.0) as x:
        outcome = await x.do(*pair(5 * SOL))
        began_s = x.clock.operator_s()
        with pytest.raises(TransientError) as late:
            await x.venue.report("SOL-PERP", outcome.at)
        assert late.value.code == "NOT_REPORTED"
        assert late.value.sentence == "the exchange has not told the account anew for 30 s"
        assert x.clock.operator_s() - began_s == pytest.approx(30.0, abs=0.11)
        # It comes later.
        await x.clock.sleep(30.0)
        assert (await x.venue.report("SOL-PERP", outcome.at)).perp_1e9 == -5 * SOL
        with pytest.raises(TransientError):
            await x.venue.report("SOL-PERP", Mark(10**6))


async def test_a_liquidation_looks_at_the_account_as_it_is() -> None:
    """The exchange itself is never late."""
    async with exchange(report_late_s=10.0) as x:
        await x.do(Leg("SOL-PERP", -5000 * SOL, 1))
        await x.price(PRICE * 2)
        assert x.venue.perp_1e9 == 0
        assert x.account.perp_1e9 == 0
        assert x.account.liquidations == 0
        await x.clock.sleep(10.0)
        assert x.account.liquidations == 1
        assert x.account.equity == 0


async def test_funding_that_is_booked_is_told_late_too() -> None:
    async with exchange(report_late_s=10.0) as x:
        await x.do(*pair(5 * SOL))
        await x.clock.sleep(10.0)
        before = x.account
        await x.venue.on_record(funding(START_S + 3600, "0.5"))
        assert x.account.events == before.events
        assert x.account.unsettled == before.unsettled
        await x.clock.sleep(10.0)
        assert x.account.events == before.events + 1
        assert x.account.unsettled == before.unsettled + Decimal("2.5")
