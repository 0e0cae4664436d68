"""Exchanges behind the Venue port, one package each.

A venue knows the engine only through ``deltatui.ports``.
"""
