"""What /metrics says, read back by the library's parser and by promtool."""

from __future__ import annotations

import re
import subprocess
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.observability.metrics import Metrics
from engine.stats import LatencyHistogram
from tests.fix_prometheus import program
from tests.observability.readings import line, task, text_of

TASKS, SCRAPE_CPU_SECONDS = 50, 0.01  # 1 % of a core at a scrape a second
OUR_LABELS = {"task", "line", "state", "phase", "kind", "side", "cause", "code", "le"}


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_figures_of_a_line_are_under_its_task_and_line() -> None:
    reading = line(
        "3",
        source_offset=900,
        read_offset=800,
        applied_offset=700,
        keys_applied=60,
        keys_skipped=10,
        bytes_applied=5000,
        snapshot_bytes_applied=3000,
        full_resyncs=3,
        full_resyncs_forced=1,
        partial_resyncs=2,
        source_reconnects=4,
    )

    found = samples(text_of(task("a", reading)))

    of_line = (("line", "3"), ("task", "a"))
    assert found["redis_ferry_lag_bytes", of_line] == 200
    assert found["redis_ferry_lag_seconds", of_line] == 0.25
    assert found["redis_ferry_applied_keys_total", of_line] == 50
    applied = "redis_ferry_applied_bytes_total"
    assert found[applied, (*of_line[:1], ("phase", "snapshot"), of_line[1])] == 3000
    assert found[applied, (*of_line[:1], ("phase", "stream"), of_line[1])] == 2000
    resyncs = {
        kind: found["redis_ferry_resyncs_total", (("kind", kind), *of_line)]
        for kind in ("partial", "full", "full_forced")
    }
    assert resyncs == {"partial": 2, "full": 2, "full_forced": 1}
    assert (
        found["redis_ferry_reconnects_total", (*of_line[:1], ("side", "source"), of_line[1])] == 4
    )
    assert found["redis_ferry_retries_total", (("cause", "SourceLinkLost"), *of_line)] == 2
    assert found["redis_ferry_errors_total", (("code", "TargetLinkLost"), *of_line)] == 1
    assert found["redis_ferry_not_applied_total", (("kind", "module aux"), *of_line)] == 3
    assert found["redis_ferry_task_state", (("state", "stream"), ("task", "a"))] == 1


def test_a_histogram_adds_up() -> None:
    found = samples(text_of(task("a", line())))

    buckets = [
        (dict(labels)["le"], value)
        for (name, labels), value in found.items()
        if name == "redis_ferry_apply_lag_seconds_bucket"
    ]
    counts = [value for _, value in buckets]
    assert counts == sorted(counts)
    assert buckets[-1] == ("+Inf", 2000)
    # Of 0, 0.1, … 19.9 ms, ten times each, a quarter lies up to 5 ms; the bound is rounded to a bucket.
    assert dict(buckets)["0.005"] == pytest.approx(500, rel=0.06)
    assert found["redis_ferry_apply_lag_seconds_count", (("line", "0"), ("task", "a"))] == 2000
    assert found["redis_ferry_apply_lag_seconds_sum", (("line", "0"), ("task", "a"))] == (
        pytest.approx(19.9)
    )


def test_names_units_and_labels_are_conventional() -> None:
    families = list(text_string_to_metric_families(text_of(task("a", line()))))
    ours = [it for it in families if it.name.startswith("redis_ferry_")]

    assert len(ours) > 30
    for family in ours:
        assert re.fullmatch(r"[a-z][a-z_0-9]*[a-z]", family.name)
        assert family.documentation
        assert not re.search(r"_(ms|us|mb|kb|milliseconds)\b", family.name)
        if family.name != "redis_ferry_build_info":
            assert {name for it in family.samples for name in it.labels} <= OUR_LABELS
    text = text_of(task("a", line()))
    for name, kind in re.findall(r"# TYPE (redis_ferry_\S+) (\S+)", text):
        assert name.endswith("_total") == (kind == "counter"), name


def test_names_stand_also_without_a_task_and_go_with_it() -> None:
    with_task, without = text_of(task("gone", line())), text_of()

    assert re.findall(r"# TYPE \S+", with_task) == re.findall(r"# TYPE \S+", without)
    assert "gone" in with_task
    assert "gone" not in without


def test_a_task_before_its_first_connection_has_a_state_and_no_figures() -> None:
    text = text_of(task("new", state="connecting"))

    named = {name for (name, labels) in samples(text) if ("task", "new") in labels}
    assert named == {"redis_ferry_task_state", "redis_ferry_task_phase"}


def test_label_values_are_escaped() -> None:
    odd = 'a"b\\c\nd'

    found = samples(text_of(task(odd, line())))

    assert found["redis_ferry_task_state", (("state", "stream"), ("task", odd))] == 1


def test_promtool_has_nothing_to_say() -> None:
    text = text_of(task("a", line()), task("b", line()))

    done = subprocess.run(
        [program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )  # fmt: skip

    # The last are the library's own names for the interpreter.
    complaints = [it for it in done.stderr.splitlines() if "redis_ferry" in it]
    assert complaints == [], done.stderr
    assert done.returncode in (0, 3), done.stderr


def test_a_scrape_of_fifty_tasks_costs_less_than_one_percent_of_a_core() -> None:
    tasks = [task(f"00000000-0000-4000-8000-{it:012d}", line()) for it in range(TASKS)]
    metrics = Metrics(lambda: tasks, LatencyHistogram())
    took = []
    for _ in range(9):
        began = time.process_time()
        metrics.text()
        took.append(time.process_time() - began)

    assert min(took) < SCRAPE_CPU_SECONDS
