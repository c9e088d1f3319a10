"""The whole loop on a tiny encoded dataset."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.backends.registry import lookup_backend
from torch._dynamo.utils import counters
from torch.fx.experimental import _config as shapes

from tests.support.forks import run_ranks
from train import loop
from train.data.config import DataConfig
from train.data.epoch import EpochConfig, EpochSamples
from train.data.load import PackLoader
from train.data.mix import read_datasets
from train.data.plan import Cursor, PlanConfig, Planner
from train.distributed.ranks import RankGrid
from train.evaluate.base import EvaluationContext
from train.evaluate.held_out import HeldOutLoss
from train.loop import TrainingDiverged, train
from train.model.dit import DiT
from train.model.dit_config import DiTConfig
from train.monitor.metrics import MEASURED, read_metrics
from train.optim.ema import EMA
from train.optim.optimizer import build_optimizer
from train.run.checkpoint import list_checkpoints
from train.run.config import TrainConfig
from train.run.export import export_run
from train.run.folder import autocast, load_model

DIT: dict[str, Any] = {"width": 32, "depth": 2, "num_heads": 2}
UNET: dict[str, Any] = {
    "kind": "unet", "patch": (1, 2, 2), "width": 16, "multipliers": (1, 2), "depths": (1, 1), "attention_levels": (1,),
    "temporal": "convolution", "text": "pooled", "head_width": 8, "num_groups": 4, "condition_width": 32,
    "self_conditioning": 0.5,
}  # fmt: skip
WALT: dict[str, Any] = DIT | {
    "mixer": {"pattern": "windows", "spacetime_window": (None, 1, 2)}, "adaln": "lora", "adaln_rank": 2,
    "cross_attention_in": "spatial", "cross_attention_over": "joint", "self_conditioning": 0.9,
}  # fmt: skip


def config(**changes: Any) -> TrainConfig:
    tree: dict[str, Any] = {
        "steps": 8,
        "device": "cpu",
        "model": deepcopy(DIT),
        "data": {"plan": {"token_budget": 128, "packs_per_step": 2}},
        "optimizer": {"lr": 2e-3, "warmup_steps": 4, "schedule": "cosine"},
        "ema": {"decay": 0.9},
        "evaluate": {
            "held_out": {"every": 4, "first": 2, "timesteps": [0.3, 0.7]},
            "captions": {"timesteps": [0.3, 0.7], "max_clips": 6},
        },
        "checkpoint": {"every": 3},
    }
    for path, value in changes.items():
        *parents, leaf = path.split("__")
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
        node[leaf] = value
    return TrainConfig.model_validate(tree)


def logged(out: Path) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl without what the clock says."""
    return [{k: v for k, v in row.items() if k not in MEASURED} for row in read_metrics(out / "metrics.jsonl")]


class Stopped(Exception):
    pass


def stop_after(step: int) -> Callable[[dict[str, Any]], None]:
    def on_step(row: dict[str, Any]) -> None:
        if row["step"] == step:
            raise Stopped

    return on_step


@pytest.fixture(scope="module")
def whole(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of `config()`, undisturbed."""
    out = tmp_path_factory.mktemp("undisturbed") / "whole"
    train(config(), dataset, out)
    return out


@pytest.fixture(scope="module")
def short(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps, each of which has the same rate."""
    out = tmp_path_factory.mktemp("short") / "run"
    train(config(steps=3, optimizer__schedule="constant"), dataset, out)
    return out


def copied(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder / "run"))


@pytest.mark.parametrize(("stop", "model"), [(4, DIT), (6, WALT), (6, UNET)])
def test_a_stopped_run_continues_bitwise(dataset: str, whole: Path, tmp_path: Path, stop: int, model: dict[str, Any]):
    settings = config(model=model)
    if model is not DIT:
        train(settings, dataset, whole := tmp_path / "whole")
    with pytest.raises(Stopped):
        train(settings, dataset, tmp_path / "cut", on_step=stop_after(stop))
    assert len(logged(tmp_path / "cut")) < len(logged(whole))
    resumed = train(settings, dataset, tmp_path / "cut")
    assert logged(tmp_path / "cut") == logged(whole)
    for name in ("model", "ema"):
        a, b = (load_model(run, weights=name)[0].state_dict() for run in (whole, tmp_path / "cut"))
        assert a and all(torch.equal(a[key], b[key]) for key in a)
    summary = json.loads((whole / "summary.json").read_text())
    assert (summary["train_loss_last"], summary["evaluated_last"]) == (resumed.train_loss_last, resumed.evaluated_last)


