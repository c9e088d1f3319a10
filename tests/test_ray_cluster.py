"""ray_cluster.yaml against Ray's own defaults and schema, and against this checkout. Nothing is launched."""

import copy
import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())


def test_ray_accepts_the_cluster_file(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))


def test_ray_would_refuse_a_misspelt_key(cluster: dict[str, Any]) -> None:
    broken = copy.deepcopy(cluster)
    broken["idle_timeout_minute"] = broken.pop("idle_timeout_minutes")
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minute"):
        validate_config(prepare_config(broken))


def test_cpu_curation_and_gpu_work_have_node_types_of_their_own(cluster: dict[str, Any]) -> None:
    types = prepare_config(cluster)["available_node_types"]
    workers = {name: node["resources"] for name, node in types.items() if name != cluster["head_node_type"]}
    assert {name for name, resources in workers.items() if not resources.get("GPU")} == {"cpu_curation"}
    assert {name for name, resources in workers.items() if resources.get("GPU")} == {"gpu"}
    assert types["head"]["resources"] == {"CPU": 0}
    assert sum(types[name]["max_workers"] for name in workers) <= cluster["max_workers"]
    assert all(types[name]["min_workers"] < types[name]["max_workers"] for name in workers)


def test_every_node_starts_with_token_authentication(cluster: dict[str, Any]) -> None:
    assert "~/.ray/auth_token" in cluster["file_mounts"]
    starts = [
        line for key in ("head", "worker") for line in cluster[f"{key}_start_ray_commands"] if "ray start" in line
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token ray start" in line for line in starts)


def test_no_ray_is_admitted_that_has_no_token_authentication() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(text) for texts in project["optional-dependencies"].values() for text in texts]
    rays = [requirement for requirement in wanted if requirement.name == "ray"]
    assert rays and not any(requirement.specifier.contains("2.51.9") for requirement in rays)  # 2.52.0 brought it


def test_nodes_install_extras_that_exist(cluster: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r"reelpack-\S+\[([\w,]+)\]", " ".join(cluster["setup_commands"]))
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_images_hold_the_ray_that_was_tested(cluster: dict[str, Any]) -> None:
    images = [cluster["docker"]["image"], cluster["available_node_types"]["gpu"]["docker"]["worker_image"]]
    assert {image.split(":")[1].split("-")[0] for image in images} == {version("ray")}
