"""What happens: the engine, its one command path, its states and its memory of them.

Imports the domain and the ports only; it never reads a wall clock and never touches network or disk.
"""
