"""What one client may ask of the server, and what the server keeps for it."""

from __future__ import annotations

import msgspec


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """``commands_per_s`` is per client and does not hold for commands that only reduce risk (R6.11).
    ``previews_per_s`` is per client too, and counted apart: looking never takes a command's place."""

    clients: int = 100
    handshake_s: float = 5.0
    stall_s: float = 30.0
    close_s: float = 2.0
    min_interval_s: float = 0.1
    log_batch_s: float = 0.05
    endpoint_check_s: float = 5.0
    line_bytes: int = 65_536
    write_buffer_bytes: int = 65_536
    history: int = 2_000
    queue: int = 2_000
    unread_results: int = 1_000
    commands_in_flight: int = 64
    commands_per_s: int = 5
    previews_per_s: int = 10
