"""One signed transaction on its way: which paths it has gone, and how it ends."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import msgspec

from deltatui.chain.confirm import Confirmer, Finding, Sight
from deltatui.chain.errors import RpcError
from deltatui.chain.jito import Jito
from deltatui.chain.pool import Pool
from deltatui.chain.tasks import Supervisor, stop, wait_for_event, within
from deltatui.chain.transaction import payer_of
from deltatui.chain.ws import Subscription, Subscriptions
from deltatui.domain.errors import CriticalError, DeltatuiError, TransientError, ValidationError
from deltatui.domain.event import Level
from deltatui.domain.operation import OperationState
from deltatui.ports import Clock, Log, Outcome, Signed

_NEGATIVES = 2
"""Times in a row, a poll apart, that the chain must deny an expired signature before that is believed."""
_LONGEST_PUSH_S = 300.0
"""150 blocks at the slowest rate that the block clock believes: longer no blockhash lives."""


class PathPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds of the operator clock (R8.2, R8.4). ``jito_longest_pause_s``: a back-off wished by Jito that is
    longer ends the Jito path."""

    jito_tries: int = 3
    jito_pause_s: float = 1.0
    jito_longest_pause_s: float = 2.0
    rebroadcast_s: float = 2.0
    poll_s: float = 1.0
    unresolved_after_s: float = 30.0
    unresolved_poll_s: float = 5.0
    alert_after_s: float = 60.0

    def __post_init__(self) -> None:
        times = (self.jito_pause_s, self.rebroadcast_s, self.poll_s, self.unresolved_after_s, self.unresolved_poll_s)
        if min(times) <= 0 or not 0 <= self.jito_tries <= 3:
            raise ValidationError("BAD_PATHS", "times must be positive, and there are at most three tries through Jito")


class Crew(msgspec.Struct, frozen=True):
    """What all flights of a sender share."""

    pool: Pool
    confirmer: Confirmer
    clock: Clock
    log: Log
    tasks: Supervisor
    policy: PathPolicy
    subscriptions: Subscriptions | None = None
    on_undone: Callable[[Signed], None] | None = None


