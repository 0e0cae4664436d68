"""Which commands could be given now, why not the others, and how much each could move at most."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec

from deltatui.domain.carry import Stance
from deltatui.domain.command import (
    Command,
    Deposit,
    Direction,
    ForgetLosses,
    Kill,
    Leave,
    Pause,
    Rebalance,
    Resume,
    SetAutomation,
    SetSpeed,
    Settle,
    SpotSource,
    Stop,
    Take,
    Withdraw,
)
from deltatui.domain.errors import ValidationError
from deltatui.domain.margin import MarginBook
from deltatui.domain.snapshot import ActionView, AmountView, SourceView
from deltatui.domain.units import BASE_PRECISION, floor_to_step
from deltatui.engine.core import Core
from deltatui.engine.desk import Desk
from deltatui.engine.hedge import Hedge
from deltatui.engine.memory import ACCOUNT
from deltatui.engine.planner import stance_of, take_sizes
from deltatui.engine.powers import needed_by, power_refusal
from deltatui.engine.standing import closed
from deltatui.engine.states import EngineState, refusal
from deltatui.engine.world import Facts
from deltatui.ports import AccountReport

_ZERO = Decimal(0)
_NOT_OF_SIZE = frozenset({"profitability", "funding_age", "venue", "rate"})


_Amounts = tuple[tuple[AmountView, ...], tuple[AmountView, ...]]
"""Most that can be deposited, and withdrawn."""


class Actions:
    """What has to be searched for is kept while nothing moved."""

    def __init__(self, core: Core, desk: Desk) -> None:
        self._core, self._desk = core, desk
        self._largest: dict[str, tuple[tuple[AccountReport, Decimal], int]] = {}
        self._amounts: dict[str, tuple[tuple[MarginBook, AccountReport], _Amounts]] = {}

    def account(self) -> tuple[ActionView, ...]:
        """The commands that act on no single market."""
        core = self._core
        asked = "another question waits for its answer" if ACCOUNT in core.pending else ""
        return (
            self._view(Pause),
            self._view(Resume, asked if core.state == EngineState.HALTED else ""),
            self._view(Kill),
            self._view(SetSpeed, "" if core.settings.mode == "replay" else "only a replay has a speed"),
            self._view(SetAutomation),
            self._view(ForgetLosses, asked, "" if core.settings.losses.any_set else "there is no loss limit"),
            self._view(Stop),
        )

    def market(self, hedge: Hedge) -> tuple[ActionView, ...]:
        """The commands that act on one market; deposit and withdrawal, of its base asset or the quote asset, are there
        because the most that can be moved takes a search for each asset."""
        facts, pending, spec = hedge.facts(), hedge.pending, hedge.spec
        held = facts is not None and bool(facts.perp.base_1e9 or facts.spot.base_1e9)
        waiting = "" if pending is None else "another question waits for its answer"
        reduces_waits = waiting if pending is not None and pending.reduces else ""
        no_data = "no prices yet" if facts is None else ""
        rebalance = hedge.rebalance_plan(manual=True)
        no_rebalance = "" if rebalance is not None and rebalance.code == "correct" else "delta is neutral"
        unsettled = facts is not None and bool(facts.perp.unsettled)
        step, least = take_sizes(spec, SpotSource.BUY)
        take = msgspec.structs.replace(
            self._view(Take, waiting, no_data, "" if facts is None else closed(facts.market)),
            min_size=least / BASE_PRECISION,
            max_size=None if facts is None else self._largest_take(hedge, facts) / BASE_PRECISION,
            step=step / BASE_PRECISION,
            usual_size=hedge.size_1e9 / BASE_PRECISION,
            sources=() if facts is None else self._sources(hedge, facts),
        )
        widens_waits = reduces_waits if rebalance and rebalance.reduce_only else waiting
        return (
            take,
            self._view(Leave, reduces_waits, no_data, "" if held else "there is no position"),
            self._view(Rebalance, widens_waits, no_data, no_rebalance),
            self._view(Settle, no_data, "" if unsettled else "nothing is unsettled"),
            *self._transfers(hedge, no_data),
        )

    def _view(self, command: type[Command], *reasons: str) -> ActionView:
        core = self._core
        why = refusal(core.state, command) or power_refusal(core.settings, needed_by(command), _word(command))
        why = why or next((reason for reason in reasons if reason), "")
        return ActionView(str(command.__struct_config__.tag), not why, why)

    def _sources(self, hedge: Hedge, facts: Facts) -> tuple[SourceView, ...]:
        spec = hedge.spec
        reserve = spec.base_1e9(self._desk.capital.gas_reserve(spec.base_symbol))
        found = (
            (SpotSource.WALLET, hedge.free_wallet_1e9(facts) - reserve),
            (SpotSource.DEPOSITED, hedge.free_own_1e9()),
        )
        return tuple(
            SourceView(source.value, floor_to_step(size, spec.step_base_1e9) / BASE_PRECISION)
            for source, size in found
            if size >= spec.min_base_1e9
        )

    def _transfers(self, hedge: Hedge, no_data: str) -> tuple[ActionView, ActionView]:
        deposits, withdrawals = self._movable(hedge)
        return (
            msgspec.structs.replace(self._view(Deposit, no_data), amounts=deposits),
            msgspec.structs.replace(self._view(Withdraw, no_data), amounts=withdrawals),
        )

    def _movable(self, hedge: Hedge) -> _Amounts:
        core, capital = self._core, self._desk.capital
        assets = core.venue.quote_symbol, hedge.spec.base_symbol
        book, account = core.venue.margin_book(), core.world.account()
        if book is None or account is None:
            unknown = tuple(AmountView(asset, None, capital.decimals(asset)) for asset in assets)
            return unknown, unknown
        known = self._amounts.get(hedge.symbol)
        # The same objects, not equal ones: what the venue has not replaced cannot have moved.
        if known is None or known[0][0] is not book or known[0][1] is not account:

            def views(largest: Callable[[str], Decimal]) -> tuple[AmountView, ...]:
                return tuple(AmountView(asset, _known(largest, asset), capital.decimals(asset)) for asset in assets)

            known = (book, account), (views(capital.largest_deposit), views(capital.largest_withdrawal))
            self._amounts[hedge.symbol] = known
        return known[1]

    def _largest_take(self, hedge: Hedge, facts: Facts) -> int:
        """The most base units for which every gate but profitability allows, by bisection; kept while nothing moved."""
        key = (facts.account, facts.market.oracle)
        known = self._largest.get(hedge.symbol)
        if known is not None and known[0][0] is key[0] and known[0][1] == key[1]:
            return known[1]
        held = stance_of(facts.perp.base_1e9)
        way = Direction.REVERSE if held == Stance.REVERSE else Direction.CARRY
        step, least_1e9 = take_sizes(hedge.spec, SpotSource.BUY)
        too_small = least_1e9 // step - 1
        low, high = too_small, int(max(facts.account.equity, _ZERO) / facts.market.oracle * 12 * BASE_PRECISION) // step
        while low < high:
            middle = (low + high + 1) // 2
            fits = self._fits(Take(market=hedge.symbol, base_1e9=middle * step, direction=way))
            low, high = (middle, high) if fits else (low, middle - 1)
        largest_1e9 = 0 if low == too_small else low * step
        self._largest[hedge.symbol] = key, largest_1e9
        return largest_1e9

    def _fits(self, command: Take) -> bool:
        try:
            verdicts = self._desk.assess.judge(self._desk.assess.plan(command))
        except ValidationError:
            return False
        return all(v.allowed or v.code in _NOT_OF_SIZE for v in verdicts)


def _word(command: type[Command]) -> str:
    return command.__name__.lower()


def _known(largest: Callable[[str], Decimal], asset: str) -> float | None:
    try:
        return float(largest(asset))
    except ValidationError:
        return None
