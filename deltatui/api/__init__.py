"""The wire between the engine and its clients: messages, server and client.

Only ``server`` knows the engine; ``protocol`` and ``client`` know the domain alone.
"""
