from engine.codec.name_owners import NameOwners
from engine.errors import EngineError
from engine.selection import Selection

class StreamSelector:
    left_out: int
    refused: list[tuple[int, bytes, str, str]]
    failure: EngineError | None
    source_db: int
    def __init__(
        self,
        selection: Selection,
        offset: int,
        db: int,
        skips_refused: bool,
        owners: NameOwners | None = None,
    ) -> None: ...
    def select(self, chunk: bytes) -> bytes: ...
