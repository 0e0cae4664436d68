"""``async with world() as w``: the whole engine on a simulated clock, on the paper exchange, over a store in memory.

Time moves only when a test moves it. The exchange, the store and the engine of one world may be taken down and built
again over the same database (:meth:`World.restart`), and any of them may be told to fail (:class:`Gremlin`).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from deltatui.backtest.clock import SimulatedClock
from deltatui.domain.carry import Stance
from deltatui.domain.command import (
    AnyCommand,
    CommandResult,
    Confirm,
    Deposit,
    Direction,
    Leave,
    Rebalance,
    ResultStatus,
    Resume,
    Take,
    Withdraw,
)
from deltatui.domain.costs import NO_FEES, NO_SLIPPAGE, CostModel
from deltatui.domain.delta import RebalanceSettings
from deltatui.domain.errors import TransientError
from deltatui.domain.event import Event, Level
from deltatui.domain.facts import Fact, Funding, MarketChange, Prices
from deltatui.domain.gates import GateLimits
from deltatui.domain.market import FundingRecord
from deltatui.domain.operation import OperationState
from deltatui.domain.principal import ENGINE, OPERATOR, Principal
from deltatui.domain.snapshot import MarketDetail, PlanView, Snapshot
from deltatui.engine.engine import Engine
from deltatui.engine.hedge import Hedge
from deltatui.engine.loop import Loop
from deltatui.engine.memory import PlannedCommand
from deltatui.engine.settings import EngineSettings, MarketSettings
from deltatui.engine.snapshots import SnapshotBuilder, Surroundings
from deltatui.ports import NO_PERP, NO_SPOT, AccountReport, Outcome, PerpBalance, Signed, SpotBalance, Unsigned
from deltatui.store.database import Database, Durability
from deltatui.store.engine_store import EngineStore
from deltatui.store.paper_tables import PaperTables
from deltatui.venues.paper.account import PaperPerp
from deltatui.venues.paper.settings import BTC_PERP, MARKETS, PaperFaults, PaperSettings
from deltatui.venues.paper.venue import PaperVenue

T = TypeVar("T")

SOL = 10**9
USD = 10**6
START_S = 1_700_000_000 // 28_800 * 28_800
HOUR_S = 3600
PRICE = Decimal(150)
PRICES = {"SOL-PERP": PRICE, "BTC-PERP": Decimal(100_000)}
FREE = CostModel(NO_FEES, NO_SLIPPAGE)

GAP = Decimal("1e-9")
"""Two independent paths to the equity may differ by rounding only."""


def rate_of(apr_pct: float, price: Decimal = PRICE) -> Decimal:
    """An hourly rate in quote per base that is ``apr_pct`` a year of ``price``."""
    return Decimal(str(apr_pct)) / 100 / 8760 * price


def funding(ts_s: int, rate: Decimal | str, price: Decimal = PRICE, mark: Decimal | None = None) -> FundingRecord:
    """The same rate for both sides."""
    value = Decimal(rate)
    return FundingRecord(ts_s, value, value, value, price, price if mark is None else mark, Decimal(0))


class Killed(BaseException):
    """Stands for the death of the process: nothing catches it."""


class Gremlin:
    """Lets the database fail. ``on_run`` is asked before and after each transaction, with its number from 1."""

    def __init__(self) -> None:
        self.count = 0
        self.before: Callable[[int, str], None] = lambda number, name: None
        self.after: Callable[[int, str], None] = lambda number, name: None
        self.names: list[str] = []

    def quiet(self) -> None:
        self.before = self.after = lambda number, name: None

    def refuse(self, wanted: Callable[[str], bool] = lambda name: True, *, times: int = 10**9) -> None:
        """The next ``times`` transactions of that name find the database locked."""
        left = times

        def say(number: int, name: str) -> None:
            nonlocal left
            if left and wanted(name):
                left -= 1
                raise TransientError("DATABASE_LOCKED", "another program holds the database locked")

        self.before = say

    def kill_at(self, number: int, *, after: bool) -> None:
        """Die around transaction ``number`` counted from now."""
        fatal = self.count + number

        def say(now: int, name: str) -> None:
            if now == fatal:
                raise Killed(name)

        if after:
            self.after = say
        else:
            self.before = say


class HauntedDatabase(Database):
    """A database in memory that a gremlin watches."""

    gremlin: Gremlin

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        name = getattr(getattr(work, "func", work), "__name__", "?")
        arguments: tuple[Any, ...] = getattr(work, "args", ())
        if name == "_append_journal":
            name = f"journal {arguments[0].state}"
        self.gremlin.count += 1
        number = self.gremlin.count
        self.gremlin.names.append(name)
        self.gremlin.before(number, name)
        result = await super().run(work)
        self.gremlin.after(number, name)
        return result


class TroubledSender:
    """The paper exchange as sender, with a script: what ``send`` and ``outcome`` do before they do their work."""

    def __init__(self, venue: PaperVenue) -> None:
        self._venue = venue
        self.sent: list[str] = []
        self.mute = False
        """No outcome is known while set."""
        self.lost = False
        """What is sent does not arrive, and nobody can say so."""
        self.on_sign: Callable[[], Awaitable[None]] | None = None
        self.on_send: Callable[[], Awaitable[None]] | None = None
        self.refuse_simulation: Exception | None = None
        self.simulated = 0

    async def simulate(self, unsigned: Unsigned) -> None:
        self.simulated += 1
        if self.refuse_simulation is not None:
            raise self.refuse_simulation
        await self._venue.simulate(unsigned)

    async def sign(self, unsigned: Unsigned) -> Signed:
        if self.on_sign is not None:
            await self.on_sign()
        return await self._venue.sign(unsigned)

    async def send(self, signed: Signed) -> None:
        self.sent.append(signed.operation_id)
        if self.on_send is not None:
            await self.on_send()
        if self.lost:
            raise TransientError("NO_ROUTE", "the node does not answer")
        await self._venue.send(signed)

    async def outcome(self, signed: Signed) -> Outcome | None:
        return None if self.mute else await self._venue.outcome(signed)


class Seen(msgspec.Struct, frozen=True):
    """The account as the exchange tells it, looked at from one market."""

    report: AccountReport
    perp: PerpBalance
    spot: SpotBalance

    @property
    def perp_1e9(self) -> int:
        return self.perp.base_1e9

    @property
    def spot_1e9(self) -> int:
        return self.spot.base_1e9

    @property
    def wallet_base_1e9(self) -> int:
        return self.spot.wallet_1e9

    @property
    def equity(self) -> Decimal:
        return self.report.equity

    @property
    def quote(self) -> Decimal:
        return self.report.quote

    @property
    def wallet_quote(self) -> Decimal:
        return self.report.wallet_quote

    @property
    def unsettled(self) -> Decimal:
        return self.perp.unsettled

    @property
    def events(self) -> int:
        return self.report.events

    @property
    def liquidations(self) -> int:
        return self.report.liquidations


class Shown:
    """A snapshot with the detail of one market: what a terminal that has selected it shows."""

    def __init__(self, snapshot: Snapshot, detail: MarketDetail) -> None:
        hedge = snapshot.hedge(detail.market)
        assert hedge is not None
        self.snapshot = snapshot
        self.hedge = hedge
        self.detail = detail
        self.prices, self.delta, self.carry = hedge.prices, hedge.delta, hedge.carry
        self.gates, self.gates_subject, self.cards = detail.gates, detail.gates_subject, detail.cards
        self.actions = (*detail.actions, *snapshot.actions)
        self.confirmation = next(iter(snapshot.confirmations), None)
        self.operation = next(iter(snapshot.operations), None)
        self.account, self.vault, self.attribution = snapshot.account, snapshot.vault, snapshot.attribution
        self.engine, self.clock, self.alerts = snapshot.engine, snapshot.clock, snapshot.alerts
        self.positions, self.opportunities = snapshot.positions, snapshot.opportunities
        self.version = snapshot.version


class Line(msgspec.Struct, frozen=True):
    level: Level
    tag: str
    message: str
    fields: dict[str, Any]


class World:
    """One engine and everything around it. ``settings`` and ``paper`` count at the next :meth:`restart`."""

    def __init__(
        self,
        settings: EngineSettings,
        paper: PaperSettings,
        database: HauntedDatabase,
        opening: Decimal,
        wallet: Mapping[str, Decimal],
        start_s: int,
    ) -> None:
        self.settings = settings
        self.paper = paper
        self.database = database
        self.gremlin = database.gremlin
        self.opening = opening
        self.wallet_quote = Decimal(1000)
        self.wallet = wallet
        self.clock = SimulatedClock(float(start_s))
        self.prices = dict(PRICES)
        self.marks: dict[str, Decimal] = {}
        self.started = False
        self.priced = True
        """Whether there are prices when the engine starts."""
        self.history: list[Funding] = []
        self.owed: Fact | None = None
        self.lines: list[Line] = []
        self.events: list[Event] = []
        self.logging = True
        self.around = Surroundings(clients=1, pid=1, started_operator_s=float(start_s), speed=1)
        self._build()

    def _build(self) -> None:
        self.store = EngineStore(self.database)
        specs = [MARKETS[symbol] for symbol in self.settings.markets]
        self.venue = PaperVenue(specs, self.paper, PaperTables(self.database), self.clock)
        self.sender = TroubledSender(self.venue)
        self.engine = Engine(
            self.settings,
            self.clock,
            self.venue,
            self.sender,
            self.store,
            log=self._log if self.logging else None,
            on_event=self.events.append,
            speed=1,
        )
        self.core = self.engine.core
        self.loop = Loop(self.engine, self.clock, self.venue)
        self.snapshots = SnapshotBuilder(self.engine)

    def _log(self, level: Level, tag: str, message: str, fields: Mapping[str, object] | None = None) -> None:
        self.lines.append(Line(level, tag, message, dict(fields or {})))

    async def start(self) -> None:
        """As the assembly and the replay do it: what the exchange has not kept of the tape is played again."""
        reached_s = await self.venue.open(self.opening, self.wallet_quote, self.wallet)
        if reached_s is None:
            reached_s = self.clock.market_s()
        elif not self.started:
            self._find_prices()
        self.started = True
        await self.loop.begin(
            Prices(symbol, "test", reached_s, self.prices[symbol], self.marks.get(symbol, self.prices[symbol]))
            for symbol in self.settings.markets
            if self.priced
        )
        owed = [fact for fact in self.history if self._is_owed(fact, reached_s)]
        for symbol in self.settings.markets:
            past = [fact for fact in self.history if fact.instrument == symbol and fact not in owed]
            self.engine.prime(symbol, [fact.record for fact in past])
        await self.step()
        for fact in owed:
            await self.hear(fact)

    def _is_owed(self, fact: Funding, reached_s: float) -> bool:
        """Whether the exchange has not taken it yet: of two records at one time it may have kept the first alone."""
        if fact.instrument not in self.settings.markets:
            return False
        last_s = self.venue.last_record_s(fact.instrument)
        return fact.record.ts_s > last_s if last_s else fact.source_s > reached_s

    def _find_prices(self) -> None:
        """Those at which an exchange of an earlier life was left."""
        for symbol in self.settings.markets:
            now = self.venue._markets.by_symbol[symbol].now
            if now is not None:
                self.prices[symbol], self.marks[symbol] = now.oracle, now.mark

    async def step(self) -> None:
        """The engine looks at the account, and whatever follows is done."""
        await self.engine.step()
        await self.engine.automation.rest()

    async def hear(self, fact: Fact) -> None:
        """A fact, and whatever the engine does about it."""
        await self.loop.take(fact)
        await self.engine.automation.rest()

    async def restart(self, **settings: Any) -> None:
        """The process died and comes back over what is in the database, perhaps with other settings."""
        await self._bury()
        self.gremlin.quiet()
        self.settings = msgspec.structs.replace(self.settings, **of_markets(settings, self.settings.markets))
        self._build()
        await self.start()

    async def _bury(self) -> None:
        """With a process die all its tasks."""
        dead = [*self.engine.automation._tasks.values(), *self.engine.desk._resolving.values()]
        for task in dead:
            task.cancel()
        await asyncio.gather(*dead, return_exceptions=True)

    # Time and facts

    def wait(self, operator_s: float) -> None:
        """Operator time goes on, the market stands still."""
        at_once(self.clock.sleep(operator_s))

    @property
    def price(self) -> Decimal:
        return self.prices["SOL-PERP"]

    async def to_price(
        self,
        price: Decimal | str,
        *,
        mark: Decimal | str | None = None,
        after_s: float = 60.0,
        market: str = "SOL-PERP",
    ) -> None:
        """A new price ``after_s`` later, and what the engine does about it. As in a replay, time waits for a disk that
        refuses."""
        if not await self._saved():
            return
        oracle = self.prices[market] = Decimal(price)
        self.marks[market] = oracle if mark is None else Decimal(mark)
        self.clock.advance_to(self.clock.market_s() + after_s)
        await self._play(Prices(market, "test", self.clock.market_s(), oracle, self.marks[market], True))

    async def record(
        self,
        rate: Decimal | str = "0",
        *,
        price: Decimal | str | None = None,
        market: str = "SOL-PERP",
        same_hour: bool = False,
    ) -> None:
        """The next hourly funding record, and what the engine does about it. ``same_hour``: at the time of the record
        that another market has just had."""
        if not await self._saved():
            return
        if price is not None:
            self.prices[market] = Decimal(price)
        self.marks.pop(market, None)
        now_s = int(self.clock.market_s())
        next_s = now_s if same_hour else now_s // HOUR_S * HOUR_S + HOUR_S
        self.clock.advance_to(float(next_s))
        record = funding(next_s, rate, self.prices[market])
        self.history.append(Funding(market, "test", float(next_s), record, priced=True))
        await self._play(self.history[-1])

    async def change(self, market: str = "SOL-PERP", **changes: Any) -> None:
        """The exchange tells that something of the market is otherwise now (:class:`MarketChange`)."""
        await self.hear(MarketChange(market, "test", self.clock.market_s(), **changes))

    async def _play(self, fact: Fact) -> None:
        """As :meth:`hear`; but the engine learns of nothing that the exchange could not save."""
        self.clock.advance_to(fact.source_s)
        await self.venue.take(fact)
        if self.venue.trouble:
            self.owed = fact
            return
        await self.engine.take(fact)
        await self.engine.automation.rest()

    async def _saved(self) -> bool:
        if self.venue.trouble:
            try:
                await self.venue.flush()
            except TransientError:
                return False
        if self.owed is not None:
            owed, self.owed = self.owed, None
            await self.engine.take(owed)
            await self.engine.automation.rest()
        return True

    async def records(self, count: int, apr_pct: float, *, market: str = "SOL-PERP") -> None:
        for _ in range(count):
            await self.record(rate_of(apr_pct, self.prices[market]), market=market)

    # Commands

    async def give(self, command: AnyCommand) -> CommandResult:
        """By the operator; or by whom ``source`` names."""
        principal = {"engine": ENGINE, "api": Principal("api", "api")}.get(command.source, OPERATOR)
        return await self.engine.submit(command, principal)

    def preview(self, command: PlannedCommand) -> PlanView:
        """For the operator."""
        return self.engine.preview(command, OPERATOR)

    async def confirm(self, result: CommandResult, *, force: bool = False) -> CommandResult:
        assert result.status is ResultStatus.NEEDS_CONFIRMATION, result
        return await self.give(Confirm(operation_id=result.operation_id, force=force))

    async def resume(self) -> CommandResult:
        """Resume, and confirm it where the engine is halted and asks."""
        return await self.sure(Resume())

    async def sure(self, command: AnyCommand, *, force: bool = True) -> CommandResult:
        """Give it and confirm it if asked to."""
        result = await self.give(command)
        return await self.confirm(result, force=force) if result.status is ResultStatus.NEEDS_CONFIRMATION else result

    def with_faults(self, faults: PaperFaults) -> None:
        """From now on, and at the exchange alone."""
        self.venue._settings = msgspec.structs.replace(self.venue._settings, faults=faults)

    async def take(self, size: float = 5, way: Direction = Direction.CARRY) -> CommandResult:
        return await self.sure(take(size, way))

    async def leave(self) -> CommandResult:
        return await self.sure(Leave(market="SOL-PERP"))

    # What is so

    def past(self, market: str = "SOL-PERP") -> list[FundingRecord]:
        """The funding records that were published so far."""
        return [fact.record for fact in self.history if fact.instrument == market]

    def tamper(self, market: str = "", **changes: Any) -> None:
        """Change the exchange's account behind everybody's back; with ``market``, the perp that it holds there."""
        if market:
            changes = {"perps": {**self.venue._account.perps, market: PaperPerp(**changes)}}
        self.venue._account = msgspec.structs.replace(self.venue._account, **changes)
        self.venue._commits += 1
        self.venue._forget()

    @property
    def hedge(self) -> Hedge:
        return self.core.hedges["SOL-PERP"]

    def seen(self, market: str) -> Seen:
        account = self.venue.account()
        assert account is not None
        perp = account.perps.get(market, NO_PERP)
        return Seen(account, perp, account.spots.get(MARKETS[market].base_symbol, NO_SPOT))

    @property
    def account(self) -> Seen:
        return self.seen("SOL-PERP")

    @property
    def state(self) -> str:
        return str(self.core.state)

    @property
    def legs(self) -> tuple[float, float]:
        """(spot, perp) in SOL."""
        return self.legs_of("SOL-PERP")

    def legs_of(self, market: str) -> tuple[float, float]:
        """(spot, perp) in base units."""
        seen = self.seen(market)
        return seen.spot_1e9 / SOL, seen.perp_1e9 / SOL

    def snapshot(self, market: str = "SOL-PERP") -> Shown:
        snapshot = self.snapshots.build(self.around)
        detail = self.snapshots.detail(market, snapshot.version)
        assert detail is not None
        return Shown(snapshot, detail)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    async def gap(self) -> Decimal:
        """Venue's equity less what the ledger makes of its own entries; both after everything is booked."""
        account = self.venue.account()
        assert account is not None
        await self.core.take_in(account)
        marks = self.core.world.marks(account)
        return account.equity - self.core.accountant.books.closing_equity(marks)

    async def check(self) -> None:
        """What must hold whenever nothing is under way: a balanced ledger, on disk as in memory, and one outcome for
        every operation that was ever planned, the same in journal and exchange."""
        assert abs(await self.gap()) < GAP
        await self.core.save()
        stored = await self.store.ledger()
        books = self.core.accountant.books
        assert [entry.sequence for entry in stored] == list(range(1, len(stored) + 1))
        for kind, total in books.totals.items():
            booked = sum((entry.amount for entry in stored if entry.kind is kind), Decimal(0))
            assert abs(booked - total) < GAP, kind
        tables = PaperTables(self.database)
        for operation in await self.store.operations():
            if operation.operation.id in self.core.unresolved:
                continue
            assert operation.state.final, operation
            receipt = await tables.receipt(operation.operation.id)
            landed = operation.state is OperationState.LANDED
            assert landed is (receipt is not None and b"LANDED" in receipt), operation

    async def outcomes(self) -> list[tuple[str, str]]:
        """(kind, state) of every operation, oldest first."""
        return [(str(o.operation.kind), str(o.state)) for o in reversed(await self.store.operations())]


