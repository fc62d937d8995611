"""What no schema of Kubernetes covers in deploy/: against typed models of the programs that read it.

The ServiceMonitor against those that cloudcoil generates of the Prometheus operator's own resource definitions, the dashboard
against those that Grafana Labs generate of Grafana's schema (there is no image of Grafana where these tests are written: that
it draws the panels is seen by nobody here). Both kinds of models pass over fields that they do not know, so each test also
looks whether everything comes out again.
"""

from __future__ import annotations

import copy
import enum
import json
import types
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
MONITOR = ROOT / "deploy" / "kubernetes" / "servicemonitor.yaml"
DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
# Grafana writes it and shows it in the list of variables; its schema does not name it.
NOT_IN_THE_SCHEMA = {"/templating/list/1/definition"}


def lost(before: Any, after: Any, path: str = "") -> list[str]:
    """Places of what is in `before`, and missing or another value in `after`."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            place
            for key, value in before.items()
            for place in (
                lost(value, after[key], f"{path}/{key}") if key in after else [f"{path}/{key}"]
            )
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [place for at, (one, two) in pairs for place in lost(one, two, f"{path}/{at}")]
    return [] if before == after else [path]


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value at the place."""
    made = copy.deepcopy(document)
    *way, last = path.strip("/").split("/")
    inner: Any = made
    for step in way:
        inner = inner[int(step) if isinstance(inner, list) else step]
    inner[last] = value
    return made


# ---- the Prometheus operator


def wrong_in_monitor(manifest: dict[str, Any]) -> list[str]:
    models = pytest.importorskip("cloudcoil.models.prometheus_operator.v1")
    try:
        monitor = models.ServiceMonitor.model_validate(manifest, strict=False)
    except ValueError as error:
        return ["/".join(("", *map(str, it["loc"]))) for it in error.errors()]  # type: ignore[attr-defined]
    return lost(manifest, monitor.model_dump(mode="json", by_alias=True, exclude_unset=True))


def test_the_operator_takes_the_monitor_and_nothing_wrong() -> None:
    manifest = yaml.safe_load(MONITOR.read_text())

    assert wrong_in_monitor(manifest) == []
    for place, value in {
        "/apiVersion": "monitoring.coreos.com/v2",
        "/spec/selector": None,
        "/spec/jobLabel": 7,
        "/spec/jobLable": "app",
        "/spec/endpoints/0/interval": "10 s",
        "/spec/endpoints/0/port": 8000,
        "/spec/endpoints/0/scheme": "ftp",
        "/spec/endpoints/0/intervall": "10s",
        "/metadata/lables": {},
    }.items():
        assert wrong_in_monitor(changed(manifest, place, value)) == [place]


# ---- Grafana


def misfits(value: Any, hint: Any, path: str) -> list[str]:
    """Places where a value is not what the annotations of the model say."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in {Any, object}:
        return []
    if origin in {typing.Union, types.UnionType}:
        return min((misfits(value, it, path) for it in inner), key=len)
    if origin is typing.Literal:
        is_fit = value in inner
    elif origin is list and isinstance(value, list):
        return [it for at, one in enumerate(value) for it in misfits(one, inner[0], f"{path}/{at}")]
    elif origin is dict and isinstance(value, dict):
        return [it for key, one in value.items() for it in misfits(one, inner[1], f"{path}/{key}")]
    elif not isinstance(hint, type) or origin is not None:
        is_fit = False
    elif issubclass(hint, enum.Enum):
        is_fit = value in [it.value for it in hint] or isinstance(value, hint)
    elif hint is float:
        is_fit = type(value) in {int, float}
    elif hint in {int, str, bool, types.NoneType}:
        is_fit = type(value) is hint
    elif isinstance(value, hint):
        fields = typing.get_type_hints(type(value)).items()
        return [
            it for name, of in fields for it in misfits(getattr(value, name), of, f"{path}/{name}")
        ]
    else:
        is_fit = False
    return [] if is_fit else [path]


def wrong_in_dashboard(document: dict[str, Any]) -> list[str]:
    models = pytest.importorskip("grafana_foundation_sdk.models")
    del models
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models import units
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    dashboard = Dashboard.from_json(document)
    # Options and fields of a panel are objects of its type's plugin; `object` in the model says nothing of them.
    options = [
        place
        for at, panel in enumerate(dashboard.panels or [])
        for part in (panel.options, panel.field_config.defaults.custom)
        for place in misfits(part, type(part) if part is not None else object, f"/panels/{at}")
    ]
    known = {it for name, it in vars(units).items() if isinstance(it, str) and name[0] != "_"}
    strange = [
        f"/panels/{at}/unit"
        for at, panel in enumerate(document["panels"])
        if panel["fieldConfig"]["defaults"].get("unit", "short") not in known
    ]
    again = json.loads(json.dumps(dashboard, cls=JSONEncoder))
    places = lost(document, again) + misfits(dashboard, Dashboard, "") + options + strange
    return sorted(set(places) - NOT_IN_THE_SCHEMA)


@pytest.mark.parametrize("path", DASHBOARDS, ids=[it.name for it in DASHBOARDS])
def test_grafana_takes_the_dashboard_and_nothing_wrong(path: Path) -> None:
    document = json.loads(path.read_text())

    assert wrong_in_dashboard(document) == []
    series = next(at for at, it in enumerate(document["panels"]) if it["type"] == "timeseries")
    for place, value in {
        "/refesh": "5s",
        "/editable": "yes",
        "/time/form": "now-15m",
        "/templating/list/0/type": "datasorce",
        "/templating/list/1/refresh": 9,
        "/panels/0/gridPos/w": "8",
        "/panels/0/targets/0/exprr": "up",
        "/panels/0/targets/0/instant": 1,
        "/panels/0/options/textMode": "nam",
        "/panels/0/options/collorMode": "none",
        f"/panels/{series}/fieldConfig/defaults/custom/showPoints": "nevr",
        f"/panels/{series}/fieldConfig/defaults/custom/fillOpacty": 10,
        f"/panels/{series}/fieldConfig/defaults/unit": "byte",
    }.items():
        assert wrong_in_dashboard(changed(document, place, value)) != [], place
