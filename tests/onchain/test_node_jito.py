"""The block engine: atomic bundles, tips, statuses, limits, outages."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest
from node import (
    Blackhole,
    FailOnChain,
    Hang,
    Late,
    LostReply,
    Node,
    RateLimited,
    Wallet,
    sign,
    tip_instruction,
    transfer_instructions,
)
from node.client import Client, Refused, encoded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from solders.transaction import VersionedTransaction

ALICE, BOB = Wallet("alice"), Wallet("bob")
SOL = 10**9
BASE64 = {"encoding": "base64"}


@asynccontextmanager
async def running(seconds: float = 10.0) -> AsyncIterator[tuple[Node, Client]]:
    async with Node(seed=4) as node, Client(node, seconds) as client:
        node.fund(ALICE.key, 100 * SOL)
        yield node, client


async def payment(
    client: Client, operation: str = "one", lamports: int = SOL, tip: int | None = 10_000
) -> VersionedTransaction:
    instructions = transfer_instructions(operation, ALICE.key, BOB.key, lamports)
    if tip is not None:
        accounts = await client.jito("getTipAccounts", path="/api/v1/getTipAccounts")
        instructions.append(tip_instruction(ALICE.key, accounts[0], tip))
    return sign(ALICE, instructions, await client.blockhash())


async def inflight(client: Client, bundle: str) -> str:
    reply = await client.jito("getInflightBundleStatuses", [bundle], path="/api/v1/getInflightBundleStatuses")
    return str(reply["value"][0]["status"])


async def test_tip_accounts_and_floor() -> None:
    async with running() as (node, client):
        assert len(set(await client.jito("getTipAccounts"))) == 8
        node.jito.engine.tip_floor_sol["50"] = 2e-5
        async with client.session.get(f"{node.jito_url}/api/v1/bundles/tip_floor") as reply:
            floor = (await reply.json())[0]
        assert floor["landed_tips_50th_percentile"] == 2e-5
        assert {f"landed_tips_{p}th_percentile" for p in (25, 50, 75, 95, 99)} < set(floor)


async def test_a_bundle_lands_whole_and_is_found() -> None:
    async with running() as (node, client):
        pair = [await payment(client, "a"), await payment(client, "b", tip=None)]
        bundle = await client.jito("sendBundle", [encoded(t) for t in pair], BASE64)
        assert await inflight(client, bundle) == "Pending"
        node.tick(2)
        assert await inflight(client, bundle) == "Landed"
        status = (await client.jito("getBundleStatuses", [bundle], path="/api/v1/getBundleStatuses"))["value"][0]
        assert status == {
            "bundle_id": bundle,
            "transactions": [str(t.signatures[0]) for t in pair],
            "slot": node.chain.block(node.height - 1).slot,
            "confirmation_status": "confirmed",
            "err": {"Ok": None},
        }
        assert node.balance(BOB.key) == 2 * SOL
        landings = [node.chain.landed[str(t.signatures[0])] for t in pair]
        assert landings[0].slot == landings[1].slot


async def test_a_bundle_with_a_failing_transaction_does_nothing() -> None:
    async with running() as (node, client):
        pair = [await payment(client, "a"), await payment(client, "b", lamports=1000 * SOL, tip=None)]
        bundle = await client.jito("sendBundle", [encoded(t) for t in pair], BASE64)
        node.tick(2)
        assert await inflight(client, bundle) == "Failed"
        assert (node.balance(ALICE.key), node.balance(BOB.key)) == (100 * SOL, 0)
        assert (await client.jito("getBundleStatuses", [bundle]))["value"] == [None]


@pytest.mark.parametrize("fault", [Blackhole(), FailOnChain()])
async def test_an_accepted_bundle_that_never_lands_lands_by_rpc(fault: Blackhole | FailOnChain) -> None:
    async with running() as (node, client):
        node.faults.transactions(fault, via="bundle")
        transaction = await payment(client)
        bundle = await client.jito("sendBundle", [encoded(transaction)], BASE64)
        node.tick(10)
        assert await inflight(client, bundle) == ("Pending" if isinstance(fault, Blackhole) else "Failed")
        assert await client.status(str(transaction.signatures[0])) is None
        signature = await client.send(transaction)
        node.tick()
        status = await client.status(signature)
        assert (status["err"] is None) is isinstance(fault, Blackhole)
        assert node.records.transactions("one") == 1


async def test_a_pending_bundle_fails_with_its_blockhash_and_is_forgotten_after_five_minutes() -> None:
    async with running() as (node, client):
        node.faults.transactions(Blackhole(), via="bundle")
        bundle = await client.jito("sendBundle", [encoded(await payment(client))], BASE64)
        node.tick(151)
        assert await inflight(client, bundle) == "Failed"
        node.chain.unix_s += 300
        assert await inflight(client, bundle) == "Invalid"
        assert await inflight(client, "00" * 32) == "Invalid"


async def test_a_late_bundle() -> None:
    async with running() as (node, client):
        node.faults.transactions(Late(5), via="bundle")
        bundle = await client.jito("sendBundle", [encoded(await payment(client))], BASE64)
        node.tick(5)
        assert await inflight(client, bundle) == "Pending"
        node.tick()
        assert await inflight(client, bundle) == "Landed"


async def test_a_bundle_sent_again_may_land_where_the_first_was_lost() -> None:
    async with running() as (node, client):
        node.faults.transactions(Blackhole(), via="bundle", count=1)
        texts = [encoded(await payment(client))]
        bundle = await client.jito("sendBundle", texts, BASE64)
        node.tick(3)
        assert await inflight(client, bundle) == "Pending"
        assert await client.jito("sendBundle", texts, BASE64) == bundle
        node.tick()
        assert await inflight(client, bundle) == "Landed"


async def test_a_tip_below_the_minimum_never_wins() -> None:
    async with running() as (node, client):
        bundle = await client.jito("sendBundle", [encoded(await payment(client, tip=999))], BASE64)
        node.tick(100)
        assert await inflight(client, bundle) == "Pending"
        assert node.balance(BOB.key) == 0


@pytest.mark.parametrize(
    ("count", "message"),
    [(0, "at least one transaction"), (1, "write lock at least one tip account"), (6, "max transaction count of 5")],
)
async def test_refused_bundles(count: int, message: str) -> None:
    async with running() as (_, client):
        texts = [encoded(await payment(client, str(i), tip=None)) for i in range(count)]
        answer = await client.ask_jito("sendBundle", texts, BASE64)
        assert answer.status == 400
        assert answer.json()["error"]["code"] == -32602
        assert message in answer.json()["error"]["message"]


async def test_what_was_processed_or_is_no_transaction_is_refused() -> None:
    async with running() as (node, client):
        transaction = await payment(client)
        await client.send(transaction)
        node.tick()
        with pytest.raises(Refused, match="already processed"):
            await client.jito("sendBundle", [encoded(transaction)], BASE64)
        with pytest.raises(Refused, match="#0 could not be decoded"):
            await client.jito("sendBundle", [encoded(transaction)])  # base58 is the default


async def test_send_transaction_plain_and_bundle_only() -> None:
    async with running() as (node, client):
        path = "/api/v1/transactions"
        plain, only = await payment(client, "plain", tip=None), await payment(client, "only")
        answer = await client.ask_jito("sendTransaction", encoded(plain), BASE64, path=path)
        assert len(answer.headers["x-bundle-id"]) == 64
        answer = await client.ask_jito("sendTransaction", encoded(only), BASE64, path=f"{path}?bundleOnly=true")
        bundle = answer.headers["x-bundle-id"]
        assert answer.json()["result"] == str(only.signatures[0])
        node.tick()
        assert await inflight(client, bundle) == "Landed"
        assert node.balance(BOB.key) == 2 * SOL
        vias = [[copy.via for copy in seen.copies] for seen in node.records.seen.values()]
        assert vias == [["jito"], ["bundle"]]


async def test_bundle_only_protects_from_a_failed_landing() -> None:
    async with running() as (node, client):
        doomed = await payment(client, lamports=1000 * SOL)
        await client.jito("sendTransaction", encoded(doomed), BASE64, path="/api/v1/transactions?bundleOnly=true")
        node.tick(2)
        assert node.balance(ALICE.key) == 100 * SOL


async def test_congestion_in_http_and_in_json_with_no_id() -> None:
    async with running() as (node, client):
        node.faults.requests(RateLimited("null_id"), host="jito", count=1)
        answer = await client.ask_jito("sendBundle", [], BASE64)
        assert answer.status == 429
        assert answer.json() == {
            "jsonrpc": "2.0",
            "error": {
                "code": -32097,
                "message": "Network congested. Endpoint is globally rate limited.",
                "data": None,
            },
            "id": None,
        }
        node.faults.requests(RateLimited("null_id", status=200), host="jito", count=1)
        answer = await client.ask_jito("sendBundle", [], BASE64)
        assert (answer.status, answer.json()["id"]) == (200, None)
        node.faults.requests(RateLimited("text", message="Too Many Requests"), host="jito", count=1)
        assert (await client.ask_jito("sendBundle", [], BASE64)).text == "Too Many Requests"
        assert (await client.ask("getHealth")).status == 200


async def test_the_limit_per_second_of_chain_time() -> None:
    async with running() as (node, client):
        node.jito.engine.every_s = 1.0
        assert (await client.ask_jito("getTipAccounts")).status == 200
        answer = await client.ask_jito("getTipAccounts")
        assert answer.status == 429
        assert "Retry after 1606ms" in answer.json()["error"]["message"]
        node.advance(1.2)
        assert (await client.ask_jito("getTipAccounts")).status == 200


async def test_down_refuses_and_hanging_times_out() -> None:
    async with running(seconds=0.05) as (node, client):
        await node.jito.down()
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.ask_jito("getTipAccounts")
        await node.jito.up()
        assert (await client.ask_jito("getTipAccounts")).status == 200
        node.faults.requests(Hang(), host="jito")
        with pytest.raises(TimeoutError):
            await client.ask_jito("getTipAccounts")


async def test_a_lost_reply_is_a_bundle_sent() -> None:
    async with running() as (node, client):
        transaction = await payment(client)
        node.faults.requests(LostReply(), host="jito", methods=("sendBundle",))
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await client.jito("sendBundle", [encoded(transaction)], BASE64)
        node.tick()
        assert (await client.status(str(transaction.signatures[0])))["err"] is None


async def test_the_tip_floor_has_faults_too() -> None:
    async with running() as (node, client):
        node.faults.requests(RateLimited("html"), host="jito", methods=("tip_floor",))
        async with client.session.get(f"{node.jito_url}/api/v1/bundles/tip_floor") as reply:
            assert reply.status == 429
