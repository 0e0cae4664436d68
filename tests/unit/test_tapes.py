"""Which tape is of which market: what users write, what is refused, and the mark that a profile keeps of its tapes."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tapes import FIRST_S, csv_bytes, row, tape

from deltatui.assembly.replay import _kept_tapes
from deltatui.domain.errors import ValidationError
from deltatui.feeds.recorded import ended, prices_at, records_in_order
from deltatui.feeds.tape import SHIPPED, Tape
from deltatui.feeds.tapes import absolute, check_same_tapes, shipped_tapes, tapes_from_texts

MARKETS = ("SOL-PERP", "BTC-PERP")


def write(folder: Path, *names: str) -> list[str]:
    """A tape under each name, each with a rate of its own."""
    for number, name in enumerate(names):
        (folder / name).write_bytes(csv_bytes([row(FIRST_S, f"0.0{number + 1}")]))
    return [str(folder / name) for name in names]


def read(*texts: str, markets: tuple[str, ...] = MARKETS) -> dict[str, Tape]:
    return tapes_from_texts(texts, markets, nameless=markets[0])


def refusal(*texts: str, markets: tuple[str, ...] = MARKETS) -> tuple[str, str]:
    with pytest.raises(ValidationError) as refused:
        read(*texts, markets=markets)
    return refused.value.code, refused.value.sentence


# What is taken


def test_the_market_stands_in_the_name_of_the_file(tmp_path: Path) -> None:
    texts = write(tmp_path, "drift_SOL-PERP_2025.csv", "BTC-PERP.csv")
    for given_texts in (texts, texts[::-1]):
        found = read(*given_texts)
        assert list(found) == ["BTC-PERP", "SOL-PERP"]
        assert {symbol: each.name for symbol, each in found.items()} == {
            "SOL-PERP": "drift_SOL-PERP_2025.csv",
            "BTC-PERP": "BTC-PERP.csv",
        }


def test_the_market_may_be_written_before_the_file(tmp_path: Path) -> None:
    """It goes before what the name says, and names any file."""
    one, other = write(tmp_path, "mine.csv", "SOL-PERP.csv")
    found = read(f"SOL-PERP={one}", f"BTC-PERP={other}")
    assert (found["SOL-PERP"].name, found["BTC-PERP"].name) == ("mine.csv", "SOL-PERP.csv")


def test_a_nameless_tape_alone_is_of_the_first_market(tmp_path: Path) -> None:
    (path,) = write(tmp_path, "mine.csv")
    assert list(read(path)) == ["SOL-PERP"]
    assert list(read(path, markets=("BTC-PERP", "SOL-PERP"))) == ["BTC-PERP"]


def test_a_symbol_alone_is_the_shipped_tape() -> None:
    found = read("BTC-PERP", "SOL-PERP")
    assert {symbol: each.name for symbol, each in found.items()} == SHIPPED
    assert shipped_tapes(MARKETS)["BTC-PERP"].digest == found["BTC-PERP"].digest
    assert list(shipped_tapes(["SOL-PERP"])) == ["SOL-PERP"]


def test_a_file_of_that_name_goes_before_the_shipped_tape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "SOL-PERP")
    monkeypatch.chdir(tmp_path)
    assert (read("SOL-PERP")["SOL-PERP"].name, len(read("SOL-PERP")["SOL-PERP"])) == ("SOL-PERP", 1)


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "mine.csv", "BTC-PERP.csv")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert list(read("SOL-PERP=~/mine.csv", "~/BTC-PERP.csv")) == ["BTC-PERP", "SOL-PERP"]


def test_an_equals_sign_in_a_file_name_is_no_market(tmp_path: Path) -> None:
    (path,) = write(tmp_path, "speed=3.csv")
    assert list(read(path)) == ["SOL-PERP"]
    assert list(read(f"BTC-PERP={path}")) == ["BTC-PERP"]


# What is refused


def test_of_several_tapes_each_has_to_tell_its_market(tmp_path: Path) -> None:
    """Guessing would trade one market on the prices of another."""
    named, nameless = write(tmp_path, "SOL-PERP.csv", "mine.csv")
    assert refusal(named, nameless) == (
        "NAMELESS_TAPE",
        f"'{nameless}' does not tell its market; write SYMBOL={nameless} with one of SOL-PERP, BTC-PERP",
    )
    assert refusal(nameless, named)[0] == "NAMELESS_TAPE"


def test_a_name_with_two_markets_tells_none(tmp_path: Path) -> None:
    both, other = write(tmp_path, "SOL-PERP_and_BTC-PERP.csv", "BTC-PERP.csv")
    assert refusal(both, other)[0] == "NAMELESS_TAPE"
    assert list(read(both)) == ["SOL-PERP"]
    # The same market twice is one.
    (twice,) = write(tmp_path, "SOL-PERP_SOL-PERP.csv")
    assert list(read(twice, other)) == ["BTC-PERP", "SOL-PERP"]


def test_an_unknown_market_is_refused_however_it_is_written(tmp_path: Path) -> None:
    mine, doge = write(tmp_path, "mine.csv", "DOGE-PERP.csv")
    expected = ("UNKNOWN_MARKET", "there is no market DOGE-PERP; listed: SOL-PERP, BTC-PERP")
    assert refusal(f"DOGE-PERP={mine}") == expected
    assert refusal(doge) == expected
    assert refusal(mine, doge)[0] == "NAMELESS_TAPE"
    # What the profile does not carry is unknown to it.
    assert refusal("BTC-PERP=x.csv", markets=("SOL-PERP",)) == (
        "UNKNOWN_MARKET",
        "there is no market BTC-PERP; listed: SOL-PERP",
    )


def test_two_tapes_of_one_market_are_refused(tmp_path: Path) -> None:
    one, other = write(tmp_path, "SOL-PERP_a.csv", "SOL-PERP_b.csv")
    expected = ("TWO_TAPES", "there are two tapes of SOL-PERP; give one for each market")
    assert refusal(one, other) == refusal(one, one) == refusal("SOL-PERP", one) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("none.csv", "there is no tape at none.csv"),
        ("SOL-PERP=none.csv", "there is no tape at none.csv"),
        ("SOL-PERP=", "'SOL-PERP=' names no tape; a tape is FILE, SYMBOL=FILE or SYMBOL"),
        ("DOGE", "there is no tape at DOGE"),
        ("", "'' names no tape; a tape is FILE, SYMBOL=FILE or SYMBOL"),
        ("sol-pesos", "there is no tape at sol-pesos"),
        ("SOL=none.csv", "there is no tape at SOL=none.csv"),
    ],
)
def test_what_is_no_tape_is_refused(text: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = refusal(text)
    assert code == "BAD_TAPE"
    assert sentence in said


def test_an_unknown_symbol_alone_is_refused_as_such() -> None:
    assert refusal("ETH-PERP") == ("UNKNOWN_MARKET", "there is no market ETH-PERP; listed: SOL-PERP, BTC-PERP")
    assert refusal("sol-perp") == ("UNKNOWN_MARKET", "there is no market sol-perp; listed: SOL-PERP, BTC-PERP")


def test_what_stands_before_a_file_that_is_there_is_meant_as_a_market(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "mine.csv")
    monkeypatch.chdir(tmp_path)
    assert refusal("SOL=mine.csv") == ("UNKNOWN_MARKET", "there is no market SOL; listed: SOL-PERP, BTC-PERP")


# For a process with another working directory


def test_texts_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/somebody")
    here = str(tmp_path)
    assert absolute("a.csv") == f"{here}/a.csv"
    assert absolute("SOL-PERP=a.csv") == f"SOL-PERP={here}/a.csv"
    assert absolute("SOL-PERP=~/a.csv") == "SOL-PERP=/somebody/a.csv"
    assert absolute("/x/a.csv") == "/x/a.csv"
    assert absolute("speed=3.csv") == f"{here}/speed=3.csv"
    # The shipped one has no place, unless a file of that name is there.
    assert absolute("SOL-PERP") == "SOL-PERP"
    write(tmp_path, "SOL-PERP")
    assert absolute("SOL-PERP") == f"{here}/SOL-PERP"


@given(st.lists(st.sampled_from(["SOL-PERP", "BTC-PERP", "SOL-PERP=a", "x.csv", "~/y", "a=b", "/abs"]), max_size=4))
def test_what_is_absolute_stays_so(texts: list[str]) -> None:
    once = [absolute(text) for text in texts]
    assert [absolute(text) for text in once] == once


# The mark that a profile keeps


def made(*rates: str) -> Tape:
    return tape([row(FIRST_S + 3600 * n, rate) for n, rate in enumerate(rates)])


def test_a_profile_keeps_its_tapes() -> None:
    sol, other, btc = made("0.1"), made("0.2"), made("0.3")
    marks = check_same_tapes({"SOL-PERP": sol}, {})
    assert marks == {"SOL-PERP": sol.digest}
    assert check_same_tapes({"SOL-PERP": sol}, marks) == marks
    # A market may be added, and one that has no tape now keeps its mark.
    both = check_same_tapes({"SOL-PERP": sol, "BTC-PERP": btc}, marks)
    assert both == {"SOL-PERP": sol.digest, "BTC-PERP": btc.digest}
    assert check_same_tapes({"BTC-PERP": btc}, both) == both
    with pytest.raises(ValidationError) as refused:
        check_same_tapes({"SOL-PERP": other, "BTC-PERP": btc}, both)
    assert refused.value.code == "OTHER_TAPE"
    assert refused.value.sentence == (
        f"this profile's account was played on another tape of SOL-PERP than {other.name}; "
        "use another --profile, or start it anew with --fresh"
    )


def test_the_mark_of_the_shipped_tape_is_what_earlier_versions_kept() -> None:
    """They kept the digest of the unpacked file alone, of SOL-PERP's."""
    old = "bb7ef42e8be8b515c6e2a6709460e365feb1f96183844dfa4f2e248335040505"
    tapes = shipped_tapes(MARKETS)
    assert _kept_tapes(old.encode()) == {"SOL-PERP": old}
    marks = check_same_tapes(tapes, _kept_tapes(old.encode()))
    assert marks == {symbol: each.digest for symbol, each in tapes.items()}
    assert marks["SOL-PERP"] == old
    with pytest.raises(ValidationError, match="another tape of SOL-PERP"):
        check_same_tapes(tapes, _kept_tapes(old[::-1].encode()))


