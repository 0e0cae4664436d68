"""Documented properties 7, 11 and 33 on the books, and the ledger identity over any history of the paper account."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltatui.domain.errors import CriticalError
from deltatui.domain.ledger import (
    LIQUIDATION_NOTE,
    TRANSFER_NOTE,
    Books,
    BooksImage,
    FlowKind,
    Holding,
    VenueEvent,
    apply_fill,
    books_from_image,
    books_image,
)
from deltatui.domain.market import FundingRecord
from deltatui.venues.paper.account import Change, PaperAccount
from deltatui.venues.paper.markets import Markets
from deltatui.venues.paper.settings import BTC_PERP, SOL_PERP, PaperSettings

examples = settings(max_examples=200, deadline=None)

GAP = Decimal("1e-9")
PERP, SPOT, OTHER, OTHER_SPOT = "SOL-PERP", "SOL", "BTC-PERP", "wBTC"
ASSETS = frozenset({SPOT, OTHER_SPOT})

money = st.decimals(-(10**6), 10**6, places=6)
units = st.integers(-(10**6), 10**6).map(lambda cents: Decimal(cents) / 100)
prices = st.decimals("0.0001", 10**5, places=4)


@examples
@given(units.filter(bool), prices, st.lists(prices, min_size=1, max_size=10))
def test_property_07_unrealised_pnl_on_each_price(size: Decimal, entry: Decimal, marks: list[Decimal]) -> None:
    """(mark - entry) * size * (+1 long, -1 short)."""
    holding = Holding(size, entry)
    for mark in marks:
        side = 1 if size > 0 else -1
        assert holding.unrealized(mark) == (mark - entry) * abs(size) * side


@examples
@given(money.filter(bool), prices)
def test_property_33_a_funding_payment_changes_realised_pnl_by_itself(amount: Decimal, mark: Decimal) -> None:
    books = Books(Decimal(1000), frozenset({SPOT}))
    books.ingest([VenueEvent(1, 0.0, PERP, base=Decimal(-2), price=mark)])
    before = books.closing_equity({PERP: mark})
    (entry,) = books.ingest([VenueEvent(2, 0.0, PERP, kind=FlowKind.FUNDING, amount=amount, record=1)])
    assert entry.amount == amount
    assert books.totals[FlowKind.FUNDING] == amount
    assert books.funding_since_open[PERP] == amount
    assert books.closing_equity({PERP: mark}) - before == amount


@examples
@given(money.filter(bool), st.booleans(), prices)
def test_property_11_a_transfer_changes_the_books_by_exactly_its_amount(
    amount: Decimal, in_base: bool, price: Decimal
) -> None:
    books = Books(Decimal(1000), frozenset({SPOT}))
    account, markets = PaperAccount(quote=Decimal(1000)), Markets([SOL_PERP])
    markets.perp(PERP).price(price, price)
    change = Change(account, 0.0, markets)
    if in_base:
        change.transfer_spot(markets.perp(PERP), amount, "op")
    else:
        change.transfer_quote(amount, "op")
    entries = books.ingest(change.events)
    worth = amount * price if in_base else amount
    assert [entry.kind for entry in entries] == [FlowKind.DEPOSIT if amount > 0 else FlowKind.WITHDRAWAL]
    assert entries[0].amount == worth
    assert books.closing_equity({SPOT: price}) == 1000 + worth
    assert account.equity(markets) == 1000 + worth
    assert books.paid_in.get(SPOT, Decimal(0)) == (max(amount, Decimal(0)) if in_base else 0)


@examples
@given(st.lists(st.tuples(units.filter(bool), prices), min_size=1, max_size=30), prices)
def test_fills_at_average_cost_keep_every_cent(fills: list[tuple[Decimal, Decimal]], mark: Decimal) -> None:
    """Realised plus unrealised is what was received for what was sold, less what was paid, plus what is left."""
    holding, realized, cash = Holding(), Decimal(0), Decimal(0)
    for base, price in fills:
        before = holding
        holding, gain = apply_fill(holding, base, price)
        realized += gain
        cash -= base * price
        assert holding.base == before.base + base
        if not holding.base:
            assert holding.price == 0
        if before.base and (before.base > 0) == (base > 0):
            low, high = sorted((before.price, price))
            assert low - GAP <= holding.price <= high + GAP
            assert gain == 0
    assert abs(realized + holding.unrealized(mark) - (cash + holding.base * mark)) < Decimal("1e-6")


class Life:
    """The paper account on two markets, and the books of one who hears only its events."""

    def __init__(self, period_s: int) -> None:
        self.settings = PaperSettings(
            base_lend_apr_pct=Decimal(2), quote_lend_apr_pct=Decimal(4), funding_period_s=period_s
        )
        self.account = PaperAccount(
            quote=Decimal(10_000),
            wallet_quote=Decimal(10_000),
            wallet={SPOT: Decimal(100), OTHER_SPOT: Decimal(1)},
            accrued_s=1_700_000_000,
        )
        self.markets = Markets([SOL_PERP, BTC_PERP])
        self.markets.perp(PERP).price(Decimal(150), Decimal(150))
        self.markets.perp(OTHER).price(Decimal(60_000), Decimal(60_000))
        self.now_s = 1_700_000_000
        self.books = Books(self.equity, ASSETS)
        self.events: list[VenueEvent] = []

    @property
    def equity(self) -> Decimal:
        equity = self.account.equity(self.markets)
        assert equity is not None
        return equity

    @property
    def marks(self) -> dict[str, Decimal]:
        listings = self.markets.by_symbol.values()
        perps = {each.spec.symbol: each.state().mark for each in listings}
        return perps | {each.spec.base_symbol: each.state().oracle for each in listings}

    def change(self) -> Change:
        return Change(self.account, float(self.now_s), self.markets)

    def done(self, change: Change) -> None:
        self.events += change.events

    def price(self, symbol: str, oracle: Decimal, mark: Decimal) -> None:
        self.markets.perp(symbol).price(oracle, mark)

    def record(self, symbol: str, seconds: int, rate_long: Decimal, rate_short: Decimal) -> None:
        """``seconds`` 0: at the time of the record before, as another market's may be."""
        self.now_s += seconds
        listing = self.markets.perp(symbol)
        now = listing.state()
        now.index_long += rate_long
        now.index_short += rate_short
        now.records, now.last_record_s = now.records + 1, self.now_s
        change = self.change()
        change.accrue(self.now_s, self.settings)
        record = FundingRecord(self.now_s, rate_long, rate_long, rate_short, now.oracle, now.mark, Decimal(0))
        change.fund(listing, record, self.settings.funding_period_s)
        self.done(change)

    def trade(self, symbol: str, steps: int, slip: Decimal, spot: bool, fee: Decimal) -> None:
        change, listing = self.change(), self.markets.perp(symbol)
        base_1e9, now = steps * listing.spec.step_base_1e9, listing.state()
        if spot:
            base = Decimal(base_1e9) / 10**9
            change.trade_spot(listing.spec.base_symbol, base, now.oracle * (1 + slip), fee, "op")
        else:
            change.trade_perp(listing, base_1e9, now.mark * (1 + slip), fee, "op")
        self.done(change)

    def move(self, symbol: str, amount: Decimal) -> None:
        """Of the market's base asset."""
        change = self.change()
        change.transfer_spot(self.markets.perp(symbol), amount, "op")
        self.done(change)

    def move_quote(self, amount: Decimal) -> None:
        change = self.change()
        change.transfer_quote(amount, "op")
        self.done(change)

    def settle(self, symbol: str) -> None:
        change = self.change()
        before = self.equity
        change.settle(self.markets.perp(symbol))
        self.done(change)
        assert abs(self.equity - before) < GAP

    def liquidate(self) -> None:
        change = self.change()
        change.liquidate(Decimal(1500))
        self.done(change)
        account = self.account
        assert not any(perp.base_1e9 or perp.quote for perp in account.perps.values())
        assert all(amount >= 0 for amount in (*account.spots.values(), account.quote, self.equity))


