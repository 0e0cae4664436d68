"""One market's hedge: its averages, its decision, who holds it, what waits and what is under way. None sees another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from deltatui.domain.carry import CarryState, Decision, Stance, decide, holding
from deltatui.domain.costs import CostModel, RoundTrip, round_trip
from deltatui.domain.delta import Exposure, RebalancePlan, plan_rebalance
from deltatui.domain.funding import FundingWindow, HourFractions, add_to_all, hour_fractions
from deltatui.domain.market import FundingRecord, MarketSpec
from deltatui.domain.units import BASE_PRECISION, base_to_decimal
from deltatui.engine.accounting import Accountant
from deltatui.engine.board import Board
from deltatui.engine.memory import HedgeCheck, HedgeMemory, Pending
from deltatui.engine.planner import closing_part, stance_of
from deltatui.engine.settings import EngineSettings
from deltatui.engine.world import Facts, World
from deltatui.ports import Clock

_WEEK_S = 7 * 86_400


class Hedge:
    """``changed`` is called whenever something has to be kept. ``waiting`` tells the question about this market."""

    def __init__(
        self,
        spec: MarketSpec,
        settings: EngineSettings,
        clock: Clock,
        world: World,
        accountant: Accountant,
        board: Board,
        costs: Callable[[], CostModel],
        waiting: Callable[[str], Pending | None],
        changed: Callable[[], None],
    ) -> None:
        self.symbol = spec.symbol
        self.settings = settings.markets[spec.symbol]
        self.size_1e9 = self.settings.size_1e9
        self.uneven_alert, self.ended_alert = f"uneven {spec.symbol}", f"ended {spec.symbol}"
        self.memory = HedgeMemory()
        self.check: HedgeCheck | None = None
        interval_h = spec.funding_interval_s / 3600
        self.window = FundingWindow(self.settings.carry.average_records, interval_h)
        self.week = FundingWindow(_WEEK_S // spec.funding_interval_s, interval_h)
        self.unsaved_records: list[FundingRecord] = []
        self.looked_s = float("-inf")
        """When automation last saw to it, operator time."""
        self._hold = settings.hold
        self._clock = clock
        self._world = world
        self._accountant = accountant
        self._board = board
        self._costs = costs
        self._waiting = waiting
        self._changed = changed
        self.newest_record_s: int | None = None
        self.previous_record_s: int | None = None
        self._kept_records: Sequence[FundingRecord] = ()
        self.unjudged: list[FundingRecord] = []
        """Records to decide on, oldest first: they wait until prices and account are known."""
        self._correction: tuple[tuple[int, int, int, int, int, float], tuple[Exposure, RebalancePlan]] | None = None
        self._round_trip: tuple[CostModel, int, bool, RoundTrip] | None = None

    # What is known

    @property
    def spec(self) -> MarketSpec:
        """As the market is listed now."""
        return self._world.listed[self.symbol]

    def facts(self) -> Facts | None:
        return self._world.facts(self.symbol)

    def known_facts(self) -> Facts:
        """Raises ValidationError while prices or account are not known."""
        return self._world.known_facts(self.symbol)

    @property
    def pending(self) -> Pending | None:
        """The question about this market that waits for the operator."""
        return self._waiting(self.symbol)

    @property
    def held(self) -> Stance:
        facts = self.facts()
        return Stance.FLAT if facts is None else stance_of(facts.perp.base_1e9)

    def notional(self, base_1e9: int | None = None) -> float | None:
        """Of one leg at the mark, in quote: of ``base_1e9``, or of what is held, or else of the configured size."""
        facts = self.facts()
        if facts is None:
            return None
        size = (facts.perp.base_1e9 or self.size_1e9) if base_1e9 is None else base_1e9
        return abs(size) / BASE_PRECISION * float(facts.market.mark)

    def round_trip(self, base_1e9: int | None = None, *, spot_leg: bool = True) -> RoundTrip:
        """What a hedge of ``base_1e9`` (None: the configured size) costs in and out, at the venue's present fees."""
        size = self.size_1e9 if base_1e9 is None else abs(base_1e9)
        costs = self._costs()
        known = self._round_trip
        # The same costs, not equal ones: what the venue has not replaced is what it was.
        if known is None or known[0] is not costs or known[1:3] != (size, spot_leg):
            known = (costs, size, spot_leg, round_trip(costs, base_to_decimal(size), spot_leg=spot_leg))
            self._round_trip = known
        return known[3]

    # Records and the decision

    @property
    def records_looked_back(self) -> int:
        """How many past records the averages and the count of records need to be what they would be without a
        restart."""
        return max(self.window.records, self.week.records, self.settings.carry.min_records)

    def load(self, memory: HedgeMemory, check: HedgeCheck | None, kept: Sequence[FundingRecord]) -> None:
        """Take over what was kept: ``kept`` are the newest records that were judged, oldest first."""
        self.memory, self.check = memory, check
        self._kept_records = kept
        for record in kept:
            self._see(record)

    def prime(self, records: Iterable[FundingRecord]) -> None:
        """Fill the averages with past records up to now, oldest first, from a source that has them. Call once, after
        :meth:`load`.

        What was kept is there already; taken are the records from before it, and those that were published since and
        never judged. The newest of these is still to be decided on.
        """
        kept, self._kept_records = self._kept_records, ()
        past = list(records)
        if kept:
            missed = [record for record in past if record.ts_s > kept[-1].ts_s]
            if missed:
                self.unjudged.insert(0, missed.pop())
            self.unsaved_records += missed
            past = [*(record for record in past if record.ts_s < kept[0].ts_s), *kept, *missed]
        self.window, self.week = self.window.emptied(), self.week.emptied()
        self.newest_record_s = self.previous_record_s = None
        for record in past:
            self._see(record)

    def _see(self, record: FundingRecord) -> HourFractions:
        fractions = hour_fractions(record)
        self.window.interval_h = record.interval_s / 3600
        add_to_all(fractions, (self.window, self.week))
        self.previous_record_s, self.newest_record_s = self.newest_record_s, record.ts_s
        return fractions

    def judge(self, facts: Facts) -> bool:
        """Decide on what is :attr:`unjudged`, oldest first. False where nothing of it is new."""
        if not self.unjudged:
            return False
        records, self.unjudged = self.unjudged, []
        judged = [self._judge_record(record, facts) for record in records]
        return any(judged)

    def _judge_record(self, record: FundingRecord, facts: Facts) -> bool:
        """Take one new funding record into the averages and decide anew. False for a record that was judged before:
        told again, it counts once."""
        if self.newest_record_s is not None and record.ts_s <= self.newest_record_s:
            return False
        fractions = self._see(record)
        self.unsaved_records.append(record)
        state, cost = holding(self.memory.carry, stance_of(facts.perp.base_1e9)), self.round_trip()
        state, decision = decide(state, self.window, cost, self.settings.carry)
        self.remember(carry=state, decision=decision)
        if self._board.tell is not None:
            notional = self.size_1e9 / BASE_PRECISION * float(facts.market.mark)
            horizon_h = self.settings.carry.horizon_h
            self._board.tell.profitability(decision, cost, notional, horizon_h, fractions.short_receives, facts.market)
        return True

    @property
    def target(self) -> Stance | None:
        """What automation wants to hold; None while nothing was decided."""
        if self._hold is not None:
            return self._hold
        return None if self.memory.decision is None else self.memory.decision.target

    def aside(self, sentence: str) -> None:
        """Decide to stand aside until the next record decides anew."""
        decision = self.memory.decision
        if decision is not None:
            flat = Decision(Stance.FLAT, decision.judged, sentence)
            self.remember(decision=flat, carry=CarryState(setbacks=self.memory.carry.setbacks))

    # Delta

    def exposure(self) -> Exposure | None:
        """Of all of the base asset that the account has, wallet included: what is shown (R5.1)."""
        facts = self.facts()
        return None if facts is None else self._exposure(facts.spot.base_1e9 + facts.spot.wallet_1e9, facts)

    def hedge_exposure(self) -> Exposure | None:
        """Of the hedge alone: what automation acts on (R5.1, R5.7)."""
        facts = self.facts()
        return None if facts is None else self.correction(facts)[0]

    def _exposure(self, spot_1e9: int, facts: Facts) -> Exposure:
        perp, step = facts.perp, facts.market.spec.step_base_1e9
        return Exposure(spot_1e9, perp.base_1e9, step, perp.open_bids_1e9, perp.open_asks_1e9)

    @property
    def own_1e9(self) -> int:
        """Base that was paid in as such and is still in the account."""
        return self._accountant.paid_in_1e9(self.spec.base_symbol)

    def hedge_spot_1e9(self, facts: Facts) -> int:
        """Spot in the account less what was paid in as such, plus what of it (or of the wallet) the hedge covers."""
        own, pledged = self.own_1e9, self.memory.pledged_1e9
        return facts.spot.base_1e9 - own + (min(pledged, own + facts.spot.wallet_1e9) if pledged else 0)

    def rests_on_spot(self, facts: Facts) -> bool:
        """Whether spot of a hedge is there without its perp, in a size that can be traded."""
        if facts.perp.base_1e9:
            return False
        spec, rest_1e9 = facts.market.spec, self.hedge_spot_1e9(facts)
        least = max(self.settings.rebalance.min_trade_1e9, spec.step_base_1e9)
        if not closing_part(facts.spot.base_1e9, -rest_1e9):
            least = max(least, spec.spot_min_1e9)  # an order that does not reduce
        return abs(rest_1e9) >= least

    def free_wallet_1e9(self, facts: Facts) -> int:
        """Base in the wallet that the hedge does not cover."""
        return max(0, facts.spot.wallet_1e9 - max(0, self.memory.pledged_1e9 - self.own_1e9))

    def free_own_1e9(self) -> int:
        """Base that was paid in and that the hedge does not cover."""
        return max(0, self.own_1e9 - self.memory.pledged_1e9)

    def cooldown_remaining_s(self) -> float:
        last = self.memory.last_rebalance_s
        if last is None:
            return 0.0
        return max(0.0, last + self.settings.rebalance.cooldown_s - self._clock.market_s())

    def rebalance_plan(self, *, manual: bool = False) -> RebalancePlan | None:
        """By hand all of the base asset is made neutral, by itself only the hedge."""
        facts = self.facts()
        if facts is None:
            return None
        if not manual:
            return self.correction(facts)[1]
        exposure = self._exposure(facts.spot.base_1e9 + facts.spot.wallet_1e9, facts)
        return plan_rebalance(exposure, self.settings.rebalance, cooldown_remaining_s=0.0, manual=True)

    def correction(self, facts: Facts) -> tuple[Exposure, RebalancePlan]:
        """The hedge's own exposure and what automation would do about it."""
        perp, cooldown_s = facts.perp, self.cooldown_remaining_s()
        # Asked several times a fact, and the same as long as nothing of it has changed.
        key = (
            self.hedge_spot_1e9(facts),
            perp.base_1e9,
            perp.open_bids_1e9,
            perp.open_asks_1e9,
            facts.market.spec.step_base_1e9,
            cooldown_s,
        )
        if self._correction is None or self._correction[0] != key:
            exposure = self._exposure(key[0], facts)
            plan = plan_rebalance(exposure, self.settings.rebalance, cooldown_remaining_s=cooldown_s)
            self._correction = key, (exposure, plan)
        return self._correction[1]

    # Keeping

    def remember(self, **changes: object) -> None:
        self.memory = msgspec.structs.replace(self.memory, **changes)
        self._changed()

    def keep_check(self, check: HedgeCheck | None) -> None:
        """Remember the trade that is under way; None once its legs and what follows from it have been seen to."""
        self.check = check
        self._changed()
