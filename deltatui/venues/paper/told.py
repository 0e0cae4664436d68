"""What the exchange tells of the account: when, and in which shape."""

from __future__ import annotations

from collections import deque
from decimal import Decimal

import msgspec

from deltatui.domain.units import BASE_PRECISION
from deltatui.ports import AccountId, AccountReport, Mark, PerpBalance, SpotBalance
from deltatui.venues.paper.account import PaperAccount
from deltatui.venues.paper.markets import Markets

_ZERO = Decimal(0)


class Commits(msgspec.Struct, frozen=True):
    """The paper exchange's mark: how often the account had changed since this process opened it."""

    count: int

    def covers(self, other: Mark, /) -> bool:
        return isinstance(other, Commits) and self.count >= other.count


class Seen(msgspec.Struct, frozen=True):
    """The account as it has been since ``since_s`` of operator time."""

    since_s: float
    mark: Commits
    account: PaperAccount


class Past:
    """What the account was, as far back as it may still be told; empty where nothing is told late (R1.6)."""

    def __init__(self) -> None:
        self._seen: deque[Seen] = deque()

    def __bool__(self) -> bool:
        return bool(self._seen)

    def begin(self, mark: Commits, account: PaperAccount) -> None:
        """Before a change: what was so all the time until now."""
        if not self._seen:
            self._seen.append(Seen(float("-inf"), mark, account.copy()))

    def add(self, since_s: float, mark: Commits, account: PaperAccount) -> None:
        self._seen.append(Seen(since_s, mark, account.copy()))

    def clear(self) -> None:
        self._seen.clear()

    def at(self, then_s: float) -> Seen | None:
        """What was so at ``then_s``; what is older is forgotten."""
        seen = self._seen
        while len(seen) > 1 and seen[1].since_s <= then_s:
            seen.popleft()
        return seen[0] if seen else None


def tell(
    account_id: AccountId, mark: Commits, as_of_s: float, account: PaperAccount, markets: Markets
) -> AccountReport | None:
    """None while there is no price at all, or none of something that is held: its equity cannot be told."""
    if not markets.priced:
        return None
    equity = account.equity(markets)
    if equity is None:
        return None
    perps = {}
    for symbol, perp in account.perps.items():
        now = markets.by_symbol[symbol].now
        if now is not None and (perp.base_1e9 or perp.quote):
            perps[symbol] = PerpBalance(perp.base_1e9, perp.entry_price, perp.worth(now.oracle), perp.settled, now.mark)
    return AccountReport(
        account_id,
        mark,
        as_of_s,
        account.sequence,
        equity,
        account.quote,
        account.wallet_quote,
        _spots(account),
        perps,
        account.settled,
        liquidations=account.liquidations,
    )


def _spots(account: PaperAccount) -> dict[str, SpotBalance]:
    spots = {}
    for asset in {**account.spots, **account.wallet}:
        held = int(account.spots.get(asset, _ZERO) * BASE_PRECISION)
        wallet = int(account.wallet.get(asset, _ZERO) * BASE_PRECISION)
        if held or wallet:
            spots[asset] = SpotBalance(held, wallet)
    return spots
