"""The engine: facts come up, commands come down, and they meet here.

One instance trades one market of one account. `step()` is called after every change of facts; `submit()` by whoever
wants something: a key, an API client, or the engine itself. There is no second way to trade.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from deltatui.domain.carry import Stance
from deltatui.domain.command import AnyCommand, CommandResult, Direction, Leave, Rebalance, ResultStatus, Settle, Take
from deltatui.domain.errors import ValidationError
from deltatui.domain.event import Event, Level
from deltatui.domain.health import HealthLevel, crossed, health_level
from deltatui.domain.market import FundingRecord
from deltatui.domain.snapshot import PlanView
from deltatui.domain.units import BASE_PRECISION
from deltatui.engine import losses
from deltatui.engine.accounting import GAP_TOLERANCE
from deltatui.engine.core import BEHIND, Core
from deltatui.engine.desk import Desk, settle_due
from deltatui.engine.memory import Facts, PlannedCommand
from deltatui.engine.planner import Planner, stance_of
from deltatui.engine.powers import may_automate
from deltatui.engine.preview import preview
from deltatui.engine.recovery import Recovery
from deltatui.engine.settings import EngineSettings
from deltatui.engine.states import EngineState
from deltatui.engine.trader import Trader
from deltatui.ports import AccountState, Clock, Link, Log, Sender, Signed, Store, Venue

_UNEVEN = "uneven"


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
        self.core = Core(settings, clock, venue, store, log, on_change, on_event, speed)
        planner = Planner(settings.slippage, venue.costs)
        self._trader = Trader(self.core, sender, planner)
        self.desk = Desk(self.core, planner, self._trader)
        self.recovery = None if link is None else Recovery(self.core, self.desk, link)
        self._health = HealthLevel.OK
        self._last_loop_s = float("-inf")

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
        await self.core.save()

    async def submit(self, command: AnyCommand) -> CommandResult:
        return await self.desk.submit(command)

    def preview(self, command: PlannedCommand) -> PlanView:
        """What ``command`` would do now. Changes, records and counts nothing.

        Raises ValidationError, with the code and the sentence that the command itself would get, where there is no
        such trade now. A trade that a gate refuses is shown with its verdicts.
        """
        return preview(self.core, self.desk, command)

    def prime_funding(self, records: Iterable[FundingRecord]) -> None:
        self.core.prime_funding(records)

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

    async def step(self) -> None:
        """Take in what the venue knows now. Call after every change of prices, records or account."""
        core = self.core
        facts = core.facts()
        if facts is None:
            return
        if core.accountant.books.cursor != facts.account.events or not core.accountant.opened:
            await core.take_in(facts)
        market = facts.market
        record = market.funding
        new_record = record is not None and market.funding_count != core.flags.records
        if new_record and record is not None:
            core.judge_record(facts, record)
        self._watch(facts)
        now_s = core.clock.operator_s()
        if new_record or now_s - self._last_loop_s >= core.settings.loop_interval_s:
            self._last_loop_s = now_s
            await self._decide(facts, new_record)
        if core.settings.save_every_step or self._save_due():
            await core.save()
        core.board.changed()

    async def tick(self) -> None:
        """Operator time has passed: expire a confirmation, look after unresolved operations and late reports, save."""
        core = self.core
        self.desk.questions.expire()
        await self.desk.resolve_open()
        if BEHIND in core.board.alerts and not core.behind:
            await core.catch_up()
        if self._save_due():
            await core.save()

    def _save_due(self) -> bool:
        core = self.core
        return core.clock.operator_s() - core.saved_operator_s >= core.settings.save_interval_s

    async def _decide(self, facts: Facts, new_record: bool) -> None:
        """What automation does once a record and once an interval. Where a loss limit stands or a question waits, it
        goes on leaving and reducing (R6.10, R6.11)."""
        core = self.core
        if not self._acts():
            return
        judged = new_record or core.settings.hold is not None
        if judged and await self._act_on_stance(facts):
            facts = core.known_facts()
        if self._acts() and facts.account.perp_1e9:
            await self._act_on_delta()
        elif self._acts() and new_record and settle_due(facts.account.unsettled, core.settings.settle_above_quote):
            # What a close could not settle (R4.6).
            await self._try("settle", Settle(market=core.spec.symbol, source="engine"))

    def _acts(self) -> bool:
        """Whether automation does anything at all. A loss limit that is met during a pause makes the engine REDUCING,
        and is no resume."""
        core = self.core
        on = core.flags.automation and may_automate(core.settings) and not core.flags.paused
        return on and core.state in (EngineState.RUNNING, EngineState.REDUCING)

    @property
    def _only_reduces(self) -> bool:
        return self.core.state != EngineState.RUNNING or self.core.pending is not None

    # Watching

    def _watch(self, facts: Facts) -> None:
        core, account = self.core, facts.account
        self._compare_books(facts)
        losses.watch(core, account)
        self._watch_hedge(account)
        if account.perp_1e9 or account.spot_1e9 or account.others:
            self._watch_health(account.as_of_s)
        elif self._health is not HealthLevel.OK:
            self._set_health(HealthLevel.OK, "")

    def _compare_books(self, facts: Facts) -> None:
        """The two independent paths to the equity (R10.4)."""
        core, account = self.core, facts.account
        text = ""
        if core.accountant.books.cursor == account.events:
            try:
                gap = core.accountant.sync(facts.market, account, core.clock.operator_s()).gap
            except ValidationError as error:
                text = f"ledger and venue cannot be compared: {error.sentence}"
            else:
                if abs(gap) >= GAP_TOLERANCE:
                    text = f"ledger and venue differ by {gap:+.6f} {core.venue.quote_symbol}"
        elif core.accountant.books.cursor > account.events:
            known = core.accountant.books.cursor
            text = f"the ledger knows {known} events of the venue, which tells of {account.events}"
        else:
            return
        if text:
            core.board.alert("ledger", Level.ERROR, text)
        else:
            core.board.clear("ledger")

    def _watch_hedge(self, account: AccountState) -> None:
        """An uneven hedge that nobody corrects is told as long as it stands."""
        core, hedge = self.core, self.core.hedge_exposure()
        under_way = core.check is not None or core.unresolved or core.behind
        if hedge is None or under_way or not core.books_agree(account):
            return
        plan = core.rebalance_plan()
        uneven = plan is not None and plan.code in ("correct", "cooldown")
        corrects = self._acts() and (hedge.perp_1e9 or core.flags.held_by != "operator")
        if not uneven or corrects:
            core.board.clear(_UNEVEN)
            return
        spot, perp = hedge.spot_1e9 / BASE_PRECISION, hedge.perp_1e9 / BASE_PRECISION
        text = f"the hedge is uneven, spot {spot:+g}, perp {perp:+g}, and automation does not correct it"
        if _UNEVEN in core.board.alerts:
            core.board.restate(_UNEVEN, Level.WARNING, text)  # interest moves the figures every hour
        else:
            core.board.alert(_UNEVEN, Level.WARNING, text)

    def _watch_health(self, market_s: float) -> None:
        core = self.core
        try:
            value = core.venue.health()
        except ValidationError as error:
            core.board.alert("margin", Level.ERROR, f"the account cannot be judged: {error.sentence}")
            return
        if value is None:
            return
        level = health_level(value, core.settings.health_warning, core.settings.health_critical)
        text = f"health {value}"
        if level is HealthLevel.CRITICAL:
            standing = core.standing()
            liq = None if standing is None else standing.liq_price
            text += ", no liquidation price" if liq is None else f", liquidation at {liq:,.4f}"
        self._set_health(level, text)
        if core.board.tell is not None and (standing := core.standing()) is not None:
            core.board.tell.account(standing, market_s)

    def _set_health(self, level: HealthLevel, text: str) -> None:
        """R2.4: an alert once per crossing into a worse level, cleared when all is well again."""
        board = self.core.board
        if crossed(self._health, level):
            severity = Level.CRITICAL if level is HealthLevel.CRITICAL else Level.WARNING
            board.alerts.pop("health", None)  # said anew, even where it reads as it did the last time
            board.alert("health", severity, text, "health_alert")
        elif level is HealthLevel.OK and self._health is not HealthLevel.OK:
            board.clear("health")
        elif level is not HealthLevel.OK:
            # It stands: its figures are those of now, and nobody is called again.
            board.restate("health", Level.CRITICAL if level is HealthLevel.CRITICAL else Level.WARNING, text)
        self._health = level

    # Acting by itself

    async def _act_on_stance(self, facts: Facts) -> bool:
        """Take or leave what the decision asks for; whether something was tried."""
        core, held = self.core, stance_of(facts.account.perp_1e9)
        target = core.settings.hold
        if target is None and core.decision is not None:
            target = core.decision.target
        if target is None or target == held or core.flags.held_by == "operator":
            return False
        market = core.spec.symbol
        # Spot of a hedge whose perp is gone is closed before anything is built on it.
        spot_alone = held == Stance.FLAT and core.rests_on_spot(facts.account)
        if held != Stance.FLAT or spot_alone:
            await self._try("leave", Leave(market=market, source="engine"))
            return True
        if self._only_reduces:
            return False
        way = Direction.CARRY if target == Stance.CARRY else Direction.REVERSE
        size = core.settings.carry_size_1e9
        await self._try("take", Take(market=market, base_1e9=size, direction=way, source="engine"))
        return True

    async def _act_on_delta(self) -> None:
        core = self.core
        plan, exposure = core.rebalance_plan(), core.hedge_exposure()
        if plan is None or exposure is None:
            return
        if core.board.tell is not None:
            core.board.tell.rebalancer(plan, exposure, core.clock.market_s())
        if plan.code == "correct" and (plan.reduce_only or not self._only_reduces):
            await self._try("rebalance", Rebalance(market=core.spec.symbol, source="engine"))

    async def _try(self, what: str, command: Take | Leave | Rebalance | Settle) -> None:
        """One event for one reason, however often the engine tries again."""
        result = await self.submit(command)
        text = ""
        if result.status == ResultStatus.REJECTED:
            text = f"automatic {what} refused: {result.message}"
        elif result.status == ResultStatus.PARTLY_DONE:
            text = f"automatic {result.message}"
        self.core.board.emit_once(what, f"{what}_refused", Level.WARNING, text)
