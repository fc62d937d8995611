"""How many values are asked for at once."""

from __future__ import annotations

from engine.replay.answer_size import ANSWER_BYTES, FIRST_AT_ONCE, AnswerSize

MOST = 150


def test_many_small_values_are_asked_for_at_once_and_few_large_ones() -> None:
    size = AnswerSize(most=MOST)
    assert size.at_once == FIRST_AT_ONCE
    seen = []
    for _ in range(20):
        size.note(1000)
        seen.append(size.at_once)
    assert seen[0] == 2 * FIRST_AT_ONCE
    assert seen[-1] == MOST == max(seen)
    size.note(ANSWER_BYTES // 2)
    assert size.at_once == MOST
    for _ in range(20):
        size.note(ANSWER_BYTES + 1)
    assert size.at_once == 1


def test_a_source_that_could_not_answer_is_asked_for_fewer() -> None:
    size = AnswerSize(most=MOST)
    size.shrink()
    assert size.at_once == FIRST_AT_ONCE // 2
