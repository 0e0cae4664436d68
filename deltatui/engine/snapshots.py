"""Builds the snapshot from the engine's state. Display only: nothing here decides."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal

import msgspec

from deltatui.domain.carry import CarryEstimate, Stance, estimate, side_fraction
from deltatui.domain.command import Direction, Take
from deltatui.domain.errors import ValidationError
from deltatui.domain.funding import FundingWindow, fraction_to_apr_pct
from deltatui.domain.ledger import FlowKind, Holding
from deltatui.domain.snapshot import (
    SCHEMA_VERSION,
    AccountView,
    AssetView,
    AttributionView,
    CardView,
    CarryView,
    ClockView,
    ConfirmationView,
    DeltaView,
    EngineView,
    HedgeView,
    MarketDetail,
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
from deltatui.engine.core import Core
from deltatui.engine.engine import Engine
from deltatui.engine.hedge import Hedge
from deltatui.engine.preview import confirmation_view
from deltatui.engine.standing import Liquidation, Standing
from deltatui.engine.states import EngineState
from deltatui.engine.world import Facts
from deltatui.ports import NO_SPOT, AccountReport, PerpBalance, SpotBalance


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
        account = core.world.account()
        standing = core.standing() if account is not None else None
        estimates = {symbol: _estimates(hedge) for symbol, hedge in core.hedges.items()}
        return Snapshot(
            version=self._version,
            schema=SCHEMA_VERSION,
            engine=self._engine_view(around),
            clock=ClockView(
                market_s=core.clock.market_s() if account is not None else None,
                operator_s=core.clock.operator_s(),
                speed=around.speed,
                paused=core.state == EngineState.PAUSED or bool(core.pending),
                tape=around.tape,
            ),
            account=self._account(account, standing),
            vault=self._vault(account, standing),
            attribution=self._attribution(account),
            hedges=tuple(self._hedge(hedge, standing, estimates[hedge.symbol]) for hedge in core.hedges.values()),
            positions=self._positions(account, standing),
            opportunities=self._opportunities(estimates),
            alerts=tuple(core.board.alerts.values()),
            actions=self._actions.account(),
            confirmations=self._confirmations(standing),
            operations=tuple(sorted(core.operations.values(), key=lambda each: -each.updated_operator_s)),
        )

    def detail(self, market: str, version: int) -> MarketDetail | None:
        """What belongs to the snapshot of that version and depends on the market; None where it is not carried."""
        hedge = self._core.hedges.get(market)
        if hedge is None:
            return None
        gates, subject = self._gates(hedge)
        return MarketDetail(market, version, gates, subject, self._actions.market(hedge), self._cards(hedge))

    # The account

    def _engine_view(self, around: Surroundings) -> EngineView:
        core = self._core
        return EngineView(
            profile=core.settings.profile,
            venue=core.venue.name,
            mode=core.settings.mode,
            live_mode=core.settings.live_mode,
            state=core.state,
            state_reason=core.state_reason,
            automation=core.memory.automation,
            clients=around.clients,
            loop_lag_ms=around.loop_lag_ms,
            pid=around.pid,
            started_operator_s=around.started_operator_s,
            typed_above_usd=core.settings.typed_above_usd,
        )

    def _account(self, account: AccountReport | None, standing: Standing | None) -> AccountView:
        limit = self._core.settings.limits.max_leverage
        if account is None or standing is None:
            reason = "no account data yet" if account is None else "the account cannot be judged, see the alerts"
            return AccountView(
                None, None, None, None, None, None, None, None, limit, None, None, None, None, reason=reason
            )
        summary, nearest = standing.summary, standing.nearest
        unsettled = sum((perp.unsettled for perp in account.perps.values()), Decimal(0))
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
            liq_price=None if nearest is None else nearest.price,
            liq_distance_pct=None if nearest is None else nearest.distance_pct,
            liq_market="" if nearest is None else nearest.market,
            quote_balance=float(account.quote),
            wallet_quote=float(account.wallet_quote),
            assets=tuple(self._asset(account, hedge) for hedge in self._core.hedges.values()),
            as_of_market_s=account.as_of_s,
            settled_pnl=float(account.settled),
            unsettled_pnl=float(unsettled),
            total_pnl=float(account.settled + unsettled),
        )

    def _asset(self, account: AccountReport, hedge: Hedge) -> AssetView:
        asset = hedge.spec.base_symbol
        spot = account.spots.get(asset, NO_SPOT)
        return AssetView(asset, spot.base_1e9 / BASE_PRECISION, spot.wallet_1e9 / BASE_PRECISION)

    def _vault(self, account: AccountReport | None, standing: Standing | None) -> VaultView:
        core = self._core
        sync, deployed = core.accountant.last_sync, None
        balance = None if standing is None else standing.summary.free_initial_1e6 / 1e6
        if account is not None:
            deployed = sum(hedge.notional() or 0.0 for hedge in core.hedges.values() if hedge.held != Stance.FLAT)
        opened = core.accountant.opened
        return VaultView(
            balance=balance,
            allocated_capital=deployed,
            available_capital=balance,
            realized_funding=float(core.accountant.books.totals[FlowKind.FUNDING]) if opened else None,
            last_sync_operator_s=None if sync is None else sync.operator_s,
        )

    def _attribution(self, account: AccountReport | None) -> AttributionView:
        accountant = self._core.accountant
        books, totals = accountant.books, accountant.books.totals
        if account is None or not accountant.opened:
            return AttributionView(None, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, None, None)
        marks = self._core.world.marks(account)
        sync, priced = accountant.last_sync, not accountant.unpriced(marks)
        return AttributionView(
            opening_equity=float(books.opening_equity),
            funding=float(totals[FlowKind.FUNDING]),
            fees=float(totals[FlowKind.FEE] + totals[FlowKind.TIP] + totals[FlowKind.GAS]),
            interest=float(totals[FlowKind.INTEREST]),
            trading=float(totals[FlowKind.TRADING_PNL]),
            transfers=float(accountant.transfers),
            unrealized_perp=float(books.unrealized(marks, spot=False)) if priced else None,
            spot_revaluation=float(books.unrealized(marks, spot=True)) if priced else 0.0,
            closing_equity=float(account.equity),
            gap=None if sync is None else float(sync.gap),
            write_offs=float(totals[FlowKind.WRITE_OFF]),
        )

    def _confirmations(self, before: Standing | None) -> tuple[ConfirmationView, ...]:
        views = (confirmation_view(self._core, self._desk, each, before) for each in self._core.pending.values())
        return tuple(view for view in views if view is not None)

    # Hedges and positions

    def _hedge(self, hedge: Hedge, standing: Standing | None, estimates: _Estimates) -> HedgeView:
        facts = hedge.facts()
        liquidation = None if standing is None else standing.liquidation(hedge.symbol)
        return HedgeView(
            market=hedge.symbol,
            base_symbol=hedge.spec.base_symbol,
            prices=_prices(facts),
            delta=_delta(hedge),
            carry=self._carry(hedge, facts, *estimates),
            liq_price=None if liquidation is None else liquidation.price,
            liq_distance_pct=None if liquidation is None else liquidation.distance_pct,
            paused="" if facts is None else facts.market.paused,
            ended=facts is not None and facts.market.ended,
        )

    def _positions(self, account: AccountReport | None, standing: Standing | None) -> tuple[PositionView, ...]:
        if account is None:
            return ()
        views: list[PositionView] = []
        for hedge in self._core.hedges.values():
            facts = hedge.facts()
            if facts is None:
                # Held, and its price is not known: that is no reason not to show it.
                perp = account.perps.get(hedge.symbol)
                if perp is not None and perp.base_1e9:
                    views.append(_unpriced(hedge.symbol, perp, foreign=False))
                continue
            liquidation = None if standing is None else standing.liquidation(hedge.symbol)
            if facts.perp.base_1e9:
                views.append(self._perp(facts, liquidation))
                liquidation = None
            if facts.spot.base_1e9:
                views.append(self._spot(facts, liquidation))
        perps, spots = self._core.world.foreign(account), self._core.world.foreign_spots(account)
        views += [_unpriced(symbol, perp, foreign=True) for symbol, perp in perps.items()]
        views += [_foreign_spot(asset, spot) for asset, spot in spots.items()]
        return tuple(views)

    def _perp(self, facts: Facts, liquidation: Liquidation | None) -> PositionView:
        perp, symbol = facts.perp, facts.market.spec.symbol
        size, mark = perp.base_1e9 / BASE_PRECISION, float(facts.market.mark)
        entry = None if perp.entry is None else float(perp.entry)
        return PositionView(
            key=symbol,
            market=symbol,
            side="long" if size > 0 else "short",
            size=size,
            entry_price=entry,
            mark_price=mark,
            notional=abs(size) * mark,
            unrealized_pnl=None if entry is None else size * (mark - entry),
            unsettled_pnl=float(perp.unsettled),
            funding=float(self._core.accountant.books.funding_since_open.get(symbol, 0)),
            liq_price=None if liquidation is None else liquidation.price,
            liq_distance_pct=None if liquidation is None else liquidation.distance_pct,
            settled_pnl=float(perp.settled),
            total_pnl=float(perp.settled + perp.unsettled),
        )

    def _spot(self, facts: Facts, liquidation: Liquidation | None) -> PositionView:
        asset, oracle = facts.market.spec.base_symbol, facts.market.oracle
        size = facts.spot.base_1e9 / BASE_PRECISION
        holding = self._core.accountant.books.holdings.get(asset, Holding())
        known = bool(holding.base)
        return PositionView(
            key=asset,
            market=asset,
            side="spot" if size > 0 else "borrow",
            size=size,
            entry_price=float(holding.price) if known else None,
            mark_price=float(oracle),
            notional=abs(size) * float(oracle),
            unrealized_pnl=float(holding.unrealized(oracle)) if known else None,
            unsettled_pnl=None,
            funding=None,
            liq_price=None if liquidation is None else liquidation.price,
            liq_distance_pct=None if liquidation is None else liquidation.distance_pct,
        )

    def _carry(
        self, hedge: Hedge, facts: Facts | None, carry: CarryEstimate | None, reverse: CarryEstimate | None
    ) -> CarryView:
        core, memory, held = self._core, hedge.memory, hedge.held
        shown = reverse if held == Stance.REVERSE else carry
        notional = hedge.notional()
        held_by: Literal["nobody", "engine", "operator"] = "nobody"
        if memory.held_by == "operator":
            held_by = "operator"
        elif held != Stance.FLAT:
            held_by = "engine"
        next_in = None
        if facts is not None and facts.market.next_funding_s is not None:
            next_in = max(0.0, facts.market.next_funding_s - facts.market.as_of_s)
        if core.settings.hold is not None:
            target, sentence = core.settings.hold.value, core.settings.hold_reason
        elif facts is not None and facts.market.ended:
            target, sentence = Stance.FLAT.value, "no prices come any more: what is held is left, nothing is taken"
        elif memory.decision is None:
            target, sentence = held.value, "no funding record has been seen yet"
        else:
            target, sentence = memory.decision.target.value, memory.decision.sentence
        earned = core.accountant.books.carry_since_open(hedge.symbol, hedge.spec.base_symbol)
        return CarryView(
            stance=held,
            decision=target,
            sentence=sentence,
            held_by=held_by,
            now_apr=_latest_apr(hedge.week),
            day_apr=_mean_apr(hedge.window),
            week_apr=_mean_apr(hedge.week),
            expected_per_hour=None if shown is None or notional is None else shown.net * notional,
            break_even_h=None if carry is None else carry.break_even_h,
            reverse_break_even_h=None if reverse is None else reverse.break_even_h,
            horizon_h=hedge.settings.carry.horizon_h,
            next_funding_in_s=next_in,
            held_since_market_s=memory.held_since_s,
            held_earned=None if held == Stance.FLAT else float(earned),
            round_trip_cost=None if notional is None else hedge.round_trip().total * notional,
        )

    def _opportunities(self, estimates: Mapping[str, _Estimates]) -> tuple[OpportunityView, ...]:
        """Every market's better side, the best first: by what is expected after all costs (R4.10). Those that cannot be
        judged yet come after them, those that have ended last."""
        found = [_opportunity(self._core, hedge, *estimates[symbol]) for symbol, hedge in self._core.hedges.items()]
        known = [view for view in found if view is not None]

        def place(view: OpportunityView) -> tuple[bool, bool, float, str]:
            facts = self._core.hedges[view.market].facts()
            ended = facts is not None and facts.market.ended
            return ended, view.net_apr_pct is None, -(view.net_apr_pct or 0.0), view.key

        return tuple(sorted(known, key=place))

    # One market

    def _cards(self, hedge: Hedge) -> tuple[CardView, ...]:
        """R13.1's six cards; a replay has data for two of them."""
        latest, facts = hedge.week.latest, hedge.facts()
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

    def _gates(self, hedge: Hedge) -> tuple[tuple[Verdict, ...], str]:
        """The verdicts on the increase that would come next: what automation would take, at the configured size."""
        if hedge.facts() is None:
            return (), ""
        held = hedge.held
        way = Direction.REVERSE if held == Stance.REVERSE else _better_way(hedge, held)
        command = Take(market=hedge.symbol, base_1e9=hedge.size_1e9, direction=way)
        verb = "add to" if held != Stance.FLAT else "take"
        subject = f"{verb} {hedge.symbol} ({way.value}, {command.base_1e9 / BASE_PRECISION:g})"
        try:
            return self._desk.assess.verdicts(command, self._desk.assess.plan(command)), subject
        except ValidationError as error:
            return (), f"{subject}: {error.sentence}"


