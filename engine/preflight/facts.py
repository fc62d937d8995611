"""Everything the pre-flight report is made from. None: not known, because it was not permitted or is too new."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.endpoint import Endpoint
from engine.errors import EngineError
from engine.preflight.permissions import Answer, Denial
from engine.selection import EVERYTHING, Selection
from engine.settings import ConflictPolicy, FieldTtlPolicy, Method, SourceReader


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputBufferLimit:
    """`client-output-buffer-limit replica`; 0: no limit."""

    hard_bytes: int
    soft_bytes: int
    soft_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteRate:
    """How much the source's replication stream grows.

    is_upper_bound: taken from all that its clients send, because the stream itself is not running.
    seconds: how long it was looked at; 0.0: the server's own figure of the last moments.
    """

    bytes_per_second: float
    is_upper_bound: bool
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """What both sides are asked.

    error: why it could not be asked; then nothing else is known. product, version: "" and zeros where INFO is not
    permitted. user: the name we are logged in as. keys: by database. clock_offset_ms: its clock minus ours.
    """

    endpoint: Endpoint
    error: EngineError | None = None
    product: str = ""
    version: tuple[int, int, int] = (0, 0, 0)
    user: str | None = None
    denials: tuple[Denial, ...] = ()
    has_info: bool = True
    is_cluster: bool = False
    shards: int = 0  # of a cluster
    slots_unserved: int = 0
    primary: str | None = None  # host:port, if it is a replica
    is_loading: bool = False
    keys: Mapping[int, int] = field(default_factory=dict)
    modules: frozenset[str] | None = None
    used_memory_bytes: int | None = None
    is_last_save_good: bool | None = None
    clock_offset_ms: int | None = None

    @property
    def version_text(self) -> str:
        """`Redis 6.2.5`; `an unknown version` where it did not say."""
        if not self.product:
            return "an unknown version"
        names = {"redis": "Redis", "valkey": "Valkey", "keydb": "KeyDB", "redict": "Redict"}
        return f"{names.get(self.product, self.product)} {'.'.join(map(str, self.version))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState(ServerState):
    """The source; of a cluster all shards together. dataset_bytes: its data in memory, without overhead."""

    psync: Answer = Answer.UNKNOWN
    is_primary_link_up: bool = True
    slots_moving: frozenset[int] = frozenset()  # between shards of a cluster
    dataset_bytes: int | None = None
    backlog_bytes: int | None = None
    write_rate: WriteRate | None = None
    output_buffer: OutputBufferLimit | None = None
    repl_timeout_seconds: int | None = None
    diskless_delay_seconds: int | None = None  # 0 also when it is not diskless


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundCheckpoint:
    """A checkpoint on the target. offset -1: the snapshot was not finished, or a write is missing. age_seconds: since it was last touched."""

    task_id: str
    offset: int
    replid: str
    epoch: int
    age_seconds: float | None = None
    selection: str = ""  # Selection.text of the task that wrote it

    @property
    def is_resumable(self) -> bool:
        """Whether a run goes on from it without a new snapshot, if the source still has the history."""
        return self.offset >= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetState(ServerState):
    """The target.

    refusal: why it cannot take the migration at all (engine/target/capabilities.py). lacks: what of the source's value
    types it cannot load, in words. missing_db: the lowest database here that the source's are to go to and that cannot be
    selected; None if there is none.
    workers: names of this task's connections that are open now. other_tasks: with checkpoints here. own_keys: of database 0,
    checkpoints that were found, of whatever task.
    """

    refusal: EngineError | None = None
    rdb_version: int | None = None
    redis_types: frozenset[int] = frozenset()
    valkey_types: frozenset[int] = frozenset()
    databases: int | None = None
    missing_db: int | None = None
    maxmemory_bytes: int | None = None
    maxmemory_policy: str | None = None
    replicas_needed: int | None = None
    replicas_good: int | None = None
    stops_writes_on_save_error: bool | None = None
    appendfsync: str | None = None  # None: no AOF, or not known
    is_last_aof_write_good: bool | None = None
    client_timeout_seconds: int | None = None
    script_limit_ms: int | None = None
    checkpoint: FoundCheckpoint | None = None
    checkpoint_error: EngineError | None = None
    own_keys: int = 0
    workers: tuple[str, ...] = ()
    other_tasks: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolDisk:
    """This machine. free_bytes: for this user, where the spool would be; error: why it could not be found out."""

    folder: str
    budget_bytes: int
    free_bytes: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What of the task's settings matters to the judgement."""

    task_id: str
    method: Method = Method.INCREMENTAL
    reader: SourceReader = SourceReader.PSYNC
    on_conflict: ConflictPolicy = ConflictPolicy.REPLACE
    field_ttls: FieldTtlPolicy = FieldTtlPolicy.REFUSE
    selection: Selection = EVERYTHING
    limit_bytes_per_second: int | None = None
    spool_memory_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Both sides, this machine, and what is asked for. disk None: the spool uses no disk."""

    plan: Plan
    source: SourceState
    target: TargetState
    disk: SpoolDisk | None = None
