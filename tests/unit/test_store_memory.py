"""The memory of a backtest keeps the promises of the database's that a single life can break."""

from __future__ import annotations

from decimal import Decimal

import pytest
from store_builders import entry, record, told

from deltatui.domain.errors import CriticalError
from deltatui.domain.ledger import VenueEvent
from deltatui.domain.operation import OperationState
from deltatui.store.memory import MemoryStore, MemoryTables

_S = OperationState


async def test_an_operation_goes_by_the_table() -> None:
    store = MemoryStore()
    assert await store.known_operation("o1") is None
    with pytest.raises(CriticalError, match="never planned"):
        await store.append_journal(record("o1", _S.SIMULATED))
    await store.append_journal(record("o1", _S.PLANNED))
    with pytest.raises(CriticalError, match="already in the journal"):
        await store.append_journal(record("o1", _S.PLANNED))
    with pytest.raises(CriticalError, match="cannot go from"):
        await store.append_journal(record("o1", _S.LANDED))
    await store.append_journal(record("o1", _S.SIMULATED))
    assert await store.known_operation("o1") is _S.SIMULATED
    assert await store.open_operations() == ()


async def test_what_is_booked_is_there_and_no_number_is_left_out() -> None:
    store = MemoryStore()
    await store.append_ledger([entry(1), entry(2)], {"books": b"1"}, events=told(2))
    with pytest.raises(CriticalError, match="cannot follow 2"):
        await store.append_ledger([entry(4)], {"books": b"2"}, events=told(3, 3))
    with pytest.raises(CriticalError, match="cannot follow 2"):
        await store.append_ledger([], {}, events=told(5, 5))
    await store.append_ledger([entry(3)], {"books": b"3"}, events=told(3, 3))
    await store.save_state({"flags": b"x"})
    assert list(await store.ledger()) == [entry(1), entry(2), entry(3)]
    assert await store.load_state() == {"books": b"3", "flags": b"x"}
    assert await store.funding("SOL-PERP", 3) == []


async def test_the_exchange_accepts_an_operation_once() -> None:
    tables = MemoryTables()
    events = [VenueEvent(number, 0.0, "SOL", base=Decimal(1), price=Decimal(1)) for number in (1, 2)]
    assert await tables.commit({"paper": b"1"}, events, "o1", b"landed") is None
    assert await tables.commit({"paper": b"2"}, [], "o1", b"again") == b"landed"
    assert await tables.receipt("o1") == b"landed"
    assert await tables.receipt("o2") is None
    assert (await tables.load()).state == {"paper": b"1"}
    assert list(await tables.events_after(1)) == events[1:]
    with pytest.raises(CriticalError, match="cannot follow 2"):
        await tables.commit({}, [VenueEvent(4, 0.0, "SOL")])
