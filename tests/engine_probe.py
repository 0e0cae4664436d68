"""A real engine process on a made-up tape, and a measure of how its event loop answers."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import msgspec
from pty_terminal import PtyTerminal

from deltatui.api.client import Client
from deltatui.api.protocol import SnapshotMessage
from deltatui.domain.errors import TransientError
from deltatui.domain.snapshot import Snapshot
from deltatui.paths import Paths

DELTATUI = (sys.executable, "-m", "deltatui")
SPEED = 604_800
FIRST_S = 1_577_836_800
BLOCKED_MS = 100.0
"""A loop that stood this long was blocked, whatever the machine does otherwise."""
_PING_EVERY_S = 0.005


def write_tape(path: Path, records: int = 40_000) -> Path:
    """Hourly records at about 100 % a year, so that the engine holds a position and is paid on each of them."""
    lines = ["ts,fundingRate,fundingRateLong,fundingRateShort,oraclePriceTwap,markPriceTwap,periodRevenue"]
    for number in range(records):
        price = 150 + 10 * math.sin(number / 500)
        rate = price * (1.0 + 0.2 * math.sin(number / 24)) / 8760
        lines.append(
            f"{FIRST_S + 3600 * number},{rate:.9f},{rate:.9f},{rate:.9f},{price:.6f},{price * 1.0001:.6f},0.000000"
        )
    path.write_text("\n".join(lines) + "\n")
    return path


class EngineProcess:
    """``deltatui engine`` in a home of its own. ``program`` in place of ``deltatui`` is talked to over its pipes."""

    def __init__(self, home: Path, tape: Path, speed: int = SPEED, program: Sequence[str] | None = None) -> None:
        self.home = home
        self.env = {**os.environ, "DELTATUI_HOME": str(home)}
        self.paths = Paths.of("default", self.env)
        self._log = (home / "engine.out").open("wb")
        self.process = subprocess.Popen(
            [*(program or DELTATUI), "engine", "--tape", str(tape), "--speed", str(speed)],
            cwd=home,
            env=self.env,
            stdin=subprocess.PIPE if program else subprocess.DEVNULL,
            stdout=subprocess.PIPE if program else self._log,
            stderr=self._log,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    async def client(self, timeout_s: float = 20.0) -> Client:
        """A client as soon as the engine answers."""
        end_s = time.monotonic() + timeout_s
        while True:
            try:
                return await Client.connect(self.paths.socket, name="probe", log_backlog=0, event_backlog=0)
            except TransientError as error:
                if self.process.poll() is not None or time.monotonic() > end_s:
                    raise AssertionError(f"no engine: {error.sentence}; {self.output()}") from error
                await asyncio.sleep(0.02)

    def output(self) -> str:
        return (self.home / "engine.out").read_text(errors="replace")[-2000:]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self._log.close()


@contextmanager
def engine_process(home: Path, tape: Path, speed: int = SPEED) -> Iterator[EngineProcess]:
    engine = EngineProcess(home, tape, speed)
    try:
        yield engine
    finally:
        engine.close()


class Lag(msgspec.Struct, frozen=True):
    """How an engine answered for a while. Milliseconds; ``gap`` is between two snapshots, ``loop`` what the engine
    itself measured. The time that engine and probe waited for a processor is taken off (where the kernel tells it):
    that is the machine's, not a block."""

    seconds: float
    samples: int
    p50_ms: float
    p99_ms: float
    worst_ms: float
    gap_worst_ms: float
    loop_worst_ms: float
    market_s: float
    snapshots: int

    def beyond(self, baseline: Lag) -> float:
        """By how much the worst answer exceeds what is usual without the disturbance."""
        return max(0.0, self.worst_ms - baseline.p99_ms)

    def __str__(self) -> str:
        return (
            f"p50 {self.p50_ms:.1f} p99 {self.p99_ms:.1f} worst {self.worst_ms:.1f} ms, snapshots {self.snapshots} "
            f"(gap {self.gap_worst_ms:.0f} ms), loop lag {self.loop_worst_ms:.1f} ms, market +{self.market_s:.0f} s"
        )


