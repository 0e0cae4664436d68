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
from deltatui.domain.market import FundingRecord
from deltatui.domain.operation import TRANSITIONS, JournalRecord, OpenOperation, OperationState
from deltatui.ports import Store
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


def funding_record(hour: int, rate: str = "0.01") -> FundingRecord:
    number = Decimal(rate)
    return FundingRecord(3600 * hour, number, number * 2, -number, Decimal("150.10"), Decimal("1E+2"), Decimal("-0"))


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
