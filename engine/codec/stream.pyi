from collections.abc import Iterable

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
    late_hashes: set[tuple[int, bytes]]
    late_keys_lost: int
    late_hashes_lost: int
    is_settling: bool
    verifies_keys: bool
    noted: list[tuple[bool, int, bytes]]
    swaps: int
    swapped: list[tuple[int, int]]
    serial: int
    block_offset: int
    margin_since_ms: int
    margin_ms: int
    horizon_ms: int
    pause_at: int
    block_bytes: int
    holds_flushes: bool
    flush_is_due: bool
    flushed_db: int
    source_db: int
    recorder: KeyRecorder | None
    def __init__(self, plan: StreamPlan) -> None: ...
    def feed(self, chunk: bytes, received_ms: int, is_late: bool) -> None: ...
    def add_late_keys(
        self, keys: set[tuple[int, bytes]], hashes: set[tuple[int, bytes]]
    ) -> None: ...
    def take_late(
        self, keys_limit: int, hashes_limit: int
    ) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]: ...
    def release_late_keys(self) -> None: ...
    def set_replid(self, replid: str) -> None: ...
    def cut_at(self, offsets: Iterable[int]) -> None: ...
    def checkpoint_block(self) -> Block: ...
    @property
    def bytes_waiting(self) -> int: ...
    @property
    def has_open_block(self) -> bool: ...
    def next_block(self, flush: bool) -> Block | None: ...
