"""What `verify` finds in a dataset that was damaged: in every way that its parts can come apart."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from curate.dataset.schemas import LATENTS
from curate.dataset.store import write_parquet
from curate.shards.tar import write_tar
from pipelines.cli import main
from pipelines.dataset import config_of
from pipelines.inspection.verify import verify
from tests.support.curated import caption, copied, curated
from tests.support.videos import moving, write_video


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    made = curated(tmp_path_factory.mktemp("original"))
    caption(made.dataset)
    made.index = made.dataset.read_index().to_pylist()
    return made


@pytest.fixture
def made(original: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    return copied(original, tmp_path)


def problems(made: SimpleNamespace, num_sampled: int | None = None) -> list[str]:
    return [problem for check in verify(made.url, num_sampled) for problem in check.problems]


def change(path: Path, row: int, column: str, how: Callable[[Any], Any]) -> None:
    """Change one cell of a Parquet file."""
    table = pq.read_table(path)
    values = table[column].to_pylist()
    values[row] = how(values[row])
    field = table.schema.field(column)
    pq.write_table(table.set_column(table.schema.get_field_index(column), field, pa.array(values, field.type)), path)


def test_a_sound_dataset_is_sound(made: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    checks = list(verify(made.url, None))
    assert [problem for check in checks for problem in check.problems] == []
    assert [check.num_checked for check in checks] == [0, 2, 4, 2, 4, 2, 0, 4, 2]
    with pytest.raises(SystemExit) as stopped:
        main(["verify", made.url, "--full"])
    assert stopped.value.code == 0
    assert "problem" not in capsys.readouterr().out


@pytest.mark.parametrize("place", [0.1, 0.5, 0.999])
def test_one_flipped_bit_of_a_clip_is_found(made: SimpleNamespace, place: float) -> None:
    row = made.index[1]
    tar = made.out / "shards" / row["shard"]
    data = bytearray(tar.read_bytes())
    data[row["offset"] + int(row["size"] * place)] ^= 1
    tar.write_bytes(data)
    assert problems(made) == [f"{row['clip_id']} in {row['shard']}: its bytes are not those that were written"]


def test_a_lost_shard_and_a_truncated_one_are_found_by_their_headers(made: SimpleNamespace) -> None:
    row = made.index[0]
    tar = made.out / "shards" / row["shard"]
    data = tar.read_bytes()
    tar.write_bytes(data[: row["offset"] + 100])
    assert any("truncated" in problem or "no readable tar" in problem for problem in problems(made, 0))
    tar.unlink()
    assert any("is not in" in problem for problem in problems(made, 0))


def test_captions_that_were_swapped_are_found_and_their_clips_named(made: SimpleNamespace) -> None:
    one, other = made.dataset.captions("test-1").rows()
    swapped = [{**one, "clip_id": other["clip_id"]}, {**other, "clip_id": one["clip_id"]}]
    made.dataset.captions("test-1").publish(swapped)
    made.dataset.write_index(config_of(made.dataset).shards.key)
    found = sorted(problem.partition(";")[0] for problem in problems(made, 0))
    pairs = sorted([(one["clip_id"], other["clip_id"]), (other["clip_id"], one["clip_id"])])
    assert found == [f"{clip}: its short caption was written for {of}" for clip, of in pairs]


def test_a_caption_of_frames_that_the_clip_has_not_is_found(made: SimpleNamespace) -> None:
    (record, _) = made.dataset.captions("test-1").rows()
    made.dataset.captions("test-1").publish([{**record, "frame_indices": [0, 999]}])
    assert any("[0, 999]" in problem for problem in problems(made, 0))


@pytest.mark.parametrize(
    ("column", "how", "said"),
    [
        ("offset", lambda offset: offset + 512, "the tar has it at"),
        ("caption_short", lambda _: "another", "caption_short is 'another'"),
        ("split", lambda _: "val" if _ == "train" else "train", "split is"),
        ("num_frames", lambda number: number + 1, "num_frames is"),
    ],
)
def test_a_changed_row_of_the_index_is_found(
    made: SimpleNamespace, column: str, how: Callable[[Any], Any], said: str
) -> None:
    change(made.out / "shards/index.parquet", 0, column, how)
    found = problems(made, 0)
    assert any(said in problem and made.index[0]["clip_id"] in problem for problem in found)


def test_a_row_that_the_index_lost_is_found(made: SimpleNamespace) -> None:
    path = made.out / "shards/index.parquet"
    pq.write_table(pq.read_table(path)[1:], path)
    clip = made.index[0]["clip_id"]
    assert problems(made, 0) == [f"{clip}: is missing in shards/index.parquet; `reelpack select` writes it again"]


def test_a_decision_that_the_tables_do_not_give_is_found(made: SimpleNamespace) -> None:
    change(made.out / "clips.parquet", 0, "motion", lambda _: 0.5)
    assert any("motion is 0.5, expected" in problem for problem in problems(made, 0))


def test_a_clip_id_that_is_not_of_its_span_is_found(made: SimpleNamespace) -> None:
    row, *_ = made.dataset.clips.rows()
    made.dataset.clips.publish([{**row, "end_pts": row["end_pts"] - 1}])
    assert any(problem.startswith(row["clip_id"]) and "give the id" in problem for problem in problems(made, 0))


def test_a_replaced_input_is_found_and_one_that_is_gone_is_not_held_against_the_dataset(tmp_path: Path) -> None:
    made = curated(tmp_path)
    write_video(made.films / "2.mp4", moving(9, 1))
    (made.films / "1.mp4").unlink()
    *_, inputs, _ = verify(made.url, None)
    (problem,) = inputs.problems
    assert problem.startswith(str(made.films / "2.mp4"))
    assert (inputs.num_checked, inputs.num_skipped) == (3, 1)


def test_latents_of_no_clip_of_no_number_and_of_another_shape_are_found(made: SimpleNamespace) -> None:
    clips = [row["clip_id"] for row in made.index]
    root = made.out / "latents/abc"
    arrays = {
        clips[0]: np.full((4, 1, 2, 2), np.nan, np.float32),
        clips[1]: np.zeros((4, 1, 2, 2), np.float32),
        "nobody": np.zeros((4, 1, 2, 3), np.float32),
    }
    payloads = ((name, {"safetensors": safetensors.numpy.save({"latent": array})}) for name, array in arrays.items())
    facts = {"split": "train", "window": 0, "latent_c": 4, "latent_t": 1, "latent_h": 2, "latent_w": 2}
    rows = [
        {"clip_id": member.key, "shard": member.shard, "offset": member.offset, "size": member.size, **facts}
        for member in write_tar(f"{root}/train-000000.tar", payloads)
    ]
    write_parquet(f"{root}/index.parquet", pa.Table.from_pylist(rows, schema=LATENTS))
    found = problems(made)
    assert len(found) == 3
    assert any("not finite" in problem and clips[0] in problem for problem in found)
    assert any("nobody: is no clip" in problem for problem in found)
    assert any("its shape is (4, 1, 2, 3)" in problem for problem in found)


def test_problems_are_sentences_and_exit_code_one(made: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    next((made.out / "shards").glob("*.tar")).unlink()
    with pytest.raises(SystemExit) as stopped:
        main(["verify", made.url])
    assert stopped.value.code == 1
    assert "the index points at it" in capsys.readouterr().out


def test_a_run_that_has_not_ended_is_not_judged(made: SimpleNamespace) -> None:
    made.dataset.save_section("running", made.dataset.sections()["curate"])
    with pytest.raises(ValueError, match=r"reelpack curate .*films"):
        verify(made.url)


def test_a_policy_that_was_loosened_and_a_stricter_one_are_sound(made: SimpleNamespace) -> None:
    for bound in ("0.4", "2"):
        with pytest.raises(SystemExit):
            main(["select", made.url, "--set", f"select.rules.duration_s.min={bound}"])
        assert problems(made, 0) == []
