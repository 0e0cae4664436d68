"""Facts: what sources say, one frozen value each.

A fact names its instrument, who says it (``source``), when it was so by the source's own clock (``source_s``, unix
seconds) and when it came here (``received_s``, operator time; None where it comes with the data, as from a tape).
Facts are a stream. Of :class:`Prices` the newest wins; funding and changes of a market are each taken, in order.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from deltatui.domain.market import FundingRecord, MarketSpec


class Prices(msgspec.Struct, frozen=True, tag=True):
    """Oracle and mark price in quote. ``interpolated``: reckoned between two records."""

    instrument: str
    source: str
    source_s: float
    oracle: Decimal
    mark: Decimal
    interpolated: bool = False
    received_s: float | None = None


class Funding(msgspec.Struct, frozen=True, tag=True):
    """A funding record that was published. ``priced``: its TWAPs are the prices of the moment too, because the source
    has no others (a tape)."""

    instrument: str
    source: str
    source_s: float
    record: FundingRecord
    priced: bool = False
    received_s: float | None = None


class MarketChange(msgspec.Struct, frozen=True, tag=True):
    """Something other than price and funding has changed. None: as it was. ``paused`` is why the market takes no
    orders just now (empty: it does), ``ended`` that no prices come any more, ``spec`` the market as it is listed from
    now on."""

    instrument: str
    source: str
    source_s: float
    spec: MarketSpec | None = None
    paused: str | None = None
    ended: bool | None = None
    received_s: float | None = None


Fact = Prices | Funding | MarketChange
