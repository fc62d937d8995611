"""All tasks in memory, written through to the store. The one place that changes a record."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from engine.service.record import JobRecord, TaskRecord
from engine.service.refusals import StoreFailed, TaskUnknown
from engine.service.store import Store
from engine.service.write_behind import write_behind


class Catalog:
    """Records by task id. A change is in memory at once; `save` returns when the store has it.

    What the engine reports is written by `save_soon`, which goes on trying: a store that is away for a
    moment does not end a migration.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._records: dict[str, TaskRecord] = {}
        self._unsaved: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._locks: dict[str, asyncio.Lock] = {}

    async def load(self) -> None:
        """Read all tasks from the store."""
        self._records = {it.task_id: it for it in await self._store.load_tasks()}

    def __iter__(self) -> Iterator[TaskRecord]:
        return iter(list(self._records.values()))

    def get(self, project_id: str, task_id: str) -> TaskRecord:
        """A task of a project.

        Raises:
            TaskUnknown: there is none; a task of another project does not exist either.
        """
        record = self._records.get(task_id)
        if record is None or record.project_id != project_id:
            raise TaskUnknown
        return record

    def find(self, task_id: str) -> TaskRecord | None:
        """A task of whatever project."""
        return self._records.get(task_id)

    def page(
        self, project_id: str, *, name: str | None, offset: int, limit: int
    ) -> tuple[int, list[TaskRecord]]:
        """How many of a project's tasks there are (with this very name), and some of them, newest first."""
        found = [
            it
            for it in self._records.values()
            if it.project_id == project_id and (name is None or it.name == name)
        ]
        found.sort(key=lambda it: (it.created_at, it.task_id), reverse=True)
        return len(found), found[offset : offset + limit]

    def lock(self, project_id: str, task_id: str) -> asyncio.Lock:
        """Held by a call while it decides about a task and changes it; TaskUnknown as `get`."""
        self.get(project_id, task_id)
        return self._locks.setdefault(task_id, asyncio.Lock())

    async def add(self, record: TaskRecord, job: JobRecord) -> None:
        """Add a new task."""
        await self._store.insert_task(record, job)
        self._records[record.task_id] = record

    def change(self, task_id: str, **changes: Any) -> TaskRecord:
        """Change a record in memory. A task that is gone cannot be changed: KeyError."""
        record = self._records[task_id].changed(**changes)
        self._records[task_id] = record
        return record

    async def change_durably(self, task_id: str, **changes: Any) -> TaskRecord:
        """Change a record; when this returns the store has it.

        Raises:
            StoreFailed: it has not, and the record is as it was.
        """
        before = self._records[task_id]
        changed = self.change(task_id, **changes)
        try:
            await self._store.update_task(changed)
        except StoreFailed:
            now = self._records.get(task_id)
            if now is not None:
                back = {name: getattr(before, name) for name in changes}
                self._records[task_id] = now.changed(**back)
            raise
        if self._records.get(task_id) is not changed:
            self.save_soon(task_id)  # it changed meanwhile, and our write may have come last
        return changed

    def save_soon(self, task_id: str) -> None:
        """Have the record written as it is by then."""
        self._unsaved[task_id] = None
        self._wake.set()

    async def remove(self, task_id: str) -> None:
        """Remove a task from the store and from memory."""
        await self._store.delete_task(task_id)
        self._records.pop(task_id, None)
        self._unsaved.pop(task_id, None)
        self._locks.pop(task_id, None)

    async def write_unsaved(self) -> None:
        """Write what `save_soon` was told, for ever; cancelled at the end."""
        await write_behind(self._wake, self.flush, failed="store.write_failed")

    async def flush(self) -> None:
        """Write what is not written yet.

        Raises:
            StoreFailed: the rest is still not written.
        """
        for task_id in list(self._unsaved):
            record = self._records.get(task_id)
            if record is not None:
                await self._store.update_task(record)
            if self._records.get(task_id) is record:
                self._unsaved.pop(task_id, None)
            else:
                self._wake.set()
