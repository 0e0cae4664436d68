"""The terminal: a disposable client that renders snapshots and sends commands. It imports the domain, the protocol and
the client, and never the engine, a venue, a store or a feed."""
