from __future__ import annotations

import itertools
import sqlite3
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from store_builders import entry, operation, record, told

from deltatui.domain.errors import CriticalError
from deltatui.domain.event import Event, Level
from deltatui.domain.ledger import VenueEvent, VenueEventId
from deltatui.domain.market import FundingRecord
from deltatui.domain.operation import TRANSITIONS, JournalRecord, OpenOperation, OperationState
from deltatui.ports import Store
from deltatui.store import venue_events
from deltatui.store.database import Database, Durability
from deltatui.store.engine_store import EngineStore

S = OperationState
WAYS: dict[OperationState, tuple[OperationState, ...]] = {
    S.PLANNED: (S.PLANNED,),
    S.SIMULATED: (S.PLANNED, S.SIMULATED),
    S.SIGNED: (S.PLANNED, S.SIMULATED, S.SIGNED),
    S.SENT: (S.PLANNED, S.SIMULATED, S.SIGNED, S.SENT),
    S.UNRESOLVED: (S.PLANNED, S.SIMULATED, S.SIGNED, S.SENT, S.UNRESOLVED),
    S.LANDED: (S.PLANNED, S.SIMULATED, S.SIGNED, S.SENT, S.LANDED),
    S.FAILED: (S.PLANNED, S.FAILED),
    S.EXPIRED: (S.PLANNED, S.SIMULATED, S.SIGNED, S.SENT, S.UNRESOLVED, S.EXPIRED),
}


@pytest.fixture
async def database() -> AsyncIterator[Database]:
    database = await Database.open(None, Durability.MEMORY)
    yield database
    await database.close()


@pytest.fixture
def store(database: Database) -> EngineStore:
    return EngineStore(database)


async def bring(store: EngineStore, name: str, state: OperationState) -> None:
    for step in WAYS[state]:
        await store.append_journal(record(name, step))


def test_it_is_the_engines_store(store: EngineStore) -> None:
    port: Store = store
    assert port is store


@pytest.mark.parametrize(("before", "after"), list(itertools.product(S, S)))
async def test_only_the_tables_transitions_are_written(
    store: EngineStore, before: OperationState, after: OperationState
) -> None:
    await bring(store, "op", before)
    if after in TRANSITIONS[before]:
        await store.append_journal(record("op", after))
        expected = (*WAYS[before], after)
    else:
        with pytest.raises(CriticalError, match="OPERATION_EXISTS" if after is S.PLANNED else "BAD_TRANSITION"):
            await store.append_journal(record("op", after))
        expected = WAYS[before]
    assert tuple(line.state for line in await store.journal("op")) == expected
    assert await store.known_operation("op") is expected[-1]
    assert bool(await store.open_operations()) is not expected[-1].final


async def test_planned_needs_its_own_operation(store: EngineStore) -> None:
    for line in (
        JournalRecord("op", S.PLANNED, 1.0),
        JournalRecord("op", S.PLANNED, 1.0, operation("other")),
        JournalRecord("", S.PLANNED, 1.0, operation("")),
    ):
        with pytest.raises(CriticalError, match="JOURNAL_INCOMPLETE"):
            await store.append_journal(line)
    with pytest.raises(CriticalError, match="UNKNOWN_OPERATION"):
        await store.append_journal(record("op", S.SIMULATED))
    assert await store.known_operation("op") is None
    assert await store.journal("op") == []


async def test_signed_needs_its_bytes_and_keeps_them(store: EngineStore) -> None:
    await bring(store, "a", S.SIMULATED)
    for line in (JournalRecord("a", S.SIGNED, 1.0, signature="x"), JournalRecord("a", S.SIGNED, 1.0, raw=b"x")):
        with pytest.raises(CriticalError, match="JOURNAL_INCOMPLETE"):
            await store.append_journal(line)
    await store.append_journal(record("a", S.SIGNED))
    for line in (
        JournalRecord("a", S.SENT, 1.0, signature="other"),
        JournalRecord("a", S.SENT, 1.0, signature="signature-a", raw=b"other"),
    ):
        with pytest.raises(CriticalError, match="SIGNATURE_CHANGED"):
            await store.append_journal(line)
    await store.append_journal(JournalRecord("a", S.SENT, 1.0, signature="signature-a", raw=b"raw-a"))
    assert await store.open_operations() == [
        OpenOperation(operation("a"), S.SENT, "signature-a", b"raw-a", 250_000_000)
    ]
    await bring(store, "b", S.SIMULATED)
    with pytest.raises(CriticalError, match="SIGNATURE_TAKEN") as taken:
        await store.append_journal(JournalRecord("b", S.SIGNED, 1.0, signature="signature-a", raw=b"raw"))
    assert "'a'" in taken.value.sentence
    assert await store.known_operation("b") is S.SIMULATED


