"""Real tiny datasets and runs, broken in one way each: a run does not start, and says what to do."""

import json
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from curate.dataset.forgotten import FORGOTTEN
from curate.dataset.store import Table
from tests.support.latents import smooth_clips, write_dataset
from train import loop
from train.data.check import problems
from train.data.config import DataConfig
from train.data.manifest import read_manifest
from train.data.mix import read_datasets
from train.distributed.ranks import RankGrid, log_once
from train.loop import train
from train.model.dit_config import DiTConfig
from train.run.config import TrainConfig
from train.run.folder import read_run
from train.run.resume import open_run

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    "steps": 2,
    "device": "cpu",
    "model": {"width": 32, "depth": 1, "num_heads": 2},
    "data": {"plan": {"token_budget": 128, "packs_per_step": 1}},
}


def run(dataset: Path, out: Path, **changes: Any) -> None:
    train(TrainConfig.model_validate(SETTINGS | changes), str(dataset), out)


@pytest.fixture
def copy(dataset: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dataset, tmp_path / "copy"))


def edit(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def put(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, [values])


def without_a_shard(root: Path) -> None:
    (root / "latents/lat0/train-000000.tar").unlink()


def without_a_text_shard(root: Path) -> None:
    (root / "text/txt0/train-000000.tar").unlink()


def truncated(root: Path) -> None:
    shard = root / "latents/lat0/train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-3000])


def held_out_truncated(root: Path) -> None:
    shard = root / "latents/lat0/val-000000.tar"
    shard.write_bytes(shard.read_bytes()[:1000])


def of_another_dataset(root: Path) -> None:
    other = write_dataset(root.parent / "other", smooth_clips(24, num_val=4, seed=5))
    shard = "latents/lat0/train-000000.tar"
    (root / shard).write_bytes((other / shard).read_bytes() + bytes(100_000))


def of_another_autoencoder(root: Path) -> None:
    record = json.loads((root / "latents/lat0/fingerprint.json").read_text())
    (root / "latents/lat0/fingerprint.json").write_text(json.dumps(record | {"channels": 16}))


def beyond_the_file(root: Path) -> None:
    edit(root / "latents/lat0/index.parquet", lambda t: put(t, "offset", pc.add(t["offset"], 10**9)))


def between_members(root: Path) -> None:
    edit(root / "latents/lat0/index.parquet", lambda t: put(t, "offset", pc.add(t["offset"], 1)))


def in_a_missing_file(root: Path) -> None:
    edit(root / "text/txt0/index.parquet", lambda t: put(t, "shard", pa.array(["gone.tar"] * t.num_rows)))


def captions_of_others(root: Path) -> None:
    """Index rows that point at each other's embeddings."""
    edit(root / "text/txt0/index.parquet", lambda t: put(t, "clip_id", t["clip_id"].take([*range(1, len(t)), 0])))


def nan_in_the_first_clip(root: Path) -> None:
    clips = sorted(smooth_clips(24, num_val=4), key=lambda clip: (clip.split, clip.clip_id))
    broken = replace(clips[0], latent=np.full_like(clips[0].latent, np.nan))
    shutil.rmtree(root)
    write_dataset(root, [broken, *clips[1:]])


def text_of_another_width(root: Path) -> None:
    record = json.loads((root / "text/txt0/fingerprint.json").read_text())
    (root / "text/txt0/fingerprint.json").write_text(json.dumps(record | {"dim": 99}))


def no_training_clips(root: Path) -> None:
    edit(root / "shards/index.parquet", lambda t: put(t, "split", pa.array(["val"] * t.num_rows)))


def a_clip_twice(root: Path) -> None:
    edit(root / "text/txt0/index.parquet", lambda t: pa.concat_tables([t, t.slice(0, 1)]))


def a_column_less(root: Path) -> None:
    edit(root / "latents/lat0/index.parquet", lambda t: t.drop_columns(["latent_h"]))


def a_torn_index(root: Path) -> None:
    path = root / "latents/lat0/index.parquet"
    path.write_bytes(path.read_bytes()[:200])


def a_torn_record(root: Path) -> None:
    (root / "latents/lat0/fingerprint.json").write_text('{"fingerprint": "la')


BROKEN = {
    without_a_shard: r"latents/lat0/train-000000.tar: no such shard; the index has 20 clips there, such as \w{32};",
    without_a_text_shard: r"text/txt0/train-000000.tar: no such shard",
    truncated: r"train-000000.tar: got \d+ bytes, and clip \w{32} is said to end at byte \d+: .*truncated",
    held_out_truncated: r"val-000000.tar: got 1000 bytes",
    of_another_dataset: r"clip (\w{32}): .*train-000000.tar: expected a member of \1 .*do not belong together",
    of_another_autoencoder: r"got a latent of shape \(4, .* expected \(16, .*encode it again",
    beyond_the_file: r"\w{32} is said to end at byte 1\d{9}: .*or of another index",
    between_members: r"expected a member of \w{32} at offset \d+, got none",
    in_a_missing_file: r"text/txt0/gone.tar: no such shard",
    captions_of_others: r"text/txt0/train-000000.tar: expected a member of",
    nan_in_the_first_clip: r"clip \w{32} in .*NaN of .* in channels 0, 1, 2, 3 of 4; expected .*encode it again",
    text_of_another_width: r"got \w+ states of shape .*expected \(n, 99\): another encoder's; embed them",
    no_training_clips: r"no clip of split 'train' has latents .*run `reelpack encode",
    a_clip_twice: r"text/txt0/index.parquet: 1 clips stand there more than once, such as \w{32}",
    a_column_less: r"latents/lat0/index.parquet: got columns .*expected latent_h, too: `reelpack encode`",
    a_torn_index: r"latents/lat0/index.parquet: cannot be read .*`reelpack encode` writes it again",
    a_torn_record: r"lat0/fingerprint.json: not a record of latents .*remove .*run `reelpack encode",
}


@pytest.mark.parametrize("damage", BROKEN, ids=lambda damage: damage.__name__)
def test_a_broken_dataset_stops_a_run_before_its_first_step(damage: Callable, copy: Path, tmp_path: Path):
    damage(copy)
    with pytest.raises(ValueError, match=BROKEN[damage]):
        run(copy, tmp_path / "run")
    assert not (tmp_path / "run").exists(), "nothing was begun"


def test_a_whole_dataset_has_no_problems_and_each_rank_checks_its_part(dataset: str, copy: Path):
    alone, *both = (RankGrid(rank=rank, world_size=size, device=CPU) for rank, size in ((0, 1), (0, 2), (1, 2)))
    assert not list(problems(read_manifest(dataset, split="train", patch=(1, 2, 2)), (1, 2, 2), alone))
    (copy / "text/txt0/train-000000.tar").unlink()
    manifest = read_manifest(str(copy), split="train", patch=(1, 2, 2))
    of_ranks = [list(problems(manifest, (1, 2, 2), ranks)) for ranks in both]
    assert {*of_ranks[0], *of_ranks[1]} == set(problems(manifest, (1, 2, 2), alone))


def test_what_only_reading_shows_names_the_clip(copy: Path, tmp_path: Path):
    """A NaN in one clip of many: found when it is met."""
    clips = smooth_clips(24, num_val=4)
    last = max((clip for clip in clips if clip.split == "train"), key=lambda clip: clip.clip_id)
    last.latent[0, 0, 0, 0] = np.nan
    shutil.rmtree(copy)
    write_dataset(copy, clips)
    with pytest.raises(ValueError, match=f"clip {last.clip_id} in .*lat0/train-000000.tar.*encode it again"):
        run(copy, tmp_path / "run", steps=40)


def embedded_anew(root: Path) -> None:
    (root / "text/txt0").rename(root / "text/txt1")
    record = json.loads((root / "text/txt1/fingerprint.json").read_text())
    (root / "text/txt1/fingerprint.json").write_text(json.dumps(record | {"fingerprint": "txt1"}))


def test_a_run_is_not_continued_under_another_text_encoder(copy: Path, tmp_path: Path):
    run(copy, tmp_path / "run")
    embedded_anew(copy)
    with pytest.raises(
        ValueError, match=r"trained on text txt0, the dataset now gives txt1; set train\.data\.text=txt0"
    ):
        run(copy, tmp_path / "run", steps=4)


def a_clip_less(root: Path) -> None:
    edit(root / "latents/lat0/index.parquet", lambda t: t.slice(1))


def another_clip(root: Path) -> None:
    clips, others = (smooth_clips(24, num_val=4, seed=seed) for seed in (0, 5))
    shutil.rmtree(root)
    write_dataset(root, [*clips[:-1], others[-1]])


def a_clip_forgotten(root: Path) -> None:
    a_clip_less(root)
    row = {"uri": "a.mp4", "video_id": "a", "clip_ids": [], "is_done": True}
    Table(f"{root}/tables/forgotten", FORGOTTEN, ["uri", "video_id"]).publish([row])


def other_weights(root: Path) -> None:
    path = root / "shards/index.parquet"
    weights = pa.array([2.0] * len(pq.read_table(path)))
    edit(path, lambda t: t.append_column("balance_weight", weights))


@pytest.mark.parametrize(
    "change", [a_clip_less, a_clip_forgotten, another_clip, other_weights], ids=lambda change: change.__name__
)
def test_a_run_is_not_continued_on_other_clips(change: Callable, copy: Path, tmp_path: Path):
    run(copy, tmp_path / "run")
    change(copy)
    why = "1 videos were forgotten there" if change is a_clip_forgotten else "Put the dataset back as it was"
    told = rf"was trained on 20 clips of .*copy, which now has other ones .* {why}.*train\.init"
    with pytest.raises(ValueError, match=told):
        run(copy, tmp_path / "run", steps=4)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (
            {"embedding": "embedding-ours-1234"},
            r"was aligned to None, dataset and weights now give embedding-ours-1234",
        ),
        ({"labels": ("cat", "dog")}, r"was trained on the classes None, the datasets now have \('cat', 'dog'\)"),
        (
            {"latents": {"fingerprint": "lat1"}},
            r"was trained on latents lat0 .*, the dataset now gives lat1, of the same space",
        ),
        ({"text": {"fingerprint": "txt1"}}, r"was trained on text txt0, the dataset now gives txt1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_run_goes_on_with_what_it_began_with(copy: Path, tmp_path: Path, part: dict, told: str):
    run(copy, tmp_path / "run")
    settings, record = read_run(tmp_path / "run")
    open_run(tmp_path / "run", settings, record, write=False)
    with pytest.raises(ValueError, match=told):
        open_run(tmp_path / "run", settings, replace(record, **part), write=False)


@pytest.mark.parametrize("name", ["autoencoder_fingerprint", "channels", "temporal_stride", "spatial_stride"])
def test_a_run_does_not_go_on_in_another_latent_space(copy: Path, tmp_path: Path, name: str):
    """Whatever its folder is called."""
    run(copy, tmp_path / "run")
    settings, record = read_run(tmp_path / "run")
    before = record.latents | {"autoencoder_fingerprint": "1234", "autoencoder": "ours"}
    (tmp_path / "run/run.json").write_text(json.dumps(asdict(replace(record, latents=before))))
    open_run(tmp_path / "run", settings, replace(record, latents=before), write=False)
    swapped = before | {name: 9, "autoencoder": "theirs"}
    told = rf"lat0 \(autoencoder ours.* gives lat0 \(autoencoder theirs.* 9.* \({name} differ\).*init_latents=other"
    with pytest.raises(ValueError, match=told):
        open_run(tmp_path / "run", settings, replace(record, latents=swapped), write=False)


@pytest.mark.parametrize("kind", ["latents", "text"])
def test_a_run_on_several_datasets_goes_on_with_what_each_of_them_gave(copy: Path, tmp_path: Path, kind: str):
    run(copy, tmp_path / "run")
    settings, record = read_run(tmp_path / "run")
    both = replace(record, datasets=tuple({**record.datasets[0], "name": name} for name in ("a", "b")))
    (tmp_path / "run/run.json").write_text(json.dumps(asdict(both)))
    open_run(tmp_path / "run", settings, both, write=False)
    other = replace(both, datasets=(both.datasets[0], both.datasets[1] | {kind: "new"}))
    with pytest.raises(ValueError, match=rf"was trained on {kind} ...0 of .*, which now gives new"):
        open_run(tmp_path / "run", settings, other, write=False)


def half_written(checkpoint: Path) -> None:
    part = next(checkpoint.glob("*.distcp"))
    part.write_bytes(part.read_bytes()[:500])


def without_its_list(checkpoint: Path) -> None:
    (checkpoint / ".metadata").unlink()


def without_its_step(checkpoint: Path) -> None:
    (checkpoint / "state.json").write_text("{")


def of_another_model(checkpoint: Path) -> None:
    """As if another run's checkpoint had been copied here."""
    other = checkpoint.parents[2] / "other"
    wider = SETTINGS["model"] | {"width": 64}
    run(checkpoint.parents[2] / "copy", other, model=wider)
    shutil.rmtree(checkpoint)
    shutil.copytree(other / "checkpoints" / checkpoint.name, checkpoint)


@pytest.mark.parametrize(
    "damage", [half_written, without_its_list, without_its_step, of_another_model], ids=lambda damage: damage.__name__
)
def test_a_broken_checkpoint_is_named_with_what_to_do(damage: Callable, copy: Path, tmp_path: Path):
    run(copy, tmp_path / "run")
    checkpoint = tmp_path / "run/checkpoints/step-000002"
    damage(checkpoint)
    with pytest.raises(ValueError, match=rf"{re.escape(str(checkpoint))}: cannot continue .*remove it to continue"):
        run(copy, tmp_path / "run", steps=4)


def test_a_checkpoint_whose_writing_was_killed_is_not_seen(copy: Path, tmp_path: Path):
    run(copy, tmp_path / "run")
    whole = tmp_path / "run/checkpoints/step-000002"
    whole.rename(whole.with_name(".step-000002.tmp"))
    run(copy, tmp_path / "run", steps=4)
    assert (tmp_path / "run/checkpoints/step-000004").is_dir()


def not_causal(root: Path) -> None:
    path = root / "latents/lat0/fingerprint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"is_causal": False, "autoencoder": "hunyuan"}))


@pytest.mark.parametrize(
    ("data", "setting"),
    [
        ({"tasks": [{"kind": "first_frames"}]}, r"tasks, first_frames: .*\(hunyuan\).*remove the task"),
        ({"plan": {"token_budget": 8, "oversize": "crop"}}, r"plan\.oversize=crop: .*own_pack or refuse"),
    ],
)
def test_what_relies_on_a_causal_autoencoder_is_refused_of_others(
    data: dict[str, Any], setting: str, copy: Path, tmp_path: Path
):
    manifest = read_datasets(str(copy), split="train", data=DataConfig.model_validate(data), model=DiTConfig())
    assert (manifest.num_tokens > 8).any()
    not_causal(copy)
    with pytest.raises(ValueError, match=rf"train\.data\.{setting}"):
        run(copy, tmp_path / "run", data=data)
    run(copy, tmp_path / "run")


def test_clips_without_text_are_counted_and_a_set_without_any_is_refused(
    copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    run(copy, tmp_path / "run")
    assert f"{copy}: 4 of 20 train clips (20.0 %) have no text embedding" in caplog.text
    caplog.clear()
    none = {"text": "none", **SETTINGS["model"]}
    run(copy, tmp_path / "none", model=none)
    assert "text embedding" not in caplog.text
    edit(copy / "text/txt0/index.parquet", lambda t: t.slice(0, 0))
    with pytest.raises(ValueError, match=r"none of the 20 training clips .*reelpack caption .*train\.data\.text=none"):
        run(copy, tmp_path / "other")
    run(copy, tmp_path / "unconditional", model=none)


def test_more_ranks_than_packs_are_refused(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ranks = RankGrid(rank=0, world_size=3, device=CPU)
    monkeypatch.setattr(loop, "join_ranks", lambda *_: nullcontext(ranks))
    with pytest.raises(
        ValueError, match=r"3 ranks cannot share a step of 1 packs; raise train\.data\.plan\.packs_per"
    ):
        run(copy, tmp_path / "run")


@pytest.mark.parametrize("reference_fps", [None, 24.0])
def test_clips_beyond_the_learned_positions_are_refused_before_the_first_step(
    copy: Path, tmp_path: Path, reference_fps: float | None
):
    """By their length in seconds, where that is what positions count."""
    reach = 4 if reference_fps is None else 1 + 3 * 8  # of at most 4 frames of the latent, 3 a second
    model = SETTINGS["model"] | {"position": "absolute", "max_grid": (reach, 4, 4), "reference_fps": reference_fps}
    run(copy, tmp_path / "run", model=model)
    model["max_grid"] = (reach - 1, 4, 4)
    with pytest.raises(
        ValueError, match=rf"clip [0-9a-f]{{32}}: got a grid of \({reach}, .*end at \({reach - 1}, 4, 4\)"
    ):
        run(copy, tmp_path / "other", model=model)
    assert not (tmp_path / "other").exists()


def test_a_sample_that_no_pack_holds_is_refused_by_policy(copy: Path, tmp_path: Path):
    plan = {"token_budget": 8, "packs_per_step": 1, "oversize": "refuse"}
    with pytest.raises(ValueError, match=r"clip [0-9a-f]{32} has \d+ tokens .*own_pack or crop"):
        run(copy, tmp_path / "run", data={"plan": plan})


def test_what_all_ranks_find_is_told_by_the_first(copy: Path, caplog: pytest.LogCaptureFixture):
    for rank in (1, 0):
        assert not caplog.records
        with log_once(RankGrid(rank=rank, world_size=2, device=CPU)):
            read_datasets(str(copy), split="train", data=DataConfig(), model=DiTConfig())
    assert [record.name for record in caplog.records] == ["train.data.fit"]
