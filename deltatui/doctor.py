"""``deltatui doctor``: whether this machine, profile and network are fit, one line a finding, each with what to do.

Nothing is changed and no secret is shown. A replay needs no network, so in mode replay none is asked. In other modes
every question is bounded and all are asked at once: a machine without any network has its answer within seconds.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from deltatui.chain import keyfile
from deltatui.chain.blockclock import BlockClock
from deltatui.chain.bucket import TokenBucket
from deltatui.chain.http import Transport
from deltatui.chain.jito import Jito, JitoConfig, block_engine_url
from deltatui.chain.keys import ENVIRONMENT, KeyEntry, KeyKind, KeyStore
from deltatui.chain.pool import GENESIS
from deltatui.chain.rpc import Endpoint, EndpointConfig
from deltatui.chain.tasks import within
from deltatui.config import Loaded
from deltatui.domain.errors import DeltatuiError, TransientError, ValidationError
from deltatui.domain.event import Level
from deltatui.paths import Paths
from deltatui.ports import Clock
from deltatui.store.copies import check
from deltatui.store.faults import from_sqlite
from deltatui.store.migrations import MIGRATIONS, check_version

if TYPE_CHECKING:
    from deltatui.settings import Settings

NETWORK_S = 4.0
LEAST_DISK_BYTES = 100 * 2**20
WISHED_DISK_BYTES = 2**30
LEAST_SIZE = (80, 24)
LIVE_IS_MISSING = (
    "this version has no live mode: market feeds and the venue's live adapter are not in it; replay and backtest are"
)
PAPER_IS_MISSING = "this version has no paper mode: market feeds are not in it; replay and backtest are"


class Status(StrEnum):
    OK = "ok"
    NOT_NEEDED = "not needed"
    WARNING = "warning"
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True):
    """``advice`` says what to do; empty where nothing is to be done. ``live_only``: replay does without it."""

    name: str
    status: Status
    detail: str
    advice: str = ""
    live_only: bool = False


class Report(msgspec.Struct, frozen=True):
    """``replay`` and ``live``: whether that mode could start now. ``mode`` is the configured one, empty where the
    configuration cannot be read; ``ready``: whether it could start."""

    findings: tuple[Finding, ...]
    replay: bool
    live: bool
    mode: str
    ready: bool


class Screen(msgspec.Struct, frozen=True):
    """The terminal as the process sees it. ``size`` is columns and lines."""

    is_terminal: bool
    encoding: str
    size: tuple[int, int]

    @classmethod
    def current(cls) -> Screen:
        # Textual draws on stderr.
        stream = sys.__stderr__
        found = shutil.get_terminal_size(fallback=(0, 0))
        return cls(
            stream is not None and stream.isatty() and sys.stdin.isatty(),
            getattr(stream, "encoding", None) or "unknown",
            (found.columns, found.lines),
        )


class WallClock:
    """The Clock port on this machine's clock."""

    def operator_s(self) -> float:
        return time.time()

    def market_s(self) -> float:
        return time.time()

    async def sleep(self, operator_seconds: float) -> None:
        await asyncio.sleep(operator_seconds)


async def examine(
    loaded: Loaded | ValidationError,
    paths: Paths,
    env: Mapping[str, str],
    transport: Transport,
    clock: Clock,
    screen: Screen,
) -> Report:
    """``loaded`` is the configuration, or why there is none; then what depends on it is left out."""
    findings = [_config(loaded, paths)]
    settings = None if isinstance(loaded, ValidationError) else loaded.settings
    mode = "" if settings is None else settings.mode
    findings += keys(KeyStore(key_folder(paths)), env, settings)
    if mode == "replay":
        findings = [_in_replay(each) for each in findings] + _NOT_ASKED
    elif settings is not None:
        findings += await network(settings, transport, clock)
    findings += terminal(screen, env)
    findings += [disk(paths.state_folder), database(paths.database)]
    replay = not any(each.status is Status.FAIL and not each.live_only for each in findings)
    # Missing whatever else was found: no check above can make it possible.
    findings += _missing(mode)
    return Report(tuple(findings), replay, live=False, mode=mode, ready=mode == "replay" and replay)


