"""The runs of this process: started from records, and their course written back into the records."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from engine.endpoint import Endpoint
from engine.errors import EngineError
from engine.preflight.gate import refuse_or_warn
from engine.readers.file_source import FileSource
from engine.readers.scan_source import ScanSource
from engine.service.backups import find_backup
from engine.service.catalog import Catalog
from engine.service.figures import Figures
from engine.service.journal import Journal
from engine.service.reader_choice import choose_reader, make_scan_source, replayed, scanned
from engine.service.record import MigrationMethod, MigrationType, TaskRecord, storable
from engine.service.refusals import Refusal, StateForbids
from engine.service.run import Prepared, Run, RunEnd
from engine.service.sides import Sides
from engine.service.wire_status import WORKING, WireStatus, project
from engine.settings import (
    MIB,
    ClusterSettings,
    CrossSlotPolicy,
    FieldTtlPolicy,
    Method,
    ScanChanges,
    SourceReader,
    SpoolSettings,
    TaskSettings,
    UnsupportedPolicy,
)
from engine.stats import ReaderStats
from engine.supervision.states import TaskState

log = structlog.get_logger("engine.service")

ERROR_LIMIT = 1024  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkSettings:
    """state_dir: this service's folder; each task has one of its own in it. backup_dir: see backups.py."""

    state_dir: Path
    backup_dir: Path | None = None
    spool: SpoolSettings = field(default_factory=SpoolSettings)
    on_unsupported: UnsupportedPolicy = UnsupportedPolicy.STOP
    field_ttls: FieldTtlPolicy = FieldTtlPolicy.REFUSE
    on_cross_slot: CrossSlotPolicy = CrossSlotPolicy.RESOLVE
    big_value_bytes: int = 16 * MIB
    source_reader: SourceReader = SourceReader.PSYNC
    scan_changes: ScanChanges = ScanChanges.AUTO
    cluster: ClusterSettings = field(default_factory=ClusterSettings)

    def folder_of(self, engine_task_id: str) -> Path:
        """The folder of one task's run."""
        return self.state_dir.absolute() / "tasks" / engine_task_id


