"""Books that begin with an account that has a past."""

from __future__ import annotations

from decimal import Decimal

import pytest

from deltatui.domain.market import MarketState
from deltatui.engine.accounting import Accountant
from deltatui.ports import AccountState
from deltatui.venues.paper.settings import SOL_PERP

MARKET = MarketState(SOL_PERP, 0.0, Decimal(100), Decimal(101), False, True, None, 0, None)


@pytest.mark.parametrize(
    ("spot", "perp", "own"),
    [(10, 0, 10), (10, -10, 0), (10, -7, 3), (10, -12, 0), (-10, 10, 0), (0, 0, 0)],
)
def test_what_the_perp_does_not_hedge_is_not_ours_to_sell(spot: int, perp: int, own: int) -> None:
    accountant = Accountant(SOL_PERP)
    account = AccountState(
        0.0, 7, Decimal(5000), Decimal(4000), spot * 10**9, perp * 10**9, Decimal(100), Decimal(0), Decimal(0), 0
    )
    accountant.open(MARKET, account)
    assert accountant.paid_in_1e9 == own * 10**9
    assert accountant.books.cursor == 7
    assert accountant.books.closing_equity(accountant.marks(MARKET, account)) == Decimal(5000)
