"""Models compared: equal budgets and parameters, runs that resume, and what is said of them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curate.report.comparison import build_comparison, points, verdict
from pipelines.commands.compare import _variant
from pipelines.config import Config, load_config
from pipelines.drivers.compare import Compared, compare
from pipelines.estimate.equal_budget import Cost, of_equal_budget, of_equal_packs
from pipelines.estimate.equal_width import Sizes, of_equal_width
from tests.support.latents import smooth_clips, write_dataset

SIZES = Sizes(channels=4, text_dim=12)
SMALL = ["train.model={width: 32, depth: 1, num_heads: 2, position: sincos}", "train.steps=4", "train.device=cpu"]
SMALL += ["train.evaluate.held_out.every=2", "train.data.plan.token_budget=256", "train.evaluate.samples.every=0"]


def settings(*more: str) -> Config:
    return load_config(None, [*SMALL, *more])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_dataset(tmp_path_factory.mktemp("compare") / "dataset", smooth_clips(12, num_val=4)))


@pytest.fixture(scope="module")
def in_process() -> Iterator[None]:
    """Runs in this process: another takes seconds to start."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("pipelines.drivers.compare", "pipelines.estimate.equal_budget"):
            patch.setattr(f"{module}.in_own_process", lambda function, *given: function(*given))
        yield


def compared(dataset: str, out: str, **variants: Config) -> list[Compared]:
    return compare(dataset, out, variants, budget="flops", match_parameters=False, seeds=range(1))[0]


@pytest.fixture(scope="module")
def done(dataset: str, tmp_path_factory: pytest.TempPathFactory, in_process: None) -> tuple[str, list[Compared]]:
    """A comparison of a shallow model and a deep one."""
    out = str(tmp_path_factory.mktemp("compared") / "out")
    return out, compared(dataset, out, one=settings(), four=settings("train.model.depth=4"))


def test_a_deeper_model_gets_fewer_steps_of_the_same_operations(done: tuple[str, list[Compared]]):
    out, found = done
    by_name = {one.name: one for one in found}
    assert by_name["one"].steps == 4 and by_name["four"].steps < 4
    assert by_name["four"].tflop == pytest.approx(by_name["one"].tflop, rel=0.5)  # of whole steps
    assert found == sorted(found, key=lambda one: one.loss)
    stored = json.loads(Path(out, "compare.json").read_text())
    assert {one["name"] for one in stored["variants"]} == {"one", "four"}
    text = Path(out, "index.html").read_text()
    assert "<polyline" in text and f"{by_name['one'].loss:.4f}" in text


def test_what_is_measured_and_trained_is_not_done_again(
    dataset: str, done: tuple[str, list[Compared]], monkeypatch: pytest.MonkeyPatch
):
    out, found = done
    cost = Path(out, "one", "cost.json")
    saved = json.loads(cost.read_text())
    del saved["settings"]["evaluate"]["samples"]  # as an earlier reelpack saved them
    cost.write_text(json.dumps(saved))
    for module in ("pipelines.drivers.compare", "pipelines.estimate.equal_budget"):
        monkeypatch.setattr(f"{module}.in_own_process", None)
    assert compared(dataset, out, one=settings(), four=settings("train.model.depth=4")) == found


def test_a_run_with_other_settings_is_not_continued(dataset: str, done: tuple[str, list[Compared]]):
    with pytest.raises(ValueError, match=r"one/seed-0 holds a run with another train\.steps"):
        compared(dataset, done[0], one=settings("train.steps=8"))


def test_parameters_are_matched_by_the_width():
    target = SIZES.num_parameters(settings().train)
    deep = settings("train.model.depth=6").train
    found = of_equal_width(SIZES, "deep", deep, target)
    assert abs(SIZES.num_parameters(found) - target) <= 0.05 * target
    assert found.model.width < 32 and found.model.depth == 6
    with pytest.raises(
        ValueError, match=r"deep: got [\d,]+ parameters at width \d+, expected about 100;.*change its depth"
    ):
        of_equal_width(SIZES, "deep", deep, 100)


def test_widths_that_a_unet_takes_are_few_and_found():
    model = "{kind: unet, width: 16, multipliers: [1, 2], depths: [1, 1], attention_levels: [1], num_groups: 4}"
    unet = settings(f"train.model={model}", "train.model.head_width=8", "train.model.condition_width=32").train
    wider = unet.model_copy(update={"model": unet.model.model_copy(update={"width": 48})})
    assert of_equal_width(SIZES, "unet", unet, SIZES.num_parameters(wider)).model.width == 48


