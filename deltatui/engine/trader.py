"""Carries plans out: through the executor, into the books, with both legs or none."""

from __future__ import annotations

from decimal import Decimal

from deltatui.domain.carry import Stance, holding
from deltatui.domain.errors import CriticalError, DeltatuiError, TransientError, UnresolvedError, ValidationError
from deltatui.domain.event import Level
from deltatui.domain.operation import OpenOperation, Operation, OperationKind, OperationState
from deltatui.domain.snapshot import OperationView
from deltatui.domain.units import BASE_PRECISION
from deltatui.engine.core import HEDGE_CHECK, Core, encode
from deltatui.engine.executor import Executor
from deltatui.engine.memory import HedgeCheck
from deltatui.engine.planner import Plan, Planner, stance_of
from deltatui.engine.states import EngineState
from deltatui.ports import Outcome, Sender

_REDUCING = (OperationKind.LEAVE, OperationKind.UNWIND, OperationKind.SETTLE)
_TRIES = 3
_ALERT_AFTER_S = 60.0


class Trader:
    """Whoever calls :meth:`carry_out` has the only right to trade at that moment (the desk's lock)."""

    def __init__(self, core: Core, sender: Sender, planner: Planner) -> None:
        self._core = core
        self._planner = planner
        self._executor = Executor(core.venue, sender, core.store, core.clock, self._on_state, self._stopped)

    async def next_id(self, suffix: str = "") -> str:
        """A number that never repeats, with the market time for people."""
        core = self._core
        while True:
            number = core.flags.operations + 1
            core.set_flags(operations=number)
            operation_id = f"o{number}-{int(core.clock.market_s())}{suffix}"
            # A process that was killed may have used numbers that it could not keep.
            if await core.store.known_operation(operation_id) is None:
                return operation_id

    async def carry_out(self, operation_id: str, plan: Plan, source: str, intent_id: str = "") -> Outcome:
        """Do it and book it. An odd leg is mended before this returns.

        Raises UnresolvedError where the outcome is not known, ValidationError where an unresolved operation forbids
        trading, CriticalError where legs stay uneven.
        """
        core = self._core
        # Sizes and balances are not known while an earlier operation may still land (R8.4).
        if core.unresolved and (plan.legs or plan.kind is OperationKind.WITHDRAW):
            raise ValidationError("UNRESOLVED_OPEN", "an earlier operation is not resolved yet; trading has to wait")
        operation = self._operation(operation_id, plan, source, intent_id)
        account = core.known_facts().account
        check = HedgeCheck(operation, account.spot_1e9, account.perp_1e9)
        if operation.legs:
            await core.store.save_state({HEDGE_CHECK: encode(check)})
            core.keep_check(check)
        core.board.emit("order_submitted", Level.INFO, describe(operation), operation_id)
        if core.board.tell is not None:
            core.board.tell.cost(plan, core.clock.market_s())
        outcome = await self._run(operation)
        if outcome.state is OperationState.LANDED:
            await self._mend(check)
            self._after_success(operation)
        if operation.legs:
            core.keep_check(None)
        await core.save()
        return outcome

    async def reconcile(self) -> None:
        """Resolve what a previous life left open, then see to the legs of its last trade."""
        core = self._core
        for open_operation in await core.store.open_operations():
            await self.resolve(open_operation)
        facts = core.facts()
        if facts is None:
            return
        await core.take_in(facts)
        await self.see_to_legs()

    async def see_to_legs(self) -> None:
        """What a trade leaves to do whose outcome came late. For whoever has the right to trade."""
        core, check = self._core, self._core.check
        if check is None or check.operation.id in core.unresolved or core.state is EngineState.RECOVERING:
            return
        try:
            if await core.store.known_operation(check.operation.id) is OperationState.LANDED:
                # Halted, the operator has been told what is open and decides.
                if not core.flags.halted:
                    await self._mend(check)
                self._after_success(check.operation)
            core.keep_check(None)
        except CriticalError as error:
            core.halt(error.sentence)
        except UnresolvedError:
            return  # the connection was lost meanwhile; recovery comes back to it
        await core.save()

    async def forget_legs(self) -> None:
        """The operator takes over what is open."""
        self._core.keep_check(None)
        await self._core.save()

    async def resolve(self, open_operation: OpenOperation) -> None:
        """Ask once more how it ended; books it if it is known now, else keeps it among the unresolved."""
        await self._told(open_operation.operation, await self._executor.resolve(open_operation))

    async def ask(self, open_operation: OpenOperation) -> Outcome | None:
        """What :meth:`conclude` wants to be told. May take seconds; needs no right to trade."""
        return await self._executor.ask(open_operation)

    async def conclude(self, open_operation: OpenOperation, outcome: Outcome | None) -> None:
        """Book what was found out. For whoever has the right to trade."""
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
        core.board.emit("resolved", Level.INFO, f"{describe(operation)}: {outcome.state}", operation.id)
        facts = core.facts()
        if facts is not None:
            await core.take_in(facts)
            if outcome.state is OperationState.LANDED:
                self._after_success(operation)

    def _alert_unresolved(self, still_open: OpenOperation) -> None:
        """R8.4: shown at once, with the signature to look for after a minute."""
        core, operation = self._core, still_open.operation
        text = f"unresolved: {describe(operation)}"
        if core.clock.operator_s() - operation.created_operator_s >= _ALERT_AFTER_S:
            text += f", after {_ALERT_AFTER_S:.0f} s and more; signature {still_open.signature or 'not made'}"
        core.board.alert(f"unresolved {operation.id}", Level.ERROR, text, "unresolved")

    def _operation(self, operation_id: str, plan: Plan, source: str, intent_id: str, parent_id: str = "") -> Operation:
        clock = self._core.clock
        return Operation(
            operation_id,
            plan.kind,
            plan.spec.symbol,
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
        await core.take_in(core.known_facts())
        if outcome.state is OperationState.LANDED:
            core.board.emit("order_filled", Level.INFO, f"{describe(operation)}: landed", operation.id)
            if core.board.tell is not None:
                core.board.tell.trades(operation, await self._fills_of(operation), self._executor.signature)
        else:
            text = f"{describe(operation)}: {outcome.state.lower()}, {outcome.detail or outcome.error_code}"
            core.board.emit("order_failed", Level.WARNING, text, operation.id)
        await core.save()
        return outcome

    async def _fills_of(self, operation: Operation) -> list[tuple[str, Decimal, Decimal]]:
        recent = max(0, self._core.accountant.books.cursor - 64)
        events = await self._core.venue.events_after(recent)
        return [(e.instrument, e.base, e.price) for e in events if e.operation_id == operation.id and e.kind is None]

    def _after_success(self, operation: Operation) -> None:
        core = self._core
        held = stance_of(core.known_facts().account.perp_1e9)
        core.carry_state = holding(core.carry_state, held)
        if held is Stance.FLAT:
            core.set_flags(held_since_s=None)
        elif core.flags.held_since_s is None:
            core.set_flags(held_since_s=core.clock.market_s())
        if operation.kind is OperationKind.REBALANCE:
            core.set_flags(last_rebalance_s=core.clock.market_s())
        elif operation.kind in (OperationKind.TAKE, OperationKind.LEAVE):
            # What the operator did by hand, automation leaves alone until it is told otherwise.
            by = "operator" if operation.source != "engine" else ("nobody" if held is Stance.FLAT else "engine")
            core.set_flags(held_by=by)

    def _keep_unresolved(self, operation: Operation, error: DeltatuiError) -> None:
        core = self._core
        open_operation = self._executor.open.get(operation.id)
        if open_operation is None:
            return
        core.unresolved[operation.id] = open_operation
        core.board.alert(f"unresolved {operation.id}", Level.ERROR, error.sentence, "unresolved")

    # Legs

    async def _mend(self, check: HedgeCheck) -> None:
        """R4.8: both legs of a take must have moved alike, else the excess is undone; a leave goes on until both legs
        are closed. Raises CriticalError where that does not succeed in three tries."""
        core = self._core
        if len(check.operation.legs) < 2:
            return
        for attempt in range(_TRIES + 1):
            plan, text = self._mending(check)
            if plan is None:
                return
            if core.state is EngineState.RECOVERING:
                raise UnresolvedError("RECOVERING", f"{text}; it is mended when the connection is back")
            if attempt == _TRIES:
                raise CriticalError("ODD_LEG", f"{text}; three tries to mend it failed, it is still open")
            core.board.emit("odd_leg", Level.ERROR, f"{text}; mending", check.operation.id)
            try:
                operation_id = await self.next_id("-u")
                await self._run(self._operation(operation_id, plan, "engine", "", check.operation.id))
            except TransientError as error:
                core.board.emit("odd_leg", Level.ERROR, f"not mended: {error.sentence}", check.operation.id)
            except UnresolvedError as error:
                raise CriticalError("ODD_LEG", f"{text}; mending it is unresolved: {error.sentence}") from error

    def _mending(self, check: HedgeCheck) -> tuple[Plan | None, str]:
        """The order that makes the legs even, and what is wrong; None where nothing is."""
        core = self._core
        facts, book = core.known_facts(), core.known_book()
        account, least = facts.account, core.spec.step_base_1e9
        spot, perp = account.spot_1e9 - check.spot_1e9, account.perp_1e9 - check.perp_1e9
        text = f"odd leg: spot moved {spot / BASE_PRECISION:+g}, perp {perp / BASE_PRECISION:+g}"
        if check.operation.kind is OperationKind.LEAVE:
            wanted = {leg.market: leg.base_1e9 for leg in check.operation.legs}
            perp_rest = wanted.get(core.spec.symbol, 0) - perp
            spot_rest = wanted.get(core.spec.base_symbol, 0) - spot
            if abs(perp_rest) < least and abs(spot_rest) < least:
                return None, ""
            plan = self._planner.close_rest(facts.market, account, book, perp_rest, spot_rest)
            return plan, text
        odd = spot + perp
        if abs(odd) < least:
            return None, ""
        if abs(perp) > abs(spot):
            plan = self._planner.perp_order(
                OperationKind.UNWIND, facts.market, account, book, -odd, reduce_only=True, reason=text
            )
        else:
            plan = self._planner.spot_order(OperationKind.UNWIND, facts.market, account, book, -odd, text)
        return plan, text

    def _stopped(self, operation: Operation) -> str:
        """A kill or a lost connection overtakes what has been planned and not sent; what reduces risk goes on."""
        state = self._core.state
        if state is EngineState.RECOVERING:
            return "the connection was lost before it was sent"
        if state is EngineState.HALTED and operation.kind not in _REDUCING:
            return "the engine was halted before it was sent"
        return ""

    def _on_state(self, operation: Operation, state: OperationState, detail: str) -> None:
        core = self._core
        now = core.clock.operator_s()
        core.operation = OperationView(operation.id, operation.kind, operation.market, state, detail, now, state.final)
        core.board.changed()


def describe(operation: Operation) -> str:
    what = ", ".join(f"{leg.base_1e9 / BASE_PRECISION:+g} {leg.market}" for leg in operation.legs)
    if operation.transfer is not None:
        what = f"{operation.transfer.amount:+d} {operation.transfer.asset} (smallest units)"
    return f"{operation.kind.lower()} {what}".strip()
