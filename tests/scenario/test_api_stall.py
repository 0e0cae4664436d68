"""A client that stops reading costs the engine nothing, costs the others nothing, and finds its way back."""

from __future__ import annotations

import asyncio
import socket
import statistics
import time
import tracemalloc

import pytest
from snapshots import make_snapshot
from wire import Wire, eventually, running, settle

from deltatui.api.protocol import (
    PROTOCOL_VERSION,
    Bye,
    CommandMessage,
    Hello,
    LogBatch,
    Ping,
    ResultMessage,
    SnapshotMessage,
    Welcome,
    decode_server,
    encode,
)
from deltatui.domain.command import Pause
from deltatui.domain.event import Level, LogLine

SNAPSHOTS = 2_000
LINES = 20_000


def line(number: int) -> LogLine:
    return LogLine(number, Level.INFO, "TX", f"line {number} " + "x" * 100, 1.0)


async def stalled(wire: Wire) -> socket.socket:
    """A client that says HELLO over a raw socket with a small buffer and then reads nothing."""
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, str(wire.path))
    await loop.sock_sendall(raw, encode(Hello(PROTOCOL_VERSION, "stalled")) + b"\n")
    before = wire.server.clients
    await eventually(lambda: wire.server.clients == before + 1)
    return raw


async def flood(wire: Wire) -> list[float]:
    """Publish everything, letting the other tasks run in between; seconds of each publish()."""
    took: list[float] = []
    number = 0
    for version in range(2, SNAPSHOTS + 2):
        snapshot = make_snapshot(version=version)
        began = time.perf_counter()
        wire.server.publish(snapshot)
        took.append(time.perf_counter() - began)
        for _ in range(LINES // SNAPSHOTS):
            wire.server.publish_log(line(number))
            number += 1
        await asyncio.sleep(0)
    return took


@pytest.mark.serial
async def test_a_stalled_client_costs_the_engine_and_the_others_nothing() -> None:
    async with running(log_batch_s=0.001) as wire:
        raw = await stalled(wire)
        reading = await wire.client()
        lines: list[int] = []
        versions: list[int] = []
        dropped = 0

        async def read() -> None:
            nonlocal dropped
            async for message in reading:
                if isinstance(message, LogBatch):
                    lines.extend(item.sequence for item in message.lines)
                    dropped += message.dropped
                elif isinstance(message, SnapshotMessage):
                    versions.append(message.snapshot.version)

        reader = asyncio.create_task(read())
        await settle()
        took = await flood(wire)
        await eventually(lambda: bool(lines) and lines[-1] == LINES - 1 and versions[-1] == SNAPSHOTS + 1)

        assert statistics.quantiles(took, n=100)[98] < 0.001
        assert lines == sorted(set(lines))
        assert len(lines) + dropped == LINES
        assert versions == sorted(set(versions))
        assert (await reading.command(Pause())).success
        assert wire.server.clients == 2

        # It reads again: old bytes first, then what was dropped is counted, then the newest snapshot.
        loop = asyncio.get_running_loop()
        buffer = b""
        newest, seen, lost = 0, 0, 0
        async with asyncio.timeout(10):
            while newest < SNAPSHOTS + 1 or seen + lost < LINES:
                buffer += await loop.sock_recv(raw, 65_536)
                *whole, buffer = buffer.split(b"\n")
                for item in whole:
                    message = decode_server(item)
                    if isinstance(message, SnapshotMessage):
                        newest = message.snapshot.version
                    elif isinstance(message, LogBatch):
                        seen += len(message.lines)
                        lost += message.dropped
        assert newest == SNAPSHOTS + 1
        assert lost > LINES / 2
        assert seen + lost == LINES
        raw.close()
        await reading.close()
        await reader
        assert wire.faults == []


async def test_what_is_kept_for_a_stalled_client_is_bounded() -> None:
    # 2,000 snapshots are 9 MB and 20,000 lines 4 MB on the wire; what is kept is two queues of lines and a buffer.
    async with running(log_batch_s=0.001) as wire:
        raw = await stalled(wire)
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        await flood(wire)
        after, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert after - before < 2_000_000
        assert peak - before < 2_000_000
        raw.close()


async def test_a_client_that_does_not_drain_in_time_is_cut_off() -> None:
    async with running(stall_s=0.05, write_buffer_bytes=4_096, log_batch_s=0.001) as wire:
        raw = await stalled(wire)
        other = await wire.client()
        for number in range(20_000):
            wire.server.publish_log(line(number))
            if number % 100 == 0:
                wire.server.publish(make_snapshot(version=2 + number))
                await asyncio.sleep(0)
        await eventually(lambda: wire.server.clients == 1)
        assert await other.ping() >= 0
        assert wire.faults == []
        raw.close()
        await other.close()


async def test_a_client_that_reads_no_results_is_cut_off() -> None:
    async with running(unread_results=50, write_buffer_bytes=4_096) as wire:
        raw = await stalled(wire)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(5):
                for number in range(100_000):
                    await loop.sock_sendall(raw, encode(Ping(number)) + b"\n")
                    if wire.server.clients == 0:
                        break
        except ConnectionError:
            pass
        await eventually(lambda: wire.server.clients == 0)
        assert wire.faults == []
        raw.close()


async def test_results_are_never_dropped() -> None:
    async with running(commands_per_s=10_000, queue=10, write_buffer_bytes=4_096) as wire:
        raw = await wire.raw()
        assert isinstance(await raw.message(), Welcome)
        for number in range(500):
            raw.send(encode(CommandMessage(number, Pause(intent_id=str(number)))))
            for _ in range(20):
                wire.server.publish_log(line(number))
            await asyncio.sleep(0)
        answered: list[int] = []
        while len(answered) < 500:
            message = await raw.message()
            assert not isinstance(message, Bye)
            if isinstance(message, ResultMessage):
                answered.append(message.id)
        assert sorted(answered) == list(range(500))
        raw.close()
