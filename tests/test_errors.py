"""An error in one line: message, facts, remedy."""

from __future__ import annotations

import pytest

from engine.control.failure import message_of, remedy_of
from engine.errors import EngineError, SourceLinkLost, TargetLinkLost


@pytest.mark.parametrize(
    ("message", "detail", "hint", "text"),
    [
        ("it broke", "", "", "it broke"),
        ("it broke", "", "repair it", "it broke. repair it"),
        ("the server said: no.", "", "ask again", "the server said: no. ask again"),
        ("the server said: why?", "", "ask again", "the server said: why? ask again"),
        ("it broke", "in two", "repair it", "it broke (in two). repair it"),
        ("the server said: no.", "twice", "", "the server said: no (twice)"),
        ("it broke", "as it said.", "repair it", "it broke (as it said.). repair it"),
    ],
)
def test_the_parts_become_sentences(message: str, detail: str, hint: str, text: str) -> None:
    assert str(EngineError(message, detail=detail, hint=hint)) == text


@pytest.mark.parametrize("kind", [SourceLinkLost, TargetLinkLost])
def test_a_lost_link_that_ends_a_run_says_how_to_go_on(
    kind: type[SourceLinkLost | TargetLinkLost],
) -> None:
    lost = kind("the connection was lost")

    assert "the same command again" in remedy_of(lost)
    assert message_of(lost) == f"the connection was lost. {remedy_of(lost)}"
    assert remedy_of(kind("it was lost", hint="wait")) == "wait"


def test_other_errors_have_the_remedy_they_were_raised_with() -> None:
    assert remedy_of(EngineError("it broke")) == ""
    assert message_of(EngineError("it broke", hint="repair it")) == "it broke. repair it"
    assert message_of(ValueError("x")) == "ValueError: x"
