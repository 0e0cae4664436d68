"""Widgets that paint themselves line by line and know nothing of engines, snapshots or panes.

No widget here fetches, sorts out staleness or names a market; what it shows is handed to it as text and numbers.
"""
