"""The simulated exchange of paper trading, replay and backtest.

It keeps its own durable tables and plays the outside world: the engine learns from it only what a real venue would say.
"""
