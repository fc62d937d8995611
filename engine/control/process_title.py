"""Passwords of the command line taken out of `ps`.

The kernel serves /proc/PID/cmdline and /proc/PID/environ from the process's own memory, between
the addresses in fields 48 to 51 of /proc/PID/stat (man 5 proc). A process may write there; Python
has its own copies (sys.argv, os.environ). Between exec and this the password can be seen, so a
password file stays the better way.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

_SECRET_VARIABLES = re.compile(
    rb"REDIS_FERRY_(?:(?:SOURCE|TARGET)(?:_PASSWORD)?|SERVE_SECRET_KEY|SERVE_DATABASE_URL"
    rb"|API_TOKEN|API_SECRET_KEY)="
)
_WHOLLY_SECRET = (b"_PASSWORD=", b"_KEY=", b"_TOKEN=")
# Fields count from 1, and the first two are cut off with the command's name.
_STAT_ARG_START = 48 - 3


def hide_passwords_in_arguments() -> bool:
    """Overwrite the passwords of URLs in this process's arguments with `*`.

    Returns False if an argument holds a password that stays visible (not Linux, no /proc).
    """
    if not any(_password_span(os.fsencode(argument)) for argument in sys.argv):
        return True
    return _overwrite(_STAT_ARG_START, _password_span)


def hide_passwords_in_environment() -> None:
    """Overwrite and forget this process's password variables; `ps e` shows them to the same user.

    Call it once the options have been read.
    """
    _overwrite(_STAT_ARG_START + 2, _variable_span)
    for role in ("SOURCE", "TARGET"):
        os.environ.pop(f"REDIS_FERRY_{role}_PASSWORD", None)
        os.environ.pop(f"REDIS_FERRY_{role}", None)
    for name in ("SERVE_SECRET_KEY", "SERVE_DATABASE_URL", "API_TOKEN", "API_SECRET_KEY"):
        os.environ.pop(f"REDIS_FERRY_{name}", None)


def _password_span(argument: bytes) -> tuple[int, int] | None:
    """Find the password of a URL: (start, end), or None. Also in a URL that lost its scheme."""
    end = argument.rfind(b"@")
    start = argument.find(b"://")
    if start >= 0:
        start += 3
    elif argument.startswith((b"-", b"/", b".")):
        return None  # an option or a path, which may well have an @
    else:
        start = 0
    if end <= start:
        return None
    colon = argument.find(b":", start, end)
    # Without a colon the text may be a user's name or a misplaced password: hide it.
    return (colon + 1 if colon >= 0 else start), end


def _variable_span(variable: bytes) -> tuple[int, int] | None:
    found = _SECRET_VARIABLES.match(variable)
    if found is None:
        return None
    if found.group().endswith(_WHOLLY_SECRET):
        return found.end(), len(variable)
    span = _password_span(variable[found.end() :])
    return None if span is None else (found.end() + span[0], found.end() + span[1])


def _overwrite(field: int, find: Callable[[bytes], tuple[int, int] | None]) -> bool:
    """Replace what `find` finds in the NUL-separated texts at the addresses in stat's field."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[field]), int(fields[field + 1])
        # A write through /proc/self/mem fails with an error where a pointer would crash.
        memory = os.open("/proc/self/mem", os.O_RDWR)
        try:
            position = start
            for text in os.pread(memory, end - start, start).split(b"\0"):
                if span := find(text):
                    os.pwrite(memory, b"*" * (span[1] - span[0]), position + span[0])
                position += len(text) + 1
        finally:
            os.close(memory)
    except (OSError, ValueError, IndexError, OverflowError):
        return False
    return True
