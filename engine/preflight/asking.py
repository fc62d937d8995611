"""A control connection that asks many questions in one go and takes any refusal as an answer."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from redis.exceptions import ResponseError

from engine.control_client import control_client, raise_if_cancelled
from engine.endpoint import Endpoint

Command = Sequence[str]
NOT_PERMITTED = "NOPERM"


class Refusal(str):
    """An error reply: its text, with the code before it where the library took it away."""

    __slots__ = ()

    @property
    def is_permission(self) -> bool:
        """Whether the user lacks a permission (and the command is not simply unknown)."""
        # Not only at the start: EXEC that is not permitted answers "EXECABORT … because of: NOPERM …".
        return NOT_PERMITTED in self


class Conversation:
    """`async with`: one connection, logged in. Replies are raw: bytes, int, list, None, or a Refusal.

    Raises on entry: redis.exceptions.RedisError, OSError: no connection, or the login was refused.
    """

    def __init__(self, endpoint: Endpoint, *, timeout_seconds: float) -> None:
        self._client = control_client(endpoint, timeout_seconds=timeout_seconds)

    async def __aenter__(self) -> Conversation:
        try:
            await self._client.initialize()
        except BaseException:
            await self._client.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def ask(self, *commands: Command) -> list[Any]:
        """Send all, then read all; one reply a command.

        Raises:
            redis.exceptions.ConnectionError, TimeoutError: the connection is gone.
        """
        connection = self._client.connection
        assert connection is not None
        # Past redis-py's callbacks: inside MULTI the answer to any command is QUEUED.
        packed = connection.pack_commands([tuple(command) for command in commands])
        await connection.send_packed_command(packed)
        replies: list[Any] = []
        for _ in commands:
            try:
                replies.append(await connection.read_response(disable_decoding=True))
            except ResponseError as error:
                raise_if_cancelled()
                replies.append(_refusal(error))
        raise_if_cancelled()
        return replies

    async def ask_one(self, *command: str) -> Any:
        """One command's reply."""
        return (await self.ask(command))[0]


def _refusal(error: ResponseError) -> Refusal:
    # redis-py takes the code off the errors it has a class for.
    if type(error).__name__ == "NoPermissionError":
        return Refusal(f"{NOT_PERMITTED} {error}")
    return Refusal(str(error))


def info_of(reply: Any) -> dict[str, str]:
    """The lines of INFO; empty if it was refused."""
    if not isinstance(reply, bytes):
        return {}
    lines = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines())
    return {name: value.strip() for name, colon, value in lines if colon and name[:1] != "#"}


def config_of(replies: Sequence[Any]) -> dict[str, str]:
    """What several CONFIG GETs answered, by the directive's name; without those that were refused."""
    found: dict[str, str] = {}
    for reply in replies:
        if isinstance(reply, list):
            texts = [text.decode("utf-8", "replace") for text in reply]
            found |= dict(zip(texts[::2], texts[1::2], strict=False))
    return found


def number(facts: Mapping[str, str], name: str) -> int | None:
    """An integer of INFO or CONFIG; None if it is not there or not a number."""
    text = facts.get(name, "")
    return int(text) if text.removeprefix("-").isdigit() else None


def keyspace_of(info: Mapping[str, str]) -> dict[int, int]:
    """Keys by database. Redis 8 has lines like db0_distrib_strings_sizes as well."""
    found = {}
    for name, value in info.items():
        if name.startswith("db") and name[2:].isdigit():
            count = value.partition(",")[0].removeprefix("keys=")
            found[int(name[2:])] = int(count) if count.isdigit() else 0
    return found


def version_of(info: Mapping[str, str]) -> tuple[str, tuple[int, int, int]]:
    """Product (`redis`, `valkey`, `keydb` …) and version; ("", (0, 0, 0)) if INFO was refused."""
    text = info.get("valkey_version") or info.get("redict_version") or info.get("redis_version", "")
    if not text:
        return "", (0, 0, 0)
    product = info.get("server_name") or "redis"
    if "valkey_version" in info:
        product = "valkey"
    if "mvcc_depth" in info or info.get("executable", "").endswith("keydb-server"):
        product = "keydb"
    # `7.4.1-rc1`: what follows a number is not part of it.
    parts = [re.match(r"\d*", part) for part in text.split(".")[:3]]
    major, minor, patch = (*(int(it[0] or 0) if it else 0 for it in parts), 0, 0, 0)[:3]
    return product, (major, minor, patch)


def modules_of(reply: Any) -> frozenset[str] | None:
    """Names of the loaded modules; None if MODULE LIST was refused."""
    if not isinstance(reply, list):
        return None
    names = set()
    for module in reply:
        fields = [it.decode("utf-8", "replace") if isinstance(it, bytes) else it for it in module]
        facts = dict(zip(fields[::2], fields[1::2], strict=False))
        names.add(str(facts.get("name", "")))
    return frozenset(names - {""})


async def clock_offset_ms(talk: Conversation) -> int | None:
    """The server's clock minus ours; None where TIME is not permitted."""
    before = time.time()
    reply = await talk.ask_one("TIME")
    after = time.time()
    if not isinstance(reply, list):
        return None
    return round(int(reply[0]) * 1000 + int(reply[1]) / 1000 - (before + after) * 500)
