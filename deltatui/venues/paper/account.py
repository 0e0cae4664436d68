"""The paper account: balances, and what fills, funding, interest and transfers do to it.

Quote and base in Decimal units, unrounded (R1.2); sizes of orders are integers. An account is changed in place, and
each change adds the events that tell it; what may still be refused is tried on a copy.
"""

from __future__ import annotations

from decimal import ROUND_UP, Decimal

import msgspec

from deltatui.domain.funding import DOCUMENTED_PERIOD_S, documented_cycle, documented_funding_cash, funding_cash
from deltatui.domain.ledger import LIQUIDATION_NOTE, TRANSFER_NOTE, FlowKind, VenueEvent
from deltatui.domain.market import FundingRecord
from deltatui.domain.units import BASE_PRECISION, SECONDS_PER_YEAR, base_to_decimal
from deltatui.venues.paper.markets import Listing, Markets
from deltatui.venues.paper.settings import QUOTE_ASSET, PaperSettings

_ZERO = Decimal(0)
_YEAR_PCT = Decimal(SECONDS_PER_YEAR * 100)
_LEAST = Decimal(1) / BASE_PRECISION


class PaperPerp(msgspec.Struct, forbid_unknown_fields=True):
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

    def worth(self, price: Decimal) -> Decimal:
        """PnL at ``price`` that has not been moved into the quote balance."""
        return base_to_decimal(self.base_1e9) * price + self.quote

    def fill(self, base_1e9: int, price: Decimal, fee: Decimal) -> None:
        """A fill of signed ``base_1e9``; ``fee`` is positive when paid."""
        cash = -base_to_decimal(base_1e9) * price
        before, after = self.base_1e9, self.base_1e9 + base_1e9
        if before == 0 or (before > 0) == (base_1e9 > 0):
            self.entry_quote += cash
        elif abs(base_1e9) <= abs(before):
            self.entry_quote = self.entry_quote * after / before
        else:
            self.entry_quote = -base_to_decimal(after) * price
        if not before:
            self.settled = _ZERO
        self.base_1e9 = after
        self.quote = self.quote + cash - fee


class PaperAccount(msgspec.Struct, forbid_unknown_fields=True):
    """``quote`` and ``spots`` (by asset) are deposits, negative where borrowed; ``perps`` are by market, ``wallet`` by
    asset. ``sequence`` numbers the last event, ``accrued_s`` is the time up to which interest is booked (0: none yet),
    ``settled`` the PnL that was moved into the quote balance so far."""

    quote: Decimal = _ZERO
    wallet_quote: Decimal = _ZERO
    spots: dict[str, Decimal] = {}
    wallet: dict[str, Decimal] = {}
    perps: dict[str, PaperPerp] = {}
    accrued_s: int = 0
    sequence: int = 0
    liquidations: int = 0
    settled: Decimal = _ZERO

    def copy(self) -> PaperAccount:
        """One that nothing done to this one changes, nor the other way round."""
        perps = {symbol: msgspec.structs.replace(perp) for symbol, perp in self.perps.items()}
        return msgspec.structs.replace(self, spots=dict(self.spots), wallet=dict(self.wallet), perps=perps)

    def equity(self, markets: Markets) -> Decimal | None:
        """By balances: spot at the oracle, perps at the mark (R1.8). None where something held has no price."""
        perps = _ZERO
        for symbol, perp in self.perps.items():
            if perp.base_1e9 or perp.quote:
                now = markets.by_symbol[symbol].now
                if now is None:
                    return None
                perps += perp.worth(now.mark)
        total = self.quote
        for asset, tokens in self.spots.items():
            if tokens:
                now = markets.by_base[asset].now
                if now is None:
                    return None
                total += tokens * now.oracle
        return total + perps


