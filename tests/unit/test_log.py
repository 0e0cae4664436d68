"""Logs: lines, levels, files, clients, and no secret on any of them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from deltatui.domain import audit
from deltatui.domain.errors import TransientError
from deltatui.domain.event import Level, LogLine
from deltatui.domain.redact import MASK, Redactor, base58_decode, base58_encode, for_report, key_bytes, secret_field
from deltatui.log import MAX_FILES_PER_DAY, MAX_TEXT, RETENTION_DAYS, Logs, _expire, _Rotation, _StandardHandler, setup

KEY = base58_encode(bytes(range(7, 71)))
SIGNATURE = base58_encode(bytes(range(100, 164)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def logs(folder: Path) -> Iterator[Logs]:
    logs = setup(level="DEBUG", folder=folder, secrets=("hunter2-secret", KEY))
    yield logs
    logs.close()


def text(folder: Path) -> str:
    return (folder / "engine.log").read_text()


def test_a_line_has_time_level_tag_words_and_fields(logs: Logs, folder: Path) -> None:
    logs(Level.WARNING, "SAFETY", "LEVERAGE blocks", {"gate": "LEVERAGE", "observed": "12 x", "market_s": 5.0})
    line = text(folder)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING \[SAFETY\] LEVERAGE blocks \| "
        r'gate=LEVERAGE observed="12 x"\n',
        line,
    )


def test_messages_are_text_and_never_a_format(logs: Logs, folder: Path) -> None:
    logs(Level.INFO, "", "{oops} <red>{0}</red> %s {extra[utc]}", {"x": "{y}"})
    assert "INFO {oops} <red>{0}</red> %s {extra[utc]} | x={y}\n" in text(folder)


def test_control_characters_cannot_forge_a_line_or_move_the_cursor(logs: Logs, folder: Path) -> None:
    logs(Level.INFO, "TX", "bad\n2026-01-01 INFO [TRADE] forged\x1b[2J\u202e", {"why": "a\r\nb"})
    assert text(folder).count("\n") == 1
    assert "\x1b" not in text(folder)
    assert "\u202e" not in text(folder)


def test_the_level_decides(folder: Path) -> None:
    logs = setup(level="WARNING", folder=folder)
    logs(Level.INFO, "", "quiet")
    logs(Level.WARNING, "", "loud")
    logs.close()
    assert "quiet" not in text(folder)
    assert "loud" in text(folder)


def test_errors_have_type_context_and_stack_but_no_locals(logs: Logs, folder: Path) -> None:
    def inner() -> None:
        local_treasure = "local-treasure-value"
        assert local_treasure
        raise KeyError("the cause")

    def outer() -> None:
        try:
            inner()
        except KeyError as error:
            raise TransientError("RPC_DOWN", "the RPC does not answer") from error

    try:
        outer()
    except TransientError as error:
        logs(*audit.error("polling the account", error))
    line = text(folder)
    for expected in (
        "ERROR [ERROR] polling the account: RPC_DOWN: the RPC does not answer",
        "error_type=TransientError",
        "Traceback (most recent call last)",
        "KeyError: 'the cause'",
        "in outer",
        "in inner",
    ):
        assert expected in line
    assert "local-treasure-value" not in line.replace('local_treasure = "local-treasure-value"', "")


def test_known_secrets_are_masked_in_every_form(logs: Logs, folder: Path) -> None:
    key = bytes(range(7, 71))
    forms = [KEY, key.hex(), "0x" + key.hex().upper(), str(list(key)), repr(key), str(list(key[:32])), key[:32].hex()]
    for number, form in enumerate(forms):
        try:
            raise ValueError(f"cannot parse {form}")
        except ValueError as error:
            logs(Level.ERROR, "TX", f"{number}: {form}", {"detail": form, "error": error, "tx_signature": form})
    logs(Level.INFO, "", "said hunter2-secret", {"x": ["hunter2-secret"], "y": {"deep": "hunter2-secret"}})
    written = text(folder)
    for form in (*forms, "hunter2-secret", "7, 8, 9, 10", "7,8,9,10"):
        assert form not in written


@pytest.mark.parametrize(
    ("said", "secret"),
    [
        ("GET https://x.org/?api-key=abcdef0123&x=1 failed", "abcdef0123"),
        ("wss://x.org/?token=abcdef0123", "abcdef0123"),
        ("Authorization: Bearer abc.def-ghi", "abc.def-ghi"),
        ("headers {'Authorization': 'topsecret1'}", "topsecret1"),
        ('{"password": "two words"}', "two words"),
        ("https://user:passw0rd@x.org/", "passw0rd"),
        ("HELIUS_WEBHOOK_SECRET=topsecret1", "topsecret1"),
        (f"key {base58_encode(bytes(range(100, 164)))}", base58_encode(bytes(range(100, 164)))),
        (f"key {bytes(range(64)).hex()}", bytes(range(64)).hex()),
    ],
)
def test_shapes_of_secrets_are_masked(said: str, secret: str) -> None:
    masked = Redactor()(said)
    assert secret not in masked
    assert MASK in masked


@pytest.mark.parametrize(
    "said",
    [
        "So11111111111111111111111111111111111111112 sent to JUP6LkbZbjS1jKKwapdHNy74zcZ3tLUZoi5QNyVTaV4",
        "blockhash 4uQeVj5tqViQh7yWWGStvkEG1Zmhx6uasJtWCJziofM at slot 371234567",
        "health 97, leverage 1.00x, sizes [1.5, 2.5, 3.5], /root/.local/state/deltatui/default/log/engine.log",
        "commit 0123456789abcdef0123456789abcdef01234567",
    ],
)
def test_ordinary_texts_are_left_alone(said: str) -> None:
    assert Redactor()(said) == said


def test_a_transaction_signature_stays_readable_where_it_is_declared(logs: Logs, folder: Path) -> None:
    logs(*audit.trade(market="SOL-PERP", side="sell", size=1.0, price=2.0, tx_signature=SIGNATURE, market_s=1.0))
    logs(Level.INFO, "", f"undeclared {SIGNATURE}")
    assert text(folder).count(SIGNATURE) == 2
    assert f"undeclared {MASK}" in text(folder)


def test_a_declared_signature_cannot_uncover_the_key(logs: Logs, folder: Path) -> None:
    logs(Level.INFO, "TRADE", f"signature {KEY}", {"tx_signature": KEY})
    logs(Level.INFO, "TRADE", f"signature {SIGNATURE}", {"tx_signature": "1"})
    assert KEY not in text(folder)
    assert SIGNATURE not in text(folder)


def test_fields_with_secret_names_and_bytes_are_masked(logs: Logs, folder: Path) -> None:
    logs(Level.INFO, "", "x", {"api_key": "short", "raw": b"\x01secret", "nested": {"password": "p"}, "parts": [b"zz"]})
    written = text(folder)
    assert f"api_key={MASK}" in written
    assert "<7 bytes>" in written
    for secret in ("short", "secret", '"p"', "zz"):
        assert secret not in written
    assert not secret_field("market")
    assert not secret_field("tx_signature")


@pytest.mark.parametrize(
    "hostile", ["1, " * 30_000, "a-" * 30_000, " " * 60_000, "9" * 60_000, "://a:" * 12_000, "1" + "\\n" * 30_000]
)
def test_redacting_hostile_lines_takes_linear_time(hostile: str) -> None:
    began = time.process_time()
    Redactor(("known-secret",))(hostile)
    assert time.process_time() - began < 1.0


REPORT_SECRET = "4wBqpZM9xaSheZzJSMawUKKwhdpChKbZ5eu5ky4Vigw3" * 2


@pytest.mark.parametrize(
    "said",
    [
        f"key {REPORT_SECRET}",
        f"https://rpc.example.com/v2/{REPORT_SECRET[:20]}?api-key=abc123",
        f"https://rpc.example.com?x={REPORT_SECRET[:20]}",
        "wss://user:hunter2@rpc.example.com/ws",
        "SOLANA_PRIVATE_KEY=hunter2",
        '{"api_key": "hunter2"}',
        "Authorization: Bearer hunter2",
        "password: hunter2",
        "seed phrase: abandon hunter2",
        "mnemonic = legal winner thank year wave sausage worth useful legal winner thank yellow",
        "[" + ", ".join(str(i % 256) for i in range(100, 120)) + "]",
        "a1" * 32,
    ],
)
def test_a_report_has_no_secrets(said: str) -> None:
    redacted = for_report(f"before {said}\nafter")
    for secret in (REPORT_SECRET[:20], "hunter2", "abc123", "101, 102", "a1a1", "legal", "yellow"):
        assert secret not in redacted
    assert redacted.startswith("before ")
    assert redacted.endswith("\nafter")
    assert MASK in redacted


def test_a_report_keeps_what_explains() -> None:
    said = (
        'File "/work/main/.venv/lib/python3.11/site-packages/textual/widgets/_some_long_package/app.py", line 12, '
        "in test_a_function_whose_name_is_a_very_long_sentence_indeed\nTypeError: cannot add; 'SOL-PERP' 1,238.02"
    )
    assert for_report(said) == said
    assert for_report("https://rpc.example.com/x timed out") == f"https://rpc.example.com/{MASK} timed out"


@pytest.mark.parametrize(
    "hostile", ["1, " * 30_000, "a-" * 30_000, "[1" * 30_000, "https://" * 8_000, "seed:" + " a" * 30_000, "9" * 60_000]
)
def test_a_hostile_report_takes_linear_time(hostile: str) -> None:
    began = time.process_time()
    for_report(hostile)
    assert time.process_time() - began < 1.0


def test_long_lines_are_cut_after_redaction(logs: Logs, folder: Path) -> None:
    logs(Level.INFO, "", "x" * (MAX_TEXT - 10) + " " + KEY)
    assert len(text(folder)) < MAX_TEXT + 200
    assert KEY[:10] not in text(folder)


def test_base58_and_key_forms() -> None:
    for data in (b"", b"\0\0x", bytes(64), bytes(range(64))):
        assert base58_decode(base58_encode(data)) == data
    assert key_bytes(KEY) == bytes(range(7, 71))
    assert key_bytes(json.dumps(list(range(64)))) == bytes(range(64))
    assert key_bytes("0OIl") is None
    assert key_bytes("[1, 2]") is None
    assert key_bytes('["a"]') is None


async def test_clients_get_lines_on_the_event_loop_from_any_thread(logs: Logs) -> None:
    got: list[tuple[LogLine, int]] = []
    done = asyncio.Event()

    def publish(line: LogLine) -> None:
        got.append((line, threading.get_ident()))
        if len(got) == 2:
            done.set()

    logs.to_clients(publish)
    logs(Level.WARNING, "SAFETY", f"blocked {KEY}", {"market_s": 12.5})
    thread = threading.Thread(target=logs, args=(Level.INFO, "TX", "from a thread"))
    thread.start()
    async with asyncio.timeout(5):
        await done.wait()
    thread.join()
    first, second = got[0][0], got[1][0]
    assert (first.level, first.tag, first.message, first.market_s) == (
        Level.WARNING,
        "SAFETY",
        f"blocked {MASK}",
        12.5,
    )
    assert second.market_s is None
    assert second.sequence == first.sequence + 1
    assert {ident for _, ident in got} == {threading.get_ident()}


def test_stderr_only_if_asked(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logs = setup(folder=folder)
    logs(Level.ERROR, "", "to the file")
    logs.close()
    assert capfd.readouterr() == ("", "")
    logs = setup(stderr=True)
    logs(Level.ERROR, "", "to stderr")
    logs.close()
    out, err = capfd.readouterr()
    assert out == ""
    assert "ERROR to stderr" in err


def test_files_are_private(logs: Logs, folder: Path) -> None:
    logs(Level.INFO, "", "x")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "engine.log").stat().st_mode) == 0o600


def test_a_folder_that_the_user_chose_is_left_as_it_is(tmp_path: Path) -> None:
    shared = tmp_path / "var-log"
    shared.mkdir()
    shared.chmod(0o755)
    logs = setup(folder=shared)
    logs(Level.INFO, "", "x")
    logs.close()
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755
    assert stat.S_IMODE((shared / "engine.log").stat().st_mode) == 0o600


def test_a_large_file_is_rotated_and_only_so_many_are_kept(folder: Path) -> None:
    logs = setup(folder=folder, max_file_bytes=2_000)
    for number in range(300):
        logs(Level.INFO, "", f"line {number}")
    logs.close()
    files = list(folder.glob("engine*.log"))
    assert len(files) == MAX_FILES_PER_DAY + 1
    assert all(file.stat().st_size <= 2_000 for file in files)
    assert "line 299" in text(folder)


def test_a_new_day_is_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("yesterday\n")
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
    os.utime(path, (noon.timestamp(), noon.timestamp()))

    class Line(str):
        record: dict[str, Any]

    def line(when: datetime) -> Any:
        made = Line("x")
        made.record = {"time": when}
        return made

    rotation = _Rotation(10_000)
    with path.open("a") as file:
        os.utime(path, (noon.timestamp(), noon.timestamp()))
        assert not rotation(line(noon + timedelta(hours=11)), file)
        assert rotation(line(noon + timedelta(hours=12)), file)
        assert not rotation(line(noon + timedelta(hours=13)), file)


def test_old_files_go(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    for days in (1, RETENTION_DAYS - 1, RETENTION_DAYS + 1):
        path = tmp_path / f"{days}.log"
        path.touch()
        when = (now - timedelta(days=days)).timestamp()
        os.utime(path, (when, when))
    _expire([str(path) for path in tmp_path.iterdir()])
    assert {path.name for path in tmp_path.iterdir()} == {"1.log", f"{RETENTION_DAYS - 1}.log"}


def test_the_standard_librarys_lines_join(logs: Logs, folder: Path) -> None:
    try:
        raise RuntimeError(f"task died with {KEY}")
    except RuntimeError:
        logging.getLogger("asyncio").exception("Task exception was never retrieved")
    misfit = logging.LogRecord("x", logging.WARNING, "f", 1, "bad %d", ("format",), None)
    next(handler for handler in logging.getLogger().handlers if isinstance(handler, _StandardHandler)).emit(misfit)
    logging.getLogger("x").info("chatter")
    written = text(folder)
    assert "ERROR Task exception was never retrieved | logger=asyncio" in written
    assert "RuntimeError: task died with" in written
    assert "WARNING bad %d" in written
    assert "chatter" not in written
    assert KEY not in written


def test_direct_use_of_loguru_is_safe_too(logs: Logs, folder: Path) -> None:
    logger.bind(wallet=KEY).info("hello {}", KEY)
    assert KEY not in text(folder)
    assert f"wallet={MASK}" in text(folder)


def test_setting_up_twice_writes_once(folder: Path) -> None:
    setup(folder=folder)
    logs = setup(folder=folder)
    logs(Level.INFO, "", "once")
    logs.close()
    assert text(folder).count("once") == 1


def test_closing_twice_is_harmless(folder: Path) -> None:
    logs = setup(folder=folder)
    logs.close()
    logs.close()
    logs(Level.INFO, "", "after the end")
    assert text(folder) == ""
