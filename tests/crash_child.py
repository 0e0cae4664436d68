"""``python crash_child.py``: runs engines for ``test_kill_nine`` and kills them at the step that it is told.

The modules are imported once; every job, one JSON line on stdin, runs in a fork of its own and is answered by one line
on stdout. A job opens the profile's file as ``assembly`` does, recovers, and carries out a scenario's action. Every
writing transaction of the database has three steps (before, done but not committed, after), a reading one has one, a
call of the exchange two, and the answer is the last; so no write can be added to an operation without being killed
around.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import msgspec

from deltatui.backtest.clock import SimulatedClock
from deltatui.domain.carry import Stance
from deltatui.domain.command import (
    AnyCommand,
    Confirm,
    Deposit,
    Kill,
    Leave,
    Pause,
    Rebalance,
    ResultStatus,
    SetAutomation,
    Settle,
    Take,
    Withdraw,
)
from deltatui.domain.facts import Fact, Funding, Prices
from deltatui.domain.gates import GateLimits
from deltatui.domain.market import FundingRecord
from deltatui.domain.operation import JournalRecord, Operation
from deltatui.domain.principal import OPERATOR
from deltatui.engine.engine import Engine
from deltatui.engine.loop import Loop
from deltatui.engine.settings import EngineSettings, MarketSettings
from deltatui.ports import NO_PERP, NO_SPOT, Outcome, Signed, Unsigned
from deltatui.store.database import Database, Durability
from deltatui.store.engine_store import EngineStore
from deltatui.store.paper_tables import PaperTables
from deltatui.venues.paper.settings import BTC_PERP, MARKETS, SOL_PERP, PaperFaults, PaperSettings
from deltatui.venues.paper.venue import PaperVenue

T = TypeVar("T")

FILE = "deltatui.sqlite"
SIZES_1E9 = {SOL_PERP.symbol: 5_000_000_000, BTC_PERP.symbol: 10_000_000}
OPENING = Decimal(3000)
WALLET = Decimal(1000)
PRICES = {SOL_PERP.symbol: Decimal(150), BTC_PERP.symbol: Decimal(100_000)}
START_S = 1_700_000_000 // 3600 * 3600
HANGS_S = 30


class Job(msgspec.Struct, frozen=True):
    """``kill_at`` counts the steps of ``phase`` from 1, or those that begin with ``kill_on``; 0 kills nobody. ``act``
    false: only start and look."""

    folder: str
    scenario: str
    kill_at: int = 0
    kill_on: str = ""
    phase: Literal["recovery", "action"] = "action"
    prepare: bool = False
    act: bool = True


class OperationReport(msgspec.Struct, frozen=True):
    """``legs`` as ordered and ``fills`` as the exchange tells them: instrument and signed base in 1e9."""

    id: str
    market: str
    kind: str
    parent_id: str
    intent_id: str
    journal: list[str]
    legs: list[tuple[str, int]]
    fills: list[tuple[str, int]]
    receipts: int


class HedgeReport(msgspec.Struct, frozen=True):
    spot_1e9: int
    perp_1e9: int
    held_by: str
    held_since_s: float | None
    rebalanced: bool


class State(msgspec.Struct, frozen=True):
    """``ledger_gap`` is the exchange's equity minus opening equity, the entries on disk and what is unrealised."""

    engine: str
    reason: str
    operations: list[OperationReport]
    open_operations: int
    unknown_fills: int
    hedges: dict[str, HedgeReport]
    wallet_quote: Decimal
    equity: Decimal
    ledger_gap: Decimal
    ledger_cursor: int
    events: int
    automation: bool
    alerts: list[str]


class Report(msgspec.Struct, frozen=True):
    """Before the action (after the recovery) and after it; ``results`` are the action's answers, ``steps`` the names
    of the steps that were counted."""

    recovered: State
    acted: State
    results: list[str]
    steps: list[str]


class Answer(msgspec.Struct, frozen=True):
    """``signal`` ended the job, or 0. ``killed_at`` names the step; ``error`` is a traceback's last line."""

    signal: int
    killed_at: str = ""
    report: Report | None = None
    error: str = ""


class Fate:
    """Counts steps and ends the process at one of them."""

    def __init__(self, job: Job, told: int) -> None:
        self._job = job
        self._told = told
        self.phase = "recovery"
        self.steps: list[str] = []
        self._counted = 0

    def step(self, name: str) -> None:
        if self.phase != self._job.phase:
            return
        self.steps.append(name)
        if not name.startswith(self._job.kill_on):
            return
        self._counted += 1
        if self._counted == self._job.kill_at:
            os.write(self._told, msgspec.json.encode(Answer(0, killed_at=name)) + b"\n")
            os.kill(os.getpid(), signal.SIGKILL)


