"""Pane 1: health, equity, leverage, margins and the distance to liquidation."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from deltatui.plain import hedge_differs
from deltatui.tui import fmt
from deltatui.tui.panes.base import NO_MARKET, Body, Pane, Part, bright, by_sign, faint, joined, label
from deltatui.tui.widgets.gauge import HEALTH_BANDS, Gauge, bar
from deltatui.tui.widgets.glyphs import UNICODE, fit, width_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from deltatui.domain.snapshot import AccountView, CarryView, DeltaView, Snapshot
    from deltatui.tui.store import Shown, View

NEAR_PCT = 20.0
"""A liquidation nearer than this is drawn as a warning (R4.2)."""


class HealthPane(Pane):
    NUMBER: ClassVar[str] = "1"
    NAME: ClassVar[str] = "Health"
    EVERY: ClassVar[int] = 2

    def compose(self) -> ComposeResult:
        yield Gauge(ascii_only=self.ascii_only, id="gauge")
        yield Body(id="account")

    def data_age_s(self, shown: Shown) -> float | None:
        return account_age_s(shown.snapshot)

    def old(self, view: View, now: float) -> bool:
        age = account_age_s(view.snapshot) if view.snapshot is not None else None
        return super().old(view, now) or (age is not None and age > 60.0)

    def no_data(self, lines: Sequence[Sequence[Part]]) -> None:
        self.query_one(Gauge).display = False
        self.query_one(Body).show(lines)

    def draw(self, shown: Shown, now: float) -> None:
        gauge, body = self.query_one(Gauge), self.query_one(Body)
        small = self.screen.has_class("-small") and not self.has_class("-zoomed")
        gauge.display = not small
        account = shown.snapshot.account
        gauge.set_value(account.health, account.reason or "not known")
        if small:
            body.show(small_lines(shown, self.inner))
        elif self.zoomed:
            body.show([*account_lines(shown, min(self.inner, 60)), *account_details(shown.snapshot)])
        else:
            body.show(account_lines(shown, self.inner))


def account_age_s(snapshot: Snapshot) -> float | None:
    """Age of the account's figures at the engine. A tape runs at its own speed: there only a standing figure is old,
    and the snapshot's own age tells that."""
    if snapshot.engine.mode == "replay":
        return None
    market, as_of = snapshot.clock.market_s, snapshot.account.as_of_market_s
    return None if market is None or as_of is None else max(0.0, market - as_of)


def leverage_part(account: AccountView) -> Part:
    if account.leverage is None:
        return faint(fmt.NA)
    high = account.leverage > 0.8 * account.max_leverage
    return Part(fmt.multiple(account.leverage), "bold $warn" if high else "$bright")


def liq_text(price: float) -> str:
    """In at most eight cells: ``412.50``, ``94,190.0``, ``141,870``, ``2.58M``."""
    if abs(price) >= 999_999.5:
        return fmt.compact(price)
    return fmt.price(price, 2 if abs(price) < 10_000 else 1 if abs(price) < 100_000 else 0)


def liquidation_part(account: AccountView) -> Part:
    """``+1,356 % away``, or that no price liquidates."""
    if account.health is None:
        return faint(fmt.NA)
    if account.liq_price is None:
        return label("safe at any price")
    if account.liq_distance_pct is None:
        return faint("distance n/a")
    near = abs(account.liq_distance_pct) < NEAR_PCT
    text = fmt.pct(account.liq_distance_pct, 0 if abs(account.liq_distance_pct) >= 100 else 1, plus=True)
    return Part(f"{text} NEAR", "bold $down") if near else Part(f"{text} away")


def money(value: float | None) -> str:
    """Dollars in at most eleven cells: without cents from a million."""
    return fmt.usd(value, 0 if value is not None and abs(value) >= 1e6 else 2)


