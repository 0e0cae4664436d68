"""Solana: endpoints, the block clock, keys, and the sender that lands an operation at most once.

Nothing here knows a venue: a payload is a list of instructions and its outcome is what the chain says about it.
"""
