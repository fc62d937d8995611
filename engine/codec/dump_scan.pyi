TTL_BOUNDS_MS: tuple[int, ...]
OTHER_PREFIXES: bytes

class DumpScan:
    version: int
    is_valkey: bool
    is_finished: bool
    keys: int
    by_type: dict[int, dict[int, tuple[int, int]]]
    expiring: dict[int, int]
    prefixes: dict[bytes | None, list[int]]
    biggest: list[tuple[int, int, bytes, int]]
    modules: dict[int, list[int]]
    aux: dict[bytes, bytes]
    other: dict[int, int]
    functions: int
    def __init__(self, now_ms: int, top: int, delimiter: bytes, prefix_limit: int) -> None: ...
    def feed(self, chunk: bytes) -> None: ...
    @property
    def bytes_read(self) -> int: ...
    @property
    def bytes_left_over(self) -> int: ...
    @property
    def expiries(self) -> list[int]: ...
    def scan(self) -> bool: ...
    def finish(self) -> None: ...
