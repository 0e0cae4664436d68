"""The node's JSON-RPC methods answer as a Solana node does."""

from __future__ import annotations

import base64
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from node import Node, Wallet, sign, transfer_instructions
from node.client import Client, Refused, encoded
from node.wire import b58encode
from solders.account import Account
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ALICE, BOB = Wallet("alice"), Wallet("bob")
SOL = 10**9


@asynccontextmanager
async def running(endpoints: int = 1) -> AsyncIterator[tuple[Node, Client]]:
    async with Node(endpoints=endpoints, seed=1) as node, Client(node) as client:
        node.fund(ALICE.key, 100 * SOL)
        yield node, client


def payment(
    blockhash: str, operation: str = "one", lamports: int = SOL, unit_price: int | None = None
) -> VersionedTransaction:
    instructions = transfer_instructions(operation, ALICE.key, BOB.key, lamports)
    limit = None if unit_price is None else 100_000
    return sign(ALICE, instructions, blockhash, unit_limit=limit, unit_price=unit_price)


async def test_slots_heights_and_commitments() -> None:
    async with running() as (node, client):
        node.tick(50)
        slots = {level: await client.call("getSlot", {"commitment": level}) for level in ("processed", "confirmed")}
        assert slots["processed"] == node.slot
        assert slots["confirmed"] < slots["processed"]
        assert await client.call("getSlot") == node.chain.block(node.height - 32).slot
        assert await client.call("getBlockHeight", {"commitment": "processed"}) == node.height
        assert await client.call("getBlockHeight", {"commitment": "confirmed"}) == node.height - 1
        assert await client.call("getBlockHeight") == node.height - 32


async def test_slot_and_height_drift_apart() -> None:
    async with running() as (node, _):
        before = node.slot - node.height
        node.tick(100)
        assert node.slot - node.height == before + 5


async def test_version_health_epoch_and_rent() -> None:
    async with running() as (node, client):
        assert await client.call("getHealth") == "ok"
        assert "solana-core" in await client.call("getVersion")
        epoch = await client.call("getEpochInfo", {"commitment": "processed"})
        assert epoch["absoluteSlot"] == node.slot
        assert epoch["blockHeight"] == node.height
        assert epoch["epoch"] * 432_000 + epoch["slotIndex"] == node.slot
        assert await client.call("getMinimumBalanceForRentExemption", 0) == 890_880
        samples = await client.call("getRecentPerformanceSamples", 2)
        assert [s["samplePeriodSecs"] / s["numSlots"] for s in samples] == [node.chain.slot_s] * 2


async def test_block_time_is_chain_time_and_skipped_slots_have_none() -> None:
    async with running() as (node, client):
        node.chain.unix_s += 5
        node.tick()
        assert await client.call("getBlockTime", node.slot) == int(node.chain.unix_s)
        made = {block.slot for block in node.chain.blocks}
        skipped = next(s for s in range(min(made), max(made)) if s not in made)
        with pytest.raises(Refused) as refused:
            await client.call("getBlockTime", skipped)
        assert refused.value.code == -32009


async def test_clock_account_is_the_block_s() -> None:
    async with running() as (node, client):
        key = "SysvarC1ock11111111111111111111111111111111"
        reply = await client.call("getAccountInfo", key, {"encoding": "base64", "commitment": "confirmed"})
        slot, *_, unix_s = struct.unpack("<QqQQq", base64.b64decode(reply["value"]["data"][0]))
        block = node.chain.block(node.height - 1)
        assert (slot, unix_s) == (block.slot, int(block.unix_s))
        assert reply["context"]["slot"] == block.slot


async def test_blockhash_lives_150_blocks() -> None:
    async with running() as (node, client):
        reply = (await client.call("getLatestBlockhash", {"commitment": "processed"}))["value"]
        assert reply["lastValidBlockHeight"] == node.height + 150
        at = {"commitment": "processed"}
        node.tick(150)
        assert (await client.call("isBlockhashValid", reply["blockhash"], at))["value"] is True
        node.tick()
        assert (await client.call("isBlockhashValid", reply["blockhash"], at))["value"] is False


async def test_a_fresh_blockhash_is_unknown_at_finalized() -> None:
    async with running() as (_, client):
        blockhash = await client.blockhash("confirmed")
        assert (await client.call("isBlockhashValid", blockhash))["value"] is False
        with pytest.raises(Refused, match="Blockhash not found") as refused:
            await client.call("sendTransaction", encoded(payment(blockhash)), {"encoding": "base64"})
        assert refused.value.code == -32002
        assert refused.value.data["err"] == "BlockhashNotFound"


