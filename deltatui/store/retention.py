"""How many backups are kept. Apart, so that the settings can read it without the database."""

from __future__ import annotations

HOURLY_KEPT = 24
DAILY_KEPT = 7