_Estimates = tuple[CarryEstimate | None, CarryEstimate | None]
"""Of CARRY and REVERSE, at the configured size."""


def _estimates(hedge: Hedge) -> _Estimates:
    cost, settings = hedge.round_trip(), hedge.settings.carry
    return (
        estimate(Stance.CARRY, hedge.window, cost, settings),
        estimate(Stance.REVERSE, hedge.window, cost, settings),
    )


def _prices(facts: Facts | None) -> PricesView:
    if facts is None:
        return PricesView(None, None, None, None, False)
    market = facts.market
    oracle, mark = float(market.oracle), float(market.mark)
    return PricesView(oracle, mark, (mark / oracle - 1) * 1e4, market.as_of_s, market.interpolated)


def _delta(hedge: Hedge) -> DeltaView:
    settings, last = hedge.settings.rebalance, hedge.memory.last_rebalance_s
    exposure, own, plan = hedge.exposure(), hedge.hedge_exposure(), hedge.rebalance_plan()
    cooldown = hedge.cooldown_remaining_s()
    tolerance, emergency = settings.tolerance_pct, settings.emergency_pct
    if exposure is None or own is None or plan is None:
        none = "no account data yet"
        return DeltaView(None, None, None, None, None, tolerance, emergency, "none", none, cooldown, last)
    return DeltaView(
        spot=exposure.spot_1e9 / BASE_PRECISION,
        perp=exposure.perp_1e9 / BASE_PRECISION,
        net=exposure.net_1e9 / BASE_PRECISION,
        worst=exposure.worst_1e9 / BASE_PRECISION,
        drift_pct=exposure.drift_pct,
        tolerance_pct=tolerance,
        emergency_pct=emergency,
        direction=plan.correction,
        reason=plan.reason,
        cooldown_remaining_s=cooldown,
        last_rebalance_market_s=last,
        hedge_spot=own.spot_1e9 / BASE_PRECISION,
        hedge_net=own.net_1e9 / BASE_PRECISION,
        hedge_drift_pct=own.drift_pct,
    )


