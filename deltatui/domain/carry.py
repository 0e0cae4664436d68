"""Whether carry pays: the profitability rule and the choice between CARRY, FLAT and REVERSE (R6.2, R18.3).

CARRY is long spot and short perp, REVERSE its mirror with borrowed spot. Everything is a fraction of one leg's
notional per hour. A forecast gain is halved, a forecast loss taken whole.

Three habits keep the engine from churning. The newest record and the average alone must each agree with the forecast
before it enters, and the average before it leaves, so that one loud record decides nothing. It enters only after the
rule has held for several records in a row, twice as many after each round trip that did not earn its costs. And it
leaves like a ski renter who buys once the rents add up to the price of the skis: when the losses since the best
moment have eaten what leaving and coming back would cost, or when the forecast says that they will.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from deltatui.domain.costs import RoundTrip
from deltatui.domain.funding import FundingWindow, HourFractions, fraction_to_apr_pct
from deltatui.domain.units import HOURS_PER_YEAR


class Stance(StrEnum):
    FLAT = "FLAT"
    CARRY = "CARRY"
    REVERSE = "REVERSE"


class CarrySettings(msgspec.Struct, frozen=True):
    """``prediction_weight`` is the weight of the newest record against the average of ``average_records``, which like
    ``confirm_records`` and ``min_records`` counts funding intervals; ``least_round_trip`` is the smallest round-trip
    cost the rule assumes, so that a preset without fees does not make trading look free. Rates in percent a year."""

    horizon_h: float = 168.0
    prediction_weight: float = 0.25
    average_records: int = 24
    confirm_records: int = 3
    min_records: int = 6
    gain_haircut: float = 0.5
    fee_multiple: float = 2.0
    least_round_trip: float = 0.0005
    base_borrow_apr_pct: float = 7.5
    base_lend_apr_pct: float = 0.0
    quote_lend_apr_pct: float = 0.0


class CarryRule(StrEnum):
    """The rules that an entry has to pass, in the order in which they are asked."""

    NEGATIVE = "negative"
    """Expected carry must be above zero."""
    BREAK_EVEN = "break_even"
    """It must earn the round trip within the horizon."""
    FEES = "fees"
    """Over the horizon it must earn more than so many times the fees."""
    NEWEST_RECORD = "newest_record"
    """The newest record must pay our own side."""
    AVERAGE = "average"
    """The average alone must earn the round trip within the horizon."""


class CarryEstimate(msgspec.Struct, frozen=True):
    """What one direction is expected to earn, as fractions of a notional an hour. ``gross`` is the blended funding
    of its own side (positive received), ``net`` after haircut, borrow and yield, ``net_by_average`` the same from
    the average alone, ``newest`` the newest record's. ``break_even_h`` None: never.

    ``refused_by`` is the first rule that refuses, None where all are passed. What is said of it is made of what it was
    judged by: ``costs`` and of these ``fees`` of the round trip, the horizon, how many fees it has to earn.
    """

    stance: Stance
    gross: float
    net: float
    net_by_average: float
    break_even_h: float | None
    refused_by: CarryRule | None = None
    newest: float = 0.0
    costs: float = 0.0
    fees: float = 0.0
    horizon_h: float = 168.0
    fee_multiple: float = 2.0

    @property
    def allowed(self) -> bool:
        """R6.2's verdict."""
        return self.refused_by is None

    @property
    def observed(self) -> str:
        """What the rule that refuses looked at, with its unit; of what is allowed, the break-even time."""
        match self.refused_by:
            case CarryRule.NEGATIVE:
                return _apr(self.net)
            case CarryRule.FEES:
                return f"{self.net * self.horizon_h * 1e4:.1f} bp"
            case CarryRule.NEWEST_RECORD:
                return _apr(self.newest)
            case CarryRule.AVERAGE:
                return _apr(self.net_by_average)
            case _:
                return f"{self.break_even_h or 0.0:,.0f} h"

    @property
    def limit(self) -> str:
        """What that rule asks for."""
        match self.refused_by:
            case CarryRule.NEGATIVE:
                return "> 0 % APR expected"
            case CarryRule.FEES:
                fees = self.fee_multiple * self.fees
                return f"> {fees * 1e4:.1f} bp, {self.fee_multiple:g} times the fees"
            case CarryRule.NEWEST_RECORD:
                return "> 0 % APR, newest record"
            case CarryRule.AVERAGE:
                return f">= {_apr(self.costs / self.horizon_h)}, average alone"
            case _:
                return f"<= {self.horizon_h:g} h"

    @property
    def reason(self) -> str:
        """The verdict in words."""
        match self.refused_by:
            case CarryRule.NEGATIVE:
                return f"expected carry is {_apr(self.net)}"
            case CarryRule.BREAK_EVEN:
                return f"break-even after {self.observed}, limit {self.horizon_h:.0f} h"
            case CarryRule.FEES:
                return f"profit over {self.horizon_h:.0f} h is below {self.fee_multiple:g} times the fees"
            case CarryRule.NEWEST_RECORD:
                return "the newest record pays the other side"
            case CarryRule.AVERAGE:
                return f"only the newest record pays; the average is {_apr(self.net_by_average)}"
            case None:
                return f"{_apr(self.net)} expected, break-even after {self.observed}"


