"""Questions that wait for the operator (``Core.pending``), one a market: how they are put, and how they end."""

from __future__ import annotations

from deltatui.domain.command import CommandResult, ResultStatus
from deltatui.domain.errors import ValidationError
from deltatui.domain.event import Level
from deltatui.domain.principal import Principal
from deltatui.domain.verdict import Verdict
from deltatui.engine.core import Core
from deltatui.engine.intents import Intents
from deltatui.engine.memory import AskedCommand, Pending


class Questions:
    """Whoever sends the intent of a question again is told what became of it, not a question that is over."""

    def __init__(self, core: Core, intents: Intents) -> None:
        self._core = core
        self._intents = intents

    def check_alone(self, market: str, *, reduces: bool) -> None:
        """One question a market at a time; but what waits never stands in the way of what reduces risk (R6.11). Raises
        ValidationError where it does stand in the way."""
        pending = self._core.pending.get(market)
        if pending is None or (reduces and not pending.reduces):
            return
        about = f" about {market}" if market else ""
        raise ValidationError("CONFIRMATION_OPEN", f"another question{about} waits for its answer; answer that first")

    def put(
        self,
        operation_id: str,
        market: str,
        command: AskedCommand,
        principal: Principal,
        what: str,
        verdicts: tuple[Verdict, ...] = (),
        *,
        reduces: bool,
        word: str = "",
    ) -> CommandResult:
        """Ask about ``command``, in place of whatever waits there (:meth:`check_alone` says whether that may be)."""
        core = self._core
        if (overtaken := core.pending.get(market)) is not None:
            self._end(overtaken, "OVERTAKEN", "a command that reduces risk came first, nothing was done")
        now, hedge = core.clock.operator_s(), core.hedges.get(market)
        facts = None if hedge is None else hedge.facts()
        core.pending[market] = Pending(
            operation_id,
            market,
            command,
            principal,
            now,
            now + core.settings.confirm_timeout_s,
            0 if facts is None else facts.perp.base_1e9,
            reduces,
            word,
        )
        core.board.emit("confirmation_opened", Level.INFO, f"{what} waits for confirmation", operation_id)
        status = ResultStatus.NEEDS_CONFIRMATION
        return CommandResult(status, "CONFIRM", f"confirm {what}", operation_id, verdicts=verdicts)

    def confirmed(self, operation_id: str, word: str) -> Pending:
        """What waited under this id: the operator said yes, and :meth:`answered` has to follow.

        Raises ValidationError where it does not wait any more, or another word has to be typed (it then waits on)."""
        pending = self._waiting(operation_id)
        if pending.word and word != pending.word:
            raise ValidationError("TYPE_MARKET", f"type {pending.word} to confirm this; nothing was done yet")
        self.expire()
        if self._core.pending.pop(pending.market, None) is None:
            raise ValidationError("EXPIRED", "the confirmation came too late, nothing was done")
        return pending

    def answered(self, pending: Pending, result: CommandResult) -> None:
        """What has become of a question, and with it of its intent."""
        self._intents.ended(pending.principal.name, pending.command.intent_id, result)

    def cancel(self, operation_id: str) -> None:
        """Raises ValidationError where it does not wait any more."""
        self._end(self._waiting(operation_id), "CANCELLED", "not confirmed, nothing was done")

    def kill(self) -> None:
        """The kill switch ends whatever waits."""
        for pending in [*self._core.pending.values()]:
            self._end(pending, "KILLED", "the kill switch came first, nothing was done")

    def expire(self) -> None:
        """End the questions that nobody has answered in time."""
        now = self._core.clock.operator_s()
        for pending in [*self._core.pending.values()]:
            if now >= pending.expires_s:
                self._end(pending, "EXPIRED", "not confirmed in time, nothing was done", "confirmation_expired")

    def _waiting(self, operation_id: str) -> Pending:
        for pending in self._core.pending.values():
            if pending.operation_id == operation_id:
                return pending
        raise ValidationError("NOT_PENDING", "that does not wait for a confirmation any more")

    def _end(self, pending: Pending, code: str, text: str, kind: str = "order_cancelled") -> None:
        """It is over without having been confirmed."""
        core = self._core
        text = f"{pending.market}: {text}" if pending.market else text
        core.pending.pop(pending.market, None)
        core.board.emit(kind, Level.INFO, text, pending.operation_id)
        core.board.changed()
        self.answered(pending, CommandResult(ResultStatus.REJECTED, code, text, pending.operation_id))
