"""Expiry, forks, commitment and the count of double landings."""

from __future__ import annotations

import pytest
from node import Node, Wallet, sign, transfer_instructions
from node.client import Client
from node.transaction import read
from solders.transaction import VersionedTransaction

ALICE, BOB = Wallet("alice"), Wallet("bob")
SOL = 10**9


def funded(**settings: int) -> Node:
    node = Node(seed=2, **settings)
    node.fund(ALICE.key, 100 * SOL)
    return node


def payment(node: Node, operation: str = "one", lamports: int = SOL) -> VersionedTransaction:
    return sign(ALICE, transfer_instructions(operation, ALICE.key, BOB.key, lamports), node.chain.tip.blockhash)


def submit(node: Node, transaction: VersionedTransaction) -> str:
    node.mempool.submit(read(transaction), "rpc", 0, None)
    return str(transaction.signatures[0])


@pytest.mark.parametrize(("wait", "lands"), [(149, True), (150, False)])
def test_the_last_valid_height_is_the_last(wait: int, lands: bool) -> None:
    node = funded()
    transaction = payment(node)
    last_valid = node.chain.last_valid_height(node.chain.tip.blockhash)
    node.tick(wait)
    signature = submit(node, transaction)
    node.tick()
    assert (node.height == last_valid) is lands
    assert (signature in node.chain.landed) is lands
    assert node.records.seen[signature].fate == ("landed" if lands else "expired")


def test_two_transactions_of_one_operation_are_a_double_landing() -> None:
    node = funded()
    submit(node, payment(node))
    node.tick()
    assert node.double_landings == 0
    submit(node, payment(node))
    node.tick()
    assert node.double_landings == 1
    assert node.records.transactions("one") == 2
    assert node.balance(BOB.key) == 2 * SOL


def test_a_failed_landing_and_a_good_one_are_no_double() -> None:
    node = funded()
    failed = submit(node, payment(node, lamports=1000 * SOL))
    node.tick()
    assert node.chain.landed[failed].error is not None
    good = submit(node, payment(node))
    node.tick()
    assert node.double_landings == 0
    landing = node.records.landing_of("one")
    assert landing is not None
    assert landing.signature == good


def test_a_reorg_takes_back_state_and_signature_and_they_return() -> None:
    node = funded()
    signature = submit(node, payment(node))
    node.tick(3)
    first = node.chain.landed[signature]
    height, slot = node.height, node.slot
    dropped = node.reorg(3, {signature: 4})
    assert dropped == [first]
    assert signature not in node.chain.landed
    assert (node.balance(ALICE.key), node.balance(BOB.key)) == (100 * SOL, 0)
    assert node.height == height + 1
    assert node.slot > slot
    node.tick(4)
    again = node.chain.landed[signature]
    assert again.slot > first.slot
    assert node.balance(BOB.key) == SOL
    assert node.records.seen[signature].landed_at == [first.height, again.height]
    assert node.double_landings == 0


def test_a_reorg_s_other_transactions_land_again_at_once() -> None:
    node = funded()
    signature = submit(node, payment(node))
    node.tick(2)
    node.reorg(2)
    assert node.chain.landed[signature].height == node.height - 2


def test_a_transaction_whose_blockhash_was_on_the_lost_fork_is_gone() -> None:
    node = funded()
    node.tick()
    signature = submit(node, payment(node))  # signed with the tip's own blockhash
    node.tick()
    node.reorg(2)
    node.tick(5)
    assert signature not in node.chain.landed
    assert node.records.seen[signature].fate == "expired"


def test_finalized_blocks_stay() -> None:
    node = funded()
    node.tick(40)
    node.reorg(node.height - node.chain.height("finalized"))
    with pytest.raises(ValueError, match="1 to 32"):
        node.reorg(33)


def test_finalized_height_never_falls() -> None:
    node = funded()
    seen = []
    for _ in range(20):
        node.tick(2)
        node.reorg(3)
        seen.append(node.chain.height("finalized"))
    assert seen == sorted(seen)


def test_held_confirmations_freeze_all_but_processed() -> None:
    node = funded()
    node.chain.hold_confirmations = True
    before = node.chain.height("confirmed"), node.chain.height("finalized")
    node.tick(100)
    assert (node.chain.height("confirmed"), node.chain.height("finalized")) == before
    node.calm()
    node.tick()
    assert node.chain.height("finalized") == node.height - 32


def test_advance_keeps_the_rest_of_the_time() -> None:
    node = funded(skip_every=0)
    height, start = node.height, node.chain.unix_s
    assert [node.advance(0.3) for _ in range(4)] == [0, 1, 1, 1]
    assert node.height == height + 3
    assert node.chain.unix_s - start == pytest.approx(1.2, abs=1e-3)


def test_the_seed_fixes_everything() -> None:
    def history(seed: int) -> list[str]:
        node = Node(seed=seed)
        node.fund(ALICE.key, 100 * SOL)
        node.tick(3)
        return [block.blockhash for block in node.chain.blocks] + [submit(node, payment(node))]

    assert history(5) == history(5)
    assert history(5)[0] != history(6)[0]


def test_disagreements_are_found() -> None:
    node = funded()
    for operation, lamports in (("landed", SOL), ("failed", 1000 * SOL), ("forgotten", 1)):
        submit(node, payment(node, operation, lamports))
    node.tick()
    assert node.records.disagreements({"landed": "LANDED", "failed": "FAILED", "never": "EXPIRED"}) == [
        "forgotten: the chain says LANDED, the client has forgotten it"
    ]
    wrong = node.records.disagreements(
        {"landed": "EXPIRED", "failed": "LANDED", "never": "LANDED", "forgotten": "LANDED"}
    )
    assert wrong == [
        "failed: the chain says FAILED, the client says LANDED",
        "landed: the chain says LANDED, the client says EXPIRED",
        "never: the chain says EXPIRED, the client says LANDED",
    ]


async def test_many_transactions_through_http() -> None:
    """What the soak does, without faults: each transaction asked for, sent and looked up over HTTP."""
    async with funded() as node, Client(node) as client:
        for i in range(300):
            transaction = sign(
                ALICE, transfer_instructions(f"op {i}", ALICE.key, BOB.key, SOL // 1000 + i), await client.blockhash()
            )
            signature = await client.send(transaction, preflight=True)
            node.tick()
            assert (await client.status(signature))["confirmationStatus"] == "processed"
        assert len(node.records.operations) == 300
        assert node.balance(BOB.key) == sum(SOL // 1000 + i for i in range(300))
