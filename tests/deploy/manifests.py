"""The manifests of deploy/, and what they are checked with."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

ROOT = Path(__file__).parents[2]
MANIFESTS = sorted((ROOT / "deploy" / "kuberay").glob("*.yaml"))
KUBERNETES = "1.31"


def documents(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(file.read_text()))


def check(document: dict[str, Any]) -> None:
    """See that KubeRay and Kubernetes know every field.

    Raises:
        ValidationError: of jsonschema or kubernetes_validate.
    """
    if document["apiVersion"] != "ray.io/v1":
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        return
    jsonschema.validate(document, json.loads((Path(__file__).parent / "kuberay.schema.json").read_text()))
    for pod in pods(document):
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": pod["spec"]}
        kubernetes_validate.validate(whole, KUBERNETES, strict=True)


def pods(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pod templates of a RayCluster or a RayJob."""
    spec = document["spec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]] if document["kind"] == "RayCluster" else []
    yield from (group["template"] for group in groups)
    if "submitterPodTemplate" in spec:
        yield spec["submitterPodTemplate"]


def entrypoints() -> Iterator[tuple[str, list[str]]]:
    """Name of each job, and the words that it starts."""
    for file in MANIFESTS:
        for document in documents(file):
            if document["kind"] == "RayJob":
                yield document["metadata"]["name"], shlex.split(document["spec"]["entrypoint"])
