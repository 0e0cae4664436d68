"""The JSON-RPC methods of one endpoint."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from solders.message import Message, MessageV0, from_bytes_versioned
from solders.transaction_metadata import FailedTransactionMetadata

from node import ledger
from node.chain import BLOCKHASH_LIFE, SLOTS_PER_EPOCH
from node.faults import Refuse
from node.params import Params
from node.records import Copy
from node.transaction import message_fee, read
from node.wire import RpcError, account_json, decode_transaction, error_json, invalid, preflight_error, pubkey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from solders.account import Account
    from solders.pubkey import Pubkey

    from node.chain import Level
    from node.faults import Faults
    from node.mempool import Mempool
    from node.params import Config
    from node.transaction import Transaction
    from node.view import View

VERSION = {"feature-set": 3_640_012_085, "solana-core": "4.0.3"}


class Rpc:
    """One endpoint's methods over its view of the chain. ``airdrop`` signs and submits from the faucet."""

    def __init__(
        self,
        index: int,
        view: View,
        mempool: Mempool,
        faults: Faults,
        airdrop: Callable[[Pubkey, int], Transaction],
        received: Callable[[str], None],
    ) -> None:
        self._index = index
        self._view = view
        self._chain = view.chain
        self._mempool = mempool
        self._faults = faults
        self._airdrop = airdrop
        self._received = received
        self._methods: Mapping[str, Callable[[Params], object]] = {
            "getHealth": self._health,
            "getVersion": lambda _: dict(VERSION),
            "getGenesisHash": lambda _: self._chain.blocks[0].blockhash,
            "getSlot": self._slot,
            "getBlockHeight": self._block_height,
            "getLatestBlockhash": self._latest_blockhash,
            "isBlockhashValid": self._blockhash_valid,
            "getBalance": self._balance,
            "getAccountInfo": self._account_info,
            "getMultipleAccounts": self._multiple_accounts,
            "getMinimumBalanceForRentExemption": self._rent,
            "getSignatureStatuses": self._signature_statuses,
            "getSignaturesForAddress": self._signatures_for_address,
            "getTransaction": self._transaction,
            "getBlockTime": self._block_time,
            "getEpochInfo": self._epoch_info,
            "getFirstAvailableBlock": lambda _: 0,
            "getRecentPerformanceSamples": self._performance_samples,
            "getRecentPrioritizationFees": self._prioritization_fees,
            "getFeeForMessage": self._fee_for_message,
            "simulateTransaction": self._simulate_transaction,
            "sendTransaction": self._send_transaction,
            "requestAirdrop": self._request_airdrop,
        }

    def call(self, method: str, params: object) -> object:
        """Raise RpcError for what a node would refuse."""
        found = self._methods.get(method)
        if found is None:
            raise RpcError(-32601, "Method not found")
        return found(Params(params))

    # -- helpers -----------------------------------------------------------------------------------------------
    def _at(self, config: Config) -> Level:
        """The commitment asked for, after the check of minContextSlot."""
        level = config.level()
        least = config.number("minContextSlot")
        slot = self._view.block(level).slot
        if least is not None and least > slot:
            raise RpcError(-32016, "Minimum context slot has not been reached", {"contextSlot": slot})
        return level

    def _context(self, level: Level, value: object) -> dict[str, object]:
        return {
            "context": {"apiVersion": VERSION["solana-core"], "slot": self._view.block(level).slot},
            "value": value,
        }

    def _account(self, key: Pubkey, level: Level) -> Account | None:
        return self._chain.account(key, self._view.height(level))

    # -- plain reads -------------------------------------------------------------------------------------------
    def _health(self, _: Params) -> object:
        self._check_health()
        return "ok"

    def _check_health(self) -> None:
        if not self._view.healthy():
            behind = self._view.slots_behind()
            raise RpcError(-32005, f"Node is behind by {behind} slots", {"numSlotsBehind": behind})

    def _slot(self, params: Params) -> object:
        return self._view.block(self._at(params.config(0))).slot

    def _block_height(self, params: Params) -> object:
        return self._view.height(self._at(params.config(0)))

    def _latest_blockhash(self, params: Params) -> object:
        level = self._at(params.config(0))
        block = self._view.block(level)
        value = {"blockhash": block.blockhash, "lastValidBlockHeight": block.height + BLOCKHASH_LIFE}
        return self._context(level, value)

    def _blockhash_valid(self, params: Params) -> object:
        blockhash, level = params.text(0), self._at(params.config(1))
        return self._context(level, self._chain.blockhash_valid(blockhash, self._view.height(level)))

    def _balance(self, params: Params) -> object:
        key, level = params.pubkey(0), self._at(params.config(1))
        account = self._account(key, level)
        return self._context(level, 0 if account is None else account.lamports)

    def _account_info(self, params: Params) -> object:
        key, config = params.pubkey(0), params.config(1)
        level = self._at(config)
        encoding = config.text("encoding", "base58")
        return self._context(level, account_json(self._account(key, level), encoding, config.get("dataSlice")))

    def _multiple_accounts(self, params: Params) -> object:
        keys, config = [pubkey(k) for k in params.texts(0, 100)], params.config(1)
        level = self._at(config)
        encoding, part = config.text("encoding", "base64"), config.get("dataSlice")
        return self._context(level, [account_json(self._account(key, level), encoding, part) for key in keys])

    def _rent(self, params: Params) -> object:
        return self._chain.svm.minimum_balance_for_rent_exemption(params.number(0))

    def _block_time(self, params: Params) -> object:
        slot = params.number(0)
        block = self._chain.at_slot(slot)
        if block is None or block.height > self._view.height("processed"):
            raise RpcError(-32009, f"Slot {slot} was skipped, or missing in long-term storage")
        return int(block.unix_s)

    def _epoch_info(self, params: Params) -> object:
        block = self._view.block(self._at(params.config(0)))
        return {
            "absoluteSlot": block.slot,
            "blockHeight": block.height,
            "epoch": block.slot // SLOTS_PER_EPOCH,
            "slotIndex": block.slot % SLOTS_PER_EPOCH,
            "slotsInEpoch": SLOTS_PER_EPOCH,
            "transactionCount": len(self._chain.landed),
        }

    def _performance_samples(self, params: Params) -> object:
        limit = params.number(0) if params.optional(0) is not None else 720
        tip = self._view.block("processed").slot
        slots = round(60 / self._chain.slot_s)
        sample = {
            "numTransactions": 240_000,
            "numNonVoteTransactions": 90_000,
            "numSlots": slots,
            "samplePeriodSecs": 60,
        }
        return [{"slot": tip - slots * i, **sample} for i in range(min(limit, 720))]

    def _prioritization_fees(self, params: Params) -> object:
        if params.optional(0) is not None:
            for key in params.texts(0, 128):
                pubkey(key)
        height = self._view.height("processed")
        first = self._chain.blocks[0].height
        blocks = [self._chain.block(h) for h in range(max(first, height - 149), height + 1)]
        return [{"slot": block.slot, "prioritizationFee": block.priority_fee} for block in blocks]

    def _fee_for_message(self, params: Params) -> object:
        text, level = params.text(0), self._at(params.config(1))
        try:
            message = from_bytes_versioned(base64.b64decode(text, validate=True))
        except (ValueError, TypeError, binascii.Error) as error:
            raise invalid(f"failed to deserialize solana_message::versions::VersionedMessage: {error}") from error
        if not isinstance(message, Message | MessageV0):
            raise invalid("this node knows legacy and version 0 messages only")
        alive = self._chain.blockhash_valid(str(message.recent_blockhash), self._view.height(level))
        return self._context(level, message_fee(message)[0] if alive else None)

    # -- transactions that landed ------------------------------------------------------------------------------
    def _signature_statuses(self, params: Params) -> object:
        signatures, config = params.texts(0, 256), params.config(1)
        search = config.flag("searchTransactionHistory")
        return self._context("processed", [ledger.status(self._view, s, search=search) for s in signatures])

    def _signatures_for_address(self, params: Params) -> object:
        key, config = params.pubkey(0), params.config(1)
        return ledger.signatures_for_address(self._view, key, config, self._level_of_history(config))

    def _transaction(self, params: Params) -> object:
        signature = params.text(0)
        second = params.optional(1)
        config = params.config(1) if not isinstance(second, str) else Params([{"encoding": second}]).config(0)
        landing = self._view.landing(signature, self._level_of_history(config))
        return None if landing is None else ledger.transaction(landing, config)

    @staticmethod
    def _level_of_history(config: Config) -> Level:
        level = config.level()
        if level == "processed":
            raise invalid("Method does not support commitment below `confirmed`")
        return level

    # -- transactions that may land ----------------------------------------------------------------------------
    def _send_transaction(self, params: Params) -> object:
        text, config = params.text(0), params.config(1)
        transaction = read(decode_transaction(text, config.text("encoding", "base58")))
        level = config.level("preflightCommitment")
        config.number("maxRetries")
        preflight = not config.flag("skipPreflight")
        fault = self._faults.for_transaction("rpc", self._index, transaction.signature, preflight=preflight)
        if preflight:
            try:
                self._preflight(transaction, level, fault if isinstance(fault, Refuse) else None)
            except RpcError as error:
                copy = Copy("rpc", self._index, self._chain.tip.height, fault)
                self._mempool.records.copy(transaction, copy).refused = error.json()
                raise
        self._mempool.submit(transaction, "rpc", self._index, fault)
        self._received(transaction.signature)
        return transaction.signature

    def _preflight(self, transaction: Transaction, level: Level, refuse: Refuse | None) -> None:
        if not transaction.verified():
            raise RpcError(-32003, "Transaction signature verification failure")
        self._check_health()
        if refuse is not None:
            raise preflight_error(refuse.error, list(refuse.logs))
        error, logs, units, _, _ = self._simulate(transaction, level, check_blockhash=True)
        if error is not None:
            raise preflight_error(error, logs, units)

    def _simulate(
        self, transaction: Transaction, level: Level, *, check_blockhash: bool
    ) -> tuple[object, list[str], int, object, dict[Pubkey, Account]]:
        """(error, logs, units, return data, accounts after). Blockhash age at ``level``, accounts as of the tip."""
        if check_blockhash:
            if self._view.landing(transaction.signature) is not None:
                return "AlreadyProcessed", [], 0, None, {}
            if not self._chain.blockhash_valid(transaction.blockhash, self._view.height(level)):
                return "BlockhashNotFound", [], 0, None, {}
        if transaction.keys(self._chain.account) is None:
            return "AddressLookupTableNotFound", [], 0, None, {}
        result = self._chain.svm.simulate_transaction(transaction.signed)
        meta = result.meta()
        error: object = None
        after: dict[Pubkey, Account] = {}
        if isinstance(result, FailedTransactionMetadata):
            error = error_json(result.err())
        else:
            after = dict(result.post_accounts())
        data = meta.return_data()
        returned = None
        if bytes(data.data):
            returned = {
                "programId": str(data.program_id),
                "data": [base64.b64encode(bytes(data.data)).decode(), "base64"],
            }
        return error, list(meta.logs()), meta.compute_units_consumed(), returned, after

    def _simulate_transaction(self, params: Params) -> object:
        text, config = params.text(0), params.config(1)
        signed = decode_transaction(text, config.text("encoding", "base58"))
        level = self._at(config)
        transaction = read(signed)
        replace, verify = config.flag("replaceRecentBlockhash"), config.flag("sigVerify")
        if verify and replace:
            raise invalid("sigVerify may not be used with replaceRecentBlockhash")
        if verify and not transaction.verified():
            raise RpcError(-32003, "Transaction signature verification failure")
        error, logs, units, returned, after = self._simulate(transaction, level, check_blockhash=not replace)
        value: dict[str, object] = {
            "accounts": self._simulated_accounts(config, level, after, failed=error is not None),
            "err": error,
            "innerInstructions": None,
            "logs": logs,
            "replacementBlockhash": None,
            "returnData": returned,
            "unitsConsumed": units,
        }
        if replace:
            block = self._view.block(level)
            value["replacementBlockhash"] = {
                "blockhash": block.blockhash,
                "lastValidBlockHeight": block.height + BLOCKHASH_LIFE,
            }
        return self._context(level, value)

    def _simulated_accounts(
        self, config: Config, level: Level, after: Mapping[Pubkey, Account], *, failed: bool
    ) -> object:
        asked = config.get("accounts")
        if not isinstance(asked, dict):
            return None
        keys = [pubkey(k) for k in asked.get("addresses", [])]
        encoding = str(asked.get("encoding") or "base64")
        if failed:
            return [None] * len(keys)
        return [account_json(after.get(key) or self._account(key, level), encoding) for key in keys]

    def _request_airdrop(self, params: Params) -> object:
        return self._airdrop(params.pubkey(0), params.number(1)).signature
