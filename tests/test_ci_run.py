"""The README's test command, CONTRIBUTING's and what CI runs are one and the same."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
QUIET = frozenset({"--quiet", "--disable-pip-version-check"})
VENV = "python3 -m venv .venv"
PYTEST = ".venv/bin/pytest"


def commands(text: str) -> list[str]:
    """The commands of a shell text, in order, without comments; those joined by && one by one."""
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()]
    return [one.strip() for line in lines for one in line.split("&&") if one.strip()]


@dataclass(frozen=True)
class Install:
    """A `pip install` of the project. is_editable: -e, so that the tests see what was built in place."""

    extras: frozenset[str]
    is_editable: bool

    @classmethod
    def read(cls, command: str) -> Install | None:
        words = [word for word in command.split() if word not in QUIET]
        if words[:2] != [".venv/bin/pip", "install"]:
            return None
        named = re.fullmatch(r"'\.\[([\w,-]+)\]'", words[-1])
        assert named is not None, command
        assert words[2:-1] in ([], ["-e"]), command
        return cls(frozenset(named[1].split(",")), "-e" in words)


def only_install(found: list[str]) -> Install:
    (install,) = filter(None, map(Install.read, found))
    return install


def readme() -> list[str]:
    section = (
        (ROOT / "README.md").read_text().split("## Run the tests\n", 1)[1].split("\n## ", 1)[0]
    )
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return commands(block)


def contributing() -> list[str]:
    (block, *_) = re.findall(r"```sh\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    return commands(block)


def ci() -> list[str]:
    return commands((ROOT / ".ci" / "run").read_text())


def test_the_readme_makes_a_venv_installs_and_tests_and_nothing_else() -> None:
    venv, install, test = readme()

    assert (venv, test) == (VENV, PYTEST)
    assert Install.read(install) == Install(frozenset({"test"}), is_editable=True)


@pytest.mark.parametrize("other", [ci, contributing])
def test_others_run_the_readmes_commands_with_more_extras_at_most(other: object) -> None:
    found = other()  # type: ignore[operator]
    ours = [it for it in found if it in {VENV, PYTEST} or Install.read(it)]

    assert [it if Install.read(it) is None else "install" for it in ours] == [
        VENV,
        "install",
        PYTEST,
    ]
    install, expected = only_install(found), only_install(readme())
    assert expected.extras < install.extras
    assert install.is_editable == expected.is_editable


def test_contributing_installs_what_ci_installs_and_names_it() -> None:
    assert only_install(contributing()) == only_install(ci())
    assert ".ci/run" in contributing()


def test_ci_requires_the_compiled_codec_before_it_installs() -> None:
    found = ci()

    required = found.index("export REDIS_FERRY_REQUIRE_COMPILED=1")
    assert required < next(at for at, it in enumerate(found) if Install.read(it))


def test_every_extra_that_is_installed_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = only_install(ci()).extras | only_install(readme()).extras

    assert named <= project["optional-dependencies"].keys()
