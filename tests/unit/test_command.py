"""Commands hold the words that they may hold, and no others."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from deltatui.domain.command import AnyCommand, Direction, Pause, SpotSource, Take, one_of
from deltatui.domain.errors import ValidationError


def take(**words: Any) -> Take:
    return Take(market="SOL-PERP", base_1e9=1, **words)


@pytest.mark.parametrize("word", ["carry", "reverse"])
def test_a_direction_as_a_plain_string_is_that_direction(word: str) -> None:
    assert take(direction=word).direction is Direction(word)
    assert take(direction=Direction(word)) == take(direction=word)


@pytest.mark.parametrize("word", ["buy", "wallet", "deposited"])
def test_a_source_of_spot_as_a_plain_string_is_that_source(word: str) -> None:
    assert take(spot=word).spot is SpotSource(word)


def test_without_words_it_is_a_carry_that_buys() -> None:
    assert (take().direction, take().spot, take().source) == (Direction.CARRY, SpotSource.BUY, "operator")


@pytest.mark.parametrize("word", ["CARRY", "Reverse", "", " carry", "long", None, 1])
def test_another_direction_is_refused_with_those_that_are(word: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        take(direction=word)
    assert refused.value.code == "BAD_WORD"
    assert refused.value.sentence == f"direction is '{word}'; it must be one of carry, reverse"


@pytest.mark.parametrize("word", ["bought", "", None])
def test_another_source_of_spot_is_refused(word: Any) -> None:
    with pytest.raises(ValidationError, match=f"spot is '{word}'; it must be one of buy, wallet, deposited"):
        take(spot=word)


@pytest.mark.parametrize("word", ["ENGINE", "", "me", None])
def test_another_giver_of_a_command_is_refused(word: Any) -> None:
    for make in (Pause, take):
        with pytest.raises(ValidationError, match=f"source is '{word}'; it must be one of operator, api, engine"):
            make(source=word)


def test_the_wire_reads_the_same_words() -> None:
    decode = msgspec.json.Decoder(AnyCommand).decode
    command = decode(b'{"action":"TAKE","market":"SOL-PERP","base_1e9":5,"direction":"reverse"}')
    assert isinstance(command, Take)
    assert command.direction is Direction.REVERSE
    for text in (b'"direction":"long"', b'"spot":"sold"', b'"source":"me"'):
        with pytest.raises((msgspec.ValidationError, ValidationError)):
            decode(b'{"action":"TAKE","market":"SOL-PERP","base_1e9":5,' + text + b"}")


def test_a_word_is_read_by_value() -> None:
    assert one_of(Direction, "carry", "way") is Direction.CARRY
    with pytest.raises(ValidationError, match="way is 'up'; it must be one of carry, reverse"):
        one_of(Direction, "up", "way")
