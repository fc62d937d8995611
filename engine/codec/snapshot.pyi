from engine.codec.block import Block
from engine.codec.bridge import ValueBridge
from engine.codec.key_recorder import KeyRecorder
from engine.codec.plan import SnapshotPlan

class SnapshotTranscoder:
    keys_read: int
    keys_expected: int
    functions_read: int
    is_finished: bool
    recorder: KeyRecorder | None
    version: int
    is_valkey: bool
    aux: dict[bytes, bytes]
    not_carried: dict[str, int]
    horizon_ms: int
    margined: int
    late_hashes: set[tuple[int, bytes]]
    late_hashes_lost: int
    refused: list[tuple[int, bytes, str, str]]
    bridged: int
    bridge: ValueBridge
    big_values: int
    def __init__(self, plan: SnapshotPlan) -> None: ...
    def feed(self, chunk: bytes) -> None: ...
    @property
    def bytes_read(self) -> int: ...
    @property
    def bytes_left_over(self) -> int: ...
    target_db: int
    last_value_key: bytes | None
    @property
    def part_name(self) -> bytes | None: ...
    @property
    def value_key(self) -> bytes | None: ...
    def leave_value_out(self) -> None: ...
    def next_block(self, flush: bool) -> Block | None: ...
    def finish(self) -> None: ...
