"""Puts ``tests`` on the import path, so that any test can import the shared builders that lie here (``snapshots``)."""
