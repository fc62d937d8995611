"""Flags, variables and file merged: priorities, ranges, names."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest

from engine.control.choices import LogFormat, LogLevel, ProgressMode
from engine.control.state_folder import default_spool_dir
from engine.control.task_names import derive_task_id
from engine.endpoint import Endpoint, parse_endpoint
from engine.errors import ConfigError
from engine.settings import (
    GIB,
    MIB,
    ConflictPolicy,
    Method,
    ResumeMode,
    SpoolSettings,
    TaskSettings,
)
from tests.control.conftest import URLS, Inputs

SECRET = "s3cr3t"


def test_defaults_are_those_of_the_settings(inputs: Inputs) -> None:
    options = inputs.read()

    source, target = Endpoint(host="a"), Endpoint(host="b")
    task_id = derive_task_id(source, target)
    spool = SpoolSettings(directory=default_spool_dir(os.environ) / task_id)
    expected = TaskSettings(task_id=task_id, source=source, target=target, spool=spool)
    assert expected == options.task
    assert ProgressMode.AUTO is options.progress
    assert LogLevel.INFO is options.log_level
    assert LogFormat.TEXT is options.log_format
    assert options.warnings == ()


def test_flag_overrides_variable_overrides_file(inputs: Inputs) -> None:
    toml = 'method = "full"\nbandwidth_limit_mb = 1\nspool_memory_mb = 8\nresume_mode = "manual"'

    task = inputs.read(
        {**URLS, "bandwidth_limit_mb": "3"}, toml, BANDWIDTH_LIMIT_MB="2", SPOOL_MEMORY_MB="9"
    ).task

    assert task.bandwidth_limit_bytes_per_second == 3 * MIB
    assert task.spool.memory_bytes == 9 * MIB
    assert Method.FULL is task.method
    assert ResumeMode.MANUAL is task.resume_mode


def test_urls_come_from_any_place(inputs: Inputs) -> None:
    task = inputs.read({}, 'source = "redis://x"\ntarget = "redis://y"', TARGET="redis://z").task

    assert (task.source.address, task.target.address) == ("x:6379", "z:6379")


def test_every_option_can_stand_in_the_file_with_hyphens(inputs: Inputs) -> None:
    toml = """
    exit-when-synced = true
    on-conflict = "skip"
    task-id = "my.task_1"
    progress = "json"
    log-level = "debug"
    log-format = "json"
    """

    options = inputs.read(None, toml)

    assert options.task.exit_when_synced
    assert ConflictPolicy.SKIP is options.task.on_conflict
    assert options.task.task_id == "my.task_1"
    assert (
        options.progress,
        options.log_level,
        options.log_format,
    ) == (ProgressMode.JSON, LogLevel.DEBUG, LogFormat.JSON)


def test_config_file_can_be_named_by_a_variable(inputs: Inputs) -> None:
    path = inputs.file("x.toml", b'method = "full"')

    assert Method.FULL is inputs.read(CONFIG=path).task.method


def test_empty_variable_counts_as_not_set(inputs: Inputs) -> None:
    assert inputs.read(METHOD="", SOURCE_PASSWORD="").task.source.password is None


@pytest.mark.parametrize("text", ["true", "1", "yes", "on"])
def test_variable_switches_on(inputs: Inputs, text: str) -> None:
    assert inputs.read(EXIT_WHEN_SYNCED=text).task.exit_when_synced


@pytest.mark.parametrize(
    ("written", "nearest"),
    [
        pytest.param("bandwith_limit_mb = 1", "bandwidth_limit_mb", id="typo"),
        pytest.param("Method = 'full'", "method", id="case"),
        pytest.param("memory = 1", "spool_memory_mb", id="part"),
        pytest.param("zzz = 1", "", id="far-away"),
    ],
)
def test_unknown_key_names_the_nearest(inputs: Inputs, written: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown key .*did you mean \w+\?") as caught:
        inputs.read(None, written)

    assert nearest in caught.value.hint


@pytest.mark.parametrize(
    ("written", "nearest"),
    [
        pytest.param("BANDWITH_LIMIT_MB", "REDIS_FERRY_BANDWIDTH_LIMIT_MB", id="typo"),
        pytest.param("SOURCE_PASSWRD", "REDIS_FERRY_SOURCE_PASSWORD", id="password"),
        pytest.param("source", "REDIS_FERRY_SOURCE", id="case"),
    ],
)
def test_unknown_variable_names_the_nearest(inputs: Inputs, written: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match="unknown environment variable") as caught:
        inputs.read(**{written: SECRET})

    assert nearest in caught.value.hint
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["PORT", "SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT_8080_TCP_ADDR", "METRICS_SERVICE_HOST"],
)
def test_kubernetes_service_variables_are_ignored(inputs: Inputs, name: str) -> None:
    inputs.read(**{name: "tcp://10.0.0.1:8080"})


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        pytest.param("bandwidth_limit_mb", "0", "from 1 to 10240", id="bandwidth-low"),
        pytest.param("bandwidth_limit_mb", "10241", "from 1 to 10240", id="bandwidth-high"),
        pytest.param("bandwidth_limit_mb", "1.5", "from 1 to 10240", id="bandwidth-fraction"),
        pytest.param("bandwidth_limit_mb", "50MB", "from 1 to 10240", id="bandwidth-unit"),
        pytest.param("spool_memory_mb", "7", "from 8 to 65536", id="spool-low"),
        pytest.param("spool_memory_mb", "65537", "from 8 to 65536", id="spool-high"),
        pytest.param("method", "incr", "full or incremental", id="method"),
        pytest.param("on_conflict", "error", "replace, skip or fail", id="on-conflict"),
        pytest.param("resume_mode", "x", "auto or manual", id="resume-mode"),
        pytest.param("progress", "bar", "auto, plain, json or none", id="progress"),
        pytest.param("log_level", "INFO", "debug, info, warning or error", id="log-level"),
        pytest.param("log_format", "xml", "text or json", id="log-format"),
        pytest.param("task_id", "..", "1 to 64 letters", id="task-id-parent"),
        pytest.param("spool_tail_mb", "-1", "from 0 to 65536", id="tail-low"),
        pytest.param("spool_disk_gb", "x", "from 0 to 65536", id="disk-text"),
        pytest.param("delivery", "once", "exactly-once or at-least-once", id="delivery"),
        pytest.param("task_id", "a b", "1 to 64 letters", id="task-id-space"),
        pytest.param("task_id", "a\n", "1 to 64 letters", id="task-id-newline"),
        pytest.param("task_id", "a" * 65, "1 to 64 letters", id="task-id-long"),
        pytest.param("exit_when_synced", "maybe", "true or false", id="switch"),
    ],
)
@pytest.mark.parametrize("place", ["flag", "variable", "file"])
def test_wrong_value_is_named_with_its_place_and_range(
    inputs: Inputs, name: str, value: str, allowed: str, place: str
) -> None:
    flags = {**URLS, name: value} if place == "flag" else URLS
    variables = {name.upper(): value} if place == "variable" else {}
    toml = f"{name} = {json.dumps(value)}" if place == "file" else None

    with pytest.raises(ConfigError) as caught:
        inputs.read(flags, toml, **variables)

    error = caught.value
    expected = {
        "flag": f"--{name.replace('_', '-')} ",
        "variable": f"REDIS_FERRY_{name.upper()} ",
        "file": f"{name} in ",
    }[place]
    assert error.message.startswith(expected)
    assert repr(value)[1:20] in error.message
    assert allowed in error.hint


@pytest.mark.parametrize(
    "written",
    [
        pytest.param("bandwidth_limit_mb = true", id="bool-for-integer"),
        pytest.param("bandwidth_limit_mb = 8.0", id="float-for-integer"),
        pytest.param("exit_when_synced = 1", id="integer-for-bool"),
        pytest.param("method = 1", id="integer-for-text"),
        pytest.param("task_id = 1", id="integer-for-name"),
        pytest.param("source_password_file = 1", id="integer-for-path"),
        pytest.param("source = 1", id="integer-for-url"),
    ],
)
def test_wrong_type_in_the_file_is_refused(inputs: Inputs, written: str) -> None:
    with pytest.raises(ConfigError, match="cannot be") as caught:
        inputs.read({"target": "redis://b"}, written)

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"method = full", "not valid TOML.*line 1", id="no-quotes"),
        pytest.param(b"a = 1\na = 2", "not valid TOML", id="twice"),
        pytest.param(b"\xff", "not valid TOML", id="not-utf8"),
        pytest.param(b"task-id = 'a'\ntask_id = 'b'", "gives task_id twice", id="both-spellings"),
        pytest.param(b"source_password = 's3cr3t'", "source_password_file", id="password"),
    ],
)
def test_unusable_file_is_refused(inputs: Inputs, content: bytes, says: str) -> None:
    path = inputs.file("ferry.toml", content)

    with pytest.raises(ConfigError, match=says) as caught:
        inputs.read({**URLS, "config": path})

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "written",
    [
        pytest.param("[source]\nurl = 's3cr3t'", id="of-an-option"),
        pytest.param("[sync]\nsource = 's3cr3t'", id="of-a-command"),
        pytest.param("[source-tls]\nca = 's3cr3t'", id="of-several-options"),
        pytest.param("source.url = 's3cr3t'", id="dotted"),
        pytest.param("source = { url = 's3cr3t' }", id="in-line"),
        pytest.param("[[target]]\nurl = 's3cr3t'", id="list"),
    ],
)
def test_sections_are_refused_with_the_way_to_write_it(inputs: Inputs, written: str) -> None:
    with pytest.raises(
        ConfigError, match=r"has a section or a table, (source|sync|target)"
    ) as caught:
        inputs.read(None, written)

    assert "without sections" in caught.value.hint
    assert SECRET not in str(caught.value)


def test_exit_when_synced_has_no_effect_on_a_full_migration_and_says_so(inputs: Inputs) -> None:
    both = {**URLS, "method": "full", "exit_when_synced": True}

    (warning,) = inputs.read(both).warnings

    assert "--exit-when-synced has no effect with --method full" in warning
    assert inputs.read({**URLS, "exit_when_synced": True}).warnings == ()
    assert inputs.read({**URLS, "method": "full"}).warnings == ()


def test_missing_file_is_refused(inputs: Inputs) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the settings file.*No such file"):
        inputs.read({**URLS, "config": str(inputs.folder / "nowhere")})


def test_the_spool_is_in_the_tasks_own_folder(inputs: Inputs) -> None:
    given = {"spool_dir": "/var/spool/ferry", "spool_disk_gb": "5", "spool_tail_mb": "3"}
    spool = inputs.read({**URLS, **given, "task_id": "t1"}).task.spool

    assert spool.directory == Path("/var/spool/ferry/t1")
    assert (spool.disk_bytes, spool.tail_bytes) == (5 * GIB, 3 * MIB)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_STATE_HOME": "/state", "HOME": "/home/u"}, "/state/redis-ferry"),
        ({"HOME": "/tmp"}, "/tmp/.local/state/redis-ferry"),
        ({"HOME": "/nowhere"}, f"{tempfile.gettempdir()}/redis-ferry-{os.getuid()}"),
        ({}, f"{tempfile.gettempdir()}/redis-ferry-{os.getuid()}"),
    ],
    ids=["xdg", "home", "no-home", "nothing"],
)
def test_the_spool_has_a_folder_without_being_told(
    environment: dict[str, str], expected: str
) -> None:
    assert default_spool_dir(environment) == Path(expected)


@pytest.mark.parametrize("role", ["source", "target"])
def test_missing_url_is_named(inputs: Inputs, role: str) -> None:
    with pytest.raises(ConfigError, match=f"no {role} is given"):
        inputs.read({name: url for name, url in URLS.items() if name != role})


def test_same_server_twice_is_refused(inputs: Inputs) -> None:
    with pytest.raises(ConfigError, match="the same server"):
        inputs.read({"source": "redis://A:6379", "target": "redis://u:p@a"})


# Task names


def test_task_id_is_stable_readable_and_valid() -> None:
    source = parse_endpoint("redis://user:one@Old.Example", role="source")
    again = parse_endpoint("redis://user:two@old.example:6379", role="source")
    target = parse_endpoint("unix:///run/a%20b.sock", role="target")

    name = derive_task_id(source, target)

    assert name == derive_task_id(again, target)
    assert name.startswith("old.example-6379-to-run-a-b.sock-")
    assert name != derive_task_id(target, source)


@pytest.mark.parametrize(
    "url", [f"redis://{'h' * 200}", "redis://[::1]:1", "redis://bücher.example", "unix:///%C3%BC"]
)
def test_derived_task_id_may_be_given_back(inputs: Inputs, url: str) -> None:
    name = derive_task_id(parse_endpoint(url, role="source"), Endpoint(host="b"))

    assert name == inputs.read({**URLS, "task_id": name}).task.task_id


def test_a_sentinel_side_has_logins_of_its_own(inputs: Inputs) -> None:
    flags = {
        "source": "redis+sentinel://u:p@a:1,b/main",
        "target": "redis+sentinel://c/other",
        "source_sentinel_user": "w",
        "source_sentinel_password_file": inputs.file("watch.secret", b"watched\n"),
        "address_map": "10.0.0.5:6379=node:7001,10.0.0.6=node6",
    }
    task = inputs.read(flags, TARGET_SENTINEL_PASSWORD="other").task
    source, target = task.source, task.target
    assert source.sentinel is not None
    assert target.sentinel is not None
    assert (source.username, source.password) == ("u", "p")
    assert (source.sentinel.username, source.sentinel.password) == ("w", "watched")
    assert source.sentinel.addresses == (("a", 1), ("b", 26379))
    assert target.sentinel.password == "other"
    assert source.address_map == (("10.0.0.5:6379", "node:7001"), ("10.0.0.6", "node6"))
    assert "watched" not in str(task)


def test_sentinel_logins_without_sentinels_are_refused(inputs: Inputs) -> None:
    with pytest.raises(ConfigError, match="names no Sentinels"):
        inputs.read(URLS | {"source_sentinel_user": "w"})
