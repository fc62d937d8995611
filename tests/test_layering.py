"""What import-linter cannot see: names, sizes, and the codec's compiled half."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODEC = ROOT / "engine" / "codec"
ROOMS = ("engine", "benchmarks", "tests")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))

BANNED = {"util", "utils", "helper", "helpers", "common", "misc", "manager"}
LINES = 400
COMPILED_LINES = 600
CODEC_MAY_IMPORT = (
    "engine.codec",
    "engine.errors",
    "engine.position",
    "engine.selection",
    "engine.settings",
)


def compiled_modules() -> set[str]:
    """COMPILED_MODULES of setup.py."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMPILED_MODULES":
            return set(ast.literal_eval(node.value))
    raise AssertionError("setup.py has no COMPILED_MODULES")


COMPILED = compiled_modules()


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def words(name: str) -> set[str]:
    """`ShardManager` and `shard_manager` are both shard and manager."""
    return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_").split("_"))


def test_no_module_or_class_has_a_name_that_says_nothing() -> None:
    found = []
    for path in FILES:
        names = [path.stem, *path.relative_to(ROOT).parts[:-1]]
        tree = ast.parse(path.read_text())
        names += [it.name for it in ast.walk(tree) if isinstance(it, ast.ClassDef)]
        found += [f"{shown(path)}: {name}" for name in names if words(name) & BANNED]

    assert found == []


def test_every_file_stays_within_its_budget() -> None:
    found = []
    for path in FILES:
        is_compiled = path.parent == CODEC and path.stem in COMPILED
        budget = COMPILED_LINES if is_compiled else LINES
        lines = len(path.read_text().splitlines())
        if lines > budget:
            found.append(f"{shown(path)}: {lines} lines, {budget} allowed")

    assert found == []


def test_every_compiled_module_has_its_types_and_every_types_file_its_module() -> None:
    assert {path.stem for path in CODEC.glob("*.pxd")} == COMPILED
    assert [name for name in sorted(COMPILED) if not (CODEC / f"{name}.py").exists()] == []


def imported(path: Path) -> set[str]:
    """The modules that a Python file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {it.name for it in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{shown(path)} has a relative import"
            names.add(node.module or "")
            if node.module == "engine":
                names |= {f"engine.{it.name}" for it in node.names}
    return names - {"engine"}


def cimported(path: Path) -> set[str]:
    """The modules that a .pxd names."""
    found = re.findall(
        r"^\s*(?:from\s+([\w.]+)\s+c?import|c?import\s+([\w.]+))", path.read_text(), re.MULTILINE
    )
    return {one or other for one, other in found}


@pytest.mark.parametrize("path", sorted(CODEC.glob("*.p[yx]*")), ids=lambda it: it.name)
def test_the_codec_imports_nothing_of_the_engine_but_values(path: Path) -> None:
    names = imported(path) if path.suffix in {".py", ".pyi"} else cimported(path)

    ours = {name for name in names if name.split(".")[0] == "engine"}
    assert {name for name in ours if not name.startswith(CODEC_MAY_IMPORT)} == set()
