"""What the cluster saw: requests, copies of transactions, landings. The tests' judge."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from node.chain import Landing
    from node.faults import TransactionFault, Via
    from node.transaction import Transaction

Verdict = Literal["LANDED", "FAILED", "EXPIRED"]


@dataclass(frozen=True, slots=True)
class Copy:
    """One arrival of a transaction's bytes at block height ``height``."""

    via: Via
    endpoint: int
    height: int
    fault: TransactionFault | None


@dataclass(slots=True)
class Seen:
    """``fate``: refused, pending, landed, failed, expired, or ``dropped: <why>``. ``refused`` is the
    preflight's or block engine's reason; ``landed_at`` every block height at which it landed, reorgs included."""

    transaction: Transaction
    copies: list[Copy] = field(default_factory=list)
    fate: str = "refused"
    refused: object = None
    landed_at: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Records:
    landed: Mapping[str, Landing]
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    requests_to: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    seen: dict[str, Seen] = field(default_factory=dict)
    operations: dict[str, list[str]] = field(default_factory=dict)
    double_landings: int = 0

    def request(self, host: str, endpoint: int, method: str) -> None:
        self.requests[host, method] += 1
        self.requests_to[host, endpoint, method] += 1

    def copy(self, transaction: Transaction, copy: Copy) -> Seen:
        seen = self.seen.get(transaction.signature)
        if seen is None:
            seen = self.seen[transaction.signature] = Seen(transaction)
            if transaction.operation is not None:
                self.operations.setdefault(transaction.operation, []).append(transaction.signature)
        seen.copies.append(copy)
        if copy.fault is not None:
            self.faults[type(copy.fault).__name__] += 1
        return seen

    def landing(self, landing: Landing) -> None:
        """Count a double landing when another transaction of the operation has succeeded on this fork already."""
        operation = landing.transaction.operation
        seen = self.seen.get(landing.signature)
        if seen is not None:
            seen.landed_at.append(landing.height)
            seen.fate = "landed" if landing.error is None else "failed"
        if operation is not None and landing.error is None and len(self.successes(operation)) > 1:
            self.double_landings += 1

    def successes(self, operation: str) -> list[Landing]:
        """The operation's successful landings on the canonical fork."""
        found = (self.landed.get(signature) for signature in self.operations.get(operation, ()))
        return [landing for landing in found if landing is not None and landing.error is None]

    def landing_of(self, operation: str) -> Landing | None:
        """The operation's landing on the canonical fork: a successful one, else a failed one, else None."""
        found = [self.landed[s] for s in self.operations.get(operation, ()) if s in self.landed]
        return min(found, key=lambda landing: landing.error is not None, default=None)

    def transactions(self, operation: str) -> int:
        """How many distinct transactions were seen for the operation, by any path."""
        return len(self.operations.get(operation, ()))

    def disagreements(self, verdicts: Mapping[str, Verdict]) -> list[str]:
        """Where ``verdicts`` (operation -> what the client believes) and the chain differ, and which operations the
        chain knows and the client does not. Sound once every blockhash involved has expired."""
        out = []
        for operation in sorted(set(verdicts) | set(self.operations)):
            landing = self.landing_of(operation)
            truth: Verdict = "EXPIRED" if landing is None else "LANDED" if landing.error is None else "FAILED"
            believed = verdicts.get(operation)
            if believed is None and landing is not None:
                out.append(f"{operation}: the chain says {truth}, the client has forgotten it")
            elif believed is not None and believed != truth and not (believed == "FAILED" and landing is None):
                out.append(f"{operation}: the chain says {truth}, the client says {believed}")
        return out
