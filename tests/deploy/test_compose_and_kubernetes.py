"""The containers of Compose and of Kubernetes have the same commands, variables, ports, health checks and volumes.

What each of them must have is derived from the other one, so a change of one alone fails.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml

from service.settings import unknown_variables
from service.stack.mlflow_server import UVICORN_OPTIONS

ROOT = Path(__file__).parent.parent.parent
MANIFESTS = ROOT / "deploy" / "kubernetes"
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
# Compose's name of a service, and Kubernetes' name of the same one. KubeRay adds the ending.
HEAD = {"ray-head:6379": "ray-head-svc:6379"}
# What each container of the image is in Kubernetes: the file, and the path of the pod's template and of the container.
PODS = {
    "postgres": ("postgres.yaml", "containers"),
    "migrate": ("api.yaml", "initContainers"),
    "mlflow": ("mlflow.yaml", "containers"),
    "api": ("api.yaml", "containers"),
    "ray-head": ("ray-cluster.yaml", "head"),
    "ray-worker": ("ray-cluster.yaml", "cpu"),
    "ray-gpu-worker": ("ray-cluster.yaml", "gpu"),
}
RAY = [name for name in PODS if name.startswith("ray-")]
OTHERS = [name for name in PODS if name not in RAY]


def objects(file: str) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all((MANIFESTS / file).read_text()) if each]


def group(name: str) -> dict[str, Any]:
    """The head's or a worker group's part of the Ray cluster."""
    spec = objects("ray-cluster.yaml")[0]["spec"]
    groups = {each["groupName"]: each for each in spec["workerGroupSpecs"]} | {"head": spec["headGroupSpec"]}
    return dict(groups[name])


def pod(name: str) -> dict[str, Any]:
    """The pod in which a service of Compose runs in Kubernetes."""
    file, place = PODS[name]
    if file == "ray-cluster.yaml":
        return dict(group(place)["template"]["spec"])
    (workload,) = (each for each in objects(file) if "template" in each.get("spec", {}))
    return dict(workload["spec"]["template"]["spec"])


def container(name: str) -> dict[str, Any]:
    _, place = PODS[name]
    (found,) = pod(name)[place if place.endswith("ontainers") else "containers"]
    return dict(found)


def image_variables() -> dict[str, str]:
    (block,) = re.findall(r"^ENV PATH=.*?[^\\]$", DOCKERFILE, re.MULTILINE | re.DOTALL)
    return dict(re.findall(r'(\w+)="?([^"\\]*?)"?(?: \\)?$', block, re.MULTILINE))


def compose_variables(name: str) -> dict[str, str]:
    """A service's variables, with secrets as <NAME>, without those that are empty by default."""

    def value_of(text: str) -> str:
        secret = re.sub(r"\$\{(\w+):\?[^}]*\}", r"<\1>", text)
        return re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", secret)

    found = {key: value_of(str(value)) for key, value in SERVICES[name]["environment"].items()}
    return {key: HEAD.get(value, value) for key, value in found.items() if value}


def kubernetes_variables(name: str) -> dict[str, str]:
    """A container's variables, with secrets as <NAME>, without those that serve only to build other ones."""
    assert "envFrom" not in container(name), "each container gets only the secrets that it needs"
    found, used = {}, set()
    for entry in container(name)["env"]:
        if "valueFrom" in entry:
            found[entry["name"]] = f"<{entry['valueFrom']['secretKeyRef']['key']}>"
        else:
            # A reference is expanded only if it is defined before.
            names = re.findall(r"\$\((\w+)\)", entry["value"])
            assert set(names) <= found.keys()
            used |= set(names)
            found[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], entry["value"])
    return {key: value for key, value in found.items() if key not in used}


def probed(entry: dict[str, Any]) -> str:
    """What a probe asks, as the argument of `healthy`."""
    if "httpGet" in entry:
        return f"http://127.0.0.1:{entry['httpGet']['port']}{entry['httpGet']['path']}"
    return " ".join(entry["exec"]["command"]).removeprefix("healthy ")


@pytest.mark.parametrize("name", OTHERS)
def test_variables_are_the_same(name: str) -> None:
    assert kubernetes_variables(name) == compose_variables(name)


@pytest.mark.parametrize("name", RAY)
def test_variables_of_ray_nodes_are_the_same(name: str) -> None:
    """KubeRay starts the nodes, and so knows the address of the head."""
    compose = compose_variables(name)
    assert compose.pop("RAY_HEAD") == "ray-head-svc:6379"
    image = image_variables()
    assert image["RAY_AUTH_MODE"] == "token"
    assert image | kubernetes_variables(name) == image | compose


@pytest.mark.parametrize("name", [name for name in PODS if name != "postgres"])
def test_the_service_accepts_every_variable(name: str) -> None:
    """`gradfleet serve` and `migrate` end if there is a variable that is not a setting."""
    variables = [entry["name"] for entry in container(name)["env"]]
    assert unknown_variables([*variables, *SERVICES[name]["environment"], *image_variables()]) == []


