"""Builds the snapshot from the engine's state. Display only: nothing here decides."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from deltatui.domain.carry import CarryEstimate, Stance, estimate, side_fraction
from deltatui.domain.command import Direction, Take
from deltatui.domain.errors import ValidationError
from deltatui.domain.funding import FundingWindow, fraction_to_apr_pct
from deltatui.domain.gates import blocking
from deltatui.domain.ledger import FlowKind, Holding
from deltatui.domain.snapshot import (
    SCHEMA_VERSION,
    AccountView,
    AttributionView,
    CardView,
    CarryView,
    ClockView,
    ConfirmationView,
    DeltaView,
    EngineView,
    OpportunityView,
    PositionView,
    PricesView,
    Snapshot,
    TapeView,
    VaultView,
)
from deltatui.domain.units import BASE_PRECISION
from deltatui.domain.verdict import Verdict
from deltatui.engine.actions import Actions
from deltatui.engine.engine import Engine
from deltatui.engine.memory import Facts
from deltatui.engine.planner import stance_of
from deltatui.engine.preview import confirmation_view
from deltatui.engine.standing import Standing
from deltatui.engine.states import EngineState
from deltatui.ports import AccountState, OtherPosition


class Surroundings(msgspec.Struct, frozen=True):
    """What the engine itself does not know: its process, its clients and its tape."""

    clients: int
    pid: int
    started_operator_s: float
    speed: int
    loop_lag_ms: float | None = None
    tape: TapeView | None = None


class SnapshotBuilder:
    """``build()`` numbers the snapshots and tells the engine which state each of them showed."""

    def __init__(self, engine: Engine) -> None:
        self._core, self._desk = engine.core, engine.desk
        self._actions = Actions(engine.core, engine.desk)
        self._version = 0

    def build(self, around: Surroundings) -> Snapshot:
        core = self._core
        self._version += 1
        self._desk.saw(self._version)
        facts = core.facts()
        standing = core.standing() if facts is not None else None
        gates, subject = self._gates(facts)
        cost = core.round_trip()
        estimates = (
            estimate(Stance.CARRY, core.window, cost, core.settings.carry),
            estimate(Stance.REVERSE, core.window, cost, core.settings.carry),
        )
        return Snapshot(
            version=self._version,
            schema=SCHEMA_VERSION,
            engine=self._engine_view(around, gates),
            clock=ClockView(
                market_s=None if facts is None else facts.market.as_of_s,
                operator_s=core.clock.operator_s(),
                speed=around.speed,
                paused=core.state == EngineState.PAUSED or core.pending is not None,
                tape=around.tape,
            ),
            prices=self._prices(facts),
            account=self._account(facts, standing),
            delta=self._delta(facts),
            carry=self._carry(facts, *estimates),
            vault=self._vault(facts, standing),
            attribution=self._attribution(facts),
            positions=self._positions(facts, standing),
            opportunities=self._opportunities(facts, *estimates),
            gates=gates,
            gates_subject=subject,
            alerts=tuple(core.board.alerts.values()),
            actions=self._actions.views(facts),
            confirmation=self._confirmation(standing),
            operation=core.operation,
            cards=self._cards(facts),
        )

    def _engine_view(self, around: Surroundings, gates: tuple[Verdict, ...]) -> EngineView:
        core = self._core
        return EngineView(
            profile=core.settings.profile,
            venue=core.venue.name,
            mode=core.settings.mode,
            live_mode=core.settings.live_mode,
            state=core.state,
            state_reason=core.state_reason,
            automation=core.flags.automation,
            clients=around.clients,
            blocks=len(blocking(gates)),
            loop_lag_ms=around.loop_lag_ms,
            pid=around.pid,
            started_operator_s=around.started_operator_s,
            typed_above_usd=core.settings.typed_above_usd,
        )

    def _prices(self, facts: Facts | None) -> PricesView:
        if facts is None:
            return PricesView(self._core.spec.symbol, None, None, None, None, False)
        market = facts.market
        oracle, mark = float(market.oracle), float(market.mark)
        basis = (mark / oracle - 1) * 1e4
        return PricesView(market.spec.symbol, oracle, mark, basis, market.as_of_s, market.interpolated)

    def _account(self, facts: Facts | None, standing: Standing | None) -> AccountView:
        limit = self._core.settings.limits.max_leverage
        if facts is None or standing is None:
            reason = "no account data yet" if facts is None else "the account cannot be judged, see the alerts"
            return AccountView(
                None, None, None, None, None, None, None, None, limit, None, None, None, None, None, None, reason
            )
        account, summary = facts.account, standing.summary
        return AccountView(
            health=summary.health,
            equity=float(account.equity),
            collateral_initial=summary.collateral_initial_1e6 / 1e6,
            collateral_maintenance=summary.collateral_maintenance_1e6 / 1e6,
            free_collateral=summary.free_initial_1e6 / 1e6,
            initial_requirement=summary.requirement_initial_1e6 / 1e6,
            maintenance_requirement=summary.requirement_maintenance_1e6 / 1e6,
            leverage=standing.leverage,
            max_leverage=limit,
            liq_price=standing.liq_price,
            liq_distance_pct=standing.liq_distance_pct,
            quote_balance=float(account.quote),
            wallet_quote=float(account.wallet_quote),
            wallet_sol=account.wallet_base_1e9 / BASE_PRECISION,
            as_of_market_s=account.as_of_s,
            settled_pnl=float(account.settled),
            unsettled_pnl=float(_unsettled(account)),
            total_pnl=float(account.settled + _unsettled(account)),
        )

    def _positions(self, facts: Facts | None, standing: Standing | None) -> tuple[PositionView, ...]:
        if facts is None:
            return ()
        core, market, account = self._core, facts.market, facts.account
        books = core.accountant.books
        views = []
        liq = None if standing is None else standing.liq_price
        distance = None if standing is None else standing.liq_distance_pct
        if account.perp_1e9:
            size = account.perp_1e9 / BASE_PRECISION
            entry = None if account.perp_entry is None else float(account.perp_entry)
            mark = float(market.mark)
            views.append(
                PositionView(
                    key=market.spec.symbol,
                    market=market.spec.symbol,
                    side="long" if size > 0 else "short",
                    size=size,
                    entry_price=entry,
                    mark_price=mark,
                    notional=abs(size) * mark,
                    unrealized_pnl=None if entry is None else size * (mark - entry),
                    unsettled_pnl=float(account.unsettled),
                    funding=float(books.funding_since_open.get(market.spec.symbol, 0)),
                    liq_price=liq,
                    liq_distance_pct=distance,
                    settled_pnl=float(account.perp_settled),
                    total_pnl=float(account.perp_settled + account.unsettled),
                )
            )
        if account.spot_1e9:
            size = account.spot_1e9 / BASE_PRECISION
            mark = float(market.oracle)
            holding = books.holdings.get(market.spec.base_symbol, Holding())
            known = bool(holding.base)
            views.append(
                PositionView(
                    key=market.spec.base_symbol,
                    market=market.spec.base_symbol,
                    side="spot" if size > 0 else "borrow",
                    size=size,
                    entry_price=float(holding.price) if known else None,
                    mark_price=mark,
                    notional=abs(size) * mark,
                    unrealized_pnl=float(holding.unrealized(market.oracle)) if known else None,
                    unsettled_pnl=None,
                    funding=None,
                    liq_price=None if account.perp_1e9 else liq,
                    liq_distance_pct=None if account.perp_1e9 else distance,
                )
            )
        return (*views, *(_foreign(other) for other in account.others))

    def _delta(self, facts: Facts | None) -> DeltaView:
        core = self._core
        settings = core.settings.rebalance
        exposure, hedge, plan = core.exposure(), core.hedge_exposure(), core.rebalance_plan()
        cooldown, last = core.cooldown_remaining_s(), core.flags.last_rebalance_s
        if facts is None or exposure is None or hedge is None or plan is None:
            return DeltaView(
                None,
                None,
                None,
                None,
                None,
                settings.tolerance_pct,
                settings.emergency_pct,
                "none",
                "no account data yet",
                cooldown,
                last,
            )
        return DeltaView(
            spot=exposure.spot_1e9 / BASE_PRECISION,
            perp=exposure.perp_1e9 / BASE_PRECISION,
            net=exposure.net_1e9 / BASE_PRECISION,
            worst=exposure.worst_1e9 / BASE_PRECISION,
            drift_pct=exposure.drift_pct,
            tolerance_pct=settings.tolerance_pct,
            emergency_pct=settings.emergency_pct,
            direction=plan.correction,
            reason=plan.reason,
            cooldown_remaining_s=cooldown,
            last_rebalance_market_s=last,
            hedge_spot=hedge.spot_1e9 / BASE_PRECISION,
            hedge_net=hedge.net_1e9 / BASE_PRECISION,
            hedge_drift_pct=hedge.drift_pct,
        )

    def _carry(self, facts: Facts | None, carry: CarryEstimate | None, reverse: CarryEstimate | None) -> CarryView:
        core = self._core
        held = Stance.FLAT if facts is None else stance_of(facts.account.perp_1e9)
        decision = core.decision
        shown = reverse if held == Stance.REVERSE else carry
        notional = (
            None if facts is None else float(core.settings.carry_size_1e9 / BASE_PRECISION * float(facts.market.mark))
        )
        if facts is not None and facts.account.perp_1e9:
            notional = abs(facts.account.perp_1e9) / BASE_PRECISION * float(facts.market.mark)
        held_by: Literal["nobody", "engine", "operator"] = "nobody"
        if core.flags.held_by == "operator":
            held_by = "operator"
        elif held != Stance.FLAT:
            held_by = "engine"
        next_in = None
        if facts is not None and facts.market.next_funding_s is not None:
            next_in = max(0.0, facts.market.next_funding_s - facts.market.as_of_s)
        if core.settings.hold is not None:
            target, sentence = core.settings.hold.value, core.settings.hold_reason
        elif decision is None:
            target, sentence = held.value, "no funding record has been seen yet"
        else:
            target, sentence = decision.target.value, decision.sentence
        return CarryView(
            stance=held,
            decision=target,
            sentence=sentence,
            held_by=held_by,
            now_apr=_latest_apr(core.week),
            day_apr=_mean_apr(core.window),
            week_apr=_mean_apr(core.week),
            expected_per_hour=None if shown is None or notional is None else shown.net * notional,
            break_even_h=None if carry is None else carry.break_even_h,
            reverse_break_even_h=None if reverse is None else reverse.break_even_h,
            horizon_h=core.settings.carry.horizon_h,
            next_funding_in_s=next_in,
            held_since_market_s=core.flags.held_since_s,
            held_earned=None
            if held == Stance.FLAT
            else float(core.accountant.books.carry_since_open(core.spec.symbol, core.spec.base_symbol)),
            round_trip_cost=None if notional is None else core.round_trip().total * notional,
        )

    def _opportunities(
        self, facts: Facts | None, carry: CarryEstimate | None, reverse: CarryEstimate | None
    ) -> tuple[OpportunityView, ...]:
        core = self._core
        latest, mean = core.week.latest, core.window.mean
        if facts is None or latest is None or mean is None:
            return ()
        best = carry if reverse is None or (carry is not None and carry.net >= reverse.net) else reverse
        cost = core.round_trip().total
        horizon = core.settings.carry.horizon_h
        net_apr = None if best is None else fraction_to_apr_pct(best.net - cost / horizon)
        record = facts.market.funding
        age = None if record is None else core.clock.market_s() - record.ts_s
        return (
            OpportunityView(
                key=facts.market.spec.symbol,
                market=facts.market.spec.symbol,
                rate_hour_pct=latest.short_receives * 100,
                rate_8h_pct=latest.short_receives * 800,
                apr_pct=fraction_to_apr_pct(latest.short_receives),
                day_apr_pct=fraction_to_apr_pct(mean.short_receives),
                net_apr_pct=net_apr,
                entry_cost_bps=cost * 1e4,
                break_even_h=None if best is None else best.break_even_h,
                open_interest=None,
                volume_24h=None,
                side="" if best is None else best.stance,
                age_s=age,
            ),
        )

    def _vault(self, facts: Facts | None, standing: Standing | None) -> VaultView:
        core = self._core
        sync = core.accountant.last_sync
        balance = None if standing is None else standing.summary.free_initial_1e6 / 1e6
        deployed = None if facts is None else abs(facts.account.perp_1e9) / BASE_PRECISION * float(facts.market.mark)
        opened = core.accountant.opened
        return VaultView(
            balance=balance,
            allocated_capital=deployed,
            available_capital=balance,
            sol=None if facts is None else facts.account.spot_1e9 / BASE_PRECISION,
            realized_funding=float(core.accountant.books.totals[FlowKind.FUNDING]) if opened else None,
            last_sync_operator_s=None if sync is None else sync.operator_s,
        )

    def _attribution(self, facts: Facts | None) -> AttributionView:
        accountant = self._core.accountant
        books, totals = accountant.books, accountant.books.totals
        if facts is None or not accountant.opened:
            return AttributionView(None, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, None, None)
        marks = accountant.marks(facts.market, facts.account)
        sync = accountant.last_sync
        return AttributionView(
            opening_equity=float(books.opening_equity),
            funding=float(totals[FlowKind.FUNDING]),
            fees=float(totals[FlowKind.FEE] + totals[FlowKind.TIP] + totals[FlowKind.GAS]),
            interest=float(totals[FlowKind.INTEREST]),
            trading=float(totals[FlowKind.TRADING_PNL]),
            transfers=float(accountant.transfers),
            unrealized_perp=None if accountant.unpriced(marks) else float(books.unrealized(marks, spot=False)),
            spot_revaluation=float(books.unrealized(marks, spot=True)),
            closing_equity=float(facts.account.equity),
            gap=None if sync is None else float(sync.gap),
            write_offs=float(totals[FlowKind.WRITE_OFF]),
        )

    def _cards(self, facts: Facts | None) -> tuple[CardView, ...]:
        """R13.1's six cards; a replay has data for two of them."""
        latest = self._core.week.latest
        apr = None if latest is None else fraction_to_apr_pct(latest.short_receives)
        basis = None if facts is None else (float(facts.market.mark) / float(facts.market.oracle) - 1) * 1e4
        record = None if facts is None else facts.market.funding
        age = None if record is None else self._core.clock.market_s() - record.ts_s
        none = "a tape has none" if self._core.settings.mode == "replay" else "no feed"
        return (
            CardView("spread", "spread", None, "bps", "unknown", none),
            CardView("depth", "depth 10 bp", None, "usd", "unknown", none),
            CardView("funding", "funding APR", apr, "%", _funding_status(apr), "" if apr is not None else none, age),
            CardView("basis", "basis", basis, "bps", "unknown" if basis is None else "neutral", "", age),
            CardView("open_interest", "open int.", None, "usd", "unknown", none),
            CardView("liquidations", "liqs 5 m", None, "", "unknown", none),
        )

    def _gates(self, facts: Facts | None) -> tuple[tuple[Verdict, ...], str]:
        """The verdicts on the increase that would come next: what automation would take, at the configured size."""
        core = self._core
        if facts is None:
            return (), ""
        held = stance_of(facts.account.perp_1e9)
        way = Direction.REVERSE if held == Stance.REVERSE else self._better_way(held)
        command = Take(market=core.spec.symbol, base_1e9=core.settings.carry_size_1e9, direction=way)
        verb = "add to" if held != Stance.FLAT else "take"
        subject = f"{verb} {core.spec.symbol} ({way.value}, {command.base_1e9 / BASE_PRECISION:g})"
        try:
            return self._desk.assess.judge(self._desk.assess.plan(command)), subject
        except ValidationError as error:
            return (), f"{subject}: {error.sentence}"

    def _better_way(self, held: Stance) -> Direction:
        latest = self._core.window.mean
        if held == Stance.CARRY or latest is None:
            return Direction.CARRY
        reverse_better = side_fraction(Stance.REVERSE, latest) > side_fraction(Stance.CARRY, latest)
        return Direction.REVERSE if reverse_better else Direction.CARRY

    def _confirmation(self, before: Standing | None) -> ConfirmationView | None:
        pending = self._core.pending
        return None if pending is None else confirmation_view(self._core, self._desk, pending, before)


