"""The paper account's own arithmetic where properties would hide the example: entries, fees, liquidation."""

from __future__ import annotations

from decimal import ROUND_UP, Decimal

import msgspec
import pytest

from deltatui.domain.ledger import LIQUIDATION_NOTE, Books, FlowKind, Holding, VenueEvent
from deltatui.domain.market import FundingRecord
from deltatui.venues.paper.account import Change, PaperAccount, PaperMarket, PaperPerp
from deltatui.venues.paper.settings import PaperSettings

SOL = 10**9
D = Decimal
ZERO = D(0)
MARKET = PaperMarket(D(100), D(101))


def change(account: PaperAccount) -> Change:
    return Change(account, 1000.0, "SOL-PERP", "SOL", "USDC")


def trade(account: PaperAccount, base: int, price: int | str, fee: str = "0") -> PaperAccount:
    c = change(account)
    c.trade_perp(base * SOL, D(price), D(fee), ZERO, ZERO, "op")
    return c.account


def flows(events: list[VenueEvent]) -> list[tuple[str, Decimal]]:
    return [(str(e.kind), e.amount) for e in events if e.kind is not None]


def test_entry_over_adding_reducing_and_turning() -> None:
    account = trade(PaperAccount(), -2, 100)
    assert account.perp.entry_price == 100
    account = trade(account, -2, 110)
    assert account.perp.entry_price == 105
    account = trade(account, 1, 90)
    assert account.perp.entry_price == 105
    assert account.perp.quote == 2 * 100 + 2 * 110 - 90
    account = trade(account, 4, 95)
    assert (account.perp.base_1e9, account.perp.entry_price) == (SOL, D(95))
    account = trade(account, -1, 99)
    assert account.perp.entry_price is None
    # What was earned on the way stays in the position's quote until it is settled.
    assert account.perp.quote == 200 + 220 - 90 - 380 + 99


def test_equity_is_at_the_mark_and_unsettled_at_the_oracle() -> None:
    account = PaperAccount(quote=D(1000), spot=D(2), perp=PaperPerp(-2 * SOL, D(200), D(200)))
    assert account.equity(MARKET, {}) == 1000 + 200 - 202 + 200
    assert account.unsettled(MARKET) == 0
    c = change(msgspec.structs.replace(account, perp=PaperPerp(-2 * SOL, D(230), D(200))))
    before = c.account.equity(MARKET, {})
    assert c.settle(MARKET) == 30
    assert c.account.quote == 1030
    assert c.account.settled == c.account.perp.settled == 30
    assert c.account.unsettled(MARKET) == 0
    assert c.account.equity(MARKET, {}) == before
    assert c.events == []


def test_fees_and_rebates_are_flows() -> None:
    c = change(PaperAccount(quote=D(1000)))
    c.trade_perp(-SOL, D(100), D("0.035"), ZERO, ZERO, "op")
    c.trade_spot(D(1), D(100), D("-0.01"), "op")
    assert flows(c.events) == [("fee", D("-0.035")), ("fee", D("0.01"))]
    assert c.account.quote == D("900.01")
    assert c.account.perp.quote == D("99.965")
    assert [e.sequence for e in c.events] == [1, 2, 3, 4]


def test_a_rest_below_a_lamport_goes_along() -> None:
    c = change(PaperAccount(spot=D("1.0000000004")))
    c.trade_spot(D(-1), D(100), ZERO, "op")
    assert c.account.spot == 0
    assert c.account.quote == D("100.00000004")
    assert c.events[0].base == D("-1.0000000004")
    c = change(PaperAccount(spot=D("1.000000001")))
    c.trade_spot(D(-1), D(100), ZERO, "op")
    assert c.account.spot == D("0.000000001")


