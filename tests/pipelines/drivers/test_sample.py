"""What `reelpack sample` writes."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from caption.llava.language import EmbeddedLanguageModel
from caption.prompt_examples import PromptExamples
from curate.media.decode import decode_clip
from pipelines.config import load_config
from pipelines.drivers.encode import encode
from pipelines.drivers.sample import _check_inputs, start_latent
from pipelines.drivers.upsample import EXAMPLES
from tests.pipelines.test_train_commands import run
from tests.support.curated import caption, curated
from tests.train.autoencoder.models import save_model, save_temporal_decoder
from train.autoencoder.config import ReelpackConfig

TRAIN = ["model.width=32", "model.num_heads=2", "model.depth=1", "steps=2", "device=cpu", "data.plan.token_budget=512"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two runs: one of them was trained on first frames."""
    folder = tmp_path_factory.mktemp("sampled")
    made = curated(folder)
    caption(made.dataset)
    encode(made.url, load_config(overrides=["execute.executor=local", "encode.max_area_px=6144"]))
    plain = "{kind: unconditional}"
    for name, tasks in (("plain", f"[{plain}]"), ("begun", f"[{plain}, {{kind: first_frames}}]")):
        settings = [*TRAIN, f"data.tasks={tasks}"]
        options = [part for setting in settings for part in ("--set", f"train.{setting}")]
        assert run("train", made.url, "--out", str(folder / name), *options) == 0
    made.plain, made.begun = str(folder / "plain"), str(folder / "begun")
    return made


def test_a_video_goes_on_from_a_clip_and_begins_with_a_picture(made: SimpleNamespace, tmp_path: Path) -> None:
    from PIL import Image

    film = decode_clip((made.films / "1.mp4").read_bytes()).rgb
    Image.fromarray(film[0]).save(tmp_path / "first.png")
    small = ["--size", "64x48", "--frames", "17", "--set", "sample.num_steps=2"]
    shown = {}
    for name, start in (("clip", made.films / "1.mp4"), ("picture", tmp_path / "first.png")):
        out = tmp_path / f"{name}.mp4"
        assert run("sample", made.begun, "--start", str(start), "--out", str(out), *small) == 0
        shown[name] = decode_clip(out.read_bytes()).rgb.astype(float)
        assert json.loads(out.with_suffix(".json").read_text())["start"] == str(start)
    expected = {"clip": film[-5:], "picture": film[:1]}
    for name, frames in expected.items():
        scaled = np.stack([np.asarray(Image.fromarray(frame).resize((64, 48))) for frame in frames]).astype(float)
        like = np.abs(shown[name][: len(scaled)] - scaled).mean()
        unlike = np.abs(shown[name][-1] - scaled[-1]).mean()
        assert len(shown[name]) == 17 and like < 30 < 50 < unlike


