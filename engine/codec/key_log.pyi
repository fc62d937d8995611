from collections.abc import Callable

from engine.codec.key_set import NameSink

class KeyLog(NameSink):
    def __init__(self, append: Callable[[bytes], None]) -> None: ...
