"""`reelpack sample RUN RUN --prompts FILE`: a list of videos, each drawn by a cascade."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from curate.media.decode import decode_clip
from pipelines.generation.generator import Generator
from pipelines.serve.jobs import State
from pipelines.serve.studio import Studio
from tests.pipelines.test_train_commands import run
from tests.support.latents import add_latents
from tests.support.tiny_run import SETTINGS, tiny_dataset
from train.loop import train
from train.run.config import TrainConfig
from train.sampling.config import SampleConfig

FEW = ["--set", "sample.num_steps=1", "--set", "sample.device=cpu"]
SHAPE = ["--size", "96x64", "--frames", "5"]


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """`base`, and `larger`, which doubles sides."""
    folder = tmp_path_factory.mktemp("cascade")
    dataset = tiny_dataset(folder / "dataset")
    add_latents(dataset, "half", lambda latent: latent[:, :, ::2, ::2])
    for name, conditioning in (("base", []), ("larger", [{"kind": "spatial", "latents": ["half"]}])):
        data = {**SETTINGS["data"], "latents": "lat0", "conditioning": conditioning}
        train(TrainConfig.model_validate({**SETTINGS, "data": data}), str(dataset), folder / name)
    return [str(folder / name) for name in ("base", "larger")]


def test_a_list_is_drawn_by_all_stages_and_resumes(cascade: list[str], tmp_path: Path) -> None:
    file, out = tmp_path / "mine.csv", tmp_path / "mine"
    file.write_text("prompt,seed,frames\na disc,3,\na square,,1\n")
    assert run("sample", *cascade, "--prompts", str(file), "--grid", *SHAPE, *FEW) == 0
    video, image = out / "0002-3.mp4", out / "0003-1.png"
    assert sorted(path.name for path in out.glob("*.[mp][pn]*")) == [video.name, image.name, "grid.mp4"]
    facts = json.loads(video.with_suffix(".json").read_text())
    assert (facts["run"], facts["steps"], facts["size"]) == ("base + larger", [2, 2], "96x64")
    alone = ["--prompt", "a disc", "--out", str(tmp_path / "x.mp4"), "--set", "sample.seed=3"]
    assert run("sample", *cascade, *alone, *SHAPE, *FEW) == 0
    assert np.array_equal(*(decode_clip(path.read_bytes()).rgb for path in (video, tmp_path / "x.mp4")))
    before = video.stat().st_mtime_ns
    image.unlink()
    assert run("sample", *cascade, "--prompts", str(file), *SHAPE, *FEW) == 0
    assert image.exists() and video.stat().st_mtime_ns == before, "what was there stays"


def test_lines_that_a_stage_cannot_draw_are_named(
    cascade: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_text('"a disc"\n{"prompt": "a", "size": "50x32"}\n')
    assert run("sample", *cascade, "--prompts", str(tmp_path / "a.jsonl"), *SHAPE, *FEW) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "cannot make 1 lines" in said and "line 2: stage 2" in said and not (tmp_path / "a").exists()


def test_the_page_of_a_cascade_generates_by_all_stages(cascade: list[str], tmp_path: Path) -> None:
    config, asked = SampleConfig(num_steps=2, device="cpu"), {"prompt": "a disc", "height": 64, "num_frames": 5}
    studio = Studio(Generator(cascade, config), config, tmp_path)
    assert studio.about()["run"] == "base + larger"
    job, shares = studio.ask({**asked, "width": 96}), list[float]()
    for number, _ in studio.generator.make(job.asked, config, lambda _: tmp_path / "x.mp4", shares.append):
        assert (number, shares) == (0, [0.0, 0.25, 0.5, 0.75])
    studio.run(studio.queue.next())
    assert job.state is State.DONE, job.message
    [item] = studio.items(None, 9)["items"]
    assert shlex.split(item["command"])[:4] == ["reelpack", "sample", *cascade] and "--step" not in item["command"]
    with pytest.raises(ValueError, match=r"stage 2, .*nearest"):
        studio.ask({**asked, "width": 50})