rate = st.decimals(-1, 1, places=9)
slip = st.decimals("-0.01", "0.01", places=5)
small = st.decimals(-100, 100, places=4)
symbols = st.sampled_from([PERP, OTHER])
act = st.one_of(
    st.tuples(st.just("price"), symbols, prices, prices),
    st.tuples(st.just("record"), symbols, st.integers(0, 7200), rate, rate),
    st.tuples(
        st.just("trade"),
        symbols,
        st.integers(-5000, 5000).filter(bool),
        slip,
        st.booleans(),
        st.decimals(-1, 5, places=6),
    ),
    st.tuples(st.just("move"), symbols, small.filter(bool)),
    st.tuples(st.just("move_quote"), small.filter(bool)),
    st.tuples(st.just("settle"), symbols),
    st.tuples(st.just("liquidate")),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(act, min_size=1, max_size=40), st.sampled_from([0, 0, 28_800]), st.integers(1, 5))
def test_the_ledger_identity_holds_over_any_history(acts: list[tuple], period_s: int, batch: int) -> None:  # type: ignore[type-arg]
    """R10.4: opening + entries + unrealised = the exchange's own equity from balances, after every step."""
    life = Life(period_s)
    heard = 0
    for number, (name, *arguments) in enumerate(acts):
        getattr(life, name)(*arguments)
        if number % batch:
            continue
        life.books.ingest(life.events[heard:])
        heard = len(life.events)
        marks = life.marks
        ledger = life.books.closing_equity(marks)
        assert abs(life.equity - ledger) < GAP, (name, arguments)
        assert all(base >= 0 for base in life.books.paid_in.values())
        split = sum(life.books.unrealized(marks, spot=spot) for spot in (True, False))
        assert abs(ledger - (life.books.opening_equity + sum(life.books.totals.values()) + split)) < GAP
    assert [event.sequence for event in life.events] == list(range(1, len(life.events) + 1))
    # A restart goes on where it stood, and hearing everything again changes nothing.
    life.books.ingest(life.events)
    raw = msgspec.json.encode(books_image(life.books))
    again = books_from_image(msgspec.json.decode(raw, type=BooksImage), ASSETS)
    assert again.ingest(life.events) == []
    assert books_image(again) == books_image(life.books)
    fresh = Books(life.books.opening_equity, ASSETS)
    fresh.ingest(life.events)
    assert books_image(fresh) == books_image(life.books)


