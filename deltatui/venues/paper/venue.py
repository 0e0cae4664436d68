"""The paper exchange: prices come in from a driver, operations from the engine; both are applied one at a time.

It plays both sides of the outside: `Venue` (facts) and `Sender` (what happens to an operation). An operation id is
accepted once, together with its effect, in one transaction of the exchange's own tables (R1.7).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Protocol

import msgspec

from deltatui.domain.costs import FEE_PRECISION, CostModel
from deltatui.domain.errors import TransientError, ValidationError
from deltatui.domain.ledger import VenueEvent
from deltatui.domain.margin import (
    Category,
    MarginBook,
    health,
    margin_requirement_1e6,
    total_collateral_1e6,
)
from deltatui.domain.market import FundingRecord, MarketSpec, MarketState
from deltatui.domain.operation import Operation, OperationState
from deltatui.domain.units import BASE_PRECISION, base_to_decimal
from deltatui.ports import AccountState, Clock, Mark, OtherPosition, Outcome, Signed, Unsigned
from deltatui.venues.paper.account import Change, PaperAccount, PaperMarket, PaperPerp
from deltatui.venues.paper.margin import PaperMargin
from deltatui.venues.paper.matching import Matching
from deltatui.venues.paper.settings import OTHER_PERPS, QUOTE_ASSET, PaperSettings

_STATE = "paper"
_REPORT_DEADLINE_S = 30.0
_REPORT_LOOK_S = 0.1


class PaperImage(Protocol):
    @property
    def state(self) -> Mapping[str, bytes]: ...


class PaperTables(Protocol):
    """The exchange's durable memory."""

    async def load(self) -> PaperImage: ...

    async def commit(
        self,
        state: Mapping[str, bytes],
        events: Sequence[VenueEvent],
        operation_id: str | None = None,
        receipt: bytes | None = None,
    ) -> bytes | None:
        """All in one transaction. If the operation id is known already, change nothing and return its receipt."""

    async def receipt(self, operation_id: str) -> bytes | None: ...

    async def events_after(self, sequence: int, limit: int = 10_000) -> Sequence[VenueEvent]: ...


class Receipt(msgspec.Struct, frozen=True):
    state: OperationState
    error_code: str = ""
    detail: str = ""


class _Saved(msgspec.Struct, frozen=True):
    account: PaperAccount
    market: PaperMarket
    cursor_s: float
    record: FundingRecord | None
    other_marks: Mapping[str, Decimal] = {}


class _Report(msgspec.Struct, frozen=True):
    """The account as it has been since ``since_s`` of operator time."""

    since_s: float
    mark: Mark
    account: PaperAccount


_encode = msgspec.json.Encoder().encode
_decode_saved = msgspec.json.Decoder(_Saved).decode
_decode_receipt = msgspec.json.Decoder(Receipt).decode
_decode_operation = msgspec.json.Decoder(Operation).decode


