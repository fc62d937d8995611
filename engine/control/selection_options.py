"""The options that choose what is taken along: as they are written, and what they make together (engine/selection.py)."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode

from engine.errors import ConfigError
from engine.selection import Selection, literal_of

_OWN_PREFIX = b"redis-ferry:"
_DB = r"\d{1,9}"
_DATABASES = rf"^{_DB}(,{_DB})*$"
_DB_MAP = rf"^{_DB}:{_DB}(,{_DB}:{_DB})*$"
_COMMAND = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
# Without these the stream is no stream.
_NEEDED = frozenset({"SELECT", "MULTI", "EXEC", "PING", "REPLCONF"})


def _several(value: object) -> object:
    """A list as it stands in a settings file, or as JSON in a variable; a single text is one of them."""
    if isinstance(value, str):
        try:
            found = json.loads(value) if value.lstrip().startswith("[") else None
        except ValueError:
            found = None  # a glob may begin like this
        is_list = isinstance(found, list) and all(isinstance(it, str) for it in found)
        value = found if is_list else [value]
    if isinstance(value, list | tuple) and not all(isinstance(it, str) and it for it in value):
        raise ValueError("an empty text, or none")
    return value


_Several = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_several)]


def _as_text(value: object) -> object:
    # `databases = 0` in a settings file is meant.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class SelectionValues(BaseSettings):
    """What the user wrote of them."""

    include_key: _Several = ()
    exclude_key: _Several = ()
    databases: Annotated[str, BeforeValidator(_as_text), Field(pattern=_DATABASES)] | None = None
    db_map: Annotated[str, Field(pattern=_DB_MAP)] | None = None
    exclude_command: _Several = ()
    key_prefix_add: str | None = None
    key_prefix_strip: str | None = None


SELECTION_ALLOWED = {
    "include_key": "a glob, or a list of globs, none of them empty",
    "exclude_key": "a glob, or a list of globs, none of them empty",
    "databases": "database numbers with commas between, like 0,3",
    "db_map": "source:target pairs of database numbers with commas between, like 0:5,1:2",
    "exclude_command": "the name of a command, or a list of names",
    "key_prefix_add": "a text",
    "key_prefix_strip": "a text",
}


def selection_of(values: Any) -> Selection:
    """What these options choose together.

    Raises:
        ConfigError: they contradict each other, or what they choose would not be told apart at the target.
    """
    databases = None if values.databases is None else _numbers(values.databases)
    selection = Selection(
        include_keys=tuple(map(_as_bytes, values.include_key)),
        exclude_keys=tuple(map(_as_bytes, values.exclude_key)),
        databases=databases,
        db_map=_pairs(values.db_map, databases),
        exclude_commands=_commands(values.exclude_command),
        prefix_add=_as_bytes(values.key_prefix_add or ""),
        prefix_strip=_as_bytes(values.key_prefix_strip or ""),
    )
    _check_names(selection)
    return selection


def _as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # as the command line had it


def _numbers(text: str) -> frozenset[int]:
    return frozenset(map(int, text.split(",")))


def _pairs(text: str | None, databases: frozenset[int] | None) -> tuple[tuple[int, int], ...]:
    if text is None:
        return ()
    pairs = [(int(a), int(b)) for a, b in (it.split(":") for it in text.split(","))]
    sources = [source for source, _ in pairs]
    for source in sources:
        if sources.count(source) > 1:
            raise ConfigError(
                f"--db-map names database {source} of the source twice",
                hint="a database goes to one other",
            )
        if databases is not None and source not in databases:
            raise ConfigError(
                f"--db-map names database {source} of the source, which --databases leaves out",
                hint=f"add {source} to --databases, or leave it out of --db-map",
            )
    return tuple(sorted(it for it in pairs if it[0] != it[1] or databases is None))


def _commands(names: tuple[str, ...]) -> frozenset[str]:
    found = frozenset(name.upper() for name in names)
    for name in sorted(found):
        if not _COMMAND.fullmatch(name):
            raise ConfigError(
                f"--exclude-command cannot be {name[:60]!r}", hint="it must be a command's name"
            )
        if name in _NEEDED:
            raise ConfigError(
                f"--exclude-command cannot be {name}: the stream has no order without it",
                hint="leave databases out with --databases",
            )
    return found


def _check_names(selection: Selection) -> None:
    if b"*" in selection.exclude_keys:
        raise ConfigError(
            "--exclude-key '*' leaves nothing", hint="give the globs of the keys to be left out"
        )
    both = set(selection.include_keys) & set(selection.exclude_keys)
    if both:
        raise ConfigError(
            f"--include-key and --exclude-key both have {min(both)!r}, which excludes it",
            hint="leave one of them out",
        )
    if selection.prefix_add.startswith(_OWN_PREFIX):
        raise ConfigError(
            "--key-prefix-add cannot begin with redis-ferry:, which the checkpoints' names begin with",
            hint="choose another prefix",
        )
    strip = selection.prefix_strip
    if not strip:
        return
    others = [it for it in selection.include_keys if not _beginning(it).startswith(strip)]
    if others or not selection.include_keys:
        shown = strip.decode("utf-8", "backslashreplace")
        what = f"--include-key {others[0]!r}" if others else "without --include-key"
        raise ConfigError(
            f"--key-prefix-strip {shown!r} {what} also meets keys that do not begin with it: "
            "one of these and one with the prefix could get the same name",
            hint=f"take those with the prefix only: --include-key '{shown}*'",
        )


def _beginning(glob: bytes) -> bytes:
    """What every name begins with that the glob fits."""
    literal = literal_of(glob)
    if literal is not None:
        return literal[0]
    for end in range(len(glob), 0, -1):
        if (literal := literal_of(glob[:end])) is not None and not literal[1]:
            # A backslash at the end belongs to what follows it.
            return literal[0].removesuffix(b"\\")
    return b""