def account_lines(shown: Shown, cells: int) -> list[list[Part]]:
    """Two pairs of figures a line where they fit, label left, number right. Of what lies in the wallet the quote and
    the selected market's asset."""
    account = shown.snapshot.account

    def pair(left: str, value: Part, right: str = "", other: Part | None = None) -> list[Part]:
        line = [label(fit(left, 11)), Part(fit(value.text, 11, "right"), value.style)]
        rest = cells - 24
        if other is not None and rest >= width_of(right) + width_of(other.text):
            gap = rest - width_of(right)
            line += [Part("  "), label(right), Part(fit(other.text, gap, "right"), other.style)]
        return line

    leverage = leverage_part(account)
    liquidation = liq_text(account.liq_price) if account.liq_price is not None else fmt.NA
    if account.liq_price is None and account.health is not None:
        liquidation = "none"
    lines = [
        [],
        pair(
            "equity",
            bright(money(account.equity)),
            "lev",
            Part(leverage.text + (f"/{account.max_leverage:g}x" if cells >= 38 else ""), leverage.style),
        ),
        pair(
            "collateral",
            bright(money(account.collateral_maintenance)),
            "free",
            bright(fmt.usd(account.free_collateral, 0)),
        ),
        pair(
            "maint req",
            Part(money(account.maintenance_requirement)),
            "init",
            Part(fmt.usd(account.initial_requirement, 0)),
        ),
        pair(liquidation_name(account), bright(liquidation), "", liquidation_part(account)),
        pair("quote", Part(money(account.quote_balance)), "due", unsettled_part(account)),
        pair("wallet", Part(money(account.wallet_quote)), "", in_wallet(shown)),
    ]
    if account.reason:
        lines.insert(0, [Part(fit(fmt.safe_text(account.reason), cells).rstrip(), "$warn")])
    return lines


def liquidation_name(account: AccountView) -> str:
    """``liq SOL``: in which market the account would be liquidated first."""
    market = fmt.safe_text(account.liq_market, 16).removesuffix("-PERP")
    return f"liq {market}" if market else "liq price"


def in_wallet(shown: Shown) -> Part | None:
    """``0.500 SOL``: the selected market's asset; nothing where there is no such asset."""
    if shown.hedge is None:
        return None
    symbol = shown.hedge.base_symbol
    found = next((asset.wallet for asset in shown.snapshot.account.assets if asset.asset == symbol), None)
    return Part(f"{fmt.amount(found)} {fmt.safe_text(symbol, 8)}")


def unsettled_part(account: AccountView) -> Part:
    """What perps have gained or lost and the quote balance does not show yet: it stays when they are closed."""
    return by_sign(account.unsettled_pnl, fmt.signed(account.unsettled_pnl))


def delegate_text(account: AccountView) -> str:
    """The delegate's key, shortened so that both ends can be compared."""
    key = fmt.safe_text(account.delegate, 64)
    return key if len(key) <= 12 else f"{key[:4]}…{key[-4:]}"


def account_details(snapshot: Snapshot) -> list[list[Part]]:
    """What the pane has no room for among the others."""
    account, vault = snapshot.account, snapshot.vault

    def row(name: str, value: str, note: str = "") -> list[Part]:
        line = [label(fit(name, 18)), Part(fit(value, 14, "right"))]
        return [*line, faint("  " + note)] if note else line

    return [
        [],
        row("settled PnL", fmt.signed(account.settled_pnl), "in the quote balance"),
        row("unsettled PnL", fmt.signed(account.unsettled_pnl), "of perps, not in the quote balance yet"),
        row("total PnL", fmt.signed(account.total_pnl), "of perps, both"),
        row("initial collat.", money(account.collateral_initial)),
        row("available", money(vault.available_capital), "free to use"),
        row("deployed", money(vault.allocated_capital)),
        row("realised funding", fmt.signed(vault.realized_funding)),
        [
            label(fit("delegate", 18)),
            Part(fmt.safe_text(account.delegate, 64)) if account.delegate else faint("none"),
        ],
        row("account as of", fmt.when(account.as_of_market_s)),
        *(
            row(
                fmt.safe_text(asset.asset, 12),
                fmt.amount(asset.account),
                f"and {fmt.amount(asset.wallet)} in the wallet",
            )
            for asset in account.assets
        ),
    ]


