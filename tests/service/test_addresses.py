"""The addresses of an instance, as clients write them."""

from __future__ import annotations

import pytest

from engine.service.addresses import parse_addrs, show_addr
from engine.service.refusals import BadParameter


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:6379", [("127.0.0.1", 6379)]),
        (" a.example:1 , b.example:65535", [("a.example", 1), ("b.example", 65535)]),
        ("[::1]:6379", [("::1", 6379)]),
        ("redis_1:6379", [("redis_1", 6379)]),
        ("a:1,a:1", [("a", 1)]),
    ],
)
def test_addresses_are_read(text: str, expected: list[tuple[str, int]]) -> None:
    assert parse_addrs(text, name="addrs") == expected


@pytest.mark.parametrize(
    "text",
    [
        "", ",", "a", "a:", ":1", "a:0", "a:65536", "a:1,", "a:x", "a:١", "::1:6379", "[a]:1", "[::1]", "a b:1",
        "redis://a:1", "u@a:1", "a:1/0", "-a:1", "a:+1", "a\x00:1", "a:1," * 2000,
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_the_fields_name(text: str) -> None:
    with pytest.raises(BadParameter) as caught:
        parse_addrs(text, name="source_instance.addrs")

    assert caught.value.name == "source_instance.addrs"


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    assert [show_addr("::1", 1), show_addr("a", 2)] == ["[::1]:1", "a:2"]
    assert parse_addrs(show_addr("::1", 1), name="x") == [("::1", 1)]
