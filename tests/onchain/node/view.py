"""The chain as one endpoint sees it: behind by some blocks, or frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.chain import LEVELS

if TYPE_CHECKING:
    from node.chain import Block, Chain, Landing, Level

RECENT_BLOCKS = 300  # a node's own status cache; older ones need the history search
UNHEALTHY_SLOTS = 128


class View:
    """``lag_blocks`` makes the endpoint stale by so many blocks; ``freeze`` stops it where it is."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.lag_blocks = 0
        self._frozen: dict[Level, int] | None = None

    def freeze(self) -> None:
        self._frozen = {level: self.height(level) for level in LEVELS}

    def thaw(self) -> None:
        self._frozen = None

    def height(self, level: Level) -> int:
        height = max(self.chain.height(level) - self.lag_blocks, self.chain.blocks[0].height)
        return height if self._frozen is None else min(height, self._frozen[level])

    def block(self, level: Level) -> Block:
        return self.chain.block(self.height(level))

    def slots_behind(self) -> int:
        return self.chain.tip.slot - self.block("processed").slot

    def healthy(self) -> bool:
        return self.slots_behind() <= UNHEALTHY_SLOTS

    def level_of(self, landing: Landing) -> Level | None:
        """The highest commitment at which this endpoint knows the landing; None: not at all."""
        now = self.chain.tip.height
        if landing.height > self.height("processed") or now < landing.hidden_until:
            return None
        if now < landing.held_until or landing.height > self.height("confirmed"):
            return "processed"
        return "finalized" if landing.height <= self.height("finalized") else "confirmed"

    def landing(self, signature: str, level: Level = "processed") -> Landing | None:
        """The landing if this endpoint knows it at ``level`` or better."""
        landing = self.chain.landed.get(signature)
        if landing is None:
            return None
        reached = self.level_of(landing)
        return landing if reached is not None and LEVELS.index(reached) >= LEVELS.index(level) else None