async def test_open_operations_come_in_the_order_of_planning(store: EngineStore) -> None:
    for name in ("z", "a", "m"):
        await bring(store, name, S.PLANNED)
    await store.append_journal(record("a", S.FAILED))
    await store.append_journal(record("z", S.SIMULATED))
    assert await store.open_operations() == [
        OpenOperation(operation("z"), S.SIMULATED),
        OpenOperation(operation("m"), S.PLANNED),
    ]


async def test_operations_and_journal_read_back_what_was_written(store: EngineStore) -> None:
    await bring(store, "old", S.LANDED)
    await bring(store, "new", S.FAILED)
    newest, oldest = await store.operations()
    assert (newest.operation, newest.state, newest.error_code) == (operation("new"), S.FAILED, "6010")
    assert (oldest.operation, oldest.state, oldest.signature) == (operation("old"), S.LANDED, "signature-old")
    assert await store.operations(limit=1) == [newest]
    assert await store.journal("new") == [record("new", S.PLANNED), record("new", S.FAILED)]


async def test_ledger_keeps_decimals_exactly(store: EngineStore) -> None:
    amounts = ["0.1", "-0.123456789012345678901234567890", "1E-18", "1.50", "-0", "123456789012345678901234567890"]
    entries = [entry(number, amount) for number, amount in enumerate(amounts, 1)]
    await store.append_ledger(entries, {"vault": b"7"}, events=told(6))
    back = await store.ledger()
    assert back == entries
    assert [str(item.amount) for item in back] == [str(Decimal(amount)) for amount in amounts]
    assert await store.ledger(since=2, limit=2) == entries[2:4]
    assert await store.last_ledger_sequence() == 6
    assert await store.load_state() == {"vault": b"7"}


async def test_an_entry_is_booked_once(store: EngineStore) -> None:
    entries = [entry(1), entry(2, venue_sequence=0), entry(3, venue_sequence=0), entry(4, venue_sequence=2)]
    await store.append_ledger(entries, {"cursor": b"1"}, events=told(2))
    await store.append_ledger(entries[1:], {"cursor": b"2"})
    await store.append_ledger([*entries, entry(5)], {}, events=told(5, 2))
    assert await store.ledger() == [*entries, entry(5)]
    assert await store.load_state() == {"cursor": b"2"}


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (entry(2, "9"), "LEDGER_CONFLICT"),
        (entry(2, venue_sequence=7), "LEDGER_CONFLICT"),
        (entry(4, venue_sequence=2), "LEDGER_CONFLICT"),
        (entry(0), "LEDGER_CONFLICT"),
        (entry(5), "LEDGER_HOLE"),
        (entry(4, "NaN"), "BAD_AMOUNT"),
        (entry(4, "Infinity"), "BAD_AMOUNT"),
    ],
)
async def test_a_contradicting_entry_is_critical_and_changes_nothing(
    store: EngineStore, bad: object, code: str
) -> None:
    entries = [entry(1), entry(2)]
    await store.append_ledger(entries, {"cursor": b"2"}, events=told(7))
    with pytest.raises(CriticalError, match=code):
        await store.append_ledger([entry(3), bad], {"cursor": b"3"})  # type: ignore[list-item]
    assert await store.ledger() == entries
    assert await store.load_state() == {"cursor": b"2"}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger SET amount = '0'",
        "DELETE FROM ledger",
        "UPDATE venue_events SET event_id = 'other'",
        "DELETE FROM venue_events",
        "UPDATE journal SET state = 'LANDED'",
        "DROP TABLE nothing_like_this",
    ],
)
async def test_ledger_and_journal_are_append_only(database: Database, store: EngineStore, statement: str) -> None:
    await bring(store, "op", S.PLANNED)
    await store.append_ledger([entry(1)], {}, events=told(1))
    with pytest.raises(CriticalError, match="DATABASE_ERROR"):
        await database.run(lambda c: c.execute(statement))
    assert await store.ledger() == [entry(1)]


def event_id(number: int, name: str, account: str = "paper/test/0", venue: str = "paper") -> VenueEventId:
    return VenueEventId(number, venue, account, name)


async def test_venue_events_keep_their_numbers(store: EngineStore) -> None:
    await store.append_ledger([entry(1)], {"cursor": b"1"}, events=told(3))
    await store.append_ledger([entry(2, venue_sequence=3)], {"cursor": b"2"}, events=told(3, 2))
    await store.append_ledger([entry(3, venue_sequence=5)], {"cursor": b"3"}, events=told(5, 3))
    # Of another account or venue the same name is another event.
    others = [event_id(6, "signature-1:0", "paper/other/0"), event_id(7, "signature-1:0", venue="drift")]
    await store.append_ledger([], {}, events=others)
    assert await store.venue_events() == [*told(5), *others]
    assert await store.venue_events(since=1, limit=2) == told(3, 2)
    assert await store.ledger() == [entry(1), entry(2, venue_sequence=3), entry(3, venue_sequence=5)]


