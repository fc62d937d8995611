"""The queue between the replica link and the replay."""
