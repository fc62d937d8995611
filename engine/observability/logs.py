"""Log lines on stderr: an event's name, then facts.

Every module logs in one way, without importing this one:

    import structlog
    log = structlog.get_logger("engine.source")
    log.info("psync.full_resync", replid=replid, offset=offset)

The names of events are `thing.happened`; facts have units in their names. Never a password, never a
value of the data.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import structlog

from engine.observability.repeats import Repeats

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_URL_CREDENTIALS = re.compile(r"(?<=://)\S*@")
_PLAIN_TEXT = re.compile(r"[^\s\"'=]+")
_FIRST = ("ts", "level", "logger", "event")

Event = MutableMapping[str, Any]


def configure_logs(
    *, level: str, json_lines: bool, tap: Callable[[Mapping[str, Any]], None] | None = None
) -> None:
    """Set up structlog, and send warnings that libraries log through `logging` the same way.

    tap: also gets every event from `info` on, whatever is printed, with its secrets hidden already.
    """
    heard = _LEVELS[level] if tap is None else min(_LEVELS[level], logging.INFO)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            structlog.processors.format_exc_info,
            _add_logger_name,
            _hide_secrets,
            Repeats(),
            *([] if tap is None else [_Tap(tap, printed_from=_LEVELS[level])]),
            _as_json if json_lines else _as_text,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(heard),
        logger_factory=_Lines,
        # Not cached, so that loggers made at import time follow a later configure_logs.
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, _ToStructlog):
            root.removeHandler(handler)
    root.addHandler(_ToStructlog())
    root.setLevel(max(_LEVELS[level], logging.WARNING))


def bind_task(task_id: str) -> None:
    """Put `task=…` on every line of this context and of the asyncio tasks started in it."""
    structlog.contextvars.bind_contextvars(task=task_id)


class _Lines:
    """structlog's lowest layer: writes finished lines."""

    __slots__ = ("name",)

    def __init__(self, name: str = "engine") -> None:
        self.name = name

    def msg(self, message: str) -> None:
        # sys.stderr is looked up each time: while bars are drawn it is replaced by one that prints
        # above them. A reader of stderr that went away is no reason to end a migration.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(message + "\n")
            sys.stderr.flush()

    debug = info = warning = error = critical = exception = msg


class _Tap:
    """A processor that shows events to somebody else, and drops those that are not to be printed."""

    def __init__(self, tap: Callable[[Mapping[str, Any]], None], *, printed_from: int) -> None:
        self._tap = tap
        self._printed_from = printed_from

    def __call__(self, _logger: Any, _method: str, event: Event) -> Event:
        level = _LEVELS.get(str(event.get("level")), logging.ERROR)
        if level >= logging.INFO:
            self._tap(event)
        if level < self._printed_from:
            raise structlog.DropEvent
        return event


class _ToStructlog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        log.log(record.levelno, record.getMessage(), exc_info=record.exc_info or False)


def _add_logger_name(logger: Any, _method: str, event: Event) -> Event:
    event["logger"] = getattr(logger, "name", "engine")
    return event


def _hide_secrets(_logger: Any, _method: str, event: Event) -> Event:
    """Last line of defence; the callers' duty is not to pass a password at all."""
    for name, value in event.items():
        if "password" in name and not name.endswith("_file"):
            event[name] = "***"
        elif isinstance(value, str) and "://" in value:
            event[name] = _URL_CREDENTIALS.sub("***@", value)
    return event


def _as_json(_logger: Any, _method: str, event: Event) -> str:
    first = {name: event.pop(name) for name in _FIRST if name in event}
    return json.dumps({**first, **event}, default=str, ensure_ascii=False)


def _as_text(_logger: Any, _method: str, event: Event) -> str:
    exception = event.pop("exception", None)
    ts, level, logger, name = (event.pop(key, "") for key in _FIRST)
    facts = "".join(f" {key}={_quoted(value)}" for key, value in event.items())
    line = f"{ts} {level:<7} {logger} {name}{facts}"
    return f"{line}\n{exception}" if exception else line


def _quoted(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if _PLAIN_TEXT.fullmatch(text) else json.dumps(text, ensure_ascii=False)
