"""Landed transactions as JSON: statuses, signatures of an address, getTransaction."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from solders.message import MessageV0

from node.view import RECENT_BLOCKS
from node.wire import RpcError, b58encode, invalid

if TYPE_CHECKING:
    from solders.pubkey import Pubkey

    from node.chain import Landing, Level
    from node.params import Config
    from node.view import View


def _outcome(error: object) -> dict[str, object]:
    return {"Ok": None} if error is None else {"Err": error}


def status(view: View, signature: str, *, search: bool) -> dict[str, object] | None:
    """One value of getSignatureStatuses. Without the history search only recent blocks are looked at."""
    landing = view.landing(signature)
    if landing is None or (not search and view.height("processed") - landing.height > RECENT_BLOCKS):
        return None
    level = view.level_of(landing)
    rooted = level == "finalized"
    return {
        "slot": landing.slot,
        "confirmations": None if rooted else min(view.height("processed") - landing.height, 31),
        "err": landing.error,
        "status": _outcome(landing.error),
        "confirmationStatus": level,
    }


def signatures_for_address(view: View, key: Pubkey, config: Config, level: Level) -> list[dict[str, object]]:
    """Newest first; ``before``, ``until`` and ``limit`` as on a node."""
    limit = config.number("limit") or 1000
    if not 1 <= limit <= 1000:
        raise invalid("Invalid limit; max 1000")
    before, until = config.get("before"), config.get("until")
    out: list[dict[str, object]] = []
    waiting = before is not None
    for block in reversed(view.chain.blocks):
        for landing in reversed(block.landings):
            if waiting:
                waiting = landing.signature != before
                continue
            if landing.signature == until or len(out) >= limit:
                return out
            if key in landing.keys and view.landing(landing.signature, level) is not None:
                out.append(
                    {
                        "blockTime": landing.unix_s,
                        "confirmationStatus": view.level_of(landing),
                        "err": landing.error,
                        "memo": None if landing.transaction.operation is None else _memo(landing),
                        "signature": landing.signature,
                        "slot": landing.slot,
                    }
                )
    return out


def _memo(landing: Landing) -> str:
    text = f"op:{landing.transaction.operation}"
    return f"[{len(text.encode())}] {text}"


def transaction(landing: Landing, config: Config) -> dict[str, object]:
    """getTransaction's result in the encodings json, base64 and base58."""
    signed = landing.transaction.signed
    message = signed.message
    versioned = isinstance(message, MessageV0)
    if versioned and config.number("maxSupportedTransactionVersion") is None:
        raise RpcError(
            -32015,
            "Transaction version (0) is not supported by the requesting client. Please try the request again with "
            'the following configuration parameter: "maxSupportedTransactionVersion": 0',
        )
    encoding = config.text("encoding", "json")
    shown: object
    if encoding == "base64":
        shown = [base64.b64encode(landing.transaction.raw).decode(), "base64"]
    elif encoding == "base58":
        shown = [b58encode(landing.transaction.raw), "base58"]
    elif encoding == "json":
        shown = {"signatures": [str(s) for s in signed.signatures], "message": _message(landing)}
    else:
        raise invalid(f"unsupported encoding: {encoding}. Supported here: json, base64, base58")
    static = len(message.account_keys)
    tables = message.address_table_lookups if isinstance(message, MessageV0) else []
    loaded_writable = sum(len(bytes(table.writable_indexes)) for table in tables)
    body: dict[str, object] = {
        "blockTime": landing.unix_s,
        "meta": {
            "computeUnitsConsumed": landing.units,
            "err": landing.error,
            "fee": landing.fee,
            "innerInstructions": [],
            "loadedAddresses": {
                "readonly": [str(k) for k in landing.keys[static + loaded_writable :]],
                "writable": [str(k) for k in landing.keys[static : static + loaded_writable]],
            },
            "logMessages": landing.logs,
            "postBalances": landing.after,
            "postTokenBalances": [],
            "preBalances": landing.before,
            "preTokenBalances": [],
            "rewards": [],
            "status": _outcome(landing.error),
        },
        "slot": landing.slot,
        "transaction": shown,
    }
    if config.number("maxSupportedTransactionVersion") is not None:
        body["version"] = 0 if versioned else "legacy"
    return body


def _message(landing: Landing) -> dict[str, object]:
    message = landing.transaction.signed.message
    header = message.header
    body: dict[str, object] = {
        "accountKeys": [str(k) for k in message.account_keys],
        "header": {
            "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
            "numRequiredSignatures": header.num_required_signatures,
        },
        "instructions": [
            {
                "accounts": list(bytes(i.accounts)),
                "data": b58encode(bytes(i.data)),
                "programIdIndex": i.program_id_index,
                "stackHeight": 1,
            }
            for i in message.instructions
        ],
        "recentBlockhash": str(message.recent_blockhash),
    }
    if isinstance(message, MessageV0):
        body["addressTableLookups"] = [
            {
                "accountKey": str(t.account_key),
                "writableIndexes": list(bytes(t.writable_indexes)),
                "readonlyIndexes": list(bytes(t.readonly_indexes)),
            }
            for t in message.address_table_lookups
        ]
    return body
