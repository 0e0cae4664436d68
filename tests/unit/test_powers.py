"""What each live mode may do, command by command (R2.1)."""

from __future__ import annotations

from typing import get_args

import pytest
from engine_harness import engine_settings

from deltatui.domain.command import (
    AnyCommand,
    Cancel,
    Command,
    Confirm,
    Deposit,
    ForgetLosses,
    Kill,
    Leave,
    Pause,
    Rebalance,
    Resume,
    SetAutomation,
    SetSpeed,
    Settle,
    Stop,
    Take,
    Withdraw,
)
from deltatui.domain.errors import ValidationError
from deltatui.domain.principal import ENGINE, OPERATOR, Power, Principal
from deltatui.engine.powers import check_power, may_automate, needed_by, needed_power, power_refusal
from deltatui.engine.settings import LIVE_MODES

M = "SOL-PERP"

NEEDED: list[tuple[Command, Power]] = [
    (Pause(), "watch"),
    (Resume(), "watch"),
    (Cancel(operation_id="o1"), "watch"),
    (Confirm(operation_id="o1"), "watch"),
    (Stop(), "watch"),
    (SetSpeed(speed=1), "watch"),
    (Kill(), "watch"),
    (SetAutomation(on=False), "watch"),
    (Deposit(asset="USDC", amount=1), "manage"),
    (Withdraw(asset="USDC", amount=1), "manage"),
    (Settle(market=M), "manage"),
    (Take(market=M, base_1e9=1), "trade"),
    (Leave(market=M), "trade"),
    (Rebalance(market=M), "trade"),
    (Kill(flatten=True), "trade"),
    (ForgetLosses(), "trade"),
    (SetAutomation(on=True), "auto"),
]


def name_of(value: object) -> str:
    if not isinstance(value, Command):
        return str(value)
    return type(value).__name__ + ("!" if getattr(value, "flatten", False) or getattr(value, "on", False) else "")


def test_every_command_is_in_the_table() -> None:
    assert {type(command) for command, _ in NEEDED} == set(get_args(AnyCommand))
    for command in get_args(AnyCommand):
        assert needed_by(command) in LIVE_MODES


@pytest.mark.parametrize("live_mode", LIVE_MODES)
@pytest.mark.parametrize(("command", "needed"), NEEDED, ids=name_of)
def test_live_a_command_needs_its_power(command: Command, needed: Power, live_mode: Power) -> None:
    assert needed_power(command) == needed
    # What some form of it needs is never more than this form does.
    assert LIVE_MODES.index(needed_by(type(command))) <= LIVE_MODES.index(needed_power(command))
    settings = engine_settings(mode="live", live_mode=live_mode)
    if LIVE_MODES.index(live_mode) >= LIVE_MODES.index(needed):
        check_power(settings, command, OPERATOR)
        return
    with pytest.raises(ValidationError) as refused:
        check_power(settings, command, OPERATOR)
    assert refused.value.code == "NO_POWER"
    what = "kill with flatten" if isinstance(command, Kill) else type(command).__name__.lower()
    expected = f"live mode {live_mode} does not allow {what}; it needs live_mode {needed}"
    assert refused.value.sentence == expected


@pytest.mark.parametrize("live_mode", LIVE_MODES)
@pytest.mark.parametrize("mode", ["paper", "replay"])
def test_paper_and_replay_have_every_power(mode: str, live_mode: str) -> None:
    settings = engine_settings(mode=mode, live_mode=live_mode)
    for command, _ in NEEDED:
        check_power(settings, command, OPERATOR)
    assert may_automate(settings)
    assert power_refusal(settings, "auto", "anything") == ""


def test_live_watches_unless_told_otherwise() -> None:
    assert engine_settings(mode="live").live_mode == "watch"
    allowed = {mode: may_automate(engine_settings(mode="live", live_mode=mode)) for mode in LIVE_MODES}
    assert allowed == {"watch": False, "manage": False, "trade": False, "auto": True}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"mode": "Live"}, "mode is 'Live'; it must be one of replay, paper, live"),
        ({"live_mode": "all"}, "live_mode is 'all'; it must be one of watch, manage, trade, auto"),
        ({"hold": "long"}, "hold is 'long'; it must be one of "),
    ],
)
def test_a_word_that_is_none_gives_no_power(words: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        engine_settings(**words)
    assert refused.value.code == "BAD_WORD"
    assert refused.value.sentence.startswith(sentence)


@pytest.mark.parametrize("power", LIVE_MODES)
@pytest.mark.parametrize(("command", "needed"), NEEDED, ids=name_of)
def test_who_gives_a_command_may_give_no_more_than_his_power(command: Command, needed: Power, power: Power) -> None:
    """In every mode, and beside what the live mode allows."""
    giver = Principal("api", "script", power)
    for settings in (engine_settings(), engine_settings(mode="live", live_mode="auto")):
        if LIVE_MODES.index(power) >= LIVE_MODES.index(needed):
            check_power(settings, command, giver)
            continue
        with pytest.raises(ValidationError) as refused:
            check_power(settings, command, giver)
        what = "kill with flatten" if isinstance(command, Kill) else type(command).__name__.lower()
        assert refused.value.code == "NO_POWER"
        assert refused.value.sentence == f"script may {power} and not more; {what} needs {needed}"


def test_the_live_mode_binds_whoever_gives_the_command() -> None:
    watching = engine_settings(mode="live", live_mode="watch")
    for giver in (OPERATOR, ENGINE, Principal("api", "script", "auto")):
        with pytest.raises(ValidationError, match="live mode watch does not allow take"):
            check_power(watching, Take(market=M, base_1e9=1), giver)
