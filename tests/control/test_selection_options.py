"""What is taken along: written as flags, variables or a file; and what cannot be meant."""

from __future__ import annotations

import pytest

from engine.errors import ConfigError
from engine.selection import EVERYTHING, Selection
from tests.control.conftest import URLS, Inputs


def test_everything_is_taken_along_by_default(inputs: Inputs) -> None:
    assert inputs.read().task.selection == EVERYTHING
    assert EVERYTHING.text == ""


def test_flags_make_a_selection(inputs: Inputs) -> None:
    flags = {
        "include_key": ["app:*", "app:[ab]?"],
        "exclude_key": ["app:\udcff*"],
        "databases": "3,0",
        "db_map": "3:1",
        "exclude_command": ["flushall", "PUBLISH"],
        "key_prefix_strip": "app:",
        "key_prefix_add": "new:",
    }

    selection = inputs.read({**URLS, **flags}).task.selection

    assert selection == Selection(
        include_keys=(b"app:*", b"app:[ab]?"),
        exclude_keys=(b"app:\xff*",),  # as the shell had it
        databases=frozenset({0, 3}),
        db_map=((3, 1),),
        exclude_commands=frozenset({"FLUSHALL", "PUBLISH"}),
        prefix_strip=b"app:",
        prefix_add=b"new:",
    )
    assert selection.text.startswith("--include-key 'app:*' --include-key 'app:[ab]?' ")


def test_a_file_and_variables_take_lists(inputs: Inputs) -> None:
    toml = 'include_key = ["a*", "b*"]\nexclude_command = "FLUSHDB"\ndatabases = 2\nexclude-key = ["z"]'

    selection = inputs.read(dict(URLS), toml, EXCLUDE_KEY='["x*", "[yz]*"]').task.selection

    assert selection.include_keys == (b"a*", b"b*")
    assert selection.exclude_keys == (b"x*", b"[yz]*")
    assert selection.exclude_commands == {"FLUSHDB"}
    assert selection.databases == {2}
    assert inputs.read(dict(URLS), INCLUDE_KEY="[ab]*").task.selection.include_keys == (b"[ab]*",)


@pytest.mark.parametrize(
    ("flags", "named", "remedy"),
    [
        ({"databases": "0,x"}, "--databases", "0,3"),
        ({"db_map": "0-5"}, "--db-map", "0:5,1:2"),
        ({"db_map": "0:5,0:6"}, "database 0 of the source twice", "one other"),
        ({"db_map": "1:5", "databases": "0"}, "which --databases leaves out", "add 1"),
        ({"exclude_command": ["multi"]}, "--exclude-command cannot be MULTI", "--databases"),
        ({"exclude_command": ["a b"]}, "--exclude-command", "a command's name"),
        ({"include_key": [""]}, "--include-key", "none of them empty"),
        ({"exclude_key": ["*"]}, "leaves nothing", "globs"),
        ({"include_key": ["a*"], "exclude_key": ["a*"]}, "both have", "one of them"),
        ({"key_prefix_add": "redis-ferry:x"}, "cannot begin with redis-ferry:", "another prefix"),
        ({"key_prefix_strip": "a:"}, "without --include-key", "--include-key 'a:*'"),
        ({"key_prefix_strip": "a:", "include_key": ["a:*", "b*"]}, "b'b*'", "--include-key 'a:*'"),
        ({"key_prefix_strip": "a:", "include_key": ["a*"]}, "b'a*'", "--include-key 'a:*'"),
        ({"key_prefix_strip": "ab", "include_key": ["a[b]*"]}, "a[b]*", "--include-key 'ab*'"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_named(
    inputs: Inputs, flags: dict[str, object], named: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        inputs.read({**URLS, **flags})

    assert named in caught.value.message
    assert remedy in caught.value.hint


@pytest.mark.parametrize("glob", ["a:*", "a:b?c*", "a:[xy]*", "a:", "a\\:x*"])
def test_a_prefix_may_be_stripped_where_every_name_has_it(inputs: Inputs, glob: str) -> None:
    flags = {**URLS, "key_prefix_strip": "a:", "include_key": [glob]}
    assert inputs.read(flags).task.selection.prefix_strip == b"a:"


def test_databases_that_share_one_are_found() -> None:
    assert not Selection(databases=frozenset({0, 1})).folds
    assert not Selection(db_map=((0, 1), (1, 0))).folds
    assert Selection(db_map=((0, 5),)).folds  # 5 keeps its number
    assert not Selection(databases=frozenset({0, 1}), db_map=((0, 5),)).folds
    assert Selection(databases=frozenset({0, 1}), db_map=((1, 0),)).folds
    assert Selection(db_map=((1, 0), (2, 0))).fold_of([0, 1, 2, 3]) == {0: [0, 1, 2]}


def test_a_long_selection_is_told_apart_by_its_digest() -> None:
    many = tuple(b"app:%d:*" % number for number in range(100))
    first, second = Selection(include_keys=many), Selection(include_keys=(*many, b"x"))
    assert len(first.text) <= 400
    assert first.text != second.text
