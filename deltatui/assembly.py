"""Builds the program from its parts: the only place that knows every class."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from decimal import Decimal
from pathlib import Path

import msgspec

from deltatui.api.limits import ServerLimits
from deltatui.api.server import Server
from deltatui.backtest.replay import Replay, ReplayClock, check_same_tape
from deltatui.backtest.run import BacktestSettings, Fees, Policy
from deltatui.config import Loaded, secret_values
from deltatui.domain import audit
from deltatui.domain.carry import CarrySettings
from deltatui.domain.command import AnyCommand, CommandResult, Deposit, Leave, Rebalance, Take, Withdraw
from deltatui.domain.costs import DRIFT_FEES, DRIFT_SLIPPAGE, NO_FEES, NO_SLIPPAGE, CostModel, SlippageModel
from deltatui.domain.delta import RebalanceSettings
from deltatui.domain.errors import CriticalError, ValidationError
from deltatui.domain.gates import GateLimits
from deltatui.domain.health import LossLimits
from deltatui.domain.market import MarketSpec
from deltatui.domain.snapshot import PlanView, Snapshot
from deltatui.domain.units import base_from_text
from deltatui.engine.engine import Engine
from deltatui.engine.settings import EngineSettings
from deltatui.engine.snapshots import SnapshotBuilder, Surroundings
from deltatui.engine.supervisor import Supervisor
from deltatui.feeds.tape import Tape, load_tape
from deltatui.log import Logs, setup
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


def carry_settings(settings: Settings) -> CarrySettings:
    carry = settings.carry
    return CarrySettings(
        horizon_h=carry.horizon_h,
        prediction_weight=carry.prediction_weight,
        average_h=carry.average_h,
        confirm_records=carry.confirm_records,
        min_records=carry.min_records,
        gain_haircut=carry.gain_haircut,
        fee_multiple=carry.fee_multiple,
        sol_borrow_apr_pct=carry.sol_borrow_apr_pct,
        sol_lend_apr_pct=carry.sol_lend_apr_pct,
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
        max_funding_age_s=limits.max_funding_age_s,
    )


def engine_settings(settings: Settings, profile: str) -> EngineSettings:
    limits, rebalance = settings.limits, settings.rebalance
    return EngineSettings(
        profile=profile,
        market=settings.engine.market,
        mode=settings.mode,
        live_mode=settings.live_mode,
        limits=gate_limits(settings),
        carry_size_1e9=base_from_text(settings.engine.carry_size_sol),
        automation=settings.automation_by_mode,
        carry=carry_settings(settings),
        rebalance=RebalanceSettings(
            tolerance_pct=rebalance.tolerance_pct,
            emergency_pct=rebalance.emergency_pct,
            cooldown_s=rebalance.cooldown_s,
            min_trade_1e9=base_from_text(rebalance.min_trade_sol),
        ),
        losses=LossLimits(
            daily_loss=_decimal(limits.daily_loss_stop_usd), drawdown_pct=_decimal(limits.drawdown_stop_pct)
        ),
        slippage_bps=settings.orders.slippage_bps,
        reduce_slippage_bps=settings.orders.reduce_slippage_bps,
        kill_slippage_bps=settings.orders.kill_slippage_bps,
        confirm_above_usd=limits.confirm_above_usd,
        typed_above_usd=limits.typed_above_usd,
        auto_limit_usd=settings.auto_limit_usd_by_mode,
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
    """With what a paper account begins: ``quote`` deposited, the rest in its wallet."""

    quote: Decimal
    wallet_quote: Decimal
    wallet_spot: Decimal


def paper_opening(settings: Settings, oracle: Decimal) -> Opening:
    paper = settings.paper
    quote = paper.start_equity_usd
    if quote is None:
        quote = 2 * settings.engine.carry_size_sol * oracle
    return Opening(quote, paper.wallet_usd, paper.wallet_sol)


def server_limits(settings: Settings) -> ServerLimits:
    return ServerLimits(commands_per_s=settings.limits.commands_per_s)


def backtest_settings(settings: Settings, policy: Policy, fees: Fees, size_1e9: int, market: str) -> BacktestSettings:
    """A backtest judges by the profile's own settings; only what the command line names is its own."""
    return BacktestSettings(
        policy=policy,
        size_1e9=size_1e9,
        fees=fees,
        market=market,
        start_equity=settings.paper.start_equity_usd,
        carry=carry_settings(settings),
        limits=gate_limits(settings),
        paper=paper_settings(settings),
    )


