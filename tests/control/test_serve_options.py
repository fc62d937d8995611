"""The options of `serve`: what is refused before anything is listened on."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from engine.control.serve_options import ServeOptions, read_serve_options
from engine.errors import ConfigError
from engine.settings import GIB, MIB
from tests.control import command_line

TOKEN = '[[tokens]]\ntoken = "a-token-of-24-characters"\nproject_id = "p"\n'


def read(folder: Path, /, **flags: Any) -> ServeOptions:
    environment = flags.pop("environment", {})
    return read_serve_options({"state_dir": str(folder / "state"), **flags}, environment)


def written(folder: Path, name: str, text: str, mode: int = 0o600) -> str:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_the_defaults_are_loopback_and_a_key_for_this_user_alone(tmp_path: Path) -> None:
    options = read(tmp_path)

    assert (options.host, options.port, options.auth) == ("127.0.0.1", 8000, None)
    assert options.database_url == f"sqlite+aiosqlite:///{tmp_path}/state/service.db"
    assert stat.S_IMODE((tmp_path / "state" / "secret.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert options.seal.open(read(tmp_path).seal.close("secret")) == "secret"


def test_flags_override_variables_and_these_the_file(tmp_path: Path) -> None:
    config = written(
        tmp_path, "serve.toml", 'listen = "127.0.0.1:1"\nspool-memory-mb = 9\nspool-disk-gb = 3\n'
    )
    variables = {"REDIS_FERRY_SERVE_SPOOL_MEMORY_MB": "10", "REDIS_FERRY_SERVE_LISTEN": "[::1]:2"}

    options = read(tmp_path, config=config, listen="localhost:3", environment=variables)

    assert (options.host, options.port) == ("localhost", 3)
    assert (options.spool.memory_bytes, options.spool.disk_bytes) == (10 * MIB, 3 * GIB)


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "example.org:1", "[::]:1", "192.0.2.1:1"])
def test_without_authentication_only_loopback_is_listened_on(tmp_path: Path, listen: str) -> None:
    with pytest.raises(ConfigError, match="nobody has to authenticate"):
        read(tmp_path, listen=listen)

    options = read(tmp_path, listen=listen, auth_file=written(tmp_path, "auth.toml", TOKEN))
    assert "unencrypted" in options.warnings[0]


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        (TOKEN, 0o644, "can be read by others"),
        ("", 0o600, "lets nobody in"),
        ("nonsense", 0o600, "not valid TOML"),
        ("[[tokens]]\ntoken = 'short'\n", 0o600, "number 1 of .* needs token"),
        (TOKEN + "role = 'king'\n", 0o600, "role of .* cannot be 'king'"),
        (TOKEN + "expires_at = 'soon'\n", 0o600, "expires_at of .* wrong type"),
        (TOKEN + "more = 1\n", 0o600, "unknown key more"),
        ("[[keys]]\naccess = 'a'\nsecret = 'short'\n", 0o600, "needs secret"),
        ("tokens = 1\n", 0o600, "is no list"),
        ("[other]\n", 0o600, "unknown key other"),
        ("[keystone]\n", 0o600, "needs url"),
        ("[keystone]\nurl = 'ftp://x'\n", 0o600, "cannot be used"),
        ("[keystone]\nurl = 'http://x/v3'\nusername = 'u'\n", 0o600, "no password"),
        ("[keystone]\nurl = 'http://x/v3'\nroles = 'admin'\n", 0o600, "not a list"),
    ],
)
def test_an_authentication_file_that_is_none(
    tmp_path: Path, text: str, mode: int, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        read(tmp_path, auth_file=written(tmp_path, "auth.toml", text, mode))

    assert "a-token-of-24-characters" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"listen": "8000"}, "write host:port"),
        ({"listen": "127.0.0.1:99999"}, "write host:port"),
        ({"auth_file": "absent"}, "cannot read the authentication file"),
        ({"tls_cert": "a"}, "belong together"),
        ({"tls_cert": "a", "tls_key": "b"}, "cannot read a"),
        ({"backup_dir": "absent"}, "is not there"),
        ({"exchange_webhook": "ftp://x"}, "no http"),
        ({"exchange_webhook": "http://x", "exchange_command": "true"}, "exclude each other"),
        ({"exchange_command": "'"}, "cannot be read"),
        ({"spool_memory_mb": "7"}, "--spool-memory-mb .* greater than or equal to 8"),
        ({"request_timeout_seconds": "0"}, "--request-timeout-seconds"),
        ({"log_level": "loud"}, "--log-level"),
        ({"instances": "absent"}, "cannot read the instances file"),
        ({"environment": {"REDIS_FERRY_SERVE_LISTN": "x"}}, "did you mean REDIS_FERRY_SERVE_LISTEN"),
        ({"environment": {"REDIS_FERRY_SERVE_SECRET_KEY": "x"}}, "the secret key is not one"),
    ],
)  # fmt: skip
def test_options_that_cannot_be(tmp_path: Path, flags: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        read(tmp_path, **flags)


def test_a_settings_file_has_no_secret_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="secret_key does not belong"):
        read(tmp_path, config=written(tmp_path, "serve.toml", 'secret_key = "x"\n'))


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    read(tmp_path)
    (tmp_path / "state" / "secret.key").chmod(0o640)

    with pytest.raises(ConfigError, match="can be read by others"):
        read(tmp_path)


def test_the_command_ends_with_2_and_a_hint(tmp_path: Path) -> None:
    ended = command_line.run("serve", "--listen", "0.0.0.0:0", "--state-dir", str(tmp_path))

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "error: nobody has to authenticate" in ended.stderr
    assert "hint: give --auth-file" in ended.stderr


def test_variables_of_serve_and_task_do_not_disturb_sync() -> None:
    ended = command_line.run(
        "sync", "redis://127.0.0.1:1", "redis://127.0.0.1:2",
        REDIS_FERRY_SERVE_LISTEN="x", REDIS_FERRY_API_TOKEN="x",
    )  # fmt: skip

    assert ended.returncode == 3