def _in_replay(finding: Finding) -> Finding:
    """A fault that only live mode minds is worth knowing, and does not keep a replay from its start."""
    if not finding.live_only or finding.status is not Status.FAIL:
        return finding
    return msgspec.structs.replace(finding, status=Status.WARNING)


def _missing(mode: str) -> list[Finding]:
    """What this version cannot do, told as a fault where it is asked to."""
    live = Finding("live mode", Status.FAIL, LIVE_IS_MISSING, "use mode replay", live_only=True)
    if mode == "replay":
        return [msgspec.structs.replace(live, status=Status.NOT_NEEDED, advice="")]
    if mode == "paper":
        return [Finding("paper mode", Status.FAIL, PAPER_IS_MISSING, "use mode replay", live_only=True), live]
    return [live]


def key_folder(paths: Paths) -> Path:
    return paths.state_folder / "keys"


def _config(loaded: Loaded | ValidationError, paths: Paths) -> Finding:
    if isinstance(loaded, ValidationError):
        return Finding("configuration", Status.FAIL, loaded.sentence, f"correct {paths.config_file}")
    mode = f"profile {paths.profile}, mode {loaded.settings.mode}, network {loaded.settings.network}"
    if loaded.warnings:
        return Finding("configuration", Status.WARNING, f"{mode}; {'; '.join(loaded.warnings)}", "see: config show")
    return Finding("configuration", Status.OK, mode)


# Keys


def keys(store: KeyStore, env: Mapping[str, str], settings: Settings | None) -> list[Finding]:
    """Which keys there are, by name and address; none is opened."""
    try:
        entries = store.entries()
    except ValidationError as error:
        return [Finding("keys", Status.FAIL, error.sentence, "import the keys again", live_only=True)]
    found = [_key(entry) for entry in entries]
    from_config = settings is not None and settings.chain.private_key is not None
    if env.get(ENVIRONMENT, "").strip() or from_config:
        advice = "an encrypted file is safer: deltatui keys import"
        found.append(Finding("key of the environment", Status.OK, f"{ENVIRONMENT} is set", advice, live_only=True))
    if not found:
        status = Status.NOT_NEEDED if settings is not None and settings.mode == "replay" else Status.FAIL
        found.append(Finding("keys", status, "no key is known", "live mode needs one: deltatui keys import", True))
    return found


def _key(entry: KeyEntry) -> Finding:
    name, detail = f"key {entry.name}", f"{entry.kind}, {entry.address}"
    try:
        if entry.kind is KeyKind.ENCRYPTED and keyfile.encrypted_address(Path(entry.location)) != entry.address:
            raise ValidationError("WRONG_KEY", f"{entry.location} is of another address")
        if entry.kind is KeyKind.FILE:
            keyfile.check_private(Path(entry.location))
    except ValidationError as error:
        return Finding(name, Status.FAIL, f"{detail}: {error.sentence}", "put it back or remove it", live_only=True)
    return Finding(name, Status.OK, detail, live_only=True)


# Network

_CLOCK = "clock"
_NOT_ASKED = [
    Finding(name, Status.NOT_NEEDED, "not asked: a replay uses no network", live_only=True)
    for name in ("RPC", _CLOCK, "Jito")
]


async def network(settings: Settings, transport: Transport, clock: Clock) -> list[Finding]:
    """Every RPC endpoint, the difference of the clocks and Jito, asked at the same time."""
    urls = settings.chain.rpc_urls
    if not urls:
        missing = Finding(
            "RPC", Status.FAIL, "no endpoint is configured", "live mode needs chain.rpc_url", live_only=True
        )
        return [missing, _skew(None, settings), *await _all_asked([_jito(settings, transport, clock)])]
    endpoints = [_endpoint(url, settings, transport, clock) for url in urls]
    found = await _all_asked([*endpoints, _jito(settings, transport, clock)])
    clocks = [finding for finding in found if finding.name == _CLOCK]
    # One comparison of the clocks is enough, the best that there is.
    best = next((finding for finding in clocks if finding.status is not Status.WARNING), clocks[0])
    return [finding for finding in found if finding.name != _CLOCK or finding is best]


