from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from store_builders import fill, flow

from deltatui.domain.errors import CriticalError
from deltatui.domain.ledger import FlowKind, VenueEvent
from deltatui.store.database import Database, Durability
from deltatui.store.paper_tables import PaperImage, PaperTables


@pytest.fixture
async def tables() -> AsyncIterator[PaperTables]:
    database = await Database.open(None, Durability.MEMORY)
    yield PaperTables(database)
    await database.close()


async def test_a_new_venue_remembers_nothing(tables: PaperTables) -> None:
    assert await tables.load() == PaperImage({}, 0)
    assert await tables.receipt("op") is None
    assert await tables.events_after(0) == []


async def test_an_operation_is_accepted_once(tables: PaperTables) -> None:
    assert await tables.commit({"account": b"1"}, [fill(1), flow(2)], "op", b"filled") is None
    assert await tables.commit({"account": b"2"}, [fill(3)], "op", b"again") == b"filled"
    assert await tables.load() == PaperImage({"account": b"1"}, 2)
    assert await tables.receipt("op") == b"filled"
    assert await tables.events_after(0) == [fill(1), flow(2)]


async def test_an_empty_receipt_counts(tables: PaperTables) -> None:
    assert await tables.commit({}, [], "op", b"") is None
    assert await tables.commit({"account": b"2"}, [], "op", b"") == b""
    assert await tables.load() == PaperImage({}, 0)


async def test_id_and_receipt_come_together(tables: PaperTables) -> None:
    with pytest.raises(CriticalError, match="RECEIPT_MISSING"):
        await tables.commit({}, [], "op")
    with pytest.raises(CriticalError, match="RECEIPT_MISSING"):
        await tables.commit({}, [], None, b"x")


async def test_events_read_back_exactly(tables: PaperTables) -> None:
    events = [
        VenueEvent(1, 1.5, "SOL-PERP", base=Decimal("-0.000000001"), price=Decimal("151.10"), note="half"),
        VenueEvent(2, 2.5, "SOL-PERP", "op", FlowKind.FEE, Decimal("-0.123456789012345678901234567890")),
        *[VenueEvent(3 + n, 3.0, "USDC", "", kind, Decimal(n), record=n) for n, kind in enumerate(FlowKind)],
    ]
    await tables.commit({}, events)
    back = await tables.events_after(0)
    assert back == events
    assert [(str(e.amount), str(e.base), str(e.price)) for e in back] == [
        (str(e.amount), str(e.base), str(e.price)) for e in events
    ]
    assert await tables.events_after(1, limit=2) == events[1:3]


async def test_known_events_are_passed_over(tables: PaperTables) -> None:
    await tables.commit({}, [flow(1), flow(2), flow(3)])
    await tables.commit({}, [flow(2), flow(3), flow(4), flow(5)])
    await tables.commit({}, [flow(1)])
    assert await tables.events_after(0) == [flow(n) for n in range(1, 6)]


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([flow(4)], "VENUE_EVENT_HOLE"),
        ([flow(3), flow(5)], "VENUE_EVENT_HOLE"),
        ([flow(3), flow(3)], "VENUE_EVENT_HOLE"),
        ([flow(1), flow(3)], "VENUE_EVENT_CONFLICT"),
        ([flow(2, "9"), flow(3)], "VENUE_EVENT_CONFLICT"),
        ([fill(2)], "VENUE_EVENT_CONFLICT"),
        ([flow(0), flow(1)], "VENUE_EVENT_CONFLICT"),
        ([flow(3, "NaN")], "BAD_AMOUNT"),
        ([fill(3, "Infinity")], "BAD_AMOUNT"),
    ],
)
async def test_a_contradiction_changes_nothing(tables: PaperTables, events: list[VenueEvent], code: str) -> None:
    await tables.commit({"account": b"1"}, [flow(1), flow(2)])
    with pytest.raises(CriticalError, match=code):
        await tables.commit({"account": b"2"}, events, "op", b"receipt")
    assert await tables.load() == PaperImage({"account": b"1"}, 2)
    assert await tables.receipt("op") is None


async def test_a_first_event_below_one_is_refused(tables: PaperTables) -> None:
    with pytest.raises(CriticalError, match="VENUE_EVENT_CONFLICT"):
        await tables.commit({}, [flow(0)])
    assert await tables.load() == PaperImage({}, 0)
