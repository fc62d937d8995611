"""The pipelined connection to one target shard: blocks out, replies counted, in order.

`send` returns at once while there is room; `wait_for_room` and `drain` wait. Blocks are kept until the
target has confirmed them, so an error can be traced to its command and a lost connection leaves a list of
what is unconfirmed.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Self, cast

from engine.codec.block import Block
from engine.codec.command_text import encode
from engine.codec.replies import ReplySkimmer
from engine.connect import connect_hint, open_connection
from engine.endpoint import Endpoint
from engine.errors import (
    CheckpointMoved,
    EngineError,
    TargetLinkLost,
    TargetRejected,
    TargetUnreachable,
)
from engine.settings import TargetSettings
from engine.target.replies import (
    ReplyPolicy,
    auth_error,
    is_about_missing_key,
    is_done_already,
    is_failure_of_the_source,
    is_settled_part,
    is_unloadable,
    place_of,
    raise_if_not_ready,
    rejected,
)

SEND_BUFFER_BYTES = 1024 * 1024


class ShardLink(asyncio.Protocol):
    """One connection.

    on_confirmed is called with each block whose replies have all come, in order; on_failed once, when the
    connection ends otherwise than by `close`.

    scripts_failed: scripts of the stream that ended with an error, as they did at the source. on_missing: what to do
    about a command of the stream whose key is gone, called with its database and arguments; None: it is an error.
    on_part_error: whether an error to a command of the snapshot is one that a big value may meet (part_blocks.py).
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: TargetSettings,
        *,
        policy: ReplyPolicy,
        on_confirmed: Callable[[Block], None],
        on_failed: Callable[[EngineError], None],
    ) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._policy = policy
        self._on_confirmed = on_confirmed
        self._on_failed = on_failed
        self._transport: asyncio.Transport | None = None
        self._skimmer = ReplySkimmer()
        self._inflight: deque[Block] = deque()
        self._due = 0  # replies still due for the oldest block
        self._reply_base = 0  # number of the oldest block's first reply
        self._waiter: asyncio.Future[None] | None = None
        self._is_write_paused = False
        self._is_closed = False
        self._heard_at = time.monotonic()
        self.error: EngineError | None = None
        self.inflight_bytes = 0
        self.scripts_failed = 0
        self.on_missing: Callable[[int, list[bytes]], None] | None = None
        self.on_unloadable: Callable[[int, list[bytes]], None] | None = None
        self.on_part_error: Callable[[list[bytes], str], bool] | None = None

    @classmethod
    async def open(
        cls,
        endpoint: Endpoint,
        settings: TargetSettings,
        *,
        client_name: str,
        policy: ReplyPolicy,
        on_confirmed: Callable[[Block], None],
        on_failed: Callable[[EngineError], None],
    ) -> Self:
        """Connect, authenticate and name the connection.

        Raises:
            TargetUnreachable, TargetAuthError.
        """
        link = cls(
            endpoint, settings, policy=policy, on_confirmed=on_confirmed, on_failed=on_failed
        )
        try:
            await open_connection(
                endpoint, lambda: link, timeout_seconds=settings.connect_timeout_seconds
            )
        except TimeoutError as error:
            raise TargetUnreachable(
                f"no answer from the target {endpoint.address} within {settings.connect_timeout_seconds:g} s",
                hint=connect_hint(endpoint, "target", "timeout"),
            ) from error
        except (OSError, ssl.SSLError) as error:
            raise TargetUnreachable(
                f"cannot connect to the target {endpoint.address}: {error}",
                hint=connect_hint(endpoint, "target", str(error)),
            ) from error
        try:
            async with asyncio.timeout(settings.connect_timeout_seconds):
                await link._log_in(client_name)
        except TimeoutError as error:
            link.close()
            raise TargetUnreachable(
                f"the target {endpoint.address} accepts connections but does not answer"
            ) from error
        except BaseException:
            link.close()
            raise
        return link

    async def _log_in(self, client_name: str) -> None:
        endpoint = self._endpoint
        if endpoint.password is not None:
            user = [] if endpoint.username is None else [endpoint.username]
            self.send(Block(data=encode("AUTH", *user, endpoint.password), replies=1))
            try:
                await self.drain()
            except TargetRejected as error:
                raise auth_error(endpoint, error.reply) from None
        self.send(Block(data=encode("CLIENT", "SETNAME", client_name), replies=1))
        try:
            await self.drain()
        except TargetRejected as error:
            raise auth_error(endpoint, error.reply) from None

    @property
    def blocks_inflight(self) -> int:
        """Blocks sent and not yet confirmed."""
        return len(self._inflight)

    @property
    def has_room(self) -> bool:
        """Whether another block may be sent now."""
        return self.inflight_bytes < self._settings.inflight_bytes and not self._is_write_paused

    @property
    def unconfirmed(self) -> list[Block]:
        """What was sent, or begun, and is not confirmed; oldest first."""
        return list(self._inflight)

    def send(self, block: Block) -> None:
        """Send a block. A block with no replies (only an offset) is confirmed behind those before it.

        Raises the error that ended the link.
        """
        self.begin(block)
        if block.data:
            self.write(block.data)

    def begin(self, block: Block) -> None:
        """Expect the replies of a block whose data follow by `write`, all of them before the next block."""
        if self.error is not None:
            raise self.error
        if not self._inflight:
            self._heard_at = time.monotonic()
            self._due = block.replies
        self._inflight.append(block)
        self.inflight_bytes += len(block.data)
        if len(self._inflight) == 1 and block.replies == 0:
            self._confirm_blocks(0)

    def write(self, data: bytes | memoryview) -> None:
        """Write (a part of) the data of the block that was begun last; raises the error that ended the link."""
        if self.error is not None:
            raise self.error
        assert self._transport is not None
        # A large value under a small limit takes its time; no reply is due before its end.
        self._heard_at = time.monotonic()
        self._transport.write(data)

    async def wait_for_room(self) -> None:
        """Wait until `has_room`; raises the error that ended the link."""
        while not self.has_room or self.error is not None:
            await self._wait()

    @property
    def oldest_received_seconds(self) -> float | None:
        """Monotonic time when the oldest unconfirmed bytes were received; None if all are confirmed."""
        for block in self._inflight:
            if block.received_seconds:
                return block.received_seconds
        return None

    @property
    def oldest_block_seconds(self) -> float | None:
        """The same: nothing waits apart from the blocks."""
        return self.oldest_received_seconds

    async def wait_for_fewer(self, blocks: int) -> None:
        """Wait until fewer than `blocks` are unconfirmed; raises the error that ended the link."""
        while len(self._inflight) >= blocks or self.error is not None:
            await self._wait()

    async def drain(self) -> None:
        """Wait until every block is confirmed; raises the error that ended the link."""
        while self._inflight or self.error is not None:
            await self._wait()

    async def _wait(self) -> None:
        if self.error is not None:
            raise self.error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    @property
    def silent_seconds(self) -> float:
        """How long no reply has come although some are due."""
        return time.monotonic() - self._heard_at if self._inflight else 0.0

    def check_silence(self) -> None:
        """End the link if replies are due and none has come for too long; call about once a second."""
        silent = self.silent_seconds
        if self._inflight and silent >= self._settings.reply_timeout_seconds:
            self.fail(
                TargetLinkLost(
                    f"the target {self._endpoint.address} sent no reply for {silent:.0f} s"
                )
            )

    def close(self) -> None:
        """Drop the connection and whatever is unconfirmed."""
        self._is_closed = True
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; its buffer is small, the window is ours."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES)

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self._is_write_paused = True

    def resume_writing(self) -> None:
        """The socket takes more again."""
        self._is_write_paused = False
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Count replies, look for errors among them, confirm blocks."""
        self._heard_at = time.monotonic()
        try:
            completed = self._skimmer.feed(data)
            for reply, element, text in self._skimmer.take_errors():
                self._take_error(reply, element, text)
            for reply in self._skimmer.take_null_arrays():
                self._take_null_array(reply)
            self._confirm_blocks(completed)
        except EngineError as error:
            self.fail(error)
            return
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the link; who waits for room or replies gets the error."""
        why = str(exc) if exc is not None else "the target closed it"
        self.fail(
            TargetLinkLost(f"the connection to the target {self._endpoint.address} was lost: {why}")
        )

    def fail(self, error: EngineError) -> None:
        """End the link with `error`; what is unconfirmed may be on the target or not."""
        if self.error is None:
            self.error = error
            if not self._is_closed:
                self._on_failed(error)
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _confirm_blocks(self, completed: int) -> None:
        while self._inflight:
            if completed < self._due:
                self._due -= completed
                return
            completed -= self._due
            block = self._inflight.popleft()
            self._reply_base += block.replies
            self.inflight_bytes -= len(block.data)
            self._due = self._inflight[0].replies if self._inflight else 0
            self._confirmed(block)

    def _confirmed(self, block: Block) -> None:
        self._on_confirmed(block)

    def _take_error(self, reply: int, element: int, text: str) -> None:
        base = self._reply_base
        for block in self._inflight:
            if reply < base + block.replies:
                if is_failure_of_the_source(block, reply - base, element, text):
                    self.scripts_failed += 1
                    return
                if element < 0:
                    raise_if_not_ready(self._endpoint, block, reply - base, text)
                if self.on_missing is not None and is_about_missing_key(block, text):
                    self.on_missing(*place_of(block, reply - base, element))
                    return
                if is_done_already(block, text):
                    return
                if self.on_unloadable is not None and is_unloadable(block, text):
                    self.on_unloadable(*place_of(block, reply - base, element))
                    return
                if is_settled_part(block, reply - base, element, text, self.on_part_error):
                    return
                error = rejected(block, reply - base, element, text, self._policy)
                if error is not None:
                    raise error
                block.skipped += 1
                return
            base += block.replies

    def _take_null_array(self, reply: int) -> None:
        """An EXEC that did nothing: what it watched has changed (checkpoint.py)."""
        base = self._reply_base
        for block in self._inflight:
            base += block.replies
            if reply < base:
                if block.is_transaction and reply == base - 1:
                    raise CheckpointMoved(
                        f"the target {self._endpoint.address} did not take the block up to offset {block.offset}: "
                        "the checkpoint was moved by somebody else, or the block before it is missing",
                    )
                return