class Probe:
    """A second client of an engine that reads all the time and pings on demand."""

    def __init__(self, engine: EngineProcess, client: Client) -> None:
        self.engine = engine
        self.client = client
        self._arrivals: list[tuple[float, Snapshot]] = []
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def attach(cls, engine: EngineProcess) -> Probe:
        return cls(engine, await engine.client())

    async def _read(self) -> None:
        async for message in self.client:
            if isinstance(message, SnapshotMessage):
                self._arrivals.append((time.perf_counter(), message.snapshot))
                self._news.set()

    async def measure(self, seconds: float) -> Lag:
        """Ping as fast as is polite for so long."""
        self._arrivals.clear()
        rounds: list[float] = []
        end_s = time.perf_counter() + seconds
        while time.perf_counter() < end_s:
            waited_s = self._waited_s()
            round_trip_s = await self.client.ping(timeout_s=30.0)
            rounds.append(max(0.0, round_trip_s - (self._waited_s() - waited_s)) * 1e3)
            await asyncio.sleep(_PING_EVERY_S)
        times = [at for at, _ in self._arrivals]
        snapshots = [snapshot for _, snapshot in self._arrivals]
        market = [snapshot.clock.market_s for snapshot in snapshots if snapshot.clock.market_s is not None]
        cuts = statistics.quantiles(rounds, n=100)
        return Lag(
            seconds=seconds,
            samples=len(rounds),
            p50_ms=cuts[49],
            p99_ms=cuts[98],
            worst_ms=max(rounds),
            gap_worst_ms=max((after - before for before, after in pairwise(times)), default=math.inf) * 1e3,
            loop_worst_ms=max((snapshot.engine.loop_lag_ms or 0.0 for snapshot in snapshots), default=math.inf),
            market_s=market[-1] - market[0] if market else 0.0,
            snapshots=len(snapshots),
        )

    def _waited_s(self) -> float:
        return run_queue_s(self.engine.pid) + run_queue_s(os.getpid())

    async def until(self, condition: Callable[[Snapshot], bool]) -> Snapshot:
        """The first snapshot of which ``condition`` is true; TimeoutError if none comes within 20 s."""
        async with asyncio.timeout(20):
            while (snapshot := self.client.snapshot) is None or not condition(snapshot):
                self._news.clear()
                await self._news.wait()
        return snapshot

    async def close(self) -> None:
        await self.client.close()
        await self._reader


def run_queue_s(pid: int) -> float:
    """Seconds that the main thread of ``pid`` was ready and no processor was free for it; 0 where nobody counts."""
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


DISTURBANCES: dict[str, Callable[[PtyTerminal], object]] = {
    "stopped": lambda terminal: terminal.signal(signal.SIGSTOP),
    "killed": lambda terminal: terminal.signal(signal.SIGKILL),
    "hung up": PtyTerminal.hang_up,
    "stalled": PtyTerminal.stall,
}
"""What can become of a terminal."""


def attach(engine: EngineProcess, *words: str, ignores_hangup: bool = False) -> PtyTerminal:
    """A terminal on the engine that has drawn its first figures."""
    terminal = PtyTerminal([*DELTATUI, "attach", *words], engine.env, cwd=engine.home, ignores_hangup=ignores_hangup)
    try:
        terminal.wait_for("equity")
        terminal.wait_for("$")
    except BaseException:
        terminal.close()
        raise
    return terminal


async def disturb(probe: Probe, how: str, seconds: float) -> tuple[Lag, Lag]:
    """The engine's lag beside a healthy terminal, and after ``how`` has befallen it."""
    terminal = await asyncio.to_thread(attach, probe.engine)
    try:
        baseline = await probe.measure(max(1.5, seconds / 6))
        DISTURBANCES[how](terminal)
        lag = await probe.measure(seconds)
        if how == "stalled":
            # It is stuck: what it wants to draw nobody takes.
            assert terminal.backlog > 1000
            assert terminal.process.poll() is None
        return baseline, lag
    finally:
        await asyncio.to_thread(terminal.close)


async def undisturbed(
    probe: Probe, how: str, seconds: float, *, most_ms: float, tries: int = 3
) -> tuple[bool, list[tuple[Lag, Lag]]]:
    """Whether ``how`` moves the engine's loop by no more than ``most_ms``.

    Other programs on the machine move it too, and not twice at the same moment: a block comes back in every try, noise
    does not, so one quiet try of ``tries`` is enough. Returns the verdict and every pair of baseline and lag.
    """
    seen: list[tuple[Lag, Lag]] = []
    for _ in range(tries):
        baseline, lag = await disturb(probe, how, seconds)
        seen.append((baseline, lag))
        if lag.beyond(baseline) <= most_ms and lag.worst_ms < BLOCKED_MS and lag.loop_worst_ms < BLOCKED_MS:
            return True, seen
    return False, seen
