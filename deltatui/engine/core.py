"""What the rooms of the engine share: the account's state and memory, the books, the hedges, and how they are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

import msgspec

from deltatui.domain.errors import CriticalError, TransientError, ValidationError
from deltatui.domain.event import Event, Level
from deltatui.domain.ledger import FlowKind
from deltatui.domain.margin import MarginBook
from deltatui.domain.market import MarketSpec
from deltatui.domain.operation import OpenOperation
from deltatui.domain.snapshot import OperationView
from deltatui.engine.accounting import Accountant
from deltatui.engine.board import Board
from deltatui.engine.hedge import Hedge
from deltatui.engine.kept import Kept, check_name, encode, hedge_name, read_kept
from deltatui.engine.memory import ACCOUNT, AccountMemory, HedgeCheck, Pending
from deltatui.engine.settings import EngineSettings
from deltatui.engine.standing import Standing, standing
from deltatui.engine.states import EngineState, check_transition
from deltatui.engine.world import World
from deltatui.ports import AccountReport, Clock, Log, Mark, Store, Venue

BEHIND = "behind"
"""The alert that stands while the account has not been told since an operation ended."""


class Core:
    """Has no will of its own."""

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
        self.settings = settings
        self.clock = clock
        self.venue = venue
        self.store = store
        specs = _carried(settings, venue)
        self.board = Board(clock, log, on_change, on_event)
        self.world = World(venue, specs)
        self.accountant = Accountant(venue.account_id, specs)
        self.state = EngineState.STARTING
        self.state_reason = "starting"
        self.memory = AccountMemory(automation=settings.automation, speed=speed)
        self.pending: dict[str, Pending] = {}
        """What waits for the operator, by market; :data:`ACCOUNT` for what concerns no hedge alone."""
        self.unresolved: dict[str, OpenOperation] = {}
        """Operations whose outcome is not known, by id."""
        self.operations: dict[str, OperationView] = {}
        """The operation of each market (or of the account) that runs now, or was the last to end."""
        self.link_lost = ""
        """Why nothing can be reached, until recovery is over."""
        self.hedges = {
            spec.symbol: Hedge(
                spec,
                settings,
                clock,
                self.world,
                self.accountant,
                self.board,
                venue.costs,
                self.pending.get,
                self._touch,
            )
            for spec in specs
        }
        self._landed_at: Mark | None = None
        """Where the newest operation landed: an account told before shows nothing of it."""
        self._standing: tuple[MarginBook, Standing] | None = None
        self._saving = asyncio.Lock()
        self._unsaved = False
        self._outdated: Mapping[str, bytes] = {}
        self._loaded = False
        self.saved_operator_s = float("-inf")

    # Hedges

    def hedge(self, symbol: str) -> Hedge:
        """Raises ValidationError for a market that is not listed, or that this engine does not carry."""
        hedge = self.hedges.get(symbol)
        if hedge is not None:
            return hedge
        listed, carried = self.venue.markets(), ", ".join(self.hedges)
        if symbol not in listed:
            raise ValidationError("UNKNOWN_MARKET", f"there is no market {symbol}; listed: {', '.join(listed)}")
        raise ValidationError("OTHER_MARKET", f"this engine trades {carried}, not {symbol}")

    def hedge_of_asset(self, asset: str) -> Hedge | None:
        """The hedge whose spot leg ``asset`` is; None for the quote asset."""
        return next((hedge for hedge in self.hedges.values() if hedge.spec.base_symbol == asset), None)

    def checks(self) -> Iterable[Hedge]:
        """Hedges with a trade whose legs have not been seen to."""
        return (hedge for hedge in self.hedges.values() if hedge.check is not None)

    def unresolved_of(self, market: str) -> list[OpenOperation]:
        return [each for each in self.unresolved.values() if self.place_of(each.operation.market) == market]

    def place_of(self, market: str) -> str:
        """The hedge that an operation belongs to, or :data:`ACCOUNT`."""
        return market if market in self.hedges else ACCOUNT

    # The account

    @property
    def behind(self) -> bool:
        """Whether the account is told as it was before the newest operation landed, or before it was told last."""
        account = self.world.account()
        if not self.world.is_current(account):
            return True
        return self._landed_at is not None and (account is None or not account.mark.covers(self._landed_at))

    async def catch_up(self, landed_at: Mark | None = None) -> None:
        """Wait until the account shows what has landed, and book it. For every trade, before and after it.

        Raises TransientError where the venue does not tell the account in time.
        """
        await self.wait_until_told(landed_at)
        self.board.clear(BEHIND)
        account = self.world.account()
        if account is not None:
            await self.take_in(account)

    async def wait_until_told(self, landed_at: Mark | None = None) -> None:
        """The first half of :meth:`catch_up`: changes nothing, so it needs no right to trade."""
        if landed_at is not None and (self._landed_at is None or landed_at.covers(self._landed_at)):
            self._landed_at = landed_at
        if self.behind:
            account, at_least = self.world.account(), self._landed_at
            if account is not None and (at_least is None or account.mark.covers(at_least)):
                at_least = account.mark
            await self.venue.report(at_least)

    def known_book(self) -> MarginBook:
        book = self.venue.margin_book()
        if book is None:
            raise ValidationError("NO_ACCOUNT", "the venue has not told the account's state yet")
        return book

    def stand(self, book: MarginBook) -> Standing:
        """Raises ValidationError where the book cannot be judged."""
        return standing(book, [hedge.spec for hedge in self.hedges.values()])

    def standing(self) -> Standing | None:
        """The account now; None where it cannot be judged."""
        book = self.venue.margin_book()
        if book is None:
            return None
        # The same book, not an equal one: what the venue has not replaced is what it was.
        if self._standing is not None and self._standing[0] is book:
            return self._standing[1]
        try:
            now = self.stand(book)
        except ValidationError as error:
            self.board.alert("margin", Level.ERROR, f"the account cannot be judged: {error.sentence}")
            return None
        self.board.clear("margin")
        self._standing = book, now
        return now

    # Books

    async def take_in(self, account: AccountReport) -> None:
        """Book what happened to the account since the last time."""
        accountant = self.accountant
        if not accountant.opened:
            if accountant.open(self.world, account):
                self.set_memory(liquidations=account.liquidations, opened_s=account.as_of_s)
            return
        while accountant.books.cursor < account.events:
            events = await self.venue.events_after(accountant.books.cursor)
            if not events:
                known, counted = accountant.books.cursor, account.events
                raise CriticalError("EVENT_GAP", f"the venue counts {counted} events and has none after {known}")
            for hedge in self.hedges.values():
                if hedge.check is not None:
                    hedge.check = hedge.check.with_fills(events)
            entries = accountant.ingest(events)
            self._unsaved = True
            if self.board.tell is not None:
                for entry in entries:
                    if entry.kind == FlowKind.FUNDING and entry.instrument in self.hedges:
                        facts = self.hedges[entry.instrument].facts()
                        if facts is not None:
                            self.board.tell.funding(entry, facts)
        for hedge in self.hedges.values():
            # A short that was closed or reduced, by whomever, covers that much less.
            if hedge.memory.pledged_1e9 and accountant.books.cursor == account.events:
                perp = account.perps.get(hedge.symbol)
                covered_1e9 = 0 if perp is None else max(0, -perp.base_1e9)
                if hedge.memory.pledged_1e9 > covered_1e9:
                    hedge.remember(pledged_1e9=covered_1e9)
        if account.liquidations > self.memory.liquidations:
            self.set_memory(liquidations=account.liquidations)
            self.halt("the account was liquidated by the venue; see what is left before you resume", kind="liquidated")

    def books_agree(self, account: AccountReport | None = None) -> bool:
        """Whether the books contain what ``account`` (None: as told now) does, no less and no more."""
        account = self.world.account() if account is None else account
        return account is not None and account.events == self.accountant.books.cursor

    # State

    def go(self, state: EngineState, reason: str) -> None:
        """Raises CriticalError where the table does not allow it."""
        check_transition(self.state, state)
        self.state, self.state_reason = state, reason
        self.board.emit("state", Level.INFO, f"{state}: {reason}" if reason else str(state))

    def halt(self, reason: str, kind: str = "halted") -> None:
        """HALTED, now and after a restart."""
        self.set_memory(halted=reason)
        self.board.alert("halted", Level.CRITICAL, reason, kind)
        if self.state not in (EngineState.HALTED, EngineState.STOPPED):
            self.go(EngineState.HALTED, reason)

    def reduce(self, reason: str) -> None:
        """No new risk, now and after a resume or a restart."""
        self.set_memory(reducing=reason)
        self.board.alert("reducing", Level.ERROR, reason, "reducing")
        if self.state in (EngineState.RUNNING, EngineState.PAUSED):
            self.go(EngineState.REDUCING, reason)

    def go_after_reconciliation(self) -> None:
        """To RUNNING, or back to the state that was kept; to RECOVERING while the connection is lost."""
        memory = self.memory
        if memory.halted:
            self.board.alert("halted", Level.CRITICAL, memory.halted)
            if self.state != EngineState.HALTED:
                self.go(EngineState.HALTED, memory.halted)
        elif self.link_lost:
            self.go(EngineState.RECOVERING, self.link_lost)
        elif memory.reducing:
            self.board.alert("reducing", Level.ERROR, memory.reducing)
            self.go(EngineState.REDUCING, memory.reducing)
        elif memory.paused:
            self.go(EngineState.PAUSED, "paused before the restart")
        else:
            self.go(EngineState.RUNNING, "")

    # Keeping

    def set_memory(self, **changes: object) -> None:
        self.memory = msgspec.structs.replace(self.memory, **changes)
        self._unsaved = True

    def _touch(self) -> None:
        self._unsaved = True

    async def load(self) -> None:
        """Take over what was kept. A kill that came before stands.

        Raises CriticalError for what this version cannot read.
        """
        kept = read_kept(await self.store.load_state())
        halted = self.memory.halted
        if kept.account is not None:
            self.memory = kept.account
        if halted:
            self.set_memory(halted=halted, automation=False)
        self._loaded, self._outdated = True, kept.outdated
        if kept.books is not None:
            self.accountant.load(kept.books)
        for hedge in self.hedges.values():
            await self._load_hedge(hedge, kept)

    async def _load_hedge(self, hedge: Hedge, kept: Kept) -> None:
        memory, check = kept.hedge(hedge.symbol)
        if check is not None:
            # 0.1.0 kept the check of an odd leg that it had given up and told; the operator decides.
            given_up = check.fills is None and self.memory.halted
            check = None if given_up else await self._counted(self._with_known_fills(hedge, check))
        records = await self.store.funding(hedge.symbol, hedge.records_looked_back)
        hedge.load(memory, check, records)
        if records:
            self.world.knew(hedge.symbol, records[-1])

    async def _counted(self, check: HedgeCheck) -> HedgeCheck:
        """With the fills that were booked while the market was not carried, and nobody counted them."""
        cursor = self.accountant.books.cursor
        if check.counted >= cursor:
            return check
        events = await self.venue.events_after(check.counted)
        return check.with_fills(event for event in events if event.sequence <= cursor)

    def _with_known_fills(self, hedge: Hedge, check: HedgeCheck) -> HedgeCheck:
        """Of 0.1.0 the balances before the trade are kept: what the books hold now and not then was filled."""
        if check.fills is not None or check.spot_1e9 is None or check.perp_1e9 is None:
            return check
        held = self.accountant.held_1e9
        fills = {
            hedge.spec.base_symbol: held(hedge.spec.base_symbol) - check.spot_1e9,
            hedge.symbol: held(hedge.symbol) - check.perp_1e9,
        }
        return HedgeCheck(check.operation, fills, counted=self.accountant.books.cursor)

    async def save(self) -> None:
        """Make books, memory and events durable. A disk that refuses is reported and tried again later."""
        if not self._loaded:
            return  # what is kept is not known yet, and must not be written over
        async with self._saving:
            accountant, board = self.accountant, self.board
            entries, ids, events = accountant.pending, accountant.pending_ids, board.unsaved
            if not entries and not ids and not events and not self._unsaved:
                return
            records = {symbol: hedge.unsaved_records for symbol, hedge in self.hedges.items()}
            accountant.pending, accountant.pending_ids, board.unsaved, self._unsaved = [], [], [], False
            for hedge in self.hedges.values():
                hedge.unsaved_records = []
            try:
                # With the state that says they were judged: a crash neither loses a record nor counts it twice.
                await self.store.append_ledger(entries, self._state(), records, ids)
                entries, ids, records, self._outdated = [], [], {}, {}
                if events:
                    await self.store.append_events(events)
            except BaseException as error:
                # What is on the disk all the same is passed over there; what is not must not be missing for ever.
                accountant.pending = entries + accountant.pending
                accountant.pending_ids = ids + accountant.pending_ids
                board.unsaved = events + board.unsaved
                for symbol, unsaved in records.items():
                    self.hedges[symbol].unsaved_records = unsaved + self.hedges[symbol].unsaved_records
                self._unsaved = True
                if not isinstance(error, TransientError):
                    raise
                board.alert("store", Level.ERROR, f"cannot save: {error.sentence}")
                return
            self.saved_operator_s = self.clock.operator_s()
            board.clear("store")

    def _state(self) -> dict[str, bytes]:
        state = {**self._outdated, "account": encode(self.memory)}
        for symbol, hedge in self.hedges.items():
            state[hedge_name(symbol)] = encode(hedge.memory)
            state[check_name(symbol)] = b"" if hedge.check is None else encode(hedge.check)
        if self.accountant.opened:
            state["books"] = self.accountant.image()
        return state


def _carried(settings: EngineSettings, venue: Venue) -> list[MarketSpec]:
    """What the engine carries, as the venue lists it. Raises ValidationError where it does not, and where two hedges
    would share a spot asset: nobody could say whose it is."""
    specs: list[MarketSpec] = []
    listed = venue.markets()
    for symbol in settings.markets:
        spec = listed.get(symbol)
        if spec is None:
            raise ValidationError(
                "UNKNOWN_MARKET", f"{venue.name} does not list {symbol}; it lists {', '.join(listed)}"
            )
        twin = next((each for each in specs if each.base_symbol == spec.base_symbol), None)
        if twin is not None:
            raise ValidationError(
                "SHARED_SPOT",
                f"{twin.symbol} and {symbol} would both be hedged with {spec.base_symbol}; carry one of them",
            )
        specs.append(spec)
    return specs
