"""Plan and judge: what a command would do now and what every gate says of it. One place for dialogs, gates and
automation alike; nothing here changes anything."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import combinations

import msgspec

from deltatui.domain.carry import estimate
from deltatui.domain.command import Deposit, Leave, Rebalance, SpotSource, Take, Withdraw
from deltatui.domain.errors import ValidationError
from deltatui.domain.gates import allowed, judge, judge_withdrawal, only_profitability_blocks
from deltatui.domain.margin import MarginBook
from deltatui.domain.market import MarketState
from deltatui.domain.operation import Operation, OperationKind, Transfer
from deltatui.domain.units import base_to_decimal
from deltatui.domain.verdict import Verdict
from deltatui.engine.capital import Capital, deposit_allowed
from deltatui.engine.core import Core
from deltatui.engine.hedge import Hedge
from deltatui.engine.memory import PlannedCommand
from deltatui.engine.planner import Plan, Planner
from deltatui.engine.standing import closed, standing_facts, withdrawals_closed
from deltatui.engine.world import Facts

_MOST_OPEN = 4
"""Each choice of them is judged."""


class Assessor:
    """``plan`` and ``judge`` look at what the venue says at this moment."""

    def __init__(self, core: Core, planner: Planner, capital: Capital) -> None:
        self._core = core
        self._planner = planner
        self._capital = capital
        self._position_times: deque[float] = deque(maxlen=core.settings.position_ops_per_min)

    def count_position_operation(self) -> None:
        """For the rate limit (R6.8)."""
        self._position_times.append(self._core.clock.operator_s())

    def plan(self, command: PlannedCommand, *, kill: bool = False, book: MarginBook | None = None) -> Plan:
        """From fresh facts. Raises ValidationError where it cannot be done or nothing is to be done. A leave of a
        ``kill`` gets out at a worse price (:class:`SlippageLimits`). ``book`` None: the account as it is told now."""
        book = self._core.known_book() if book is None else book
        if isinstance(command, Deposit | Withdraw):
            transfer = self._transfer(command)
            hedge = self._core.hedge_of_asset(transfer.asset)
            return self._planner.transfer(None if hedge is None else self._open_facts(hedge), book, transfer)
        hedge = self._core.hedge(command.market)
        facts = self._open_facts(hedge)
        match command:
            case Take():
                self._check_source(hedge, command)
                return self._planner.take(facts, book, command.base_1e9, command.direction, command.spot)
            case Leave():
                return self._planner.leave(facts, book, hedge.own_1e9, kill=kill)
            case Rebalance():
                return self._rebalance(hedge, command, book)

    def _open_facts(self, hedge: Hedge) -> Facts:
        """Raises ValidationError where the market takes nothing at all now."""
        facts = hedge.known_facts()
        if facts.market.paused:
            raise ValidationError("VENUE_PAUSED", closed(facts.market))
        return facts

    def _check_source(self, hedge: Hedge, command: Take) -> None:
        """Raise ValidationError where the base asset that the spot leg is to come from is not there."""
        symbol = hedge.spec.base_symbol
        if command.spot == SpotSource.WALLET:
            wallet = hedge.free_wallet_1e9(hedge.known_facts())
            reserve = hedge.spec.base_1e9(self._capital.gas_reserve(symbol))
            if not deposit_allowed(command.base_1e9, wallet, reserve):
                most = base_to_decimal(max(0, wallet - reserve))
                raise ValidationError("WALLET_TOO_SMALL", f"the wallet can give at most {most:f} {symbol} to a hedge")
        elif command.spot == SpotSource.DEPOSITED and command.base_1e9 > hedge.free_own_1e9():
            free = base_to_decimal(hedge.free_own_1e9())
            raise ValidationError(
                "NOT_DEPOSITED", f"{free:f} {symbol} are deposited and not covered by a hedge; deposit more, or buy"
            )

    def _rebalance(self, hedge: Hedge, command: Rebalance, book: MarginBook) -> Plan:
        wanted = hedge.rebalance_plan(manual=command.source != "engine")
        if wanted is None or wanted.code != "correct":
            reason = "the exposure is not known" if wanted is None else wanted.reason
            raise ValidationError("NOTHING_TO_REBALANCE", reason)
        return self._planner.perp_order(
            OperationKind.REBALANCE,
            hedge.known_facts(),
            book,
            wanted.base_1e9,
            reduce_only=wanted.reduce_only,
            reason=wanted.reason,
        )

    def _transfer(self, command: Deposit | Withdraw) -> Transfer:
        capital, asset = self._capital, command.asset
        if asset not in capital.assets:
            raise ValidationError("UNKNOWN_ASSET", f"{asset} cannot be moved, only {', '.join(capital.assets)}")
        if command.amount <= 0:
            raise ValidationError("BAD_AMOUNT", f"the amount must be more than 0, it is {command.amount}")
        if isinstance(command, Withdraw):
            return Transfer(asset, -command.amount)
        if not deposit_allowed(command.amount, capital.wallet(asset), capital.gas_reserve(asset)):
            most = capital.largest_deposit(asset)
            raise ValidationError("WALLET_TOO_SMALL", f"the wallet can give at most {most:f} {asset}")
        return Transfer(asset, command.amount)

    def judge(self, plan: Plan) -> tuple[Verdict, ...]:
        """Every gate's verdict on a plan (R6). A deposit only reduces risk and is not judged."""
        if plan.kind == OperationKind.DEPOSIT:
            return ()
        core, hedge = self._core, self._core.hedges.get(plan.market)
        facts = None if hedge is None else hedge.facts()
        market = None if facts is None else facts.market
        limits, absent = core.settings.limits, core.venue.not_applicable()
        if plan.kind == OperationKind.WITHDRAW:
            problem = "" if hedge is None else None if market is None else withdrawals_closed(market)
            return judge_withdrawal(standing_facts(plan.after, problem, withdraws=True), limits)
        exempt = self._carry_exempt(plan)
        carry = None
        if hedge is not None and not exempt:
            cost = hedge.round_trip(plan.legs[0].base_1e9, spot_leg=plan.spot_leg)
            carry = estimate(plan.stance, hedge.window, cost, hedge.settings.carry)
        return judge(
            standing_facts(
                plan.after,
                None if market is None else self._closed_to(plan, market),
                withdraws=False,
                increases_risk=plan.increases_risk,
                size_problem=_size_problem(plan),
                rate_problem=self._rate_problem(),
                carry=carry,
                carry_exempt=exempt,
                funding_age_s=None if market is None else self._funding_age_s(market),
                funding_interval_s=3600 if market is None else market.spec.funding_interval_s,
            ),
            limits,
            absent,
        )

    def verdicts(self, command: PlannedCommand, plan: Plan) -> tuple[Verdict, ...]:
        """:meth:`judge`, and where operations of other markets are open also with what any of them would do: all must
        pass, and of each gate the worst is told. Raises ValidationError where nobody can say what one would do."""
        verdicts = self.judge(plan)
        for book in self._books_with_open(plan.market) if plan.increases_risk else ():
            verdicts = tuple(
                first if second.allowed or not first.allowed else second
                for first, second in zip(verdicts, self.judge(self.plan(command, book=book)), strict=True)
            )
        return verdicts

    def fits_without(self, left: Hedge, command: Take) -> bool:
        """Whether every gate would let ``command`` pass once what ``left`` holds is closed. Raises ValidationError
        where one of both cannot be planned."""
        closing = self.plan(Leave(market=left.symbol))
        book = self._planner.book_with_legs(left.known_facts(), self._core.known_book(), closing.legs)
        return allowed(self.judge(self.plan(command, book=book)))

    def _books_with_open(self, market: str) -> Iterator[MarginBook]:
        """The account as it would be if some of the open operations of the other markets had landed, for each choice of
        them. A deposit that is not there yet is not counted on."""
        core = self._core
        operations = {each.operation.id: each.operation for each in core.unresolved.values()}
        operations |= {hedge.check.operation.id: hedge.check.operation for hedge in core.checks() if hedge.check}
        others = [
            each
            for each in operations.values()
            if core.place_of(each.market) != market and each.kind not in (OperationKind.DEPOSIT, OperationKind.SETTLE)
        ]
        if len(others) > _MOST_OPEN:
            raise ValidationError("UNRESOLVED_OPEN", f"{len(others)} operations are not resolved yet; this has to wait")
        for count in range(1, len(others) + 1):
            for landed in combinations(others, count):
                book = core.known_book()
                for operation in landed:
                    book = self._book_with(book, operation)
                yield book

    def _book_with(self, book: MarginBook, operation: Operation) -> MarginBook:
        if not operation.market:
            return self._planner.book_with_operation(None, book, operation)
        hedge = self._core.hedges.get(operation.market)
        facts = None if hedge is None else hedge.facts()
        if hedge is None or facts is None:
            raise ValidationError(
                "UNRESOLVED_OPEN",
                f"an operation of {operation.market} is not resolved yet, and what it would do cannot be reckoned now",
            )
        return self._planner.book_with_operation(facts, book, _still_open(operation, hedge))

    def _closed_to(self, plan: Plan, market: MarketState) -> str:
        return closed(market) if plan.increases_risk else withdrawals_closed(market)

    def _carry_exempt(self, plan: Plan) -> str:
        """Why ``plan`` is not judged by what it would earn (R5.8: that gate judges entering); empty where it is."""
        if plan.kind != OperationKind.TAKE:
            return "it corrects the hedge that is held and enters nothing"
        return self._core.settings.hold_reason

    def _funding_age_s(self, market: MarketState) -> float | None:
        if market.funding is not None:
            return self._core.clock.market_s() - market.funding.ts_s
        # Before the first record of a run that is told to hold a stance, there is nothing to be old.
        return 0.0 if self._core.settings.hold is not None else None

    def _rate_problem(self) -> str:
        times, most = self._position_times, self._core.settings.position_ops_per_min
        if len(times) < most or self._core.clock.operator_s() - times[0] >= 60.0:
            return ""
        return f"{most} position operations in the last minute, the limit"

    def can_force(self, plan: Plan, verdicts: tuple[Verdict, ...]) -> bool:
        """Whether Confirm(force=True) would be taken: profitability alone refuses, and no real money is at stake."""
        takes = plan.kind == OperationKind.TAKE
        return takes and self._core.settings.mode != "live" and only_profitability_blocks(verdicts)

    def asks(self, command: PlannedCommand, plan: Plan) -> bool:
        """Whether it waits for a confirmation (R7.1, R7.2, R3.4)."""
        settings, notional = self._core.settings, float(plan.notional)
        if command.source != "engine":
            return isinstance(command, Leave) or notional > settings.confirm_above_usd
        if not plan.increases_risk or notional <= settings.confirm_above_usd:
            return False
        return settings.auto_limit_usd is None or notional > settings.auto_limit_usd

    def word(self, plan: Plan) -> str:
        """What has to be typed to confirm it (R13.10): the symbol of the market or asset; empty where nothing has."""
        settings = self._core.settings
        if settings.mode != "live" or float(plan.notional) <= settings.typed_above_usd:
            return ""
        return plan.market or (plan.transfer.asset if plan.transfer is not None else "")

    def refused(self, plan: Plan, verdicts: tuple[Verdict, ...]) -> str:
        """Why the gates refuse; empty where they do not. A withdrawal is told the most that would pass (R3.4)."""
        if allowed(verdicts):
            return ""
        why = "; ".join(_told(verdict) for verdict in verdicts if not verdict.allowed)
        if plan.transfer is None:
            return f"blocked by {why}"
        asset = plan.transfer.asset
        return f"blocked by {why}; at most {self._capital.largest_withdrawal(asset):f} {asset}"