def _opportunity(
    core: Core, hedge: Hedge, carry: CarryEstimate | None, reverse: CarryEstimate | None
) -> OpportunityView | None:
    facts, latest, mean = hedge.facts(), hedge.week.latest, hedge.window.mean
    if facts is None or latest is None or mean is None:
        return None
    best = carry if reverse is None or (carry is not None and carry.net >= reverse.net) else reverse
    cost, record = hedge.round_trip().total, facts.market.funding
    net = None if best is None else best.net - cost / hedge.settings.carry.horizon_h
    return OpportunityView(
        key=hedge.symbol,
        market=hedge.symbol,
        rate_hour_pct=latest.short_receives * 100,
        rate_8h_pct=latest.short_receives * 800,
        apr_pct=fraction_to_apr_pct(latest.short_receives),
        day_apr_pct=fraction_to_apr_pct(mean.short_receives),
        net_apr_pct=None if net is None else fraction_to_apr_pct(net),
        entry_cost_bps=cost * 1e4,
        break_even_h=None if best is None else best.break_even_h,
        open_interest=None,
        volume_24h=None,
        side="" if best is None else best.stance,
        age_s=None if record is None else core.clock.market_s() - record.ts_s,
    )


def _better_way(hedge: Hedge, held: Stance) -> Direction:
    mean = hedge.window.mean
    if held == Stance.CARRY or mean is None:
        return Direction.CARRY
    reverse_better = side_fraction(Stance.REVERSE, mean) > side_fraction(Stance.CARRY, mean)
    return Direction.REVERSE if reverse_better else Direction.CARRY


