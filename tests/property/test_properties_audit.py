"""Properties 40 and 46 to 50, and that no secret survives the logs."""

from __future__ import annotations

import asyncio
import base64
import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st
from loguru import logger
from wire import memory_client, running

from deltatui.domain import audit
from deltatui.domain.command import Pause
from deltatui.domain.errors import (
    CriticalError,
    DeltatuiError,
    TransientError,
    UnresolvedError,
    ValidationError,
)
from deltatui.domain.event import Level
from deltatui.domain.redact import base58_encode
from deltatui.domain.verdict import Verdict, VerdictStatus
from deltatui.log import Logs, setup

KINDS: tuple[type[DeltatuiError], ...] = (TransientError, ValidationError, CriticalError, UnresolvedError)
kinds = st.sampled_from(KINDS)
codes = st.from_regex(r"[A-Z][A-Z_]{0,20}", fullmatch=True)
words = st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=60)
numbers = st.one_of(
    st.floats(-1e9, 1e9, allow_nan=False),
    st.decimals(Decimal("-1e9"), Decimal("1e9"), allow_nan=False, allow_infinity=False, places=6),
)
sizes = st.decimals(Decimal("0.001"), Decimal(1_000_000), allow_nan=False, allow_infinity=False, places=3)
moments = st.floats(1_600_000_000, 2_000_000_000)
markets = st.sampled_from(["SOL-PERP", "BTC-PERP", "ETH-PERP"])


class Captured:
    """A log whose lines are kept as text."""

    def __init__(self, logs: Logs) -> None:
        self.logs = logs
        self.lines: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self.lines)


@contextmanager
def captured(*secrets: str) -> Iterator[Captured]:
    logs = setup(level="DEBUG", secrets=secrets)
    kept = Captured(logs)
    logs._add(kept.lines.append, "DEBUG")
    try:
        yield kept
    finally:
        logs.close()


@given(kinds, codes, words)
@settings(max_examples=100, deadline=None)
def test_property_40_errors_carry_code_and_sentence(kind: type[DeltatuiError], code: str, sentence: str) -> None:
    error = kind(code, sentence)
    assert (error.code, error.sentence) == (code, sentence)
    assert str(error) == f"{code}: {sentence}"
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(copy), copy.code, copy.sentence) == (kind, code, sentence)

    async def over_the_wire() -> None:
        async with running() as wire:
            wire.engine.answer = error
            client = await memory_client(wire.server)
            result = await client.command(Pause())
            assert (result.success, result.code, result.message) == (False, code, sentence)
            await client.close()

    asyncio.run(over_the_wire())


@given(markets, st.sampled_from(["buy", "sell"]), sizes, sizes, st.binary(min_size=64, max_size=64), moments)
@settings(max_examples=100, deadline=None)
def test_property_46_a_trade_line_is_complete(
    market: str, side: str, size: Decimal, price: Decimal, raw: bytes, market_s: float
) -> None:
    signature = base58_encode(raw)
    line = audit.trade(
        market=market, side=side, size=size, price=price, tx_signature=signature, market_s=market_s, operation_id="o-1"
    )
    assert (line.level, line.tag) == (Level.INFO, "TRADE")
    assert {"timestamp", "market", "side", "size", "price", "tx_signature"} <= set(line.fields)
    timestamp = str(line.fields["timestamp"])
    assert abs(datetime.fromisoformat(timestamp).timestamp() - market_s) < 0.001
    with captured() as log:
        log.logs(*line)
        for part in (timestamp, market, side, f"size={size}", f"price={price}", f"tx_signature={signature}"):
            assert part in log.text
        # The message alone, which is all that a client sees, says the same to nine places.
        for part in (timestamp, market, side, *(f"{round(n, 9).normalize():f}" for n in (size, price)), signature):
            assert part in line.message


@given(
    st.one_of(st.none(), st.integers(0, 100)),
    st.one_of(st.none(), numbers),
    st.one_of(st.none(), numbers),
    st.one_of(st.none(), numbers),
)
@settings(max_examples=100, deadline=None)
def test_property_47_a_state_line_is_complete(
    health: int | None,
    leverage: float | Decimal | None,
    total: float | Decimal | None,
    free: float | Decimal | None,
) -> None:
    line = audit.account(health_ratio=health, leverage=leverage, total_collateral=total, free_collateral=free)
    assert line.tag == "ACCOUNT"
    assert {"health_ratio", "leverage", "total_collateral", "free_collateral"} <= set(line.fields)
    for name in ("health", "leverage", "total collateral", "free collateral"):
        assert name in line.message
    unknown = [health, leverage, total, free].count(None)
    assert line.message.count("unknown") == unknown


