"""What a venue's rig can do to the world around the engine."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Protocol

from deltatui.domain.command import AnyCommand, CommandResult
from deltatui.domain.snapshot import Snapshot

if TYPE_CHECKING:
    from venue_kit.cases import Case


class Capability(StrEnum):
    LATE_REPORTS = "the account can be told later than its operations land"
    PARTIAL_FILLS = "a leg of a market order can fill in part"
    OTHER_MARKETS = "the account can hold positions in markets that the engine does not carry"
    OTHER_PROGRAMS = "other programs can trade in the account"
    LOST_REPLIES = "a request or its reply can be lost"
    LIQUIDATION = "the venue closes an account that has no margin left"
    PAUSE = "the venue can take no orders for a while"
    TWO_MARKETS = "the account can hold hedges of SOL-PERP (by SOL) and of BTC-PERP (by wBTC) side by side"


class Rig(Protocol):
    """An engine with 3,000 quote on the venue at a price of 150, after records that pay a short; automation is off.

    Time stands still but for what a method says.
    """

    name: str
    capabilities: frozenset[Capability]

    def opened(self, case: Case) -> AbstractAsyncContextManager[Rig]:
        """A world of its own for one case: the engine carries SOL-PERP, and BTC-PERP at 100,000 too where the case
        needs two markets."""

    async def give(self, command: AnyCommand) -> CommandResult:
        """A command, confirmed where it asks, forced where only profitability refuses."""

    async def price(self, price: Decimal) -> None:
        """A new price, and what the engine does about it."""

    async def wait(self, operator_s: float) -> None:
        """Operator time passes, and the engine looks after what is open."""

    async def restart(self) -> None:
        """The engine's process dies and comes back."""

    def snapshot(self) -> Snapshot: ...

    def legs(self, market: str = "SOL-PERP") -> tuple[float, float]:
        """(spot, perp) as the venue itself has them now, in base units, whatever it tells."""

    async def check(self) -> None:
        """Raise AssertionError unless ledger and venue agree and every operation has one outcome, the same for both."""

    # Trouble

    def tell_late(self, seconds: float) -> None: ...

    def fill_in_part(self, leg: Literal["perp", "spot"]) -> None:
        """The next operation fills that leg in part; those after it in full."""

    def lose_reply(self) -> None:
        """What is sent arrives; neither the reply nor its outcome can be had until :meth:`find_reply`."""

    def lose_request(self) -> None:
        """What is sent does not arrive, and nobody can say so until :meth:`find_reply`."""

    def find_reply(self) -> None: ...

    async def trade_elsewhere(self, instrument: str, base: Decimal, price: Decimal) -> None: ...

    async def pause(self, reason: str) -> None:
        """Of SOL-PERP."""

    async def unpause(self) -> None: ...
