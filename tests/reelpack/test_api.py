"""The Python API: what is imported when, what a dataset gives, how calls fail and are interrupted."""

import json
import runpy
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

import reelpack
from curate.dataset.table import VERSION_KEY
from curate.media.decode import decode_clip
from pipelines import cli
from pipelines.console import progress
from pipelines.console.progress import track
from pipelines.settings import as_overrides, resolved_config
from tests.support.curated import SETTINGS, caption, copied, curated
from tests.support.snapshot import snapshot

USER_SCRIPT = """
from pathlib import Path
import reelpack

def build(videos: Path, out: Path) -> list[Path]:
    made = reelpack.curate([videos], out, config="clip", settings={"scan.detector.kind": "adaptive"}, executor="local")
    dataset: reelpack.Dataset = made.dataset
    reelpack.caption(dataset, settings=["caption.backend=null", "caption.original=title"])
    lengths: list[float] = [clip.duration_s for clip in dataset if clip.captions.get("dense")]
    trained: reelpack.Trained = reelpack.train([dataset, "other"], out / "run", config="dit_s")
    samples = reelpack.sample(trained.run, ["a cat"], size=(128, 80), keys={8: videos / "a.png"})
    print(made.num_kept, sum(lengths), made.reasons.get("motion.min", 0))
    return samples.paths

reelpack.currate("videos", "out")  # wrong
reelpack.curate("videos", out=3)  # wrong
reelpack.encode("dataset", executor="dask")  # wrong
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    made = curated(tmp_path_factory.mktemp("api"))
    caption(made.dataset, ("short", "dense"))
    return made


def test_an_import_loads_no_library_and_every_name_is_there() -> None:
    script = "import sys; before = {*sys.modules}; import reelpack; print(*sorted({*sys.modules} - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    found = {name.partition(".")[0] for name in done.stdout.split()}
    assert found & {"numpy", "pyarrow", "pydantic", "yaml", "rich", "typer", "torch", "ray"} == set()
    assert {*reelpack.__all__} <= {*dir(reelpack)}
    assert [name for name in reelpack.__all__ if getattr(reelpack, name).__name__ != name] == []
    with pytest.raises(AttributeError, match="no attribute 'currate'"):
        _ = reelpack.currate


def test_a_typed_script_passes_in_strict_mode_and_mistakes_in_it_do_not(tmp_path: Path) -> None:
    mypy = pytest.importorskip("mypy.api")
    (tmp_path / "script.py").write_text(USER_SCRIPT)
    package = str(Path(reelpack.__file__).parent)
    options = ["--strict", "--follow-imports=skip", "--config-file=", "--explicit-package-bases"]
    told, _, _ = mypy.run([*options, f"--cache-dir={tmp_path}/cache", package, str(tmp_path / "script.py")])
    lines = [int(line.split(":")[1]) for line in told.splitlines() if "script.py:" in line and ": error:" in line]
    expected = [number for number, line in enumerate(USER_SCRIPT.splitlines(), 1) if line.endswith("# wrong")]
    assert lines == expected, told


def test_a_dataset_gives_rows_clips_and_captions(made: SimpleNamespace) -> None:
    dataset = reelpack.Dataset(made.out)
    clips, index = made.dataset.read_clips(), made.dataset.read_index()
    assert dataset.clips().num_rows == clips.num_rows == 4 and len(dataset) == dataset.kept().num_rows == 2
    assert sorted(dataset.videos()["outcome"].to_pylist()) == ["failed", *["ok"] * 4]
    assert dataset.clips("decision != 'keep'", ["clip_id", "decision"]).column_names == ["clip_id", "decision"]
    assert set(dataset.clips("decision != 'keep'")["decision"].to_pylist()) == {"reject"}
    assert dataset.scores(where="duration_s < 1").num_rows == 1 and "motion" in dataset.scores().column_names
    assert sorted({*dataset.captions("level = 'dense'")["clip_id"].to_pylist()}) == index["clip_id"].to_pylist()
    found = [*dataset]
    assert [clip.id for clip in found] == index["clip_id"].to_pylist()
    for clip in found:
        rgb = decode_clip(clip.read()).rgb
        assert (clip.frames() == rgb).all() and len(rgb) == clip.num_frames
        assert rgb.shape[1:] == (clip.size[1], clip.size[0], 3)
        assert clip.captions == {"short": f"caption of {clip.id}", "dense": clip.caption} and "longer" in clip.caption
        assert clip.frames(2, size=(32, 24)).shape == (2, 24, 32, 3)
        assert "<video" in clip._repr_html_() and clip.id in repr(clip)
    assert [clip.id for clip in dataset.iterate("duration_s > 2")] == [c.id for c in found if c.duration_s > 2]
    assert dataset.clip(found[0].id[:10]).row == found[0].row
    short = dataset.clips("duration_s < 1")["clip_id"][0].as_py()
    with pytest.raises(ValueError, match=rf"{short} of .* is in no shard \(reject: duration_s.min\)"):
        dataset.clip(short[:10])
    with pytest.raises(ValueError, match=r"no clip of .* has an id that begins with zz"):
        dataset.clip("zz")


def test_a_result_says_how_many_and_where(made: SimpleNamespace) -> None:
    again = reelpack.curate(made.films, made.out, settings=SETTINGS)
    assert (again.num_inputs, again.num_failed_inputs, again.num_clips, again.num_kept) == (5, 1, 4, 2)
    assert again.num_clips == again.num_kept + again.num_rejected + again.num_pending + again.num_failed
    assert sum(again.reasons.values()) == again.num_rejected == 2
    assert again.dataset.url == made.url
    assert repr(again).startswith(f"<{made.url}: 2 of 4 clips kept, 2 rejected (") and "5 inputs (1 failed)" in repr(
        again
    )


def test_settings_are_those_of_the_command_line() -> None:
    values = {
        "scan.detector.kind": "adaptive", "score.scorers": None, "train.optimizer.lr": 1e-5, "sample.seeds": [1, 2],
        "select.rules.licence.in": ["CC0"], "caption.original": "true", "shards.clips_per_shard": 16,
        "select.rules": {"motion": {"min": 0.25}}, "sample.negative": "blurry, worst: quality",
        "sample.lora": ["ä.safetensors"],
    }  # fmt: skip
    texts = [f"{path}={json.dumps(value)}" for path, value in values.items() if path != "train.optimizer.lr"]
    assert resolved_config(None, values) == resolved_config(None, [*texts, "train.optimizer.lr=0.00001"])
    assert as_overrides("a.b=c") == ["a.b=c"] and as_overrides({"a.b": Path("x/y")}) == ["a.b=x/y"]
    with pytest.raises(ValueError, match=r"a\.b: got object; expected texts, numbers"):
        as_overrides({"a.b": object()})


Call = Callable[[SimpleNamespace, Path], Any]
FAILING: dict[str, tuple[type[Exception], str, Call]] = {
    "status {p}/none": (reelpack.NotADataset, "no such folder", lambda m, p: reelpack.Dataset(p / "none")),
    "encode {films}": (reelpack.NotADataset, "no config.yaml", lambda m, p: reelpack.encode(m.films)),
    "caption {films}": (reelpack.NotADataset, "no config.yaml", lambda m, p: reelpack.caption(m.films)),
    "train {films} --out {p}/r": (
        reelpack.NotADataset,
        "no dataset here",
        lambda m, p: reelpack.train(m.films, p / "r"),
    ),
    "train {url} --out {p}/r": (
        reelpack.Missing,
        "run `reelpack encode",
        lambda m, p: reelpack.train(m.url, p / "r"),
    ),
    "select {url} --set select.rulez=1": (
        ValueError,
        "the nearest valid one is select.rules",
        lambda m, p: reelpack.select(m.url, settings={"select.rulez": 1}),
    ),
    "curate --out {url}": (ValueError, "got no inputs", lambda m, p: reelpack.curate([], m.url)),
    "curate {p}/x.mp4 --out {url}": (
        ValueError,
        "no such file or folder",
        lambda m, p: reelpack.curate(p / "x.mp4", m.url),
    ),
    "curate {films} --out {films}/1.mp4": (
        ValueError,
        "is a file, and a folder is expected",
        lambda m, p: reelpack.curate(m.films, m.films / "1.mp4"),
    ),
    "forget {url} 1.mp4 --runs {p}/r": (
        ValueError,
        "no such folder; give folders in which",
        lambda m, p: reelpack.forget(m.url, "1.mp4", runs=p / "r"),
    ),
    "sample {p}/r": (ValueError, "expected what to show", lambda m, p: reelpack.sample(p / "r")),
    "export {url} --out {p}/e --where motio>1": (
        ValueError,
        "the nearest is motion",
        lambda m, p: reelpack.export(m.url, p / "e", where="motio>1"),
    ),
}


@pytest.mark.parametrize("line", FAILING)
def test_an_error_is_typed_and_has_the_message_of_the_command(
    line: str, made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, told, call = FAILING[line]
    with pytest.raises(ValueError, match=told) as failed:
        call(made, tmp_path)
    assert type(failed.value) is kind
    given = {"p": tmp_path, "url": made.url, "films": made.films}
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        cli.main([word.format(**given) for word in line.split()])
    said = capsys.readouterr().err.strip().splitlines()[-1].removeprefix("error: ")
    assert (stopped.value.code, said) == (2, str(failed.value))


def test_frames_are_asked_for_by_whole_numbers(made: SimpleNamespace) -> None:
    clip = next(iter(reelpack.Dataset(made.url)))
    for asked in ({"count": 1.5}, {"fps": float("inf")}, {"fps": float("nan")}, {"size": (1, 2, 3)}, {"count": 0}):
        with pytest.raises(ValueError, match="must be"):
            clip.frames(**asked)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="--frames 0: expected 1"):
        reelpack.sample(made.out / "run", "a rabbit", frames=0)


def test_what_a_step_has_not_made_is_missing_and_has_its_command(made: SimpleNamespace, tmp_path: Path) -> None:
    bare = copied(made, tmp_path)
    bare.dataset.save_section("caption_family", None)
    dataset = reelpack.Dataset(bare.out)
    for folder in (bare.out / "tables/captions").iterdir():
        folder.rename(tmp_path / folder.name)
    with pytest.raises(reelpack.Missing, match=f"no captions; `reelpack caption {bare.url}`"):
        dataset.captions()
    with pytest.raises(reelpack.Missing, match=f"run `reelpack encode {bare.url}`"):
        dataset.latents()
    with pytest.raises(reelpack.Missing, match=r"no scores of nsfw; there are none.*score\.scorers\.nsfw"):
        dataset.scores("nsfw")
    with pytest.raises(ValueError, match="no column motio; the nearest is motion"):
        dataset.clips(columns=["motio"])
    for shard in (bare.out / "shards").glob("*.tar"):
        shard.unlink()
    with pytest.raises(FileNotFoundError):
        next(iter(dataset)).frames()
    (bare.out / "shards/index.parquet").unlink()
    with pytest.raises(reelpack.Missing, match=r"index.parquet is not there; `reelpack curate"):
        dataset.kept()
    assert dataset.clips().num_rows == 4


def test_one_name_or_number_is_given_without_a_list(
    made: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs/a").mkdir(parents=True)
    (tmp_path / "runs/a/run.json").write_text(json.dumps({"datasets": [{"url": made.url, "train_clips": 2}]}))
    plan = reelpack.forget(made.url, "1.mp4", runs=tmp_path / "runs", dry_run=True)
    assert (len(plan.videos), plan.num_clips, plan.runs) == (1, 1, (str(tmp_path / "runs/a"),))
    assert reelpack.Dataset(made.url).clips(columns="clip_id").column_names == ["clip_id"]
    assert reelpack.export(made.url, tmp_path / "e", shard_size=1).num_clips == len([*tmp_path.glob("e/*.tar")]) == 2
    asked: list[object] = []
    monkeypatch.setattr("pipelines.drivers.sample.sample_to_files", lambda *_, **more: asked.append(more) or [])
    reelpack.sample("run", label=3)
    assert [one["labels"] for one in asked] == [["3"]]  # type: ignore[index]


def test_a_table_of_a_newer_version_says_what_to_do(made: SimpleNamespace, tmp_path: Path) -> None:
    newer = copied(made, tmp_path)
    (part,) = (newer.out / "tables/clips").glob("*.parquet")
    pq.write_table(pq.read_table(part).replace_schema_metadata({VERSION_KEY: b"999"}), part)
    with pytest.raises(reelpack.OtherVersion, match=r"a newer reelpack wrote it: `pip install -U reelpack`"):
        reelpack.select(newer.url)


def test_a_policy_that_keeps_nothing_is_an_error(made: SimpleNamespace, tmp_path: Path) -> None:
    other = copied(made, tmp_path)
    with pytest.raises(reelpack.NothingKept, match="this policy rejects every clip"):
        reelpack.select(other.url, settings={"select.rules.duration_s.min": 100})
    back = reelpack.select(other.url, settings={"select.rules.duration_s.min": 1.0})
    assert (back.num_kept, back.num_uncut) == (2, 0) and back.dataset.url == other.url
    with pytest.raises(reelpack.NothingKept, match=r"nothing was kept: 1 rejected by select\.duration_s\.min"):
        reelpack.curate(made.films / "1.mp4", tmp_path / "none", settings=[*SETTINGS, "select.rules.duration_s.min=9"])


def test_an_interrupted_call_says_what_stays_and_the_same_call_ends_as_an_undisturbed_one(
    made: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.drivers import curate as driver

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(driver, "_cut_kept", stop)
        with pytest.raises(reelpack.Interrupted, match=r"has 4 inputs scanned, 4 clips found; .*resumes") as end:
            reelpack.curate(made.films, tmp_path / "d", settings=SETTINGS)
    assert end.value._render_traceback_() == [f"interrupted: {end.value}"]  # type: ignore[attr-defined]
    with pytest.raises(reelpack.Missing, match=r"clips.parquet is not there; `reelpack curate"):
        reelpack.Dataset(tmp_path / "d").clips()
    reelpack.curate(made.films, tmp_path / "d", settings=SETTINGS)
    reelpack.curate(made.films, tmp_path / "undisturbed", settings=SETTINGS)
    assert snapshot(tmp_path / "d") == snapshot(tmp_path / "undisturbed")


def test_a_missing_package_names_the_extra(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"httpx2.*pip install 'reelpack\[export\]'"):
        reelpack.export(made.url, tmp_path / "out", to="hf", push="hf://somebody/clips")


def test_the_module_is_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["reelpack", "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("reelpack", run_name="__main__")
    assert stopped.value.code == 0 and "curate" in capsys.readouterr().out


def test_progress_in_a_notebook_is_one_line_that_ends_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    handle = SimpleNamespace(update=lambda text, raw: shown.append(text["text/plain"]))

    def display(text: dict[str, str], *, raw: bool, display_id: bool) -> SimpleNamespace:
        shown.append(text["text/plain"])
        return handle

    module = types.ModuleType("IPython.display")
    module.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(progress.console, "is_jupyter", True)
    assert list(track([1, 2, 3], 3, "scan")) == [1, 2, 3]
    assert "0/3" in shown[0] and "3/3" in shown[-1] and shown[-1].startswith("scan")


def test_an_interruption_while_settings_are_read_says_what_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reelpack import curation, training

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for module in (curation, training):
        monkeypatch.setattr(module, "resolved_config", interrupted)
    monkeypatch.setattr(curation, "local_first", interrupted)
    out = str(tmp_path / "out")
    calls = (
        lambda: reelpack.curate("films", out),
        lambda: reelpack.caption(out),
        lambda: reelpack.encode(out, config="c.yaml"),
        lambda: reelpack.train(out, out),
    )
    for call in calls:
        with pytest.raises(reelpack.Interrupted, match="the same command"):
            call()
