"""``deltatui doctor`` and ``deltatui keys``: what they find, what they never show, and how long they take."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest
from chainkit import LoopClock, keypair, run
from node import Dropped, Node, RateLimited
from scene import NodeTransport
from typer.testing import CliRunner

from deltatui import doctor
from deltatui.chain.http import Reply, Transport, TransportError
from deltatui.chain.keys import KeyStore
from deltatui.cli import app
from deltatui.config import Paths, load
from deltatui.doctor import Finding, Report, Screen, Status, WallClock
from deltatui.domain.errors import ValidationError
from deltatui.store.database import Database, Durability

ADDRESS = str(keypair().pubkey())
SECRET_URL = "http://rpc0.test/apikey-0123456789"
GOOD_SCREEN = Screen(True, "utf-8", (120, 40))
GOOD_TERM = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}


class Silence:
    """A network that swallows everything, or that is not there."""

    def __init__(self, answers: bool) -> None:
        self.answers = answers

    async def exchange(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        if not self.answers:
            await asyncio.sleep(1e6)
        raise TransportError("ClientConnectorError")

    async def close(self) -> None:
        pass


def look(
    home: Path,
    transport: Callable[[Node], Transport] = NodeTransport,
    setup: Callable[[Node], object] = lambda node: None,
    screen: Screen = GOOD_SCREEN,
    ahead_s: float = 0.0,
    **env: str,
) -> tuple[Report, float]:
    """The report in live mode unless told otherwise, and the seconds that it took."""
    given = {
        "DELTATUI_HOME": str(home),
        "DELTATUI_MODE": "live",
        "DELTATUI_NETWORK": "localnet",
        "RPC_URL": SECRET_URL,
        **GOOD_TERM,
        **env,
    }
    paths = Paths.of("default", given)

    async def go() -> tuple[Report, float]:
        node = Node(endpoints=2)
        node.tick(5)
        setup(node)
        clock = LoopClock()
        clock.ahead_s = node.chain.unix_s - clock.operator_s() + ahead_s
        try:
            loaded = load("default", {}, given, paths)
        except ValidationError as error:
            return await doctor.examine(error, paths, given, transport(node), clock, screen), 0.0
        began = asyncio.get_running_loop().time()
        report = await doctor.examine(loaded, paths, given, transport(node), clock, screen)
        return report, asyncio.get_running_loop().time() - began

    return run(go())


def found(report: Report, name: str) -> Finding:
    return next(each for each in report.findings if each.name.startswith(name))


def failed(report: Report) -> list[str]:
    return [each.name for each in report.findings if each.status is Status.FAIL]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    KeyStore(tmp_path / "state" / "default" / "keys").import_outside("cold", ADDRESS)
    return tmp_path


def test_where_all_is_well_only_the_missing_live_mode_is_in_the_way(home: Path) -> None:
    report, _ = look(home)
    assert failed(report) == ["live mode"]
    assert "no live mode" in found(report, "live mode").detail
    assert (report.replay, report.live, report.mode, report.ready) == (True, False, "live", False)
    rpc = found(report, "RPC rpc0.test")
    assert rpc.status is Status.OK
    assert "version 4.0.3" in rpc.detail
    assert "slot 4600" in rpc.detail
    assert "ms" in rpc.detail
    assert "genesis" in rpc.detail
    assert found(report, "clock").status is Status.OK
    assert ADDRESS in found(report, "key cold").detail
    assert doctor.lines(report)[-1] == "replay can start; live cannot start"
    assert "apikey" not in repr(report)


@pytest.mark.parametrize("answers", [True, False])
def test_without_a_network_it_takes_seconds(home: Path, answers: bool) -> None:
    report, took_s = look(home, lambda node: Silence(answers), DELTATUI_NETWORK="mainnet")
    assert took_s < 6.0
    assert failed(report) == ["RPC rpc0.test", "live mode"]
    assert found(report, "clock").status is Status.WARNING
    assert found(report, "Jito").status is Status.WARNING
    assert report.replay
    assert "apikey" not in repr(report)


def test_an_rpc_of_another_chain_is_named(home: Path) -> None:
    report, _ = look(home, DELTATUI_NETWORK="devnet")
    assert "not the chain of devnet" in found(report, "RPC").detail
    assert found(report, "RPC").status is Status.FAIL


def test_an_rpc_that_refuses_is_named(home: Path) -> None:
    def limited(node: Node) -> None:
        node.faults.requests(RateLimited("html"), host="rpc")

    def dropped(node: Node) -> None:
        node.faults.requests(Dropped(), host="rpc")

    for setup in (limited, dropped):
        report, _ = look(home, setup=setup)
        assert found(report, "RPC").status is Status.FAIL
        assert found(report, "RPC").advice


def test_it_judges_by_the_limits_that_are_set(home: Path) -> None:
    wide, _ = look(home, ahead_s=5.0, DELTATUI_LIMITS__MAX_CLOCK_SKEW_S="6")
    assert found(wide, "clock").status is Status.OK
    narrow, _ = look(home, ahead_s=5.0, DELTATUI_LIMITS__MAX_CLOCK_SKEW_S="3")
    assert "more than 3 s" in found(narrow, "clock").advice
    slow, _ = look(home, DELTATUI_LIMITS__MAX_LATENCY_MS="0.001")
    assert found(slow, "RPC").status is Status.WARNING
    assert "refused above 0.001 ms" in found(slow, "RPC").advice


@pytest.mark.parametrize(("ahead_s", "status"), [(0.5, Status.OK), (5.0, Status.FAIL), (-5.0, Status.FAIL)])
def test_a_wrong_clock_is_found(home: Path, ahead_s: float, status: Status) -> None:
    report, _ = look(home, ahead_s=ahead_s)
    assert found(report, "clock").status is status


def test_a_bad_configuration_is_the_first_finding_and_the_rest_is_told_all_the_same(home: Path) -> None:
    report, _ = look(home, DELTATUI_MODE="yolo")
    assert failed(report) == ["configuration", "live mode"]
    assert not report.replay
    assert found(report, "disk").status is Status.OK


def test_no_key_and_no_rpc_are_told_and_do_not_hinder_a_replay(tmp_path: Path) -> None:
    report, _ = look(tmp_path, RPC_URL="")
    assert failed(report) == ["keys", "RPC", "live mode"]
    assert report.replay


def test_the_key_of_the_environment_is_present_and_not_shown(tmp_path: Path) -> None:
    secret = str(keypair())
    report, _ = look(tmp_path, SOLANA_PRIVATE_KEY=secret)
    assert found(report, "key of the environment").status is Status.OK
    assert secret not in repr(report)


def test_a_key_file_that_others_can_read_is_a_fault(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "id.json"
    file.write_text(keypair().to_json())
    file.chmod(0o600)
    KeyStore(home / "state" / "default" / "keys").import_file("hot", file)
    file.chmod(0o644)
    report, _ = look(home)
    assert found(report, "key hot").status is Status.FAIL
    assert "chmod 600" in found(report, "key hot").detail
    file.unlink()
    report, _ = look(home)
    assert found(report, "key hot").status is Status.FAIL


def test_terminals() -> None:
    def said(screen: Screen, **env: str) -> dict[str, Status]:
        return {each.name: each.status for each in doctor.terminal(screen, env)}

    ok, warning = Status.OK, Status.WARNING
    assert said(GOOD_SCREEN, **GOOD_TERM) == {"terminal": ok, "characters": ok, "size": ok}
    assert said(Screen(False, "utf-8", (0, 0))) == {"terminal": warning}
    poor = said(Screen(True, "ANSI_X3.4-1968", (79, 24)), TERM="xterm", TMUX="/tmp/tmux")
    assert poor == {"terminal": warning, "characters": warning, "size": warning, "tmux": ok}
    assert said(GOOD_SCREEN, TERM="dumb")["terminal"] is Status.FAIL
    (tmux,) = [
        each for each in doctor.terminal(GOOD_SCREEN, {"TERM": "tmux-256color", "TMUX": "x"}) if each.name == "tmux"
    ]
    assert "tmux.conf" in tmux.advice


@pytest.mark.parametrize(("free", "status"), [(2**20, Status.FAIL), (2**29, Status.WARNING), (2**33, Status.OK)])
def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, status: Status) -> None:
    class Usage:
        def __init__(self) -> None:
            self.free = free

    monkeypatch.setattr("deltatui.doctor.shutil.disk_usage", lambda place: Usage())
    assert doctor.disk(tmp_path / "not" / "yet").status is status


async def test_databases(tmp_path: Path) -> None:
    path = tmp_path / "deltatui.sqlite"
    assert doctor.database(path).status is Status.OK
    database = await Database.open(path, Durability.NORMAL)
    # While an engine has it open.
    assert doctor.database(path).status is Status.OK
    await database.run(
        lambda connection: connection.execute(
            "INSERT INTO operations (id, kind, market, source, created_market_s, created_operator_s, body, state,"
            " updated_operator_s) VALUES ('a', 'TAKE', '', '', 0, 0, '{}', 'SENT', 0)"
        )
    )
    assert "1 operations not ended" in doctor.database(path).detail
    assert doctor.database(path).status is Status.WARNING
    await database.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9999")
    connection.close()
    assert "9999" in doctor.database(path).detail
    assert doctor.database(path).status is Status.FAIL
    path.write_bytes(b"SQLite format 3\0" + b"rubbish" * 1000)
    assert doctor.database(path).status is Status.FAIL


class NoNetwork:
    """Whoever asks it has failed the test."""

    async def exchange(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        raise AssertionError(f"{method} {url} was asked")

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("network", ["mainnet", "localnet"])
def test_a_replay_asks_no_network_and_needs_none_of_what_live_needs(tmp_path: Path, network: str) -> None:
    report, _ = look(tmp_path, lambda node: NoNetwork(), DELTATUI_MODE="replay", DELTATUI_NETWORK=network)
    assert failed(report) == []
    assert (report.replay, report.live, report.mode, report.ready) == (True, False, "replay", True)
    not_needed = {each.name for each in report.findings if each.status is Status.NOT_NEEDED}
    assert not_needed == {"keys", "RPC", "clock", "Jito", "live mode"}
    assert [line for line in doctor.lines(report) if line.startswith("not needed  RPC")]


def test_a_replay_starts_beside_a_bad_key_and_the_fault_is_told(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "id.json"
    file.write_text(keypair().to_json())
    file.chmod(0o600)
    KeyStore(home / "state" / "default" / "keys").import_file("hot", file)
    file.chmod(0o644)
    report, _ = look(home, lambda node: NoNetwork(), DELTATUI_MODE="replay")
    assert found(report, "key hot").status is Status.WARNING
    assert "chmod 600" in found(report, "key hot").detail
    assert report.ready


def test_a_replay_that_cannot_start_is_not_ready(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deltatui.doctor.LEAST_DISK_BYTES", 2**70)
    report, _ = look(home, lambda node: NoNetwork(), DELTATUI_MODE="replay")
    assert failed(report) == ["disk"]
    assert (report.replay, report.ready) == (False, False)


def test_a_paper_exchange_on_a_live_market_is_missing_too(home: Path) -> None:
    report, _ = look(home, DELTATUI_MODE="paper")
    assert failed(report) == ["paper mode", "live mode"]
    assert (report.mode, report.replay, report.ready) == ("paper", True, False)


def doctors(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["doctor", *words])
    return result.exit_code, result.stdout


@pytest.mark.parametrize(("mode", "code"), [("replay", 0), ("live", 1), ("paper", 1), ("yolo", 1)])
def test_the_exit_code_says_whether_the_configured_mode_could_start(
    home: Path, monkeypatch: pytest.MonkeyPatch, mode: str, code: int
) -> None:
    for name, value in {"HOME": str(home), "NETWORK": "localnet", "MODE": mode}.items():
        monkeypatch.setenv(f"DELTATUI_{name}", value)
    for name in ("RPC_URL", "DELTATUI_CHAIN_RPC_URL", "SOLANA_PRIVATE_KEY"):
        monkeypatch.delenv(name, raising=False)
    ended, said = doctors("--json")
    assert ended == code
    report = msgspec.json.decode(said, type=Report)
    assert report.ready is (code == 0)
    assert report.live is False
    ended, said = doctors()
    assert ended == code
    assert "no live mode" in said
    assert len(said.splitlines()) == sum(len(each.detail.splitlines()) for each in report.findings) + 1


async def test_the_wall_clock_is_this_machine_s() -> None:
    clock = WallClock()
    before = clock.operator_s()
    await clock.sleep(0.0)
    assert before <= clock.market_s() < before + 60.0


# Keys


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A keypair file and a password file."""
    monkeypatch.setenv("DELTATUI_HOME", str(tmp_path / "home"))
    pair, password = tmp_path / "id.json", tmp_path / "password"
    pair.write_text(keypair().to_json())
    password.write_text("correct horse battery\n")
    for each in (pair, password):
        each.chmod(0o600)
    return pair, password


