"""Being a replica of a source shard."""
