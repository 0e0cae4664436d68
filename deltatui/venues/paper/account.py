"""The paper account: balances, and what fills, funding, interest and transfers do to it.

Values are frozen; every change gives a new account and the events that tell it. Quote and base in Decimal units,
unrounded (R1.2); sizes of orders are integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_UP, Decimal

import msgspec

from deltatui.domain.funding import DOCUMENTED_PERIOD_S, documented_cycle, documented_funding_cash, funding_cash
from deltatui.domain.ledger import LIQUIDATION_NOTE, TRANSFER_NOTE, FlowKind, VenueEvent
from deltatui.domain.market import FundingRecord
from deltatui.domain.units import BASE_PRECISION, SECONDS_PER_YEAR, base_to_decimal
from deltatui.venues.paper.settings import PaperSettings

_ZERO = Decimal(0)
_YEAR_PCT = Decimal(SECONDS_PER_YEAR * 100)
_LAMPORT = Decimal(1) / BASE_PRECISION


class PaperPerp(msgspec.Struct, frozen=True):
    """A perp position. ``quote`` is what was paid (-) or received (+) for the base, plus booked funding and fees: the
    position is worth ``base * price + quote``. ``entry_quote`` is the part that the entry price comes from."""

    base_1e9: int = 0
    quote: Decimal = _ZERO
    entry_quote: Decimal = _ZERO
    booked_index: Decimal = _ZERO
    booked_cycle: int = 0
    settled: Decimal = _ZERO
    """PnL that was moved into the quote balance since the position was opened."""

    @property
    def entry_price(self) -> Decimal | None:
        return -self.entry_quote / base_to_decimal(self.base_1e9) if self.base_1e9 else None


class PaperMarket(msgspec.Struct, frozen=True):
    """The exchange's own state of one perp market: prices and cumulative funding per side."""

    oracle: Decimal
    mark: Decimal
    index_long: Decimal = _ZERO
    index_short: Decimal = _ZERO
    records: int = 0
    last_record_s: int = 0


class PaperAccount(msgspec.Struct, frozen=True):
    """``quote`` and ``spot`` are deposits, negative where borrowed. ``sequence`` numbers the last event. ``settled`` is
    the PnL that was moved into the quote balance so far, ``others`` the positions in markets without a tape."""

    quote: Decimal = _ZERO
    spot: Decimal = _ZERO
    perp: PaperPerp = PaperPerp()
    wallet_quote: Decimal = _ZERO
    wallet_spot: Decimal = _ZERO
    accrued_s: int = 0
    sequence: int = 0
    liquidations: int = 0
    settled: Decimal = _ZERO
    others: Mapping[str, PaperPerp] = {}

    def equity(self, market: PaperMarket, other_marks: Mapping[str, Decimal]) -> Decimal:
        """By balances: spot at the oracle, perps at the mark (R1.8)."""
        perps = base_to_decimal(self.perp.base_1e9) * market.mark + self.perp.quote
        for symbol, other in self.others.items():
            perps += base_to_decimal(other.base_1e9) * other_marks[symbol] + other.quote
        return self.quote + self.spot * market.oracle + perps

    def unsettled(self, market: PaperMarket) -> Decimal:
        """PnL of the perp at the oracle price that has not been moved into the quote balance."""
        return base_to_decimal(self.perp.base_1e9) * market.oracle + self.perp.quote


