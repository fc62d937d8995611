"""How changes of a source's keys can be learnt of: keyspace notifications that are on, or passes over all keys."""

from __future__ import annotations

import structlog

from engine.endpoint import Endpoint
from engine.errors import SourceError
from engine.readers.notifications import NEEDED, PATTERN, covers_all
from engine.readers.source_connection import SourceConnection
from engine.readers.source_nodes import SourceNodes
from engine.settings import ScanChanges

log = structlog.get_logger("engine.readers")

SETTING = "notify-keyspace-events"


class ChangeChoice:
    """Asks every node, before each reading anew. changed: what the setting was where we changed it, by address."""

    def __init__(self, wanted: ScanChanges) -> None:
        self._wanted = wanted
        self._has_said = False
        self.changed: dict[str, str] = {}

    async def uses_passes(self, nodes: SourceNodes) -> bool:
        """Whether passes are to be made.

        Raises:
            SourceAuthError, SourceRefused: what was asked for is not permitted.
        """
        if self._wanted is ScanChanges.PASSES:
            return True
        if self._wanted is not ScanChanges.NOTIFICATIONS:
            for node in nodes.nodes:
                if not await self._is_on(node.connection):
                    return True
        return False

    async def _is_on(self, connection: SourceConnection) -> bool:
        (reply,) = await connection.ask(("CONFIG", "GET", SETTING))
        flags = None
        if isinstance(reply, list) and len(reply) == 2:
            flags = reply[1].decode("utf-8", "replace")
        if flags is not None and covers_all(flags):
            return True
        if self._wanted is ScanChanges.ENABLE:
            connection.check("CONFIG GET", reply)
            await self._switch_on(connection, flags or "")
            return True
        if not self._has_said:
            self._has_said = True
            log.warning(
                "scan.passes",
                why="CONFIG GET is refused" if flags is None else f"{SETTING} is {flags!r}",
                means="changes are found by reading all keys again and again",
                remedy="--scan-changes enable switches notifications on, --scan-changes notifications takes them for on",
            )
        return False

    async def _switch_on(self, connection: SourceConnection, flags: str) -> None:
        wanted = "".join(dict.fromkeys(flags + NEEDED))
        (answer,) = await connection.ask(("CONFIG", "SET", SETTING, wanted))
        connection.check("CONFIG SET", answer)
        self.changed.setdefault(connection.endpoint.address, flags)
        log.warning(
            "scan.notifications_switched_on",
            address=connection.endpoint.address,
            was=flags,
            now=wanted,
            means="a graceful end switches them back",
        )

    async def check_subscription(self, nodes: SourceNodes) -> None:
        """See that notifications may be listened to; the connections answer little else from then on.

        Raises:
            SourceAuthError, SourceRefused.
        """
        for node in nodes.nodes:
            connection = node.connection
            connection.check("PSUBSCRIBE", (await connection.ask(("PSUBSCRIBE", PATTERN)))[0])

    async def change_back(self, source: Endpoint, *, timeout_seconds: float) -> None:
        """Switch back what was switched on; a source that is gone is only told of."""
        if not self.changed:
            return
        nodes = SourceNodes(source, timeout_seconds=timeout_seconds)
        try:
            await nodes.open()
            for node in nodes.nodes:
                flags = self.changed.get(node.connection.endpoint.address)
                if flags is not None:
                    await node.connection.ask(("CONFIG", "SET", SETTING, flags))
        except SourceError as error:
            log.warning("scan.notifications_left_on", error=str(error))
        finally:
            nodes.close()
