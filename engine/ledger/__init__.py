"""Which keys the task brought to the target, on this machine's disk."""
