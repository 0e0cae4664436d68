"""``python loaded_engine.py engine ...``: the product's engine process, under the load that its standard input sets.

Everything is put together by ``deltatui.assembly`` as for ``deltatui engine``. Different are: the tape's price wanders
between two records as a market's does, the source looks at it as often as it is told (the product: ten times a second),
and lines are added to the log, through the product's own, until there are as many as it is told.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Coroutine, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from deltatui import cli
from deltatui.api.server import Server
from deltatui.assembly import replay
from deltatui.domain.event import Level, LogLine
from deltatui.domain.facts import Fact
from deltatui.domain.redact import Redactor
from deltatui.engine.engine import Engine
from deltatui.feeds import recorded
from deltatui.feeds.tape import Tape
from deltatui.log import Logs
from deltatui.ports import Clock
from deltatui.settings import Settings

PRODUCT_PRICES_PER_S = 10
_WALK_BPS, _PULL = 0.3, 0.002
"""A step of the price and how strongly it is drawn back to the tape's: it stays within some 5 bps of it."""
_BASIS_BPS = 1.0
_LINES_S = 0.02
LATEST_S = 0.05


class Load(msgspec.Struct, frozen=True):
    """Prices a second that reach the engine, and log lines a second, the engine's own among them."""

    prices_per_s: int = PRODUCT_PRICES_PER_S
    lines_per_s: int = 0


class Taken(msgspec.Struct, frozen=True):
    """What the engine took in until ``at_s`` (``time.perf_counter``): facts with a price that was not the last one, and
    lines of the log handed to the server."""

    at_s: float
    prices: int
    lines: int


class _Present:
    """Of this process."""

    load = Load()
    prices = 0
    lines = 0


class Walk(Tape):
    """A tape whose price moves at every look."""

    def __init__(self, tape: Tape) -> None:
        super().__init__(tape.name, tape.records, tape.digest)
        self._random = random.Random(13)
        self._bps = 0.0

    def price_at(self, market_s: float) -> tuple[Decimal, Decimal, bool]:
        oracle, mark, _ = super().price_at(market_s)
        self._bps += self._random.gauss(0, _WALK_BPS) - _PULL * self._bps
        basis_bps = self._bps + self._random.gauss(0, _BASIS_BPS)
        return _moved(oracle, self._bps), _moved(mark, basis_bps), False


def _moved(price: Decimal, bps: float) -> Decimal:
    return (price * (1 + Decimal(str(round(bps, 4))) / 10_000)).quantize(Decimal("0.000001"))


class PacedClock:
    """A clock for the source alone, which keeps its pace whatever the engine's steps take: its sleep ends when the next
    price is due. What is later than LATEST_S is not made up for, so a load that is too much shows in what was taken."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due_s = 0.0
        self.market_s, self.operator_s = clock.market_s, clock.operator_s

    async def sleep(self, operator_seconds: float) -> None:
        now_s = self._clock.operator_s()
        self._due_s += operator_seconds
        if not now_s - LATEST_S < self._due_s < now_s + operator_seconds:
            self._due_s = now_s + operator_seconds
        await self._clock.sleep(max(0.0, self._due_s - now_s))


class PacedSource(recorded.RecordedSource):
    def __init__(
        self, tapes: Mapping[str, Tape], clock: Clock, tempo: recorded.Tempo, last_record_s: Mapping[str, float]
    ) -> None:
        super().__init__(tapes, PacedClock(clock), tempo, last_record_s)


class CountingEngine(Engine):
    _price: Decimal | None = None

    async def take(self, fact: Fact) -> None:
        await super().take(fact)
        market = self.core.world.market(fact.instrument)
        if market is not None and market.oracle != self._price:
            self._price = market.oracle
            _Present.prices += 1


class LoadedServer(Server):
    """Counts the lines on their way to the clients; brings the source of more lines and the answers on stdout."""

    async def start(self) -> None:
        await super().start()
        self._extra = [_or_die(_add_lines()), _or_die(_obey())]

    def publish_log(self, line: LogLine) -> None:
        _Present.lines += 1
        super().publish_log(line)

    async def close(self, reason: str = "the engine stops") -> None:
        for task in self._extra:
            task.cancel()
        await super().close(reason)


def _or_die(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A load that ends silently would be a wrong measurement."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            print(f"the load has ended: {task.exception()!r}", file=sys.stderr, flush=True)
            os._exit(3)

    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(ended)
    return task


async def _add_lines() -> None:
    logs = Logs(Redactor())
    chosen = random.Random(5)
    load, began_s, began, number = _Present.load, time.perf_counter(), _Present.lines, 0
    while True:
        await asyncio.sleep(_LINES_S)
        if _Present.load is not load:
            load, began_s, began = _Present.load, time.perf_counter(), _Present.lines
        due = began + int(load.lines_per_s * (time.perf_counter() - began_s))
        for _ in range(_Present.lines, due):
            number += 1
            level = Level.WARNING if chosen.random() < 0.05 else Level.INFO
            text = f"SOL-PERP order {number} of the load: bid {chosen.uniform(140, 160):.4f} size 1.250 SOL, "
            logs(level, "BENCH", text + f"answered after {chosen.uniform(1, 90):.1f} ms", {"number": number})


async def _obey() -> None:
    """Each line of standard input is a load, or empty to keep the present one; the answer is what was taken in."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    while line := await reader.readline():
        if line.strip():
            _Present.load = msgspec.json.decode(line, type=Load)
            _put(recorded, "_TICK_S", 1 / _Present.load.prices_per_s)
        taken = Taken(time.perf_counter(), _Present.prices, _Present.lines)
        print(msgspec.json.encode(taken).decode(), flush=True)
    await asyncio.Event().wait()  # whoever gave orders has gone; the engine is ended by its signal


def _put(module: object, name: str, value: object) -> None:
    """AttributeError if the product has no such name any more: then this load is none."""
    getattr(module, name)
    setattr(module, name, value)


_product_tapes = replay.replay_tapes


def _walks(settings: Settings) -> dict[str, Tape]:
    return {symbol: Walk(tape) for symbol, tape in _product_tapes(settings).items()}


if __name__ == "__main__":
    _put(replay, "replay_tapes", _walks)
    _put(replay, "RecordedSource", PacedSource)
    _put(replay, "Engine", CountingEngine)
    _put(replay, "Server", LoadedServer)
    cli.main()
