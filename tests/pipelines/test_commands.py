"""What a user types to look into a dataset: answers compared with the tables, and with a dataset that was damaged."""

import io
import os
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from caption.record import CAPTION_SCHEMA, media_digest
from curate.schema import FailureKind
from curate.shards.tar import TarReader
from pipelines import summary
from pipelines.cli import main
from pipelines.config import load_config
from pipelines.curate_videos import curate
from pipelines.dataset import Dataset
from pipelines.doctor import doctor
from pipelines.explain import clips_of_file, explain, time_code
from pipelines.plan_curation import plan
from pipelines.retry import retry
from pipelines.status import status
from pipelines.verify import verify
from tests.pipelines.videos import moving, write_video

SETTINGS = ["score.scorers=[]", "execute.executor=local"]


@pytest.fixture
def made(tmp_path: Path) -> SimpleNamespace:
    """Three films, one of them twice in another encoding, one broken file, curated."""
    films = tmp_path / "films"
    for seed, seconds in ((1, 2.5), (2, 1.5), (3, 0.5)):
        write_video(films / f"{seed}.mp4", moving(seed, seconds))
    write_video(films / "small.mp4", np.ascontiguousarray(moving(1, 2.5)[:, ::2, ::2]))
    (films / "broken.mp4").write_bytes((films / "1.mp4").read_bytes()[:900])
    out = tmp_path / "dataset"
    config = load_config(overrides=[*SETTINGS, "select.short_side_px.min=16", "select.letterbox_fraction.max=null"])
    return SimpleNamespace(films=films, out=out, result=curate([str(films)], str(out), config))


def printed(show: object, *arguments: object) -> str:
    buffer = io.StringIO()
    console, summary.out = summary.out, Console(file=buffer, width=200, highlight=False)
    try:
        assert callable(show)
        show(*arguments)
    finally:
        summary.out = console
    return buffer.getvalue()


def test_status_counts_what_the_tables_hold_and_writes_nothing(made: SimpleNamespace) -> None:
    before = {path: path.read_bytes() for path in made.out.rglob("*") if path.is_file()}
    found = status(str(made.out))
    assert {path: path.read_bytes() for path in made.out.rglob("*") if path.is_file()} == before
    assert not found.is_running
    assert dict(found.inputs) == {"ok": 4, "truncated": 1}
    assert found.funnel == made.result.funnel
    assert found.funnel["reject:duplicate"] == 1
    assert found.num_cut == found.funnel["keep"] == 2
    assert dict(found.failures) == {("scan", "truncated", False): 1}
    assert found.next_command == f"reelpack caption {made.out}"
    assert "reject" in printed(summary.show_status, found)


def test_status_of_a_run_that_was_stopped_says_what_to_do(made: SimpleNamespace) -> None:
    dataset = Dataset(str(made.out))
    section = dataset.sections()["curate"]
    dataset.save_section("running", {**section, "num_inputs": 9})
    dataset.save_section("curate", None)
    found = status(str(made.out))
    assert found.is_running
    assert found.num_inputs == 9
    assert found.next_command.startswith(f"reelpack curate {made.films} --out {made.out}")


def test_explain_tells_a_clip_by_its_beginning_and_names_its_copy(made: SimpleNamespace) -> None:
    clips = {
        row["video_uri"].rpartition("/")[2]: row for row in Dataset(str(made.out)).read("clips.parquet").to_pylist()
    }
    small = explain(str(made.out), clips["small.mp4"]["clip_id"][:12])
    assert small.clip["duplicate_of"] == clips["1.mp4"]["clip_id"]
    assert [copy["clip_id"] for copy in small.copies] == [clips["1.mp4"]["clip_id"]]
    short = explain(str(made.out), clips["3.mp4"]["clip_id"])
    verdicts = {one.name: one.verdict for one in short.measures}
    assert verdicts["duration_s"] == "fails"
    assert verdicts["luminance"] == "passes"
    assert verdicts["sharpness"] == "", "no rule bounds it"
    text = printed(summary.show_explanation, short)
    assert "00:00:00.000 – 00:00:00.500" in text
    assert "duration_s.min" in text
    assert [clip["clip_id"] for clip in clips_of_file(str(made.out), "2.mp4")] == [clips["2.mp4"]["clip_id"]]


def test_explain_of_no_clip_or_of_several_is_an_error(made: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="beginning of 4 clip ids"):
        explain(str(made.out), "")
    with pytest.raises(ValueError, match="an id that begins with zzz"):
        explain(str(made.out), "zzz")


def test_time_codes_carry() -> None:
    assert [time_code(s) for s in (0.0, 59.9996, 3661.25)] == ["00:00:00.000", "00:01:00.000", "01:01:01.250"]


def test_retry_attempts_what_failed_and_counts_the_attempts(made: SimpleNamespace) -> None:
    nothing = retry(str(made.out))
    assert nothing.curated is None
    assert nothing.before == {("scan", "truncated"): 1}
    again = retry(str(made.out), {FailureKind.TRUNCATED})
    assert again.after == {("scan", "truncated"): 1}
    (row,) = Dataset(str(made.out)).failures.rows()
    assert row["attempts"] == 2
    write_video(made.films / "broken.mp4", moving(8, 2))
    assert retry(str(made.out), {FailureKind.TRUNCATED}).after == {}
    assert "no failures" in printed(summary.show_retry, retry(str(made.out)))


