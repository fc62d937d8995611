"""Half a minute of the soak, and its judgement on made-up figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.arena import SERVER
from tests.faults.soak import MIB, Findings, Sample, growth, soaking
from tests.fix_servers import SERVER_NAMES


@pytest.mark.live
@pytest.mark.faults
@pytest.mark.skipif(SERVER not in SERVER_NAMES, reason=f"no {SERVER} on this machine")
def test_half_a_minute_of_faults_leaves_no_difference_and_nothing_grows(tmp_path: Path) -> None:
    with soaking(tmp_path, server=SERVER, seconds=25, seed=20) as soak:
        findings = soak.run()
    assert findings.failures == []
    assert findings.faults.total() >= 5
    assert findings.totals["full_resyncs"] >= 1
    assert findings.commands > 5000


@pytest.mark.parametrize(
    ("last", "failures"),
    [
        (Sample(2, 61 * MIB, 13), []),
        (Sample(2, 120 * MIB, 13), ["memory grows"]),
        (Sample(2, 61 * MIB, 40), ["file handles grow"]),
    ],
)
def test_growth_is_judged_within_the_last_run(last: Sample, failures: list[str]) -> None:
    findings = Findings()
    samples = [Sample(1, 10 * MIB, 5)] * 8 + [Sample(2, 30 * MIB, 12)] * 4
    samples += [Sample(2, 60 * MIB, 12)] * 8 + [last] * 4
    growth(samples, findings)
    assert findings.failures == failures
    assert findings.rss_max_bytes >= 60 * MIB
    assert (findings.files_first, findings.files_last) == (12, last.open_files)
