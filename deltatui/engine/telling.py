"""The engine's audit lines (R15.2): from what happened to one line in file and pane each."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from deltatui.domain import audit
from deltatui.domain.carry import Decision
from deltatui.domain.costs import RoundTrip
from deltatui.domain.delta import Exposure, RebalancePlan
from deltatui.domain.event import Event
from deltatui.domain.ledger import LedgerEntry
from deltatui.domain.market import MarketState
from deltatui.domain.operation import Operation
from deltatui.domain.units import BASE_PRECISION
from deltatui.domain.verdict import Verdict
from deltatui.engine.planner import Plan
from deltatui.engine.standing import Standing
from deltatui.engine.world import Facts
from deltatui.ports import Log


class Teller:
    """Says each thing once: what did not change since it was last said is left out."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._last: dict[str, object] = {}

    def event(self, event: Event) -> None:
        fields = {"kind": event.kind, "market_s": event.market_s}
        if event.operation_id:
            fields["operation_id"] = event.operation_id
        self._log(event.level, "", event.message, fields)

    def funding(self, entry: LedgerEntry, facts: Facts) -> None:
        record, base_1e9 = facts.market.funding, facts.perp.base_1e9
        if record is None:
            return
        self._log(
            *audit.funding(
                market=entry.instrument,
                record=record.ts_s,
                rate=record.rate_long if base_1e9 > 0 else record.rate_short,
                base=Decimal(base_1e9) / BASE_PRECISION,
                amount=entry.amount,
                market_s=entry.market_s,
            )
        )

    def profitability(
        self, decision: Decision, cost: RoundTrip, notional: float, horizon_h: float, latest: float, market: MarketState
    ) -> None:
        """``latest`` is the newest hourly fraction. Judged is the stance that is held or would be best."""
        estimate = decision.judged
        revenue = None if estimate is None else estimate.net * horizon_h * notional
        costs = cost.total * notional
        self._log(
            *audit.profitability(
                expected_revenue=revenue,
                estimated_costs=costs,
                net_profit=None if revenue is None else revenue - costs,
                funding_rate=latest,
                blended_rate=None if estimate is None else estimate.gross,
                market=market.spec.symbol,
                market_s=market.as_of_s,
            )
        )

    def account(self, standing: Standing, market_s: float) -> None:
        summary = standing.summary
        said = (summary.health, round(standing.leverage or -1.0, 2))
        if self._last.get("account") == said:
            return
        self._last["account"] = said
        self._log(
            *audit.account(
                health_ratio=summary.health,
                leverage=None if standing.leverage is None else round(standing.leverage, 4),
                total_collateral=summary.collateral_maintenance_1e6 / 1e6,
                free_collateral=summary.free_initial_1e6 / 1e6,
                market_s=market_s,
            )
        )

    def rebalancer(self, market: str, plan: RebalancePlan, exposure: Exposure, market_s: float) -> None:
        if self._last.get(f"rebalancer {market}") == plan.code:
            return
        self._last[f"rebalancer {market}"] = plan.code
        self._log(
            *audit.rebalancer(
                market=market,
                action=plan.correction if plan.base_1e9 else "none",
                reason=plan.reason,
                net_delta=exposure.net_1e9 / BASE_PRECISION,
                drift_pct=round(exposure.drift_pct, 4),
                cooldown_remaining_s=plan.cooldown_remaining_s,
                market_s=market_s,
            )
        )

    def verdicts(self, subject: str, verdicts: Iterable[Verdict], market_s: float) -> None:
        """What blocks gets a line of its own, the rest shares one."""
        passed = []
        for verdict in verdicts:
            if verdict.allowed:
                passed.append(verdict)
            else:
                self._log(*audit.safety(verdict, subject=subject, market_s=market_s))
        if passed:
            self._log(*audit.safety_passed(passed, subject=subject, market_s=market_s))

    def cost(self, plan: Plan, market_s: float) -> None:
        if plan.spec is not None and plan.legs:
            parts = {"fees": plan.fees, "slippage": plan.slippage}
            total = plan.fees + plan.slippage
            self._log(*audit.cost(market=plan.spec.symbol, parts=parts, total=total, market_s=market_s))

    def trades(self, operation: Operation, fills: Iterable[tuple[str, Decimal, Decimal]], signature: str) -> None:
        for instrument, base, price in fills:
            self._log(
                *audit.trade(
                    market=instrument,
                    side="buy" if base > 0 else "sell",
                    size=abs(base),
                    price=price,
                    tx_signature=signature,
                    market_s=operation.created_market_s,
                    operation_id=operation.id,
                )
            )
