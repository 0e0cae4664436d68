"""``python killed_engine.py DATABASE RPC JITO WHERE INTENT``: an engine in a process of its own, on real sockets and a
real file, that does one operation and dies of SIGKILL at the journal line (or ``sent``) that WHERE names.

WHERE ``never`` with an empty INTENT: it only resolves what is open and ends with code 0.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from chainkit import LogLines  # noqa: E402  the path comes first
from engine_harness import engine_settings  # noqa: E402
from scene import ALICE, AMOUNT, HookedSender, TransferVenue  # noqa: E402

from deltatui.chain.blockclock import BlockClock  # noqa: E402
from deltatui.chain.http import AiohttpTransport  # noqa: E402
from deltatui.chain.jito import Jito, JitoConfig  # noqa: E402
from deltatui.chain.link import PoolLink  # noqa: E402
from deltatui.chain.pool import Pool  # noqa: E402
from deltatui.chain.rpc import EndpointConfig  # noqa: E402
from deltatui.chain.signer import Secret, SeedSigner  # noqa: E402
from deltatui.doctor import WallClock  # noqa: E402
from deltatui.domain.command import Deposit  # noqa: E402
from deltatui.domain.facts import Prices  # noqa: E402
from deltatui.domain.principal import OPERATOR  # noqa: E402
from deltatui.engine.engine import Engine  # noqa: E402
from deltatui.engine.supervisor import Supervisor  # noqa: E402
from deltatui.store.database import Database, Durability  # noqa: E402
from deltatui.store.engine_store import EngineStore  # noqa: E402
from deltatui.store.paper_tables import PaperTables  # noqa: E402
from deltatui.venues.paper.settings import SOL_PERP, PaperSettings  # noqa: E402

T = TypeVar("T")


class MortalDatabase(Database):
    """Dies when the named journal line is on disk."""

    where = "never"

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        result = await super().run(work)
        arguments = getattr(work, "args", ())
        if arguments and getattr(arguments[0], "state", "") == self.where:
            die()
        return result


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def main(path: str, rpc: str, jito_url: str, where: str, intent: str) -> None:
    MortalDatabase.where = where
    clock, log, transport = WallClock(), LogLines(), AiohttpTransport()
    database = await MortalDatabase.open(Path(path), Durability.FULL)
    configs = [EndpointConfig(url=url, requests_per_s=200, burst=100) for url in rpc.split(",")]
    pool = Pool(configs, clock, transport, BlockClock(clock), log)
    jito = Jito(JitoConfig(url=jito_url, tip_floor_url=f"{jito_url}/api/v1/bundles/tip_floor"), clock, transport, log)
    sender = HookedSender(pool, SeedSigner(Secret(bytes(ALICE.keypair)[:32])), clock, log, jito=jito)
    sender.on_sent = die if where == "sent" else lambda: None
    venue = TransferVenue([SOL_PERP], PaperSettings(), PaperTables(database), clock, "transfers")
    prices = Prices(SOL_PERP.symbol, "test", clock.market_s(), Decimal(150), Decimal(150))
    if await venue.open(Decimal(3000), Decimal(1000), {"SOL": Decimal(100)}) is None:
        await venue.take(prices)
    link = PoolLink(pool, clock)
    engine = Engine(engine_settings(mode="paper"), clock, venue, sender, EngineStore(database), log=log, link=link)
    engine.core.world.take(prices)
    supervisor = Supervisor(clock, log, lambda name, error: engine.core.halt(error.sentence))
    supervisor.start("pool", lambda: pool.watch(1.0))
    await clock.sleep(0.3)
    await sender.warm_up()
    await engine.start()
    if intent:
        await engine.submit(Deposit(intent_id=intent, asset="SOL", amount=AMOUNT), OPERATOR)
    while engine.core.unresolved:
        await engine.tick()
        await clock.sleep(0.2)
    await supervisor.stop()
    await engine.stop()
    await sender.close()
    await pool.close()
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:6]))
