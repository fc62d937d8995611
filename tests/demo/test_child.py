"""Children of ours run the package that their parent runs, wherever they are started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import engine
from engine.demo.child import module_command, module_environment

ANOTHER_PACKAGE = 'raise SystemExit("the wrong package")'


@pytest.fixture
def _another_engine_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "engine").mkdir()
    for name in ("__init__", "__main__"):
        (tmp_path / "engine" / f"{name}.py").write_text(ANOTHER_PACKAGE)
    monkeypatch.chdir(tmp_path)


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.usefixtures("_another_engine_here")
def test_the_working_directory_does_not_decide_which_package_runs() -> None:
    as_python_would = run([sys.executable, "-m", "engine", "version"], dict(os.environ))
    ours = run(module_command("engine", "version"), module_environment(os.environ))

    assert "the wrong package" in as_python_would.stderr  # so the test can fail
    assert ours.returncode == 0, ours.stderr
    assert f"redis-ferry  {engine.__version__}" in ours.stdout


def test_our_variables_do_not_reach_the_child_and_others_do() -> None:
    given = {"REDIS_FERRY_METHOD": "full", "redis_ferry_target": "x", "PATH": "/bin", "A": "b"}

    passed = module_environment(given)

    assert {name: passed[name] for name in ("PATH", "A")} == {"PATH": "/bin", "A": "b"}
    assert passed.keys() - {"PATH", "A", "PYTHONPATH"} == set()


def test_a_tree_is_named_before_what_stands_in_pythonpath(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "__file__", "/home/me/redis-ferry/engine/__init__.py")
    root = "/home/me/redis-ferry"

    assert module_environment({"PYTHONPATH": "/x"})["PYTHONPATH"] == f"{root}{os.pathsep}/x"
    assert module_environment({})["PYTHONPATH"] == root


def test_an_installed_package_is_found_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "__file__", "/venv/lib/python3/site-packages/engine/__init__.py")

    assert module_environment({"A": "b"}) == {"A": "b"}
    assert module_environment({"PYTHONPATH": "/x"}) == {"PYTHONPATH": "/x"}
