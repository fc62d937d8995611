"""Asserts of the tools say what they found, as those of the tests do."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.faults.arena", "tests.faults.worker")