@examples
@given(st.integers(1, 20), st.integers(2, 20))
def test_a_missing_event_is_critical_and_books_nothing(known: int, jump: int) -> None:
    def flow(sequence: int) -> VenueEvent:
        return VenueEvent(sequence, 0.0, PERP, kind=FlowKind.FUNDING, amount=Decimal(1))

    books = Books(Decimal(0), frozenset())
    books.ingest([flow(n) for n in range(1, known + 1)])
    with pytest.raises(CriticalError, match=f"event {known + 2} is missing"):
        books.ingest([flow(known + 1), flow(known + 1 + jump)])
    assert books.cursor == known
    assert books.sequence == known
    assert books.totals[FlowKind.FUNDING] == known


def test_only_what_was_paid_in_as_such_is_no_hedge() -> None:
    books = Books(Decimal(0), frozenset({SPOT}))
    books.ingest(
        [
            VenueEvent(1, 0.0, SPOT, base=Decimal(5), price=Decimal(100)),
            VenueEvent(2, 0.0, SPOT, base=Decimal(2), price=Decimal(100), note=TRANSFER_NOTE),
            VenueEvent(3, 0.0, SPOT, base=Decimal("0.1"), price=Decimal(100), note="interest"),
        ]
    )
    assert books.paid_in == {SPOT: Decimal(2)}


def fill(number: int, base: str, note: str = "") -> VenueEvent:
    return VenueEvent(number, 0.0, SPOT, base=Decimal(base), price=Decimal(100), note=note)


def test_a_withdrawal_takes_what_was_paid_in_first_and_then_of_the_hedge() -> None:
    """Paid-in never goes below 0, and what comes in later counts whole."""
    books = Books(Decimal(0), frozenset({SPOT}))
    left = []
    for number, (base, note) in enumerate(
        [("5", ""), ("2", TRANSFER_NOTE), ("-1.5", TRANSFER_NOTE), ("-3", TRANSFER_NOTE), ("3", TRANSFER_NOTE)], 1
    ):
        books.ingest([fill(number, base, note)])
        left.append(books.paid_in.get(SPOT, Decimal(0)))
    assert left == [0, 2, Decimal("0.5"), 0, 3]
    assert books.holdings[SPOT].base == Decimal("5.5")


