"""The bound below which health is not computed: it never says healthy where the venue's own formulas do not."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from engine_harness import BOTH, SOL, World, in_world
from hypothesis import example, given
from hypothesis import strategies as st

from deltatui.engine.safety import SurelyHealthy
from deltatui.venues.paper.account import PaperPerp

LEVELS = (20, 50, 80)

prices = st.decimals("0.5", "2", places=3)
sizes = st.integers(-40, 40)
steps = st.one_of(
    st.tuples(st.just("price"), st.sampled_from(sorted(BOTH)), st.tuples(prices, prices)),
    st.tuples(st.just("cash"), st.sampled_from([*sorted(BOTH), "quote"]), st.integers(-1500, 1500)),
    st.tuples(st.just("settle"), st.sampled_from(sorted(BOTH)), st.none()),
    st.tuples(st.just("ratio"), st.sampled_from(sorted(BOTH)), st.integers(100, 900)),
)


@example(0, (-2, 0, 20, 0), (-900, 0), [("settle", "SOL-PERP", None)])
@example(1000, (-20, 0, 0, 0), (0, 0), [("price", "SOL-PERP", (Decimal("1.5"), Decimal(1) / Decimal("1.5")))])
@example(300, (-40, 0, 4, 0), (0, 0), [("ratio", "SOL-PERP", 900)])
@given(
    quote=st.integers(-3000, 3000),
    held=st.tuples(sizes, sizes, sizes, sizes),
    unsettled=st.tuples(st.integers(-2000, 2000), st.integers(-2000, 2000)),
    path=st.lists(steps, max_size=6),
)
def test_what_is_said_to_be_healthy_is(
    quote: int, held: tuple[int, int, int, int], unsettled: tuple[int, int], path: list[tuple[str, str, Any]]
) -> None:
    async def life(w: World) -> None:
        core, surely = w.core, SurelyHealthy(w.core)
        unit = {"SOL-PERP": Decimal("0.5"), "BTC-PERP": Decimal("0.0007")}
        perps = {}
        for symbol, size, pnl in zip(unit, held[:2], unsettled, strict=True):
            base = size * unit[symbol]
            perps[symbol] = PaperPerp(round(base * SOL), pnl - base * w.prices[symbol], -base * w.prices[symbol])
        w.tamper(
            quote=Decimal(quote),
            perps=perps,
            spots={"SOL": held[2] * unit["SOL-PERP"], "wBTC": held[3] * unit["BTC-PERP"]},
        )
        account = w.venue.account()
        assert account is not None
        surely.computed(account, core.world.marks(account))
        for what, where, much in path:
            now = w.venue._account
            if what == "price":
                factor, basis = much
                listing = w.venue._markets.by_symbol[where]
                oracle = w.prices[where] * factor
                listing.price(oracle, oracle * basis)
            elif what == "cash" and where == "quote":
                now.quote += Decimal(str(much))
            elif what == "cash":
                now.perps[where].quote += Decimal(str(much))
            elif what == "settle":
                perp = now.perps[where]
                amount = perp.worth(w.venue._markets.by_symbol[where].state().oracle)
                perp.quote -= amount
                now.quote += amount
            else:
                spec = msgspec.structs.replace(
                    w.venue.markets()[where], margin_maintenance_1e4=much, margin_initial_1e4=900
                )
                await w.change(where, spec=spec)
            w.venue._forget()
            for symbol, listing in w.venue._markets.by_symbol.items():
                state = listing.state()
                core.world._markets[symbol] = msgspec.structs.replace(
                    core.world._markets[symbol], oracle=state.oracle, mark=state.mark
                )
            account, health = w.venue.account(), w.venue.health()
            assert account is not None
            assert health is not None
            for level in LEVELS:
                assert health >= level or not surely.at_least(level, account, core.world.marks(account)), (what, where)

    in_world(life, markets=BOTH, primed=0, logging=False)
