"""Benchmarks: ``python -m bench`` (``make bench``) measures the product on this machine and prints one table.

They use the product as anybody does, and the tests' real processes and ptys; nothing here is imported by the product.
``BENCH_PEER_PYTHON`` names a Python that has nautilus_trader, which is measured beside the replay (:mod:`bench.peer`).
"""
