"""Messages, fees and program errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from chainkit import MEMO, keypair, unsigned
from hypothesis import given
from hypothesis import strategies as st
from solders.hash import Hash
from solders.message import from_bytes_versioned
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from deltatui.chain import fees, manual, transaction
from deltatui.chain.fees import FeePolicy
from deltatui.chain.program_error import read_error, without_budget
from deltatui.chain.transaction import AccountMeta, Budget, Instruction, Payload, Tip
from deltatui.chain.wire import PrioritizationFee, TipFloor
from deltatui.domain.errors import CriticalError, TransientError, ValidationError

PAYER = str(keypair().pubkey())
BLOCKHASH = str(Hash.new_unique())


def compiled(payload: Payload | None = None, tip: Tip | None = None, blockhash: str = BLOCKHASH) -> bytes:
    payload = payload or transaction.decode_payload(unsigned("a").payload)
    return transaction.compile_message(payload, PAYER, (), blockhash, Budget(200_000, 1_000), tip)


def test_bytes_are_those_of_solders() -> None:
    message = compiled()
    parsed = from_bytes_versioned(message)
    expected = VersionedTransaction(parsed, [keypair()])
    signature = bytes(keypair().sign_message(message))
    assert transaction.join(message, signature) == bytes(expected)
    assert transaction.split(bytes(expected)) == (signature, message)
    assert transaction.payer_of(bytes(expected)) == PAYER
    transaction.check_raw(bytes(expected), str(expected.signatures[0]))
    assert transaction.names_account(bytes(expected), MEMO)
    assert not transaction.names_account(bytes(expected), str(keypair("other").pubkey()))


def test_raw_that_is_none_is_critical() -> None:
    good = transaction.join(compiled(), bytes(64))
    for raw in (b"", good[:60], b"\x02" + good[1:], good + b"x" * 1300):
        with pytest.raises(CriticalError, match="SIGNATURE_MISMATCH"):
            transaction.check_raw(raw, "x")
    for raw in (good[:70], good[:65] + b"\x81" + good[66:], good[:66] + b"\x02" + good[67:]):
        with pytest.raises(CriticalError, match="NOT_OURS"):
            transaction.payer_of(raw)


def test_a_blockhash_that_is_none_is_the_nodes_fault() -> None:
    with pytest.raises(TransientError, match="RPC_GARBAGE"):
        compiled(blockhash="x")


def test_too_many_accounts() -> None:
    accounts = tuple(AccountMeta(str(Pubkey.from_bytes(bytes([1, n]) + bytes(30))), False, True) for n in range(255))
    with pytest.raises(ValidationError, match="TX_TOO_LARGE"):
        compiled(Payload((Instruction(MEMO, accounts, b""),)))
    with pytest.raises(ValidationError, match="TX_TOO_LARGE"):
        compiled(Payload((Instruction(MEMO, accounts[:40], b""),)))


def test_a_table_with_the_tip_account_is_not_used() -> None:
    tip_account = str(keypair("tip").pubkey())
    inside = tuple(str(Pubkey.from_bytes(bytes([2, n]) + bytes(30))) for n in range(5))
    metas = tuple(AccountMeta(each, False, True) for each in inside)
    payload = Payload((Instruction(MEMO, metas, b""),), ())
    table = transaction.LookupTable(str(keypair("table").pubkey()), (tip_account, *inside))
    for tip, lookups in ((None, 1), (Tip(tip_account, 5_000), 0)):
        message = transaction.compile_message(payload, PAYER, (table,), BLOCKHASH, Budget(1, 1), tip)
        parsed: Any = from_bytes_versioned(message)
        assert len(parsed.address_table_lookups) == lookups
        assert tip is None or tip_account in [str(key) for key in parsed.account_keys]


def test_lookup_table_accounts() -> None:
    inside = [bytes([n]) * 32 for n in range(1, 4)]
    live = (1).to_bytes(4, "little") + b"\xff" * 8 + bytes(44)
    table = transaction.read_lookup_table(PAYER, live + b"".join(inside) + b"odd")
    assert table is not None
    assert table.addresses == tuple(str(Pubkey.from_bytes(each)) for each in inside)
    assert transaction.read_lookup_table(PAYER, live[:-1]) is None
    assert transaction.read_lookup_table(PAYER, (0).to_bytes(4, "little") + live[4:]) is None
    assert transaction.read_lookup_table(PAYER, live[:4] + (7).to_bytes(8, "little") + live[12:]) is None


@given(
    st.lists(
        st.tuples(st.binary(max_size=40), st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=5)),
        min_size=1,
        max_size=5,
    )
)
def test_a_payload_survives_the_way_and_compiles_to_itself(steps: list[tuple[bytes, list[tuple[int, bool]]]]) -> None:
    keys = [str(Pubkey.from_bytes(bytes([9, n]) + bytes(30))) for n in range(10)]
    payload = Payload(
        tuple(Instruction(MEMO, tuple(AccountMeta(keys[n], False, w) for n, w in metas), data) for data, metas in steps)
    )
    assert transaction.decode_payload(payload.encoded()) == payload
    parsed: Any = from_bytes_versioned(compiled(payload, Tip(str(keypair("tip").pubkey()), 1_234)))
    names = [str(key) for key in parsed.account_keys]
    ours = parsed.instructions[2:-1]
    assert [bytes(step.data) for step in ours] == [data for data, _ in steps]
    assert [[names[n] for n in step.accounts] for step in ours] == [[keys[n] for n, _ in metas] for _, metas in steps]


def test_priority_fee_is_rounded_up_and_capped() -> None:
    policy = FeePolicy(priority_fee_cap_lamports=200_000)
    assert Budget(200_000, 1).priority_fee_lamports == 1
    assert Budget(1_000_000, 7).priority_fee_lamports == 7
    capped = fees.budget(400_000, 10**9, policy)
    assert capped.price == 500_000
    assert capped.priority_fee_lamports == 200_000


@given(st.integers(1, 1_400_000), st.integers(0, 10**12), st.integers(0, 10**7))
def test_the_fee_never_exceeds_its_cap(units: int, price: int, cap: int) -> None:
    assert fees.budget(units, price, FeePolicy(priority_fee_cap_lamports=cap)).priority_fee_lamports <= cap


def test_compute_units_have_a_margin_and_a_ceiling() -> None:
    policy = FeePolicy()
    assert fees.compute_units(100_001, policy) == 120_002
    assert fees.compute_units(1_399_999, policy) == 1_400_000
    assert fees.compute_units(None, policy) == fees.compute_units(0, policy) == 600_000


def test_unit_price_is_a_percentile_with_a_floor() -> None:
    policy = FeePolicy(price_percentile=75, price_min=50)
    recent = [PrioritizationFee(n, n) for n in range(1, 101)]
    assert fees.unit_price(recent, policy) == 75
    assert fees.unit_price([PrioritizationFee(1, 0)] * 150, policy) == 50
    assert fees.unit_price([], policy) == fees.unit_price(None, policy) == policy.price_if_unknown


def floor(sol: float) -> TipFloor:
    return TipFloor("2024-09-01T12:58:00Z", sol, sol, sol, sol, sol)


def test_tip_from_the_floor_within_its_bounds() -> None:
    policy = FeePolicy()
    # the block engine's documented example, and a probe of 2026
    assert fees.tip_lamports(floor(6.001000000000001e-06), policy) == 6_001
    assert fees.tip_lamports(floor(1.66e-5), policy) == 16_600
    assert fees.tip_lamports(floor(0.0), policy) == 1_000
    assert fees.tip_lamports(floor(0.01), policy) == 100_000
    assert fees.tip_lamports(None, policy) == 10_000
    assert fees.tip_lamports(floor(1.0), FeePolicy(tip_lamports=10_000)) == 10_000


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_no_floor_makes_a_tip_out_of_bounds(sol: float) -> None:
    assert 1_000 <= fees.tip_lamports(floor(sol), FeePolicy()) <= 100_000


DRIFT = "dRiftyHA39MWEi3m9aunc5MzRF1JYuBsbn6VPcn33UH"
# the last lines of a real preflight failure (docs/sources.md, Solana and Jito)
REAL_LOGS = [
    f"Program {DRIFT} invoke [1]",
    "Program log: Instruction: LiquidatePerp",
    "Program log: AnchorError occurred. Error Code: SufficientCollateral. Error Number: 6004. Error Message: "
    "Sufficient collateral.",
    f"Program {DRIFT} consumed 61566 of 255700 compute units",
    f"Program {DRIFT} failed: custom program error: 0x1774",
]


def test_program_error_from_real_logs() -> None:
    error = read_error({"InstructionError": [2, {"Custom": 6004}]}, REAL_LOGS)
    assert (error.name, error.number, error.instruction, error.program) == ("SufficientCollateral", 6004, 2, DRIFT)
    assert error.sentence == f"SufficientCollateral (6004) in instruction 2 of program {DRIFT}: Sufficient collateral"


@pytest.mark.parametrize(
    ("err", "logs", "name", "number", "passing"),
    [
        ({"InstructionError": [0, {"Custom": 6004}]}, [], "CUSTOM_6004", 6004, False),
        ({"InstructionError": [0, {"Custom": 6004}]}, [REAL_LOGS[-1]], "Known", 6004, False),
        ({"InstructionError": [0, {"Custom": 1}]}, REAL_LOGS, "CUSTOM_1", 1, False),
        ({"InstructionError": [2, "BorshIoError"]}, None, "BorshIoError", None, False),
        ({"InstructionError": [2, {"BorshIoError": "Unknown"}]}, None, "BorshIoError", None, False),
        ({"InstructionError": [1, "ComputationalBudgetExceeded"]}, [], "ComputationalBudgetExceeded", None, False),
        ({"InstructionError": None}, [], "UnknownError", None, False),
        ({"InstructionError": [True, {"Custom": "x"}]}, [], "CUSTOM", None, False),
        ({"InsufficientFundsForRent": {"account_index": 1}}, [], "InsufficientFundsForRent", None, False),
        ("AccountNotFound", [], "AccountNotFound", None, False),
        ("BlockhashNotFound", [], "BlockhashNotFound", None, True),
        ("WouldExceedMaxBlockCostLimit", [], "WouldExceedMaxBlockCostLimit", None, True),
        ({"a": 1, "b": 2}, [], "UnknownError", None, False),
        (17, [], "UnknownError", None, False),
    ],
)
def test_every_shape_of_a_transaction_error(
    err: object, logs: list[str] | None, name: str, number: int | None, passing: bool
) -> None:
    error = read_error(err, logs, {DRIFT: {6004: "Known"}})
    assert (error.name, error.number, error.passing) == (name, number, passing)
    assert error.sentence.startswith(name)


def test_the_instruction_is_counted_as_the_payload_does() -> None:
    payload = transaction.decode_payload(unsigned("a").payload)
    error = without_budget(read_error({"InstructionError": [2, "InvalidAccountData"]}, []), payload, 2)
    assert (error.instruction, error.program) == (0, MEMO)
    tip = without_budget(read_error({"InstructionError": [3, {"Custom": 1}]}, []), payload, 2)
    assert tip.instruction == 3


def test_export_goes_to_a_private_file_that_wallets_can_read(tmp_path: Path) -> None:
    message = compiled()
    export = manual.make_export("a", PAYER, message, 77)
    path = tmp_path / "a.json"
    manual.write_export(path, export)
    content = json.loads(path.read_text())
    assert content["last_valid_block_height"] == 77
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ValidationError, match="exists already"):
        manual.write_export(path, export)
    signature = keypair().sign_message(message)
    assert manual.read_signed(export, f" {signature}\n") == bytes(signature)
    for text in ("", "x" * 500, str(signature)[:-1], "é"):
        with pytest.raises(ValidationError):
            manual.read_signed(export, text)
