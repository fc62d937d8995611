"""redis-ferry: moves one Redis server's data and its live writes into another."""

__version__ = "0.1.0"
