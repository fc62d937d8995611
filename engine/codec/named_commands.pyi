from collections.abc import Iterator

from engine.codec.name_table import NameTable

class NamedCommands:
    def __init__(self, names: NameTable, data: bytes) -> None: ...
    def __iter__(self) -> Iterator[list[bytes]]: ...
