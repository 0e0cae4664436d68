"""The engine process of a replay: built, started, and ended in good order."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from deltatui.api.server import Server
from deltatui.assembly.values import engine_settings, paper_opening, paper_settings, server_limits
from deltatui.backtest.clock import ReplayClock
from deltatui.config import Loaded, secret_values
from deltatui.domain import audit
from deltatui.domain.command import AnyCommand, CommandResult
from deltatui.domain.errors import CriticalError, ValidationError
from deltatui.domain.principal import Principal
from deltatui.domain.snapshot import MarketDetail, PlanView, Snapshot
from deltatui.engine.engine import Engine
from deltatui.engine.loop import Loop
from deltatui.engine.memory import PlannedCommand
from deltatui.engine.snapshots import SnapshotBuilder, Surroundings
from deltatui.engine.states import EngineState
from deltatui.engine.supervisor import Supervisor
from deltatui.feeds.recorded import RecordedSource
from deltatui.feeds.tape import Tape
from deltatui.feeds.tapes import check_same_tapes, shipped_tapes, tapes_from_texts
from deltatui.log import Logs, setup
from deltatui.paths import Paths
from deltatui.ports import AccountId
from deltatui.settings import Settings
from deltatui.store.database import Database, Durability
from deltatui.store.engine_store import EngineStore
from deltatui.store.lock import EngineLock, LockHolder
from deltatui.store.maintenance import Maintenance
from deltatui.store.paper_tables import PaperTables
from deltatui.venues.paper.settings import MARKETS
from deltatui.venues.paper.venue import PaperVenue

_TAPE_STATE = "tape"
_MAINTENANCE_S = 60.0
_STANDS_IN = (EngineState.RUNNING, EngineState.REDUCING, EngineState.HALTED)


class EngineTempo:
    """What the tapes of a replay go by. A question stops them, whatever its market: nobody decides about a price that
    has run away meanwhile."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def speed(self) -> int:
        return self._engine.core.memory.speed

    @property
    def standing(self) -> bool:
        core = self._engine.core
        return bool(core.pending) or core.state not in _STANDS_IN

    async def rest(self) -> None:
        await self._engine.automation.rest()


class EngineHost:
    """What the server talks to: the engine and the snapshots of it."""

    def __init__(self, engine: Engine, source: RecordedSource, loop: Loop, clock: ReplayClock) -> None:
        self._engine = engine
        self._source = source
        self._loop = loop
        self._builder = SnapshotBuilder(engine)
        self._started_s = clock.operator_s()
        self.clients = 0

    def snapshot(self) -> Snapshot:
        return self._builder.build(
            Surroundings(
                clients=self.clients,
                pid=os.getpid(),
                started_operator_s=self._started_s,
                speed=self._source.speed,
                loop_lag_ms=self._loop.loop_lag_ms,
                tape=self._source.view(),
            )
        )

    def detail(self, market: str, version: int) -> MarketDetail | None:
        return self._builder.detail(market, version)

    async def submit(self, command: AnyCommand, principal: Principal) -> CommandResult:
        return await self._engine.submit(command, principal)

    def preview(self, command: PlannedCommand, principal: Principal) -> PlanView:
        return self._engine.preview(command, principal)


async def run_engine(loaded: Loaded, *, fresh: bool = False, headless: bool = True) -> None:
    """The engine process of a profile, until it is told to stop (command, SIGTERM, SIGINT).

    ``fresh`` puts the kept state aside (nothing is deleted) and begins anew. Raises ValidationError for what cannot
    be started as configured, CriticalError for a store that cannot be trusted.
    """
    settings, paths = loaded.settings, loaded.paths
    if settings.mode != "replay":
        raise ValidationError(
            "MODE_NOT_READY",
            f"mode {settings.mode} needs market feeds and a chain, which this version does not have; use mode replay",
        )
    tapes = replay_tapes(settings)
    logs = setup(
        level=settings.log.level,
        folder=settings.log.folder or paths.log_folder,
        stderr=headless,
        secrets=secret_values(settings),
    )
    try:
        clock = ReplayClock(_tape_start(settings, tapes))
        account = AccountId("paper", paths.profile)
        with _owned(paths, account, clock.operator_s()):
            if fresh and paths.database.exists():
                await _put_aside(paths.database, clock.operator_s())
            database = await Database.open(paths.database, Durability(settings.storage.durability))
            try:
                await _run(loaded, tapes, account, clock, database, logs)
            finally:
                await database.close()
    finally:
        logs.close()


@contextmanager
def _owned(paths: Paths, account: AccountId, now_s: float) -> Iterator[None]:
    """Nobody else has the profile, or under another profile the account."""
    pid, host = os.getpid(), socket.gethostname()
    profile = EngineLock.acquire(paths.lock, LockHolder(pid, host, paths.profile, now_s))
    try:
        holder = LockHolder(pid, host, paths.profile, now_s, str(account))
        owned = EngineLock.acquire(paths.account_lock(account), holder)
        try:
            yield
        finally:
            owned.release()
    finally:
        profile.release()


def replay_tapes(settings: Settings) -> dict[str, Tape]:
    """What is replayed, by market: the tapes of the settings, or those that come with deltatui."""
    markets = settings.engine.markets
    if settings.replay.tape:
        return tapes_from_texts(settings.replay.tape, markets, markets[0])
    return shipped_tapes(markets)