async def _all_asked(questions: Sequence[Awaitable[list[Finding]]]) -> list[Finding]:
    groups = await asyncio.gather(*questions)
    return [finding for group in groups for finding in group]


async def _endpoint(url: str, settings: Settings, transport: Transport, clock: Clock) -> list[Finding]:
    most_ms, skew = settings.limits.max_latency_ms, _skew(None, settings)
    try:
        config = EndpointConfig(url=url, timeout_s=NETWORK_S)
    except ValidationError as error:
        return [Finding("RPC", Status.FAIL, error.sentence, "correct chain.rpc_url", live_only=True), skew]
    endpoint = Endpoint(config, clock, transport, TokenBucket(clock, 10.0, 20))
    name, block_clock = f"RPC {endpoint.label}", BlockClock(clock)

    async def ask() -> tuple[str, str, int, list[float]]:
        chain, version = await asyncio.gather(endpoint.genesis_hash(), endpoint.version())
        took_ms, slot = [], 0
        for _ in range(3):
            began_s = clock.operator_s()
            slot = await endpoint.slot()
            took_ms.append((clock.operator_s() - began_s) * 1e3)
        await block_clock.measure_skew(endpoint)
        return chain, version.solana_core, slot, took_ms

    try:
        chain, version, slot, took_ms = await within(clock, NETWORK_S, ask())
    except TimeoutError:
        why = f"no complete answer within {NETWORK_S:g} s"
        return [Finding(name, Status.FAIL, why, "check the network, or use another endpoint", True), skew]
    except (TransientError, ValidationError) as error:
        return [Finding(name, Status.FAIL, error.sentence, "check the URL and its key", True), skew]
    latency_ms = sorted(took_ms)[1]
    detail = f"{latency_ms:.0f} ms, slot {slot}, version {version}, genesis {chain}"
    wanted = GENESIS.get(settings.network)
    skew = _skew(block_clock.skew_s(), settings)
    if wanted is not None and chain != wanted:
        detail = f"{detail}: not the chain of {settings.network}"
        return [Finding(name, Status.FAIL, detail, "correct network or URL", True), skew]
    if latency_ms > most_ms:
        advice = f"trades are refused above {most_ms:g} ms; use a nearer endpoint"
        return [Finding(name, Status.WARNING, detail, advice, True), skew]
    return [Finding(name, Status.OK, detail, live_only=True), skew]


def _skew(skew_s: float | None, settings: Settings) -> Finding:
    name, most_s = _CLOCK, settings.limits.max_clock_skew_s
    if skew_s is None:
        return Finding(name, Status.WARNING, "not compared with the chain's", "needs an RPC that answers", True)
    detail = f"{skew_s:+.1f} s against the chain's (good to a second)"
    if abs(skew_s) > most_s:
        return Finding(name, Status.FAIL, detail, f"more than {most_s:g} s; set this machine's clock (NTP)", True)
    return Finding(name, Status.OK, detail, live_only=True)


async def _jito(settings: Settings, transport: Transport, clock: Clock) -> list[Finding]:
    region = settings.jito.region or ""
    name = f"Jito {region}".strip()
    if settings.network != "mainnet":
        return [Finding(name, Status.OK, f"not used on {settings.network}", live_only=True)]
    said: list[str] = []

    def log(level: Level, tag: str, message: str, fields: Mapping[str, object] | None = None) -> None:
        said.append(message)

    jito = Jito(JitoConfig(url=block_engine_url(region), timeout_s=NETWORK_S), clock, transport, log)
    began_s = clock.operator_s()
    if await jito.tip_account(""):
        took_ms = (clock.operator_s() - began_s) * 1e3
        return [Finding(name, Status.OK, f"tip accounts in {took_ms:.0f} ms", live_only=True)]
    advice = "transactions go by RPC alone; another jito.region may answer"
    return [Finding(name, Status.WARNING, said[-1] if said else "no tip accounts", advice, live_only=True)]


# This machine


