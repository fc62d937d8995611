"""Looking into dumps and sources: what is there, without changing anything."""
