"""Stages, checkpoints and figures of a run, on a tiny LLaVA with random weights."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from caption.finetune.base import Sample
from caption.finetune.config import CaptionerTrainConfig
from caption.finetune.load import load_learner, resolved_model
from caption.finetune.loop import Run, lr_factor

ROOT = Path(__file__).parents[3]
STAGES = (
    {"name": "projector", "lr": {"projector": 1e-2}, "tasks": {"short": 1}, "steps": 3, "batch_size": 2},
    {
        "name": "captions",
        "lr": {"projector": 1e-3, "lora": 1e-3},
        "tasks": {"short": 1, "dense": 1},
        "steps": 4,
        "batch_size": 2,
        "accumulation": 2,
    },
)


class Colors:
    """Two clips, one red and one blue, and a caption for each; both also evaluate."""

    frames: ClassVar[dict[str, np.ndarray]] = {
        name: np.full((2, 28, 28, 3), color, np.uint8) for name, color in (("red", (250, 0, 0)), ("blue", (0, 0, 250)))
    }

    def num_batches(self, stage):
        return 1

    def batches(self, stage, number, seed):
        rng = np.random.default_rng((seed, number))
        while True:
            yield [str(name) for name in rng.permutation(list(self.frames))]

    def load(self, batch):
        return [Sample(images=self.frames[name], prompt="what?", answer=f"it is {name}") for name in batch]

    def held_out(self, task, limit):
        return list(self.frames)[:limit]


def settings(model: Path, **changes: Any) -> CaptionerTrainConfig:
    given: Mapping[str, Any] = {
        "model": str(model), "dtype": "float32", "device": "cpu", "stages": STAGES, "checkpoint_every": 2,
        "lora": {"rank": 2, "dropout": 0.2},
    } | changes  # fmt: skip
    return resolved_model(CaptionerTrainConfig.model_validate(given))


def run(out: Path, config: CaptionerTrainConfig, **options: Any) -> Run:
    out.mkdir(parents=True, exist_ok=True)
    return Run(out, config, load_learner(config), Colors(), **options)


def without_seconds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_a_stage_changes_its_parts_and_no_others(tiny_vlm: Path, tmp_path: Path) -> None:
    config = settings(tiny_vlm, stages=STAGES[:1])
    before = load_learner(config).model.state_dict()
    done = run(tmp_path / "out", config)
    done.train()
    after = done.learner.model.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if "multi_modal_projector" in name}


def test_lora_leaves_the_weights_that_it_adapts_until_it_is_merged(tiny_vlm: Path, tmp_path: Path) -> None:
    config = settings(tiny_vlm)
    before = load_learner(settings(tiny_vlm, stages=STAGES[:1])).model.state_dict()
    done = run(tmp_path / "out", config)
    done.train()
    learner, samples = done.learner, Colors().load(["red"])
    learner.train(())
    base = learner.model.model.language_model.base_model.model.layers[0].self_attn.q_proj.base_layer.weight
    torch.testing.assert_close(base, before["model.language_model.layers.0.self_attn.q_proj.weight"], rtol=0, atol=0)
    adapted = learner.losses(samples)[0]
    learner.merge()
    torch.testing.assert_close(learner.losses(samples)[0], adapted)
    merged = learner.model.state_dict()
    assert merged.keys() == before.keys()
    assert not torch.equal(merged["model.language_model.layers.0.self_attn.q_proj.weight"],
                           before["model.language_model.layers.0.self_attn.q_proj.weight"])  # fmt: skip


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.caption.finetune.test_loop import run, settings

def at(row):
    if (row["stage"], row.get("step")) == ("captions", 3):
        os.kill(os.getpid(), signal.SIGKILL)

run(Path(sys.argv[2]), settings(Path(sys.argv[1])), on_row=at).train()
"""


