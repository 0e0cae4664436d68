"""The account as it would be after a trade or a transfer, for gates and confirmations (R4.2, R3.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from deltatui.domain.account import PerpPosition, SpotMarket, SpotPosition, UserAccount
from deltatui.domain.errors import ValidationError
from deltatui.domain.margin import MarginBook, health, leverage_1e4
from deltatui.domain.position_margin import position_funding_1e6, refuse_isolated, spot_tokens
from deltatui.domain.units import div_trunc
from deltatui.domain.weights import scaled_balance

P = TypeVar("P", PerpPosition, SpotPosition)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a trade or transfer moves.

    ``base_delta_1e9`` is positive when bought, ``quote_delta_1e6`` positive when received (so a buy has a negative
    one) and without the fee, ``fee_1e6`` positive when paid. ``token_deltas`` maps a spot market to smallest units
    that come in (positive) or go out.
    """

    perp_index: int | None = None
    base_delta_1e9: int = 0
    quote_delta_1e6: int = 0
    fee_1e6: int = 0
    token_deltas: Mapping[int, int] = {}


def account_after(book: MarginBook, change: Change) -> UserAccount:
    """The user after ``change``; the book itself stays as it is.

    A perp fill first settles funding and then changes the entry in proportion, as the program does; a position or
    balance that ends empty is left out. Raises ValidationError for an unknown market, an isolated position, or a perp
    change that names no market.
    """
    user = book.user
    if change.base_delta_1e9 or change.quote_delta_1e6 or change.fee_1e6:
        if change.perp_index is None:
            raise ValidationError("NO_MARKET", "a change of a perp position needs the market's perp_index")
        user = _with_fill(book, change.perp_index, change)
    for index, tokens in change.token_deltas.items():
        user = _with_tokens(user, book.spot(index)[0], tokens)
    return user


def book_after(book: MarginBook, change: Change) -> MarginBook:
    """``book`` with :func:`account_after` as its user: every margin function then tells the figure after."""
    return msgspec.structs.replace(book, user=account_after(book, change))


def leverage_after(book: MarginBook, change: Change) -> int:
    """Leverage (1e4) after ``change``."""
    return leverage_1e4(book_after(book, change))


def health_after(book: MarginBook, change: Change) -> int:
    """Health after ``change``."""
    return health(book_after(book, change))


def _with_fill(book: MarginBook, perp_index: int, change: Change) -> UserAccount:
    market, _ = book.perp(perp_index)
    position = book.user.perp(perp_index)
    refuse_isolated(position)
    base_delta, quote_delta = change.base_delta_1e9, change.quote_delta_1e6
    funding = position_funding_1e6(market, position)
    before, after = position.base_1e9, position.base_1e9 + base_delta
    entry, break_even = position.quote_entry_1e6, position.quote_break_even_1e6 + funding
    if before * base_delta >= 0:
        entry += quote_delta
        break_even += quote_delta
    elif before * after >= 0:
        entry -= div_trunc(entry * abs(base_delta), abs(before))
        break_even -= div_trunc(break_even * abs(base_delta), abs(before))
    else:
        entry = break_even = quote_delta - div_trunc(quote_delta * abs(before), abs(base_delta))
    rate = market.cumulative_funding_rate_long_1e9 if after > 0 else market.cumulative_funding_rate_short_1e9
    changed = msgspec.structs.replace(
        position,
        base_1e9=after,
        quote_1e6=position.quote_1e6 + funding + quote_delta - change.fee_1e6,
        quote_entry_1e6=entry,
        quote_break_even_1e6=break_even - change.fee_1e6,
        last_cumulative_funding_rate_1e9=rate if after else 0,
    )
    empty = not (after or changed.quote_1e6 or changed.open_orders)
    return msgspec.structs.replace(book.user, perp_positions=_replaced(book.user.perp_positions, changed, drop=empty))


def _with_tokens(user: UserAccount, market: SpotMarket, delta: int) -> UserAccount:
    if delta == 0:
        return user
    position = user.spot(market.market_index)
    tokens = spot_tokens(market, position) + delta
    scaled = scaled_balance(market, abs(tokens), tokens < 0)
    changed = msgspec.structs.replace(position, scaled_balance_1e9=scaled, is_borrow=tokens < 0)
    empty = not (scaled or changed.open_orders)
    return msgspec.structs.replace(user, spot_positions=_replaced(user.spot_positions, changed, drop=empty))


def _replaced(positions: tuple[P, ...], changed: P, *, drop: bool) -> tuple[P, ...]:
    """``positions`` with the one of the same market changed or, if it was not there, appended."""
    kept = [position for position in positions if position.market_index != changed.market_index]
    if not drop:
        indices = [position.market_index for position in positions]
        at = indices.index(changed.market_index) if changed.market_index in indices else len(kept)
        kept.insert(at, changed)
    return tuple(kept)
