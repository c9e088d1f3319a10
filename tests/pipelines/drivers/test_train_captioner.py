"""`reelpack train-captioner` on a small dataset and a tiny LLaVA with random weights."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from caption.backends.base import CaptionRequest
from caption.finetune.base import Sample
from curate.dataset.dataset import Dataset
from curate.encoders import torchvision_cpu, weights
from curate.storage.lease import Occupied, hold
from pipelines.cli import app
from pipelines.commands.entry import run
from pipelines.config import Config, load_config
from pipelines.drivers.caption import caption as caption_clips
from pipelines.drivers.curate import curate
from pipelines.drivers.train_captioner import train_captioner
from pipelines.takedown.runs import runs_of
from tests.support.curated import SETTINGS, caption, copied
from tests.support.videos import moving, write_video
from tests.support.vlm_checkpoints import write_checkpoint

ROOT = Path(__file__).parents[3]
STAGES = [
    {"name": "one", "lr": {"projector": 0.01}, "tasks": {"short": 1}, "steps": 2, "batch_size": 2, "warmup": 0},
    {"name": "two", "lr": {"projector": 0.01, "lora": 0.01}, "tasks": {"short": 1}, "epochs": 1, "batch_size": 1},
]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A captioned dataset of six clips, one of them or more held out; a tiny LLaVA."""
    folder = tmp_path_factory.mktemp("captioner")
    for seed in range(6):
        write_video(folder / "films" / f"{seed}.mp4", moving(seed, 1.5))
    out = folder / "dataset"
    settings = [*SETTINGS, "select.split.val_fraction=0.4"]
    curate([str(folder / "films")], str(out), load_config(overrides=settings))
    dataset = Dataset(str(out))
    caption(dataset)
    assert {row["split"] for row in dataset.read_index().to_pylist()} == {"train", "val"}
    return SimpleNamespace(out=out, url=str(out), dataset=dataset, model=write_checkpoint("llava", folder / "llava"))


@pytest.fixture
def made(original: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    return copied(original, tmp_path)


def settings(made: SimpleNamespace, *more: str) -> Config:
    given = {"model": str(made.model), "dtype": "float32", "device": "cpu", "stages": STAGES, "lora": {"rank": 2}}
    return load_config(
        overrides=[f"train_captioner.{name}={json.dumps(value)}" for name, value in given.items()] + [*more]
    )


def test_the_trained_model_captions_the_dataset(made: SimpleNamespace, tmp_path: Path) -> None:
    """`reelpack caption DATASET --set caption.backend.model=FOLDER`, with the folder as it was exported."""
    summary = train_captioner(made.url, tmp_path / "out", settings(made))
    assert summary.model == tmp_path / "out" / "model"
    chosen = (summary.caption_command or "").split(" --set ")[1:]
    assert f"caption.backend.model={summary.model}" in chosen
    config = load_config(overrides=[*chosen, "caption.short_max_tokens=4", "caption.dense_max_tokens=4",
                                    "execute.executor=local"])  # fmt: skip
    result = caption_clips(made.url, config)
    assert result.num_new == result.num_clips == 6 and result.num_failed == 0
    assert config.caption.backend is not None
    vlm = config.caption.backend.build()
    vlm.setup()
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)
    request = CaptionRequest(frames=frames, prompt="Describe this video briefly.", max_tokens=1)
    base = load_config(overrides=[f"caption.backend.model={made.model}"]).caption.backend.build()
    base.setup()
    trained, untrained = (one.losses([request], ["caption of"])[0] for one in (vlm, base))
    assert trained != pytest.approx(untrained, abs=1e-3)
    expected = _loss_of_learner(
        made, tmp_path / "out", Sample(images=frames, prompt=request.prompt, answer="caption of")
    )
    assert trained == pytest.approx(expected, abs=1e-4)


def _loss_of_learner(made: SimpleNamespace, out: Path, sample: Sample) -> float:
    """By the model as the checkpoint of the run has it, LoRA not merged."""
    from caption.finetune.checkpoint import load
    from caption.finetune.load import load_learner, resolved_model

    learner = load_learner(resolved_model(settings(made).train_captioner))
    load(out, learner)
    learner.train(())
    return float(learner.losses([sample])[0].mean())


def test_a_second_run_resumes_and_writes_nothing_twice(made: SimpleNamespace, tmp_path: Path) -> None:
    first = train_captioner(made.url, tmp_path / "out", settings(made))
    model = (tmp_path / "out" / "model" / "model.safetensors").stat().st_mtime_ns
    again = train_captioner(made.url, tmp_path / "out", settings(made))
    assert again.rows == first.rows
    assert (tmp_path / "out" / "model" / "model.safetensors").stat().st_mtime_ns == model
    assert {row["stage"] for row in first.rows} == {"one", "two"}
    assert "Grounding" in (tmp_path / "out" / "report.html").read_text()
    assert [run.folder for run in runs_of(made.url, [str(tmp_path)])] == [str(tmp_path / "out")]  # `forget` says so