def terminal(screen: Screen, env: Mapping[str, str]) -> list[Finding]:
    if not screen.is_terminal:
        return [Finding("terminal", Status.WARNING, "none", "without one use: deltatui engine, deltatui status")]
    findings = []
    colours = env.get("COLORTERM", "")
    term = env.get("TERM", "")
    if term in ("", "dumb"):
        findings.append(Finding("terminal", Status.FAIL, f"TERM is '{term}'", "set TERM, like xterm-256color"))
    elif colours in ("truecolor", "24bit"):
        findings.append(Finding("terminal", Status.OK, f"{term}, 16 million colours"))
    else:
        count = "256 colours" if "256" in term else "16 colours"
        advice = "themes are drawn in the nearest ones; the theme 'ansi' is made for few colours"
        findings.append(Finding("terminal", Status.WARNING, f"{term}, {count}", advice))
    if "utf" in screen.encoding.lower():
        findings.append(Finding("characters", Status.OK, screen.encoding))
    else:
        advice = "frames and charts are drawn in ASCII; set LANG to a UTF-8 locale"
        findings.append(Finding("characters", Status.WARNING, screen.encoding, advice))
    columns, lines = screen.size
    size = f"{columns} x {lines}"
    if columns < LEAST_SIZE[0] or lines < LEAST_SIZE[1]:
        findings.append(Finding("size", Status.WARNING, size, "80 x 24 is the least that shows everything"))
    else:
        findings.append(Finding("size", Status.OK, size))
    if env.get("TMUX"):
        detail = "inside tmux"
        passes = colours in ("truecolor", "24bit")
        advice = "" if passes else 'for all colours: set -as terminal-features ",*:RGB" in tmux.conf'
        findings.append(Finding("tmux", Status.OK, detail, advice))
    return findings


def disk(folder: Path) -> Finding:
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Finding("disk", Status.FAIL, f"{place}: {error.strerror or type(error).__name__}", "check the folder")
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding("disk", Status.FAIL, f"{place} cannot be written", "give the folder to this user")
    detail = f"{free / 2**30:.1f} GiB free at {place}"
    if free < LEAST_DISK_BYTES:
        return Finding("disk", Status.FAIL, detail, "free some space; the journal must be written before any trade")
    if free < WISHED_DISK_BYTES:
        return Finding("disk", Status.WARNING, detail, "less than 1 GiB; free some space")
    return Finding("disk", Status.OK, detail)


def database(path: Path) -> Finding:
    """Check in place and for reading only; an engine may be running on it."""
    if not path.exists():
        return Finding("database", Status.OK, "none yet; the first start makes it")
    try:
        size = path.stat().st_size
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)) as connection:
            version = check_version(connection, path, len(MIGRATIONS))
            check(connection, path)
            (still_open,) = connection.execute(
                "SELECT count(*) FROM operations WHERE state NOT IN ('LANDED', 'FAILED', 'EXPIRED')"
            ).fetchone()
    except sqlite3.Error as error:
        return _refused(from_sqlite(error, path))
    except OSError as error:
        return Finding("database", Status.FAIL, f"{path}: {error.strerror or type(error).__name__}", "check the file")
    except DeltatuiError as error:
        return _refused(error)
    detail = f"quick_check is fine, {size / 2**20:.1f} MiB, schema {version}"
    if version < len(MIGRATIONS):
        return Finding("database", Status.WARNING, detail, f"the next start brings it to schema {len(MIGRATIONS)}")
    if still_open:
        detail += f", {still_open} operations not ended"
        return Finding("database", Status.WARNING, detail, "the engine resolves them when it runs (docs/operations.md)")
    return Finding("database", Status.OK, detail)


def _refused(error: DeltatuiError) -> Finding:
    advice = "try again" if isinstance(error, TransientError) else "docs/runbooks/vault-reset.md"
    return Finding("database", Status.FAIL, error.sentence, advice)


def lines(report: Report) -> list[str]:
    """The report as text, one line a finding."""
    width = max(len(each.name) for each in report.findings)
    found = []
    for each in report.findings:
        advice = f" -> {each.advice}" if each.advice else ""
        found.append(f"{each.status:<12}{each.name:<{width}}  {each.detail}{advice}")
    replay, live = ("can" if could else "cannot" for could in (report.replay, report.live))
    return [*found, f"replay {replay} start; live {live} start"]
