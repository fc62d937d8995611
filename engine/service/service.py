"""What clients may do with tasks: the calls, their conditions, and the start and end of the whole service."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from datetime import UTC, datetime

import structlog

from engine.endpoint import Role
from engine.errors import ConfigError
from engine.preflight.findings import Finding
from engine.preflight.gather import gather_facts
from engine.preflight.judge import judge
from engine.service.backups import find_backup
from engine.service.catalog import Catalog
from engine.service.exchange import ExchangeHook
from engine.service.exchanges import Exchanges
from engine.service.figures import Figures
from engine.service.journal import Journal
from engine.service.leftovers import remove_leftovers
from engine.service.orders import Configuration, InstanceChoice, NewImport, NewTask
from engine.service.record import (
    InstanceRecord,
    JobRecord,
    LogLevel,
    LogRow,
    MigrationMethod,
    MigrationType,
    TaskRecord,
)
from engine.service.refusals import (
    BadParameter,
    JobUnknown,
    PairAtWork,
    StateForbids,
    StoreFailed,
    TaskUnknown,
)
from engine.service.sides import Sides
from engine.service.store import Store
from engine.service.wire_status import ALLOWED, WORKING, Call, WireStatus
from engine.service.workers import Workers, WorkSettings
from engine.settings import MIB, ResumeMode

log = structlog.get_logger("engine.service")

START_PAUSE_SECONDS = 0.05
PING_SECONDS = 15.0


class MigrationService:
    """All tasks of one process. `open`, then the calls, then `close`.

    Calls raise the Refusals of refusals.py and StoreFailed; a refused call has changed nothing.
    """

    def __init__(
        self, store: Store, *, sides: Sides, settings: WorkSettings, hook: ExchangeHook
    ) -> None:
        self._store = store
        self.sides = sides
        self.journal = Journal(store)
        self.catalog = Catalog(store)
        self.workers = Workers(settings, catalog=self.catalog, sides=sides, journal=self.journal)
        self.exchanges = Exchanges(
            hook, catalog=self.catalog, journal=self.journal, do=self.workers.do
        )
        self._pinging = asyncio.Lock()
        self._writers: list[asyncio.Task[None]] = []

    # ---- the service's own life

    async def open(self) -> None:
        """Load all tasks and go on with those that were at work."""
        await self.catalog.load()
        self._writers = [
            asyncio.create_task(self.catalog.write_unsaved(), name="records writer"),
            asyncio.create_task(self.journal.write(), name="logs writer"),
            asyncio.create_task(self._look_after_store(), name="store watch"),
        ]
        for record in self.catalog:
            self._go_on(record)
        self.workers.do(self._start_working(), name="go on")

    async def _look_after_store(self) -> None:
        while True:
            await asyncio.sleep(PING_SECONDS)
            try:
                await self.ping()
            except StoreFailed as error:
                log.warning("store.not_well", error=str(error))

    async def _start_working(self) -> None:
        """Go on with what was at work, one after another: many handshakes at once would hold up all calls."""
        for found in self.catalog:
            record = self.catalog.find(found.task_id)
            if record is None or record.status not in WORKING or self.workers.run_of(found.task_id):
                continue
            log.info("task.goes_on", task=record.task_id, status=str(record.status))
            self.workers.start(record)
            await asyncio.sleep(START_PAUSE_SECONDS)

    def _go_on(self, record: TaskRecord) -> None:
        task_id = record.task_id
        self.exchanges.go_on(record)
        if record.status is WireStatus.TERMINATING:
            self.workers.stop_soon(task_id)
        elif record.status is WireStatus.CREATING:
            self.catalog.change(task_id, status=WireStatus.RUNNING)
            self.catalog.save_soon(task_id)

    async def close(self) -> None:
        """Stop all runs with their checkpoints, write what is not written, close the store."""
        self.journal.close_listeners()
        await self.workers.shut_down()
        for writer in self._writers:
            writer.cancel()
        if self._writers:
            await asyncio.wait(self._writers)
        try:
            await self.catalog.flush()
            await self.journal.flush()
        except StoreFailed as error:
            log.warning("store.not_flushed", error=str(error))
        await self._store.close()

    async def ping(self) -> None:
        """Whether the store answers and is ours; StoreFailed if not."""
        async with self._pinging:
            await self._store.ping()

    # ---- making tasks

    async def create(self, project_id: str, new: NewTask) -> tuple[TaskRecord, JobRecord]:
        """Make an online task. There is no machine to be made, so it waits to be configured at once."""
        record = TaskRecord(
            task_id=str(uuid.uuid4()),
            project_id=project_id,
            name=new.name,
            description=new.description,
            created_at=_now(),
            vpc_id=new.vpc_id,
            subnet_id=new.subnet_id,
            security_group_id=new.security_group_id,
        )
        return record, await self._add(record, "create_migration_instance")

    async def create_import(self, project_id: str, new: NewImport) -> TaskRecord:
        """Make a backup import and start it."""
        target = self.sides.settle(project_id, "target", new.target)
        find_backup(self.workers.settings.backup_dir, new.backup_files)
        await self.sides.check(("target", target))
        record = TaskRecord(
            task_id=str(uuid.uuid4()),
            project_id=project_id,
            name=new.name,
            description=new.description,
            created_at=_now(),
            migration_type=MigrationType.BACKUP_IMPORT,
            migration_method=new.method,
            status=WireStatus.MIGRATING,
            target=target,
            backup_files=new.backup_files,
            network_type=new.network_type,
            run_number=1,
        )
        await self._add(record, "import_backup")
        self.workers.start(record)
        return record

    async def _add(self, record: TaskRecord, job_type: str) -> JobRecord:
        job = JobRecord(
            job_id=str(uuid.uuid4()),
            project_id=record.project_id,
            task_id=record.task_id,
            job_type=job_type,
            status="SUCCESS",
            begin_time=record.created_at,
            end_time=_now(),
        )
        await self.catalog.add(record, job)
        log.info("task.created", task=record.task_id, name=record.name)
        return job

    async def configure(self, project_id: str, task_id: str, wish: Configuration) -> TaskRecord:
        """Configure a task and start it; one that has ended is configured anew."""
        async with self.catalog.lock(project_id, task_id):
            record = self._allowed(project_id, task_id, Call.CONFIGURE)
            source = self.sides.settle(project_id, "source", wish.source)
            target = self.sides.settle(project_id, "target", wish.target)
            if source.addrs == target.addrs:
                raise BadParameter("target_instance.addrs", "source and target are the same server")
            findings = await self.sides.check(("source", source), ("target", target))
            self._refuse_pair_at_work(task_id, source, target)
            started = await self.catalog.change_durably(
                task_id,
                migration_type=MigrationType.ONLINE,
                migration_method=wish.method,
                resume_mode=wish.resume_mode,
                bandwidth_limit_mb=wish.bandwidth_limit_mb,
                source=source,
                target=target,
                backup_files=None,
                status=WireStatus.FULLMIGRATING,
                run_number=record.run_number + 1,
                has_run=False,
                error_message=None,
                task_status=None,
                last_figures=None,
                updated_at=None,
                source_version=findings[0].version[:64] or None,
            )
            log.info(
                "task.configured",
                task=task_id,
                method=str(wish.method),
                resume_mode=str(wish.resume_mode),
                source=source.addrs,
                target=target.addrs,
                bandwidth_limit_mb=wish.bandwidth_limit_mb,
            )
            self.workers.tell_status(started)
            self._forget_run(record)
            self.workers.start(started)
            return started

    def _refuse_pair_at_work(
        self, task_id: str, source: InstanceRecord, target: InstanceRecord
    ) -> None:
        for other in self.catalog:
            if (
                other.task_id != task_id
                and (other.status in WORKING or other.status is WireStatus.TERMINATING)
                and other.source is not None
                and other.target is not None
                and (other.source.addrs, other.target.addrs) == (source.addrs, target.addrs)
            ):
                raise PairAtWork

    # ---- looking

    def figures(self, project_id: str, task_id: str) -> Figures:
        """The newest figures, of a task that is not at work those of its end."""
        record = self.catalog.get(project_id, task_id)
        run = self.workers.run_of(task_id)
        if run is not None:
            return run.figures
        return Figures(**record.last_figures) if record.last_figures else Figures()

    async def logs(
        self, project_id: str, task_id: str, *, level: LogLevel | None, offset: int, limit: int
    ) -> tuple[int, list[LogRow]]:
        """How many log rows match, and some of them, newest first."""
        self.catalog.get(project_id, task_id)
        await self.journal.flush()
        return await self._store.logs(task_id, level=level, offset=offset, limit=limit)

    async def preflight(self, project_id: str, task_id: str) -> list[Finding]:
        """Look at both servers of a configured task, as at its start; changes nothing."""
        settings = self.workers.settings_of(self.catalog.get(project_id, task_id))
        return judge(await gather_facts(settings, sample_seconds=0))

    async def job(self, project_id: str, job_id: str) -> JobRecord:
        """One job."""
        job = await self._store.job(project_id, job_id)
        if job is None:
            raise JobUnknown
        return job

    async def check_connectivity(
        self, project_id: str, task_id: str, choice: InstanceChoice
    ) -> str:
        """Log in to a server; returns why it could not be asked, empty if it answered."""
        self.catalog.get(project_id, task_id)
        role: Role = "source"
        try:
            side = self.sides.settle(project_id, role, choice)
        except BadParameter as error:
            raise BadParameter(
                error.name.removeprefix("source_instance.").replace("source_instance", "addrs"),
                error.reason,
            ) from None
        (finding,) = await self.sides.check((role, side))
        return finding.trouble

    # ---- changing what runs

    async def set_resume_mode(self, project_id: str, task_id: str, mode: ResumeMode) -> None:
        """What follows a lost link, from now on."""
        async with self.catalog.lock(project_id, task_id):
            self._allowed(project_id, task_id, Call.UPDATE)
            await self.catalog.change_durably(task_id, resume_mode=mode)
            run = self.workers.run_of(task_id)
            if run is not None:
                run.set_resume_mode(mode)
            log.info("task.resume_mode", task=task_id, resume_mode=str(mode))

    async def set_bandwidth_limit(
        self, project_id: str, task_id: str, limit_mb: int | None
    ) -> TaskRecord:
        """Most MB/s to the target from now on; None: no limit. A full migration has none."""
        async with self.catalog.lock(project_id, task_id):
            record = self._allowed(project_id, task_id, Call.UPDATE)
            if record.migration_method is not MigrationMethod.INCREMENTAL:
                raise StateForbids(record.status, "only an incremental migration has a limit")
            changed = await self.catalog.change_durably(task_id, bandwidth_limit_mb=limit_mb)
            run = self.workers.run_of(task_id)
            if run is not None:
                run.set_bandwidth_limit(None if limit_mb is None else limit_mb * MIB)
            log.info("task.bandwidth_limit", task=task_id, bandwidth_limit_mb=limit_mb)
            return changed

    async def stop(self, project_id: str, task_id: str) -> TaskRecord:
        """Ask for a stop and return at once; again is the same."""
        async with self.catalog.lock(project_id, task_id):
            record = self._allowed(project_id, task_id, Call.STOP)
            if record.status is WireStatus.TERMINATING:
                return record
            stopping = await self.catalog.change_durably(task_id, status=WireStatus.TERMINATING)
            self.workers.tell_status(stopping)
            self.workers.stop_soon(task_id)
            return stopping

    async def stop_and_wait(self, project_id: str, task_id: str) -> None:
        """Stop; returns when it has ended."""
        await self.stop(project_id, task_id)
        await self.workers.wait_for_end(task_id)

    async def restart(self, project_id: str, task_id: str) -> TaskRecord:
        """Start an ended task again as it was configured; an incremental one goes on from its checkpoint."""
        async with self.catalog.lock(project_id, task_id):
            record = self._allowed(project_id, task_id, Call.RESTART)
            if record.target is None:
                raise StateForbids(record.status)
            if record.source is not None:
                self._refuse_pair_at_work(task_id, record.source, record.target)
            is_import = record.migration_type is MigrationType.BACKUP_IMPORT
            started = await self.catalog.change_durably(
                task_id,
                status=WireStatus.MIGRATING if is_import else WireStatus.FULLMIGRATING,
                has_run=False,
                error_message=None,
                updated_at=None,
            )
            log.info("task.restarted", task=task_id)
            self.workers.tell_status(started)
            self.workers.start(started)
            return started

    async def delete(self, project_id: str, task_ids: list[str]) -> None:
        """Remove tasks; unknown ones are none. All are removed, or none if the status of one forbids it."""
        known = []
        for task_id in dict.fromkeys(task_ids):
            try:
                record = self.catalog.get(project_id, task_id)
            except TaskUnknown:
                continue
            if record.status not in ALLOWED[Call.DELETE]:
                raise StateForbids(record.status)
            known.append(task_id)
        for task_id in known:
            with contextlib.suppress(TaskUnknown):  # another call was faster
                await self._delete_one(project_id, task_id)

    async def _delete_one(self, project_id: str, task_id: str) -> None:
        async with self.catalog.lock(project_id, task_id):
            record = self._allowed(project_id, task_id, Call.DELETE)
            await self.catalog.remove(task_id)
            self.journal.close_listeners(task_id)
            self._forget_run(record)

    def _forget_run(self, record: TaskRecord) -> None:
        """Remove what an earlier run left, beside the call."""
        if record.run_number == 0:
            return
        target = None
        if record.target is not None and record.status is not WireStatus.SUCCESS:
            with contextlib.suppress(ConfigError):  # sealed with a key that is no more
                target = self.sides.endpoint(record.target)
        folder = self.workers.settings.folder_of(record.engine_task_id)
        chore = remove_leftovers(target, record.engine_task_id, folder)
        self.workers.do(chore, name=f"remove leftovers {record.task_id}")

    # ---- conditions

    def _allowed(self, project_id: str, task_id: str, call: Call) -> TaskRecord:
        record = self.catalog.get(project_id, task_id)
        if record.status not in ALLOWED[call]:
            raise StateForbids(record.status)
        return record


def _now() -> datetime:
    return datetime.now(UTC)
