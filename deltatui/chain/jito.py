"""The Jito block engine over JSON-RPC (docs/sources.md, Solana and Jito)."""

from __future__ import annotations

import base64
import itertools
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypeVar

import msgspec

from deltatui.chain import errors
from deltatui.chain.bucket import TokenBucket
from deltatui.chain.http import Reply, Transport, TransportError
from deltatui.chain.signer import check_address
from deltatui.chain.tasks import within
from deltatui.chain.transaction import names_account
from deltatui.chain.wire import TipFloor
from deltatui.domain.errors import TransientError, ValidationError
from deltatui.domain.event import Level
from deltatui.ports import Clock, Log

T = TypeVar("T")

REGIONS = ("amsterdam", "dublin", "frankfurt", "london", "ny", "slc", "singapore", "tokyo")
_ACCOUNTS_LIVE_S = 3600.0
_FLOOR_LIVE_S = 30.0
_FLOOR_TOO_OLD_S = 60.0
_RETRY_AFTER_FAILURE_S = 30.0


def block_engine_url(region: str = "") -> str:
    """The mainnet host of a region (the empty one lets Jito choose)."""
    if region and region not in REGIONS:
        raise ValidationError("BAD_JITO_REGION", f"'{region}' is no Jito region; there are {', '.join(REGIONS)}")
    return f"https://{region + '.' if region else ''}mainnet.block-engine.jito.wtf"


class JitoConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``bundle_only`` asks for revert protection (a failing transaction then never lands through Jito)."""

    url: str
    tip_floor_url: str = "https://bundles.jito.wtf/api/v1/bundles/tip_floor"
    auth_uuid: str = ""
    bundle_only: bool = False
    requests_per_s: float = 1.0
    timeout_s: float = 1.5

    def __repr__(self) -> str:
        return "JitoConfig(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # rich asks this before repr, and msgspec's own would show the key
        return []


class Jito:
    """Sends to one region; keeps tip accounts for an hour and the tip floor for half a minute."""

    def __init__(self, config: JitoConfig, clock: Clock, transport: Transport, log: Log) -> None:
        self.config = config
        self._clock = clock
        self._transport = transport
        self._log = log
        self._bucket = TokenBucket(clock, config.requests_per_s, 1)
        self._ids = itertools.count(1)
        self._accounts: tuple[str, ...] = ()
        self._accounts_until_s = float("-inf")
        self._floor: TipFloor | None = None
        self._floor_until_s = float("-inf")

    async def send(self, raw: bytes) -> str:
        """The bundle id, empty where the engine gives none. Raises RpcTransientError or RpcRefusedError."""
        query = "?bundleOnly=true" if self.config.bundle_only else ""
        params = [base64.b64encode(raw).decode("ascii"), {"encoding": "base64"}]
        _, headers = await self._call("/api/v1/transactions" + query, "sendTransaction", params, str)
        return headers.get("x-bundle-id", "")

    async def tip_account(self, choice: str) -> str:
        """One of the tip accounts, picked by the hash of ``choice``; empty while they are not known."""
        accounts = await self._tip_accounts()
        if not accounts:
            return ""
        return accounts[int.from_bytes(sha256(choice.encode()).digest()[:8]) % len(accounts)]

    async def tip_floor(self) -> TipFloor | None:
        """Tips that landed lately; None while unknown or older than a minute."""
        now = self._clock.operator_s()
        if now >= self._floor_until_s:
            self._floor_until_s = now + _FLOOR_LIVE_S
            self._floor = await self._read_floor()
        return self._floor

    def is_tipped(self, raw: bytes) -> bool:
        """Whether the transaction names one of the tip accounts (without that Jito does not take it)."""
        return any(names_account(raw, account) for account in self._accounts)

    async def _tip_accounts(self) -> tuple[str, ...]:
        now = self._clock.operator_s()
        if now >= self._accounts_until_s:
            try:
                found, _ = await self._call("/api/v1/getTipAccounts", "getTipAccounts", [], tuple[str, ...])
                self._accounts = tuple(check_address(each) for each in found)
                self._accounts_until_s = now + _ACCOUNTS_LIVE_S
            except (TransientError, ValidationError) as error:
                # Accounts of the last hour stay good; without any, the operation goes without Jito.
                self._accounts_until_s = now + _RETRY_AFTER_FAILURE_S
                self._log(Level.WARNING, "JITO", f"no tip accounts: {error.sentence}", None)
        return self._accounts

    async def _read_floor(self) -> TipFloor | None:
        try:
            reply = await self._exchange("GET", self.config.tip_floor_url, b"", {}, "Jito tip_floor")
            if reply.status != 200:
                raise errors.RpcTransientError("RPC_HTTP", f"Jito tip_floor answered HTTP {reply.status}")
            floor = msgspec.json.decode(reply.body, type=list[TipFloor])[0]
            age_s = self._clock.operator_s() - _unix_s(floor.time)
        except (TransientError, ValidationError) as error:
            self._log(Level.WARNING, "JITO", f"no tip floor: {error.sentence}", None)
            return None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, IndexError, ValueError, OverflowError):
            self._log(Level.WARNING, "JITO", "no tip floor: the answer cannot be read", None)
            return None
        if age_s > _FLOOR_TOO_OLD_S:
            self._log(Level.WARNING, "JITO", f"the tip floor is {age_s:.0f} s old and not used", None)
            return None
        return floor

    async def _call(self, path: str, method: str, params: list[Any], result: type[T]) -> tuple[T, dict[str, str]]:
        where = f"Jito {method}"
        number = next(self._ids)
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        headers = {"content-type": "application/json"}
        if self.config.auth_uuid:
            headers["x-jito-auth"] = self.config.auth_uuid
        await self._bucket.take()
        reply = await self._exchange("POST", self.config.url.rstrip("/") + path, body, headers, where)
        raw = errors.read_result(reply, number, where, self._hide)
        try:
            return msgspec.json.decode(raw, type=result), dict(reply.headers)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        raise errors.RpcTransientError("RPC_GARBAGE", f"{where} answered in a shape that is not that method's")

    async def _exchange(self, method: str, url: str, body: bytes, headers: dict[str, str], where: str) -> Reply:
        try:
            return await within(
                self._clock, self.config.timeout_s, self._transport.exchange(method, url, body, headers)
            )
        except TimeoutError:
            failure = errors.timed_out(where, self.config.timeout_s)
        except TransportError as error:
            failure = errors.RpcTransientError("RPC_UNREACHABLE", f"{where} gave no reply ({error.reason})")
        raise failure

    def _hide(self, text: str) -> str:
        return text.replace(self.config.auth_uuid, "***") if self.config.auth_uuid else text


def _unix_s(text: str) -> float:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