def _decimal(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(str(value))


class EngineHost:
    """What the server talks to: the engine and the snapshots of it."""

    def __init__(self, engine: Engine, replay: Replay, clock: ReplayClock) -> None:
        self._engine = engine
        self._replay = replay
        self._builder = SnapshotBuilder(engine)
        self._started_s = clock.operator_s()
        self.clients = 0

    def snapshot(self) -> Snapshot:
        replay = self._replay
        return self._builder.build(
            Surroundings(
                clients=self.clients,
                pid=os.getpid(),
                started_operator_s=self._started_s,
                speed=0 if replay.standing else replay.speed,
                loop_lag_ms=replay.loop_lag_ms,
                tape=replay.view(),
            )
        )

    async def submit(self, command: AnyCommand) -> CommandResult:
        return await self._engine.submit(command)

    def preview(self, command: Take | Leave | Rebalance | Deposit | Withdraw) -> PlanView:
        return self._engine.preview(command)


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
    spec = market_spec(settings.engine.market)
    tape = load_tape(settings.replay.tape)
    logs = setup(
        level=settings.log.level,
        folder=settings.log.folder or paths.log_folder,
        stderr=headless,
        secrets=secret_values(settings),
    )
    try:
        clock = ReplayClock(_tape_start(settings, tape))
        holder = LockHolder(os.getpid(), socket.gethostname(), paths.profile, clock.operator_s())
        lock = EngineLock.acquire(paths.lock, holder)
        try:
            if fresh and paths.database.exists():
                await _put_aside(paths.database, clock.operator_s())
            database = await Database.open(paths.database, Durability(settings.storage.durability))
            try:
                await _run(loaded, spec, tape, clock, database, logs)
            finally:
                await database.close()
        finally:
            lock.release()
    finally:
        logs.close()


def market_spec(symbol: str) -> MarketSpec:
    spec = MARKETS.get(symbol)
    if spec is None:
        raise ValidationError("UNKNOWN_MARKET", f"there is no market {symbol}; listed: {', '.join(MARKETS)}")
    return spec


def _tape_start(settings: Settings, tape: Tape) -> float:
    start = settings.replay.start
    if start is None:
        return float(tape.first_s)
    if not tape.first_s <= start.timestamp() < tape.last_s:
        raise ValidationError("BAD_START", f"replay.start {start:%Y-%m-%d %H:%M} is not on the tape {tape.name}")
    return start.timestamp()


async def _put_aside(database: Path, operator_s: float) -> None:
    from deltatui.store.maintenance import reset_vault

    await reset_vault(database, operator_s, abandon_open=True)


async def _run(
    loaded: Loaded, spec: MarketSpec, tape: Tape, clock: ReplayClock, database: Database, logs: Logs
) -> None:
    settings, paths = loaded.settings, loaded.paths
    store = EngineStore(database)
    kept = await store.load_state()
    mark = check_same_tape(tape, kept.get(_TAPE_STATE))
    venue = PaperVenue(spec, paper_settings(settings), PaperTables(database), clock, "drift-v2 (paper)")
    opening = paper_opening(settings, tape.price_at(clock.market_s())[0])
    reached_s = await venue.open(opening.quote, opening.wallet_quote, opening.wallet_spot)
    if reached_s is not None:
        clock.advance_to(reached_s)

    def dirty() -> None:
        server.notify_dirty()

    engine = Engine(
        engine_settings(settings, paths.profile),
        clock,
        venue,
        venue,
        store,
        log=logs,
        on_change=dirty,
        on_event=lambda event: server.publish_event(event),
        speed=settings.replay.speed,
    )
    replay = Replay(tape, clock, venue, engine, dirty, lambda history: server.publish_history(history))
    host = EngineHost(engine, replay, clock)

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
    if reached_s is None:
        await replay.first_price()
    await engine.start()
    replay.prime()
    await store.save_state({_TAPE_STATE: mark})
    await server.start()

    maintenance = Maintenance(
        database, paths.state_folder / "backups", paths.config_file, hourly=settings.storage.backups
    )
    supervisor = _supervised(engine, replay, maintenance, clock, logs)
    try:
        await engine.desk.stopping.wait()
    finally:
        await engine.stop()
        await supervisor.stop()
        await server.close()
        await venue.flush()
        await engine.core.save()


def _supervised(engine: Engine, replay: Replay, maintenance: Maintenance, clock: ReplayClock, logs: Logs) -> Supervisor:
    """What runs beside the commands, started; and the signals that end it all."""

    def on_critical(task: str, error: CriticalError) -> None:
        engine.core.halt(f"{task}: {error.sentence}")

    async def maintain() -> None:
        while True:
            for event in await maintenance.run_due(clock.market_s(), clock.operator_s()):
                engine.note(event.kind, event.message, event.level)
            await clock.sleep(_MAINTENANCE_S)

    supervisor = Supervisor(clock, logs, on_critical)
    supervisor.start("replay", replay.run)
    supervisor.start("maintenance", maintain)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, engine.desk.stopping.set)
    # The tape and the program itself live as long as the process: no collection has to look at them again.
    gc.collect()
    gc.freeze()
    return supervisor