class PaperVenue:
    """One account on one listed market, as the exchange keeps it."""

    def __init__(self, spec: MarketSpec, settings: PaperSettings, tables: PaperTables, clock: Clock, name: str) -> None:
        self.name = name
        self.quote_symbol = QUOTE_ASSET
        self.trouble = ""
        """Why the last step is not saved yet; empty where it is."""
        self._spec = spec
        self._settings = settings
        self._tables = tables
        self._clock = clock
        self._lock = asyncio.Lock()
        self._account = PaperAccount()
        self._commits = 0
        self._past: deque[_Report] = deque()
        """What the account was, as far back as it may still be told; empty where nothing is told late."""
        self._other_marks: dict[str, Decimal] = {}
        self._market: PaperMarket | None = None
        self._as_of_s = 0.0
        self._interpolated = False
        self._active = True
        self._paused = ""
        self._record: FundingRecord | None = None
        self._recent: list[VenueEvent] = []
        self._unsaved: list[VenueEvent] = []
        self._steps = 0
        # What was last told, until something changes.
        self._book: MarginBook | None = None
        self._told: AccountState | None = None
        self._told_market: MarketState | None = None
        self._health: int | None = None
        self._margin = PaperMargin(spec, settings.maintenance_fallback_1e4)

    # Life

    async def open(
        self, opening_quote: Decimal, wallet_quote: Decimal, wallet_spot: Decimal = Decimal(0)
    ) -> float | None:
        """Load what was saved, or begin with these balances. Returns the market time that was reached, if any."""
        image = await self._tables.load()
        saved = image.state.get(_STATE)
        if saved is None:
            self._begin(PaperAccount(quote=opening_quote, wallet_quote=wallet_quote, wallet_spot=wallet_spot))
            return None
        loaded = _decode_saved(saved)
        self._market, self._as_of_s = loaded.market, loaded.cursor_s
        self._record, self._other_marks = loaded.record, dict(loaded.other_marks)
        self._begin(loaded.account)
        return self._as_of_s

    def _begin(self, account: PaperAccount) -> None:
        self._account = account
        self._commits += 1
        self._forget()

    def close_market(self) -> None:
        """No more prices will come: the market is not active any more."""
        self._active = False
        self._forget()

    def pause(self, reason: str) -> None:
        """The exchange takes no orders and no transfers until :meth:`unpause`; prices and funding go on."""
        self._paused = reason
        self._forget()

    def unpause(self) -> None:
        self._paused = ""
        self._forget()

    async def fill_from_elsewhere(self, symbol: str, base_1e9: int, price: Decimal) -> None:
        """Another program with the same key traded ``base_1e9`` (signed) of ``symbol``, perp or spot, at ``price``.

        Raises ValidationError for a market that is not listed.
        """
        async with self._lock:
            market, spec, fees = self._market, self._spec, self._settings.costs.fees
            change, volume = self._change(), abs(base_to_decimal(base_1e9)) * price / FEE_PRECISION
            if market is None or symbol not in (spec.symbol, spec.base_symbol, *OTHER_PERPS):
                raise ValidationError("MarketNotFound", f"the paper exchange does not list {symbol}")
            if symbol == spec.symbol:
                fee = volume * fees.perp_taker_1e5
                change.trade_perp(base_1e9, price, fee, market.index_long, market.index_short, "")
            elif symbol == spec.base_symbol:
                change.trade_spot(base_to_decimal(base_1e9), price, volume * fees.spot_1e5, "")
            else:
                self._other_marks[symbol] = price
                change.trade_other(symbol, base_1e9, price, volume * fees.perp_taker_1e5, "")
            self._apply(change)
            await self._save_or_owe()

    async def flush(self) -> None:
        """Make everything durable that is not yet. Raises TransientError where the disk refuses."""
        async with self._lock:
            await self._save()

    # Facts coming in

    async def on_price(self, market_s: float, oracle: Decimal, mark: Decimal, *, interpolated: bool) -> None:
        """A new price, without a funding record."""
        async with self._lock:
            before = self._market
            self._market = (
                PaperMarket(oracle, mark)
                if before is None
                else PaperMarket(
                    oracle, mark, before.index_long, before.index_short, before.records, before.last_record_s
                )
            )
            if not self._account.accrued_s:
                self._replace(msgspec.structs.replace(self._account, accrued_s=int(market_s)))
            self._as_of_s = market_s
            self._interpolated = interpolated
            self._forget()
            await self._liquidate_if_due()

    async def on_record(self, record: FundingRecord) -> None:
        """A funding record: prices, index, booking and interest, in this order."""
        async with self._lock:
            before = self._market or PaperMarket(record.oracle_twap, record.mark_twap)
            market = PaperMarket(
                record.oracle_twap,
                record.mark_twap,
                before.index_long + record.rate_long,
                before.index_short + record.rate_short,
                before.records + 1,
                record.ts_s,
            )
            self._market = market
            self._record = record
            self._as_of_s = float(record.ts_s)
            self._interpolated = False
            self._forget()
            change = self._change()
            change.accrue(record.ts_s, market.oracle, self._settings)
            change.fund(market, record, self._settings.funding_period_s)
            self._apply(change)
            await self._liquidate_if_due()
            self._steps += 1
            if self._steps >= self._settings.save_every:
                await self._save_or_owe()

    # Venue

    def markets(self) -> Mapping[str, MarketSpec]:
        return {self._spec.symbol: self._spec}

    def market(self, symbol: str) -> MarketState | None:
        market = self._market
        if market is None or symbol != self._spec.symbol:
            return None
        if self._told_market is None:
            self._told_market = self._tell_market(market)
        return self._told_market

    def _tell_market(self, market: PaperMarket) -> MarketState:
        next_funding = market.last_record_s + 3600.0 if market.last_record_s else None
        return MarketState(
            self._spec,
            self._as_of_s,
            market.oracle,
            market.mark,
            self._interpolated,
            self._active,
            self._record,
            market.records,
            next_funding,
            self._paused,
        )

    @property
    def perp_1e9(self) -> int:
        return self._account.perp.base_1e9

    def account(self, symbol: str) -> AccountState | None:
        market = self._market
        if market is None or symbol != self._spec.symbol:
            return None
        if self._past:
            self._forget_what_is_older()
        if self._told is None:
            self._told = self._tell_account(self._seen(), market)
        return self._told

    async def report(self, symbol: str, at_least: Mark | None) -> AccountState:
        deadline_s = self._clock.operator_s() + _REPORT_DEADLINE_S
        while True:
            account = self.account(symbol)
            if account is not None and (at_least is None or account.mark.covers(at_least)):
                return account
            if self._clock.operator_s() >= deadline_s:
                raise TransientError(
                    "NOT_REPORTED", f"the exchange has not told the account anew for {_REPORT_DEADLINE_S:.0f} s"
                )
            await self._clock.sleep(_REPORT_LOOK_S)

    def _forget_what_is_older(self) -> None:
        """Where the account is told late, a newer one may be due."""
        if self._told is not None and self._told.mark != self._seen().mark:
            self._forget()

    def _seen(self) -> _Report:
        """What the exchange tells at this moment: the account as it was ``report_late_s`` ago."""
        past, late_s = self._past, self._settings.faults.report_late_s
        if not late_s:
            past.clear()
        if not past:
            return _Report(0.0, Mark(self._commits), self._account)
        then_s = self._clock.operator_s() - late_s
        while len(past) > 1 and past[1].since_s <= then_s:
            past.popleft()
        return past[0]

    def _tell_account(self, seen: _Report, market: PaperMarket) -> AccountState:
        account = seen.account
        return AccountState(
            self._as_of_s,
            account.sequence,
            account.equity(market, self._other_marks),
            account.quote,
            int(account.spot * BASE_PRECISION),
            account.perp.base_1e9,
            account.perp.entry_price,
            account.unsettled(market),
            account.wallet_quote,
            int(account.wallet_spot * BASE_PRECISION),
            liquidations=account.liquidations,
            settled=account.settled,
            perp_settled=account.perp.settled,
            mark=seen.mark,
            others=tuple(self._tell_other(symbol, perp) for symbol, perp in account.others.items()),
        )

    def _tell_other(self, symbol: str, perp: PaperPerp) -> OtherPosition:
        mark = self._other_marks[symbol]
        unsettled = base_to_decimal(perp.base_1e9) * mark + perp.quote
        return OtherPosition(symbol, perp.base_1e9, perp.entry_price, mark, unsettled)

    def margin_book(self) -> MarginBook | None:
        if self._market is None:
            return None
        if self._past:
            self._forget_what_is_older()
        if self._book is None:
            self._book = self._margin.book(self._seen().account, self._market, self._other_marks)
        return self._book

    def health(self) -> int | None:
        book = self.margin_book()
        if self._health is None and book is not None:
            self._health = health(book)
        return self._health

    def costs(self) -> CostModel:
        return self._settings.costs

    def not_applicable(self) -> Mapping[str, str]:
        return _NOT_APPLICABLE

    async def build(self, operation: Operation) -> Unsigned:
        return Unsigned(operation.id, _encode(operation))

    async def events_after(self, sequence: int) -> Sequence[VenueEvent]:
        told = self._seen().account.sequence
        count, untold = told - sequence, self._account.sequence - told
        if count <= 0:
            return ()
        recent = len(self._recent)
        if count + untold <= recent:
            return self._recent[recent - untold - count : recent - untold]
        return [event for event in await self._tables.events_after(sequence) if event.sequence <= told]

    # Sender

    async def simulate(self, unsigned: Unsigned) -> None:
        self._execute(_decode_operation(unsigned.payload), faults=False)

    async def sign(self, unsigned: Unsigned) -> Signed:
        return Signed(unsigned.operation_id, f"paper-{unsigned.operation_id}", unsigned.payload, None)

    async def send(self, signed: Signed) -> None:
        if self._settings.faults.latency_s:
            await self._clock.sleep(self._settings.faults.latency_s)
        operation = _decode_operation(signed.raw)
        async with self._lock:
            if await self._tables.receipt(operation.id) is not None:
                return
            change = None
            try:
                change = self._execute(operation, faults=True)
                receipt = Receipt(OperationState.LANDED)
            except ValidationError as error:
                receipt = Receipt(OperationState.FAILED, error.code, error.sentence)
            account, events = (self._account, []) if change is None else (change.account, change.events)
            await self._tables.commit(self._state(account), [*self._unsaved, *events], operation.id, _encode(receipt))
            self._unsaved = []
            self._steps = 0
            self.trouble = ""
            if change is not None:
                self._apply(change, saved=True)

    async def outcome(self, signed: Signed) -> Outcome | None:
        raw = await self._tables.receipt(signed.operation_id)
        if raw is None:
            # The exchange is in this process: what it has not accepted by now was never sent.
            return Outcome(OperationState.EXPIRED, "NOT_ACCEPTED", "the paper exchange never accepted it")
        receipt = _decode_receipt(raw)
        return Outcome(receipt.state, receipt.error_code, receipt.detail, Mark(self._commits))

    # Inside

    def _forget(self) -> None:
        """Something changed: what was told of it is no longer so."""
        self._book = self._told = self._told_market = self._health = None

    def _change(self) -> Change:
        return Change(self._account, self._as_of_s, self._spec.symbol, self._spec.base_symbol, QUOTE_ASSET)

    def _replace(self, account: PaperAccount) -> None:
        if self._settings.faults.report_late_s:
            if not self._past:
                self._past.append(_Report(float("-inf"), Mark(self._commits), self._account))
            self._past.append(_Report(self._clock.operator_s(), Mark(self._commits + 1), account))
        self._account = account
        self._commits += 1
        self._forget()

    def _apply(self, change: Change, *, saved: bool = False) -> None:
        self._replace(change.account)
        if change.events:
            self._recent.extend(change.events)
            if len(self._recent) > 8192:
                del self._recent[:4096]
            if not saved:
                self._unsaved.extend(change.events)

    def _state(self, account: PaperAccount) -> dict[str, bytes]:
        market = self._market
        if market is None:
            return {}
        return {_STATE: _encode(_Saved(account, market, self._as_of_s, self._record, self._other_marks))}

    async def _save(self) -> None:
        await self._tables.commit(self._state(self._account), self._unsaved)
        self._unsaved = []
        self._steps = 0
        self.trouble = ""

    async def _save_or_owe(self) -> None:
        """What has happened has happened: a disk that refuses is told in ``trouble``, and :meth:`flush` tries again."""
        try:
            await self._save()
        except TransientError as error:
            self.trouble = error.sentence

    async def _liquidate_if_due(self) -> None:
        account, market = self._account, self._market
        debts = account.perp.base_1e9 or account.spot < 0 or account.quote < 0 or account.others
        if market is None or not debts:
            return
        if self._past:
            book = self._margin.book(account, market, self._other_marks)
        else:
            told = self.margin_book()
            # Health is 0 in the last half percent before liquidation already; only there a second look is worth it.
            if told is None or self.health():
                return
            book = told
        requirement = margin_requirement_1e6(book, Category.MAINTENANCE)
        if total_collateral_1e6(book, Category.MAINTENANCE) >= requirement:
            return
        change = self._change()
        change.liquidate(market, self._other_marks, self._settings.liquidation_fee_1e5)
        self._apply(change)
        await self._save_or_owe()

    def _execute(self, operation: Operation, *, faults: bool) -> Change:
        """The operation's effect on the present account. Raises ValidationError with the exchange's error name."""
        market = self._market
        if market is None:
            raise ValidationError("MarketNotActive", "the paper exchange has no price yet")
        if operation.legs and not self._active:
            raise ValidationError("MarketNotActive", f"{self._spec.symbol} is closed: no prices come any more")
        if self._paused:
            raise ValidationError("ExchangePaused", f"the exchange is paused: {self._paused}")
        change = self._change()
        change.accrue(int(self._as_of_s), market.oracle, self._settings)
        matching = Matching(self._spec, self._settings, self._margin)
        matching.apply(operation, change, self._account, market, self._other_marks, faults=faults)
        return change


_NOT_APPLICABLE = {
    "gas": "paper pays no gas",
    "latency": "paper has no RPC",
    "oracle_age": "paper prices come with the tape",
    "slot_lag": "paper has no slots",
    "clock_skew": "paper has no chain clock",
    "guards": "a tape has no exchange guards",
    "open_interest": "a tape has no open interest",
}
