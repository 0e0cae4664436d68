"""The engine: facts come up, commands come down, and they meet here.

One instance trades one market of one account. `step()` is called after every change of facts; `submit()` by whoever
wants something: a key, an API client, or the engine itself. There is no second way to trade.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from decimal import Decimal

import msgspec

from deltatui.domain.carry import CarryState, Decision, Stance, decide, estimate, holding
from deltatui.domain.command import (
    AnyCommand,
    Cancel,
    CommandResult,
    Confirm,
    Deposit,
    Direction,
    Kill,
    Leave,
    Pause,
    Rebalance,
    ResultStatus,
    Resume,
    SetAutomation,
    SetSpeed,
    Settle,
    Stop,
    Take,
    Withdraw,
)
from deltatui.domain.costs import RoundTrip, round_trip
from deltatui.domain.delta import Exposure, RebalancePlan, plan_rebalance
from deltatui.domain.errors import CriticalError, TransientError, UnresolvedError, ValidationError
from deltatui.domain.event import Event, Level
from deltatui.domain.funding import FundingWindow, hour_fractions
from deltatui.domain.gates import GateFacts, allowed, blocking, judge, only_profitability_blocks, withdraw_health
from deltatui.domain.health import HealthLevel, LossState, crossed, health_level, watch_losses
from deltatui.domain.ledger import FlowKind
from deltatui.domain.market import FundingRecord, MarketSpec, MarketState
from deltatui.domain.operation import OpenOperation, Operation, OperationKind, OperationState, Transfer
from deltatui.domain.snapshot import AlertView, OperationView
from deltatui.domain.units import BASE_PRECISION, base_to_decimal
from deltatui.domain.verdict import Verdict
from deltatui.engine.accounting import GAP_TOLERANCE, Accountant
from deltatui.engine.executor import Executor
from deltatui.engine.planner import Plan, Planner, Standing, stance_of, standing
from deltatui.engine.settings import EngineSettings
from deltatui.engine.states import EngineState, check_transition, refusal
from deltatui.engine.telling import Teller
from deltatui.ports import AccountState, Clock, Log, Outcome, Sender, Store, Venue

_S = EngineState
_WEEK_H = 168


class Flags(msgspec.Struct, frozen=True):
    """What outlives a restart besides books and carry memory."""

    automation: bool = True
    halted: str = ""
    reducing: str = ""
    paused: bool = False
    held_by: str = "nobody"
    last_rebalance_s: float | None = None
    operations: int = 0
    losses: LossState = LossState()
    liquidations: int = 0
    records: int = 0


class HedgeCheck(msgspec.Struct, frozen=True):
    """Kept on disk while a two-legged operation is under way, so that an odd leg is found after a crash too."""

    operation: Operation
    spot_1e9: int
    perp_1e9: int


class Pending(msgspec.Struct, frozen=True):
    """A trade that waits for its confirmation."""

    operation_id: str
    command: Take | Leave | Rebalance
    created_s: float
    expires_s: float
    perp_1e9: int


class Facts(msgspec.Struct, frozen=True):
    """Market and account at one moment, known to be there."""

    market: MarketState
    account: AccountState


_encode = msgspec.json.Encoder().encode


class Engine:
    """See the module. ``log`` None keeps no audit lines (a backtest has no reader)."""

    def __init__(
        self,
        settings: EngineSettings,
        clock: Clock,
        venue: Venue,
        sender: Sender,
        store: Store,
        log: Log | None = None,
        on_change: Callable[[], None] = lambda: None,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        spec = venue.markets().get(settings.market)
        if spec is None:
            listed = ", ".join(venue.markets())
            raise ValidationError("UNKNOWN_MARKET", f"{venue.name} does not list {settings.market}; it lists {listed}")
        self.settings = settings
        self.spec: MarketSpec = spec
        self.clock = clock
        self.venue = venue
        self.accountant = Accountant(spec)
        self.state = _S.STARTING
        self.state_reason = "starting"
        self.flags = Flags(automation=settings.automation)
        self.carry_state = CarryState()
        self.decision: Decision | None = None
        self.window = FundingWindow(settings.carry.average_h)
        self.week = FundingWindow(_WEEK_H)
        self.pending: Pending | None = None
        self.alerts: OrderedDict[str, AlertView] = OrderedDict()
        self.operation: OperationView | None = None
        self.unresolved: dict[str, OpenOperation] = {}
        self.last_verdicts: tuple[Verdict, ...] = ()
        self.last_result: CommandResult | None = None
        self.stopping = asyncio.Event()
        self.version = 0
        self._store = store
        self._tell = None if log is None else Teller(log)
        self._on_change = on_change
        self._on_event = on_event
        self._planner = Planner(settings.slippage_bps, venue.costs())
        self._executor = Executor(venue, sender, store, clock, self._on_operation_state)
        self._serial = asyncio.Lock()
        self.round_trip = round_trip(venue.costs(), base_to_decimal(settings.carry_size_1e9))
        self._health = HealthLevel.OK
        self._last_loop_s = float("-inf")
        self._last_save_s = float("-inf")
        self._events: list[Event] = []
        self._position_times: deque[float] = deque()
        self._intents: OrderedDict[str, CommandResult] = OrderedDict()
        self._seen: deque[tuple[int, float, int, int]] = deque(maxlen=256)
        self._said: dict[str, str] = {}
        self._dirty_state = False

    # Life

    async def start(self) -> None:
        """Load what was kept, reconcile the journal with the venue, and begin (or stay halted, paused, reducing)."""
        state = await self._store.load_state()
        if raw := state.get("flags"):
            self.flags = msgspec.json.decode(raw, type=Flags)
        if raw := state.get("carry"):
            self.carry_state = msgspec.json.decode(raw, type=CarryState)
        if raw := state.get("books"):
            self.accountant.load(raw)
        self._go(_S.RECONCILING, "comparing the journal with the venue")
        for open_operation in await self._store.open_operations():
            await self._resolve(open_operation)
        facts = self.facts()
        if facts is not None:
            await self._take_in(facts)
            if raw := state.get("hedge_check"):
                await self._after_crash(raw)
        self._go_after_reconciliation()

    def prime_funding(self, records: Iterable[FundingRecord]) -> None:
        """Fill the averages with past records, so that a restart judges as if it had never ended."""
        for record in records:
            fractions = hour_fractions(record)
            self.window.add(fractions)
            self.week.add(fractions)

    async def stop(self) -> None:
        """End in good order: everything saved."""
        if self.state is not _S.STOPPED:
            self._go(_S.STOPPED, "stopped")
        await self.save()

    # Facts

    async def step(self) -> None:
        """Take in what the venue knows now. Call after every change of prices, records or account."""
        facts = self.facts()
        if facts is None:
            return
        if self.accountant.books.cursor != facts.account.events or not self.accountant.opened:
            await self._take_in(facts)
        market = facts.market
        new_record = market.funding is not None and market.funding_count != self.flags.records
        if new_record:
            self._on_record(facts)
        if new_record or market.as_of_s - self._last_loop_s >= self.settings.loop_interval_s:
            self._last_loop_s = market.as_of_s
            await self._loop(facts, new_record)
        if (
            self.settings.save_every_step
            or self.clock.operator_s() - self._last_save_s >= self.settings.save_interval_s
        ):
            await self.save()
        self._on_change()

    async def tick(self) -> None:
        """Operator time has passed: expire a confirmation, look after unresolved operations, save."""
        now = self.clock.operator_s()
        if self.pending is not None and now >= self.pending.expires_s:
            self._emit("confirmation_expired", Level.INFO, "not confirmed in time, nothing was done")
            self.pending = None
            self._on_change()
        for open_operation in list(self.unresolved.values()):
            await self._resolve(open_operation)
        if now - self._last_save_s >= self.settings.save_interval_s:
            await self.save()

    async def save(self) -> None:
        """Make books, memory and events durable. A disk that refuses is reported and tried again later."""
        accountant = self.accountant
        entries, events = accountant.pending, self._events
        if not entries and not events and not self._dirty_state:
            return
        accountant.pending, self._events = [], []
        try:
            await self._store.append_ledger(entries, self._durable_state())
            if events:
                await self._store.append_events(events)
        except TransientError as error:
            accountant.pending, self._events = entries + accountant.pending, events + self._events
            self._alert("store", Level.ERROR, f"cannot save: {error.sentence}")
            return
        self._dirty_state = False
        self._last_save_s = self.clock.operator_s()
        self._clear_alert("store")

    def facts(self) -> Facts | None:
        market = self.venue.market(self.spec.symbol)
        account = self.venue.account(self.spec.symbol)
        return None if market is None or account is None else Facts(market, account)

    async def _take_in(self, facts: Facts) -> None:
        """Book what happened to the account since the last time."""
        accountant = self.accountant
        if not accountant.opened:
            accountant.open(facts.market, facts.account)
            self.flags = msgspec.structs.replace(self.flags, liquidations=facts.account.liquidations)
            self._dirty_state = True
            return
        entries = accountant.ingest(await self.venue.events_after(accountant.books.cursor))
        while accountant.books.cursor < facts.account.events:
            entries += accountant.ingest(await self.venue.events_after(accountant.books.cursor))
        if entries:
            self._dirty_state = True
            if self._tell is not None:
                for entry in entries:
                    if entry.kind is FlowKind.FUNDING:
                        self._tell.funding(entry, facts.market, facts.account.perp_1e9)
        if facts.account.liquidations > self.flags.liquidations:
            self.flags = msgspec.structs.replace(self.flags, liquidations=facts.account.liquidations)
            self._emit("liquidated", Level.CRITICAL, "the account was liquidated by the venue")

    def _on_record(self, facts: Facts) -> None:
        record = facts.market.funding
        assert record is not None  # noqa: S101  step() has looked
        fractions = hour_fractions(record)
        self.window.add(fractions)
        self.week.add(fractions)
        self.flags = msgspec.structs.replace(self.flags, records=facts.market.funding_count)
        held = stance_of(facts.account.perp_1e9)
        self.carry_state, self.decision = decide(
            holding(self.carry_state, held), self.window, self.round_trip, self.settings.carry
        )
        self._dirty_state = True
        if self._tell is not None:
            notional = self.settings.carry_size_1e9 / BASE_PRECISION * float(facts.market.mark)
            horizon_h = self.settings.carry.horizon_h
            self._tell.profitability(
                self.decision, self.round_trip, notional, horizon_h, fractions.short_receives, facts.market
            )

    async def _loop(self, facts: Facts, new_record: bool) -> None:
        """Everything that is looked at once a record and once an interval."""
        self._watch(facts)
        if self.state is not _S.RUNNING or not self.flags.automation or self.pending is not None:
            return
        if new_record or self.settings.hold is not None:
            await self._act_on_stance(stance_of(facts.account.perp_1e9))
        if self.state is _S.RUNNING and (facts.account.perp_1e9 or facts.account.spot_1e9):
            await self._act_on_delta()

    # Watching

    def _watch(self, facts: Facts) -> None:
        account = facts.account
        sync = self.accountant.sync(facts.market, account, self.clock.operator_s())
        if abs(sync.gap) >= GAP_TOLERANCE:
            self._alert("ledger", Level.ERROR, f"ledger and venue differ by {sync.gap:+.6f} {self.venue.quote_symbol}")
        elif "ledger" in self.alerts:
            self._clear_alert("ledger")
        losses, reason = watch_losses(
            self.flags.losses, self.settings.losses, account.equity, self.accountant.transfers, account.as_of_s
        )
        if losses != self.flags.losses:
            self.flags = msgspec.structs.replace(self.flags, losses=losses)
        if reason and self.state is _S.RUNNING:
            self._reduce(f"loss limit: {reason}")
        if account.perp_1e9 or account.spot_1e9:
            self._watch_health()
        elif self._health is not HealthLevel.OK:
            self._health = HealthLevel.OK
            self._clear_alert("health")

    def _watch_health(self) -> None:
        now = self.standing()
        if now is None:
            return
        health = now.summary.health
        level = health_level(health, self.settings.health_warning, self.settings.health_critical)
        if crossed(self._health, level):
            if level is HealthLevel.CRITICAL:
                liq = "unknown" if now.liq_price is None else f"{now.liq_price:,.4f}"
                self._alert("health", Level.CRITICAL, f"health {health}, liquidation price {liq}", "health_alert")
            else:
                self._alert("health", Level.WARNING, f"health {health}", "health_alert")
        elif level is HealthLevel.OK and self._health is not HealthLevel.OK:
            self._clear_alert("health")
        self._health = level
        if self._tell is not None:
            self._tell.account(now, self.clock.market_s())

    def standing(self) -> Standing | None:
        """The account now; None where it cannot be judged."""
        book = self.venue.margin_book()
        if book is None:
            return None
        try:
            return standing(book, self.spec)
        except ValidationError as error:
            self._alert("margin", Level.ERROR, f"the account cannot be judged: {error.sentence}")
            return None

    @property
    def equity(self) -> Decimal:
        """The venue's figure at the last sync; 0 before there was one."""
        sync = self.accountant.last_sync
        return Decimal(0) if sync is None else sync.venue_equity

    # Acting by itself

    async def _act_on_stance(self, held: Stance) -> None:
        target = self.settings.hold if self.settings.hold is not None else self._target()
        if target is None or target is held or self.flags.held_by == "operator":
            return
        market = self.spec.symbol
        if held is not Stance.FLAT:
            await self._say_if_refused("leave", await self.submit(Leave(market=market, source="engine")))
            return
        way = Direction.CARRY if target is Stance.CARRY else Direction.REVERSE
        size = self.settings.carry_size_1e9
        take = Take(market=market, base_1e9=size, direction=way, source="engine")
        await self._say_if_refused("take", await self.submit(take))

    def _target(self) -> Stance | None:
        return None if self.decision is None else self.decision.target

    async def _act_on_delta(self) -> None:
        plan, exposure = self.rebalance_plan(), self.exposure()
        if plan is None or exposure is None:
            return
        if self._tell is not None:
            self._tell.rebalancer(plan, exposure, self.clock.market_s())
        if plan.code == "correct":
            command = Rebalance(market=self.spec.symbol, source="engine")
            await self._say_if_refused("rebalance", await self.submit(command))

    async def _say_if_refused(self, what: str, result: CommandResult) -> None:
        """One event for one reason, however often the engine tries again."""
        reason = f"{result.code}: {result.message}" if result.status is ResultStatus.REJECTED else ""
        if reason and reason != self._said.get(what):
            self._emit(f"{what}_refused", Level.WARNING, f"automatic {what} refused: {result.message}")
        self._said[what] = reason

    def exposure(self) -> Exposure | None:
        facts = self.facts()
        if facts is None:
            return None
        account = facts.account
        spot = account.spot_1e9 + account.wallet_base_1e9
        return Exposure(spot, account.perp_1e9, self.spec.step_base_1e9, account.open_bids_1e9, account.open_asks_1e9)

    def cooldown_remaining_s(self) -> float:
        last = self.flags.last_rebalance_s
        if last is None:
            return 0.0
        return max(0.0, last + self.settings.rebalance.cooldown_s - self.clock.market_s())

    def rebalance_plan(self, *, manual: bool = False) -> RebalancePlan | None:
        exposure = self.exposure()
        if exposure is None:
            return None
        return plan_rebalance(
            exposure, self.settings.rebalance, cooldown_remaining_s=self.cooldown_remaining_s(), manual=manual
        )

    # Commands

    async def submit(self, command: AnyCommand) -> CommandResult:
        """The one way in. Never raises for what a caller can get wrong: that is a REJECTED result.

        An ``intent_id`` seen before gets its first answer again.
        """
        intent = command.intent_id
        if intent and intent in self._intents:
            return self._intents[intent]
        try:
            result = await self._dispatch(command)
        except ValidationError as error:
            result = CommandResult(ResultStatus.REJECTED, error.code, error.sentence)
        except UnresolvedError as error:
            result = CommandResult(ResultStatus.UNRESOLVED, error.code, error.sentence)
        except TransientError as error:
            result = CommandResult(ResultStatus.REJECTED, error.code, error.sentence)
        except CriticalError as error:
            self.halt(error.sentence)
            result = CommandResult(ResultStatus.REJECTED, error.code, error.sentence)
        result = self.last_result = msgspec.structs.replace(result, intent_id=intent)
        if intent:
            self._intents[intent] = result
            if len(self._intents) > 1000:
                self._intents.popitem(last=False)
        if self._tell is not None and (command.source != "engine" or result.status is not ResultStatus.REJECTED):
            self._tell.verdicts(type(command).__name__.upper(), result.verdicts, self.clock.market_s())
        self._on_change()
        return result

    async def _dispatch(self, command: AnyCommand) -> CommandResult:
        if why := refusal(self.state, type(command)):
            raise ValidationError("NOT_ACCEPTED", why)
        match command:
            case Take() | Leave() | Rebalance():
                self._check_market(command.market)
                return await self._trade(command)
            case Settle():
                self._check_market(command.market)
                return await self._settle()
            case Deposit() | Withdraw():
                return await self._transfer(command)
            case Confirm():
                return await self._confirm(command)
            case Cancel():
                return self._cancel(command)
            case Pause():
                self._go(_S.PAUSED, "paused by the operator")
                self._set_flags(paused=True)
                return _done("PAUSED", "paused: no new risk, nothing automatic")
            case Resume():
                return self._resume()
            case Kill():
                return await self._kill(command)
            case SetSpeed():
                raise ValidationError("NO_TAPE", "only a replay has a speed")
            case SetAutomation():
                held_by = "engine" if command.on and self.flags.held_by == "operator" else self.flags.held_by
                self._set_flags(automation=command.on, held_by=held_by)
                self._emit("automation", Level.INFO, f"automation {'on' if command.on else 'off'}")
                return _done("AUTOMATION", f"automation is {'on' if command.on else 'off'}")
            case Stop():
                self.stopping.set()
                return _done("STOPPING", "the engine stops")

    def _check_market(self, symbol: str) -> None:
        listed = self.venue.markets()
        if symbol not in listed:
            raise ValidationError("UNKNOWN_MARKET", f"there is no market {symbol}; listed: {', '.join(listed)}")
        if symbol != self.spec.symbol:
            raise ValidationError("OTHER_MARKET", f"this engine trades {self.spec.symbol}, not {symbol}")

    async def _trade(self, command: Take | Leave | Rebalance) -> CommandResult:
        self._check_fresh(command)
        if self.pending is not None:
            raise ValidationError("CONFIRMATION_OPEN", "another trade waits for its confirmation; answer that first")
        operation_id = self._operation_id(command)
        if await self._store.known_operation(operation_id) is not None:
            raise ValidationError("SAME_INTENT", "this intent was carried out before")
        plan = self.plan(command)
        verdicts = self.judge(plan, command.source)
        self.last_verdicts = verdicts
        asks = self._needs_confirmation(command, plan)
        if not allowed(verdicts) and not (asks and self.can_force(verdicts)):
            return self._blocked(operation_id, verdicts)
        if asks:
            now = self.clock.operator_s()
            perp = self._known_facts().account.perp_1e9
            self.pending = Pending(operation_id, command, now, now + self.settings.confirm_timeout_s, perp)
            self._emit(
                "confirmation_opened", Level.INFO, f"{plan.kind.lower()} of {plan.size:f} waits for confirmation"
            )
            return CommandResult(
                ResultStatus.NEEDS_CONFIRMATION,
                "CONFIRM",
                f"confirm {plan.kind.lower()} of {plan.size:f} {self.spec.base_symbol}",
                operation_id,
                verdicts=verdicts,
            )
        return await self._execute(operation_id, command, plan, verdicts)

    def _check_fresh(self, command: Take | Leave | Rebalance) -> None:
        """What the operator looked at must still be so (R13.10)."""
        version = command.snapshot_version
        if not version or command.source == "engine":
            return
        account = self._known_facts().account
        for seen, operator_s, perp, spot in self._seen:
            if seen == version:
                if self.clock.operator_s() - operator_s > self.settings.stale_snapshot_s:
                    break
                if (perp, spot) != (account.perp_1e9, account.spot_1e9):
                    raise ValidationError("POSITION_CHANGED", "the position changed since you looked; look again")
                return
        raise ValidationError("STALE_SNAPSHOT", "what you saw is too old to act on; look again")

    def saw(self, version: int) -> None:
        """Remember what a snapshot that goes to the clients shows."""
        facts = self.facts()
        if facts is not None:
            account = facts.account
            self._seen.append((version, self.clock.operator_s(), account.perp_1e9, account.spot_1e9))

    def plan(self, command: Take | Leave | Rebalance) -> Plan:
        """From fresh facts. Raises ValidationError where it cannot be done or nothing is to be done."""
        facts = self._known_facts()
        book = self.venue.margin_book()
        if book is None:
            raise ValidationError("NO_ACCOUNT", "the venue has not told the account's state yet")
        match command:
            case Take():
                return self._planner.take(facts.market, facts.account, book, command.base_1e9, command.direction)
            case Leave():
                return self._planner.leave(facts.market, facts.account, book, self.accountant.own_spot_1e9)
            case Rebalance():
                wanted = self.rebalance_plan(manual=command.source != "engine")
                if wanted is None or wanted.code != "correct":
                    reason = "the exposure is not known" if wanted is None else wanted.reason
                    raise ValidationError("NOTHING_TO_REBALANCE", reason)
                return self._planner.perp_order(
                    OperationKind.REBALANCE,
                    facts.market,
                    facts.account,
                    book,
                    wanted.base_1e9,
                    reduce_only=wanted.reduce_only,
                    reason=wanted.reason,
                )

    def judge(self, plan: Plan, source: str = "operator") -> tuple[Verdict, ...]:
        """Every gate's verdict on a plan (R6)."""
        facts = self.facts()
        after = plan.after
        market = None if facts is None else facts.market
        increases = plan.increases_risk
        judged = plan.kind is OperationKind.TAKE and self.settings.hold is None
        cost = self.round_trip_of(plan.size) if judged else self.round_trip
        gate_facts = GateFacts(
            increases_risk=increases,
            venue_problem=None if market is None else ("" if market.active else f"{market.spec.symbol} is not active"),
            rate_problem=self._rate_problem() if source != "engine" or increases else "",
            carry=estimate(plan.stance, self.window, cost, self.settings.carry) if judged else None,
            judge_carry=judged,
            leverage_after=None if after is None else (after.leverage if after.leverage is not None else float("inf")),
            health_after=None if after is None else after.summary.health,
            liq_distance_pct_after=None
            if after is None or after.liq_distance_pct is None
            else abs(after.liq_distance_pct),
            no_liquidation_after=after is not None and after.liq_price is None,
            free_collateral_after=None if after is None else after.summary.free_initial_1e6 / 1e6,
            funding_age_s=None if market is None else self._funding_age_s(market),
        )
        return judge(gate_facts, self.settings.limits, self.venue.not_applicable())

    def round_trip_of(self, size: Decimal) -> RoundTrip:
        return round_trip(self.venue.costs(), size)

    def _funding_age_s(self, market: MarketState) -> float | None:
        if market.funding is None:
            # Before the first record of a session that is told to hold a stance, there is nothing to be old.
            return 0.0 if self.settings.hold is not None else None
        return self.clock.market_s() - market.funding.ts_s

    def _rate_problem(self) -> str:
        now = self.clock.operator_s()
        times = self._position_times
        while times and now - times[0] >= 60.0:
            times.popleft()
        most = self.settings.position_ops_per_min
        return f"{most} position operations in the last minute, the limit" if len(times) >= most else ""

    def can_force(self, verdicts: tuple[Verdict, ...]) -> bool:
        return self.settings.mode != "live" and only_profitability_blocks(verdicts)

    def _needs_confirmation(self, command: Take | Leave | Rebalance, plan: Plan) -> bool:
        if command.source == "engine":
            if not plan.increases_risk or float(plan.notional) <= self.settings.confirm_above_usd:
                return False
            limit = self.settings.auto_limit_usd
            return limit is None or float(plan.notional) > limit
        return isinstance(command, Leave) or float(plan.notional) > self.settings.confirm_above_usd

    async def _confirm(self, command: Confirm) -> CommandResult:
        pending = self.pending
        if pending is None or pending.operation_id != command.operation_id:
            raise ValidationError("NOT_PENDING", "that trade does not wait for a confirmation any more")
        self.pending = None
        if self.clock.operator_s() >= pending.expires_s:
            raise ValidationError("EXPIRED", "the confirmation came too late, nothing was done")
        if why := refusal(self.state, type(pending.command)):
            raise ValidationError("NOT_ACCEPTED", why)
        if self._known_facts().account.perp_1e9 != pending.perp_1e9:
            raise ValidationError("POSITION_CHANGED", "the position changed while the dialog was open; ask again")
        plan = self.plan(pending.command)
        verdicts = self.judge(plan, pending.command.source)
        self.last_verdicts = verdicts
        if not allowed(verdicts) and not (command.force and self.can_force(verdicts)):
            return self._blocked(pending.operation_id, verdicts)
        return await self._execute(pending.operation_id, pending.command, plan, verdicts)

    def _cancel(self, command: Cancel) -> CommandResult:
        if self.pending is None or self.pending.operation_id != command.operation_id:
            raise ValidationError("NOT_PENDING", "that trade does not wait for a confirmation any more")
        self.pending = None
        self._emit("order_cancelled", Level.INFO, "not confirmed, nothing was done", command.operation_id)
        return _done("CANCELLED", "cancelled, nothing was done")

    def _blocked(self, operation_id: str, verdicts: tuple[Verdict, ...]) -> CommandResult:
        stopped = blocking(verdicts)
        why = "; ".join(f"{v.code}: {v.reason or f'{v.observed}, limit {v.limit}'}" for v in stopped)
        return CommandResult(ResultStatus.REJECTED, "BLOCKED", f"blocked by {why}", operation_id, verdicts=verdicts)

    async def _settle(self) -> CommandResult:
        facts = self._known_facts()
        book = self.venue.margin_book()
        if book is None:
            raise ValidationError("NO_ACCOUNT", "the venue has not told the account's state yet")
        plan = self._planner.settle(facts.market, facts.account, book)
        return await self._execute(self._operation_id(None), None, plan, ())

    async def _transfer(self, command: Deposit | Withdraw) -> CommandResult:
        facts = self._known_facts()
        book = self.venue.margin_book()
        if book is None:
            raise ValidationError("NO_ACCOUNT", "the venue has not told the account's state yet")
        if command.amount <= 0:
            raise ValidationError("BAD_AMOUNT", f"the amount must be more than 0, it is {command.amount}")
        quote = self.venue.quote_symbol
        if command.asset not in (quote, self.spec.base_symbol):
            raise ValidationError(
                "UNKNOWN_ASSET", f"{command.asset} cannot be moved, only {quote} and {self.spec.base_symbol}"
            )
        verdicts: tuple[Verdict, ...] = ()
        if isinstance(command, Deposit):
            plan = self._deposit_plan(facts, command)
        else:
            plan = self._planner.transfer(facts.market, facts.account, book, Transfer(command.asset, -command.amount))
            health = None if plan.after is None else plan.after.summary.health
            verdict = withdraw_health(health, self.settings.limits)
            verdicts = (verdict,)
            if not verdict.allowed:
                most = self.largest_withdrawal(command.asset)
                text = f"health would be {verdict.observed}, limit {verdict.limit}; at most {most:f} {command.asset}"
                return CommandResult(ResultStatus.REJECTED, "BLOCKED", text, verdicts=verdicts)
        return await self._execute(self._operation_id(command), command, plan, verdicts)

    def _deposit_plan(self, facts: Facts, command: Deposit) -> Plan:
        book = self.venue.margin_book()
        assert book is not None  # noqa: S101  the caller has looked
        account = facts.account
        if command.asset == self.venue.quote_symbol:
            have, unit = int(account.wallet_quote * 10**6), 10**6
        else:
            have, unit = account.wallet_base_1e9, BASE_PRECISION
            if "gas" not in self.venue.not_applicable():
                have -= int(self.settings.limits.min_gas_sol * BASE_PRECISION)
        if command.amount > have:
            most = Decimal(max(have, 0)) / unit
            raise ValidationError("WALLET_TOO_SMALL", f"the wallet can give at most {most:f} {command.asset}")
        return self._planner.transfer(facts.market, account, book, Transfer(command.asset, command.amount))

    def largest_withdrawal(self, asset: str) -> Decimal:
        """The most that may be withdrawn (R3.4), by bisection over whole smallest units."""
        facts = self._known_facts()
        book = self.venue.margin_book()
        unit = 10**6 if asset == self.venue.quote_symbol else BASE_PRECISION
        held = facts.account.quote * unit if unit == 10**6 else Decimal(facts.account.spot_1e9)
        if book is None or held <= 0:
            return Decimal(0)
        low, high = 0, int(held)
        while low < high:
            middle = (low + high + 1) // 2
            after = self._planner.transfer(facts.market, facts.account, book, Transfer(asset, -middle)).after
            fits = (
                after is not None
                and after.summary.health >= self.settings.limits.min_health_withdraw
                and (after.summary.free_initial_1e6 > 0 or after.summary.requirement_initial_1e6 == 0)
            )
            low, high = (middle, high) if fits else (low, middle - 1)
        return Decimal(low) / unit

    def _resume(self) -> CommandResult:
        if self.state in (_S.HALTED, _S.REDUCING):
            self._go(_S.RECONCILING, "resumed by the operator")
        self._set_flags(halted="", reducing="", paused=False, losses=LossState())
        self._clear_alert("halted")
        self._go_after_reconciliation()
        return _done("RUNNING", "running; automation is " + ("on" if self.flags.automation else "off"))

    async def _kill(self, command: Kill) -> CommandResult:
        """Stop everything at once; flattening comes after, and the engine is HALTED whatever becomes of it."""
        reason = command.reason or "no reason given"
        self.pending = None
        self._set_flags(automation=False)
        self.halt(f"kill switch: {reason}", kind="kill_switch")
        await self.save()
        if not command.flatten:
            return _done("KILLED", f"halted, automation off ({reason}); positions are as they were")
        leave = Leave(market=self.spec.symbol, source="engine")
        try:
            plan = self.plan(leave)
        except ValidationError as error:
            return _done("KILLED", f"halted, automation off ({reason}); {error.sentence}")
        result = await self._execute(self._operation_id(leave), leave, plan, ())
        if result.status is ResultStatus.DONE:
            return _done("KILLED", f"halted, automation off, positions closed ({reason})")
        return msgspec.structs.replace(result, message=f"halted, but closing failed: {result.message}")

    # Carrying out

    def _operation_id(self, command: AnyCommand | None) -> str:
        """A digest of the intent where the caller gave one, else a number that never repeats."""
        if command is not None and command.intent_id:
            return "i" + hashlib.sha256(command.intent_id.encode()).hexdigest()[:20]
        number = self.flags.operations + 1
        self._set_flags(operations=number)
        return f"o{number}-{int(self.clock.market_s())}"

    async def _execute(
        self, operation_id: str, command: AnyCommand | None, plan: Plan, verdicts: tuple[Verdict, ...]
    ) -> CommandResult:
        source = "operator" if command is None else command.source
        operation = Operation(
            operation_id,
            plan.kind,
            self.spec.symbol,
            source,
            self.clock.market_s(),
            self.clock.operator_s(),
            plan.legs,
            plan.transfer,
            "" if command is None else command.intent_id,
            plan.reason,
        )
        if operation.legs:
            self._position_times.append(self.clock.operator_s())
        async with self._serial:
            if plan.increases_risk and self.unresolved:
                raise ValidationError(
                    "UNRESOLVED_OPEN", "an earlier operation is not resolved yet; new risk has to wait"
                )
            outcome = await self._run(operation)
        if outcome.state is not OperationState.LANDED:
            message = f"{plan.kind.lower()} failed: {outcome.detail or outcome.error_code}"
            return CommandResult(ResultStatus.REJECTED, outcome.error_code or outcome.state, message, operation_id)
        self._after_success(operation, source)
        message = f"{plan.kind.lower()} done"
        if plan.legs:
            message = f"{plan.kind.lower()} of {plan.size:f} {self.spec.base_symbol} done"
        if plan.kind is OperationKind.LEAVE:
            message += await self._settle_after_close()
        return CommandResult(ResultStatus.DONE, "DONE", message, operation_id, verdicts=verdicts)

    async def _run(self, operation: Operation) -> Outcome:
        """Through the executor, then into the books; an odd leg is mended before anything else happens."""
        before = self._known_facts().account
        if len(operation.legs) > 1:
            check = HedgeCheck(operation, before.spot_1e9, before.perp_1e9)
            await self._store.save_state({"hedge_check": _encode(check)})
        self._emit("order_submitted", Level.INFO, _describe(operation), operation.id)
        try:
            outcome = await self._executor.run(operation)
        except UnresolvedError as error:
            await self._keep_unresolved(operation, error)
            raise
        await self._book_outcome(operation, outcome)
        if len(operation.legs) > 1:
            await self._mend_hedge(HedgeCheck(operation, before.spot_1e9, before.perp_1e9))
            await self._store.save_state({"hedge_check": b""})
        return outcome

    async def _book_outcome(self, operation: Operation, outcome: Outcome) -> None:
        facts = self._known_facts()
        await self._take_in(facts)
        await self.save()
        if outcome.state is OperationState.LANDED:
            self._emit("order_filled", Level.INFO, f"{operation.kind.lower()} landed", operation.id)
            if self._tell is not None:
                self._tell.trades(operation, await self._fills_of(operation), self._executor.signature)
        else:
            text = f"{operation.kind.lower()} {outcome.state.lower()}: {outcome.detail or outcome.error_code}"
            self._emit("order_failed", Level.WARNING, text, operation.id)
        if facts.account.events == self.accountant.books.cursor:
            self._watch(self._known_facts())

    async def _fills_of(self, operation: Operation) -> list[tuple[str, Decimal, Decimal]]:
        after = max(0, self.accountant.books.cursor - 16)
        events = await self.venue.events_after(after)
        return [(e.instrument, e.base, e.price) for e in events if e.operation_id == operation.id and e.kind is None]

    def _after_success(self, operation: Operation, source: str) -> None:
        held = stance_of(self._known_facts().account.perp_1e9)
        self.carry_state = holding(self.carry_state, held)
        if operation.kind is OperationKind.REBALANCE:
            self._set_flags(last_rebalance_s=self.clock.market_s())
        elif operation.kind in (OperationKind.TAKE, OperationKind.LEAVE):
            # What the operator did by hand, automation leaves alone until it is told otherwise.
            by = "operator" if source != "engine" else ("nobody" if held is Stance.FLAT else "engine")
            self._set_flags(held_by=by)

    async def _settle_after_close(self) -> str:
        """R4.6: settle where more than a dollar is unsettled."""
        account = self._known_facts().account
        if account.perp_1e9 or account.unsettled <= Decimal(str(self.settings.settle_above_quote)):
            return ""
        result = await self._settle()
        return "; PnL settled" if result.status is ResultStatus.DONE else f"; settling failed: {result.message}"

    async def _mend_hedge(self, check: HedgeCheck) -> None:
        """R4.8: after a two-legged operation both legs must have moved alike; what one did too much is undone.

        Raises CriticalError, which halts the engine, where that does not succeed in three tries.
        """
        for attempt in range(4):
            facts = self._known_facts()
            account = facts.account
            spot = account.spot_1e9 - check.spot_1e9
            perp = account.perp_1e9 - check.perp_1e9
            odd = spot + perp
            intended = sum(leg.base_1e9 for leg in check.operation.legs)
            if abs(odd - intended) < self.spec.step_base_1e9:
                return
            text = f"odd leg: spot moved {spot / BASE_PRECISION:+g}, perp {perp / BASE_PRECISION:+g}"
            if attempt == 3:
                raise CriticalError("ODD_LEG", f"{text}; unwinding failed three times, it is still open")
            self._emit("odd_leg", Level.ERROR, f"{text}; unwinding", check.operation.id)
            book = self.venue.margin_book()
            if book is None:
                raise CriticalError("ODD_LEG", f"{text}; the account cannot be read")
            plan = self._unwind_plan(check, facts, spot, perp, intended)
            number = self.flags.operations + 1
            self._set_flags(operations=number)
            unwind = Operation(
                f"{check.operation.id}-u{number}",
                OperationKind.UNWIND,
                self.spec.symbol,
                "engine",
                self.clock.market_s(),
                self.clock.operator_s(),
                plan.legs,
                reason=text,
                parent_id=check.operation.id,
            )
            try:
                outcome = await self._executor.run(unwind)
            except UnresolvedError as error:
                raise CriticalError("ODD_LEG", f"{text}; the unwind is unresolved: {error.sentence}") from error
            await self._book_outcome(unwind, outcome)

    def _unwind_plan(self, check: HedgeCheck, facts: Facts, spot: int, perp: int, intended: int) -> Plan:
        """Undo the leg of a take that moved too far; go on with the leg of a leave that did not move far enough."""
        book = self.venue.margin_book()
        assert book is not None  # noqa: S101  the caller has looked
        odd = spot + perp - intended
        leaving = check.operation.kind is OperationKind.LEAVE
        perp_moved_more = abs(perp) > abs(spot)
        fix_perp = perp_moved_more != leaving
        if fix_perp:
            return self._planner.perp_order(
                OperationKind.UNWIND,
                facts.market,
                facts.account,
                book,
                -odd,
                reduce_only=bool(facts.account.perp_1e9) and (facts.account.perp_1e9 > 0) == (odd > 0),
                reason="unwind",
            )
        return self._planner.spot_order(OperationKind.UNWIND, facts.market, facts.account, book, -odd, "unwind")

    async def _after_crash(self, raw: bytes) -> None:
        check = msgspec.json.decode(raw, type=HedgeCheck)
        if check.operation.id in self.unresolved:
            return
        try:
            async with self._serial:
                await self._mend_hedge(check)
                await self._store.save_state({"hedge_check": b""})
        except CriticalError as error:
            self.halt(error.sentence)

    async def _keep_unresolved(self, operation: Operation, error: UnresolvedError) -> None:
        for open_operation in await self._store.open_operations():
            if open_operation.operation.id == operation.id:
                self.unresolved[operation.id] = open_operation
        self._alert(f"unresolved {operation.id}", Level.ERROR, f"unresolved: {error.sentence}", "unresolved")

    async def _resolve(self, open_operation: OpenOperation) -> None:
        operation = open_operation.operation
        outcome = await self._executor.resolve(open_operation)
        if outcome is None:
            self.unresolved[operation.id] = msgspec.structs.replace(open_operation, state=OperationState.UNRESOLVED)
            return
        self.unresolved.pop(operation.id, None)
        self._clear_alert(f"unresolved {operation.id}")
        self._emit("resolved", Level.INFO, f"{_describe(operation)}: {outcome.state}", operation.id)
        if self.facts() is not None:
            await self._take_in(self._known_facts())
            if outcome.state is OperationState.LANDED:
                self._after_success(operation, operation.source)

    # States

    def halt(self, reason: str, kind: str = "halted") -> None:
        """HALTED, now and after a restart."""
        self._set_flags(halted=reason)
        self._alert("halted", Level.CRITICAL, reason, kind)
        if self.state not in (_S.HALTED, _S.STOPPED):
            self._go(_S.HALTED, reason)

    def _reduce(self, reason: str) -> None:
        self._set_flags(reducing=reason)
        self._emit("reducing", Level.ERROR, reason)
        self._go(_S.REDUCING, reason)

    def _go(self, state: EngineState, reason: str) -> None:
        check_transition(self.state, state)
        self.state, self.state_reason = state, reason
        self._emit("state", Level.INFO, f"{state}: {reason}")

    def _go_after_reconciliation(self) -> None:
        flags = self.flags
        if flags.halted:
            if self.state is not _S.HALTED:
                self._go(_S.HALTED, flags.halted)
            self._alert("halted", Level.CRITICAL, flags.halted)
        elif flags.reducing:
            self._go(_S.REDUCING, flags.reducing)
        elif flags.paused:
            self._go(_S.PAUSED, "paused before the restart")
        else:
            self._go(_S.RUNNING, "")

    def _set_flags(self, **changes: object) -> None:
        self.flags = msgspec.structs.replace(self.flags, **changes)
        self._dirty_state = True

    def _durable_state(self) -> dict[str, bytes]:
        return {
            "flags": _encode(self.flags),
            "carry": _encode(self.carry_state),
            "books": self.accountant.image(),
        }

    def _known_facts(self) -> Facts:
        facts = self.facts()
        if facts is None:
            raise ValidationError("NO_DATA", "the venue has not told prices and account yet")
        return facts

    # Telling

    def _on_operation_state(self, operation: Operation, state: OperationState, detail: str) -> None:
        now = self.clock.operator_s()
        self.operation = OperationView(operation.id, operation.kind, operation.market, state, detail, now, state.final)
        self._on_change()

    def _emit(self, kind: str, level: Level, message: str, operation_id: str = "") -> None:
        event = Event(kind, level, message, self.clock.market_s(), self.clock.operator_s(), operation_id)
        self._events.append(event)
        self._on_event(event)
        if self._tell is not None:
            self._tell.event(event)

    def _alert(self, key: str, level: Level, message: str, kind: str = "alert") -> None:
        before = self.alerts.get(key)
        if before is not None and before.message == message:
            return
        now = self.clock.operator_s()
        self.alerts[key] = AlertView(f"{key}@{now:.3f}", level, message, now)
        self._emit(kind, level, message)
        self._on_change()

    def _clear_alert(self, key: str) -> None:
        if self.alerts.pop(key, None) is not None:
            self._emit("alert_cleared", Level.INFO, f"{key} is fine again")
            self._on_change()


def _done(code: str, message: str) -> CommandResult:
    return CommandResult(ResultStatus.DONE, code, message)


def _describe(operation: Operation) -> str:
    legs = ", ".join(f"{leg.base_1e9 / BASE_PRECISION:+g} {leg.market}" for leg in operation.legs)
    if operation.transfer is not None:
        legs = f"{operation.transfer.amount:+d} {operation.transfer.asset}"
    return f"{operation.kind.lower()} {legs}".strip()
