"""Subscriptions of one endpoint's WebSockets. Notifications are made per block and queued; a pump sends them."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from solders.account import Account

from node.chain import CLOCK_SYSVAR, LEVELS
from node.params import Params
from node.transaction import SYSTEM
from node.wire import RpcError, account_json, invalid, pubkey

if TYPE_CHECKING:
    from solders.pubkey import Pubkey

    from node.chain import Block, Level
    from node.view import View

Kind = Literal["slot", "root", "signature", "account", "logs"]
MAX_QUEUE = 20_000
_GONE = Account(0, b"", SYSTEM, False, 0)


@dataclass(slots=True)
class Subscription:
    id: int
    kind: Kind
    level: Level
    key: Pubkey | None = None
    signature: str = ""
    encoding: str = "base64"
    received: bool = False


@dataclass(eq=False, slots=True)
class Connection:
    """One open socket: what it has subscribed to and what waits to be sent."""

    queue: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(MAX_QUEUE))
    subscriptions: dict[int, Subscription] = field(default_factory=dict)
    overrun: bool = False

    def put(self, message: object) -> None:
        """Queue, or note that the client reads too slowly: its socket is then closed, as nodes do."""
        try:
            self.queue.put_nowait(json.dumps(message))
        except asyncio.QueueFull:
            self.overrun = True


class PubSub:
    """``mute`` keeps sockets open and sends no notifications; with ``mute_replies`` nothing at all is sent."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._ids = itertools.count(1)
        self._told: dict[Level, int] = {level: view.height(level) for level in LEVELS}
        self.connections: set[Connection] = set()
        self.mute = False
        self.mute_replies = False

    def call(self, connection: Connection, method: str, raw: object) -> object:
        """Subscribe or unsubscribe; RpcError for anything else."""
        params = Params(raw)
        if method.endswith("Unsubscribe"):
            if connection.subscriptions.pop(params.number(0), None) is None:
                raise invalid("Invalid subscription id.")
            return True
        makers = {
            "slotSubscribe": self._slot,
            "rootSubscribe": self._root,
            "signatureSubscribe": self._signature,
            "accountSubscribe": self._account,
            "logsSubscribe": self._logs,
        }
        maker = makers.get(method)
        if maker is None:
            raise RpcError(-32601, "Method not found")
        subscription = maker(params)
        connection.subscriptions[subscription.id] = subscription
        return subscription.id

    def _slot(self, _: Params) -> Subscription:
        return Subscription(next(self._ids), "slot", "processed")

    def _root(self, _: Params) -> Subscription:
        return Subscription(next(self._ids), "root", "finalized")

    def _signature(self, params: Params) -> Subscription:
        config = params.config(1)
        received = config.flag("enableReceivedNotification")
        return Subscription(next(self._ids), "signature", config.level(), signature=params.text(0), received=received)

    def _account(self, params: Params) -> Subscription:
        key, config = params.pubkey(0), params.config(1)
        encoding = config.text("encoding", "base58")
        account_json(_GONE, encoding)  # refuses an encoding that it does not know
        return Subscription(next(self._ids), "account", config.level(), key, encoding=encoding)

    def _logs(self, params: Params) -> Subscription:
        chosen, config = params.optional(0), params.config(1)
        key = None
        if isinstance(chosen, dict):
            mentions = chosen.get("mentions")
            if not isinstance(mentions, list) or len(mentions) != 1:
                raise invalid("Invalid Request: Only 1 address supported")
            key = pubkey(mentions[0])
        elif chosen not in ("all", "allWithVotes"):
            raise invalid("invalid filter: expected all, allWithVotes or mentions")
        return Subscription(next(self._ids), "logs", config.level(), key)

    # -- notifications -----------------------------------------------------------------------------------------
    def received(self, signature: str) -> None:
        """The endpoint has taken a transaction in."""
        for connection in self.connections:
            for subscription in connection.subscriptions.values():
                if subscription.received and subscription.signature == signature:
                    self._tell(connection, subscription, "receivedSignature", self._view.block("processed").slot)

    def forked(self, fork_height: int) -> None:
        """Blocks above ``fork_height`` have been replaced: those that take their place are news."""
        for level in LEVELS:
            self._told[level] = min(self._told[level], fork_height)

    def blocks(self) -> None:
        """Tell every subscriber what has reached its commitment since the last call."""
        fresh: dict[Level, list[Block]] = {}
        for level in LEVELS:
            height = self._view.height(level)
            fresh[level] = [self._view.chain.block(h) for h in range(self._told[level] + 1, height + 1)]
            self._told[level] = max(self._told[level], height)
        for connection in self.connections:
            for subscription in list(connection.subscriptions.values()):
                self._news(connection, subscription, fresh[subscription.level])

    def _news(self, connection: Connection, subscription: Subscription, fresh: list[Block]) -> None:
        view = self._view
        if subscription.kind == "signature":
            landing = view.landing(subscription.signature, subscription.level)
            if landing is not None:
                del connection.subscriptions[subscription.id]
                self._tell(connection, subscription, {"err": landing.error}, landing.slot)
            return
        for block in fresh:
            if subscription.kind == "slot":
                root = view.block("finalized").slot
                self._tell(connection, subscription, {"parent": block.parent, "root": root, "slot": block.slot})
            elif subscription.kind == "root":
                self._tell(connection, subscription, block.slot)
            elif subscription.kind == "account" and subscription.key is not None:
                key = subscription.key
                if key in block.written or key == CLOCK_SYSVAR:
                    account = view.chain.account(key, block.height) or _GONE
                    encoding = subscription.encoding if len(account.data) <= 128 else "base64"
                    self._tell(connection, subscription, account_json(account, encoding), block.slot)
            elif subscription.kind == "logs":
                for landing in block.landings:
                    mentioned = subscription.key is None or subscription.key in landing.keys
                    if mentioned and view.level_of(landing) is not None:
                        value = {"signature": landing.signature, "err": landing.error, "logs": landing.logs}
                        self._tell(connection, subscription, value, block.slot)

    def _tell(self, connection: Connection, subscription: Subscription, value: object, slot: int | None = None) -> None:
        if self.mute or self.mute_replies:
            return
        result = value if slot is None else {"context": {"slot": slot}, "value": value}
        connection.put(
            {
                "jsonrpc": "2.0",
                "method": f"{subscription.kind}Notification",
                "params": {"result": result, "subscription": subscription.id},
            }
        )
