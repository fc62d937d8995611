"""URLs in, endpoints or helpful refusals out; no refusal shows a password."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.endpoint import Endpoint, TlsSettings, parse_endpoint
from engine.errors import ConfigError

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("redis://h", Endpoint(host="h"), id="default-port"),
        pytest.param("redis://h/", Endpoint(host="h"), id="lone-slash"),
        pytest.param("redis://h:", Endpoint(host="h"), id="empty-port"),
        pytest.param(
            "REDIS://Host.Example:7000", Endpoint(host="host.example", port=7000), id="case"
        ),
        pytest.param("  redis://h:1\n", Endpoint(host="h", port=1), id="pasted-spaces"),
        pytest.param("redis://h:65535", Endpoint(host="h", port=65535), id="highest-port"),
        pytest.param("redis://[::1]:6380", Endpoint(host="::1", port=6380), id="ipv6"),
        pytest.param("redis://[2001:DB8::1]", Endpoint(host="2001:db8::1"), id="ipv6-default-port"),
        pytest.param("redis://[fe80::1%25eth0]", Endpoint(host="fe80::1%eth0"), id="ipv6-zone"),
        pytest.param("redis://:p@h", Endpoint(host="h", password="p"), id="password-only"),
        pytest.param("redis://u:p@h", Endpoint(host="h", username="u", password="p"), id="user"),
        pytest.param("redis://u@h", Endpoint(host="h", username="u"), id="user-only"),
        pytest.param(
            "redis://u:@h", Endpoint(host="h", username="u", password=""), id="nopass-user"
        ),
        pytest.param("redis://:@h", Endpoint(host="h"), id="no-login"),
        pytest.param(
            "redis://a%40b:p%3A%2F%25@h",
            Endpoint(host="h", username="a@b", password="p:/%"),
            id="encoded",
        ),
        pytest.param(
            "redis://u:a:b@h", Endpoint(host="h", username="u", password="a:b"), id="colon"
        ),
        pytest.param("redis://u:a@b@h", Endpoint(host="h", username="u", password="a@b"), id="at"),
        pytest.param(
            "redis://u:a+b@h", Endpoint(host="h", username="u", password="a+b"), id="plus"
        ),
        pytest.param("rediss://h", Endpoint(host="h", tls=TlsSettings()), id="tls"),
        pytest.param("unix:///run/r.sock", Endpoint(unix_path="/run/r.sock"), id="unix"),
        pytest.param(
            "unix://r.sock", Endpoint(unix_path=str(Path.cwd() / "r.sock")), id="unix-relative"
        ),
        pytest.param(
            "unix://u:p@/run/a%20b%40c",
            Endpoint(unix_path="/run/a b@c", username="u", password="p"),
            id="unix-login",
        ),
    ],
)
def test_url_is_read(url: str, expected: Endpoint) -> None:
    assert expected == parse_endpoint(url, role="source")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("redis://", "names no host", id="no-host"),
        pytest.param("redis://:6379", "names no host", id="only-port"),
        pytest.param(f"redis://:{SECRET}@", "names no host", id="login-no-host"),
        pytest.param("redis://h/0", "leave /0 out: redis://h", id="database"),
        pytest.param(f"redis://u:{SECRET}@h:1/3", "all databases are migrated", id="database-3"),
        pytest.param(f"redis://u:{SECRET}@h/x", "path after the host", id="path"),
        pytest.param(f"redis://:{SECRET}@h?db=0", "query string", id="query"),
        pytest.param("redis://h/?db=0", "path after the host", id="slash-query"),
        pytest.param("redis://h#x", "fragment", id="fragment"),
        pytest.param("redis://h:0", "1 to 65535", id="port-0"),
        pytest.param("redis://h:65536", "1 to 65535", id="port-high"),
        pytest.param(f"redis://h:{SECRET}", "1 to 65535", id="port-text"),
        pytest.param("redis://h:٣", "1 to 65535", id="port-arabic-digit"),
        pytest.param("redis://::1:6379", "brackets", id="ipv6-bare"),
        pytest.param("redis://[::1", "broken IPv6", id="ipv6-open"),
        pytest.param("redis://[::1]6379", "broken IPv6", id="ipv6-no-colon"),
        pytest.param("redis://[host]:1", "broken IPv6", id="ipv6-name"),
        pytest.param("redis://h|x", "no host name can have", id="host-character"),
        pytest.param(f"redis://u:{SECRET}/x@h", "%2F", id="slash-in-password"),
        pytest.param(f"redis://u:{SECRET}#x@h:1", "%23", id="hash-in-password"),
        pytest.param(f"redis://u:{SECRET}?@h:1", "%3F", id="question-in-password"),
        pytest.param(f"redis://u:{SECRET}%zz@h", "%25", id="stray-percent"),
        pytest.param(f"redis://u:{SECRET}%ff@h", "not UTF-8", id="not-utf8"),
        pytest.param(f"redis://u:{SECRET} x@h", "control character", id="space"),
        pytest.param("redis+sentinel://h", "the name that the Sentinels", id="sentinel-no-name"),
        pytest.param("redis-cluster://h", "not known here", id="cluster"),
        pytest.param("file:///x.rdb", "not supported in this version", id="file"),
        pytest.param(
            f"http://u:{SECRET}@h",
            "not redis://, rediss://, redis+sentinel:// or unix://",
            id="http",
        ),
        pytest.param(f"valkey://u:{SECRET}@h", "same URL with redis://", id="valkey"),
        pytest.param("redis+ssl://h", "same URL with rediss://", id="redis+ssl"),
        pytest.param(f"u:{SECRET}://h", "no scheme", id="odd-scheme"),
        pytest.param("h:7000", "write redis://h:7000", id="bare-host-port"),
        pytest.param("h", "write redis://h:6379", id="bare-host"),
        pytest.param(f"u:{SECRET}@h:7000", "write redis://user:password@h:7000", id="bare-login"),
        pytest.param("redis:7000", "write redis://redis:7000", id="bare-host-called-redis"),
        pytest.param("redis", "write redis://redis:6379", id="bare-redis"),
        pytest.param("redis:h:7000", "write redis://h:7000", id="no-slashes"),
        pytest.param("redis:/h:7000", "write redis://h:7000", id="one-slash"),
        pytest.param("/run/r.sock", "unix:///run/r.sock", id="bare-path"),
        pytest.param("unix://", "names no socket", id="unix-empty"),
        pytest.param(f"unix://:{SECRET}@", "names no socket", id="unix-login-only"),
        pytest.param("unix:///run/", "names no socket", id="unix-folder"),
        pytest.param("unix:///r.sock?db=1", "query string", id="unix-query"),
        pytest.param("unix:///" + "x" * 200, "more than 103 bytes", id="unix-long"),
    ],
)
@pytest.mark.parametrize("role", ["source", "target"])
def test_bad_url_is_refused_with_role_reason_and_remedy(url: str, says: str, role: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_endpoint(url, role=role)  # type: ignore[arg-type]

    assert says in str(caught.value)
    assert role in caught.value.message
    assert caught.value.hint
    assert SECRET not in str(caught.value)


def test_refusal_shows_a_right_example() -> None:
    with pytest.raises(ConfigError, match=r"redis://user:password@target.example:6379"):
        parse_endpoint("redis://", role="target")


@pytest.mark.parametrize("url", ["redis://h", "unix:///r.sock"])
def test_tls_options_need_a_tls_url(url: str) -> None:
    with pytest.raises(ConfigError, match=r"--target-tls-\* options have no meaning.*rediss://"):
        parse_endpoint(url, role="target", tls=TlsSettings(verify=False))


def test_tls_options_reach_the_endpoint() -> None:
    tls = TlsSettings(ca_file=Path("ca.pem"))

    assert tls == parse_endpoint("rediss://h", role="source", tls=tls).tls


def test_repr_holds_no_password() -> None:
    assert SECRET not in repr(parse_endpoint(f"redis://u:{SECRET}@h", role="source"))


@given(username=st.text(min_size=1), password=st.text(min_size=1))
def test_percent_encoded_login_comes_back(username: str, password: str) -> None:
    url = f"redis://{quote(username, safe='')}:{quote(password, safe='')}@h:1"

    endpoint = parse_endpoint(url, role="source")

    assert (username, password) == (endpoint.username, endpoint.password)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for url in (text, f"redis://{text}", f"redis://u:p@{text}", f"unix://{text}"):
        try:
            parse_endpoint(url, role="source")
        except ConfigError as error:
            assert error.hint  # noqa: PT017 - either outcome is right
