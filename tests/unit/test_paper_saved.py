"""What the paper exchange keeps: read back whole, upgraded from what earlier versions wrote, and refused where it is
not understood. Databases of an older deltatui are in ``tests/data/databases``."""

from __future__ import annotations

import json
import lzma
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from paper_exchange import BOTH, BTC, BTC_PRICE, FREE, PRICE, SOL, START_S, Exchange, exchange, order, record_of

from deltatui.backtest.clock import SimulatedClock
from deltatui.domain.errors import CriticalError, TransientError
from deltatui.domain.market import MarketSpec
from deltatui.domain.operation import OperationKind
from deltatui.ports import NO_PERP, NO_SPOT
from deltatui.store.database import Database, Durability
from deltatui.store.paper_tables import PaperTables
from deltatui.venues.paper.account import PaperAccount, PaperPerp
from deltatui.venues.paper.markets import PaperMarket
from deltatui.venues.paper.saved import VERSION, Saved, read_saved, write_saved
from deltatui.venues.paper.settings import SOL_PERP, PaperSettings
from deltatui.venues.paper.venue import PaperVenue

FOLDER = Path(__file__).parent.parent / "data" / "databases"
FACTS: dict[str, dict[str, Any]] = json.loads((FOLDER / "facts.json").read_bytes())
D = Decimal

WHOLE = Saved(
    VERSION,
    PaperAccount(
        quote=D("1000.5"),
        wallet_quote=D(7),
        spots={"SOL": D("5.000000000000000000000000000"), "wBTC": D("-0.1")},
        wallet={"wBTC": D("0.25")},
        perps={"SOL-PERP": PaperPerp(-5 * SOL, D(749), D(750), D("0.01"), 59_028, D(-3)), "BTC-PERP": PaperPerp()},
        accrued_s=1_700_000_000,
        sequence=12,
        liquidations=1,
        settled=D("2.5"),
    ),
    {"SOL-PERP": PaperMarket(D(150), D("150.1"), D("0.1"), D("-0.2"), 14, 1_700_000_000)},
    1_700_000_060.0,
)


def old_blob(name: str, path: Path) -> bytes:
    path.write_bytes(lzma.decompress((FOLDER / f"{name}.db.xz").read_bytes()))
    connection = sqlite3.connect(path)
    try:
        (blob,) = connection.execute("SELECT value FROM paper_state WHERE name = 'paper'").fetchone()
    finally:
        connection.close()
    assert isinstance(blob, bytes)
    return blob


async def opened(blob: bytes, specs: tuple[MarketSpec, ...] = (SOL_PERP,)) -> PaperVenue:
    database = await Database.open(None, Durability.MEMORY)
    tables = PaperTables(database)
    await tables.commit({"paper": blob}, [])
    venue = PaperVenue(specs, PaperSettings(), tables, SimulatedClock())
    try:
        await venue.open(D(1), D(1), {"SOL": D(99)})
    finally:
        await database.close()
    return venue


@pytest.mark.parametrize("name", FACTS)
@pytest.mark.parametrize("specs", [(SOL_PERP,), BOTH], ids=["alone", "beside another market"])
async def test_the_account_of_an_older_database_is_found_again(
    name: str, specs: tuple[MarketSpec, ...], tmp_path: Path
) -> None:
    was = FACTS[name]
    venue = await opened(old_blob(name, tmp_path / "old.db"), specs)
    account = venue.account()
    assert account is not None
    assert account.as_of_s == was["market_s"]
    assert account.quote == D(was["quote"])
    assert account.equity == D(was["equity"])
    assert account.wallet_quote == D(was["wallet_quote"])
    spot = account.spots.get("SOL", NO_SPOT)
    assert (spot.base_1e9, spot.wallet_1e9) == (was["spot_1e9"], was["wallet_spot_1e9"])
    assert account.perps.get("SOL-PERP", NO_PERP).base_1e9 == was["perp_1e9"]
    assert set(account.spots) <= {"SOL"}
    assert set(account.perps) <= {"SOL-PERP"}
    assert venue.last_record_s("SOL-PERP") > 0


