"""What is said where an optional package is missing can be typed: the project is in no registry, it is installed from its folder."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from engine.errors import install_hint

ROOT = Path(__file__).parent.parent
TEXTS = [
    *(ROOT / "engine").rglob("*.py"), *(ROOT / "deploy").rglob("*.*"), *(ROOT / "benchmarks").glob("*.py"),
    *ROOT.glob("*.md"), ROOT / "benchmarks" / "README.md",
]  # fmt: skip


def extras() -> dict[str, list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return dict(project["optional-dependencies"])


def test_every_extra_that_is_named_is_there_and_comes_from_the_folder() -> None:
    named: set[str] = set()
    for path in TEXTS:
        text = path.read_text(errors="replace")
        assert re.findall(r"install[^\n]* '?redis-ferry\[", text) == [], path
        named |= set(re.findall(r"install_hint\(['\"](\w+)", text))
        for some in re.findall(r"install [^\n]*'\.\[([\w,]+)\]'", text):
            named |= set(some.split(","))

    assert {"service", "postgres", "inspect", "demo", "test", "bench"} <= named
    assert named <= set(extras())


@pytest.mark.parametrize(
    ("missing", "extra", "words"),
    [
        ("uvicorn", "service", ["serve"]),
        ("httpx", "service", ["task", "list"]),
        ("rdbtools", "inspect", ["inspect", "FILE", "--format", "json"]),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_brings_it(
    missing: str, extra: str, words: list[str]
) -> None:
    dump = next((ROOT / "tests" / "corpus").rglob("*.rdb"))
    arguments = [str(dump) if it == "FILE" else it for it in words]
    code = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['redis-ferry', *{arguments!r}]\n"
        "from engine.__main__ import main\nsys.exit(main())"
    )
    environment = {"REDIS_FERRY_API_PROJECT": "demo", "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )  # fmt: skip

    assert ended.returncode == 2
    assert missing in ended.stderr
    assert install_hint(extra) in ended.stderr.replace("\n", " ")
    assert any(missing in it for it in extras()[extra])
