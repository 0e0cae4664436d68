"""Keys: no way to print one, files that open with their password only, and signers that sign as Solana does."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import pickle
import stat
import sys
import traceback
from pathlib import Path

import pytest
from chainkit import ManualClock, keypair, run, seed
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.keypair import Keypair

from deltatui.chain import keyfile, keys, transaction
from deltatui.chain.keys import KeyKind, KeyStore
from deltatui.chain.signer import (
    CommandSigner,
    OutsideSigner,
    Secret,
    SeedSigner,
    address_of,
    parse_secret,
    read_signature,
)
from deltatui.domain.errors import DeltatuiError, TransientError, ValidationError

FAST = keyfile.Kdf(n=2**10, r=8, p=1)
ADDRESS = str(keypair().pubkey())


def password(text: str = "correct horse") -> Secret:
    return Secret(text.encode())


class FakeRing:
    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service_name: str, username: str) -> str | None:
        return self.kept.get((service_name, username))

    def set_password(self, service_name: str, username: str, password: str) -> None:
        self.kept[service_name, username] = password

    def delete_password(self, service_name: str, username: str) -> None:
        del self.kept[service_name, username]


def test_a_secret_shows_nothing() -> None:
    secret = Secret(b"hunter2hunter2")
    holder = {"key": secret}
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret:>40}",
        f"{secret!r}",
        format(secret),
        repr(holder),
    ]
    assert not [text for text in shown if "hunter" in text]
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            attempt(secret)
    assert not hasattr(secret, "__dict__")
    with pytest.raises(AttributeError):
        secret.__held  # noqa: B018
    held = secret.reveal()
    secret.wipe()
    assert not held
    assert len(secret) == 0


def test_a_signer_shows_its_address_only() -> None:
    signer = SeedSigner(seed())
    assert repr(signer) == f"SeedSigner({ADDRESS})"
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            attempt(signer)


def test_the_seed_is_wiped_once_the_signer_has_it() -> None:
    given_seed = seed()
    held = given_seed.reveal()
    SeedSigner(given_seed)
    assert len(held) == 0


async def test_signs_as_solana_does() -> None:
    message = b"\x80some message"
    signature = await SeedSigner(seed()).sign(message)
    assert signature == bytes(keypair().sign_message(message))
    assert transaction.is_signed_by(ADDRESS, message, signature)
    assert not transaction.is_signed_by(ADDRESS, message + b"x", signature)
    assert not transaction.is_signed_by(str(keypair("other").pubkey()), message, signature)
    assert not transaction.is_signed_by(ADDRESS, message, signature[:-1])


@settings(max_examples=100)
@given(st.binary(min_size=32, max_size=32))
def test_every_form_of_a_key_is_read(raw: bytes) -> None:
    pair = Keypair.from_seed(raw)
    for text in (
        str(pair),
        f"  {pair}\n",
        pair.to_json(),
        json.dumps(list(raw)),
        json.dumps(list(bytes(pair)), indent=1),
    ):
        assert bytes(parse_secret(text).reveal()) == raw
    assert address_of(parse_secret(str(pair))) == str(pair.pubkey())


BROKEN = [
    "",
    "not a key",
    str(keypair())[:-3],
    str(keypair()) + "z",
    "0OIl" * 20,
    "[]",
    "[1,2,3]",
    "[" + ",".join(["256"] * 64) + "]",
    "[" + ",".join(["-1"] * 64) + "]",
    json.dumps(list(bytes(keypair())))[:-1],
    json.dumps([float(n) for n in bytes(keypair())]),
    json.dumps([*bytes(keypair())[:32], *bytes(keypair("other"))[32:]]),
    "é" * 88,
    "1" * 10_000,
]


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_key_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_secret(text)
    assert caught.value.code == "BAD_KEY"
    shown = "".join(traceback.format_exception(caught.value, chain=True))
    assert len(text) < 12 or text[:12] not in caught.value.sentence
    assert str(keypair())[:20] not in shown


@given(st.text(max_size=120))
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(ValidationError):
        parse_secret(text)


def test_keypair_file(tmp_path: Path) -> None:
    path = tmp_path / "id.json"
    path.write_text(keypair().to_json())
    path.chmod(0o644)
    with pytest.raises(ValidationError, match="KEY_FILE_OPEN"):
        keyfile.read_keypair_file(path)
    path.chmod(0o600)
    assert address_of(keyfile.read_keypair_file(path)) == ADDRESS
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValidationError, match="BAD_KEY"):
        keyfile.read_keypair_file(path)
    path.write_bytes(b"1" * 100_000)
    with pytest.raises(ValidationError, match="too long"):
        keyfile.read_keypair_file(path)
    with pytest.raises(ValidationError, match="NO_KEY"):
        keyfile.read_keypair_file(tmp_path / "none.json")


@settings(max_examples=25, deadline=None)
@given(raw=st.binary(min_size=32, max_size=32), words=st.text(min_size=8, max_size=30))
def test_encrypted_file_round_trip(tmp_path_factory: pytest.TempPathFactory, raw: bytes, words: str) -> None:
    path = tmp_path_factory.mktemp("keys") / "key.json"
    address = keyfile.write_encrypted(path, Secret(raw), password(words), FAST)
    assert address == str(Keypair.from_seed(raw).pubkey()) == keyfile.encrypted_address(path)
    assert bytes(keyfile.read_encrypted(path, password(words)).reveal()) == raw
    with pytest.raises(ValidationError, match="WRONG_PASSWORD"):
        keyfile.read_encrypted(path, password(words + "x"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_bytes()
    assert raw not in content
    assert raw.hex().encode() not in content
    assert [each.name for each in path.parent.iterdir()] == ["key.json"]


def test_default_kdf_is_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    keyfile.write_encrypted(path, seed(), password())
    assert json.loads(path.read_text())["header"]["kdf"] == {"n": 2**15, "r": 8, "p": 3}
    assert address_of(keyfile.read_encrypted(path, password())) == ADDRESS


@pytest.mark.parametrize("change", ["address", "n", "salt", "nonce", "ciphertext"])
def test_a_changed_file_does_not_open(tmp_path: Path, change: str) -> None:
    path = tmp_path / "key.json"
    keyfile.write_encrypted(path, seed(), password(), FAST)
    content = json.loads(path.read_text())
    if change == "address":
        content["header"]["address"] = str(keypair("other").pubkey())
    elif change == "n":
        content["header"]["kdf"]["n"] = 2**11
    elif change == "salt":
        content["header"]["salt"] = "AAAAAAAAAAAAAAAAAAAAAA=="
    elif change == "nonce":
        content["nonce"] = "AAAAAAAAAAAAAAAA"
    else:
        content["ciphertext"] = content["ciphertext"][:-8] + "AAAAAAA="
    path.write_text(json.dumps(content))
    with pytest.raises(ValidationError, match="WRONG_PASSWORD"):
        keyfile.read_encrypted(path, password())


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", '{"header":{"format":"other"}}', "null"],
)
def test_what_is_no_encrypted_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ValidationError, match="BAD_KEY"):
        keyfile.read_encrypted(path, password())


def test_a_file_cannot_ask_for_all_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    keyfile.write_encrypted(path, seed(), password(), FAST)
    content = json.loads(path.read_text())
    for field, value in (("n", 2**30), ("n", 1000), ("r", 1000), ("p", 0)):
        changed = json.loads(json.dumps(content))
        changed["header"]["kdf"][field] = value
        path.write_text(json.dumps(changed))
        with pytest.raises(ValidationError, match="scrypt parameters"):
            keyfile.read_encrypted(path, password())


def test_encrypting_refuses_short_passwords_and_existing_files(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    with pytest.raises(ValidationError, match="WEAK_PASSWORD"):
        keyfile.write_encrypted(path, seed(), password("short"), FAST)
    path.write_text("mine")
    with pytest.raises(ValidationError, match="exists already"):
        keyfile.write_encrypted(path, seed(), password(), FAST)
    assert path.read_text() == "mine"
    assert [each.name for each in tmp_path.iterdir()] == ["key.json"]


async def test_store_imports_lists_shows_opens_and_removes(tmp_path: Path) -> None:
    ring = FakeRing()
    store = KeyStore(tmp_path / "keys", ring, FAST)
    assert store.entries() == ()
    file = tmp_path / "id.json"
    file.write_text(keypair("file").to_json())
    file.chmod(0o600)
    store.import_encrypted("hot", seed("hot"), password())
    store.import_keyring("ring", seed("ring"))
    store.import_file("file", file)
    store.import_command("ledger", "ledger-sign --path \"m/44'/501'\"", str(keypair("ledger").pubkey()))
    store.import_outside("cold", str(keypair("cold").pubkey()))
    assert [(each.name, each.kind) for each in store.entries()] == [
        ("cold", KeyKind.OUTSIDE),
        ("file", KeyKind.FILE),
        ("hot", KeyKind.ENCRYPTED),
        ("ledger", KeyKind.COMMAND),
        ("ring", KeyKind.KEYRING),
    ]
    clock = ManualClock()
    for name in ("cold", "file", "hot", "ledger", "ring"):
        signer = store.open(name, clock, password())
        assert signer.address == store.entry(name).address == str(keypair(name).pubkey())
    assert isinstance(store.open("cold", clock), OutsideSigner)
    with pytest.raises(ValidationError, match="NEEDS_PASSWORD"):
        store.open("hot", clock)
    with pytest.raises(ValidationError, match="KEY_EXISTS"):
        store.import_outside("hot", ADDRESS)
    index = (tmp_path / "keys" / "keys.json").read_text()
    for name in ("hot", "ring", "file"):
        assert str(keypair(name)) not in index
        assert json.dumps(list(bytes(keypair(name))))[1:40] not in index
    assert stat.S_IMODE((tmp_path / "keys" / "keys.json").stat().st_mode) == 0o600
    for name in ("cold", "file", "hot", "ledger", "ring"):
        store.remove(name)
    assert store.entries() == ()
    assert not ring.kept
    assert file.exists()
    assert [each.name for each in (tmp_path / "keys").iterdir()] == ["keys.json"]
    with pytest.raises(ValidationError, match="known: none yet"):
        store.entry("hot")


def test_store_notices_another_key_in_the_place(tmp_path: Path) -> None:
    store = KeyStore(tmp_path, FakeRing(), FAST)
    file = tmp_path / "id.json"
    file.write_text(keypair().to_json())
    file.chmod(0o600)
    store.import_file("a", file)
    file.write_text(keypair("thief").to_json())
    with pytest.raises(ValidationError, match="WRONG_KEY"):
        store.open("a", ManualClock())
    (tmp_path / "keys.json").write_text("{")
    with pytest.raises(ValidationError, match="BAD_KEY_INDEX"):
        store.entries()


@pytest.mark.parametrize("name", ["", "A", "../up", "a b", "-a", "x" * 33, "a/b", "a\n"])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValidationError, match="BAD_NAME"):
        KeyStore(tmp_path, FakeRing(), FAST).import_encrypted(name, seed(), password())


def test_a_keyring_that_fails_is_told(tmp_path: Path) -> None:
    import keyring.errors

    class Broken(FakeRing):
        def set_password(self, service_name: str, username: str, password: str) -> None:
            raise keyring.errors.NoKeyringError(password)

    with pytest.raises(ValidationError, match="NO_KEYRING") as caught:
        KeyStore(tmp_path, Broken(), FAST).import_keyring("a", seed())
    assert f"{bytes(keypair())[0]}," not in caught.value.sentence
    assert caught.value.__context__ is None
    assert KeyStore(tmp_path, Broken(), FAST).entries() == ()


def test_environment() -> None:
    assert keys.from_environment({}) is None
    assert keys.from_environment({"SOLANA_PRIVATE_KEY": "  "}) is None
    for text in (str(keypair()), keypair().to_json()):
        signer = keys.from_environment({"SOLANA_PRIVATE_KEY": text})
        assert signer is not None
        assert signer.address == ADDRESS
    text = "nonsense"[::-1]
    with pytest.raises(DeltatuiError, match="SOLANA_PRIVATE_KEY: this is no Solana key") as caught:
        keys.from_environment({"SOLANA_PRIVATE_KEY": text})
    assert text not in "".join(traceback.format_exception(caught.value))


def script(tmp_path: Path, code: str) -> list[str]:
    path = tmp_path / "signer.py"
    path.write_text(code)
    return [sys.executable, str(path)]


SIGN = """
import base64, sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex("{seed}"))
print(base64.b64encode(key.sign(base64.b64decode(sys.stdin.read()))).decode())
"""


async def test_external_signer_command(tmp_path: Path) -> None:
    clock = ManualClock()
    code = SIGN.replace("{seed}", bytes(keypair())[:32].hex())
    signer = CommandSigner(script(tmp_path, code), ADDRESS, clock)
    assert await signer.sign(b"message") == bytes(keypair().sign_message(b"message"))
    wrong = CommandSigner(script(tmp_path, code), str(keypair("other").pubkey()), clock)
    with pytest.raises(ValidationError, match="BAD_SIGNATURE"):
        await wrong.sign(b"message")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import sys; print('my seed is abc', file=sys.stderr); sys.exit(3)", "exit code 3"),
        ("print('hello')", "BAD_SIGNATURE"),
        ("pass", "BAD_SIGNATURE"),
    ],
)
async def test_external_signer_that_refuses(tmp_path: Path, code: str, expected: str) -> None:
    with pytest.raises(ValidationError, match=expected) as caught:
        await CommandSigner(script(tmp_path, code), ADDRESS, ManualClock()).sign(b"m")
    assert "seed" not in caught.value.sentence


async def test_external_signer_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="cannot be started"):
        await CommandSigner([str(tmp_path / "none")], ADDRESS, ManualClock()).sign(b"m")
    with pytest.raises(ValidationError, match="empty"):
        CommandSigner([], ADDRESS, ManualClock())
    with pytest.raises(ValidationError, match="BAD_ADDRESS"):
        CommandSigner(["x"], "not an address", ManualClock())


async def test_external_signer_that_hangs_is_ended(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    code = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    clock = ManualClock()
    task = asyncio.create_task(CommandSigner(script(tmp_path, code), ADDRESS, clock).sign(b"m"))
    # On a busy machine the child is there before the deadline is set, and time that passes then does not count.
    while not (started.exists() and started.read_text() and clock._sleepers):  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    clock.advance(61.0)
    with pytest.raises(TransientError, match="SIGNER_TIMEOUT"):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_signatures_in_both_forms() -> None:
    signature = keypair().sign_message(b"x")
    assert read_signature(str(signature)) == bytes(signature)
    import base64

    assert read_signature(base64.b64encode(bytes(signature)).decode()) == bytes(signature)
    for text in ("", "x", "AAAA", str(signature)[:-5]):
        with pytest.raises(ValidationError, match="BAD_SIGNATURE"):
            read_signature(text)


def test_outside_signer_never_signs() -> None:
    async def story() -> None:
        with pytest.raises(ValidationError, match="NEEDS_OUTSIDE_SIGNATURE"):
            await OutsideSigner(ADDRESS).sign(b"m")

    run(story())
