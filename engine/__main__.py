"""`python -m engine`, and the console script `redis-ferry`."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn


def main() -> int:
    """Run the command line. Returns the exit status."""
    # Before anything is imported that takes time: until then `ps` shows the arguments' passwords.
    from engine.control.process_title import hide_passwords_in_arguments  # noqa: PLC0415

    is_hidden = hide_passwords_in_arguments()
    # As SIGINT, so that a stop during start-up also ends with 130; sync takes both over later.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        from engine.control.cli import run  # noqa: PLC0415

        return run(sys.argv[1:], passwords_are_hidden=is_hidden)
    except KeyboardInterrupt:
        return 130


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
