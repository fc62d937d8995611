"""What runs here: CI must test the compiled codec, not the interpreted one by accident."""

from __future__ import annotations

import importlib
import os
import sys

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


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop is not for Windows")
def test_the_fast_event_loop_is_there() -> None:
    assert importlib.import_module("uvloop").run
