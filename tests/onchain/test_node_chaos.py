"""The seeded chaos is repeatable, and the judge tells a careful client from a careless one."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, field

import aiohttp
import pytest
from node import Chaos, Node, Wallet, sign, transfer_instructions
from node.client import Client, Refused
from node.records import Verdict
from solders.transaction import VersionedTransaction

ALICE, BOB = Wallet("alice"), Wallet("bob")
SOL = 10**9
TROUBLE = (aiohttp.ClientError, Refused, ValueError, TypeError, KeyError)


@dataclass
class Sender:
    """A sender in its barest form: it signs once, repeats the same bytes to both endpoints, and gives up when the
    endpoint's own finalized height is past the last valid one and that endpoint's history knows nothing. A careless
    one signs anew when it has not heard for so many blocks."""

    node: Node
    client: Client
    careless_after: int | None = None
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    async def run(self, operation: str) -> None:
        transaction, last_valid = await self._signed(operation)
        signature = str(transaction.signatures[0])
        for waited in itertools.count(1):
            endpoint = waited % 2
            if waited == self.careless_after:
                transaction, last_valid = await self._signed(operation)
                signature = str(transaction.signatures[0])
            with contextlib.suppress(*TROUBLE):  # an error says nothing about what becomes of it
                await self.client.send(transaction, endpoint=endpoint)
            self.node.tick()
            try:
                finalized = await self.client.call("getBlockHeight", endpoint=endpoint)
                status = await self.client.status(signature, endpoint=endpoint)
                if status is not None and status["confirmationStatus"] == "finalized":
                    self.verdicts[operation] = "LANDED" if status["err"] is None else "FAILED"
                    return
                if status is None and finalized > last_valid:
                    self.verdicts[operation] = "EXPIRED"
                    return
            except TROUBLE:
                continue

    async def _signed(self, operation: str) -> tuple[VersionedTransaction, int]:
        instructions = transfer_instructions(operation, ALICE.key, BOB.key, SOL // 100)
        while True:
            try:
                reply = (await self.client.call("getLatestBlockhash", {"commitment": "confirmed"}))["value"]
            except TROUBLE:
                self.node.tick()
                continue
            return sign(ALICE, instructions, reply["blockhash"]), int(reply["lastValidBlockHeight"])


async def soak(seed: int, operations: int, careless_after: int | None = None) -> tuple[Node, dict[str, Verdict]]:
    async with Node(endpoints=2, seed=seed) as node, Client(node) as client:
        node.fund(ALICE.key, 1000 * SOL)
        node.faults.chaos = Chaos(seed)
        sender = Sender(node, client, careless_after)
        for i in range(operations):
            await sender.run(f"op {i}")
        node.calm()
        node.expire_blockhashes()
        return node, sender.verdicts


@pytest.mark.parametrize("seed", range(3))
async def test_a_careful_sender_agrees_with_the_chain(seed: int) -> None:
    node, verdicts = await soak(seed, 25)
    assert node.records.disagreements(verdicts) == []
    assert node.double_landings == 0
    landed = sum(verdict == "LANDED" for verdict in verdicts.values())
    assert node.balance(BOB.key) == landed * SOL // 100
    assert len(node.records.faults) > 12


async def test_a_careless_sender_is_caught() -> None:
    node, _ = await soak(1, 10, careless_after=4)
    assert node.double_landings > 0
    assert node.balance(BOB.key) > 10 * SOL // 100


async def test_the_same_seed_is_the_same_story() -> None:
    first, second = [await soak(7, 8) for _ in range(2)]
    assert first[1] == second[1]
    assert first[0].records.faults == second[0].records.faults
    assert first[0].records.requests_to == second[0].records.requests_to
    assert list(first[0].records.seen) == list(second[0].records.seen)
