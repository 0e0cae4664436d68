"""Subscriptions, and sockets that are silent, slow to die or reset."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from node import Dropped, ErrorReply, Node, RateLimited, Wallet, sign, transfer_instructions
from node.client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ALICE, BOB = Wallet("alice"), Wallet("bob")
SOL = 10**9


class Socket:
    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.early: list[Any] = []

    async def ask(self, method: str, *params: object) -> Any:
        """The reply; notifications that come before it are kept for ``next``."""
        await self.ws.send_json({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
        while "id" not in (message := await self.ws.receive_json(timeout=5)):
            self.early.append(message)
        return message

    async def subscribe(self, method: str, *params: object) -> int:
        return int((await self.ask(method, *params))["result"])

    async def next(self) -> Any:
        """The next notification's ``params``."""
        message = self.early.pop(0) if self.early else await self.ws.receive_json(timeout=5)
        return message["params"]

    async def silent(self) -> bool:
        """Nothing has come: a question asked now is answered first."""
        await self.ask("nothing")
        return not self.early


@asynccontextmanager
async def running(**settings: int) -> AsyncIterator[tuple[Node, Client, Socket]]:
    async with Node(seed=5, **settings) as node, Client(node) as client:
        node.fund(ALICE.key, 100 * SOL)
        async with client.session.ws_connect(node.ws_url) as ws:
            yield node, client, Socket(ws)


async def pay(client: Client, operation: str = "one", lamports: int = SOL) -> str:
    instructions = transfer_instructions(operation, ALICE.key, BOB.key, lamports)
    return await client.send(sign(ALICE, instructions, await client.blockhash()))


async def test_slots() -> None:
    async with running() as (node, _, socket):
        number = await socket.subscribe("slotSubscribe")
        parent = node.slot
        node.tick()
        expected = {"parent": parent, "root": node.chain.block(node.height - 32).slot, "slot": node.slot}
        assert await socket.next() == {"result": expected, "subscription": number}
        assert (await socket.ask("slotUnsubscribe", number))["result"] is True
        node.tick()
        assert await socket.silent()
        assert (await socket.ask("slotUnsubscribe", number))["error"]["code"] == -32602


async def test_signatures_at_their_commitment_once() -> None:
    async with running() as (node, client, socket):
        signature = await pay(client)
        number = await socket.subscribe("signatureSubscribe", signature, {"commitment": "confirmed"})
        node.tick()
        assert await socket.silent()
        slot = node.slot
        node.tick()
        assert await socket.next() == {
            "result": {"context": {"slot": slot}, "value": {"err": None}},
            "subscription": number,
        }
        node.tick(40)
        assert await socket.silent()


async def test_a_signature_that_landed_before_is_told_with_the_next_block() -> None:
    async with running() as (node, client, socket):
        signature = await pay(client, lamports=1000 * SOL)
        node.tick(40)
        await socket.subscribe("signatureSubscribe", signature)
        node.tick()
        assert (await socket.next())["result"]["value"] == {"err": {"InstructionError": [0, {"Custom": 1}]}}


async def test_received_notification() -> None:
    async with running() as (_, client, socket):
        transaction = sign(ALICE, transfer_instructions("r", ALICE.key, BOB.key, SOL), await client.blockhash())
        config = {"commitment": "processed", "enableReceivedNotification": True}
        await socket.subscribe("signatureSubscribe", str(transaction.signatures[0]), config)
        await client.send(transaction)
        assert (await socket.next())["result"]["value"] == "receivedSignature"


async def test_accounts_when_they_change() -> None:
    async with running() as (node, client, socket):
        config = {"encoding": "base64", "commitment": "confirmed"}
        await socket.subscribe("accountSubscribe", str(BOB.key), config)
        node.tick(3)
        await pay(client)
        node.tick()
        slot = node.slot
        assert await socket.silent()
        node.tick()
        result = (await socket.next())["result"]
        assert result["context"]["slot"] == slot
        assert (result["value"]["lamports"], result["value"]["data"]) == (SOL, ["", "base64"])
        assert await socket.silent()


async def test_the_clock_account_ticks() -> None:
    async with running() as (node, _, socket):
        key = "SysvarC1ock11111111111111111111111111111111"
        await socket.subscribe("accountSubscribe", key, {"encoding": "base64", "commitment": "processed"})
        node.tick(2)
        slots = [(await socket.next())["result"]["context"]["slot"] for _ in range(2)]
        assert slots == [block.slot for block in node.chain.blocks[-2:]]


