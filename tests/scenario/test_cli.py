"""The real command line: bad input gets one sentence on stderr and an exit code, good input its result on stdout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tapes import FIRST_S, csv_bytes, flipping, row

from deltatui import __version__, cli
from deltatui.domain.errors import CriticalError, TransientError, UnresolvedError, ValidationError
from deltatui.feeds.tape import COLUMNS

Run = Callable[..., tuple[int, str, str]]

JSON_KEYS = (
    *("tape", "policy", "points", "funding_usd", "fees_usd", "interest_usd", "trading_pnl_usd", "equity_start_usd"),
    *("equity_end_usd", "switches", "time_in_market_pct", "max_drawdown_pct", "ledger_gap_usd", "result_hash"),
)
GOOD = [row(FIRST_S + 3600 * n, "0.01", "150") for n in range(30)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # Not below tmp_path: the path of a socket has to be short.
    short = tempfile.TemporaryDirectory(prefix="dtui-", ignore_cleanup_errors=True)
    monkeypatch.setenv("DELTATUI_HOME", short.name)
    for name in list(os.environ):
        if name.startswith("DELTATUI_") and name != "DELTATUI_HOME":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    short.cleanup()


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """(exit code, stdout, stderr) of the real entry point with these words."""

    def go(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["deltatui", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        out = capsys.readouterr()
        return code, out.out, out.err

    return go


def written(home: Path, raw: bytes) -> Path:
    path = home / "tape.csv"
    path.write_bytes(raw)
    return path


def refused(result: tuple[int, str, str], said: str, code: int = 2) -> None:
    """One sentence on stderr that says what was wrong, nothing on stdout, no traceback."""
    exit_code, out, err = result
    assert exit_code == code, err
    assert out == ""
    assert said in err
    assert "Traceback" not in err
    assert err.count("\n") == 1
    assert err.startswith("deltatui: ")


# Bad tapes


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (csv_bytes([r[:-1] for r in GOOD], COLUMNS[:-1]), "column periodRevenue is missing"),
        (csv_bytes([r[1:] for r in GOOD], COLUMNS[1:]), "column ts is missing"),
        (b"this is no tape at all\n", "is missing"),
        (csv_bytes([*GOOD[:3], (1, 2, "x", 4, 5, 6, 7)]), "line 5, fundingRateLong: 'x' is not a number"),
        (csv_bytes(reversed(GOOD)), "time must rise"),
        (csv_bytes([GOOD[0], GOOD[0]]), "time must rise"),
        (b"", "it is empty"),
        (csv_bytes([]), "a header but no record"),
        (bytes(range(256)) * 8, "not a text file"),
        (b"\x1f\x8b\x08\x00broken", "cannot be unpacked"),
        (csv_bytes([row(FIRST_S, "0", "-5")]), "prices must be positive"),
        (csv_bytes([row(FIRST_S, "nan")]), "not a finite number"),
    ],
)
@pytest.mark.parametrize("command", ["backtest", "engine"])
def test_a_bad_tape_is_refused(run: Run, home: Path, raw: bytes, said: str, command: str) -> None:
    refused(run(command, "--tape", written(home, raw)), said)


def test_a_tape_that_is_not_there(run: Run, home: Path) -> None:
    refused(run("backtest", "--tape", "nowhere.csv"), "there is no tape at nowhere.csv")
    refused(run("backtest", "--tape", home), "cannot be read")


# Bad words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--size", "-1"), "too small"),
        (("--size=-1",), "too small"),
        (("--size", "0"), "too small"),
        (("--size", "nan"), "not a finite number"),
        (("--size", "inf"), "not a finite number"),
        (("--size", "lots"), "'lots' is not a number"),
        (("--size", ""), "'' is not a number"),
        (("--size", "1.005"), "no multiple of the step 0.01 SOL"),
        (("--size", "1e400"), "more than any market"),
        (("--size", "1e999999999"), "more than any market"),
        (("--market", "DOGE-PERP"), "there is no market DOGE-PERP; listed: SOL-PERP"),
        (("--policy", "yolo"), "there is no policy 'yolo'; always-short, flat, carry exist"),
        (("--fees", "cheap"), "there is no fee preset 'cheap'; none, drift exist"),
        (("--profile", "../x"), "is no profile name"),
        (("--policy", "always-short", "--size", "100000000"), ""),
    ],
)
def test_bad_words_are_refused(run: Run, home: Path, words: tuple[str, ...], said: str) -> None:
    result = run("backtest", "--tape", written(home, csv_bytes(GOOD)), *words)
    if said:
        refused(result, said)
    else:
        assert result[0] == 0


def test_a_negative_take_is_refused_before_an_engine_is_looked_for(run: Run) -> None:
    refused(run("take", "0"), "must be more than 0")
    refused(run("take", "--", "-2"), "must be more than 0")
    refused(run("take", "x"), "'x' is not a number")


@pytest.mark.parametrize("words", [("--tpae", "x"), ("backtest", "--polcy", "flat"), ("bcktest",), ("take",)])
def test_unknown_words_are_usage_errors(run: Run, words: tuple[str, ...]) -> None:
    code, out, err = run(*words)
    assert code == 2
    assert out == ""
    assert "Usage:" in err or "Try" in err
    assert "Traceback" not in err


# Configuration


def config(home: Path, text: str) -> None:
    folder = Path(os.environ["DELTATUI_HOME"]) / "config"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "default.toml").write_text(text)


@pytest.mark.parametrize("command", [("config", "check"), ("config", "show"), ("backtest",), ("engine",), ()])
def test_a_config_key_with_a_typo_names_the_nearest(run: Run, home: Path, command: tuple[str, ...]) -> None:
    config(home, "[limits]\nmax_levarage = 3\n")
    code, out, err = run(*command)
    assert code == 2
    assert out == ""
    assert "max_levarage" in err
    assert "max_leverage" in err
    assert "Traceback" not in err


def test_a_config_that_is_no_toml_or_of_a_wrong_type(run: Run, home: Path) -> None:
    config(home, "[limits\n")
    code, _, err = run("config", "check")
    assert code == 2
    assert "default.toml" in err
    config(home, '[limits]\nmax_leverage = "much"\n')
    code, _, err = run("config", "check")
    assert code == 2
    assert "max_leverage" in err


def test_a_good_config_is_good_and_counts(run: Run, home: Path) -> None:
    config(home, '[paper]\nstart_equity_usd = "1000"\n')
    code, out, _ = run("config", "check")
    assert code == 0
    assert "is good" in out
    code, out, _ = run("backtest", "--tape", written(home, csv_bytes(GOOD)), "--policy", "flat", "--json")
    assert code == 0
    assert json.loads(out)["equity_start_usd"] == 1000.0


def test_a_mode_that_is_not_ready_is_refused(run: Run, home: Path) -> None:
    config(home, 'mode = "paper"\n')
    refused(run("engine"), "use mode replay")


# No terminal, no engine


@pytest.mark.parametrize("words", [(), ("--speed", "60")])
def test_without_a_terminal(run: Run, words: tuple[str, ...]) -> None:
    refused(run(*words), "needs a terminal")


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("status", "--json"),
        ("take", "1", "--yes"),
        ("leave", "--yes"),
        ("settle",),
        ("kill",),
        ("attach",),
    ],
)
def test_without_an_engine(run: Run, words: tuple[str, ...]) -> None:
    code, out, err = run(*words)
    assert code == 3
    assert out == ""
    assert "engine" in err
    assert "Traceback" not in err


def test_a_vault_that_is_not_there(run: Run) -> None:
    refused(run("vault", "reset", "--yes"), "has no vault")


def test_exports_of_nothing(run: Run, home: Path) -> None:
    refused(run("export", "dreams", home / "x.csv"), "'dreams' cannot be exported; operations")
    code, out, err = run("export", "ledger", home / "x.csv")
    assert code in (2, 3, 4)
    assert out == ""
    assert err.startswith("deltatui: ")


# Results


def test_a_backtest_as_json(run: Run, home: Path) -> None:
    code, out, err = run(
        "backtest", "--tape", written(home, csv_bytes(GOOD)), "--policy", "always-short", "--fees", "none", "--json"
    )
    assert (code, err) == (0, "")
    result = json.loads(out)
    for key in JSON_KEYS:
        assert key in result
    assert result["funding_usd"] == pytest.approx(0.3)
    assert result["policy"] == "always-short"


def test_the_shipped_tape_is_the_default(run: Run) -> None:
    code, out, _ = run("backtest", "--policy", "always-short", "--size", "1", "--fees", "none", "--json")
    assert code == 0
    result = json.loads(out)
    assert result["funding_usd"] == pytest.approx(-6.067833, abs=1e-6)
    assert result["ledger_gap_usd"] < 0.01


def test_a_report_puts_carry_beside_flat_and_always_short(run: Run, home: Path) -> None:
    flips = flipping(300.0, 24 * 12, 72)
    rows = [row(r.ts_s, r.rate, r.oracle_twap) for r in flips.records]
    code, out, err = run("backtest", "--tape", written(home, csv_bytes(rows)), "--policy", "carry")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith(("carry", "always-short", "flat"))][:3] == [
        "carry",
        "always-short",
        "flat",
    ]
    assert "did best on this tape" in out
    assert "stance" in out


# Baskets


def two(home: Path) -> list[str]:
    """A tape of each market that comes with deltatui, thirty hours of it."""
    sol, btc = home / "my_SOL-PERP.csv", home / "BTC-PERP.csv"
    sol.write_bytes(csv_bytes(GOOD))
    btc.write_bytes(csv_bytes([row(FIRST_S + 3600 * n, "10", "100000") for n in range(30)]))
    return ["--tape", str(btc), "--tape", str(sol)]


def test_a_basket_as_json(run: Run, home: Path) -> None:
    words = ["--policy", "always-short", "--fees", "none", "--json", "--size", "SOL-PERP=2", "--size", "BTC-PERP=0.01"]
    code, out, err = run("backtest", *two(home), *words)
    assert (code, err) == (0, "")
    result = json.loads(out)
    for key in JSON_KEYS:
        assert key in result
    assert (result["market"], result["size"], result["points"]) == ("BTC-PERP+SOL-PERP", None, 60)
    assert {symbol: each["size"] for symbol, each in result["markets"].items()} == {"BTC-PERP": 0.01, "SOL-PERP": 2.0}
    assert result["markets"]["SOL-PERP"]["funding_usd"] == pytest.approx(0.6)
    assert result["markets"]["BTC-PERP"]["funding_usd"] == pytest.approx(3.0)
    assert result["funding_usd"] == pytest.approx(3.6)
    assert result["equity_start_usd"] == 2 * (2 * 150 + 0.01 * 100_000)
    assert result["alone"]["SOL-PERP"]["funding_usd"] == pytest.approx(0.6)


def test_the_sizes_of_a_basket(run: Run, home: Path) -> None:
    """Without one those of the settings, with one it is of each, and a market's own goes before both."""

    def sizes(*words: str) -> dict[str, float]:
        code, out, err = run("backtest", *two(home), "--policy", "flat", "--json", *words)
        assert (code, err) == (0, "")
        return {symbol: each["size"] for symbol, each in json.loads(out)["markets"].items()}

    assert sizes() == {"SOL-PERP": 10.0, "BTC-PERP": 0.0152}
    assert sizes("--size", "0.5") == {"SOL-PERP": 0.5, "BTC-PERP": 0.5}
    assert sizes("--size", "0.5", "--size", "BTC-PERP=0.02") == {"SOL-PERP": 0.5, "BTC-PERP": 0.02}
    assert sizes("--size", "SOL-PERP=3") == {"SOL-PERP": 3.0, "BTC-PERP": 0.0152}


