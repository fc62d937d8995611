from array import array
from collections.abc import Sequence

IS_STREAM: int

class SlotStates:
    states: bytearray
    offsets: array[int]
    margins: array[int]
    dbs: array[int]
    everywhere: array[int]
    generations: array[int]
    replids: array[int]
    ledgers: array[int]
    texts: list[bytes]
    marks: list[tuple[int, bytes]]
    def __init__(self) -> None: ...

class SlotStateReader:
    replies: int
    def __init__(self, slots: Sequence[int], found: SlotStates, replies: int) -> None: ...
    def feed(self, chunk: bytes) -> int: ...
    def take_errors(self) -> list[tuple[int, int, str]]: ...
    def take_null_arrays(self) -> list[int]: ...
