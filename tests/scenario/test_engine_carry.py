"""What the engine says of carry: the break-even clock, verdicts that name their rule, and the same after a restart."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from engine_harness import SOL, Killed, World, deposit, rate_of, rebalance, take, world

from deltatui.domain.carry import CarrySettings, Stance
from deltatui.domain.command import Direction, ResultStatus, SetAutomation
from deltatui.domain.verdict import Verdict, VerdictStatus
from deltatui.venues.paper.settings import PaperSettings

# The break-even clock


def earned(w: World) -> float:
    held = w.snapshot().carry.held_earned
    assert held is not None
    return held


@pytest.mark.parametrize(("apr_pct", "by_funding_h", "right_h"), [(-8.97, 244, 1490), (-10.0, 219, 876)])
async def test_the_clock_of_a_reverse_counts_what_the_borrowed_sol_costs(
    apr_pct: float, by_funding_h: int, right_h: int
) -> None:
    """25 bp for the way in and out, 7.5 % a year for the loan."""
    async with world(apr_pct=apr_pct) as w:
        assert (await w.take(5, Direction.REVERSE)).status is ResultStatus.DONE
        assert earned(w) == 0.0
        await w.records(12, apr_pct)
        await w.restart()
        await w.records(12, apr_pct)
        cost = w.snapshot().carry.round_trip_cost
        assert cost is not None
        assert cost == pytest.approx(5 * 150 * 0.0025)
        # Interest on interest makes the true figure a little larger; in a day it does not show.
        assert 24 * cost / earned(w) == pytest.approx(right_h, rel=1e-3)
        funding = float(w.core.accountant.books.funding_since_open["SOL-PERP"])
        assert 24 * cost / funding == pytest.approx(by_funding_h, rel=1e-3)


async def test_the_clock_begins_anew_with_each_hedge_and_leaves_the_quote_interest_out() -> None:
    paper = PaperSettings(base_lend_apr_pct=Decimal(4), quote_lend_apr_pct=Decimal(5))
    async with world(paper=paper, wallet_sol=2, apr_pct=0.0) as w:
        await w.take(5)
        await w.records(10, 0.0)
        lent = 5 * 150 * 0.04 / 8760
        assert earned(w) == pytest.approx(10 * lent, rel=1e-4)
        await w.leave()
        assert w.snapshot().carry.held_earned is None
        await w.records(10, 0.0)
        await w.take(5)
        assert earned(w) == 0.0
        await w.records(1, 0.0)
        assert earned(w) == pytest.approx(lent, rel=1e-4)


# Verdicts


def profitability(verdicts: tuple[Verdict, ...]) -> Verdict:
    return next(verdict for verdict in verdicts if verdict.code == "profitability")


async def test_a_take_is_told_which_rule_refuses_it() -> None:
    async with world(apr_pct=100.0, primed=24) as w:
        assert profitability(w.snapshot().gates).limit == "<= 168 h"
        await w.record(rate_of(-3.1))
        told = profitability((await w.give(take(5))).verdicts)
        assert told.status is VerdictStatus.BLOCKED
        assert (told.observed, told.limit) == ("-3.1 % APR", "> 0 % APR, newest record")
        assert told.reason == "the newest record pays the other side"
    async with world(apr_pct=0.0, primed=24) as w:
        await w.record(rate_of(300.0))
        told = profitability((await w.give(take(5))).verdicts)
        assert (told.observed, told.limit) == ("+6.2 % APR", ">= +13.0 % APR, average alone")


async def test_a_correction_is_no_policy() -> None:
    async with world(apr_pct=100.0, wallet_sol=2) as w:
        await w.take(5)
        await w.sure(deposit(1 * SOL, "SOL"))
        told = profitability(w.preview(rebalance()).verdicts)
        assert (told.status, told.reason) == (
            VerdictStatus.EXEMPT,
            "it corrects the hedge that is held and enters nothing",
        )
    async with world(apr_pct=-100.0, hold=Stance.CARRY) as w:
        told = profitability((await w.give(take(5))).verdicts)
        assert (told.status, told.reason) == (VerdictStatus.EXEMPT, "this run holds CARRY whatever it pays")


# The same after a restart


def noise(number: int) -> float:
    """An APR in percent that is different every hour; it pays enough to enter only on the long average."""
    return 60.0 + 900.0 * math.sin(number * 0.7) + 40.0 * math.cos(number / 90)


async def lived(w: World, hours: range, *, restart_at: int, **settings: object) -> list[object]:
    """What the engine thought after each record. The exchange has no tape: past records come from the store alone."""
    thought: list[object] = []
    for number in hours:
        if number == restart_at:
            w.history.clear()
            await w.restart(**settings)
        await w.record(rate_of(noise(number)))
        thought.append(
            (
                w.hedge.memory.decision,
                w.hedge.memory.carry,
                w.hedge.window.mean,
                w.hedge.week.mean,
                w.hedge.window.count,
            )
        )
    return thought


async def test_a_long_average_judges_after_a_restart_as_without_one() -> None:
    carry = CarrySettings(average_records=400)
    async with world(primed=0, carry=carry) as w, world(primed=0, carry=carry) as still:
        seen = await lived(w, range(520), restart_at=500)
        unbroken = await lived(still, range(520), restart_at=-1)
        # Of 500 records 400 are looked back at; how many there were before only has to be enough for min_records.
        assert [each[:4] for each in seen] == [each[:4] for each in unbroken]  # type: ignore[index]
        assert w.hedge.window.count == 420
        assert profitability(w.snapshot().gates) == profitability(still.snapshot().gates)


async def test_the_records_that_a_first_decision_needs_are_counted_across_restarts() -> None:
    carry = CarrySettings(min_records=300, average_records=10)
    async with world(primed=0, carry=carry) as w:
        await w.records(250, 100.0)
        assert w.hedge.memory.decision is not None
        assert w.hedge.memory.decision.sentence == "too few funding records yet (250 of 300)"
        w.history.clear()
        await w.restart()
        await w.record(rate_of(100.0))
        assert w.hedge.memory.decision.sentence == "too few funding records yet (251 of 300)"
        await w.records(48, 100.0)
        assert w.hedge.memory.decision.sentence == "too few funding records yet (299 of 300)"
        await w.record(rate_of(100.0))
        assert w.hedge.memory.decision.judged is not None


async def test_a_longer_average_set_later_finds_its_records_in_the_store() -> None:
    async with world(primed=0) as w:
        await w.records(300, 100.0)
        w.history.clear()
        await w.restart(carry=CarrySettings(average_records=250))
        assert (len(w.hedge.window), w.hedge.window.count) == (250, 250)
        assert len(w.hedge.week) == 168


async def test_without_a_tape_the_newest_record_that_was_kept_is_known_after_a_restart() -> None:
    """A take was refused for up to an hour: "the newest funding record is unknown"."""
    async with world() as w:
        newest = w.past()[-1]
        w.history.clear()
        await w.restart()
        facts = w.hedge.facts()
        assert facts is not None
        assert facts.market.funding == newest
        assert (await w.take(5)).status is ResultStatus.DONE


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", range(1, 7))
async def test_killed_anywhere_no_record_is_lost_or_counted_twice(number: int, after: bool) -> None:
    async with world(primed=0) as w:
        await w.records(10, 100.0)
        w.gremlin.kill_at(number, after=after)
        with pytest.raises(Killed):
            await lived(w, range(10, 20), restart_at=-1)
        await w.restart()
        booked = w.hedge.window.count
        for hour in range(len(w.history), 30):
            await w.record(rate_of(noise(hour)))
        kept = await w.store.funding("SOL-PERP", 100)
        assert kept == w.past()
        assert booked <= len(kept) == w.hedge.window.count == 30


async def test_records_that_could_not_be_kept_are_kept_later() -> None:
    async with world(primed=0) as w:
        await w.records(5, 100.0)
        w.gremlin.refuse(lambda name: name == "_append_ledger")
        await w.records(5, 50.0)
        assert len(await w.store.funding("SOL-PERP", 100)) == 5
        w.gremlin.quiet()
        await w.records(1, 50.0)
        assert await w.store.funding("SOL-PERP", 100) == w.past()


async def test_what_was_booked_and_never_kept_comes_from_the_tape_once() -> None:
    """The disk refuses the engine, not the exchange, and the process dies: the tape has what is missing."""
    async with world(primed=0) as w:
        await w.records(5, 100.0)
        w.gremlin.refuse(lambda name: name == "_append_ledger")
        await w.records(5, 50.0)
        assert len(await w.store.funding("SOL-PERP", 100)) == 5
        await w.restart()
        assert await w.store.funding("SOL-PERP", 100) == w.past()
        assert w.hedge.window.count == 10
        # What was held between them nobody knows any more: the newest is decided on, the others only averaged.
        assert w.hedge.memory.carry.streak == 1


async def test_a_record_that_a_venue_tells_again_counts_once() -> None:
    async with world(primed=0) as w:
        await w.records(8, 100.0)
        again = w.history[-1]
        await w.hear(again)
        assert w.hedge.window.count == 8
        assert await w.store.funding("SOL-PERP", 100) == w.past()


async def test_what_was_left_by_hand_is_not_wanted_back_by_the_decision_to_stay_in_it() -> None:
    async with world(apr_pct=0.0) as w:
        await w.take(5)
        await w.records(1, 0.0)
        carry = w.snapshot().carry
        assert (carry.stance, carry.decision) == ("CARRY", "CARRY")
        await w.leave()
        carry = w.snapshot().carry
        assert (carry.stance, carry.decision) == ("FLAT", "FLAT")
        assert carry.sentence == "it was left; the next funding record decides anew"
        assert (await w.give(SetAutomation(on=True))).status is ResultStatus.DONE
        await w.step()
        assert w.legs == (0, 0)
        await w.records(1, 0.0)
        assert w.snapshot().carry.sentence.startswith("FLAT is better")
