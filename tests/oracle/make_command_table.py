"""Writes engine/codec/command_table.py from the COMMAND output of the servers of this machine.

    .venv/bin/python -m tests.oracle.make_command_table

Newer servers have the say. Those before 7.0 tell no key specifications: their first, last and step are used where no
newer server knows the command.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from engine.demo.binaries import find_servers
from engine.demo.servers import RunningServer

TARGET = Path(__file__).parents[2] / "engine" / "codec" / "command_table.py"
HEAD = '''"""Where the keys of each command stand. Written by tests/oracle/make_command_table.py: do not edit.

From the COMMAND output of {servers}
(server.c, addReplyCommandInfo). A container's subcommand stands as NAME|SUB. Each key specification:

    (begin, find, access): begin is an index, or (keyword, index to begin searching at);
    find is ("range", last, step, limit), relative to begin, or ("keynum", index of the count, of the first key, step);
    access is RO, RW, OW or RM, with ? where the server says that the specification does not tell all.
"""

Spec = tuple[int | tuple[str, int], tuple[str, int, int, int], str]

'''


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def named(flat: list[Any]) -> dict[str, Any]:
    return dict(zip(map(text, flat[::2]), flat[1::2], strict=True))


def spec_of(flat: list[Any]) -> Any:
    fields = named(flat)
    flags = {text(it) for it in fields["flags"]}
    begin, find = named(fields["begin_search"]), named(fields["find_keys"])
    search, keys = named(begin.get("spec") or []), named(find.get("spec") or [])
    kind = text(begin["type"])
    if kind == "index":
        start: Any = int(search["index"])
    elif kind == "keyword":
        start = (text(search["keyword"]), int(search["startfrom"]))
    else:
        return None
    kind = text(find["type"])
    if kind == "range":
        reach = ("range", int(keys["lastkey"]), int(keys["keystep"]), int(keys["limit"]))
    elif kind == "keynum":
        reach = ("keynum", int(keys["keynumidx"]), int(keys["firstkey"]), int(keys["keystep"]))
    else:
        return None
    access = next((it for it in ("RO", "RW", "OW", "RM") if it in flags), "RW")
    return start, reach, access + ("?" if "incomplete" in flags else "")


def take(table: dict[str, Any], entry: list[Any], name: str) -> None:
    specs: list[Any] = []
    if len(entry) > 8:
        specs = [it for it in map(spec_of, entry[8]) if it is not None]
        for sub in entry[9]:
            take(table, sub, text(sub[0]).upper())
    else:
        first, last, step = (int(it) for it in entry[3:6])
        flags = {text(it) for it in entry[2]}
        mark = "?" if "movablekeys" in flags else ""
        access = "RW" if "write" in flags else "RO"
        if first:
            specs = [(first, ("range", last if last < 0 else last - first, step, 0), access + mark)]
        elif mark:
            specs = [(0, ("range", 0, 1, 0), "RW?")]
    table.setdefault(name, tuple(specs))


def main() -> None:
    servers = find_servers()
    table: dict[str, Any] = {}
    names = []
    for name in sorted(
        servers,
        key=lambda it: (
            servers[it].product == "redis" and servers[it].version_numbers < (7, 0, 0),
            servers[it].product != "redis",
            [-n for n in servers[it].version_numbers],
        ),
    ):
        with RunningServer(servers[name]) as server, server.client() as client:
            client.response_callbacks.clear()
            for entry in client.execute_command("COMMAND"):
                take(table, entry, text(entry[0]).upper())
        names.append(f"{servers[name].product} {servers[name].version}")
    lines = [HEAD.format(servers=", ".join(names)), "COMMANDS: dict[str, tuple[Spec, ...]] = {\n"]
    with_keys = [name for name in sorted(table) if table[name]]
    lines += [f"    {name!r}: {table[name]!r},\n".replace("'", '"') for name in with_keys]
    keyless = textwrap.wrap(
        " ".join(sorted(table.keys() - set(with_keys))), 96, break_on_hyphens=False
    )
    lines += [
        '}\n\nKEYLESS = frozenset(\n    """\n',
        *(f"{it}\n" for it in keyless),
        '""".split()\n)\n',
    ]
    TARGET.write_text("# fmt: off\n".join(("".join(lines[:1]), "".join(lines[1:]))))


if __name__ == "__main__":
    main()
