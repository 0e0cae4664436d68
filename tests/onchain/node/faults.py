"""What can go wrong, as values, and the rules that say when.

Request faults change the answer to a request; transaction faults change what becomes of one sent copy of a
transaction. Every fault can be switched at run time (``Faults.requests``, ``Faults.transactions``) and be drawn from
a seeded ``Chaos``, whose draws depend on what is asked and how often, not on the order of concurrent requests.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

Host = Literal["rpc", "ws", "jito"]
Via = Literal["rpc", "jito", "bundle"]
Shape = Literal["json", "null_id", "text", "html"]

JITO_CONGESTED = "Network congested. Endpoint is globally rate limited."
JITO_PER_IP = "Rate limit exceeded. Limit: 1 per second for txn requests. Back-off triggered: Retry after 1606ms"
PUBLIC_RPC_429 = "Too many requests for a specific RPC call"


# -- request faults --------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class RateLimited:
    """Too many requests. ``shape`` json carries the request's id, null_id does not; ``code`` defaults to what the host
    answers (429 for RPC, -32097 for Jito). ``status`` 200 is the error in a successful HTTP reply."""

    shape: Shape = "json"
    status: int = 429
    code: int | None = None
    message: str | None = None
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """A JSON-RPC error of any kind instead of doing anything."""

    code: int
    message: str
    data: object = None
    status: int = 200
    null_id: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """Any body at all: an HTML error page of a proxy, half a JSON text, nothing."""

    text: str = "<html><head><title>502 Bad Gateway</title></head><body><center>nginx</center></body></html>"
    status: int = 502
    content_type: str = "text/html"


@dataclass(frozen=True, slots=True)
class NullResult:
    """``"result": null`` where there should be one."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The connection is reset before the request is looked at."""


@dataclass(frozen=True, slots=True)
class LostReply:
    """The request is carried out in full, then the connection is reset."""


@dataclass(frozen=True, slots=True)
class Hang:
    """No answer for ``blocks`` blocks (then it is carried out and answered), or with None never."""

    blocks: int | None = None


RequestFault = RateLimited | ErrorReply | Body | NullResult | Dropped | LostReply | Hang


# -- transaction faults ----------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Blackhole:
    """Accepted, and this copy goes nowhere. Another copy sent by another path or later may land."""


@dataclass(frozen=True, slots=True)
class Late:
    """This copy lands ``blocks`` blocks later than it could, if its blockhash still lives then."""

    blocks: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """Preflight says no (-32002), whether or not the transaction is good. Only where preflight is done."""

    error: object = "BlockhashNotFound"
    logs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FailOnChain:
    """Lands with a program error that the simulation did not show; the fee is paid."""

    custom: int = 6004
    instruction: int = 0


@dataclass(frozen=True, slots=True)
class Hide:
    """Lands, but for ``blocks`` blocks no node knows the signature. More than ``finalized_lag`` blocks make the node
    claim, falsely, that an expired transaction never landed."""

    blocks: int


@dataclass(frozen=True, slots=True)
class Stuck:
    """Lands and stays at processed for ``blocks`` blocks."""

    blocks: int


@dataclass(frozen=True, slots=True)
class Reorg:
    """``after`` blocks after landing a fork without it wins. It lands again ``reland_after`` blocks later (None:
    never, unless it is sent again) if its blockhash is on the winning fork."""

    after: int = 1
    reland_after: int | None = 1


TransactionFault = Blackhole | Late | Refuse | FailOnChain | Hide | Stuck | Reorg


@dataclass(eq=False, slots=True)
class Rule:
    """One switched-on fault. ``count`` left (None: no end); ``hits`` so far; ``until_height`` as block height."""

    number: int
    fault: RequestFault | TransactionFault
    host: str | None
    endpoint: int | None
    methods: frozenset[str] | None
    count: int | None
    probability: float
    until_height: int | None
    hits: int = 0
    on: bool = True

    def clear(self) -> None:
        self.on = False

    def live(self, height: int) -> bool:
        return self.on and self.count != 0 and (self.until_height is None or height <= self.until_height)

    def take(self, key: str) -> bool:
        if self.probability < 1 and random.Random(f"{self.number}/{key}").random() >= self.probability:
            return False
        self.hits += 1
        if self.count is not None:
            self.count -= 1
        return True