async def test_books_that_open_on_an_account_with_a_history_begin_after_it(store: EngineStore) -> None:
    await store.append_ledger([], {}, events=told(12, 11))
    assert await store.venue_events() == told(12, 11)
    for first, second in ((10, 12), (12, 10), (11, 13), (13, 11)):
        with pytest.raises(CriticalError, match="EVENT_NUMBER_UNKNOWN") as unknown:
            await store.append_ledger([entry(1, venue_sequence=first), entry(2, venue_sequence=second)], {})
        assert "11 to 12" in unknown.value.sentence
    assert await store.ledger() == []
    await store.append_ledger([entry(1, venue_sequence=11), entry(2, venue_sequence=12)], {})


@pytest.mark.parametrize(
    ("events", "code", "said"),
    [
        ([event_id(2, "another")], "CONFLICT", "number 2, but 2 is event 'signature-2:0'"),
        ([event_id(2, "signature-2:0", "paper/other/0")], "CONFLICT", "2 is event"),
        ([event_id(2, "signature-2:0", venue="drift")], "CONFLICT", "2 is event"),
        ([event_id(2, "signature-1:0")], "CONFLICT", "1 is event 'signature-1:0' of paper/test/0, 2 is event"),
        ([event_id(4, "new"), event_id(5, "signature-1:0")], "CONFLICT", "number 5, but 1 is event"),
        ([event_id(4, "new"), event_id(5, "new")], "CONFLICT", "number 5, but 4 is event"),
        ([event_id(0, "new")], "CONFLICT", "no event has that number"),
        ([event_id(5, "new")], "HOLE", "5 came where 4 was due"),
        ([event_id(4, "new"), event_id(6, "newer")], "HOLE", "6 came where 5 was due"),
        ([event_id(4, "new"), event_id(3, "signature-3:0")], "HOLE", "3 came where 5 was due"),
        ([event_id(4, "new"), event_id(4, "new")], "HOLE", "4 came where 5 was due"),
    ],
)
async def test_a_number_that_contradicts_is_critical_and_changes_nothing(
    store: EngineStore, events: list[VenueEventId], code: str, said: str
) -> None:
    await store.append_ledger([entry(1)], {"cursor": b"1"}, events=told(3))
    with pytest.raises(CriticalError, match=f"EVENT_NUMBER_{code}") as refused:
        await store.append_ledger([entry(2)], {"cursor": b"2"}, {"SOL-PERP": [funding_record(1)]}, events)
    assert said in refused.value.sentence
    assert await store.venue_events() == told(3)
    assert await store.ledger() == [entry(1)]
    assert await store.funding("SOL-PERP", 9) == []
    assert await store.load_state() == {"cursor": b"1"}


@pytest.mark.parametrize("nameless", [event_id(1, ""), event_id(1, "x", account=""), event_id(1, "x", venue="")])
async def test_an_event_without_a_name_is_refused(store: EngineStore, nameless: VenueEventId) -> None:
    with pytest.raises(CriticalError, match="DATABASE_ERROR"):
        await store.append_ledger([], {}, events=[nameless])
    assert await store.venue_events() == []


@pytest.mark.parametrize("numbered", [0, 3])
async def test_an_entry_books_an_event_that_is_known(store: EngineStore, numbered: int) -> None:
    await store.append_ledger([], {}, events=told(numbered))
    for entries in ([entry(1, venue_sequence=numbered + 1)], [entry(1, venue_sequence=-1)]):
        with pytest.raises(CriticalError, match="EVENT_NUMBER_UNKNOWN") as refused:
            await store.append_ledger(entries, {"cursor": b"1"})
        assert ("1 to 3" if numbered else "none") in refused.value.sentence
    await store.append_ledger([entry(1, venue_sequence=0)], {})
    assert await store.load_state() == {}


def test_an_event_is_called_by_its_venue_or_by_its_number() -> None:
    assert VenueEvent(7, 1.0, "SOL", event_id="signature:3").id == "signature:3"
    assert VenueEvent(7, 1.0, "SOL").id == "7"


async def test_the_ends_of_the_numbers_are_found_without_reading_them_all(database: Database) -> None:
    rows = await database.run(lambda c: c.execute(f"EXPLAIN QUERY PLAN {venue_events._ENDS}").fetchall())
    assert not [row[3] for row in rows if row[3].startswith("SCAN venue_events")]


