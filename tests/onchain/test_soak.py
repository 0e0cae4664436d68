"""Soak: many operations, random seeded faults of nodes, chain, block engine and disk, and kills at any moment."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from chainkit import run
from engine_harness import Killed
from node import Chaos, Node
from scene import ALICE, AMOUNT, BOB, SOL, Scene, scene

from deltatui.domain.command import ResultStatus
from deltatui.domain.errors import TransientError
from deltatui.domain.operation import OperationState
from deltatui.store.database import Database, Durability
from deltatui.store.engine_store import EngineStore

KILLS_AT = ("SIMULATED", "SIGNED", "SENT", "sent", "UNRESOLVED", "LANDED")
STEP_LIMIT_S = 900.0


class Storm:
    """Draws from the seed what goes wrong around one operation, besides the node's own chaos."""

    def __init__(self, s: Scene, seed: int) -> None:
        self.s = s
        self.dice = random.Random(seed)
        self.deadly = ""
        self.kills: Counter[str] = Counter()
        self.refusals = 0
        self.planned = 0
        s.on_journal = self._journalled
        s.on_sent = lambda: self._maybe_die("sent")

    def _journalled(self, state: str) -> None:
        self.planned += state == "PLANNED"
        self._maybe_die(state)

    def _maybe_die(self, where: str) -> None:
        if where == self.deadly:
            self.deadly = ""
            self.kills[where] += 1
            raise Killed(where)

    def brew(self) -> None:
        self.deadly = self.dice.choice(KILLS_AT) if self.dice.random() < 0.1 else ""
        if self.dice.random() < 0.1:
            left = self.dice.randint(1, 12)
            skip = self.dice.randint(0, 6)

            def refuse(number: int, name: str) -> None:
                nonlocal left, skip
                if skip:
                    skip -= 1
                elif left:
                    left -= 1
                    self.refusals += 1
                    raise TransientError("DATABASE_LOCKED", "another program holds the database locked")

            self.s.gremlin.before = refuse

    def clear(self) -> None:
        self.deadly = ""
        self.s.gremlin.before = lambda number, name: None


async def soak(seed: int, operations: int) -> str:
    """Finality is the measure: the chaos takes confirmed blocks back, which no cluster has done yet."""
    async with scene(seed=seed, commitment="finalized") as s:
        s.node.faults.chaos = Chaos(seed)
        storm = Storm(s, seed)
        answers: Counter[str] = Counter()
        unplanned = 0
        while storm.planned < operations:
            number = answers.total()
            await s.until(lambda: s.state == "RUNNING", STEP_LIMIT_S)
            storm.brew()
            try:
                result = await s.deposit(f"soak {seed} {number}")
                answers[f"{result.status}"] += 1
                if result.code == "DATABASE_LOCKED":
                    assert result.status is ResultStatus.REJECTED
                    unplanned += 1
                # The same intent again never is a second operation.
                again = await s.deposit(f"soak {seed} {number}")
                assert again == result
            except Killed:
                answers["killed"] += 1
                storm.clear()
                await s.restart()
            storm.clear()
        s.node.calm()
        await s.settle(STEP_LIMIT_S)
        s.node.expire_blockhashes()
        # Nobody is forgotten: whatever was not refused outright is in the journal.
        assert len(await s.operations()) == storm.planned == answers.total() - unplanned == operations
        return await judge(s, storm, answers)


async def judge(s: Scene, storm: Storm, answers: Counter[str]) -> str:
    ended = await s.operations()
    assert s.state == "RUNNING"
    assert not s.engine.core.unresolved
    assert all(state.final for state in ended.values())
    assert s.node.double_landings == 0
    records = s.node.records
    assert records.disagreements({key: state.value for key, state in ended.items()}) == []  # type: ignore[misc]
    assert all(records.transactions(each) <= 1 for each in ended)
    landed = sum(state is OperationState.LANDED for state in ended.values())
    assert s.node.balance(BOB.key) == landed * AMOUNT
    counted = Counter(str(state) for state in ended.values())
    assert landed > len(ended) / 3
    assert len(records.faults) > 8
    return (
        f"{len(ended)} operations: {dict(counted)}; answers {dict(answers)}; "
        f"kills {dict(storm.kills)}; database refusals {storm.refusals}; node faults {sum(records.faults.values())}; "
        f"double landings {s.node.double_landings}"
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_forty_operations_end_as_the_chain_says(seed: int) -> None:
    run(soak(seed, 20), limit_s=1e6)


@pytest.mark.soak
def test_a_thousand_operations_end_as_the_chain_says() -> None:
    for seed in range(4):
        began = time.perf_counter()
        told = run(soak(100 + seed, 250), limit_s=1e7)
        print(f"\nseed {100 + seed}, {time.perf_counter() - began:.0f} s: {told}")  # noqa: T201 (the soak is read)


SIGKILL_AT = ("SIMULATED", "SIGNED", "SENT", "sent", "LANDED", "SIGNED", "sent")


@pytest.mark.soak
async def test_sigkill_at_every_step_on_a_real_file_and_real_sockets(tmp_path: Path) -> None:
    """Processes that die one after the other over one database and one chain; each resolves what the last one left."""
    database = tmp_path / "engine.sqlite"
    child = Path(__file__).with_name("killed_engine.py")
    async with Node(endpoints=2, seed=9, slot_s=0.05, unix_s=time.time()) as node:
        node.fund(ALICE.key, 1000 * SOL)
        node.tick(40)

        async def blocks() -> None:
            while True:
                await asyncio.sleep(node.chain.slot_s)
                node.advance(node.chain.slot_s)

        moving = asyncio.create_task(blocks())
        rpc = ",".join(node.endpoint(index).url for index in range(2))
        for number, where in enumerate((*SIGKILL_AT, "never")):
            intent = "" if where == "never" else f"intent {number}"
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(child), str(database), rpc, node.jito_url, where, intent
            )
            code = await asyncio.wait_for(process.wait(), 90)
            assert code == (0 if where == "never" else -signal.SIGKILL), where
        moving.cancel()
        node.expire_blockhashes()
        opened = await Database.open(database, Durability.NORMAL)
        operations = await EngineStore(opened).operations()
        await opened.close()
    states = [str(each.state) for each in reversed(operations)]
    # The fifth died when it booked how the fourth's operation had ended, before it came to its own.
    assert states == ["FAILED", "EXPIRED", "EXPIRED", "LANDED", "EXPIRED", "LANDED"]
    assert node.double_landings == 0
    assert node.records.disagreements({each.operation.id: each.state.value for each in operations}) == []  # type: ignore[misc]
