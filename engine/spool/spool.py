"""A line's spool from the first byte to the last: what earlier runs left, what later ones get."""

from __future__ import annotations

import time

import structlog

from engine.settings import SpoolSettings
from engine.spool.disk import shown_bytes
from engine.spool.queue import SpoolQueue
from engine.spool.recovery import line_folder, recover_segments

log = structlog.get_logger("engine.spool")


class Spool(SpoolQueue):
    """The queue (queue.py), and its files' life beyond the process."""

    @classmethod
    def recover(cls, settings: SpoolSettings, line: str, run_name: str) -> Spool:
        """A spool with the stream that earlier runs left on disk; empty if there is none to be used.

        Reading begins at the oldest byte held: `rewind` to the target's checkpoint if it `covers` that.
        Blocks for as long as it takes to check the files.
        """
        spool = cls(settings, line=line, run_name=run_name)
        if spool._spill is None or settings.directory is None:
            return spool
        segments = recover_segments(line_folder(settings.directory, line, run_name))
        if not segments:
            return spool
        first, last = segments[0].header, segments[-1]
        spool._generation = spool.first_generation = 1
        spool._history.adopt(last.header.histories, 1)
        spool._has_begun = spool._stream_began = True
        spool._stream_start = spool._released = first.base_offset
        spool.end_offset = last.end_offset
        spool.held_bytes = spool.recovered_bytes = last.end_offset - first.base_offset
        seconds_ago = time.time() - first.created_ms / 1000
        spool._oldest_seconds = time.monotonic() - max(0.0, seconds_ago)
        spool._spill.start_recovered(segments)
        spool._is_spilling = spool._is_attentive = True
        return spool

    async def persist(self) -> None:
        """For a graceful stop: all of the stream that is not released is on disk when this returns.

        A snapshot and the stream behind it are dropped. Nothing unreleased: no file is left. A disk that is
        full keeps what it can.
        """
        spill = self._spill
        if spill is None:
            return
        disk = spill.disk
        if not self._has_begun or self._has_unread_snapshot or self._released >= self.end_offset:
            self._drop()
            await disk.idle()
            return
        self._is_persisting = True
        try:
            if not self._is_spilling:
                self._start_spilling()
            await disk.idle()
            if disk.unwritten:
                log.warning("spool.not_all_kept", why=disk.blocked, offset=disk.queue.end_offset)
                return
            known = self._history.known_to(self._generation)
            if (
                disk.queue.segments
                and disk.queue.segments[-1].header.histories[-1][0] != known[-1][0]
            ):
                disk.write_mark(self.end_offset, self._generation)
                await disk.idle()
        finally:
            self._is_persisting = False

    def discard(self) -> None:
        """Forget all that is held, and take what another link brings: `begin_snapshot` or `begin_stream` comes first."""
        self._drop()
        self.reopen()

    def delete(self) -> None:
        """Drop all that is held; remove the files of every run of this line and the folders that are empty then."""
        if self._spill is not None:
            self._spill.disk.delete()
        self._drop()

    async def close(self) -> None:
        """End the thread; the files stay. Nothing is written or read from disk any more."""
        if self._spill is not None:
            await self._spill.disk.close()

    @property
    def blocked(self) -> str | None:
        """Why the link may not read; None while it may."""
        if not self._gate.is_shut:
            return None
        if self._spill is None:
            return (
                f"spool full: {shown_bytes(self.held_bytes)} of "
                f"{shown_bytes(self._settings.memory_bytes)} in memory"
            )
        return (
            self._spill.disk.blocked
            or f"disk slow: {shown_bytes(self.memory_bytes_held)} in memory wait for it"
        )

    @property
    def disk_bytes(self) -> int:
        """Size of the files."""
        return 0 if self._spill is None else self._spill.disk.queue.used_bytes

    @property
    def spilled_bytes(self) -> int:
        """Bytes ever written to disk."""
        return 0 if self._spill is None else self._spill.disk.spilled_bytes

    @property
    def pauses(self) -> int:
        """How often the link was told to stop reading."""
        return self._gate.shuts
