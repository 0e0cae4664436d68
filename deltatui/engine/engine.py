"""The engine: facts come up, commands come down, and they meet here.

One instance carries the hedges of one account. `take()` is called with every fact; `submit()` by whoever wants
something: a key, an API client, or the engine's own automation. There is no second way to trade.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from deltatui.domain.command import AnyCommand, CommandResult
from deltatui.domain.errors import TransientError
from deltatui.domain.event import Event, Level
from deltatui.domain.facts import Fact, Funding, MarketChange
from deltatui.domain.market import FundingRecord
from deltatui.domain.principal import Principal
from deltatui.domain.snapshot import PlanView
from deltatui.engine.automation import Automation
from deltatui.engine.core import BEHIND, Core
from deltatui.engine.desk import Desk
from deltatui.engine.hedge import Hedge
from deltatui.engine.memory import PlannedCommand
from deltatui.engine.planner import Planner
from deltatui.engine.preview import preview
from deltatui.engine.recovery import Recovery
from deltatui.engine.settings import EngineSettings
from deltatui.engine.states import EngineState
from deltatui.engine.trader import Trader
from deltatui.engine.watch import Watch
from deltatui.ports import AccountReport, Clock, Link, Log, Sender, Signed, Store, Venue

_BOOKS = "books"
"""The alert that stands while the venue's events cannot be read."""


