"""THE table of the scenario matrix: what every fault comes to in every phase of an operation.

It is tested cell by cell (test_matrix.py) and is a part of docs/operations.md; ``python tests/onchain/matrix.py``
writes it there anew.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

PHASES = ("before sign", "signed", "sent", "unresolved", "recovering")
"""When the fault strikes. ``signed``: the signature is in the journal, nothing has left. ``sent``: every path was
tried. ``unresolved``: there was no answer for 30 s (the transaction is late). ``recovering``: the connection was lost
right after sending, and comes back 30 s after the fault strikes."""


class Told(msgspec.Struct, frozen=True):
    """What a cell comes to. ``operation``: its states from UNRESOLVED on ("none": it was not even planned).
    ``engine``: its states without STARTING and RECONCILING. ``answer``: status and code of the command's result; empty
    where the process died. ``events``: their kinds in order, each once, without ``state`` and ``alert_cleared``."""

    operation: str
    engine: str
    answer: str
    events: tuple[str, ...]


NO_JITO = "cannot occur: Jito is asked only while sending, and that is over"
NO_BUNDLE = "cannot occur: the bytes have been with every RPC endpoint for long, so the bundle's fate does not count"
NO_HASH = "cannot occur: the blockhash is fetched right before signing, and one with little life left is refused"

MATRIX: dict[str, tuple[Told | str, ...]] = {
    "Jito down": (
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        NO_JITO,
        NO_JITO,
        NO_JITO,
    ),
    "Jito 429, id null": (
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        NO_JITO,
        NO_JITO,
        NO_JITO,
    ),
    "bundle never lands": (
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        NO_BUNDLE,
        NO_BUNDLE,
    ),
    "RPC 429": (
        Told(
            "FAILED",
            "RECOVERING, RUNNING",
            "rejected RPC_RATE_LIMITED",
            ("order_submitted", "connection_lost", "order_failed", "recovered"),
        ),
        Told(
            "UNRESOLVED, LANDED",
            "RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "connection_lost", "unresolved", "resolved", "recovered"),
        ),
        Told(
            "UNRESOLVED, LANDED",
            "RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "connection_lost", "unresolved", "resolved", "recovered"),
        ),
        Told(
            "UNRESOLVED, LANDED",
            "RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "unresolved", "connection_lost", "resolved", "recovered"),
        ),
        Told(
            "UNRESOLVED, LANDED",
            "RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "connection_lost", "unresolved", "resolved", "recovered"),
        ),
    ),
    "RPC down": (
        Told(
            "FAILED",
            "RECOVERING, RUNNING",
            "rejected RPC_UNREACHABLE",
            ("order_submitted", "connection_lost", "order_failed", "recovered"),
        ),
        Told(
            "UNRESOLVED, LANDED",
            "RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "connection_lost", "unresolved", "resolved", "recovered"),
        ),
        Told(
            "UNRESOLVED, LANDED",
            "RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "connection_lost", "unresolved", "resolved", "recovered"),
        ),
        Told(
            "UNRESOLVED, LANDED",
            "RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "unresolved", "connection_lost", "resolved", "recovered"),
        ),
        Told(
            "UNRESOLVED, LANDED",
            "RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "connection_lost", "unresolved", "resolved", "recovered"),
        ),
    ),
    "lost reply": (
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("UNRESOLVED, LANDED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told(
            "UNRESOLVED, LANDED",
            "RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "connection_lost", "unresolved", "resolved", "recovered"),
        ),
    ),
    "accepted, never lands": (
        Told("UNRESOLVED, EXPIRED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told("UNRESOLVED, EXPIRED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told("UNRESOLVED, EXPIRED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told("UNRESOLVED, EXPIRED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told(
            "UNRESOLVED, EXPIRED",
            "RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "connection_lost", "unresolved", "recovered", "resolved"),
        ),
    ),
    "late landing": (
        Told("UNRESOLVED, LANDED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told("UNRESOLVED, LANDED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told("UNRESOLVED, LANDED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told("UNRESOLVED, LANDED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told(
            "UNRESOLVED, LANDED",
            "RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "connection_lost", "unresolved", "recovered", "resolved"),
        ),
    ),
    "landed, status hidden": (
        Told("UNRESOLVED, LANDED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told("UNRESOLVED, LANDED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told("UNRESOLVED, LANDED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told("UNRESOLVED, LANDED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told(
            "UNRESOLVED, LANDED",
            "RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "connection_lost", "unresolved", "recovered", "resolved"),
        ),
    ),
    "stuck at processed": (
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("UNRESOLVED, LANDED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told(
            "UNRESOLVED, LANDED",
            "RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "connection_lost", "unresolved", "resolved", "recovered"),
        ),
    ),
    "reorg": (
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("UNRESOLVED, LANDED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told(
            "UNRESOLVED, LANDED",
            "RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "connection_lost", "unresolved", "resolved", "recovered"),
        ),
    ),
    "blockhash expired": (
        NO_HASH,
        Told("EXPIRED", "RUNNING", "rejected EXPIRED", ("order_submitted", "order_failed")),
        Told("EXPIRED", "RUNNING", "rejected EXPIRED", ("order_submitted", "order_failed")),
        Told("UNRESOLVED, EXPIRED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told(
            "UNRESOLVED, EXPIRED",
            "RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "connection_lost", "unresolved", "resolved", "recovered"),
        ),
    ),
    "preflight error": (
        Told("FAILED", "RUNNING", "rejected CUSTOM_1", ("order_submitted", "order_failed")),
        Told("UNRESOLVED, LANDED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("UNRESOLVED, LANDED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told(
            "UNRESOLVED, LANDED",
            "RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "connection_lost", "unresolved", "resolved", "recovered"),
        ),
    ),
    "on-chain failure": (
        Told("FAILED", "RUNNING", "rejected CUSTOM_6004", ("order_submitted", "order_failed")),
        Told("FAILED", "RUNNING", "rejected CUSTOM_6004", ("order_submitted", "order_failed")),
        Told("FAILED", "RUNNING", "rejected CUSTOM_6004", ("order_submitted", "order_failed")),
        Told("UNRESOLVED, FAILED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told(
            "UNRESOLVED, FAILED",
            "RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "connection_lost", "unresolved", "resolved", "recovered"),
        ),
    ),
    "mute WebSocket": (
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("UNRESOLVED, LANDED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told(
            "UNRESOLVED, LANDED",
            "RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "connection_lost", "unresolved", "recovered", "resolved"),
        ),
    ),
    "stale node": (
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("UNRESOLVED, LANDED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told(
            "UNRESOLVED, LANDED",
            "RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "connection_lost", "unresolved", "recovered", "resolved"),
        ),
    ),
    "clock off by 5 s": (
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("LANDED", "RUNNING", "done DONE", ("order_submitted", "order_filled")),
        Told("UNRESOLVED, LANDED", "RUNNING", "unresolved UNRESOLVED", ("order_submitted", "unresolved", "resolved")),
        Told(
            "UNRESOLVED, LANDED",
            "RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "connection_lost", "unresolved", "recovered", "resolved"),
        ),
    ),
    "database locked": (
        Told("none", "RUNNING", "rejected DATABASE_LOCKED", ("alert",)),
        Told(
            "UNRESOLVED, EXPIRED",
            "RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "unresolved", "alert", "resolved"),
        ),
        Told(
            "UNRESOLVED, LANDED",
            "RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "alert", "unresolved", "resolved"),
        ),
        Told(
            "UNRESOLVED, LANDED",
            "RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "unresolved", "alert", "resolved"),
        ),
        Told(
            "UNRESOLVED, LANDED",
            "RECOVERING, RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "connection_lost", "unresolved", "resolved", "recovered"),
        ),
    ),
    "disk full": (
        Told("none", "RUNNING", "rejected DISK_FULL", ("alert",)),
        Told(
            "UNRESOLVED, EXPIRED",
            "RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "unresolved", "alert", "resolved"),
        ),
        Told(
            "UNRESOLVED, LANDED",
            "RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "alert", "unresolved", "resolved"),
        ),
        Told(
            "UNRESOLVED, LANDED",
            "RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "unresolved", "alert", "resolved"),
        ),
        Told(
            "UNRESOLVED, LANDED",
            "RECOVERING, RECOVERING, RUNNING",
            "unresolved UNRESOLVED",
            ("order_submitted", "connection_lost", "unresolved", "resolved", "recovered"),
        ),
    ),
    "kill -9": (
        Told("FAILED", "RUNNING", "", ("order_submitted", "resolved")),
        Told("UNRESOLVED, EXPIRED", "RUNNING", "", ("order_submitted", "unresolved", "resolved")),
        Told("UNRESOLVED, LANDED", "RUNNING", "", ("order_submitted", "resolved")),
        Told("UNRESOLVED, LANDED", "RUNNING", "", ("order_submitted", "unresolved", "resolved")),
        Told(
            "UNRESOLVED, LANDED",
            "RECOVERING, RECOVERING, RUNNING",
            "",
            ("order_submitted", "connection_lost", "unresolved", "resolved", "recovered"),
        ),
    ),
}

WHAT = {
    "Jito down": "no connection for 40 s",
    "Jito 429, id null": "rate limited for 40 s, in the form without an id",
    "bundle never lands": "Jito takes it and drops it",
    "RPC 429": "every endpoint rate limits for 40 s",
    "RPC down": "no connection to any endpoint for 40 s",
    "lost reply": "the bytes are taken, the reply is lost, for 40 s",
    "accepted, never lands": "every copy is taken and dropped, for good",
    "late landing": "it lands 36 s late (later phases: 6 s later still)",
    "landed, status hidden": "no node shows the signature for 36 s",
    "stuck at processed": "it is not confirmed for 12 s",
    "reorg": "two blocks after landing a fork without it wins; the same bytes are sent again",
    "blockhash expired": "160 blocks pass at once and the copy under way is dropped",
    "preflight error": "before sign: the simulation fails; later: every node refuses the bytes for 40 s",
    "on-chain failure": "it lands with program error 6004",
    "mute WebSocket": "sockets stay open and say nothing, for good",
    "stale node": "one of two endpoints hangs 120 blocks behind for 40 s",
    "clock off by 5 s": "this machine's clock jumps 5 s ahead",
    "database locked": "another program locks the database for 40 s",
    "disk full": "no write succeeds for 40 s",
    "kill -9": "the process dies and is started again",
}

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"
BEGIN, END = "<!-- matrix: written by tests/onchain/matrix.py -->\n", "<!-- end of matrix -->\n"


def render() -> str:
    """The table as Markdown, one line a cell."""
    lines = [
        "| fault | strikes | operation | engine | answer | events |",
        "|---|---|---|---|---|---|",
    ]
    for fault, cells in MATRIX.items():
        for number, (phase, cell) in enumerate(zip(PHASES, cells, strict=True)):
            name = f"**{fault}**: {WHAT[fault]}" if number == 0 else ""
            if isinstance(cell, str):
                lines.append(f"| {name} | {phase} | {cell} | | | |")
            else:
                answer = cell.answer or "(died)"
                lines.append(
                    f"| {name} | {phase} | {cell.operation} | {cell.engine} | {answer} | {', '.join(cell.events)} |"
                )
    return "\n".join(lines) + "\n"


def written(document: str) -> str:
    """The document with the table as it is now. Raises ValueError where it has no place for it."""
    before, found, rest = document.partition(BEGIN)
    _, ends, after = rest.partition(END)
    if not found or not ends:
        raise ValueError(f"the document has no place between {BEGIN!r} and {END!r}")
    return before + BEGIN + render() + END + after


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
    sys.stdout.write(f"{DOCUMENT} is up to date\n")
