from array import array

KEY_PREFIX: bytes

class SlotBatch:
    data: bytes
    slots: array[int]
    starts: array[int]
    replies: array[int]
    applied: bytearray
    offset: int
    commands: int
    keys: int
    is_transaction: bool
    received_seconds: float
    skipped: int
    def group_data(self, group: int) -> bytes: ...
    def group_after(self, groups: list[int], replies: int) -> tuple[int, int]: ...

class SlotRouter:
    is_transaction: bool
    margin_since_ms: int
    skip: array[int] | None
    skipped: int
    split_transactions: int
    in_transaction: bool
    commands: int
    keys: int
    event: list[bytes] | None
    tainted: bytearray | None
    def __init__(self, suffix: bytes, is_transaction: bool) -> None: ...
    @property
    def pending_bytes(self) -> int: ...
    @property
    def pending(self) -> int: ...
    def checkpoint_key(self, slot: int) -> bytes: ...
    def add(self, data: bytes) -> None: ...
    def run(self, offset: int) -> bool: ...
    def put(self, slot: int, command: bytes) -> None: ...
    def take_batch(self, offset: int, every_slot: tuple[bytes, int] | None) -> SlotBatch: ...

def split(
    batch: SlotBatch, table: array[int]
) -> dict[int, tuple[bytes, int, list[tuple[int, int]]]]: ...
