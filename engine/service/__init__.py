"""Many migrations in one process: their records, the durable store, starting, stopping and resuming them."""
