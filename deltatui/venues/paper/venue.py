"""The paper exchange: prices come in from a driver, operations from the engine; both are applied one at a time.

It plays both sides of the outside: `Venue` (facts) and `Sender` (what happens to an operation). An operation id is
accepted once, together with its effect, in one transaction of the exchange's own tables (R1.7).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Protocol

import msgspec

from deltatui.domain.account import (
    OraclePrice,
    PerpMarket,
    PerpPosition,
    SpotMarket,
    SpotPosition,
    UserAccount,
)
from deltatui.domain.costs import FEE_PRECISION, CostModel
from deltatui.domain.errors import TransientError, ValidationError
from deltatui.domain.ledger import VenueEvent
from deltatui.domain.margin import (
    Category,
    MarginBook,
    health,
    margin_requirement_1e6,
    margin_summary,
    total_collateral_1e6,
)
from deltatui.domain.market import FundingRecord, MarketSpec, MarketState
from deltatui.domain.operation import Leg, Operation, OperationKind, OperationState, Transfer
from deltatui.domain.units import BASE_PRECISION, base_to_decimal, floor_to_step, price_to_1e6
from deltatui.ports import AccountState, Clock, Outcome, Signed, Unsigned
from deltatui.venues.paper.account import Change, PaperAccount, PaperMarket
from deltatui.venues.paper.settings import QUOTE_ASSET, QUOTE_INDEX, PaperSettings

_QUOTE_KEY = b"paper oracle of the quote asset."
_BASE_KEY = b"paper oracle of the base asset.."
_QUOTE_UNITS = 10**6
_STATE = "paper"


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
        self._market: PaperMarket | None = None
        self._as_of_s = 0.0
        self._interpolated = False
        self._active = True
        self._record: FundingRecord | None = None
        self._recent: list[VenueEvent] = []
        self._unsaved: list[VenueEvent] = []
        self._steps = 0
        # What was last told, until something changes.
        self._book: MarginBook | None = None
        self._told: AccountState | None = None
        self._told_market: MarketState | None = None
        self._health: int | None = None
        self._perp_market, self._spot_markets = _margin_markets(spec)

    # Life

    async def open(
        self, opening_quote: Decimal, wallet_quote: Decimal, wallet_spot: Decimal = Decimal(0)
    ) -> float | None:
        """Load what was saved, or begin with these balances. Returns the market time that was reached, if any."""
        image = await self._tables.load()
        saved = image.state.get(_STATE)
        if saved is None:
            self._account = PaperAccount(quote=opening_quote, wallet_quote=wallet_quote, wallet_spot=wallet_spot)
            return None
        loaded = _decode_saved(saved)
        self._account, self._market, self._as_of_s = loaded.account, loaded.market, loaded.cursor_s
        self._record = loaded.record
        self._forget()
        return self._as_of_s

    def close_market(self) -> None:
        """No more prices will come: the market is not active any more."""
        self._active = False
        self._forget()

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
                self._account = msgspec.structs.replace(self._account, accrued_s=int(market_s))
            self._as_of_s = market_s
            self._interpolated = interpolated
            self._forget()
            if self._account.perp.base_1e9 or self._account.spot < 0:
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
            if self._account.perp.base_1e9 or self._account.spot < 0:
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
        )

    @property
    def perp_1e9(self) -> int:
        return self._account.perp.base_1e9

    def account(self, symbol: str) -> AccountState | None:
        market = self._market
        if market is None or symbol != self._spec.symbol:
            return None
        if self._told is None:
            self._told = self._tell_account(self._account, market)
        return self._told

    def _tell_account(self, account: PaperAccount, market: PaperMarket) -> AccountState:
        return AccountState(
            self._as_of_s,
            account.sequence,
            account.equity(market),
            account.quote,
            int(account.spot * BASE_PRECISION),
            account.perp.base_1e9,
            account.perp.entry_price,
            account.unsettled(market),
            account.wallet_quote,
            int(account.wallet_spot * BASE_PRECISION),
            liquidations=account.liquidations,
        )

    def margin_book(self) -> MarginBook | None:
        if self._book is None and self._market is not None:
            self._book = self._build_book(self._account, self._market)
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
        count = self._account.sequence - sequence
        if count <= 0:
            return ()
        if count <= len(self._recent):
            return self._recent[-count:]
        return await self._tables.events_after(sequence)

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
            try:
                change = self._execute(operation, faults=True)
                receipt = Receipt(OperationState.LANDED)
            except ValidationError as error:
                change = self._change()
                receipt = Receipt(OperationState.FAILED, error.code, error.sentence)
            events = [*self._unsaved, *change.events]
            await self._tables.commit(self._state(change.account), events, operation.id, _encode(receipt))
            self._unsaved = []
            self._steps = 0
            self.trouble = ""
            self._apply(change, saved=True)

    async def outcome(self, signed: Signed) -> Outcome | None:
        raw = await self._tables.receipt(signed.operation_id)
        if raw is None:
            # The exchange is in this process: what it has not accepted by now was never sent.
            return Outcome(OperationState.EXPIRED, "NOT_ACCEPTED", "the paper exchange never accepted it")
        receipt = _decode_receipt(raw)
        return Outcome(receipt.state, receipt.error_code, receipt.detail)

    # Inside

    def _forget(self) -> None:
        """Something changed: what was told of it is no longer so."""
        self._book = self._told = self._told_market = self._health = None

    def _change(self) -> Change:
        return Change(self._account, self._as_of_s, self._spec.symbol, self._spec.base_symbol, QUOTE_ASSET)

    def _apply(self, change: Change, *, saved: bool = False) -> None:
        self._account = change.account
        if change.events:
            self._recent.extend(change.events)
            if len(self._recent) > 8192:
                del self._recent[:4096]
            if not saved:
                self._unsaved.extend(change.events)
        self._forget()

    def _state(self, account: PaperAccount) -> dict[str, bytes]:
        market = self._market
        if market is None:
            return {}
        return {_STATE: _encode(_Saved(account, market, self._as_of_s, self._record))}

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
        book = self.margin_book()
        if book is None or self._market is None:
            return
        # Health is 0 in the last half percent before liquidation already; only there a second look is worth it.
        if self.health():
            return
        requirement = margin_requirement_1e6(book, Category.MAINTENANCE)
        if total_collateral_1e6(book, Category.MAINTENANCE) >= requirement:
            return
        change = self._change()
        change.liquidate(self._market, self._settings.liquidation_fee_1e5)
        self._apply(change)
        await self._save_or_owe()

    def _execute(self, operation: Operation, *, faults: bool) -> Change:
        """The operation's effect on the present account. Raises ValidationError with the exchange's error name."""
        market = self._market
        if market is None:
            raise ValidationError("MarketNotActive", "the paper exchange has no price yet")
        if operation.legs and not self._active:
            raise ValidationError("MarketNotActive", f"{self._spec.symbol} is closed: no prices come any more")
        dice = random.Random(f"{self._settings.faults.seed}:{operation.id}")  # noqa: S311  a scenario, not a secret
        chances = self._settings.faults
        if faults and dice.random() < chances.fail_rate:
            raise ValidationError("SimulatedFailure", "the scenario let this transaction fail")
        change = self._change()
        change.accrue(int(self._as_of_s), market.oracle, self._settings)
        legs = operation.legs
        if faults and legs and dice.random() < chances.partial_rate:
            legs = (self._part_of(legs[0], dice), *legs[1:])
        if faults and len(legs) > 1 and dice.random() < chances.odd_leg_rate:
            legs = legs[:1]
        for leg in legs:
            self._fill(change, self._with_interest(leg, change), market, operation.id)
        if operation.kind is OperationKind.SETTLE and not change.settle(market):
            raise ValidationError("NoUnsettledPnl", "there is no unsettled PnL to settle")
        if operation.transfer is not None:
            self._transfer(change, operation.transfer, market, operation.id)
        self._check_margin(change.account, market, operation)
        return change

    def _with_interest(self, leg: Leg, change: Change) -> Leg:
        """A close of all spot that was told takes the interest since then along (R4.5)."""
        told, held = int(self._account.spot * BASE_PRECISION), int(change.account.spot * BASE_PRECISION)
        if leg.market == self._spec.base_symbol and leg.reduce_only and leg.base_1e9 == -told:
            return msgspec.structs.replace(leg, base_1e9=-held)
        return leg

    def _part_of(self, leg: Leg, dice: random.Random) -> Leg:
        part = floor_to_step(int(leg.base_1e9 * dice.uniform(0.2, 0.9)), self._spec.step_base_1e9)
        return msgspec.structs.replace(leg, base_1e9=part or leg.base_1e9)

    def _fill(self, change: Change, leg: Leg, market: PaperMarket, operation_id: str) -> None:
        is_perp = leg.market == self._spec.symbol
        if not is_perp and leg.market != self._spec.base_symbol:
            raise ValidationError("MarketNotFound", f"the paper exchange does not list {leg.market}")
        if is_perp and leg.base_1e9 % self._spec.step_base_1e9:
            raise ValidationError(
                "InvalidOrderStepSize", f"{leg.base_1e9} is no multiple of {self._spec.step_base_1e9}"
            )
        if leg.base_1e9 == 0:
            raise ValidationError("InvalidOrderSizeTooSmall", "an order of nothing")
        account = change.account
        held = account.perp.base_1e9 if is_perp else int(account.spot * BASE_PRECISION)
        if leg.reduce_only and (held == 0 or (held > 0) == (leg.base_1e9 > 0) or abs(leg.base_1e9) > abs(held)):
            raise ValidationError("ReduceOnlyOrderIncreasedRisk", f"{leg.market}: order {leg.base_1e9} on {held}")
        base = base_to_decimal(leg.base_1e9)
        costs = self._settings.costs
        price = costs.slippage.fill_price(market.mark if is_perp else market.oracle, base)
        limit = Decimal(leg.limit_price_1e6) / 10**6
        if (price > limit) if leg.base_1e9 > 0 else (price < limit):
            raise ValidationError(
                "PriceLimitNotMet", f"{leg.market}: fill at {price:.6f} is beyond the limit {limit:.6f}"
            )
        rate = costs.fees.perp_taker_1e5 if is_perp else costs.fees.spot_1e5
        fee = abs(base) * price * rate / FEE_PRECISION
        if is_perp:
            change.trade_perp(leg.base_1e9, price, fee, market.index_long, market.index_short, operation_id)
        else:
            change.trade_spot(leg.base_1e9, price, fee, operation_id)

    def _transfer(self, change: Change, transfer: Transfer, market: PaperMarket, operation_id: str) -> None:
        account = change.account
        if transfer.asset == QUOTE_ASSET:
            amount = Decimal(transfer.amount) / _QUOTE_UNITS
            wallet, held = account.wallet_quote, account.quote
        elif transfer.asset == self._spec.base_symbol:
            amount = base_to_decimal(transfer.amount)
            wallet, held = account.wallet_spot, account.spot
        else:
            raise ValidationError("SpotMarketNotFound", f"the paper exchange does not take {transfer.asset}")
        if amount > wallet:
            raise ValidationError("InsufficientFunds", f"the wallet holds {wallet:f} {transfer.asset}, not {amount:f}")
        if amount < 0 and -amount > max(held, Decimal(0)):
            raise ValidationError(
                "InsufficientDeposit", f"the account holds {held:f} {transfer.asset}, not {-amount:f}"
            )
        if transfer.asset == QUOTE_ASSET:
            change.transfer_quote(amount, operation_id)
        else:
            change.transfer_spot(amount, market.oracle, operation_id)

    def _check_margin(self, account: PaperAccount, market: PaperMarket, operation: Operation) -> None:
        """Increases and withdrawals must leave initial margin and stay below the paper leverage limit (R1.4)."""
        increases = any(not leg.reduce_only for leg in operation.legs)
        withdraws = operation.transfer is not None and operation.transfer.amount < 0
        if not increases and not withdraws:
            return
        summary = margin_summary(self._build_book(account, market))
        if summary.free_initial_1e6 <= 0 and summary.requirement_initial_1e6 > 0:
            raise ValidationError("InsufficientCollateral", "initial margin would not be covered")
        if increases and summary.leverage_1e4 > self._settings.max_leverage * 10_000:
            raise ValidationError(
                "LeverageTooHigh",
                f"it would be {summary.leverage_1e4 / 10_000:.2f}x, paper allows {self._settings.max_leverage:g}x",
            )

    def _build_book(self, account: PaperAccount, market: PaperMarket) -> MarginBook:
        oracle_1e6 = price_to_1e6(market.oracle)
        spots = [_spot_position(QUOTE_INDEX, account.quote)]
        if account.spot:
            spots.append(_spot_position(self._spec.spot_index, account.spot))
        perps: tuple[PerpPosition, ...] = ()
        perp = account.perp
        if perp.base_1e9 or perp.quote:
            perps = (
                PerpPosition(
                    self._spec.perp_index,
                    base_1e9=perp.base_1e9,
                    quote_1e6=_floor(perp.quote * _QUOTE_UNITS),
                    quote_entry_1e6=_floor(perp.entry_quote * _QUOTE_UNITS),
                    quote_break_even_1e6=_floor(perp.entry_quote * _QUOTE_UNITS),
                ),
            )
        return MarginBook(
            UserAccount(spot_positions=tuple(spots), perp_positions=perps),
            self._perp_market,
            self._spot_markets,
            {_QUOTE_KEY: _PAR, _BASE_KEY: OraclePrice(oracle_1e6)},
        )


_PAR = OraclePrice(_QUOTE_UNITS)
"""The paper quote asset is worth exactly 1."""

_NOT_APPLICABLE = {
    "gas": "paper pays no gas",
    "latency": "paper has no RPC",
    "oracle_age": "paper prices come with the tape",
    "slot_lag": "paper has no slots",
    "clock_skew": "paper has no chain clock",
    "guards": "a tape has no exchange guards",
    "open_interest": "a tape has no open interest",
}


def _floor(value: Decimal) -> int:
    whole = int(value)
    return whole - 1 if value < whole else whole


def _spot_position(index: int, tokens: Decimal) -> SpotPosition:
    """Scaled balances have precision 1e9 and the paper interest index stays at 1; a debt is rounded up."""
    scaled = _floor(tokens * BASE_PRECISION)
    return SpotPosition(index, abs(scaled), scaled < 0)


def _margin_markets(spec: MarketSpec) -> tuple[dict[int, PerpMarket], dict[int, SpotMarket]]:
    perp = PerpMarket(
        spec.perp_index,
        _BASE_KEY,
        spec.margin_initial_1e4,
        spec.margin_maintenance_1e4,
        order_step_1e9=spec.step_base_1e9,
        order_tick_1e6=spec.tick_price_1e6,
        min_order_1e9=spec.min_base_1e9,
        name=spec.symbol,
    )
    base = SpotMarket(
        spec.spot_index,
        _BASE_KEY,
        9,
        initial_asset_weight_1e4=spec.spot_asset_weight_initial_1e4,
        maintenance_asset_weight_1e4=spec.spot_asset_weight_maintenance_1e4,
        initial_liability_weight_1e4=spec.spot_liability_weight_initial_1e4,
        maintenance_liability_weight_1e4=spec.spot_liability_weight_maintenance_1e4,
        name=spec.base_symbol,
    )
    quote = SpotMarket(QUOTE_INDEX, _QUOTE_KEY, 6, name=QUOTE_ASSET)
    return {spec.perp_index: perp}, {QUOTE_INDEX: quote, spec.spot_index: base}
