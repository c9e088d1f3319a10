"""The user's own text is in the index, follows the sidecar, and needs no model."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.commands.caption import show
from pipelines.config import Config, load_config
from pipelines.drivers.caption import CaptionSummary, caption
from pipelines.drivers.curate import curate
from tests.support.curated import SETTINGS, copied, curated

NO_MODEL = "caption.backend=null"


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return curated(tmp_path_factory.mktemp("original"))


@pytest.fixture
def made(films: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    made = copied(films, tmp_path)
    give(made, "path,title,views\n1.mp4,<b>A square</b> moves,5\n2.mp4,IMG_2034.MP4,7\n")
    return made


def give(made: SimpleNamespace, text: str) -> None:
    """Curate with this sidecar."""
    sidecar = made.out.parent / "own.csv"
    sidecar.write_text(text)
    settings = [*SETTINGS, "sidecar.types.views=int"] if "views" in text else SETTINGS
    curate([str(made.films)], made.url, load_config(overrides=settings), sidecar=str(sidecar))


def run(made: SimpleNamespace, *settings: str) -> CaptionSummary:
    return caption(made.url, load_config(overrides=[NO_MODEL, *settings]))


def texts(made: SimpleNamespace) -> set[str | None]:
    return set(made.dataset.read_index()["caption_original"].to_pylist())


def test_a_column_of_the_sidecar_is_the_caption_without_a_model(made: SimpleNamespace) -> None:
    result = run(made, "caption.original=title")
    assert texts(made) == {"A square moves", None}
    assert result.original.states == {"ok": 1, "rejected": 1}
    assert result.original.codes == {"file_name": 1}
    assert result.family is None
    assert result.num_captions == 1


def test_without_a_model_the_column_is_named_as_the_reason_and_no_model_is(
    made: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    give(made, "path,title\n1.mp4,2014\n2.mp4,IMG_2034.MP4\n")
    show(run(made, "caption.original=title"))
    shown = " ".join(capsys.readouterr().out.split())
    assert "no clip has a caption: the column title has no text that can be used" in shown
    assert "the model wrote nothing" not in shown and "by how they ended" not in shown


def test_texts_follow_the_sidecar_and_are_written_once(made: SimpleNamespace) -> None:
    assert run(made, "caption.original=title").original.num_new == 2
    assert run(made, "caption.original=title").original.num_new == 0
    give(made, "path,title\n1.mp4,A square moves\n2.mp4,A second square\n")
    assert run(made).original.num_new == 1, "the column of the last run"
    assert texts(made) == {"A square moves", "A second square"}
    give(made, "path,title\n1.mp4,\n2.mp4,A second square\n")
    run(made)
    assert texts(made) == {None, "A second square"}


def test_a_column_that_the_sidecar_no_longer_has_gives_no_text(made: SimpleNamespace) -> None:
    run(made, "caption.original=title")
    give(made, "path,alt\n1.mp4,Another text\n2.mp4,And one more\n")
    with pytest.raises(ValueError, match="nothing would write a caption"):
        run(made)
    run(made, "caption.original=alt")
    assert texts(made) == {"Another text", "And one more"}


def test_a_column_that_is_no_longer_text_gives_no_text(made: SimpleNamespace) -> None:
    give(made, "path,seen\n1.mp4,A square moves\n2.mp4,A circle moves\n")
    run(made, "caption.original=seen")
    sidecar = made.out.parent / "own.jsonl"
    sidecar.write_text('{"path": "1.mp4", "seen": 5}\n{"path": "2.mp4", "seen": 7}\n')
    curate([str(made.films)], made.url, load_config(overrides=SETTINGS), sidecar=str(sidecar))
    with pytest.raises(ValueError, match="nothing would write a caption"):
        run(made)


def test_a_wrong_column_is_refused_before_any_work(made: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match=r"caption.original=views: got int64, expected text; .* are title"):
        run(made, "caption.original=views")
    with pytest.raises(ValueError, match=r"caption.original=titel: .* its columns are title, views"):
        run(made, "caption.original=titel")
    with pytest.raises(ValueError, match="nothing would write a caption"):
        run(made)
    assert "caption" not in made.dataset.sections()


def test_the_setting_is_off_by_default() -> None:
    assert Config().caption.original is None
