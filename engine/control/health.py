"""`python -m engine.control.health`: exit 0 if the service in this container answers, for images without curl.

HEALTH_URL names what to ask; of `sync --metrics-listen` it is http://127.0.0.1:9121/metrics. A certificate is not verified: it
is made for another name than loopback's.
"""

from __future__ import annotations

import os
import ssl
import sys
import urllib.request

DEFAULT_URL = "http://127.0.0.1:8000/healthz"
TIMEOUT_SECONDS = 4.0


def is_healthy(url: str) -> bool:
    """Whether `url` (http or https) answers with 200 in time."""
    if not url.startswith(("http://", "https://")):
        return False
    context = ssl._create_unverified_context() if url.startswith("https://") else None  # noqa: S323, SLF001 - loopback
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        *([] if context is None else [urllib.request.HTTPSHandler(context=context)]),
    )
    try:
        with opener.open(url, timeout=TIMEOUT_SECONDS) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if is_healthy(os.environ.get("HEALTH_URL", DEFAULT_URL)) else 1)
