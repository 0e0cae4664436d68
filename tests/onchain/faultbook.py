"""Every fault of the scenario matrix as something that strikes a running scene and heals again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from engine_harness import Killed
from matrix import Told
from node import Blackhole, Dropped, ErrorReply, FailOnChain, Hide, Late, LostReply, RateLimited, Reorg, Stuck
from node.faults import Host, RequestFault, Rule, TransactionFault
from scene import SOL, Scene, scene

from deltatui.domain.command import CommandResult
from deltatui.domain.errors import TransientError
from deltatui.domain.operation import OperationState
from deltatui.engine.snapshots import SnapshotBuilder, Surroundings

OUTAGE_S = 40.0
HELD_BLOCKS = 110
"""Late enough that the engine gives up waiting (30 s), early enough that the blockhash still lives."""
_PREFLIGHT = ErrorReply(-32002, "Transaction simulation failed: Blockhash not found", {"err": "BlockhashNotFound"})


@dataclass
class Strike:
    """``signature`` is known from SIGNED on."""

    s: Scene
    phase: str
    signature: str = ""
    held: Rule | None = None
    heal: list[Callable[[], None]] = field(default_factory=list)

    def requests(self, fault: RequestFault, *hosts: Host, methods: tuple[str, ...] | None = None) -> None:
        for host in hosts:
            rule = self.s.node.faults.requests(fault, host=host, methods=methods)
            self.heal.append(rule.clear)

    def bytes(self, fault: TransactionFault) -> None:
        """For every copy from now on, and for what is on its way already."""
        rule = self.s.node.faults.transactions(fault)
        self.heal.append(rule.clear)
        pool = self.s.node.mempool
        if self.signature in pool.traits:
            pool.traits[self.signature].learn(fault)
        pending = pool.pending.get(self.signature)
        if pending is not None and isinstance(fault, Blackhole):
            del pool.pending[self.signature]
        if pending is not None and isinstance(fault, Late):
            pending.due = max(pending.due, self.s.node.height + fault.blocks)

    def swallow(self) -> None:
        """No copy ever lands, and it does not heal."""
        self.bytes(Blackhole())
        self.heal.pop()

    def late(self) -> None:
        held = self.phase in ("unresolved", "recovering")
        pending = self.s.node.mempool.pending.get(self.signature)
        if held and pending is not None:
            pending.due += 15
        else:
            self.bytes(Late(90))

    def bundle(self) -> None:
        self.s.node.mempool.pending.pop(self.signature, None)
        self.heal.append(self.s.node.faults.transactions(Blackhole(), via="jito").clear)

    def reorg(self) -> None:
        if self.held is not None:
            self.held.clear()
        fork = Reorg(after=2, reland_after=None)
        pool = self.s.node.mempool
        # Once: what is sent again stays.
        if self.signature in pool.traits:
            pool.traits[self.signature].learn(fork)
        else:
            self.s.node.faults.transactions(fork, count=1)

    def expire(self) -> None:
        """The chain runs away from the blockhash; a copy that waits is forgotten by its leader."""
        self.s.node.mempool.pending.pop(self.signature, None)
        self.s.node.tick(160)

    def refuse(self, code: str, sentence: str) -> None:
        def no(number: int, name: str) -> None:
            raise TransientError(code, sentence)

        def yes() -> None:
            self.s.gremlin.before = lambda number, name: None

        self.s.gremlin.before = no
        self.heal.append(yes)

    def mute(self) -> None:
        for index in range(2):
            self.s.node.endpoint(index).pubsub.mute = True

    def stale(self) -> None:
        self.s.node.endpoint(0).view.lag_blocks = 120
        self.heal.append(lambda: setattr(self.s.node.endpoint(0).view, "lag_blocks", 0))

    def clock(self) -> None:
        self.s.clock.ahead_s += 5.0

    def overdraw(self) -> None:
        if self.phase == "before sign":
            self.s.venue.lamports = 1_000_000 * SOL
        else:
            self.requests(_PREFLIGHT, "rpc", "jito", methods=("sendTransaction",))


FAULTS: dict[str, Callable[[Strike], None]] = {
    "Jito down": lambda f: f.requests(Dropped(), "jito"),
    "Jito 429, id null": lambda f: f.requests(RateLimited("null_id"), "jito"),
    "bundle never lands": Strike.bundle,
    "RPC 429": lambda f: f.requests(RateLimited("html"), "rpc"),
    "RPC down": lambda f: f.requests(Dropped(), "rpc", "ws"),
    "lost reply": lambda f: f.requests(LostReply(), "rpc", "jito", methods=("sendTransaction",)),
    "accepted, never lands": Strike.swallow,
    "late landing": Strike.late,
    "landed, status hidden": lambda f: f.bytes(Hide(90)),
    "stuck at processed": lambda f: f.bytes(Stuck(30)),
    "reorg": Strike.reorg,
    "blockhash expired": Strike.expire,
    "preflight error": Strike.overdraw,
    "on-chain failure": lambda f: f.bytes(FailOnChain(6004)),
    "mute WebSocket": Strike.mute,
    "stale node": Strike.stale,
    "clock off by 5 s": Strike.clock,
    "database locked": lambda f: f.refuse("DATABASE_LOCKED", "another program holds the database locked"),
    "disk full": lambda f: f.refuse("DISK_FULL", "there is no room left to write the database"),
    "kill -9": lambda f: None,
}
_LEAVES_TRACES = (*tuple(FAULTS)[:11], "preflight error", "on-chain failure")
_OVERDRAWN = ("before sign", "preflight error")
_NOT_TOLD = frozenset({"state", "alert_cleared"})


async def play(fault: str, phase: str) -> Told:
    """One cell, judged by the chain at the end: nothing landed twice, nothing forgotten, one signature, the journal
    says what the chain says."""
    async with scene(seed=5) as s:
        return await _play(s, fault, phase)


async def _play(s: Scene, fault: str, phase: str) -> Told:
    strike = Strike(s, phase)
    struck = asyncio.Event()
    dies = fault == "kill -9"
    node = s.node
    down: list[Callable[[], None]] = []

    def hit() -> None:
        if struck.is_set():
            return
        struck.set()
        FAULTS[fault](strike)
        asyncio.get_running_loop().call_later(OUTAGE_S, lambda: [heal() for heal in strike.heal])
        if dies and phase != "recovering":
            raise Killed(phase)

    def on_journal(state: str) -> None:
        if state == "SIGNED":
            strike.signature = list(s.engine._trader._executor._signatures.values())[-1]
        wanted = {"signed": "SIGNED", "unresolved": "UNRESOLVED", "before sign": "SIMULATED" if dies else ""}
        if state == wanted.get(phase):
            hit()

    def on_sent() -> None:
        if phase == "sent":
            hit()
        elif phase == "recovering" and not struck.is_set() and not down:
            down.extend(node.faults.requests(Dropped(), host=host).clear for host in ("rpc", "jito", "ws"))  # type: ignore[arg-type]

    s.on_journal, s.on_sent = on_journal, on_sent
    s.events.clear()
    held = None
    if phase in ("unresolved", "recovering"):
        held = strike.held = node.faults.transactions(Late(HELD_BLOCKS))
    if phase == "before sign" and not dies:
        hit()
    asked = asyncio.create_task(s.deposit("cell"))
    answer = ""
    if phase == "recovering":
        await s.until(lambda: s.state == "RECOVERING", 60)
        await _refused_meanwhile(s)
        hit()
        if dies:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            await s.restart()
        asyncio.get_running_loop().call_later(30.0, lambda: [clear() for clear in down])
    try:
        answer = _answer(await asked)
    except Killed:
        await s.restart()
    except asyncio.CancelledError:
        answer = ""
    if held is not None and phase == "unresolved":
        await s.until(struck.is_set)
    await s.settle()
    for heal in strike.heal:
        heal()
    # Confirmed is not final yet: whatever a fork takes back is sent again.
    await asyncio.sleep(60.0)
    await s.settle()
    assert struck.is_set()
    if phase in ("before sign", "signed") and fault in _LEAVES_TRACES and (phase, fault) != _OVERDRAWN:
        copies = [copy for seen in node.records.seen.values() for copy in seen.copies]
        assert node.records.faults or any(copy.fault is not None for copy in copies), "the fault did not strike"
    if fault == "reorg":
        assert len(node.records.seen[strike.signature].landed_at) == 2
    await _agrees_with_the_chain(s)
    return await _told(s, answer)


async def _refused_meanwhile(s: Scene) -> None:
    """No trade is executed while recovering, and every client can see why."""
    before = dict(s.node.records.requests)
    known = set(await s.operations())
    result = await s.deposit("meanwhile")
    assert (result.status, result.code) == ("rejected", "NOT_ACCEPTED"), result
    assert set(await s.operations()) == known
    assert s.node.records.requests["rpc", "simulateTransaction"] == before.get(("rpc", "simulateTransaction"), 0)
    view = SnapshotBuilder(s.engine).build(Surroundings(clients=1, pid=1, started_operator_s=0.0, speed=0))
    assert view.engine.state == "RECOVERING"
    assert view.engine.state_reason


def _answer(result: CommandResult) -> str:
    return f"{result.status} {result.code}"


async def _agrees_with_the_chain(s: Scene) -> None:
    s.node.calm()
    s.node.expire_blockhashes()
    verdicts = {}
    for operation_id, state in (await s.operations()).items():
        assert state.final, (operation_id, state)
        verdicts[operation_id] = state.value
        assert s.node.records.transactions(operation_id) <= 1
        signed = [line for line in await s.journal(operation_id) if line.state is OperationState.SIGNED]
        sent = s.node.records.operations.get(operation_id, [])
        assert set(sent) <= {line.signature for line in signed}
    assert s.node.records.disagreements(verdicts) == []  # type: ignore[arg-type]
    assert s.node.double_landings == 0


async def _told(s: Scene, answer: str) -> Told:
    operations = await s.operations()
    path: list[str] = []
    for operation_id in operations:
        path += [str(line.state) for line in await s.journal(operation_id)]
    shown = [state for state in path if state in ("UNRESOLVED", "LANDED", "FAILED", "EXPIRED")]
    states = [event.message.partition(":")[0] for event in s.events if event.kind == "state"]
    states = [state for state in states if state not in ("STARTING", "RECONCILING")] or [s.state]
    kinds = dict.fromkeys(event.kind for event in s.events if event.kind not in _NOT_TOLD)
    return Told(", ".join(shown) or "none", ", ".join(states), answer, tuple(kinds))


__all__ = ["FAULTS", "Strike", "play"]
