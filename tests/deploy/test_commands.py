"""Commands that the page on clusters and the scripts for Slurm show are ones that reelpack has."""

import subprocess
from pathlib import Path

import pytest

from tests.deploy.words import check_words, command_lines

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "cluster.md"
SCRIPT = ROOT / "deploy" / "slurm" / "ray.sbatch"


@pytest.mark.parametrize("file", [PAGE, SCRIPT], ids=lambda file: file.name)
def test_commands_parse_and_their_settings_exist(file: Path) -> None:
    lines = [words for words in command_lines(file) if "…" not in words]
    assert len(lines) >= 2
    for words in lines:
        check_words(words)


def test_the_page_shows_all_jobs() -> None:
    shown = {words[2] if words[0] == "python" else f"reelpack {words[1]}" for words in command_lines(PAGE)}
    jobs = {"curate_videos", "caption_clips", "encode_latents", "train_dit", "train_autoencoder"}
    assert {f"pipelines.{job}" for job in jobs} <= shown


def test_a_slip_in_a_command_is_found() -> None:
    words = ["python", "-m", "pipelines.curate_videos", "videos", "--out", "dataset"]
    check_words(words)
    with pytest.raises(Exception, match="No such option: --outt"):
        check_words([*words, "--outt", "x"])
    with pytest.raises(ValueError, match="nearest"):
        check_words([*words, "--set", "scan.detectr.kind=adaptive"])


def test_what_a_job_uploads_is_small() -> None:
    """`--working-dir .` sends every file that git does not ignore, to each cluster and for each change."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    sizes = {name: (ROOT / name).stat().st_size for name in listed.stdout.split("\0") if (ROOT / name).is_file()}
    assert 0 < sum(sizes.values()) < 40e6, sorted(sizes, key=lambda name: -sizes[name])[:5]
