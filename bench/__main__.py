"""``python -m bench [replay|command|markets|chain|terminal ...]``: exit code 1 if a hard limit is missed."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import time

from bench.table import Row, render

PARTS = ("replay", "command", "markets", "chain", "terminal")


def main(words: list[str]) -> int:
    if unknown := [word for word in words if word not in PARTS]:
        print(f"bench: there is no part '{unknown[0]}'; {', '.join(PARTS)} exist", file=sys.stderr)
        return 2
    began_s = time.perf_counter()
    rows: list[Row] = []
    try:
        for part in words or PARTS:
            rows += importlib.import_module(f"bench.{part}").measure()
    finally:
        # Also of a run that breaks off: what was measured, was.
        load = os.getloadavg()[0]
        print(
            f"Python {platform.python_version()}, {os.cpu_count()} processors ({platform.machine()}), load {load:.1f}"
        )
        print(render(rows))
    failed = [row.what for row in rows if row.failed]
    print(
        f"{time.perf_counter() - began_s:.0f} s; "
        + (f"beyond a limit: {'; '.join(failed)}" if failed else "no limit missed")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
