"""What is forgotten is in no file below the dataset, stays out of later runs, and everything else stays as it was."""

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.dataset.judged import EDITED, HUMAN
from curate.dataset.store import write_parquet
from curate.shards.tar import TarReader, payload_digest, read_member, write_tar
from curate.storage.lease import Occupied, hold
from pipelines.cli import main
from pipelines.config import load_config
from pipelines.dataset import config_of
from pipelines.drivers import forget as forgetting
from pipelines.drivers.curate import curate
from pipelines.drivers.forget import forget, plan_forget
from pipelines.inspection.status import status
from pipelines.inspection.verify import verify
from tests.support.curated import SETTINGS, caption, copied, curated
from tests.support.encoded import encoded
from tests.support.latents import LATENTS_RECORD, TEXT_RECORD

TITLE = "A film of the harbour at night"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A dataset with all that steps add to it, and what kills leave."""
    made = curated(tmp_path_factory.mktemp("original"))
    dataset, out = made.dataset, made.out
    index = dataset.read_index().to_pylist()
    made.uris = {row["clip_id"]: row["video_uri"] for row in dataset.read_clips().to_pylist()}
    made.gone = next(name for name, uri in made.uris.items() if uri.endswith("/1.mp4"))
    made.copy = next(name for name, uri in made.uris.items() if uri.endswith("/small.mp4"))
    made.stays = next(name for name, uri in made.uris.items() if uri.endswith("/2.mp4"))
    caption(dataset)
    caption(dataset, clips=[made.gone], family=HUMAN, prompt_id=EDITED, section="human")
    dataset.scores("motion-1", {"motion": pa.float64()}).publish({"clip_id": n, "motion": 1.5} for n in made.uris)
    titles = [TITLE if uri.endswith("/1.mp4") else "Another" for uri in made.uris.values()]
    own = pa.table({"uri": list(made.uris.values()), "title": pa.array(titles).dictionary_encode()})
    write_parquet(dataset.layout.sidecar, own)
    main_select(made)
    clips = [row["clip_id"] for row in index]
    encoded(dataset, "latents", LATENTS_RECORD, clips, [made.gone])
    encoded(dataset, "text", TEXT_RECORD, clips)
    media = read_member(TarReader(dataset.layout.shards), next(row for row in index if row["clip_id"] == made.gone))
    made.media = media[len(media) // 2 :][:64]
    write_tar(f"{out}/shards/train-000009.tar", [(made.gone, {"mp4": media})])
    (out / "shards" / f".train-000010.tar.{0:032x}.tmp").write_bytes(media)
    (out / "cache/pieces").mkdir()
    (out / "cache/pieces/abc").write_bytes(media)
    judged = [{"clip_id": name, "text": f"review of {name}"} for name in (made.stays, made.gone)]
    (out / "review.jsonl").write_text("".join(json.dumps(line) + "\n" for line in judged))
    for arguments in (["report", made.url], ["export", made.url, "--out", f"{out}/exported"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
    return made


def main_select(made: SimpleNamespace) -> None:
    with pytest.raises(SystemExit):
        main(["select", made.url])


@pytest.fixture
def made(original: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    return copied(original, tmp_path)


def gone(made: SimpleNamespace, *names: str, duplicates: bool = False) -> forgetting.ForgetSummary:
    return forget(made.url, plan_forget(made.url, names, duplicates=duplicates).targets, "asked for")


def places(out: Path, needle: str | bytes) -> list[str]:
    """Files that hold these bytes, or this text: in Parquet also where it is compressed or in a dictionary."""
    data = needle.encode() if isinstance(needle, str) else needle
    return [str(path.relative_to(out)) for path in sorted(out.rglob("*")) if path.is_file() and data in _inside(path)]


def _inside(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        kept = [
            chunk.dictionary
            for column in table.columns
            for chunk in column.chunks
            if pa.types.is_dictionary(column.type)
        ]
        data += repr([table.to_pylist(), [values.to_pylist() for values in kept]]).encode()
        data += b"".join(
            value for column in table.to_pydict().values() for value in column if isinstance(value, bytes)
        )
    return data


def problems(url: str) -> list[str]:
    return [problem for check in verify(url, None) for problem in check.problems]


def members(out: Path) -> Iterator[str]:
    for tar in out.rglob("*.tar"):
        with tarfile.open(tar) as archive:
            yield from archive.getnames()


def test_nothing_of_a_forgotten_video_is_in_any_file_below_the_dataset(made: SimpleNamespace) -> None:
    hashes = next(row["frame_hashes"] for row in made.dataset.clips.rows() if row["clip_id"] == made.gone)
    texts = (f"caption of {made.gone}", f"review of {made.gone}")
    needles = (made.media, TITLE, *texts, made.gone, hashes, "/1.mp4")
    for needle in needles:
        assert len(places(made.out, needle)) >= 1, needle
    gone(made, "1.mp4")
    for needle in (made.media, TITLE, *texts, hashes):
        assert places(made.out, needle) == []
    for needle in (made.gone, "/1.mp4"):
        assert {str(Path(place).parent) for place in places(made.out, needle)} == {"tables/forgotten"}
    assert not any(made.gone in name for name in members(made.out))
    assert sum(made.stays in name for name in members(made.out)) == 4
    assert problems(made.url) == []
    left = sorted(path.name for path in made.out.iterdir())
    assert left == [*("cache", "clips.parquet", "config.yaml", "latents", "review.jsonl", "shards", "tables", "text")]
    assert len(places(made.out, f"review of {made.stays}")) == 1


def test_members_of_other_clips_keep_their_bytes_under_the_new_names_in_the_indices(made: SimpleNamespace) -> None:
    def payloads() -> dict[str, str]:
        dataset = made.dataset
        roots = {"": dataset.layout.shards, "latents": "", "text": ""}
        indices = {"": dataset.read_index()}
        for kind, record in (("latents", LATENTS_RECORD), ("text", TEXT_RECORD)):
            roots[kind] = dataset.layout.encoded(kind, str(record["fingerprint"])).url
            indices[kind] = dataset.encoded_index(kind, str(record["fingerprint"]))
        return {
            f"{kind} {row['clip_id']}": payload_digest(read_member(TarReader(roots[kind]), row))
            for kind, index in indices.items()
            for row in index.to_pylist()
        }

    before, names = payloads(), set(made.dataset.read_index()["shard"].to_pylist())
    gone(made, "1.mp4")
    assert payloads() == {key: digest for key, digest in before.items() if made.gone not in key}
    assert names.isdisjoint(made.dataset.read_index()["shard"].to_pylist())
    gone(made, "2.mp4")
    assert payloads() == {}
    assert list(made.out.rglob("*.tar")) == []
    assert problems(made.url) == []


def test_the_copy_is_listed_and_takes_the_place_of_the_clip_or_goes_too(made: SimpleNamespace, tmp_path: Path) -> None:
    plan = plan_forget(made.url, ["1.mp4"])
    assert [(copy.uris, copy.clip_ids) for copy in plan.copies] == [((made.uris[made.copy],), (made.copy,))]
    assert (plan.num_clips, plan.num_indexed) == (1, 1)
    assert plan_forget(made.url, ["1.mp4"], duplicates=True).copies == ()
    both = copied(made, tmp_path / "both")
    assert gone(made, "1.mp4").num_kept == 2
    assert gone(both, "1.mp4", duplicates=True).num_kept == 1
    assert both.dataset.read_clips()["clip_id"].to_pylist() == [
        name for name in made.uris if name not in (made.gone, made.copy)
    ]


def test_later_runs_leave_it_out_under_any_name_and_count_it(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    films = Path(shutil.copytree(made.films, tmp_path / "films"))
    made.dataset.save_section("curate", {**made.dataset.sections()["curate"], "inputs": [str(films)]})
    gone(made, "1.mp4")
    (made.out / "tables/sidecar.parquet").unlink()
    own = tmp_path / "own.csv"
    own.write_text(f"path,title\n{films}/1.mp4,{TITLE}\n{made.films}/1.mp4,{TITLE}\n")
    inputs, config = [str(films), str(made.films / "1.mp4")], load_config(overrides=SETTINGS)
    for _ in range(2):
        result = curate(inputs, made.url, config, sidecar=str(own))
        assert result.num_forgotten_inputs == 2
        assert made.gone not in made.dataset.read_clips()["clip_id"].to_pylist()
        assert places(made.out, TITLE) == []
    assert f"{films}/1.mp4: left out, has the bytes of {made.films}/1.mp4" in capsys.readouterr().err
    assert status(made.url).num_forgotten == 2
    assert problems(made.url) == []
    with pytest.raises(SystemExit):
        main(["explain", made.url, str(films / "1.mp4")])
    assert "forgotten, 2" in (said := capsys.readouterr().out) and ": asked for" in said


def test_videos_are_named_by_uri_id_clip_or_a_condition(made: SimpleNamespace) -> None:
    (video_id,) = {row["video_id"] for row in made.dataset.clips.rows() if row["clip_id"] == made.gone}
    expected = plan_forget(made.url, [made.uris[made.gone]]).targets
    assert [target.uris for target in expected] == [(made.uris[made.gone],)]
    for name in ("1.mp4", "films/1.mp4", video_id, video_id[:9], made.gone, made.gone[:8]):
        assert plan_forget(made.url, [name]).targets == expected, name
    for condition in (f"title = '{TITLE}'", f"caption_short like '%{made.gone}'"):
        assert plan_forget(made.url, (), condition).targets == expected
    assert len(plan_forget(made.url, ["1.mp4", made.gone, "2.mp4"]).targets) == 2
    (broken,) = plan_forget(made.url, ["broken.mp4"]).targets
    assert (broken.video_id, broken.clip_ids) != ("", expected[0].clip_ids)
    for name in ("4.mp4", made.gone[:7], "mp4"):
        with pytest.raises(ValueError, match=f"{name}: no video of .* has this URI or id"):
            plan_forget(made.url, [name])
    made.dataset.videos.publish([{"uri": "/other/1.mp4", "scan_key": "k", "outcome": "failed"}])
    with pytest.raises(ValueError, match=r"1.mp4 is the end of 2 URIs, such as /other/1.mp4 and"):
        plan_forget(made.url, ["1.mp4"])


def test_a_take_down_that_was_stopped_is_told_keeps_writers_out_and_is_completed(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = copied(made, made.out.parent / "whole")
    gone(whole, "1.mp4")
    plan = plan_forget(made.url, ["1.mp4"])
    with monkeypatch.context() as patch:
        patch.setattr(forgetting, "erase_rows", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            forget(made.url, plan.targets)
    told = [problem for problem in problems(made.url) if "take-down was stopped" in problem]
    assert told == [f"{made.uris[made.gone]}: its take-down was stopped; `reelpack forget {made.url}` completes it"]
    assert status(made.url).next_command == f"reelpack forget {made.url}"
    for writer in ("curate", "captions", "latents"):
        with pytest.raises(ValueError, match="finish it first: reelpack forget"), made.dataset.writer(writer):
            pass
    assert plan_forget(made.url, ["2.mp4"]).resumed == (made.uris[made.gone],)
    with pytest.raises(SystemExit):
        main(["forget", made.url, "1.mp4"])
    assert problems(made.url) == []
    assert made.dataset.read_clips() == whole.dataset.read_clips()
    assert made.dataset.read_index() == whole.dataset.read_index()
    before = sorted(made.out.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        main(["forget", made.url, "1.mp4"])
    assert ended.value.code == 0
    assert sorted(made.out.rglob("*")) == before


def test_what_comes_back_is_found_and_goes_again(made: SimpleNamespace) -> None:
    row = next(row for row in made.dataset.captions("test-1").rows() if row["clip_id"] == made.gone)
    tar = (made.out / "shards/train-000000.tar").read_bytes()
    gone(made, "1.mp4")
    (stone,) = made.dataset.forgotten.rows()
    made.dataset.forgotten.publish([first := {**stone, "at": "2020-01-01T00:00:00+00:00"}])
    made.dataset.captions("test-1").publish([row])
    (made.out / "shards/train-000000.tar").write_bytes(tar)
    told = [problem for problem in problems(made.url) if "has some of what was forgotten" in problem]
    assert [problem.partition(":")[0] for problem in told] == ["shards/train-000000.tar", "tables/captions/test-1"]
    with pytest.raises(SystemExit):
        main(["forget", made.url])
    assert problems(made.url) == []
    assert places(made.out, made.media) == []
    assert made.dataset.forgotten.rows() == [first] and first["reason"] == "asked for"


def test_a_dry_run_changes_nothing_and_another_writer_keeps_it_out(
    made: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in made.out.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit):
        main(["forget", made.url, "1.mp4", "--dry-run"])
    assert "1 videos with 1 clips, 1 of them in the index" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in made.out.rglob("*") if path.is_file()} == before
    with hold(made.url, "captions"), pytest.raises(Occupied):
        gone(made, "1.mp4")
    assert made.dataset.forgotten.rows() == []


def test_runs_that_read_the_dataset_are_named(made: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made.out.parent
    others = {"runs/a": made.url, "b": f"elsewhere/{made.out.name}", "c": f"{made.url}2", "d": f"/x/{made.out.name}"}
    for name, url in others.items():
        (folder / name).mkdir(parents=True)
        record = {"datasets": [{"url": "another"}, {"url": url, "train_clips": 7}]}
        (folder / name / "run.json").write_text(json.dumps(record))
    (folder / "e").mkdir()
    (folder / "e/run.json").write_text("[")
    with pytest.raises(SystemExit):
        main(["forget", made.url, "1.mp4", "--dry-run"])
    said = capsys.readouterr().out
    assert f"trained on 7 clips of it: {folder}/b\ntrained on 7 clips of it: {folder}/runs/a\n" in said
    assert f"{folder}/c" not in said and f"{folder}/d" not in said


def test_a_dataset_that_no_run_has_finished_loses_it_as_well(made: SimpleNamespace) -> None:
    sections = made.dataset.sections()
    made.dataset.save_section("running", sections["curate"])
    (made.out / "clips.parquet").unlink()
    summary = gone(made, "1.mp4")
    assert summary.note is not None and "the next `reelpack curate` decides" in summary.note
    assert places(made.out, made.media) == []
    assert config_of(made.dataset, or_running=True).scan == config_of(made.dataset).scan