def test_the_mark_is_read_back_as_it_was_kept() -> None:
    marks = {"SOL-PERP": "ab", "BTC-PERP": "cd"}
    assert _kept_tapes(msgspec.json.encode(marks)) == marks
    assert _kept_tapes(None) == _kept_tapes(b"") == _kept_tapes(b"{}") == {}


# Records of several tapes


def at(*hours: int) -> Tape:
    return tape([row(FIRST_S + 3600 * hour, f"0.{hour}1") for hour in hours])


def test_records_come_by_time_and_then_by_symbol() -> None:
    tapes = {"SOL-PERP": at(0, 1, 3), "BTC-PERP": at(1, 2, 3)}
    told = [(round((fact.source_s - FIRST_S) / 3600), fact.instrument) for fact in records_in_order(tapes)]
    assert told == [
        (0, "SOL-PERP"),
        (1, "BTC-PERP"),
        (1, "SOL-PERP"),
        (2, "BTC-PERP"),
        (3, "BTC-PERP"),
        (3, "SOL-PERP"),
    ]
    later = [(fact.source_s, fact.instrument) for fact in records_in_order(tapes, {"SOL-PERP": 2, "BTC-PERP": 1})]
    assert later == [
        (FIRST_S + 2 * 3600, "BTC-PERP"),
        (FIRST_S + 3 * 3600, "BTC-PERP"),
        (FIRST_S + 3 * 3600, "SOL-PERP"),
    ]
    # Of two of one time the one may be taken already and the other not.
    assert [fact.instrument for fact in records_in_order(tapes, {"BTC-PERP": 3, "SOL-PERP": 2})] == ["SOL-PERP"]
    assert list(records_in_order(tapes, {"SOL-PERP": 3, "BTC-PERP": 3})) == []


