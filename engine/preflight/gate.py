"""The pre-flight report at the start of `sync`: warnings are logged, a refusal ends the run before it writes."""

from __future__ import annotations

import asyncio

import structlog

from engine.errors import EngineError, SourceRefused, TargetRefused
from engine.preflight.findings import Finding, Level
from engine.preflight.gather import gather_facts
from engine.preflight.judge import judge
from engine.settings import TaskSettings

TIMEOUT_SECONDS = (
    10.0  # a start must not wait for a server that answers nothing; the task has its own limits
)

log = structlog.get_logger("engine.preflight")


async def refuse_or_warn(settings: TaskSettings) -> None:
    """Look at both sides without waiting.

    A side that cannot be reached is left to the task: it knows whether to try again.

    Raises:
        SourceRefused, TargetRefused: the first refusal; all of them have been logged.
    """
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            facts = await gather_facts(settings, sample_seconds=0)
    except TimeoutError:
        log.warning("preflight.given_up", message=f"no answers within {TIMEOUT_SECONDS:g} s")
        return
    if facts.source.error is not None or facts.target.error is not None:
        log.debug("preflight.left_to_the_task")
        return
    refusals = []
    for finding in judge(facts):
        facts_of_it = {"name": finding.name, "message": finding.text}
        if finding.remedy:
            facts_of_it["remedy"] = finding.remedy
        if finding.level is Level.REFUSAL:
            log.error("preflight.refusal", **facts_of_it)
            refusals.append(finding)
        elif finding.level is Level.WARNING:
            log.warning("preflight.warning", **facts_of_it)
        else:
            log.debug("preflight.ok", **facts_of_it)
    if refusals:
        raise _as_error(refusals)


def _as_error(refusals: list[Finding]) -> EngineError:
    first = refusals[0]
    kind = SourceRefused if first.side == "source" else TargetRefused
    others = len(refusals) - 1
    detail = f"and {others} more, see redis-ferry check" if others else ""
    return kind(f"{first.side}: {first.text}", detail=detail, hint=first.remedy)
