"""The exchange of addresses as tasks go through it: its conditions, its course, its traces in the record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from engine.service.catalog import Catalog
from engine.service.exchange import ExchangeFailed, ExchangeHook
from engine.service.journal import Journal
from engine.service.orders import ExchangeOrder
from engine.service.record import InstanceRecord, TaskRecord, storable
from engine.service.refusals import NotConfiguredHere, StateForbids
from engine.service.wire_status import ALLOWED, Call, ExchangeStatus

log = structlog.get_logger("engine.service")

NO_HOOK = "this service has no command or webhook that exchanges addresses"


class Exchanges:
    """do: starts work beside the call, as `do(coroutine, name=…)`."""

    def __init__(
        self, hook: ExchangeHook, *, catalog: Catalog, journal: Journal, do: Callable[..., None]
    ) -> None:
        self._hook = hook
        self._catalog = catalog
        self._journal = journal
        self._do = do

    def go_on(self, record: TaskRecord) -> None:
        """At the start of the service: an exchange that was cut may or may not have happened."""
        if record.task_status is ExchangeStatus.EXCHANGING:
            log.warning(
                "exchange.interrupted",
                task=record.task_id,
                remedy="look which addresses are in force",
            )
            self._catalog.change(record.task_id, task_status=None)
            self._catalog.save_soon(record.task_id)

    async def start(self, project_id: str, task_id: str, order: ExchangeOrder | None) -> None:
        """Have the addresses exchanged, or without an order exchanged back; returns at once.

        Raises:
            StateForbids: exchange only while the stream is followed, back only after an exchange.
            NotConfiguredHere.
        """
        async with self._catalog.lock(project_id, task_id):
            record = self._catalog.get(project_id, task_id)
            if not _is_allowed(record, is_back=order is None):
                raise StateForbids(record.status)
            if not self._hook.is_there:
                raise NotConfiguredHere(NO_HOOK)
            changing = await self._catalog.change_durably(
                task_id, task_status=ExchangeStatus.EXCHANGING
            )
            log.info("exchange.started", task=task_id, is_rollback=order is None)
            work = self._carry_out(changing, order, before=record.task_status)
            self._do(work, name=f"exchange {task_id}")

    async def _carry_out(
        self, record: TaskRecord, order: ExchangeOrder | None, *, before: ExchangeStatus | None
    ) -> None:
        task_id = record.task_id
        wish = order or ExchangeOrder()
        facts: dict[str, Any] = {
            "action": "rollback" if order is None else "exchange",
            "project_id": record.project_id,
            "task_id": task_id,
            "source": _side_facts(record.source),
            "target": _side_facts(record.target),
            "exchanged_ip": list(wish.exchanged_ip),
            "is_exchange_domain": wish.is_exchange_domain,
        }
        after, error = before, None
        try:
            await self._hook.carry_out(facts)
            after = (
                ExchangeStatus.ROLLBACK_SUCCESS
                if order is None
                else ExchangeStatus.EXCHANGE_SUCCESS
            )
            log.info("exchange.done", task=task_id, task_status=str(after))
        except ExchangeFailed as failure:
            error = storable(f"the exchange of addresses failed: {failure}")
            log.error("exchange.failed", task=task_id, error=str(failure))  # noqa: TRY400 - expected
        if self._catalog.find(task_id) is not None:
            self._catalog.change(task_id, task_status=after, error_message=error)
            self._catalog.save_soon(task_id)
            self._journal.publish(task_id, "exchange", {"task_status": after})


def _is_allowed(record: TaskRecord, *, is_back: bool) -> bool:
    if is_back:
        return record.task_status is ExchangeStatus.EXCHANGE_SUCCESS
    is_at_it = record.task_status is ExchangeStatus.EXCHANGING
    return record.status in ALLOWED[Call.EXCHANGE] and not is_at_it


def _side_facts(side: InstanceRecord | None) -> dict[str, Any] | None:
    return None if side is None else {"id": side.id, "addrs": side.addrs, "name": side.name}