async def test_a_payment_goes_through_the_commitments() -> None:
    async with running() as (node, client):
        transaction = payment(await client.blockhash())
        signature = await client.send(transaction, preflight=True)
        assert await client.status(signature) is None
        node.tick()
        first = await client.status(signature)
        assert first == {
            "slot": node.slot,
            "confirmations": 0,
            "err": None,
            "status": {"Ok": None},
            "confirmationStatus": "processed",
        }
        balances = [
            await client.call("getBalance", str(BOB.key), {"commitment": c}) for c in ("processed", "confirmed")
        ]
        assert [b["value"] for b in balances] == [SOL, 0]
        node.tick()
        assert (await client.status(signature))["confirmationStatus"] == "confirmed"
        assert (await client.call("getBalance", str(BOB.key)))["value"] == 0
        node.tick(31)
        last = await client.status(signature)
        assert (last["confirmationStatus"], last["confirmations"]) == ("finalized", None)
        assert (await client.call("getBalance", str(BOB.key)))["value"] == SOL


async def test_old_statuses_need_the_history_search() -> None:
    async with running() as (node, client):
        signature = await client.send(payment(await client.blockhash()))
        node.tick(302)
        assert (await client.call("getSignatureStatuses", [signature]))["value"] == [None]
        assert (await client.status(signature))["confirmationStatus"] == "finalized"


async def test_a_program_error_lands_and_costs_the_fee() -> None:
    async with running() as (node, client):
        transaction = payment(await client.blockhash(), lamports=1000 * SOL)
        with pytest.raises(Refused, match="custom program error: 0x1") as refused:
            await client.send(transaction, preflight=True)
        assert refused.value.data["err"] == {"InstructionError": [0, {"Custom": 1}]}
        assert any("insufficient lamports" in line for line in refused.value.data["logs"])
        signature = await client.send(transaction)
        node.tick()
        status = await client.status(signature)
        assert status["err"] == {"InstructionError": [0, {"Custom": 1}]}
        assert status["status"] == {"Err": status["err"]}
        assert node.balance(ALICE.key) == 100 * SOL - 5000


async def test_priority_fee_is_charged_and_predicted() -> None:
    async with running() as (node, client):
        transaction = payment(await client.blockhash(), unit_price=20_000)
        message = base64.b64encode(to_bytes_versioned(transaction.message)).decode()
        fee = (await client.call("getFeeForMessage", message, {"commitment": "confirmed"}))["value"]
        assert fee == 5000 + 100_000 * 20_000 // 1_000_000
        await client.send(transaction)
        node.tick()
        assert node.balance(ALICE.key) == 100 * SOL - SOL - fee
        node.expire_blockhashes()
        assert (await client.call("getFeeForMessage", message, {"commitment": "confirmed"}))["value"] is None


async def test_recent_fees_follow_the_setting_and_congestion_delays_the_cheap() -> None:
    async with running() as (node, client):
        node.chain.priority_fee = 9_000
        node.mempool.min_unit_price = 9_000
        node.tick()
        fees = await client.call("getRecentPrioritizationFees", [str(ALICE.key)])
        assert fees[-1] == {"slot": node.slot, "prioritizationFee": 9_000}
        assert len(fees) == len({fee["slot"] for fee in fees}) <= 150
        blockhash = await client.blockhash()
        cheap = await client.send(payment(blockhash, "cheap", unit_price=8_999))
        dear = await client.send(payment(blockhash, "dear", unit_price=9_000))
        node.tick()
        assert await client.status(cheap) is None
        assert await client.status(dear) is not None
        node.mempool.min_unit_price = 0
        node.tick()
        assert await client.status(cheap) is not None


async def test_bad_signatures_never_land() -> None:
    async with running() as (node, client):
        good = payment(await client.blockhash())
        forged = VersionedTransaction.populate(good.message, [Signature.new_unique()])
        with pytest.raises(Refused) as refused:
            await client.send(forged, preflight=True)
        assert refused.value.code == -32003
        signature = await client.send(forged)
        node.tick(2)
        assert await client.status(signature) is None
        assert node.records.seen[signature].fate == "dropped: SignatureFailure"


async def test_a_payer_without_money_never_lands() -> None:
    async with running() as (node, client):
        poor = Wallet("poor")
        transaction = sign(poor, transfer_instructions("x", poor.key, BOB.key, 1), await client.blockhash())
        with pytest.raises(Refused, match="Attempt to debit an account"):
            await client.send(transaction, preflight=True)
        signature = await client.send(transaction)
        node.tick(2)
        assert await client.status(signature) is None


