"""Settings: layers, origins, faults, rendering, paths."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pydantic
import pytest
from msgspec.structs import replace

from deltatui.assembly.values import (
    engine_settings,
    gate_limits,
    market_settings,
    paper_costs,
    paper_opening,
    paper_settings,
)
from deltatui.config import Loaded, Origin, entries, load, render, secret_values
from deltatui.domain.costs import DOCUMENTED_SLIPPAGE, DRIFT_FEES, DRIFT_SLIPPAGE, NO_FEES, NO_SLIPPAGE, CostModel
from deltatui.domain.errors import ValidationError
from deltatui.domain.gates import GateFacts, judge
from deltatui.domain.redact import base58_encode
from deltatui.paths import Paths
from deltatui.settings import Settings

KEY = base58_encode(bytes(range(64)))
ROOT = Path(__file__).parents[2]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    found = Paths.of("default", {"DELTATUI_HOME": str(tmp_path)})
    return dataclasses.replace(found, dotenv=tmp_path / ".env")


def write(paths: Paths, text: str) -> None:
    paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    paths.config_file.write_text(text)


def read(
    paths: Paths, text: str = "", env: dict[str, str] | None = None, flags: dict[str, object] | None = None
) -> Loaded:
    if text:
        write(paths, text)
    return load(paths.profile, flags=flags, env=env or {}, paths=paths)


def faults(
    paths: Paths, text: str = "", env: dict[str, str] | None = None, flags: dict[str, object] | None = None
) -> str:
    with pytest.raises(ValidationError) as caught:
        read(paths, text, env, flags)
    assert caught.value.code == "BAD_CONFIG"
    return caught.value.sentence


def test_defaults(paths: Paths) -> None:
    loaded = read(paths)
    settings = loaded.settings
    assert (settings.mode, settings.live_mode, settings.network) == ("replay", "watch", "mainnet")
    assert settings.engine.carry_size_sol == Decimal(10)
    assert settings.rebalance.min_trade_sol == Decimal("0.005")
    assert settings.rebalance.reserved_sol == Decimal("0.017")
    assert (settings.orders.slippage_bps, settings.replay.speed, settings.storage.backups) == (50, 3_600, 24)
    assert set(loaded.origins.values()) == {Origin("default")}
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("mode", "live_mode", "leverage", "automation", "limit"),
    [
        ("replay", "watch", 10.0, True, 25_000.0),
        ("paper", "watch", 10.0, True, 25_000.0),
        ("live", "watch", 5.0, False, None),
        ("live", "trade", 5.0, False, None),
        ("live", "auto", 5.0, True, None),
    ],
)
def test_defaults_by_mode(
    paths: Paths, mode: str, live_mode: str, leverage: float, automation: bool, limit: float | None
) -> None:
    settings = read(paths, flags={"mode": mode, "live_mode": live_mode}).settings
    assert settings.max_leverage_by_mode == leverage
    assert settings.automation_by_mode is automation
    assert settings.auto_limit_usd_by_mode == limit


def test_layers_rise_and_say_where_each_value_comes_from(paths: Paths) -> None:
    paths.dotenv.write_text("DELTATUI_LIMITS__CONFIRM_ABOVE_USD=300\nMAX_LEVERAGE=4\nLOG_LEVEL=debug\nOTHER=1\n")
    loaded = read(
        paths,
        "[limits]\nconfirm_above_usd = 200\nmax_leverage = 3\nmin_health_after = 70\n[orders]\nslippage_bps = 10\n",
        env={"MAX_LEVERAGE": "2.5", "PATH": "/bin", "DRIFT_SUB_ACCOUNT": ""},
        flags={"orders.slippage_bps": 20, "mode": None},
    )
    settings = loaded.settings
    assert settings.limits.min_health_after == 70
    assert settings.limits.confirm_above_usd == 300
    assert settings.limits.max_leverage == 2.5
    assert settings.orders.slippage_bps == 20
    assert settings.log.level == "DEBUG"
    assert loaded.origins["limits.min_health_after"] == Origin("file", str(paths.config_file))
    assert loaded.origins["limits.confirm_above_usd"] == Origin(".env", "DELTATUI_LIMITS__CONFIRM_ABOVE_USD")
    assert loaded.origins["limits.max_leverage"] == Origin("environment", "MAX_LEVERAGE")
    assert loaded.origins["orders.slippage_bps"] == Origin("flag", "orders.slippage_bps")
    assert loaded.origins["chain.sub_account"] == Origin("default")


@pytest.mark.parametrize(
    ("variable", "value", "key", "expected"),
    [
        ("LOG_LEVEL", "warning", "log.level", "WARNING"),
        ("DRIFT_SUB_ACCOUNT", "3", "chain.sub_account", 3),
        ("JITO_REGION", "tokyo", "jito.region", "tokyo"),
        ("MAX_LEVERAGE", "3", "limits.max_leverage", 3.0),
        ("DRIFT_TOLERANCE_PCT", "2.5", "rebalance.tolerance_pct", 2.5),
        ("REBALANCE_COOLDOWN_SEC", "60", "rebalance.cooldown_s", 60.0),
        ("COOLDOWN_SECONDS", "90", "rebalance.cooldown_s", 90.0),
        ("MIN_TRADE_SIZE_SOL", "0.1", "rebalance.min_trade_sol", Decimal("0.1")),
        ("RESERVED_SOL", "0.05", "rebalance.reserved_sol", Decimal("0.05")),
    ],
)
def test_documented_variables(paths: Paths, variable: str, value: str, key: str, expected: object) -> None:
    loaded = read(paths, env={variable: value})
    section, name = key.split(".")
    assert getattr(getattr(loaded.settings, section), name) == expected
    assert loaded.origins[key] == Origin("environment", variable)


def test_the_threshold_of_the_typed_word(paths: Paths) -> None:
    assert read(paths).settings.limits.typed_above_usd == 10_000
    assert read(paths, env={"DELTATUI_LIMITS__TYPED_ABOVE_USD": "250.5"}).settings.limits.typed_above_usd == 250.5
    for bad in ("-1", "nan", "inf", "many", "none"):
        assert "limits.typed_above_usd" in faults(paths, env={"DELTATUI_LIMITS__TYPED_ABOVE_USD": bad})
    live: dict[str, object] = {"mode": "live", "limits.typed_above_usd": 500.0}
    assert read(paths, flags={**live, "limits.confirm_above_usd": 500.0}).settings.limits.typed_above_usd == 500
    said = faults(paths, flags={**live, "limits.confirm_above_usd": 501.0})
    assert "limits.typed_above_usd (500) must not be below limits.confirm_above_usd (501)" in said
    # It is live mode's alone.
    assert read(paths, flags={"mode": "replay", "limits.confirm_above_usd": 20_000.0})


def test_the_thresholds_reach_the_engine(paths: Paths) -> None:
    flags: dict[str, object] = {"limits.confirm_above_usd": 7.0, "limits.typed_above_usd": 70.0}
    made = engine_settings(read(paths, flags=flags).settings, "default", ["SOL-PERP"])
    assert (made.confirm_above_usd, made.typed_above_usd) == (7.0, 70.0)


@pytest.mark.parametrize(
    ("key", "value", "facts", "gate", "limit"),
    [
        ("max_latency_ms", 300, GateFacts(True, latency_ms=400.0), "latency", "<= 300 ms"),
        ("max_oracle_age_s", 5, GateFacts(True, oracle_age_s=20.0), "oracle_age", "<= 5 s"),
        ("max_slot_lag", 4, GateFacts(True, slot_lag=20), "slot_lag", "<= 4 slots"),
        ("max_clock_skew_s", 0.5, GateFacts(True, clock_skew_s=-1.5), "clock_skew", "<= 0.5 s"),
        ("max_funding_age_intervals", 1.5, GateFacts(True, funding_age_s=6_000.0), "funding_age", "<= 5,400 s"),
        ("min_free_quote_usd", 250, GateFacts(True, free_collateral_after=200.0), "quote_reserve", ">= 250 $"),
    ],
)
def test_a_limit_that_is_set_is_the_one_that_a_gate_judges_by(
    paths: Paths, key: str, value: object, facts: GateFacts, gate: str, limit: str
) -> None:
    def verdict(flags: dict[str, object]) -> tuple[bool, str]:
        limits = gate_limits(read(paths, flags=flags).settings)
        found = next(each for each in judge(facts, limits, {}) if each.code == gate)
        return found.allowed, found.limit

    assert verdict({})[0]
    assert verdict({f"limits.{key}": value}) == (False, limit)


@pytest.mark.parametrize(
    ("key", "bad", "why"),
    [
        ("limits.max_latency_ms", "0", "must be greater than 0"),
        ("limits.max_slot_lag", "1.5", "must be a whole number"),
        ("limits.max_clock_skew_s", "61", "must be at most 60"),
        ("limits.max_funding_age_intervals", "none", "must be a number"),
        ("limits.max_market_usd", "0", "must be greater than 0"),
        ("limits.max_total_usd", "-1", "must be greater than 0"),
        ("limits.min_free_quote_usd", "-1", "must be at least 0"),
        ("engine.save_interval_s", "61", "must be at most 60"),
        ("paper.wallet_sol", "-1", "must be at least 0"),
        ("paper.wallet_sol", 1.5, 'must be written as text, like "1.5"'),
        ("paper.funding_period_s", "3600", "must be 0 (each record) or 28800 (the documented cycle of 8 hours)"),
        ("paper.slippage", "documented", "must be one of 'preset' or 'size'"),
        ("paper.slippage_half_size_sol", "0", "must be greater than 0"),
        ("paper.maintenance_fallback_pct", "5.005", "must be a multiple of 0.01"),
    ],
)
def test_bad_limits_and_paper_settings(paths: Paths, key: str, bad: object, why: str) -> None:
    assert f"{key} {why}" in faults(paths, flags={key: bad})


def test_slippage_of_paper_is_the_preset_or_grows_with_the_size(paths: Paths) -> None:
    def costs(**flags: object) -> CostModel:
        return paper_costs(
            read(paths, flags={name.replace("__", "."): value for name, value in flags.items()}).settings
        )

    assert costs() == CostModel(DRIFT_FEES, DRIFT_SLIPPAGE)
    assert costs(paper__fees="none") == CostModel(NO_FEES, NO_SLIPPAGE)
    assert costs(paper__slippage="size") == CostModel(DRIFT_FEES, DOCUMENTED_SLIPPAGE)
    assert costs(paper__slippage="size", paper__fees="none") == CostModel(NO_FEES, DOCUMENTED_SLIPPAGE)
    # R1.8: paper on live prices has R1.3's bounds by itself, and can have the preset.
    assert costs(mode="paper") == CostModel(DRIFT_FEES, DOCUMENTED_SLIPPAGE)
    assert costs(mode="paper", paper__slippage="preset") == CostModel(DRIFT_FEES, DRIFT_SLIPPAGE)
    own = costs(paper__slippage="size", paper__slippage_min_pct=0.05, paper__slippage_half_size_sol="10").slippage
    assert [own.fraction(Decimal(size)) for size in (0, 10)] == [Decimal("0.0005"), Decimal("0.00175")]
    assert re.search(r"paper\.slippage +size \(by mode\) +default", render(read(paths, flags={"mode": "paper"})))


def test_slippage_beyond_every_price_limit_is_refused(paths: Paths) -> None:
    flags: dict[str, object] = {"paper.slippage_min_pct": 0.2, "orders.slippage_bps": 19}
    assert read(paths, flags=flags).settings.slippage_by_mode == "preset"
    said = faults(paths, flags={**flags, "paper.slippage": "size"})
    assert "paper.slippage_min_pct (0.2) is above the price limit of orders.slippage_bps (19, which is 0.19 %)" in said
    assert read(paths, flags={**flags, "paper.slippage": "size", "orders.slippage_bps": 20})


def test_with_what_a_paper_account_begins(paths: Paths) -> None:
    flags: dict[str, object] = {"paper.wallet_sol": "2.5", "paper.wallet_usd": "70", "engine.carry_size_sol": "3"}
    sol = {"SOL-PERP": Decimal(150)}
    made = paper_opening(read(paths, flags=flags).settings, sol)
    assert (made.quote, made.wallet_quote, made.wallet) == (Decimal(900), Decimal(70), {"SOL": Decimal("2.5")})
    own = paper_opening(read(paths, flags={**flags, "paper.start_equity_usd": "55"}).settings, sol)
    assert own.quote == 55
    # Twice the notionals of all that is played, and a wallet of what is.
    both = {**sol, "BTC-PERP": Decimal(100_000)}
    flags |= {"engine.carry_size_btc": "0.01", "paper.wallet_btc": "0.5"}
    made = paper_opening(read(paths, flags=flags).settings, both)
    assert (made.quote, made.wallet) == (Decimal(2900), {"SOL": Decimal("2.5"), "wBTC": Decimal("0.5")})
    assert paper_opening(read(paths, flags=flags).settings, sol).wallet == {"SOL": Decimal("2.5")}


def test_margin_funding_and_liquidation_of_paper(paths: Paths) -> None:
    flags: dict[str, object] = {
        "paper.maintenance_fallback_pct": 4.25,
        "paper.liquidation_fee_pct": 2.5,
        "paper.funding_period_s": "28800",
    }
    made = paper_settings(read(paths, flags=flags).settings)
    assert made.liquidation_fee_1e5 == 2500
    assert (made.maintenance_fallback_1e4, made.funding_period_s) == (425, 28_800)


def test_secrets_come_in_and_never_go_out(paths: Paths) -> None:
    url = "https://rpc.example.com/?api-key=0123456789abcdef"
    loaded = read(paths, env={"SOLANA_PRIVATE_KEY": KEY, "RPC_URL": url, "HELIUS_WEBHOOK_SECRET": "hunter22hunter"})
    assert set(secret_values(loaded.settings)) == {KEY, url, "hunter22hunter"}
    shown = render(loaded) + repr(loaded) + repr(entries(loaded)) + loaded.settings.model_dump_json()
    for secret in (KEY, "0123456789abcdef", "hunter22hunter"):
        assert secret not in shown
    assert "set (https://rpc.example.com)" in render(loaded)
    assert re.search(r"chain\.private_key +set \(hidden\) +environment SOLANA_PRIVATE_KEY", render(loaded))


@pytest.mark.parametrize("bad", [KEY[:-4], KEY + "0O", "[1,2,3]", f"[{', '.join(['300'] * 64)}]", "x" * 88])
def test_a_bad_secret_is_refused_without_being_shown(paths: Paths, bad: str) -> None:
    sentence = faults(paths, env={"SOLANA_PRIVATE_KEY": bad})
    assert "environment SOLANA_PRIVATE_KEY: chain.private_key must be a secret key of 64 bytes" in sentence
    assert bad not in sentence
    with pytest.raises(ValidationError) as caught:
        read(paths, env={"SOLANA_PRIVATE_KEY": bad})
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_both_forms_of_a_secret_key_are_taken(paths: Paths) -> None:
    for text in (KEY, str(list(range(64)))):
        assert secret_values(read(paths, env={"SOLANA_PRIVATE_KEY": text}).settings) == (text,)


def test_secrets_have_no_place_in_files_and_flags(paths: Paths) -> None:
    text = faults(
        paths,
        f'[chain]\nprivate_key = "{KEY}"\n[helius]\nwebhook_secret = "hunter22hunter"\n',
        flags={"chain.private_key": KEY, "chain.rpc_url": "https://x.org/secretsecretsecret"},
    )
    assert "chain.private_key may not stand in a config file; set the variable SOLANA_PRIVATE_KEY" in text
    assert "helius.webhook_secret may not stand in a config file" in text
    assert "chain.rpc_url may not be given on the command line; set RPC_URL" in text
    assert KEY not in text
    assert "hunter22hunter" not in text
    assert "secretsecretsecret" not in text


def test_all_faults_of_a_file_in_one_message(paths: Paths) -> None:
    text = faults(
        paths,
        "\n".join(
            [
                'mood = "live"',
                'mode = "alive"',
                "[limits]",
                "max_levrage = 3",
                "min_health_after = 101",
                'daily_loss_stop_usd = "much"',
                "health_warning = true",
                "[orders]",
                "max_leverage = 3",
                "slippage_bps = 0",
                "[engine]",
                "carry_size_sol = 1.5",
                "[limit]",
                "x = 1",
            ]
        ),
    )
    place = str(paths.config_file)
    for expected in (
        "mood is no setting; did you mean mode?",
        "mode must be one of 'replay', 'paper' or 'live'",
        "limits.max_levrage is no setting; did you mean limits.max_leverage?",
        "limits.min_health_after must be at most 100",
        "limits.daily_loss_stop_usd must be a number",
        "limits.health_warning must not be true or false",
        "orders.max_leverage is no setting; did you mean limits.max_leverage?",
        "orders.slippage_bps must be at least 1",
        'engine.carry_size_sol must be written as text, like "1.5", because a float is not exact',
        "limit is no setting",
    ):
        assert f"{place}: {expected}" in text, expected
    assert len(text.splitlines()) == 11


def test_a_fault_in_the_file_is_told_even_where_a_variable_hides_it(paths: Paths) -> None:
    text = faults(paths, "[limits]\nmax_leverage = -1\n", env={"MAX_LEVERAGE": "3"})
    assert "limits.max_leverage must be greater than 0" in text


def test_faults_between_keys_are_judged_on_the_whole(paths: Paths) -> None:
    low = "[limits]\nhealth_critical = 60\n"
    assert "health_critical (60) must be below health_warning (50)" in faults(paths, low)
    assert read(paths, low, env={"DELTATUI_LIMITS__HEALTH_WARNING": "70"}).settings.limits.health_critical == 60
    assert "live mode allows at most 5" in faults(paths, '[limits]\nmax_leverage = "8"\n', flags={"mode": "live"})
    text = faults(paths, "[engine]\nautomation = true\n", flags={"mode": "live"})
    assert "acts by itself only as live_mode auto" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("limits = 3\n", "limits is a table; write [limits]"),
        ("[limits\n", "is no valid TOML"),
        ("[paper]\nslippage_min_pct = 0.5\n", "slippage_min_pct (0.5) must not exceed slippage_max_pct (0.3)"),
        ("[paper]\nfail_rate = 0.6\npartial_rate = 0.6\n", "together must not exceed 1, they are 1.2"),
        ("[rebalance]\nemergency_pct = 0.5\n", "emergency_pct (0.5) must not be below tolerance_pct (1)"),
        ('[replay]\nstart = "soon"\n', "replay.start must be a date like 2025-01-31"),
        ("[carry]\nhorizon_h = nan\n", "carry.horizon_h must be"),
        ("[paper]\nlatency_ms = inf\n", "paper.latency_ms must be"),
        (
            '[engine]\nmarkets = "SOL-PERP, DOGE-PERP"\n',
            "engine.markets must name markets of SOL-PERP, BTC-PERP, not DOGE-",
        ),
        ('[engine]\nmarkets = ["SOL-PERP", "SOL-PERP"]\n', "engine.markets must name each market once"),
        ("[engine]\nmarkets = []\n", "engine.markets must name at least 1"),
        ('[engine]\nmarkets = "none"\n', "engine.markets must name at least 1"),
        # What earlier versions called otherwise.
        ('[engine]\nmarket = "SOL-PERP"\n', "engine.market is no setting; did you mean engine.markets?"),
        ("[carry]\naverage_h = 24\n", "carry.average_h is no setting; did you mean carry.average_records?"),
        (
            "[limits]\nmax_funding_age_s = 7200\n",
            "limits.max_funding_age_s is no setting; did you mean limits.max_funding_age_intervals?",
        ),
        ("[replay]\nspeed = 1.5\n", "replay.speed must be a whole number"),
    ],
)
def test_faults_in_plain_words(paths: Paths, text: str, expected: str) -> None:
    assert expected in faults(paths, text)


def test_unknown_variables_of_our_prefix_and_flags_are_refused(paths: Paths) -> None:
    text = faults(
        paths,
        env={"DELTATUI_LIMITS__MAX_LEVRAGE": "3", "DELTATUI_PROFILE": "default", "DELTATUI_HOME": "/x"},
        flags={"limits.max_levrage": 3},
    )
    assert "DELTATUI_LIMITS__MAX_LEVRAGE is no setting; did you mean DELTATUI_LIMITS__MAX_LEVERAGE?" in text
    assert "flag: limits.max_levrage is no setting; did you mean limits.max_leverage?" in text
    assert "DELTATUI_PROFILE" not in text


def test_two_names_of_one_setting_that_differ_are_refused(paths: Paths) -> None:
    env = {"REBALANCE_COOLDOWN_SEC": "60", "COOLDOWN_SECONDS": "90"}
    assert "both set rebalance.cooldown_s and differ" in faults(paths, env=env)
    assert read(paths, env=dict.fromkeys(env, "60")).settings.rebalance.cooldown_s == 60
    own = {"MAX_LEVERAGE": "2", "DELTATUI_LIMITS__MAX_LEVERAGE": "3"}
    assert read(paths, env=own).settings.limits.max_leverage == 3


def test_none_switches_off(paths: Paths) -> None:
    assert read(paths, '[limits]\ndaily_loss_stop_usd = "none"\n').settings.limits.daily_loss_stop_usd is None
    assert "must be a whole number" in faults(paths, env={"DELTATUI_ORDERS__SLIPPAGE_BPS": "none"})


def test_a_readable_dotenv_with_secrets_is_warned_of(paths: Paths) -> None:
    paths.dotenv.write_text(f"SOLANA_PRIVATE_KEY={KEY}\n")
    paths.dotenv.chmod(0o644)
    loaded = read(paths)
    assert any("chmod 600" in warning for warning in loaded.warnings)
    assert "warning: " in render(loaded)
    paths.dotenv.chmod(0o600)
    assert read(paths).warnings == ()


def test_a_home_folder_is_found(paths: Paths) -> None:
    assert read(paths, '[log]\nfolder = "~/x"\n').settings.log.folder == Path.home() / "x"


def test_a_list_is_written_as_one_or_with_commas_and_shown_with_commas(paths: Paths) -> None:
    for text in ('tape = "a.csv, BTC-PERP=b.csv,"', 'tape = ["a.csv", "BTC-PERP=b.csv"]'):
        loaded = read(paths, f"[replay]\n{text}\n")
        assert loaded.settings.replay.tape == ("a.csv", "BTC-PERP=b.csv")
        (line,) = [line for line in render(loaded).splitlines() if line.startswith("replay.tape ")]
        assert line.split()[1] == "a.csv,BTC-PERP=b.csv"
    for none in ("none", "NONE", " "):
        loaded = read(paths, "[replay]\n", env={"DELTATUI_REPLAY__TAPE": none})
        assert loaded.settings.replay.tape == ()
    paths.config_file.unlink()
    shown = {entry.key: (entry.value, entry.default) for entry in entries(read(paths))}
    assert shown["replay.tape"] == ("none", "none")
    assert shown["engine.markets"] == ("SOL-PERP,BTC-PERP", "SOL-PERP,BTC-PERP")
    one = read(paths, env={"DELTATUI_ENGINE__MARKETS": "BTC-PERP"}).settings
    assert one.engine.markets == ("BTC-PERP",)
    assert list(market_settings(one)) == ["BTC-PERP"]


def test_what_is_named_after_an_asset_is_that_markets_alone(paths: Paths) -> None:
    flags: dict[str, object] = {
        "engine.carry_size_btc": "0.02",
        "rebalance.min_trade_btc": "0.003",
        "carry.btc_borrow_apr_pct": 4.0,
        "carry.btc_lend_apr_pct": 1.0,
        "carry.average_records": 48,
    }
    default, made = market_settings(read(paths).settings), market_settings(read(paths, flags=flags).settings)
    btc = made["BTC-PERP"]
    assert (btc.size_1e9, btc.rebalance.min_trade_1e9) == (20_000_000, 3_000_000)
    assert (btc.carry.base_borrow_apr_pct, btc.carry.base_lend_apr_pct) == (4.0, 1.0)
    # What is not named after one is of all.
    assert made["SOL-PERP"].carry == replace(default["SOL-PERP"].carry, average_records=48)
    assert made["SOL-PERP"].rebalance == default["SOL-PERP"].rebalance
    assert (default["SOL-PERP"].size_1e9, default["BTC-PERP"].size_1e9) == (10 * 10**9, 15_200_000)
    paper = paper_settings(read(paths, flags=flags).settings)
    assert (paper.borrow_apr_pct["wBTC"], paper.lend_apr_pct["wBTC"]) == (Decimal(4), Decimal(1))
    assert paper.base_borrow_apr_pct == Decimal("7.5")


def test_settings_are_frozen() -> None:
    with pytest.raises(pydantic.ValidationError):
        Settings().limits.min_health_after = 1


def test_render_has_a_line_for_every_key_with_its_origin(paths: Paths) -> None:
    loaded = read(paths)
    lines = render(loaded).splitlines()
    assert [line.split()[0] for line in lines] == list(loaded.origins)
    assert all(re.search(r"  default($|  \(not used by this version: .+\)$)", line) for line in lines)
    assert all(entry.description for entry in entries(loaded))


def test_env_example_lists_every_variable_and_is_itself_valid(paths: Paths) -> None:
    text = (ROOT / ".env.example").read_text()
    listed = set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", text, re.MULTILINE))
    known = {variable for entry in entries(read(paths)) for variable in entry.variables}
    assert listed == known | {"DELTATUI_PROFILE", "DELTATUI_HOME", "DELTATUI_DRIFT_PROGRAM"}
    paths.dotenv.write_text(text)
    assert read(paths).settings == Settings()
    # And the commented defaults are the defaults.
    ours = [line[2:] for line in text.splitlines() if re.match(r"# DELTATUI_[A-Z]+(__|=|_MODE=)", line)]
    settings = [line for line in ours if not line.startswith(("DELTATUI_PROFILE", "DELTATUI_HOME", "DELTATUI_DRIFT"))]
    paths.dotenv.write_text("\n".join(settings))
    assert read(paths).settings == Settings()


def test_profiles_are_names_not_paths() -> None:
    for bad in ("", "../x", "a/b", "Ü", "-x", "x" * 33, "a b"):
        with pytest.raises(ValidationError, match="BAD_PROFILE"):
            Paths.of(bad, {})


def test_profiles_keep_apart(tmp_path: Path) -> None:
    one, two = (Paths.of(name, {"DELTATUI_HOME": str(tmp_path)}) for name in ("one", "two"))
    for name in ("config_file", "state_folder", "socket", "lock", "log_folder", "database"):
        assert getattr(one, name) != getattr(two, name)
    assert one.theme_folders == two.theme_folders


def test_the_socket_lies_in_the_runtime_folder_if_there_is_one(tmp_path: Path) -> None:
    runtime = Path("/tmp") / f"dtui-rt-{os.getpid()}"
    runtime.mkdir()
    try:
        assert Paths.of("p", {"XDG_RUNTIME_DIR": str(runtime)}).socket == runtime / "deltatui" / "p.sock"
    finally:
        runtime.rmdir()
    for unfit in ("", "relative", "/nonexistent", str(tmp_path / ("x" * 100))):
        found = Paths.of("p", {"XDG_RUNTIME_DIR": unfit})
        assert found.socket == found.state_folder / "engine.sock"


def test_a_socket_path_too_long_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="SOCKET_PATH_TOO_LONG"):
        Paths.of("default", {"DELTATUI_HOME": str(tmp_path / ("x" * 100))})


def test_paths_and_client_need_no_pydantic() -> None:
    code = "import sys, deltatui.paths, deltatui.api.client; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
