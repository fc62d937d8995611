"""A primary, its replicas and Sentinels that watch them, on 127.0.0.1."""

from __future__ import annotations

from typing import Any, Self

from redis.exceptions import RedisError

from engine.demo.servers import RunningServer, ServerBinary
from tests.conditions import holds
from tests.servers.provider import provider

NAME = "mymaster"
DOWN_AFTER_MS = 500
FAILOVER_TIMEOUT_MS = 2000


class SentinelTrio:
    """Two servers and three Sentinels, processes or containers (provider.py). password: of the Sentinels; server_password: of the servers."""

    def __init__(
        self,
        binary: ServerBinary,
        *,
        config: dict[str, Any] | None = None,
        password: str | None = None,
        server_password: str | None = None,
    ) -> None:
        self._binary = binary
        self._config = {"repl-diskless-sync-delay": 0, "repl-ping-replica-period": 1} | (
            config or {}
        )
        if server_password is not None:
            self._config |= {"requirepass": server_password, "masterauth": server_password}
        self._password = password
        self._server_password = server_password
        self.servers: list[RunningServer] = []
        self.sentinels: list[RunningServer] = []

    def start(self) -> Self:
        primary = provider().server(self._binary, config=self._config).start()
        self.servers.append(primary)
        replica = (
            provider()
            .server(
                self._binary,
                config=self._config | {"replicaof": ("127.0.0.1", primary.port)},
            )
            .start()
        )
        self.servers.append(replica)
        auth = (
            ""
            if self._server_password is None
            else f"sentinel auth-pass {NAME} {self._server_password}\n"
        )
        text = (
            f"sentinel monitor {NAME} 127.0.0.1 {primary.port} 2\n{auth}"
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {NAME} {FAILOVER_TIMEOUT_MS}\n"
        )
        if self._password is not None:
            text += f"sentinel sentinel-pass {self._password}\n"
        for _ in range(3):
            sentinel = provider().sentinel(self._binary, text, requirepass=self._password)
            self.sentinels.append(sentinel.start())
        holds(self._is_watched, "the Sentinels know each other and the replica")
        return self

    def _is_watched(self) -> bool:
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                try:
                    reply = client.execute_command("SENTINEL", "MASTER", NAME)
                except RedisError:
                    return False
            facts = (
                reply
                if isinstance(reply, dict)
                else dict(zip(reply[::2], reply[1::2], strict=True))
            )
            text = {
                (k.decode() if isinstance(k, bytes) else str(k)): (
                    v.decode() if isinstance(v, bytes) else str(v)
                )
                for k, v in facts.items()
            }
            if text.get("num-other-sentinels") != "2" or text.get("num-slaves") != "1":
                return False
        with self.servers[1].client() as client:
            return bool(client.info("replication").get("master_link_status") == "up")

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{it.port}" for it in self.sentinels)
        login = "" if self._server_password is None else f":{self._server_password}@"
        return f"redis+sentinel://{login}{places}/{NAME}"

    @property
    def primary(self) -> RunningServer:
        """Who is called the primary by the Sentinels now."""
        with self.sentinels[0].client() as client:
            reply = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        port = int(reply[1])
        return next(it for it in self.servers if it.port == port)

    def fails_over(self) -> tuple[RunningServer, RunningServer]:
        """Kill the primary with SIGKILL; returns it and the one that has taken its place."""
        old = self.primary
        old.kill()

        def replaced() -> RunningServer | None:
            now = self.primary
            if now is old:
                return None
            with now.client() as client:
                return now if client.info("replication")["role"] == "master" else None

        return old, holds(replaced, "the replica is promoted")

    def stop(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.kill()
            server.stop()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()
