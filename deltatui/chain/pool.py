"""Several endpoints as one: the healthiest first, the next one when it fails, all of them for a broadcast."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from deltatui.chain import wire
from deltatui.chain.blockclock import BlockClock
from deltatui.chain.bucket import TokenBucket
from deltatui.chain.errors import RpcError
from deltatui.chain.http import Transport
from deltatui.chain.rpc import Calls, Endpoint, EndpointConfig, secret_parts
from deltatui.domain.errors import CriticalError, TransientError, ValidationError
from deltatui.domain.event import Level
from deltatui.ports import Clock, Log

T = TypeVar("T")

GENESIS = {
    "mainnet": "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d",
    "devnet": "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG",
}
"""Network -> genesis hash; a local network has its own."""
RETRY_PAUSES_S = (1.0, 2.0, 4.0)
"""R9.1."""
_BENCH_AFTER = 3
_BENCH_S = 15.0
_LONGEST_RATE_WAIT_S = 2.0
_LATENCIES = 20
_SCORE_PER_LAG_S = 1000.0
_SCORE_PER_ERROR = 500.0
_UNMEASURED_MS = 250.0


class EndpointStatus(msgspec.Struct, frozen=True):
    """``latency_ms`` is the p50 of the last 20 replies. ``lag_slots`` counts behind the best endpoint of the pool."""

    label: str
    latency_ms: float | None
    slot: int | None
    lag_slots: int | None
    lag_s: float | None
    errors_in_row: int
    last_error: str
    benched: bool
    rate_wait_s: float


class Answer(msgspec.Struct, Generic[T], frozen=True):
    """What one endpoint of several said: a value or an error."""

    label: str
    value: T | None = None
    error: TransientError | ValidationError | None = None


class _Member:
    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.latencies_ms: deque[float] = deque(maxlen=_LATENCIES)
        self.errors_in_row = 0
        self.last_error = ""
        self.benched_until_s = float("-inf")
        self.slot: int | None = None
        self.slot_at_s = 0.0
        self.foreign = False

    def latency_ms(self) -> float | None:
        ordered = sorted(self.latencies_ms)
        return ordered[len(ordered) // 2] if ordered else None


class Pool(Calls):
    """Ranked by latency, slot lag and errors (R8.7). A call goes to the best endpoint, then down the ranking, and is
    repeated after 1, 2 and 4 s while the failure is transient."""

    def __init__(
        self,
        configs: Sequence[EndpointConfig],
        clock: Clock,
        transport: Transport,
        block_clock: BlockClock,
        log: Log,
        genesis: str = "",
    ) -> None:
        """``genesis`` is the genesis hash of the chain that is meant; empty takes the first answer for it."""
        if not configs:
            raise ValidationError("NO_RPC", "live mode needs at least one RPC URL")
        self._clock = clock
        self._log = log
        self._transport = transport
        self.block_clock = block_clock
        self._genesis = genesis
        buckets: dict[str, TokenBucket] = {}
        secrets = [part for config in configs for part in secret_parts(config.url)]
        self._members: list[_Member] = []
        for config in _with_own_labels(configs):
            if config.host not in buckets:
                buckets[config.host] = TokenBucket(clock, config.requests_per_s, config.burst)
            endpoint = Endpoint(config, clock, transport, buckets[config.host], secrets)
            self._members.append(_Member(endpoint))

    async def call(self, method: str, params: Sequence[Any], result: type[T]) -> T:
        for pause_s in (*RETRY_PAUSES_S, None):
            try:
                return await self.call_once(method, params, result)
            except TransientError:
                if pause_s is None:
                    raise
            await self._clock.sleep(pause_s)
        raise AssertionError("unreachable")

    async def call_once(self, method: str, params: Sequence[Any], result: type[T]) -> T:
        """Once down the ranking, no waiting in between. The best endpoint's error is raised when all fail, a
        transient one before a refusal (some endpoint may still answer)."""
        failures: list[RpcError] = []
        for member in self._reachable():
            try:
                return await self._ask(member, lambda endpoint: endpoint.call(method, params, result))
            except RpcError as error:
                if not error.elsewhere:
                    raise
                failures.append(error)
        raise next((each for each in failures if isinstance(each, TransientError)), failures[0])

    async def everyone(self, ask: Callable[[Endpoint], Awaitable[T]]) -> list[Answer[T]]:
        """Ask every endpoint at the same time, best first in the list. Those that are set aside, or that have asked us
        to wait, are left out while others are there."""
        members = self._reachable()
        now = self._clock.operator_s()
        awake = [member for member in members if member.benched_until_s <= now] or members

        async def one(member: _Member) -> Answer[T]:
            try:
                return Answer(member.endpoint.label, await self._ask(member, ask))
            except (TransientError, ValidationError) as error:
                return Answer(member.endpoint.label, error=error)

        return list(await asyncio.gather(*(one(member) for member in awake)))

    async def broadcast(self, raw: bytes) -> list[Answer[str]]:
        """The same bytes to every endpoint."""
        return await self.everyone(lambda endpoint: endpoint.send(raw))

    async def same_chain(self, endpoint: Endpoint) -> bool:
        """Whether this endpoint is on the pool's chain. What a node of another chain does not know proves nothing."""
        found = await endpoint.chain()
        self._genesis = self._genesis or found
        return found == self._genesis

    async def probe(self) -> None:
        """Read slot and height of every endpoint, for the ranking and for the block clock. An endpoint of another
        chain is never asked again."""

        async def one(member: _Member) -> None:
            try:
                if not await self._ask(member, self.same_chain):
                    member.foreign = True
                    label = member.endpoint.label
                    self._log(Level.CRITICAL, "TX", f"RPC {label} is on another chain; it is not used", None)
                    return
                info = await self._ask(member, lambda endpoint: endpoint.epoch_info("confirmed"))
            except RpcError:
                return  # kept in the member's record
            self._saw(member, info)

        await asyncio.gather(*(one(member) for member in self._members if not member.foreign))

    async def watch(self, every_s: float = 5.0) -> None:
        """Probe for ever; measure slot length at the start and the clock skew once a minute."""
        await self._measure(self.block_clock.seed)
        for turn in itertools.count():
            await self.probe()
            if turn % 12 == 0:
                await self._measure(self.block_clock.measure_skew)
            await self._clock.sleep(every_s)

    def latency_ms(self) -> float | None:
        """Of the endpoint that would be asked now (R6.3); None while nothing was measured."""
        return self._ranked()[0].latency_ms()

    def status(self) -> tuple[EndpointStatus, ...]:
        now = self._clock.operator_s()
        found = []
        for member in self._ranked():
            lag = self._lag_slots(member)
            found.append(
                EndpointStatus(
                    label=member.endpoint.label,
                    latency_ms=member.latency_ms(),
                    slot=member.slot,
                    lag_slots=lag,
                    lag_s=self._lag_s(lag),
                    errors_in_row=member.errors_in_row,
                    last_error=member.last_error,
                    benched=member.benched_until_s > now,
                    rate_wait_s=member.endpoint.bucket.wait_s(),
                )
            )
        return tuple(found)

    async def close(self) -> None:
        await self._transport.close()

    async def _measure(self, measure: Callable[[Calls], Awaitable[None]]) -> None:
        try:
            await measure(self)
        except (TransientError, ValidationError) as error:
            self._log(Level.WARNING, "TX", f"the chain's clock could not be measured: {error.sentence}", None)

    async def _ask(self, member: _Member, ask: Callable[[Endpoint], Awaitable[T]]) -> T:
        waited_s = member.endpoint.bucket.wait_s()
        started_s = self._clock.operator_s()
        try:
            value = await ask(member.endpoint)
        except RpcError as error:
            self._failed(member, error)
            raise
        took_s = self._clock.operator_s() - started_s - waited_s
        member.latencies_ms.append(max(0.0, took_s) * 1000.0)
        if member.errors_in_row >= _BENCH_AFTER:
            self._log(Level.INFO, "TX", f"RPC {member.endpoint.label} answers again", None)
        member.errors_in_row = 0
        member.benched_until_s = float("-inf")
        return value

    def _failed(self, member: _Member, error: RpcError) -> None:
        member.last_error = error.code
        if error.code == "RPC_RATE_LIMITED":
            member.endpoint.bucket.block(min(error.retry_after_s or 1.0, 60.0))
        if not error.elsewhere or error.code in ("RPC_METHOD_UNKNOWN", "RPC_NO_HISTORY", "RPC_SLOT_SKIPPED"):
            return  # says nothing about the endpoint's health
        member.errors_in_row += 1
        if member.errors_in_row >= _BENCH_AFTER:
            member.benched_until_s = self._clock.operator_s() + _BENCH_S
        if member.errors_in_row == _BENCH_AFTER:
            self._log(Level.WARNING, "TX", f"RPC {member.endpoint.label} is set aside: {error.sentence}", None)

    def _saw(self, member: _Member, info: wire.EpochInfo) -> None:
        now = self._clock.operator_s()
        member.slot, member.slot_at_s = info.absolute_slot, now
        self.block_clock.observe(now, info.absolute_slot, info.block_height)

    def _lag_slots(self, member: _Member) -> int | None:
        """Behind the endpoint that is farthest, each carried on to now at the measured slot length."""
        slot_s = self.block_clock.slot_s()
        if member.slot is None:
            return None

        def reached(each: _Member) -> float:
            return (each.slot or 0) - (each.slot_at_s / slot_s if slot_s else 0.0)

        best = max(reached(each) for each in self._members if each.slot is not None and not each.foreign)
        return max(0, round(best - reached(member)))

    def _lag_s(self, lag_slots: int | None) -> float | None:
        slot_s = self.block_clock.slot_s()
        return None if lag_slots is None or slot_s is None else lag_slots * slot_s

    def _reachable(self) -> list[_Member]:
        """By rank, without those that a rate limit would make us wait for, unless there are no others."""
        members = self._ranked()
        return [each for each in members if each.endpoint.bucket.wait_s() <= _LONGEST_RATE_WAIT_S] or members

    def _ranked(self) -> list[_Member]:
        now = self._clock.operator_s()

        def score(member: _Member) -> tuple[bool, float]:
            latency_ms = member.latency_ms()
            lag_s = self._lag_s(self._lag_slots(member)) or 0.0
            points = _UNMEASURED_MS if latency_ms is None else latency_ms
            points += member.errors_in_row * _SCORE_PER_ERROR + member.endpoint.bucket.wait_s() * 1000.0
            # A few slots apart is the time between two probes, not a node that hangs.
            points += max(0.0, lag_s - 2.0) * _SCORE_PER_LAG_S
            return (member.benched_until_s > now, points)

        usable = [member for member in self._members if not member.foreign]
        if not usable:
            raise CriticalError("WRONG_CHAIN", "every configured RPC endpoint is on another chain than the one meant")
        return sorted(usable, key=score)


def _with_own_labels(configs: Sequence[EndpointConfig]) -> list[EndpointConfig]:
    """Two endpoints of one host get #2, #3 after their label."""
    seen: dict[str, int] = {}
    named = []
    for config in configs:
        number = seen[config.label] = seen.get(config.label, 0) + 1
        named.append(config if number == 1 else msgspec.structs.replace(config, name=f"{config.label}#{number}"))
    return named
