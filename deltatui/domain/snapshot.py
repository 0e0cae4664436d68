"""The snapshot: everything a client may show, frozen, numbered and serialisable.

The engine replaces it as a whole; the same object travels in process, over the unix socket and later over TCP.
Numbers are floats for display only. ``None`` means unknown (the neighbouring ``reason`` says why where there is
one); it never means zero. Times are unix seconds: ``market_s`` on the market's clock (tape or wall), ``operator_s``
on the operator's.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from deltatui.domain.verdict import Verdict

SCHEMA_VERSION = 3


class TapeView(msgspec.Struct, frozen=True):
    """Where a replay stands, over all its tapes: ``first_s`` to ``last_s`` is the span that any of them has, ``record``
    and ``records`` count those of all. ``interpolated`` is true while a price lies between two records."""

    name: str
    first_s: float
    last_s: float
    record: int
    records: int
    interpolated: bool
    ended: bool


class ClockView(msgspec.Struct, frozen=True):
    """``speed`` is market seconds per operator second; 0 while the market clock stands still."""

    market_s: float | None
    operator_s: float
    speed: int
    paused: bool
    tape: TapeView | None = None


class FeedView(msgspec.Struct, frozen=True):
    """One source of data. ``age_s`` since its last message, None before the first; ``reason`` says why it is down."""

    name: str
    up: bool
    age_s: float | None
    reason: str = ""


class EngineView(msgspec.Struct, frozen=True):
    """``state_reason`` says why the state is not RUNNING.

    ``typed_above_usd``: above this notional a live command needs a word typed (R13.10). ``rpc_ms`` and ``slot`` None:
    not known, or the venue has no chain. ``feeds`` empty: the mode has none (a tape), or none is known of.
    """

    profile: str
    venue: str
    mode: Literal["replay", "paper", "live"]
    live_mode: Literal["watch", "manage", "trade", "auto"]
    state: str
    state_reason: str
    automation: bool
    clients: int
    loop_lag_ms: float | None
    pid: int
    started_operator_s: float
    typed_above_usd: float = 10_000.0
    rpc_ms: float | None = None
    slot: int | None = None
    feeds: tuple[FeedView, ...] = ()


class AssetView(msgspec.Struct, frozen=True):
    """Units of a spot asset that are in the account (negative: borrowed) and in the wallet."""

    asset: str
    account: float
    wallet: float


class AccountView(msgspec.Struct, frozen=True):
    """Quote amounts in the quote asset. ``health`` is 0..100 (R2.3). ``liq_price`` is that of ``liq_market``, the
    market that would liquidate the account first; None where no price up or down of any does. ``liq_distance_pct``
    is its distance from the oracle price, signed. ``unsettled_pnl`` of perps is not in the quote balance yet,
    ``settled_pnl`` has gone there since the account was opened; ``total_pnl`` is both. ``assets`` are those of the
    hedges."""

    health: int | None
    equity: float | None
    collateral_initial: float | None
    collateral_maintenance: float | None
    free_collateral: float | None
    initial_requirement: float | None
    maintenance_requirement: float | None
    leverage: float | None
    max_leverage: float
    liq_price: float | None
    liq_distance_pct: float | None
    quote_balance: float | None
    wallet_quote: float | None
    assets: tuple[AssetView, ...] = ()
    liq_market: str = ""
    as_of_market_s: float | None = None
    reason: str = ""
    delegate: str = ""
    settled_pnl: float | None = None
    unsettled_pnl: float | None = None
    total_pnl: float | None = None


class PositionView(msgspec.Struct, frozen=True):
    """``key`` is stable while the position lives (``SOL-PERP``, ``SOL``). ``size`` is in base, signed: positive long.
    ``funding`` is cash received (negative: paid) since the position was opened; None for spot. ``settled_pnl`` went
    into the quote balance since then. ``foreign``: in a market that the engine does not carry and leaves alone."""

    key: str
    market: str
    side: Literal["long", "short", "spot", "borrow"]
    size: float
    entry_price: float | None
    mark_price: float | None
    notional: float | None
    unrealized_pnl: float | None
    unsettled_pnl: float | None
    funding: float | None
    liq_price: float | None
    liq_distance_pct: float | None = None
    settled_pnl: float | None = None
    total_pnl: float | None = None
    foreign: bool = False


class DeltaView(msgspec.Struct, frozen=True):
    """Net exposure to a hedge's base asset (R5.1): of the account with its wallet, and, named ``hedge``, of what the
    engine hedges, which is what it acts on. ``direction`` is what the rebalancer would do (``none``,
    ``expand_short``, ``reduce_short``, ``expand_long``, ``reduce_long``) and ``reason`` why it does or does not."""

    spot: float | None
    perp: float | None
    net: float | None
    worst: float | None
    drift_pct: float | None
    tolerance_pct: float
    emergency_pct: float
    direction: str
    reason: str
    cooldown_remaining_s: float
    last_rebalance_market_s: float | None
    hedge_spot: float | None = None
    hedge_net: float | None = None
    hedge_drift_pct: float | None = None


class CarryView(msgspec.Struct, frozen=True):
    """``stance`` is what is held (FLAT, CARRY, REVERSE), ``decision`` what the engine thinks best, ``sentence`` why.

    APRs are percent a year on notional from the short's side: positive means a short receives. ``held_by`` is who
    opened what is held; the engine does not close what the operator opened until told to. ``held_earned`` is carry
    (funding of the perp and interest of the hedge's own asset, in quote) since ``held_since_market_s``,
    ``round_trip_cost`` what the pair costs in and out: the position has broken even when the first reaches the second.
    """

    stance: str
    decision: str
    sentence: str
    held_by: Literal["nobody", "engine", "operator"]
    now_apr: float | None
    day_apr: float | None
    week_apr: float | None
    expected_per_hour: float | None
    break_even_h: float | None
    reverse_break_even_h: float | None
    horizon_h: float
    next_funding_in_s: float | None
    held_since_market_s: float | None = None
    held_earned: float | None = None
    round_trip_cost: float | None = None


class OpportunityView(msgspec.Struct, frozen=True):
    """One market of the funding scan. Rates from the short's side. ``break_even_h`` None: never. ``open_interest`` and
    ``volume_24h`` in quote; None where the source has none."""

    key: str
    market: str
    rate_hour_pct: float | None
    rate_8h_pct: float | None
    apr_pct: float | None
    day_apr_pct: float | None
    net_apr_pct: float | None
    entry_cost_bps: float | None
    break_even_h: float | None
    open_interest: float | None
    volume_24h: float | None
    side: str
    age_s: float | None


class AttributionView(msgspec.Struct, frozen=True):
    """Where the equity came from (R10.4). All cash flows positive when received; ``gap`` is what the ledger cannot
    explain (should be 0)."""

    opening_equity: float | None
    funding: float
    fees: float
    interest: float
    trading: float
    transfers: float
    unrealized_perp: float | None
    spot_revaluation: float
    closing_equity: float | None
    gap: float | None
    write_offs: float = 0.0


class VaultView(msgspec.Struct, frozen=True):
    """``balance`` is free quote, ``allocated_capital`` deployed notional of all hedges, ``available_capital`` what is
    left to use; None while the account is not known."""

    balance: float | None
    allocated_capital: float | None
    available_capital: float | None
    realized_funding: float | None
    last_sync_operator_s: float | None


class LegView(msgspec.Struct, frozen=True):
    """One order of a plan. ``size`` in base, positive bought; ``limit_price`` is the worst that is accepted."""

    market: str
    size: float
    limit_price: float


class PlanView(msgspec.Struct, frozen=True, kw_only=True):
    """What a trade or a transfer would do now (R7.1, R3.4). A transfer has an ``asset``, ``size`` of it, and no legs.
    ``then`` says what automation will do about what is left. ``delta`` is of the account with its wallet,
    ``hedge_delta`` of what the engine hedges. ``fees`` and ``slippage`` are this trade's, ``round_trip`` the way in and
    out.
    ``break_even_h`` None: never, or unknown where profitability cannot be judged.
    ``loss_if_forced`` is the expected loss over the horizon where the profitability gate refuses; ``can_force``
    whether Confirm(force=True) would be taken."""

    kind: str
    market: str
    side: str
    size: float
    notional: float
    price: float
    limit_price: float
    fees: float
    slippage: float
    round_trip: float
    break_even_h: float | None
    carry_sentence: str
    leverage_before: float | None
    leverage_after: float | None
    health_before: int | None
    health_after: int | None
    liq_price_before: float | None
    liq_price_after: float | None
    delta_before_pct: float | None
    delta_after_pct: float | None
    verdicts: tuple[Verdict, ...]
    allowed: bool
    can_force: bool
    loss_if_forced: float | None
    asset: str = ""
    legs: tuple[LegView, ...] = ()
    hedge_delta_before_pct: float | None = None
    hedge_delta_after_pct: float | None = None
    then: str = ""


class ConfirmationView(PlanView, frozen=True, kw_only=True):
    """What waits for the operator, with what it would do now. ``question`` is the whole of it where nothing is moved
    (``kind`` FORGET_LOSSES)."""

    question: str = ""
    operation_id: str
    source: str
    created_operator_s: float
    expires_operator_s: float


class OperationView(msgspec.Struct, frozen=True):
    """The operation that runs now, or the last one that ended."""

    operation_id: str
    kind: str
    market: str
    state: str
    detail: str
    updated_operator_s: float
    final: bool


class AlertView(msgspec.Struct, frozen=True):
    """A standing warning (health, venue, vault ...). ``id`` changes when it is raised anew."""

    id: str
    level: str
    message: str
    since_operator_s: float


class AmountView(msgspec.Struct, frozen=True):
    """The most of ``asset`` that a deposit or withdrawal could move now, in whole units; None: not known. One unit has
    10 ** ``decimals`` of the smallest, in which commands count."""

    asset: str
    max_amount: float | None
    decimals: int


class SourceView(msgspec.Struct, frozen=True):
    """How much of a take's spot leg could come from ``source`` (``wallet``, ``deposited``), in base units."""

    source: str
    max_size: float


class ActionView(msgspec.Struct, frozen=True):
    """Whether a command could be given now, and if not, why. ``min_size``, ``max_size`` and ``step`` in base units of
    the market, where the command takes a size, ``usual_size`` what automation would take; ``amounts`` where it takes an
    amount of an asset. ``sources`` are where the spot leg of a take could come from without buying it; one that has
    none is left out."""

    action: str
    enabled: bool
    reason: str = ""
    min_size: float | None = None
    max_size: float | None = None
    step: float | None = None
    usual_size: float | None = None
    amounts: tuple[AmountView, ...] = ()
    sources: tuple[SourceView, ...] = ()


class PricesView(msgspec.Struct, frozen=True):
    """Of one market. ``basis_bps`` is mark over oracle."""

    oracle: float | None
    mark: float | None
    basis_bps: float | None
    as_of_market_s: float | None
    interpolated: bool


class CardView(msgspec.Struct, frozen=True):
    """One telemetry card (R13.1). ``value`` None: not known, ``reason`` says why. ``id`` is one of ``spread``,
    ``depth``, ``funding``, ``basis``, ``open_interest``, ``liquidations``."""

    id: str
    title: str
    value: float | None
    unit: str
    status: Literal["good", "warning", "bad", "neutral", "unknown"]
    reason: str = ""
    age_s: float | None = None


class LiquidationBucket(msgspec.Struct, frozen=True):
    """Liquidations of the last hours in one price bucket; ``price`` is its middle."""

    price: float
    count: int
    notional: float


class MarketHistory(msgspec.Struct, frozen=True):
    """``funding`` in percent a year from the short's side; ``always_short`` is the opening equity with what was
    moved in and out since, plus the funding of an unbroken short of the market's carry size, without costs."""

    market: str
    funding: tuple[tuple[float, float], ...] = ()
    always_short: tuple[tuple[float, float], ...] = ()
    open_interest: tuple[tuple[float, float], ...] = ()
    open_interest_reason: str = ""
    liquidations: tuple[LiquidationBucket, ...] = ()
    liquidations_reason: str = ""


class HistoryView(msgspec.Struct, frozen=True):
    """What the charts draw; sent beside the snapshots, seldom. Points are (market_s, value), oldest first.

    ``equity`` in quote. ``flat`` is the opening equity with what was moved in and out since, what standing aside is
    worth. Empty series come with a reason.
    """

    version: int
    markets: tuple[MarketHistory, ...]
    equity: tuple[tuple[float, float], ...] = ()
    flat: float | None = None

    def market(self, symbol: str) -> MarketHistory | None:
        return next((each for each in self.markets if each.market == symbol), None)


class HedgeView(msgspec.Struct, frozen=True):
    """One market that the engine carries. ``paused`` is why it takes no orders just now, ``ended`` that no prices come
    any more. ``liq_price`` is the price of this market that liquidates the account while the others stand still."""

    market: str
    base_symbol: str
    prices: PricesView
    delta: DeltaView
    carry: CarryView
    liq_price: float | None = None
    liq_distance_pct: float | None = None
    paused: str = ""
    ended: bool = False


class MarketDetail(msgspec.Struct, frozen=True):
    """What depends on the market that a client has selected; sent beside the snapshot with the same ``version``.
    ``gates`` judge the increase that would come next, named by ``gates_subject``; ``actions`` are the commands that
    act on this market."""

    market: str
    version: int
    gates: tuple[Verdict, ...]
    gates_subject: str
    actions: tuple[ActionView, ...]
    cards: tuple[CardView, ...]


class Snapshot(msgspec.Struct, frozen=True):
    """``actions`` are the commands that act on no single market. ``operations`` run now, or were the last of their
    market to end, newest first."""

    version: int
    schema: int
    engine: EngineView
    clock: ClockView
    account: AccountView
    vault: VaultView
    attribution: AttributionView
    hedges: tuple[HedgeView, ...]
    positions: tuple[PositionView, ...]
    opportunities: tuple[OpportunityView, ...]
    alerts: tuple[AlertView, ...]
    actions: tuple[ActionView, ...]
    confirmations: tuple[ConfirmationView, ...] = ()
    operations: tuple[OperationView, ...] = ()

    def hedge(self, symbol: str) -> HedgeView | None:
        return next((each for each in self.hedges if each.market == symbol), None)
