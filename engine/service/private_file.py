"""Whether a file with secrets is kept from others."""

from __future__ import annotations

import os
import stat


def can_others_read(status: os.stat_result) -> bool:
    """Whether anybody but this user (and the file's owner) may read or write it.

    A file of another owner that a group of ours may read is one that was handed to us: Kubernetes mounts secrets as root's,
    with the pod's fsGroup (mode 0440).
    """
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid() and status.st_gid in {os.getegid(), *os.getgroups()}:
        mode &= ~stat.S_IRGRP
    return bool(mode & 0o077)
