"""Who serves which slot, and who the primary is now: cluster maps and Sentinels, asked and read."""
