"""Questions wait while a line falls behind again and again, and not for ever."""

from __future__ import annotations

import asyncio

import pytest

from engine.replay import calm
from engine.replay.calm import Calm


def never() -> None:
    raise AssertionError


async def test_the_first_question_waits_for_nothing() -> None:
    found = Calm(never)
    assert not found.is_put_off(is_full=True)
    found.note_behind()
    assert not found.is_put_off(is_full=True)


async def test_a_calm_line_asks_one_question_after_the_other() -> None:
    found = Calm(never)
    for _ in range(3):
        found.note_asked()
        assert not found.is_put_off(is_full=True)


async def test_behind_again_the_next_question_is_put_off_and_then_may_be_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calm, "CALM_SECONDS", 0.05)
    woken = asyncio.Event()
    found = Calm(woken.set)
    found.note_asked()
    found.note_behind()
    assert found.is_put_off(is_full=True)
    found.note_behind()  # again and again: what counts then is the question before
    async with asyncio.timeout(10):
        while found.is_put_off(is_full=True):
            found.note_behind()
            await woken.wait()
            woken.clear()
    assert not found.is_put_off(is_full=True)


async def test_a_pipeline_that_has_run_empty_lets_it_be_asked() -> None:
    found = Calm(never)
    found.note_asked()
    found.note_behind()
    assert not found.is_put_off(is_full=False)


async def test_nobody_is_woken_behind_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calm, "CALM_SECONDS", 0.01)
    woken, later = asyncio.Event(), asyncio.Event()
    found = Calm(woken.set)
    found.note_asked()
    found.note_behind()
    assert found.is_put_off(is_full=True)
    found.close()
    asyncio.get_running_loop().call_later(0.05, later.set)  # a timer behind its
    await later.wait()
    assert not woken.is_set()