def test_funding_takes_the_own_side_and_only_from_the_entry_on() -> None:
    record = FundingRecord(3600, D(9), D(1), D(2), D(100), D(100), ZERO)
    market = PaperMarket(D(100), D(100), D(11), D(22), 1, 3600)
    for base, cash in [(-SOL, D(2)), (SOL, D(-1))]:
        account = PaperAccount(perp=PaperPerp(base, ZERO, ZERO, D(20) if base < 0 else D(10)))
        c = change(account)
        c.fund(market, record, 0)
        assert flows(c.events) == [("funding", cash)]
        assert c.account.perp.quote == cash
    c = change(PaperAccount())
    c.fund(market, record, 0)
    assert c.events == []
    # Turned round between two records: the index is that of the new side from then on.
    c = change(PaperAccount(perp=PaperPerp(-SOL, ZERO, ZERO, D(20))))
    c.trade_perp(2 * SOL, D(100), ZERO, D(10), D(20), "op")
    assert c.account.perp.booked_index == 10


def test_interest() -> None:
    settings = PaperSettings(
        base_borrow_apr_pct=D(10), base_lend_apr_pct=D(1), quote_borrow_apr_pct=D(20), quote_lend_apr_pct=D(2)
    )
    year = 365 * 86_400
    c = change(PaperAccount(quote=D(-1000), spot=D(-10), accrued_s=1))
    c.accrue(1 + year, D(100), settings)
    assert (c.account.quote, c.account.spot) == (D(-1200), D(-11))
    assert flows(c.events) == [("interest", D(-100)), ("interest", D(-200))]
    c = change(PaperAccount(quote=D(1000), spot=D(10), accrued_s=1))
    c.accrue(1 + year, D(100), settings)
    assert (c.account.quote, c.account.spot) == (D(1020), D("10.1"))
    again = change(c.account)
    again.accrue(1 + year, D(100), settings)
    assert again.events == []
    back = change(c.account)
    back.accrue(5, D(100), settings)
    assert back.account == c.account


@pytest.mark.parametrize(("spot", "perp"), [(D(2), -2), (D(-2), 2), (ZERO, -2), (D(-2), 0)])
def test_a_liquidation_closes_positions_and_debts_with_its_fee(spot: Decimal, perp: int) -> None:
    account = PaperAccount(quote=D(500), spot=spot, perp=PaperPerp(perp * SOL, D(-perp * 90), D(-perp * 90)))
    c = change(account)
    market = PaperMarket(D(100), D(100))
    before = account.equity(market, {})
    c.liquidate(market, {}, D(1500))
    closed = abs(perp) * 100 + (200 if spot < 0 else 0)
    assert c.account.perp.base_1e9 == 0
    assert c.account.perp.quote == 0
    assert c.account.spot == max(spot, ZERO)
    assert c.account.equity(market, {}) == before - closed * D("0.015")
    assert sum(amount for kind, amount in flows(c.events) if kind == "fee") == -closed * D("0.015")
    assert c.account.liquidations == 1
    assert {e.operation_id for e in c.events if e.kind is FlowKind.FEE} == {"liquidation"}


def liquidated(account: PaperAccount, price: int, other_marks: dict[str, Decimal] | None = None) -> Change:
    """``account`` after a liquidation at ``price`` with a fee of 1.5 %; the events explain every cent of it."""
    market, marks = PaperMarket(D(price), D(price)), other_marks or {}
    books = Books(account.equity(market, marks), frozenset({"SOL"}))
    books.holdings = {
        "SOL-PERP": Holding(D(account.perp.base_1e9) / SOL, market.mark),
        "SOL": Holding(account.spot, market.oracle),
        **{symbol: Holding(D(other.base_1e9) / SOL, marks[symbol]) for symbol, other in account.others.items()},
    }
    c = change(account)
    c.liquidate(market, marks, D(1500))
    books.ingest(c.events)
    ledger = books.closing_equity({"SOL-PERP": market.mark, "SOL": market.oracle, **marks})
    assert abs(c.account.equity(market, marks) - ledger) < D("1e-9")
    return c


def written_off(c: Change) -> Decimal:
    return sum((e.amount for e in c.events if e.kind is FlowKind.WRITE_OFF), ZERO)


def test_a_liquidation_sells_deposits_for_debts() -> None:
    """Of 10 SOL at 100 so much as a debt of 300 and the fee need, to the lamport and not one less."""
    c = liquidated(PaperAccount(quote=D(-300), spot=D(10)), 100)
    sold = 10 - c.account.spot
    assert sold == D("3.045685280")
    assert c.account.quote == sold * 100 * D("0.985") - 300
    assert ZERO <= c.account.quote < D("1e-6")
    assert written_off(c) == 0
    assert c.account.liquidations == 1
    assert {e.note for e in c.events if e.base} == {LIQUIDATION_NOTE}


