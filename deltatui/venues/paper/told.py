"""What the exchange tells of the account: when, and in which shape."""

from __future__ import annotations

from collections import deque

import msgspec

from deltatui.domain.units import BASE_PRECISION, base_to_decimal
from deltatui.ports import AccountId, AccountReport, Mark, PerpBalance, SpotBalance
from deltatui.venues.paper.account import PaperAccount
from deltatui.venues.paper.markets import Markets


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
        self.seen: deque[Seen] = deque()
        """Oldest first; whoever is asked for every fact looks at it himself."""

    def begin(self, mark: Commits, account: PaperAccount) -> None:
        """Before a change: what was so all the time until now."""
        if not self.seen:
            self.seen.append(Seen(float("-inf"), mark, account.copy()))

    def add(self, since_s: float, mark: Commits, account: PaperAccount) -> None:
        self.seen.append(Seen(since_s, mark, account.copy()))

    def clear(self) -> None:
        self.seen.clear()

    def at(self, then_s: float) -> Seen | None:
        """What was so at ``then_s``; what is older is forgotten."""
        seen = self.seen
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
            base, entry = base_to_decimal(perp.base_1e9), None
            if perp.base_1e9:
                entry = -perp.entry_quote / base
            perps[symbol] = PerpBalance(perp.base_1e9, entry, base * now.oracle + perp.quote, perp.settled, now.mark)
    return AccountReport(
        account_id,
        mark,
        as_of_s,
        account.sequence,
        equity,
        account.quote,
        account.wallet_quote,
        _spots(account, markets),
        perps,
        account.settled,
        liquidations=account.liquidations,
    )


def _spots(account: PaperAccount, markets: Markets) -> dict[str, SpotBalance]:
    spots = {}
    for asset, tokens in account.spots.items():
        wallet = account.wallet.get(asset)
        if tokens or wallet:
            held_1e9, wallet_1e9 = int(tokens * BASE_PRECISION), int(wallet * BASE_PRECISION) if wallet else 0
            if held_1e9 or wallet_1e9:
                now = markets.by_base[asset].now
                spots[asset] = SpotBalance(held_1e9, wallet_1e9, None if now is None else now.oracle)
    for asset, tokens in account.wallet.items():
        if asset not in account.spots and (wallet_1e9 := int(tokens * BASE_PRECISION)):
            spots[asset] = SpotBalance(0, wallet_1e9)
    return spots
