"""Models compared: equal budgets and parameters, runs that resume, and what is said of them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from curate.report.comparison import build_comparison, points
from pipelines.commands.compare import _variant
from pipelines.config import Config, load_config
from pipelines.drivers.compare import Sizes, _matched, compare
from tests.support.latents import smooth_clips, write_dataset

SIZES = Sizes(channels=4, text_dim=12)
SMALL = ["train.model={width: 32, depth: 1, num_heads: 2, position: sincos}", "train.steps=4", "train.device=cpu"]
SMALL += ["train.evaluate.held_out.every=2", "train.data.plan.token_budget=256", "train.evaluate.samples.every=0"]


def settings(*more: str) -> Config:
    return load_config(None, [*SMALL, *more])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_dataset(tmp_path_factory.mktemp("compare") / "dataset", smooth_clips(12, num_val=4)))


def test_a_deeper_model_gets_fewer_steps_of_the_same_operations(dataset: str, tmp_path: Path):
    out = str(tmp_path / "out")
    variants = {"one": settings(), "four": settings("train.model.depth=4")}
    found, page = compare(dataset, out, variants, budget="flops", match_parameters=False, seeds=[0])
    by_name = {one.name: one for one in found}
    assert by_name["one"].steps == 4 and by_name["four"].steps < 4
    assert by_name["four"].tflop == pytest.approx(by_name["one"].tflop, rel=0.5)  # of whole steps
    assert found == sorted(found, key=lambda one: one.loss)
    stored = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert {one["name"] for one in stored["variants"]} == {"one", "four"}
    text = Path(page).read_text()
    assert "<polyline" in text and f"{by_name['one'].loss:.4f}" in text

    metrics = tmp_path / "out" / "one" / "seed-0" / "metrics.jsonl"
    before = metrics.read_text()
    again, _ = compare(dataset, out, variants, budget="flops", match_parameters=False, seeds=[0])
    assert metrics.read_text() == before and {one.name: one.loss for one in again} == {
        one.name: one.loss for one in found
    }


def test_parameters_are_matched_by_the_width():
    target = SIZES.num_parameters(settings().train)
    deep = settings("train.model.depth=6").train
    found, count = _matched(SIZES, "deep", deep, target)
    assert abs(count - target) <= 0.05 * target and SIZES.num_parameters(found) == count
    assert found.model.width < 32 and found.model.depth == 6
    with pytest.raises(
        ValueError, match=r"deep: got [\d,]+ parameters at width \d+, expected about 100 .*change its depth"
    ):
        _matched(SIZES, "deep", deep, 100)


def test_without_held_out_losses_there_is_nothing_to_compare(dataset: str, tmp_path: Path):
    variants = {"one": settings("train.evaluate.held_out.every=0")}
    with pytest.raises(ValueError, match=r"one: train\.evaluate\.held_out\.every is 0"):
        compare(dataset, str(tmp_path / "out"), variants, budget="steps", match_parameters=False, seeds=[0])


def test_a_variant_is_a_name_with_settings_or_a_file(tmp_path: Path):
    name, config = _variant("deep=train.model.depth=3; train.steps=7", None, SMALL)
    assert (name, config.train.model.depth, config.train.steps, config.train.model.width) == ("deep", 3, 7, 32)
    (tmp_path / "m.yaml").write_text("train: {steps: 9}")
    assert _variant(f"file={tmp_path / 'm.yaml'}", None, [])[1].train.steps == 9
    for wrong in ("deep", "a/b=train.steps=1", "=train.steps=1"):
        with pytest.raises(ValueError, match=f"--variant {re.escape(wrong)}: expected NAME=SETTINGS"):
            _variant(wrong, None, [])


def run(seed: int, *curve: tuple[int, float, float]) -> dict[str, Any]:
    return {"seed": seed, "curve": [list(point) for point in curve], "tokens_per_s": 10.0, "memory_gib": 1.0}


def test_points_are_means_over_the_seeds_of_what_all_have():
    runs = [run(0, (2, 1.0, 3.0), (4, 2.0, 2.0)), run(1, (2, 1.2, 5.0), (4, 2.0, 2.0), (6, 3.0, 1.0))]
    (x, y, spread), last = points({"runs": runs})
    assert (x, y, spread) == pytest.approx((1.1, 4.0, 2**0.5)) and last == (2.0, 2.0, 0.0)


def test_names_are_escaped_and_one_evaluation_gives_no_curve(tmp_path: Path):
    variant = {"name": "<b>", "num_parameters": 5, "steps": 2, "tflop": 1.0, "runs": [run(0, (2, 1.0, 3.0))]}
    facts = {"dataset": "d", "budget": "steps", "match_parameters": False, "seeds": [0], "variants": [variant]}
    (tmp_path / "compare.json").write_text(json.dumps(facts))
    text = Path(build_comparison(str(tmp_path))).read_text()
    assert "&lt;b&gt;" in text and "<b>" not in text.partition("<h2>")[2] and "<polyline" not in text