def captioned(made: SimpleNamespace) -> None:
    """Records as a captioner writes them, for the clips of the index."""
    dataset = Dataset(str(made.out))
    reader = TarReader(dataset.shards_url)
    rows = []
    for row in dataset.read("shards/index.parquet").to_pylist():
        digest = media_digest(reader.read(row["shard"], row["offset"], row["size"]))
        facts = dict.fromkeys(CAPTION_SCHEMA.names, "") | {"frame_indices": [0], "frame_times_s": [0.0]}
        numbers = {"num_prompt_tokens": 1, "num_output_tokens": 1, "seed": None}
        text = f"caption of {row['clip_id']}"
        rows.append({**facts, **numbers, "clip_id": row["clip_id"], "kind": "short", "status": "ok", "text": text,
                     "media_digest": digest})  # fmt: skip
    dataset.captions("test-1").publish(rows)
    dataset.save_section("caption_family", "test-1")
    dataset.write_index(dataset.config().shards.key)


def test_a_sound_dataset_is_verified(made: SimpleNamespace) -> None:
    captioned(made)
    found = verify(str(made.out), None)
    assert found.problems == ()
    assert len(found.checks) == 7


def test_verify_finds_a_flipped_byte_a_lost_shard_and_a_changed_input(made: SimpleNamespace) -> None:
    (row, *_) = Dataset(str(made.out)).read("shards/index.parquet").to_pylist()
    tar = made.out / "shards" / row["shard"]
    sound = tar.read_bytes()
    damaged = bytearray(sound)
    middle = row["offset"] + row["size"] // 2
    damaged[middle : middle + 64] = os.urandom(64)
    tar.write_bytes(damaged)
    assert any(row["clip_id"] in problem for problem in verify(str(made.out), None).problems)
    tar.write_bytes(sound[: row["offset"] + 100])
    assert any("readable tar" in p or "truncated" in p for p in verify(str(made.out), 0).problems)
    tar.unlink()
    assert any("is not in" in problem for problem in verify(str(made.out), 0).problems)
    tar.write_bytes(sound)
    write_video(made.films / "2.mp4", moving(9, 1))
    assert [p for p in verify(str(made.out), None).problems if "the file changed" in p]


def test_verify_finds_captions_that_were_swapped(made: SimpleNamespace) -> None:
    captioned(made)
    dataset = Dataset(str(made.out))
    one, other = dataset.captions("test-1").rows()
    swapped = [{**one, "clip_id": other["clip_id"]}, {**other, "clip_id": one["clip_id"]}]
    dataset.captions("test-1").publish(swapped)
    dataset.write_index(dataset.config().shards.key)
    problems = verify(str(made.out), 0).problems
    assert sorted(p.split(":")[0] for p in problems if "other bytes" in p) == sorted(
        [one["clip_id"], other["clip_id"]]
    )


def test_verify_finds_an_index_row_that_was_moved(made: SimpleNamespace) -> None:
    path = made.out / "shards/index.parquet"
    table = pq.read_table(path)
    offsets = [offset + 512 for offset in table["offset"].to_pylist()]
    pq.write_table(table.set_column(table.schema.get_field_index("offset"), "offset", [offsets]), path)
    assert any("the tar has it at" in problem for problem in verify(str(made.out), 0).problems)


def test_the_tars_are_what_any_tar_reader_reads(made: SimpleNamespace) -> None:
    for path in (made.out / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            assert tar.getnames()


def test_doctor_tries_codecs_and_says_what_is_missing() -> None:
    found = {finding.what: finding for finding in doctor()}
    for what in ("decode h264", "decode hevc", "decode vp9", "decode av1", "cut a clip"):
        assert found[what].verdict == "ok", found[what].detail
    (nowhere,) = [finding for finding in doctor("/proc/nothing") if finding.what == "disk"]
    assert nowhere.verdict in ("fail", "warn")


def test_a_plan_is_near_what_the_run_then_makes(made: SimpleNamespace) -> None:
    config = load_config(overrides=[*SETTINGS, "select.short_side_px.min=16"])
    predicted = plan([str(made.films)], config, num_sampled=5)
    assert predicted.num_files == 5
    assert predicted.num_unreadable == 1
    assert predicted.video_s.value == pytest.approx(2.5 + 1.5 + 0.5 + 2.5, rel=0.1)
    assert predicted.clips.value == pytest.approx(made.result.funnel["clips"], rel=0.1)
    assert predicted.clips.low <= predicted.clips.value <= predicted.clips.high
    size = sum(row["size"] for row in Dataset(str(made.out)).shards.rows())
    assert size / 2 < predicted.shard_bytes.value < 2.5 * size  # the copy counts as kept
    assert all(
        estimate.value > 0 for estimate in predicted.step_s.values() if estimate is not predicted.step_s["score"]
    )
    assert "90 % interval" in printed(summary.show_plan, predicted)


@pytest.mark.parametrize(
    "arguments",
    [
        ["retry", "DATASET", "--kind", "bad_luck"],
        ["explain", "DATASET", "zzz"],
        ["select", "DATASET", "--set", "scan.short_side_px=99"],
        ["status", "NOWHERE"],
        ["plan", "NOWHERE/*.mp4"],
    ],
)
def test_a_mistake_is_one_message_and_exit_code_two(
    made: SimpleNamespace, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [part.replace("DATASET", str(made.out)).replace("NOWHERE", str(made.films / "x")) for part in arguments]
    with pytest.raises(SystemExit) as stopped:
        main(given)
    assert stopped.value.code == 2
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["status"], ["verify", "--full"], ["select"], ["retry"], ["explain", "1.mp4"]])
def test_the_commands_end_well_on_a_sound_dataset(made: SimpleNamespace, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([arguments[0], str(made.out), *arguments[1:]])
    assert stopped.value.code == 0