def test_a_folder_with_another_run_is_refused_with_what_differs(made: SimpleNamespace, tmp_path: Path) -> None:
    train_captioner(made.url, tmp_path / "out", settings(made))
    for more, changed in (
        ("train_captioner.seed=1", r"train_captioner\.seed"),
        ("caption.prompts=detailed-v1", "prompts"),
        ("caption.frames.num_frames=2", "frames"),
    ):
        with pytest.raises(ValueError, match=f"begun with other {changed}[;,]"):
            train_captioner(made.url, tmp_path / "out", settings(made, more))
    train_captioner(made.url, tmp_path / "out", settings(made, "train_captioner.checkpoint_every=7"))
    rows = made.dataset.captions("test-1").read().to_pylist()
    made.dataset.captions("test-1").publish([{**rows[0], "text": "another"}])
    with pytest.raises(ValueError, match="begun with other data; expected"):
        train_captioner(made.url, tmp_path / "out", settings(made))


def test_one_process_trains_in_a_folder(made: SimpleNamespace, tmp_path: Path) -> None:
    with hold(tmp_path / "out", "train"), pytest.raises(Occupied, match="is being written by"):
        train_captioner(made.url, tmp_path / "out", settings(made))


@pytest.mark.parametrize("dataset", [None, "DATASET"])
def test_a_dataset_is_given_unless_the_film_is_trained_on(dataset: str | None, tmp_path: Path) -> None:
    more = [] if dataset is None else ["train_captioner.data={kind: film}"]
    with pytest.raises(ValueError, match=r"train_captioner\.data\.kind=.*expected a dataset"):
        train_captioner(dataset, tmp_path / "out", load_config(overrides=more))


def test_instructions_need_fields_and_say_how_to_get_them(made: SimpleNamespace, tmp_path: Path) -> None:
    more = f"train_captioner.instructions={{backend: {{model: {made.model}}}}}"
    with pytest.raises(ValueError, match=r"no clip of .* has fields, .*reelpack caption .*prompts=fields-v1"):
        train_captioner(made.url, tmp_path / "out", settings(made, more))


def test_a_model_that_writes_no_instructions_is_named(made: SimpleNamespace, tmp_path: Path) -> None:
    rows = made.dataset.captions("test-1").read().to_pylist()
    fields = [{**row, "level": "fields", "text": '{"scene": "a meadow"}'} for row in rows]
    made.dataset.captions("test-1").publish(fields)
    more = f"train_captioner.instructions={{backend: {{model: {made.model}}}, max_tokens: 4, kinds: [detail]}}"
    with pytest.raises(ValueError, match=r"wrote nothing that can be used \({'unreadable': 6}\)"):
        train_captioner(made.url, tmp_path / "out", settings(made, more))


def test_a_model_of_another_shape_is_refused(made: SimpleNamespace, tmp_path: Path) -> None:
    other = write_checkpoint("qwen2_vl", tmp_path / "qwen")
    with pytest.raises(
        ValueError, match=r"Qwen2VL.* has no vision_tower, multi_modal_projector; expected a LLaVA-shaped"
    ):
        train_captioner(made.url, tmp_path / "out", settings(made, f"train_captioner.model={other}"))


def test_a_dataset_without_captions_says_what_is_missing(made: SimpleNamespace, tmp_path: Path) -> None:
    made.dataset.save_section("caption_family", None)
    with pytest.raises(ValueError, match=r"stage one: none of the .* `reelpack caption` writes captions"):
        train_captioner(made.url, tmp_path / "out", settings(made))
    assert not (tmp_path / "out" / "config.yaml").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llava_next", "llava_onevision", "vipllava", "internvl", "gemma3"])
def test_llava_shaped_classes_train_and_are_loaded_again(made: SimpleNamespace, tmp_path: Path, name: str) -> None:
    model = write_checkpoint(name, tmp_path / name)
    summary = train_captioner(made.url, tmp_path / "out", settings(made, f"train_captioner.model={model}"))
    backend = load_config(overrides=[f"caption.backend.model={summary.model}"]).caption.backend
    assert backend is not None
    built = backend.build()
    built.setup()
    frames = np.zeros((2, 32, 48, 3), np.uint8)
    (result,) = built.caption([CaptionRequest(frames=frames, prompt="what?", max_tokens=2)])
    assert result.num_output_tokens > 0  # type: ignore[union-attr]


@pytest.mark.slow
def test_the_embedded_captioner_is_trained_by_default(made: SimpleNamespace, tmp_path: Path) -> None:
    torchvision_cpu.repair()
    from caption.llava.assemble import resolve

    try:
        resolve()
    except weights.MissingWeights as missing:
        pytest.skip(str(missing))
    stages = json.dumps([{**STAGES[1], "epochs": None, "steps": 1}])
    config = load_config(overrides=[f"train_captioner.stages={stages}", "train_captioner.num_evaluated=0"])
    summary = train_captioner(made.url, tmp_path / "out", config)
    more = [f"caption.backend.model={summary.model}", "caption.dense_max_tokens=4", "execute.executor=local"]
    result = caption_clips(made.url, load_config(overrides=[*more, "caption.prompts=plain-v1"]))
    assert result.num_failed == 0 and result.num_new == 6


def test_the_command_shows_losses_grounding_and_the_next_command(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({"train_captioner": settings(made).train_captioner.model_dump(mode="json")}))
    with pytest.raises(SystemExit) as stopped:
        run(app, ["train-captioner", made.url, "--out", str(tmp_path / "out"), "--config", str(file)])
    said = capsys.readouterr().out
    assert stopped.value.code == 0
    assert re.search(r"loss of one, 2 steps\s+\d\.\d+ → \d\.\d+ nats per token", said)
    assert re.search(r"two\s+after\s+short", said)
    assert f"reelpack caption {made.url} --set caption.backend.model={tmp_path / 'out' / 'model'}" in said
