"""What metrics are made of, for all tasks of the service; those without a run show their state alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from engine.service.service import MigrationService
from engine.service.wire_status import WireStatus
from engine.supervision.reading import TaskReading
from engine.supervision.states import PHASES, TaskState

_WITHOUT_RUN = {
    WireStatus.CREATING: TaskState.CREATED,
    WireStatus.RUNNING: TaskState.CREATED,
    WireStatus.TERMINATING: TaskState.STOPPING,
    WireStatus.TERMINATED: TaskState.STOPPED,
    WireStatus.SUCCESS: TaskState.DONE,
    WireStatus.FAILED: TaskState.FAILED,
    WireStatus.MIGRATION_FAILED: TaskState.FAILED,
}


def readings_of(service: MigrationService) -> Iterator[TaskReading]:
    """One for each task there is, under the task's id (not the engine's, which changes with each configuration)."""
    for record in service.catalog:
        run = service.workers.run_of(record.task_id)
        reading = None if run is None else run.reading()
        if reading is not None:
            yield replace(reading, task_id=record.task_id)
            continue
        state = _WITHOUT_RUN.get(record.status, TaskState.CONNECTING)
        yield TaskReading(
            task_id=record.task_id, state=str(state), phase=PHASES.get(state, "handshake")
        )
