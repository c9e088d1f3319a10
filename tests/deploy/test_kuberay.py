"""Manifests for KubeRay: known fields, versions that fit, and entry points that reelpack has."""

import copy
import re
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest

from tests.deploy.manifests import MANIFESTS, ROOT, check, documents, entrypoints, pods
from tests.deploy.words import check_words

JOBS = ("curate_videos", "caption_clips", "encode_latents", "train_dit")
CLUSTER = ROOT / "deploy" / "kuberay" / "cluster.yaml"


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.stem)
def test_every_field_is_one_that_kuberay_or_kubernetes_has(file: Path) -> None:
    for document in documents(file):
        check(document)


@pytest.mark.parametrize("wrong", ["a field of the cluster", "a type", "a field of a pod"])
def test_a_slip_in_a_manifest_is_found(wrong: str) -> None:
    cluster = copy.deepcopy(documents(CLUSTER)[1])
    group = cluster["spec"]["workerGroupSpecs"][0]
    if wrong == "a field of the cluster":
        cluster["spec"]["enableAutoscaling"] = True
    elif wrong == "a type":
        group["minReplicas"] = "0"
    else:
        group["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        check(cluster)


def test_jobs_select_the_cluster_that_is_made() -> None:
    names = {document["metadata"]["name"] for document in documents(CLUSTER) if document["kind"] == "RayCluster"}
    selected = {
        document["spec"]["clusterSelector"]["ray.io/cluster"]
        for file in MANIFESTS
        for document in documents(file)
        if document["kind"] == "RayJob"
    }
    assert selected == names


def test_the_four_jobs_are_there_and_their_words_are_understood() -> None:
    found = dict(entrypoints())
    assert {words[2] for words in found.values()} == {f"pipelines.{module}" for module in JOBS}
    for words in found.values():
        assert words[:2] == ["python", "-m"]
        check_words(words)


def test_ray_is_of_one_version_everywhere() -> None:
    (pinned,) = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert documents(CLUSTER)[1]["spec"]["rayVersion"] == pinned
    assert f"rayproject/ray:{pinned}-py311" in (ROOT / "ray_cluster.yaml").read_text()


def test_pods_run_as_a_user_without_rights_and_are_probed() -> None:
    found = [document for file in MANIFESTS for document in documents(file) if document["apiVersion"] == "ray.io/v1"]
    for pod in (pod for document in found for pod in pods(document)):
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert {"requests", "limits"} <= container["resources"].keys()
            if container["name"] in ("ray-head", "ray-worker"):
                assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()


def test_no_manifest_holds_a_secret() -> None:
    assert all(document["kind"] != "Secret" for file in MANIFESTS for document in documents(file))
    cluster = documents(CLUSTER)[1]
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    for pod in pods(cluster):
        (container,) = pod["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "reelpack-s3", "optional": True}}]
