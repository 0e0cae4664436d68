from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from store_builders import at_once, entry, flow, record, told

from deltatui.domain.errors import CriticalError
from deltatui.domain.operation import TRANSITIONS, OperationState
from deltatui.store.database import Database, Durability
from deltatui.store.engine_store import EngineStore
from deltatui.store.paper_tables import PaperTables

NAMES = ("a", "b", "c", "d")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 3), st.booleans()), max_size=30))
def test_any_order_of_commits_takes_each_operation_and_event_once(steps: list[tuple[str, int, bool]]) -> None:
    """Operations and batches come again, alone or with more behind them, as a crash and a retry would send them."""
    database = at_once(Database.open(None, Durability.MEMORY))
    tables = PaperTables(database)
    receipts: dict[str, bytes] = {}
    last = 0
    for number, (name, count, resend) in enumerate(steps):
        first = max(1, last) if resend else last + 1
        events = [flow(sequence, f"-{sequence}.5") for sequence in range(first, first + count)]
        given_receipt = str(number).encode()
        answer = at_once(tables.commit({"taken": given_receipt}, events, name, given_receipt))
        assert answer == receipts.get(name)
        if answer is None:
            receipts[name] = given_receipt
            last = max(last, first + count - 1)
        else:
            at_once(tables.commit({}, events))
            last = max(last, first + count - 1)
    assert at_once(tables.events_after(0)) == [flow(n, f"-{n}.5") for n in range(1, last + 1)]
    image = at_once(tables.load())
    assert image.last_sequence == last
    assert image.state.get("taken") == (max(receipts.values(), key=int) if receipts else None)
    assert {name: at_once(tables.receipt(name)) for name in receipts} == receipts
    at_once(database.close())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5), st.booleans()), max_size=25))
def test_any_order_of_bookings_books_each_entry_once(steps: list[tuple[int, int, bool]]) -> None:
    """Windows of one true ledger, some with a false entry at the end: what is booked is always the true beginning."""
    database = at_once(Database.open(None, Durability.MEMORY))
    store = EngineStore(database)
    last = 0
    for number, (back, count, falsify) in enumerate(steps):
        first = max(1, last + 1 - back)
        entries = [entry(sequence, f"{sequence}.25") for sequence in range(first, first + count)]
        cursor = {"cursor": str(number).encode()}
        before = at_once(store.load_state())
        if falsify and last:
            entries.append(entry(max(last, first + count - 1), "666"))
            try:
                at_once(store.append_ledger(entries, cursor, events=told(first + count - 1, first)))
            except CriticalError as error:
                assert error.code == "LEDGER_CONFLICT"  # noqa: PT017 - as many steps as hypothesis likes
            else:
                raise AssertionError("a false entry was booked")
            assert at_once(store.load_state()) == before
        else:
            at_once(store.append_ledger(entries, cursor, events=told(first + count - 1, first)))
            last = max(last, first + count - 1)
            assert at_once(store.load_state()) == cursor
        assert at_once(store.ledger()) == [entry(n, f"{n}.25") for n in range(1, last + 1)]
        assert at_once(store.venue_events()) == told(last)
    at_once(database.close())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(list(OperationState))), max_size=60))
def test_any_order_of_journal_lines_follows_the_table(steps: list[tuple[str, OperationState]]) -> None:
    database = at_once(Database.open(None, Durability.MEMORY))
    store = EngineStore(database)
    lines: dict[str, list[OperationState]] = {}
    for name, state in steps:
        known = lines.get(name)
        allowed = state is OperationState.PLANNED if known is None else state in TRANSITIONS[known[-1]]
        try:
            at_once(store.append_journal(record(name, state)))
        except CriticalError:
            assert not allowed
        else:
            assert allowed
            lines.setdefault(name, []).append(state)
    for name, states in lines.items():
        assert [line.state for line in at_once(store.journal(name))] == states
        assert at_once(store.known_operation(name)) is states[-1]
    still_open = [name for name, states in lines.items() if not states[-1].final]
    assert [item.operation.id for item in at_once(store.open_operations())] == still_open
    at_once(database.close())
