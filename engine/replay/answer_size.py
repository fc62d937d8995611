"""How many values the source is asked for at once: few while they are large, many while they are small. Pure."""

from __future__ import annotations

FIRST_AT_ONCE = 20
MOST_AT_ONCE = 500
# What an answer may come to before fewer keys are asked for.
ANSWER_BYTES = 4 * 1024 * 1024


class AnswerSize:
    """at_once: for the next question."""

    def __init__(self) -> None:
        self.at_once = FIRST_AT_ONCE

    def note(self, answer_bytes: int) -> None:
        """What the values of the last answer came to."""
        if answer_bytes > ANSWER_BYTES:
            self.shrink()
        elif answer_bytes < ANSWER_BYTES // 4:
            self.at_once = min(2 * self.at_once, MOST_AT_ONCE)

    def shrink(self) -> None:
        """Ask for fewer."""
        self.at_once = max(1, self.at_once // 2)
