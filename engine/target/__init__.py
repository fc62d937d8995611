"""A target shard: what it can load, the pipelined connection, what its replies mean."""
