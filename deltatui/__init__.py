"""deltatui: a terminal for delta-neutral funding positions.

The rooms and the direction of imports between them are drawn in ``docs/architecture.md``.
"""

__version__ = "0.1.0"
