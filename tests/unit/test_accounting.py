"""Books that begin with an account that has a past."""

from __future__ import annotations

from decimal import Decimal
from typing import cast

import pytest
from account_reports import ACCOUNT_ID, report

from deltatui.domain.facts import Prices
from deltatui.engine.accounting import Accountant
from deltatui.engine.world import World
from deltatui.ports import PerpBalance, SpotBalance, Venue
from deltatui.venues.paper.settings import BTC_PERP, SOL_PERP

PRICES = Prices("SOL-PERP", "test", 0.0, Decimal(100), Decimal(101))


class NoVenue:
    """These books ask it for nothing."""


def world_of(*facts: Prices) -> World:
    world = World(cast(Venue, NoVenue()), [SOL_PERP, BTC_PERP])
    for fact in facts:
        world.take(fact)
    return world


def perp(base_1e9: int, mark: Decimal | None = None) -> PerpBalance:
    return PerpBalance(base_1e9, Decimal(100), Decimal(0), Decimal(0), mark)


@pytest.mark.parametrize(
    ("spot", "short", "own"),
    [(10, 0, 10), (10, -10, 0), (10, -7, 3), (10, -12, 0), (-10, 10, 0), (0, 0, 0)],
)
def test_what_the_perp_does_not_hedge_is_not_ours_to_sell(spot: int, short: int, own: int) -> None:
    accountant, world = Accountant(ACCOUNT_ID, [SOL_PERP, BTC_PERP]), world_of(PRICES)
    account = report(
        Decimal(5000),
        Decimal(4000),
        {"SOL-PERP": perp(short * 10**9)},
        {"SOL": SpotBalance(spot * 10**9, 0)},
        events=7,
    )
    assert accountant.open(world, account)
    assert accountant.opened
    assert (accountant.paid_in_1e9("SOL"), accountant.paid_in_1e9("wBTC")) == (own * 10**9, 0)
    assert accountant.books.cursor == 7
    assert accountant.books.closing_equity(world.marks(account)) == Decimal(5000)


def test_each_asset_is_paid_in_by_itself() -> None:
    """One market's short hedges nothing of another's spot."""
    accountant = Accountant(ACCOUNT_ID, [SOL_PERP, BTC_PERP])
    world = world_of(PRICES, Prices("BTC-PERP", "test", 0.0, Decimal(100_000), Decimal(100_000)))
    perps = {"SOL-PERP": perp(-10 * 10**9), "BTC-PERP": perp(-(10**9))}
    spots = {"SOL": SpotBalance(4 * 10**9, 0), "wBTC": SpotBalance(3 * 10**9, 0)}
    assert accountant.open(world, report(Decimal(10**6), Decimal(0), perps, spots))
    assert (accountant.paid_in_1e9("SOL"), accountant.paid_in_1e9("wBTC")) == (0, 2 * 10**9)


def test_books_do_not_begin_while_something_held_has_no_price() -> None:
    accountant, world = Accountant(ACCOUNT_ID, [SOL_PERP, BTC_PERP]), world_of(PRICES)
    held = report(Decimal(5000), Decimal(4000), {}, {"wBTC": SpotBalance(10**9, 0)}, events=3)
    assert not accountant.open(world, held)
    assert not accountant.opened
    # A foreign position has the mark that the venue tells, or none.
    foreign = report(Decimal(5000), Decimal(4000), {"DOGE-PERP": perp(10**9)}, {}, events=3)
    assert not accountant.open(world, foreign)
    priced = report(Decimal(5000), Decimal(4000), {"DOGE-PERP": perp(10**9, Decimal("0.3"))}, {}, events=3)
    assert accountant.open(world, priced)
    assert accountant.books.holdings["DOGE-PERP"].price == Decimal("0.3")
    assert accountant.books.closing_equity(world.marks(priced)) == Decimal(5000)
