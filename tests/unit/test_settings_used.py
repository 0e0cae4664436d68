"""Every setting is read by something, every limit can be set, and every default stands in one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
import pytest
from pydantic import BaseModel

import deltatui.settings
from deltatui.api.limits import ServerLimits
from deltatui.assembly.replay import run_engine
from deltatui.assembly.values import (
    backtest_settings,
    engine_settings,
    paper_opening,
    paper_settings,
    server_limits,
)
from deltatui.backtest.settings import Fees, Policy
from deltatui.config import entries, load, render
from deltatui.domain.delta import RebalanceSettings
from deltatui.domain.errors import ValidationError
from deltatui.domain.gates import GateLimits
from deltatui.engine.powers import power_of
from deltatui.engine.settings import LIVE_MODES, EngineSettings, MarketSettings
from deltatui.paths import Paths
from deltatui.setting_values import default_of
from deltatui.settings import NOT_USED, PAPER_AUTO_LIMIT_USD, PAPER_MAX_LEVERAGE, Settings
from deltatui.venues.paper.settings import MARKETS, PaperSettings
from deltatui.venues.paper.venue import _NOT_APPLICABLE

PACKAGE = Path(deltatui.settings.__file__).parent


def _sections() -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in Settings.model_fields.items():
        annotation: object = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield name, annotation


SECTIONS = dict(_sections())
TOP = [name for name in Settings.model_fields if name not in SECTIONS]
KEYS = [*TOP, *(f"{section}.{name}" for section, model in SECTIONS.items() for name in model.model_fields)]

WITHOUT_READER = {"chain.sub_account", "helius.webhook_secret"}
WITHOUT_EFFECT = {
    "live_mode",
    "limits.typed_above_usd",
    "limits.max_oracle_age_s",
    "limits.max_slot_lag",
    "paper.maintenance_fallback_pct",
}
"""With the one above: what NOT_USED held when this test was written. Take a name off here when its setting gets a use;
never add one: a new setting comes with its reader."""

NUMBERS_OF_THEIR_OWN = {
    "engine.carry_size_sol",
    "engine.carry_size_btc",
    "paper.wallet_usd",
    "paper.wallet_sol",
    "paper.wallet_btc",
    "replay.speed",
    "chain.sub_account",
}
"""Settings whose default is a number written in settings.py, because no struct has one."""

NOT_SETTABLE = {
    "engine.profile": "the command line's",
    "engine.hold": "a backtest's policy",
    "engine.save_every_step": "off in a backtest alone: what a step changed must outlive kill -9",
    "paper.borrow_apr_pct": "which assets there are; the rate of each can be set",
    "paper.lend_apr_pct": "which assets there are; the rate of each can be set",
    "paper.save_every": "more than one in a backtest alone, for the same reason",
}


# What the program builds of its settings


def settings_with(**flags: object) -> Settings:
    """Settings of the flags alone; ``section__name`` is ``section.name``."""
    given = {name.replace("__", "."): value for name, value in flags.items()}
    return load(flags=given, env={}, paths=Paths.of("default", {"DELTATUI_HOME": "/nonexistent"})).settings


def leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        # Of markets and of assets; which there are is a figure too.
        yield path, tuple(value)
        for name, each in value.items():
            yield from leaves(each, f"{path}[{name}]")
        return
    if not isinstance(value, msgspec.Struct):
        yield path, value
        return
    for field in msgspec.structs.fields(type(value)):
        yield from leaves(getattr(value, field.name), f"{path}.{field.name}")


def built(settings: Settings) -> dict[str, object]:
    """Every figure that reaches a part of the program, by its path."""
    parts = {
        "engine": engine_settings(settings, "default", settings.engine.markets),
        "paper": paper_settings(settings),
        "server": server_limits(settings),
        "opening": paper_opening(settings, dict.fromkeys(settings.engine.markets, Decimal(100))),
    }
    return {path: value for name, part in parts.items() for path, value in leaves(part, name)}


def others(key: str) -> Iterator[object]:
    """Values that may be valid and differ from the default."""
    section, _, name = key.rpartition(".")
    model = SECTIONS[section] if section else Settings
    annotation: Any = model.model_fields[name].annotation
    kinds = get_args(annotation) if get_origin(annotation) is not Literal else (annotation,)
    for kind in kinds or (annotation,):
        if get_origin(kind) is Literal:
            yield from reversed(get_args(kind))
    yield from (False, "BTC-PERP", 28_800, 3, 7, 0.5, 0.2, 55, "0.5", "3", "70")


BASE: dict[str, dict[str, object]] = {
    "paper.slippage": {"paper.slippage": "size"},
    "live_mode": {"mode": "live"},
}
"""Where a setting has a meaning only together with another."""


def reached_by(key: str) -> set[str]:
    """The paths that differ once ``key`` has another value."""
    base = next((flags for start, flags in BASE.items() if key.startswith(start)), {})
    paths = Paths.of("default", {"DELTATUI_HOME": "/nonexistent"})
    before_settings = load(flags=base, env={}, paths=paths).settings
    before = built(before_settings)
    section, _, name = key.rpartition(".")
    for value in others(key):
        try:
            after_settings = load(flags={**base, key: value}, env={}, paths=paths).settings
        except ValidationError:
            continue
        pair = [getattr(getattr(s, section) if section else s, name) for s in (before_settings, after_settings)]
        if pair[0] != pair[1]:
            after = built(after_settings)
            # What belongs to a market that one of the two does not name says nothing of the key.
            return {path for path in before.keys() & after.keys() if before[path] != after[path]}
    raise AssertionError(f"no other value of {key} is known to the test")


ENGINE_KEYS = [
    key for key in KEYS if key.partition(".")[0] in ("engine", "limits", "orders", "rebalance", "carry", "paper")
]
REACH = {key: reached_by(key) for key in [*ENGINE_KEYS, "mode", "live_mode"]}


@pytest.mark.parametrize("key", ENGINE_KEYS)
def test_another_value_of_a_setting_builds_something_else(key: str) -> None:
    assert REACH[key], f"nothing that the program builds depends on {key}"


def test_every_figure_of_engine_and_paper_can_be_set() -> None:
    settable = set().union(*REACH.values())
    figures = {path for path in built(settings_with()) if not path.startswith("server.")}
    assert figures - settable == set(NOT_SETTABLE)
    assert "server.commands_per_s" in settable


def test_a_backtest_judges_by_the_same_settings() -> None:
    settings = settings_with(
        limits__max_leverage=3.0,
        limits__min_health_after=70,
        limits__max_market_usd=50.0,
        limits__max_total_usd=70.0,
        carry__min_round_trip_bps=9.0,
    )
    made = backtest_settings(settings, Policy.CARRY, Fees.DRIFT, MARKETS, {"SOL-PERP": 10**9})
    engine = engine_settings(settings, "default", MARKETS)
    assert (made.limits, made.paper) == (engine.limits, paper_settings(settings))
    assert (made.max_market_usd, made.max_total_usd) == (engine.max_market_usd, engine.max_total_usd) == (50.0, 70.0)
    # Only the size that the command line names is its own.
    sol = msgspec.structs.replace(engine.markets["SOL-PERP"], size_1e9=10**9)
    assert made.markets == {"SOL-PERP": sol, "BTC-PERP": engine.markets["BTC-PERP"]}
    assert (made.limits.max_leverage, made.limits.min_health_after) == (3.0, 70)
    assert {each.carry.least_round_trip for each in made.markets.values()} == {0.0009}


def test_a_backtest_of_a_market_that_the_profile_does_not_name_is_refused() -> None:
    settings = settings_with(engine__markets="BTC-PERP")
    with pytest.raises(ValidationError, match=r"engine\.markets of this profile does not name SOL-PERP"):
        backtest_settings(settings, Policy.CARRY, Fees.DRIFT, ["SOL-PERP"], {"SOL-PERP": 10**9})


# Defaults


def test_without_settings_every_struct_has_its_own_defaults() -> None:
    settings = settings_with()
    btc_steps = RebalanceSettings(min_trade_1e9=MARKETS["BTC-PERP"].min_base_1e9)
    assert engine_settings(settings, "default", MARKETS) == EngineSettings(
        profile="default",
        mode="replay",
        limits=GateLimits(max_leverage=PAPER_MAX_LEVERAGE),
        markets={"SOL-PERP": MarketSettings(10 * 10**9), "BTC-PERP": MarketSettings(15_200_000, rebalance=btc_steps)},
        auto_limit_usd=PAPER_AUTO_LIMIT_USD,
    )
    # The rates of an asset that has no field of its own stand by its name, and are those of all.
    own = PaperSettings()
    assert paper_settings(settings) == PaperSettings(
        borrow_apr_pct={"wBTC": own.base_borrow_apr_pct}, lend_apr_pct={"wBTC": own.base_lend_apr_pct}
    )
    assert server_limits(settings) == ServerLimits()


def _defaults() -> Iterator[tuple[str, ast.expr]]:
    """(key, the expression of its default) as settings.py has them."""
    sections = {model.__name__: name for name, model in SECTIONS.items()}
    for node in ast.parse((PACKAGE / "settings.py").read_text()).body:
        if not isinstance(node, ast.ClassDef) or node.name not in (*sections, "Settings"):
            continue
        for line in node.body:
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                assert isinstance(line.value, ast.Call), line.target.id
                given = {keyword.arg: keyword.value for keyword in line.value.keywords}
                start = f"{sections[node.name]}." if node.name in sections else ""
                if "default" in given:
                    yield f"{start}{line.target.id}", given["default"]


def _is_number(expression: ast.expr) -> bool:
    """Written out, not read from anywhere: 5, -1.0, Decimal("0.5"), 10 * 60."""
    names = {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
    values = [node.value for node in ast.walk(expression) if isinstance(node, ast.Constant)]
    if names - {"Decimal", "float", "int", "str"}:
        return False
    return "Decimal" in names or any(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def test_no_setting_repeats_a_number_that_its_struct_has() -> None:
    written = dict(_defaults())
    assert set(written) == {key for key in KEYS if key not in SECTIONS}
    assert {key for key, expression in written.items() if _is_number(expression)} == NUMBERS_OF_THEIR_OWN
    structs: dict[str, type[msgspec.Struct]] = {
        "engine": EngineSettings,
        "paper": PaperSettings,
        "server": ServerLimits,
    }
    for key in NUMBERS_OF_THEIR_OWN & set(REACH):
        for path in REACH[key]:
            part, _, name = path.partition(".")
            if part in structs:
                of_market = name.startswith("markets[")
                with pytest.raises(KeyError):
                    default_of(MarketSettings if of_market else structs[part], name.rpartition(".")[2])


def test_a_struct_without_the_default_is_refused() -> None:
    for name in ("max_leverage", "max_levrage"):
        with pytest.raises(KeyError, match="GateLimits has no default"):
            default_of(GateLimits, name)


# Readers


def _is_settings(node: ast.expr) -> bool:
    return (isinstance(node, ast.Name) and node.id == "settings") or (
        isinstance(node, ast.Attribute) and node.attr == "settings"
    )


def _section_of(node: ast.expr) -> str | None:
    """The section that ``settings.section`` names."""
    if isinstance(node, ast.Attribute) and node.attr in SECTIONS and _is_settings(node.value):
        return node.attr
    return None


def _short_names(function: ast.AST) -> dict[str, str]:
    """Names that stand for a section: ``limits = settings.limits``, also several on one line."""
    names: dict[str, str] = {}
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=True))
            for name, value in pairs:
                section = _section_of(value)
                if isinstance(name, ast.Name) and section is not None:
                    names[name.id] = section
    return names


def _read_in(tree: ast.AST) -> set[str]:
    """Keys, and properties of the models, that a module reads."""
    found: set[str] = set()
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for function in functions:
        short = _short_names(function)
        for node in ast.walk(function):
            if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
                continue
            section = _section_of(node.value)
            if section is None and isinstance(node.value, ast.Name):
                section = short.get(node.value.id)
            if section is not None:
                found.add(f"{section}.{node.attr}")
            elif _is_settings(node.value):
                found.add(node.attr)
    return found


def _through_properties() -> dict[str, set[str]]:
    """What each property of the models reads: ``chain.rpc_urls`` reads ``chain.rpc_url``."""
    classes = {model.__name__: f"{name}." for name, model in SECTIONS.items()} | {"Settings": ""}
    reads: dict[str, set[str]] = {}
    for node in ast.parse((PACKAGE / "settings.py").read_text()).body:
        if not isinstance(node, ast.ClassDef) or node.name not in classes:
            continue
        start = classes[node.name]
        for function in node.body:
            is_property = isinstance(function, ast.FunctionDef) and any(
                isinstance(decorator, ast.Name) and decorator.id == "property" for decorator in function.decorator_list
            )
            if not is_property:
                continue
            assert isinstance(function, ast.FunctionDef)
            chains = {
                ast.unparse(each).removeprefix("self.")
                for each in ast.walk(function)
                if isinstance(each, ast.Attribute)
            }
            reads[f"{start}{function.name}"] = {f"{start}{chain}" for chain in chains} & set(KEYS)
    return reads


def readers() -> dict[str, set[str]]:
    """Which files read which key."""
    through = _through_properties()
    found: dict[str, set[str]] = {key: set() for key in KEYS}
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text()
        # What only shows a setting makes no use of it.
        if path.name in ("settings.py", "config.py") or (
            "deltatui.settings" not in text and "deltatui.config" not in text
        ):
            continue
        for name in _read_in(ast.parse(text)):
            for key in through.get(name, {name}):
                if key in found:
                    found[key].add(str(path.relative_to(PACKAGE)))
    return found


READERS = readers()


def test_every_setting_has_a_reader_or_its_line_in_the_table() -> None:
    assert {key for key, files in READERS.items() if not files} == WITHOUT_READER


def test_the_reader_of_the_source_sees_what_is_there() -> None:
    assert READERS["limits.max_latency_ms"] == {"assembly/values.py", "doctor.py"}  # short name, and in full
    assert READERS["limits.max_leverage"] == {"assembly/values.py"}  # by a property
    assert READERS["chain.rpc_url"] == {"doctor.py"}
    assert _read_in(ast.parse("def f(settings):\n    settings.limits.max_slot_lag = 1")) == {"limits"}
    assert "limits.x" in _read_in(ast.parse("def f(settings):\n    a, b = settings.orders, settings.limits\n    b.x"))


# The table


def test_the_table_of_what_is_not_used_only_shrinks() -> None:
    assert set(NOT_USED) == WITHOUT_READER | WITHOUT_EFFECT
    assert all(NOT_USED.values())


async def test_what_needs_live_mode_is_in_the_table_as_long_as_live_mode_is_refused(tmp_path: Path) -> None:
    paths = Paths.of("default", {"DELTATUI_HOME": str(tmp_path)})
    with pytest.raises(ValidationError, match="MODE_NOT_READY"):
        await run_engine(load(flags={"mode": "live"}, env={}, paths=paths))
    assert {"oracle_age", "slot_lag"} <= set(_NOT_APPLICABLE)
    # The engine looks at live_mode, in live mode: whatever it is, each mode that starts has every power.
    for mode in ("replay", "paper"):
        for live_mode in LIVE_MODES:
            told = engine_settings(settings_with(mode=mode, live_mode=live_mode), "default", MARKETS)
            assert (told.live_mode, power_of(told)) == (live_mode, "auto")


def test_the_fallback_is_in_the_table_as_long_as_no_market_needs_it() -> None:
    assert all(spec.margin_maintenance_1e4 is not None for spec in MARKETS.values())


def test_config_show_says_what_is_not_used(tmp_path: Path) -> None:
    loaded = load(env={}, paths=Paths.of("default", {"DELTATUI_HOME": str(tmp_path)}))
    marked = {line.split()[0] for line in render(loaded).splitlines() if "(not used by this version: " in line}
    assert marked == set(NOT_USED)
    assert {entry.key: entry.not_used for entry in entries(loaded) if entry.not_used} == NOT_USED
