"""What a server holds, read by redis-py, in the form of the descriptions of tests/corpus/streams."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from itertools import batched as _batched  # type: ignore[attr-defined]
from typing import Any

import redis
