"""The documents say what is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from engine import errors
from engine.control import exit_status
from engine.control.api.errors import TABLE
from engine.control.cli import app

ROOT = Path(__file__).parent.parent
README, OPERATIONS, ARCHITECTURE = (
    ROOT / f"{name}.md" for name in ("README", "OPERATIONS", "ARCHITECTURE")
)
USER_DOCUMENTS = pytest.mark.parametrize("path", [README, OPERATIONS], ids=lambda it: it.name)
STATUSES = {
    exit_status.DONE,
    exit_status.USAGE,
    exit_status.REFUSED,
    exit_status.FAILED,
    exit_status.INTERRUPTED,
}


def documents() -> list[Path]:
    return sorted(
        path
        for path in ROOT.rglob("*.md")
        if not any(part[0] == "." or part == "build" for part in path.relative_to(ROOT).parts)
    )


def options() -> set[str]:
    """Every option of every command of `redis-ferry`."""
    group: Any = typer.main.get_command(app)  # of click or of typer's own copy of it
    return {"--help", "--version"} | set(options_of(group))


def options_of(group: Any) -> Iterator[str]:
    """Those of a group's commands, and of the groups in it."""
    for command in group.commands.values():
        for it in command.params:
            yield from it.opts
        if hasattr(command, "commands"):
            yield from options_of(command)


@USER_DOCUMENTS
def test_every_option_that_is_named_exists(path: Path) -> None:
    # Of Docker's and Kubernetes' own commands there are others.
    text = re.sub(r"\b(?:docker|kubectl)(?:-compose)? (?:\\\n|[^`\n])*", "", path.read_text())
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text))

    assert named
    assert named - options() == set()


@USER_DOCUMENTS
def test_every_exit_status_is_one_there_is(path: Path) -> None:
    text = path.read_text()
    listed = re.search(r"Exit status[:\n]\s*(.+?)(?:\n\n|\n#|\Z)", text, re.DOTALL)

    assert listed is not None
    # A status stands at the start of its item: "0 done · 2 usage", "0 done, 2 usage".
    assert set(map(int, re.findall(r"(?:^|[,·]|\n)\s*(\d+) ", listed[1]))) == STATUSES
    assert set(map(int, re.findall(r"\bexit (\d+)", text))) <= STATUSES


def named_paths(text: str) -> Iterator[str]:
    """What stands in backticks and looks like a file or folder of ours; `b.py` behind `a/b.py` is a/b.py."""
    folder = ""
    for line in text.splitlines():
        for name in re.findall(r"`([\w./-]+(?:\.py|\.md|/))`", line):
            if "/" in name:
                folder = name.rsplit("/", 1)[0]
                yield name
            elif (ROOT / name).exists() or not line.startswith("|"):
                continue  # prose names files that stand beside the one it has just named
            else:
                yield f"{folder}/{name}"


def test_every_file_and_folder_of_the_map_exists() -> None:
    named = list(named_paths(ARCHITECTURE.read_text()))

    assert len(named) > 15
    missing = [it for it in named if not any((ROOT / at / it).exists() for at in ("", "engine"))]
    assert missing == []


def test_every_room_of_the_engine_is_on_the_map() -> None:
    text = ARCHITECTURE.read_text()
    rooms = [it.parent.name for it in (ROOT / "engine").glob("*/__init__.py")]

    assert [name for name in rooms if f"`engine/{name}/`" not in text] == []


@pytest.mark.parametrize("path", documents(), ids=lambda it: str(it.relative_to(ROOT)))
def test_every_link_within_the_project_leads_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)

    broken = []
    for target in targets:
        name, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = path.parent / name if name else path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", it.lower()).replace(" ", "-") for it in headings}


def test_every_error_code_is_explained() -> None:
    table = OPERATIONS.read_text().split("## Error codes\n", 1)[1].split("\n## ", 1)[0]
    rows = "\n".join(it.split("|")[1] for it in table.splitlines() if it.startswith("| `"))
    classes = {
        name
        for name, it in vars(errors).items()
        if isinstance(it, type) and issubclass(it, errors.EngineError)
    } - {"EngineError", "SourceError", "TargetError"}

    assert len(classes) > 10
    assert set(re.findall(r"`(\w+)`", rows)) == classes


def test_every_code_of_the_api_is_explained() -> None:
    table = OPERATIONS.read_text().split("**Its error codes.**", 1)[1].split("\n\n", 2)[1]
    rows = [it.split("|")[1:3] for it in table.splitlines()[2:]]
    explained = {code: http for codes, http in rows for code in codes.strip().split(", ")}

    assert set(explained) == set(TABLE)
    for code, (status, _) in TABLE.items():
        assert str(status) in explained[code], code
