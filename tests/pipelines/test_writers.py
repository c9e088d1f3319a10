"""Several commands on one dataset at the same time: refused, or safe."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from curate.dataset.captions import CaptionStatus
from curate.dataset.dataset import Dataset
from curate.storage.lease import Occupied, hold
from pipelines.config import load_config
from pipelines.dataset import config_of, curate_command
from pipelines.drivers.caption import caption as caption_clips
from pipelines.drivers.curate import curate
from pipelines.drivers.encode import encode
from pipelines.drivers.export import Choice, export
from pipelines.drivers.retry import retry
from pipelines.drivers.select import select
from pipelines.inspection.explain import explain
from pipelines.inspection.status import status
from pipelines.inspection.verify import verify
from tests.support.caption_checks import OVERRIDES
from tests.support.curated import SETTINGS, caption, copied, curated
from tests.support.forks import run_commands
from tests.support.videos import moving, write_video
from tests.support.vlm_checkpoints import write_checkpoint
from train.data.manifest import read_manifest

LOCAL = load_config(overrides=[*SETTINGS, "encode.max_area_px=6144", "encode.autoencoder.device=cpu"])
SMALLER = load_config(overrides=[*SETTINGS, "encode.max_area_px=6144", "shards.encode.short_side_px=48"])


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    made = curated(tmp_path_factory.mktemp("original"))
    caption(made.dataset)
    return made


@pytest.fixture
def made(original: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    return copied(original, tmp_path)


WRITERS: Mapping[str, tuple[str, Callable[[SimpleNamespace], object]]] = {
    "curate": ("curate", lambda made: curate([str(made.films)], made.url, LOCAL)),
    "retry": ("curate", lambda made: retry(made.url, {"truncated"}, LOCAL.execute)),
    "select": ("curate", lambda made: select(made.url)),
    "caption": ("captions", lambda made: caption_clips(made.url, LOCAL)),
    "encode": ("latents", lambda made: encode(made.url, LOCAL)),
}
READERS: Mapping[str, Callable[[SimpleNamespace], object]] = {
    "status": lambda made: status(made.url),
    "verify": lambda made: list(verify(made.url)),
    "explain": lambda made: explain(made.url, made.dataset.read_clips()["clip_id"][0].as_py()),
    "export": lambda made: export(made.url, f"{made.out.parent}/export"),
}


@pytest.mark.parametrize("command", WRITERS)
def test_a_second_writer_is_refused_before_it_changes_anything(made: SimpleNamespace, command: str) -> None:
    name, write = WRITERS[command]
    before = {path: path.read_bytes() for path in made.out.rglob("*") if path.is_file()}
    with hold(made.url, name), pytest.raises(Occupied, match=rf"is being written by .*pid {os.getpid()}"):
        write(made)
    assert {path: path.read_bytes() for path in made.out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("command", READERS)
def test_who_reads_does_not_ask(made: SimpleNamespace, command: str) -> None:
    with hold(made.url, "curate"), hold(made.url, "captions"), hold(made.url, "latents"), hold(made.url, "commit"):
        READERS[command](made)


def test_two_exports_do_not_mix(made: SimpleNamespace, tmp_path: Path) -> None:
    with hold(tmp_path / "export", "export"), pytest.raises(Occupied):
        export(made.url, str(tmp_path / "export"))
    assert export(made.url, str(tmp_path / "export"))[0] == 2
    names = sorted(path.name for path in (tmp_path / "export").iterdir())
    assert names == ["README.md", "dataset.json", "train-000000.tar"]
    with pytest.raises(ValueError, match="not an empty folder"):
        export(made.url, str(tmp_path / "export"), choice=Choice(level="short"))


def test_status_names_who_writes(made: SimpleNamespace) -> None:
    assert status(made.url).writers == ()
    with hold(made.url, "captions"):
        [writer] = status(made.url).writers
    assert f"pid {os.getpid()}" in writer


def test_a_writer_that_lost_its_lease_publishes_nothing_more(
    made: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "late.mp4", moving(7, 1.5))
    monkeypatch.setattr("curate.storage.lease.LOST_S", -1.0)
    before = (made.out / "config.yaml").read_bytes()
    with pytest.raises(RuntimeError, match="the lease `curate` was not renewed"):
        curate([str(made.films), str(tmp_path / "late.mp4")], made.url, LOCAL)
    assert (made.out / "config.yaml").read_bytes() == before


def test_a_clip_that_is_cut_again_loses_its_captions_and_latents(made: SimpleNamespace, tmp_path: Path) -> None:
    before = {row["clip_id"]: row["digest"] for row in made.dataset.read_index().to_pylist()}
    fingerprint = encode(made.url, LOCAL).latents
    assert status(made.url).encoded == {fingerprint: 2}
    result = curate([str(made.films)], made.url, SMALLER)
    index = made.dataset.read_index().to_pylist()
    assert result.num_indexed == 2 and all(row["digest"] != before[row["clip_id"]] for row in index)
    assert [row["caption_short"] for row in index] == [None, None]
    now = status(made.url)
    assert (now.captioned, now.encoded) == ({"test-1": 0}, {fingerprint: 0})
    assert now.next_command.startswith("reelpack caption")
    found = [problem for check in verify(made.url, None) for problem in check.problems]
    assert len(found) == 4 and all("of an earlier cut; `reelpack" in problem for problem in found)
    assert explain(made.url, index[0]["clip_id"]).latents == {}
    with pytest.raises(ValueError, match="no clip of split 'train' has latents"):
        read_manifest(made.url, split="train", patch=(1, 2, 2))
    caption(made.dataset)
    again = encode(made.url, SMALLER)
    assert (again.latents, again.num_clips) == (fingerprint, 2)
    assert [problem for check in verify(made.url, None) for problem in check.problems] == []
    assert len(read_manifest(made.url, split="train", patch=(1, 2, 2))) == 2


def test_captions_that_change_are_embedded_anew(made: SimpleNamespace) -> None:
    text = encode(made.url, LOCAL).text
    parts = made.out / "text" / text / "parts"
    before = {path.name for path in parts.iterdir()}
    encode(made.url, LOCAL)
    assert {path.name for path in parts.iterdir()} == before, "nothing changed"
    record, _ = made.dataset.captions("test-1").rows()
    made.dataset.captions("test-1").publish([{**record, "text": "another", "status": str(CaptionStatus.OK)}])
    made.dataset.write_index(LOCAL.shards.key)
    assert encode(made.url, LOCAL).text == text
    assert len({path.name for path in parts.iterdir()} - before) == 1


def test_how_a_foreign_dataset_is_run_is_not_for_it_to_say(made: SimpleNamespace, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    section = made.dataset.sections()["curate"]
    foreign = {"staging": {"cache_dir": str(victim), "cache_bytes": 0}, "address": "foreign:6379"}
    made.dataset.save_section("curate", {**section, "execute": {**section["execute"], **foreign}})
    config = config_of(Dataset(made.url))
    assert config.execute == type(config.execute)()
    said = curate_command(made.dataset)
    assert "executor=local" in said and "cache_dir" not in said and "foreign:6379" not in said


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_commands_that_race_lose_nothing(made: SimpleNamespace, tmp_path: Path) -> None:
    """Two of each, whole processes: every one ends well, or is refused with the name of the one before it."""
    encode(made.url, LOCAL)
    for number in range(2):
        write_video(tmp_path / f"late{number}" / f"{number}.mp4", moving(20 + number, 1.5))
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    local = ["--executor", "local"]
    model = write_checkpoint("llava", tmp_path / "model")
    small = ["caption.frames.num_frames=1", "caption.short_max_tokens=4", "caption.dense_max_tokens=4"]
    small += [f"caption.backend.model={model}", "caption.prompts=plain-v1", "caption.checks.truncated.use=true"]
    small += OVERRIDES
    run = ["train.steps=2", "train.device=cpu", "train.model={width: 32, num_heads: 2, depth: 1}"]
    races = {
        "curate 0": ("curate", str(made.films), f"{tmp_path}/late0", "--out", made.url, *settings),
        "curate 1": ("curate", str(made.films), f"{tmp_path}/late1", "--out", made.url, *settings),
        "select": ("select", made.url, "--set", "select.rules.duration_s.min=0.4"),
        "caption 0": ("caption", made.url, *local, *(w for one in small for w in ("--set", one))),
        "caption 1": ("caption", made.url, *local, *(w for one in small for w in ("--set", one))),
        "encode 0": ("encode", made.url, *local, "--set", "encode.max_area_px=6144"),
        "encode 1": ("encode", made.url, *local, "--set", "encode.max_area_px=6144"),
        "train": ("train", made.url, "--out", f"{tmp_path}/run", *(w for one in run for w in ("--set", one))),
    }
    ended = run_commands(races, tmp_path)
    codes = {name: code for name, (code, _) in ended.items()}
    said = {name: " ".join(text.split()) for name, (_, text) in ended.items()}
    for name, code in codes.items():
        assert code == 0 or (code == 2 and "is being written by" in said[name]), f"{name}: {said[name]}"
        assert "Traceback" not in said[name]
    assert codes["train"] == 0, said["train"]
    for rivals in (("curate 0", "curate 1", "select"), ("caption 0", "caption 1"), ("encode 0", "encode 1")):
        assert 0 in [codes[name] for name in rivals], [said[name] for name in rivals]
    inputs = [str(made.films), f"{tmp_path}/late0", f"{tmp_path}/late1"]
    assert curate(inputs, made.url, LOCAL).num_indexed >= 4, "what was refused can be run afterwards"
    assert {"curate", "caption", "encode"} <= made.dataset.sections().keys(), "no section was lost"
    caption(made.dataset)
    encode(made.url, LOCAL)
    assert [problem for check in verify(made.url, None) for problem in check.problems] == []
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2]
