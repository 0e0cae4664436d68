"""The state that the paper exchange keeps, version by version.

What an earlier version wrote is read by that version's own structs and turned into today's, field by field: a field
that nobody knows is refused, for with it money could vanish.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TypeVar

import msgspec

from deltatui.domain.errors import CriticalError
from deltatui.domain.market import FundingRecord
from deltatui.venues.paper.account import PaperAccount, PaperPerp
from deltatui.venues.paper.markets import PaperMarket
from deltatui.venues.paper.settings import SOL_PERP

VERSION = 2

T = TypeVar("T")


class Saved(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole exchange: its account, the markets that have a price, by symbol, and the market time of it."""

    version: int
    account: PaperAccount
    markets: dict[str, PaperMarket]
    as_of_s: float


class _Perp1(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    base_1e9: int
    quote: Decimal
    entry_quote: Decimal
    booked_index: Decimal
    booked_cycle: int
    settled: Decimal = Decimal(0)


class _Market1(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    oracle: Decimal
    mark: Decimal
    index_long: Decimal
    index_short: Decimal
    records: int
    last_record_s: int


class _Account1(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``spot`` and ``perp`` are those of SOL-PERP, the one market that there was; ``others`` are by symbol. What has a
    default came during version 1."""

    quote: Decimal
    spot: Decimal
    perp: _Perp1
    wallet_quote: Decimal
    wallet_spot: Decimal
    accrued_s: int
    sequence: int
    liquidations: int
    settled: Decimal = Decimal(0)
    others: Mapping[str, _Perp1] = {}


class _Saved1(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Version 1 carried no number. The newest ``record`` was kept for its readers alone; the exchange does not need
    it."""

    account: _Account1
    market: _Market1
    cursor_s: float
    record: FundingRecord | None
    other_marks: Mapping[str, Decimal] = {}


class _Head(msgspec.Struct):
    version: int = 1


def write_saved(saved: Saved) -> bytes:
    return _encode(saved)


def read_saved(blob: bytes) -> Saved:
    """Raises CriticalError BAD_PAPER_STATE for what no version has written, or a newer one."""
    version = _read(blob, _Head).version
    if version == VERSION:
        saved = _read(blob, Saved)
        if msgspec.to_builtins(saved) != msgspec.json.decode(blob):
            # The structs have defaults for those who begin; nothing that was saved may come from one.
            raise CriticalError("BAD_PAPER_STATE", "the paper exchange's account lacks fields that are always written")
        return saved
    if version == 1:
        return _upgraded(_read(blob, _Saved1))
    raise CriticalError(
        "BAD_PAPER_STATE",
        f"the paper exchange's account is of version {version}, this deltatui reads versions 1 to {VERSION}",
    )


def _upgraded(old: _Saved1) -> Saved:
    account, symbol, base = old.account, SOL_PERP.symbol, SOL_PERP.base_symbol
    markets = {symbol: _now(old.market, PaperMarket)}
    for other, mark in old.other_marks.items():
        markets[other] = PaperMarket(mark, mark)
    return Saved(
        VERSION,
        PaperAccount(
            quote=account.quote,
            wallet_quote=account.wallet_quote,
            spots={base: account.spot},
            wallet={base: account.wallet_spot},
            perps={name: _now(perp, PaperPerp) for name, perp in {symbol: account.perp, **account.others}.items()},
            accrued_s=account.accrued_s,
            sequence=account.sequence,
            liquidations=account.liquidations,
            settled=account.settled,
        ),
        markets,
        old.cursor_s,
    )


def _now(old: msgspec.Struct, kind: type[T]) -> T:
    """The same fields as today's; raises msgspec.ValidationError where they are not."""
    return msgspec.convert(msgspec.to_builtins(old), kind)


def _read(blob: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(blob, type=kind)
    except msgspec.DecodeError as error:
        raise CriticalError("BAD_PAPER_STATE", f"the paper exchange's account cannot be read: {error}") from None


_encode = msgspec.json.Encoder().encode
