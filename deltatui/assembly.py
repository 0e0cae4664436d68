"""Builds the program from its parts: the only place that knows every class."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import msgspec

from deltatui.api.limits import ServerLimits
from deltatui.api.server import Server
from deltatui.backtest.clock import ReplayClock
from deltatui.backtest.run import BacktestSettings, Fees, Policy
from deltatui.config import Loaded, secret_values
from deltatui.domain import audit
from deltatui.domain.carry import CarrySettings
from deltatui.domain.command import AnyCommand, CommandResult
from deltatui.domain.costs import DRIFT_FEES, DRIFT_SLIPPAGE, NO_FEES, NO_SLIPPAGE, CostModel, SlippageModel
from deltatui.domain.delta import RebalanceSettings
from deltatui.domain.errors import CriticalError, ValidationError
from deltatui.domain.gates import GateLimits
from deltatui.domain.health import LossLimits
from deltatui.domain.principal import Principal
from deltatui.domain.snapshot import MarketDetail, PlanView, Snapshot
from deltatui.domain.units import base_from_text, base_to_decimal
from deltatui.engine.engine import Engine
from deltatui.engine.loop import Loop
from deltatui.engine.memory import PlannedCommand
from deltatui.engine.settings import EngineSettings, MarketSettings
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
from deltatui.venues.paper.settings import MARKETS, PaperFaults, PaperSettings
from deltatui.venues.paper.venue import PaperVenue

_TAPE_STATE = "tape"
_MAINTENANCE_S = 60.0


def market_settings(settings: Settings) -> dict[str, MarketSettings]:
    """How each market that may be carried is carried; what is named after an asset is its own."""
    carry, engine, rebalance = settings.carry, settings.engine, settings.rebalance
    own = {
        "SOL-PERP": (engine.carry_size_sol, rebalance.min_trade_sol, carry.sol_borrow_apr_pct, carry.sol_lend_apr_pct),
        "BTC-PERP": (engine.carry_size_btc, rebalance.min_trade_btc, carry.btc_borrow_apr_pct, carry.btc_lend_apr_pct),
    }
    return {
        symbol: MarketSettings(
            size_1e9=base_from_text(size),
            carry=carry_settings(settings, borrow_apr_pct, lend_apr_pct),
            rebalance=RebalanceSettings(
                tolerance_pct=rebalance.tolerance_pct,
                emergency_pct=rebalance.emergency_pct,
                cooldown_s=rebalance.cooldown_s,
                min_trade_1e9=base_from_text(min_trade),
            ),
        )
        for symbol in engine.markets
        for size, min_trade, borrow_apr_pct, lend_apr_pct in [own[symbol]]
    }


def carry_settings(settings: Settings, borrow_apr_pct: float, lend_apr_pct: float) -> CarrySettings:
    carry = settings.carry
    return CarrySettings(
        horizon_h=carry.horizon_h,
        prediction_weight=carry.prediction_weight,
        average_records=carry.average_records,
        confirm_records=carry.confirm_records,
        min_records=carry.min_records,
        gain_haircut=carry.gain_haircut,
        fee_multiple=carry.fee_multiple,
        base_borrow_apr_pct=borrow_apr_pct,
        base_lend_apr_pct=lend_apr_pct,
        quote_lend_apr_pct=carry.quote_lend_apr_pct,
        least_round_trip=carry.min_round_trip_bps / 1e4,
    )


def gate_limits(settings: Settings) -> GateLimits:
    limits = settings.limits
    return GateLimits(
        max_leverage=settings.max_leverage_by_mode,
        min_health_after=limits.min_health_after,
        min_liq_distance_pct=limits.min_liq_distance_pct,
        min_health_withdraw=limits.min_health_withdraw,
        min_gas_sol=float(settings.rebalance.reserved_sol),
        min_free_quote_usd=limits.min_free_quote_usd,
        max_latency_ms=limits.max_latency_ms,
        max_oracle_age_s=limits.max_oracle_age_s,
        max_slot_lag=limits.max_slot_lag,
        max_clock_skew_s=limits.max_clock_skew_s,
        max_funding_age_intervals=limits.max_funding_age_intervals,
    )


def engine_settings(settings: Settings, profile: str, carried: Iterable[str]) -> EngineSettings:
    """``carried`` are the markets that there is data of."""
    limits, markets = settings.limits, market_settings(settings)
    return EngineSettings(
        profile=profile,
        mode=settings.mode,
        live_mode=settings.live_mode,
        limits=gate_limits(settings),
        markets={symbol: markets[symbol] for symbol in carried},
        automation=settings.automation_by_mode,
        losses=LossLimits(
            daily_loss=_decimal(limits.daily_loss_stop_usd), drawdown_pct=_decimal(limits.drawdown_stop_pct)
        ),
        slippage_bps=settings.orders.slippage_bps,
        reduce_slippage_bps=settings.orders.reduce_slippage_bps,
        kill_slippage_bps=settings.orders.kill_slippage_bps,
        confirm_above_usd=limits.confirm_above_usd,
        typed_above_usd=limits.typed_above_usd,
        auto_limit_usd=settings.auto_limit_usd_by_mode,
        max_market_usd=limits.max_market_usd,
        max_total_usd=limits.max_total_usd,
        confirm_timeout_s=limits.confirm_timeout_s,
        loop_interval_s=settings.engine.loop_interval_s,
        save_interval_s=settings.engine.save_interval_s,
        stale_snapshot_s=limits.max_snapshot_age_s,
        settle_above_quote=settings.orders.settle_above_usd,
        position_ops_per_min=limits.position_ops_per_min,
        health_warning=limits.health_warning,
        health_critical=limits.health_critical,
    )


def paper_settings(settings: Settings) -> PaperSettings:
    paper, carry = settings.paper, settings.carry
    return PaperSettings(
        costs=paper_costs(settings),
        faults=PaperFaults(
            seed=paper.seed,
            fail_rate=paper.fail_rate,
            partial_rate=paper.partial_rate,
            odd_leg_rate=paper.odd_leg_rate,
            latency_s=paper.latency_ms / 1e3,
            partial_leg=paper.partial_leg,
            report_late_s=paper.report_late_ms / 1e3,
        ),
        max_leverage=settings.max_leverage_by_mode,
        base_borrow_apr_pct=Decimal(str(carry.sol_borrow_apr_pct)),
        base_lend_apr_pct=Decimal(str(carry.sol_lend_apr_pct)),
        borrow_apr_pct={"wBTC": Decimal(str(carry.btc_borrow_apr_pct))},
        lend_apr_pct={"wBTC": Decimal(str(carry.btc_lend_apr_pct))},
        quote_borrow_apr_pct=Decimal(str(carry.quote_borrow_apr_pct)),
        quote_lend_apr_pct=Decimal(str(carry.quote_lend_apr_pct)),
        funding_period_s=paper.funding_period_s,
        liquidation_fee_1e5=Decimal(str(paper.liquidation_fee_pct)) * 1_000,
        maintenance_fallback_1e4=round(paper.maintenance_fallback_pct * 100),
    )


def paper_costs(settings: Settings) -> CostModel:
    """Fees and slippage of the paper exchange. A backtest has its own, those of its fee preset."""
    paper = settings.paper
    fees, slippage = (NO_FEES, NO_SLIPPAGE) if paper.fees == "none" else (DRIFT_FEES, DRIFT_SLIPPAGE)
    if settings.slippage_by_mode == "size":
        slippage = SlippageModel(
            Decimal(str(paper.slippage_min_pct)) / 100,
            Decimal(str(paper.slippage_max_pct)) / 100,
            paper.slippage_half_size_sol,
        )
    return CostModel(fees, slippage)


class Opening(msgspec.Struct, frozen=True):
    """With what a paper account begins: ``quote`` deposited, the rest in its wallet, by asset."""

    quote: Decimal
    wallet_quote: Decimal
    wallet: Mapping[str, Decimal]


def paper_opening(settings: Settings, oracles: Mapping[str, Decimal]) -> Opening:
    """``oracles`` are the first prices by market."""
    paper, markets = settings.paper, market_settings(settings)
    quote = paper.start_equity_usd
    if quote is None:
        notionals = (base_to_decimal(markets[symbol].size_1e9) * oracle for symbol, oracle in oracles.items())
        quote = 2 * sum(notionals, Decimal(0))
    wallets = {"SOL-PERP": paper.wallet_sol, "BTC-PERP": paper.wallet_btc}
    return Opening(
        quote, paper.wallet_usd, {MARKETS[symbol].base_symbol: wallets[symbol] for symbol in oracles if wallets[symbol]}
    )


def server_limits(settings: Settings) -> ServerLimits:
    return ServerLimits(commands_per_s=settings.limits.commands_per_s)


def backtest_settings(
    settings: Settings, policy: Policy, fees: Fees, markets: Iterable[str], sizes_1e9: Mapping[str, int]
) -> BacktestSettings:
    """A backtest judges by the profile's own settings; only what the command line names is its own. A market without a
    size among ``sizes_1e9`` has that of the settings."""
    own = market_settings(settings)
    played = {}
    for symbol in markets:
        if symbol not in own:
            raise ValidationError("UNKNOWN_MARKET", f"engine.markets of this profile does not name {symbol}")
        size_1e9 = sizes_1e9.get(symbol, own[symbol].size_1e9)
        played[symbol] = msgspec.structs.replace(own[symbol], size_1e9=size_1e9)
    return BacktestSettings(
        policy=policy,
        markets=played,
        fees=fees,
        start_equity=settings.paper.start_equity_usd,
        limits=gate_limits(settings),
        paper=paper_settings(settings),
        max_market_usd=settings.limits.max_market_usd,
        max_total_usd=settings.limits.max_total_usd,
    )


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
    specs = [MARKETS[symbol] for symbol in tapes]
    venue = PaperVenue(
        specs, paper_settings(settings), PaperTables(database), clock, "drift-v2 (paper)", account.authority
    )
    begun = {symbol: tape.price_at(clock.market_s())[0] for symbol, tape in tapes.items()}
    opening = paper_opening(settings, begun)
    reached_s = await venue.open(opening.quote, opening.wallet_quote, opening.wallet)
    if reached_s is not None:
        clock.advance_to(reached_s)

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


def _decimal(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(str(value))
