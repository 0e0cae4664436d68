"""What the engine does by itself: leave, correct, settle, and spread capital over the markets that pay (R4.10, R5).

Each hedge is seen to in a task of its own, and entries in one for the account, so that facts go on coming in while an
operation waits for its outcome. Whoever can hold time back (a tape, a backtest) waits for :meth:`Automation.rest`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from deltatui.domain.allocation import Prospect, Rivalry, ranked, worth_leaving
from deltatui.domain.carry import Stance
from deltatui.domain.command import CommandResult, Direction, Leave, Rebalance, ResultStatus, Settle, Take
from deltatui.domain.errors import ValidationError
from deltatui.domain.event import Level
from deltatui.domain.gates import CAPITAL_CODES, blocking
from deltatui.domain.principal import ENGINE
from deltatui.engine.core import Core
from deltatui.engine.desk import Desk, settle_due
from deltatui.engine.hedge import Hedge
from deltatui.engine.memory import ACCOUNT
from deltatui.engine.planner import stance_of
from deltatui.engine.powers import may_automate
from deltatui.engine.states import EngineState
from deltatui.engine.world import Facts


class Automation:
    """``look`` is called for what may have to be acted on; it never waits."""

    def __init__(self, core: Core, desk: Desk) -> None:
        self._core = core
        self._desk = desk
        self._horizon_h = max(hedge.settings.carry.horizon_h for hedge in core.hedges.values())
        """One for all: what is compared has to earn its costs in the same time."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again: dict[str, bool] = {}
        """Tasks that have to look once more when they are done, and whether at a new record."""
        self._recorded: set[str] = set()
        """Markets with a record that no entry was decided on yet."""
        self._asked: set[str] = set()
        """Markets whose entry waited for the operator since their last record: nobody is asked twice about one."""
        self._failed: BaseException | None = None

    def look(self, hedge: Hedge, facts: Facts, *, new_record: bool) -> None:
        """See to ``hedge``, of which ``facts`` are known: once a record and once an interval. Where a loss limit stands
        or a question waits, only to leave and to reduce (R6.10, R6.11)."""
        if not self.acts:
            return
        if new_record:
            self._recorded.add(hedge.symbol)
            self._asked.discard(hedge.symbol)
        if self._has_work(hedge, facts, new_record=new_record):
            self._start(hedge.symbol, new_record)
        if not facts.perp.base_1e9 and self._judged(new_record) and self._wants_entry(hedge):
            self._start(ACCOUNT, new_record)

    @property
    def acts(self) -> bool:
        """Whether automation does anything at all. A loss limit that is met during a pause makes the engine REDUCING,
        and is no resume."""
        core = self._core
        on = core.memory.automation and may_automate(core.settings) and not core.memory.paused
        return on and core.state in (EngineState.RUNNING, EngineState.REDUCING)

    @property
    def resting(self) -> bool:
        return not self._tasks

    async def rest(self) -> None:
        """Return when nothing is done any more. Raises what a task died of."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())
        self.raise_failed()

    def raise_failed(self) -> None:
        """For the supervisor: a task that died of something unforeseen."""
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    async def end(self) -> None:
        """Return when nothing is done any more, however it ended. For an engine that accepts nothing any more."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    # Tasks

    def _start(self, key: str, new_record: bool) -> None:
        if key in self._tasks:
            self._again[key] = new_record or self._again.get(key, False)
            return
        task = asyncio.create_task(self._run(key, new_record), name=f"automation {key or 'entries'}")
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._ended(key, done))

    async def _run(self, key: str, new_record: bool) -> None:
        try:
            while True:
                await self._work(key, new_record)
                if self._core.settings.save_every_step:
                    await self._core.save()
                again = self._again.pop(key, None)
                if again is None:
                    return
                new_record = again
        finally:
            # Now, not when the loop hears of it: what is seen in between needs a task of its own.
            del self._tasks[key]
            self._again.pop(key, None)

    def _work(self, key: str, new_record: bool) -> Coroutine[None, None, None]:
        return self._enter() if key == ACCOUNT else self._see_to(self._core.hedges[key], new_record=new_record)

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]  # cancelled before it began
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed = error

    # One hedge

    def _judged(self, new_record: bool) -> bool:
        """Whether the target is looked at: a decision once a record, a stance that is held by order always."""
        return new_record or self._core.settings.hold is not None

    def _has_work(self, hedge: Hedge, facts: Facts, *, new_record: bool) -> bool:
        if self._leaves(hedge, facts, new_record=new_record):
            return True
        if facts.perp.base_1e9:
            return self._corrects(hedge, facts) is not None
        return new_record and settle_due(facts.perp.unsettled, self._core.settings.settle_above_quote)

    async def _see_to(self, hedge: Hedge, *, new_record: bool) -> None:
        if self.acts and self._leaves(hedge, hedge.known_facts(), new_record=new_record):
            await self._try(hedge, "leave", Leave(market=hedge.symbol))
        facts = hedge.known_facts()
        if self.acts and facts.perp.base_1e9:
            await self._correct(hedge)
        elif self.acts and new_record and settle_due(facts.perp.unsettled, self._core.settings.settle_above_quote):
            # What a close could not settle (R4.6).
            await self._try(hedge, "settle", Settle(market=hedge.symbol))

    def _leaves(self, hedge: Hedge, facts: Facts, *, new_record: bool) -> bool:
        if hedge.memory.held_by == "operator":
            return False
        held, target = stance_of(facts.perp.base_1e9), hedge.target
        if facts.market.ended:
            # There will be no better price, no funding, and no record to wait for.
            return held != Stance.FLAT or hedge.rests_on_spot(facts)
        if not self._judged(new_record) or target is None or target == held:
            return False
        # Spot of a hedge whose perp is gone is closed before anything is built on it.
        return held != Stance.FLAT or hedge.rests_on_spot(facts)

    def _corrects(self, hedge: Hedge, facts: Facts) -> Rebalance | None:
        """The correction that the hedge needs now; None where it needs none, or may have none."""
        core, (exposure, plan) = self._core, hedge.correction(facts)
        if core.board.tell is not None:
            core.board.tell.rebalancer(hedge.symbol, plan, exposure, core.clock.market_s())
        corrects = plan.code == "correct" and (plan.reduce_only or self._may_add(hedge))
        return Rebalance(market=hedge.symbol) if corrects else None

    async def _correct(self, hedge: Hedge) -> None:
        command = self._corrects(hedge, hedge.known_facts())
        if command is not None:
            await self._try(hedge, "rebalance", command)

    def _may_add(self, hedge: Hedge) -> bool:
        return self._core.state == EngineState.RUNNING and hedge.pending is None

    # Entries

    def _wants_entry(self, hedge: Hedge) -> bool:
        facts, target = hedge.facts(), hedge.target
        if facts is None or target in (None, Stance.FLAT) or hedge.memory.held_by == "operator":
            return False
        flat = not facts.perp.base_1e9 and not hedge.rests_on_spot(facts)
        return flat and not facts.market.ended and self._may_add(hedge)

    async def _enter(self) -> None:
        """Take what pays, the best first; where capital stands in the best one's way, leave a worse one for it."""
        recorded, self._recorded = self._recorded, set()
        wanted = [
            hedge
            for hedge in self._core.hedges.values()
            if self._wants_entry(hedge) and hedge.symbol not in self._asked
        ]
        prospects = [
            found
            for hedge in wanted
            if (found := self._prospect(hedge)) is not None and not self._is_too_large(hedge, found)
        ]
        for place, prospect in enumerate(ranked(prospects, self._horizon_h)):
            hedge = self._core.hedges[prospect.market]
            if not (self.acts and self._wants_entry(hedge)):
                continue
            refused = await self._take(hedge, prospect)
            if refused and place == 0 and hedge.symbol in recorded:
                worst = self._in_the_way(hedge, prospect)
                if worst is not None and await self._leave_for(worst, hedge):
                    await self._take(hedge, prospect)
            if hedge.held != Stance.FLAT:
                await self._correct(hedge)

    def _prospect(self, hedge: Hedge) -> Prospect | None:
        """What entering the hedge's target, or holding what is held, is expected to bring; None where nobody can say. A
        stance that is held by order is not judged: it is expected to bring nothing."""
        notional, decision = hedge.notional(), hedge.memory.decision
        if notional is None:
            return None
        stance = hedge.held if hedge.held != Stance.FLAT else hedge.target
        judged = None if decision is None else decision.judged
        if self._core.settings.hold is not None:
            net = 0.0
        elif judged is not None and judged.stance == stance:
            net = judged.net
        else:
            return None
        return Prospect(hedge.symbol, notional, net, hedge.round_trip().total)

    async def _take(self, hedge: Hedge, prospect: Prospect) -> bool:
        """Whether it was refused for want of capital: by a limit, or by a gate that more capital would have passed."""
        if why := self._beyond_total(prospect):
            self._refuse(hedge, CommandResult(ResultStatus.REJECTED, "TOTAL_LIMIT", why))
            return True
        result = await self._try(hedge, "take", self._entry(hedge))
        codes = {verdict.code for verdict in blocking(result.verdicts)} or {result.code}
        return result.status == ResultStatus.REJECTED and codes <= CAPITAL_CODES

    def _entry(self, hedge: Hedge) -> Take:
        way = Direction.CARRY if hedge.target == Stance.CARRY else Direction.REVERSE
        return Take(market=hedge.symbol, base_1e9=hedge.size_1e9, direction=way, source="engine")

    def _is_too_large(self, hedge: Hedge, prospect: Prospect) -> bool:
        """Whether its size is beyond what one market may have (R4.10): nothing that is left makes room for it, so it
        is no candidate, and stands in nobody's way."""
        most = self._core.settings.max_market_usd
        if most is None or prospect.notional <= most:
            return False
        why = f"${prospect.notional:,.2f} is more than max_market_usd, {most:,.2f}"
        self._refuse(hedge, CommandResult(ResultStatus.REJECTED, "MARKET_LIMIT", why))
        return True

    def _beyond_total(self, prospect: Prospect, without: Hedge | None = None) -> str:
        """Why the limit on all markets together (R4.10) forbids it, ``without`` being left; empty where it does not."""
        most = self._core.settings.max_total_usd
        if most is None:
            return ""
        held = (self._held_notional(hedge) for hedge in self._core.hedges.values() if hedge is not without)
        total = prospect.notional + sum(held)
        return f"it would be ${total:,.2f} in all, more than max_total_usd, {most:,.2f}" if total > most else ""

    def _held_notional(self, hedge: Hedge) -> float:
        return 0.0 if hedge.held == Stance.FLAT else hedge.notional() or 0.0

    # Switching

    def _in_the_way(self, hedge: Hedge, prospect: Prospect) -> Hedge | None:
        """The worse hedge to leave for ``hedge``, once that was worth it for as many records in a row as a decision
        takes; None until then. Never one of the operator, and none for what would be refused without it too."""
        core = self._core
        worst = worth_leaving(prospect, self._leavable(), self._horizon_h)
        if worst is None or not self._fits_without(core.hedges[worst.market], hedge, prospect):
            core.set_memory(rivalry=Rivalry())
            return None
        before = core.memory.rivalry
        same = (before.candidate, before.held) == (prospect.market, worst.market)
        in_a_row = before.record_s == hedge.previous_record_s
        streak = before.streak + 1 if same and in_a_row else 1
        if streak < hedge.settings.carry.confirm_records:
            core.set_memory(rivalry=Rivalry(prospect.market, worst.market, streak, hedge.newest_record_s))
            return None
        core.set_memory(rivalry=Rivalry())
        return core.hedges[worst.market]

    def _leavable(self) -> list[Prospect]:
        """Hedges that automation holds and of which it knows what they earn."""
        return [
            found
            for each in self._core.hedges.values()
            if each.held != Stance.FLAT and each.memory.held_by != "operator" and each.pending is None
            if (found := self._prospect(each)) is not None
        ]

    def _fits_without(self, worst: Hedge, hedge: Hedge, prospect: Prospect) -> bool:
        if self._beyond_total(prospect, without=worst):
            return False
        try:
            return self._desk.assess.fits_without(worst, self._entry(hedge))
        except ValidationError:
            return False

    async def _leave_for(self, worst: Hedge, hedge: Hedge) -> bool:
        result = await self._try(worst, "leave", Leave(market=worst.symbol))
        if result.status != ResultStatus.DONE:
            return False
        worst.aside(f"left for {hedge.symbol}, which is expected to earn more than both round trips cost")
        return True

    # Trying

    async def _try(self, hedge: Hedge, what: str, command: Take | Leave | Rebalance | Settle) -> CommandResult:
        """One event for one reason, however often the engine tries again."""
        result = await self._desk.submit(command, ENGINE, lambda: self._unwanted(hedge, command))
        text = ""
        if result.status == ResultStatus.REJECTED:
            text = f"automatic {what} refused: {result.message}"
        elif result.status == ResultStatus.PARTLY_DONE:
            text = f"automatic {result.message}"
        elif result.status == ResultStatus.NEEDS_CONFIRMATION and isinstance(command, Take):
            self._asked.add(hedge.symbol)
        self._tell(hedge, what, text)
        return result

    def _refuse(self, hedge: Hedge, result: CommandResult) -> None:
        """An entry that is not even asked for."""
        self._desk.last_results[hedge.symbol] = result
        self._tell(hedge, "take", f"automatic take of {hedge.symbol} refused: {result.message}")

    def _unwanted(self, hedge: Hedge, command: Take | Leave | Rebalance | Settle) -> str:
        """Why it is not to be done any more, now that it is its turn: a hand may have been quicker. Empty: it is."""
        if not self.acts:
            return "automation was stopped before it was its turn"
        if hedge.memory.held_by == "operator" and not isinstance(command, Rebalance):
            return "the operator has taken it over"
        if not isinstance(command, Take):
            return ""
        if not self._wants_entry(hedge):
            return "there is something in its place by now"
        prospect = self._prospect(hedge)
        return "" if prospect is None else self._beyond_total(prospect)

    def _tell(self, hedge: Hedge, what: str, text: str) -> None:
        self._core.board.emit_once(f"{what} {hedge.symbol}", f"{what}_refused", Level.WARNING, text)
