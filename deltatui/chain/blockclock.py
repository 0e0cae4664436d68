"""Slots and block heights as a clock, measured from the chain; nothing is a multiple of 400 ms (R8.5)."""

from __future__ import annotations

import struct
from collections import deque
from statistics import median
from typing import TYPE_CHECKING

from deltatui.ports import Clock

if TYPE_CHECKING:
    from deltatui.chain.rpc import Calls

_WINDOW_S = 120.0
_LEAST_SPAN_S = 10.0
_SLOT_S_BOUNDS = (0.05, 2.0)
_SKEW_SAMPLES = 5
_SLOWEST_SKEW_READ_S = 2.0
CLOCK_SYSVAR = "SysvarC1ock11111111111111111111111111111111"
# slot, start of the epoch, epoch, epoch of the leader schedule, unix time
_CLOCK = struct.Struct("<QqQQq")


class BlockClock:
    """Fed with (operator time, slot, block height) from every endpoint; the farthest observation counts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int, int]] = deque()
        self._seed_slot_s: float | None = None
        self._skews_s: deque[float] = deque(maxlen=_SKEW_SAMPLES)

    def observe(self, at_s: float, slot: int, height: int) -> None:
        if self._seen and at_s < self._seen[-1][0]:
            self._seen.clear()  # the clock was set back: old times mean nothing any more
        if self._seen and (slot <= self._seen[-1][1] or height < self._seen[-1][2]):
            return  # a node that is behind, or a fork that was left
        self._seen.append((at_s, slot, height))
        while self._seen[0][0] < at_s - _WINDOW_S:
            self._seen.popleft()

    async def seed(self, rpc: Calls) -> None:
        """A first slot length from the node's own samples, until enough was observed."""
        samples = [each for each in await rpc.performance_samples() if each.num_slots > 0]
        slots = sum(each.num_slots for each in samples)
        if slots:
            self._seed_slot_s = _clamp(sum(each.sample_period_secs for each in samples) / slots)

    async def measure_skew(self, rpc: Calls) -> None:
        """Compare our clock with the chain's Clock account (whole seconds, so good to about one)."""
        before_s = self._clock.operator_s()
        reply = await rpc.account(CLOCK_SYSVAR, "processed")
        after_s = self._clock.operator_s()
        data = reply.value.decoded() if reply.value is not None else b""
        if len(data) < _CLOCK.size or not 0.0 <= after_s - before_s <= _SLOWEST_SKEW_READ_S:
            return
        self._skews_s.append((before_s + after_s) / 2 - (_CLOCK.unpack_from(data)[4] + 0.5))

    def skew_s(self) -> float | None:
        """How far our clock is ahead of the chain's (median of the last five); None while not measured."""
        return median(self._skews_s) if self._skews_s else None

    def slot_s(self) -> float | None:
        """Seconds of a slot; None while nothing was measured."""
        return self._rate(1) or self._seed_slot_s

    def block_s(self) -> float | None:
        """Seconds of a block (skipped slots make it longer than a slot)."""
        return self._rate(2) or self._seed_slot_s

    def slot(self) -> int | None:
        return self._reached(1, self.slot_s())

    def height(self) -> int | None:
        """Confirmed block height that the chain should have reached by now."""
        return self._reached(2, self.block_s())

    def age_s(self) -> float | None:
        """Seconds since the chain was last seen to advance."""
        return self._clock.operator_s() - self._seen[-1][0] if self._seen else None

    def observed_height(self) -> int | None:
        """The greatest block height that a node has told us, without carrying it on."""
        return self._seen[-1][2] if self._seen else None

    def life_s(self, last_valid_block_height: int) -> float | None:
        """Seconds until that height is passed, negative after it; None while not known."""
        height, block_s = self.height(), self.block_s()
        return None if height is None or block_s is None else (last_valid_block_height - height) * block_s

    def _rate(self, column: int) -> float | None:
        if not self._seen:
            return None
        first, last = self._seen[0], self._seen[-1]
        span_s, count = last[0] - first[0], last[column] - first[column]
        return _clamp(span_s / count) if span_s >= _LEAST_SPAN_S and count > 0 else None

    def _reached(self, column: int, each_s: float | None) -> int | None:
        if not self._seen or each_s is None:
            return None
        elapsed_s = max(0.0, self._clock.operator_s() - self._seen[-1][0])
        return int(self._seen[-1][column]) + int(elapsed_s / each_s)


def _clamp(slot_s: float) -> float:
    return min(max(slot_s, _SLOT_S_BOUNDS[0]), _SLOT_S_BOUNDS[1])