def test_a_report_of_a_basket(run: Run, home: Path) -> None:
    code, out, err = run("backtest", *two(home), "--policy", "carry")
    assert (code, err) == (0, "")
    assert "0.0152 BTC-PERP, 10 SOL-PERP each leg" in out
    assert "did best on these tapes" in out
    assert [
        line.split()[0] for line in out.splitlines() if line.startswith(("BTC-PERP ", "SOL-PERP ", "account "))
    ] == [
        "BTC-PERP",
        "SOL-PERP",
        "account",
    ]


def test_baskets_that_are_none(run: Run, home: Path) -> None:
    sol_and_btc, nameless = two(home), str(written(home, csv_bytes(GOOD)))
    refused(run("backtest", *sol_and_btc, "--tape", nameless), "does not tell its market; write SYMBOL=")
    refused(
        run("backtest", *sol_and_btc, "--tape", f"DOGE-PERP={nameless}"), "there is no market DOGE-PERP; listed: SOL"
    )
    refused(run("backtest", *sol_and_btc, "--tape", f"SOL-PERP={nameless}"), "there are two tapes of SOL-PERP")
    refused(run("backtest", *sol_and_btc, "--size", "0.01"), "the least is 0.1 SOL")
    refused(run("backtest", *sol_and_btc, "--size", "ETH-PERP=1"), "ETH-PERP is not played; played: BTC-PERP, SOL-PERP")
    later = home / "later.csv"
    later.write_bytes(csv_bytes([row(FIRST_S + 3600 * n) for n in range(100, 110)]))
    refused(run("backtest", "--tape", sol_and_btc[3], "--tape", f"BTC-PERP={later}"), "the tapes share no time")


