"""Looks at what is so after every fact and says what is wrong: books, loss limits, hedges, health."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from deltatui.domain.errors import ValidationError
from deltatui.domain.event import Level
from deltatui.domain.health import HealthLevel, crossed, health_level
from deltatui.domain.units import BASE_PRECISION
from deltatui.engine import losses
from deltatui.engine.accounting import GAP_TOLERANCE
from deltatui.engine.automation import Automation
from deltatui.engine.core import Core
from deltatui.engine.hedge import Hedge
from deltatui.engine.safety import SurelyHealthy
from deltatui.engine.world import Facts
from deltatui.ports import AccountReport


class Watch:
    def __init__(self, core: Core, automation: Automation) -> None:
        self._core = core
        self._automation = automation
        self._health = HealthLevel.OK
        self._surely = SurelyHealthy(core)

    def look(self, account: AccountReport) -> None:
        core = self._core
        marks = core.world.marks(account)
        self._compare_books(account, marks)
        losses.watch(core, account)
        if account.perps or any(spot.base_1e9 for spot in account.spots.values()):
            self._watch_health(account, marks)
        elif self._health is not HealthLevel.OK:
            self._set_health(HealthLevel.OK, "")

    def _compare_books(self, account: AccountReport, marks: Mapping[str, Decimal]) -> None:
        """The two independent paths to the equity (R10.4)."""
        core, text = self._core, ""
        if core.accountant.books.cursor == account.events:
            try:
                gap = core.accountant.sync(marks, account, core.clock.operator_s()).gap
            except ValidationError as error:
                text = f"ledger and venue cannot be compared: {error.sentence}"
            else:
                if abs(gap) >= GAP_TOLERANCE:
                    text = f"ledger and venue differ by {gap:+.6f} {core.venue.quote_symbol}"
        elif core.accountant.books.cursor > account.events and not core.behind:
            known = core.accountant.books.cursor
            text = f"the ledger knows {known} events of the venue, which tells of {account.events}"
        else:
            return
        if text:
            core.board.alert("ledger", Level.ERROR, text)
        else:
            core.board.clear("ledger")

    def look_at(self, hedge: Hedge, facts: Facts) -> None:
        """An uneven hedge that nobody corrects is told as long as it stands. For an account that is told and booked."""
        core, key = self._core, hedge.uneven_alert
        self._watch_end(hedge, facts)
        if hedge.check is not None or (core.unresolved and core.unresolved_of(hedge.symbol)):
            return
        exposure, plan = hedge.correction(facts)
        uneven = plan.code in ("correct", "cooldown")
        corrects = exposure.perp_1e9 or (hedge.memory.held_by != "operator" and hedge.rests_on_spot(facts))
        if not uneven or (corrects and self._automation.acts):
            core.board.clear(key)
            return
        spot, perp = exposure.spot_1e9 / BASE_PRECISION, exposure.perp_1e9 / BASE_PRECISION
        text = (
            f"the hedge of {hedge.symbol} is uneven, spot {spot:+g}, perp {perp:+g}, and automation does not correct it"
        )
        if key in core.board.alerts:
            core.board.restate(key, Level.WARNING, text)  # interest moves the figures every hour
        else:
            core.board.alert(key, Level.WARNING, text)

    def _watch_end(self, hedge: Hedge, facts: Facts) -> None:
        """What is held in a market that has ended, and that automation leaves to the operator (R5.7)."""
        board, held = self._core.board, bool(facts.perp.base_1e9) or hedge.rests_on_spot(facts)
        if not (facts.market.ended and held) or (self._automation.acts and hedge.memory.held_by != "operator"):
            board.clear(hedge.ended_alert)
            return
        text = f"{hedge.symbol} has no prices any more, and what is held there stays until you leave it"
        board.alert(hedge.ended_alert, Level.WARNING, text)

    def _watch_health(self, account: AccountReport, marks: Mapping[str, Decimal]) -> None:
        core = self._core
        if self._health is HealthLevel.OK and self._surely.at_least(core.settings.health_warning, account, marks):
            return
        try:
            value = core.venue.health()
        except ValidationError as error:
            core.board.alert("margin", Level.ERROR, f"the account cannot be judged: {error.sentence}")
            return
        if value is None:
            return
        level = health_level(value, core.settings.health_warning, core.settings.health_critical)
        text = f"health {value}"
        if level is HealthLevel.CRITICAL:
            standing = core.standing()
            nearest = None if standing is None else standing.nearest
            text += ", no liquidation price" if nearest is None else f", liquidation at {nearest.price:,.4f}"
            if nearest is not None and len(core.hedges) > 1:
                text += f" of {nearest.market}"
        self._set_health(level, text)
        self._surely.computed(account, marks)
        if core.board.tell is not None and (standing := core.standing()) is not None:
            core.board.tell.account(standing, account.as_of_s)

    def _set_health(self, level: HealthLevel, text: str) -> None:
        """R2.4: an alert once per crossing into a worse level, cleared when all is well again."""
        board = self._core.board
        if crossed(self._health, level):
            severity = Level.CRITICAL if level is HealthLevel.CRITICAL else Level.WARNING
            board.alerts.pop("health", None)  # said anew, even where it reads as it did the last time
            board.alert("health", severity, text, "health_alert")
        elif level is HealthLevel.OK and self._health is not HealthLevel.OK:
            board.clear("health")
        elif level is not HealthLevel.OK:
            # It stands: its figures are those of now, and nobody is called again.
            board.restate("health", Level.CRITICAL if level is HealthLevel.CRITICAL else Level.WARNING, text)
        self._health = level