async def test_logs_that_mention_a_key() -> None:
    async with running() as (node, client, socket):
        at = {"commitment": "processed"}
        number = await socket.subscribe("logsSubscribe", {"mentions": [str(BOB.key)]}, at)
        await socket.subscribe("logsSubscribe", {"mentions": [str(Wallet("nobody").key)]}, at)
        signature = await pay(client)
        node.tick()
        told = await socket.next()
        assert told["subscription"] == number
        assert told["result"]["value"]["signature"] == signature
        assert any("op:one" in line for line in told["result"]["value"]["logs"])
        assert await socket.silent()
        refused = await socket.ask("logsSubscribe", {"mentions": [str(ALICE.key), str(BOB.key)]}, at)
        assert refused["error"]["code"] == -32602


async def test_a_reorg_is_told_as_new_slots_and_logs() -> None:
    async with running() as (node, client, socket):
        await pay(client)
        node.tick(2)
        await socket.subscribe("slotSubscribe")
        await socket.subscribe("logsSubscribe", "all", {"commitment": "processed"})
        node.reorg(2)
        told = [await socket.next() for _ in range(4)]
        slots = [t["result"]["slot"] for t in told if "slot" in t["result"]]
        assert slots == [block.slot for block in node.chain.blocks[-3:]]
        parents = [t["result"]["parent"] for t in told if "slot" in t["result"]]
        assert parents[0] == node.chain.blocks[-4].slot
        assert sum("value" in t["result"] for t in told) == 1


async def test_a_mute_socket_is_open_and_says_nothing() -> None:
    async with running() as (node, client, socket):
        await socket.subscribe("slotSubscribe")
        signature = await pay(client)
        await socket.subscribe("signatureSubscribe", signature, {"commitment": "processed"})
        node.endpoint(0).pubsub.mute = True
        node.tick(5)
        assert await socket.silent()
        node.endpoint(0).pubsub.mute = False
        node.tick()
        assert (await socket.next())["result"]["slot"] == node.slot
        assert await socket.silent()  # what it did not say is lost
        assert (await client.status(signature))["confirmationStatus"] == "confirmed"


async def test_a_wholly_mute_socket_does_not_even_reply() -> None:
    async with running() as (node, _, socket):
        node.endpoint(0).pubsub.mute_replies = True
        await socket.ws.send_json({"jsonrpc": "2.0", "id": 1, "method": "slotSubscribe"})
        with pytest.raises(TimeoutError):
            await socket.ws.receive(timeout=0.05)
        assert not socket.ws.closed


async def test_a_stale_endpoint_tells_old_slots() -> None:
    async with running() as (node, _, socket):
        await socket.subscribe("slotSubscribe")
        node.endpoint(0).view.lag_blocks = 3
        node.tick(4)
        assert (await socket.next())["result"]["slot"] == node.chain.block(node.height - 3).slot
        assert await socket.silent()
        node.calm()
        node.tick()
        slots = [(await socket.next())["result"]["slot"] for _ in range(4)]
        assert slots == [block.slot for block in node.chain.blocks[-4:]]


async def test_dropped_and_refused_sockets() -> None:
    async with running() as (node, client, socket):
        node.endpoint(0).drop_connections()
        message = await socket.ws.receive(timeout=5)
        assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR)
        rule = node.faults.requests(Dropped(), host="ws", methods=("connect",))
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await client.session.ws_connect(node.ws_url)
        assert rule.hits == 2  # aiohttp itself tries a GET a second time
        rule.clear()
        node.faults.requests(RateLimited("text"), host="ws", methods=("connect",), count=1)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.session.ws_connect(node.ws_url)
        assert refused.value.status == 429
        async with client.session.ws_connect(node.ws_url) as ws:
            assert isinstance(await Socket(ws).subscribe("slotSubscribe"), int)


async def test_faults_inside_a_socket() -> None:
    async with running() as (node, _, socket):
        node.faults.requests(ErrorReply(-32603, "Internal error"), host="ws", count=1)
        assert (await socket.ask("slotSubscribe"))["error"]["code"] == -32603
        node.faults.requests(Dropped(), host="ws", methods=("slotSubscribe",))
        await socket.ws.send_json({"jsonrpc": "2.0", "id": 1, "method": "slotSubscribe"})
        message = await socket.ws.receive(timeout=5)
        assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR)


async def test_bad_frames() -> None:
    async with running() as (_, _, socket):
        await socket.ws.send_str("{")
        assert (await socket.ws.receive_json(timeout=5))["error"]["code"] == -32700
        assert (await socket.ask("getSlot"))["error"]["code"] == -32601
        assert (await socket.ask("accountSubscribe", "x"))["error"]["code"] == -32602


async def test_down_ends_sockets() -> None:
    async with running() as (node, _, socket):
        await socket.subscribe("slotSubscribe")
        ended = asyncio.create_task(socket.ws.receive())
        await node.endpoint(0).down()
        message = await asyncio.wait_for(ended, 5)
        assert message.type is not aiohttp.WSMsgType.TEXT
        node.tick()
        assert not node.endpoint(0).pubsub.connections
