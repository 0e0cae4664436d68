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
from deltatui.engine.memory import Facts
from deltatui.engine.planner import stance_of
from deltatui.engine.powers import needed_by, power_refusal
from deltatui.engine.states import refusal
from deltatui.ports import AccountState

_NOT_OF_SIZE = frozenset({"profitability", "funding_age", "venue", "rate"})


class Actions:
    """What has to be searched for is kept while nothing moved."""

    def __init__(self, core: Core, desk: Desk) -> None:
        self._core, self._desk = core, desk
        self._size_key: tuple[int, object] | None = None
        self._max_size = 0
        self._moved_from: tuple[MarginBook | None, AccountState | None] = (None, None)
        self._deposits: tuple[AmountView, ...] = ()
        self._withdrawals: tuple[AmountView, ...] = ()

    def views(self, facts: Facts | None) -> tuple[ActionView, ...]:
        core = self._core
        state, spec = core.state, core.spec
        held = facts is not None and bool(facts.account.perp_1e9 or facts.account.spot_1e9)
        waiting = "" if core.pending is None else "another question waits for its answer"
        reduces_waits = waiting if core.pending is not None and core.pending.reduces else ""
        no_data = "no prices yet" if facts is None else ""

        def view(command: type[Command], *reasons: str) -> ActionView:
            why = refusal(state, command) or power_refusal(core.settings, needed_by(command), _word(command))
            why = why or next((reason for reason in reasons if reason), "")
            return ActionView(str(command.__struct_config__.tag), not why, why)

        self._find_amounts(facts)
        take = view(Take, waiting, no_data)
        rebalance = core.rebalance_plan(manual=True)
        no_rebalance = "" if rebalance is not None and rebalance.code == "correct" else "delta is neutral"
        unsettled = facts is not None and bool(facts.account.unsettled)
        return (
            msgspec.structs.replace(
                take,
                min_size=spec.min_base_1e9 / BASE_PRECISION,
                max_size=None if facts is None else self._largest_take(facts) / BASE_PRECISION,
                step=spec.step_base_1e9 / BASE_PRECISION,
                sources=() if facts is None else self._sources(facts),
            ),
            view(Leave, reduces_waits, no_data, "" if held else "there is no position"),
            view(Rebalance, reduces_waits if rebalance and rebalance.reduce_only else waiting, no_data, no_rebalance),
            view(Settle, no_data, "" if unsettled else "nothing is unsettled"),
            msgspec.structs.replace(view(Deposit, no_data), amounts=self._deposits),
            msgspec.structs.replace(view(Withdraw, no_data), amounts=self._withdrawals),
            view(Pause),
            view(Resume),
            view(Kill),
            view(SetSpeed, "" if core.settings.mode == "replay" else "only a replay has a speed"),
            view(SetAutomation),
            view(ForgetLosses, waiting, "" if core.settings.losses.any_set else "there is no loss limit"),
            view(Stop),
        )

    def _sources(self, facts: Facts) -> tuple[SourceView, ...]:
        capital, spec = self._desk.capital, self._core.spec
        wallet = self._core.free_wallet_1e9(facts.account) - capital.gas_reserve(spec.base_symbol)
        found = ((SpotSource.WALLET, wallet), (SpotSource.DEPOSITED, self._core.free_own_1e9()))
        return tuple(
            SourceView(source.value, floor_to_step(size, spec.step_base_1e9) / BASE_PRECISION)
            for source, size in found
            if size >= spec.min_base_1e9
        )

    def _find_amounts(self, facts: Facts | None) -> None:
        book, account = self._core.venue.margin_book(), None if facts is None else facts.account
        known_book, known_account = self._moved_from
        # The same objects, not equal ones: what the venue has not replaced cannot have moved.
        if book is None or book is not known_book or account is not known_account:
            capital = self._desk.capital
            self._deposits = self._amounts(capital.largest_deposit)
            self._withdrawals = self._amounts(capital.largest_withdrawal)
            self._moved_from = book, account

    def _amounts(self, largest: Callable[[str], Decimal]) -> tuple[AmountView, ...]:
        return tuple(AmountView(asset, _known(largest, asset)) for asset in self._desk.capital.assets)

    def _largest_take(self, facts: Facts) -> int:
        """The most base units for which every gate but profitability allows, by bisection; kept while nothing moved."""
        spec = self._core.spec
        held = stance_of(facts.account.perp_1e9)
        way = Direction.REVERSE if held == Stance.REVERSE else Direction.CARRY
        key = (facts.account.events, facts.market.oracle)
        if key == self._size_key:
            return self._max_size
        low, high = 0, int(facts.account.equity / facts.market.oracle * 12 * BASE_PRECISION) // spec.step_base_1e9
        while low < high:
            middle = (low + high + 1) // 2
            command = Take(market=spec.symbol, base_1e9=middle * spec.step_base_1e9, direction=way)
            low, high = (middle, high) if self._fits(command) else (low, middle - 1)
        self._size_key, self._max_size = key, low * spec.step_base_1e9
        return self._max_size

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
