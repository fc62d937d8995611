"""What a task is called where nobody has given it a name."""

from __future__ import annotations

import hashlib
import os
import re

from engine.endpoint import Endpoint


def derive_task_id(source: Endpoint, target: Endpoint) -> str:
    """Name a task after its two addresses, always alike, so that a second run resumes."""
    digest = hashlib.sha256(os.fsencode(f"{source.address}\n{target.address}")).hexdigest()[:8]
    return f"{_slug(source.address) or 'source'}-to-{_slug(target.address)}-{digest}"


def _slug(address: str) -> str:
    # 24 + 4 + 24 + 1 + 8 stays within the 64 characters of a task id; an address's end says more
    # than its start.
    return re.sub(r"[^A-Za-z0-9.]+", "-", address).strip("-.")[-24:].strip("-.")