@pytest.mark.parametrize("name", PODS)
def test_no_pod_gets_variables_from_the_names_of_services(name: str) -> None:
    """Kubernetes would set MLFLOW_PORT for a service `mlflow`, and GRADFLEET_PORT for a service `gradfleet`."""
    assert pod(name)["enableServiceLinks"] is False


@pytest.mark.parametrize("name", ["migrate", "mlflow", "api"])
def test_commands_are_the_same(name: str) -> None:
    assert container(name)["command"] == [part.replace("$$", "$") for part in SERVICES[name]["command"]]


def test_ray_is_started_with_the_same_options() -> None:
    head = dict(re.findall(r"--([\w-]+)=(\S+)", " ".join(SERVICES["ray-head"]["command"])))
    assert head.pop("port") == "6379"  # KubeRay's as well
    assert group("head")["rayStartParams"] == head
    script = (ROOT / "deploy" / "ray-node").read_text()
    worker = dict(re.findall(r"--(object-store-memory) (\d+)", script))
    assert worker
    for name in ("cpu", "gpu"):
        assert group(name)["rayStartParams"] == worker


def test_a_stopped_node_does_not_wait_for_its_jobs() -> None:
    """Ray's own default is longer than the time after which Compose kills a container."""
    code = "from ray._private import ray_constants as ray; print(ray.RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S)"
    variables = {name: value for name, value in image_variables().items() if name.startswith("RAY_")}
    for given, expected in (({}, "30.0"), (variables, "0.0")):
        environment = {"PATH": os.environ["PATH"], **given}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


def test_uvicorn_is_patient_with_the_processes_of_mlflow() -> None:
    """By default Uvicorn kills a process that does not respond for five seconds, as while MLflow is imported on a busy
    machine, so that the server never starts. Otherwise its options are those of `gradfleet up`, which has one process.
    """
    patience = "--timeout-worker-healthcheck 120"
    options = image_variables()["MLFLOW_UVICORN_OPTS"]
    assert options == UVICORN_OPTIONS.replace("--fd 0", patience)
    parsed = uvicorn.main.make_context("uvicorn", [*options.split(), "module:app"]).params
    assert (parsed["ws"], parsed["timeout_worker_healthcheck"]) == ("none", 120)


@pytest.mark.parametrize("name", ["postgres", "mlflow", "api", *RAY])
def test_health_checks_are_the_same(name: str) -> None:
    test = SERVICES[name]["healthcheck"]["test"]
    expected = " ".join(test[1:]).removeprefix("healthy ")
    probes = {kind: entry for kind, entry in container(name).items() if kind.endswith("Probe")}
    assert {"startupProbe", "readinessProbe"} <= probes.keys()
    assert {kind: probed(entry) for kind, entry in probes.items()} == dict.fromkeys(probes, expected)


@pytest.mark.parametrize("name", ["postgres", "mlflow", "api"])
def test_ports_are_the_same(name: str) -> None:
    (service,) = (each for each in objects(PODS[name][0]) if each["kind"] == "Service")
    (port,) = (entry["port"] for entry in service["spec"]["ports"])
    assert [entry["containerPort"] for entry in container(name)["ports"]] == [port]
    published = [int(entry.rpartition(":")[2]) for entry in SERVICES[name].get("ports", [])]
    assert published in ([port], [])
    # The port that the process listens on, and those that others connect to.
    variables = compose_variables(name)
    listening = variables.get("GRADFLEET_PORT") or variables.get("MLFLOW_PORT") or "5432"
    assert listening == str(port)
    urls = re.findall(rf"//(?:[^@/]*@)?{name}(?::(\d+))?\b", " ".join(compose_variables("api").values()))
    assert set(urls) <= {str(port), ""}


@pytest.mark.parametrize("name", ["mlflow", "api", *RAY])
def test_volumes_are_the_same(name: str) -> None:
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in pod(name)["volumes"]
        if "persistentVolumeClaim" in volume
    }
    mounts = container(name)["volumeMounts"]
    mounted = {f"{claims[mount['name']]}:{mount['mountPath']}" for mount in mounts if mount["name"] in claims}
    assert mounted == set(SERVICES[name]["volumes"])


@pytest.mark.parametrize("name", [name for name in PODS if name != "postgres"])
def test_images_and_accounts_are_the_same(name: str) -> None:
    local = re.sub(r":\$\{GRADFLEET_VERSION:-local\}", "", SERVICES[name]["image"])
    assert container(name)["image"] == local
    uid, gid = re.findall(r"useradd --uid (\d+) --gid (\d+)", DOCKERFILE)[0]
    account = pod(name)["securityContext"]
    assert (account["runAsUser"], account["runAsGroup"], account["fsGroup"]) == (int(uid), int(gid), int(gid))
    assert account["runAsNonRoot"]
    assert container(name)["securityContext"]["capabilities"] == {"drop": SERVICES[name]["cap_drop"]}