def test_each_field_of_the_old_account_has_its_place() -> None:
    old = {
        "account": {
            "quote": "1",
            "spot": "2",
            "perp": {
                "base_1e9": -3,
                "quote": "4",
                "entry_quote": "5",
                "booked_index": "6",
                "booked_cycle": 7,
                "settled": "8",
            },
            "wallet_quote": "9",
            "wallet_spot": "10",
            "accrued_s": 11,
            "sequence": 12,
            "liquidations": 13,
            "settled": "14",
            "others": {
                "BTC-PERP": {
                    "base_1e9": 15,
                    "quote": "16",
                    "entry_quote": "17",
                    "booked_index": "0",
                    "booked_cycle": 18,
                }
            },
        },
        "market": {
            "oracle": "19",
            "mark": "20",
            "index_long": "21",
            "index_short": "22",
            "records": 23,
            "last_record_s": 24,
        },
        "cursor_s": 25.0,
        "record": None,
        "other_marks": {"BTC-PERP": "26"},
    }
    assert read_saved(json.dumps(old).encode()) == Saved(
        VERSION,
        PaperAccount(
            quote=D(1),
            wallet_quote=D(9),
            spots={"SOL": D(2)},
            wallet={"SOL": D(10)},
            perps={
                "SOL-PERP": PaperPerp(-3, D(4), D(5), D(6), 7, D(8)),
                "BTC-PERP": PaperPerp(15, D(16), D(17), D(0), 18),
            },
            accrued_s=11,
            sequence=12,
            liquidations=13,
            settled=D(14),
        ),
        {"SOL-PERP": PaperMarket(D(19), D(20), D(21), D(22), 23, 24), "BTC-PERP": PaperMarket(D(26), D(26))},
        25.0,
    )


def test_what_is_written_is_read_back_exactly() -> None:
    blob = write_saved(WHOLE)
    assert read_saved(blob) == WHOLE
    assert write_saved(read_saved(blob)) == blob


@pytest.mark.parametrize(
    "where", [(), ("account",), ("account", "perps", "SOL-PERP"), ("markets", "SOL-PERP")], ids=str
)
def test_a_field_that_is_not_known_or_not_there_is_refused(where: tuple[str, ...]) -> None:
    """Neither is a reason to go on with less money than there was."""
    whole = json.loads(write_saved(WHOLE))
    at = whole
    for name in where:
        at = at[name]
    for name in list(at):
        if name == "version":
            continue
        value = at.pop(name)
        with pytest.raises(CriticalError, match="BAD_PAPER_STATE"):
            read_saved(json.dumps(whole).encode())
        at[name] = value
    read_saved(json.dumps(whole).encode())
    at["staked"] = "5"
    with pytest.raises(CriticalError, match=r"BAD_PAPER_STATE.*staked"):
        read_saved(json.dumps(whole).encode())


@pytest.mark.parametrize("where", [(), ("account",), ("account", "perp"), ("market",)], ids=str)
def test_the_same_of_an_old_one(where: tuple[str, ...], tmp_path: Path) -> None:
    whole = json.loads(old_blob("held-by-operator", tmp_path / "old.db"))
    at = whole
    for name in where:
        at = at[name]
    for name in list(at):
        value = at.pop(name)
        with pytest.raises(CriticalError, match="BAD_PAPER_STATE"):
            read_saved(json.dumps(whole).encode())
        at[name] = value
    at["staked"] = "5"
    with pytest.raises(CriticalError, match=r"BAD_PAPER_STATE.*staked"):
        read_saved(json.dumps(whole).encode())


@pytest.mark.parametrize(
    ("blob", "why"),
    [
        (b"{", "cannot be read"),
        (b"[]", "cannot be read"),
        (b'{"version": 3}', "is of version 3, this deltatui reads versions 1 to 2"),
        (b'{"version": 0}', "is of version 0"),
    ],
)
def test_another_version_or_no_state_at_all_is_refused(blob: bytes, why: str) -> None:
    with pytest.raises(CriticalError, match=why):
        read_saved(blob)


async def test_a_market_that_is_not_known_any_more_is_refused() -> None:
    account = msgspec.structs.replace(WHOLE.account, spots={"SOL": D(1), "DOGE": D(5)})
    with pytest.raises(CriticalError, match="the paper account holds DOGE, which this exchange does not know"):
        await opened(write_saved(msgspec.structs.replace(WHOLE, account=account)))


async def restarted(x: Exchange, specs: tuple[MarketSpec, ...]) -> Exchange:
    venue = PaperVenue(specs, PaperSettings(costs=FREE), PaperTables(x.database), x.clock)
    assert await venue.open(D(1), D(1), {}) == x.clock.market_s()
    again = Exchange(venue, x.clock, x.database)
    again.number = x.number
    return again


