"""The whole thing: one chain, several RPC endpoints, one block engine, and the hand that makes blocks."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Self

from aiohttp import web
from solders.instruction import Instruction

from node.chain import Chain, Landing
from node.faults import Dropped, Faults
from node.jito import TIP_ACCOUNTS, BlockEngine
from node.kit import Wallet, sign, tip_instruction
from node.mempool import Mempool
from node.pubsub import PubSub
from node.records import Records
from node.rpc import Rpc
from node.server import Answerer, AnswerInstead, Gate, ResetConnection, Site, reset, serve_socket
from node.transaction import MEMO, read
from node.view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from solders.pubkey import Pubkey

    from node.transaction import Transaction

_FAUCET_LAMPORTS = 10**17
_TIP_ACCOUNT_LAMPORTS = 10**7
_TIME_GRAIN_S = 1e-4  # unix seconds as floats are good to 2e-7 each


class Endpoint:
    """One RPC provider: HTTP and WebSocket on the same port. ``view`` makes it stale, ``pubsub`` mute."""

    def __init__(self, index: int, node: Node) -> None:
        self.index = index
        self.view = View(node.chain)
        self.pubsub = PubSub(self.view)
        self._rpc = Rpc(index, self.view, node.mempool, node.faults, node.airdrop, self.pubsub.received)
        self._http = Answerer("rpc", index, node.faults, node.records, node.gate)
        self._ws = Answerer("ws", index, node.faults, node.records, node.gate)
        self.site = Site(self._handle)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.site.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.site.port}"

    async def down(self) -> None:
        """Connections are refused until ``up``."""
        await self.site.down()

    async def up(self) -> None:
        await self.site.up()

    def drop_connections(self) -> None:
        """Reset every open connection, WebSockets included; new ones are welcome."""
        self.site.abort_connections()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await serve_socket(request, self._ws, self.pubsub)
        if request.method != "POST":
            if request.path == "/health":
                return web.Response(text="ok" if self.view.healthy() else "behind")
            return web.Response(text="Used HTTP Method is not allowed. POST or OPTIONS is required", status=405)
        if request.content_type != "application/json":
            text = "Supplied content type is not allowed. Content-Type: application/json is required"
            return web.Response(text=text, status=415)
        try:
            reply, _ = await self._http.body(request, self._rpc.call)
        except ResetConnection:
            return reset(request)
        except AnswerInstead as instead:
            return instead.response()
        return web.json_response(reply)


class JitoHost:
    """The block engine's port. ``engine`` has its limits and tip floor."""

    def __init__(self, node: Node) -> None:
        self.view = View(node.chain)
        self.engine = BlockEngine(self.view, node.mempool, node.faults)
        self._answerer = Answerer("jito", 0, node.faults, node.records, node.gate)
        self.site = Site(self._handle)

    @property
    def url(self) -> str:
        """Without path: requests go to ``/api/v1/bundles``, ``/api/v1/transactions`` and so on."""
        return f"http://127.0.0.1:{self.site.port}"

    async def down(self) -> None:
        await self.site.down()

    async def up(self) -> None:
        await self.site.up()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        headers: dict[str, str] = {}

        def call(method: str, params: object) -> object:
            only = request.query.get("bundleOnly", "").lower() == "true"
            result, extra = self.engine.call(method, params, bundle_only=only)
            headers.update(extra)
            return result

        try:
            if request.method == "GET":
                return await self._get(request)
            if not request.path.startswith("/api/v1/"):
                return web.Response(status=404)
            if self.engine.limited():
                raise self._answerer.too_soon()
            reply, failed = await self._answerer.body(request, call)
        except ResetConnection:
            return reset(request)
        except AnswerInstead as instead:
            return instead.response()
        return web.json_response(reply, status=400 if failed else 200, headers=headers)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("/tip_floor"):
            return web.Response(status=405)
        lost = await self._answerer.fault("tip_floor", None)
        if lost:
            raise ResetConnection
        return web.json_response(self.engine.tip_floor() if lost is None else None)


