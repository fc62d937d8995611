"""Finding the file that a backup import names: below the operator's backup folder and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.service.refusals import BadParameter, NotConfiguredHere

SELF_BUILD = "self_build_obs"


def find_backup(backup_dir: Path | None, backup_files: dict[str, Any]) -> Path:
    """The one file of `backup_files`: `bucket_name` is a folder in the backup folder, `file_name` a path in it.

    Raises:
        NotConfiguredHere: no backup folder, or a kind of backup that is kept elsewhere.
        BadParameter: no file, several of them, or one that is not in the folder.
    """
    if backup_dir is None:
        raise NotConfiguredHere("this service has no backup folder (--backup-dir)")
    if backup_files.get("file_source") != SELF_BUILD or backup_files.get("backup_id"):
        raise NotConfiguredHere(
            "only files of the local backup folder (self_build_obs) can be imported"
        )
    files = backup_files.get("files") or []
    if len(files) != 1:
        raise BadParameter("backup_files.files", "one file at a time can be imported")
    root = backup_dir.resolve()
    path = root / str(backup_files.get("bucket_name") or "") / str(files[0]["file_name"])
    try:
        found = path.resolve()
        is_there = found.is_relative_to(root) and found.is_file()
    except (OSError, ValueError):
        is_there = False
    if not is_there:
        raise BadParameter("backup_files.files.file_name", "there is no such file")
    return found