class Change:
    """Changes an account in place and collects the events that explain it."""

    __slots__ = ("_market_s", "_markets", "account", "events")

    def __init__(self, account: PaperAccount, market_s: float, markets: Markets) -> None:
        self.account = account
        self.events: list[VenueEvent] = []
        self._market_s = market_s
        self._markets = markets

    def _flow(
        self, kind: FlowKind, instrument: str, amount: Decimal, operation_id: str = "", record: int = 0, note: str = ""
    ) -> None:
        self.account.sequence = sequence = self.account.sequence + 1
        self.events.append(
            VenueEvent(sequence, self._market_s, instrument, operation_id, kind, amount, _ZERO, _ZERO, record, note)
        )

    def _fill(self, instrument: str, base: Decimal, price: Decimal, operation_id: str = "", note: str = "") -> None:
        self.account.sequence = sequence = self.account.sequence + 1
        self.events.append(
            VenueEvent(sequence, self._market_s, instrument, operation_id, None, _ZERO, base, price, 0, note)
        )

    def fund(self, listing: Listing, record: FundingRecord, period_s: int) -> None:
        """Book one funding record on the open position; the market has the record's index already."""
        symbol, now = listing.spec.symbol, listing.now
        perp = self.account.perps.get(symbol)
        if now is None or perp is None or not perp.base_1e9:
            return
        index = now.index_long if perp.base_1e9 > 0 else now.index_short
        cycle = documented_cycle(record.ts_s, period_s or DOCUMENTED_PERIOD_S)
        if period_s:
            if cycle == perp.booked_cycle:
                return
            intervals = Decimal(period_s) / listing.spec.funding_interval_s
            rate = record.rate / record.oracle_twap * intervals
            cash = documented_funding_cash(base_to_decimal(perp.base_1e9), record.mark_twap, rate)
        else:
            cash = funding_cash(perp.base_1e9, index, perp.booked_index)
        self._flow(FlowKind.FUNDING, symbol, cash, record=now.records)
        perp.quote += cash
        perp.booked_index, perp.booked_cycle = index, cycle

    def accrue(self, now_s: int, settings: PaperSettings) -> None:
        """Interest on deposits and borrows since it was last accrued, of each asset once. Base interest is paid in base
        and booked at the oracle price. A time that lies before the last one changes nothing."""
        account = self.account
        elapsed_s = now_s - account.accrued_s
        if not account.accrued_s:
            account.accrued_s = now_s
            return
        if elapsed_s <= 0:
            return
        account.accrued_s = now_s
        years_pct = Decimal(elapsed_s) / _YEAR_PCT
        quote_interest = account.quote * settings.quote_apr_pct(account.quote) * years_pct
        for asset, tokens in account.spots.items():
            interest = tokens * settings.base_apr_pct(asset, tokens) * years_pct
            # Nothing is added for a rate of 0 either, but the digits: the sums of the ledger show them.
            account.spots[asset] = tokens + interest
            now = self._markets.by_base[asset].now
            if interest and now is not None:
                self._flow(FlowKind.INTEREST, asset, interest * now.oracle)
                self._fill(asset, interest, now.oracle, note="interest")
        account.quote += quote_interest
        if quote_interest:
            self._flow(FlowKind.INTEREST, QUOTE_ASSET, quote_interest)

    def trade_perp(self, listing: Listing, base_1e9: int, price: Decimal, fee: Decimal, operation_id: str) -> None:
        """Fill ``base_1e9`` (signed) at ``price``; the fee (positive: paid) is taken from the position's quote."""
        symbol, now = listing.spec.symbol, listing.state()
        perp = self.account.perps.setdefault(symbol, PaperPerp())
        if not perp.base_1e9:
            perp.booked_cycle = documented_cycle(self._market_s)
        perp.fill(base_1e9, price, fee)
        perp.booked_index = now.index_long if perp.base_1e9 > 0 else now.index_short
        self._fill(symbol, base_to_decimal(base_1e9), price, operation_id)
        if fee:
            self._flow(FlowKind.FEE, symbol, -fee, operation_id)

    def trade_spot(
        self, asset: str, base: Decimal, price: Decimal, fee: Decimal, operation_id: str, note: str = ""
    ) -> None:
        """Fill ``base`` (signed) at ``price`` against the quote balance. A rest below 1e-9 goes along."""
        account = self.account
        held = account.spots.get(asset, _ZERO)
        rest = held + base
        if abs(rest) < _LEAST:
            base, rest = -held, _ZERO
        account.spots[asset] = rest
        account.quote = account.quote - base * price - fee
        self._fill(asset, base, price, operation_id, note)
        if fee:
            self._flow(FlowKind.FEE, asset, -fee, operation_id)

    def settle(self, listing: Listing) -> Decimal:
        """Move the unsettled PnL of one market into the quote balance; equity does not change. Returns the amount."""
        perp = self.account.perps.get(listing.spec.symbol)
        if perp is None:
            return _ZERO
        amount = perp.worth(listing.state().oracle)
        perp.quote -= amount
        perp.settled += amount
        self.account.quote += amount
        self.account.settled += amount
        return amount

    def transfer_quote(self, amount: Decimal, operation_id: str) -> None:
        """Wallet to account (positive) or back."""
        self.account.quote += amount
        self.account.wallet_quote -= amount
        kind = FlowKind.DEPOSIT if amount > 0 else FlowKind.WITHDRAWAL
        self._flow(kind, QUOTE_ASSET, amount, operation_id)

    def transfer_spot(self, listing: Listing, amount: Decimal, operation_id: str) -> None:
        """Wallet to account (positive) or back; booked at the oracle price."""
        account, asset, oracle = self.account, listing.spec.base_symbol, listing.state().oracle
        account.spots[asset] = account.spots.get(asset, _ZERO) + amount
        account.wallet[asset] = account.wallet.get(asset, _ZERO) - amount
        kind = FlowKind.DEPOSIT if amount > 0 else FlowKind.WITHDRAWAL
        self._flow(kind, asset, amount * oracle, operation_id)
        self._fill(asset, amount, oracle, operation_id, TRANSFER_NOTE)

    def liquidate(self, fee_1e5: Decimal) -> None:
        """As an exchange does at health 0: close every perp at its oracle price, settle, pay debts out of deposits,
        asset by asset, all with the liquidation fee. A debt that nothing is left for is written off."""
        account, rate = self.account, fee_1e5 / 100_000
        for symbol, listing in self._markets.by_symbol.items():
            perp = account.perps.get(symbol)
            if perp is None:
                continue
            if perp.base_1e9:
                oracle = listing.state().oracle
                fee = abs(base_to_decimal(perp.base_1e9)) * oracle * fee_1e5 / 100_000
                self.trade_perp(listing, -perp.base_1e9, oracle, fee, LIQUIDATION_NOTE)
            if perp.quote:
                self.settle(listing)
        for asset in self._markets.by_base:
            debt = -account.spots.get(asset, _ZERO)
            if debt > 0:
                self._force(asset, debt, rate)
        for asset, listing in self._markets.by_base.items():
            tokens = account.spots.get(asset, _ZERO)
            if account.quote < 0 < tokens:
                needed = (-account.quote / (listing.state().oracle * (1 - rate))).quantize(_LEAST, ROUND_UP)
                self._force(asset, -min(tokens, needed), rate)
        if account.quote < 0:
            self._flow(FlowKind.WRITE_OFF, QUOTE_ASSET, -account.quote, LIQUIDATION_NOTE)
            account.quote = _ZERO
        account.liquidations += 1

    def _force(self, asset: str, base: Decimal, rate: Decimal) -> None:
        price = self._markets.by_base[asset].state().oracle
        self.trade_spot(asset, base, price, abs(base) * price * rate, LIQUIDATION_NOTE, LIQUIDATION_NOTE)