class Node:
    """``async with Node(endpoints=2, seed=7) as node``. Nothing moves but by ``tick``, ``advance`` and ``reorg``.

    ``seed`` fixes blockhashes, and with them signatures. See ``Chain`` for the other numbers.
    """

    def __init__(
        self,
        *,
        endpoints: int = 1,
        seed: int = 0,
        slot_s: float = 0.4,
        skip_every: int = 20,
        confirmed_lag: int = 1,
        finalized_lag: int = 32,
        unix_s: float = 1_795_000_000.0,
    ) -> None:
        self.chain = Chain(
            seed=seed,
            slot_s=slot_s,
            skip_every=skip_every,
            confirmed_lag=confirmed_lag,
            finalized_lag=finalized_lag,
            unix_s=unix_s,
        )
        self.faults = Faults(lambda: self.chain.tip.height)
        self.records = Records(self.chain.landed)
        self.mempool = Mempool(self.chain, self.records)
        self.gate = Gate()
        self.on_block: list[Callable[[], None]] = []
        self._faucet = Wallet("faucet")
        self._drips = 0
        self._debt_s = 0.0
        self._outages: list[tuple[int, Callable[[], None]]] = []
        self._endpoints = [Endpoint(i, self) for i in range(endpoints)]
        self.jito = JitoHost(self)
        self.chain.fund(self._faucet.key, _FAUCET_LAMPORTS)
        for account in TIP_ACCOUNTS:
            self.chain.fund(account, _TIP_ACCOUNT_LAMPORTS)

    async def __aenter__(self) -> Self:
        for site in self._sites():
            await site.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.close()
        for site in self._sites():
            await site.close()

    def _sites(self) -> list[Site]:
        return [*(endpoint.site for endpoint in self._endpoints), self.jito.site]

    def endpoint(self, i: int) -> Endpoint:
        return self._endpoints[i]

    @property
    def rpc_url(self) -> str:
        return self._endpoints[0].url

    @property
    def ws_url(self) -> str:
        return self._endpoints[0].ws_url

    @property
    def jito_url(self) -> str:
        return self.jito.url

    @property
    def height(self) -> int:
        """Block height at processed."""
        return self.chain.tip.height

    @property
    def slot(self) -> int:
        return self.chain.tip.slot

    @property
    def double_landings(self) -> int:
        """How often an operation succeeded on the chain a second time in another transaction. Stays at zero."""
        return self.records.double_landings

    # -- money -------------------------------------------------------------------------------------------------
    def fund(self, key: Pubkey, lamports: int) -> None:
        """At once and at every commitment."""
        self.chain.fund(key, lamports)

    def airdrop(self, key: Pubkey, lamports: int) -> Transaction:
        """As requestAirdrop: a real transaction that lands in the next block."""
        self._drips += 1
        unique = Instruction(MEMO, f"airdrop {self._drips}".encode(), [])
        instructions = [tip_instruction(self._faucet.key, key, lamports), unique]
        transaction = read(sign(self._faucet, instructions, self.chain.tip.blockhash))
        self.mempool.submit(transaction, "rpc", -1, None)
        return transaction

    def balance(self, key: Pubkey) -> int:
        """Lamports now, at processed."""
        account = self.chain.account(key)
        return 0 if account is None else account.lamports

    # -- time --------------------------------------------------------------------------------------------------
    def tick(self, blocks: int = 1) -> None:
        """Make ``blocks`` blocks."""
        for _ in range(blocks):
            self._begin_outage()
            self._block()
            self._due_reorgs()
            self._tell()

    def advance(self, seconds: float) -> int:
        """Let chain time pass and make the blocks that fit; the rest is kept for the next call. Return how many."""
        self._debt_s += seconds
        made = 0
        while self._debt_s >= self.chain.slot_s - _TIME_GRAIN_S:
            before = self.chain.unix_s
            self.tick()
            self._debt_s -= self.chain.unix_s - before
            made += 1
        return made

    def expire_blockhashes(self) -> None:
        """As many blocks as it takes that whatever is signed now is dead and finalized to be so."""
        self.tick(151 + self.chain.finalized_lag)

    def reorg(self, depth: int, reland: Mapping[str, int | None] | None = None) -> list[Landing]:
        """Replace the last ``depth`` blocks by ``depth + 1`` of another fork; return what was in them.

        A transaction named in ``reland`` lands again that many blocks after the new tip (None: never by itself), the
        others at once; all only if their blockhash is on the new fork. ValueError when a finalized block would go."""
        chosen = reland or {}
        dropped = self.chain.rollback(depth)
        fork = self.height
        for landing in dropped:
            if landing.signature in chosen:
                self.mempool.forget(landing.transaction)
            else:
                self.mempool.resubmit(landing.transaction, 1)
        for _ in range(depth + 1):
            self._block()
        for landing in dropped:
            wait = chosen.get(landing.signature)
            if wait is not None:
                self.mempool.resubmit(landing.transaction, wait)
        for view in self._endpoints:
            view.pubsub.forked(fork)
        self._tell()
        return dropped

    def calm(self) -> None:
        """End every switched-on fault, the chaos and its outages, staleness, muteness and held confirmations."""
        self.faults.clear()
        self.chain.hold_confirmations = False
        self.mempool.min_unit_price = 0
        self._outages.clear()
        for endpoint in self._endpoints:
            endpoint.view.lag_blocks = 0
            endpoint.view.thaw()
            endpoint.pubsub.mute = endpoint.pubsub.mute_replies = False

    def _block(self) -> None:
        self.chain.begin_block()
        self.mempool.run()
        self.chain.seal_block()

    def _tell(self) -> None:
        for endpoint in self._endpoints:
            endpoint.pubsub.blocks()
        self.gate.reached(self.height)
        for call in self.on_block:
            call()

    def _due_reorgs(self) -> None:
        due = [entry for entry in self.mempool.reorgs if entry[0] <= self.height]
        self.mempool.reorgs = [entry for entry in self.mempool.reorgs if entry[0] > self.height]
        for _, signature, reland_after in due:
            landing = self.chain.landed.get(signature)
            if landing is not None and landing.height > self.chain.height("finalized"):
                self.reorg(self.height - landing.height + 1, {signature: reland_after})

    # -- chaos -------------------------------------------------------------------------------------------------
    def _begin_outage(self) -> None:
        for until, end in self._outages:
            if until <= self.height:
                end()
        self._outages = [outage for outage in self._outages if outage[0] > self.height]
        chaos = self.faults.chaos
        if chaos is None:
            return
        rng = random.Random(f"{chaos.seed}/outage/{self.chain.tip.blockhash}")
        if rng.random() >= chaos.outages:
            return
        blocks = rng.randint(5, 60)
        endpoint = rng.choice(self._endpoints)
        kind = rng.choice(("down", "jito", "mute", "stale", "reorg"))
        self.records.faults[f"outage {kind}"] += 1
        if kind == "down":
            self.faults.requests(Dropped(), host="rpc", endpoint=endpoint.index, blocks=blocks)
            self.faults.requests(Dropped(), host="ws", endpoint=endpoint.index, blocks=blocks)
            endpoint.drop_connections()
        elif kind == "jito":
            self.faults.requests(Dropped(), host="jito", blocks=blocks)
        elif kind == "mute":
            endpoint.pubsub.mute = True
            self._outages.append((self.height + blocks, lambda: setattr(endpoint.pubsub, "mute", False)))
        elif kind == "stale":
            endpoint.view.lag_blocks = rng.randint(2, 200)
            self._outages.append((self.height + blocks, lambda: setattr(endpoint.view, "lag_blocks", 0)))
        else:
            self.reorg(rng.randint(1, 3))