def _tape_start(settings: Settings, tapes: Mapping[str, Tape]) -> float:
    """Where the replay begins: where the first tape does, or as the settings say."""
    first_s, last_s = min(tape.first_s for tape in tapes.values()), max(tape.last_s for tape in tapes.values())
    start = settings.replay.start
    if start is None:
        return float(first_s)
    if not first_s <= start.timestamp() < last_s:
        names = " + ".join(tape.name for tape in tapes.values())
        raise ValidationError("BAD_START", f"replay.start {start:%Y-%m-%d %H:%M} is not on the tape {names}")
    return start.timestamp()


async def _put_aside(database: Path, operator_s: float) -> None:
    from deltatui.store.maintenance import reset_vault

    await reset_vault(database, operator_s, abandon_open=True)


async def _run(
    loaded: Loaded,
    tapes: Mapping[str, Tape],
    account: AccountId,
    clock: ReplayClock,
    database: Database,
    logs: Logs,
) -> None:
    settings, paths = loaded.settings, loaded.paths
    store = EngineStore(database)
    marks = check_same_tapes(tapes, _kept_tapes((await store.load_state()).get(_TAPE_STATE)))
    venue = await _exchange(settings, tapes, account, clock, PaperTables(database))

    def dirty() -> None:
        server.notify_dirty()

    engine = Engine(
        engine_settings(settings, paths.profile, tapes),
        clock,
        venue,
        venue,
        store,
        log=logs,
        on_change=dirty,
        on_event=lambda event: server.publish_event(event),
        speed=settings.replay.speed,
    )
    last_record_s = {symbol: float(venue.last_record_s(symbol)) for symbol in tapes}
    source = RecordedSource(tapes, clock, EngineTempo(engine), last_record_s)
    the_loop = Loop(engine, clock, venue, dirty, lambda history: server.publish_history(history))
    host = EngineHost(engine, source, the_loop, clock)

    def clients(count: int) -> None:
        host.clients = count
        dirty()

    server = Server(
        host,
        paths.socket,
        profile=paths.profile,
        mode=settings.mode,
        pid=os.getpid(),
        limits=server_limits(settings),
        on_clients=clients,
        on_fault=lambda what, error: logs(*audit.error(what, error)),
    )
    logs.to_clients(server.publish_log)
    await the_loop.begin(source.known())
    _prime(engine, the_loop, tapes, source.taken)
    await store.save_state({_TAPE_STATE: msgspec.json.encode(marks)})
    await server.start()

    maintenance = Maintenance(
        database, paths.state_folder / "backups", paths.config_file, hourly=settings.storage.backups
    )
    supervisor = _supervised(engine, source, the_loop, maintenance, clock, logs)
    try:
        await engine.desk.stopping.wait()
    finally:
        await engine.stop()
        await supervisor.stop()
        await server.close()
        await venue.flush()
        await engine.core.save()


async def _exchange(
    settings: Settings, tapes: Mapping[str, Tape], account: AccountId, clock: ReplayClock, tables: PaperTables
) -> PaperVenue:
    """The paper exchange with its account, and the clock where that had got to."""
    specs = [MARKETS[symbol] for symbol in tapes]
    venue = PaperVenue(specs, paper_settings(settings), tables, clock, "drift-v2 (paper)", account.authority)
    begun = {symbol: tape.price_at(clock.market_s())[0] for symbol, tape in tapes.items()}
    opening = paper_opening(settings, begun)
    reached_s = await venue.open(opening.quote, opening.wallet_quote, opening.wallet)
    if reached_s is not None:
        clock.advance_to(reached_s)
    return venue


def _kept_tapes(kept: bytes | None) -> dict[str, str]:
    """Symbol to digest. Before there were several tapes the digest alone was kept, of SOL-PERP's."""
    if not kept:
        return {}
    if kept.startswith(b"{"):
        return msgspec.json.decode(kept, type=dict[str, str])
    return {"SOL-PERP": kept.decode()}


def _prime(engine: Engine, the_loop: Loop, tapes: Mapping[str, Tape], taken: Mapping[str, int]) -> None:
    """Give the engine the averages over what lies behind, and the charts their past."""
    for symbol, tape in tapes.items():
        past = tape.records[: taken[symbol]]
        engine.prime(symbol, past[-engine.core.hedges[symbol].records_looked_back :])
        the_loop.history.prime(symbol, past)


def _supervised(
    engine: Engine, source: RecordedSource, the_loop: Loop, maintenance: Maintenance, clock: ReplayClock, logs: Logs
) -> Supervisor:
    """What runs beside the commands, started; and the signals that end it all."""

    def on_critical(task: str, error: CriticalError) -> None:
        engine.core.halt(f"{task}: {error.sentence}")

    async def maintain() -> None:
        while True:
            for event in await maintenance.run_due(clock.market_s(), clock.operator_s()):
                engine.note(event.kind, event.message, event.level)
            await clock.sleep(_MAINTENANCE_S)

    supervisor = Supervisor(clock, logs, on_critical)
    supervisor.start("facts", the_loop.drain)
    supervisor.start("time", the_loop.pass_time)
    supervisor.start(source.name, lambda: source.run(the_loop.post))
    supervisor.start("maintenance", maintain)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, engine.desk.stopping.set)
    # The tape and the program itself live as long as the process: no collection has to look at them again.
    gc.collect()
    gc.freeze()
    return supervisor
