"""Finds the RDB in what the source sends after +FULLRESYNC, without a socket.

Two forms (replication.c, readSyncBulkPayload): `$<length>` and that many bytes, or `$EOF:<40 bytes>` and
bytes until the same 40 come again. What follows is stream. The mark may be split over any reads.
"""

from __future__ import annotations

from engine.errors import SourceProtocolError, SourceRefused

MARK_BYTES = 40
MAX_HEADER_BYTES = 64 * 1024


class RdbFraming:
    """Feed reads; get (RDB bytes, stream bytes). `is_complete` once the RDB's last byte has come.

    total_bytes: the RDB's size, 0 while unknown (diskless source). received_bytes: RDB bytes so far.
    keepalives: lone newlines before the RDB.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self.has_header = False
        self.total_bytes = 0
        self.received_bytes = 0
        self.keepalives = 0
        self._head = b""
        self._mark = b""
        self._held = b""

    @property
    def is_diskless(self) -> bool:
        """Whether the source sends the RDB with a mark at its end."""
        return bool(self._mark)

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take one read.

        Raises:
            SourceRefused: an error instead of the RDB. SourceProtocolError: no RDB begins here.
        """
        if not self.has_header:
            data = self._read_header(data)
            if not self.has_header:
                return b"", b""
        if self._mark:
            return self._feed_marked(data)
        wanted = self.total_bytes - self.received_bytes
        if len(data) < wanted:
            self.received_bytes += len(data)
            return data, b""
        self.received_bytes = self.total_bytes
        self.is_complete = True
        return data[:wanted], data[wanted:]

    def _read_header(self, data: bytes) -> bytes:
        data = self._head + data
        stripped = data.lstrip(b"\n")
        self.keepalives += len(data) - len(stripped)
        line, separator, rest = stripped.partition(b"\r\n")
        if not separator:
            if len(stripped) > MAX_HEADER_BYTES:
                raise SourceProtocolError("the source sent no RDB after +FULLRESYNC")
            self._head = stripped
            return b""
        self._head = b""
        if line.startswith(b"$EOF:") and len(line) == 5 + MARK_BYTES:
            self._mark = line[5:]
        elif line.startswith(b"$") and line[1:].isdigit():
            self.total_bytes = int(line[1:])
        elif line.startswith(b"-"):
            raise SourceRefused(
                f"the source refused a full resync: {line[1:].decode('utf-8', 'replace')}",
                hint="look at the source's log: PSYNC and SYNC may be closed, or its snapshot failed (memory, disk)",
            )
        else:
            raise SourceProtocolError(
                f"the source announced its RDB with {line[:120]!r}",
                hint="is the address that of a Redis server?",
            )
        self.has_header = True
        return rest

    def _feed_marked(self, data: bytes) -> tuple[bytes, bytes]:
        data = self._held + data
        at = data.find(self._mark)
        if at >= 0:
            self.received_bytes += at
            self.total_bytes = self.received_bytes
            self.is_complete = True
            self._held = b""
            return data[:at], data[at + MARK_BYTES :]
        # Only a tail that could be the mark's beginning is held back.
        held = 0
        for length in range(min(MARK_BYTES - 1, len(data)), 0, -1):
            if data.endswith(self._mark[:length]):
                held = length
                break
        self._held = data[len(data) - held :]
        data = data[: len(data) - held]
        self.received_bytes += len(data)
        return data, b""
