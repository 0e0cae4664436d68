"""The paper account's own arithmetic where properties would hide the example: entries, fees, liquidation."""

from __future__ import annotations

from decimal import ROUND_UP, Decimal

import msgspec
import pytest
from paper_exchange import BOTH, BTC, BTC_PRICE, SOL, change_of, priced

from deltatui.domain.ledger import LIQUIDATION_NOTE, Books, FlowKind, Holding, VenueEvent
from deltatui.domain.market import FundingRecord
from deltatui.venues.paper.account import Change, PaperAccount, PaperPerp
from deltatui.venues.paper.markets import Listing, Markets
from deltatui.venues.paper.settings import PaperSettings

D = Decimal
ZERO = D(0)
PERP, SPOT = "SOL-PERP", "SOL"


def markets(oracle: int = 100, mark: int | None = None) -> Markets:
    return priced({PERP: (D(oracle), D(oracle if mark is None else mark))})


MARKETS = markets(100, 101)
SOL_LISTING = MARKETS.by_symbol[PERP]


def account(
    quote: Decimal = ZERO, spot: Decimal | int = 0, perp: PaperPerp | None = None, **more: object
) -> PaperAccount:
    """Of SOL-PERP alone."""
    perps = {} if perp is None else {PERP: perp}
    return PaperAccount(quote=D(quote), spots={SPOT: D(spot)}, perps=perps, **more)  # type: ignore[arg-type]


def change(of: PaperAccount, at: Markets = MARKETS) -> Change:
    return change_of(of, at)


def trade(of: PaperAccount, base: int, price: int | str, fee: str = "0") -> PaperAccount:
    c = change(of)
    c.trade_perp(SOL_LISTING, base * SOL, D(price), D(fee), "op")
    return c.account


def flows(events: list[VenueEvent]) -> list[tuple[str, Decimal]]:
    return [(str(e.kind), e.amount) for e in events if e.kind is not None]


def test_entry_over_adding_reducing_and_turning() -> None:
    after = trade(PaperAccount(), -2, 100)
    assert after.perps[PERP].entry_price == 100
    after = trade(after, -2, 110)
    assert after.perps[PERP].entry_price == 105
    after = trade(after, 1, 90)
    assert after.perps[PERP].entry_price == 105
    assert after.perps[PERP].quote == 2 * 100 + 2 * 110 - 90
    after = trade(after, 4, 95)
    assert (after.perps[PERP].base_1e9, after.perps[PERP].entry_price) == (SOL, D(95))
    after = trade(after, -1, 99)
    assert after.perps[PERP].entry_price is None
    # What was earned on the way stays in the position's quote until it is settled.
    assert after.perps[PERP].quote == 200 + 220 - 90 - 380 + 99


def test_equity_is_at_the_mark_and_unsettled_at_the_oracle() -> None:
    before = account(D(1000), 2, PaperPerp(-2 * SOL, D(200), D(200)))
    assert before.equity(MARKETS) == 1000 + 200 - 202 + 200
    assert before.perps[PERP].worth(D(100)) == 0
    before = account(D(1000), 2, PaperPerp(-2 * SOL, D(230), D(200)))
    c = change(before)
    assert c.settle(SOL_LISTING) == 30
    after = c.account
    assert after.quote == 1030
    assert after.settled == after.perps[PERP].settled == 30
    assert after.perps[PERP].worth(D(100)) == 0
    assert after.equity(MARKETS) == before.equity(MARKETS)
    assert c.events == []


def test_a_copy_is_not_changed_along() -> None:
    before = account(D(1000), 2, PaperPerp(-2 * SOL, D(200), D(200)), wallet={SPOT: D(3)})
    image = msgspec.to_builtins(before)
    c = change(before)
    c.trade_perp(SOL_LISTING, SOL, D(90), D(1), "op")
    c.trade_spot(SPOT, D(-1), D(90), D(1), "op")
    c.transfer_spot(SOL_LISTING, D(1), "op")
    c.settle(SOL_LISTING)
    assert msgspec.to_builtins(before) == image
    assert msgspec.to_builtins(c.account) != image


def test_without_a_price_of_what_is_held_there_is_no_equity() -> None:
    """Unknown is never zero; what is not held needs no price."""
    none = priced({}, BOTH)
    assert account(D(1000)).equity(none) == 1000
    assert account(D(1000), 2).equity(none) is None
    assert account(D(1000), 0, PaperPerp(-SOL, D(100), D(100))).equity(none) is None
    only_btc = priced({"BTC-PERP": (D(60_000), D(60_000))}, BOTH)
    assert account(D(1000), 2).equity(only_btc) is None
    assert account(D(1000), 2, wallet={"wBTC": D(1)}).equity(MARKETS) == 1200