WILD_FUNDING_APR_PCT = 300.0
"""Beyond this a funding rate is a warning, not a gift (R11.7)."""


def _unpriced(symbol: str, perp: PerpBalance, *, foreign: bool) -> PositionView:
    """A position of whose market nothing is known but what the venue tells of the account."""
    size = perp.base_1e9 / BASE_PRECISION
    mark = None if perp.mark is None else float(perp.mark)
    entry = None if perp.entry is None else float(perp.entry)
    return PositionView(
        key=symbol,
        market=symbol,
        side="long" if size > 0 else "short",
        size=size,
        entry_price=entry,
        mark_price=mark,
        notional=None if mark is None else abs(size) * mark,
        unrealized_pnl=None if mark is None or entry is None else size * (mark - entry),
        unsettled_pnl=float(perp.unsettled),
        funding=None,
        liq_price=None,
        foreign=foreign,
    )


def _foreign_spot(asset: str, spot: SpotBalance) -> PositionView:
    size = spot.base_1e9 / BASE_PRECISION
    mark = None if spot.mark is None else float(spot.mark)
    return PositionView(
        key=asset,
        market=asset,
        side="spot" if size > 0 else "borrow",
        size=size,
        entry_price=None,
        mark_price=mark,
        notional=None if mark is None else abs(size) * mark,
        unrealized_pnl=None,
        unsettled_pnl=None,
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