def small_lines(shown: Shown, cells: int) -> list[list[Part]]:
    """Health and account on one line, delta and carry of the selected market on another, for 80x24."""
    account, hedge = shown.snapshot.account, shown.hedge
    if hedge is None:
        market = [[faint(NO_MARKET)], small_unsettled(account)]
    else:
        name = [bright(fmt.safe_text(hedge.market, 12))]
        carry = hedge.carry
        # The stance stands in the pane below as well: it gives way.
        market = [name, delta_parts(hedge.delta), carry_parts(carry), small_unsettled(account), stance_parts(carry)]
    return [
        joined(
            [
                health_bar(account, 6),
                [label("equity "), bright(fmt.usd(account.equity, 0))],
                [label("lev "), leverage_part(account)],
                [label(f"{liquidation_name(account).removesuffix(' price')} "), small_liquidation(account)],
                [label("free "), bright(fmt.usd(account.free_collateral, 0))],
            ],
            cells,
            gap=2,
        ),
        joined(market, cells),
    ]


def small_unsettled(account: AccountView) -> list[Part]:
    """Only where there is some."""
    if account.unsettled_pnl is None or abs(account.unsettled_pnl) < 0.005:
        return []
    return [label("unsettled "), unsettled_part(account)]


def small_liquidation(account: AccountView) -> Part:
    if account.health is None:
        return faint(fmt.NA)
    return bright("none" if account.liq_price is None else liq_text(account.liq_price))


def health_bar(account: AccountView, cells: int) -> list[Part]:
    if account.health is None:
        return [label("health "), Part("n/a", "$warn")]
    band = next(band for band in HEALTH_BANDS if band.below is None or account.health < band.below)
    style = {"good": "$up", "warn": "$warn", "bad": "bold $down"}.get(band.style, "$foreground")
    filled = bar(account.health / 100, cells, UNICODE.eighths)
    return [
        Part(f"{account.health:>3} ", style),
        faint(UNICODE.bar_left),
        Part(filled, style),
        faint(UNICODE.bar_right),
        Part(f" {band.word}", style),
    ]


def delta_parts(delta: DeltaView) -> list[Part]:
    """The account's; what is hedged, where that is another, is what is held to the tolerance."""
    if delta.drift_pct is None:
        return [label("delta "), faint(fmt.NA)]
    before: list[Part] = [label("delta ")]
    hedge = hedge_differs(delta)
    if hedge:
        before += [bright(fmt.pct(delta.drift_pct, plus=True)), label(" hedge ")]
    drift = delta.hedge_drift_pct if hedge else delta.drift_pct
    within = drift is not None and abs(drift) <= delta.tolerance_pct
    word = fmt.NA if drift is None else "ok" if within else "off"
    return [
        *before,
        Part(fmt.pct(drift, plus=True), "$bright" if within else "bold $warn"),
        Part(f" {word}", "$label" if within else "bold $warn"),
    ]


def carry_parts(carry: CarryView) -> list[Part]:
    line = [label("carry "), by_sign(carry.now_apr, fmt.apr(carry.now_apr))]
    if carry.now_apr is not None:
        line.append(label(" APR"))
    return [*line, *per_hour(carry)]


def per_hour(carry: CarryView) -> list[Part]:
    """``  expected -$0.0171/h``: of the position held by the blended rate, flat of one that would be; the rate of now
    may have another sign."""
    value = carry.expected_per_hour
    if value is None or abs(value) < 0.00005:
        return []
    # Cents matter here: what is paid every hour adds up.
    amount = fmt.usd(value, 2 if abs(value) >= 1 else 4, plus=True)
    return [label("  expected "), Part(f"{amount}/h", "$down" if value < 0 else "$up")]


def stance_parts(carry: CarryView) -> list[Part]:
    stance, decision = fmt.safe_text(carry.stance, 8), fmt.safe_text(carry.decision, 8)
    if stance == decision:
        return [label("stance "), bright(stance)]
    return [label("stance "), bright(stance), Part("→", "$label"), Part(decision, "bold $warn")]
