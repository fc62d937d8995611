"""What the command line can be told about its output. Light: `--help` imports this."""

from __future__ import annotations

from enum import StrEnum


class ProgressMode(StrEnum):
    """How progress is shown: bars on a terminal, lines for people, lines for scripts, or not."""

    AUTO = "auto"
    PLAIN = "plain"
    JSON = "json"
    NONE = "none"


class LogLevel(StrEnum):
    """The least severe log line that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """Log lines for people or for machines."""

    TEXT = "text"
    JSON = "json"


class OutputFormat(StrEnum):
    """What `check`, `tasks` and `task` print: lines for people, or one JSON object."""

    TEXT = "text"
    JSON = "json"


class AofTail(StrEnum):
    """What to do with an append-only file whose last command or transaction is not whole."""

    LOAD = "load"  # up to there, as a server does (aof-load-truncated yes)
    REFUSE = "refuse"


class InspectFormat(StrEnum):
    """What `inspect` prints: our report for people or as JSON, or one of rdbtools' formats."""

    TABLE = "table"
    STATS = "stats"
    JSON = "json"
    MEMORY = "memory"
    PROTOCOL = "protocol"
    DIFF = "diff"