class MortalDatabase(Database):
    fate: Fate

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        name, fate = _name(work), self.fate

        writes = False

        def inside(connection: sqlite3.Connection) -> T:
            nonlocal writes
            before = connection.total_changes
            result = work(connection)
            writes = connection.total_changes != before
            if writes:
                fate.step(f"{name} not committed")
            return result

        fate.step(f"before {name}")
        result = await super().run(inside)
        if writes:
            fate.step(f"after {name}")
        return result


def _name(work: Callable[..., Any]) -> str:
    if not isinstance(work, partial):
        return str(getattr(work, "__name__", "?")).strip("_")
    name = str(work.func.__name__).strip("_")
    for argument in work.args:
        if isinstance(argument, JournalRecord):
            return f"{name} {argument.state}"
    words = [word for word in work.args if isinstance(word, str)]
    keys = [key for argument in work.args if isinstance(argument, dict) for key in argument]
    return " ".join([name, *keys, *words])


class MortalVenue(PaperVenue):
    fate: Fate

    async def _around(self, name: str, work: Awaitable[T]) -> T:
        self.fate.step(f"before {name}")
        result = await work
        self.fate.step(f"after {name}")
        return result

    async def build(self, operation: Operation) -> Unsigned:
        return await self._around("build", super().build(operation))

    async def simulate(self, unsigned: Unsigned) -> None:
        await self._around("simulate", super().simulate(unsigned))

    async def sign(self, unsigned: Unsigned) -> Signed:
        return await self._around("sign", super().sign(unsigned))

    async def send(self, signed: Signed) -> None:
        await self._around("send", super().send(signed))

    async def outcome(self, signed: Signed) -> Outcome | None:
        return await self._around("outcome", super().outcome(signed))


class Session:
    """An engine on the file, with what a scenario does to it."""

    def __init__(
        self, database: Database, clock: SimulatedClock, venue: PaperVenue, engine: Engine, results: list[str]
    ) -> None:
        self.database, self.clock, self.venue, self.engine = database, clock, venue, engine
        self.results = results

    async def price(self) -> None:
        for symbol in self.engine.core.hedges:
            await self._hear(_price(symbol, self.clock.market_s()))

    async def record(self, rate: str) -> None:
        """Of every market; ``rate`` is that of SOL."""
        self.clock.advance_to(self.clock.market_s() + 3600)
        for symbol in self.engine.core.hedges:
            await self._hear(Funding(symbol, "test", self.clock.market_s(), self._record(symbol, rate), priced=True))

    def _record(self, symbol: str, rate: str) -> FundingRecord:
        return _record(symbol, int(self.clock.market_s()), Decimal(rate) * PRICES[symbol] / PRICES[_MARKET])

    async def _hear(self, fact: Fact) -> None:
        await self.venue.take(fact)
        await self.engine.take(fact)
        await self.engine.automation.rest()

    async def ask(self, command: AnyCommand) -> None:
        """Send, confirm where that is asked for, and keep the code of the answer."""
        result = await self.engine.submit(command, OPERATOR)
        if result.status is ResultStatus.NEEDS_CONFIRMATION:
            result = await self.engine.submit(Confirm(operation_id=result.operation_id, force=True), OPERATOR)
        self.results.append(result.code)


def _price(symbol: str, market_s: float) -> Prices:
    return Prices(symbol, "test", market_s, PRICES[symbol], PRICES[symbol])


def _record(symbol: str, ts_s: int, rate: Decimal) -> FundingRecord:
    return FundingRecord(ts_s, rate, rate, rate, PRICES[symbol], PRICES[symbol], Decimal(0))


class Scenario(msgspec.Struct, frozen=True):
    """``prepare`` is done once and kept, ``act`` is what is killed. ``hold`` is what automation, where it is turned on,
    aims at: before and during the action."""

    prepare: Callable[[Session], Awaitable[None]]
    act: Callable[[Session], Awaitable[None]]
    faults: PaperFaults = PaperFaults()
    hold: tuple[Stance, Stance] | None = None
    wallet_spot: Decimal = Decimal(0)
    markets: tuple[str, ...] = (SOL_PERP.symbol,)


async def _flat(session: Session) -> None:
    await session.record("0.1")


async def _held(session: Session) -> None:
    """A position by hand, with more than a dollar of funding unsettled."""
    await session.record("0.1")
    await session.ask(_take("prepared"))
    await session.record("0.5")


