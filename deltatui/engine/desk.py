"""The command desk: the one way in. Every command, whoever gives it, is checked, judged, confirmed and carried out
here."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict, deque
from decimal import Decimal

import msgspec

from deltatui.domain.carry import estimate
from deltatui.domain.command import (
    AnyCommand,
    Cancel,
    Command,
    CommandResult,
    Confirm,
    Deposit,
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
from deltatui.domain.costs import round_trip
from deltatui.domain.errors import CriticalError, TransientError, UnresolvedError, ValidationError
from deltatui.domain.event import Level
from deltatui.domain.gates import GateFacts, allowed, blocking, judge, only_profitability_blocks, withdraw_health
from deltatui.domain.health import LossState
from deltatui.domain.market import MarketState
from deltatui.domain.operation import OperationKind, OperationState, Transfer
from deltatui.domain.units import QUOTE_PRECISION, base_to_decimal
from deltatui.domain.verdict import Verdict
from deltatui.engine.capital import Capital, deposit_allowed
from deltatui.engine.core import Core
from deltatui.engine.memory import Pending, TradeCommand
from deltatui.engine.planner import Plan, Planner
from deltatui.engine.states import EngineState, refusal
from deltatui.engine.trader import Trader

MAX_SPEED = 1_000_000
"""Market seconds per operator second: a year in half a minute."""
_REMEMBERED_INTENTS = 1000
_QUICK_S = 0.02
"""A sender that knows the outcome already has told it within this time."""


class Desk:
    """`submit()` answers every command; at most one trades at a time."""

    def __init__(self, core: Core, planner: Planner, trader: Trader) -> None:
        self._core = core
        self._planner = planner
        self._trader = trader
        self.capital = Capital(core)
        self._serial = asyncio.Lock()
        self._position_times: deque[float] = deque(maxlen=core.settings.position_ops_per_min)
        self._intents: OrderedDict[str, asyncio.Future[CommandResult]] = OrderedDict()
        self._seen: deque[tuple[int, float, int, int]] = deque(maxlen=4096)
        self._resolving: asyncio.Task[None] | None = None
        self.last_result: CommandResult | None = None
        self.stopping = asyncio.Event()

    async def submit(self, command: AnyCommand) -> CommandResult:
        """Never raises for what a caller can get wrong: that is a REJECTED result.

        An ``intent_id`` is acted on once; whoever sends it again gets the first answer.
        """
        intent = command.intent_id
        if not intent:
            return await self._answer(command)
        if intent in self._intents:
            return await asyncio.shield(self._intents[intent])
        answer = asyncio.ensure_future(self._answer(command))
        self._intents[intent] = answer
        while len(self._intents) > _REMEMBERED_INTENTS:
            self._intents.popitem(last=False)
        return await asyncio.shield(answer)

    async def _answer(self, command: AnyCommand) -> CommandResult:
        core = self._core
        try:
            result = await self._dispatch(command)
        except (ValidationError, TransientError) as error:
            result = CommandResult(ResultStatus.REJECTED, error.code, error.sentence)
        except UnresolvedError as error:
            result = CommandResult(ResultStatus.UNRESOLVED, error.code, error.sentence)
        except CriticalError as error:
            core.halt(error.sentence)
            await core.save()
            result = CommandResult(ResultStatus.REJECTED, error.code, error.sentence)
        result = self.last_result = msgspec.structs.replace(result, intent_id=command.intent_id)
        told = command.source != "engine" or result.status is not ResultStatus.REJECTED
        if core.board.tell is not None and told:
            core.board.tell.verdicts(type(command).__name__.upper(), result.verdicts, core.clock.market_s())
        core.board.changed()
        return result

    async def _dispatch(self, command: AnyCommand) -> CommandResult:
        self._check_accepted(type(command))
        match command:
            case Take() | Leave() | Rebalance():
                self._check_market(command.market)
                async with self._serial:
                    return await self._trade(command)
            case Confirm():
                async with self._serial:
                    return await self._confirm(command)
            case Settle():
                self._check_market(command.market)
                async with self._serial:
                    self._check_accepted(Settle)
                    return await self._settle(command.intent_id)
            case Deposit() | Withdraw():
                async with self._serial:
                    return await self._transfer(command)
            case Kill():
                return await self._kill(command)
            case _:
                result = await self._control(command)
                # Now, not with the next step: none comes while the tape stands.
                await self._core.save()
                return result

    async def _control(self, command: AnyCommand) -> CommandResult:
        core = self._core
        match command:
            case Cancel():
                return self._cancel(command)
            case Pause():
                core.set_flags(paused=True)
                core.go(EngineState.PAUSED, "paused by the operator")
                return _done("PAUSED", "paused: no new risk, nothing automatic")
            case Resume():
                return await self._resume()
            case SetSpeed():
                return self._set_speed(command.speed)
            case SetAutomation():
                held_by = "engine" if command.on and core.flags.held_by == "operator" else core.flags.held_by
                core.set_flags(automation=command.on, held_by=held_by)
                word = "on" if command.on else "off"
                core.board.emit("automation", Level.INFO, f"automation {word}")
                return _done("AUTOMATION", f"automation is {word}")
            case Stop():
                self.stopping.set()
                return _done("STOPPING", "the engine stops")
            case _:
                raise ValidationError("NOT_ACCEPTED", f"{type(command).__name__} is not known here")

    async def resolve_open(self) -> None:
        """Ask after operations whose outcome is not known, and see to their legs.

        Asking takes as long as the sender likes, so it goes on by itself and only booking waits for trades. Raises
        what asking died of."""
        core = self._core
        if self._resolving is None and not self._serial.locked() and (core.unresolved or core.check):
            self._resolving = asyncio.create_task(self._resolve_open(), name="resolve")
            await asyncio.wait({self._resolving}, timeout=_QUICK_S)
        if self._resolving is not None and self._resolving.done():
            ended, self._resolving = self._resolving, None
            ended.result()

    async def _resolve_open(self) -> None:
        core = self._core
        try:
            asked = list(core.unresolved.values())
            outcomes = await asyncio.gather(*(self._trader.ask(each) for each in asked))
            async with self._serial:
                for each, outcome in zip(asked, outcomes, strict=True):
                    await self._trader.conclude(each, outcome)
                await self._trader.see_to_legs()
        except TransientError:
            # The alert stands, and the next tick asks again.
            return
        except CriticalError as error:
            core.halt(error.sentence)

    async def reconcile(self) -> None:
        """Sync journal and books with the venue, when no trade is running."""
        async with self._serial:
            await self._trader.reconcile()

    async def finish(self) -> None:
        """Return when no trade is running and nobody is asked any more."""
        async with self._serial:
            # Whoever asks holds no trade while the right to trade is ours.
            if self._resolving is not None:
                self._resolving.cancel()
                await asyncio.gather(self._resolving, return_exceptions=True)
                self._resolving = None

    # Checks

    def _check_accepted(self, command: type[Command]) -> None:
        if why := refusal(self._core.state, command):
            raise ValidationError("NOT_ACCEPTED", why)

    def _check_market(self, symbol: str) -> None:
        listed, ours = self._core.venue.markets(), self._core.spec.symbol
        if symbol not in listed:
            raise ValidationError("UNKNOWN_MARKET", f"there is no market {symbol}; listed: {', '.join(listed)}")
        if symbol != ours:
            raise ValidationError("OTHER_MARKET", f"this engine trades {ours}, not {symbol}")

    def _check_alone(self) -> None:
        if self._core.pending is not None:
            raise ValidationError("CONFIRMATION_OPEN", "another trade waits for its confirmation; answer that first")

    def saw(self, version: int) -> None:
        """Remember what a snapshot that goes to the clients shows."""
        facts = self._core.facts()
        if facts is not None:
            account = facts.account
            self._seen.append((version, self._core.clock.operator_s(), account.perp_1e9, account.spot_1e9))

    def _check_fresh(self, command: TradeCommand) -> None:
        """What the operator looked at must still be so (R13.10)."""
        version = command.snapshot_version
        if not version:
            return
        account = self._core.known_facts().account
        for seen, operator_s, perp, spot in self._seen:
            if seen == version:
                if self._core.clock.operator_s() - operator_s > self._core.settings.stale_snapshot_s:
                    break
                if (perp, spot) != (account.perp_1e9, account.spot_1e9):
                    raise ValidationError("POSITION_CHANGED", "the position changed since you looked; look again")
                return
        raise ValidationError("STALE_SNAPSHOT", "what you saw is too old to act on; look again")

    # Planning and judging

    def proposal(self, command: TradeCommand) -> Plan:
        """The plan of ``command`` if it were given now. Raises the ValidationError that the command would be answered
        with; only what it says of its sender (intent, age of what was seen) is not looked at."""
        self._check_accepted(type(command))
        self._check_market(command.market)
        self._check_alone()
        return self._plan_accepted(command)

    def _plan_accepted(self, command: TradeCommand) -> Plan:
        """Outside RUNNING a rebalance may shrink the perp, not widen it."""
        plan = self.plan(command)
        if plan.increases_risk:
            self._check_accepted(Take)
        return plan

    def plan(self, command: TradeCommand) -> Plan:
        """From fresh facts. Raises ValidationError where it cannot be done or nothing is to be done."""
        core = self._core
        facts, book = core.known_facts(), core.known_book()
        match command:
            case Take():
                return self._planner.take(facts.market, facts.account, book, command.base_1e9, command.direction)
            case Leave():
                return self._planner.leave(facts.market, facts.account, book, core.accountant.own_spot_1e9)
            case Rebalance():
                wanted = core.rebalance_plan(manual=command.source != "engine")
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

    def judge(self, plan: Plan) -> tuple[Verdict, ...]:
        """Every gate's verdict on a plan (R6)."""
        core, after = self._core, plan.after
        facts = core.facts()
        market = None if facts is None else facts.market
        judged = plan.kind is OperationKind.TAKE and core.settings.hold is None
        carry = None
        if judged:
            carry = estimate(plan.stance, core.window, round_trip(core.venue.costs(), plan.size), core.settings.carry)
        return judge(
            GateFacts(
                increases_risk=plan.increases_risk,
                venue_problem=None if market is None else _closed(market),
                rate_problem=self._rate_problem(),
                carry=carry,
                judge_carry=judged,
                # Equity that is gone has no leverage that could be small enough.
                leverage_after=float("inf") if after.leverage is None else after.leverage,
                health_after=after.summary.health,
                liq_distance_pct_after=None if after.liq_distance_pct is None else abs(after.liq_distance_pct),
                no_liquidation_after=after.liq_price is None,
                free_collateral_after=after.summary.free_initial_1e6 / QUOTE_PRECISION,
                funding_age_s=None if market is None else self._funding_age_s(market),
            ),
            core.settings.limits,
            core.venue.not_applicable(),
        )

    def _funding_age_s(self, market: MarketState) -> float | None:
        if market.funding is not None:
            return self._core.clock.market_s() - market.funding.ts_s
        # Before the first record of a run that is told to hold a stance, there is nothing to be old.
        return 0.0 if self._core.settings.hold is not None else None

    def _rate_problem(self) -> str:
        times, most = self._position_times, self._core.settings.position_ops_per_min
        if len(times) < most or self._core.clock.operator_s() - times[0] >= 60.0:
            return ""
        return f"{most} position operations in the last minute, the limit"

    def can_force(self, verdicts: tuple[Verdict, ...]) -> bool:
        """Whether Confirm(force=True) would be taken: profitability alone refuses, and no real money is at stake."""
        return self._core.settings.mode != "live" and only_profitability_blocks(verdicts)

    def _needs_confirmation(self, command: TradeCommand, plan: Plan) -> bool:
        settings, notional = self._core.settings, float(plan.notional)
        if command.source != "engine":
            return isinstance(command, Leave) or notional > settings.confirm_above_usd
        if not plan.increases_risk or notional <= settings.confirm_above_usd:
            return False
        return settings.auto_limit_usd is None or notional > settings.auto_limit_usd

    # Trades

    async def _trade(self, command: TradeCommand) -> CommandResult:
        core = self._core
        self._check_accepted(type(command))
        self._check_fresh(command)
        self._check_alone()
        operation_id = await self._new_id(command.intent_id)
        plan = self._plan_accepted(command)
        verdicts = self.judge(plan)
        forcible = command.source != "engine" and self.can_force(verdicts)
        if not allowed(verdicts) and not forcible:
            return _blocked(operation_id, verdicts)
        # What may only be forced is asked about, however small.
        if not forcible and not self._needs_confirmation(command, plan):
            return await self._execute(operation_id, command, plan, verdicts)
        now = core.clock.operator_s()
        perp = core.known_facts().account.perp_1e9
        core.pending = Pending(operation_id, command, now, now + core.settings.confirm_timeout_s, perp)
        what = f"{plan.kind.lower()} of {plan.size:f} {core.spec.base_symbol}"
        core.board.emit("confirmation_opened", Level.INFO, f"{what} waits for confirmation", operation_id)
        status = ResultStatus.NEEDS_CONFIRMATION
        return CommandResult(status, "CONFIRM", f"confirm {what}", operation_id, verdicts=verdicts)

    async def _confirm(self, command: Confirm) -> CommandResult:
        core, pending = self._core, self._core.pending
        if pending is None or pending.operation_id != command.operation_id:
            raise ValidationError("NOT_PENDING", "that trade does not wait for a confirmation any more")
        core.pending = None
        if core.clock.operator_s() >= pending.expires_s:
            raise ValidationError("EXPIRED", "the confirmation came too late, nothing was done")
        self._check_accepted(type(pending.command))
        if core.known_facts().account.perp_1e9 != pending.perp_1e9:
            raise ValidationError("POSITION_CHANGED", "the position changed while the dialog was open; ask again")
        plan = self._plan_accepted(pending.command)
        verdicts = self.judge(plan)
        if not allowed(verdicts) and not (command.force and self.can_force(verdicts)):
            return _blocked(pending.operation_id, verdicts)
        return await self._execute(pending.operation_id, pending.command, plan, verdicts)

    def _cancel(self, command: Cancel) -> CommandResult:
        core = self._core
        if core.pending is None or core.pending.operation_id != command.operation_id:
            raise ValidationError("NOT_PENDING", "that trade does not wait for a confirmation any more")
        core.pending = None
        core.board.emit("order_cancelled", Level.INFO, "not confirmed, nothing was done", command.operation_id)
        return _done("CANCELLED", "cancelled, nothing was done")

    async def _settle(self, intent_id: str) -> CommandResult:
        core = self._core
        operation_id = await self._new_id(intent_id)
        facts = core.known_facts()
        plan = self._planner.settle(facts.market, facts.account, core.known_book())
        return await self._execute(operation_id, None, plan, ())

    async def _kill(self, command: Kill) -> CommandResult:
        """Stop everything at once; flattening comes after, and the engine is HALTED whatever becomes of it."""
        core = self._core
        reason = command.reason or "no reason given"
        core.pending = None
        core.set_flags(automation=False)
        core.halt(f"kill switch: {reason}", kind="kill_switch")
        await core.save()
        if not command.flatten:
            return _done("KILLED", f"halted, automation off ({reason}); positions are as they were")
        leave = Leave(market=core.spec.symbol, source="engine")
        async with self._serial:
            try:
                plan = self.plan(leave)
            except ValidationError as error:
                if error.code == "NOTHING_TO_LEAVE":
                    return _done("KILLED", f"halted, automation off ({reason}); {error.sentence}")
                text = f"halted, but closing failed: {error.sentence}"
                return CommandResult(ResultStatus.REJECTED, error.code, text)
            result = await self._execute(await self._trader.next_id(), leave, plan, ())
        if result.status is ResultStatus.DONE:
            return _done("KILLED", f"halted, automation off, positions closed ({reason})")
        word = "is unresolved" if result.status is ResultStatus.UNRESOLVED else "failed"
        return msgspec.structs.replace(result, message=f"halted, but closing {word}: {result.message}")

    async def _new_id(self, intent_id: str) -> str:
        """A digest of the intent where the caller gave one, so that no restart makes two of it."""
        if not intent_id:
            return await self._trader.next_id()
        operation_id = "i" + hashlib.sha256(intent_id.encode()).hexdigest()[:20]
        if await self._core.store.known_operation(operation_id) is not None:
            raise ValidationError("SAME_INTENT", "this intent was carried out before")
        return operation_id

    async def _execute(
        self, operation_id: str, command: AnyCommand | None, plan: Plan, verdicts: tuple[Verdict, ...]
    ) -> CommandResult:
        core = self._core
        if plan.legs:
            self._position_times.append(core.clock.operator_s())
        before_1e9 = core.known_facts().account.perp_1e9
        source, intent_id = ("operator", "") if command is None else (command.source, command.intent_id)
        try:
            outcome = await self._trader.carry_out(operation_id, plan, source, intent_id)
        except UnresolvedError as error:
            status = ResultStatus.UNRESOLVED
            return CommandResult(status, error.code, error.sentence, operation_id, verdicts=verdicts)
        word = plan.kind.lower()
        if outcome.state is not OperationState.LANDED:
            message = f"{word} failed: {outcome.detail or outcome.error_code}"
            return CommandResult(ResultStatus.REJECTED, outcome.error_code or outcome.state, message, operation_id)
        message = f"{word} of {plan.size:f} {core.spec.base_symbol} done" if plan.legs else f"{word} done"
        code = "DONE"
        if plan.kind is OperationKind.LEAVE:
            message += await self._settle_after_close()
        if plan.kind is OperationKind.TAKE:
            filled = abs(base_to_decimal(core.known_facts().account.perp_1e9 - before_1e9))
            if not filled:
                message = "take failed: one leg was not filled, the other was undone"
                return CommandResult(ResultStatus.REJECTED, "ODD_LEG", message, operation_id, verdicts=verdicts)
            if filled != plan.size:
                code = "PARTIAL"
                sizes = f"{filled:f} of {plan.size:f} {core.spec.base_symbol}"
                message = f"took {sizes} on both legs; the rest did not fill"
        return CommandResult(ResultStatus.DONE, code, message, operation_id, verdicts=verdicts)

    async def _settle_after_close(self) -> str:
        """R4.6: settle where more than a dollar is unsettled."""
        account = self._core.known_facts().account
        if account.perp_1e9 or not settle_due(account.unsettled, self._core.settings.settle_above_quote):
            return ""
        try:
            result = await self._settle("")
        except (ValidationError, TransientError) as error:
            # The close itself is done, and that is what was asked.
            return f"; settling failed: {error.sentence}"
        if result.status is ResultStatus.UNRESOLVED:
            return f"; settling is unresolved: {result.message}"
        return "; PnL settled" if result.status is ResultStatus.DONE else f"; settling failed: {result.message}"

    # Capital

    async def _transfer(self, command: Deposit | Withdraw) -> CommandResult:
        core, capital = self._core, self.capital
        if command.asset not in capital.assets:
            raise ValidationError(
                "UNKNOWN_ASSET", f"{command.asset} cannot be moved, only {' and '.join(capital.assets)}"
            )
        if command.amount <= 0:
            raise ValidationError("BAD_AMOUNT", f"the amount must be more than 0, it is {command.amount}")
        self._check_accepted(type(command))
        operation_id = await self._new_id(command.intent_id)
        facts, book = core.known_facts(), core.known_book()
        if isinstance(command, Deposit):
            if not deposit_allowed(command.amount, capital.wallet(command.asset), capital.gas_reserve(command.asset)):
                most = capital.largest_deposit(command.asset)
                raise ValidationError("WALLET_TOO_SMALL", f"the wallet can give at most {most:f} {command.asset}")
            plan = self._planner.transfer(facts.market, facts.account, book, Transfer(command.asset, command.amount))
            return await self._execute(operation_id, command, plan, ())
        plan = self._planner.transfer(facts.market, facts.account, book, Transfer(command.asset, -command.amount))
        verdict = withdraw_health(plan.after.summary.health, core.settings.limits)
        if not verdict.allowed:
            most = capital.largest_withdrawal(command.asset)
            text = f"health would be {verdict.observed}, limit {verdict.limit}; at most {most:f} {command.asset}"
            return CommandResult(ResultStatus.REJECTED, "BLOCKED", text, operation_id, verdicts=(verdict,))
        return await self._execute(operation_id, command, plan, (verdict,))

    # Control

    async def _resume(self) -> CommandResult:
        core = self._core
        if core.state in (EngineState.HALTED, EngineState.REDUCING):
            core.go(EngineState.RECONCILING, "resumed by the operator")
            await self._trader.forget_legs()
        core.set_flags(halted="", reducing="", paused=False, losses=LossState())
        core.board.clear("halted")
        core.board.clear("reducing")
        core.go_after_reconciliation()
        if core.state is EngineState.RECOVERING:
            return _done("RECOVERING", "resumed, but the connection is lost; nothing trades until it is back")
        return _done("RUNNING", f"running; automation is {'on' if core.flags.automation else 'off'}")

    def _set_speed(self, speed: int) -> CommandResult:
        if self._core.settings.mode != "replay":
            raise ValidationError("NO_TAPE", "only a replay has a speed")
        if not 1 <= speed <= MAX_SPEED:
            raise ValidationError("BAD_SPEED", f"the speed must be between 1 and {MAX_SPEED}, it is {speed}")
        self._core.set_flags(speed=speed)
        return _done("SPEED", f"speed x{speed}")


def settle_due(unsettled: Decimal, above_quote: float) -> bool:
    """R4.6: settle on close iff the unsettled PnL exceeds the threshold."""
    return unsettled > Decimal(str(above_quote))


def _closed(market: MarketState) -> str:
    return "" if market.active else f"{market.spec.symbol} is closed: no prices come any more"


def _done(code: str, message: str) -> CommandResult:
    return CommandResult(ResultStatus.DONE, code, message)


def _blocked(operation_id: str, verdicts: tuple[Verdict, ...]) -> CommandResult:
    why = "; ".join(f"{v.code}: {v.reason or f'{v.observed}, limit {v.limit}'}" for v in blocking(verdicts))
    return CommandResult(ResultStatus.REJECTED, "BLOCKED", f"blocked by {why}", operation_id, verdicts=verdicts)
