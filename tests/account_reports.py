"""An account as a venue would tell it, for tests that need no venue."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from deltatui.domain.market import MarketState
from deltatui.engine.world import Facts
from deltatui.ports import NO_PERP, NO_SPOT, AccountId, AccountReport, Mark, PerpBalance, SpotBalance

ACCOUNT_ID = AccountId("test", "somebody")


class CountedMark(msgspec.Struct, frozen=True):
    """How many reports were made before."""

    number: int = 0

    def covers(self, other: Mark, /) -> bool:
        return isinstance(other, CountedMark) and self.number >= other.number


def report(
    equity: Decimal,
    quote: Decimal,
    perps: Mapping[str, PerpBalance],
    spots: Mapping[str, SpotBalance],
    *,
    wallet_quote: Decimal = Decimal(0),
    events: int = 0,
) -> AccountReport:
    return AccountReport(ACCOUNT_ID, CountedMark(), 0.0, events, equity, quote, wallet_quote, spots, perps)


def facts_of(market: MarketState, account: AccountReport) -> Facts:
    spec = market.spec
    return Facts(market, account, account.perps.get(spec.symbol, NO_PERP), account.spots.get(spec.base_symbol, NO_SPOT))
