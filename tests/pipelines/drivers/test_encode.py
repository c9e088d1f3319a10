"""Latents are stored by `encode`, or made by training: the same values."""

import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from curate.dataset.judged import EDITED, REJECTED
from curate.device import pick_device, with_index
from curate.encoders.text import TextEncoder
from curate.schema import content_digest
from pipelines.commands.encode import show
from pipelines.config import load_config
from pipelines.drivers.encode import encode
from pipelines.drivers.export import Choice, export
from pipelines.inspection.status import status
from pipelines.inspection.verify import verify
from tests.pipelines.test_train_commands import run
from tests.support.curated import caption, copied, curated
from train.autoencoder.config import ReelpackConfig
from train.autoencoder.own import ReelpackAutoencoder
from train.data.check import problems
from train.data.config import DataConfig
from train.data.encode import encoder
from train.data.load import PackLoader
from train.data.manifest import read_manifest
from train.data.plan import Cursor
from train.data.read import ClipReader
from train.data.texts import read_texts
from train.distributed.ranks import RankGrid
from train.model.dit_config import DiTConfig
from train.objective.config import FlowConfig

PATCH = (1, 2, 2)
ALONE = RankGrid(rank=0, world_size=1, device=torch.device("cpu"))
SETTINGS = ["execute.executor=local", "encode.max_area_px=6144", "encode.autoencoder.device=cpu"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A dataset with its latents stored, and also with their sizes alone."""
    made = curated(tmp_path_factory.mktemp("encoded"))
    caption(made.dataset)
    made.stored = encode(made.url, load_config(overrides=SETTINGS)).latents
    made.online = encode(made.url, load_config(overrides=[*SETTINGS, "encode.store=false"])).latents
    return made


def manifest(made: SimpleNamespace, latents: str, text: str = "auto"):
    return read_manifest(made.url, split="train", patch=PATCH, latents=latents, text=text)


def test_training_encodes_to_the_values_that_are_stored(made: SimpleNamespace) -> None:
    stored, online = manifest(made, made.stored), manifest(made, made.online)
    assert len(stored) == len(online) == 2 and (stored.grids == online.grids).all()
    for row in range(len(stored)):
        one, other = (ClipReader(of, PATCH).latent(of.row(row)) for of in (stored, online))
        assert one.abs().max() > 0 and torch.equal(one, other)


def test_a_run_that_encodes_loses_what_a_run_that_reads_does(made: SimpleNamespace, tmp_path: Path) -> None:
    small = [
        "model.width=32",
        "model.num_heads=2",
        "model.depth=1",
        "steps=3",
        "device=cpu",
        "data.plan.token_budget=512",
    ]
    losses = {}
    for latents in (made.stored, made.online):
        settings = [part for name in [*small, f"data.latents={latents}"] for part in ("--set", f"train.{name}")]
        assert run("train", made.url, "--out", str(tmp_path / latents), *settings) == 0
        rows = map(json.loads, (tmp_path / latents / "metrics.jsonl").read_text().splitlines())
        losses[latents] = [row["loss"] for row in rows if "loss" in row]
    assert losses[made.stored] == losses[made.online] and len(losses[made.online]) == 3


def test_without_settings_the_command_does_what_ran_last(made: SimpleNamespace, tmp_path: Path, capsys) -> None:
    here = copied(made, tmp_path)
    folders = {kind: set(here.dataset.fingerprints(kind)) for kind in ("latents", "text")}
    assert run("encode", here.url) == 0
    assert {kind: set(here.dataset.fingerprints(kind)) for kind in folders} == folders
    assert "as it ran last, with encode.autoencoder.device=cpu encode.max_area_px=6144 encode.store=" in (
        capsys.readouterr().err
    )


def test_the_loader_has_its_autoencoder_before_its_threads_read(made: SimpleNamespace) -> None:
    encoder.cache_clear()
    shape = DiTConfig(width=32, num_heads=2, depth=1, patch=PATCH)
    PackLoader(manifest(made, made.online), FlowConfig().build(), DataConfig(), model=shape, seed=0)
    assert encoder.cache_info().currsize == 1


def test_a_worker_encodes_on_its_own_device_in_any_thread(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread's current CUDA device is the first one, whatever the worker's is: it is told, once for all threads."""
    given, built, build = torch.device("cpu", 0), [], ReelpackConfig.build
    used, encode_parts = [], ReelpackAutoencoder.encode_parts

    def watched_build(config: ReelpackConfig, device: torch.device | None = None) -> ReelpackAutoencoder:
        built.append(device)
        return build(config.model_copy(update={"device": "auto"}), device)

    def watched_encode(self: ReelpackAutoencoder, parts: Iterator[torch.Tensor], **given: bool) -> torch.Tensor:
        used.append((self.device, threading.current_thread() is threading.main_thread()))
        return encode_parts(self, parts, **given)

    monkeypatch.setattr(ReelpackConfig, "build", watched_build)
    monkeypatch.setattr(ReelpackAutoencoder, "encode_parts", watched_encode)
    online, ranks = manifest(made, made.online), RankGrid(rank=0, world_size=1, device=given)
    encoder.cache_clear()
    assert list(problems(online, PATCH, ranks)) == []
    loader = PackLoader(online, FlowConfig().build(), DataConfig(), model=DiTConfig(), seed=0, device=given)
    next(loader.steps(Cursor(), 0, 1))
    assert built == [given] and set(used) == {(given, True), (given, False)}
    encoder.cache_clear()


@pytest.mark.parametrize(
    ("setting", "worker", "expected"),
    [
        ("auto", "cuda:3", "cuda:3"),
        ("cuda", "cuda:3", "cuda:3"),
        ("auto", "cpu", "cpu"),
        ("cpu", "cuda:3", "cpu"),
        ("auto", None, "cuda:1"),
        ("cuda", None, "cuda:1"),
        ("cuda", "cpu", "cuda:1"),
    ],
)
def test_the_device_has_its_index(
    setting: str, worker: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    picked = pick_device(setting, worker=worker and torch.device(worker))
    assert with_index(picked) == torch.device(expected)


def test_a_device_that_is_not_there_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(ValueError, match=r"train\.device: got cuda"):
        pick_device("cuda", setting="train.device")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_clips_are_encoded_beside_a_busy_gpu(made: SimpleNamespace, tmp_path: Path) -> None:
    """On the worker's device, from another thread, without waiting for what training has queued."""
    made = copied(made, tmp_path)
    path = made.out / "latents" / made.online / "fingerprint.json"
    record = json.loads(path.read_text())
    record["config"]["autoencoder"]["device"] = "auto"
    path.write_text(json.dumps(record))
    online, stored = manifest(made, made.online), manifest(made, made.stored)
    device = torch.device("cuda", torch.cuda.device_count() - 1)
    reader = ClipReader(online, PATCH, device)
    reader.latent(online.row(0))  # compiled and cached
    with torch.cuda.device(device):
        torch.cuda._sleep(10**10)  # training's stream is busy for seconds
        busy = torch.cuda.current_stream()
        with ThreadPoolExecutor(1) as pool:
            latent = pool.submit(reader.latent, online.row(0)).result()
        assert not busy.query()
    torch.testing.assert_close(latent, ClipReader(stored, PATCH).latent(stored.row(0)), rtol=1e-2, atol=5e-2)
    assert encoder(online.row(0)["encode"], online.row(0)["latents_root"], device)._stage.device == device


def test_nothing_of_what_is_not_stored_is_missed(made: SimpleNamespace) -> None:
    [check] = [check for check in verify(made.url) if check.what.startswith("latents")]
    assert check.problems == ()
    assert list(problems(manifest(made, made.online), PATCH, ALONE)) == []
    assert not list(Path(made.url, "latents", made.online).glob("*.tar"))


def test_latents_of_an_earlier_version_are_not_exported_and_are_encoded_again(
    made: SimpleNamespace, tmp_path: Path
) -> None:
    made = copied(made, tmp_path)
    shutil.rmtree(made.out / "latents" / made.online)
    path = made.out / "latents" / made.stored / "fingerprint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 1}))
    with pytest.raises(ValueError, match="latents of version 1, which an earlier reelpack wrote"):
        export(made.url, str(tmp_path / "export"), choice=Choice(latents="auto"))
    [check] = [check for check in verify(made.url) if check.what.startswith("latents")]
    assert [problem for problem in check.problems if "may be scrambled" in problem]
    assert status(made.url).next_command.startswith("reelpack encode")


def test_captions_that_are_cut_are_counted_and_told_again(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    made = copied(made, tmp_path)
    caption(made.dataset, ["short", "dense.1"])
    for limit in (6, 256):
        config = load_config(overrides=[*SETTINGS, f"text.max_tokens={limit}"])
        encoder = TextEncoder(config.text)
        encoder.setup()
        texts = made.dataset.texts(made.dataset.read_index())["text"].to_pylist()
        num_long = sum(count > limit for count in encoder.count_tokens(texts))
        assert (num_long == 4) == (limit == 6)
        for _ in range(2):  # the second finds them in the table
            summary = encode(made.url, config)
            assert (summary.num_captions, summary.num_captions_cut) == (4, num_long)
            show(summary)
            shown = capsys.readouterr().out
            assert "4 (dense 2, short 2)" in shown
            assert ("4 (dense 2, short 2) (100.0%)" in shown and "cut at text.max_tokens=6" in shown) == (limit == 6)


def test_every_level_and_variant_is_embedded_and_counted(made: SimpleNamespace, tmp_path: Path) -> None:
    made = copied(made, tmp_path)
    one, other = made.dataset.read_index()["clip_id"].to_pylist()
    caption(made.dataset, ["dense", "dense.1", "dense.10", "fields"])
    caption(made.dataset, ["original"], family="original-1", section="original_family", clips=[one])
    caption(made.dataset, ["dense"], family="human", section="human", clips=[other], prompt_id=EDITED)
    summary = encode(made.url, load_config(overrides=SETTINGS))
    assert summary.captions == {"short": 2, "dense": 6, "original": 1} and summary.num_uncaptioned == 0
    record = json.loads((made.out / "text" / summary.text / "fingerprint.json").read_text())
    assert record["captions"] == ["test-1", "original-1"]
    train = manifest(made, made.stored, summary.text)
    names = ["dense", "dense.1", "dense.10", "short"]
    for row in range(len(train)):
        clip, lists = train.row(row), read_texts(train).slice(row, 1).to_pylist()[0]
        tensors = ClipReader(train, PATCH).captions(clip)
        expected = sorted([*names, *["original"] * (clip["clip_id"] == one)])
        assert sorted(lists["names"]) == sorted(tensors) == expected
        assert [len(tensors[name]) for name in lists["names"]] == lists["num_tokens"] == lists["num_uncut_tokens"]


def test_a_text_that_is_taken_back_is_not_trained_on(made: SimpleNamespace, tmp_path: Path) -> None:
    made = copied(made, tmp_path)
    one, other = made.dataset.read_index()["clip_id"].to_pylist()
    before = encode(made.url, load_config(overrides=SETTINGS))
    caption(made.dataset, family="human", section="human", clips=[one], prompt_id=REJECTED)
    summary = encode(made.url, load_config(overrides=SETTINGS))
    assert summary.text == before.text  # a run on this dataset resumes
    assert (summary.captions, summary.num_uncaptioned) == ({"short": 1}, 1)
    train = manifest(made, made.stored, summary.text)
    captioned = dict(zip(train.clip_ids, train.table["text_shard"].is_valid().to_pylist(), strict=True))
    assert captioned == {one: False, other: True}
    caption(made.dataset, family="human", section="human", prompt_id=REJECTED)
    assert encode(made.url, load_config(overrides=SETTINGS)).num_uncaptioned == 2
    assert manifest(made, made.stored, before.text).table["text_shard"].null_count == 2


def test_embeddings_of_an_earlier_reelpack_are_made_again_in_their_folder(
    made: SimpleNamespace, tmp_path: Path
) -> None:
    """Its rows have a column of tokens per level, and count no variants."""
    made = copied(made, tmp_path)
    summary = encode(made.url, load_config(overrides=SETTINGS))
    folder = made.out / "text" / summary.text
    for path in [folder / "index.parquet", *folder.glob("parts/*.parquet")]:
        table = pq.read_table(path)
        texts = [f"caption of {name}" for name in table["clip_id"].to_pylist()]
        source = [content_digest("short", text) for text in texts]
        counts = [lists[0] for lists in table["num_tokens"].to_pylist()]
        table = table.drop_columns(["names", "num_tokens", "num_uncut_tokens"])
        table = table.set_column(table.schema.get_field_index("media_digest"), "media_digest", [source])
        pq.write_table(table.append_column("num_tokens_short", pa.array(counts, pa.int32())), path)
    former = read_texts(manifest(made, made.stored, summary.text)).to_pylist()
    assert all(row["names"] == ["short"] and row["num_tokens"] for row in former)
    again = encode(made.url, load_config(overrides=SETTINGS))
    assert again.text == summary.text and again.captions == {"short": 2}
    assert read_texts(manifest(made, made.stored, summary.text)).to_pylist() == former


def test_a_dataset_without_captions_gets_latents_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    made = curated(tmp_path)
    summary = encode(made.url, load_config(overrides=SETTINGS))
    assert (summary.text, summary.num_clips, summary.num_captions, summary.num_uncaptioned) == (None, 2, 0, 2)
    assert not (made.out / "text").exists()
    show(summary)
    shown = capsys.readouterr().out
    assert "none: no clip has a caption" in shown and "2: trained under the null caption" in shown
    found = status(made.url)
    assert found.next_command.startswith("reelpack train") and "null caption" in found.why
    small = ["model.width=32", "model.num_heads=2", "model.depth=1", "steps=2", "device=cpu"]
    settings = [part for name in small for part in ("--set", f"train.{name}")]
    assert run("train-plan", made.url, *settings) == 0
    assert "no clip has a caption: every sample is trained under the null caption" in capsys.readouterr().out
    assert run("train", made.url, "--out", str(tmp_path / "run"), *settings) == 0
    caption(made.dataset)
    assert status(made.url).next_command.startswith("reelpack encode")
    assert encode(made.url, load_config(overrides=SETTINGS)).num_captions == 2
    assert status(made.url).why == "of 2 clips with latents 2 have a caption"


def test_the_plan_of_a_training_shows_the_blend(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    made = copied(made, tmp_path)
    shutil.rmtree(made.out / "text")
    caption(made.dataset, ["short", "dense", "dense.1"])
    latents = f"train.data.latents={made.stored}"
    encode(made.url, load_config(overrides=[*SETTINGS, "text.max_tokens=24"]))
    assert run("train-plan", made.url, "--set", latents, "--set", "train.device=cpu") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    start = next(i for i, line in enumerate(lines) if line[:2] == ["captions", "weight"])
    assert lines[start][-3:] == ["cut", "at", "24"]
    rows = {line[0]: line[1:] for line in lines[start + 1 : start + 5]}
    assert rows["dense"][:2] == ["57.1%", "63.2%"] and rows["original"][1:4] == ["0.0%", "0.0%", "0"]
    assert rows["dense"][3] == "4" and int(rows["dense"][-1]) == 4  # texts, and those that are cut
    assert lines[start + 5] == ["texts", "of", "tokens", "dense", "short", "human", "original"]
    assert ["over", "24", "4"] in [line[:3] for line in lines]


def test_a_wrong_text_setting_is_known_before_the_latents_are_made(made: SimpleNamespace, tmp_path: Path) -> None:
    made = copied(made, tmp_path)
    shutil.rmtree(made.out / "latents")
    with pytest.raises(ValueError, match=r"text\.max_tokens: got 5000; expected at most 512"):
        encode(made.url, load_config(overrides=[*SETTINGS, "text.max_tokens=5000"]))
    assert not (made.out / "latents").exists()


def test_latents_that_are_not_stored_cannot_be_exported(made: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--latents .* holds no latents, only their sizes \(encode.store=false\)"):
        export(made.url, str(tmp_path / "export"), choice=Choice(latents=made.online))
    with pytest.raises(ValueError, match="give --latents one of them"):
        export(made.url, str(tmp_path / "export"), choice=Choice(latents="auto"))


def test_other_settings_than_those_of_the_fingerprint_are_found_before_the_first_step(made: SimpleNamespace) -> None:
    path = Path(made.url, "latents", made.online, "fingerprint.json")
    record = json.loads(path.read_text())
    online = manifest(made, made.online)
    path.write_text(json.dumps(record | {"config": record["config"] | {"max_frames": 5}}))
    try:
        encoder.cache_clear()
        [problem] = problems(online, PATCH, ALONE)
        assert "put the autoencoder's weights back" in problem and made.online in problem
    finally:
        path.write_text(json.dumps(record))
        encoder.cache_clear()


@pytest.mark.parametrize("posterior", ["sample", "mean_logvar"])
def test_posteriors_that_are_stored_are_those_that_training_makes(
    made: SimpleNamespace, tmp_path: Path, posterior: str
) -> None:
    made = copied(made, tmp_path)
    settings = [*SETTINGS, f"encode.posterior={posterior}"]
    stored, online = (
        encode(made.url, load_config(overrides=[*settings, f"encode.store={store}"])).latents
        for store in ("values", "false")
    )
    means, *others = (manifest(made, latents) for latents in (made.stored, stored, online))
    for row in range(len(means)):
        mean = ClipReader(means, PATCH).latent(means.row(row))
        draws = [
            [
                ClipReader(of, PATCH).latent(of.row(row), noise and torch.Generator().manual_seed(noise))
                for of in others
            ]
            for noise in (None, 1, 2)
        ]
        assert all(torch.equal(one, other) and one.std() > 0 for one, other in draws)
        assert torch.equal(draws[0][0], mean) == (posterior == "mean_logvar")
        assert torch.equal(draws[1][0], draws[2][0]) == (posterior == "sample")
        assert not torch.equal(draws[1][0], mean)