WILD_FUNDING_APR_PCT = 300.0
"""Beyond this a funding rate is a warning, not a gift (R11.7)."""


def _unsettled(account: AccountState) -> Decimal:
    return account.unsettled + sum((other.unsettled for other in account.others), Decimal(0))


def _foreign(other: OtherPosition) -> PositionView:
    size = other.base_1e9 / BASE_PRECISION
    mark = None if other.mark is None else float(other.mark)
    entry = None if other.entry is None else float(other.entry)
    return PositionView(
        key=other.instrument,
        market=other.instrument,
        side="long" if size > 0 else "short",
        size=size,
        entry_price=entry,
        mark_price=mark,
        notional=None if mark is None else abs(size) * mark,
        unrealized_pnl=None if mark is None or entry is None else size * (mark - entry),
        unsettled_pnl=float(other.unsettled),
        funding=None,
        liq_price=None,
        foreign=True,
    )


def _funding_status(apr_pct: float | None) -> Literal["good", "bad", "unknown"]:
    if apr_pct is None:
        return "unknown"
    return "bad" if abs(apr_pct) > WILD_FUNDING_APR_PCT else "good"


def _latest_apr(window: FundingWindow) -> float | None:
    latest = window.latest
    return None if latest is None else fraction_to_apr_pct(latest.short_receives)


def _mean_apr(window: FundingWindow) -> float | None:
    mean = window.mean
    return None if mean is None else fraction_to_apr_pct(mean.short_receives)
