"""What is true: pure functions and frozen values of the trade.

No I/O, no clock, no asyncio, no logging; nothing here imports another room.
"""
