"""Find the engine of a profile, or start one that outlives the terminal (R13.8)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deltatui.api.client import Client
from deltatui.api.endpoint import lock_holder, private_folder
from deltatui.api.protocol import Welcome
from deltatui.domain.errors import CriticalError, TransientError
from deltatui.domain.redact import Redactor
from deltatui.paths import Paths

START_TIMEOUT_S = 20.0
START_LOG = "engine-start.log"

_PROBE_S = 0.05
_TAIL_LINES = 15

# Kept for the life of this process: a Popen that is collected while its child runs complains of it.
_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True)
class Found:
    """``welcome`` is what the engine said of itself (mode, pid); ``started`` whether this call started it."""

    socket: Path
    welcome: Welcome
    started: bool


async def find(paths: Paths, timeout_s: float = 5.0) -> Found | None:
    """The engine that answers at the profile's socket; None if nobody listens there.

    Raises TransientError NO_ANSWER if one listens but does not answer, ValidationError if it sends us away (another
    version of the protocol, for instance).
    """
    try:
        client = await Client.connect(
            paths.socket, name="launch", read_only=True, log_backlog=0, event_backlog=0, timeout_s=timeout_s
        )
    except TransientError as error:
        if error.code == "NO_ENGINE":
            return None
        raise
    await client.close()
    return Found(paths.socket, client.welcome, started=False)


async def find_or_start(
    paths: Paths,
    argv: Sequence[str] = (),
    *,
    log_folder: Path | None = None,
    timeout_s: float = START_TIMEOUT_S,
    command: Sequence[str] | None = None,
) -> Found:
    """Attach to the profile's engine, or start ``deltatui engine --profile P argv...`` in its own session and wait
    until it answers.

    The engine inherits environment and working folder, so it reads the same ``.env``; no secret goes through ``argv``.
    What it prints goes to ``engine-start.log`` in ``log_folder`` (default: the profile's). ``command`` replaces the
    interpreter and module (tests). Raises CriticalError ENGINE_DIED with the end of that file, TransientError
    ENGINE_SLOW if it lives but does not answer in time, and what :func:`find` raises.
    """
    found = await find(paths)
    if found is not None:
        return found
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    output = (log_folder or paths.log_folder) / START_LOG
    # Without asking first who holds the lock: the engine itself gives way, and asking could get in another's way.
    process = _start(paths, argv, output, command)
    while asyncio.get_running_loop().time() < deadline_s:
        # Asked before the probe: an engine that dies between the two is seen in the next round.
        gone = process.poll() is not None
        found = await find(paths)
        if found is not None:
            return Found(found.socket, found.welcome, started=found.welcome.pid == process.pid)
        # If ours gave way, another one holds the lock and is about to answer: started at the same moment by another
        # terminal, or making its vanished socket file anew.
        if gone and lock_holder(paths.lock) is None:
            raise CriticalError("ENGINE_DIED", f"the engine ended with exit code {process.returncode}. {_tail(output)}")
        await asyncio.sleep(_PROBE_S)
    raise TransientError(
        "ENGINE_SLOW", f"the engine did not answer at {paths.socket} within {timeout_s:g} s. {_tail(output)}"
    )


def _start(paths: Paths, argv: Sequence[str], output: Path, command: Sequence[str] | None) -> subprocess.Popen[bytes]:
    private_folder(paths.state_folder)
    private_folder(output.parent, close=False)
    words = [*(command or (sys.executable, "-m", "deltatui")), "engine", "--profile", paths.profile, *argv]
    output.unlink(missing_ok=True)
    output.touch(mode=0o600)
    with output.open("wb") as sink:
        try:
            # A session of its own: the hangup of the terminal does not reach it.
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                words, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
            )
        except OSError as error:
            raise CriticalError("ENGINE_DIED", f"the engine could not be started: {error.strerror}") from error
    _started.append(process)
    return process


def _tail(output: Path) -> str:
    try:
        lines = output.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
    except OSError:
        lines = []
    if not lines:
        return f"It printed nothing; its log is in {output.parent}"
    return f"The end of {output}:\n" + Redactor()("\n".join(lines))
