"""Validates each object in the Kubernetes manifests against the schema of its kind. Unknown fields are errors."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

VERSION = "1.31"
MANIFESTS = Path(__file__).parent.parent.parent / "deploy" / "kubernetes"


def objects() -> list[dict[str, Any]]:
    """Return all objects of the kinds that Kubernetes defines, and the pod templates of each RayCluster."""
    found = []
    for path in sorted(MANIFESTS.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document["kind"] == "RayCluster":
                found += pods_of(document["spec"])
            elif document["kind"] != "Kustomization":
                found.append(document)
    return found


def pods_of(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    groups = {"head": cluster["headGroupSpec"]} | {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    return [
        {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": group["template"]}
        for name, group in groups.items()
    ]


def name_of(value: dict[str, Any]) -> str:
    return f"{value['kind']} {value['metadata']['name']}"


@pytest.mark.parametrize("value", objects(), ids=name_of)
def test_object_matches_the_schema_of_its_kind(value: dict[str, Any]) -> None:
    kubernetes_validate.validate(value, VERSION, strict=True)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "PodTemplate"])
def test_a_misspelled_field_of_a_container_raises(kind: str) -> None:
    value = copy.deepcopy(next(each for each in objects() if each["kind"] == kind))
    template = value["template"] if kind == "PodTemplate" else value["spec"]["template"]
    template["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(value, VERSION, strict=True)