async def test_the_same_bytes_twice_have_one_effect() -> None:
    async with running(endpoints=2) as (node, client):
        transaction = payment(await client.blockhash())
        for endpoint in (0, 1, 0):
            await client.send(transaction, endpoint=endpoint)
        node.tick()
        assert node.balance(BOB.key) == SOL
        with pytest.raises(Refused, match="already been processed"):
            await client.send(transaction, preflight=True)
        await client.send(transaction)
        node.tick(5)
        assert node.balance(BOB.key) == SOL
        assert node.records.transactions("one") == 1
        assert len(node.records.seen[str(transaction.signatures[0])].copies) == 5
        assert node.double_landings == 0


async def test_simulation_changes_nothing_and_needs_no_signature() -> None:
    async with running() as (node, client):
        unsigned = VersionedTransaction.populate(payment(await client.blockhash()).message, [Signature.default()])
        config = {"encoding": "base64", "commitment": "confirmed"}
        reply = (await client.call("simulateTransaction", encoded(unsigned), config))["value"]
        assert reply["err"] is None
        assert reply["unitsConsumed"] > 0
        assert any("op:one" in line for line in reply["logs"])
        with pytest.raises(Refused) as refused:
            await client.call("simulateTransaction", encoded(unsigned), {**config, "sigVerify": True})
        assert refused.value.code == -32003
        node.tick(2)
        assert node.balance(BOB.key) == 0


async def test_simulation_replaces_the_blockhash_and_shows_accounts() -> None:
    async with running() as (_, client):
        stale = payment(str(Pubkey.new_unique()))
        config = {"encoding": "base64", "commitment": "confirmed"}
        reply = (await client.call("simulateTransaction", encoded(stale), config))["value"]
        assert (reply["err"], reply["logs"]) == ("BlockhashNotFound", [])
        wanted = {"accounts": {"encoding": "base64", "addresses": [str(BOB.key)]}, "replaceRecentBlockhash": True}
        reply = (await client.call("simulateTransaction", encoded(stale), {**config, **wanted}))["value"]
        assert reply["err"] is None
        assert reply["accounts"][0]["lamports"] == SOL
        assert reply["replacementBlockhash"]["blockhash"] == await client.blockhash()


async def test_get_transaction() -> None:
    async with running() as (node, client):
        transaction = payment(await client.blockhash())
        signature = await client.send(transaction)
        node.tick(2)
        config = {"encoding": "base64", "commitment": "confirmed"}
        with pytest.raises(Refused) as refused:
            await client.call("getTransaction", signature, config)
        assert refused.value.code == -32015
        versioned = {**config, "maxSupportedTransactionVersion": 1}
        found = await client.call("getTransaction", signature, versioned)
        assert base64.b64decode(found["transaction"][0]) == bytes(transaction)
        assert found["version"] == 0
        assert found["meta"]["fee"] == 5000
        gained = [b - a for a, b in zip(found["meta"]["preBalances"], found["meta"]["postBalances"], strict=True)]
        assert gained[:2] == [-SOL - 5000, SOL]
        assert await client.call("getTransaction", str(Signature.new_unique()), versioned) is None
        with pytest.raises(Refused, match="below `confirmed`"):
            await client.call("getTransaction", signature, {**versioned, "commitment": "processed"})
        shown = await client.call("getTransaction", signature, {**versioned, "encoding": "json"})
        assert shown["transaction"]["signatures"] == [signature]
        assert shown["transaction"]["message"]["accountKeys"][0] == str(ALICE.key)


async def test_signatures_of_an_address() -> None:
    async with running() as (node, client):
        sent = []
        for name in ("a", "b", "c"):
            sent.append(await client.send(payment(await client.blockhash(), name)))
            node.tick()
        node.tick(40)
        found = await client.call("getSignaturesForAddress", str(BOB.key))
        assert [f["signature"] for f in found] == sent[::-1]
        page = await client.call("getSignaturesForAddress", str(BOB.key), {"limit": 1, "before": sent[2]})
        assert [f["signature"] for f in page] == [sent[1]]
        rest = await client.call("getSignaturesForAddress", str(BOB.key), {"until": sent[0]})
        assert [f["signature"] for f in rest] == [sent[2], sent[1]]


async def test_accounts() -> None:
    async with running() as (node, client):
        key, owner = Pubkey.new_unique(), Pubkey.new_unique()
        node.chain.put_account(key, Account(5 * SOL, b"0123456789", owner, False, 2**64 - 1))
        sliced = {"encoding": "base64", "dataSlice": {"offset": 2, "length": 3}}
        value = (await client.call("getAccountInfo", str(key), sliced))["value"]
        assert base64.b64decode(value["data"][0]) == b"234"
        assert (value["owner"], value["space"], value["rentEpoch"]) == (str(owner), 10, 2**64 - 1)
        both = (await client.call("getMultipleAccounts", [str(key), str(Pubkey.new_unique())]))["value"]
        assert base64.b64decode(both[0]["data"][0]) == b"0123456789"
        assert both[1] is None
        with pytest.raises(Refused) as refused:
            await client.call("getMultipleAccounts", [str(key)] * 101)
        assert refused.value.code == -32602


