"""Our numbers against what the official TypeScript SDK 2.163.0-beta.0 answers for the same accounts."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deltatui.domain import margin, weights
from deltatui.domain.account import OraclePrice, PerpPosition, SpotMarket, SpotPosition, UserAccount
from deltatui.domain.layout import decode_perp_market, decode_spot_market, decode_user
from deltatui.domain.margin import Category, MarginBook
from deltatui.domain.units import div_trunc

SCENARIOS = Path(__file__).parent.parent / "data" / "accounts" / "scenarios"
EXPECTED = "official_sdk_2.163.0-beta.0"
NAMES = sorted(path.stem for path in SCENARIOS.glob("*.json"))

_USER_FIELDS = {"maxMarginRatio": "max_margin_ratio_1e4"}
_SPOT_FIELDS = {"scaledBalance": "scaled_balance_1e9", "openBids": "open_bids", "openOrders": "open_orders"}
_PERP_FIELDS = {
    "baseAssetAmount": "base_1e9",
    "quoteAssetAmount": "quote_1e6",
    "quoteEntryAmount": "quote_entry_1e6",
    "quoteBreakEvenAmount": "quote_break_even_1e6",
    "openBids": "open_bids_1e9",
    "openAsks": "open_asks_1e9",
    "openOrders": "open_orders",
    "lastCumulativeFundingRate": "last_cumulative_funding_rate_1e9",
    "maxMarginRatio": "max_margin_ratio_1e4",
}


def _patched(user: UserAccount, patch: list[dict[str, Any]]) -> UserAccount:
    """Indices count the occupied positions, names are the SDK's."""
    replace = msgspec.structs.replace
    spots: list[SpotPosition] = list(user.spot_positions)
    perps: list[PerpPosition] = list(user.perp_positions)
    for change in patch:
        path, value = change["path"], int(change["value"])
        if path[0] == "spotPositions":
            spots[path[1]] = replace(spots[path[1]], **{_SPOT_FIELDS[path[2]]: value})
        elif path[0] == "perpPositions":
            perps[path[1]] = replace(perps[path[1]], **{_PERP_FIELDS[path[2]]: value})
        else:
            (name,) = path
            user = replace(user, **{_USER_FIELDS[name]: value})
    return replace(user, spot_positions=tuple(spots), perp_positions=tuple(perps))


def _unbase58(text: str) -> bytes:
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    number = 0
    for letter in text:
        number = number * 58 + alphabet.index(letter)
    return number.to_bytes(32, "big")