def test_fees_and_rebates_are_flows() -> None:
    c = change(account(D(1000)))
    c.trade_perp(SOL_LISTING, -SOL, D(100), D("0.035"), "op")
    c.trade_spot(SPOT, D(1), D(100), D("-0.01"), "op")
    assert flows(c.events) == [("fee", D("-0.035")), ("fee", D("0.01"))]
    assert c.account.quote == D("900.01")
    assert c.account.perps[PERP].quote == D("99.965")
    assert [e.sequence for e in c.events] == [1, 2, 3, 4]


def test_a_rest_below_a_lamport_goes_along() -> None:
    c = change(account(spot=D("1.0000000004")))
    c.trade_spot(SPOT, D(-1), D(100), ZERO, "op")
    assert c.account.spots == {SPOT: 0}
    assert c.account.quote == D("100.00000004")
    assert c.events[0].base == D("-1.0000000004")
    c = change(account(spot=D("1.000000001")))
    c.trade_spot(SPOT, D(-1), D(100), ZERO, "op")
    assert c.account.spots == {SPOT: D("0.000000001")}


def fund(base: int, booked: int, record: FundingRecord, listing: Listing, period_s: int = 0) -> Change:
    perp = PaperPerp(base, ZERO, ZERO, D(booked))
    c = change(account(perp=perp) if base else account())
    c.fund(listing, record, period_s)
    return c


def test_funding_takes_the_own_side_and_only_from_the_entry_on() -> None:
    record = FundingRecord(3600, D(9), D(1), D(2), D(100), D(100), ZERO)
    listing = markets().by_symbol[PERP]
    now = listing.state()
    now.index_long, now.index_short, now.records = D(11), D(22), 1
    for base, booked, cash in [(-SOL, 20, D(2)), (SOL, 10, D(-1))]:
        c = fund(base, booked, record, listing)
        assert flows(c.events) == [("funding", cash)]
        assert c.account.perps[PERP].quote == cash
    assert fund(0, 0, record, listing).events == []
    # Turned round between two records: the index is that of the new side from then on.
    now.index_long, now.index_short = D(10), D(20)
    c = change(account(perp=PaperPerp(-SOL, ZERO, ZERO, D(20))))
    c.trade_perp(listing, 2 * SOL, D(100), ZERO, "op")
    assert c.account.perps[PERP].booked_index == 10


def test_interest() -> None:
    settings = PaperSettings(
        base_borrow_apr_pct=D(10), base_lend_apr_pct=D(1), quote_borrow_apr_pct=D(20), quote_lend_apr_pct=D(2)
    )
    year = 365 * 86_400
    c = change(account(D(-1000), -10, accrued_s=1))
    c.accrue(1 + year, settings)
    assert (c.account.quote, c.account.spots[SPOT]) == (D(-1200), D(-11))
    assert flows(c.events) == [("interest", D(-100)), ("interest", D(-200))]
    c = change(account(D(1000), 10, accrued_s=1))
    c.accrue(1 + year, settings)
    assert (c.account.quote, c.account.spots[SPOT]) == (D(1020), D("10.1"))
    again = change(c.account)
    again.accrue(1 + year, settings)
    assert again.events == []
    back = change(c.account)
    back.accrue(5, settings)
    assert back.account == c.account


def test_each_asset_has_its_own_rates_and_its_own_price() -> None:
    settings = PaperSettings(
        base_borrow_apr_pct=D(10),
        base_lend_apr_pct=D(1),
        borrow_apr_pct={"wBTC": D(4), "USDC": D(30)},
        lend_apr_pct={"SOL": D(3)},
    )
    both = priced({PERP: (D(100), D(100)), "BTC-PERP": (D(60_000), D(60_000))}, BOTH)
    before = PaperAccount(quote=D(-1000), spots={"SOL": D(10), "wBTC": D(-1)}, accrued_s=1)
    c = change(before, both)
    c.accrue(1 + 365 * 86_400, settings)
    assert c.account.spots == {"SOL": D("10.3"), "wBTC": D("-1.04")}
    assert [(e.instrument, e.amount, e.base) for e in c.events] == [
        ("SOL", D(30), 0),
        ("SOL", 0, D("0.3")),
        ("wBTC", D(-2400), 0),
        ("wBTC", 0, D("-0.04")),
        ("USDC", D(-300), 0),
    ]


