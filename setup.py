"""Builds the compiled codec; everything else about the package stands in pyproject.toml.

REDIS_FERRY_REQUIRE_COMPILED=1: a codec that cannot be compiled fails the installation (CI, image).
REDIS_FERRY_SKIP_COMPILED=1: install the interpreted form without trying.
Otherwise a machine without a C compiler gets the interpreted form and a warning at start-up.
"""

import os

from Cython.Build import build_ext
from setuptools import Extension, setup

COMPILED_MODULES = (
    "aof_scan",
    "big_values",
    "block_writer",
    "bridge",
    "command_reader",
    "created_keys",
    "crc64",
    "dump_scan",
    "field_times",
    "foreign_stream",
    "key_filter",
    "key_log",
    "key_recorder",
    "key_set",
    "late_keys",
    "lzf",
    "name_owners",
    "name_table",
    "named_commands",
    "out_buffer",
    "packed",
    "rdb_records",
    "rdb_walker",
    "replies",
    "selected_snapshot",
    "slot_index",
    "slot_queue",
    "slot_router",
    "slot_rules",
    "slot_states",
    "slots",
    "snapshot",
    "stream",
    "stream_expander",
    "stream_check",
    "stream_items",
    "stream_selector",
    "value_check",
    "value_expander",
    "value_items",
)
required = os.environ.get("REDIS_FERRY_REQUIRE_COMPILED") == "1"
skipped = os.environ.get("REDIS_FERRY_SKIP_COMPILED") == "1"

setup(
    ext_modules=[]
    if skipped
    else [
        Extension(
            f"engine.codec.{name}",
            [f"engine/codec/{name}.py"],
            extra_compile_args=["-O3"],
            optional=not required,
        )
        for name in COMPILED_MODULES
    ],
    cmdclass={"build_ext": build_ext},
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