def funding_record(hour: int, rate: str = "0.01", interval_s: int = 3600) -> FundingRecord:
    number, other = Decimal(rate), Decimal("150.10")
    return FundingRecord(3600 * hour, number, number * 2, -number, other, Decimal("1E+2"), Decimal("-0"), interval_s)


async def test_funding_is_kept_exactly_and_by_market(store: EngineStore) -> None:
    sol = [funding_record(hour, "0.123456789012345678901234567890") for hour in range(1, 6)]
    await store.append_ledger([], {"flags": b"3"}, {"SOL-PERP": sol[:3]})
    await store.append_ledger([], {"flags": b"5"}, {"SOL-PERP": sol[2:], "BTC-PERP": [funding_record(9)]})
    assert await store.funding("SOL-PERP", 100) == sol
    assert [str(record.mark_twap) for record in await store.funding("SOL-PERP", 1)] == ["1E+2"]
    assert await store.funding("SOL-PERP", 2) == sol[3:]
    assert await store.funding("BTC-PERP", 100) == [funding_record(9)]
    assert await store.funding("ETH-PERP", 100) == []
    assert await store.load_state() == {"flags": b"5"}


async def test_a_funding_record_keeps_the_interval_it_counted_for(store: EngineStore) -> None:
    """Of the same market too: a venue may change it."""
    records = [funding_record(8, interval_s=28_800), funding_record(12, interval_s=14_400), funding_record(13)]
    await store.append_ledger([], {}, {"SOL-PERP": records})
    assert [record.interval_s for record in await store.funding("SOL-PERP", 9)] == [28_800, 14_400, 3600]
    with pytest.raises(CriticalError, match="FUNDING_CONFLICT"):
        await store.append_ledger([], {}, {"SOL-PERP": [funding_record(8, interval_s=3600)]})


async def test_another_record_of_the_same_time_is_critical_and_changes_nothing(store: EngineStore) -> None:
    await store.append_ledger([], {"flags": b"1"}, {"SOL-PERP": [funding_record(1)]})
    wrong = {"SOL-PERP": [funding_record(2), funding_record(1, "0.02")]}
    with pytest.raises(CriticalError, match="FUNDING_CONFLICT"):
        await store.append_ledger([entry(1)], {"flags": b"2"}, wrong, told(1))
    assert await store.funding("SOL-PERP", 100) == [funding_record(1)]
    assert await store.ledger() == []
    assert await store.load_state() == {"flags": b"1"}


async def test_state_is_replaced_by_name(store: EngineStore) -> None:
    assert await store.load_state() == {}
    await store.save_state({"vault": b"1", "stance": b"\x00\xff"})
    await store.save_state({"vault": b"2"})
    await store.save_state({})
    assert await store.load_state() == {"vault": b"2", "stance": b"\x00\xff"}


def happening(number: int, kind: str = "order_filled") -> Event:
    data = {"price": "151.1", "näme": "ü"} if number % 2 else {}
    return Event(kind, Level.INFO, f"happening {number}", 10.0 * number, 20.0 * number, f"op-{number}", data)


async def test_events_read_back_in_order(store: EngineStore) -> None:
    events = [happening(1), happening(2, "kill_switch"), happening(3), happening(4, "sl_hit")]
    await store.append_events(events[:3])
    await store.append_events([])
    await store.append_events(events[3:])
    stored = await store.events()
    assert [item.event for item in stored] == events
    assert [item.number for item in stored] == [1, 2, 3, 4]
    assert await store.events(after=1, limit=2) == stored[1:3]
    assert await store.events(limit=2, newest=True) == stored[2:]
    assert await store.events(kinds=("kill_switch", "sl_hit")) == [stored[1], stored[3]]


async def test_an_unknown_time_is_refused(store: EngineStore) -> None:
    with pytest.raises(CriticalError, match="DATABASE_ERROR"):
        await store.append_events([Event("x", Level.INFO, "m", float("nan"), 1.0)])
    assert await store.events() == []


async def test_two_engines_have_two_vaults(tmp_path: Path) -> None:
    databases = [await Database.open(tmp_path / name / "a.db", Durability.NORMAL) for name in ("one", "two")]
    one, two = (EngineStore(database) for database in databases)
    await one.save_state({"vault": b"1"})
    await two.save_state({"vault": b"2"})
    assert (await one.load_state(), await two.load_state()) == ({"vault": b"1"}, {"vault": b"2"})
    for database in databases:
        await database.close()


async def test_open_operations_use_their_index(database: Database) -> None:
    def plan(connection: sqlite3.Connection) -> str:
        rows = connection.execute(
            "EXPLAIN QUERY PLAN SELECT id FROM operations"
            " WHERE state NOT IN ('LANDED', 'FAILED', 'EXPIRED') ORDER BY number"
        )
        return " ".join(row[3] for row in rows)

    assert "operations_open" in await database.run(plan)
