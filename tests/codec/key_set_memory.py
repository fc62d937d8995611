"""Memory for key sets in tests, and sets of the interpreted form beside those of the form that runs."""

from __future__ import annotations

from typing import Any

from engine.codec import key_set
from tests.codec.interpreted_form import interpreted

FORMS: dict[str, Any] = {"as it runs": key_set, "interpreted": interpreted("key_set")}


class Memory:
    """Bytes that grow; `limit_bytes` is where there are no more."""

    def __init__(self, limit_bytes: int = 1 << 40) -> None:
        self.data = bytearray(key_set.EMPTY_SET_BYTES)
        self.limit_bytes = limit_bytes
        self.given_up: list[tuple[int, int]] = []

    def view(self) -> memoryview:
        return memoryview(self.data)

    def extend(self, start: int, size: int) -> None:
        if start + size > self.limit_bytes:
            raise OSError(28, "no room")
        missing = start + size - len(self.data)
        if missing > 0:
            self.data.extend(bytes(missing))

    def give_up(self, start: int, size: int) -> None:
        self.given_up.append((start, size))
        self.data[start : start + size] = bytes(size)  # whatever is still needed there is missed
