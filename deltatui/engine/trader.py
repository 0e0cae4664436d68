"""Carries plans out: through the executor, into the books, with both legs or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from deltatui.domain.errors import CriticalError, DeltatuiError, TransientError, UnresolvedError, ValidationError
from deltatui.domain.event import Level
from deltatui.domain.ledger import TRANSFER_NOTE
from deltatui.domain.operation import Leg, OpenOperation, Operation, OperationKind, OperationState
from deltatui.domain.snapshot import OperationView
from deltatui.domain.units import BASE_PRECISION, QUOTE_DECIMALS
from deltatui.engine.core import BEHIND, Core
from deltatui.engine.executor import Executor
from deltatui.engine.hedge import Hedge
from deltatui.engine.kept import check_name, encode
from deltatui.engine.legs import Carried, Legs
from deltatui.engine.memory import HedgeCheck
from deltatui.engine.ownership import after_fills
from deltatui.engine.planner import Plan, Planner
from deltatui.engine.states import EngineState
from deltatui.ports import Outcome, Sender

_HALTED_DOES = (OperationKind.LEAVE, OperationKind.UNWIND, OperationKind.SETTLE, OperationKind.DEPOSIT)
_TRIES = 3
"""Without any fill, until an odd leg is given up."""
_MOST_REPAIRS = 20
_ALERT_AFTER_S = 60.0


class Trader:
    """Whoever calls :meth:`carry_out` holds the lane of the plan's market."""

    def __init__(self, core: Core, sender: Sender, planner: Planner) -> None:
        self._core = core
        self._planner = planner
        self._executor = Executor(core.venue, sender, core.store, core.clock, self._on_state, self._stopped)

    async def next_id(self, suffix: str = "") -> str:
        """A number that never repeats, with the market time for people."""
        core = self._core
        while True:
            number = core.memory.operations + 1
            core.set_memory(operations=number)
            operation_id = f"o{number}-{int(core.clock.market_s())}{suffix}"
            # A process that was killed may have used numbers that it could not keep.
            if await core.store.known_operation(operation_id) is None:
                return operation_id

    async def carry_out(self, operation_id: str, plan: Plan, source: str, intent_id: str = "") -> Carried:
        """Do it and book it. An odd leg is mended before this returns, or told in ``trouble`` and the engine halted.

        Raises UnresolvedError where the outcome, or what it did, is not known, ValidationError where an unresolved
        operation forbids trading.
        """
        core, hedge = self._core, self._core.hedges.get(plan.market)
        self._check_resolved(plan)
        operation = self._operation(operation_id, plan, source, intent_id)
        if hedge is not None and operation.legs:
            await self._keep(
                hedge, HedgeCheck(operation, {}, counted=core.accountant.books.cursor, rest_1e9=plan.rest_1e9)
            )
        core.board.emit("order_submitted", Level.INFO, self._text(operation), operation_id)
        if core.board.tell is not None:
            core.board.tell.cost(plan, core.clock.market_s())
        earned = self._earned(hedge)
        outcome = await self._run(operation)
        if operation.legs and outcome.state == OperationState.LANDED and not core.accountant.opened:
            raise UnresolvedError("NOT_BOOKED", f"{self._text(operation)}: landed, but the books are not open yet")
        carried = Carried(outcome)
        if hedge is not None:
            carried = await self._see_to(hedge, operation, outcome)
        await core.save()
        return msgspec.structs.replace(carried, cost=earned - self._earned(hedge))

    def _earned(self, hedge: Hedge | None) -> Decimal:
        """What trading this market has brought so far; nothing else trades it meanwhile."""
        return Decimal(0) if hedge is None else self._core.accountant.traded(hedge.symbol, hedge.spec.base_symbol)

    async def _keep(self, hedge: Hedge, check: HedgeCheck) -> None:
        """On disk before anything is sent; in memory first, so that a save by another task meanwhile holds it too."""
        before = hedge.check
        hedge.keep_check(check)
        try:
            await self._core.store.save_state({check_name(hedge.symbol): encode(check)})
        except BaseException:
            hedge.keep_check(before)
            raise

    def _check_resolved(self, plan: Plan) -> None:
        """Sizes and balances are not known while an earlier operation may still land, or has landed and was not told
        (R8.4). Halted, the operator has been told what is open and decides."""
        core, hedge = self._core, self._core.hedges.get(plan.market)
        withdraws = plan.kind == OperationKind.WITHDRAW
        if not plan.legs and not withdraws:
            return
        # A deposit or a settlement changes no size of what is closed (R6.11).
        harmless = () if plan.increases_risk else (OperationKind.DEPOSIT, OperationKind.SETTLE)
        # Of other markets a trade is judged with what they would be (Assessor); a withdrawal waits for all.
        open_here = core.unresolved.values() if withdraws else core.unresolved_of(plan.market)
        if any(each.operation.kind not in harmless for each in open_here):
            raise ValidationError("UNRESOLVED_OPEN", "an earlier operation is not resolved yet; trading has to wait")
        unseen = any(core.checks()) if withdraws else hedge is not None and hedge.check is not None
        if unseen and not core.memory.halted:
            raise ValidationError(
                "UNRESOLVED_OPEN", "what an earlier trade filled is not known yet; trading has to wait"
            )

    async def _see_to(self, hedge: Hedge, operation: Operation, outcome: Outcome) -> Carried:
        """What follows from an operation that has ended and is booked."""
        core = self._core
        trouble = ""
        fills: Mapping[str, int] = {}
        legs = operation.legs
        if operation.legs:  # else the check, if there is one, is that of another operation
            try:
                if outcome.state == OperationState.LANDED:
                    await self._mend(hedge)
            except CriticalError as error:
                trouble = error.sentence
                core.halt(error.sentence)
            if hedge.check is not None:
                fills = hedge.check.fills or {}
                if rest_1e9 := hedge.check.rest_1e9:
                    legs += (Leg(hedge.spec.base_symbol, rest_1e9, 0, False),)
            if not (trouble and self._still_mending(hedge)):
                hedge.keep_check(None)
        carried = Carried(outcome, legs, fills, trouble)
        if outcome.state == OperationState.LANDED:
            after_fills(hedge, operation, carried, core.clock.market_s())
        return carried

    async def reconcile(self) -> None:
        """Resolve what a previous life left open, then see to the legs of its last trade.

        Raises TransientError where the venue does not tell the account in time.
        """
        core = self._core
        for open_operation in await core.store.open_operations():
            await self.resolve(open_operation)
        account = core.world.account()
        if account is None:
            return
        await core.take_in(account)
        for hedge in core.hedges.values():
            await self.see_to_legs(hedge)

    async def see_to_legs(self, hedge: Hedge) -> None:
        """What a trade leaves to do whose outcome came late. For whoever holds the market's lane."""
        core, check = self._core, hedge.check
        if check is None or self._unresolved(check) or core.state == EngineState.RECOVERING or hedge.facts() is None:
            return
        if not core.accountant.opened:
            return
        try:
            await core.catch_up()
            state = await core.store.known_operation(check.operation.id)
            if state is not None and state.final:
                await self._see_to(hedge, check.operation, Outcome(state))
            else:
                hedge.keep_check(None)
        except (UnresolvedError, TransientError):
            return  # the connection was lost meanwhile, or the account is told late: the next look comes back to it
        await core.save()

    def _unresolved(self, check: HedgeCheck) -> bool:
        return any(each in self._core.unresolved for each in (check.operation.id, *check.repairs))

    def _still_mending(self, hedge: Hedge) -> bool:
        """Whether the halt is over a repair that may still land, or has and was not told: it is looked at again."""
        return hedge.check is not None and (self._core.behind or self._unresolved(hedge.check))

    async def resolve(self, open_operation: OpenOperation) -> None:
        """Ask once more how it ended; books it if it is known now, else keeps it among the unresolved."""
        await self._told(open_operation.operation, await self._executor.resolve(open_operation))

    async def ask(self, open_operation: OpenOperation) -> Outcome | None:
        """What :meth:`conclude` wants to be told. May take seconds; needs no right to trade."""
        return await self._executor.ask(open_operation)

    async def conclude(self, open_operation: OpenOperation, outcome: Outcome | None) -> None:
        """Book what was found out. For whoever holds the operation's lane."""
        booked = await self._executor.book(open_operation, outcome)
        await self._told(open_operation.operation, outcome if booked else None)

    async def _told(self, operation: Operation, outcome: Outcome | None) -> None:
        core = self._core
        if outcome is None:
            still_open = self._executor.open.get(operation.id)
            if still_open is not None:
                core.unresolved[operation.id] = still_open
                self._alert_unresolved(still_open)
            return
        core.unresolved.pop(operation.id, None)
        core.board.clear(f"unresolved {operation.id}")
        core.board.emit("resolved", Level.INFO, f"{self._text(operation)}: {outcome.state}", operation.id)
        try:
            await core.catch_up(outcome.at)
        except TransientError as error:
            self._alert_behind(operation, error)

    def _alert_unresolved(self, still_open: OpenOperation) -> None:
        """R8.4: shown at once, with the signature to look for after a minute."""
        core, operation = self._core, still_open.operation
        text = f"unresolved: {self._text(operation)}"
        if core.clock.operator_s() - operation.created_operator_s >= _ALERT_AFTER_S:
            text += f", after {_ALERT_AFTER_S:.0f} s and more; signature {still_open.signature or 'not made'}"
        core.board.alert(f"unresolved {operation.id}", Level.ERROR, text, "unresolved")

    def _operation(self, operation_id: str, plan: Plan, source: str, intent_id: str, parent_id: str = "") -> Operation:
        clock = self._core.clock
        return Operation(
            operation_id,
            plan.kind,
            plan.market,
            source,
            clock.market_s(),
            clock.operator_s(),
            plan.legs,
            plan.transfer,
            intent_id,
            plan.reason,
            parent_id,
        )

    async def _run(self, operation: Operation) -> Outcome:
        core = self._core
        try:
            outcome = await self._executor.run(operation)
        except DeltatuiError as error:
            self._keep_unresolved(operation, error)
            raise
        finally:
            signature = self._executor.signature(operation.id)
        try:
            await core.catch_up(outcome.at)
        except TransientError as error:
            raise UnresolvedError(error.code, self._alert_behind(operation, error)) from error
        if outcome.state == OperationState.LANDED:
            fills = await self._fills_of(operation)
            core.board.emit("order_filled", Level.INFO, self._landed(operation, fills), operation.id)
            if core.board.tell is not None:
                core.board.tell.trades(operation, fills, signature)
        else:
            text = f"{self._text(operation)}: {outcome.state.lower()}, {outcome.detail or outcome.error_code}"
            core.board.emit("order_failed", Level.WARNING, text, operation.id)
        await core.save()
        return outcome

    def _alert_behind(self, operation: Operation, error: TransientError) -> str:
        text = f"{self._text(operation)}: ended, but what it did to the account is not known: {error.sentence}"
        self._core.board.alert(BEHIND, Level.ERROR, text, "unresolved")
        return text

    async def _fills_of(self, operation: Operation) -> list[tuple[str, Decimal, Decimal]]:
        recent = max(0, self._core.accountant.books.cursor - 64)
        events = await self._core.venue.events_after(recent)
        ours = [e for e in events if e.operation_id == operation.id and e.kind is None and e.note != TRANSFER_NOTE]
        return [(event.instrument, event.base, event.price) for event in ours]

    def _keep_unresolved(self, operation: Operation, error: DeltatuiError) -> None:
        core = self._core
        open_operation = self._executor.open.get(operation.id)
        if open_operation is None:
            return
        core.unresolved[operation.id] = open_operation
        core.board.alert(f"unresolved {operation.id}", Level.ERROR, error.sentence, "unresolved")

    # Mending

    async def _mend(self, hedge: Hedge) -> None:
        """R4.8: both legs of a take must have filled alike, else the excess is undone; a leave goes on until both legs
        are closed and the rest of its spot is traded. Raises CriticalError where three tries in a row fill nothing of
        what would be an odd leg, UnresolvedError where the rest is not known to be traded."""
        core, legs = self._core, Legs(self._core, hedge, self._planner)
        idle = 0
        for _ in range(_MOST_REPAIRS):
            check = hedge.check
            text = "" if check is None else legs.wrong(check)
            if check is None or not (text or legs.rests_1e9(check)[1]):
                return
            if core.state == EngineState.RECOVERING:
                what = text or "the rest of the spot is not traded"
                raise UnresolvedError("RECOVERING", f"{what}; it is mended when the connection is back")
            if idle == _TRIES:
                break
            if text:
                core.board.emit("odd_leg", Level.WARNING, f"{text}; mending", check.operation.id)
            try:
                if not text:
                    await self._settle_for_rest(hedge, check)
                await self._repair(hedge, check, legs.mending(check, text))
            except (TransientError, ValidationError) as error:
                core.board.emit("odd_leg", Level.ERROR, f"not mended: {error.sentence}", check.operation.id)
            except UnresolvedError as error:
                if not text:
                    raise
                raise CriticalError("ODD_LEG", f"{text}; mending it is unresolved: {error.sentence}") from error
            idle = 0 if hedge.check is not None and hedge.check.fills != check.fills else idle + 1
        check = hedge.check  # the last try may have mended it
        if check is not None and legs.uneven_1e9(check):
            text = legs.wrong(check)
            raise CriticalError("ODD_LEG", f"{text}; {_TRIES} tries to mend it failed, it is still open")

    async def _repair(self, hedge: Hedge, check: HedgeCheck, plan: Plan) -> None:
        """One operation towards even legs; its id is kept first, so that its fills are known for what they are."""
        operation_id = await self.next_id("-u")
        check = msgspec.structs.replace(check, repairs=(*check.repairs, operation_id))
        await self._keep(hedge, check)
        await self._run(self._operation(operation_id, plan, "engine", "", check.operation.id))

    async def _settle_for_rest(self, hedge: Hedge, check: HedgeCheck) -> None:
        """Gains of the closed perp pay for the rest of the spot, which no margin rule takes for a reducing order."""
        facts = hedge.known_facts()
        if facts.perp.base_1e9 or not facts.perp.unsettled:
            return
        plan = self._planner.settle(facts, self._core.known_book())
        operation_id = await self.next_id()
        await self._run(self._operation(operation_id, plan, check.operation.source, "", check.operation.id))

    def _stopped(self, operation: Operation) -> str:
        """A kill or a lost connection overtakes what has been planned and not sent; what reduces risk goes on."""
        state = self._core.state
        if state == EngineState.RECOVERING:
            return "the connection was lost before it was sent"
        reduces = operation.kind in _HALTED_DOES or (operation.legs and all(leg.reduce_only for leg in operation.legs))
        if state == EngineState.HALTED and not reduces:
            return "the engine was halted before it was sent"
        return ""

    def _on_state(self, operation: Operation, state: OperationState, detail: str) -> None:
        core = self._core
        now = core.clock.operator_s()
        view = OperationView(operation.id, operation.kind, operation.market, state, detail, now, state.final)
        core.operations[core.place_of(operation.market)] = view
        core.board.changed()

    # Words

    def _text(self, operation: Operation) -> str:
        """What was planned, for while nothing else is known."""
        parts = [f"{leg.base_1e9 / BASE_PRECISION:+g} {leg.market}" for leg in operation.legs]
        transfer = operation.transfer
        if transfer is not None:
            hedge = self._core.hedge_of_asset(transfer.asset)
            amount = transfer.amount / 10 ** (QUOTE_DECIMALS if hedge is None else hedge.spec.base_decimals)
            # With legs it is no leg, and must not read like one.
            parts.append(f"{'deposit ' if operation.legs else ''}{amount:+.10g} {transfer.asset}")
        return f"{operation.kind.lower()} {', '.join(parts) or operation.market}".strip()

    def _landed(self, operation: Operation, fills: Sequence[tuple[str, Decimal, Decimal]]) -> str:
        """What has become of it, from its fills."""
        if not operation.legs:
            return f"{self._text(operation)}: landed"
        filled: dict[str, Decimal] = {}
        for instrument, base, _ in fills:
            filled[instrument] = filled.get(instrument, Decimal(0)) + base
        what = ", ".join(f"{float(base):+.10g} {instrument}" for instrument, base in filled.items())
        kind = operation.kind.lower()
        return f"{kind} filled {what}" if what else f"{kind} landed, nothing was filled"
