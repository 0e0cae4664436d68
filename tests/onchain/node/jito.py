"""The block engine's JSON-RPC: bundles, tips and its statuses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from solders.pubkey import Pubkey

from node.mempool import Bundle, bundle_id
from node.params import Params
from node.transaction import SYSTEM, Transaction, read
from node.wire import RpcError, decode_transaction, invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from node.faults import Faults
    from node.mempool import Mempool
    from node.view import View

TIP_ACCOUNTS: tuple[Pubkey, ...] = tuple(
    Pubkey.from_string(key)
    for key in (
        "96gYZGLnJYVFmbjzopPSU6QiEV5fGqZNyN9nmNhvrZU5",
        "HFqU5x63VTqvQss8hp11i4wVV8bD44PvwucfZ2bU7gRe",
        "Cw8CFyM9FkoMi7K7Crf6HNQqf4uEMzpKw6QNghXLvLkY",
        "ADaUMid9yfUytqMBgopwjb2DTLSokTSzL1zt6iGPaS49",
        "DfXygSm4jCyNCybVYYK6DwvWqjKee8pbDmJGcLWNDXjh",
        "ADuUkR4vqLUMWXxW9gh6D6L8pMSawimctcNZ5pGwDcEt",
        "DttWaMuVvTiduZRnguLF7jNxTgiMBZ1hyAumKUiL2KRL",
        "3AVi9Tg9Uo68tJfuvoKvqKNWKkC5wPdSSdeBnizKZ6jT",
    )
)
MIN_TIP_LAMPORTS = 1_000
MAX_BUNDLE = 5
LOOK_BACK_S = 300.0
_TRANSFER = (2).to_bytes(4, "little")


def tip_lamports(transactions: tuple[Transaction, ...]) -> int | None:
    """What they transfer to tip accounts with system transfers; None when no tip account is write-locked.

    A tip account behind a lookup table does not count, as on the real engine."""
    locked, lamports = False, 0
    for transaction in transactions:
        keys = list(transaction.signed.message.account_keys)
        for instruction in transaction.instructions:
            if instruction.program != SYSTEM or instruction.data[:4] != _TRANSFER or len(instruction.accounts) < 2:
                continue
            to = instruction.accounts[1]
            if to < len(keys) and keys[to] in TIP_ACCOUNTS:
                locked = True
                lamports += int.from_bytes(instruction.data[4:12], "little")
    return lamports if locked else None


class BlockEngine:
    """One region. ``tip_floor_sol`` are the percentiles it publishes, in SOL. ``every_s`` (None: no limit) is the
    seconds of chain time that must lie between two requests."""

    def __init__(self, view: View, mempool: Mempool, faults: Faults) -> None:
        self._view = view
        self._chain = view.chain
        self._mempool = mempool
        self._faults = faults
        self.every_s: float | None = None
        self._last_s: float | None = None
        self.tip_floor_sol: dict[str, float] = {
            "25": 3.3e-06,
            "50": 7.6e-06,
            "75": 1.66e-05,
            "95": 4.3e-05,
            "99": 0.0061,
        }
        self._methods: Mapping[str, Callable[[Params, bool], tuple[object, dict[str, str]]]] = {
            "sendBundle": self._send_bundle,
            "sendTransaction": self._send_transaction,
            "getTipAccounts": lambda _params, _only: ([str(k) for k in TIP_ACCOUNTS], {}),
            "getBundleStatuses": self._bundle_statuses,
            "getInflightBundleStatuses": self._inflight_statuses,
        }

    def call(self, method: str, params: object, *, bundle_only: bool) -> tuple[object, dict[str, str]]:
        """(result, response headers). Raise RpcError for what the engine refuses."""
        found = self._methods.get(method)
        if found is None:
            raise RpcError(-32601, "Method not found")
        return found(Params(params), bundle_only)

    def limited(self) -> bool:
        """Count a request; True when it comes too soon after the last that was let through."""
        now = self._chain.unix_s
        if self.every_s is not None and self._last_s is not None and now - self._last_s < self.every_s:
            return True
        self._last_s = now
        return False

    def tip_floor(self) -> list[dict[str, object]]:
        percentiles = {f"landed_tips_{name}th_percentile": value for name, value in self.tip_floor_sol.items()}
        return [
            {
                "time": datetime.fromtimestamp(int(self._chain.unix_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                **percentiles,
                "ema_landed_tips_50th_percentile": self.tip_floor_sol["50"],
            }
        ]

    # -- methods -----------------------------------------------------------------------------------------------
    def _read(self, text: str, encoding: str, position: int) -> Transaction:
        try:
            transaction = read(decode_transaction(text, encoding))
        except RpcError as error:
            raise invalid(f"transaction #{position} could not be decoded") from error
        if not transaction.verified():
            raise invalid(f"transaction #{position} could not be verified")
        return transaction

    def _send_transaction(self, params: Params, bundle_only: bool) -> tuple[object, dict[str, str]]:
        text, encoding = params.text(0), params.config(1).text("encoding", "base58")
        transaction = self._read(text, encoding, 0)
        signature = transaction.signature
        if bundle_only:
            return signature, {"x-bundle-id": self._accept((transaction,)).id}
        fault = self._faults.for_transaction("jito", 0, signature, preflight=False)
        self._mempool.submit(transaction, "jito", 0, fault)
        return signature, {"x-bundle-id": bundle_id([signature])}

    def _send_bundle(self, params: Params, _only: bool) -> tuple[object, dict[str, str]]:
        texts, encoding = params.texts(0, 2**31), params.config(1).text("encoding", "base58")
        if not texts:
            raise invalid("bundle must contain at least one transaction")
        if len(texts) > MAX_BUNDLE:
            raise invalid(f"bundle exceeds max transaction count of {MAX_BUNDLE}")
        bundle = self._accept(tuple(self._read(text, encoding, i) for i, text in enumerate(texts)))
        return bundle.id, {}

    def _accept(self, transactions: tuple[Transaction, ...]) -> Bundle:
        if len({t.signature for t in transactions}) != len(transactions):
            raise invalid("bundle contains a duplicate transaction")
        if any(t.signature in self._chain.landed for t in transactions):
            raise invalid("bundle contains an already processed transaction")
        tip = tip_lamports(transactions)
        if tip is None:
            raise invalid("Bundles must write lock at least one tip account to be eligible for the auction.")
        fault = self._faults.for_transaction("bundle", 0, transactions[0].signature, preflight=False)
        return self._mempool.submit_bundle(transactions, 0, fault, wins=tip >= MIN_TIP_LAMPORTS)

    def _recent(self, name: str) -> Bundle | None:
        bundle = self._mempool.bundles.get(name)
        return bundle if bundle is not None and self._chain.unix_s - bundle.made_unix_s <= LOOK_BACK_S else None

    def _context(self, value: list[object]) -> dict[str, object]:
        return {"context": {"slot": self._view.block("processed").slot}, "value": value}

    def _bundle_statuses(self, params: Params, _only: bool) -> tuple[object, dict[str, str]]:
        return self._context([self._bundle_status(name) for name in params.texts(0, MAX_BUNDLE)]), {}

    def _bundle_status(self, name: str) -> object:
        bundle = self._recent(name)
        if bundle is None or bundle.status != "Landed":
            return None
        landings = [self._view.landing(t.signature) for t in bundle.transactions]
        levels = [self._view.level_of(landing) for landing in landings if landing is not None]
        if len(levels) < len(bundle.transactions):
            return None  # hidden, or gone with its fork
        return {
            "bundle_id": bundle.id,
            "transactions": [t.signature for t in bundle.transactions],
            "slot": bundle.slot,
            "confirmation_status": levels[0],
            "err": {"Ok": None},
        }

    def _inflight_statuses(self, params: Params, _only: bool) -> tuple[object, dict[str, str]]:
        return self._context([self._inflight_status(name) for name in params.texts(0, MAX_BUNDLE)]), {}

    def _inflight_status(self, name: str) -> object:
        bundle = self._recent(name)
        status = "Invalid" if bundle is None else bundle.status
        return {"bundle_id": name, "status": status, "landed_slot": None if bundle is None else bundle.slot}
