"""The command desk: the one way in. Every command, whoever gives it, is checked, judged, confirmed and carried out
here."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import NamedTuple

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
    Resume,
    Settle,
    Stop,
    Take,
    Withdraw,
)
from deltatui.domain.errors import CriticalError, DeltatuiError, TransientError, UnresolvedError, ValidationError
from deltatui.domain.event import Level
from deltatui.domain.gates import allowed
from deltatui.domain.market import MarketSpec
from deltatui.domain.operation import OperationKind, OperationState
from deltatui.domain.principal import Principal, Source
from deltatui.domain.units import BASE_PRECISION
from deltatui.domain.verdict import Verdict
from deltatui.engine.assess import Assessor
from deltatui.engine.capital import Capital
from deltatui.engine.control import Control
from deltatui.engine.core import Core
from deltatui.engine.hedge import Hedge
from deltatui.engine.intents import Intents
from deltatui.engine.lanes import Lanes
from deltatui.engine.memory import ACCOUNT, AccountCommand, Pending, PlannedCommand, TradeCommand
from deltatui.engine.planner import Plan, Planner
from deltatui.engine.powers import check_power
from deltatui.engine.questions import Questions
from deltatui.engine.results import closing_result, done, legs_text, result_of, unfilled_parts
from deltatui.engine.states import EngineState, refusal
from deltatui.engine.trader import Trader
from deltatui.ports import NO_PERP, NO_SPOT, AccountReport

_QUICK_S = 0.02
"""A sender that knows the outcome already has told it within this time."""


class Desk:
    """`submit()` answers every command; at most one trades a market, and one that adds risk the account."""

    def __init__(self, core: Core, planner: Planner, trader: Trader) -> None:
        self._core = core
        self._planner = planner
        self._trader = trader
        self.capital = Capital(core)
        self.assess = Assessor(core, planner, self.capital)
        self.lanes = Lanes([ACCOUNT, *core.hedges])
        self._control = Control(core)
        self._intents = Intents()
        self.questions = Questions(core, self._intents)
        self._seen: deque[_Seen] = deque(maxlen=4096)
        self._resolving: dict[str, asyncio.Task[None]] = {}
        self.last_results: dict[str, CommandResult] = {}
        """The newest answer about each market."""
        self.stopping = asyncio.Event()

    async def submit(
        self, command: AnyCommand, principal: Principal, unwanted: Callable[[], str] = lambda: ""
    ) -> CommandResult:
        """Never raises for what a caller can get wrong: that is a REJECTED result.

        An ``intent_id`` is acted on once for each principal; whoever sends it again gets the first answer. A plan may
        wait for its turn: ``unwanted`` is asked when it has come, and says why it is not to be done any more (empty:
        it is).
        """
        command = msgspec.structs.replace(command, source=principal.source)
        return await self._intents.once(command, principal, partial(self._answer, unwanted))

    async def _answer(self, unwanted: Callable[[], str], command: AnyCommand, principal: Principal) -> CommandResult:
        core = self._core
        try:
            result = await self._dispatch(command, principal, unwanted)
        except (ValidationError, TransientError) as error:
            result = CommandResult(ResultStatus.REJECTED, error.code, error.sentence)
        except UnresolvedError as error:
            result = CommandResult(ResultStatus.UNRESOLVED, error.code, error.sentence)
        except CriticalError as error:
            core.halt(error.sentence)
            await core.save()
            result = CommandResult(ResultStatus.REJECTED, error.code, error.sentence)
        result = msgspec.structs.replace(result, intent_id=command.intent_id)
        self.last_results[getattr(command, "market", ACCOUNT)] = result
        if result.status == ResultStatus.PARTLY_DONE:
            core.board.emit("partly_done", Level.WARNING, result.message, result.operation_id)
        told = principal.source != "engine" or result.status != ResultStatus.REJECTED
        if core.board.tell is not None and told:
            subject = f"{type(command).__name__.upper()} {getattr(command, 'market', '')}".rstrip()
            core.board.tell.verdicts(subject, result.verdicts, core.clock.market_s())
        core.board.changed()
        return result

    async def _dispatch(self, command: AnyCommand, principal: Principal, unwanted: Callable[[], str]) -> CommandResult:
        self._check_accepted(type(command))
        check_power(self._core.settings, command, principal)
        match command:
            case Take() | Leave() | Rebalance() | Deposit() | Withdraw():
                return await self._planned(command, principal, unwanted)
            case Confirm():
                return await self._confirm(command)
            case Settle():
                hedge = self._core.hedge(command.market)
                async with self.lanes.hold(hedge.symbol):
                    self._check_accepted(Settle)
                    if why := unwanted():
                        raise ValidationError("NOT_WANTED", why)
                    return await self._settle(hedge, command, principal)
            case Kill():
                return await self._kill(command, principal)
            case _:
                result = await self._at_once(command, principal)
                # Now, not with the next step: none comes while the tape stands.
                await self._core.save()
                return result

    async def _at_once(self, command: AnyCommand, principal: Principal) -> CommandResult:
        match command:
            case Cancel():
                self.questions.cancel(command.operation_id)
                return done("CANCELLED", "cancelled, nothing was done")
            case ForgetLosses():
                if not self._core.settings.losses.any_set:
                    raise ValidationError("NO_LIMIT", "there is no loss limit, so no loss is counted")
                return await self._ask(command, principal, "forgetting the losses")
            case Resume() if self._core.state == EngineState.HALTED:
                return await self._ask(command, principal, f"resuming; halted because of: {self._core.memory.halted}")
            case Stop():
                self.stopping.set()
                return done("STOPPING", "the engine stops")
            case _:
                return await self._control.act(command)

    async def _ask(self, command: AccountCommand, principal: Principal, what: str) -> CommandResult:
        operation_id = await self._new_id(command.intent_id, principal)
        self.questions.check_alone(ACCOUNT, reduces=False)
        return self.questions.put(operation_id, ACCOUNT, command, principal, what, reduces=False)

    # What is open

    async def resolve_open(self) -> None:
        """Ask after operations whose outcome is not known, and see to their legs, each market by itself.

        Asking takes as long as the sender likes, so it goes on by itself and only booking waits for the market's lane.
        Raises what asking died of."""
        core = self._core
        markets = {core.place_of(each.operation.market) for each in core.unresolved.values()}
        markets |= {hedge.symbol for hedge in core.checks()}
        begun = []
        for market in sorted(markets):
            if market not in self._resolving and not self.lanes.busy(market):
                task = asyncio.create_task(self._resolve_open(market), name=f"resolve {market}")
                self._resolving[market] = task
                begun.append(task)
        if begun:
            await asyncio.wait(begun, timeout=_QUICK_S)
        for market, task in [*self._resolving.items()]:
            if task.done():
                del self._resolving[market]
                task.result()

    async def _resolve_open(self, market: str) -> None:
        core = self._core
        try:
            asked = core.unresolved_of(market)
            outcomes = await asyncio.gather(*(self._trader.ask(each) for each in asked))
            for at in (None, *(ended.at for ended in outcomes if ended is not None)):
                await core.wait_until_told(at)
            async with self.lanes.hold(market):
                for each, outcome in zip(asked, outcomes, strict=True):
                    await self._trader.conclude(each, outcome)
                if market in core.hedges:
                    await self._trader.see_to_legs(core.hedges[market])
        except TransientError:
            # The alert stands, and the next tick asks again.
            return
        except CriticalError as error:
            core.halt(error.sentence)

    async def reconcile(self) -> None:
        """Sync journal and books with the venue, when no trade is running."""
        async with self.lanes.hold_all():
            await self._trader.reconcile()

    async def finish(self) -> None:
        """Return when no trade is running and nobody is asked any more."""
        async with self.lanes.hold_all():
            # Whoever asks holds no lane while all are ours.
            asking = [*self._resolving.values()]
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            self._resolving.clear()

    # Checks

    def _check_accepted(self, command: type[Command]) -> None:
        if why := refusal(self._core.state, command):
            raise ValidationError("NOT_ACCEPTED", why)

    def saw(self, version: int) -> None:
        """Remember what a snapshot that goes to the clients shows."""
        account = self._core.world.account()
        if account is not None:
            self._seen.append(_Seen(version, self._core.clock.operator_s(), account))

    def _check_fresh(self, command: TradeCommand) -> None:
        """What the operator looked at must still be so in this market (R13.10)."""
        version = command.snapshot_version
        if not version:
            return
        facts = self._core.hedge(command.market).known_facts()
        for seen in self._seen:
            if seen.version == version:
                if self._core.clock.operator_s() - seen.operator_s > self._core.settings.stale_snapshot_s:
                    break
                if seen.legs(facts.market.spec) != (facts.perp.base_1e9, facts.spot.base_1e9):
                    raise ValidationError("POSITION_CHANGED", "the position changed since you looked; look again")
                return
        raise ValidationError("STALE_SNAPSHOT", "what you saw is too old to act on; look again")

    # Plans

    def proposal(self, command: PlannedCommand, principal: Principal) -> Plan:
        """The plan of ``command`` if it were given now. Raises the ValidationError that the command would be answered
        with; only what it says of its sender (intent, age of what was seen) is not looked at."""
        self._check_accepted(type(command))
        check_power(self._core.settings, command, principal)
        return self._plan_accepted(msgspec.structs.replace(command, source=principal.source))

    def _plan_accepted(self, command: PlannedCommand) -> Plan:
        """Outside RUNNING a rebalance may shrink the perp, not widen it; and what would ask, or widen a position, waits
        for the question before it."""
        plan = self.assess.plan(command)
        if plan.increases_risk:
            self._check_accepted(Withdraw if isinstance(command, Withdraw) else Take)
        widens = plan.increases_risk and isinstance(command, TradeCommand)
        if widens or self.assess.asks(command, plan):
            self.questions.check_alone(plan.market, reduces=not plan.increases_risk)
        return plan

    def _market_of(self, command: PlannedCommand) -> str:
        """Whose lane it needs. Raises ValidationError for a market that is not carried."""
        if isinstance(command, TradeCommand):
            return self._core.hedge(command.market).symbol
        hedge = self._core.hedge_of_asset(command.asset)
        return ACCOUNT if hedge is None else hedge.symbol

    async def _planned(
        self, command: PlannedCommand, principal: Principal, unwanted: Callable[[], str]
    ) -> CommandResult:
        market = self._market_of(command)
        adds_risk = isinstance(command, Take | Withdraw)
        while True:
            async with self.lanes.hold(market, adds_risk=adds_risk):
                self._check_accepted(type(command))
                if isinstance(command, TradeCommand):
                    self._check_fresh(command)
                operation_id = await self._new_id(command.intent_id, principal)
                await self._core.catch_up()
                if why := unwanted():
                    raise ValidationError("NOT_WANTED", why)
                plan = self._plan_accepted(command)
                # Only now is it known whether a rebalance widens: it then waits for its turn, and is planned anew.
                if adds_risk or not plan.increases_risk:
                    return await self._judged(operation_id, command, principal, plan)
            adds_risk = True

    async def _judged(
        self, operation_id: str, command: PlannedCommand, principal: Principal, plan: Plan
    ) -> CommandResult:
        verdicts = self.assess.verdicts(command, plan)
        forcible = principal.source != "engine" and self.assess.can_force(plan, verdicts)
        if not allowed(verdicts) and not forcible:
            return self._blocked(operation_id, plan, verdicts)
        # What may only be forced is asked about, however small.
        if not forcible and not self.assess.asks(command, plan):
            return await self._execute(operation_id, command, plan, verdicts)
        reduces, word = not plan.increases_risk, self.assess.word(plan)
        what = described(plan)
        return self.questions.put(
            operation_id, plan.market, command, principal, what, verdicts, reduces=reduces, word=word
        )

    def _blocked(self, operation_id: str, plan: Plan, verdicts: tuple[Verdict, ...]) -> CommandResult:
        why = self.assess.refused(plan, verdicts)
        return CommandResult(ResultStatus.REJECTED, "BLOCKED", why, operation_id, verdicts=verdicts)

    async def _confirm(self, command: Confirm) -> CommandResult:
        pending = self.questions.confirmed(command.operation_id, command.word)
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
        check_power(core.settings, command, pending.principal)
        if isinstance(command, ForgetLosses | Resume):
            result = await self._control.act(command)
            await core.save()
            return result
        async with self.lanes.hold(pending.market, adds_risk=not pending.reduces):
            self._check_accepted(type(command))
            await core.catch_up()
            hedge = core.hedges.get(pending.market)
            if hedge is not None and hedge.known_facts().perp.base_1e9 != pending.perp_1e9:
                raise ValidationError("POSITION_CHANGED", "the position changed while the dialog was open; ask again")
            plan = self._plan_accepted(command)
            if plan.increases_risk and pending.reduces:
                raise ValidationError("POSITION_CHANGED", "it would add risk by now; ask again")
            verdicts = self.assess.verdicts(command, plan)
            if not allowed(verdicts) and not (force and self.assess.can_force(plan, verdicts)):
                return self._blocked(pending.operation_id, plan, verdicts)
            return await self._execute(pending.operation_id, command, plan, verdicts)

    async def _settle(self, hedge: Hedge, command: Settle, principal: Principal) -> CommandResult:
        operation_id = await self._new_id(command.intent_id, principal)
        await self._core.catch_up()
        plan = self._planner.settle(hedge.known_facts(), self._core.known_book())
        return await self._execute(operation_id, command, plan, ())

    # The kill switch

    async def _kill(self, command: Kill, principal: Principal) -> CommandResult:
        """Stop everything at once; flattening comes after, and the engine is HALTED whatever becomes of it."""
        core = self._core
        reason = command.reason or "no reason given"
        self.questions.kill()
        core.set_memory(automation=False)
        core.halt(f"kill switch: {reason}", kind="kill_switch")
        await core.save()
        if not command.flatten:
            told = self._under_way() or "positions are as they were"
            return done("KILLED", f"halted, automation off ({reason}); {told}")
        closed = await asyncio.gather(*(self._close(hedge, principal) for hedge in core.hedges.values()))
        result = closing_result(
            {symbol: each for symbol, each in zip(core.hedges, closed, strict=True) if each is not None},
            reason,
            "; ".join(("", *filter(None, (self._others(), self._under_way())))),
        )
        if result.status != ResultStatus.DONE:
            core.board.restate("halted", Level.CRITICAL, f"{core.memory.halted}; {result.message}")
        return result

    def _under_way(self) -> str:
        """What a kill could not stop any more; empty where there is nothing."""
        core = self._core
        if core.unresolved or any(core.checks()) or core.behind:
            return "a trade was under way, and positions will show what it did"
        return ""

    async def _close(self, hedge: Hedge, principal: Principal) -> CommandResult | None:
        """Close what one market holds; None where it holds nothing, whether or not it takes orders now."""
        core = self._core
        try:
            async with self.lanes.hold(hedge.symbol):
                await core.catch_up()
                if self._to_close_1e9(hedge) == (0, 0):
                    return None
                command = Leave(market=hedge.symbol, source=principal.source)
                plan = self.assess.plan(command, kill=True)
                result = await self._execute(await self._trader.next_id(), command, plan, ())
        except (ValidationError, TransientError, CriticalError) as error:
            # Halted it is already; what became of the other markets has to be told all the same.
            if error.code == "NOTHING_TO_LEAVE":
                return None  # what is there is less than can be traded
            result = CommandResult(ResultStatus.REJECTED, error.code, error.sentence)
        if result.status == ResultStatus.REJECTED and not result.parts and not core.behind:
            parts = unfilled_parts(hedge.spec, *(self._to_close_1e9(hedge) or (0, 0)))
            result = msgspec.structs.replace(result, parts=parts)
        return result

    def _to_close_1e9(self, hedge: Hedge) -> tuple[int, int] | None:
        """The orders (perp, spot) that would close what one market holds; None while the account is not known."""
        account = self._core.world.account()
        if account is None:
            return None
        perp = account.perps.get(hedge.symbol, NO_PERP).base_1e9
        spot = account.spots.get(hedge.spec.base_symbol, NO_SPOT).base_1e9
        return -perp, hedge.own_1e9 - spot

    def _others(self) -> str:
        """What a kill does not touch: positions in markets that the engine does not carry (R2.9)."""
        world, account = self._core.world, self._core.world.account()
        held: dict[str, int] = {}
        if account is not None:
            held |= {symbol: perp.base_1e9 for symbol, perp in world.foreign(account).items()}
            held |= {asset: spot.base_1e9 for asset, spot in world.foreign_spots(account).items()}
        names = ", ".join(f"{base_1e9 / BASE_PRECISION:+g} {name}" for name, base_1e9 in held.items())
        return f"not ours and still open: {names}" if names else ""

    # Carrying out

    async def _new_id(self, intent_id: str, principal: Principal) -> str:
        """A digest of principal and intent where the caller gave one, so that no restart makes two of it."""
        if not intent_id:
            return await self._trader.next_id()
        operation_id = "i" + hashlib.sha256(f"{principal.name}\n{intent_id}".encode()).hexdigest()[:20]
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
                more = await self._settle_after_close(self._core.hedges[plan.market], command.source)
        except UnresolvedError as error:
            status = ResultStatus.UNRESOLVED
            return CommandResult(status, error.code, error.sentence, operation_id, verdicts=verdicts)
        return result_of(operation_id, plan, carried, verdicts, more)

    async def _settle_after_close(self, hedge: Hedge, source: Source) -> str:
        """R4.6: settle where more than a dollar is unsettled, gain or loss. For whoever holds the market's lane."""
        perp = hedge.known_facts().perp
        if perp.base_1e9 or not settle_due(perp.unsettled, self._core.settings.settle_above_quote):
            return ""
        try:
            settle = Settle(market=hedge.symbol, source=source)
            await self._core.catch_up()
            plan = self._planner.settle(hedge.known_facts(), self._core.known_book())
            result = await self._execute(await self._trader.next_id(), settle, plan, ())
        except (ValidationError, TransientError) as error:
            # The close itself is done, and that is what was asked.
            return f"; settling failed: {error.sentence}"
        if result.status == ResultStatus.UNRESOLVED:
            return f"; settling is unresolved: {result.message}"
        return "; PnL settled" if result.status == ResultStatus.DONE else f"; {result.message}"


class _Seen(NamedTuple):
    """What the snapshot of that version showed, and when."""

    version: int
    operator_s: float
    account: AccountReport

    def legs(self, spec: MarketSpec) -> tuple[int, int]:
        perp = self.account.perps.get(spec.symbol, NO_PERP)
        return perp.base_1e9, self.account.spots.get(spec.base_symbol, NO_SPOT).base_1e9


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
