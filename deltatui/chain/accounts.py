"""Accounts as they change: pushed where the socket works, polled in any case."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from deltatui.chain import wire
from deltatui.chain.pool import Pool
from deltatui.chain.tasks import wait_for_event
from deltatui.chain.ws import Note, Subscription, Subscriptions
from deltatui.domain.errors import TransientError, ValidationError
from deltatui.domain.event import Level
from deltatui.ports import Clock, Log

OnAccount = Callable[[int, wire.Account | None], None]
"""Slot and account; None for an account that is not there."""

_PushedAccount = wire.Valued[wire.Account | None]


class _Watched:
    def __init__(self, on_account: OnAccount) -> None:
        self.on_account = on_account
        self.subscription: Subscription | None = None
        self.slot = -1
        self.account: wire.Account | None = None
        self.known = False


class AccountFeed:
    """Calls back with every change, oldest slot first; a slot never goes back.

    The poll reads all accounts every ``poll_s``. When it finds a change that the socket kept to itself, the
    subscription is renewed and counted in ``caught``. Run :meth:`run` under a supervisor.
    """

    def __init__(
        self, pool: Pool, subscriptions: Subscriptions | None, clock: Clock, log: Log, poll_s: float = 30.0
    ) -> None:
        self._pool = pool
        self._subscriptions = subscriptions
        self._clock = clock
        self._log = log
        self._poll_s = poll_s
        self._watched: dict[str, _Watched] = {}
        self._now = asyncio.Event()
        self.caught = 0
        self.polled_s: float | None = None
        """Operator time of the last complete poll."""

    def watch(self, address: str, on_account: OnAccount) -> None:
        """The first callback comes with the next poll, which this asks for at once."""
        if address in self._watched:
            raise ValidationError("WATCHED", f"{address} is watched already")
        watched = self._watched[address] = _Watched(on_account)
        if self._subscriptions is not None:
            watched.subscription = self._subscriptions.subscribe(
                "accountSubscribe",
                [address, {"encoding": "base64", "commitment": "confirmed"}],
                lambda note: self._pushed(watched, note),
                self._now.set,
            )
        self._now.set()

    def unwatch(self, address: str) -> None:
        watched = self._watched.pop(address, None)
        if watched is not None and watched.subscription is not None:
            watched.subscription.close()

    async def run(self) -> None:
        while True:
            self._now.clear()
            try:
                await self.poll()
            except (TransientError, ValidationError) as error:
                self._log(Level.WARNING, "ACCOUNT", f"accounts could not be read: {error.sentence}", None)
            await wait_for_event(self._clock, self._poll_s, self._now)

    async def poll(self) -> None:
        """Read every watched account once. Raises RpcError."""
        addresses = list(self._watched)
        if addresses:
            for address, reply in zip(addresses, await self._pool.accounts(addresses), strict=True):
                watched = self._watched.get(address)
                if watched is not None:
                    self._polled(address, watched, reply.context.slot, reply.value)
        self.polled_s = self._clock.operator_s()

    def _polled(self, address: str, watched: _Watched, slot: int, account: wire.Account | None) -> None:
        if slot <= watched.slot:
            return
        listening = self._subscriptions is not None and self._subscriptions.connected
        if listening and watched.known and account != watched.account and watched.subscription is not None:
            self.caught += 1
            self._log(Level.WARNING, "ACCOUNT", f"the socket kept a change of {address} back; subscribed again", None)
            watched.subscription.renew()
        self._give(watched, slot, account)

    def _pushed(self, watched: _Watched, note: Note) -> None:
        try:
            found = note.decode(_PushedAccount)
        except msgspec.DecodeError:
            self._log(Level.WARNING, "ACCOUNT", "an account came in a shape that cannot be read", None)
            return
        account = found.value
        if account is not None and account.lamports == 0:
            account = None  # how a socket says that an account was closed
        if found.context.slot > watched.slot or (found.context.slot == watched.slot and account != watched.account):
            self._give(watched, found.context.slot, account)

    def _give(self, watched: _Watched, slot: int, account: wire.Account | None) -> None:
        changed = not watched.known or account != watched.account
        watched.slot, watched.account, watched.known = slot, account, True
        if changed:
            watched.on_account(slot, account)
