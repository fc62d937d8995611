"""Runs a fuzz target under atheris, on the interpreted codec: coverage of compiled code is not seen."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.codec.interpreted_form import interpreted_imports


def fuzz(
    run: Callable[[bytes, Any], None], seeds: Iterable[bytes], modules: tuple[str, ...]
) -> None:
    """Feed `run` inputs and the interpreted `modules` (one, or a tuple of several) until something breaks."""
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(f"usage: {sys.argv[0]} FOLDER [options]: a folder that exists, for the seeds")
    import atheris
    from atheris.instrument_bytecode import patch_code

    # atheris' own import hook would find the compiled modules and leave them alone.
    with interpreted_imports(lambda code: patch_code(code, trace_dataflow=True)):
        loaded = tuple(importlib.import_module(f"engine.codec.{name}") for name in modules)

    program, folder, *options = sys.argv
    for number, seed in enumerate(seeds):
        Path(folder, f"seed-{number:03}").write_bytes(seed)
    atheris.Setup([program, *options, folder], lambda data: run(data, loaded))
    atheris.Fuzz()
