"""Simulated time and a scripted Solana chain in memory, for tests of the chain room.

``run`` runs a coroutine on an event loop whose time jumps to the next timer whenever nothing else is to do, so
minutes of waiting take milliseconds and every run is the same.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import selectors
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey

from deltatui.chain import transaction
from deltatui.chain.blockclock import BlockClock
from deltatui.chain.http import Reply, TransportError
from deltatui.chain.jito import Jito, JitoConfig
from deltatui.chain.pool import Pool
from deltatui.chain.rpc import EndpointConfig
from deltatui.chain.sender import SenderPolicy, SolanaSender
from deltatui.chain.signer import Secret, SeedSigner
from deltatui.chain.transaction import AccountMeta, Instruction, Payload
from deltatui.domain.event import Level
from deltatui.ports import Unsigned

T = TypeVar("T")

EPOCH_S = 1_790_000_000.0
LIFE_BLOCKS = 150
MEMO = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"
SYSTEM = "11111111111111111111111111111111"
JITO_URL = "http://jito.test"
TIP_FLOOR_URL = "http://floor.test/tip_floor"


class _Selector(selectors.DefaultSelector):
    """Instead of waiting for a timer, moves the time to it."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout is None:
            raise AssertionError("everything waits for something that cannot happen")
        if not found and timeout:
            self.loop.now_s += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now_s = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now_s


def run(work: Coroutine[Any, Any, T], limit_s: float = 3600.0) -> T:
    """Run ``work`` in simulated time; it may take ``limit_s`` of that."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:

        async def bounded() -> T:
            async with asyncio.timeout(limit_s):
                return await work

        return runner.run(bounded())


class LoopClock:
    """The Clock port on the running loop's time."""

    def __init__(self, ahead_s: float = 0.0) -> None:
        self.ahead_s = ahead_s

    def operator_s(self) -> float:
        return EPOCH_S + self.ahead_s + asyncio.get_running_loop().time()

    def market_s(self) -> float:
        return self.operator_s()

    async def sleep(self, operator_seconds: float) -> None:
        await asyncio.sleep(operator_seconds)


class ManualClock:
    """Moves when :meth:`advance` says so; for tests with real sockets."""

    def __init__(self, now_s: float = EPOCH_S) -> None:
        self.now_s = now_s
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def operator_s(self) -> float:
        return self.now_s

    def market_s(self) -> float:
        return self.now_s

    async def sleep(self, operator_seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now_s + operator_seconds, future))
        await future

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        due = [each for each in self._sleepers if each[0] <= self.now_s]
        self._sleepers = [each for each in self._sleepers if each[0] > self.now_s]
        for _, future in due:
            if not future.done():
                future.set_result(None)


@dataclass
class LogLines:
    """A Log that keeps its lines."""

    lines: list[tuple[Level, str, str, Mapping[str, object]]] = field(default_factory=list)

    def __call__(self, level: Level, tag: str, message: str, fields: Mapping[str, object] | None = None) -> None:
        self.lines.append((level, tag, message, fields or {}))

    def tagged(self, tag: str) -> list[str]:
        return [message for _, found, message, _ in self.lines if found == tag]

    @property
    def text(self) -> str:
        return repr(self.lines)


class Refusal(Exception):  # noqa: N818 (an answer, not a failure of the test)
    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.body = {"code": code, "message": message, "data": data}


@dataclass
class Landed:
    slot: int
    err: object = None
    hidden_until_s: float = 0.0


