from engine.codec.name_owners import NameOwners
from engine.codec.plan import SnapshotPlan
from engine.codec.snapshot import SnapshotTranscoder

class SelectedSnapshotTranscoder(SnapshotTranscoder):
    keys_filtered: int
    commands_filtered: int
    def __init__(self, plan: SnapshotPlan, owners: NameOwners | None = None) -> None: ...
