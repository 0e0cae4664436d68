"""Sources of market facts, one module a source, one shape out.

A feed knows neither the engine nor the account; it hands on what it read and how old that is.
"""