@given(kinds, codes, words)
@settings(max_examples=100, deadline=None)
def test_property_48_errors_are_logged_at_error_with_details(
    kind: type[DeltatuiError], code: str, sentence: str
) -> None:
    with captured() as log:
        try:
            try:
                raise OSError(5, "the cause")
            except OSError as cause:
                raise kind(code, sentence) from cause
        except DeltatuiError as error:
            line = audit.error("syncing the vault", error)
            log.logs(*line)
        assert line.level is (Level.CRITICAL if kind is CriticalError else Level.ERROR)
        for part in (kind.__name__, code, "syncing the vault", "Traceback", "the cause"):
            assert part in log.text


@given(st.sampled_from(VerdictStatus), codes, words, words, words)
@settings(max_examples=100, deadline=None)
def test_property_49_a_block_is_logged_at_warning(
    status: VerdictStatus, code: str, observed: str, limit: str, reason: str
) -> None:
    verdict = Verdict(code, status, observed, limit, reason)
    line = audit.safety(verdict, subject="TAKE SOL-PERP")
    assert line.tag == "SAFETY"
    assert (line.level is Level.WARNING) == (status in (VerdictStatus.BLOCKED, VerdictStatus.UNKNOWN))
    assert (line.level is Level.WARNING) == (not verdict.allowed)
    for part in (code, observed, limit, reason, "TAKE SOL-PERP"):
        assert part in line.message


@given(numbers, numbers, numbers, numbers, numbers)
@settings(max_examples=100, deadline=None)
def test_property_50_a_profitability_line_is_complete(
    revenue: float | Decimal,
    costs: float | Decimal,
    net: float | Decimal,
    rate: float | Decimal,
    blended: float | Decimal,
) -> None:
    line = audit.profitability(
        expected_revenue=revenue, estimated_costs=costs, net_profit=net, funding_rate=rate, blended_rate=blended
    )
    assert line.tag == "PROFITABILITY"
    assert line.fields["expected_revenue"] == revenue
    assert line.fields["estimated_costs"] == costs
    assert line.fields["net_profit"] == net
    for part in (f"{revenue:.4f}", f"{costs:.4f}", f"{net:.4f}", f"{rate * 100:+.4f}", f"{blended * 100:+.4f}"):
        assert part in line.message


def shapes(key: bytes) -> st.SearchStrategy[str]:
    """The texts in which a 64-byte key turns up."""
    return st.sampled_from(
        [
            base58_encode(key),
            key.hex(),
            "0x" + key.hex().upper(),
            str(list(key)),
            json.dumps(list(key), separators=(",", ":")),
            json.dumps(list(key), indent=1),
            base64.b64encode(key).decode(),
        ]
    )


random_keys = st.binary(min_size=64, max_size=64).filter(lambda key: len(set(key)) > 8)


def places(log: Captured, form: str, before: str, after: str) -> None:
    """Say ``form`` everywhere a record can carry text."""
    said = f"{before} {form} {after}"
    try:
        try:
            raise KeyError(said)
        except KeyError as cause:
            raise TransientError("RPC", said) from cause
    except TransientError as error:
        error.add_note(said)
        log.logs(*audit.error(said, error))
    log.logs(Level.INFO, "TX", said, {"detail": said, "list": [form], "deep": {"x": form}})
    log.logs(Level.INFO, "TX", f"tried {form}", {"tx_signature": "5" * 87})
    logger.info("direct {}", said)


@given(random_keys, st.data(), words, words)
@settings(max_examples=150, deadline=None)
def test_no_generated_key_survives_the_sink(key: bytes, data: st.DataObject, before: str, after: str) -> None:
    form = data.draw(shapes(key))
    with captured() as log:
        places(log, form, before, after)
        assert form not in log.text
        assert form.replace("\n", "\\n") not in log.text
        assert ", ".join(map(str, key[:12])) not in log.text
        assert base58_encode(key)[:30] not in log.text


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=80),
    st.sampled_from(["{}", "https://x.org/v1/{}/rpc", "https://x.org/?api-key={}", "wss://u:{}@x.org/"]),
    words,
)
@settings(max_examples=150, deadline=None)
def test_no_known_secret_survives_the_sink(secret: str, frame: str, around: str) -> None:
    with captured(secret) as log:
        # What the tests or the log itself say anyway tells nothing about the sink.
        places(log, "-", around, "")
        background = log.text
        log.lines.clear()
        for form in (secret, quote(secret, safe="")):
            places(log, frame.replace("{}", form), around, "")
        for form in (secret, quote(secret, safe=""), repr(secret)[1:-1], json.dumps(secret)[1:-1]):
            assert form not in log.text or form in background


@given(st.from_regex(r"[A-Za-z0-9]{16,40}", fullmatch=True), st.sampled_from(["path", "query", "user"]))
@settings(max_examples=100, deadline=None)
def test_the_key_inside_an_endpoint_is_a_secret_by_itself(key: str, where: str) -> None:
    url = {
        "path": f"https://rpc.example.com/v2/{key}/",
        "query": f"https://rpc.example.com/?key={key}",
        "user": f"https://name:{key}@rpc.example.com/",
    }[where]
    with captured(url) as log:
        places(log, key, "the host answered", "")
        assert key not in log.text
