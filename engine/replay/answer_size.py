"""How many values the source is asked for at once: few while they are large, many while they are small. Pure."""

from __future__ import annotations

FIRST_AT_ONCE = 20
# What an answer may come to before fewer keys are asked for.
ANSWER_BYTES = 4 * 1024 * 1024


class AnswerSize:
    """at_once: for the next question. most: never more; a run of large values may come behind many small ones."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.at_once = min(FIRST_AT_ONCE, most)

    def note(self, answer_bytes: int) -> None:
        """What the values of the last answer came to."""
        if answer_bytes > ANSWER_BYTES:
            self.shrink()
        elif answer_bytes < ANSWER_BYTES // 4:
            self.at_once = min(2 * self.at_once, self._most)

    def shrink(self) -> None:
        """Ask for fewer."""
        self.at_once = max(1, self.at_once // 2)
