"""What servers answer, read: INFO, CONFIG, versions, rates; remedies as command lines."""

from __future__ import annotations

import gzip
import re
import shlex
from pathlib import Path

import pytest

from engine.endpoint import Endpoint, TlsSettings
from engine.preflight.asking import Refusal, info_of, keyspace_of, modules_of, version_of
from engine.preflight.facts import OutputBufferLimit
from engine.preflight.findings import redis_cli
from engine.preflight.gather import look_at_disk
from engine.preflight.rdb_versions import may_have_field_ttls, rdb_version_of
from engine.preflight.source_side import output_buffer_limit, write_rate

CORPUS = Path(__file__).parents[1] / "corpus" / "open"
DUMPS = sorted(CORPUS.glob("*/default.rdb.gz"))


@pytest.mark.parametrize("dump", DUMPS, ids=lambda it: it.parent.name)
def test_the_rdb_version_is_what_real_servers_write(dump: Path) -> None:
    product, version = re.fullmatch(r"([a-z]+)-(\d+\.\d+.*)", dump.parent.name).groups()
    numbers = [int(it) for it in re.findall(r"\d+", version)][:3]
    while len(numbers) < 3:
        numbers.append(0)
    magic = gzip.decompress(dump.read_bytes())[:9].decode()

    assert rdb_version_of(product, tuple(numbers)) == int(re.sub(r"\D", "", magic))


def test_the_corpus_has_dumps() -> None:
    assert len(DUMPS) > 15


REDIS_8 = frozenset({*range(22), 24, 25})
OLD = frozenset(range(22))


@pytest.mark.parametrize(
    ("product", "version", "may"),
    [
        ("redis", (7, 2, 6), False),
        ("redis", (7, 4, 0), True),
        ("redis", (8, 6, 3), True),
        ("valkey", (8, 1, 8), False),
        ("valkey", (9, 0, 0), True),
        ("redict", (7, 3, 6), False),
        ("keydb", (6, 3, 4), False),
        ("", (0, 0, 0), False),
    ],
)
def test_which_sources_may_have_fields_that_expire(
    product: str, version: tuple[int, int, int], may: bool
) -> None:
    assert may_have_field_ttls(product, version) == may


def test_info_is_read_with_keys_by_database() -> None:
    text = b"# Server\r\nredis_version:8.2.3\r\n\r\n# Keyspace\r\ndb0:keys=12,expires=3\r\ndb0_distrib_x:1=2\r\ndb10:keys=1\r\n"

    info = info_of(text)

    assert keyspace_of(info) == {0: 12, 10: 1}
    assert version_of(info) == ("redis", (8, 2, 3))
    assert info_of(Refusal("NOPERM")) == {}


@pytest.mark.parametrize(
    ("info", "found"),
    [
        ({"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "8.1.8"}, ("valkey", (8, 1, 8))),
        ({"redis_version": "6.3.4", "executable": "/usr/bin/keydb-server"}, ("keydb", (6, 3, 4))),
        ({"redis_version": "7.4.1-rc1"}, ("redis", (7, 4, 1))),
        ({"redis_version": "2.4"}, ("redis", (2, 4, 0))),
        ({}, ("", (0, 0, 0))),
    ],
)  # fmt: skip
def test_product_and_version(info: dict[str, str], found: tuple[str, tuple[int, ...]]) -> None:
    assert version_of(info) == found


def test_modules_are_named() -> None:
    reply = [[b"name", b"bf", b"ver", 2], [b"name", b"search", b"ver", 3, b"args", []]]

    assert modules_of(reply) == {"bf", "search"}
    assert modules_of(Refusal("unknown command 'MODULE'")) is None


def test_the_rate_is_the_streams_where_there_is_one_else_all_traffic() -> None:
    first = {"repl_backlog_active": "1", "master_repl_offset": "100", "total_net_input_bytes": "0"}
    later = first | {"master_repl_offset": "300", "total_net_input_bytes": "1000"}
    idle = {"repl_backlog_active": "0"}

    stream = write_rate(first, later, 2.0)
    traffic = write_rate(first | idle, later | idle, 2.0)

    assert (stream.bytes_per_second, stream.is_upper_bound) == (100.0, False)
    assert (traffic.bytes_per_second, traffic.is_upper_bound) == (500.0, True)
    assert write_rate({}, {}, 2.0) is None


@pytest.mark.parametrize("name", ["slave", "replica"])
def test_the_output_buffer_limit_of_replicas_is_found(name: str) -> None:
    text = f"normal 0 0 0 {name} 268435456 67108864 60 pubsub 33554432 8388608 60"

    found = output_buffer_limit(text)

    assert found == OutputBufferLimit(hard_bytes=268435456, soft_bytes=67108864, soft_seconds=60)
    assert output_buffer_limit("") is None


@pytest.mark.parametrize(
    ("endpoint", "options"),
    [
        (Endpoint(host="h", port=1), "-h h -p 1"),
        (Endpoint(unix_path="/run/r s.sock"), "-s '/run/r s.sock'"),
        (Endpoint(host="h", password="s3cret"), "-h h -p 6379 --askpass"),
        (Endpoint(host="h", username="ferry", password="s3cret"), "-h h -p 6379 --user default --askpass"),
        (Endpoint(host="h", tls=TlsSettings(ca_file=Path("ca.pem"))), "-h h -p 6379 --tls --cacert ca.pem"),
    ],
    ids=["tcp", "unix", "password", "user", "tls"],
)  # fmt: skip
def test_a_remedy_can_be_pasted_and_holds_no_password(endpoint: Endpoint, options: str) -> None:
    text = redis_cli(endpoint, "CONFIG", "SET", "x", "replica 0 0 0")

    assert text == f"redis-cli {options} CONFIG SET x 'replica 0 0 0'"
    assert shlex.split(text)[-1] == "replica 0 0 0"


def test_the_disk_is_looked_at_where_the_folder_would_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    there = look_at_disk(tmp_path / "not" / "yet", 1)
    blocked = look_at_disk(file / "task", 1)

    assert there.free_bytes
    assert not (tmp_path / "not").exists()
    assert blocked.free_bytes is None
    assert "not a folder" in blocked.error