def test_one_tape_of_another_market(run: Run, home: Path) -> None:
    """By its name, or by --market where the name tells none."""
    flat = ("--policy", "flat", "--json", "--size", "0.01")
    for words in (("--tape", two(home)[1]), ("--tape", str(written(home, csv_bytes(GOOD))), "--market", "BTC-PERP")):
        code, out, err = run("backtest", *words, *flat)
        assert (code, err) == (0, "")
        assert (json.loads(out)["market"], json.loads(out)["size"]) == ("BTC-PERP", 0.01)
    refused(run("backtest", "--market", "DOGE-PERP"), "there is no market DOGE-PERP; listed: SOL-PERP, BTC-PERP")


def test_a_market_that_the_profile_does_not_name_is_not_played(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELTATUI_ENGINE__MARKETS", "SOL-PERP")
    refused(run("backtest", *two(home)), "engine.markets of this profile does not name BTC-PERP")


def test_the_engine_in_the_background_gets_tapes_that_it_finds(home: Path) -> None:
    arguments = cli._engine_arguments(["BTC-PERP", "SOL-PERP=a.csv", "b.csv"], 60, True)
    assert arguments == [
        "--quiet",
        *("--tape", "BTC-PERP"),
        *("--tape", f"SOL-PERP={home}/a.csv"),
        *("--tape", f"{home}/b.csv"),
        *("--speed", "60", "--fresh"),
    ]


def test_files_of_a_report(run: Run, home: Path) -> None:
    tape = written(home, csv_bytes(GOOD))
    code, out, _ = run("backtest", "--tape", tape, "--html", home / "r.html", "--csv", home / "r.csv", "--json")
    assert code == 0
    assert json.loads(out)["points"] == 30
    assert (home / "r.html").read_text().startswith("<!doctype html>")
    assert len((home / "r.csv").read_text().splitlines()) == 31
    refused(run("backtest", "--tape", tape, "--csv", home / "no" / "r.csv"), "cannot be written")


def test_version_and_help(run: Run) -> None:
    assert run("--version") == (0, f"deltatui {__version__}\n", "")
    code, out, _ = run("--help")
    assert code == 0
    assert "Exit codes" in out
    for command in (
        "engine",
        "attach",
        "status",
        "kill",
        "take",
        "leave",
        "settle",
        "rebalance",
        "backtest",
        "export",
        "config",
        "vault",
    ):
        assert command in out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValidationError("A", "b"), 2),
        (TransientError("A", "b"), 3),
        (CriticalError("A", "b"), 4),
        (UnresolvedError("A", "b"), 5),
    ],
)
def test_exit_codes(error: ValidationError, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(error) == code
    cli.print_error(error)
    assert capsys.readouterr().err == "deltatui: b [A]\n"


# The real process


def test_the_real_process_says_one_sentence(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deltatui", "backtest", "--size", "-1"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "deltatui: size -1 is too small; the least is 0.1 SOL [BAD_SIZE]\n"


@contextmanager
def running(home: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A real engine process of the profile; it is ended at the latest on leaving."""
    with subprocess.Popen(
        [sys.executable, "-m", "deltatui", "engine", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(30)


@pytest.mark.serial
def test_an_engine_is_steered_from_the_command_line(run: Run, home: Path) -> None:
    """Start, look, take, leave, kill, stop: with exit codes that a script can use."""
    tape = written(home, csv_bytes([row(FIRST_S + 3600 * n, "0.02", "150") for n in range(5000)]))
    config(
        home,
        '[engine]\nautomation = false\n[paper]\nwallet_sol = "2"\n[limits]\ndaily_loss_stop_usd = 1000000\n',
    )
    with running(home, "--tape", str(tape), "--speed", "36000") as process:
        deadline = time.monotonic() + 30
        while run("status")[0] != 0:
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
        while json.loads(run("status", "--json")[1])["clock"]["tape"]["record"] < 8:
            assert time.monotonic() < deadline
        code, out, _ = run("status")
        assert "REPLAY" in out
        assert "SOL-PERP stance: FLAT" in out
        assert run("leave", "--yes") == (1, "", "no hedge is held; --market names another market: SOL-PERP\n")
        assert json.loads(run("status", "--json")[1])["account"]["assets"][0]["wallet"] == 2
        code, out, err = run("take", "5", "--yes", "--json")
        assert code == 0, err
        assert json.loads(out)["status"] == "done"
        assert json.loads(run("status", "--json")[1])["hedges"][0]["carry"]["stance"] == "CARRY"
        code, out, err = run("take", "100000", "--yes")
        assert code == 1
        assert "blocked by" in err
        second = subprocess.run(
            [sys.executable, "-m", "deltatui", "engine"], capture_output=True, text=True, timeout=60
        )
        assert second.returncode == 2
        assert "already runs as process" in second.stderr
        assert "Traceback" not in second.stderr
        code, out, err = run("leave", "--yes")
        assert (code, err) == (0, "")
        assert out.startswith("leave done: bought 5 SOL-PERP, sold 5 SOL")
        code, out, err = run("take", "1", "--spot", "wallet", "--yes", "--json")
        assert code == 0, err
        assert [part["market"] for part in json.loads(out)["parts"]] == ["SOL-PERP"]
        code, out, err = run("take", "5", "--spot", "wallet", "--yes")
        assert (code, err) == (1, "the wallet can give at most 1 SOL to a hedge\n")
        assert run("take", "1", "--spot", "nowhere")[0] == 2
        question = subprocess.run(
            [sys.executable, "-m", "deltatui", "take", "2"], input="n\n", capture_output=True, text=True, timeout=60
        )
        assert question.returncode == 1, "who says no has done nothing"
        assert "sell 2 SOL-PERP" in question.stderr
        assert "buy 2 SOL" in question.stderr
        assert "not confirmed, nothing was done" in question.stderr
        assert json.loads(run("status", "--json")[1])["confirmations"] == []
        assert run("forget-losses", "--yes")[0] == 0
        code, out, _ = run("kill", "--flatten", "--reason", "end of test")
        assert code == 0
        assert "halted" in out
        assert json.loads(run("status", "--json")[1])["engine"]["state"] == "HALTED"
        code, out, err = run("take", "1", "--yes")
        assert code == 1
        assert "halted" in err
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert run("status")[0] == 3
    code, out, _ = run("export", "operations", home / "operations.csv")
    assert code == 0
    text = (home / "operations.csv").read_text()
    assert "TAKE" in text
    assert "LEAVE" in text
