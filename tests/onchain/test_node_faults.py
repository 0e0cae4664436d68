"""Every fault does what its name says, where and as long as it is asked for."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest
from node import (
    Blackhole,
    Body,
    Dropped,
    ErrorReply,
    FailOnChain,
    Hang,
    Hide,
    Late,
    LostReply,
    Node,
    NullResult,
    RateLimited,
    Refuse,
    Reorg,
    Stuck,
    Wallet,
    sign,
    transfer_instructions,
)
from node.client import Client, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from node.faults import RequestFault
    from solders.transaction import VersionedTransaction

ALICE, BOB = Wallet("alice"), Wallet("bob")
SOL = 10**9
RESET = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


@asynccontextmanager
async def running(endpoints: int = 2, seconds: float = 10.0) -> AsyncIterator[tuple[Node, Client]]:
    async with Node(endpoints=endpoints, seed=3) as node, Client(node, seconds) as client:
        node.fund(ALICE.key, 100 * SOL)
        yield node, client


async def payment(client: Client, operation: str = "one") -> VersionedTransaction:
    return sign(ALICE, transfer_instructions(operation, ALICE.key, BOB.key, SOL), await client.blockhash())


# -- requests --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fault", "status", "content_type", "contains"),
    [
        (RateLimited(), 429, "application/json", '"error": {"code": 429, "message": "Too many requests'),
        (RateLimited("null_id"), 429, "application/json", '"id": null'),
        (RateLimited(status=200, code=-32429, message="max usage reached"), 200, "application/json", "-32429"),
        (RateLimited("text", message="slow down"), 429, "text/plain", "slow down"),
        (RateLimited("html"), 429, "text/html", "<html>"),
        (Body(), 502, "text/html", "502 Bad Gateway"),
        (Body("", 200, "application/json"), 200, "application/json", ""),
        (Body("upstream connect error", 503, "text/plain"), 503, "text/plain", "upstream"),
        (
            ErrorReply(-32005, "Node is behind", {"numSlotsBehind": 3104}),
            200,
            "application/json",
            '"numSlotsBehind": 3104',
        ),
        (ErrorReply(-32603, "Internal error", null_id=True), 200, "application/json", '"id": null'),
        (NullResult(), 200, "application/json", '"result": null'),
    ],
)
async def test_answers_instead(fault: RequestFault, status: int, content_type: str, contains: str) -> None:
    async with running() as (node, client):
        node.faults.requests(fault, host="rpc", count=1)
        answer = await client.ask("getSlot")
        assert answer.status == status
        assert answer.headers["Content-Type"].startswith(content_type)
        assert contains in answer.text
        assert node.records.faults[type(fault).__name__] == 1
        assert await client.call("getSlot", {"commitment": "processed"}) == node.slot


async def test_retry_after() -> None:
    async with running() as (node, client):
        node.faults.requests(RateLimited(retry_after_s=3))
        assert (await client.ask("getSlot")).headers["Retry-After"] == "3"


async def test_rules_choose_endpoint_and_method_and_the_newest_wins() -> None:
    async with running() as (node, client):
        rule = node.faults.requests(ErrorReply(1, "old"), endpoint=1, methods=("getSlot",))
        await client.call("getSlot")
        await client.call("getHealth", endpoint=1)
        with pytest.raises(Refused, match="old"):
            await client.call("getSlot", endpoint=1)
        newer = node.faults.requests(ErrorReply(2, "new"), endpoint=1)
        with pytest.raises(Refused, match="new"):
            await client.call("getSlot", endpoint=1)
        newer.clear()
        with pytest.raises(Refused, match="old"):
            await client.call("getSlot", endpoint=1)
        node.faults.clear()
        await client.call("getSlot", endpoint=1)
        assert rule.hits == 2


async def test_rules_end_with_their_blocks() -> None:
    async with running() as (node, client):
        node.faults.requests(ErrorReply(1, "gone in two blocks"), blocks=2)
        node.tick()
        with pytest.raises(Refused, match="two blocks"):
            await client.call("getSlot")
        node.tick()
        await client.call("getSlot")


async def test_a_rule_with_probability_takes_its_share_and_repeats() -> None:
    async def hits() -> list[int]:
        async with running() as (node, client):
            node.faults.requests(ErrorReply(1, "sometimes"), probability=0.3)
            return [int('"error"' in (await client.ask("getSlot")).text) for _ in range(100)]

    first = await hits()
    assert first == await hits()
    assert 15 <= sum(first) <= 45


async def test_dropped_does_nothing_and_lost_reply_does_it() -> None:
    async with running() as (node, client):
        node.faults.requests(Dropped(), methods=("sendTransaction",), count=1)
        with pytest.raises(RESET):
            await client.send(await payment(client, "dropped"))
        node.faults.requests(LostReply(), methods=("sendTransaction",), count=1)
        lost = await payment(client, "lost")
        with pytest.raises(RESET):
            await client.send(lost)
        node.tick()
        assert node.records.transactions("dropped") == 0
        assert (await client.status(str(lost.signatures[0])))["err"] is None


async def test_hanging_for_blocks_answers_then() -> None:
    async with running() as (node, client):
        node.faults.requests(Hang(2), methods=("getSlot",))
        asked = asyncio.create_task(client.call("getSlot", {"commitment": "processed"}))
        await node.gate.held()
        node.tick()
        await client.call("getHealth")
        assert not asked.done()
        node.tick()
        assert await asked == node.slot


async def test_hanging_for_ever_is_a_timeout_and_does_not_outlive_the_node() -> None:
    async with running(seconds=0.05) as (node, client):
        node.faults.requests(Hang(), methods=("getSlot",))
        with pytest.raises(TimeoutError):
            await client.ask("getSlot")
        assert (await client.ask("getHealth")).status == 200


async def test_down_refuses_and_kills_open_connections_and_up_brings_it_back() -> None:
    async with running() as (node, client):
        await client.call("getHealth")
        url = node.rpc_url
        await node.endpoint(0).down()
        with pytest.raises(RESET):  # the pooled connection, killed
            await client.call("getHealth")
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.call("getHealth")
        await client.call("getHealth", endpoint=1)
        await node.endpoint(0).up()
        assert node.rpc_url == url
        assert await client.call("getHealth") == "ok"


# -- transactions ----------------------------------------------------------------------------------------------
async def test_blackhole_takes_the_copy_and_the_next_one_lands() -> None:
    async with running() as (node, client):
        node.faults.transactions(Blackhole(), count=1)
        transaction = await payment(client)
        signature = await client.send(transaction)
        node.tick(5)
        assert await client.status(signature) is None
        await client.send(transaction, endpoint=1)
        node.tick()
        assert (await client.status(signature))["err"] is None


async def test_a_blackholed_transaction_expires() -> None:
    async with running() as (node, client):
        node.faults.transactions(Blackhole())
        signature = await client.send(await payment(client))
        node.tick(149)
        assert node.records.seen[signature].fate == "pending"
        node.tick()
        assert node.records.seen[signature].fate == "expired"


async def test_late_lands_late_or_not_at_all() -> None:
    async with running() as (node, client):
        node.faults.transactions(Late(7), count=1)
        signature = await client.send(await payment(client, "late"))
        node.tick(7)
        assert await client.status(signature) is None
        node.tick()
        assert await client.status(signature) is not None
        node.faults.transactions(Late(200), count=1)
        signature = await client.send(await payment(client, "too late"))
        node.expire_blockhashes()
        assert await client.status(signature) is None


async def test_refuse_is_a_preflight_error_and_passes_without_preflight() -> None:
    async with running() as (node, client):
        error = {"InstructionError": [2, {"Custom": 6004}]}
        node.faults.transactions(Refuse(error, ("Program log: Sufficient collateral.",)))
        transaction = await payment(client)
        with pytest.raises(Refused, match="custom program error: 0x1774") as refused:
            await client.send(transaction, preflight=True)
        assert (refused.value.code, refused.value.data["err"]) == (-32002, error)
        seen = node.records.seen[str(transaction.signatures[0])]
        assert (seen.fate, len(seen.copies)) == ("refused", 1)
        signature = await client.send(transaction)
        node.tick()
        assert (await client.status(signature))["err"] is None


async def test_fail_on_chain_costs_the_fee_and_does_nothing_else() -> None:
    async with running() as (node, client):
        node.faults.transactions(FailOnChain(6010, instruction=1), count=1)
        signature = await client.send(await payment(client), preflight=True)
        node.tick()
        assert (await client.status(signature))["err"] == {"InstructionError": [1, {"Custom": 6010}]}
        assert (node.balance(ALICE.key), node.balance(BOB.key)) == (100 * SOL - 5000, 0)
        assert node.records.seen[signature].fate == "failed"


async def test_hide_shows_the_effect_and_not_the_signature() -> None:
    async with running() as (node, client):
        node.faults.transactions(Hide(10))
        signature = await client.send(await payment(client))
        node.tick(5)
        assert node.balance(BOB.key) == SOL
        assert await client.status(signature) is None
        assert await client.call("getSignaturesForAddress", str(BOB.key), {"commitment": "confirmed"}) == []
        node.tick(6)
        assert (await client.status(signature))["confirmationStatus"] == "confirmed"


async def test_stuck_stays_at_processed() -> None:
    async with running() as (node, client):
        node.faults.transactions(Stuck(40))
        signature = await client.send(await payment(client))
        node.tick(40)
        assert (await client.status(signature))["confirmationStatus"] == "processed"
        node.tick()
        assert (await client.status(signature))["confirmationStatus"] == "finalized"


@pytest.mark.parametrize(("after", "level"), [(1, "confirmed"), (0, "processed")])
async def test_reorg_undoes_and_relands(after: int, level: str) -> None:
    async with running() as (node, client):
        transaction = await payment(client)
        node.tick(2)
        seen: list[str] = []
        node.on_block.append(lambda: seen.append(node.records.seen[signature].fate))
        node.faults.transactions(Reorg(after + 1, reland_after=3))
        signature = await client.send(transaction)
        node.tick(after + 1)
        assert (await client.status(signature))["confirmationStatus"] == level
        node.tick()
        assert await client.status(signature) is None
        assert node.balance(BOB.key) == 0
        node.tick(3)
        assert (await client.status(signature))["confirmationStatus"] == "processed"
        assert len(node.records.seen[signature].landed_at) == 2
        node.expire_blockhashes()
        assert node.balance(BOB.key) == SOL
        assert seen[-1] == "landed"
        assert node.double_landings == 0


async def test_reorg_for_good_unless_sent_again() -> None:
    async with running() as (node, client):
        transaction = await payment(client)
        node.tick(2)
        node.faults.transactions(Reorg(1, None), count=1)
        signature = await client.send(transaction)
        node.tick(20)
        assert await client.status(signature) is None
        await client.send(transaction)
        node.tick()
        assert (await client.status(signature))["err"] is None


async def test_transaction_rules_choose_the_endpoint() -> None:
    async with running() as (node, client):
        node.faults.transactions(Blackhole(), endpoint=1)
        lost = await client.send(await payment(client, "a"), endpoint=1)
        good = await client.send(await payment(client, "b"))
        node.tick()
        assert await client.status(lost) is None
        assert await client.status(good) is not None


# -- stale endpoints and clocks --------------------------------------------------------------------------------
async def test_a_stale_endpoint_shows_an_older_chain_and_forwards_all_the_same() -> None:
    async with running() as (node, client):
        node.endpoint(1).view.lag_blocks = 30
        transaction = await payment(client)
        with pytest.raises(Refused, match="Blockhash not found"):
            await client.send(transaction, endpoint=1, preflight=True)
        signature = await client.send(transaction, endpoint=1)
        node.tick(2)
        assert (await client.status(signature))["confirmationStatus"] == "confirmed"
        assert await client.status(signature, endpoint=1) is None
        heights = [await client.call("getBlockHeight", {"commitment": "processed"}, endpoint=i) for i in (0, 1)]
        assert heights[0] - heights[1] == 30
        at = {"commitment": "processed"}
        assert (await client.call("getBalance", str(BOB.key), at, endpoint=1))["value"] == 0
        node.calm()
        assert await client.status(signature, endpoint=1) is not None


async def test_a_frozen_endpoint_falls_behind_until_it_says_so() -> None:
    async with running() as (node, client):
        node.endpoint(1).view.freeze()
        slot = await client.call("getSlot", endpoint=1)
        node.tick(100)
        assert await client.call("getSlot", endpoint=1) == slot
        assert await client.call("getHealth", endpoint=1) == "ok"
        node.tick(40)
        with pytest.raises(Refused, match=r"Node is behind by \d+ slots") as refused:
            await client.call("getHealth", endpoint=1)
        assert refused.value.code == -32005
        assert refused.value.data["numSlotsBehind"] > 128
        with pytest.raises(Refused, match="Node is behind"):
            await client.send(await payment(client), endpoint=1, preflight=True)
        node.endpoint(1).view.thaw()
        assert await client.call("getSlot", endpoint=1) > slot


async def test_the_chain_s_clock_can_be_off() -> None:
    async with running() as (node, client):
        before = await client.call("getBlockTime", node.slot)
        node.chain.unix_s += 5
        node.tick()
        assert await client.call("getBlockTime", node.slot) - before in (5, 6)
