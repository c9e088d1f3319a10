"""What `reelpack sample` writes."""

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from PIL import Image

from caption.llava.language import EmbeddedLanguageModel
from caption.prompt_examples import PromptExamples
from curate.media.decode import decode_clip
from curate.media.encode import encode_mp4
from curate.shards.tar import TarReader, read_member
from pipelines.config import load_config
from pipelines.drivers.encode import encode
from pipelines.drivers.upsample import EXAMPLES
from pipelines.generation.asked import Asked
from pipelines.generation.generator import Generator
from tests.pipelines.test_train_commands import run
from tests.support.curated import caption, curated
from tests.train.autoencoder.models import save_model, save_temporal_decoder
from train.autoencoder.config import ReelpackConfig, autoencoder_of
from train.autoencoder.super_resolution.folder import EMBEDDED
from train.data.manifest import read_manifest
from train.data.read import ClipReader
from train.data.tasks.first_frames import FirstFrames
from train.data.tasks.unconditional import Unconditional
from train.run.folder import read_run
from train.sampling.config import SampleConfig
from train.sampling.given_files import GivenFiles
from train.sampling.read_given import read_given
from train.sampling.request import Request
from train.sampling.source_prompt import caption_of

TRAIN = ["model.width=32", "model.num_heads=2", "model.depth=1", "steps=2", "device=cpu", "data.plan.token_budget=512"]
ENCODE = ["execute.executor=local", "encode.max_area_px=6144"]
SMALL = ["--size", "64x48", "--frames", "17"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two runs: one of them was trained on every task."""
    folder = tmp_path_factory.mktemp("sampled")
    made = curated(folder)
    caption(made.dataset)
    encode(made.url, load_config(overrides=[*ENCODE, "encode.lone_frames=all"]))
    kinds = ["unconditional", "first_frames", "last_frames", "both_ends", "key_frames", "random_frames", "inpainting"]
    every = ", ".join(f"{{kind: {kind}}}" for kind in kinds)
    for name, tasks in (("plain", "[{kind: unconditional}]"), ("begun", f"[{every}]")):
        settings = [*TRAIN, f"data.tasks={tasks}"]
        options = [part for setting in settings for part in ("--set", f"train.{setting}")]
        assert run("train", made.url, "--out", str(folder / name), *options) == 0
    made.plain, made.begun = str(folder / "plain"), str(folder / "begun")
    film = decode_clip((made.films / "1.mp4").read_bytes()).rgb
    made.first, made.last, made.mask, made.wrong = (folder / f"{name}.png" for name in ("a", "b", "mask", "wrong"))
    white = np.zeros_like(film[0])
    white[:, : white.shape[1] // 2] = 255
    for path, pixels in ((made.first, film[0]), (made.last, film[-1]), (made.mask, white), (made.wrong, white[1:])):
        Image.fromarray(pixels).save(path)
    return made


def test_a_video_goes_on_from_a_clip_and_begins_with_a_picture(made: SimpleNamespace, tmp_path: Path) -> None:
    film = decode_clip((made.films / "1.mp4").read_bytes()).rgb
    small = ["--size", "64x48", "--frames", "17", "--set", "sample.num_steps=2"]
    shown = {}
    for name, start in (("clip", made.films / "1.mp4"), ("picture", made.first)):
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


def test_what_a_video_is_made_from_is_encoded_as_in_training(made: SimpleNamespace, tmp_path: Path) -> None:
    """Pictures by files, of a clip that the autoencoder has not seen, and as a run reads them, stored or not."""
    config, record = read_run(Path(made.begun))
    unscaled = [ENCODE[0], "encode.max_area_px=65536"]
    for how in ("encode.lone_frames=all", "encode.store=false"):
        latents = encode(made.url, load_config(overrides=[*unscaled, how])).latents
        manifest = read_manifest(made.url, split="train", patch=(1, 2, 2), latents=latents)
        row, places = manifest.row(0), (0, 2, int(manifest.grids[0, 0]) - 1)
        read = ClipReader(manifest, (1, 2, 2)).read(row, lone_frames=places)
        latent, alone = read.latent, read.lone
        [clip] = made.dataset.read_index().filter(pc.field("clip_id") == row["clip_id"]).to_pylist()
        film = decode_clip(read_member(TarReader(made.dataset.layout.shards), clip)).rgb
        num_frames, paths = 1 + 4 * places[-1], [tmp_path / f"{place}.png" for place in places]
        for place, path in zip(places, paths, strict=True):
            Image.fromarray(film[(len(film) - num_frames) // 2 + 4 * place]).save(path)
        size = {"width": 8 * row["latent_w"], "height": 8 * row["latent_h"]}
        request = Request(prompt="", num_frames=num_frames, **size)
        asked = request, config, record, autoencoder_of(record.latents), row["fps"]
        keys = read_given(GivenFiles(keys={4 * n: path for n, path in zip(places, paths, strict=True)}), *asked)
        ends = read_given(GivenFiles(start=paths[0], end=paths[2]), *asked)
        assert torch.equal(torch.stack([keys.frames[n] for n in places], dim=1).half().float(), alone)
        assert torch.equal(ends.start.half().float(), latent[:, :1])
        assert torch.equal(ends.frames[places[-1]], keys.frames[places[-1]])
        loop = read_given(GivenFiles(start=paths[0], loop=True), *asked)
        assert torch.equal(loop.start, ends.start) and list(loop.frames) == [places[-1]]
        assert torch.equal(loop.frames[places[-1]], keys.frames[0]), "a loop ends in its start"
        inside = (alone[:, 1] - latent[:, 2]).abs().mean()
        assert inside > 0.3 * latent.std(), "in the clip, the latent frame that ends with the picture is another"


def test_of_a_clip_that_a_video_leads_to_the_beginning_is_shown(made: SimpleNamespace) -> None:
    config, record = read_run(Path(made.begun))
    request = Request(prompt="", width=64, height=48, num_frames=17)
    asked = request, config, record, autoencoder_of(record.latents), 0.0  # the rate of the clip itself
    of_clip, of_first, of_last = (
        read_given(GivenFiles(end=path), *asked).frames for path in (made.films / "1.mp4", made.first, made.last)
    )
    assert sorted(of_clip) == [3, 4] and list(of_first) == [4]
    near, far = ((of_clip[3] - one[4]).abs().mean() for one in (of_first, of_last))
    assert near < 0.3 * far


GIVEN = {
    "end": (["--end", "{last}"], {"end": "{last}"}),
    "lead_to": (["--extend", "back", "--video", "{film}"], {"extend": "back", "video": "{film}"}),
    "loop": (["--start", "{first}", "--loop"], {"loop": True}),
    "keys": (["--keys", "0={first}", "--keys", "8={last}"], {"keys": {"0": "{first}", "8": "{last}"}}),
    "mask": (["--video", "{film}", "--mask", "{mask}"], {"mask": "{mask}"}),
    "edit": (["--video", "{film}", "--strength", "0.5"], {"strength": 0.5}),
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_video_is_made_from_files_and_its_record_says_from_which(
    made: SimpleNamespace, tmp_path: Path, name: str
) -> None:
    paths = {"film": made.films / "1.mp4", "first": made.first, "last": made.last, "mask": made.mask}
    options, recorded = GIVEN[name]
    out = tmp_path / "x.mp4"
    given = [option.format(**paths) for option in options]
    assert run("sample", made.begun, *given, "--out", str(out), *SMALL, "--set", "sample.num_steps=2") == 0
    facts = json.loads(out.with_suffix(".json").read_text())
    for key, value in recorded.items():
        assert json.dumps(facts[key]) == _filled(json.dumps(value), paths)
    assert len(decode_clip(out.read_bytes()).rgb) == 17


def _filled(text: str, paths: dict[str, Path]) -> str:
    for name, path in paths.items():
        text = text.replace(f"{{{name}}}", str(path))
    return text


def test_a_clip_of_the_dataset_is_edited_by_inversion_under_its_caption(
    made: SimpleNamespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = made.dataset.read_index().filter(pc.equal(pc.field("split"), "train")).to_pylist()[0]
    own = row["caption_dense"] or row["caption_short"]
    clip, out = tmp_path / f"{row['clip_id']}.mp4", tmp_path / "x.mp4"
    clip.write_bytes(read_member(TarReader(made.dataset.layout.shards), row))
    edited = ["--prompt", "a blue square", "--set", "sample.num_steps=2", *SMALL]
    options = ["--invert", str(clip), "--null-text", "1", "--scores", "--out", str(out)]
    assert run("sample", made.plain, *options, *edited) == 0
    assert f"its own prompt is {own!r}" in caplog.text
    facts = json.loads(out.with_suffix(".json").read_text())
    assert (facts["invert"], facts["null_text"], facts["source_prompt"]) == (str(clip), 1, None)
    assert "compositeWithTrained" in facts["digital_source_type"] and len(decode_clip(out.read_bytes()).rgb) == 17
    [(encoder, scores)] = facts["scores"].items()
    assert encoder == "conse" and set(scores) == {"before", "after"}
    for figures in scores.values():
        assert set(figures) == {"frame_consistency", "source_prompt", "prompt"}
        assert all(-1 <= value <= 1 for value in figures.values())
    assert scores["before"]["frame_consistency"] > 0.8
    _, record = read_run(Path(made.plain))
    assert caption_of(clip, record) == own
    assert caption_of(made.films / "1.mp4", record) == ""
    gone = replace(record, datasets=({**record.datasets[0], "url": str(tmp_path)},))
    assert caption_of(clip, gone) == ""


REFUSED = {
    "untrained": ("plain", ["--end", "{last}"], r"pictures at latent frames 4.*\(unconditional: nothing\).*tasks"),
    "between": ("begun", ["--keys", "9={last}"], "the nearest are 8 and 12"),
    "beyond": ("begun", ["--keys", "17={last}"], "expected a frame from 0 to 16, of 17"),
    "twice": ("begun", ["--keys", "8={last}", "--keys", "8={first}"], "has a picture already"),
    "unnamed": ("begun", ["--keys", "{last}"], "expected N=FILE"),
    "film_as_key": ("begun", ["--keys", "8={film}"], "frames; expected a picture"),
    "key_at_end": ("begun", ["--keys", "16={first}", "--end", "{last}"], "the end shows frame 16, too; leave one"),
    "unread": ("begun", ["--end", "{broken}"], "--end .*cannot be read"),
    "other_mask": ("begun", ["--video", "{film}", "--mask", "{wrong}"], r"got \d+x\d+ px; expected the video's"),
    "full_mask": ("begun", ["--video", "{film}", "--mask", "{first}"], "of it is white"),
    "short": (
        "begun",
        ["--video", "{film}", "--strength", "0.5", "--frames", "65"],
        "drawn in windows of 29, and more than a start; ask for at most 29",
    ),
    "no_edit": ("begun", ["--video", "{film}"], "--mask FILE, --strength below 1, or --extend"),
    "strong": (
        "begun",
        ["--video", "{film}", "--strength", "2"],
        "sample.strength: .*less than or equal to 1 ",
    ),
    "no_video": ("begun", ["--start", "{first}", "--strength", "0.5"], "expected --video FILE"),
    "no_start": ("begun", ["--end", "{first}", "--loop"], "returns to the start"),
    "nothing": ("begun", [], "expected what to show"),
    "inverted_and_more": ("begun", ["--invert", "{film}", "--start", "{first}"], "edited as a whole; leave what else"),
    "not_inverted": ("plain", ["--invert", "{film}", "--set", "sample.sampler=unipc"], "take euler, heun, or ddim"),
    "scores_of_nothing": ("plain", ["--prompt", "x", "--scores"], "--scores is of a clip .*: expected --invert FILE"),
    "two_sides": ("begun", ["--video", "{film}", "--extend", "back", "--end", "{last}"], "leave one of them out"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_do_not_fit_are_one_message_that_says_what_would(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    run_name, options, message = REFUSED[name]
    paths = {"film": made.films / "1.mp4", "broken": made.films / "broken.mp4"} | vars(made)
    given = [option.format(**paths) for option in options]
    assert run("sample", getattr(made, run_name), "--out", str(tmp_path / "x.mp4"), *SMALL, *given) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_mask_has_the_frames_of_the_file_or_those_at_the_rate_of_the_run(
    made: SimpleNamespace, tmp_path: Path, share: float
) -> None:
    """The second half of the film is made new, at whatever rate it is read."""
    film = made.films / "1.mp4"
    whole = decode_clip(film.read_bytes())
    rgb, fps = whole.rgb, share / float(np.diff(whole.pts_s).mean())
    num_frames = 1 + 4 * ((int(len(rgb) * share) - 1) // 4)
    for count in {len(rgb), math.ceil(len(rgb) * share)}:
        white = np.zeros((count, *rgb.shape[1:]), np.uint8)
        white[count // 2 :] = 255
        mask = tmp_path / f"{count}.mp4"
        mask.write_bytes(encode_mp4(white, fps))
        config, record = read_run(Path(made.begun))
        request = Request(prompt="", width=64, height=48, num_frames=num_frames)
        autoencoder = autoencoder_of(record.latents)
        given = read_given(GivenFiles(video=film, mask=mask), request, config, record, autoencoder, fps)
        assert given.kept is not None
        first_new = int(np.argmin(given.kept.all(axis=(1, 2))))
        assert abs(4 * first_new - num_frames / 2) <= 4 and not given.kept[first_new:].any()


def test_a_run_that_is_always_given_something_says_so(made: SimpleNamespace) -> None:
    config = SampleConfig(device="cpu")
    generator, asked = Generator(made.begun, config), Asked(prompt="", width=64, height=48, num_frames=17, seed=0)
    assert generator.check(asked, config) == []
    data = generator.train_config.data.model_copy(update={"tasks": (Unconditional(weight=0), FirstFrames())})
    generator.train_config = generator.train_config.model_copy(update={"data": data})
    [note] = generator.check(asked, config)
    assert "(first_frames: --start), and is given nothing" in note
    assert generator.check(replace(asked, given=GivenFiles(start=made.first)), config) == []


def test_a_picture_that_is_cut_and_a_size_beyond_training_are_told_once(
    made: SimpleNamespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("RGB", (100, 100)).save(tmp_path / "square.png")
    given = ["--start", str(tmp_path / "square.png"), "--end", str(made.last), "--set", "sample.seeds=[1,2]"]
    large = ["--size", "128x96", "--frames", "5", "--set", "sample.num_steps=1"]
    assert run("sample", made.begun, *given, "--out", str(tmp_path / "x.mp4"), *large) == 0
    told = [record.getMessage() for record in caplog.records if record.name == "pipelines.drivers.sample"]
    assert len(told) == 2
    assert "5 frames of 128x96: the run was trained on at most" in told[0]
    assert told[1].endswith("square.png: 25% of its 100x100 px is cut off to fit 128x96; 96x96 shows more of it")


def test_latents_without_frames_that_are_encoded_alone_are_refused_before_training(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = encode(made.url, load_config(overrides=ENCODE)).latents
    tasks = ["--set", "train.data.tasks=[{kind: last_frames}]", "--set", f"train.data.latents={bare}"]
    assert run("train", made.url, "--out", str(tmp_path / "run"), *tasks) == 2
    assert "have of these: none; expected last: encode with encode.lone_frames=last" in " ".join(
        capsys.readouterr().err.split()
    )


def test_a_start_needs_an_autoencoder_that_codes_a_picture_as_a_first_frame(
    made: SimpleNamespace, tmp_path: Path
) -> None:
    autoencoder = save_model("hunyuan", tmp_path / "vae").build()
    config, record = read_run(Path(made.begun))
    request = Request(prompt="", width=64, height=48, num_frames=17)
    with pytest.raises(ValueError, match=r"--start .*codes a picture otherwise than the first frame"):
        read_given(GivenFiles(start=made.first), request, config, record, autoencoder, 12.0)


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


def test_decoded_videos_are_enlarged_and_the_json_says_by_what(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    asked = ["--prompt", "a", "--size", "32x32", "--frames", "5", "--set", "sample.num_steps=1"]
    shown = []
    for chosen in ([], ["--set", "sample.super_resolution=embedded"]):
        assert run("sample", made.plain, "--out", str(tmp_path / "x.mp4"), *asked, *chosen) == 0
        shown.append(decode_clip((tmp_path / "x.mp4").read_bytes()).rgb.astype(float))
    assert (shown[0].shape, shown[1].shape) == ((5, 32, 32, 3), (5, 64, 64, 3))
    assert np.abs(shown[1].reshape(5, 32, 2, 32, 2, 3).mean(axis=(2, 4)) - shown[0]).mean() < 20
    facts = json.loads((tmp_path / "x.json").read_text())
    assert (facts["super_resolution"], facts["size"]) == ("embedded", "32x32")
    assert "was trained on what" not in caplog.text
    other = shutil.copytree(EMBEDDED, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"base_fingerprint": "another"}))
    chosen = ["--set", f"sample.super_resolution={other}"]
    assert run("sample", made.plain, "--out", str(tmp_path / "x.mp4"), *asked, *chosen) == 0
    assert "was trained on what reelpack_kl decodes (another)" in caplog.text
    chosen = ["--set", f"sample.super_resolution={tmp_path / 'none'}"]
    assert run("sample", made.plain, "--out", str(tmp_path / "x.mp4"), *asked, *chosen) == 2
    assert "no such network there" in capsys.readouterr().err
