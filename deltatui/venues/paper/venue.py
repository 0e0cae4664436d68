"""The paper exchange: facts come in from sources, operations from the engine; both are applied one at a time.

It plays both sides of the outside: `Venue` (facts) and `Sender` (what happens to an operation). An operation id is
accepted once, together with its effect, in one transaction of the exchange's own tables (R1.7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Protocol

import msgspec

from deltatui.domain.costs import FEE_PRECISION, CostModel
from deltatui.domain.errors import CriticalError, TransientError, ValidationError
from deltatui.domain.facts import Fact, Funding, MarketChange, Prices
from deltatui.domain.ledger import VenueEvent
from deltatui.domain.margin import MarginBook, health
from deltatui.domain.market import MarketSpec
from deltatui.domain.operation import Operation, OperationState
from deltatui.domain.units import base_to_decimal
from deltatui.ports import AccountId, AccountReport, Clock, Mark, Outcome, Signed, Unsigned
from deltatui.venues.paper.account import Change, PaperAccount
from deltatui.venues.paper.margin import PaperMargin
from deltatui.venues.paper.markets import Listing, Markets
from deltatui.venues.paper.matching import Matching
from deltatui.venues.paper.saved import VERSION, Saved, read_saved, write_saved
from deltatui.venues.paper.settings import QUOTE_ASSET, PaperSettings
from deltatui.venues.paper.told import Commits, Past, Seen, tell

_STATE = "paper"
_REPORT_DEADLINE_S = 30.0
_REPORT_LOOK_S = 0.1
_RECENT = 8192
"""Events kept in memory, so that books that keep up need not ask the disk."""


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


_encode = msgspec.json.Encoder().encode
_decode_receipt = msgspec.json.Decoder(Receipt).decode
_decode_operation = msgspec.json.Decoder(Operation).decode


class PaperVenue:
    """One account on the listed markets, as the exchange keeps it.

    Facts change account and markets in place, without a pause; an operation is tried on a copy that takes their place
    when it is on the disk. ``_disk`` is held from before the first to after the second: what comes meanwhile waits.
    """

    def __init__(
        self,
        specs: Iterable[MarketSpec],
        settings: PaperSettings,
        tables: PaperTables,
        clock: Clock,
        name: str = "paper",
        authority: str = "paper",
    ) -> None:
        """Raises ValidationError for markets that cannot stand side by side, for a maintenance margin that no account
        could open, and for a rate of an asset that is not known here."""
        self.name = name
        self.quote_symbol = QUOTE_ASSET
        self.account_id = AccountId("paper", authority)
        self.trouble = ""
        """Why the last step is not saved yet; empty where it is."""
        self._settings = settings
        self._tables = tables
        self._clock = clock
        self._disk = asyncio.Lock()
        self._markets = Markets(specs)
        self._listed = self._markets.listed()
        self._margin = PaperMargin(self._markets, settings.maintenance_fallback_1e4)
        for asset in {**settings.borrow_apr_pct, **settings.lend_apr_pct}:
            if asset != QUOTE_ASSET and asset not in self._markets.by_base:
                raise ValidationError("SpotMarketNotFound", f"the paper exchange does not know {asset}")
        self._account = PaperAccount()
        self._commits = 0
        self._past = Past()
        self._as_of_s = 0.0
        self._recent: list[VenueEvent] = []
        self._unsaved: list[VenueEvent] = []
        self._steps = 0
        # What was last told, until something changes.
        self._book: MarginBook | None = None
        self._told: AccountReport | None = None
        self._health: int | None = None

    # Life

    async def open(
        self, opening_quote: Decimal, wallet_quote: Decimal, wallet: Mapping[str, Decimal] | None = None
    ) -> float | None:
        """Load what was saved, or begin with these balances (``wallet``: units by base symbol). Returns the market time
        that was reached, if any.

        Raises ValidationError for a wallet with an asset that is not taken here, CriticalError for a state that cannot
        be read or that holds what is not known here.
        """
        image = await self._tables.load()
        blob = image.state.get(_STATE)
        if blob is None:
            for asset in wallet or {}:
                self._markets.spot(asset)
            self._begin(PaperAccount(quote=opening_quote, wallet_quote=wallet_quote, wallet=dict(wallet or {})))
            return None
        saved = read_saved(blob)
        known = self._markets.by_symbol.keys() | self._markets.by_base.keys()
        named = {*saved.markets, *saved.account.perps, *saved.account.spots, *saved.account.wallet}
        if unknown := sorted(named - known):
            raise CriticalError(
                "BAD_PAPER_STATE", f"the paper account holds {', '.join(unknown)}, which this exchange does not know"
            )
        for symbol, now in saved.markets.items():
            self._markets.by_symbol[symbol].now = now
        self._as_of_s = saved.as_of_s
        self._begin(saved.account)
        return self._as_of_s

    def _begin(self, account: PaperAccount) -> None:
        for spec in self._listed.values():
            # There from the beginning, so that sums have the same digits whenever the first is bought.
            account.spots.setdefault(spec.base_symbol, Decimal(0))
        self._account = account
        self._commits += 1
        self._forget()

    def last_record_s(self, symbol: str) -> int:
        """The time of the newest funding record that was taken of a market, 0 before the first: where its tape goes on
        after a restart."""
        now = self._markets.perp(symbol).now
        return 0 if now is None else now.last_record_s

    async def fill_from_elsewhere(self, symbol: str, base_1e9: int, price: Decimal) -> None:
        """Another program with the same key traded ``base_1e9`` (signed) of ``symbol``, perp or spot, at ``price``. A
        perp that has no tape here is worth that price from now on.

        Raises ValidationError for what the exchange does not know, and before the first price.
        """
        async with self._disk:
            fees, volume = self._settings.costs.fees, abs(base_to_decimal(base_1e9)) * price / FEE_PRECISION
            listing = self._markets.by_symbol.get(symbol)
            is_perp = listing is not None
            if listing is None:
                listing = self._markets.spot(symbol)
            if not self._markets.priced:
                raise ValidationError("MarketNotActive", "the paper exchange has no price yet")
            if listing.tape:
                listing.state()
            else:
                listing.price(price, price)
            self._keep_what_was()
            change = self._change(self._account)
            if is_perp:
                change.trade_perp(listing, base_1e9, price, volume * fees.perp_taker_1e5, "")
            else:
                change.trade_spot(symbol, base_to_decimal(base_1e9), price, volume * fees.spot_1e5, "")
            self._changed(change.events)
            await self._save_or_owe()

    async def flush(self) -> None:
        """Make everything durable that is not yet. Raises TransientError where the disk refuses."""
        async with self._disk:
            await self._save()

    # Facts coming in

    async def take(self, fact: Fact) -> None:
        """What a source says of a listed market; of another it is passed over.

        Raises ValidationError, and changes nothing, for a market as it cannot be listed.
        """
        if self._disk.locked():
            async with self._disk:
                must_save = self._take(fact)
        else:
            must_save = self._take(fact)
        if must_save:
            async with self._disk:
                await self._save_or_owe()

    def _take(self, fact: Fact) -> bool:
        """Whether what has become of it should be saved now."""
        listing = self._markets.by_symbol.get(fact.instrument)
        if listing is None or not listing.tape:
            return False
        if isinstance(fact, Funding):
            return not listing.ended and self._fund(listing, fact)
        if isinstance(fact, Prices):
            return not listing.ended and self._price(listing, fact)
        self._relist(listing, fact)
        return False

    def _relist(self, listing: Listing, change: MarketChange) -> None:
        if change.spec is not None:
            self._margin.check(change.spec)
        listing.change(change)
        if change.spec is not None:
            self._margin.relist(change.spec)
            self._listed = self._markets.listed()
        self._forget()

    def _price(self, listing: Listing, fact: Prices) -> bool:
        listing.price(fact.oracle, fact.mark)
        if not self._account.accrued_s:
            self._account.accrued_s = int(fact.source_s)
        if fact.source_s > self._as_of_s:
            self._as_of_s = fact.source_s
        self._forget()
        return self._liquidate_if_due()

    def _fund(self, listing: Listing, fact: Funding) -> bool:
        """Prices, index, interest and booking, in this order. A record that was taken before is passed over."""
        record, now = fact.record, listing.now
        if now is not None and record.ts_s <= now.last_record_s:
            return False
        if fact.priced:
            now = listing.price(record.oracle_twap, record.mark_twap)
        elif now is None:
            return False  # without a price nothing can be held in it
        now.index_long += record.rate_long
        now.index_short += record.rate_short
        now.records += 1
        now.last_record_s = record.ts_s
        if fact.source_s > self._as_of_s:
            self._as_of_s = fact.source_s
        self._keep_what_was()
        change = self._change(self._account)
        change.accrue(int(self._as_of_s), self._settings)
        change.fund(listing, record, self._settings.funding_period_s)
        self._changed(change.events)
        self._steps += 1
        return self._liquidate_if_due() or self._steps >= self._settings.save_every

    def _liquidate_if_due(self) -> bool:
        if not self._margin.must_liquidate(self._account):
            return False
        self._keep_what_was()
        change = self._change(self._account)
        change.liquidate(self._settings.liquidation_fee_1e5)
        self._changed(change.events)
        return True

    # Venue

    def markets(self) -> Mapping[str, MarketSpec]:
        return self._listed

    def perp_1e9(self, symbol: str) -> int:
        """The position as it is at the exchange, never late; base 1e9, signed."""
        perp = self._account.perps.get(symbol)
        return 0 if perp is None else perp.base_1e9

    def account(self) -> AccountReport | None:
        if self._past.seen:
            self._forget_what_is_older()
        if self._told is None:
            seen = self._seen()
            self._told = tell(self.account_id, seen.mark, self._as_of_s, seen.account, self._markets)
        return self._told

    async def report(self, at_least: Mark | None) -> AccountReport:
        deadline_s = self._clock.operator_s() + _REPORT_DEADLINE_S
        while True:
            account = self.account()
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

    def _seen(self) -> Seen:
        """What the exchange tells at this moment: the account as it was ``report_late_s`` ago."""
        if self._past.seen:
            late_s = self._settings.faults.report_late_s
            if not late_s:
                self._past.clear()
            elif (past := self._past.at(self._clock.operator_s() - late_s)) is not None:
                return past
        return Seen(0.0, Commits(self._commits), self._account)

    def margin_book(self) -> MarginBook | None:
        if self._past.seen:
            self._forget_what_is_older()
        if self._book is None and self.account() is not None:
            self._book = self._margin.book(self._seen().account)
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
        told = (self._seen().account if self._past.seen else self._account).sequence
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
        async with self._disk:
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
            if change is not None:
                self._keep_what_was()
                self._account = change.account
                self._changed(change.events)
            self._saved()

    async def outcome(self, signed: Signed) -> Outcome | None:
        raw = await self._tables.receipt(signed.operation_id)
        if raw is None:
            # The exchange is in this process: what it has not accepted by now was never sent.
            return Outcome(OperationState.EXPIRED, "NOT_ACCEPTED", "the paper exchange never accepted it")
        receipt = _decode_receipt(raw)
        return Outcome(receipt.state, receipt.error_code, receipt.detail, Commits(self._commits))

    # Inside

    def _execute(self, operation: Operation, *, faults: bool) -> Change:
        """The operation's effect on a copy of the account. Raises ValidationError with the exchange's error name."""
        change = self._change(self._account.copy())
        change.accrue(int(self._as_of_s), self._settings)
        matching = Matching(self._markets, self._settings, self._margin)
        matching.apply(operation, change, self._account, faults=faults)
        return change

    def _change(self, account: PaperAccount) -> Change:
        return Change(account, self._as_of_s, self._markets)

    def _forget(self) -> None:
        """Something changed: what was told of it is no longer so."""
        self._book = self._told = self._health = None

    def _keep_what_was(self) -> None:
        """Before a change of the account, where it is told late."""
        if self._settings.faults.report_late_s:
            self._past.begin(Commits(self._commits), self._account)

    def _changed(self, events: list[VenueEvent]) -> None:
        """After a change of the account that ``events`` tell."""
        self._commits += 1
        if self._settings.faults.report_late_s:
            self._past.add(self._clock.operator_s(), Commits(self._commits), self._account)
        if events:
            self._recent.extend(events)
            if len(self._recent) > _RECENT:
                del self._recent[: _RECENT // 2]
            self._unsaved.extend(events)
        self._forget()

    def _state(self, account: PaperAccount) -> dict[str, bytes]:
        states = self._markets.states()
        return {_STATE: write_saved(Saved(VERSION, account, states, self._as_of_s))} if states else {}

    async def _save(self) -> None:
        await self._tables.commit(self._state(self._account), self._unsaved)
        self._saved()

    async def _save_or_owe(self) -> None:
        """What has happened has happened: a disk that refuses is told in ``trouble``, and :meth:`flush` tries again."""
        try:
            await self._save()
        except TransientError as error:
            self.trouble = error.sentence

    def _saved(self) -> None:
        self._unsaved = []
        self._steps = 0
        self.trouble = ""


_NOT_APPLICABLE = {
    "gas": "paper pays no gas",
    "latency": "paper has no RPC",
    "oracle_age": "paper prices come with the tape",
    "slot_lag": "paper has no slots",
    "clock_skew": "paper has no chain clock",
    "guards": "a tape has no exchange guards",
    "open_interest": "a tape has no open interest",
}
