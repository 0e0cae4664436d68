"""Values that the store's tests write, and the children that die while writing them."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from deltatui.domain.ledger import FlowKind, LedgerEntry, VenueEvent, VenueEventId
from deltatui.domain.operation import JournalRecord, Leg, Operation, OperationKind, OperationState

T = TypeVar("T")


def operation(name: str = "op-1", created_s: float = 1000.0) -> Operation:
    return Operation(
        name,
        OperationKind.TAKE,
        "SOL-PERP",
        "test",
        created_s,
        created_s + 1,
        legs=(Leg("SOL-PERP", -(10**12), 95_000_000), Leg("SOL", 10**12, 105_000_000)),
        reason="carry",
    )


def record(name: str, state: OperationState, operator_s: float = 2000.0) -> JournalRecord:
    """A well-formed line for ``state``."""
    if state is OperationState.PLANNED:
        return JournalRecord(name, state, operator_s, operation(name))
    if state is OperationState.SIGNED:
        return JournalRecord(name, state, operator_s, None, f"signature-{name}", b"raw-" + name.encode(), 250_000_000)
    if state is OperationState.FAILED:
        return JournalRecord(name, state, operator_s, error_code="6010", detail="user has no position")
    return JournalRecord(name, state, operator_s)


def entry(sequence: int, amount: str = "-1.25", venue_sequence: int | None = None) -> LedgerEntry:
    venue = sequence if venue_sequence is None else venue_sequence
    return LedgerEntry(
        sequence, venue, 1000.0 + sequence, FlowKind.FUNDING, "SOL-PERP", Decimal(amount), "op-1", "hourly"
    )


def told(last: int, first: int = 1) -> list[VenueEventId]:
    """The numbers ``first`` to ``last`` of events that the venue calls otherwise."""
    return [VenueEventId(number, "paper", "paper/test/0", f"signature-{number}:0") for number in range(first, last + 1)]


def flow(sequence: int, amount: str = "-1.25") -> VenueEvent:
    return VenueEvent(
        sequence,
        1000.0 + sequence,
        "SOL-PERP",
        "op-1",
        FlowKind.FUNDING,
        Decimal(amount),
        record=sequence,
        note="hourly",
    )


def fill(sequence: int, base: str = "-10.5") -> VenueEvent:
    return VenueEvent(sequence, 1000.0 + sequence, "SOL-PERP", "op-1", base=Decimal(base), price=Decimal("151.123456"))


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Result of a coroutine that never waits, as those of a database in memory do."""
    try:
        work.send(None)
    except StopIteration as ended:
        return ended.value  # type: ignore[no-any-return]
    work.close()
    raise AssertionError("the coroutine waited for something")


class Child:
    """A python process that talks by lines."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._pending = b""

    def line(self, timeout_s: float = 30.0) -> str:
        """Its next line; raises AssertionError if none comes in time."""
        assert self.process.stdout is not None
        while b"\n" not in self._pending:
            ready, _, _ = select.select([self.process.stdout], [], [], timeout_s)
            chunk = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            assert chunk, "the child ended or said nothing"
            self._pending += chunk
        line, self._pending = self._pending.split(b"\n", 1)
        return line.decode()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(30)


@contextmanager
def child(script: str, *arguments: str | Path) -> Iterator[Child]:
    """Run ``script`` with the tests' builders importable; it is killed at the latest on leaving."""
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    with subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    ) as process:
        running = Child(process)
        try:
            yield running
        finally:
            running.kill()
