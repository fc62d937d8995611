"""The connection that makes us a replica of one source shard.

It drives the handshake, frames the RDB, and puts every byte into the spool with the moment it came. It knows
neither the target nor whether to try again. Times of silence and acknowledgements are the caller's
(`seconds_silent`, `acknowledge`).
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import cast

import structlog

from engine.codec.command_text import encode
from engine.connect import connect_hint, open_connection
from engine.endpoint import Endpoint
from engine.errors import (
    EngineError,
    SourceLinkLost,
    SourceNotReady,
    SourceProtocolError,
    SourceUnreachable,
)
from engine.position import Position
from engine.settings import SourceSettings
from engine.source.handshake import FullResync, Handshake, PartialResync, Verdict
from engine.source.rdb_framing import RdbFraming
from engine.spool.chunk import Section
from engine.spool.spool import Spool

log = structlog.get_logger("engine.source")

MAX_LINE_BYTES = 64 * 1024
# Bytes that may have waited longer in this machine's socket buffer count as late (see replay/settlement.py).
LATE_SECONDS = 0.02
# How often the link looks whether the process runs: one that stood still (SIGSTOP, a paused machine, no CPU to be had)
# finds in the socket what has waited there as long.
PULSE_SECONDS = 0.1


class ReplicaLink(asyncio.Protocol):
    """One replication connection, filling a spool that outlives it.

    read_offset: stream offset of the last byte received. framing: the RDB on its way, None in a partial
    resync. is_late: what comes now may have waited at the source (behind the snapshot, through a lost connection,
    while we did not read); `note_source_offset` ends it. ended: done with the error that ended the link.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: SourceSettings,
        spool: Spool,
        on_verdict: Callable[[Verdict], None],
    ) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._spool = spool
        self._on_verdict = on_verdict
        self._transport: asyncio.Transport | None = None
        self._handshake: Handshake | None = None
        self._resume_from: Position | None = None
        self._lines = b""
        self._is_stopped = False
        self._heard_at = time.monotonic()
        self._pulse_due = self._heard_at + PULSE_SECONDS
        self._pulse: asyncio.TimerHandle | None = None
        self._stood_still = False  # at the last pulse
        self._verdict: asyncio.Future[Verdict] | None = None
        self.ended: asyncio.Future[EngineError] = asyncio.get_running_loop().create_future()
        self.framing: RdbFraming | None = None
        self.is_late = True
        self._delay_seconds = 0.0
        self.acknowledges = True  # not with a source older than PSYNC
        self.read_offset = 0
        self._snapshot_offset = -1
        self.received_bytes = 0

    @classmethod
    async def open(
        cls,
        endpoint: Endpoint,
        settings: SourceSettings,
        spool: Spool,
        *,
        resume_from: Position | None,
        on_verdict: Callable[[Verdict], None],
    ) -> tuple[ReplicaLink, Verdict]:
        """Connect, shake hands, and return the link with the source's verdict.

        With the verdict the spool is made ready for what follows: emptied for a snapshot, or going on where
        it ends for a stream. on_verdict is called then and there, before a byte of it comes.

        Raises:
            SourceUnreachable, SourceAuthError, SourceRefused, SourceNotReady, SourceProtocolError.
        """
        link = cls(endpoint, settings, spool, on_verdict)
        link._resume_from = resume_from
        try:
            await open_connection(
                endpoint, lambda: link, timeout_seconds=settings.connect_timeout_seconds
            )
        except TimeoutError as error:
            raise SourceUnreachable(
                f"no answer from the source {endpoint.address} within {settings.connect_timeout_seconds:g} s",
                hint=connect_hint(endpoint, "source", "timeout"),
            ) from error
        except (OSError, ssl.SSLError) as error:
            raise SourceUnreachable(
                f"cannot connect to the source {endpoint.address}: {error}",
                hint=connect_hint(endpoint, "source", str(error)),
            ) from error
        try:
            verdict = await link._shake_hands(resume_from)
        except BaseException:
            link.close()
            raise
        return link, verdict

    async def _shake_hands(self, resume_from: Position | None) -> Verdict:
        assert self._transport is not None
        local = self._transport.get_extra_info("sockname")
        is_tcp = isinstance(local, tuple) and len(local) >= 2
        handshake = Handshake(
            address=self._endpoint.address,
            username=self._endpoint.username,
            password=self._endpoint.password,
            listening_port=local[1] if is_tcp else 0,
            ip_address=local[0] if is_tcp else None,
            resume_from=resume_from,
        )
        self._verdict = asyncio.get_running_loop().create_future()
        self._handshake = handshake
        self._transport.write(handshake.start())
        while not self._verdict.done():
            quiet = self._settings.handshake_timeout_seconds - self.seconds_silent
            if quiet <= 0:
                raise SourceNotReady(
                    f"the source {self._endpoint.address} did not answer {handshake.step} within "
                    f"{self._settings.handshake_timeout_seconds:g} s"
                )
            await asyncio.wait((self._verdict,), timeout=quiet)
        return self._verdict.result()

    @property
    def seconds_silent(self) -> float:
        """Seconds since the last byte came. A link whose reading is paused is not silent."""
        return time.monotonic() - self._heard_at

    @property
    def _usable(self) -> asyncio.Transport | None:
        """The transport while it may be asked for anything; a closed one of uvloop's refuses any question."""
        transport = self._transport
        return None if transport is None or transport.is_closing() else transport

    @property
    def is_reading(self) -> bool:
        """Whether bytes are being taken from the source (not while the spool is full)."""
        transport = self._usable
        return transport is not None and transport.is_reading()

    @property
    def awaits_stream(self) -> bool:
        """Whether a diskless source has sent its whole RDB and nothing of the stream yet."""
        framing = self.framing
        return (
            framing is not None
            and framing.is_diskless
            and framing.is_complete
            and self.read_offset == self._snapshot_offset
        )

    def acknowledge(self, offset: int) -> None:
        """Tell the source that the target has everything up to `offset` (replicationSendAck)."""
        self._write(encode("REPLCONF", "ACK", offset))

    def keep_alive(self) -> None:
        """A sign of life while the RDB comes in (replicationSendNewlineToMaster)."""
        self._write(b"\n")

    def stop_reading(self) -> None:
        """Take no more from the source; what is in the spool stays."""
        self._is_stopped = True
        self._pause_reading()

    def close(self) -> None:
        """Close the connection. What comes now is dropped, and `ended` says nothing about it."""
        self._is_stopped = True
        if not self.ended.done():
            self.ended.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        transport = self._usable
        if transport is not None:
            transport.write(data)

    def note_source_offset(self, offset: int) -> None:
        """The source says it has written up to `offset`; if we have that, nothing waits there any more."""
        if self.is_late and self.is_reading and 0 <= offset <= self.read_offset:
            self.is_late = False

    def _pause_reading(self) -> None:
        self.is_late = True
        transport = self._usable
        if transport is not None and transport.is_reading():
            transport.pause_reading()

    def _resume_reading(self) -> None:
        self._heard_at = time.monotonic()
        transport = self._usable
        if transport is not None and not self._is_stopped and not transport.is_reading():
            transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)
        self._feel_pulse()

    def _feel_pulse(self) -> None:
        now = time.monotonic()
        self._stood_still = now - self._pulse_due > LATE_SECONDS
        self._pulse_due = now + PULSE_SECONDS
        self._pulse = asyncio.get_running_loop().call_later(PULSE_SECONDS, self._feel_pulse)

    def _standstill_seconds(self, now: float) -> float:
        """How long the process may have stood still before `now`: the pulse that was due, or the last one, was late."""
        if self._stood_still:
            return PULSE_SECONDS + LATE_SECONDS
        return now - self._pulse_due if now - self._pulse_due > LATE_SECONDS else 0.0

    def data_received(self, data: bytes) -> None:
        """Take one read: handshake lines first, then the RDB and the stream."""
        if self.ended.done():
            return
        heard_at, self._heard_at = self._heard_at, time.monotonic()
        self._delay_seconds = max(
            self._spool.delay_bound_seconds(self._heard_at, heard_at),
            self._standstill_seconds(self._heard_at),
        )
        self.received_bytes += len(data)
        try:
            if self._handshake is not None:
                data = self._receive_lines(data)
            if data:
                self._receive_payload(data)
        except EngineError as error:
            self.fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the link."""
        if self._pulse is not None:
            self._pulse.cancel()
        why = str(exc) if exc is not None else "the source closed it"
        if self._handshake is not None and not self.received_bytes:
            # Not a word: a port that speaks TLS, or asks for a client certificate, does this.
            self.fail(
                SourceUnreachable(
                    f"the source {self._endpoint.address} did not answer {self._handshake.step}: {why}",
                    hint=connect_hint(self._endpoint, "source", why),
                )
            )
            return
        where = f" during {self._handshake.step}" if self._handshake is not None else ""
        self.fail(
            SourceLinkLost(
                f"the connection to the source {self._endpoint.address} was lost{where}: {why}"
            )
        )

    def fail(self, error: EngineError) -> None:
        """End the link with `error`."""
        if self._verdict is not None and not self._verdict.done():
            self._verdict.set_exception(error)
        if not self.ended.done():
            self.ended.set_result(error)
        if self._transport is not None:
            self._transport.abort()

    def _receive_lines(self, data: bytes) -> bytes:
        """Feed the handshake; return what lies behind its last line."""
        handshake = self._handshake
        assert handshake is not None
        assert self._verdict is not None
        self._lines += data
        while handshake.verdict is None:
            line, separator, rest = self._lines.partition(b"\n")
            if not separator:
                if len(self._lines) > MAX_LINE_BYTES:
                    raise SourceProtocolError("the source sent a handshake line without an end")
                return b""
            self._lines = rest
            answer = handshake.receive_line(line.rstrip(b"\r"))
            if answer:
                self._write(answer)
        self._handshake = None
        self._begin(handshake.verdict)
        self._verdict.set_result(handshake.verdict)
        data, self._lines = self._lines, b""
        return data

    def _begin(self, verdict: Verdict) -> None:
        if isinstance(verdict, FullResync):
            self.framing = RdbFraming()
            self.read_offset = self._snapshot_offset = verdict.position.offset
            self.acknowledges = bool(verdict.position.replid)
            self._spool.begin_snapshot(verdict.position)
        else:
            assert self._resume_from is not None
            self.read_offset = self._resume_from.offset
            self._spool.begin_stream(
                Position(verdict.replid, self.read_offset), asked=self._resume_from
            )
        self._on_verdict(verdict)
        self._spool.attach(self._pause_reading, self._resume_reading)

    def _receive_payload(self, data: bytes) -> None:
        now = self._heard_at
        now_ms = int(time.time() * 1000)
        framing = self.framing
        if framing is not None and not framing.is_complete:
            rdb, data = framing.feed(data)
            if rdb:
                self._spool.put(Section.SNAPSHOT, rdb, received_seconds=now, received_ms=now_ms)
            if framing.is_complete:
                if self.acknowledges:
                    # A diskless source starts the stream only after the first acknowledgement.
                    self.acknowledge(self.read_offset)
                self._spool.put(Section.STREAM, b"", received_seconds=now, received_ms=now_ms)
        if data:
            self.read_offset += len(data)
            is_late = self.is_late or self._delay_seconds > LATE_SECONDS
            self._spool.put(
                Section.STREAM,
                data,
                received_seconds=now,
                received_ms=now_ms,
                is_late=is_late,
            )


__all__ = ["FullResync", "PartialResync", "ReplicaLink", "Verdict"]
