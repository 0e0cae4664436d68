"""``python engine_process.py engine --profile P [die|mute|late-crash]``: a process that serves a made-up engine."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from wire import FakeEngine

from deltatui.api.server import Server
from deltatui.paths import Paths


async def serve(profile: str) -> None:
    paths = Paths.of(profile)
    server = Server(FakeEngine(), paths.socket, lock=paths.lock, profile=profile, mode="replay", pid=os.getpid())
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.close()


def main() -> None:
    profile, *rest = sys.argv[sys.argv.index("--profile") + 1 :]
    if "die" in rest:
        sys.exit("the disk is full; key " + "5" * 87)
    if "mute" in rest:
        signal.pause()
    asyncio.run(serve(profile))


if __name__ == "__main__":
    main()
