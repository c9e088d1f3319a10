"""What every generation task keeps to."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from tests.support.families import members, with_member
from train.data.config import DataConfig
from train.data.tasks import config as family
from train.data.tasks.base import Task, pick, task_for
from train.data.tasks.config import TaskConfig
from train.data.tasks.first_frames import FirstFrames
from train.data.tasks.unconditional import Unconditional
from train.packing.batch import Sample, pack
from train.packing.patches import grid_size

EXTENDED = with_member(family, "tests.support.members.last_frame", "LastFrame", after="| FirstFrames")
TASKS = [member() for member in members(EXTENDED.TaskConfig)]
PATCHES = ((1, 2, 2), (2, 2, 2))
LENGTHS = (1, 2, 3, 7)


def of_length(num_frames: int) -> Sample:
    latent = torch.randn(4, num_frames, 4, 6, generator=torch.Generator().manual_seed(num_frames))
    return Sample(clip_id="a", latent=latent, noise=torch.randn_like(latent), timestep=0.5, fps=12, text=None)


def drawn(task: Task, sample: Sample, patch: tuple[int, int, int], seed: int = 0) -> Sample:
    return task.draw(sample, patch, torch.Generator().manual_seed(seed))


def mask(sample: Sample, patch: tuple[int, int, int]) -> Tensor:
    t, h, w = grid_size(sample.latent.shape, patch)
    return torch.zeros(t * h * w, dtype=torch.bool) if sample.clean_mask is None else sample.clean_mask


def test_a_member_is_one_file_and_one_line():
    assert [member.__name__ for member in members(EXTENDED.TaskConfig)] == [
        *(member.__name__ for member in members(TaskConfig)),
        "LastFrame",
    ]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_settings_are_found_by_their_kind(task: Task):
    assert TypeAdapter(EXTENDED.TaskConfig).validate_json(task.model_dump_json()) == task


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
@pytest.mark.parametrize("patch", PATCHES)
def test_a_draw_conditions_the_sample_and_leaves_something_to_generate(task: Task, patch: tuple[int, int, int]):
    for num_frames, seed in product(LENGTHS, range(8)):
        before = of_length(num_frames)
        after = drawn(task, before, patch, seed)
        again = drawn(task, before, patch, seed)
        assert torch.equal(mask(after, patch), mask(again, patch)), "a draw is a function of its generator"
        assert after.latent.shape == before.latent.shape and after.noise is before.noise
        assert after.timestep == before.timestep
        batch = pack([after, before], patch, 8)
        assert batch.loss_mask[: batch.segments.lengths[0]].any(), "nothing is left to generate"


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
@pytest.mark.parametrize("patch", PATCHES)
def test_what_is_sampled_was_trained(task: Task, patch: tuple[int, int, int]):
    """The mask of a sampled video is one that training draws, and shows what the user supplied."""
    trained = of_length(7)
    masks = [mask(drawn(task, trained, patch, seed), patch).tolist() for seed in range(64)]
    empty = replace(trained, latent=torch.zeros_like(trained.latent))
    lengths = {name: task.max_latent_frames(name, 7, patch) for name in task.inputs}
    inputs = {name: torch.ones(4, frames, 4, 6) for name, frames in lengths.items()}
    sampled = task.condition(empty, patch, inputs)
    shown = mask(sampled, patch)
    assert shown.tolist() in masks
    assert pack([sampled], patch, 8).tokens[shown].eq(1).all() and bool(inputs) == bool(shown.any())
    assert not empty.latent.any(), "the sample that is conditioned stays as it is"


@pytest.mark.parametrize("task", [task for task in TASKS if task.inputs], ids=lambda task: task.kind)
def test_a_sample_that_is_too_short_is_refused(task: Task):
    with pytest.raises(ValueError, match="longer video"):
        task.max_latent_frames(task.inputs[0], 1, (1, 2, 2))


def test_each_task_is_drawn_by_its_weight():
    tasks = [Unconditional(weight=3), FirstFrames(weight=0), FirstFrames(weight=1, max_frames=5)]
    counts = [sum(pick(tasks, i / 400) is task for i in range(400)) for task in tasks]
    assert counts == [300, 0, 100]
    assert pick(tasks[:2], 1 - 2**-53) is tasks[0]


def test_a_task_is_found_by_what_the_user_supplies():
    tasks = [Unconditional(), FirstFrames(max_frames=5), FirstFrames(weight=0)]
    assert task_for(tasks, ["start"]) is tasks[1]
    with pytest.raises(ValueError, match=r"got end and start, .*first_frames: start.*train\.data\.tasks"):
        task_for(tasks, ["start", "end"])
    with pytest.raises(ValueError, match="got start"):
        task_for(tasks[2:], ["start"])


def test_a_start_shorter_than_a_patch_is_refused():
    with pytest.raises(ValueError, match="a start of 1 latent frames, and a patch has 2"):
        FirstFrames().condition(of_length(4), (2, 2, 2), {"start": torch.ones(4, 1, 4, 6)})


def test_the_old_keys_are_refused_with_the_new_one():
    with pytest.raises(ValidationError, match=r"tasks=\[\{kind: first_frames, weight: 0\.3, max_frames: 2\}"):
        DataConfig.model_validate({"given_probability": 0.3})
    with pytest.raises(ValidationError, match="given_max_frames: first frames are now a task; remove"):
        DataConfig.model_validate({"given_probability": 0.0, "given_max_frames": 4})
    with pytest.raises(ValidationError, match="weights are all 0"):
        DataConfig.model_validate({"tasks": [{"kind": "unconditional", "weight": 0}]})