class FakeChain:
    """A chain, any number of nodes in front of it, and a block engine.

    ``script`` decides about a request before the node does: it returns a Reply, raises TransportError, or returns
    None to let it through. ``fate`` decides about a transaction that reached a node: blocks until it lands, or None
    for never (this time). ``after`` may turn a reply that was already earned into a loss.
    """

    def __init__(self, slot_s: float = 0.4) -> None:
        self.slot_s = slot_s
        self.script: Callable[[str, str], Reply | None] = lambda host, method: None
        self.after: Callable[[str, str], bool] = lambda host, method: False
        self.fate: Callable[[str], int | None] = lambda signature: 1
        self.hang: Callable[[str, str], float] = lambda host, method: 0.0
        self.lags: dict[str, int] = {}
        self.genesis: dict[str, str] = {}
        self.first_block: dict[str, int] = {}
        self.simulation: dict[str, object] = {"err": None, "logs": [], "unitsConsumed": 20_000}
        self.chain_error: object = None
        self.hide_s = 0.0
        self.stuck_at_processed: set[str] = set()
        self.requests: list[tuple[float, str, str]] = []
        self.wire: list[tuple[float, str, bytes]] = []
        self.pending: dict[str, tuple[bytes, int]] = {}
        self.landed: dict[str, Landed] = {}
        self.raw: dict[str, bytes] = {}
        self.tables: dict[str, bytes] = {}
        self.history_works = True
        self.heights: dict[str, int] = {}
        self.tip_accounts = [str(Pubkey.from_bytes(hashlib.sha256(b"tip%d" % n).digest())) for n in range(8)]

    # -- the chain ---------------------------------------------------------------------------------------------------

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def slot(self) -> int:
        return 1000 + int(self.now_s() / self.slot_s)

    @staticmethod
    def height_of(slot: int) -> int:
        return slot - 100

    def blockhash(self, height: int) -> str:
        text = str(Hash.from_bytes(hashlib.sha256(b"block%d" % height).digest()))
        self.heights[text] = height
        return text

    def _settle(self) -> None:
        for signature, (raw, slot) in list(self.pending.items()):
            if slot <= self.slot():
                del self.pending[signature]
                if self._last_valid(raw) >= self.height_of(slot):
                    self.landed[signature] = Landed(slot, self.chain_error, self.now_s() + self.hide_s)

    def _last_valid(self, raw: bytes) -> int:
        blockhash = str(MessageV0.from_bytes(raw[66:]).recent_blockhash)
        return self.heights.get(blockhash, -LIFE_BLOCKS) + LIFE_BLOCKS

    def arrive(self, raw: bytes) -> str:
        signature, message = transaction.split(raw)
        payer = transaction.payer_of(raw)
        if not transaction.is_signed_by(payer, message, signature):
            raise Refusal(-32003, "Transaction signature verification failure")
        text = transaction.signature_text(signature)
        self._settle()
        self.raw[text] = raw
        if text not in self.landed and text not in self.pending:
            blocks = self.fate(text)
            if blocks is not None:
                self.pending[text] = (raw, self.slot() + blocks)
        return text

    def operations_landed(self) -> list[str]:
        """Memos of what landed without an error, with repetitions."""
        self._settle()
        return sorted(memo_of(self.raw[signature]) for signature, landed in self.landed.items() if landed.err is None)

    def signatures_on_wire(self) -> dict[str, set[str]]:
        """Operation -> signatures that went out for it."""
        found: dict[str, set[str]] = {}
        for _, _, raw in self.wire:
            found.setdefault(memo_of(raw), set()).add(transaction.signature_text(transaction.split(raw)[0]))
        return found

    # -- the transport -----------------------------------------------------------------------------------------------

    async def exchange(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        host = url.split("/")[2]
        name = "tip_floor" if method == "GET" else str(json.loads(body)["method"])
        self.requests.append((self.now_s(), host, name))
        if name == "sendTransaction":
            # Bytes count from the moment they leave us, whatever becomes of the request.
            self.wire.append((self.now_s(), host, base64.b64decode(json.loads(body)["params"][0])))
        await asyncio.sleep(0.02 + self.hang(host, name))
        scripted = self.script(host, name)
        if scripted is not None:
            return scripted
        if name == "tip_floor":
            return Reply(200, json.dumps(self.tip_floor()).encode())
        request = json.loads(body)
        answer: dict[str, object] = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            answer["result"] = getattr(self, "do_" + name)(host, *request["params"])
        except Refusal as refusal:
            answer["error"] = refusal.body
        if self.after(host, name):
            raise TransportError("ServerDisconnectedError")
        return Reply(200, json.dumps(answer).encode(), {"x-bundle-id": "b" * 64} if host == "jito.test" else {})

    async def close(self) -> None:
        pass

    def tip_floor(self) -> list[dict[str, object]]:
        from datetime import UTC, datetime

        names = ("25th", "50th", "75th", "95th", "99th")
        found: dict[str, object] = {f"landed_tips_{name}_percentile": 1e-5 * (n + 1) for n, name in enumerate(names)}
        found["time"] = datetime.fromtimestamp(EPOCH_S + self.now_s(), UTC).isoformat().replace("+00:00", "Z")
        found["ema_landed_tips_50th_percentile"] = 9.836078125000002e-06
        return [found]

    # -- methods of a node -------------------------------------------------------------------------------------------

    def _slot(self, host: str, config: Mapping[str, Any] | None) -> int:
        level = (config or {}).get("commitment", "finalized")
        return self.slot() - self.lags.get(host, 0) - {"processed": 0, "confirmed": 1, "finalized": 32}[level]

    def _valued(self, host: str, value: object) -> dict[str, object]:
        return {"context": {"slot": self._slot(host, {"commitment": "processed"})}, "value": value}

    def do_getGenesisHash(self, host: str) -> str:  # noqa: N802
        return self.genesis.get(host, "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d")

    def do_getSlot(self, host: str, config: dict[str, Any]) -> int:  # noqa: N802
        return self._slot(host, config)

    def do_getEpochInfo(self, host: str, config: dict[str, Any]) -> dict[str, int]:  # noqa: N802
        slot = self._slot(host, config)
        return {"absoluteSlot": slot, "blockHeight": self.height_of(slot), "epoch": 1}

    def do_getLatestBlockhash(self, host: str, config: dict[str, Any]) -> dict[str, object]:  # noqa: N802
        height = self.height_of(self._slot(host, config))
        value = {"blockhash": self.blockhash(height), "lastValidBlockHeight": height + LIFE_BLOCKS}
        return self._valued(host, value)

    def do_getRecentPerformanceSamples(self, host: str, limit: int) -> list[dict[str, int]]:  # noqa: N802
        return [{"slot": self.slot(), "numSlots": int(60 / self.slot_s), "samplePeriodSecs": 60}][:limit]

    def do_getRecentPrioritizationFees(self, host: str, keys: list[str]) -> list[dict[str, int]]:  # noqa: N802
        return [{"slot": self.slot() - n, "prioritizationFee": n * 100} for n in range(150)]

    def do_getFirstAvailableBlock(self, host: str) -> int:  # noqa: N802
        return self.first_block.get(host, 0)

    def do_getAccountInfo(self, host: str, address: str, config: dict[str, Any]) -> dict[str, object]:  # noqa: N802
        unix = (0).to_bytes(32) + int(EPOCH_S + self.now_s()).to_bytes(8, "little")
        account = {"lamports": 1, "owner": SYSTEM, "data": [base64.b64encode(unix).decode(), "base64"]}
        return self._valued(host, account)

    def do_getMultipleAccounts(self, host: str, keys: list[str], config: object) -> dict[str, object]:  # noqa: N802
        def one(key: str) -> dict[str, object] | None:
            if key not in self.tables:
                return None
            return {"lamports": 1, "owner": SYSTEM, "data": [base64.b64encode(self.tables[key]).decode(), "base64"]}

        return self._valued(host, [one(key) for key in keys])

    def do_simulateTransaction(self, host: str, raw: str, config: dict[str, Any]) -> dict[str, object]:  # noqa: N802
        assert config["sigVerify"] is False
        assert config["replaceRecentBlockhash"] is True
        if config.get("minContextSlot", 0) > self._slot(host, config):
            raise Refusal(
                -32016, "Minimum context slot has not been reached", {"contextSlot": self._slot(host, config)}
            )
        return self._valued(host, self.simulation)

    def do_sendTransaction(self, host: str, raw: str, config: dict[str, Any]) -> str:  # noqa: N802
        assert config["encoding"] == "base64"
        if host != "jito.test":
            assert config["skipPreflight"] is True
            assert config["maxRetries"] == 0
        return self.arrive(base64.b64decode(raw))

    def do_getTipAccounts(self, host: str) -> list[str]:  # noqa: N802
        return self.tip_accounts

    def do_getSignatureStatuses(self, host: str, keys: list[str], config: dict[str, Any]) -> dict[str, object]:  # noqa: N802
        assert config["searchTransactionHistory"] is True
        if not self.history_works:
            raise Refusal(-32011, "Transaction history is not available from this node")
        return self._valued(host, [self._status(host, key) for key in keys])

    def _status(self, host: str, signature: str) -> dict[str, object] | None:
        self._settle()
        landed = self.landed.get(signature)
        depth = -1 if landed is None else self.slot() - self.lags.get(host, 0) - landed.slot
        if landed is None or depth < 0 or landed.hidden_until_s > self.now_s():
            return None
        level = "finalized" if depth >= 32 else "confirmed" if depth >= 1 else "processed"
        if signature in self.stuck_at_processed:
            level = "processed"
        return {"slot": landed.slot, "confirmations": None if depth >= 32 else depth, "err": landed.err,
                "status": {"Ok": None}, "confirmationStatus": level}  # fmt: skip

    def do_getSignaturesForAddress(self, host: str, address: str, config: dict[str, Any]) -> list[dict[str, object]]:  # noqa: N802
        self._settle()
        found = [(one.slot, key, one.err) for key, one in self.landed.items() if one.hidden_until_s <= self.now_s()]
        return [{"signature": key, "slot": slot, "err": err, "confirmationStatus": "confirmed"}
                for slot, key, err in sorted(found, reverse=True, key=lambda each: each[0])]  # fmt: skip

    def do_getTransaction(self, host: str, signature: str, config: dict[str, Any]) -> dict[str, object] | None:  # noqa: N802
        assert config["maxSupportedTransactionVersion"] == 1
        landed = self.landed.get(signature)
        if landed is None:
            return None
        logs = ["Program log: AnchorError occurred. Error Code: Slippage. Error Number: 6015. Error Message: Moved."]
        meta = {"err": landed.err, "fee": 5000, "logMessages": logs if landed.err else []}
        return {"slot": landed.slot, "version": 0, "blockTime": 1, "meta": meta}


def memo_of(raw: bytes) -> str:
    """The operation that a test transaction carries as ``op:<id>;``."""
    return raw.partition(b"op:")[2].partition(b";")[0].decode()


def keypair(name: str = "wallet") -> Keypair:
    """The same in every run: made from its name, so worth nothing anywhere."""
    return Keypair.from_seed(hashlib.sha256(f"deltatui chainkit {name}".encode()).digest())


def seed(name: str = "wallet") -> Secret:
    return Secret(bytes(keypair(name))[:32])


def unsigned(operation_id: str, tables: tuple[str, ...] = (), extra: tuple[str, ...] = ()) -> Unsigned:
    accounts = tuple(AccountMeta(address, False, True) for address in extra)
    memo = Instruction(MEMO, accounts, f"op:{operation_id};".encode())
    return Unsigned(operation_id, Payload((memo,), tables).encoded())


@dataclass
class Room:
    """A whole chain room on a fake chain."""

    chain: FakeChain
    clock: LoopClock
    log: LogLines
    block_clock: BlockClock
    pool: Pool
    jito: Jito | None
    sender: SolanaSender


def room(
    chain: FakeChain | None = None,
    hosts: tuple[str, ...] = ("one.test", "two.test"),
    jito: bool = True,
    policy: SenderPolicy | None = None,
) -> Room:
    chain = chain or FakeChain()
    clock, log = LoopClock(), LogLines()
    block_clock = BlockClock(clock)
    configs = [EndpointConfig(url=f"http://{host}/key-of-{host}", requests_per_s=50) for host in hosts]
    pool = Pool(configs, clock, chain, block_clock, log)
    engine = Jito(JitoConfig(url=JITO_URL, tip_floor_url=TIP_FLOOR_URL), clock, chain, log) if jito else None
    sender = SolanaSender(pool, SeedSigner(seed()), clock, log, policy, engine)
    return Room(chain, clock, log, block_clock, pool, engine, sender)
