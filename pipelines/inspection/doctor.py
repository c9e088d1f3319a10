"""What this machine, and each worker of a cluster, can do: every line is tried, not assumed."""

import importlib.metadata
import io
import os
import platform
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, cast

from curate.media.scheduling import own_scheduling
from curate.terminal import leave_terminal
from pipelines.console.extras import extras_with
from pipelines.execute.base import ExecuteConfig
from pipelines.execute.ray_cluster import connect
from pipelines.inputs.sources import absolute

if TYPE_CHECKING:
    from av.video.stream import VideoStream

Verdict = Literal["ok", "warn", "fail"]

PACKAGES = (
    "reelpack", "torch", "ray", "av", "opencv-python-headless", "pillow", "pyarrow", "transformers", "open-clip-torch",
    "scenedetect-headless", "diffusers",
)  # fmt: skip
ENCODERS = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}
"""What a decoder of each codec is tried on."""

LEAST_FREE_GIB = 5
LEAST_OPEN_FILES = 1024
NODE_LIMIT_S = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line: where, what was looked at, how it is, and what to do where it is not well."""

    where: str
    what: str
    verdict: Verdict
    detail: str


def doctor(out: str | None, config: ExecuteConfig) -> Iterator[Finding]:
    """Look at this machine, and at each node of the Ray cluster that work will run on.

    Args:
        out: folder that datasets will be written to; None: the current one.
        config: how stages will be run; with the local executor Ray is left alone.
    """
    yield from examine("here", out or ".")
    if config.executor == "ray":
        yield from _workers(config, absolute(out) if out else None)


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
    return [_tried(where, what, check) for what, check in checks]


def _tried(where: str, what: str, check: Callable[[], tuple[str, str]]) -> Finding:
    try:
        verdict, detail = check()
    except Exception as error:  # any error of a check is its finding
        verdict, detail = "fail", f"{type(error).__name__}: {error}"
    return Finding(where=where, what=what, verdict=cast(Verdict, verdict), detail=detail)


def _workers(config: ExecuteConfig, out: str | None) -> Iterator[Finding]:
    """Ray itself; on a private one a worker, on a cluster each node, by a task that is bound to it."""
    import ray

    try:
        is_private = connect(config)
    except (OSError, RuntimeError, ValueError) as error:
        yield Finding(where="ray", what="Ray", verdict="fail", detail=str(error))
        return
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        has = ray.cluster_resources()
        size = f"{has.get('CPU', 0):g} CPUs, {has.get('GPU', 0):g} GPUs"
        if is_private:
            yield Finding(where="ray", what="Ray", verdict="ok", detail=f"a private one starts, with {size}")
            yield from _on_node(nodes[0]["NodeID"], "a worker", _examine_worker)
            return
        yield Finding(where="ray", what="Ray", verdict="ok", detail=f"{len(nodes)} nodes, {size}")
        for node in nodes:
            yield from _on_node(node["NodeID"], node["NodeManagerHostname"], examine, out or tempfile.gettempdir())
    finally:
        ray.shutdown()


def _examine_worker(where: str) -> list[Finding]:
    return [_tried(where, "cut a clip", _cut)]


def _in_background(look: Callable[..., list[Finding]], where: str, *arguments: str) -> list[Finding]:
    leave_terminal()
    return look(where, *arguments)


def _on_node(node_id: str, where: str, look: Callable[..., list[Finding]], *arguments: str) -> list[Finding]:
    """What a task finds on a node, or why it could not look."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    bound = NodeAffinitySchedulingStrategy(node_id, soft=False)
    task = ray.remote(num_cpus=0, max_retries=0)(_in_background).options(scheduling_strategy=bound)
    try:
        found: list[Finding] = ray.get(task.remote(look, where, *arguments), timeout=NODE_LIMIT_S)
    except ray.exceptions.RayError as error:
        last = str(error).strip().rpartition("\n")[2]
        remedy = "reelpack must be installed there, or travel with the job (ray job submit --working-dir .)"
        return [
            Finding(where=where, what="worker", verdict="fail", detail=f"{type(error).__name__}: {last}; {remedy}")
        ]
    return found


def _versions() -> tuple[str, str]:
    found, missing = [f"Python {platform.python_version()}"], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        remedies = {f"pip install 'reelpack[{extra}]'" for name in missing for extra in extras_with(name)[:1]}
        return "warn", f"{', '.join(found)}; not installed: {', '.join(missing)} ({', '.join(sorted(remedies))})"
    return "ok", ", ".join(found)


def _decode(codec: str) -> tuple[str, str]:
    """Encode two frames in memory and read them back."""
    os.environ.setdefault("SVT_LOG", "0")  # the AV1 encoder would fill the terminal
    import av
    import numpy as np

    buffer = io.BytesIO()
    try:
        with own_scheduling(), av.open(buffer, "w", format="matroska") as container:
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
        if shutil.which("nvidia-smi"):
            return (
                "warn",
                f"there is an NVIDIA driver, but torch {torch.__version__} does not reach it; install its CUDA build",
            )
        return "ok", f"none: models run on {os.cpu_count()} CPU cores"
    found = []
    for number in range(torch.cuda.device_count()):
        free, total = (size / 2**30 for size in torch.cuda.mem_get_info(number))
        ones = torch.ones(8, 8, device=f"cuda:{number}")
        if float((ones @ ones).sum()) != 512:
            return "fail", f"{torch.cuda.get_device_name(number)} multiplies wrongly; check it with nvidia-smi"
        found.append(f"{torch.cuda.get_device_name(number)} with {free:.0f} of {total:.0f} GiB free")
    return "ok", f"{', '.join(found)}; CUDA {torch.version.cuda}"


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
    from fsspec.implementations.local import LocalFileSystem

    from curate.storage.place import locate

    fs, path = locate(folder)
    if not isinstance(fs, LocalFileSystem):
        name = f"{path.rstrip('/')}/doctor-{uuid.uuid4().hex}"
        fs.pipe_file(name, b"reelpack doctor")
        fs.rm_file(name)
        return "ok", f"an object was written to {folder}, and removed"
    place = os.path.abspath(folder)
    while not os.path.exists(place):
        place = os.path.dirname(place)
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"reelpack doctor")
    except OSError as error:
        return "fail", f"{place} cannot be written ({error.strerror}); choose another place, or change its permissions"
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
