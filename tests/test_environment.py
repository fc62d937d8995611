"""What runs here: CI must test the compiled codec, not the interpreted one by accident."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

from engine import codec

BUILD = "REDIS_FERRY_REQUIRE_COMPILED=1 python setup.py build_ext --inplace"


def is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() not in {"", "0", "false"}


@pytest.mark.skipif(
    not (is_set("REDIS_FERRY_REQUIRE_COMPILED") or is_set("CI")),
    reason="the interpreted codec may be tested outside CI",
)
def test_the_codec_under_test_is_the_compiled_one() -> None:
    assert codec.COMPILED, f"the codec is interpreted; build it: {BUILD}"


@pytest.mark.skipif(not codec.COMPILED, reason="the codec is interpreted here")
def test_no_compiled_module_is_older_than_its_source() -> None:
    from tests.test_layering import COMPILED

    stale = []
    for name in sorted(COMPILED):
        binary = importlib.import_module(f"engine.codec.{name}").__file__ or ""
        source = Path(codec.__file__ or "").with_name(f"{name}.py")
        if binary.endswith(".py"):
            stale.append(f"{name} is interpreted")
        elif Path(binary).parent == source.parent and older(Path(binary), source):
            stale.append(f"{name} was built before its source was changed")

    assert stale == [], f"build them: {BUILD}"


def older(binary: Path, source: Path) -> bool:
    sources = [it for it in (source, source.with_suffix(".pxd")) if it.exists()]
    return binary.stat().st_mtime < max(it.stat().st_mtime for it in sources)


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop is not for Windows")
def test_the_fast_event_loop_is_there() -> None:
    assert importlib.import_module("uvloop").run
