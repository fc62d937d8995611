"""Clusters for the benchmarks, as processes or in containers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.options import Options, Servers
from engine.demo.servers import RunningServer, find_servers
from tests.servers.cluster import RunningCluster, even_ranges

CONFIG = {"repl-diskless-sync-delay": 0}


@dataclass(frozen=True)
class BenchCluster:
    """primaries: in the order of their slots, which are even ranges."""

    primaries: Sequence[RunningServer]

    @property
    def url(self) -> str:
        """Its first nodes."""
        return "redis://" + ",".join(f"{it.host}:{it.port}" for it in self.primaries[:3])


@contextmanager
def cluster_of(options: Options, name: str, shards: int) -> Iterator[BenchCluster]:
    """A cluster without replicas that goes at the end."""
    binary = find_servers()[name]
    if options.servers is Servers.CONTAINERS:
        from benchmarks.containers import bridged_cluster

        with bridged_cluster(binary, shards) as nodes:
            yield BenchCluster(nodes)
        return
    layout = even_ranges(shards)
    with RunningCluster(binary, layout=layout, replicas=0, config=CONFIG) as cluster:
        yield BenchCluster([it.server for it in cluster.nodes])