async def test_airdrop_is_a_transaction() -> None:
    async with running() as (node, client):
        signatures = [await client.call("requestAirdrop", str(BOB.key), SOL) for _ in range(2)]
        node.tick(2)
        assert [(await client.status(s))["confirmationStatus"] for s in signatures] == ["confirmed"] * 2
        assert node.balance(BOB.key) == 2 * SOL
        assert node.records.disagreements({}) == []


async def test_min_context_slot() -> None:
    async with running() as (node, client):
        at = {"commitment": "confirmed", "minContextSlot": node.slot}
        with pytest.raises(Refused) as refused:
            await client.call("getBalance", str(ALICE.key), at)
        assert refused.value.code == -32016
        assert refused.value.data["contextSlot"] < node.slot
        node.tick()
        assert (await client.call("getBalance", str(ALICE.key), at))["value"] == 100 * SOL


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("getNothing", [], -32601),
        ("getBalance", [], -32602),
        ("getBalance", ["not a key"], -32602),
        ("getBalance", [5], -32602),
        ("getSlot", [{"commitment": "certain"}], -32602),
        ("sendTransaction", ["!!", {"encoding": "base64"}], -32602),
        ("sendTransaction", ["AAAA", {"encoding": "base64"}], -32602),
        ("sendTransaction", ["0OIl"], -32602),
        ("sendTransaction", [base64.b64encode(bytes(1233)).decode(), {"encoding": "base64"}], -32602),
        ("getSignatureStatuses", [["x"] * 257], -32602),
        ("getFeeForMessage", ["AAAA"], -32602),
    ],
)
async def test_bad_requests(method: str, params: list[object], code: int) -> None:
    async with running() as (_, client):
        with pytest.raises(Refused) as refused:
            await client.call(method, *params)
        assert refused.value.code == code


async def test_http_around_json_rpc() -> None:
    async with running() as (node, client):
        batch = [{"jsonrpc": "2.0", "id": i, "method": "getHealth"} for i in (1, 2)]
        assert [r["id"] for r in (await client.post(node.rpc_url, batch)).json()] == [1, 2]
        async with client.session.post(node.rpc_url, data="{", headers={"Content-Type": "application/json"}) as reply:
            assert (await reply.json())["error"]["code"] == -32700
        async with client.session.post(node.rpc_url, data="{}") as reply:
            assert reply.status == 415
        async with client.session.get(node.rpc_url) as reply:
            assert reply.status == 405
        async with client.session.get(f"{node.rpc_url}/health") as reply:
            assert await reply.text() == "ok"
        assert node.records.requests["rpc", "getHealth"] == 2


async def test_base58_is_the_default_encoding() -> None:
    assert b58encode(bytes(BOB.key)) == str(BOB.key)
    async with running() as (node, client):
        transaction = payment(await client.blockhash())
        signature = await client.call("sendTransaction", b58encode(bytes(transaction)), {"skipPreflight": True})
        node.tick()
        assert (await client.status(signature))["err"] is None


async def test_lookup_tables() -> None:
    async with running() as (node, client):
        table, owner = Pubkey.new_unique(), Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
        header = struct.pack("<IQQBB", 1, 2**64 - 1, 1, 0, 1) + bytes(32) + b"\0\0"
        node.chain.put_account(table, Account(10**9, header + bytes(BOB.key), owner, False, 2**64 - 1))
        instructions = transfer_instructions("lut", ALICE.key, BOB.key, SOL)
        blockhash = Hash.from_string(await client.blockhash())
        message = MessageV0.try_compile(
            ALICE.key, instructions, [AddressLookupTableAccount(table, [BOB.key])], blockhash
        )
        assert BOB.key not in message.account_keys
        signature = await client.send(VersionedTransaction(message, [ALICE.keypair]))
        node.tick(2)
        assert (await client.call("getBalance", str(BOB.key), {"commitment": "confirmed"}))["value"] == SOL
        config = {"maxSupportedTransactionVersion": 0, "commitment": "confirmed"}
        found = await client.call("getTransaction", signature, config)
        assert found["meta"]["loadedAddresses"]["writable"] == [str(BOB.key)]


async def test_an_unknown_program_is_refused() -> None:
    async with running() as (_, client):
        nothing = Instruction(Pubkey.new_unique(), b"", [AccountMeta(ALICE.key, True, True)])
        transaction = sign(ALICE, [nothing], await client.blockhash())
        with pytest.raises(Refused) as refused:
            await client.send(transaction, preflight=True)
        assert refused.value.code == -32002