@pytest.mark.parametrize(("spot", "perp"), [(D(2), -2), (D(-2), 2), (ZERO, -2), (D(-2), 0)])
def test_a_liquidation_closes_positions_and_debts_with_its_fee(spot: Decimal, perp: int) -> None:
    before = account(D(500), spot, PaperPerp(perp * SOL, D(-perp * 90), D(-perp * 90)))
    at = markets()
    c = change(before, at)
    c.liquidate(D(1500))
    closed = abs(perp) * 100 + (200 if spot < 0 else 0)
    assert c.account.perps[PERP].base_1e9 == 0
    assert c.account.perps[PERP].quote == 0
    assert c.account.spots[SPOT] == max(spot, ZERO)
    equity = before.equity(at)
    assert equity is not None
    assert c.account.equity(at) == equity - closed * D("0.015")
    assert sum(amount for kind, amount in flows(c.events) if kind == "fee") == -closed * D("0.015")
    assert c.account.liquidations == 1
    assert {e.operation_id for e in c.events if e.kind is FlowKind.FEE} == {"liquidation"}


def liquidated(before: PaperAccount, price: int, btc: Decimal = BTC_PRICE) -> Change:
    """``before`` after a liquidation at these prices with a fee of 1.5 %; the events explain every cent of it."""
    at = priced({PERP: (D(price), D(price)), "BTC-PERP": (btc, btc)}, BOTH)
    marks = {PERP: D(price), SPOT: D(price), "BTC-PERP": btc, "wBTC": btc}
    opening = before.equity(at)
    assert opening is not None
    books = Books(opening, frozenset({"SOL", "wBTC"}))
    for symbol, perp in before.perps.items():
        books.holdings[symbol] = Holding(D(perp.base_1e9) / SOL, marks[symbol])
    for asset, tokens in before.spots.items():
        books.holdings[asset] = Holding(tokens, marks[asset])
    c = change(before, at)
    c.liquidate(D(1500))
    books.ingest(c.events)
    after = c.account.equity(at)
    assert after is not None
    assert abs(after - books.closing_equity(marks)) < D("1e-9")
    assert all(not perp.base_1e9 and not perp.quote for perp in c.account.perps.values())
    assert min(after, c.account.quote, *c.account.spots.values()) >= 0
    return c


def written_off(c: Change) -> Decimal:
    return sum((e.amount for e in c.events if e.kind is FlowKind.WRITE_OFF), ZERO)


def test_a_liquidation_sells_deposits_for_debts() -> None:
    """Of 10 SOL at 100 so much as a debt of 300 and the fee need, to the lamport and not one less."""
    c = liquidated(account(D(-300), 10), 100)
    sold = 10 - c.account.spots[SPOT]
    assert sold == D("3.045685280")
    assert c.account.quote == sold * 100 * D("0.985") - 300
    assert ZERO <= c.account.quote < D("1e-6")
    assert written_off(c) == 0
    assert c.account.liquidations == 1
    assert {e.note for e in c.events if e.base} == {LIQUIDATION_NOTE}


def test_a_liquidation_pays_the_loss_of_a_perp_out_of_the_deposits() -> None:
    """With 3,000 a hedge of 30 from 150, liquidated at 800. Kept, the SOL would have been worth 3,000 at 100 and
    the debts 21,360."""
    c = liquidated(account(D(-1500), 30, PaperPerp(-30 * SOL, D(4500), D(4500))), 800)
    after = c.account
    owed = 30 * 800 - 4500 + 30 * 800 * D("0.015") + 1500
    assert owed == 21_360
    assert after.spots[SPOT] == 30 - (owed / (800 * D("0.985"))).quantize(D("1e-9"), ROUND_UP)
    assert ZERO <= after.quote < D("1e-5")
    assert written_off(c) == 0
    at_100 = after.equity(markets(100))
    assert at_100 is not None
    assert at_100 > 289


def test_what_nothing_is_left_for_is_written_off_by_its_own_kind() -> None:
    """Nothing stays negative, and the books say by what."""
    c = liquidated(account(D(-2000), 10), 100)
    assert c.account.quote == c.account.spots[SPOT] == 0
    assert written_off(c) == 2000 - 985
    assert flows(c.events)[-1] == ("write_off", D(1015))
    c = liquidated(account(D(3000), 0, PaperPerp(-30 * SOL, D(4500), D(4500))), 800)
    assert written_off(c) == 30 * 800 * D("1.015") - 4500 - 3000
    assert c.account.quote == 0


def test_a_loss_that_was_closed_and_is_larger_than_all_there_is_is_written_off_too() -> None:
    c = liquidated(account(D(100), 0, PaperPerp(0, D(-500), ZERO)), 100)
    assert written_off(c) == 400
    assert [e.base for e in c.events] == [0]


