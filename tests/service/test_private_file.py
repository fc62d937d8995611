"""Secret files: this user's alone, or handed to us through a group."""

from __future__ import annotations

import os

import pytest

from engine.service.private_file import can_others_read

US, OTHER = os.geteuid(), os.geteuid() + 1
OUR_GROUP, OTHER_GROUP = os.getegid(), max([*os.getgroups(), os.getegid()]) + 1


@pytest.mark.parametrize(
    ("mode", "owner", "group", "readable"),
    [
        (0o600, US, OUR_GROUP, False),
        (0o400, US, OUR_GROUP, False),
        (0o640, US, OUR_GROUP, True),
        (0o604, US, OUR_GROUP, True),
        (0o440, OTHER, OUR_GROUP, False),  # as Kubernetes mounts a secret
        (0o444, OTHER, OUR_GROUP, True),
        (0o460, OTHER, OUR_GROUP, True),
        (0o440, OTHER, OTHER_GROUP, True),
    ],
)
def test_who_may_read(mode: int, owner: int, group: int, readable: bool) -> None:
    status = os.stat_result((0o100000 | mode, 0, 0, 1, owner, group, 0, 0, 0, 0))

    assert can_others_read(status) is readable
