"""What this machine, and each worker of a cluster, can do: every line is tried, not assumed."""

import importlib.metadata
import io
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, cast

from pipelines.execute import ExecuteConfig, connect

if TYPE_CHECKING:
    from av.video.stream import VideoStream

PACKAGES = ("torch", "ray", "av", "pyarrow", "transformers", "open-clip-torch", "scenedetect-headless", "diffusers")
ENCODERS = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}
"""What a decoder of each codec is tried on."""

LEAST_FREE_GIB = 5
LEAST_OPEN_FILES = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line: where, what was looked at, how it is, and what to do where it is not well."""

    where: str
    what: str
    verdict: Literal["ok", "warn", "fail"]
    detail: str


def doctor(out: str | None = None, address: str | None = None) -> list[Finding]:
    """Look at this machine, and at each node of a Ray cluster.

    Args:
        out: folder that datasets will be written to; None: the current one.
        address: Ray cluster to look at as well; None: RAY_ADDRESS, else none.
    """
    findings = examine("here", out or ".")
    if address or os.environ.get("RAY_ADDRESS"):
        findings += list(_cluster(address))
    return findings


def examine(where: str, folder: str) -> list[Finding]:
    """The checks of one machine."""
    checks: list[tuple[str, Callable[[], tuple[str, str]]]] = [
        ("versions", _versions),
        *((f"decode {codec}", lambda codec=codec: _decode(codec)) for codec in ENCODERS),
        ("cut a clip", _cut),
        ("accelerator", _accelerator),
        ("weights", _weights),
        ("disk", lambda: _disk(folder)),
        ("temporary files", lambda: _disk(tempfile.gettempdir())),
        ("open files", _open_files),
    ]
    findings = []
    for what, check in checks:
        try:
            verdict, detail = check()
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            verdict, detail = "fail", f"{type(error).__name__}: {error}"
        assert verdict in ("ok", "warn", "fail")
        findings.append(Finding(where=where, what=what, verdict=verdict, detail=detail))  # type: ignore[arg-type]
    return findings


def _cluster(address: str | None) -> Iterator[Finding]:
    """The same checks on each node that is alive, by a task that is bound to it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    connect(ExecuteConfig(address=address))
    try:
        alive = [node for node in ray.nodes() if node["Alive"]]
        resources = ray.cluster_resources()
        detail = f"{len(alive)} nodes, {resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"
        yield Finding(where="cluster", what="Ray", verdict="ok", detail=detail)
        for node in alive:
            task = ray.remote(num_cpus=0)(examine).options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            )
            yield from ray.get(task.remote(node["NodeManagerHostname"], tempfile.gettempdir()))
    finally:
        ray.shutdown()


def _versions() -> tuple[str, str]:
    found, missing = [f"Python {platform.python_version()}"], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return "warn", f"{', '.join(found)}; not installed: {', '.join(missing)} (pip install 'reelpack[all]')"
    return "ok", ", ".join(found)


def _decode(codec: str) -> tuple[str, str]:
    """Encode two frames in memory and read them back."""
    os.environ.setdefault("SVT_LOG", "0")  # the AV1 encoder would fill the terminal
    import av
    import numpy as np

    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="matroska") as container:
            stream = cast("VideoStream", container.add_stream(ENCODERS[codec], rate=Fraction(24)))
            stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
            stream.options = {"x265-params": "log-level=none"} if codec == "hevc" else {}
            for shade in (40, 200):
                frame = av.VideoFrame.from_ndarray(np.full((96, 128, 3), shade, np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    except (av.error.FFmpegError, ValueError) as error:
        return "warn", f"not tried: no encoder {ENCODERS[codec]} here ({error})"
    with av.open(io.BytesIO(buffer.getvalue()), "r") as written:
        shades = [frame.to_ndarray(format="rgb24").mean() for frame in written.decode(video=0)]
    if len(shades) != 2 or abs(shades[0] - 40) > 8 or abs(shades[1] - 200) > 8:
        return "fail", f"two gray frames came back as {shades}; reinstall av (pip install --force-reinstall av)"
    return "ok", f"PyAV with FFmpeg's libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"


def _cut() -> tuple[str, str]:
    """What `curate` does with a clip, in small: encode, probe, cut, decode."""
    import numpy as np

    from curate.media.cut import CutConfig, cut_clip
    from curate.media.decode import decode_clip
    from curate.media.encode import encode_mp4
    from curate.media.probe import content_id, probe
    from curate.schema import Span

    frames = np.random.default_rng(0).integers(0, 256, (24, 96, 128, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/probe.mp4"
        with open(path, "wb") as file:
            file.write(encode_mp4(frames, 24))
        video = probe(path, path, content_id(path))
        ticks = int(Fraction(1, 2) / video.time_base)
        clip = cut_clip(path, Span(start_pts=0, end_pts=ticks, time_base=video.time_base), CutConfig())
    count = len(decode_clip(clip.data).rgb)
    if count != 12:
        return "fail", f"half a second at 24 frames/s came back as {count} frames, expected 12; reinstall av"
    return "ok", "24 frames encoded, 12 cut out and decoded"


def _accelerator() -> tuple[str, str]:
    import torch

    if not torch.cuda.is_available():
        return "ok", f"none: models run on {os.cpu_count()} CPU cores, torch {torch.__version__}"
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    free = min(torch.cuda.mem_get_info(number)[0] for number in range(len(names))) / 2**30
    float((torch.ones(8, 8, device="cuda") @ torch.ones(8, 8, device="cuda")).sum())
    return "ok", f"{', '.join(names)}; at least {free:.0f} GiB free on each, a product was computed"


def _weights() -> tuple[str, str]:
    from curate.encoders import weights
    from curate.encoders.manifest import DEFAULT_NAMES

    missing = []
    for name in DEFAULT_NAMES:
        try:
            weights.resolve(name)
        except weights.MissingWeights:
            missing.append(name)
    if missing:
        return "fail", f"not fetched: {', '.join(missing)}; run `reelpack weights`"
    return "ok", f"{', '.join(DEFAULT_NAMES)}"


def _disk(folder: str) -> tuple[str, str]:
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    if not isinstance(url_to_fs(folder)[0], LocalFileSystem):
        return "ok", f"{folder} is an object store"
    place = os.path.abspath(folder)
    while not os.path.exists(place):
        place = os.path.dirname(place)
    if not os.access(place, os.W_OK):
        return "fail", f"{place} cannot be written"
    free = shutil.disk_usage(place).free / 2**30
    if free < LEAST_FREE_GIB:
        return "warn", f"{free:.1f} GiB free at {place}: `reelpack plan` says what a dataset takes"
    return "ok", f"{free:.0f} GiB free at {place}"


def _open_files() -> tuple[str, str]:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit < LEAST_OPEN_FILES:
        return "warn", f"at most {limit} at a time; raise it: ulimit -n {4 * LEAST_OPEN_FILES}"
    return "ok", f"at most {limit} at a time"
