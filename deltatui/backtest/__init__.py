"""The same engine, gates and paper venue on a tape with simulated clocks, and the report of what came of it.

No trading logic lives here.
"""