def test_a_debt_in_sol_is_bought_back_and_what_that_leaves_is_written_off() -> None:
    c = liquidated(account(D(100), -2), 100)
    assert c.account.quote == c.account.spots[SPOT] == 0
    assert written_off(c) == 200 * D("1.015") - 100


def test_a_hedge_with_borrowed_sol_loses_the_fees_alone() -> None:
    c = liquidated(account(D(3000) + 30 * 150, -30, PaperPerp(30 * SOL, D(-4500), D(-4500))), 800)
    assert written_off(c) == 0
    assert c.account.spots[SPOT] == 0
    assert c.account.quote == 3000 - 2 * 30 * 800 * D("0.015")


def test_a_liquidation_closes_positions_elsewhere_too() -> None:
    before = PaperAccount(quote=D(1000), perps={"BTC-PERP": PaperPerp(-BTC // 100, D(600), D(600))})
    c = liquidated(before, 100, D(70_000))
    assert c.account.quote == 1000 - 100 - 700 * D("0.015")
    assert c.account.settled == 600 - 700 - 700 * D("0.015")


def test_a_liquidation_goes_through_every_market_and_every_deposit() -> None:
    """A debt in wBTC and the loss of a short in SOL-PERP; SOL pays first, as far as it goes, and then nothing is
    left."""
    before = PaperAccount(
        quote=D(100),
        spots={"SOL": D(3), "wBTC": D("-0.01")},
        perps={PERP: PaperPerp(-10 * SOL, D(900), D(900)), "BTC-PERP": PaperPerp(BTC // 100, D(-590), D(-590))},
    )
    c = liquidated(before, 200)
    fills = [(e.instrument, e.base) for e in c.events if e.base]
    assert fills == [(PERP, D(10)), ("BTC-PERP", D("-0.01")), ("wBTC", D("0.01")), ("SOL", D(-3))]
    fees = (2000 + 600 + 600 + 600) * D("0.015")
    assert written_off(c) == -(100 + (900 - 2000) + (600 - 590) - 600 + 600 - fees)
    assert set(c.account.spots.values()) == {ZERO}


def test_of_two_deposits_no_more_is_sold_than_the_debt_needs() -> None:
    c = liquidated(PaperAccount(quote=D(-700), spots={"SOL": D(3), "wBTC": D("0.02")}), 200)
    needed = ((D(700) - 600 * D("0.985")) / (60_000 * D("0.985"))).quantize(D("1e-9"), ROUND_UP)
    assert c.account.spots == {"SOL": 0, "wBTC": D("0.02") - needed}
    assert ZERO <= c.account.quote < D("1e-4")
    assert written_off(c) == 0


def test_with_nothing_owed_nothing_is_written_off() -> None:
    c = liquidated(account(ZERO, 3), 100)
    assert (c.account.quote, c.account.spots[SPOT]) == (ZERO, D(3))
    assert c.events == []


def test_from_each_record_to_the_documented_cycle_nothing_is_booked_twice() -> None:
    """The setting is changed at a restart, in the middle of a cycle whose records are booked already."""
    start_s = 28_800 * 60_000
    kept = trade(PaperAccount(), -2, 100)
    booked: list[Decimal] = []
    for hour, period_s in ((1, 0), (2, 0), (3, 28_800), (7, 28_800), (8, 28_800), (9, 28_800)):
        record = FundingRecord(start_s + 3600 * hour, D("0.5"), D("0.5"), D("0.5"), D(100), D(100), ZERO)
        at = markets()
        now = at.by_symbol[PERP].state()
        now.index_long = now.index_short = D(hour) / 2
        c = change(kept, at)
        c.fund(at.by_symbol[PERP], record, period_s)
        kept = c.account
        booked += [amount for _, amount in flows(c.events)]
    assert booked == [1, 1, 8]


def test_a_documented_cycle_has_as_many_intervals_as_the_market_makes_in_it() -> None:
    """A market with a record every four hours pays its rate twice in eight hours, not eight times."""
    at = markets()
    listing = at.by_symbol[PERP]
    listing.spec = msgspec.structs.replace(listing.spec, funding_interval_s=4 * 3600)
    record = FundingRecord(28_800, D("0.5"), D("0.5"), D("0.5"), D(100), D(100), ZERO)
    c = change(account(perp=PaperPerp(-2 * SOL)), at)
    c.fund(listing, record, 28_800)
    assert flows(c.events) == [("funding", D(2))]
