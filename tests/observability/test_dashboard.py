"""The rules and the dashboard ask for series that there are."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.fix_prometheus import ROOT, RULES, program
from tests.observability.readings import line, task, text_of

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "redis-ferry.json"
OPERATIONS = ROOT / "OPERATIONS.md"


def exported() -> dict[str, set[str]]:
    """Names of all series, and the labels of each."""
    found: dict[str, set[str]] = {"up": {"job", "instance"}}
    for family in text_string_to_metric_families(text_of(task("a", line()))):
        for sample in family.samples:
            found.setdefault(sample.name, {"job", "instance"}).update(sample.labels)
    return found


def rules() -> list[dict[str, str]]:
    return [it for group in yaml.safe_load(RULES.read_text())["groups"] for it in group["rules"]]


def recorded() -> set[str]:
    return {it["record"] for it in rules() if "record" in it}


def expressions() -> dict[str, str]:
    """Of all rules and panels, by a name for the test's id."""
    found = {it.get("record", it.get("alert", "")): it["expr"] for it in rules()}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            found[f"{panel['title']} {panel['id']}{target['refId']}"] = target["expr"]
    return found


@pytest.mark.parametrize("expression", expressions().values(), ids=expressions())
def test_every_expression_asks_for_exported_series_and_labels(expression: str) -> None:
    known = exported()
    bare = re.sub(r'"[^"]*"', '""', expression)
    asked = set(re.findall(r"\b(?:up|(?:redis_ferry|process|python)_\w+|[a-z_]+:[\w:]+)\b", bare))

    assert asked
    assert asked - set(known) - recorded() == set()
    for name, matchers in re.findall(r"([\w:]+)\{([^}]*)\}", bare):
        labels = set(re.findall(r"(\w+)\s*(?:=~|=|!=|!~)", matchers))
        assert labels <= known.get(name, {"task", "line", "instance"}), name


def test_the_variables_of_the_dashboard_ask_for_exported_series() -> None:
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
            assert found is not None
            assert found[2] in exported()[found[1]]


def test_every_panel_can_be_told_apart_and_none_overlaps() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    cells = [
        (x, y)
        for it in panels
        for x in range(it["gridPos"]["x"], it["gridPos"]["x"] + it["gridPos"]["w"])
        for y in range(it["gridPos"]["y"], it["gridPos"]["y"] + it["gridPos"]["h"])
    ]

    assert len({it["id"] for it in panels}) == len(panels)
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


# Figures behind others that are shown (lags, ratios), or for those who ask by hand.
NOT_SHOWN = {
    "build_info", "task_phase", "source_offset_bytes", "applied_offset_bytes", "snapshot_read_bytes", "snapshot_size_bytes",
    "spool_memory_limit_bytes", "spool_spilled_bytes_total", "expiries_owed", "filtered_keys_total", "filtered_commands_total",
}  # fmt: skip


def test_every_exported_series_is_explained_and_all_but_few_are_shown() -> None:
    names = set(re.findall(r"# TYPE redis_ferry_(\S+) ", text_of(task("a", line()))))
    explained = set(re.findall(r"`(\w+)(?:\{[\w,]+\})?`", OPERATIONS.read_text()))
    asked = " ".join(expressions().values())
    shown = {it for it in names if re.search(rf"\bredis_ferry_{it}(?:_bucket)?\b", asked)}

    assert names - explained == set()
    assert names - shown == NOT_SHOWN


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        [program("promtool"), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_and_their_tests_pass() -> None:
    promtool("check", "rules", RULES)
    promtool("test", "rules", RULES.with_name("rules_test.yml"))


def test_every_expression_of_the_dashboard_can_be_parsed(tmp_path: Path) -> None:
    texts = [it.replace("$task", ".*") for it in expressions().values()]
    rule_file = tmp_path / "panels.yml"
    rule_file.write_text(
        yaml.safe_dump(
            {"groups": [{"name": "panels", "rules": [
                {"record": f"panel:{number}", "expr": text} for number, text in enumerate(texts)
            ]}]}
        )
    )  # fmt: skip

    promtool("check", "rules", rule_file)


def test_every_alert_is_tested_and_explained() -> None:
    tests = RULES.with_name("rules_test.yml").read_text()
    explained = OPERATIONS.read_text()
    for alert in (it["alert"] for it in rules() if "alert" in it):
        fires = rf"alertname: {alert}\n\s+exp_alerts:"
        assert re.search(fires, tests), f"{alert} is not seen firing"
        assert f"`{alert}`" in explained, f"{alert} is not in OPERATIONS.md"
