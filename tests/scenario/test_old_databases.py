"""Databases of an older deltatui open for ever, and what the user held in them is found again.

``tests/data/databases`` holds files that were made once and are never made anew (its README says how), and in
``facts.json`` what they held when they were closed.
"""

from __future__ import annotations

import lzma
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from engine_harness import GAP, World, rate_of, world

from deltatui.domain.command import ResultStatus, Resume
from deltatui.domain.event import Level
from deltatui.domain.health import LossLimits

FOLDER = Path(__file__).parent.parent / "data" / "databases"


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The account at the exchange, the operations (kind, state), oldest first, and what the ledger had booked by
    kind."""

    market_s: float
    state: str
    spot_1e9: int
    perp_1e9: int
    quote: Decimal
    equity: Decimal
    wallet_quote: Decimal
    wallet_spot_1e9: int
    operations: list[tuple[str, str]]
    ledger_entries: int
    ledger_totals: dict[str, Decimal]


FACTS = msgspec.json.decode((FOLDER / "facts.json").read_bytes(), type=dict[str, Facts])

Open = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """``async with opened(name, **settings) as w``: a world over that database, started by the present code."""

    @asynccontextmanager
    async def open_it(name: str, **settings: Any) -> AsyncIterator[World]:
        path = tmp_path / "deltatui.db"
        path.write_bytes(lzma.decompress((FOLDER / f"{name}.db.xz").read_bytes()))
        async with world(path=path, primed=0, start_s=int(FACTS[name].market_s), **settings) as w:
            yield w

    return open_it


async def check_kept(w: World, name: str) -> None:
    """What was booked stands as it was, and the books agree with the exchange."""
    was = FACTS[name]
    entries = await w.store.ledger(limit=was.ledger_entries)
    totals: defaultdict[str, Decimal] = defaultdict(Decimal)
    for entry in entries:
        totals[entry.kind.value] += entry.amount
    assert totals == was.ledger_totals
    assert abs(await w.gap()) < GAP
    operations = await w.outcomes()
    assert [kind for kind, _ in operations[: len(was.operations)]] == [kind for kind, _ in was.operations]
    await w.check()


def check_account(w: World, name: str) -> None:
    """The account at the exchange is the one that was left."""
    was, account = FACTS[name], w.account
    assert (account.spot_1e9, account.perp_1e9) == (was.spot_1e9, was.perp_1e9)
    assert (account.quote, account.wallet_quote) == (was.quote, was.wallet_quote)
    assert account.wallet_base_1e9 == was.wallet_spot_1e9
    assert abs(account.equity - was.equity) < GAP


def test_every_database_has_its_facts() -> None:
    assert {path.name.removesuffix(".db.xz") for path in FOLDER.glob("*.xz")} == set(FACTS)


async def test_what_the_operator_holds_is_still_the_operators(opened: Open) -> None:
    """It bleeds, and the decision that was kept says leave."""
    name = "held-by-operator"
    async with opened(name, automation=True) as w:
        check_account(w, name)
        assert w.state == "RUNNING"
        assert w.snapshot().carry.held_by == "operator"
        for _ in range(48):
            await w.record(rate_of(-100))
        assert w.legs == (5.0, -5.0)
        assert await w.outcomes() == FACTS[name].operations
        assert w.snapshot().carry.held_by == "operator"
        await check_kept(w, name)
        assert (await w.leave()).status is ResultStatus.DONE
        assert w.legs == (0.0, 0.0)
        await w.check()


async def test_an_operation_that_landed_unseen_is_found_out(opened: Open) -> None:
    name = "unresolved-landed"
    async with opened(name) as w:
        check_account(w, name)
        assert await w.outcomes() == [("TAKE", "LANDED")]
        assert not w.sender.sent
        assert w.state == "RUNNING"
        assert w.snapshot().carry.held_by == "operator"
        assert not w.snapshot().alerts
        await check_kept(w, name)


async def test_an_operation_that_never_arrived_is_found_out(opened: Open) -> None:
    name = "unresolved-lost"
    async with opened(name) as w:
        check_account(w, name)
        assert await w.outcomes() == [("TAKE", "EXPIRED")]
        assert not w.sender.sent
        assert w.state == "RUNNING"
        await check_kept(w, name)
        await w.records(8, 100)
        assert (await w.take(5)).status is ResultStatus.DONE
        assert w.legs == (5.0, -5.0)
        await w.check()


async def test_a_loss_limit_still_stands_with_its_reason(opened: Open) -> None:
    """What had been lost has come back, so that nothing but memory holds it."""
    name = "reducing"
    async with opened(name, losses=LossLimits(daily_loss=Decimal(20))) as w:
        check_account(w, name)
        assert w.state == "REDUCING"
        assert "lost $25.85 today, limit $20.00" in w.core.state_reason
        assert any("lost $25.85 today" in alert.message for alert in w.snapshot().alerts)
        assert (await w.take(1)).status is ResultStatus.REJECTED
        check_account(w, name)
        await check_kept(w, name)
        # One of the six SOL was paid in and is not sold.
        assert (await w.leave()).status is ResultStatus.DONE
        assert w.legs == (1.0, 0.0)
        assert w.state == "REDUCING"
        await w.check()


async def test_an_odd_leg_is_mended_before_anything_else(opened: Open) -> None:
    """The program died between the take, of which one leg landed, and its mending."""
    name = "odd-leg"
    async with opened(name) as w:
        assert w.legs == (0.0, 0.0)
        assert await w.outcomes() == [("TAKE", "LANDED"), ("UNWIND", "LANDED")]
        assert w.state == "RUNNING"
        await check_kept(w, name)
        await w.records(8, 100)
        assert (await w.take(5)).status is ResultStatus.DONE
        assert w.legs == (5.0, -5.0)


async def test_an_odd_leg_that_halted_is_left_to_the_operator(opened: Open) -> None:
    name = "odd-leg-halted"
    async with opened(name) as w:
        check_account(w, name)
        assert w.state == "HALTED"
        alert = w.snapshot().alerts[0]
        assert alert.level == Level.CRITICAL
        assert "perp -5" in alert.message
        assert await w.outcomes() == FACTS[name].operations
        assert (await w.take(1)).status is ResultStatus.REJECTED
        await check_kept(w, name)
        assert (await w.leave()).status is ResultStatus.DONE
        assert w.legs == (0.0, 0.0)
        await w.sure(Resume())
        assert w.state == "RUNNING"
        await w.check()
