"""What sending costs: our own processor time up to the first byte, the way round a dead Jito, the bytes on every path.

Engine, sender and pool are the product's; the node is the tests', in the same process, and its time is taken out.
Requests reach it through memory; what HTTP costs is measured by itself, against a server in a process of its own, and
added for every request up to the first byte.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path

from bench.table import Row

_TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(_TESTS), str(_TESTS / "onchain")]

from chainkit import run  # noqa: E402  the path comes first
from node import Dropped, Node  # noqa: E402
from scene import JITO, NodeTransport, Scene, scene  # noqa: E402

from deltatui.chain.http import AiohttpTransport, Reply  # noqa: E402

CPU_MS = 5.0
JITO_TRIES = 3.0
OPERATIONS = 200
EXCHANGES = 500
WARM_UP = 20


class Wire(NodeTransport):
    """Notes what leaves: (time, host, bytes). ``ours_ms`` is the processor time without the node's."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.sent: list[tuple[float, str, bytes]] = []
        self.requests = 0
        self._node_ns = 0
        advance = node.advance

        def counted(seconds: float) -> int:
            began_ns = time.thread_time_ns()
            made = advance(seconds)
            self._node_ns += time.thread_time_ns() - began_ns
            return made

        node.advance = counted  # type: ignore[method-assign]

    def ours_ms(self) -> float:
        return (time.thread_time_ns() - self._node_ns) / 1e6

    async def exchange(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        self.requests += 1
        if b'"sendTransaction"' in body:
            raw = b64decode(json.loads(body)["params"][0])
            self.sent.append((asyncio.get_running_loop().time(), url.split("/")[2], raw))
        return await super().exchange(method, url, body, headers)

    async def _rpc(self, index: int, body: bytes) -> Reply:
        began_ns = time.thread_time_ns()
        # The node answers without waiting for anything, so all that passes here is its own.
        reply = await super()._rpc(index, body)
        self._node_ns += time.thread_time_ns() - began_ns
        return reply

    async def _jito(self, name: str, url: str, body: bytes) -> Reply:
        began_ns = time.thread_time_ns()
        reply = await super()._jito(name, url, body)
        self._node_ns += time.thread_time_ns() - began_ns
        return reply


def wired(s: Scene) -> Wire:
    wire = Wire(s.node)
    for member in s.pool._members:
        member.endpoint._transport = wire
    assert s.jito is not None
    s.jito._transport = wire
    return wire


async def _submissions() -> tuple[list[float], list[int]]:
    """Milliseconds of our processor time from the command to the first byte of its transaction, and the requests."""
    took: list[float] = []
    requests: list[int] = []
    async with scene(seed=11) as s:
        wire = wired(s)
        for number in range(WARM_UP + OPERATIONS):
            before, asked, began_ms = len(wire.sent), wire.requests, wire.ours_ms()
            reached: list[float] = []

            def leaves(method: str) -> None:
                if method == "sendTransaction" and len(wire.sent) == before + 1 and not reached:  # noqa: B023
                    reached.append(wire.ours_ms())  # noqa: B023
                    requests.append(wire.requests - asked)  # noqa: B023

            wire.first_byte = leaves
            result = await s.deposit(f"bench {number}")
            assert result.code == "DONE", result
            took.append(reached[0] - began_ms)
            await asyncio.sleep(2.0)  # what follows a landing is not the next one's
    return took[WARM_UP:], requests[WARM_UP:]


_SERVER = """
import asyncio, sys
BODY = b'{"jsonrpc":"2.0","result":{"context":{"slot":1},"value":["' + b"x" * 1500 + b'"]},"id":1}'
HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(BODY)
async def serve(reader, writer):
    while True:
        try:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
        except asyncio.IncompleteReadError:
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\\r\\n")[0])
        await reader.readexactly(length)
        writer.write(HEAD + BODY)
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


async def _exchange_ms() -> float:
    """Processor time of one HTTP exchange in this process, p95."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", _SERVER, stdin=pipe, stdout=pipe)
    assert child.stdout is not None
    assert child.stdin is not None
    transport = AiohttpTransport()
    took: list[float] = []
    try:
        url = f"http://127.0.0.1:{int(await child.stdout.readline())}/"
        for _ in range(EXCHANGES):
            began_ns = time.process_time_ns()
            await transport.exchange("POST", url, b"x" * 800, {"content-type": "application/json"})
            took.append((time.process_time_ns() - began_ns) / 1e6)
    finally:
        await transport.close()
        child.stdin.close()
        await child.wait()
    return statistics.quantiles(took[WARM_UP:], n=20)[18]


async def _dead_jito() -> tuple[float, float, float]:
    """(tries through Jito, seconds until RPC has the bytes, different byte strings over all paths of one operation)."""
    async with scene(seed=12) as s:
        wire = wired(s)
        s.node.faults.requests(Dropped(), host="jito")
        result = await s.deposit("dead jito")
        assert result.code == "DONE", result
        jito = [at_s for at_s, host, _ in wire.sent if host == JITO]
        rpc = [at_s for at_s, host, _ in wire.sent if host != JITO]
        await asyncio.sleep(5.0)
        return float(len(jito)), rpc[0] - jito[0], float(len({raw for _, _, raw in wire.sent}))


def measure() -> list[Row]:
    took, requests = run(_submissions(), limit_s=1e6)
    exchange_ms = asyncio.run(_exchange_ms())
    cuts = statistics.quantiles([each + count * exchange_ms for each, count in zip(took, requests, strict=True)], n=100)
    beside = f"{OPERATIONS} operations; of it HTTP: {statistics.mean(requests):.1f} requests of {exchange_ms:.2f} ms"
    tries, fallback_s, different = run(_dead_jito())
    return [
        Row("command to first byte sent, our CPU, p50", cuts[49], "ms", limit=CPU_MS),
        Row("command to first byte sent, our CPU, p95", cuts[94], "ms", limit=CPU_MS, beside=beside),
        Row("tries through a dead Jito", tries, "tries", limit=JITO_TRIES),
        Row("dead Jito: until RPC has the bytes", fallback_s, "s", limit=6.0, beside="simulated time"),
        Row("different bytes over all paths of one operation", different, "", limit=1.0),
    ]
