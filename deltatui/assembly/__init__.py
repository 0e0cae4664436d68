"""Builds the program from its parts: the only place that knows every class."""
