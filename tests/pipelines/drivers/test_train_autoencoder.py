"""`reelpack train-autoencoder` on a dataset: its weights encode the dataset, and a folder holds one run."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from curate.media.decode import decode_clip
from curate.shards.tar import TarReader, read_member
from pipelines.cli import main
from pipelines.commands.train_autoencoder import show
from pipelines.config import Config, load_config
from pipelines.drivers.encode import encode
from pipelines.drivers.train_autoencoder import AutoencoderSummary, train_autoencoder
from pipelines.takedown.runs import runs_of
from tests.support.curated import curated
from train.autoencoder.config import autoencoder_of
from train.autoencoder.own import ReelpackAutoencoder
from train.autoencoder.pixels import to_video
from train.autoencoder.training.loop import Row

TINY = [
    "train_autoencoder.network.widths=[8, 12, 16]",
    "train_autoencoder.network.latent_channels=4",
    "train_autoencoder.clips.sizes_px=[[32, 32]]",
    "train_autoencoder.clips.lengths=[1, 5]",
    "train_autoencoder.clips.batch_px=20480",
    "train_autoencoder.clips.decoded_px=48",
    "train_autoencoder.clips.short_side_px=[32, 48]",
    "train_autoencoder.steps=3",
    "train_autoencoder.optimizer.warmup_steps=0",
    "train_autoencoder.num_measured=2",
    "train_autoencoder.device=cpu",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return curated(tmp_path_factory.mktemp("autoencoder"))


def config(*settings: str) -> Config:
    return load_config(overrides=[*TINY, *settings])


@pytest.mark.parametrize("kind", ["kl", "vq", "fsq"])
def test_its_weights_encode_the_dataset_and_decode_it(kind: str, made: SimpleNamespace, tmp_path: Path) -> None:
    codes = {"kl": [], "vq": ["train_autoencoder.network.bottleneck.codebook_size=32"], "fsq": []}
    chosen = f"train_autoencoder.network.bottleneck.kind={kind}"
    summary = train_autoencoder(made.url, tmp_path / "run", config(chosen, *codes[kind]))
    steps = [row for row in summary.rows if "loss" in row]
    assert summary.num_clips + summary.num_held_out == 2 and len(steps) == 3
    (run,) = runs_of(made.url, [str(tmp_path)])  # `forget` says so
    assert (run.folder, run.train_clips) == (str(tmp_path / "run"), summary.num_clips)
    assert all(
        ("code_usage_limit" in row) == (kind != "kl") for row in steps
    )  # what the line of progress compares with
    settings = ["execute.executor=local", f"encode.autoencoder.path={summary.weights}", "encode.max_area_px=6144"]
    done = encode(made.url, load_config(overrides=settings))
    folder = made.dataset.layout.encoded("latents", done.latents)
    record = json.loads(Path(folder.record).read_text())
    assert record["autoencoder"] == f"reelpack_{kind}"
    row = made.dataset.read_index().to_pylist()[0]
    rgb = decode_clip(read_member(TarReader(made.dataset.layout.shards), row), num_frames=5, size=(48, 64)).rgb
    autoencoder = autoencoder_of(record)
    latent = autoencoder.encode(to_video(rgb))
    assert latent.shape[0] == record["channels"] and latent.isfinite().all()
    assert autoencoder.decode(latent).shape == torch.Size((1, 3, 5, 48, 64))


def test_the_command_resumes_its_own_run_and_no_other(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    words = [word for setting in TINY for word in ("--set", setting)]

    def run(*further: str) -> object:
        with pytest.raises(SystemExit) as stopped:
            main(["train-autoencoder", made.url, "--out", out, *words, *further])
        return stopped.value.code

    assert run() == 0
    printed = capsys.readouterr().out
    assert "loss of the reconstruction" in Path(out, "report.html").read_text()
    assert "loss, 3 steps" in printed and f"--set encode.autoencoder.path={out}/weights" in printed
    weights = Path(out, "weights", "model.safetensors").read_bytes()
    assert run("--set", "train_autoencoder.checkpoint.keep=1") == 0  # it is at its end
    assert Path(out, "weights", "model.safetensors").read_bytes() == weights
    assert run("--set", "train_autoencoder.seed=1") == 2
    assert "begun with other train_autoencoder.seed" in capsys.readouterr().err


def test_weights_to_begin_with_are_of_the_same_layers(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = train_autoencoder(made.url, tmp_path / "first", config())
    init = f"train_autoencoder.init={begun.weights}"
    weight = "train_autoencoder.network.bottleneck.weight=0.1"  # of a loss: all layers fit
    again = train_autoencoder(made.url, tmp_path / "second", config("train_autoencoder.steps=1", init, weight))
    assert again.rows[0]["loss"] < begun.rows[0]["loss"]
    assert "random weights" not in capsys.readouterr().err
    fsq = "train_autoencoder.network.bottleneck={kind: fsq}"
    train_autoencoder(made.url, tmp_path / "third", config("train_autoencoder.steps=1", init, fsq))
    assert "another bottleneck: encoder.head, decoder.stem begin with random weights" in capsys.readouterr().err
    gone = Path(begun.weights).rename(tmp_path / "gone")
    again = train_autoencoder(made.url, tmp_path / "third", config("train_autoencoder.steps=1", init, fsq))  # resumes
    assert len(again.rows) == 1
    with pytest.raises(ValueError, match=r"autoencoder.init=.*/weights: no model.safetensors in .*weights"):
        train_autoencoder(made.url, tmp_path / "fifth", config("train_autoencoder.steps=1", init))
    video = torch.zeros(1, 3, 5, 32, 32)
    latent = ReelpackAutoencoder.from_pretrained(gone, device="cpu").encode(video)
    assert latent.shape == (4, 2, 4, 4)
    with pytest.raises(ValueError, match=r"init=embedded: its network has level_widths .* \(here \(8, 12, 16\)\)"):
        train_autoencoder(made.url, tmp_path / "fourth", config("train_autoencoder.init=embedded"))


def test_the_decoder_of_images_learns_time_and_old_latents_stay_valid(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames_alone = "{over_time: false, temporal_stride: 1, widths: [8, 12], latent_channels: 4}"
    images = [f"train_autoencoder.network={frames_alone}"]
    alone = [setting for setting in TINY if not setting.startswith("train_autoencoder.network")]
    base = train_autoencoder(made.url, tmp_path / "base", load_config(overrides=[*alone, *images])).weights
    folder = str(tmp_path / "run")
    words = [word for setting in alone for word in ("--set", setting)]
    told = ["--set", f"train_autoencoder.temporal_decoder.base={{kind: reelpack, path: {base}}}"]
    with pytest.raises(SystemExit) as stopped:
        main(["train-autoencoder", made.url, "--out", folder, *words, *told])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    kind = f"encode.autoencoder={{kind: temporal_decoder, path: {folder}/weights}}"
    assert f"--set '{kind}'" in printed
    names = [f"encode.autoencoder.path={base}", kind]
    small = ["execute.executor=local", "encode.max_area_px=6144"]
    done = [encode(made.url, load_config(overrides=[*small, name])) for name in names]
    assert done[0].latents == done[1].latents
    # Weights of the base that are other ones now end the run.
    others = [*alone, *images, "train_autoencoder.seed=1"]
    other = train_autoencoder(made.url, tmp_path / "other", load_config(overrides=others)).weights
    shutil.copytree(other, base, dirs_exist_ok=True)
    with pytest.raises(SystemExit):
        main(["train-autoencoder", made.url, "--out", folder, *words, *told])
    assert "begun with other base" in capsys.readouterr().err


def test_a_network_of_super_resolution_is_trained_behind_the_embedded_autoencoder(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [setting for setting in TINY if not setting.startswith("train_autoencoder.network")]
    own += ["train_autoencoder.super_resolution={width: 8, num_blocks: 1}"]
    words = [
        "train-autoencoder",
        made.url,
        "--out",
        str(tmp_path / "run"),
        *(w for one in own for w in ("--set", one)),
    ]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--set", "train_autoencoder.clips.sizes_px=[[40, 48]]"])
    assert stopped.value.code == 2 and "multiples of the spatial stride, 16" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 0
    assert f"--set sample.super_resolution={tmp_path}/run/weights" in capsys.readouterr().out


def test_held_out_figures_are_shown_before_and_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[Row] = [{"step": step, "loss": 1.0} for step in (1, 2, 3)]
    rows += [{"step": step, "held_out": {"flicker": 3.0 - step, "psnr_db": 30.0}} for step in (1, 3)]
    summary = AutoencoderSummary(
        weights=tmp_path, setting="", num_weights=1, num_clips=1, num_held_out=1, rows=tuple(rows)
    )
    show(summary)
    assert re.search(r"flicker, of 255 +0\.000\n", capsys.readouterr().out)
    begun: Row = {"step": 0, "held_out": {"flicker": 3.5, "psnr_db": 29.0}}
    show(replace(summary, rows=(begun, *rows)))
    assert re.search(r"PSNR +29.00 dB → 30.00 dB\n.*flicker, of 255 +3\.500 → 0\.000", capsys.readouterr().out)


def test_a_base_whose_strides_do_not_take_the_samples_is_told(made: SimpleNamespace, tmp_path: Path) -> None:
    chosen = "train_autoencoder.temporal_decoder.base={kind: reelpack, path: null}"
    settings = [setting for setting in TINY if not setting.startswith("train_autoencoder.network")]
    lengths = "train_autoencoder.clips.lengths=[4]"
    with pytest.raises(ValueError, match=r"clips.lengths: got \[4\]; a temporal stride of 4 takes .*reelpack_kl"):
        train_autoencoder(made.url, tmp_path / "run", load_config(overrides=[*settings, chosen, lengths]))


def test_a_run_in_a_store_resumes_and_its_weights_are_there(made: SimpleNamespace) -> None:
    out = "memory://autoencoder/run"
    first = train_autoencoder(made.url, out, config("train_autoencoder.checkpoint.every=1"))
    again = train_autoencoder(made.url, out, config("train_autoencoder.checkpoint.every=1"))
    assert [row["step"] for row in again.rows] == [row["step"] for row in first.rows] == [1, 2, 3]
    assert (first.weights / "model.safetensors").exists()


def test_a_dataset_without_clips_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="reelpack curate"):
        train_autoencoder(str(tmp_path / "nothing"), tmp_path / "run", config())
