import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.support.latents import add_latents
from train.data.draw import clip_keys
from train.data.epoch import EpochConfig, EpochSamples
from train.data.manifest import read_manifest
from train.data.plan import PlanConfig
from train.data.read import ClipReader

PATCH = (1, 2, 2)


@pytest.fixture
def copy(dataset: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dataset, tmp_path / "copy"))


def test_rows_are_joined_by_clip_whatever_the_order_of_the_indices(dataset: str, copy: Path):
    for name in ("shards/index.parquet", "latents/lat0/index.parquet", "text/txt0/index.parquet"):
        table = pq.read_table(copy / name)
        pq.write_table(table.take(list(reversed(range(table.num_rows)))), copy / name)
    original, shuffled = (read_manifest(str(root), split="train", patch=PATCH) for root in (dataset, copy))
    tables = [manifest.table.drop_columns(["latents_root", "text_root"]) for manifest in (original, shuffled)]
    assert len(original) == 20 and tables[0].equals(tables[1])
    row = original.row(3)
    assert original.num_tokens[3] == row["latent_t"] * (row["latent_h"] // 2) * (row["latent_w"] // 2)


def test_what_the_policy_took_out_of_the_index_is_not_trained_on(copy: Path):
    path = copy / "shards/index.parquet"
    table = pq.read_table(path)
    rejected = table.filter(pc.equal(table["split"], "train"))["clip_id"][0].as_py()
    pq.write_table(table.filter(pc.not_equal(table["clip_id"], rejected)), path)
    assert rejected not in read_manifest(str(copy), split="train", patch=PATCH).clip_ids


def test_the_split_is_that_of_the_shards_index(copy: Path):
    path = copy / "shards/index.parquet"
    table = pq.read_table(path)
    pq.write_table(
        table.set_column(table.schema.get_field_index("split"), "split", [["train"] * table.num_rows]), path
    )
    assert len(read_manifest(str(copy), split="train", patch=PATCH)) == 24
    with pytest.raises(ValueError, match="no clip of split 'val'"):
        read_manifest(str(copy), split="val", patch=PATCH)
    assert len(read_manifest(str(copy), split="val", patch=PATCH, allow_empty=True)) == 0


def test_two_fingerprints_are_listed_and_one_is_chosen_by_name(copy: Path):
    shutil.copytree(copy / "latents/lat0", copy / "latents/lat1")
    (copy / "latents/lat1/fingerprint.json").write_text(json.dumps({"fingerprint": "lat1", "channels": 4}))
    with pytest.raises(
        ValueError, match=r"there are lat0 \(channels 4.*\), lat1 \(channels 4\); set train\.data\.latents"
    ):
        read_manifest(str(copy), split="train", patch=PATCH)
    assert read_manifest(str(copy), split="train", patch=PATCH, latents="lat1").latents["fingerprint"] == "lat1"


def test_of_several_sizes_one_is_drawn_each_epoch_and_all_are_met_in_time(copy: Path):
    add_latents(copy, "lat1", lambda latent: latent[:, :, ::2, ::2], every=2)
    manifest = read_manifest(str(copy), split="train", patch=PATCH, latents="all")
    assert manifest.latents["fingerprint"] == "lat0+lat1"
    sizes = Counter(manifest.clip_ids)
    assert sorted(set(sizes.values())) == [1, 2] and len(sizes) == 20
    samples = EpochSamples(manifest, EpochConfig(resolution="one"), PlanConfig(), seed=0)
    met: set[int] = set()
    for epoch in range(12):
        repeats, _ = samples.in_epoch(np.arange(len(manifest)), epoch)
        assert Counter(np.repeat(manifest.clip_ids, repeats).tolist()) == dict.fromkeys(sizes, 1)
        met |= set(np.flatnonzero(repeats).tolist())
    assert met == set(range(len(manifest)))
    reader = ClipReader(manifest, PATCH)
    for row in map(manifest.row, range(len(manifest))):
        assert reader.latent(row).shape[1:] == (row["latent_t"], row["latent_h"] // 2 * 2, row["latent_w"] // 2 * 2)


def test_latents_of_an_earlier_version_are_refused_and_passed_over(copy: Path):
    """They may be scrambled. Where there are newer ones, those are meant by "auto" and "all"."""
    add_latents(copy, "lat1", lambda latent: latent[:, :, ::2, ::2], every=2)
    path = copy / "latents/lat0/fingerprint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 1}))
    for names in ("auto", "all", "lat1"):
        assert read_manifest(str(copy), split="train", patch=PATCH, latents=names).latents["fingerprint"] == "lat1"
    shutil.rmtree(copy / "latents/lat1")
    for names in ("auto", "all", "lat0"):
        with pytest.raises(ValueError, match=r"lat0: latents of version 1.*run `reelpack encode .*, then remove"):
            read_manifest(str(copy), split="train", patch=PATCH, latents=names)


def test_sizes_of_another_autoencoder_are_refused(copy: Path):
    add_latents(copy, "lat1", lambda latent: latent[:, :, ::2, ::2], every=2)
    path = copy / "latents/lat1/fingerprint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "autoencoder_fingerprint": "another"}))
    with pytest.raises(ValueError, match=r"lat0 .* and lat1 .*weights another.* differ in autoencoder_fingerprint"):
        read_manifest(str(copy), split="train", patch=PATCH, latents=["lat1", "lat0"])


def test_a_folder_that_was_renamed_is_refused(copy: Path):
    (copy / "text/txt0").rename(copy / "text/other")
    with pytest.raises(ValueError, match="got fingerprint 'txt0', expected 'other'"):
        read_manifest(str(copy), split="train", patch=PATCH)


def test_a_dataset_that_is_not_encoded_names_the_command(copy: Path):
    shutil.rmtree(copy / "latents")
    with pytest.raises(ValueError, match=r"latents.*there is none; run `reelpack encode"):
        read_manifest(str(copy), split="train", patch=PATCH)


def test_a_fingerprint_of_text_that_is_not_there_is_no_dataset_without_captions(copy: Path):
    shutil.rmtree(copy / "text")
    with pytest.raises(ValueError, match=r"text='txt0', and there is none; run `reelpack encode"):
        read_manifest(str(copy), split="train", patch=PATCH, text="txt0")


def test_a_missing_index_names_the_command(copy: Path):
    (copy / "shards/index.parquet").unlink()
    with pytest.raises(ValueError, match="`reelpack curate` writes it"):
        read_manifest(str(copy), split="train", patch=PATCH)


def test_captions_stay_in_the_index_until_some_are_asked_for(dataset: str):
    manifest = read_manifest(dataset, split="train", patch=PATCH)
    assert not {"caption_short", "caption_dense"} & set(manifest.table.column_names)
    index = {row["clip_id"]: row for row in pq.read_table(f"{dataset}/shards/index.parquet").to_pylist()}
    for clip, captions in zip(np.array(manifest.clip_ids)[[5, 2, 5]], manifest.captions([5, 2, 5]), strict=True):
        assert captions == {
            level: text for level in ("short", "dense") if (text := index[clip][f"caption_{level}"]) is not None
        }


def test_text_is_in_columns_that_do_not_end_at_two_gibibytes(dataset: str):
    table = read_manifest(dataset, split="train", patch=PATCH).table
    assert pa.string() not in table.schema.types


def test_keys_are_the_first_64_bits_of_ids():
    ids = ["00ff" * 8, "0123456789abcdef" * 2, "fedcba9876543210" + "0" * 16]
    chunks = pa.chunked_array([ids[:1], [], ["f" * 32, *ids[1:]]], pa.large_string()).slice(0)
    sliced = pa.chunked_array([chunks.chunk(0), chunks.chunk(2).slice(1)])
    assert clip_keys(sliced).tolist() == [int(one[:16], 16) for one in ids]
    assert len(clip_keys(pa.chunked_array([], pa.large_string()))) == 0