@pytest.mark.slow
def test_a_run_that_is_killed_and_resumed_equals_an_undisturbed_one_to_the_bit(tiny_vlm, tmp_path) -> None:
    command = [sys.executable, "-c", KILLED, str(tiny_vlm), str(tmp_path / "killed")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    check_resumed(tmp_path / "killed", tiny_vlm, tmp_path)


def test_a_run_that_stops_within_a_stage_resumes_to_the_same_weights(tiny_vlm: Path, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def at(row: dict[str, Any]) -> None:
        if (row["stage"], row.get("step")) == ("captions", 3):  # the checkpoint is of step 2
            raise Stopped

    with pytest.raises(Stopped):
        run(tmp_path / "stopped", settings(tiny_vlm), on_row=at).train()
    check_resumed(tmp_path / "stopped", tiny_vlm, tmp_path)


def check_resumed(out: Path, model: Path, folder: Path) -> None:
    undisturbed = run(folder / "undisturbed", settings(model))
    torch.manual_seed(1)  # what ran before in the process does not matter
    resumed = run(out, settings(model))
    assert without_seconds(undisturbed.train()) == without_seconds(resumed.train())
    weights = undisturbed.learner.trained()
    assert weights.keys() == resumed.learner.trained().keys() and any("lora" in name for name in weights)
    for name, weight in resumed.learner.trained().items():
        assert torch.equal(weight, weights[name]), name


def test_a_run_that_is_done_trains_no_more(tiny_vlm: Path, tmp_path: Path) -> None:
    config = settings(tiny_vlm, stages=STAGES[:1])
    rows = run(tmp_path / "out", config).train()
    seen: list[Any] = []
    assert run(tmp_path / "out", config, on_row=seen.append).train() == rows
    assert seen == []


def test_a_checkpoint_of_other_weights_is_refused(tiny_vlm: Path, tmp_path: Path) -> None:
    run(tmp_path / "out", settings(tiny_vlm, stages=STAGES[:1])).train()
    with pytest.raises(ValueError, match="not those that this run trains"):
        run(tmp_path / "out", settings(tiny_vlm)).train()


def test_the_loss_is_of_the_answers_alone_and_does_not_depend_on_the_batch(tiny_vlm: Path) -> None:
    learner = load_learner(settings(tiny_vlm))
    learner.train(())
    short, long = (Sample(images=Colors.frames["red"][:n], prompt="what? " * n, answer="red " * n) for n in (1, 2))
    alone = [learner.losses([sample])[0] for sample in (short, long)]
    together, rows = learner.losses([short, long])
    assert [len(losses) for losses in alone] == [len(learner.answer_ids(one.answer)) for one in (short, long)]
    for row in range(2):
        torch.testing.assert_close(together[rows == row], alone[row])


def test_accumulated_batches_give_the_update_of_one_large_batch(tiny_vlm: Path, tmp_path: Path) -> None:
    """Also where the batches hold different numbers of tokens."""

    class Uneven(Colors):
        def batches(self, stage, number, seed):
            while True:
                yield from [["red", "blue"]] if stage.batch_size == 2 else [["red"], ["blue"]]

        def load(self, batch):
            return [
                Sample(images=self.frames[n], prompt="what?", answer="a" if n == "red" else "b" * 30) for n in batch
            ]

    weights = []
    for number, changes in enumerate(({"batch_size": 2}, {"batch_size": 1, "accumulation": 2})):
        stage = {**STAGES[0], "steps": 1, "warmup": 0, **changes}
        config = settings(tiny_vlm, stages=(stage,))
        (tmp_path / str(number)).mkdir()
        done = Run(tmp_path / str(number), config, load_learner(config), Uneven())
        done.train()
        weights.append(done.learner.weights("projector")[0])
    torch.testing.assert_close(weights[0], weights[1], atol=1e-6, rtol=1e-4)


def test_what_looks_like_a_control_token_in_an_answer_is_text(tiny_vlm: Path) -> None:
    learner = load_learner(settings(tiny_vlm))
    ids = learner.answer_ids("a <image> of </s>")
    assert ids[-1] == learner.tokenizer.eos_token_id
    assert not {learner.tokenizer.eos_token_id, learner.tokenizer.convert_tokens_to_ids("<image>")} & set(ids[:-1])


def test_an_answer_that_is_cut_off_has_no_end(tiny_vlm: Path) -> None:
    learner = load_learner(settings(tiny_vlm, max_answer_tokens=5))
    assert len(learner.answer_ids("a long answer")) == 5
    assert learner.tokenizer.eos_token_id not in learner.answer_ids("a long answer")


def test_gradient_checkpointing_changes_no_loss(tiny_vlm: Path, tmp_path: Path) -> None:
    rows = [
        run(tmp_path / str(on), settings(tiny_vlm, gradient_checkpointing=on, lora={"rank": 2, "dropout": 0})).train()
        for on in (False, True)
    ]
    losses = [[row["loss"] for row in of_run] for of_run in rows]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_loss_that_is_no_number_ends_the_run_and_names_the_stage(tiny_vlm: Path, tmp_path: Path) -> None:
    stage = {**STAGES[0], "lr": {"projector": 1e30}, "clip_norm": None, "warmup": 0}
    with pytest.raises(ValueError, match=r"stage projector, step \d: the loss is"):
        run(tmp_path / "out", settings(tiny_vlm, stages=(stage,))).train()


def test_the_learning_rate_rises_and_falls_to_zero() -> None:
    config = CaptionerTrainConfig.model_validate({"stages": [{**STAGES[0], "warmup": 0.25}]})
    factors = [lr_factor(step, 8, config.stages[0]) for step in range(9)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert all(a > b for a, b in pairwise(factors[2:])) and factors[8] == pytest.approx(0)


def test_metrics_have_a_row_for_each_step_and_the_grounding_around_each_stage(tiny_vlm: Path, tmp_path: Path) -> None:
    run(tmp_path / "out", settings(tiny_vlm)).train()
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    marks = [row["step"] if "step" in row else (row["when"], row["task"]) for row in rows]
    around = [[("before", "short"), ("before", "dense")], [("after", "short"), ("after", "dense")]]
    assert marks == [around[0][0], 1, 2, 3, around[1][0], *around[0], 1, 2, 3, 4, *around[1]]


def test_a_stage_of_clips_that_cannot_be_decoded_is_an_error(tiny_vlm: Path, tmp_path: Path) -> None:
    class Broken(Colors):
        def load(self, batch):
            return []

    config = settings(tiny_vlm, stages=STAGES[:1])
    with pytest.raises(ValueError, match="stage projector: no clip can be decoded"):
        Run(tmp_path, config, load_learner(config), Broken()).train()
    assert not (tmp_path / "checkpoint.pt").exists()
