"""A real engine under a load that can be set, and what of it was reached: in the engine, and at one of its clients."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bench import loaded_engine
from bench.loaded_engine import Load, Taken
from bench.table import Row

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from engine_probe import EngineProcess, Lag, Probe, write_tape

from deltatui.api.client import Client
from deltatui.api.protocol import LogBatch, SnapshotMessage
from deltatui.domain.command import AnyCommand
from deltatui.domain.snapshot import Snapshot

RECORDS = 9_000
"""Of the tape: a year of hours."""
LEAST_SHARE = 0.95
"""Of a load. With less of it reached, the figures beside it are those of another load."""


class Reached(msgspec.Struct, frozen=True):
    """Each a second. ``news``: snapshots with another price than the one before; ``dropped``: lines that were lost to
    this client."""

    prices: float
    snapshots: float
    news: float
    lines: float
    dropped: float


class _Client:
    """A client in a thread of its own, which counts what it receives until it is closed."""

    def __init__(self, engine: EngineProcess) -> None:
        self._engine = engine
        self.snapshots = self.news = self.lines = self.dropped = 0
        self._attached = threading.Event()
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), name="counting")
        self._thread.start()
        if not self._attached.wait(20):
            raise AssertionError("the counting client found no engine")

    async def _run(self) -> None:
        client = await self._engine.client()
        counting = asyncio.create_task(self._count(client))
        self._attached.set()
        await self._stop.wait()
        await client.close()
        await counting

    async def _count(self, client: Client) -> None:
        price: float | None = None
        async for message in client:
            if isinstance(message, LogBatch) and not message.backlog:
                self.lines += len(message.lines)
                self.dropped += message.dropped
            elif isinstance(message, SnapshotMessage):
                self.snapshots += 1
                (hedge,) = message.snapshot.hedges
                if hedge.prices.oracle != price:
                    price = hedge.prices.oracle
                    self.news += 1

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()


class LoadedEngine(EngineProcess):
    """``bench/loaded_engine.py`` on a tape of a year."""

    def __init__(self, home: Path, speed: int) -> None:
        program = (sys.executable, loaded_engine.__file__)
        super().__init__(home, write_tape(home / "tape.csv", RECORDS), speed, program)

    def put(self, load: Load | None = None) -> Taken:
        """Set the load, or leave it; what the engine has taken in up to now."""
        orders, answers = self.process.stdin, self.process.stdout
        assert orders is not None
        assert answers is not None
        orders.write((b"" if load is None else msgspec.json.encode(load)) + b"\n")
        orders.flush()
        line = answers.readline()
        if not line:
            raise AssertionError(f"the engine is gone; {self.output()}")
        return msgspec.json.decode(line, type=Taken)

    @contextmanager
    def under(self, load: Load) -> Iterator[list[Reached]]:
        """Put the load on; when left, the list has what was reached of it in the meantime."""
        reached: list[Reached] = []
        self.put(load)
        client = _Client(self)
        try:
            began = self.put()
            yield reached
            ended = self.put()
        finally:
            client.close()
        seconds = ended.at_s - began.at_s
        reached.append(
            Reached(
                (ended.prices - began.prices) / seconds,
                client.snapshots / seconds,
                client.news / seconds,
                client.lines / seconds,
                client.dropped / seconds,
            )
        )

    def tell(self, *commands: AnyCommand) -> None:
        async def send() -> None:
            client = await self.client()
            for command in commands:
                result = await client.command(command)
                assert result.success, f"{command}: {result.code} {result.message}"
            await client.close()

        asyncio.run(send())

    def until(self, condition: Callable[[Snapshot], bool]) -> Snapshot:
        async def wait() -> Snapshot:
            probe = await Probe.attach(self)
            snapshot = await probe.until(condition)
            await probe.close()
            return snapshot

        return asyncio.run(wait())

    def lag(self, seconds: float) -> Lag:
        async def ping() -> Lag:
            probe = await Probe.attach(self)
            lag = await probe.measure(seconds)
            await probe.close()
            return lag

        return asyncio.run(ping())


@contextmanager
def loaded(home: Path, speed: int) -> Iterator[LoadedEngine]:
    engine = LoadedEngine(home, speed)
    try:
        yield engine
    finally:
        engine.close()


def rows(load: Load, reached: Reached, name: str) -> list[Row]:
    """What was reached of a load, against the least of it that makes figures under it count."""
    seen = f"a client: {reached.snapshots:.1f} snapshots/s, {reached.news:.1f} with another price"
    lost = f"{reached.dropped:,.0f}/s dropped" if reached.dropped else ""
    return [
        Row(
            f"{name}: prices that the engine took",
            reached.prices,
            "/s",
            None,
            load.prices_per_s * LEAST_SHARE,
            True,
            seen,
        ),
        Row(f"{name}: log lines at a client", reached.lines, "/s", None, load.lines_per_s * LEAST_SHARE, True, lost),
    ]
