"""What runs here: the compiled codec must be what is tested, and what child processes run, not the interpreted one."""

from __future__ import annotations

import importlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from engine import codec
from engine.demo.child import module_command, module_environment
from tests.control import command_line

ROOT = Path(__file__).parents[1]
BUILD = "REDIS_FERRY_REQUIRE_COMPILED=1 python setup.py build_ext --inplace"


def is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() not in {"", "0", "false"}


def what_compiling_lacks() -> str:
    """What this machine lacks to compile the codec; empty if it has everything."""
    words = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(words[0]) is None:
        return f"no C compiler ({words[0]})"
    header = Path(sysconfig.get_path("include"), "Python.h")
    return "" if header.exists() else f"no headers of Python ({header})"


def may_be_interpreted() -> str:
    """Why the interpreted codec is right here; empty if it is not."""
    if is_set("REDIS_FERRY_REQUIRE_COMPILED") or is_set("CI"):
        return ""
    if is_set("REDIS_FERRY_SKIP_COMPILED"):
        return "REDIS_FERRY_SKIP_COMPILED asks for the interpreted codec"
    lack = what_compiling_lacks()
    return f"the codec cannot be compiled here: {lack}" if lack else ""


needs_compiled = pytest.mark.skipif(bool(may_be_interpreted()), reason=may_be_interpreted())


@needs_compiled
def test_the_codec_under_test_is_the_compiled_one() -> None:
    assert codec.COMPILED, f"the codec is interpreted; build it: {BUILD}"


@needs_compiled
@pytest.mark.parametrize("place", ["root", "elsewhere"])
def test_child_processes_run_the_compiled_codec_of_this_package(place: str, tmp_path: Path) -> None:
    code = "from engine import codec; print(codec.COMPILED, codec.__file__)"
    (tmp_path / "codec_of_the_child.py").write_text(code)
    environment = module_environment({**os.environ, "PYTHONPATH": str(tmp_path)})

    printed = subprocess.run(
        module_command("codec_of_the_child"),
        cwd=ROOT if place == "root" else tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout

    assert printed == f"True {codec.__file__}\n"


@needs_compiled
def test_the_command_line_that_is_tested_is_this_trees_and_compiled(tmp_path: Path) -> None:
    code = "from engine import codec; print(codec.COMPILED, codec.__file__)"

    printed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=command_line.environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout

    assert printed == f"True {codec.__file__}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop is not for Windows")
def test_the_fast_event_loop_is_there() -> None:
    assert importlib.import_module("uvloop").run
