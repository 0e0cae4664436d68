"""The executor: takes operations from PLANNED to their end (R8.1), several at a time where they are of several markets.

Every state is in the journal before the step that it allows. A failure before SENT is FAILED and nothing happened; a
failure after it is UNRESOLVED until the sender knows better.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from deltatui.domain.errors import TransientError, UnresolvedError, ValidationError
from deltatui.domain.operation import JournalRecord, OpenOperation, Operation, OperationState
from deltatui.ports import Clock, Outcome, Sender, Signed, Store, Venue

_S = OperationState


class Executor:
    """``on_state`` is told of every state that an operation reaches, after it is in the journal. ``stopped`` is asked
    last before sending and says why the operation must not go out any more; empty where it may."""

    def __init__(
        self,
        venue: Venue,
        sender: Sender,
        store: Store,
        clock: Clock,
        on_state: Callable[[Operation, OperationState, str], None],
        stopped: Callable[[Operation], str],
    ) -> None:
        self._venue = venue
        self._sender = sender
        self._store = store
        self._clock = clock
        self._on_state = on_state
        self._stopped = stopped
        self._signatures: dict[str, str] = {}
        self.open: dict[str, OpenOperation] = {}
        """What the journal holds of operations that have not ended, known also while the journal cannot be read."""

    async def run(self, operation: Operation) -> Outcome:
        """Carry it out and return how it ended.

        Raises UnresolvedError where that is not known (the journal keeps it open), TransientError where the journal
        could not even take its first line. Whatever is raised, ``open`` tells what was left open.
        """
        await self._write(operation, _S.PLANNED, first=True)
        try:
            return await self._carry_out(operation)
        except TransientError as error:
            # The journal refused a later line: it now knows less than happened.
            raise UnresolvedError("UNRESOLVED", f"{operation.id}: {error.sentence}") from error

    async def _carry_out(self, operation: Operation) -> Outcome:
        try:
            unsigned = await self._venue.build(operation)
            await self._sender.simulate(unsigned)
        except (ValidationError, TransientError) as error:
            return await self._end(operation, Outcome(_S.FAILED, error.code, error.sentence))
        await self._write(operation, _S.SIMULATED)
        try:
            signed = await self._sender.sign(unsigned)
        except (ValidationError, TransientError) as error:
            return await self._end(operation, Outcome(_S.FAILED, error.code, error.sentence))
        self._signatures[operation.id] = signed.signature
        await self._write(operation, _S.SIGNED, signed=signed)
        if why := self._stopped(operation):
            return await self._end(operation, Outcome(_S.FAILED, "STOPPED", why))
        await self._write(operation, _S.SENT)
        outcome, detail = await self._send(signed)
        if outcome is None:
            await self._write(operation, _S.UNRESOLVED, detail=detail)
            raise UnresolvedError("UNRESOLVED", f"{operation.id}: {detail}")
        return await self._end(operation, outcome)

    async def _send(self, signed: Signed) -> tuple[Outcome | None, str]:
        """The outcome, or None with the reason. Even a refusal is no outcome: another path may have taken the same
        bytes, so the chain is asked whatever became of the sending."""
        detail = "no answer within the deadline"
        try:
            await self._sender.send(signed)
        except (TransientError, ValidationError) as error:
            detail = error.sentence
        try:
            return await self._sender.outcome(signed), detail
        except (TransientError, ValidationError) as error:
            return None, error.sentence

    async def resolve(self, open_operation: OpenOperation) -> Outcome | None:
        """Find out how an operation ended that a previous life, or a lost answer, left open.

        None: not known yet, or not to be written down yet.
        """
        open_operation = self.open.setdefault(open_operation.operation.id, open_operation)
        await self.book(open_operation, None)
        outcome = await self.ask(open_operation)
        return outcome if await self.book(open_operation, outcome) else None

    async def ask(self, open_operation: OpenOperation) -> Outcome | None:
        """How it ended, as far as the sender knows; nothing is written, so this needs no right to trade."""
        if open_operation.state in (_S.PLANNED, _S.SIMULATED):
            return Outcome(_S.FAILED, "NEVER_SENT", "it was never signed")
        signed = Signed(
            open_operation.operation.id,
            open_operation.signature,
            open_operation.raw,
            open_operation.last_valid_block_height,
        )
        try:
            return await self._sender.outcome(signed)
        except (TransientError, ValidationError):
            return None

    async def book(self, open_operation: OpenOperation, outcome: Outcome | None) -> bool:
        """Write down how it ended, or with None that it is unresolved; whether it has ended by this call."""
        operation = open_operation.operation
        known = self.open.get(operation.id)
        if known is None:
            return False  # somebody else was told first
        try:
            if known.state in (_S.SIGNED, _S.SENT):
                await self._write(operation, _S.UNRESOLVED, detail="found open")
            if outcome is None:
                return False
            await self._end(operation, outcome)
        except TransientError:
            return False
        return True

    async def _end(self, operation: Operation, outcome: Outcome) -> Outcome:
        await self._write(operation, outcome.state, error_code=outcome.error_code, detail=outcome.detail)
        return outcome

    def signature(self, operation_id: str) -> str:
        """Of an operation that this process has signed and not been asked about yet; empty for any other."""
        return self._signatures.pop(operation_id, "")

    async def _write(
        self,
        operation: Operation,
        state: OperationState,
        *,
        first: bool = False,
        signed: Signed | None = None,
        error_code: str = "",
        detail: str = "",
    ) -> None:
        await self._store.append_journal(
            JournalRecord(
                operation.id,
                state,
                self._clock.operator_s(),
                operation if first else None,
                signed.signature if signed else "",
                signed.raw if signed else b"",
                signed.last_valid_block_height if signed else None,
                error_code,
                detail,
            )
        )
        self._remember(operation, state, signed)
        self._on_state(operation, state, detail or error_code)

    def _remember(self, operation: Operation, state: OperationState, signed: Signed | None) -> None:
        if state.final:
            self.open.pop(operation.id, None)
            return
        known = self.open.get(operation.id) or OpenOperation(operation, state)
        if signed is not None:
            height = signed.last_valid_block_height
            known = OpenOperation(operation, state, signed.signature, signed.raw, height)
        self.open[operation.id] = msgspec.structs.replace(known, state=state)