def _still_open(operation: Operation, hedge: Hedge) -> Operation:
    """``operation`` without what is known to be filled: that stands in the account already."""
    check = hedge.check
    if check is None or check.operation.id != operation.id or not check.fills:
        return operation
    legs = []
    for leg in operation.legs:
        rest_1e9 = leg.base_1e9 - check.filled_1e9(leg.market)
        if rest_1e9 * leg.base_1e9 > 0:
            legs.append(msgspec.structs.replace(leg, base_1e9=rest_1e9))
    return msgspec.structs.replace(operation, legs=tuple(legs), transfer=None)


def _size_problem(plan: Plan) -> str:
    """Why the market would not take the size of an order (R4.4); empty where it would. Steps are the planner's matter,
    and what only reduces may close a rest below the minimum."""
    spec = plan.spec
    if spec is None:
        return ""
    for leg in plan.legs:
        least_1e9 = spec.min_base_1e9 if leg.market == spec.symbol else spec.spot_min_1e9
        if not leg.reduce_only and abs(leg.base_1e9) < least_1e9:
            size, least = base_to_decimal(abs(leg.base_1e9)), base_to_decimal(least_1e9)
            return f"{size:f} {leg.market} is below the minimum of {least:f}"
    return ""


def _told(verdict: Verdict) -> str:
    return f"{verdict.code}: {verdict.reason or f'{verdict.observed}, limit {verdict.limit}'}"