def killed_after_step_7(settings: TrainConfig, dataset: str, out: Path) -> None:
    def kill(row: dict[str, Any]) -> None:
        if row["step"] == 7:
            os.kill(os.getpid(), signal.SIGKILL)

    train(settings, dataset, out, on_step=kill)


def test_kill_9_between_steps_continues_bitwise(dataset: str, whole: Path, tmp_path: Path):
    (killed,) = run_ranks(1, config(), dataset, tmp_path / "killed", killed_after_step_7)
    assert killed.code == -signal.SIGKILL, killed
    train(config(), dataset, tmp_path / "killed")
    assert logged(tmp_path / "killed") == logged(whole)


def on_ranks(
    num_ranks: int, settings: TrainConfig, dataset: str, out: Path, entry: Callable[..., None] = train
) -> list[dict[str, Any]]:
    """The rows of a run on several ranks."""
    ended = run_ranks(num_ranks, settings, dataset, out, entry)
    assert [rank.code for rank in ended] == [0] * num_ranks, "\n".join(rank.errors[-3000:] for rank in ended)
    return logged(out)


COMPARED = frozenset({"loss", "grad_norm", "val_loss", "val_loss_ema", "caption_loss_true", "tokens", "samples"})


def assert_equal_runs(one: list[dict[str, Any]], other: list[dict[str, Any]], rel: float = 1e-5) -> None:
    assert [row["step"] for row in one] == [row["step"] for row in other]
    for a, b in zip(one, other, strict=True):
        for key in a.keys() & COMPARED:
            assert a[key] == (b[key] and pytest.approx(b[key], rel=rel)), (a["step"], key)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_loss_of_the_average_is_that_of_the_average(dataset: str, tmp_path: Path, dtype: str):
    """In bfloat16, too, where autocast keeps casts of weights that change places with their averages."""
    settings = config(
        steps=12,
        dtype=dtype,
        optimizer__lr=1e-2,
        optimizer__schedule="constant",
        ema__decay=0.99,
        evaluate__held_out__first=0,
    )
    train(settings, dataset, tmp_path)
    logged_row = next(row for row in logged(tmp_path)[::-1] if "val_loss" in row)
    manifest = read_datasets(dataset, split="val", data=settings.data, model=settings.model)
    cpu = torch.device("cpu")
    context = EvaluationContext(
        train=manifest,
        val=manifest,
        objective=settings.objective.build(),
        plan=settings.data.plan,
        model=settings.model,
        ranks=RankGrid(rank=0, world_size=1, device=cpu),
        out=tmp_path,
    )
    evaluator = HeldOutLoss(settings.evaluate.held_out, context)
    for weights, name in (("model", "val_loss"), ("ema", "val_loss_ema")):
        model, _, _ = load_model(tmp_path, weights=weights)
        with autocast(settings, cpu):
            assert evaluator.losses(model)["loss"] == pytest.approx(logged_row[name], rel=1e-6)
    assert abs(logged_row["val_loss"] - logged_row["val_loss_ema"]) > 1e-3