async def test_both_markets_survive_a_restart() -> None:
    async with exchange(specs=BOTH, wallet={"SOL": D(3)}) as x:
        await x.do(order("SOL-PERP", -5 * SOL), order("SOL", 5 * SOL))
        await x.do(order("BTC-PERP", -BTC // 10), order("wBTC", BTC // 10), market="BTC-PERP")
        await x.record(record_of(START_S + 3600, "2"))
        await x.record(record_of(START_S + 3600, "-30", D(61_000)), "BTC-PERP")
        before = msgspec.to_builtins(x.venue._account)
        again = await restarted(x, BOTH)
        assert msgspec.to_builtins(again.venue._account) == before
        mark = again.account.mark
        assert msgspec.structs.replace(x.account, mark=mark) == again.account
        assert again.venue.health() == x.venue.health()
        assert [again.venue.last_record_s(symbol) for symbol in again.venue.markets()] == [START_S + 3600] * 2
        # The tape goes on where each market stood.
        await again.record(record_of(START_S + 7200, "2"))
        assert again.perp().unsettled == 20
        assert len(await again.venue.events_after(0)) == 7


async def test_a_market_may_be_added_and_taken_away_again() -> None:
    """What is held in it stays, at its last price."""
    async with exchange() as x:
        await x.do(order("SOL-PERP", -5 * SOL), order("SOL", 5 * SOL))
        both = await restarted(x, BOTH)
        assert both.account.equity == 100_000
        assert await both.tried(order("BTC-PERP", -BTC), market="BTC-PERP") == ("FAILED", "MarketNotActive")
        await both.price(BTC_PRICE, market="BTC-PERP")
        await both.do(order("BTC-PERP", -BTC // 10), order("wBTC", BTC // 10), market="BTC-PERP")
        await both.record(record_of(START_S + 3600, "10", BTC_PRICE), "BTC-PERP")
        alone = await restarted(both, (SOL_PERP,))
        assert list(alone.venue.markets()) == ["SOL-PERP"]
        assert alone.account.equity == both.account.equity == 100_001
        assert alone.perp("BTC-PERP") == both.perp("BTC-PERP")
        assert alone.spot("wBTC").base_1e9 == BTC // 10
        assert alone.venue.health() == both.venue.health()
        await alone.price(PRICE + 1)
        assert alone.account.equity == 100_001
        assert await alone.tried(order("wBTC", -BTC // 10), market="BTC-PERP") == ("FAILED", "MarketNotFound")


async def test_a_position_from_elsewhere_goes_on_when_its_market_gets_a_tape() -> None:
    async with exchange() as x:
        await x.venue.fill_from_elsewhere("BTC-PERP", -BTC // 10, BTC_PRICE)
        both = await restarted(x, BOTH)
        await both.record(record_of(START_S + 3600, "10", BTC_PRICE), "BTC-PERP")
        assert both.perp("BTC-PERP").unsettled == 1
        assert await both.tried(order("BTC-PERP", BTC // 10, reduce_only=True), market="BTC-PERP") == ("LANDED", "")


async def test_a_disk_that_refuses_is_told_and_nothing_is_lost() -> None:
    async with exchange(specs=BOTH) as x:
        await x.do(order("SOL-PERP", -5 * SOL))
        tables, commit = x.venue._tables, x.venue._tables.commit

        async def refuse(*arguments: object) -> bytes | None:
            raise TransientError("DATABASE_LOCKED", "another program holds the database locked")

        tables.commit = refuse  # type: ignore[method-assign, assignment]
        await x.record(record_of(START_S + 3600, "2"))
        assert x.venue.trouble == "another program holds the database locked"
        with pytest.raises(TransientError):
            await x.venue.flush()
        with pytest.raises(TransientError):
            await x.do(order("BTC-PERP", -BTC), market="BTC-PERP", kind=OperationKind.TAKE)
        assert x.perp().unsettled == 10
        assert x.venue.perp_1e9("BTC-PERP") == 0
        tables.commit = commit  # type: ignore[method-assign]
        await x.venue.flush()
        assert x.venue.trouble == ""
        again = await restarted(x, BOTH)
        assert again.perp().unsettled == 10
        assert [event.sequence for event in await again.venue.events_after(0)] == [1, 2]


async def test_steps_are_saved_together_and_operations_at_once() -> None:
    async with exchange(PaperSettings(costs=FREE, save_every=3), specs=BOTH) as x:
        await x.do(order("SOL-PERP", -5 * SOL))
        tables = PaperTables(x.database)
        for hour, saved in enumerate((1, 1, 4, 4), 1):
            await x.record(record_of(START_S + 3600 * hour, "2"))
            assert (await tables.load()).last_sequence == saved
        await x.do(order("BTC-PERP", -BTC // 10), market="BTC-PERP")
        assert len(await tables.events_after(0)) == 6
