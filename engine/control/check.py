"""`redis-ferry check`: the pre-flight report, printed."""

from __future__ import annotations

import json
from typing import Any

from engine.control.choices import OutputFormat
from engine.control.exit_status import DONE, REFUSED
from engine.preflight.findings import Finding, Level, worst
from engine.preflight.gather import gather_facts
from engine.preflight.judge import judge
from engine.settings import TaskSettings

_NAME_WIDTH = 18


async def run_check(settings: TaskSettings, *, sample_seconds: float) -> list[Finding]:
    """Gather and judge; takes about `sample_seconds`."""
    return judge(await gather_facts(settings, sample_seconds=sample_seconds))


def check_status(findings: list[Finding]) -> int:
    """The exit status: warnings are no failure."""
    return REFUSED if worst(findings) is Level.REFUSAL else DONE


def report_text(findings: list[Finding], settings: TaskSettings, output: OutputFormat) -> str:
    """The whole report."""
    if output is OutputFormat.JSON:
        return json.dumps(report_object(findings, settings), indent=2, ensure_ascii=False)
    lines = []
    for it in findings:
        lines.append(f"{it.level.value:<8} {it.name:<{_NAME_WIDTH}} {it.text}")
        if it.remedy:
            lines.append(f"{'':<8} {'':<{_NAME_WIDTH}} -> {it.remedy}")
    lines += ["", _summary(findings)]
    return "\n".join(lines)


def _summary(findings: list[Finding]) -> str:
    counts = {level: sum(it.level is level for it in findings) for level in Level}
    text = (
        f"{counts[Level.OK]} ok, {counts[Level.WARNING]} warnings, {counts[Level.REFUSAL]} refusals"
    )
    verdict = {
        Level.OK: "nothing is in the way",
        Level.WARNING: "it can start; read the warnings",
        Level.REFUSAL: "sync would not start",
    }[worst(findings)]
    return f"{text}: {verdict}"


def report_object(findings: list[Finding], settings: TaskSettings) -> dict[str, Any]:
    """The report of `--format json`."""
    return {
        "source": settings.source.address,
        "target": settings.target.address,
        "task_id": settings.task_id,
        "result": worst(findings).value,
        "findings": [
            {
                "level": it.level.value,
                "side": it.side,
                "name": it.name,
                "text": it.text,
                "remedy": it.remedy,
            }
            for it in findings
        ],
    }
