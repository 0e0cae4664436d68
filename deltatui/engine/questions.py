"""The one question that may wait for the operator (``Core.pending``): how it is put, and how it ends."""

from __future__ import annotations

from deltatui.domain.command import CommandResult, ResultStatus
from deltatui.domain.errors import ValidationError
from deltatui.domain.event import Level
from deltatui.domain.verdict import Verdict
from deltatui.engine.core import Core
from deltatui.engine.intents import Intents
from deltatui.engine.memory import AskedCommand, Pending


class Questions:
    """Whoever sends the intent of a question again is told what became of it, not a question that is over."""

    def __init__(self, core: Core, intents: Intents) -> None:
        self._core = core
        self._intents = intents

    def check_alone(self, *, reduces: bool) -> None:
        """One question at a time; but what waits never stands in the way of what reduces risk (R6.11). Raises
        ValidationError where it does stand in the way."""
        pending = self._core.pending
        if pending is None or (reduces and not pending.reduces):
            return
        raise ValidationError("CONFIRMATION_OPEN", "another question waits for its answer; answer that first")

    def put(
        self, operation_id: str, command: AskedCommand, what: str, verdicts: tuple[Verdict, ...], *, reduces: bool
    ) -> CommandResult:
        """Ask about ``command``, in place of whatever waits (:meth:`check_alone` says whether that may be)."""
        core = self._core
        if core.pending is not None:
            self._end(core.pending, "OVERTAKEN", "a command that reduces risk came first, nothing was done")
        now, facts = core.clock.operator_s(), core.facts()
        perp = 0 if facts is None else facts.account.perp_1e9
        core.pending = Pending(operation_id, command, now, now + core.settings.confirm_timeout_s, perp, reduces)
        core.board.emit("confirmation_opened", Level.INFO, f"{what} waits for confirmation", operation_id)
        status = ResultStatus.NEEDS_CONFIRMATION
        return CommandResult(status, "CONFIRM", f"confirm {what}", operation_id, verdicts=verdicts)

    def confirmed(self, operation_id: str) -> Pending:
        """What waited under this id: the operator said yes, and :meth:`answered` has to follow.

        Raises ValidationError where it does not wait any more."""
        self._waiting(operation_id)
        self.expire()
        pending = self._core.pending
        if pending is None:
            raise ValidationError("EXPIRED", "the confirmation came too late, nothing was done")
        self._core.pending = None
        return pending

    def answered(self, pending: Pending, result: CommandResult) -> None:
        """What has become of a question, and with it of its intent."""
        self._intents.ended(pending.command.intent_id, result)

    def cancel(self, operation_id: str) -> None:
        """Raises ValidationError where it does not wait any more."""
        self._end(self._waiting(operation_id), "CANCELLED", "not confirmed, nothing was done")

    def kill(self) -> None:
        """The kill switch ends whatever waits."""
        if self._core.pending is not None:
            self._end(self._core.pending, "KILLED", "the kill switch came first, nothing was done")

    def expire(self) -> None:
        """End a question that nobody has answered in time."""
        pending = self._core.pending
        if pending is not None and self._core.clock.operator_s() >= pending.expires_s:
            self._end(pending, "EXPIRED", "not confirmed in time, nothing was done", "confirmation_expired")

    def _waiting(self, operation_id: str) -> Pending:
        pending = self._core.pending
        if pending is None or pending.operation_id != operation_id:
            raise ValidationError("NOT_PENDING", "that does not wait for a confirmation any more")
        return pending

    def _end(self, pending: Pending, code: str, text: str, kind: str = "order_cancelled") -> None:
        """It is over without having been confirmed."""
        core = self._core
        core.pending = None
        core.board.emit(kind, Level.INFO, text, pending.operation_id)
        core.board.changed()
        self.answered(pending, CommandResult(ResultStatus.REJECTED, code, text, pending.operation_id))
