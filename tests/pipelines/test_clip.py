"""`curate --config clip` with a small random open_clip model: its scorers, their rules, the texts of users."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.dataset.dataset import Dataset
from pipelines.commands.explain import show_explanation
from pipelines.commands.status import show as show_status
from pipelines.config import Config, load_config
from pipelines.drivers.curate import curate
from pipelines.drivers.select import select
from pipelines.inspection.explain import explain
from pipelines.inspection.status import status
from tests.support.open_clip import write_tiny_open_clip
from tests.support.scorers import only
from tests.support.snapshot import differences, snapshot
from tests.support.videos import moving, write_video

FILMS = ("a", "b", "c", "d", "e")
OF_CLIP: dict[str, dict[str, Any]] = {"text_match": {}, "label": {}, "embedding": {}}
FREE = "select.rules={text_match: null, motion: null, luminance: null}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_open_clip(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for seed, name in enumerate(FILMS):
        write_video(folder / f"{name}.mp4", moving(seed, 1.2))
    return folder


def config(model: Path | str, *overrides: str, scorers: dict[str, dict[str, Any]] = OF_CLIP) -> Config:
    settings = [f"score.encoder.model=local-dir:{model}", f"score.scorers={only(**scorers)}", "score.num_frames=2"]
    settings += ["scan.detector.kind=adaptive", "execute.executor=local", "dedup.perceptual.enabled=false"]
    return load_config("clip", [*settings, *overrides])


def rows(out: Path) -> list[dict[str, Any]]:
    return Dataset(str(out)).read_clips().to_pylist()


def reasons(out: Path) -> dict[str, list[str]]:
    return {Path(row["video_uri"]).stem: row["reasons"] for row in rows(out)}


@pytest.fixture(scope="module")
def scored(films: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset whose policy rejects nothing by CLIP. Tests change its policy."""
    out = tmp_path_factory.mktemp("scored") / "out"
    curate([str(films)], str(out), config(model, FREE))
    return out


