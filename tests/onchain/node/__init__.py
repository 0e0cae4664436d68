"""A Solana cluster for tests: real transactions in LiteSVM behind JSON-RPC, WebSocket and a Jito block engine on
loopback, with simulated time and switchable faults. Nothing of deltatui is imported here and nothing here is product.
"""

from node.chain import Chain, Landing
from node.cluster import Node
from node.faults import (
    Blackhole,
    Body,
    Chaos,
    Dropped,
    ErrorReply,
    FailOnChain,
    Hang,
    Hide,
    Late,
    LostReply,
    NullResult,
    RateLimited,
    Refuse,
    Reorg,
    Rule,
    Stuck,
)
from node.kit import Wallet, operation_memo, sign, tip_instruction, transfer_instructions

__all__ = [
    "Blackhole",
    "Body",
    "Chain",
    "Chaos",
    "Dropped",
    "ErrorReply",
    "FailOnChain",
    "Hang",
    "Hide",
    "Landing",
    "Late",
    "LostReply",
    "Node",
    "NullResult",
    "RateLimited",
    "Refuse",
    "Reorg",
    "Rule",
    "Stuck",
    "Wallet",
    "operation_memo",
    "sign",
    "tip_instruction",
    "transfer_instructions",
]