def side_fraction(stance: Stance, fractions: HourFractions) -> float:
    """Funding that ``stance`` receives from one record, as a fraction of notional."""
    if stance == Stance.CARRY:
        return fractions.short_receives
    if stance == Stance.REVERSE:
        return -fractions.long_pays
    return 0.0


def hedge_yield(stance: Stance, settings: CarrySettings) -> float:
    """Lending yield minus borrow cost that holding ``stance`` adds over holding flat, per hour.

    Flat capital is quote that earns the quote lending rate anyway; CARRY turns it into the base asset, REVERSE
    adds the proceeds of what it borrows.
    """
    if stance == Stance.CARRY:
        apr_pct = settings.base_lend_apr_pct - settings.quote_lend_apr_pct
    elif stance == Stance.REVERSE:
        apr_pct = settings.quote_lend_apr_pct - settings.base_borrow_apr_pct
    else:
        apr_pct = 0.0
    return apr_pct / 100.0 / HOURS_PER_YEAR


def estimate(stance: Stance, window: FundingWindow, cost: RoundTrip, settings: CarrySettings) -> CarryEstimate | None:
    """Judge one direction by R6.2. None while too few records are known."""
    latest, mean = window.latest, window.mean
    if latest is None or mean is None or window.count < settings.min_records:
        return None
    weight = settings.prediction_weight
    average, newest = side_fraction(stance, mean), side_fraction(stance, latest)
    gross = weight * newest + (1.0 - weight) * average
    interest = hedge_yield(stance, settings)
    net, net_by_average = _believed(gross, settings) + interest, _believed(average, settings) + interest
    costs = max(cost.total, settings.least_round_trip)
    break_even_h = costs / net if net > 0 else None
    refused_by = _refused_by(net, net_by_average, break_even_h, newest, costs, cost.fees, settings)
    return CarryEstimate(
        stance,
        gross,
        net,
        net_by_average,
        break_even_h,
        refused_by,
        newest,
        costs,
        cost.fees,
        settings.horizon_h,
        settings.fee_multiple,
    )


def _believed(gross: float, settings: CarrySettings) -> float:
    return gross * settings.gain_haircut if gross > 0 else gross


def _refused_by(
    net: float,
    net_by_average: float,
    break_even_h: float | None,
    newest: float,
    costs: float,
    fees: float,
    settings: CarrySettings,
) -> CarryRule | None:
    """The first rule that refuses; None: all are passed."""
    horizon_h = settings.horizon_h
    if break_even_h is None:
        return CarryRule.NEGATIVE
    if break_even_h > horizon_h:
        return CarryRule.BREAK_EVEN
    if net * horizon_h <= settings.fee_multiple * fees:
        return CarryRule.FEES
    if newest <= 0:
        return CarryRule.NEWEST_RECORD
    return CarryRule.AVERAGE if net_by_average * horizon_h < costs else None


def _apr(fraction_per_hour: float) -> str:
    return f"{fraction_to_apr_pct(fraction_per_hour):+.1f} % APR"


