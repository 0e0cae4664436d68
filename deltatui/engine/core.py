"""What the engine knows: facts, books, averages, state and flags, and how they are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import msgspec

from deltatui.domain.carry import CarryState, Decision, decide, holding
from deltatui.domain.costs import CostModel, RoundTrip, round_trip
from deltatui.domain.delta import Exposure, RebalancePlan, plan_rebalance
from deltatui.domain.errors import CriticalError, TransientError, ValidationError
from deltatui.domain.event import Event, Level
from deltatui.domain.funding import FundingWindow, HourFractions, hour_fractions
from deltatui.domain.ledger import FlowKind, Holding
from deltatui.domain.margin import MarginBook
from deltatui.domain.market import FundingRecord, MarketSpec
from deltatui.domain.operation import OpenOperation
from deltatui.domain.snapshot import OperationView
from deltatui.domain.units import BASE_PRECISION, base_to_decimal
from deltatui.engine.accounting import Accountant
from deltatui.engine.board import Board
from deltatui.engine.memory import CarryMemory, Facts, Flags, HedgeCheck, Pending
from deltatui.engine.planner import stance_of
from deltatui.engine.settings import EngineSettings
from deltatui.engine.standing import Standing, standing
from deltatui.engine.states import EngineState, check_transition
from deltatui.ports import AccountState, Clock, Log, Mark, Store, Venue

WEEK_RECORDS = 168
HEDGE_CHECK = "hedge_check"
BEHIND = "behind"
"""The alert that stands while the account has not been told since an operation ended."""

encode = msgspec.json.Encoder().encode


class Core:
    """Shared by the rooms of the engine; has no will of its own."""

    def __init__(
        self,
        settings: EngineSettings,
        clock: Clock,
        venue: Venue,
        store: Store,
        log: Log | None,
        on_change: Callable[[], None],
        on_event: Callable[[Event], None],
        speed: int,
    ) -> None:
        spec = venue.markets().get(settings.market)
        if spec is None:
            listed = ", ".join(venue.markets())
            raise ValidationError("UNKNOWN_MARKET", f"{venue.name} does not list {settings.market}; it lists {listed}")
        self.settings = settings
        self.spec: MarketSpec = spec
        self.clock = clock
        self.venue = venue
        self.store = store
        self.board = Board(clock, log, on_change, on_event)
        self.accountant = Accountant(spec)
        self.state = EngineState.STARTING
        self.state_reason = "starting"
        self.flags = Flags(automation=settings.automation, speed=speed)
        self.carry_state = CarryState()
        self.decision: Decision | None = None
        self.window = FundingWindow(settings.carry.average_h)
        self.week = FundingWindow(WEEK_RECORDS)
        self._newest_record_s: int | None = None
        self._kept_records: Sequence[FundingRecord] = ()
        self.pending: Pending | None = None
        self.check: HedgeCheck | None = None
        self.operation: OperationView | None = None
        self.unresolved: dict[str, OpenOperation] = {}
        self._round_trip: tuple[CostModel, int, bool, RoundTrip] | None = None
        self._landed_at: Mark | None = None
        """Where the newest operation landed: an account told before shows nothing of it."""
        self.link_lost = ""
        """Why nothing can be reached, until recovery is over."""
        self._saving = asyncio.Lock()
        self._unsaved_records: list[FundingRecord] = []
        self._unsaved_state = False
        self._loaded = False
        self.saved_operator_s = float("-inf")

    # Facts

    def facts(self) -> Facts | None:
        market = self.venue.market(self.spec.symbol)
        account = self.venue.account(self.spec.symbol)
        return None if market is None or account is None else Facts(market, account)

    def known_facts(self) -> Facts:
        facts = self.facts()
        if facts is None:
            raise ValidationError("NO_DATA", "the venue has not told prices and account yet")
        return facts

    @property
    def behind(self) -> bool:
        """Whether the account was told before the newest operation landed."""
        account = self.venue.account(self.spec.symbol)
        return self._landed_at is not None and (account is None or not account.mark.covers(self._landed_at))

    async def catch_up(self, landed_at: Mark | None = None) -> None:
        """Wait until the account shows what has landed, and book it. For every trade, before and after it.

        Raises TransientError where the venue does not tell the account in time.
        """
        await self.wait_until_told(landed_at)
        self.board.clear(BEHIND)
        facts = self.facts()
        if facts is not None:
            await self.take_in(facts)

    async def wait_until_told(self, landed_at: Mark | None = None) -> None:
        """The first half of :meth:`catch_up`: changes nothing, so it needs no right to trade."""
        if landed_at is not None and (self._landed_at is None or landed_at.covers(self._landed_at)):
            self._landed_at = landed_at
        if self.behind:
            await self.venue.report(self.spec.symbol, self._landed_at)

    def round_trip(self, base_1e9: int | None = None, *, spot_leg: bool = True) -> RoundTrip:
        """What a hedge of ``base_1e9`` (None: the configured size) costs in and out, at the venue's present fees."""
        size = self.settings.carry_size_1e9 if base_1e9 is None else abs(base_1e9)
        costs = self.venue.costs()
        known = self._round_trip
        # The same costs, not equal ones: what the venue has not replaced is what it was.
        if known is None or known[0] is not costs or known[1:3] != (size, spot_leg):
            known = (costs, size, spot_leg, round_trip(costs, base_to_decimal(size), spot_leg=spot_leg))
            self._round_trip = known
        return known[3]

    def known_book(self) -> MarginBook:
        book = self.venue.margin_book()
        if book is None:
            raise ValidationError("NO_ACCOUNT", "the venue has not told the account's state yet")
        return book

    def standing(self) -> Standing | None:
        """The account now; None where it cannot be judged."""
        book = self.venue.margin_book()
        if book is None:
            return None
        try:
            now = standing(book, self.spec)
        except ValidationError as error:
            self.board.alert("margin", Level.ERROR, f"the account cannot be judged: {error.sentence}")
            return None
        self.board.clear("margin")
        return now

    # Books and averages

    async def take_in(self, facts: Facts) -> None:
        """Book what happened to the account since the last time."""
        accountant = self.accountant
        if not accountant.opened:
            accountant.open(facts.market, facts.account)
            self.set_flags(liquidations=facts.account.liquidations, opened_s=facts.market.as_of_s)
            return
        before = facts.account.perp_1e9
        while accountant.books.cursor < facts.account.events:
            events = await self.venue.events_after(accountant.books.cursor)
            if not events:
                known, counted = accountant.books.cursor, facts.account.events
                raise CriticalError("EVENT_GAP", f"the venue counts {counted} events and has none after {known}")
            if self.check is not None:
                self.check = self.check.with_fills(events)
            entries = accountant.ingest(events)
            self._unsaved_state = True
            if self.board.tell is not None:
                for entry in entries:
                    if entry.kind == FlowKind.FUNDING:
                        self.board.tell.funding(entry, facts.market, before)
        # A short that was closed or reduced, by whomever, covers that much less.
        covered_1e9 = max(0, -facts.account.perp_1e9)
        if self.flags.pledged_1e9 > covered_1e9 and accountant.books.cursor == facts.account.events:
            self.set_flags(pledged_1e9=covered_1e9)
        if facts.account.liquidations > self.flags.liquidations:
            self.set_flags(liquidations=facts.account.liquidations)
            self.halt("the account was liquidated by the venue; see what is left before you resume", kind="liquidated")

    @property
    def records_looked_back(self) -> int:
        """How many past records the averages and the count of records need to be what they would be without a
        restart."""
        carry = self.settings.carry
        return max(carry.average_h, WEEK_RECORDS, carry.min_records)

    def prime_funding(self, records: Iterable[FundingRecord]) -> None:
        """Fill the averages with past records up to now, oldest first, from a driver that has them (a tape). Call once,
        after :meth:`load`.

        What the store has kept is there already; taken are the records from before it, and those that the venue has
        booked since and no step of the engine has judged. The newest of these is left to the next step, so that it is
        decided on.
        """
        kept, self._kept_records = self._kept_records, ()
        market = self.venue.market(self.spec.symbol)
        past = list(records)
        if market is not None:
            judged = min(self.flags.records, market.funding_count)
            if market.funding is not None and market.funding_count > self.flags.records:
                judged = market.funding_count - 1
                past = [record for record in past if record.ts_s < market.funding.ts_s]
            self.set_flags(records=judged)
        if kept:
            missed = [record for record in past if record.ts_s > kept[-1].ts_s]
            self._unsaved_records += missed
            past = [*(record for record in past if record.ts_s < kept[0].ts_s), *kept, *missed]
        self.window, self.week = FundingWindow(self.window.hours), FundingWindow(self.week.hours)
        for record in past:
            self._see(record)

    def _see(self, record: FundingRecord) -> HourFractions:
        fractions = hour_fractions(record)
        self.window.add(fractions)
        self.week.add(fractions)
        self._newest_record_s = record.ts_s
        return fractions

    def judge_record(self, facts: Facts, record: FundingRecord) -> None:
        """Take one new funding record into the averages and decide anew. A record that was judged before, told again
        by a venue that had lost it, counts once."""
        self.set_flags(records=facts.market.funding_count)
        if self._newest_record_s is not None and record.ts_s <= self._newest_record_s:
            return
        fractions = self._see(record)
        self._unsaved_records.append(record)
        held, cost = holding(self.carry_state, stance_of(facts.account.perp_1e9)), self.round_trip()
        self.carry_state, self.decision = decide(held, self.window, cost, self.settings.carry)
        if self.board.tell is not None:
            notional = self.settings.carry_size_1e9 / BASE_PRECISION * float(facts.market.mark)
            horizon_h = self.settings.carry.horizon_h
            self.board.tell.profitability(
                self.decision, cost, notional, horizon_h, fractions.short_receives, facts.market
            )

    # Delta

    def exposure(self) -> Exposure | None:
        """Of the whole account, wallet included: what is shown (R5.1)."""
        facts = self.facts()
        if facts is None:
            return None
        account = facts.account
        return self._exposure(account.spot_1e9 + account.wallet_base_1e9, account)

    def hedge_exposure(self) -> Exposure | None:
        """Of the hedge alone: what automation acts on (R5.1, R5.7)."""
        facts = self.facts()
        if facts is None:
            return None
        account = facts.account
        return self._exposure(self.hedge_spot_1e9(account), account)

    def _exposure(self, spot_1e9: int, account: AccountState) -> Exposure:
        return Exposure(
            spot_1e9, account.perp_1e9, self.spec.step_base_1e9, account.open_bids_1e9, account.open_asks_1e9
        )

    def hedge_spot_1e9(self, account: AccountState) -> int:
        """SOL in the account less what was paid in as such, plus what of it (or of the wallet) the hedge covers."""
        own = self.accountant.paid_in_1e9
        pledged = min(self.flags.pledged_1e9, own + account.wallet_base_1e9)
        return account.spot_1e9 - own + pledged

    def rests_on_spot(self, account: AccountState) -> bool:
        """Whether spot of a hedge is there without its perp, in a size that can be traded."""
        least = max(self.settings.rebalance.min_trade_1e9, self.spec.step_base_1e9)
        return not account.perp_1e9 and abs(self.hedge_spot_1e9(account)) >= least

    def free_wallet_1e9(self, account: AccountState) -> int:
        """SOL in the wallet that no hedge covers."""
        covered = max(0, self.flags.pledged_1e9 - self.accountant.paid_in_1e9)
        return max(0, account.wallet_base_1e9 - covered)

    def free_own_1e9(self) -> int:
        """SOL that was paid in and that no hedge covers."""
        return max(0, self.accountant.paid_in_1e9 - self.flags.pledged_1e9)

    def cooldown_remaining_s(self) -> float:
        last = self.flags.last_rebalance_s
        if last is None:
            return 0.0
        return max(0.0, last + self.settings.rebalance.cooldown_s - self.clock.market_s())

    def rebalance_plan(self, *, manual: bool = False) -> RebalancePlan | None:
        """By hand the whole account is made neutral, by itself only the hedge."""
        exposure = self.exposure() if manual else self.hedge_exposure()
        if exposure is None:
            return None
        cooldown_s = self.cooldown_remaining_s()
        return plan_rebalance(exposure, self.settings.rebalance, cooldown_remaining_s=cooldown_s, manual=manual)

    # State

    def go(self, state: EngineState, reason: str) -> None:
        """Raises CriticalError where the table does not allow it."""
        check_transition(self.state, state)
        self.state, self.state_reason = state, reason
        self.board.emit("state", Level.INFO, f"{state}: {reason}" if reason else str(state))

    def halt(self, reason: str, kind: str = "halted") -> None:
        """HALTED, now and after a restart."""
        self.set_flags(halted=reason)
        self.board.alert("halted", Level.CRITICAL, reason, kind)
        if self.state not in (EngineState.HALTED, EngineState.STOPPED):
            self.go(EngineState.HALTED, reason)

    def books_agree(self, account: AccountState | None = None) -> bool:
        """Whether the books contain what ``account`` (None: as told now) does, no less and no more."""
        account = self.venue.account(self.spec.symbol) if account is None else account
        return account is not None and account.events == self.accountant.books.cursor

    def reduce(self, reason: str) -> None:
        """No new risk, now and after a resume or a restart."""
        self.set_flags(reducing=reason)
        self.board.alert("reducing", Level.ERROR, reason, "reducing")
        if self.state in (EngineState.RUNNING, EngineState.PAUSED):
            self.go(EngineState.REDUCING, reason)

    def go_after_reconciliation(self) -> None:
        """To RUNNING, or back to the state that was kept; to RECOVERING while the connection is lost."""
        flags = self.flags
        if flags.halted:
            self.board.alert("halted", Level.CRITICAL, flags.halted)
            if self.state != EngineState.HALTED:
                self.go(EngineState.HALTED, flags.halted)
        elif self.link_lost:
            self.go(EngineState.RECOVERING, self.link_lost)
        elif flags.reducing:
            self.board.alert("reducing", Level.ERROR, flags.reducing)
            self.go(EngineState.REDUCING, flags.reducing)
        elif flags.paused:
            self.go(EngineState.PAUSED, "paused before the restart")
        else:
            self.go(EngineState.RUNNING, "")

    def set_flags(self, **changes: object) -> None:
        self.flags = msgspec.structs.replace(self.flags, **changes)
        self._unsaved_state = True

    # Keeping

    def keep_check(self, check: HedgeCheck | None) -> None:
        """Remember the trade that is under way; None once its legs and what follows from it have been seen to."""
        self.check = check
        self._unsaved_state = True

    async def load(self) -> None:
        """Take over what was kept. A kill that came before stands."""
        state = await self.store.load_state()
        halted = self.flags.halted
        if raw := state.get("flags"):
            self.flags = msgspec.json.decode(raw, type=Flags)
        if halted:
            self.set_flags(halted=halted, automation=False)
        self._loaded = True
        if raw := state.get("carry"):
            memory = msgspec.json.decode(raw, type=CarryMemory)
            self.carry_state, self.decision = memory.state, memory.decision
        if raw := state.get("books"):
            self.accountant.load(raw)
        if raw := state.get(HEDGE_CHECK):
            check = msgspec.json.decode(raw, type=HedgeCheck)
            # 0.1.0 kept the check of an odd leg that it had given up and told; the operator decides.
            given_up = check.fills is None and self.flags.halted
            self.check = None if given_up else self._with_known_fills(check)
        self._kept_records = await self.store.funding(self.spec.symbol, self.records_looked_back)
        for record in self._kept_records:
            self._see(record)

    def _with_known_fills(self, check: HedgeCheck) -> HedgeCheck:
        """Of 0.1.0 the balances before the trade are kept: what the books hold now and not then was filled."""
        if check.fills is not None or check.spot_1e9 is None or check.perp_1e9 is None:
            return check
        fills = {}
        for instrument, before_1e9 in ((self.spec.base_symbol, check.spot_1e9), (self.spec.symbol, check.perp_1e9)):
            held = self.accountant.books.holdings.get(instrument, Holding())
            fills[instrument] = round(held.base * BASE_PRECISION) - before_1e9
        return HedgeCheck(check.operation, fills, counted=self.accountant.books.cursor)

    async def save(self) -> None:
        """Make books, memory and events durable. A disk that refuses is reported and tried again later."""
        if not self._loaded:
            return  # what is kept is not known yet, and must not be written over
        async with self._saving:
            accountant, board = self.accountant, self.board
            entries, events = accountant.pending, board.unsaved
            if not entries and not events and not self._unsaved_state:
                return
            records = self._unsaved_records
            accountant.pending, board.unsaved, self._unsaved_records, self._unsaved_state = [], [], [], False
            try:
                # With the state that says they were judged: a crash neither loses a record nor counts it twice.
                await self.store.append_ledger(entries, self._state(), {self.spec.symbol: records})
                entries, records = [], []
                if events:
                    await self.store.append_events(events)
            except TransientError as error:
                accountant.pending = entries + accountant.pending
                board.unsaved = events + board.unsaved
                self._unsaved_records = records + self._unsaved_records
                self._unsaved_state = True
                board.alert("store", Level.ERROR, f"cannot save: {error.sentence}")
                return
            self.saved_operator_s = self.clock.operator_s()
            board.clear("store")

    def _state(self) -> dict[str, bytes]:
        state = {
            "flags": encode(self.flags),
            "carry": encode(CarryMemory(self.carry_state, self.decision)),
            HEDGE_CHECK: b"" if self.check is None else encode(self.check),
        }
        if self.accountant.opened:
            state["books"] = self.accountant.image()
        return state
