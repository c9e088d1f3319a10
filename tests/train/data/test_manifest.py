import json
import shutil
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from train.data.manifest import read_manifest

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
    with pytest.raises(ValueError, match=r"there are lat0, lat1; set train\.data\.latents"):
        read_manifest(str(copy), split="train", patch=PATCH)
    assert read_manifest(str(copy), split="train", patch=PATCH, latents="lat1").latents["fingerprint"] == "lat1"


def test_a_folder_that_was_renamed_is_refused(copy: Path):
    (copy / "text/txt0").rename(copy / "text/other")
    with pytest.raises(ValueError, match="got fingerprint 'txt0', expected 'other'"):
        read_manifest(str(copy), split="train", patch=PATCH)


@pytest.mark.parametrize("missing", ["latents", "text"])
def test_a_dataset_that_is_not_encoded_names_the_command(copy: Path, missing: str):
    shutil.rmtree(copy / missing)
    with pytest.raises(ValueError, match=f"{missing}.*there is none; run `reelpack encode"):
        read_manifest(str(copy), split="train", patch=PATCH)


def test_a_missing_index_names_the_command(copy: Path):
    (copy / "shards/index.parquet").unlink()
    with pytest.raises(ValueError, match="`reelpack curate` writes it"):
        read_manifest(str(copy), split="train", patch=PATCH)
