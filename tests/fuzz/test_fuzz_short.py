"""A short run of each fuzz target, and mutations by hypothesis that need no fuzzer."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codec.interpreted_form import interpreted
from tests.fuzz import fuzz_decode
from tests.fuzz.fuzz_snapshot import run, seeds

SECONDS = 10
ROOT = Path(__file__).parents[2]
SEEDS = seeds()
DECODE_SEEDS = fuzz_decode.seeds()
interpreted_transcoder = interpreted("snapshot").SnapshotTranscoder


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed: it has no wheel for every Python and system",
)
@pytest.mark.parametrize("target", ["fuzz_snapshot", "fuzz_decode"])
def test_fuzzing_finds_nothing(target: str, tmp_path: Path) -> None:
    seeds_folder = tmp_path / "seeds"
    temporary = tmp_path / "tmp"
    seeds_folder.mkdir()
    temporary.mkdir()
    finished = subprocess.run(
        [
            sys.executable,
            "-m",
            f"tests.fuzz.{target}",
            str(seeds_folder),
            f"-max_total_time={SECONDS}",
            f"-artifact_prefix={tmp_path}/",
        ],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=SECONDS + 60,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr[-4000:]
    assert "no interesting inputs" not in finished.stderr  # the counters are in
    assert len(list(seeds_folder.iterdir())) >= (
        len(SEEDS) if target == "fuzz_snapshot" else len(DECODE_SEEDS)
    )
    assert list(temporary.iterdir()) == []


def test_seeds_run() -> None:
    for seed in SEEDS:
        run(seed)


EDITS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["set", "flip", "cut", "drop", "insert", "double"]),
        st.one_of(
            st.sampled_from([0, 1, 0x3F, 0x40, 0x7F, 0x80, 0x81, 0xC0, 0xC3, 0xFE, 0xFF]),
            st.integers(0, 255),
        ),
    ),
    max_size=6,
)


def _edited(seed: bytes, edits: list[tuple[float, str, int]]) -> bytes:
    file = bytearray(seed)
    for place, edit, byte in edits:
        if not file:
            break
        at = int(place * len(file))
        if edit == "set":
            file[at] = byte
        elif edit == "flip":
            file[at] ^= 1 << byte % 8
        elif edit == "cut":
            del file[at + 1 :]
        elif edit == "drop":
            del file[at : at + byte % 16]
        elif edit == "insert":
            file[at:at] = bytes([byte]) * (1 + byte % 9)
        else:
            file[at:at] = file[at : at + byte]
    return bytes(file)


@settings(max_examples=1500, deadline=None)
@given(seed=st.sampled_from(SEEDS), edits=EDITS)
def test_mutated_dumps_end_in_the_codecs_own_errors(
    seed: bytes, edits: list[tuple[float, str, int]]
) -> None:
    run(_edited(seed, edits))


@settings(max_examples=400, deadline=None)
@given(seed=st.sampled_from(SEEDS), edits=EDITS)
def test_mutated_dumps_do_so_interpreted_as_well(
    seed: bytes, edits: list[tuple[float, str, int]]
) -> None:
    run(_edited(seed, edits), interpreted_transcoder)


@settings(max_examples=1500, deadline=None)
@given(seed=st.sampled_from(DECODE_SEEDS), edits=EDITS)
def test_mutated_values_decode_or_end_in_the_codecs_own_error(
    seed: bytes, edits: list[tuple[float, str, int]]
) -> None:
    fuzz_decode.run(_edited(seed, edits))
