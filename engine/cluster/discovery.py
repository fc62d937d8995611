"""Asks the nodes of a cluster for its map, one after the other until one answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from engine.cluster.topology import ClusterMap, Node, read_nodes, read_shards, read_slots
from engine.connect import connect_hint
from engine.control_client import LOST, control_client, raise_if_cancelled, reply_text
from engine.endpoint import NO_PASSWORD_SET, Endpoint, Role
from engine.errors import (
    EngineError,
    SourceAuthError,
    SourceNotReady,
    SourceUnreachable,
    TargetAuthError,
    TargetNotReady,
    TargetUnreachable,
)

_UNREACHABLE = {"source": SourceUnreachable, "target": TargetUnreachable}
_AUTH = {"source": SourceAuthError, "target": TargetAuthError}


def endpoint_of(node: Node, like: Endpoint) -> Endpoint:
    """A node's address with the login and the certificates of the side's URL, through its address map."""
    host, port = mapped_address(node.host, node.port, like.address_map)
    return replace(like, host=host, port=port, unix_path=None, more=(), sentinel=None)


def mapped_address(host: str, port: int, address_map: Iterable[tuple[str, str]]) -> tuple[str, int]:
    """What an announced address is to the worker: `host:port` is looked for first, then the host alone."""
    names = dict(address_map)
    if (to := names.get(f"{host}:{port}")) is not None:
        new_host, _, new_port = to.rpartition(":")
        return (new_host.strip("[]"), int(new_port)) if new_port.isdigit() else (to, port)
    return names.get(host, host), port


def addresses_of(endpoint: Endpoint) -> list[Endpoint]:
    """The address of the URL and the others beside it."""
    others = [replace(endpoint, host=host, port=port, more=()) for host, port in endpoint.more]
    return [replace(endpoint, more=()), *others]


async def ask_cluster_map(
    endpoint: Endpoint,
    *,
    role: Role,
    timeout_seconds: float,
    known: ClusterMap | None = None,
    silent: set[str] | None = None,
) -> ClusterMap | None:
    """The map as the first node that can know it has it; None if the first that answers is no cluster node.

    A node that is cut off from most others, or was removed, has a map of its own: it is gone by only if nobody has a better one.

    known: an earlier map, whose nodes are asked as well. silent: addresses of those that did not answer the last time, which
    are asked last; brought up to date here.

    Raises:
        SourceUnreachable, TargetUnreachable: nobody answers. SourceAuthError, TargetAuthError.
        SourceNotReady, TargetNotReady: a node answers that it is loading.
    """
    failure: EngineError | None = None
    best: ClusterMap | None = None
    silent = set() if silent is None else silent
    for it in sorted(_nodes_of(endpoint, known), key=lambda it: it.address in silent):
        client = control_client(
            it, timeout_seconds=min(timeout_seconds, 2.0) if known else timeout_seconds
        )
        try:
            found = await ask_map(client, it, role)
        except LOST as error:
            raise_if_cancelled()
            silent.add(it.address)
            failure = _as_error(it, role, error)
            if isinstance(failure, SourceAuthError | TargetAuthError):
                raise failure from None
        else:
            silent.discard(it.address)
            if (found is None and best is None) or (found is not None and found.sees_majority):
                return found
            best = _better(best, found)
        finally:
            await _closed(client)
    if best is not None:
        return best
    assert failure is not None
    raise failure


def _nodes_of(endpoint: Endpoint, known: ClusterMap | None) -> list[Endpoint]:
    """Those of an earlier map, and those that the URL names."""
    nodes = [node for it in (known.shards if known else ()) for node in (it.primary, *it.replicas)]
    every = [*(endpoint_of(it, endpoint) for it in nodes), *addresses_of(endpoint)]
    by_address: dict[str, Endpoint] = {}
    for it in every:
        by_address.setdefault(it.address, it)
    return list(by_address.values())


def _better(best: ClusterMap | None, found: ClusterMap | None) -> ClusterMap | None:
    """That with more slots served; the earlier one of two that are alike."""
    if best is None or found is None:
        return best or found
    return found if found.unserved < best.unserved else best


async def primaries_of(
    endpoint: Endpoint, *, role: Role, timeout_seconds: float
) -> list[Endpoint] | None:
    """The primaries of a cluster; None if it is no cluster. Raises as `ask_cluster_map`."""
    found = await ask_cluster_map(endpoint, role=role, timeout_seconds=timeout_seconds)
    return None if found is None else [endpoint_of(it.primary, endpoint) for it in found.shards]


async def _closed(client: Redis) -> None:
    try:
        await client.aclose()
    except LOST:
        raise_if_cancelled()


def _as_error(endpoint: Endpoint, role: Role, error: Exception) -> EngineError:
    text = reply_text(error) if isinstance(error, RedisError) else str(error)
    if isinstance(error, AuthenticationError) and any(it in text for it in NO_PASSWORD_SET):
        return _AUTH[role](
            f"the {role} {endpoint.address} has no password, and one was given: {error}",
            hint="leave the password out, or give the user that it belongs to (redis://user@…)",
        )
    if isinstance(error, AuthenticationError):
        return _AUTH[role](
            f"the {role} {endpoint.address} refuses the login: {error}",
            hint=f"check user and password: --{role}-password-file, or user:password@ in the URL",
        )
    if isinstance(error, NoPermissionError):
        return _AUTH[role](
            f"the {role} {endpoint.address} does not permit its cluster map to be asked for: {error}",
            hint="grant it, on every node: ACL SETUSER <user> +cluster|nodes",
        )
    if text.startswith("LOADING"):
        if role == "source":
            return SourceNotReady(f"the source {endpoint.address} is loading its data")
        return TargetNotReady(
            f"the target {endpoint.address} takes no writes now: {text}", code="LOADING"
        )
    return _UNREACHABLE[role](
        f"cannot connect to the {role} {endpoint.address}: {text}",
        hint=connect_hint(endpoint, role, text),
    )


async def ask_map(client: Redis, endpoint: Endpoint, role: Role) -> ClusterMap | None:
    """The map of one node; None if it is none of a cluster. Raises redis-py's errors.

    role: a target's map may come from CLUSTER SHARDS or SLOTS where NODES is not permitted. A source's may not: they tell
    neither which slots are being moved nor the configuration epochs, so slots that move would not be seen.
    """
    if not await _may_be_cluster(client):
        return None  # a user of such a server need not be permitted CLUSTER
    refusal: RedisError | None = None
    host = endpoint.host
    shards = partial(read_shards, is_tls=endpoint.tls is not None)
    for command, read in (("NODES", _nodes), ("SHARDS", shards), ("SLOTS", read_slots)):
        try:
            # In two words, so that redis-py hands the reply over as it is.
            reply: Any = await client.execute_command("CLUSTER", command)  # type: ignore[no-untyped-call]
        except NoPermissionError as error:
            raise_if_cancelled()
            if role == "source":
                raise
            refusal = error
            continue
        except RedisError as error:
            raise_if_cancelled()
            if "cluster support disabled" in str(error) or "nknown command" in str(error):
                return None
            if "nknown subcommand" in str(error):
                continue
            raise
        raise_if_cancelled()
        return read(reply, host)
    if refusal is not None:
        raise refusal
    return None


async def _may_be_cluster(client: Redis) -> bool:
    """Whether INFO says so; where it is not permitted HELLO, which every user may ask (CMD_NO_AUTH, acl.c)."""
    try:
        info = await client.info("cluster")
    except NoPermissionError:
        raise_if_cancelled()
        return await _is_in_cluster_mode(client)
    raise_if_cancelled()
    return bool(info.get("cluster_enabled"))


async def _is_in_cluster_mode(client: Redis) -> bool:
    """What HELLO says (networking.c, helloCommand; servers from 6.0 on); True where it is not answered."""
    try:
        # Without a version it changes nothing on the connection.
        reply: Any = await client.execute_command("HELLO")  # type: ignore[no-untyped-call]
    except ResponseError:
        raise_if_cancelled()
        return True
    raise_if_cancelled()
    told = dict(zip(reply[::2], reply[1::2], strict=True))
    return bool(told.get(b"mode", b"cluster") == b"cluster")


def _nodes(reply: Any, asked_host: str) -> ClusterMap:
    return read_nodes(reply.decode() if isinstance(reply, bytes) else str(reply), asked_host)
