"""Facts in, findings out: the whole report. Pure."""

from __future__ import annotations

from engine.preflight.facts import Facts
from engine.preflight.findings import Finding
from engine.preflight.judge_access import judge_access
from engine.preflight.judge_content import judge_content
from engine.preflight.judge_load import judge_load
from engine.preflight.judge_target import judge_target
from engine.settings import SourceReader


def judge(facts: Facts) -> list[Finding]:
    """All findings, in the order in which they should be read; of a side that cannot be asked only why."""
    findings = judge_access(facts)
    if facts.plan.reader is SourceReader.SCAN:
        findings = [it for it in findings if it.name != "psync"]
    elif facts.source.error is None:
        findings += judge_load(facts)
    if facts.target.error is None:
        findings += judge_target(facts)
    if facts.source.error is None and facts.target.error is None:
        findings += judge_content(facts)
    return findings