async def _bitcoin_held(session: Session) -> None:
    await session.record("0.1")
    await session.ask(_take("prepared", _OTHER))
    await session.record("0.5")


async def _both_held(session: Session) -> None:
    await session.record("0.1")
    await session.ask(_take("prepared"))
    await session.ask(_take("prepared too", _OTHER))
    await session.record("0.5")


async def _held_by_engine(session: Session) -> None:
    await session.record("0.1")
    await _automatic(session)
    await session.record("0.5")


async def _automatic(session: Session) -> None:
    await session.ask(SetAutomation(on=True))
    await session.price()


async def _tape(session: Session) -> None:
    """The next two records, each only once, as a tape gives them: from where the exchange stands."""
    for number in (3, 4):
        account = session.venue.account()
        if account is not None and account.as_of_s < START_S + 3600 * number:
            await session.record("0.25")
        else:
            await session.engine.step()


def _take(intent: str, market: str = SOL_PERP.symbol) -> Take:
    return Take(intent_id=intent, market=market, base_1e9=SIZES_1E9[market])


def _asks(*commands: AnyCommand) -> Callable[[Session], Awaitable[None]]:
    """All at the same time."""

    async def act(session: Session) -> None:
        await asyncio.gather(*(session.ask(command) for command in commands))

    return act


_MARKET, _OTHER = SOL_PERP.symbol, BTC_PERP.symbol
_BOTH = (_MARKET, _OTHER)
_ODD = PaperFaults(odd_leg_rate=1.0)
_LEAVE = Leave(intent_id="leave", market=_MARKET)
_TAKE_AND_LEAVE = (_take("take"), Leave(intent_id="leave", market=_OTHER))

SCENARIOS: dict[str, Scenario] = {
    "take": Scenario(_flat, _asks(_take("take"))),
    "leave and settle": Scenario(_held, _asks(_LEAVE)),
    "rebalance": Scenario(_held, _asks(Rebalance(intent_id="rebalance", market=_MARKET)), wallet_spot=Decimal(1)),
    "settle": Scenario(_held, _asks(Settle(intent_id="settle", market=_MARKET))),
    "deposit": Scenario(_flat, _asks(Deposit(intent_id="deposit", asset="USDC", amount=250_000_000))),
    "withdraw": Scenario(_flat, _asks(Withdraw(intent_id="withdraw", asset="USDC", amount=250_000_000))),
    "take with an odd leg": Scenario(_flat, _asks(_take("take")), faults=_ODD),
    "leave with an odd leg": Scenario(_held, _asks(_LEAVE), faults=_ODD),
    "automatic take": Scenario(_flat, _automatic, hold=(Stance.FLAT, Stance.CARRY)),
    "automatic leave": Scenario(_held_by_engine, _automatic, hold=(Stance.CARRY, Stance.FLAT)),
    "automatic take with an odd leg": Scenario(_flat, _automatic, faults=_ODD, hold=(Stance.FLAT, Stance.CARRY)),
    "kill and flatten": Scenario(_held, _asks(Kill(intent_id="kill", flatten=True, reason="test"))),
    "take beside a leave": Scenario(_bitcoin_held, _asks(*_TAKE_AND_LEAVE), markets=_BOTH),
    "take beside a leave with odd legs": Scenario(_bitcoin_held, _asks(*_TAKE_AND_LEAVE), faults=_ODD, markets=_BOTH),
    "two leaves": Scenario(_both_held, _asks(_LEAVE, Leave(intent_id="leave too", market=_OTHER)), markets=_BOTH),
    "kill and flatten two": Scenario(
        _both_held, _asks(Kill(intent_id="kill", flatten=True, reason="test")), markets=_BOTH
    ),
    "funding": Scenario(_held, _tape),
    "pause": Scenario(_held, _asks(Pause(intent_id="pause"))),
    "automation off": Scenario(_held_by_engine, _asks(SetAutomation(on=False)), hold=(Stance.CARRY, Stance.CARRY)),
}


async def run(job: Job, fate: Fate) -> Report:
    scenario = SCENARIOS[job.scenario]
    MortalDatabase.fate = MortalVenue.fate = fate
    database = await MortalDatabase.open(Path(job.folder) / FILE, Durability.NORMAL)
    session = await _start(scenario, job, database)
    fate.phase = "over"
    recovered = await _state(session)
    if job.prepare:
        await scenario.prepare(session)
        await session.venue.flush()
        await session.engine.stop()
    elif job.act:
        fate.phase = "action"
        await scenario.act(session)
        fate.step("answered")
        fate.phase = "over"
    acted = await _state(session)
    await database.close()
    return Report(recovered, acted, session.results, fate.steps)


