"""The register as a file: read, and whose it is. The ledger writes it."""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from pathlib import Path

import structlog

from engine.ledger.register import Kind, Register, from_json

log = structlog.get_logger("engine.ledger")

REGISTER_NAME = "ledger.json"
BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")


def read_register(directory: Path) -> Register:
    """The register of an earlier run; a new one if there is none, one that is not trusted if it cannot be."""
    try:
        text = (directory / REGISTER_NAME).read_text()
    except FileNotFoundError:
        return Register(new_id())
    try:
        register, read = from_json(text)
    except ValueError as error:
        log.warning("ledger.lost", directory=str(directory), why=str(error))
        return Register(new_id(), is_complete=False)
    is_same_boot = read.get("boot_id") and read.get("boot_id") == boot_id()
    is_whole = all((directory / name).is_file() for name in register.all_files)
    if is_whole and (read.get("is_closed") or is_same_boot):
        register.drop(Kind.CURRENT)
        return register
    log.warning(
        "ledger.not_trusted",
        directory=str(directory),
        why="the machine went down while it was in use" if is_whole else "files are missing",
        means="a full resync cannot tell which keys on the target are the task's own",
    )
    return Register(register.ledger_id, serial=register.serial, is_complete=False)


def owner_in(path: Path) -> str:
    """Which process wrote the file last; empty if that cannot be read."""
    try:
        return str(json.loads(path.read_text()).get("owner", ""))
    except (OSError, ValueError):
        return ""


def new_id() -> str:
    """An id for a ledger: 16 hex digits."""
    return secrets.token_hex(8)


def boot_id() -> str:
    """Changes when the machine starts; empty where the system does not tell."""
    with suppress(OSError):
        return BOOT_ID_PATH.read_text().strip()
    return ""