class Engine:
    """``log`` None keeps no audit lines (a backtest has no reader). ``core`` is what it knows, for snapshots and
    drivers; ``desk`` answers commands. ``recovery`` is there where a ``link`` can be lost; its ``run()`` is a task."""

    def __init__(
        self,
        settings: EngineSettings,
        clock: Clock,
        venue: Venue,
        sender: Sender,
        store: Store,
        log: Log | None = None,
        on_change: Callable[[], None] = lambda: None,
        on_event: Callable[[Event], None] = lambda event: None,
        speed: int = 0,
        link: Link | None = None,
    ) -> None:
        core = self.core = Core(settings, clock, venue, store, log, on_change, on_event, speed)
        planner = Planner(settings.slippage, venue.costs, core.stand)
        self._trader = Trader(core, sender, planner)
        self.desk = Desk(core, planner, self._trader)
        self.automation = Automation(core, self.desk)
        self.recovery = None if link is None else Recovery(core, self.desk, link)
        self._watch = Watch(core, self.automation)

    async def start(self) -> None:
        """Load what was kept, reconcile the journal with the venue, and begin (or stay halted, paused, reducing)."""
        core = self.core
        await core.load()
        core.go(EngineState.RECONCILING, "comparing the journal with the venue")
        await self._trader.reconcile()
        if self.recovery is not None:
            self.recovery.notice()
        if core.state == EngineState.RECONCILING:
            core.go_after_reconciliation()

    async def stop(self) -> None:
        """End in good order: nothing new is accepted, what runs is finished, everything is saved."""
        if self.core.state != EngineState.STOPPED:
            self.core.go(EngineState.STOPPED, "stopped")
        await self.desk.finish()
        await self.automation.end()
        await self.core.save()

    async def submit(self, command: AnyCommand, principal: Principal) -> CommandResult:
        return await self.desk.submit(command, principal)

    def preview(self, command: PlannedCommand, principal: Principal) -> PlanView:
        """What ``command`` would do now. Changes, records and counts nothing.

        Raises ValidationError, with the code and the sentence that the command itself would get, where there is no
        such trade now. A trade that a gate refuses is shown with its verdicts.
        """
        return preview(self.core, self.desk, command, principal)

    def prime(self, symbol: str, records: Iterable[FundingRecord]) -> None:
        """Past records of a market up to now, oldest first, from a source that has them. Call once, after
        :meth:`start`. What was published while nobody looked is decided on with the next step."""
        hedge = self.core.hedge(symbol)
        past = list(records)
        hedge.prime(past)
        if past:
            self.core.world.knew(symbol, past[-1])
        facts = hedge.facts()
        if facts is not None and hedge.judge(facts):
            self.automation.look(hedge, facts, new_record=True)

    def undone(self, signed: Signed) -> None:
        """A sender's ``on_undone``: the chain took back for good what it had confirmed and the books hold. Halts."""
        core = self.core
        core.halt(
            f"operation {signed.operation_id} had landed and was taken back by a fork; signature {signed.signature}; "
            "compare the account with the ledger before you resume",
            kind="undone",
        )
        # Kept at the next tick, not in a minute.
        core.saved_operator_s = float("-inf")

    def note(self, kind: str, message: str, level: Level = Level.INFO) -> None:
        """An event from outside the engine that belongs into its activity."""
        self.core.board.emit(kind, level, message)

    async def take(self, fact: Fact) -> None:
        """Take one fact in, and see to what follows from it. Nothing that takes a venue's time is waited for."""
        core = self.core
        core.world.take(fact)
        account = core.world.account()
        if account is None:
            self._judge(fact)
            return
        try:
            await self._book(account)
        finally:
            news = self._judge(fact)  # a record is told once, whatever became of the books
        await self._look(account, news)

    def _judge(self, fact: Fact) -> Hedge | None:
        """The hedge about which something has to be decided at once because of ``fact``."""
        hedge = self.core.hedges.get(fact.instrument)
        if hedge is None:
            return None
        if isinstance(fact, Funding):
            hedge.unjudged.append(fact.record)
        facts = hedge.facts()
        if facts is None:
            return None
        judged = hedge.judge(facts)
        ended = isinstance(fact, MarketChange) and bool(fact.ended)
        if ended:
            text = f"{hedge.symbol} has no prices any more: it only reduces, at the last one"
            self.core.board.emit("market_ended", Level.INFO, text)
        return hedge if judged or ended else None

    async def step(self) -> None:
        """Look at what the venue tells of the account now; no fact has come."""
        account = self.core.world.account()
        if account is not None:
            await self._book(account)
            await self._look(account, None)

    async def _book(self, account: AccountReport) -> None:
        core = self.core
        if not core.accountant.opened or core.accountant.books.cursor != account.events:
            try:
                await core.take_in(account)
            except TransientError as error:
                # The next look reads it; what trades does so before.
                core.board.alert(_BOOKS, Level.ERROR, f"what happened to the account is not booked: {error.sentence}")
                return
        core.board.clear(_BOOKS)

    async def _look(self, account: AccountReport, news: Hedge | None) -> None:
        """``news`` is the hedge that something has to be decided about at once, the others have their interval."""
        core = self.core
        self._watch.look(account)
        told = not core.behind and core.books_agree(account)
        now_s = core.clock.operator_s()
        due_s = now_s - core.settings.loop_interval_s
        for hedge in core.hedges.values():
            facts = hedge.facts()
            if facts is None:
                continue
            if told:
                self._watch.look_at(hedge, facts)
            if hedge is news or hedge.looked_s <= due_s:
                hedge.looked_s = now_s
                self.automation.look(hedge, facts, new_record=hedge is news)
        if core.settings.save_every_step or self._save_due():
            await core.save()
        core.board.changed()

    async def tick(self) -> None:
        """Operator time has passed: expire questions, look after unresolved operations and late reports, save."""
        core = self.core
        self.automation.raise_failed()
        self.desk.questions.expire()
        await self.desk.resolve_open()
        if BEHIND in core.board.alerts and not core.behind:
            await core.catch_up()
        if self._save_due():
            await core.save()

    async def notice(self) -> None:
        """Book what has happened to the account while its markets are quiet."""
        if not self.core.books_agree():
            await self.step()

    def _save_due(self) -> bool:
        core = self.core
        return core.clock.operator_s() - core.saved_operator_s >= core.settings.save_interval_s
