"""The command desk: the one way in. Every command, whoever gives it, is checked, judged, confirmed and carried out
here."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from decimal import Decimal
from typing import Literal

import msgspec

from deltatui.domain.command import (
    AnyCommand,
    Cancel,
    Command,
    CommandResult,
    Confirm,
    Deposit,
    ForgetLosses,
    Kill,
    Leave,
    Rebalance,
    ResultStatus,
    Settle,
    Stop,
    Take,
    Withdraw,
)
from deltatui.domain.errors import CriticalError, DeltatuiError, TransientError, UnresolvedError, ValidationError
from deltatui.domain.event import Level
from deltatui.domain.gates import allowed
from deltatui.domain.operation import OperationKind, OperationState
from deltatui.domain.units import BASE_PRECISION
from deltatui.domain.verdict import Verdict
from deltatui.engine.assess import Assessor
from deltatui.engine.capital import Capital
from deltatui.engine.control import Control
from deltatui.engine.core import Core
from deltatui.engine.intents import Intents
from deltatui.engine.memory import Pending, PlannedCommand, TradeCommand
from deltatui.engine.planner import Plan, Planner
from deltatui.engine.powers import check_power
from deltatui.engine.questions import Questions
from deltatui.engine.results import done, legs_text, result_of
from deltatui.engine.states import refusal
from deltatui.engine.trader import Trader

Source = Literal["operator", "api", "engine"]

_QUICK_S = 0.02
"""A sender that knows the outcome already has told it within this time."""


class Desk:
    """`submit()` answers every command; at most one trades at a time."""

    def __init__(self, core: Core, planner: Planner, trader: Trader) -> None:
        self._core = core
        self._planner = planner
        self._trader = trader
        self.capital = Capital(core)
        self.assess = Assessor(core, planner, self.capital)
        self._control = Control(core)
        self._serial = asyncio.Lock()
        self._intents = Intents()
        self.questions = Questions(core, self._intents)
        self._seen: deque[tuple[int, float, int, int]] = deque(maxlen=4096)
        self._resolving: asyncio.Task[None] | None = None
        self.last_result: CommandResult | None = None
        self.stopping = asyncio.Event()

    async def submit(self, command: AnyCommand) -> CommandResult:
        """Never raises for what a caller can get wrong: that is a REJECTED result.

        An ``intent_id`` is acted on once; whoever sends it again gets the first answer.
        """
        return await self._intents.once(command, self._answer)

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
        if result.status == ResultStatus.PARTLY_DONE:
            core.board.emit("partly_done", Level.WARNING, result.message, result.operation_id)
        told = command.source != "engine" or result.status != ResultStatus.REJECTED
        if core.board.tell is not None and told:
            core.board.tell.verdicts(type(command).__name__.upper(), result.verdicts, core.clock.market_s())
        core.board.changed()
        return result

    async def _dispatch(self, command: AnyCommand) -> CommandResult:
        self._check_accepted(type(command))
        check_power(self._core.settings, command)
        match command:
            case Take() | Leave() | Rebalance():
                self._check_market(command.market)
                async with self._serial:
                    return await self._planned(command)
            case Deposit() | Withdraw():
                async with self._serial:
                    return await self._planned(command)
            case Confirm():
                async with self._serial:
                    return await self._confirm(command)
            case Settle():
                self._check_market(command.market)
                async with self._serial:
                    self._check_accepted(Settle)
                    return await self._settle(command)
            case Kill():
                return await self._kill(command)
            case _:
                result = await self._at_once(command)
                # Now, not with the next step: none comes while the tape stands.
                await self._core.save()
                return result

    async def _at_once(self, command: AnyCommand) -> CommandResult:
        match command:
            case Cancel():
                self.questions.cancel(command.operation_id)
                return done("CANCELLED", "cancelled, nothing was done")
            case ForgetLosses():
                if not self._core.settings.losses.any_set:
                    raise ValidationError("NO_LIMIT", "there is no loss limit, so no loss is counted")
                operation_id = await self._new_id(command.intent_id)
                self.questions.check_alone(reduces=False)
                return self.questions.put(operation_id, command, "forgetting the losses", (), reduces=False)
            case Stop():
                self.stopping.set()
                return done("STOPPING", "the engine stops")
            case _:
                return await self._control.act(command)

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
            # A kill must not wait for an account that is told late.
            for at in (None, *(ended.at for ended in outcomes if ended is not None)):
                await core.wait_until_told(at)
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

    # Plans

    def proposal(self, command: PlannedCommand) -> Plan:
        """The plan of ``command`` if it were given now. Raises the ValidationError that the command would be answered
        with; only what it says of its sender (intent, age of what was seen) is not looked at."""
        self._check_accepted(type(command))
        check_power(self._core.settings, command)
        if isinstance(command, TradeCommand):
            self._check_market(command.market)
        return self._plan_accepted(command)

    def _plan_accepted(self, command: PlannedCommand) -> Plan:
        """Outside RUNNING a rebalance may shrink the perp, not widen it; and what would ask, or widen a position, waits
        for the question before it."""
        plan = self.assess.plan(command)
        if plan.increases_risk:
            self._check_accepted(Withdraw if isinstance(command, Withdraw) else Take)
        widens = plan.increases_risk and isinstance(command, TradeCommand)
        if widens or self.assess.asks(command, plan):
            self.questions.check_alone(reduces=not plan.increases_risk)
        return plan

    async def _planned(self, command: PlannedCommand) -> CommandResult:
        self._check_accepted(type(command))
        if isinstance(command, TradeCommand):
            self._check_fresh(command)
        operation_id = await self._new_id(command.intent_id)
        await self._core.catch_up()
        plan = self._plan_accepted(command)
        verdicts = self.assess.judge(plan)
        forcible = command.source != "engine" and self.assess.can_force(plan, verdicts)
        if not allowed(verdicts) and not forcible:
            return self._blocked(operation_id, plan, verdicts)
        # What may only be forced is asked about, however small.
        if not forcible and not self.assess.asks(command, plan):
            return await self._execute(operation_id, command, plan, verdicts)
        return self.questions.put(operation_id, command, described(plan), verdicts, reduces=not plan.increases_risk)

    def _blocked(self, operation_id: str, plan: Plan, verdicts: tuple[Verdict, ...]) -> CommandResult:
        why = self.assess.refused(plan, verdicts)
        return CommandResult(ResultStatus.REJECTED, "BLOCKED", why, operation_id, verdicts=verdicts)

    async def _confirm(self, command: Confirm) -> CommandResult:
        pending = self.questions.confirmed(command.operation_id)
        try:
            result = await self._confirmed(pending, force=command.force)
        except DeltatuiError as error:
            refused = CommandResult(ResultStatus.REJECTED, error.code, error.sentence, pending.operation_id)
            self.questions.answered(pending, refused)
            raise
        self.questions.answered(pending, result)
        return result

    async def _confirmed(self, pending: Pending, *, force: bool) -> CommandResult:
        core, command = self._core, pending.command
        self._check_accepted(type(command))
        check_power(core.settings, command)
        if isinstance(command, ForgetLosses):
            result = self._control.forget_losses()
            await core.save()
            return result
        await core.catch_up()
        if core.known_facts().account.perp_1e9 != pending.perp_1e9:
            raise ValidationError("POSITION_CHANGED", "the position changed while the dialog was open; ask again")
        plan = self._plan_accepted(command)
        verdicts = self.assess.judge(plan)
        if not allowed(verdicts) and not (force and self.assess.can_force(plan, verdicts)):
            return self._blocked(pending.operation_id, plan, verdicts)
        return await self._execute(pending.operation_id, command, plan, verdicts)

    async def _settle(self, command: Settle) -> CommandResult:
        core = self._core
        operation_id = await self._new_id(command.intent_id)
        await core.catch_up()
        facts = core.known_facts()
        plan = self._planner.settle(facts.market, facts.account, core.known_book())
        return await self._execute(operation_id, command, plan, ())

    async def _kill(self, command: Kill) -> CommandResult:
        """Stop everything at once; flattening comes after, and the engine is HALTED whatever becomes of it."""
        core = self._core
        reason = command.reason or "no reason given"
        self.questions.kill()
        core.set_flags(automation=False)
        core.halt(f"kill switch: {reason}", kind="kill_switch")
        await core.save()
        if not command.flatten:
            return done("KILLED", f"halted, automation off ({reason}); {self._under_way()}")
        async with self._serial:
            try:
                result = await self._flatten(command.source)
            except (ValidationError, TransientError) as error:
                if error.code == "NOTHING_TO_LEAVE":
                    return done("KILLED", f"halted, automation off ({reason}); {error.sentence}{self._others()}")
                result = CommandResult(ResultStatus.REJECTED, error.code, error.sentence)
        if result.status == ResultStatus.DONE:
            text = f"halted, automation off, positions closed ({reason}); {result.message}{self._others()}"
            return msgspec.structs.replace(result, code="KILLED", message=text)
        words = {ResultStatus.UNRESOLVED: "is unresolved", ResultStatus.PARTLY_DONE: "is not complete"}
        text = f"halted, but closing {words.get(result.status, 'failed')}: {result.message}"
        core.board.restate("halted", Level.CRITICAL, f"{core.flags.halted}; {text}")
        return msgspec.structs.replace(result, message=text)

    def _under_way(self) -> str:
        core = self._core
        if core.unresolved or core.check is not None or core.behind:
            return "a trade was under way, and positions will show what it did"
        return "positions are as they were"

    async def _flatten(self, source: Source) -> CommandResult:
        await self._core.catch_up()
        command = Leave(market=self._core.spec.symbol, source=source)
        plan = self.assess.plan(command, kill=True)
        return await self._execute(await self._trader.next_id(), command, plan, ())

    def _others(self) -> str:
        """What a kill does not touch: positions in markets that the engine does not carry (R2.9)."""
        facts = self._core.facts()
        held = () if facts is None else facts.account.others
        names = ", ".join(f"{other.base_1e9 / BASE_PRECISION:+g} {other.instrument}" for other in held)
        return f"; not ours and still open: {names}" if names else ""

    async def _new_id(self, intent_id: str) -> str:
        """A digest of the intent where the caller gave one, so that no restart makes two of it."""
        if not intent_id:
            return await self._trader.next_id()
        operation_id = "i" + hashlib.sha256(intent_id.encode()).hexdigest()[:20]
        state = await self._core.store.known_operation(operation_id)
        if state is not None:
            raise ValidationError(
                "SAME_INTENT", f"this intent was given before, as operation {operation_id}, which is {state}"
            )
        return operation_id

    async def _execute(
        self, operation_id: str, command: PlannedCommand | Settle, plan: Plan, verdicts: tuple[Verdict, ...]
    ) -> CommandResult:
        if plan.legs:
            self.assess.count_position_operation()
        try:
            carried = await self._trader.carry_out(operation_id, plan, command.source, command.intent_id)
            more = ""
            closes = plan.kind == OperationKind.LEAVE and carried.outcome.state == OperationState.LANDED
            if closes and not carried.trouble:
                more = await self._settle_after_close(command.source)
        except UnresolvedError as error:
            status = ResultStatus.UNRESOLVED
            return CommandResult(status, error.code, error.sentence, operation_id, verdicts=verdicts)
        return result_of(operation_id, plan, carried, verdicts, more)

    async def _settle_after_close(self, source: Source) -> str:
        """R4.6: settle where more than a dollar is unsettled, gain or loss."""
        account = self._core.known_facts().account
        if account.perp_1e9 or not settle_due(account.unsettled, self._core.settings.settle_above_quote):
            return ""
        try:
            result = await self._settle(Settle(market=self._core.spec.symbol, source=source))
        except (ValidationError, TransientError) as error:
            # The close itself is done, and that is what was asked.
            return f"; settling failed: {error.sentence}"
        if result.status == ResultStatus.UNRESOLVED:
            return f"; settling is unresolved: {result.message}"
        return "; PnL settled" if result.status == ResultStatus.DONE else f"; {result.message}"


def described(plan: Plan) -> str:
    """What a question is about, every leg with its own size."""
    if plan.transfer is not None and not plan.legs:
        return f"{plan.kind.lower()} of {plan.size:f} {plan.transfer.asset}"
    moved = "" if plan.transfer is None else f", deposit {plan.size:f} {plan.transfer.asset}"
    return f"{plan.kind.lower()}: {legs_text(plan.legs)}{moved}"


def settle_due(unsettled: Decimal, above_quote: float) -> bool:
    """R4.6: settle on close iff the unsettled PnL, gain or loss, exceeds the threshold."""
    return abs(unsettled) > Decimal(str(above_quote))


def documented_settle_due(unsettled: Decimal) -> bool:
    """Property 16 of the original papers: a gain above $1.00. Leaves losses unsettled."""
    return unsettled > 1
