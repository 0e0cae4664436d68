"""The peer's figure of the same run: nautilus_trader plays the replay's held hedge, where an interpreter has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import msgspec

from deltatui.feeds.tape import Tape

VARIABLE = "BENCH_PEER_PYTHON"
"""Names the interpreter. It has not the prefix of settings, since an engine refuses one that it does not know."""
RELEASE = "1.221."
SCRIPT = Path(__file__).with_name("nautilus_peer.py")
TIMEOUT_S = 300.0
_VERSION = "import importlib.metadata as m; print(m.version('nautilus_trader'))"


class Figures(msgspec.Struct, frozen=True):
    """Of the peer: ``best_s`` is its fastest run in seconds; ``max_drawdown`` a fraction of the peak."""

    version: str
    python: str
    best_s: float
    funding_usd: float
    equity_usd: float
    max_drawdown: float


@dataclass(frozen=True, slots=True)
class Absent:
    """``why`` is a sentence for the table."""

    why: str


def find(env: Mapping[str, str] = os.environ) -> Path | Absent:
    """The interpreter that has the peer: the named one, or else this one. Exits where the named one has it not."""
    named = env.get(VARIABLE, "")
    python = Path(named or sys.executable)
    fault = _fault(python)
    if fault is None:
        return python
    if named:
        raise SystemExit(f"bench: {VARIABLE} names {named}, but {fault}")
    return Absent(f"not measured, this Python has no nautilus_trader {RELEASE}x; {VARIABLE} may name one that has")


def _fault(python: Path) -> str | None:
    try:
        asked = subprocess.run([python, "-I", "-c", _VERSION], capture_output=True, text=True, timeout=TIMEOUT_S)
    except OSError as error:
        return f"it cannot be run: {error.strerror}"
    if "PackageNotFoundError" in asked.stderr:
        return "it has no nautilus_trader"
    version = asked.stdout.strip()
    if asked.returncode or not version:
        return "it is no Python"
    return None if version.startswith(RELEASE) else f"it has nautilus_trader {version}, and {RELEASE}x is compared"


def play(python: Path, tape: Tape, size: Decimal, runs: int) -> Figures:
    """Hold ``size`` base long in spot and short in the perp over the tape, without fees, ``runs`` times over. Raises
    RuntimeError where the peer fails."""
    job = {
        "size": str(size),
        "opening_usd": str(2 * size * tape.records[0].oracle_twap),
        "runs": runs,
        "records": [(r.ts_s, str(r.oracle_twap), str(r.mark_twap), str(r.rate_short)) for r in tape.records],
    }
    # -I: neither this folder's modules nor this environment's paths are the peer's.
    played = subprocess.run(
        [python, "-I", SCRIPT], input=json.dumps(job), capture_output=True, text=True, timeout=TIMEOUT_S
    )
    if played.returncode:
        raise RuntimeError(f"{SCRIPT.name} failed:\n{played.stderr[-2000:]}")
    return msgspec.json.decode(played.stdout, type=Figures)