hours = st.sets(st.integers(0, 40), min_size=1, max_size=15).map(sorted)


symbols = st.sampled_from(["A", "B", "C"])


@given(st.dictionaries(symbols, hours, min_size=1), st.none() | st.dictionaries(symbols, st.integers(0, 16)))
def test_every_record_comes_once_whatever_the_tapes(of: dict[str, list[int]], taken: dict[str, int] | None) -> None:
    tapes = {symbol: at(*each) for symbol, each in of.items()}
    facts = list(records_in_order(tapes, taken))
    keys = [(fact.source_s, fact.instrument) for fact in facts]
    assert keys == sorted(keys)
    for symbol, whole in tapes.items():
        mine = [fact.record for fact in facts if fact.instrument == symbol]
        assert tuple(mine) == whole.records[(taken or {}).get(symbol, 0) :]
    # A tape has no other prices than those of its records.
    assert all(fact.priced and fact.source_s == fact.record.ts_s for fact in facts)


def test_prices_and_the_end_name_their_market() -> None:
    made_of = tape([row(FIRST_S, "0", "100"), row(FIRST_S + 3600, "0", "200")])
    half = prices_at("SOL-PERP", made_of, FIRST_S + 1800.0)
    assert (half.instrument, half.source_s, half.oracle, half.interpolated) == (
        "SOL-PERP",
        FIRST_S + 1800.0,
        Decimal(150),
        True,
    )
    end = ended("SOL-PERP", FIRST_S + 3600.0)
    assert (end.instrument, end.ended, end.paused, end.spec) == ("SOL-PERP", True, None, None)
