"""Durable memory: one sqlite file with journal, ledger, engine state, activity and the paper venue's own tables, its
backups, and the locks that keep a second engine away. No trading rule lives here, and nothing here reads a clock."""
