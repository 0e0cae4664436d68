"""What the engine says of carry: the break-even clock, verdicts that name their rule, and the same after a restart."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from engine_harness import SOL, World, deposit, rate_of, rebalance, take, world

from deltatui.domain.carry import CarrySettings, Stance
from deltatui.domain.command import Direction, ResultStatus
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
        await w.give(deposit(1 * SOL, "SOL"))
        told = profitability(w.engine.preview(rebalance()).verdicts)
        assert (told.status, told.reason) == (
            VerdictStatus.EXEMPT,
            "it corrects the hedge that is held and enters nothing",
        )
    async with world(apr_pct=-100.0, hold=Stance.CARRY) as w:
        told = profitability((await w.give(take(5))).verdicts)
        assert (told.status, told.reason) == (VerdictStatus.EXEMPT, "this run holds CARRY whatever it pays")