def _live_twap(market: SpotMarket, price_1e6: int, now_s: int) -> SpotMarket:
    """The 5-minute average as the SDK brings it up to date for balances (the program takes the stored one)."""
    stored = market.oracle_twap_5min_1e6
    assert stored is not None
    since = max(1, now_s - market.oracle_twap_ts_s)
    rest = max(0, 300 - since)
    clamped = min(stored + stored // 3, max(price_1e6, stored - stored // 3))
    live = div_trunc(stored * rest + clamped * since, rest + since)
    return msgspec.structs.replace(market, oracle_twap_5min_1e6=live)


class Scenario:
    def __init__(self, name: str) -> None:
        raw = json.loads((SCENARIOS / f"{name}.json").read_text())
        source = raw["input"]
        self.expected: dict[str, str] = raw[EXPECTED]
        self.now_s: int = source["now"]
        self.size_change: tuple[int, int] | None = None
        if "liqchg" in source:
            self.size_change = (int(source["liqchg"][0]), int(source["liqchg"][1]))
        self.book = MarginBook(
            _patched(decode_user(base64.b64decode(source["user"])), source.get("patch", [])),
            {int(i): decode_perp_market(base64.b64decode(text)) for i, text in source["perp"].items()},
            {int(i): decode_spot_market(base64.b64decode(text)) for i, text in source["spot"].items()},
            {
                _unbase58(key): OraclePrice(int(price["price"]), int(price["conf"]), int(price["slot"]))
                for key, price in source["oracle"].items()
            },
        )

    def with_live_averages(self) -> MarginBook:
        """The book in which strict prices of balances are the SDK's."""
        spots = {
            index: _live_twap(market, self.book.oracles[market.oracle].price_1e6, self.now_s)
            for index, market in self.book.spot_markets.items()
        }
        return msgspec.structs.replace(self.book, spot_markets=spots)


LOADED = {name: Scenario(name) for name in NAMES}
INITIAL, MAINTENANCE = Category.INITIAL, Category.MAINTENANCE


def _none(price: int | None) -> int:
    return -1 if price is None else price


def ours(scenario: Scenario, quantity: str) -> int:
    book = scenario.book
    word, _, index_text = quantity.partition("_")
    index = int(index_text) if index_text.isdigit() else -1
    whole = {
        "tc_init": lambda: margin.total_collateral_1e6(book, INITIAL),
        "tc_init_strict": lambda: margin.total_collateral_1e6(book, INITIAL, True),
        "tc_maint": lambda: margin.total_collateral_1e6(book, MAINTENANCE),
        "mr_init": lambda: margin.margin_requirement_1e6(book, INITIAL),
        "mr_init_strict": lambda: margin.margin_requirement_1e6(book, INITIAL, True),
        "mr_maint": lambda: margin.margin_requirement_1e6(book, MAINTENANCE),
        "free_init": lambda: margin.free_collateral_1e6(book, INITIAL),
        "free_maint": lambda: margin.free_collateral_1e6(book, MAINTENANCE),
        "health": lambda: margin.health(book),
        "leverage": lambda: margin.leverage_1e4(book),
        "upnl": lambda: margin.unrealized_pnl_1e6(book, with_funding=True),
        "ufund": lambda: margin.unsettled_funding_1e6(book),
        "netusd": lambda: margin.net_value_1e6(book),
        "liq_chg": lambda: _none(margin.perp_liquidation_price_1e6(book, *(scenario.size_change or (0, 0)))),
    }
    if quantity in whole:
        return whole[quantity]()
    if quantity.startswith("fees_fund_"):
        return margin.fees_and_funding_1e6(book, int(quantity.removeprefix("fees_fund_")))
    by_index = {
        "liq": lambda: _none(margin.perp_liquidation_price_1e6(book, index)),
        "spotliq": lambda: _none(margin.spot_liquidation_price_1e6(book, index)),
        "dep": lambda: weights.deposit_rate_1e6(book.spot_markets[index]),
        "bor": lambda: weights.borrow_rate_1e6(book.spot_markets[index]),
        "util": lambda: weights.utilization_1e6(book.spot_markets[index]),
        "claim": lambda: margin.claimable_pnl_1e6(book, index),
        "be": lambda: _none(book.user.perp(index).break_even_price_1e6),
        "entry": lambda: _none(book.user.perp(index).entry_price_1e6),
    }
    return by_index[word]()


_NOT_MARGIN = ("fund_", "ls_", "fmt_")
"""Predicted funding: ``domain.funding`` has it."""
_CASES = [
    (name, quantity)
    for name in NAMES
    for quantity in LOADED[name].expected
    if not quantity.startswith(_NOT_MARGIN) and quantity not in ("mr_init_strict", "free_init")
]


def test_there_are_scenarios() -> None:
    assert len(NAMES) == 8
    assert len(_CASES) > 180


@pytest.mark.parametrize(("name", "quantity"), _CASES)
def test_equals_the_official_sdk(name: str, quantity: str) -> None:
    scenario = LOADED[name]
    assert ours(scenario, quantity) == int(scenario.expected[quantity])


@pytest.mark.parametrize("name", NAMES)
def test_strict_figures_are_the_sdks_within_a_millionth(name: str) -> None:
    """The SDK prices balances at its own live average, the program at the stored one."""
    scenario = LOADED[name]
    for quantity in ("mr_init_strict", "free_init"):
        assert ours(scenario, quantity) == pytest.approx(int(scenario.expected[quantity]), abs=2_200)
    requirement = int(scenario.expected["mr_init_strict"])
    assert abs(ours(scenario, "mr_init_strict") - requirement) * 10**6 <= requirement


@pytest.mark.parametrize("name", NAMES)
def test_strict_figures_equal_the_sdks_with_its_average(name: str) -> None:
    """With balances at the SDK's live average and positions at the stored one, as the SDK mixes them: exactly."""
    scenario = LOADED[name]
    replace = msgspec.structs.replace
    user = scenario.book.user
    balances = replace(scenario.with_live_averages(), user=replace(user, perp_positions=()))
    positions = replace(scenario.book, user=replace(user, spot_positions=()))
    collateral, requirement = (
        figure(balances, INITIAL, True) + figure(positions, INITIAL, True)
        for figure in (margin.total_collateral_1e6, margin.margin_requirement_1e6)
    )
    assert collateral == int(scenario.expected["tc_init_strict"])
    assert requirement == int(scenario.expected["mr_init_strict"])
    assert max(0, collateral - requirement) == int(scenario.expected["free_init"])


def test_equals_the_programs_own_test() -> None:
    """``swift_failure`` of the program asserts these two, to the unit."""
    book = LOADED["A2_with_order"].book
    assert margin.total_collateral_1e6(book, INITIAL, True) == 2_199_358_529
    assert margin.margin_requirement_1e6(book, INITIAL, True) == 2_186_678_676


@pytest.mark.parametrize("name", NAMES)
def test_summary_says_what_the_single_functions_say(name: str) -> None:
    book = LOADED[name].book
    summary = margin.margin_summary(book)
    collateral, requirement = summary.collateral_maintenance_1e6, summary.requirement_maintenance_1e6
    health = 100 * (1 - requirement / collateral)
    assert summary == margin.MarginSummary(
        collateral_initial_1e6=margin.total_collateral_1e6(book, INITIAL, True),
        collateral_maintenance_1e6=margin.total_collateral_1e6(book, MAINTENANCE),
        requirement_initial_1e6=margin.margin_requirement_1e6(book, INITIAL, True),
        requirement_maintenance_1e6=margin.margin_requirement_1e6(book, MAINTENANCE),
        free_initial_1e6=margin.free_collateral_1e6(book, INITIAL),
        health=margin.health(book),
        leverage_1e4=margin.leverage_1e4(book),
        net_value_1e6=margin.net_value_1e6(book),
        exact_health=pytest.approx(min(100, max(0, health)), abs=2e-9),  # type: ignore[arg-type]
    )