@pytest.mark.parametrize("reduction", ["sample", "token"])
def test_samples_weigh_the_same_in_steps_of_many_and_of_few(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reduction: str
):
    """With still weights, the gradients of an epoch's steps add up to that of one step that is the whole epoch."""
    gradients: list[list[torch.Tensor]] = []

    def keep(ema: EMA, model: torch.nn.Module, step: int) -> None:
        gradients.append([p.grad.clone() for p in model.parameters()])

    monkeypatch.setattr(EMA, "update", keep)
    model = DiTConfig.model_validate({"width": 32, "depth": 2, "num_heads": 2})
    manifest = read_datasets(dataset, split="train", data=DataConfig(), model=model)
    plan = PlanConfig(token_budget=128)
    num_packs = len(Planner(EpochSamples(manifest, EpochConfig(), plan, 0), 0, plan).epoch(0))
    settings = {
        "objective": {"kind": "flow", "reduction": reduction},
        "optimizer": {"lr": 1e-12, "clip_norm": 1e9},
        "evaluate__held_out__first": 0,
    }
    of_steps = {}
    for packs in (1, num_packs):
        gradients.clear()
        changes = settings | {"data__plan__packs_per_step": packs, "data__plan__balance_group": 1}
        train(config(steps=num_packs // packs, **changes), dataset, tmp_path / str(packs))
        of_steps[packs] = [torch.stack(steps) for steps in zip(*gradients, strict=True)]
    samples = [row["samples"] for row in read_metrics(tmp_path / "1/metrics.jsonl") if "samples" in row]
    assert len(set(samples)) > 1 and sum(samples) == len(manifest)
    for parts, whole in zip(of_steps[1], of_steps[num_packs], strict=True):
        torch.testing.assert_close(parts.mean(0), whole[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reduction", ["sample", "token"])
def test_the_loss_of_a_step_is_the_mean_of_its_own_samples(dataset: str, tmp_path: Path, reduction: str):
    """Or tokens; what its gradient is divided by is a constant of the run. An untrained model answers nothing."""
    objective = {"kind": "flow", "reduction": reduction}
    settings = config(steps=3, objective=objective, data__plan__packs_per_step=1, optimizer__lr=1e-12)
    train(settings, dataset, tmp_path)
    manifest = read_datasets(dataset, split="train", data=settings.data, model=settings.model)
    flow = settings.objective.build()
    loader = PackLoader(manifest, flow, settings.data, model=settings.model, seed=settings.seed)
    expected = []
    for step in islice(loader.steps(Cursor(), 0, 1), 3):
        (batch,) = step.batches
        losses = flow.token_losses(lambda x, *_: 0 * x, batch)
        samples = torch.stack([part.mean() for part in losses.split(batch.segments.lengths)])
        expected.append(float(samples.mean() if reduction == "sample" else losses.mean()))
    assert len({step.num_samples for step in islice(loader.steps(Cursor(), 0, 1), 3)}) > 1
    assert [row["loss"] for row in logged(tmp_path) if "loss" in row] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("packs_per_step", "mode"), [(3, "ddp"), (4, "fsdp")])
def test_two_ranks_train_as_one(dataset: str, tmp_path: Path, packs_per_step: int, mode: str):
    settings = config(steps=4, data__plan__packs_per_step=packs_per_step, checkpoint__every=4, parallel__mode=mode)
    train(settings, dataset, tmp_path / "one")
    assert_equal_runs(logged(tmp_path / "one"), on_ranks(2, settings, dataset, tmp_path / "two"))
    files = (tmp_path / "two/checkpoints/step-000004").glob("*.distcp")
    written = {path.name.split("_")[2]: path.stat().st_size for path in files}
    assert written["1"] < 0.1 * written["0"] if mode == "ddp" else written["1"] > 0.5 * written["0"], written
    one, two = (load_model(tmp_path / run, weights="ema")[0].state_dict() for run in ("one", "two"))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.slow
def test_sharded_ranks_in_bfloat16_train_as_one_does(dataset: str, tmp_path: Path):
    """Blocks are gathered in bfloat16, which autocast would make of their weights anyway."""
    changes = {"dtype": "bfloat16", "data__plan__packs_per_step": 4, "evaluate__held_out__first": 0}
    settings = config(steps=4, checkpoint__every=4, parallel__mode="fsdp", **changes)
    train(settings, dataset, tmp_path / "one")
    assert_equal_runs(logged(tmp_path / "one"), on_ranks(2, settings, dataset, tmp_path / "two"), rel=1e-2)


@pytest.mark.slow
def test_compiled_blocks_train_the_same_and_are_compiled_once(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Recomputed ones. Traced and differentiated by the compiler, run by eager kernels: code generation would take
    minutes here. Without recomputation: distributed/test_compile.py."""
    num_calls, num_graphs = 0, []

    def counted(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable:
        compiled = lookup_backend("aot_eager")(graph, inputs)

        def run(*args: Any) -> Any:
            nonlocal num_calls
            num_calls += 1
            return compiled(*args)

        return run

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counted))
    changes = {
        "evaluate__held_out__first": 3,
        "evaluate__held_out__every": 100,
        "parallel__activation_checkpoint_every": 1,
    }
    train(config(steps=6, **changes), dataset, tmp_path / "plain")
    assert not num_calls

    def count(row: dict[str, Any]) -> None:
        if "loss" in row:
            num_graphs.append((row["step"], counters["stats"]["unique_graphs"], num_calls))

    with shapes.patch(use_duck_shape=True):
        train(config(steps=6, **changes, parallel__compile=True), dataset, tmp_path / "compiled", on_step=count)
    _, graphs, calls = zip(*num_graphs[:6], strict=True)
    assert len(set(graphs)) == 1 and graphs[0], "packs of other sizes, and validation, need no other code"
    parts = 2 * 2 * 2  # of two packs and two blocks, each called twice because it is recomputed
    of_steps = [after - before for before, after in pairwise(calls)]
    assert of_steps == [parts, parts, of_steps[2], parts, parts] and of_steps[2] > parts, "validation follows step 3"
    assert_equal_runs(logged(tmp_path / "plain"), logged(tmp_path / "compiled"), rel=1e-5)
    one, other = (load_model(tmp_path / run, weights="model")[0].state_dict() for run in ("plain", "compiled"))
    for name, weight in one.items():
        torch.testing.assert_close(
            other[name], weight, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.slow
def test_a_run_goes_on_with_other_numbers_of_ranks(dataset: str, tmp_path: Path):
    """Two sharded ranks, then one, then three: the same samples in the same steps with the same noise."""
    settings = [
        config(steps=steps, optimizer__schedule="constant", data__plan__packs_per_step=6, parallel__mode="fsdp")
        for steps in (2, 3, 4)
    ]
    train(settings[-1], dataset, tmp_path / "whole")
    on_ranks(2, settings[0], dataset, tmp_path / "moved")
    train(settings[1], dataset, tmp_path / "moved")
    on_ranks(3, settings[2], dataset, tmp_path / "moved")
    whole, moved = ([row for row in logged(tmp_path / run) if "loss" in row] for run in ("whole", "moved"))
    assert_equal_runs(whole, moved)
    assert whole[2]["loss"] == pytest.approx(moved[2]["loss"], rel=1e-6), "the first step after the move"


def test_a_continued_run_replaces_its_metrics_and_does_not_rewrite_them(dataset: str, short: Path, tmp_path: Path):
    run = copied(short, tmp_path)
    path = run / "metrics.jsonl"
    before = path.read_text()
    with path.open() as old:
        train(config(steps=4, optimizer__schedule="constant"), dataset, run)
        assert old.read() == before, "what was there is whole until the new file is"
    assert len(path.read_text()) > len(before)


@pytest.mark.slow
def test_sigterm_saves_and_the_run_goes_on_bitwise(dataset: str, whole: Path, tmp_path: Path):
    settings = config(checkpoint__every=100)

    def preempt(row: dict[str, Any]) -> None:
        if row["step"] == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as stopped:
        train(settings, dataset, tmp_path / "cut", on_step=preempt)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert [path.name for path in list_checkpoints(tmp_path / "cut/checkpoints")] == ["step-000005"]
    train(settings, dataset, tmp_path / "cut")
    assert logged(tmp_path / "cut") == logged(whole)


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 2])
def test_recomputed_blocks_train_the_same(dataset: str, short: Path, tmp_path: Path, every: int):
    settings = config(steps=3, optimizer__schedule="constant", parallel__activation_checkpoint_every=every)
    train(settings, dataset, tmp_path)
    assert_equal_runs(logged(short), logged(tmp_path), rel=1e-4)


def test_packs_that_sharded_ranks_cannot_share_evenly_are_refused(dataset: str, tmp_path: Path, monkeypatch):
    from train.distributed.ranks import RankGrid

    ranks = RankGrid(rank=0, world_size=2, device=torch.device("cpu"))
    monkeypatch.setattr(loop, "join_ranks", lambda *_: nullcontext(ranks))
    with pytest.raises(ValueError, match="3 packs cannot be dealt evenly"):
        train(config(data__plan__packs_per_step=3, parallel__mode="fsdp"), dataset, tmp_path)


def test_a_run_of_another_configuration_or_dataset_is_not_continued(dataset: str, short: Path, tmp_path: Path):
    run, same = copied(short, tmp_path), {"steps": 3, "optimizer__schedule": "constant"}
    with pytest.raises(ValueError, match=r"ema\.decay: 0\.9 → 0\.1"):
        train(config(**same, ema__decay=0.1), dataset, run)
    train(config(**same, model__mixer__kernel="dense"), dataset, run)  # a kernel is no part of what is learned
    train(config(**same, data__latents="lat0", data__text="txt0"), dataset, run)  # the same, named
    record = json.loads((run / "run.json").read_text())
    record["latents"]["fingerprint"] = "other"
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(
        ValueError, match=r"trained on latents other .*, the dataset now gives lat0 \(channels 4.*same space"
    ):
        train(config(**same), dataset, run)


def test_a_run_that_diverged_goes_on_with_a_lower_rate_and_its_record_says_so(
    dataset: str, short: Path, tmp_path: Path
):
    run, constant = copied(short, tmp_path), {"optimizer__schedule": "constant", "checkpoint__every": 100}
    with pytest.raises(TrainingDiverged, match=r"run the same command with a lower train\.optimizer\.lr"):
        train(config(**constant, max_skipped_steps=1, optimizer__lr=1e30), dataset, run)
    train(config(**constant, steps=6, optimizer__lr=1e-3, optimizer__betas=(0.8, 0.9)), dataset, run)
    assert [row["lr"] for row in logged(run) if "loss" in row][3:] == [1e-3] * 3
    changes = json.loads((run / "run.json").read_text())["changes"]
    assert [change["after"] for change in changes] == ["step-000003"] * 2
    assert changes[1]["settings"]["optimizer.lr"] == "1e+30 → 0.001"
    assert load_model(run)[2].changes == tuple(changes)


def test_a_continued_run_uses_the_optimizer_settings_it_is_given(
    dataset: str, short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run, built = copied(short, tmp_path), list[torch.optim.Optimizer]()

    def remembered(*args: Any) -> torch.optim.Optimizer:
        built.append(build_optimizer(*args))
        return built[-1]

    monkeypatch.setattr("train.loop.build_optimizer", remembered)
    changes = {"optimizer__betas": (0.8, 0.95), "optimizer__weight_decay": 0.5}
    train(config(steps=4, optimizer__schedule="constant", **changes), dataset, run)
    groups = [(group["betas"], group["weight_decay"]) for group in built[-1].param_groups]
    assert groups == [((0.8, 0.95), 0.5), ((0.8, 0.95), 0.0)]


def test_a_run_may_be_prolonged(dataset: str, short: Path, tmp_path: Path):
    run = copied(short, tmp_path)
    train(config(steps=5, optimizer__schedule="constant"), dataset, run)
    train(config(steps=5, optimizer__schedule="constant"), dataset, tmp_path / "whole")
    prolonged, whole = ([row for row in logged(tmp_path / name) if "loss" in row] for name in ("run", "whole"))
    assert prolonged == whole


def test_an_incomplete_checkpoint_is_named(dataset: str, short: Path, tmp_path: Path):
    run = copied(short, tmp_path)
    (part,) = (run / "checkpoints/step-000003").glob("*.distcp")
    part.write_bytes(part.read_bytes()[:2000])
    with pytest.raises(ValueError, match="step-000003: cannot continue"):
        train(config(optimizer__schedule="constant"), dataset, run)


def test_only_the_newest_checkpoints_are_kept(dataset: str, tmp_path: Path):
    train(config(steps=8, checkpoint__every=1, checkpoint__keep=2), dataset, tmp_path)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-000007", "step-000008"]


def test_checkpoints_at_multiples_of_keep_every_stay_and_are_loaded_by_step(dataset: str, tmp_path: Path):
    train(config(steps=8, checkpoint__every=1, checkpoint__keep=1, checkpoint__keep_every=3), dataset, tmp_path)
    names = [path.name for path in list_checkpoints(tmp_path / "checkpoints")]
    assert names == ["step-000003", "step-000006", "step-000008"]
    loaded = {step: load_model(tmp_path, step=step)[0].state_dict() for step in (3, 6, None)}
    assert not torch.equal(loaded[3]["embed.weight"], loaded[6]["embed.weight"])
    export_run(tmp_path, tmp_path / "exported", step=6)
    exported = DiT.from_pretrained(tmp_path / "exported").state_dict()
    assert all(torch.equal(exported[name], tensor) for name, tensor in loaded[6].items())
    with pytest.raises(ValueError, match=r"got step 4, and there are checkpoints after 3, 6, 8"):
        load_model(tmp_path, step=4)


def with_a_broken_caption(clips: list) -> str:
    """Write NaN into one clip's caption states; what the embedding stage refuses can still lie on a disk."""
    for states in (clips[0].short, clips[0].dense):
        if states is not None:
            states[:] = np.nan
    return clips[0].clip_id


def test_steps_that_are_no_number_are_skipped_and_counted(
    make_dataset: Callable, make_clips: Callable, tmp_path: Path
):
    clips = make_clips(20)
    with_a_broken_caption(clips)
    settings = config(steps=10, data__plan__packs_per_step=1, evaluate__captions__every=0)
    summary = train(settings, str(make_dataset(clips)), tmp_path / "run")
    assert 0 < summary.skipped_steps < 10
    assert np.isfinite(summary.train_loss_last)
    model, _, _ = load_model(tmp_path / "run")
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_a_loss_that_is_no_number_on_one_rank_is_skipped_by_all(
    make_dataset: Callable, make_clips: Callable, tmp_path: Path, mode: str
):
    clips = make_clips(20)
    broken = with_a_broken_caption(clips)
    dataset = str(make_dataset(clips))
    settings = config(steps=10, evaluate__captions__every=0, parallel__mode=mode)
    train(settings, dataset, tmp_path / "one")
    rows = on_ranks(2, settings, dataset, tmp_path / "two")
    assert_equal_runs(rows, logged(tmp_path / "one"))
    left_out = [row.get("skipped_clips") for row in rows if "loss" in row]
    assert left_out == [row.get("skipped_clips") for row in logged(tmp_path / "one") if "loss" in row]
    assert [broken] in left_out and None in left_out
    model, _, _ = load_model(tmp_path / "two")
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.slow
def test_what_one_rank_cannot_load_ends_all_with_its_message(
    make_dataset: Callable, make_clips: Callable, tmp_path: Path
):
    clips = make_clips(20)
    last = max(clips, key=lambda clip: clip.clip_id)
    last.latent[0, 0, 0, 0] = np.nan  # which only reading shows
    ended = run_ranks(2, config(steps=40), str(make_dataset(clips)), tmp_path / "run")
    assert all(rank.code == 1 and f"clip {last.clip_id} in" in rank.errors for rank in ended), ended
    assert sum("ValueError: rank " in rank.errors for rank in ended) == 1


def test_a_gradient_that_is_no_number_is_skipped_though_the_loss_is_one(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    num_gradients, build = 0, loop.build_model

    def overflowing(*args: Any) -> DiT:
        model = build(*args)

        def overflow(gradient: torch.Tensor) -> torch.Tensor:
            nonlocal num_gradients
            num_gradients += 1
            return gradient * (torch.inf if num_gradients in (2, 4) else 1)

        model.final.linear.bias.register_hook(overflow)
        return model

    monkeypatch.setattr(loop, "build_model", overflowing)
    settings = config(steps=5, max_skipped_steps=1, data__plan__packs_per_step=1, evaluate__held_out__first=0)
    train(settings, dataset, tmp_path)  # one step in a row may be skipped
    rows = [row for row in logged(tmp_path) if "loss" in row]
    assert [row["skipped"] for row in rows] == [False, True, False, True, False]
    assert all(np.isfinite(row["loss"]) for row in rows)
    assert all(weight.isfinite().all() for weight in load_model(tmp_path, weights="model")[0].state_dict().values())


def test_too_many_skipped_steps_stop_the_run_and_name_the_clip(
    make_dataset: Callable, make_clips: Callable, tmp_path: Path
):
    clips = make_clips(6)
    broken = with_a_broken_caption(clips)
    settings = config(steps=50, max_skipped_steps=1, data__plan__token_budget=2048, evaluate__captions__every=0)
    with pytest.raises(TrainingDiverged, match=rf"non-finite loss on {broken}\)"):
        train(settings, str(make_dataset(clips)), tmp_path / "run")


def test_a_tiny_model_learns_four_samples_and_its_captions(
    make_dataset: Callable, make_clips: Callable, tmp_path: Path
):
    """Two clips and two images; the fixed-noise loss of the training clips falls, lower under their own caption."""
    clips = [clip for clip in make_clips(7) if clip.short is not None][:4]
    assert {clip.latent.shape[1] == 1 for clip in clips} == {True, False}
    settings = config(
        steps=250,
        model__width=64,
        data__plan__packs_per_step=1,
        data__plan__token_budget=256,
        optimizer__lr=4e-3,
        evaluate__held_out__every=250,
        checkpoint__every=250,
    )
    summary = train(settings, str(make_dataset(clips)), tmp_path)
    assert "val_loss" not in summary.evaluated_last
    assert summary.train_loss_last < 0.3 * summary.train_loss_first
    last = summary.evaluated_last
    assert last["caption_loss_true"] < 0.5 * last["caption_loss_shuffled"]
    model, _, record = load_model(tmp_path)
    assert record.fps == 12.0 and not model.training
    assert json.loads((tmp_path / "summary.json").read_text())["steps"] == 250
    assert np.isfinite(summary.tokens_per_s)