@dataclass(frozen=True, slots=True)
class Chaos:
    """Seeded random faults: a share of requests, of sent copies, and outages begun per block.

    Outages are an endpoint or Jito unreachable, a mute WebSocket, a stale endpoint, a reorg of 1 to 3 blocks."""

    seed: int
    requests: float = 0.1
    transactions: float = 0.3
    outages: float = 0.01

    def request(self, key: str) -> RequestFault | None:
        rng = random.Random(f"{self.seed}/request/{key}")
        if rng.random() >= self.requests:
            return None
        return rng.choice(_CHAOS_REQUESTS)

    def transaction(self, key: str) -> TransactionFault | None:
        rng = random.Random(f"{self.seed}/transaction/{key}")
        if rng.random() >= self.transactions:
            return None
        few = rng.randint(1, 3)
        # Hide stays below the finalized lag: beyond it a node would deny a landed transaction for good.
        return rng.choice(
            (
                Blackhole(),
                Late(rng.choice((few, 20 * few, 60 * few))),
                Refuse(),
                FailOnChain(6000 + rng.randrange(350)),
                Hide(rng.randint(1, 30)),
                Stuck(rng.randint(1, 60)),
                Reorg(few, rng.choice((None, 1, 5, 40))),
            )
        )


_CHAOS_REQUESTS: tuple[RequestFault, ...] = (
    RateLimited(),
    RateLimited("null_id"),
    RateLimited("null_id", status=200),
    RateLimited("text", message="rate limited"),
    RateLimited("html", retry_after_s=1),
    ErrorReply(-32005, "Node is behind by 3104 slots", {"numSlotsBehind": 3104}),
    ErrorReply(-32603, "Internal error"),
    Body(),
    Body("upstream connect error", 503, "text/plain"),
    Body('{"jsonrpc":"2.0","resu', 200, "application/json"),
    NullResult(),
    Dropped(),
    LostReply(),
    LostReply(),
)


@dataclass(slots=True)
class Faults:
    """The switchboard. ``height`` gives the current block height."""

    height: Callable[[], int]
    chaos: Chaos | None = None
    rules: list[Rule] = field(default_factory=list)
    _asked: Counter[str] = field(default_factory=Counter)
    _made: int = 0

    def requests(
        self,
        fault: RequestFault,
        *,
        host: Host | None = None,
        endpoint: int | None = None,
        methods: tuple[str, ...] | None = None,
        count: int | None = None,
        blocks: int | None = None,
        probability: float = 1.0,
    ) -> Rule:
        """Switch on for requests to ``host`` (None: all), ``endpoint`` (None: all), ``methods`` (None: all), for
        ``count`` requests and ``blocks`` blocks (None: until cleared). Newer rules win."""
        return self._add(fault, host, endpoint, methods, count, blocks, probability)

    def transactions(
        self,
        fault: TransactionFault,
        *,
        via: Via | None = None,
        endpoint: int | None = None,
        count: int | None = None,
        blocks: int | None = None,
        probability: float = 1.0,
    ) -> Rule:
        """Switch on for copies of transactions sent by ``via``: RPC, Jito's sendTransaction or bundles (which
        ``sendTransaction?bundleOnly=true`` makes, too)."""
        return self._add(fault, via, endpoint, None, count, blocks, probability)

    def clear(self) -> None:
        """End every rule and the chaos. Faults already given to a transaction stay with it."""
        for rule in self.rules:
            rule.on = False
        self.rules.clear()
        self.chaos = None

    def _add(
        self,
        fault: RequestFault | TransactionFault,
        host: str | None,
        endpoint: int | None,
        methods: tuple[str, ...] | None,
        count: int | None,
        blocks: int | None,
        probability: float,
    ) -> Rule:
        until = None if blocks is None else self.height() + blocks - 1
        self._made += 1
        chosen = None if methods is None else frozenset(methods)
        rule = Rule(self._made, fault, host, endpoint, chosen, count, probability, until)
        self.rules.append(rule)
        return rule

    def for_request(self, host: Host, endpoint: int, method: str) -> RequestFault | None:
        key = self._key(f"{host}/{endpoint}/{method}")
        for rule in self._live(host, endpoint):
            fault = rule.fault
            if isinstance(fault, RequestFault) and (rule.methods is None or method in rule.methods) and rule.take(key):
                return fault
        return self.chaos.request(key) if self.chaos else None

    def for_transaction(self, via: Via, endpoint: int, signature: str, *, preflight: bool) -> TransactionFault | None:
        key = self._key(f"{via}/{endpoint}/{signature}")
        for rule in self._live(via, endpoint):
            fault = rule.fault
            if isinstance(fault, Refuse) and not preflight:
                continue
            if isinstance(fault, TransactionFault) and rule.take(key):
                return fault
        drawn = self.chaos.transaction(key) if self.chaos else None
        return None if isinstance(drawn, Refuse) and not preflight else drawn

    def _key(self, what: str) -> str:
        self._asked[what] += 1
        return f"{what}/{self._asked[what]}"

    def _live(self, host: str, endpoint: int) -> list[Rule]:
        height = self.height()
        self.rules = [rule for rule in self.rules if rule.live(height)]
        return [
            rule for rule in reversed(self.rules) if rule.host in (None, host) and rule.endpoint in (None, endpoint)
        ]
