"""Help without the names of Python types: typer writes `<bool>` behind a switch and `<str>` behind an argument."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any


def leave_types_out(command: Any) -> None:
    """Make `command` and those below it show no type where it says nothing: of switches and of named arguments.

    command: what typer makes of an app (of click's kind or of typer's own copy of it).
    """
    command.get_params = partial(_params, command.get_params)
    for below in getattr(command, "commands", {}).values():
        leave_types_out(below)


def _params(get_params: Callable[[Any], list[Any]], context: Any) -> list[Any]:
    found = get_params(context)
    for param in found:
        if getattr(param, "is_flag", False) or param.param_type_name == "argument":
            param.display_type_rich = _no_type
    return found


def _no_type(*_: Any, **__: Any) -> None:
    return None
