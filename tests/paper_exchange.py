"""The paper exchange alone, on a simulated clock over a store in memory: what its own tests begin with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TypeVar

from deltatui.backtest.clock import SimulatedClock
from deltatui.domain.costs import NO_FEES, NO_SLIPPAGE, CostModel
from deltatui.domain.facts import Funding, MarketChange, Prices
from deltatui.domain.margin import margin_summary
from deltatui.domain.market import FundingRecord, MarketSpec
from deltatui.domain.operation import Leg, Operation, OperationKind, Transfer
from deltatui.ports import NO_PERP, NO_SPOT, AccountReport, Outcome, PerpBalance, SpotBalance
from deltatui.store.database import Database, Durability
from deltatui.store.paper_tables import PaperTables
from deltatui.venues.paper.account import Change, PaperAccount
from deltatui.venues.paper.markets import Markets, PaperMarket
from deltatui.venues.paper.settings import BTC_PERP, SOL_PERP, PaperSettings
from deltatui.venues.paper.venue import PaperVenue

T = TypeVar("T")

SOL = BTC = 10**9
START_S = 1_700_000_000 // 28_800 * 28_800
PRICE, BTC_PRICE = Decimal(150), Decimal(60_000)
FREE = CostModel(NO_FEES, NO_SLIPPAGE)
NO_LIMIT_BUY, NO_LIMIT_SELL = 10**15, 1
BOTH = (SOL_PERP, BTC_PERP)


def record_of(
    ts_s: int,
    rate: Decimal | str = "0",
    price: Decimal = PRICE,
    mark: Decimal | None = None,
    short: Decimal | None = None,
) -> FundingRecord:
    """The same rate for both sides unless told otherwise."""
    value = Decimal(rate)
    mark, short = price if mark is None else mark, value if short is None else short
    return FundingRecord(ts_s, value, value, short, price, mark, Decimal(0))


def order(market: str, base_1e9: int, *, reduce_only: bool = False, limit: int | None = None) -> Leg:
    """Without a limit unless told otherwise."""
    default = NO_LIMIT_BUY if base_1e9 > 0 else NO_LIMIT_SELL
    return Leg(market, base_1e9, default if limit is None else limit, reduce_only)


def priced(prices: Mapping[str, tuple[Decimal, Decimal]], specs: Iterable[MarketSpec] = (SOL_PERP,)) -> Markets:
    """Markets with (oracle, mark) by symbol."""
    markets = Markets(specs)
    for symbol, (oracle, mark) in prices.items():
        markets.by_symbol[symbol].now = PaperMarket(oracle, mark)
    return markets


def change_of(account: PaperAccount, markets: Markets, market_s: float = 1000.0) -> Change:
    """A change of a copy: ``account`` stays as it is."""
    return Change(account.copy(), market_s, markets)


class Exchange:
    """``do`` gives orders of one market, the others say facts; operations are named by their number."""

    def __init__(self, venue: PaperVenue, clock: SimulatedClock, database: Database) -> None:
        self.venue = venue
        self.clock = clock
        self.database = database
        self.number = 0

    async def do(
        self,
        *legs: Leg,
        market: str = "SOL-PERP",
        kind: OperationKind = OperationKind.TAKE,
        name: str = "",
        transfer: Transfer | None = None,
    ) -> Outcome:
        self.number += 1
        operation = Operation(name or f"op-{self.number}", kind, market, "test", 0.0, 0.0, legs, transfer=transfer)
        signed = await self.venue.sign(await self.venue.build(operation))
        await self.venue.send(signed)
        outcome = await self.venue.outcome(signed)
        assert outcome is not None
        return outcome

    async def tried(self, *legs: Leg, **more: object) -> tuple[str, str]:
        """(state, error code)."""
        outcome = await self.do(*legs, **more)  # type: ignore[arg-type]
        return str(outcome.state), outcome.error_code

    async def price(
        self, price: Decimal | int, mark: Decimal | int | None = None, market: str = "SOL-PERP", after_s: float = 0.0
    ) -> None:
        self.clock.advance_to(self.clock.market_s() + after_s)
        oracle = Decimal(price)
        mark = oracle if mark is None else Decimal(mark)
        await self.venue.take(Prices(market, "test", self.clock.market_s(), oracle, mark))

    async def record(self, record: FundingRecord, market: str = "SOL-PERP", *, priced: bool = True) -> None:
        """As a tape says it."""
        self.clock.advance_to(float(record.ts_s))
        await self.venue.take(Funding(market, "test", float(record.ts_s), record, priced=priced))

    async def change(
        self,
        market: str = "SOL-PERP",
        *,
        spec: MarketSpec | None = None,
        paused: str | None = None,
        ended: bool | None = None,
    ) -> None:
        await self.venue.take(MarketChange(market, "test", self.clock.market_s(), spec, paused, ended))

    @property
    def account(self) -> AccountReport:
        account = self.venue.account()
        assert account is not None
        return account

    @property
    def legs(self) -> tuple[int, int]:
        """(spot, perp) of SOL-PERP as the exchange tells them."""
        return self.spot().base_1e9, self.perp().base_1e9

    def perp(self, market: str = "SOL-PERP") -> PerpBalance:
        return self.account.perps.get(market, NO_PERP)

    def spot(self, asset: str = "SOL") -> SpotBalance:
        return self.account.spots.get(asset, NO_SPOT)

    def free_initial_1e6(self) -> int:
        book = self.venue.margin_book()
        assert book is not None
        return margin_summary(book).free_initial_1e6


@asynccontextmanager
async def exchange(
    paper: PaperSettings | None = None,
    *,
    specs: Iterable[MarketSpec] = (SOL_PERP,),
    opening: Decimal | int = 100_000,
    wallet_quote: Decimal | int = 1000,
    wallet: Mapping[str, Decimal] | None = None,
    price: Decimal = PRICE,
) -> AsyncIterator[Exchange]:
    """Every listed market has a price: SOL-PERP ``price``, BTC-PERP its own."""
    database = await Database.open(None, Durability.MEMORY)
    try:
        clock = SimulatedClock(float(START_S))
        settings = PaperSettings(costs=FREE) if paper is None else paper
        venue = PaperVenue(specs, settings, PaperTables(database), clock)
        await venue.open(Decimal(opening), Decimal(wallet_quote), wallet)
        x = Exchange(venue, clock, database)
        for symbol in venue.markets():
            await x.price(price if symbol == "SOL-PERP" else BTC_PRICE, market=symbol)
        yield x
    finally:
        await database.close()


def on_exchange(scenario: Callable[[Exchange], Awaitable[T]], paper: PaperSettings | None = None, **more: object) -> T:
    """The same for a property, which hypothesis calls without a loop."""

    async def go() -> T:
        async with exchange(paper, **more) as x:  # type: ignore[arg-type]
            return await scenario(x)

    return asyncio.run(go())
