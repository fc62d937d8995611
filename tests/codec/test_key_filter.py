"""Globs fit the names that a real server says they fit; compiled and interpreted alike."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from engine.codec.key_filter import KeyFilter
from engine.selection import literal_of
from tests.codec.interpreted_form import interpreted_imports
from tests.fix_servers import SERVER_NAMES, StartServer

with interpreted_imports():
    from engine.codec.key_filter import KeyFilter as InterpretedKeyFilter

PIECES = [
    b"a", b"b", b"c", b"ab", b":", b"-", b"]", b"^", b"\\", b"*", b"**", b"?", b"[", b"[ab]", b"[^a]", b"[a-c]", b"[c-a]",
    b"[\\]]", b"\\*", b"\\", b"[]", b"[^]", b"[\x01-\xfe]", b"\xff", b"\x00", b"[a-", b"[^", b"app:",
]  # fmt: skip
globs = st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join)
names = st.lists(
    st.one_of(
        st.lists(st.sampled_from([b"a", b"b", b"c", b":", b"*", b"]", b"^", b"\\", b"-", b"\xff"]), max_size=6),
        st.lists(st.sampled_from(PIECES), max_size=4),
    ).map(b"".join),
    min_size=1,
    max_size=8,
    unique=True,
)  # fmt: skip


@pytest.mark.parametrize("server", SERVER_NAMES)
def test_a_glob_fits_what_the_server_says(server: str, start_server: StartServer) -> None:
    client: Redis = Redis(port=start_server(server).port)

    @settings(
        max_examples=400,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(names, globs)
    def check(names: list[bytes], glob: bytes) -> None:
        pipe = client.pipeline()
        pipe.flushdb()
        pipe.mset(dict.fromkeys(names, b"1"))
        pipe.keys(glob)
        pipe.scan(0, match=glob, count=1000)
        _, _, keys, (cursor, scanned) = pipe.execute()
        assert cursor == 0
        assert set(keys) == set(scanned)
        for form in (KeyFilter, InterpretedKeyFilter):
            ours = {it for it in names if form([glob], []).takes_name(it)}
            # The servers' patterns are C strings where they look behind the end of one.
            assert ours == set(keys), (form, glob)

    with client:
        check()


@pytest.mark.parametrize(
    ("glob", "literal"),
    [
        (b"app:*", (b"app:", True)),
        (b"app:**", (b"app:", True)),
        (b"app:1", (b"app:1", False)),
        (b"a\\*b*", (b"a*b", True)),
        (b"*", (b"", True)),
        (b"**", None),
        (b"a?*", None),
        (b"a[b]*", None),
        (b"a*b", None),
        (b"a\\", (b"a\\", False)),
        (b"", (b"", False)),
    ],
)
def test_beginnings_and_whole_names_are_compared_at_once(
    glob: bytes, literal: tuple[bytes, bool] | None
) -> None:
    assert literal_of(glob) == literal


def test_a_key_goes_if_one_glob_includes_it_and_none_excludes_it() -> None:
    chosen = KeyFilter([b"app:*", b"user:?"], [b"*:tmp", b"app:x*"])
    names = [b"app:1", b"app:tmp", b"app:x1", b"user:1", b"user:12", b"other"]
    assert [it for it in names if chosen.takes_name(it)] == [b"app:1", b"user:1"]
    assert all(KeyFilter([], []).takes_name(it) for it in names)
    assert not KeyFilter([], [b"*"]).takes_name(b"")


def test_stars_cost_no_more_than_their_number_times_the_name() -> None:
    """Not exponential: a second and more for each name, were it tried in every way."""
    hostile = KeyFilter([b"*a" * 40 + b"b"], [])
    assert not any(hostile.takes_name(b"a" * 4000) for _ in range(20))
