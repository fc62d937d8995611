"""Gives expiries their true times once the line has caught up.

Some stand on the target with a margin (margin.py). Some came as a duration, `EXPIRE key 100` of sources before 7.0, in
bytes that had waited at the source, so that nothing in the stream tells the moment they count from. In either case the
source is asked for the times together with the offset at which its answer holds, and the stream phase sends the
correction at exactly that offset. A hash whose fields have expiries is asked for as a whole, and so is a key that may
have expired on the target before its renewal came.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress, groupby
from operator import itemgetter
from typing import Any, NamedTuple

import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from engine.codec.bridge import ValueBridge
from engine.codec.command_text import encode
from engine.codec.payload import payload_for
from engine.control_client import LOST, ask_many, control_client, raise_if_cancelled, reply_text
from engine.endpoint import Endpoint
from engine.errors import SourceNotReady
from engine.replay.owed import Key
from engine.settings import SourceSettings

log = structlog.get_logger("engine.replay")

# Few, so that the answers of one request lie within a millisecond where the source tells no moments.
KEYS_AT_ONCE = 500
OFFSET_TRIES = 50
_NOT_NOW = re.compile(r"^(LOADING|BUSY|MASTERDOWN|NOMASTERLINK|TRYAGAIN|MOVED|CLUSTERDOWN)\b")
_REPLID = re.compile(rb"^master_replid:(\w+)", re.MULTILINE)
_OFFSET = re.compile(rb"^master_repl_offset:(\d+)", re.MULTILINE)
_MULTI, _EXEC, _INFO = encode("MULTI"), encode("EXEC"), encode("INFO", "replication")
_WHERE = _INFO + encode("TIME")
# A replica answers for its keys only to a connection that says so; a primary doesn't mind.
_READONLY = encode("READONLY")


@dataclass(frozen=True, slots=True)
class Correction:
    """Commands that make the expiries true for the stream's state at `offset`; they end in database 0.

    payload_bytes: of the values in the source's answer.
    """

    offset: int
    commands: list[bytes]
    payload_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SourceValue:
    """A key as the source has it. payload: for RESTORE; None: it has none, or (`is_there`) the target cannot hold it.

    expires_ms: moment, 0: never. why: the target cannot hold it.
    """

    key: Key
    payload: bytes | None
    is_there: bool
    expires_ms: int = 0
    why: str = ""


class _Answers(NamedTuple):
    """now_ms: the moment that times count from. times: of keys, then of wholes; payloads: of wholes."""

    replid: str
    offset: int
    now_ms: int
    times: list[int]
    payloads: list[bytes | None]


@dataclass(frozen=True, slots=True)
class SourceShard:
    """locate: where the source is now. probe_key: a key that it may be asked for.

    is_cluster: it is a cluster's node, where a transaction can't hold keys of several slots.
    """

    locate: Callable[[], Endpoint]
    probe_key: bytes
    is_cluster: bool


class Settlement:
    """Asks one source.

    tells_moments: the source has PEXPIRETIME (7.0). removes_missing: a key that it does not have is to be removed; not
    from the answers of a replica, which calls a key expired that its primary may still renew. target_rdb_version: of the
    payloads sent to the target; values: brings them into a form it knows. replid: names the history that is being replayed, empty where that is not known.
    source_of: what a key of the target is called at the source, None for one that is not its.
    shard: of a source that is a cluster, or is found by Sentinels; None: it is always at the same address.
    corrected: keys that were given their time. refused: why the source does not tell, empty if it does.
    """

    def __init__(  # noqa: PLR0913 - keyword-only facts
        self,
        source: Endpoint,
        settings: SourceSettings,
        *,
        tells_moments: bool,
        removes_missing: bool,
        target_rdb_version: int,
        replid: Callable[[], str],
        values: ValueBridge,
        takes_key_metadata: bool,
        source_of: Callable[[int, bytes], Key | None] = lambda db, name: (db, name),
        shard: SourceShard | None = None,
    ) -> None:
        self._source = source
        self._timeout_seconds = settings.connect_timeout_seconds
        self._client = control_client(source, timeout_seconds=self._timeout_seconds)
        self._shard = shard
        self._tells_moments = tells_moments
        self._removes_missing = removes_missing
        self._target_rdb_version = target_rdb_version
        self._replid = replid
        self._values = values
        self._takes_key_metadata = takes_key_metadata
        self._source_of = source_of
        self.corrected = 0
        self.refused = ""

    async def check(self) -> bool:
        """Whether the source answers such questions; warns if it does not.

        Raises:
            SourceNotReady: it cannot be asked now.
        """
        probe = (0, b"" if self._shard is None else self._shard.probe_key)
        await self._ask([(probe, probe)], [(probe, probe)], removes_missing=False)
        if self.refused:
            log.warning(
                "expiry.cannot_be_settled",
                why=self.refused,
                means="a key that is renewed at the source while the target is behind may expire on the target first",
                remedy="permit +multi +exec +info +time +select +pttl +pexpiretime +dump to the source's user",
            )
        return not self.refused

    async def ask(
        self, keys: Sequence[Key], wholes: Sequence[Key], *, removes_missing: bool = True
    ) -> Correction | None:
        """Ask for at most KEYS_AT_ONCE of the target's keys, and as many wholes as may be held at once; None if the source refuses to answer.

        removes_missing: False leaves a key that the source does not have in any case.
        Raises:
            SourceNotReady: no connection, not now, or an answer from another history; ask again later.
        """
        return await self._ask(
            self._known(keys),
            self._known(wholes),
            removes_missing=removes_missing and self._removes_missing,
        )

    def _known(self, keys: Sequence[Key]) -> list[tuple[Key, Key]]:
        """Those that are the source's, as the target and as the source has them; by the source's databases."""
        known = [(it, found) for it in keys if (found := self._source_of(*it)) is not None]
        return sorted(known, key=lambda it: it[1][0])

    async def _ask(
        self,
        key_pairs: Sequence[tuple[Key, Key]],
        whole_pairs: Sequence[tuple[Key, Key]],
        *,
        removes_missing: bool,
    ) -> Correction | None:
        found = await self._of_this_history(
            [it for _, it in key_pairs], [it for _, it in whole_pairs]
        )
        if found is None:
            return None
        keys, wholes = [it for it, _ in key_pairs], [it for it, _ in whole_pairs]
        corrections: list[tuple[int, bytes]] = []  # database, command
        for (db, name), left in zip(keys, found.times, strict=False):
            if left >= 0:
                corrections.append((db, encode("PEXPIREAT", name, found.now_ms + left)))
            elif left == -2 and removes_missing:
                # The source's DEL of an expired one may still be to come.
                corrections.append((db, encode("DEL", name)))
        left_of_wholes = found.times[len(keys) :]
        for (db, name), left, payload in zip(wholes, left_of_wholes, found.payloads, strict=True):
            fit = None if payload is None else self._fit(payload)
            if fit is not None:
                expires = 0 if left < 0 else found.now_ms + left
                restore = encode("RESTORE", name, expires, fit, "REPLACE", "ABSTTL")
                corrections.append((db, restore))
            elif payload is None and removes_missing:
                corrections.append((db, encode("DEL", name)))
        self.corrected += len(corrections)
        commands = []
        for db, some in groupby(corrections, key=itemgetter(0)):
            commands += [encode("SELECT", db), *(command for _, command in some)]
        size = sum(len(it) for it in found.payloads if it is not None)
        return Correction(found.offset, [*commands, encode("SELECT", 0)], size)

    async def fetch(self, keys: Sequence[Key]) -> tuple[int, list[SourceValue]] | None:
        """The target's keys as they are at the source, and the offset at which they are so; None if it refuses to answer.

        Raises:
            SourceNotReady: as `ask`.
        """
        pairs = self._known(keys)
        found = await self._of_this_history([], [it for _, it in pairs])
        if found is None:
            return None
        asked = [it for it, _ in pairs]
        # Of a name that nobody has brought the source has no key.
        values = [SourceValue(it, None, False, 0, "") for it in set(keys).difference(asked)]
        for key, left, payload in zip(asked, found.times, found.payloads, strict=True):
            fit = None if payload is None else self._fit(payload)
            values.append(
                SourceValue(
                    key,
                    fit,
                    payload is not None,
                    0 if left < 0 else found.now_ms + left,
                    self._values.reason if payload is not None and fit is None else "",
                )
            )
        return found.offset, values

    async def _of_this_history(self, keys: Sequence[Key], wholes: Sequence[Key]) -> _Answers | None:
        found = await self._answers(keys, wholes)
        ours = self._replid()
        if found is not None and found.replid and ours and found.replid != ours:
            raise SourceNotReady(
                f"the source that was asked for expiries has another history ({found.replid[:8]}, not {ours[:8]})"
            )
        return found

    async def _answers(self, keys: Sequence[Key], wholes: Sequence[Key]) -> _Answers | None:
        """INFO, TIME, a time of each, a payload of each of `wholes`; all of one moment."""
        await self._follow_source()
        question, is_told = self._question(keys, wholes)
        try:
            info, moment, *answers = await self._ask_at_one_offset(question, len(is_told))
            replid, offset = source_position(info)
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            raise_if_cancelled()
            raise SourceNotReady(f"the source cannot be asked for expiries now: {error}") from error
        except RedisError as error:
            raise_if_cancelled()
            text = reply_text(error)
            if _NOT_NOW.search(text):
                raise SourceNotReady(
                    f"the source cannot be asked for expiries now: {text}"
                ) from error
            self.refused = text
            return None
        raise_if_cancelled()
        told = list(compress(answers, is_told))
        times = len(keys) + len(wholes)
        now_ms = 0 if self._tells_moments else int(moment[0]) * 1000 + int(moment[1]) // 1000
        return _Answers(replid, offset, now_ms, told[:times], told[times:])

    def _question(self, keys: Sequence[Key], wholes: Sequence[Key]) -> tuple[bytes, list[bool]]:
        """Encoded commands, and of each whether its answer is more than SELECT's."""
        time_word = b"PEXPIRETIME" if self._tells_moments else b"PTTL"
        asked = [(time_word, it) for it in (*keys, *wholes)] + [(b"DUMP", it) for it in wholes]
        parts: list[bytes] = []
        is_told: list[bool] = []
        for db, some in groupby(asked, key=lambda it: it[1][0]):
            parts.append(encode("SELECT", db))
            is_told.append(False)
            for word, (_, name) in some:
                parts.append(
                    b"*2\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(word), word, len(name), name)
                )
                is_told.append(True)
        return b"".join(parts), is_told

    def _fit(self, payload: Any) -> bytes | None:
        """The payload as the target takes it; None if it cannot have the value, which was refused before."""
        return payload_for(
            bytes(payload),
            self._values,
            rdb_version=self._target_rdb_version,
            takes_key_metadata=self._takes_key_metadata,
        )

    async def _follow_source(self) -> None:
        """The primary may be another server than when we last asked."""
        if self._shard is None or (now := self._shard.locate()).address == self._source.address:
            return
        await self.close()
        self._source = now
        self._client = control_client(now, timeout_seconds=self._timeout_seconds)

    async def _ask_at_one_offset(self, question: bytes, replies: int) -> list[Any]:
        """INFO's reply, TIME's, and those to the question; raises the first error among them."""
        if self._shard is None or not self._shard.is_cluster:
            *queued, answers = await ask_many(
                self._client, _MULTI + _WHERE + question + _EXEC, replies + 4
            )
            _raise_error_of([*queued, *(answers if isinstance(answers, list) else [answers])])
            return list(answers)
        # A transaction would be refused. But a server runs what came in one read without a break; the offset behind it tells whether it did.
        for _ in range(OFFSET_TRIES):
            permitted, *answers, after = await ask_many(
                self._client, _READONLY + _WHERE + question + _INFO, replies + 4
            )
            _raise_error_of([permitted, *answers, after])
            if source_position(answers[0])[1] == source_position(after)[1]:
                return answers
        raise SourceNotReady(
            "the source writes too fast to be asked for several keys at one moment"
        )

    async def close(self) -> None:
        """Close the control connection."""
        with contextlib.suppress(*LOST):
            await self._client.aclose()


def _raise_error_of(replies: Sequence[Any]) -> None:
    for it in replies:
        if isinstance(it, RedisError):
            raise it


def source_position(info: bytes) -> tuple[str, int]:
    """(replid, offset) in a reply to INFO replication; replid empty where there is none (before 4.0).

    Raises:
        ResponseError: it tells no offset.
    """
    replid = _REPLID.search(info)
    offset = _OFFSET.search(info)
    if offset is None:
        raise ResponseError("INFO replication tells no master_repl_offset")
    return "" if replid is None else replid[1].decode(), int(offset[1])
