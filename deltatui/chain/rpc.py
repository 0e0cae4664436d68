"""One Solana RPC endpoint, and the typed calls that an endpoint and a pool of them have in common."""

from __future__ import annotations

import base64
import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from deltatui.chain import errors, wire
from deltatui.chain.bucket import TokenBucket
from deltatui.chain.http import Transport, TransportError
from deltatui.chain.tasks import within
from deltatui.domain.errors import ValidationError
from deltatui.ports import Clock

T = TypeVar("T")

# Nodes send v1 transactions since 2026 and refuse readers that do not name a version (docs/sources.md).
MAX_TRANSACTION_VERSION = 1
_ACCOUNTS_PER_CALL = 100


class EndpointConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``requests_per_s`` and ``burst`` are for the host; endpoints on one host share the first one's."""

    url: str
    ws_url: str = ""
    name: str = ""
    requests_per_s: float = 10.0
    burst: int = 20
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        for url, schemes in ((self.url, ("http", "https")), (self.ws_url or "ws://-", ("ws", "wss"))):
            try:
                parts = urlsplit(url)
                good = parts.scheme in schemes and bool(parts.hostname) and (parts.port or 1) > 0
            except ValueError:
                good = False
            if not good:
                # The URL itself is not quoted: it may hold a key.
                raise ValidationError("BAD_RPC_URL", f"an RPC URL is not valid; one starts with {schemes[1]}://")
        if self.timeout_s <= 0:
            raise ValidationError("BAD_TIMEOUT", f"an RPC timeout must be positive, it is {self.timeout_s}")

    def __repr__(self) -> str:
        return f"EndpointConfig({self.label})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # rich asks this before repr, and msgspec's own would show the URL
        return [("label", self.label)]

    @property
    def label(self) -> str:
        """What may be shown: the configured name, else host and port, never path or query."""
        return self.name or self.host

    @property
    def host(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


class Calls(ABC):
    """Typed calls. ``commitment`` is processed, confirmed or finalized.

    Every call raises RpcTransientError or RpcRefusedError; a reply that does not have the promised shape is the
    former with code RPC_GARBAGE.
    """

    @abstractmethod
    async def call(self, method: str, params: Sequence[Any], result: type[T]) -> T:
        """``result`` is the type that the JSON result is decoded into."""

    async def health(self) -> str:
        return await self.call("getHealth", [], str)

    async def version(self) -> wire.Version:
        return await self.call("getVersion", [], wire.Version)

    async def genesis_hash(self) -> str:
        return await self.call("getGenesisHash", [], str)

    async def slot(self, commitment: str = "confirmed") -> int:
        return await self.call("getSlot", [{"commitment": commitment}], int)

    async def block_height(self, commitment: str = "confirmed") -> int:
        return await self.call("getBlockHeight", [{"commitment": commitment}], int)

    async def epoch_info(self, commitment: str = "confirmed") -> wire.EpochInfo:
        """Slot and block height of one and the same bank."""
        return await self.call("getEpochInfo", [{"commitment": commitment}], wire.EpochInfo)

    async def first_available_block(self) -> int:
        """The oldest slot of which this node still has the blocks."""
        return await self.call("getFirstAvailableBlock", [], int)

    async def performance_samples(self, limit: int = 5) -> list[wire.PerformanceSample]:
        return await self.call("getRecentPerformanceSamples", [limit], list[wire.PerformanceSample])

    async def latest_blockhash(self, commitment: str = "confirmed") -> wire.Valued[wire.LatestBlockhash]:
        return await self.call("getLatestBlockhash", [{"commitment": commitment}], wire.Valued[wire.LatestBlockhash])

    async def prioritization_fees(self, writable: Sequence[str]) -> list[wire.PrioritizationFee]:
        """Of recent blocks that wrote to all of ``writable`` (at most 128 addresses)."""
        return await self.call("getRecentPrioritizationFees", [list(writable)[:128]], list[wire.PrioritizationFee])

    async def balance(self, address: str, commitment: str = "confirmed") -> int:
        """Lamports."""
        reply = await self.call("getBalance", [address, {"commitment": commitment}], wire.Valued[int])
        return reply.value

    async def account(self, address: str, commitment: str = "confirmed") -> wire.Valued[wire.Account | None]:
        return await self.call(
            "getAccountInfo",
            [address, {"commitment": commitment, "encoding": "base64"}],
            wire.Valued[wire.Account | None],
        )

    async def accounts(
        self, addresses: Sequence[str], commitment: str = "confirmed"
    ) -> list[wire.Valued[wire.Account | None]]:
        """In the order of ``addresses``; more than 100 are read in several calls, so at several slots."""
        found: list[wire.Valued[wire.Account | None]] = []
        for start in range(0, len(addresses), _ACCOUNTS_PER_CALL):
            part = list(addresses[start : start + _ACCOUNTS_PER_CALL])
            reply = await self.call(
                "getMultipleAccounts",
                [part, {"commitment": commitment, "encoding": "base64"}],
                wire.Valued[list[wire.Account | None]],
            )
            if len(reply.value) != len(part):
                raise errors.RpcTransientError(
                    "RPC_GARBAGE", f"a node sent {len(reply.value)} accounts where {len(part)} were asked for"
                )
            found.extend(wire.Valued(reply.context, account) for account in reply.value)
        return found

    async def program_accounts(
        self, program: str, filters: Sequence[dict[str, Any]] = (), commitment: str = "confirmed"
    ) -> list[wire.KeyedAccount]:
        config = {"commitment": commitment, "encoding": "base64", "filters": list(filters)}
        return await self.call("getProgramAccounts", [program, config], list[wire.KeyedAccount])

    async def simulate(
        self, raw: bytes, commitment: str = "confirmed", min_context_slot: int | None = None
    ) -> wire.Valued[wire.Simulation]:
        """Without signatures and with a blockhash of the node's own."""
        config: dict[str, Any] = {
            "encoding": "base64",
            "commitment": commitment,
            "sigVerify": False,
            "replaceRecentBlockhash": True,
        }
        if min_context_slot is not None:
            config["minContextSlot"] = min_context_slot
        return await self.call("simulateTransaction", [_b64(raw), config], wire.Valued[wire.Simulation])

    async def send(self, raw: bytes) -> str:
        """The signature; it says that the node took the bytes, not that they will land."""
        config = {"encoding": "base64", "skipPreflight": True, "maxRetries": 0}
        return await self.call("sendTransaction", [_b64(raw), config], str)

    async def signature_status(self, signature: str) -> wire.Valued[list[wire.SignatureStatus | None]]:
        """One element. The node's whole history is searched."""
        reply = await self.call(
            "getSignatureStatuses",
            [[signature], {"searchTransactionHistory": True}],
            wire.Valued[list[wire.SignatureStatus | None]],
        )
        if len(reply.value) != 1:
            raise errors.RpcTransientError("RPC_GARBAGE", "a node sent no status for the one signature that was asked")
        return reply

    async def signatures_for_address(
        self, address: str, limit: int = 1000, before: str = "", commitment: str = "confirmed"
    ) -> list[wire.SignatureEntry]:
        """Newest first, at most 1000."""
        config: dict[str, Any] = {"limit": limit, "commitment": commitment}
        if before:
            config["before"] = before
        return await self.call("getSignaturesForAddress", [address, config], list[wire.SignatureEntry])

    async def transaction(self, signature: str, commitment: str = "confirmed") -> wire.TransactionInfo | None:
        config = {
            "encoding": "base64",
            "commitment": commitment,
            "maxSupportedTransactionVersion": MAX_TRANSACTION_VERSION,
        }
        return await self.call("getTransaction", [signature, config], wire.TransactionInfo | None)  # type: ignore[arg-type]


class Endpoint(Calls):
    """One URL. Every call takes a token of its host's bucket and is bounded by ``timeout_s``; none is repeated."""

    def __init__(
        self,
        config: EndpointConfig,
        clock: Clock,
        transport: Transport,
        bucket: TokenBucket,
        secrets: Sequence[str] = (),
    ) -> None:
        """``secrets``: more texts that no error may show (the pool gives those of all its URLs)."""
        self.config = config
        self.genesis = ""
        """Which chain this node is on; empty until :meth:`chain` has asked."""
        self.bucket = bucket
        self._clock = clock
        self._transport = transport
        self._ids = itertools.count(1)
        parts = {*secret_parts(config.url), *secrets}
        # The longest first: one secret may contain another.
        self._secrets = sorted(parts, key=len, reverse=True)

    @property
    def label(self) -> str:
        return self.config.label

    async def chain(self) -> str:
        """The genesis hash, asked once."""
        if not self.genesis:
            self.genesis = await self.genesis_hash()
        return self.genesis

    async def call(self, method: str, params: Sequence[Any], result: type[T]) -> T:
        where = f"{self.label} {method}"
        raw = await self._exchange(method, params, where)
        try:
            return msgspec.json.decode(raw, type=result)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            kind = type(error).__name__
        raise errors.RpcTransientError("RPC_GARBAGE", f"{where} answered in a shape that is not that method's ({kind})")

    async def _exchange(self, method: str, params: Sequence[Any], where: str) -> bytes:
        number = next(self._ids)
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        headers = {"content-type": "application/json"}
        await self.bucket.take()
        try:
            reply = await within(
                self._clock, self.config.timeout_s, self._transport.exchange("POST", self.config.url, body, headers)
            )
        except TimeoutError:
            failure = errors.timed_out(where, self.config.timeout_s)
        except TransportError as error:
            failure = errors.RpcTransientError("RPC_UNREACHABLE", f"{where} gave no reply ({error.reason})")
        else:
            return errors.read_result(reply, number, where, self._hide)
        raise failure

    def _hide(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def secret_parts(url: str) -> set[str]:
    """Every piece of a URL that may be a key: user, password, path segments and query values of six letters up."""
    parts = urlsplit(url)
    pieces = [parts.username or "", parts.password or "", *parts.path.split("/")]
    pieces += [value for pair in parts.query.split("&") for value in pair.split("=")[1:]]
    return {piece for piece in pieces if len(piece) >= 6}


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
