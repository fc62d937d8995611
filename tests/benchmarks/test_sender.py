"""The benchmarks' own sender and plots."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.data_sets import resp
from benchmarks.report import RESULTS
from benchmarks.sender import send_blocks
from tests.fix_servers import StartServer

PNG = b"\x89PNG\r\n\x1a\n"


def test_blocks_larger_than_the_window_are_sent_and_the_end_is_seen(
    start_server: StartServer,
) -> None:
    server = start_server("redis-8.2")
    blocks = [(resp(b"SET", b"key:%d" % number, bytes(100_000)), 1) for number in range(3)]

    seconds = send_blocks((server.host, server.port), iter(blocks), inflight_bytes=1000)

    assert seconds < 30  # not the time-out of a reply that is not due
    with server.client() as client:
        assert [client.strlen(f"key:{number}") for number in range(3)] == [100_000] * 3


@pytest.mark.parametrize("benchmark", ["full_sync", "stream", "scaling"])
def test_stored_results_can_be_drawn(benchmark: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="no matplotlib (extra bench)")
    from benchmarks.plots import draw

    stored = next(
        it for it in sorted(RESULTS.glob("*.json")) if json.loads(it.read_text())["benchmark"] == benchmark
    )  # fmt: skip
    made = draw(Path(shutil.copy(stored, tmp_path)))

    assert made is not None
    assert made.read_bytes().startswith(PNG)
