"""What earlier runs left on disk: checked, chosen, cut to what is whole. The rest is removed."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from engine.errors import InternalError
from engine.spool.files import SUFFIX, remove_file, segment_paths
from engine.spool.history import valid_replids
from engine.spool.segment import MAX_HEADER_BYTES, decode_header, find_records, wanted_bytes
from engine.spool.segment_queue import Segment

log = structlog.get_logger("engine.spool")

_BLOCK_BYTES = 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Scanned:
    """A segment with the part of it that is whole. torn_bytes: what follows that part in the file."""

    segment: Segment
    torn_bytes: int


def line_folder(directory: Path, line: str, run_name: str) -> Path:
    """The folder of a line's files.

    Raises:
        InternalError: a name that cannot be part of a file's name.
    """
    for name in (line, run_name):
        if not _NAME.fullmatch(name):
            raise InternalError(f"{name!r} cannot be part of a file's name")
    return directory / f"line-{line}"


def recover_segments(folder: Path) -> list[Segment]:
    """The segments in `folder` that hold one contiguous run of the stream, oldest first; maybe none.

    Other segment files are removed, and a torn end is cut off.
    """
    began = time.monotonic()
    paths = segment_paths(folder)
    scanned = [it for it in map(scan, paths) if it is not None]
    chosen = choose(scanned)
    kept = {it.segment.path for it in chosen}
    for path in paths:
        if path not in kept:
            remove_file(path)
    for it in chosen:
        if it.torn_bytes:
            _cut(it)
    segments = [it.segment for it in chosen]
    if paths:
        log.info(
            "spool.recovered",
            folder=str(folder),
            segments=len(segments),
            segments_removed=len(paths) - len(segments),
            bytes=segments[-1].end_offset - segments[0].header.base_offset if segments else 0,
            offset=segments[-1].end_offset if segments else None,
            seconds=round(time.monotonic() - began, 3),
        )
    return segments


def _cut(scanned: Scanned) -> None:
    segment = scanned.segment
    log.warning(
        "spool.torn_tail_cut",
        path=str(segment.path),
        bytes=scanned.torn_bytes,
        offset=segment.end_offset,
    )
    try:
        os.truncate(segment.path, segment.size_bytes)
    except OSError as error:  # what is torn is not read anyway
        log.warning("spool.file_stays", path=str(segment.path), error=error.strerror)


def scan(path: Path) -> Scanned | None:
    """Check a file at the speed of memory, a block at a time; None if it is no segment or unreadable."""
    try:
        with path.open("rb", buffering=0) as file:
            fd = file.fileno()
            size = os.fstat(fd).st_size
            header = decode_header(os.pread(fd, MAX_HEADER_BYTES, 0))
            if header is None or not header.histories:
                return None
            at = header.encoded_bytes
            segment = Segment(path, header, at, header.base_offset, header.created_ms, index=[])
            while (at := _scan_block(fd, segment)) > segment.size_bytes:
                segment.size_bytes = at
    except OSError as error:
        log.warning("spool.file_unreadable", path=str(path), error=error.strerror)
        return None
    return Scanned(segment, size - segment.size_bytes)


def _scan_block(fd: int, segment: Segment) -> int:
    """Add the records of the next block to `segment`; return where the next whole one would start."""
    at = segment.size_bytes
    block = os.pread(fd, _BLOCK_BYTES, at)
    if len(block) < (wanted := wanted_bytes(block)) and len(block) == _BLOCK_BYTES:
        left = os.fstat(fd).st_size - at
        if wanted <= left:
            block = os.pread(fd, wanted, at)
    records, used, _ = find_records(memoryview(block))
    if records:
        segment.index.append((records[0].offset, at))
    for it in records:
        if (
            it.offset != segment.end_offset
        ):  # whole, but another file's: a block of the disk gone astray
            return at + it.at - records[0].at
        segment.end_offset += it.length
        segment.last_received_ms = it.received_ms
    return at + used


def choose(scanned: Iterable[Scanned]) -> list[Scanned]:
    """The segments that are kept: of all contiguous runs the one that ends newest.

    But not one that comes after a damaged place in the same stream: the target's checkpoint is before that
    place or the files up to it would have been removed. And none if a snapshot before it has not been read.
    """
    scanned = list(scanned)
    runs = _contiguous_runs(it for it in scanned if it.segment.is_stream)
    runs = [run for run in runs if _start(run) < _end(run)]
    if not runs:
        return []
    chosen = max(runs, key=lambda run: (run[-1].segment.last_received_ms, _end(run)))
    while (before := _cut_run_before(chosen, runs)) is not None:
        chosen = before
    run_name = _run_name(chosen[-1].segment.path)
    awaits_snapshot = any(
        not it.segment.is_stream and _run_name(it.segment.path) == run_name for it in scanned
    )
    return [] if awaits_snapshot else chosen


def _start(run: Sequence[Scanned]) -> int:
    return run[0].segment.header.base_offset


def _end(run: Sequence[Scanned]) -> int:
    return run[-1].segment.end_offset


def _run_name(path: Path) -> str:
    return path.name.removesuffix(SUFFIX).rpartition("-")[0]


def _contiguous_runs(scanned: Iterable[Scanned]) -> list[list[Scanned]]:
    rest = sorted(
        scanned, key=lambda it: (it.segment.header.base_offset, it.segment.header.created_ms)
    )
    runs: list[list[Scanned]] = []
    while rest:
        run = [rest.pop(0)]
        while following := [it for it in rest if _follows(run[-1].segment, it.segment)]:
            # Two runs of a task may have received the same bytes; the file that reaches furthest is as good.
            run.append(
                max(following, key=lambda it: (it.segment.end_offset, it.segment.header.created_ms))
            )
            rest = [it for it in rest if it is not run[-1]]
        rest = [
            it
            for it in rest
            if it.segment.end_offset > _end(run) or not _is_same_stream(run[-1].segment, it.segment)
        ]
        runs.append(run)
    return runs


def _follows(one: Segment, other: Segment) -> bool:
    """Whether `other` goes on where `one` ends, or before that and further."""
    base, end = other.header.base_offset, one.end_offset
    goes_on = base <= end < other.end_offset or base == end == other.end_offset
    return goes_on and _is_same_stream(one, other)


def _is_same_stream(one: Segment, other: Segment) -> bool:
    """Whether both name the same history where the later one begins."""
    base = max(one.header.base_offset, other.header.base_offset)
    return bool(
        valid_replids(one.header.histories, base) & valid_replids(other.header.histories, base)
    )


def _cut_run_before(chosen: list[Scanned], runs: Iterable[list[Scanned]]) -> list[Scanned] | None:
    first = chosen[0].segment
    for run in runs:
        last = run[-1]
        if (
            last.torn_bytes
            and last.segment.end_offset < first.header.base_offset
            and last.segment.header.created_ms <= first.header.created_ms
            and _is_same_stream(last.segment, first)
        ):
            return run
    return None