def test_a_liquidation_pays_the_loss_of_a_perp_out_of_the_deposits() -> None:
    """With 3,000 a hedge of 30 from 150, liquidated at 800. Kept, the SOL would have been worth 3,000 at 100 and
    the debts 21,360."""
    c = liquidated(PaperAccount(quote=D(-1500), spot=D(30), perp=PaperPerp(-30 * SOL, D(4500), D(4500))), 800)
    account = c.account
    owed = 30 * 800 - 4500 + 30 * 800 * D("0.015") + 1500
    assert owed == 21_360
    assert account.perp.base_1e9 == 0
    assert account.perp.quote == 0
    assert account.spot == 30 - (owed / (800 * D("0.985"))).quantize(D("1e-9"), ROUND_UP)
    assert ZERO <= account.quote < D("1e-5")
    assert written_off(c) == 0
    assert account.equity(PaperMarket(D(100), D(100)), {}) > 289


def test_what_nothing_is_left_for_is_written_off_by_its_own_kind() -> None:
    """Nothing stays negative, and the books say by what."""
    c = liquidated(PaperAccount(quote=D(-2000), spot=D(10)), 100)
    assert c.account.quote == c.account.spot == 0
    assert c.account.equity(MARKET, {}) == 0
    assert written_off(c) == 2000 - 985
    assert flows(c.events)[-1] == ("write_off", D(1015))
    naked = PaperAccount(quote=D(3000), perp=PaperPerp(-30 * SOL, D(4500), D(4500)))
    c = liquidated(naked, 800)
    assert written_off(c) == 30 * 800 * D("1.015") - 4500 - 3000
    assert c.account.equity(MARKET, {}) == 0


def test_a_debt_in_sol_is_bought_back_and_what_that_leaves_is_written_off() -> None:
    c = liquidated(PaperAccount(quote=D(100), spot=D(-2)), 100)
    assert c.account.quote == c.account.spot == 0
    assert written_off(c) == 200 * D("1.015") - 100


def test_a_hedge_with_borrowed_sol_loses_the_fees_alone() -> None:
    reverse = PaperAccount(quote=D(3000) + 30 * 150, spot=D(-30), perp=PaperPerp(30 * SOL, D(-4500), D(-4500)))
    c = liquidated(reverse, 800)
    assert written_off(c) == 0
    assert c.account.spot == 0
    assert c.account.quote == 3000 - 2 * 30 * 800 * D("0.015")


def test_a_liquidation_closes_positions_elsewhere_too() -> None:
    account = PaperAccount(quote=D(1000), others={"BTC-PERP": PaperPerp(-SOL // 100, D(600), D(600))})
    c = liquidated(account, 100, {"BTC-PERP": D(70_000)})
    assert c.account.others == {}
    assert c.account.quote == 1000 - 100 - 700 * D("0.015")
    assert c.account.settled == 600 - 700 - 700 * D("0.015")


def test_with_nothing_owed_nothing_is_written_off() -> None:
    c = liquidated(PaperAccount(quote=D(0), spot=D(3)), 100)
    assert (c.account.quote, c.account.spot) == (ZERO, D(3))
    assert c.events == []


def test_from_each_record_to_the_documented_cycle_nothing_is_booked_twice() -> None:
    """The setting is changed at a restart, in the middle of a cycle whose records are booked already."""
    start_s = 28_800 * 60_000
    account = trade(PaperAccount(), -2, 100)
    booked: list[Decimal] = []
    for hour, period_s in ((1, 0), (2, 0), (3, 28_800), (7, 28_800), (8, 28_800), (9, 28_800)):
        record = FundingRecord(start_s + 3600 * hour, D("0.5"), D("0.5"), D("0.5"), D(100), D(100), ZERO)
        c = change(account)
        c.fund(PaperMarket(D(100), D(100), D(hour) / 2, D(hour) / 2, hour), record, period_s)
        account = c.account
        booked += [amount for _, amount in flows(c.events)]
    assert booked == [1, 1, 8]
