"""A token bucket for one host."""

from __future__ import annotations

from deltatui.domain.errors import ValidationError
from deltatui.ports import Clock


class TokenBucket:
    """At most ``burst`` calls at once and ``per_second`` on average. Callers are served in the order they came."""

    def __init__(self, clock: Clock, per_second: float, burst: int) -> None:
        if per_second <= 0 or burst < 1:
            raise ValidationError(
                "BAD_RATE",
                f"a rate limit needs a positive rate and a burst of at least 1, not {per_second} and {burst}",
            )
        self._clock = clock
        self._interval_s = 1.0 / per_second
        self._slack_s = (burst - 1) * self._interval_s
        self._full_at_s = float("-inf")
        self._blocked_until_s = float("-inf")
        self._seen_s = float("-inf")

    def wait_s(self) -> float:
        """How long a call that came now would wait."""
        now = self._now()
        return max(0.0, self._full_at_s - self._slack_s - now, self._blocked_until_s - now)

    def block(self, seconds: float) -> None:
        """Let nobody through for ``seconds`` (the host's Retry-After)."""
        self._blocked_until_s = max(self._blocked_until_s, self._now() + seconds)

    async def take(self) -> None:
        now = self._now()
        wait_s = self.wait_s()
        self._full_at_s = max(self._full_at_s, now + wait_s) + self._interval_s
        if wait_s > 0:
            await self._clock.sleep(wait_s)

    def _now(self) -> float:
        now = self._clock.operator_s()
        if now < self._seen_s:
            # The clock was set back; the waits must not grow by the jump.
            self._full_at_s += now - self._seen_s
            self._blocked_until_s += now - self._seen_s
        self._seen_s = now
        return now
