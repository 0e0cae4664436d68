"""What `deltatui backtest` says of the shipped year to the last digit, and the names under which it says it.

A hash here changes only where a result on this tape is meant to change: in the commit that says why. Names of the JSON
report are read by scripts of others: new ones may come, none goes.
"""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deltatui.cli import app

NOTHING_HAPPENED = sha256(b"").hexdigest()
HASHES = {
    ("always-short", "none"): "292ac92390d807d81beb3a59e897769c40959b17f4bd3f4abfe6ce984a268ef5",
    ("always-short", "drift"): "93fdb0bb730148e3083207a06547c233ef1ce147c2989a8e2fc1dcb5d1e7644c",
    ("carry", "none"): "b4bb5435b21a2a3ad1b959e459fbdcacea03e25a1aec65f007738675f89092c6",
    ("carry", "drift"): "3ffa7e9a7d284000f853e7381858b152050458c030550eee60dddb66e08a4903",
    ("flat", "none"): NOTHING_HAPPENED,
    ("flat", "drift"): NOTHING_HAPPENED,
}
"""``result_hash`` by policy and fees, of one SOL a leg and the settings as they are without a configuration."""
BASKET = {
    ("always-short", "none"): "2af85eb2a137db19dc884a77fdd7921935fc834452258bf1cf22d2a379c5f547",
    ("always-short", "drift"): "34892995ad4c702c4521b90b283d88e5bfa6729c0acb9d9edbc0bd787a5dc7cf",
    ("carry", "none"): "8b569cd54613917862094da5bbc40cdd2bc6651aec4f85336a0abec23dcb1619",
    ("carry", "drift"): "9f4eff8ab722fb12584834c1abda535e90474eb99f41b7925cc54d3f443695fe",
}
"""The same of one SOL and one BTC a leg, on the time that both shipped tapes have."""
NAMES = {
    *("tape", "tape_digest", "first_s", "last_s", "points", "market", "policy", "size", "fees"),
    *("equity_start_usd", "equity_end_usd", "funding_usd", "fees_usd", "interest_usd", "trading_pnl_usd"),
    *("entries", "switches", "time_in_market_pct", "mean_short_apr_pct", "round_trip_bps", "max_drawdown_pct"),
    *("state", "ledger_gap_usd", "result_hash"),
}


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration: no file, no variable."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DELTATUI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DELTATUI_HOME", str(tmp_path / "home"))


MARKET_NAMES = {
    *("size", "funding_usd", "fees_usd", "trading_pnl_usd", "interest_usd", "contribution_usd"),
    *("switches", "round_trip_bps", "mean_short_apr_pct"),
}


def report(policy: str, fees: str, *more: str) -> dict[str, Any]:
    words = ["backtest", "--policy", policy, "--fees", fees, "--size", "1", "--json", *more]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    told: dict[str, Any] = json.loads(result.stdout)
    return told


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(("policy", "fees"), HASHES)
def test_the_year_has_the_pinned_hash_and_names(policy: str, fees: str) -> None:
    told = report(policy, fees)
    assert told["result_hash"] == HASHES[policy, fees]
    assert set(told) >= NAMES
    assert (told["policy"], told["fees"], told["points"]) == (policy, fees, 8467)
    assert (told["market"], told["size"], told["alone"]) == ("SOL-PERP", 1.0, {})
    assert set(told["markets"]) == {"SOL-PERP"}


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(("policy", "fees"), BASKET)
def test_the_basket_has_the_pinned_hash_and_names(policy: str, fees: str) -> None:
    told = report(policy, fees, "--tape", "SOL-PERP", "--tape", "BTC-PERP")
    assert told["result_hash"] == BASKET[policy, fees]
    assert set(told) >= NAMES | {"markets", "account", "alone"}
    assert (told["market"], told["size"], told["points"]) == ("BTC-PERP+SOL-PERP", None, 2 * 7080)
    assert list(told["markets"]) == list(told["alone"]) == ["BTC-PERP", "SOL-PERP"]
    assert all(set(each) >= MARKET_NAMES for each in told["markets"].values())
    assert set(told["account"]) >= {"interest_usd"}
    assert all(set(each) >= {"net_usd", "result_hash"} for each in told["alone"].values())