async def _start(scenario: Scenario, job: Job, database: Database) -> Session:
    hold = None
    if scenario.hold is not None:
        hold = scenario.hold[0 if job.prepare else 1]
    clock = SimulatedClock(float(START_S))
    paper = PaperSettings(faults=PaperFaults() if job.prepare else scenario.faults)
    venue = MortalVenue([MARKETS[symbol] for symbol in scenario.markets], paper, PaperTables(database), clock)
    reached_s = await venue.open(OPENING, WALLET, {"SOL": scenario.wallet_spot})
    if reached_s is not None:
        clock.advance_to(reached_s)
    settings = EngineSettings(
        profile="test",
        mode="replay",
        limits=GateLimits(max_leverage=10.0),
        markets={symbol: MarketSettings(SIZES_1E9[symbol]) for symbol in scenario.markets},
        hold=hold,
        automation=False,
        auto_limit_usd=float("inf"),
    )
    engine = Engine(settings, clock, venue, venue, EngineStore(database))
    await Loop(engine, clock, venue).begin(_price(symbol, clock.market_s()) for symbol in scenario.markets)
    # As a replay does: what forcing would lose is known only where the averages are.
    for symbol in scenario.markets:
        rate = PRICES[symbol] / 1500
        engine.prime(symbol, [_record(symbol, START_S - 3600 * number, rate) for number in range(6, 0, -1)])
    return Session(database, clock, venue, engine, [])


async def _state(session: Session) -> State:
    core, venue = session.engine.core, session.venue
    store = core.store
    assert isinstance(store, EngineStore)
    await core.save()
    account = core.world.account()
    assert account is not None
    events = await venue.events_after(0)
    operations = await store.operations()
    known = {stored.operation.id for stored in operations}
    reports = []
    for stored in reversed(operations):
        operation = stored.operation
        journal = await store.journal(operation.id)
        receipt = await PaperTables(session.database).receipt(operation.id)
        reports.append(
            OperationReport(
                operation.id,
                operation.market,
                operation.kind,
                operation.parent_id,
                operation.intent_id,
                [line.state for line in journal],
                [(leg.market, leg.base_1e9) for leg in operation.legs],
                [
                    (event.instrument, int(event.base * 10**9))
                    for event in events
                    if event.operation_id == operation.id and event.kind is None
                ],
                int(receipt is not None),
            )
        )
    books = core.accountant.books
    marks = core.world.marks(account)
    entries = await store.ledger()
    unrealized = books.unrealized(marks, spot=False) + books.unrealized(marks, spot=True)
    ledger_equity = books.opening_equity + sum((entry.amount for entry in entries), Decimal(0)) + unrealized
    return State(
        engine=core.state,
        reason=core.state_reason,
        operations=reports,
        open_operations=len(await store.open_operations()),
        unknown_fills=sum(1 for event in events if event.operation_id and event.operation_id not in known),
        hedges={
            symbol: HedgeReport(
                account.spots.get(hedge.spec.base_symbol, NO_SPOT).base_1e9,
                account.perps.get(symbol, NO_PERP).base_1e9,
                hedge.memory.held_by,
                hedge.memory.held_since_s,
                hedge.memory.last_rebalance_s is not None,
            )
            for symbol, hedge in core.hedges.items()
        },
        wallet_quote=account.wallet_quote,
        equity=account.equity,
        ledger_gap=account.equity - ledger_equity,
        ledger_cursor=books.cursor,
        events=len(events),
        automation=core.memory.automation,
        alerts=[alert.message for alert in core.board.alerts.values()],
    )


def _work(job: Job, told: int) -> NoReturn:
    """The fork's whole life."""
    signal.alarm(HANGS_S)
    fate = Fate(job, told)
    try:
        answer = Answer(0, report=asyncio.run(run(job, fate)))
    except Exception as error:  # noqa: BLE001  the test shows it
        answer = Answer(0, error=f"{type(error).__name__}: {error}")
    os.write(told, msgspec.json.encode(answer) + b"\n")
    os._exit(0)


def _answer(job: Job) -> Answer:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _work(job, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        line = pipe.read()
    _, status = os.waitpid(pid, 0)
    answer = msgspec.json.decode(line, type=Answer) if line else Answer(0)
    return msgspec.structs.replace(answer, signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)


def main() -> None:
    gc.collect()
    gc.freeze()
    for line in sys.stdin.buffer:
        answer = _answer(msgspec.json.decode(line, type=Job))
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