class Workers:
    """Runs by task id."""

    def __init__(
        self, settings: WorkSettings, *, catalog: Catalog, sides: Sides, journal: Journal
    ) -> None:
        self.settings = settings
        self._catalog = catalog
        self._sides = sides
        self._journal = journal
        self._runs: dict[str, Run] = {}
        self._readers: dict[str, FileSource | ScanSource] = {}
        self._is_shutting_down = False
        self._chores: set[asyncio.Task[None]] = set()

    def run_of(self, task_id: str) -> Run | None:
        """The run of a task that is at work or being stopped."""
        return self._runs.get(task_id)

    def start(self, record: TaskRecord) -> None:
        """Start the run of a record that is in a working status; when the service ends, at its next start."""
        if self._is_shutting_down:
            return
        task_id = record.task_id
        try:
            settings, prepare = self._settings_and_preparation(record)
        except (EngineError, Refusal) as error:
            reason = str(error) if isinstance(error, EngineError) else error.reason
            self._fail(task_id, reason)
            return
        run = Run(
            settings,
            task_id=task_id,
            has_run=record.has_run,
            on_state=lambda state: self._note_state(task_id, state),
            on_figures=lambda figures: self._note_figures(task_id, figures),
            on_end=lambda end: self._note_end(task_id, end),
            asks_source=task_id not in self._readers,
            prepare=prepare,
        )
        self._runs[task_id] = run
        run.start()

    def stop_soon(self, task_id: str) -> None:
        """Stop a run without waiting; a task without one is stopped."""
        run = self._runs.get(task_id)
        if run is None:
            record = self._catalog.find(task_id)
            if record is not None and record.status is WireStatus.TERMINATING:
                self._set_status(task_id, WireStatus.TERMINATED)
            return
        self.do(run.stop(), name=f"stop {task_id}")

    async def wait_for_end(self, task_id: str) -> None:
        """Wait until a task has no run any more."""
        run = self._runs.get(task_id)
        if run is not None:
            await run.wait()

    def do(self, chore: Coroutine[Any, Any, None], *, name: str) -> None:
        """Do something beside the calls; it ends at the latest with the service."""
        task = asyncio.create_task(chore, name=name)
        self._chores.add(task)
        task.add_done_callback(self._note_chore)

    def tell_status(self, record: TaskRecord) -> None:
        """Log a record's new status and show it to those who listen."""
        log.info("task.status", task=record.task_id, status=str(record.status))
        self._journal.publish(record.task_id, "status", {"status": str(record.status)})

    async def shut_down(self) -> None:
        """Stop all runs gracefully and leave the records as they are: the next start goes on with them."""
        self._is_shutting_down = True
        await asyncio.gather(*(run.stop() for run in list(self._runs.values())))
        for chore in list(self._chores):
            chore.cancel()
        if self._chores:
            await asyncio.wait(self._chores)
        await asyncio.gather(*(it.close() for it in self._readers.values()))

    # ---- from a record to the engine

    def settings_of(self, record: TaskRecord) -> TaskSettings:
        """The engine's settings of a configured online task.

        Raises:
            StateForbids: it is not configured, or an import. ConfigError: as of Sides.endpoint.
        """
        if record.source is None:
            raise StateForbids(record.status, "only a configured online task has two servers")
        return self._settings(record, self._sides.endpoint(record.source))

    def _settings_and_preparation(
        self, record: TaskRecord
    ) -> tuple[TaskSettings, Callable[[], Awaitable[Prepared | None]]]:
        """The engine's settings, and what is to be done before it starts."""
        if record.backup_files is not None:
            backup = FileSource(find_backup(self.settings.backup_dir, record.backup_files))
            self._readers[record.task_id] = backup
            settings = self._settings(record, backup.endpoint)
            return settings, partial(_opened, backup, settings)
        settings = self.settings_of(record)
        return settings, partial(self._prepared, record, settings)

    async def _prepared(self, record: TaskRecord, settings: TaskSettings) -> Prepared | None:
        """Choose how the source is read; look at both sides.

        What was at work before has been looked at then; a server may be away for the moment.
        """
        settings = await choose_reader(settings)
        prepared = None
        if settings.source_reader is SourceReader.SCAN:
            reader = make_scan_source(settings)
            self._readers[record.task_id] = reader
            await reader.start(looks_first=not record.has_run)
            settings = scanned(settings, reader)
            prepared = Prepared(settings=settings, reader=reader.stats)
        if not record.has_run:
            await refuse_or_warn(settings)
        return prepared

    def _settings(self, record: TaskRecord, source: Endpoint) -> TaskSettings:
        assert record.target is not None
        is_incremental = record.migration_method is MigrationMethod.INCREMENTAL
        is_import = record.migration_type is MigrationType.BACKUP_IMPORT
        limit_mb = record.bandwidth_limit_mb if is_incremental else None
        return TaskSettings(
            task_id=record.engine_task_id,
            source=source,
            target=self._sides.endpoint(record.target),
            method=Method.INCREMENTAL if is_incremental and not is_import else Method.FULL,
            bandwidth_limit_bytes_per_second=None if limit_mb is None else limit_mb * MIB,
            resume_mode=record.resume_mode,
            on_unsupported=self.settings.on_unsupported,
            field_ttls=self.settings.field_ttls,
            on_cross_slot=self.settings.on_cross_slot,
            big_value_bytes=self.settings.big_value_bytes,
            source_reader=SourceReader.PSYNC if is_import else self.settings.source_reader,
            scan_changes=self.settings.scan_changes,
            cluster=self.settings.cluster,
            spool=replace(
                self.settings.spool, directory=self.settings.folder_of(record.engine_task_id)
            ),
        )

    # ---- from the engine to the record

    def _note_state(self, task_id: str, state: TaskState) -> None:
        record = self._catalog.find(task_id)
        if record is None or record.status not in WORKING:
            return
        has_run = record.has_run or state in (TaskState.SNAPSHOT, TaskState.STREAM)
        is_import = record.migration_type is MigrationType.BACKUP_IMPORT
        status = project(record.status, state, is_import=is_import)
        if has_run != record.has_run:
            self._catalog.change(task_id, has_run=has_run)
            self._catalog.save_soon(task_id)
        if status is not record.status:
            self._set_status(task_id, status)
        self._journal.publish(task_id, "state", {"state": str(state), "status": str(status)})

    def _note_figures(self, task_id: str, figures: Figures) -> None:
        self._journal.publish(task_id, "stats", figures.as_dict())

    def _note_end(self, task_id: str, end: RunEnd) -> None:
        self._runs.pop(task_id, None)
        reader = self._readers.pop(task_id, None)
        if reader is not None:
            self.do(reader.close(), name=f"close reader {task_id}")
        if self._catalog.find(task_id) is None:
            return
        self._catalog.change(task_id, last_figures=end.figures.as_dict())
        if self._is_shutting_down and end.state is TaskState.STOPPED:
            self._catalog.save_soon(task_id)
        elif end.error is not None:
            self._fail(task_id, end.error)
        else:
            self._set_status(task_id, project(WireStatus.TERMINATING, end.state, is_import=False))

    def _fail(self, task_id: str, reason: str) -> None:
        log.error("task.failed", task=task_id, error=reason)
        self._set_status(
            task_id, WireStatus.MIGRATION_FAILED, error_message=storable(reason)[:ERROR_LIMIT]
        )

    def _set_status(self, task_id: str, status: WireStatus, **changes: Any) -> None:
        if status not in WORKING:
            changes["updated_at"] = datetime.now(UTC)
        record = self._catalog.change(task_id, status=status, **changes)
        self._catalog.save_soon(task_id)
        self.tell_status(record)

    def _note_chore(self, task: asyncio.Task[None]) -> None:
        self._chores.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("service.chore_failed", name=task.get_name(), error=repr(error))


async def _opened(backup: FileSource, settings: TaskSettings) -> Prepared:
    await backup.start()
    if backup.has_stream:
        settings = replayed(settings)
    return Prepared(settings=settings, reader=ReaderStats(name="file"))
