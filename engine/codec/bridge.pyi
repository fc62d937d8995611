FIELD_TTLS: str

class ValueBridge:
    reason: str
    fell_away: dict[str, int]
    def __init__(
        self, redis_types: frozenset[int], valkey_types: frozenset[int], drops_field_ttls: bool
    ) -> None: ...
    def knows(self, value_type: int, is_valkey: bool) -> bool: ...
    def bridged(
        self, value_type: int, is_valkey: bool, value: bytes
    ) -> tuple[int, bytes] | None: ...
