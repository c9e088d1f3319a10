"""What the inputs of a user name: mistyped ones leave no trace, and what is no media is no failure of its folder."""

from pathlib import Path

import pytest

from curate.dataset.dataset import Dataset
from curate.schema import said_of
from pipelines.cli import main
from pipelines.commands.curate import show
from pipelines.config import Config, load_config
from pipelines.drivers.curate import curate
from pipelines.inputs.listing import list_sources
from pipelines.inputs.sources import refuse_mistyped
from tests.support.curated import SETTINGS
from tests.support.videos import moving, write_video

OTHERS = (
    "README.txt",
    "a.json",
    "thumbnails.db",
    "Thumbs.db",
    "a.srt",
    "LICENSE",
    "song.mp3",
    "part.mp4.part",
    "empty",
)
BY_CONTENT = ("0a1b2c", "film.vid", "film.ts")


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    write_video(folder / "a.mp4", moving(1, 2))
    return folder


def run(*arguments: str) -> object:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return stopped.value.code


def config() -> Config:
    return load_config(overrides=SETTINGS)


@pytest.mark.parametrize("text", ["film", "films/b.mp4", "films/*.mov", "nowhere/deep/film.mp4"])
def test_a_mistyped_input_is_refused_before_anything_is_made(
    films: Path, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(films.parent)
    for inputs in ([text], ["films", text]):
        assert run("curate", *inputs, "--out", "dataset", "--executor", "local") == 2
        assert text in capsys.readouterr().err
        assert not Path("dataset").exists()
    assert run("plan", "films", text) == 2


def test_the_message_names_what_was_meant(films: Path) -> None:
    with pytest.raises(ValueError, match="no such file or folder; there is films"):
        refuse_mistyped([str(films.parent / "flims")])


@pytest.mark.parametrize(
    "mistyped", [["--sidecar", "nowhere.csv"], ["--address", "127.0.0.1:9"], ["--set", "score.scorer=[]"]]
)
def test_a_mistyped_option_makes_no_dataset(films: Path, mistyped: list[str], capsys: pytest.CaptureFixture) -> None:
    out = films.parent / "dataset"
    assert run("curate", str(films), "--out", str(out), "--set", "score.scorers=null", *mistyped) == 2
    assert not out.exists()


@pytest.mark.parametrize(
    "command",
    ["select", "retry", "status", "verify", "caption", "encode", "report", "explain CLIP", "export --out EXPORTED",
     "train --out RUN", "train-plan"],
)  # fmt: skip
def test_a_mistyped_dataset_leaves_no_trace(tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name, *rest = command.split()
    assert run(name, "datset", *rest) == 2
    assert list(tmp_path.iterdir()) == []


def test_an_input_that_was_known_may_be_gone(films: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "dataset")
    curate([str(films / "a.mp4")], out, config())
    (films / "a.mp4").unlink()
    assert curate([str(films / "a.mp4")], out, config()).num_indexed == 1


def test_the_next_run_does_not_carry_a_mistyped_input(films: Path, tmp_path: Path) -> None:
    out, write = str(tmp_path / "dataset"), write_video
    write(tmp_path / "more/b.mp4", moving(2, 2))
    assert curate([str(films), str(tmp_path / "mroe")], out, config()).num_failed_inputs == 1
    then = curate([str(films), str(tmp_path / "more")], out, config())
    assert (then.num_inputs, then.num_failed_inputs) == (2, 0)
    assert "mroe" not in (tmp_path / "dataset/config.yaml").read_text()
    assert {Path(row["uri"]).name for row in Dataset(out).videos.rows()} == {"a.mp4", "b.mp4"}


def test_a_folder_gives_what_may_be_media_and_names_the_rest(films: Path, tmp_path: Path, capsys) -> None:
    for name in OTHERS:
        (films / name).write_bytes(b"" if name == "empty" else b"GNU words, and no film at all.\n" * 20)
    for name in BY_CONTENT:
        (films / name).write_bytes((films / "a.mp4").read_bytes())
    (films / "broken.mov").write_bytes(b"These are words.")
    left_out: list[str] = []
    sources, failures = list_sources([str(films)], leave_out=left_out.append)
    assert {Path(source.uri).name for source in sources} == {"a.mp4", "broken.mov", *BY_CONTENT}
    assert {Path(path).name for path in left_out} == set(OTHERS)
    assert not failures
    result = curate([str(films)], str(tmp_path / "dataset"), config())
    assert (result.num_inputs, result.num_failed_inputs) == (5, 1)
    said = capsys.readouterr().err
    assert f"left out, no media: {len(OTHERS)} files" in said
    assert "LICENSE" in said


def test_a_file_that_is_named_is_tried(films: Path) -> None:
    (films / "notes.txt").write_text("words")
    for text, names in (
        ("notes.txt", {"notes.txt"}), ("*.txt", {"notes.txt"}), ("*", {"a.mp4"}), ("*.*", {"a.mp4"})
    ):  # fmt: skip
        sources, _ = list_sources([str(films / text)])
        assert {Path(source.uri).name for source in sources} == names


def test_a_pipe_in_a_folder_is_not_waited_for(films: Path) -> None:
    import os

    os.mkfifo(films / "pipe")
    sources, _ = list_sources([str(films)])
    assert len(sources) == 2


def test_a_line_about_a_failure_names_its_file_once(films: Path, tmp_path: Path, capsys) -> None:
    (films / "cut.mp4").write_bytes((films / "a.mp4").read_bytes()[:900])
    for name in ("words.mp4", "same.mp4"):  # copies are read once
        (films / name).write_text("words")
    (films / "empty.mp4").touch()
    (films / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    show(curate([str(films)], str(tmp_path / "dataset"), config()), "dataset")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("failed: ")]
    assert len(lines) == 5
    assert all(line.count(str(films)) == 1 for line in lines)


def test_what_is_said_of_a_file_does_not_begin_with_its_name() -> None:
    name = "/films/a.mp4"
    assert said_of(name, f"{name}: 3 bytes are missing") == "3 bytes are missing"
    assert said_of(name, f"cannot decode {name}: broken") == "cannot decode it: broken"
    assert said_of(name, f"[Errno 13] Permission denied: '{name}'") == "[Errno 13] Permission denied"