def test_one_model_sees_each_frame_once_for_all_scorers(
    films: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from curate.encoders.open_clip import OpenClipEncoder

    seen: list[int] = []
    features = OpenClipEncoder.features
    monkeypatch.setattr(
        OpenClipEncoder, "features", lambda self, images: seen.append(len(images)) or features(self, images)
    )
    curate([str(films)], str(tmp_path / "out"), config(model, FREE))
    assert seen == [2] * len(FILMS)
    for row in rows(tmp_path / "out"):
        assert row["text_match"] == pytest.approx(row["wanted_best"] - row["unwanted_best"], abs=2e-5)
        assert row["clip_label"] in load_config("clip").score.scorers["label"].labels and row["clip_label_margin"] >= 0


def test_all_default_scorers_stay_and_the_encoder_is_the_models() -> None:
    score = load_config("clip").score
    assert score.scorers.keys() == load_config().score.scorers.keys() | {"label"}
    complete = score.complete()
    assert {name for name, one in complete.items() if getattr(one, "encoder", None) == score.encoder} == {
        "text_match", "label", "embedding",
    }  # fmt: skip


@pytest.mark.slow
def test_all_default_scorers_give_values_beside_the_model(films: Path, model: Path, tmp_path: Path) -> None:
    settings = [
        f"score.encoder.model=local-dir:{model}",
        "score.num_frames=2",
        "scan.detector.kind=adaptive",
        "execute.executor=local",
        FREE,
    ]
    curate([str(films / "a.mp4")], str(tmp_path / "out"), load_config("clip", settings))
    (row,) = rows(tmp_path / "out")
    columns = {name for scorer in load_config("clip").score.scorers.values() for name in scorer.columns}
    given = columns - {"embedding", "loudness", "silence_fraction", "audio_codec", "audio_channels", "audio_rate"}
    assert len(given) >= 9 and {name for name in given if row[name] is None} == set()
    assert row["unscored"] == []


@pytest.mark.parametrize("column", ["text_match", "wanted_best", "unwanted_best", "clip_label_margin"])
@pytest.mark.parametrize("side", ["min", "max"])
def test_a_bound_rejects_what_is_beyond_it(scored: Path, column: str, side: str) -> None:
    values = sorted(row[column] for row in rows(scored))
    select(str(scored), overrides=[f"select.rules.{column}.{side}={values[2]}"])
    broken = sum(value < values[2] if side == "min" else value > values[2] for value in values)
    assert sum(row["reasons"] == [f"{column}.{side}"] for row in rows(scored)) == broken > 0
    select(str(scored), overrides=[f"select.rules.{column}=null"])


def test_labels_are_kept_and_rejected_by_name(scored: Path) -> None:
    labels = {row["clip_label"] for row in rows(scored)}
    select(str(scored), overrides=[f"select.rules.clip_label={{not_in: {sorted(labels)[:1]}}}"])
    assert all((row["decision"] == "reject") == (row["clip_label"] == min(labels)) for row in rows(scored))
    select(str(scored), overrides=["select.rules.clip_label=null"])


def test_a_relative_bound_is_shown_as_what_it_comes_to(scored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    select(str(scored), overrides=["select.rules.text_match={min_percentile: 40}"])
    found = rows(scored)
    values = sorted(row["text_match"] for row in found)
    rejected = [row for row in found if row["reasons"] == ["text_match.min"]]
    assert len(rejected) == 2 and max(row["text_match"] for row in rejected) < values[2]
    said = f"≥ {values[2]:g} (min_percentile 40)"
    assert status(str(scored)).relative == {"text_match": said}
    (measure,) = [one for one in explain(str(scored), rejected[0]["clip_id"]).measures if one.name == "text_match"]
    assert measure.rule is not None and measure.rule.min == values[2] and measure.verdict == "fails"
    show_explanation(explain(str(scored), rejected[0]["clip_id"]))
    show_status(status(str(scored)))
    assert capsys.readouterr().out.count(said) == 2
    select(str(scored), overrides=["select.rules.text_match=null"])


def test_the_explorer_replaces_a_relative_bound(scored: Path) -> None:
    from curate.report.data import read_dataset
    from curate.report.explorer import explorer_data

    select(str(scored), overrides=["select.rules.text_match={min_z: -0.5}"])
    (column,) = [one for one in explorer_data(read_dataset(str(scored)))["columns"] if one["name"] == "text_match"]
    values = np.array([row["text_match"] for row in rows(scored)])
    assert column["min"] == pytest.approx(values.mean() - values.std() / 2)
    assert column["relative"] == ["min_z"] and "min_z: -0.5" in column["description"]
    as_the_page_says = [f"select.rules.text_match.min={values.min()}", "select.rules.text_match.min_z=null"]
    select(str(scored), overrides=as_the_page_says)
    assert reasons(scored) == {name: [] for name in FILMS}
    select(str(scored), overrides=["select.rules.text_match=null"])


def own(model: Path, *overrides: str) -> Config:
    return config(model, FREE, *overrides, scorers={"own_text": {"column": "title"}})


def write_titles(path: Path, titles: dict[str, str]) -> str:
    path.write_text("\n".join(["path,title", *(f'{name}.mp4,"{title}"' for name, title in titles.items())]) + "\n")
    return str(path)


def test_the_users_own_text_is_a_score_and_clips_without_one_pass(films: Path, model: Path, tmp_path: Path) -> None:
    out, titles = tmp_path / "out", {"a": "a rabbit", "b": "a very long title " * 30, "c": ""}
    sidecar = write_titles(tmp_path / "titles.csv", titles)
    curate([str(films)], str(out), own(model, "select.rules.own_text.min=1"), sidecar=sidecar)
    values = {Path(row["video_uri"]).stem: row["own_text"] for row in rows(out)}
    assert {name for name, value in values.items() if value is not None} == {"a", "b"}
    assert reasons(out) == {name: ["own_text.min"] if name in "ab" else [] for name in FILMS}
    assert "text_digest" not in Dataset(str(out)).read_clips().column_names


def test_only_the_clip_whose_text_changed_is_scored_again(films: Path, model: Path, tmp_path: Path) -> None:
    out, sidecar = tmp_path / "out", tmp_path / "titles.csv"
    titles = {"a": "a rabbit", "b": "the sky", "c": "a page of text"}
    curate([str(films)], str(out), own(model), sidecar=write_titles(sidecar, titles))
    before = {row["video_uri"]: row["own_text"] for row in rows(out)}
    assert curate([str(films)], str(out), own(model)).num_frames_decoded == 0
    changed = {**titles, "a": "a dog on a beach", "b": ""}
    again = curate([str(films)], str(out), own(model), sidecar=write_titles(sidecar, changed))
    after = {row["video_uri"]: row["own_text"] for row in rows(out)}
    one_clip = curate([str(films / "a.mp4")], str(tmp_path / "one"), own(model), sidecar=str(sidecar))
    assert 0 < again.num_frames_decoded < one_clip.num_frames_decoded, "one clip, and no scan"
    differ = {Path(uri).stem for uri in before if before[uri] != after[uri]}
    assert differ == {"a", "b"} and after[next(uri for uri in after if uri.endswith("/b.mp4"))] is None


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["score.encoder.model=ViT-B-32:/nowhere/vit.pt"], r"/nowhere/vit\.pt is not there; set `pretrained`"),
        (["score.encoder.model=ViT-B-32:laion"], r"a tag of ViT-B-32 \(openai"),
        (
            ["score.scorers.own_text.column=title"],
            r"own_text\.column=title: no such column; you brought",
        ),
    ],
)
def test_a_wrong_name_is_told_before_anything_is_scanned(
    overrides: Sequence[str], said: str, films: Path, model: Path, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, OSError), match=said):
        curate([str(films)], str(tmp_path / "out"), config(model, *overrides))
    assert not list(tmp_path.glob("out/tables/videos/*"))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("private_ray")
def test_ray_stores_the_same_clip_scores(films: Path, model: Path, tmp_path: Path) -> None:
    sidecar = write_titles(tmp_path / "titles.csv", {"a": "a rabbit", "b": "a very long title " * 30})
    scorers = {**OF_CLIP, "own_text": {"column": "title"}}
    for executor in ("local", "ray"):
        overrides = ["select.rules.text_match={min: null, min_percentile: 40}", f"execute.executor={executor}"]
        curate([str(films)], str(tmp_path / executor), config(model, *overrides, scorers=scorers), sidecar=sidecar)
    assert sum("text_match.min" in found for found in reasons(tmp_path / "ray").values()) == 2
    assert differences(snapshot(tmp_path / "local"), snapshot(tmp_path / "ray")) == []