@pytest.mark.parametrize(
    ("held", "paid_in", "sold", "left"),
    [("0", "5", "-2", "3"), ("4", "5", "-6", "3"), ("4", "5", "-2", "5"), ("0", "5", "-5", "0")],
)
def test_what_a_liquidation_sells_is_not_there_any_more(held: str, paid_in: str, sold: str, left: str) -> None:
    books = Books(Decimal(0), frozenset({SPOT}))
    events = [fill(1, paid_in, TRANSFER_NOTE), fill(2, sold, LIQUIDATION_NOTE)]
    if Decimal(held):
        events = [fill(1, held), fill(2, paid_in, TRANSFER_NOTE), fill(3, sold, LIQUIDATION_NOTE)]
    books.ingest(events)
    assert books.paid_in == {SPOT: Decimal(left)}


def test_what_a_liquidation_buys_back_leaves_what_was_paid_in() -> None:
    """Of a debt nothing is left, so neither is anything of the operator's own in it."""
    books = Books(Decimal(0), frozenset({SPOT}))
    books.ingest([fill(1, "2", TRANSFER_NOTE), fill(2, "-7"), fill(3, "5", LIQUIDATION_NOTE)])
    assert books.holdings[SPOT].base == 0
    assert books.paid_in == {SPOT: Decimal(0)}


def test_an_image_of_early_days_with_less_than_nothing_paid_in_reads_as_nothing() -> None:
    """0.1.0 counted a withdrawal of the hedge's SOL as negative."""
    raw = (
        b'{"opening_equity":"3000","cursor":4,"sequence":2,"totals":{"deposit":"0","withdrawal":"-450"},'
        b'"holdings":{"SOL":{"base":"2","price":"150"}},"funding_since_open":{},"transferred":{"SOL":"-3"}}'
    )
    books = books_from_image(msgspec.json.decode(raw, type=BooksImage), frozenset({SPOT}))
    assert books.paid_in == {SPOT: Decimal(0)}
    assert books.totals[FlowKind.WRITE_OFF] == 0
    books.ingest([fill(5, "3", TRANSFER_NOTE)])
    assert books.paid_in == {SPOT: Decimal(3)}


def test_funding_since_open_begins_anew_with_each_position() -> None:
    books = Books(Decimal(0), frozenset())

    def fill(number: int, base: int) -> VenueEvent:
        return VenueEvent(number, 0.0, PERP, base=Decimal(base), price=Decimal(100))

    def pay(number: int) -> VenueEvent:
        return VenueEvent(number, 0.0, PERP, kind=FlowKind.FUNDING, amount=Decimal(1))

    books.ingest([fill(1, -2), pay(2), fill(3, -1), pay(4)])
    assert books.funding_since_open[PERP] == 2
    books.ingest([fill(5, 6), pay(6)])
    assert books.funding_since_open[PERP] == 1
    books.ingest([fill(7, -3)])
    assert books.funding_since_open[PERP] == 0
    assert books.totals[FlowKind.FUNDING] == 3


def test_an_image_from_before_interest_was_kept_counts_it_from_now_on() -> None:
    def pay(number: int, kind: FlowKind, instrument: str, amount: int) -> VenueEvent:
        return VenueEvent(number, 0.0, instrument, kind=kind, amount=Decimal(amount))

    books = Books(Decimal(0), frozenset({SPOT}))
    opened = VenueEvent(2, 0.0, PERP, base=Decimal(5), price=Decimal(100))
    books.ingest([pay(1, FlowKind.INTEREST, SPOT, -7), opened])
    books.ingest([pay(3, FlowKind.FUNDING, PERP, 10), pay(4, FlowKind.INTEREST, SPOT, -2)])
    assert books.carry_since_open(PERP, SPOT) == 8
    image = msgspec.to_builtins(books_image(books))
    del image["interest"], image["interest_at_open"]
    old = books_from_image(msgspec.convert(image, BooksImage), frozenset({SPOT}))
    assert old.carry_since_open(PERP, SPOT) == 10
    old.ingest([pay(5, FlowKind.INTEREST, SPOT, -3)])
    assert old.carry_since_open(PERP, SPOT) == 7
