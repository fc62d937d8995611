"""Log lines: shape, levels, context, and no secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from engine.observability.logs import bind_task, configure_logs


@pytest.fixture(autouse=True)
def _restore_structlog() -> Iterator[None]:
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)


log = structlog.get_logger("engine.source")


def test_text_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="info", json_lines=False)
    bind_task("t1")

    log.info("psync.full_resync", replid="8f2c", rate=1 / 3, reason="no backlog", empty="")
    log.debug("not.shown")

    captured = capsys.readouterr()
    _, _, rest = captured.err.partition("Z ")
    assert rest == (
        "info    engine.source psync.full_resync replid=8f2c rate=0.333333 "
        'reason="no backlog" empty="" task=t1\n'
    )
    assert captured.out == ""


def test_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="debug", json_lines=True)

    log.debug("ack.sent", offset=7, key=b"\xff")

    line = json.loads(capsys.readouterr().err)
    assert list(line)[:4] == ["ts", "level", "logger", "event"]
    assert (
        line["level"],
        line["logger"],
        line["event"],
        line["offset"],
    ) == ("debug", "engine.source", "ack.sent", 7)


def test_secrets_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="info", json_lines=False)

    log.info("x", url="redis://u:s3cr3t@h", password="s3cr3t", password_file="/p")
    try:
        raise ValueError("redis://u:s3cr3t@h")
    except ValueError:
        log.exception("y")

    text = capsys.readouterr().err
    assert "s3cr3t" not in text.replace('raise ValueError("redis://u:s3cr3t@h")', "")
    assert "url=redis://***@h" in text
    assert "password_file=/p" in text


def test_libraries_are_heard_through_the_same_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="info", json_lines=False)

    logging.getLogger("asyncio").warning("slow %s", "callback")
    logging.getLogger("redis").info("not shown")

    assert "warning asyncio slow callback" in capsys.readouterr().err.replace('"', "")