class Flight:
    """Sends the bytes it was made with and no others. ``progress`` says in words what is known."""

    def __init__(self, signed: Signed, crew: Crew, jito: Jito | None) -> None:
        self._signed = signed
        self._payer = payer_of(signed.raw)
        self._crew = crew
        self._jito = jito
        self._jito_tries = 0 if jito is None else crew.policy.jito_tries
        self._started_s = crew.clock.operator_s()
        self._sent_s: float | None = None
        self._taken = False
        self._sending = asyncio.Lock()
        self._kick = asyncio.Event()
        self._following: asyncio.Task[Outcome] | None = None
        self._pushing: asyncio.Task[None] | None = None
        self._subscription: Subscription | None = None
        self._alerted = False
        self._outcome: Outcome | None = None
        self.landed_slot: int | None = None
        self.progress = ""

    @property
    def ended(self) -> bool:
        return self._outcome is not None

    async def send(self) -> None:
        """Raise TransientError if nobody took the bytes this time; they are pushed on in any case."""
        if self._sent_s is None:
            self._sent_s = self._crew.clock.operator_s()
        async with self._sending:
            if self.ended or self._taken:
                return
            self._follow_on()
            try:
                self._taken = await self._through_jito() or await self._through_rpc()
            finally:
                if self._pushing is None and not self.ended:
                    self._pushing = self._crew.tasks.spawn(f"rebroadcast {self._signed.signature[:8]}", self._push())
            if not self._taken:
                raise TransientError(
                    "SEND_UNKNOWN", f"no path is known to have taken {self._signed.signature}; it may land all the same"
                )

    async def wait(self) -> Outcome | None:
        """The outcome, or None when the window of R8.4 has passed without one."""
        if self._outcome is not None:
            return self._outcome
        following = self._follow_on()

        async def joined() -> None:
            await asyncio.wait({following})

        try:
            await within(self._crew.clock, self._window_s(), joined())
        except TimeoutError:
            return None
        if following.cancelled():
            return None  # the sender was closed
        error = following.exception()
        if error is None:
            return following.result()
        self._following = None  # the next call takes it up again
        if isinstance(error, DeltatuiError):
            raise error
        raise CriticalError(
            "CONFIRMATION_DIED", f"finding out the outcome died of {type(error).__name__}; it is resumed"
        )

    def _window_s(self) -> float:
        policy = self._crew.policy
        if self._sent_s is None:
            return policy.unresolved_poll_s
        left_s = policy.unresolved_after_s - (self._crew.clock.operator_s() - self._sent_s)
        # Within both bounds even if the clock was set.
        return min(left_s, policy.unresolved_after_s) if left_s > 0 else policy.unresolved_poll_s

    def _follow_on(self) -> asyncio.Task[Outcome]:
        if self._following is None:
            self._following = self._crew.tasks.spawn(f"confirm {self._signed.signature[:8]}", self._follow())
        return self._following

    async def _through_jito(self) -> bool:
        policy = self._crew.policy
        while self._jito is not None and self._jito_tries > 0:
            self._jito_tries -= 1
            number = policy.jito_tries - self._jito_tries
            pause_s = policy.jito_pause_s
            try:
                bundle = await self._jito.send(self._signed.raw)
            except RpcError as error:
                self._say(Level.WARNING, "JITO", f"try {number} of {policy.jito_tries}: {error.sentence}")
                pause_s = max(pause_s, error.retry_after_s or 0.0)
                if not error.elsewhere or pause_s > policy.jito_longest_pause_s:
                    break
            else:
                self._say(Level.INFO, "JITO", f"taken at try {number}" + (f", bundle {bundle}" if bundle else ""))
                return True
            if self._jito_tries > 0:
                await self._crew.clock.sleep(pause_s)
        if self._jito is not None:
            self._jito_tries = 0
            self._say(Level.WARNING, "JITO", "not taken; going on by RPC")
        return False

    async def _through_rpc(self) -> bool:
        for answer in await self._crew.pool.broadcast(self._signed.raw):
            if answer.error is not None:
                self._say(Level.WARNING, "TX", f"not taken: {answer.error.sentence}")
            elif answer.value != self._signed.signature:
                self._say(Level.ERROR, "TX", f"RPC {answer.label} took the bytes for another signature")
            else:
                self._say(Level.INFO, "TX", f"taken by RPC {answer.label}")
                self._taken = True
        return self._taken

    async def _push(self) -> None:
        """The same bytes to every endpoint, until it ended (then this is cancelled) or its blockhash died."""
        for _ in range(math.ceil(_LONGEST_PUSH_S / self._crew.policy.rebroadcast_s)):
            await self._crew.clock.sleep(self._crew.policy.rebroadcast_s)
            height, last_valid = self._crew.pool.block_clock.observed_height(), self._signed.last_valid_block_height
            if height is not None and last_valid is not None and height > last_valid:
                break
            answers = await self._crew.pool.broadcast(self._signed.raw)
            if not self._taken and any(answer.value == self._signed.signature for answer in answers):
                self._taken = True
                self._say(Level.INFO, "TX", "taken by RPC at a rebroadcast")
        self._say(Level.INFO, "TX", "its blockhash has expired; no longer sent")

    async def _follow(self) -> Outcome:
        self._listen()
        try:
            outcome, finding = await self._until_ended()
        finally:
            if self._subscription is not None:
                self._subscription.close()
                self._subscription = None
        self._outcome = outcome
        self.progress = outcome.detail
        if self._pushing is not None:
            await stop(self._pushing)
        level = Level.INFO if outcome.state == OperationState.LANDED else Level.WARNING
        self._say(level, "TX", f"{outcome.state}: {outcome.detail}")
        if outcome.state == OperationState.LANDED and not finding.final:
            self._crew.tasks.spawn(f"finality {self._signed.signature[:8]}", self._until_final())
        return outcome

    async def _until_final(self) -> None:
        """A confirmed block has never been taken back on a cluster with an honest majority. If it is, the same bytes
        go out again while they can; when they cannot land any more, the engine's picture is wrong and it is told."""
        denials = 0
        while True:
            await self._crew.clock.sleep(self._crew.policy.unresolved_poll_s)
            finding = await self._crew.confirmer.look(self._signed.signature)
            if finding.final:
                return
            if finding.sight is Sight.NOTHING:
                self._say(Level.WARNING, "TX", "landed, and taken back by a fork; sent again")
                await self._crew.pool.broadcast(self._signed.raw)
                if self._may_have_expired():
                    finding = await self._crew.confirmer.gone(self._signed, self._payer)
                    denials = denials + 1 if finding.sight is Sight.NOTHING else 0
            if denials >= _NEGATIVES:
                self._say(Level.CRITICAL, "TX", f"{self._signed.signature} had landed and is undone for good")
                if self._crew.on_undone is not None:
                    self._crew.on_undone(self._signed)
                return

    async def _until_ended(self) -> tuple[Outcome, Finding]:
        denials = 0
        while True:
            finding = await self._crew.confirmer.look(self._signed.signature)
            if finding.sight in (Sight.NOTHING, Sight.UNKNOWN) and self._may_have_expired():
                finding = await self._crew.confirmer.gone(self._signed, self._payer)
                denials = denials + 1 if finding.sight is Sight.NOTHING else 0
                if denials >= _NEGATIVES:
                    detail = f"{self._signed.signature} can no longer land: not on the chain"
                    return Outcome(OperationState.EXPIRED, "EXPIRED", detail), finding
            else:
                denials = 0
            if finding.sight is Sight.ENDED:
                outcome = await self._crew.confirmer.outcome(self._signed.signature, finding)
                if outcome.state == OperationState.LANDED:
                    self.landed_slot = finding.slot
                return outcome, finding
            self._tell(finding)
            await wait_for_event(self._crew.clock, self._pause_s(), self._kick)
            self._kick.clear()

    def _listen(self) -> None:
        """A notification only wakes the poll: what counts is the status."""
        if self._crew.subscriptions is not None:
            self._subscription = self._crew.subscriptions.subscribe(
                "signatureSubscribe",
                [self._signed.signature, {"commitment": "confirmed"}],
                lambda _: self._kick.set(),
            )

    def _elapsed_s(self) -> float:
        since_s = self._started_s if self._sent_s is None else self._sent_s
        return self._crew.clock.operator_s() - since_s

    def _pause_s(self) -> float:
        policy = self._crew.policy
        fresh = self._sent_s is not None and self._elapsed_s() < policy.unresolved_after_s
        return policy.poll_s if fresh else policy.unresolved_poll_s

    def _may_have_expired(self) -> bool:
        last_valid = self._signed.last_valid_block_height
        height = self._crew.pool.block_clock.height()
        if last_valid is None:
            return False
        return height is None or height > last_valid or self._elapsed_s() >= self._crew.policy.alert_after_s

    def _tell(self, finding: Finding) -> None:
        """Keep the progress and log what changed in kind."""
        texts = {
            Sight.UNKNOWN: f"not known: {finding.why}",
            Sight.NOTHING: "not on the chain yet",
            Sight.SEEN: f"in slot {finding.slot}, not confirmed yet",
        }
        self.progress = texts.get(finding.sight, "")
        elapsed_s = self._elapsed_s()
        if elapsed_s >= self._crew.policy.alert_after_s and not self._alerted:
            self._alerted = True
            self._say(
                Level.ERROR, "TX", f"{self._signed.signature} is unresolved after {elapsed_s:.0f} s ({self.progress})"
            )

    def _say(self, level: Level, tag: str, text: str) -> None:
        self._crew.log(level, tag, text, {"operation": self._signed.operation_id, "signature": self._signed.signature})