def keys(*words: str) -> str:
    result = CliRunner().invoke(app, ["keys", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def shows_no_secret(text: str) -> bool:
    pair = keypair()
    return not any(each in text for each in (str(pair), pair.to_json(), pair.secret().hex(), "correct horse"))


def test_import_list_show_and_remove(files: tuple[Path, Path]) -> None:
    pair, password = files
    said = keys("import", "hot", "--from", str(pair), "--password-file", str(password))
    said += keys("import", "mine", "--kind", "file", "--from", str(pair))
    said += keys("import", "cold", "--kind", "outside", "--address", ADDRESS)
    listed = keys("list")
    assert [line.split() for line in listed.splitlines()] == [
        ["cold", "outside", ADDRESS],
        ["hot", "encrypted", ADDRESS],
        ["mine", "file", ADDRESS],
    ]
    assert keys("show-address", "hot") == f"{ADDRESS}\n"
    assert [each["name"] for each in json.loads(keys("list", "--json"))] == ["cold", "hot", "mine"]
    store = doctor.key_folder(Paths.of("default"))
    assert (store / "hot.key.json").stat().st_mode & 0o077 == 0
    said += keys("remove", "hot", "--yes") + keys("remove", "mine", "--yes")
    assert not (store / "hot.key.json").exists()
    assert pair.exists()
    assert shows_no_secret(said + listed)
    with pytest.raises(ValidationError, match="NO_KEY"):
        keys("show-address", "hot")


def test_a_secret_is_typed_where_nobody_sees_it(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []
    answers = iter([str(keypair()), "correct horse battery"])

    def prompt(text: str, *, hide_input: bool, **_: object) -> str:
        asked.append((text, hide_input))
        return next(answers)

    monkeypatch.setattr("deltatui.cli_chain._need_prompt", lambda instead: None)
    monkeypatch.setattr("deltatui.cli_chain.typer.prompt", prompt)
    assert shows_no_secret(keys("import", "hot"))
    assert [hidden for _, hidden in asked] == [True, True]
    assert keys("show-address", "hot") == f"{ADDRESS}\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("import", "hot"), "NO_TERMINAL"),
        (("import", "hot", "--kind", "magic"), "UNKNOWN_KIND"),
        (("import", "hot", "--kind", "file"), "NO_SOURCE"),
        (("import", "hot", "--kind", "command", "--address", ADDRESS), "BAD_KEY"),
        (("import", "Hot!", "--kind", "outside", "--address", ADDRESS), "BAD_NAME"),
        (("remove", "nobody", "--yes"), "NO_KEY"),
    ],
)
def test_bad_input_is_refused(files: tuple[Path, Path], words: tuple[str, ...], code: str) -> None:
    with pytest.raises(ValidationError) as caught:
        keys(*words)
    assert caught.value.code == code


def test_no_option_takes_a_secret() -> None:
    text = CliRunner().invoke(app, ["keys", "import", "--help"]).output
    assert "--password-file" in text
    assert "--password " not in text
    assert "--secret" not in text
    assert "--key " not in text


def test_every_endpoint_is_asked_and_the_clocks_are_compared_once(home: Path) -> None:
    second = "http://rpc1.test/"
    report, _ = look(home, RPC_URL=f"{SECRET_URL}, {second}")
    assert [each.name for each in report.findings if each.name.startswith("RPC")] == ["RPC rpc0.test", "RPC rpc1.test"]
    assert [each.name for each in report.findings].count("clock") == 1
    assert failed(report) == ["live mode"]