def test_packs_of_a_smaller_patch_hold_as_many_clips():
    first = settings("train.data.plan.token_budget=256").train
    fine = settings("train.data.plan.token_budget=256", "train.model.patch=[1, 1, 1]").train
    assert of_equal_packs(fine, first).data.plan.token_budget == 1024
    own = settings("train.data.plan.token_budget=300", "train.model.patch=[1, 1, 1]").train
    assert of_equal_packs(own, first) == own


def test_fewer_steps_are_evaluated_as_often():
    first = settings("train.steps=100", "train.evaluate.held_out.every=25").train
    found = of_equal_budget(first, Cost(tflop=2, seconds=1), first, Cost(tflop=1, seconds=2), "flops")
    assert (found.steps, found.evaluate.held_out.every) == (50, 13)
    assert of_equal_budget(first, Cost(tflop=2, seconds=1), first, Cost(tflop=1, seconds=2), "time").steps == 200


@pytest.mark.parametrize(
    "change",
    ["train.objective.reduction=token", "train.evaluate.held_out.timesteps=[0.5]", "train.data.caption_dropout=0.5"],
)
def test_other_losses_do_not_compare(dataset: str, tmp_path: Path, change: str):
    variants = {"one": settings(), "two": settings(change)}
    told = re.escape(change.partition("=")[0])
    with pytest.raises(ValueError, match=rf"two: got another {told} than one; held-out losses compare where"):
        compare(dataset, str(tmp_path / "out"), variants, budget="steps", match_parameters=False, seeds=[0])


def test_without_held_out_losses_there_is_nothing_to_compare(dataset: str, tmp_path: Path):
    variants = {"one": settings("train.evaluate.held_out.every=0")}
    with pytest.raises(ValueError, match=r"one: train\.evaluate\.held_out\.every is 0"):
        compare(dataset, str(tmp_path / "out"), variants, budget="steps", match_parameters=False, seeds=[0])


def test_a_variant_is_a_name_with_settings_or_a_file(tmp_path: Path):
    name, config = _variant("deep=train.model.depth=3; train.steps=7", None, SMALL)
    assert (name, config.train.model.depth, config.train.steps, config.train.model.width) == ("deep", 3, 7, 32)
    (tmp_path / "m.yaml").write_text("train: {steps: 9}")
    assert _variant(f"file={tmp_path / 'm.yaml'}", None, [])[1].train.steps == 9
    assert _variant("small=dit_s", None, [])[1].train.model.width == 384
    with pytest.raises(ValueError, match=r"--variant odd: train\.model: .*head width 9"):
        _variant("odd=train.model.width=27;train.model.num_heads=3", None, [])
    for wrong in ("deep", "a/b=train.steps=1", "=train.steps=1"):
        with pytest.raises(ValueError, match=f"--variant {re.escape(wrong)}: expected NAME=SETTINGS"):
            _variant(wrong, None, [])


def run(seed: int, *curve: tuple[int, float, float]) -> dict[str, Any]:
    figures = {"tokens_per_s": 10.0, "seconds": 2.0, "memory_gib": 1.0}
    return {"seed": seed, "curve": [list(point) for point in curve], **figures}


def test_points_are_means_over_the_seeds_of_what_all_have():
    runs = [run(0, (2, 1.0, 3.0), (4, 2.0, 2.0)), run(1, (2, 1.2, 5.0), (4, 2.0, 2.0), (6, 3.0, 1.0))]
    (x, y, spread), last = points({"runs": runs})
    assert (x, y, spread) == pytest.approx((1.1, 4.0, 2**0.5)) and last == (2.0, 2.0, 0.0)


def test_overlapping_ranges_are_not_told_apart():
    assert verdict([("a", 1.0, 0.1), ("b", 1.15, 0.1), ("c", 1.3, 0.1)]).startswith("Not told apart from a: b. ")
    assert "overlaps with no other" in verdict([("a", 1.0, 0.01), ("b", 1.1, 0.05)])
    assert "One seed" in verdict([("a", 1.0, None), ("b", 1.1, None)])
    assert "One variant" in verdict([("a", 1.0, None)])


def test_names_are_escaped_and_one_evaluation_gives_no_curve(tmp_path: Path):
    variant = {"name": "<b>", "num_parameters": 5, "steps": 2, "tflop": 1.0, "runs": [run(0, (2, 1.0, 3.0))]}
    facts = {"dataset": "d", "budget": "steps", "match_parameters": False, "seeds": [0], "variants": [variant]}
    (tmp_path / "compare.json").write_text(json.dumps(facts))
    text = Path(build_comparison(str(tmp_path))).read_text()
    assert "&lt;b&gt;" in text and "<b>" not in text.partition("<h2>")[2] and "<polyline" not in text
