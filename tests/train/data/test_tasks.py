"""What every generation task keeps to."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from tests.support.families import members, with_member
from train.data.config import DataConfig
from train.data.fingerprint import joined, stored_lone_frames
from train.data.fit import check_lone_frames
from train.data.manifest import read_manifest
from train.data.tasks import config as family
from train.data.tasks.base import Shown, Task, canvas_of, lone_frames_of, pick, show
from train.data.tasks.both_ends import BothEnds
from train.data.tasks.config import TaskConfig
from train.data.tasks.first_frames import FirstFrames
from train.data.tasks.gray_video import GrayVideoTask
from train.data.tasks.inpainting import Inpainting
from train.data.tasks.key_frames import KeyFrames
from train.data.tasks.last_frames import LastFrames
from train.data.tasks.random_frames import RandomFrames
from train.data.tasks.unconditional import Unconditional
from train.packing.batch import Sample, pack
from train.packing.shapes import LONE_FRAMES, SHOWN
from train.sampling.given import Given, conditioned

EXTENDED = with_member(family, "tests.support.members.middle_frame", "MiddleFrame", after="| KeyFrames")
TASKS = [member() for member in members(EXTENDED.TaskConfig)]
PATCHES = ((1, 2, 2), (2, 2, 2))
LENGTHS = (1, 2, 3, 7)
CONTAINED = {("last_frames", "key_frames"), ("first_frames", "random_frames")}
"""What a task is given that another one draws, too."""


def of_length(num_frames: int) -> Sample:
    latent = torch.randn(4, num_frames, 4, 6, generator=torch.Generator().manual_seed(num_frames))
    return Sample(clip_id="a", latent=latent, noise=torch.randn_like(latent), timestep=0.5, fps=12, text=None)


def drawn(task: Task, num_frames: int, patch: tuple[int, int, int], seed: int = 0) -> Shown | None:
    return task.draw(canvas_of((num_frames, 4, 6), patch), torch.Generator().manual_seed(seed))


def test_a_member_is_one_file_and_one_line():
    added = {member.__name__ for member in members(EXTENDED.TaskConfig)}
    assert added - {member.__name__ for member in members(TaskConfig)} == {"MiddleFrame"}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_settings_are_found_by_their_kind(task: Task):
    assert TypeAdapter(EXTENDED.TaskConfig).validate_json(task.model_dump_json()) == task


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
@pytest.mark.parametrize("patch", PATCHES)
def test_a_draw_leaves_something_to_generate_and_is_what_sampling_takes(task: Task, patch: tuple[int, int, int]):
    for num_frames, seed in product(LENGTHS, range(16)):
        before, shown = of_length(num_frames), drawn(task, num_frames, patch, seed)
        assert num_frames > 1 or shown is None or task.kind == "inpainting", "an image is generated as a whole"
        if shown is None:
            continue
        again = drawn(task, num_frames, patch, seed)
        assert again is not None and np.array_equal(shown.patches, again.patches) and shown.frames == again.frames
        assert task.allows(canvas_of((num_frames, 4, 6), patch), shown)
        pictures = torch.ones(4, len(shown.frames), 4, 6)
        after = show(before, shown, pictures, torch.ones(4, num_frames, 4, 6))
        assert after.latent is before.latent and after.noise is before.noise
        batch = pack([after, before], patch, 8)
        own = batch.loss_mask[: batch.segments.lengths[0]]
        assert own.any(), "nothing is left to generate"
        assert (
            not own.all() or shown.frames or after.conditioning[SHOWN].amin() == 0 < after.conditioning[SHOWN].amax()
        )
        if shown.frames:
            where = after.conditioning[LONE_FRAMES][-1].amax((1, 2)).nonzero()[:, 0].tolist()
            assert tuple(where) == shown.frames


def test_what_was_not_trained_is_refused_with_the_tasks_of_the_run():
    start, end = torch.ones(4, 1, 4, 6), {6: torch.ones(4, 4, 6)}
    of_tasks = {
        "first_frames": ([FirstFrames()], Given(start=start)),
        "last_frames": ([LastFrames()], Given(frames=end)),
        "both_ends": ([BothEnds()], Given(start=start, frames=end)),
        "key_frames": ([KeyFrames()], Given(frames={0: end[6], 3: end[6]})),
        "random_frames": ([RandomFrames()], Given(video=torch.ones(4, 7, 4, 6), kept=rows(7, [0, 3]))),
        "inpainting": ([Inpainting()], Given(video=torch.ones(4, 7, 4, 6), kept=columns(7, [0]))),
        "gray_video": ([GrayVideoTask()], Given(gray=torch.ones(4, 7, 4, 6), gray_frames="first")),
    }
    empty = replace(of_length(7), latent=torch.zeros(4, 7, 4, 6))
    for (kind, (tasks, given)), (other, (others, _)) in product(of_tasks.items(), of_tasks.items()):
        if kind == other or (kind, other) in CONTAINED:
            sampled = conditioned(empty, (1, 2, 2), given, tasks)
            assert not empty.latent.any(), "the sample that is conditioned stays as it is"
            shown = pack([sampled], (1, 2, 2), 8)
            assert shown.tokens[~shown.loss_mask].eq(1).all()
        else:
            with pytest.raises(ValueError, match=rf"trained on the tasks \({other}: --.*train\.data\.tasks"):
                conditioned(empty, (1, 2, 2), given, others)


def rows(num_frames: int, kept: list[int]) -> np.ndarray:
    patches = np.zeros((num_frames, 2, 3), bool)
    patches[kept] = True
    return patches


def columns(num_frames: int, kept: list[int]) -> np.ndarray:
    patches = np.zeros((num_frames, 2, 3), bool)
    patches[..., kept] = True
    return patches


def test_a_start_beyond_the_trained_length_is_refused():
    given = Given(start=torch.ones(4, 3, 4, 6))
    with pytest.raises(ValueError, match="a start of 3 of 7 patches"):
        conditioned(of_length(7), (1, 2, 2), given, [FirstFrames(max_frames=2)])
    assert conditioned(of_length(7), (1, 2, 2), given, [FirstFrames(max_frames=3)]).clean_mask is not None


def test_each_task_is_drawn_by_its_weight():
    tasks = [Unconditional(weight=3), FirstFrames(weight=0), FirstFrames(weight=1, max_frames=5)]
    counts = [sum(pick(tasks, i / 400) is task for i in range(400)) for task in tasks]
    assert counts == [300, 0, 100]
    assert pick(tasks[:2], 1 - 2**-53) is tasks[0]


def test_what_is_encoded_alone_is_what_the_tasks_with_a_weight_need():
    assert lone_frames_of([FirstFrames(), KeyFrames(weight=0)]) == "none"
    assert lone_frames_of([BothEnds(), LastFrames()]) == "last"
    assert lone_frames_of([BothEnds(), LastFrames(max_frames=2)]) == "all"


@pytest.mark.parametrize(
    ("stored", "max_frames", "changes", "needed"),
    [
        ("none", 1, {}, "last"),
        ("last", 1, {}, None),
        ("last", 2, {}, "all"),
        ("all", 2, {}, None),
        ("last", 1, {"token_budget": 1, "oversize": "crop"}, "all"),
        ("all", 1, {"token_budget": 1, "oversize": "crop"}, None),
    ],
)
def test_pictures_that_a_task_shows_are_stored(
    dataset: str, stored: str, max_frames: int, changes: dict[str, object], needed: str | None
):
    """The last frame of a sample that is cut is not the last of its clip."""
    manifest = read_manifest(dataset, split="train", patch=(1, 2, 2))
    manifest = replace(manifest, latents=manifest.latents | {"lone_frames": stored})
    tasks = [{"kind": "last_frames", "max_frames": max_frames}]
    data = DataConfig.model_validate({"tasks": tasks, "plan": {"token_budget": 4096} | changes})
    if needed is None:
        check_lone_frames(manifest, data)
        return
    with pytest.raises(
        ValueError, match=rf"have of these: {stored}; expected {needed}: encode with encode\.lone_frames"
    ):
        check_lone_frames(manifest, data)


def test_several_latents_have_the_frames_that_each_of_them_has():
    records = [{"fingerprint": name, "config": {"lone_frames": name}} for name in ("all", "last")]
    assert stored_lone_frames(joined(records)) == stored_lone_frames(joined(records[::-1])) == "last"
    unstored = {"fingerprint": "x", "config": {"store": False}}
    assert stored_lone_frames(joined([records[0], unstored])) == "all", "what is encoded while training has all"


def test_a_box_of_inpainting_keeps_or_makes_a_region_of_each_frame_and_may_move():
    task, canvas = Inpainting(), canvas_of((5, 16, 16), (1, 1, 1))
    draws = [task.draw(canvas, torch.Generator().manual_seed(seed)) for seed in range(64)]
    shares = [shown.patches.mean() for shown in draws if shown]
    moving = [shown for shown in draws if shown and not (shown.patches == shown.patches[:1]).all()]
    assert len(shares) == 64 and min(shares) < 0.3 < 0.7 < max(shares) and 10 < len(moving) < 40


def test_the_old_keys_are_refused_with_the_new_one():
    with pytest.raises(ValidationError, match=r"tasks=\[\{kind: first_frames, weight: 0\.3, max_frames: 2\}"):
        DataConfig.model_validate({"given_probability": 0.3})
    with pytest.raises(ValidationError, match="given_max_frames: first frames are now a task; remove"):
        DataConfig.model_validate({"given_probability": 0.0, "given_max_frames": 4})
    with pytest.raises(ValidationError, match="weights are all 0"):
        DataConfig.model_validate({"tasks": [{"kind": "unconditional", "weight": 0}]})