def test_a_short_prompt_is_written_in_the_style_of_the_run_first(
    made: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = PromptExamples(pairs=(("A cat.", "A cat on a wall."),), endings=("Wide shot.",), dense_words=9)
    (Path(made.plain) / EXAMPLES).write_text(examples.to_json())
    monkeypatch.setattr(EmbeddedLanguageModel, "setup", lambda self: None)
    monkeypatch.setattr(EmbeddedLanguageModel, "log_likelihoods", lambda self, text, endings: [0.0] * len(endings))
    shown = [
        "--prompt",
        "a square",
        "--prompt",
        "close-up of a square",
        "--upsample",
        "--out",
        str(tmp_path / "x.png"),
    ]
    assert run("sample", made.plain, *shown, "--size", "64x48", "--frames", "1", "--set", "sample.num_steps=1") == 0
    facts = [json.loads((tmp_path / f"x-{number}.json").read_text()) for number in (0, 1)]
    assert [(one["typed"], one["prompt"]) for one in facts] == [
        ("a square", "A square. Wide shot."),
        ("close-up of a square", "close-up of a square"),
    ]


def test_a_start_that_cannot_be_is_one_message(made: SimpleNamespace, tmp_path: Path, capsys) -> None:
    out = ["--out", str(tmp_path / "x.mp4"), "--size", "64x48"]
    assert run("sample", made.plain, "--start", str(made.films / "1.mp4"), *out) == 2
    assert "train.data.tasks" in capsys.readouterr().err
    assert run("sample", made.begun, "--start", str(made.films / "broken.mp4"), *out) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert run("sample", made.begun, *out) == 2
    assert "expected what to show" in capsys.readouterr().err


@dataclass(frozen=True)
class Given:
    """A generation task, by what it is given."""

    kind: str
    inputs: tuple[str, ...]


def test_inputs_that_the_command_does_not_take_are_told_with_what_takes_them(caplog: pytest.LogCaptureFixture) -> None:
    whole, first, depth = Given("unconditional", ()), Given("first_frames", ("start",)), Given("depth", ("depth",))
    for tasks, start in (([whole], None), ([first, depth], Path("x.png"))):
        _check_inputs("RUN", tasks, start)
    assert not caplog.messages
    with pytest.raises(ValueError, match=r"--start x\.png: RUN was trained on .*unconditional: nothing.*leave"):
        _check_inputs("RUN", [whole], Path("x.png"))
    with pytest.raises(ValueError, match=r"depth: depth.*in Python, with Request\(inputs=\{'depth': latent\}\)"):
        _check_inputs("RUN", [depth], Path("x.png"))
    _check_inputs("RUN", [first], None)
    _check_inputs("RUN", [depth], None)
    without_start, without_depth = caplog.messages
    assert "pass --start FILE" in without_start and "Python" not in without_start
    assert "is given nothing" in without_depth and "Request(inputs={'depth': latent})" in without_depth


def test_a_start_needs_an_autoencoder_that_codes_a_picture_as_a_first_frame(tmp_path: Path) -> None:
    autoencoder = save_model("hunyuan", tmp_path / "vae").build()
    with pytest.raises(ValueError, match=r"--start .*codes a picture otherwise than the first frame"):
        start_latent(autoencoder, tmp_path / "first.png", (32, 32), 12.0, 1)


def test_a_run_on_latents_of_an_earlier_version_is_told(
    made: SimpleNamespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = Path(shutil.copytree(made.plain, tmp_path / "old"))
    record = json.loads((old / "run.json").read_text())
    record["latents"]["version"] = 1
    (old / "run.json").write_text(json.dumps(record))
    asked = ["--prompt", "a", "--size", "32x32", "--frames", "1", "--set", "sample.num_steps=1"]
    for run_folder, told in ((made.plain, False), (str(old), True)):
        caplog.clear()
        assert run("sample", run_folder, "--out", str(tmp_path / "x.png"), *asked) == 0
        assert ("may have been scrambled" in caplog.text) == told


def test_another_decoder_of_the_same_latents_shows_a_sample(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_temporal_decoder(ReelpackConfig(device="cpu"), tmp_path / "decoder")
    asked = ["--prompt", "a", "--size", "32x32", "--frames", "5", "--set", "sample.num_steps=1"]
    shown = []
    for chosen in ([], ["--autoencoder", str(tmp_path / "decoder")], ["--autoencoder", "embedded"]):
        assert run("sample", made.plain, "--out", str(tmp_path / "x.mp4"), *asked, *chosen) == 0
        shown.append(decode_clip((tmp_path / "x.mp4").read_bytes()).rgb.astype(float))
    assert np.array_equal(shown[0], shown[2]) and np.abs(shown[0] - shown[1]).mean() > 1
    save_model("stable_diffusion", tmp_path / "other")
    other = ["--autoencoder", f"{{kind: diffusers, path: {tmp_path / 'other'}}}"]
    assert run("sample", made.plain, "--out", str(tmp_path / "x.mp4"), *asked, *other) == 2
    assert "the latents were made as" in capsys.readouterr().err
