from engine.codec.block import Block
from engine.codec.key_recorder import KeyRecorder
from engine.codec.plan import StreamPlan

class StreamTranscoder:
    offset: int
    db: int
    in_transaction: bool
    getack_offset: int
    flushes: int
    pings: int
    messages_dropped: int
    rewritten: int
    late_keys: set[tuple[int, bytes]]
    late_keys_lost: int
    pause_at: int
    recorder: KeyRecorder | None
    def __init__(self, plan: StreamPlan) -> None: ...
    def feed(self, chunk: bytes, received_ms: int, is_late: bool) -> None: ...
    def add_late_keys(self, keys: set[tuple[int, bytes]]) -> None: ...
    def take_late_keys(self, limit: int) -> list[tuple[int, bytes]]: ...
    def release_late_keys(self) -> None: ...
    @property
    def bytes_waiting(self) -> int: ...
    @property
    def has_open_block(self) -> bool: ...
    def next_block(self, flush: bool) -> Block | None: ...