class CarryState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the decision remembers. ``streak`` counts records in a row for which ``candidate`` was allowed, or for
    which leaving was forecast to be cheaper; ``bleed`` is the loss since the best moment of the held stance.
    ``earned`` is what the held stance has earned, ``price`` what its round trip costs. ``setbacks`` counts round trips
    that earned less than that, less those that earned it and one for every fortnight aside (``rested`` records)."""

    held: Stance = Stance.FLAT
    candidate: Stance = Stance.FLAT
    streak: int = 0
    bleed: float = 0.0
    earned: float = 0.0
    price: float = 0.0
    setbacks: int = 0
    rested: int = 0


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``target`` is the stance to hold from now on. ``judged`` is the estimate of what is held, or of the better
    direction where nothing is; None while too few records are known. ``said`` is why, where that alone does not say
    it."""

    target: Stance
    judged: CarryEstimate | None = None
    said: str = ""

    @property
    def sentence(self) -> str:
        """Why, for the screen and the log."""
        judged = self.judged
        if self.said or judged is None:
            return self.said
        if self.target == Stance.FLAT:
            return f"FLAT is better: {judged.stance} {judged.reason}"
        return f"stay {judged.stance}: {judged.reason}"


def better(carry: CarryEstimate, reverse: CarryEstimate) -> CarryEstimate:
    return carry if carry.net >= reverse.net else reverse


_FORGET_RECORDS = 336
_MOST_SETBACKS = 6


def holding(state: CarryState, held: Stance) -> CarryState:
    """The state after the account came to hold ``held``; of the past only the setbacks are remembered."""
    if state.held is held:
        return state
    setbacks = state.setbacks
    if state.held != Stance.FLAT:
        setbacks = min(setbacks + 1, _MOST_SETBACKS) if state.earned < state.price else max(setbacks - 1, 0)
    return CarryState(held=held, setbacks=setbacks)


def decide(
    state: CarryState, window: FundingWindow, cost: RoundTrip, settings: CarrySettings
) -> tuple[CarryState, Decision]:
    """Take one new funding record into account. Call once per record, after it was added to ``window``."""
    if state.held != Stance.FLAT:
        held = estimate(state.held, window, cost, settings)
        return _too_few(state, window, settings) if held is None else _decide_exit(state, window, held, settings)
    carry = estimate(Stance.CARRY, window, cost, settings)
    reverse = estimate(Stance.REVERSE, window, cost, settings)
    if carry is None or reverse is None:
        return _too_few(state, window, settings)
    return _decide_entry(state, better(carry, reverse), settings)


def _too_few(state: CarryState, window: FundingWindow, settings: CarrySettings) -> tuple[CarryState, Decision]:
    sentence = f"too few funding records yet ({window.count} of {settings.min_records})"
    return state, Decision(state.held, None, sentence)


def _decide_entry(state: CarryState, best: CarryEstimate, settings: CarrySettings) -> tuple[CarryState, Decision]:
    setbacks, rested = state.setbacks, state.rested + 1
    if setbacks and rested >= _FORGET_RECORDS:
        setbacks, rested = setbacks - 1, 0
    if not best.allowed:
        return CarryState(setbacks=setbacks, rested=rested), Decision(Stance.FLAT, best)
    streak = state.streak + 1 if state.candidate is best.stance else 1
    state = CarryState(candidate=best.stance, streak=streak, setbacks=setbacks, rested=rested)
    wanted = settings.confirm_records << setbacks
    if streak < wanted:
        sentence = f"{best.stance} looks good for {streak} of {wanted} records: {best.reason}"
        return state, Decision(Stance.FLAT, best, sentence)
    return state, Decision(best.stance, best, f"{best.stance} pays: {best.reason}")


def _decide_exit(
    state: CarryState, window: FundingWindow, held: CarryEstimate, settings: CarrySettings
) -> tuple[CarryState, Decision]:
    total = held.costs
    earned = (held.newest + hedge_yield(state.held, settings)) * window.interval_h
    bleed = max(0.0, state.bleed - earned)
    forecast_loss = -max(held.net, held.net_by_average) * settings.horizon_h
    streak = state.streak + 1 if forecast_loss > total else 0
    state = CarryState(
        held=state.held,
        streak=streak,
        bleed=bleed,
        earned=state.earned + earned,
        price=total,
        setbacks=state.setbacks,
    )
    if bleed > total:
        sentence = (
            f"leave {held.stance}: it lost {bleed * 1e4:.1f} bp since its best, leaving costs {total * 1e4:.1f} bp"
        )
        return state, Decision(Stance.FLAT, held, sentence)
    if streak >= settings.confirm_records:
        return state, Decision(Stance.FLAT, held, f"leave {held.stance}: {held.reason}")
    return state, Decision(held.stance, held)
