"""What every test run has: the server fixtures, and a first line that says what is under test."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

pytest_plugins = ["tests.fix_servers"]

# How long an example takes says more of the machine's load than of the code.
settings.register_profile("redis-ferry", deadline=None)
settings.load_profile("redis-ferry")

# A shell starts background jobs with SIGINT ignored, and children would inherit that: Ctrl-C tests need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --servers."""
    parser.addoption(
        "--servers",
        choices=("binaries", "containers"),
        default="binaries",
        help="what the servers, clusters and Sentinels of the tests are: processes, or containers of a Docker engine",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Half as many processes again as there are cores: most tests wait for servers more than they work."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return max((os.cpu_count() or 1) * 3 // 2, 2)


@pytest.fixture(scope="session", autouse=True)
def _state_home() -> Iterator[None]:
    """Worker processes keep their spool away from the user's own."""
    folder = tempfile.mkdtemp(prefix="redis-ferry-tests-")
    os.environ["XDG_STATE_HOME"] = folder
    yield
    shutil.rmtree(folder, ignore_errors=True)


def pytest_report_header() -> list[str]:
    """Name the servers and the build of the codec."""
    # Imported here: pytest rewrites the asserts of a plugin only when it is the first to import it.
    from tests.fix_servers import BINARIES

    servers = ", ".join(f"{it.name} ({it.version})" for it in BINARIES.values()) or "none"
    try:
        compiled = str(bool(importlib.import_module("engine.codec").COMPILED)).lower()
    except (ImportError, AttributeError):
        compiled = "unknown"
    return [f"servers: {servers}", f"engine.codec compiled: {compiled}"]
