"""What runs here: the facts that a bug report needs, and a warning where the codec is slow."""

from __future__ import annotations

import importlib
import platform
import sys
from importlib import metadata

import structlog

from engine import __version__

log = structlog.get_logger("engine.control")


def version_lines() -> list[str]:
    """One fact a line."""
    facts = {
        "redis-ferry": __version__,
        "codec": _codec(),
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        **{name: _package(name) for name in ("uvloop", "redis", "hiredis", "structlog")},
    }
    return [f"{name:<12} {fact}" for name, fact in facts.items()]


def warn_if_interpreted() -> None:
    """Say in the log that the codec is slow, where it is."""
    from engine import codec

    if not codec.COMPILED:
        log.warning(
            "codec.interpreted",
            message="the codec runs uncompiled: same results, some twenty times slower; "
            "install a C compiler and Python's headers (python3-dev), then reinstall redis-ferry",
        )


def _codec() -> str:
    try:
        codec = importlib.import_module("engine.codec")
    except ImportError as error:
        return f"not usable: {error}"
    form = (
        "compiled"
        if codec.COMPILED
        else "interpreted: slow, install a C compiler and python3-dev, then reinstall"
    )
    # The codec names the RDB versions it reads, once it does.
    rdb_versions = getattr(codec, "RDB_VERSIONS", None)
    return f"{form}; reads RDB versions {rdb_versions}" if rdb_versions else form


def _package(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
