"""Every error shape that nodes send, as one of the four kinds; and one endpoint over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from chainkit import ManualClock
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from deltatui.chain import wire
from deltatui.chain.bucket import TokenBucket
from deltatui.chain.errors import RpcError, RpcRefusedError, RpcTransientError, read_result
from deltatui.chain.http import AiohttpTransport, Reply
from deltatui.chain.jito import JitoConfig
from deltatui.chain.rpc import Endpoint, EndpointConfig
from deltatui.domain.errors import DeltatuiError, TransientError, ValidationError


def err(code: object, message: object = "", data: object = None, number: object = 1) -> bytes:
    return json.dumps(
        {"jsonrpc": "2.0", "error": {"code": code, "message": message, "data": data}, "id": number}
    ).encode()


def ask(reply: Reply) -> RpcError:
    with pytest.raises(RpcError) as caught:
        read_result(reply, 1, "node getSlot", lambda text: text.replace("sesame", "***"))
    return caught.value


T, V = TransientError, ValidationError

# (status, body, kind, code, another endpoint may answer)
SHAPES = [
    # real bodies (docs/sources.md, Solana and Jito)
    (200, err(-32005, "Node is behind by 3104 slots", {"numSlotsBehind": 3104}), T, "RPC_NODE_BEHIND", True),
    (200, err(-32005, "Node is behind by 42 slots"), T, "RPC_NODE_BEHIND", True),
    (200, err(-32005, "Node is unhealthy"), T, "RPC_NODE_UNHEALTHY", True),
    (200, err(-32005, "Rate limit exceeded"), T, "RPC_RATE_LIMITED", True),
    (
        200,
        err(-32015, 'Transaction version (1) is not supported by the requesting client. Please try "x": 1'),
        V,
        "RPC_TX_VERSION",
        False,
    ),
    (
        200,
        err(-32002, "Transaction simulation failed: Blockhash not found", {"err": "BlockhashNotFound", "logs": []}),
        T,
        "RPC_BLOCKHASH_NOT_FOUND",
        True,
    ),
    (200, err(-32002, "Transaction simulation failed: Blockhash not found"), T, "RPC_BLOCKHASH_NOT_FOUND", True),
    (
        200,
        err(-32002, "Transaction simulation failed", {"err": {"InstructionError": [2, {"Custom": 6004}]}}),
        V,
        "RPC_PREFLIGHT_FAILED",
        False,
    ),
    (429, err(429, "Too many requests for a specific RPC call"), T, "RPC_RATE_LIMITED", True),
    (200, err(429, "Too many requests"), T, "RPC_RATE_LIMITED", True),
    (200, err("429", ""), T, "RPC_RATE_LIMITED", True),
    (200, err(-32429, "max usage reached"), T, "RPC_RATE_LIMITED", True),
    (429, err(-32097, "Network congested.", None, None), T, "RPC_RATE_LIMITED", True),
    (200, err(-32097, "Network congested.", None, None), T, "RPC_RATE_LIMITED", True),
    (429, b"Rate limit exceeded. Limit: 1 per second", T, "RPC_RATE_LIMITED", True),
    (429, b"<html><head><title>429 Too Many Requests</title></head></html>", T, "RPC_RATE_LIMITED", True),
    (429, b"", T, "RPC_RATE_LIMITED", True),
    (200, b"Rate limit exceeded", T, "RPC_RATE_LIMITED", True),
    # the rest of Agave's numbers
    (200, err(-32003, "Transaction signature verification failure"), V, "RPC_BAD_SIGNATURE", False),
    (200, err(-32004, "Block not available for slot 1"), T, "RPC_BLOCK_NOT_AVAILABLE", True),
    (200, err(-32007, "Slot 1 was skipped"), V, "RPC_SLOT_SKIPPED", True),
    (200, err(-32009, "Slot 1 was skipped, or missing"), V, "RPC_SLOT_SKIPPED", True),
    (200, err(-32010, "excluded from account secondary indexes"), V, "RPC_NOT_INDEXED", True),
    (200, err(-32011, "Transaction history is not available"), V, "RPC_NO_HISTORY", True),
    (200, err(-32012, "scan error"), T, "RPC_SCAN_FAILED", True),
    (200, err(-32013, "Transaction signature length mismatch"), V, "RPC_BAD_SIGNATURE", False),
    (200, err(-32014, "Block status not yet available"), T, "RPC_BLOCK_NOT_AVAILABLE", True),
    (
        200,
        err(-32016, "Minimum context slot has not been reached", {"contextSlot": 5}),
        T,
        "RPC_MIN_CONTEXT_SLOT",
        True,
    ),
    (200, err(-32016, "Minimum context slot has not been reached"), T, "RPC_MIN_CONTEXT_SLOT", True),
    (200, err(-32600, "Invalid request", None, None), V, "RPC_BAD_PARAMS", False),
    (200, err(-32601, "Method not found"), V, "RPC_METHOD_UNKNOWN", True),
    (200, err(-32602, "Invalid params"), V, "RPC_BAD_PARAMS", False),
    (200, err(-32603, "Internal error"), T, "RPC_INTERNAL", True),
    (200, err(-32700, "Parse error"), V, "RPC_BAD_PARAMS", False),
    # what nobody documented
    (200, err(-31999, "something new"), T, "RPC_ERROR", True),
    (200, err(None, None), T, "RPC_ERROR", True),
    (200, err(True, ["x"]), T, "RPC_ERROR", True),
    (200, b'{"jsonrpc":"2.0","error":"unauthorized","id":1}', T, "RPC_ERROR", True),
    (200, b'{"error":[1,2]}', T, "RPC_ERROR", True),
    (403, b'{"error":{"code":403,"message":"Access forbidden"}}', V, "RPC_FORBIDDEN", True),
    (500, err(-32603, "Internal error"), T, "RPC_INTERNAL", True),
    # no JSON-RPC at all
    (200, b"", T, "RPC_GARBAGE", True),
    (200, b"OK", T, "RPC_GARBAGE", True),
    (200, b"<html>maintenance</html>", T, "RPC_GARBAGE", True),
    (200, b"\x00\xff\xfe", T, "RPC_GARBAGE", True),
    (200, b'{"jsonrpc":"2.0","res', T, "RPC_GARBAGE", True),
    (200, b"null", T, "RPC_GARBAGE", True),
    (200, b"[]", T, "RPC_GARBAGE", True),
    (200, b'{"jsonrpc":"2.0","id":1}', T, "RPC_GARBAGE", True),
    (200, b'{"jsonrpc":"2.0","error":null,"id":1}', T, "RPC_GARBAGE", True),
    (200, b'{"jsonrpc":"2.0","result":5,"id":2}', T, "RPC_GARBAGE", True),
    (200, b'{"jsonrpc":"2.0","result":5,"id":null}', T, "RPC_GARBAGE", True),
    (200, b'{"jsonrpc":"2.0","result":5}', T, "RPC_GARBAGE", True),
    (200, b'{"result":' + b"[" * 5000 + b"]" * 5000 + b',"id":3}', T, "RPC_GARBAGE", True),
    (401, b"", V, "RPC_FORBIDDEN", True),
    (403, b"<html>blocked</html>", V, "RPC_FORBIDDEN", True),
    (404, b"not found", V, "RPC_HTTP", True),
    (301, b"", V, "RPC_HTTP", True),
    (408, b"", T, "RPC_SERVER_ERROR", True),
    (413, b"", V, "RPC_TOO_LARGE", True),
    (500, b"", T, "RPC_SERVER_ERROR", True),
    (502, b"<html>bad gateway</html>", T, "RPC_SERVER_ERROR", True),
    (503, b"upstream connect error", T, "RPC_SERVER_ERROR", True),
    (504, b"", T, "RPC_SERVER_ERROR", True),
    (500, b'{"jsonrpc":"2.0","result":5,"id":1}', T, "RPC_SERVER_ERROR", True),
]


@pytest.mark.parametrize(("status", "body", "kind", "code", "elsewhere"), SHAPES)
def test_every_shape_has_its_kind(
    status: int, body: bytes, kind: type[DeltatuiError], code: str, elsewhere: bool
) -> None:
    error = ask(Reply(status, body))
    assert isinstance(error, kind)
    assert (error.code, error.elsewhere) == (code, elsewhere)
    assert error.sentence.startswith("node getSlot ")
    assert len(error.sentence) < 400
    assert isinstance(error, RpcTransientError | RpcRefusedError)


@given(st.integers(100, 599), st.binary(max_size=200) | st.text(max_size=60).map(str.encode))
def test_no_reply_raises_anything_else(status: int, body: bytes) -> None:
    code = ""
    try:
        read_result(Reply(status, body), 1, "node", str)
    except (TransientError, ValidationError) as error:
        code = error.code
    assert code.startswith("RPC_") or b"result" in body


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(("code", "message", "data", "err")), inner),
    max_leaves=8,
)


@given(json_values, json_values)
def test_no_error_object_raises_anything_else(error: object, number: object) -> None:
    body = json.dumps({"jsonrpc": "2.0", "error": error, "id": number}).encode()
    found = ask(Reply(200, body))
    assert isinstance(found, TransientError | ValidationError)


def test_result_is_given_raw_and_null_is_a_result() -> None:
    assert read_result(Reply(200, b'{"jsonrpc":"2.0","result":null,"id":1}'), 1, "node", str) == b"null"
    huge = b'{"id":1,"result":{"rentEpoch":18446744073709551615}}'
    assert b"18446744073709551615" in read_result(Reply(200, huge), 1, "node", str)
    assert read_result(Reply(200, b'{"result":5,"error":null,"id":1}'), 1, "node", str) == b"5"


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "7"}, b"", 7.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"", None),
        ({}, b"Back-off triggered: Retry after 1606ms", 1.606),
        ({}, b"Retry after soon ms", None),
        ({}, b"", None),
        ({"retry-after": "-3"}, b"", None),
    ],
)
def test_retry_after(headers: dict[str, str], body: bytes, seconds: float | None) -> None:
    assert ask(Reply(429, body, headers)).retry_after_s == seconds


def test_error_keeps_the_nodes_data_and_hides_secrets_and_control_letters() -> None:
    error = ask(Reply(200, err(-32002, "open sesame \x1b[31m\n" + "x" * 500, {"err": "AccountNotFound"})))
    assert error.data == {"err": "AccountNotFound"}
    assert error.rpc_code == -32002
    assert "sesame" not in str(error)
    assert "\x1b" not in error.sentence
    assert "\n" not in error.sentence
    assert "sesame" not in ask(Reply(200, b"x" * 190 + b" sesame")).sentence


@pytest.mark.parametrize("url", ["", "host", "ftp://host/key", "http://", "http://host:notaport/secret", "ws://host"])
def test_bad_urls_are_refused_unquoted(url: str) -> None:
    with pytest.raises(ValidationError, match="BAD_RPC_URL") as caught:
        EndpointConfig(url=url)
    assert not url or url not in caught.value.sentence


def test_an_endpoint_shows_its_host_only() -> None:
    config = EndpointConfig(url="https://user:pass@rpc.example:8443/secret-path?api-key=topsecret")
    assert config.label == "rpc.example:8443"
    jito = JitoConfig(url="https://jito.example", auth_uuid="topsecret")
    assert "secret" not in repr(config) + str(config) + f"{config}" + pretty_repr([config, jito]) + repr(jito)


# -- over a socket -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def endpoint(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], clock: ManualClock | None = None
) -> AsyncIterator[Endpoint]:
    app = web.Application()
    app.router.add_post("/{tail:.*}", handler)
    server = TestServer(app)
    await server.start_server()
    clock = clock or ManualClock()
    transport = AiohttpTransport(max_reply_bytes=1 << 20)
    config = EndpointConfig(url=str(server.make_url("/hidden-key")))
    try:
        yield Endpoint(config, clock, transport, TokenBucket(clock, 1000, 1000))
    finally:
        await transport.close()
        await server.close()


async def test_asks_and_reads_over_a_socket() -> None:
    asked: list[dict[str, object]] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(await request.json())
        value = {"blockhash": "x", "lastValidBlockHeight": 2**53 + 1, "later": "field"}
        result = {"context": {"slot": 5, "apiVersion": "3.0"}, "value": value}
        return web.json_response({"jsonrpc": "2.0", "result": result, "id": asked[-1]["id"]})

    async with endpoint(handler) as one:
        found = await one.latest_blockhash()
    assert found == wire.Valued(wire.Context(5), wire.LatestBlockhash("x", 2**53 + 1))
    assert asked == [
        {"jsonrpc": "2.0", "id": 1, "method": "getLatestBlockhash", "params": [{"commitment": "confirmed"}]}
    ]


@pytest.mark.parametrize("result", [None, 5, "x", [], {"context": {"slot": "5"}}, {"value": {}}])
async def test_another_shape_than_promised_is_garbage(result: object) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"jsonrpc": "2.0", "result": result, "id": (await request.json())["id"]})

    async with endpoint(handler) as one:
        with pytest.raises(RpcTransientError, match="RPC_GARBAGE"):
            await one.latest_blockhash()


async def test_reads_ask_for_transaction_version_1_and_take_what_they_do_not_know() -> None:
    async def handler(request: web.Request) -> web.Response:
        asked = await request.json()
        assert asked["params"][1]["maxSupportedTransactionVersion"] == 1
        meta = {"err": None, "fee": 5003, "logMessages": None, "computeUnitsConsumed": 19, "costUnits": 3}
        result = {"slot": 449391489, "version": 1, "meta": meta, "blockTime": None, "transaction": ["AA==", "base64"]}
        return web.json_response({"jsonrpc": "2.0", "result": result, "id": asked["id"]})

    async with endpoint(handler) as one:
        found = await one.transaction("s")
    assert found is not None
    assert (found.version, found.meta and found.meta.fee) == (1, 5003)


async def test_a_connection_that_is_reset_is_unreachable() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with endpoint(handler) as one:
        with pytest.raises(RpcTransientError, match="RPC_UNREACHABLE") as caught:
            await one.slot()
    assert "hidden-key" not in str(caught.value)
    assert caught.value.__context__ is None


async def test_a_reply_cut_short_is_unreachable() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-length": "1000"})
        await response.prepare(request)
        await response.write(b'{"jsonrpc":')
        assert request.transport is not None
        request.transport.close()
        return response

    async with endpoint(handler) as one:
        with pytest.raises(RpcTransientError, match="RPC_UNREACHABLE"):
            await one.slot()


async def test_nobody_listens() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    async with endpoint(handler) as one:
        clock = ManualClock()
        gone = EndpointConfig(url="http://127.0.0.1:1/hidden-key")
        lonely = Endpoint(gone, clock, one._transport, TokenBucket(clock, 10, 10))
        with pytest.raises(RpcTransientError, match="RPC_UNREACHABLE") as caught:
            await lonely.slot()
    assert "hidden-key" not in str(caught.value)


async def test_a_silent_node_times_out_on_our_clock() -> None:
    arrived = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        arrived.set()
        await asyncio.Event().wait()
        return web.Response()

    clock = ManualClock()
    async with endpoint(handler, clock) as one:
        call = asyncio.create_task(one.slot())
        await arrived.wait()
        clock.advance(4.9)
        await asyncio.sleep(0)
        assert not call.done()
        clock.advance(0.2)
        with pytest.raises(RpcTransientError, match="RPC_TIMEOUT"):
            await call


async def test_a_redirect_is_not_followed_and_a_flood_is_cut() -> None:
    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"location": "http://127.0.0.1:1/"})

    async with endpoint(redirect) as one:
        with pytest.raises(RpcRefusedError, match="RPC_HTTP"):
            await one.slot()

    async def flood(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * (2 << 20))

    async with endpoint(flood) as one:
        with pytest.raises(RpcTransientError, match="longer than 1048576 bytes"):
            await one.slot()


async def test_accounts_are_read_by_the_hundred() -> None:
    sizes: list[int] = []

    async def handler(request: web.Request) -> web.Response:
        asked = await request.json()
        sizes.append(len(asked["params"][0]))
        account = {
            "lamports": 2**64 - 1,
            "owner": "o",
            "data": ["AQI=", "base64"],
            "rentEpoch": 2**64 - 1,
            "executable": False,
        }
        value = [account if n % 2 else None for n in range(sizes[-1])]
        return web.json_response(
            {"jsonrpc": "2.0", "result": {"context": {"slot": 9}, "value": value}, "id": asked["id"]}
        )

    async with endpoint(handler) as one:
        found = await one.accounts([str(n) for n in range(250)])
    assert sizes == [100, 100, 50]
    assert len(found) == 250
    assert found[0].value is None
    assert found[1].value is not None
    assert found[1].value.decoded() == b"\x01\x02"
    assert found[1].value.lamports == 2**64 - 1


def test_account_data_that_is_not_base64() -> None:
    for data in (("!!", "base64"), ("AQI=", "base58")):
        with pytest.raises(TransientError, match="RPC_GARBAGE"):
            wire.Account(1, "o", data).decoded()