class Change:
    """Collects one change of the account: the new values and the events that explain them."""

    def __init__(
        self, account: PaperAccount, market_s: float, symbol: str, base_symbol: str, quote_symbol: str
    ) -> None:
        self.account = account
        self.events: list[VenueEvent] = []
        self._market_s = market_s
        self._symbol = symbol
        self._base_symbol = base_symbol
        self._quote_symbol = quote_symbol

    def _flow(
        self, kind: FlowKind, instrument: str, amount: Decimal, operation_id: str = "", record: int = 0, note: str = ""
    ) -> None:
        self.events.append(
            VenueEvent(self._next(), self._market_s, instrument, operation_id, kind, amount, _ZERO, _ZERO, record, note)
        )

    def _fill(self, instrument: str, base: Decimal, price: Decimal, operation_id: str = "", note: str = "") -> None:
        self.events.append(
            VenueEvent(self._next(), self._market_s, instrument, operation_id, None, _ZERO, base, price, 0, note)
        )

    def _next(self) -> int:
        self.account = msgspec.structs.replace(self.account, sequence=self.account.sequence + 1)
        return self.account.sequence

    def fund(self, market: PaperMarket, record: FundingRecord, period_s: int) -> None:
        """Book one funding record on the open position; ``market`` has the record's index already."""
        perp = self.account.perp
        if not perp.base_1e9:
            return
        index = market.index_long if perp.base_1e9 > 0 else market.index_short
        cycle = documented_cycle(record.ts_s, period_s or DOCUMENTED_PERIOD_S)
        if period_s:
            if cycle == perp.booked_cycle:
                return
            hours = Decimal(period_s) / 3600
            rate = record.rate / record.oracle_twap * hours
            cash = documented_funding_cash(base_to_decimal(perp.base_1e9), record.mark_twap, rate)
        else:
            cash = funding_cash(perp.base_1e9, index, perp.booked_index)
        self._flow(FlowKind.FUNDING, self._symbol, cash, record=market.records)
        perp = msgspec.structs.replace(perp, quote=perp.quote + cash, booked_index=index, booked_cycle=cycle)
        self.account = msgspec.structs.replace(self.account, perp=perp)

    def accrue(self, now_s: int, oracle: Decimal, settings: PaperSettings) -> None:
        """Interest on deposits and borrows since it was last accrued. Base interest is paid in base."""
        account = self.account
        if not account.accrued_s:
            self.account = msgspec.structs.replace(account, accrued_s=now_s)
            return
        elapsed = now_s - account.accrued_s
        if elapsed <= 0:
            return
        years_pct = Decimal(elapsed) / _YEAR_PCT
        base_rate = settings.base_lend_apr_pct if account.spot > 0 else settings.base_borrow_apr_pct
        quote_rate = settings.quote_lend_apr_pct if account.quote > 0 else settings.quote_borrow_apr_pct
        base_interest = account.spot * base_rate * years_pct
        quote_interest = account.quote * quote_rate * years_pct
        self.account = msgspec.structs.replace(
            account,
            spot=account.spot + base_interest,
            quote=account.quote + quote_interest,
            accrued_s=now_s,
        )
        if base_interest:
            self._flow(FlowKind.INTEREST, self._base_symbol, base_interest * oracle)
            self._fill(self._base_symbol, base_interest, oracle, note="interest")
        if quote_interest:
            self._flow(FlowKind.INTEREST, self._quote_symbol, quote_interest)

    def trade_perp(
        self, base_1e9: int, price: Decimal, fee: Decimal, index_long: Decimal, index_short: Decimal, operation_id: str
    ) -> None:
        """Fill ``base_1e9`` (signed) at ``price``; the fee (positive: paid) is taken from the position's quote."""
        perp = self.account.perp
        after = filled(perp, base_1e9, price, fee)
        index = index_long if after.base_1e9 > 0 else index_short
        cycle = perp.booked_cycle if perp.base_1e9 else documented_cycle(self._market_s)
        after = msgspec.structs.replace(after, booked_index=index, booked_cycle=cycle)
        self.account = msgspec.structs.replace(self.account, perp=after)
        self._tell_perp(self._symbol, base_1e9, price, fee, operation_id)

    def trade_other(self, symbol: str, base_1e9: int, price: Decimal, fee: Decimal, operation_id: str) -> None:
        """The same in a market without a tape, which pays no funding."""
        others = dict(self.account.others)
        others[symbol] = filled(others.get(symbol, PaperPerp()), base_1e9, price, fee)
        self.account = msgspec.structs.replace(self.account, others=others)
        self._tell_perp(symbol, base_1e9, price, fee, operation_id)

    def _tell_perp(self, symbol: str, base_1e9: int, price: Decimal, fee: Decimal, operation_id: str) -> None:
        self._fill(symbol, base_to_decimal(base_1e9), price, operation_id)
        if fee:
            self._flow(FlowKind.FEE, symbol, -fee, operation_id)

    def trade_spot(self, base: Decimal, price: Decimal, fee: Decimal, operation_id: str, note: str = "") -> None:
        """Fill ``base`` (signed) at ``price`` against the quote balance. A rest below one lamport goes along."""
        rest = self.account.spot + base
        if abs(rest) < _LAMPORT:
            base, rest = -self.account.spot, _ZERO
        self.account = msgspec.structs.replace(self.account, spot=rest, quote=self.account.quote - base * price - fee)
        self._fill(self._base_symbol, base, price, operation_id, note)
        if fee:
            self._flow(FlowKind.FEE, self._base_symbol, -fee, operation_id)

    def settle(self, market: PaperMarket) -> Decimal:
        """Move the unsettled PnL into the quote balance; equity does not change. Returns the amount moved."""
        account, amount = self.account, self.account.unsettled(market)
        perp = account.perp
        moved = msgspec.structs.replace(perp, quote=perp.quote - amount, settled=perp.settled + amount)
        self.account = msgspec.structs.replace(
            account, perp=moved, quote=account.quote + amount, settled=account.settled + amount
        )
        return amount

    def transfer_quote(self, amount: Decimal, operation_id: str) -> None:
        """Wallet to account (positive) or back."""
        account = self.account
        self.account = msgspec.structs.replace(
            account, quote=account.quote + amount, wallet_quote=account.wallet_quote - amount
        )
        kind = FlowKind.DEPOSIT if amount > 0 else FlowKind.WITHDRAWAL
        self._flow(kind, self._quote_symbol, amount, operation_id)

    def transfer_spot(self, amount: Decimal, oracle: Decimal, operation_id: str) -> None:
        """Wallet to account (positive) or back; booked at the oracle price."""
        account = self.account
        self.account = msgspec.structs.replace(
            account, spot=account.spot + amount, wallet_spot=account.wallet_spot - amount
        )
        kind = FlowKind.DEPOSIT if amount > 0 else FlowKind.WITHDRAWAL
        self._flow(kind, self._base_symbol, amount * oracle, operation_id)
        self._fill(self._base_symbol, amount, oracle, operation_id, TRANSFER_NOTE)

    def liquidate(self, market: PaperMarket, other_marks: Mapping[str, Decimal], fee_1e5: Decimal) -> None:
        """As an exchange does at health 0: close every perp at its price, settle, pay debts out of deposits, all with
        the liquidation fee. A debt that nothing is left for is written off."""
        self._close_perps(market, other_marks, fee_1e5)
        self.settle(market)
        rate = fee_1e5 / 100_000
        account, price = self.account, market.oracle
        base = _ZERO
        if account.spot < 0:
            base = -account.spot
        elif account.quote < 0 < account.spot:
            base = -min(account.spot, (-account.quote / (price * (1 - rate))).quantize(_LAMPORT, ROUND_UP))
        if base:
            self.trade_spot(base, price, abs(base) * price * rate, LIQUIDATION_NOTE, LIQUIDATION_NOTE)
        if self.account.quote < 0 and self.account.spot <= 0:
            self._flow(FlowKind.WRITE_OFF, self._quote_symbol, -self.account.quote, LIQUIDATION_NOTE)
            self.account = msgspec.structs.replace(self.account, quote=_ZERO)
        self.account = msgspec.structs.replace(self.account, liquidations=self.account.liquidations + 1)

    def _close_perps(self, market: PaperMarket, other_marks: Mapping[str, Decimal], fee_1e5: Decimal) -> None:
        perp_base = self.account.perp.base_1e9
        if perp_base:
            fee = abs(base_to_decimal(perp_base)) * market.oracle * fee_1e5 / 100_000
            self.trade_perp(-perp_base, market.oracle, fee, market.index_long, market.index_short, LIQUIDATION_NOTE)
        for symbol, other in self.account.others.items():
            mark = other_marks[symbol]
            fee = abs(base_to_decimal(other.base_1e9)) * mark * fee_1e5 / 100_000
            self.trade_other(symbol, -other.base_1e9, mark, fee, LIQUIDATION_NOTE)
            pnl = self.account.others[symbol].quote
            self.account = msgspec.structs.replace(
                self.account, quote=self.account.quote + pnl, settled=self.account.settled + pnl
            )
        self.account = msgspec.structs.replace(self.account, others={})


def filled(perp: PaperPerp, base_1e9: int, price: Decimal, fee: Decimal) -> PaperPerp:
    """``perp`` after a fill of signed ``base_1e9``; ``fee`` is positive when paid."""
    cash = -base_to_decimal(base_1e9) * price
    after = perp.base_1e9 + base_1e9
    if perp.base_1e9 == 0 or (perp.base_1e9 > 0) == (base_1e9 > 0):
        entry = perp.entry_quote + cash
    elif abs(base_1e9) <= abs(perp.base_1e9):
        entry = perp.entry_quote * after / perp.base_1e9
    else:
        entry = -base_to_decimal(after) * price
    settled = perp.settled if perp.base_1e9 else _ZERO
    return PaperPerp(after, perp.quote + cash - fee, entry, perp.booked_index, perp.booked_cycle, settled)