def take(size: float, way: Direction = Direction.CARRY, *, market: str = "SOL-PERP", **more: Any) -> Take:
    return Take(market=market, base_1e9=round(size * SOL), direction=way, **more)


def leave(market: str = "SOL-PERP", **more: Any) -> Leave:
    return Leave(market=market, **more)


def rebalance(market: str = "SOL-PERP", **more: Any) -> Rebalance:
    return Rebalance(market=market, **more)


def deposit(amount: int, asset: str = "USDC") -> Deposit:
    return Deposit(asset=asset, amount=amount)


def withdraw(amount: int, asset: str = "USDC") -> Withdraw:
    return Withdraw(asset=asset, amount=amount)


SOL_ALONE = {"SOL-PERP": MarketSettings(5 * SOL)}
BOTH = {
    "SOL-PERP": MarketSettings(5 * SOL),
    "BTC-PERP": MarketSettings(SOL // 100, rebalance=RebalanceSettings(min_trade_1e9=BTC_PERP.min_base_1e9)),
}
"""SOL-PERP with 5 SOL a leg and BTC-PERP with 0.01 wBTC, $750 and $1,000."""


def engine_settings(**changes: Any) -> EngineSettings:
    """Manual unless told otherwise: automation off, SOL-PERP alone with 5 SOL a leg. ``carry_size_1e9``, ``carry`` and
    ``rebalance`` are those of every market that ``markets`` does not give settings of its own."""
    return EngineSettings(
        **{
            "profile": "test",
            "mode": "replay",
            "limits": GateLimits(max_leverage=10.0),
            "automation": False,
            "auto_limit_usd": 25_000.0,
            **of_markets(changes, SOL_ALONE),
        }
    )


def of_markets(changes: dict[str, Any], markets: Mapping[str, MarketSettings]) -> dict[str, Any]:
    """``changes`` with ``carry_size_1e9``, ``carry`` and ``rebalance`` put into the settings of each market."""
    changes = dict(changes)
    markets = changes.pop("markets", markets)
    names = {"carry_size_1e9": "size_1e9", "carry": "carry", "rebalance": "rebalance"}
    own = {field: changes.pop(name) for name, field in names.items() if name in changes}
    return {**changes, "markets": {symbol: msgspec.structs.replace(each, **own) for symbol, each in markets.items()}}


@asynccontextmanager
async def world(
    *,
    paper: PaperSettings | None = None,
    faults: PaperFaults | None = None,
    opening: Decimal | int = 3000,
    wallet_sol: int = 0,
    wallet: Mapping[str, Decimal] | None = None,
    primed: int = 8,
    priced: bool = True,
    apr_pct: float = 100.0,
    start_s: int = START_S,
    path: Path | None = None,
    logging: bool = True,
    **settings: Any,
) -> AsyncIterator[World]:
    """A running engine that has seen ``primed`` funding records of ``apr_pct`` (``priced`` False: and no price).
    ``path`` keeps the database in a file
    (and its writer in a thread); ``settings`` are those of :class:`EngineSettings`."""
    paper = PaperSettings(quote_borrow_apr_pct=Decimal(0)) if paper is None else paper
    if faults is not None:
        paper = msgspec.structs.replace(paper, faults=faults)
    database = await HauntedDatabase.open(
        path, Durability.MEMORY if path is None else Durability.NORMAL, busy_timeout_s=0.01
    )
    assert isinstance(database, HauntedDatabase)
    database.gremlin = Gremlin()
    held = {"SOL": Decimal(wallet_sol)} if wallet_sol else wallet or {}
    w = World(engine_settings(**settings), paper, database, Decimal(opening), held, start_s)
    w.priced = priced
    if not logging:
        w.logging = False
        w._build()
    try:
        await w.start()
        for _ in range(primed):
            for number, symbol in enumerate(w.settings.markets):
                await w.record(rate_of(apr_pct, w.prices[symbol]), market=symbol, same_hour=number > 0)
        w.clock.advance_to(w.clock.market_s())
        yield w
    finally:
        w.gremlin.quiet()
        await database.close()


def in_world(scenario: Callable[[World], Awaitable[T]], **options: Any) -> T:
    """Run ``scenario`` in a world of its own; for hypothesis, whose tests are no coroutines."""

    async def go() -> T:
        async with world(**options) as w:
            return await scenario(w)

    return asyncio.run(go())


async def quiet() -> None:
    """Return when every task that can go on without time passing has gone as far as it gets."""
    for _ in range(100):
        await asyncio.sleep(0)


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as ended:
        return ended.value  # type: ignore[no-any-return]
    work.close()
    raise AssertionError("the coroutine waited for something")


def verdicts_of(result: CommandResult) -> dict[str, str]:
    return {verdict.code: str(verdict.status) for verdict in result.verdicts}


def blocked_by(result: CommandResult) -> list[str]:
    return [verdict.code for verdict in result.verdicts if not verdict.allowed]


def held(w: World) -> Stance:
    perp = w.account.perp_1e9
    return Stance.FLAT if perp == 0 else Stance.CARRY if perp < 0 else Stance.REVERSE
