"""A small real dataset, written by its contract: generated videos, shards cut from them, tables, a training run."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from curate.cut import ShardConfig
from curate.dataset.schemas import INDEX, VIDEOS
from curate.dataset.store import Table
from curate.rules import Rule
from curate.scan import ScanConfig, ScanKeys
from curate.schema import Span, clip_id
from curate.select import SelectConfig, decide
from curate.shards.tar import write_tar
from tests.support.browser import Browser, found_browser

FPS = 12
FRAMES_PER_CLIP = 24


def policy(**rules: Rule) -> SelectConfig:
    """These rules and no other, whatever the defaults are."""
    return SelectConfig(rules=rules)


REJECTED = ("static.mp4", "black.mp4", "bars.mp4", "gone.mp4")
POLICY = policy(
    duration_s=Rule(min=1), motion=Rule(min=0.002), luminance=Rule(min=0.06, max=0.97),
    freeze_fraction=Rule(max=0.9), letterbox_fraction=Rule(max=0.05),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """Paths of what the fixture wrote, the failures that stand, and the caption that tries to break the page."""

    dataset: Path
    run: Path
    failures: Sequence[Mapping[str, Any]]
    hostile_caption: str


def scene(index: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """`FRAMES_PER_CLIP` frames of a disc that crosses a gradient, in colors of their own per `index`."""
    rng = np.random.default_rng(index)
    sky, ground, disc = rng.integers(40, 230, (3, 3))
    y, x = np.mgrid[:height, :width]
    blend = (y / height)[..., None]
    frames = []
    for step in range(FRAMES_PER_CLIP):
        frame = sky * (1 - blend) + ground * blend
        at = (step + 1) / (FRAMES_PER_CLIP + 1)
        inside = (x - at * width) ** 2 + (y - height * (0.6 - 0.3 * math.sin(math.pi * at))) ** 2 < (height / 6) ** 2
        frame[inside] = disc
        frames.append(frame)
    return np.stack(frames).astype(np.uint8)


def encode(frames: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def source(path: Path, frames: npt.NDArray[np.uint8]) -> Fraction:
    """Write a video; returns the time base of its stream."""
    path.write_bytes(encode(frames))
    with av.open(str(path)) as container:
        return container.streams.video[0].time_base


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    return found_browser(tmp_path_factory.mktemp("profile"))


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    root = tmp_path_factory.mktemp("report")
    videos, dataset, run = root / "videos", root / "meadow", root / "runs" / "first"
    videos.mkdir()
    hostile = 'a disc & a "meadow" </script><script>throw new Error("escaped?")</script>'
    clips, index, rows = [], [], []
    payloads: dict[str, bytes] = {}

    landscape = np.concatenate([scene(number, 64, 112) for number in range(6)])
    portrait = np.concatenate([scene(number, 112, 64) for number in range(6, 8)])
    for name, frames in (("meadow.mp4", landscape), ("phone.mp4", portrait)):
        base = source(videos / name, frames)
        rows.append(video_row(videos / name))
        for number in range(len(frames) // FRAMES_PER_CLIP):
            part = frames[number * FRAMES_PER_CLIP : (number + 1) * FRAMES_PER_CLIP]
            clip = clip_row(videos / name, number, base, part)
            payloads[clip["clip_id"]] = encode(part)
            clips.append(clip)
    for name in (*REJECTED, "copy.mp4"):
        frames = rejected_frames(name)
        base = source(videos / name, frames)
        rows.append(video_row(videos / name))
        clips.append(clip_row(videos / name, 0, base, frames))
    (videos / "gone.mp4").unlink()
    for name, kind in (("broken.mp4", "truncated"), ("notes <b>.mp4", "not_media")):
        detail = f"got {name}, expected a video"
        rows.append(video_row(videos / name, outcome="failed", failure=kind, detail=detail, video_id=None))

    members = write_tar(str(dataset / "shards" / "train-000000.tar"), [(c, {"mp4": p}) for c, p in payloads.items()])
    kept = {clip["clip_id"]: clip for clip in clips}
    for number, member in enumerate(members):
        clip = kept[member.key]
        index.append(
            {
                **{
                    name: clip[name]
                    for name in ("clip_id", "video_id", "kind", "num_frames", "fps", "height", "width")
                },
                "split": "train",
                "shard": member.shard,
                "ext": member.ext,
                "offset": member.offset,
                "size": member.size,
                "duration_s": 2.0,
                "caption_short": None if number == 7 else hostile if number == 0 else f"a disc crosses sky {number}",
                "caption_dense": None if number == 7 else f"A disc moves from left to right, take {number}. " * 3,
            }
        )
    pq.write_table(pa.Table.from_pylist(index, INDEX), dataset / "shards" / "index.parquet")
    first, static, copy = clips[0]["clip_id"], clips[8]["clip_id"], clips[-1]["clip_id"]
    decided = decide(pa.Table.from_pylist(clips), POLICY, groups=dict.fromkeys([first, static, copy], first))
    titles = [hostile if clip["clip_id"] == first else f"Take {clip['video_id']}" for clip in clips]
    pq.write_table(decided.append_column("title", pa.array(titles)), dataset / "clips.parquet")
    Table(str(dataset / "tables" / "videos"), VIDEOS, ["uri", "scan_key"]).publish(rows)
    uncut = {"subject": clips[-2]["clip_id"], "step": "cut", "key": "k", "kind": "io", "detail": "read timed out"}
    uncut |= {"retryable": True, "retry_command": "reelpack curate again"}
    latents = dataset / "latents" / "ab12"
    latents.mkdir(parents=True)
    pq.write_table(pa.table({"clip_id": [row["clip_id"] for row in index[:5]]}), latents / "index.parquet")
    config = {
        "curate": made_with(POLICY),
        "caption_family": "some-captioner-12ab",
    }
    (dataset / "config.yaml").write_text(yaml.safe_dump(config))
    write_run(run)
    return Written(dataset=dataset, run=run, failures=[uncut], hostile_caption=hostile)


def made_with(policy: SelectConfig, families: Sequence[str] = ()) -> dict[str, Any]:
    """Section `curate` of config.yaml."""
    sections = {"scan": ScanConfig(), "shards": ShardConfig(), "select": policy}
    dumped = {name: section.model_dump(mode="json") for name, section in sections.items()}
    return {"reelpack_version": "0.1.0", "families": list(families), **dumped}


def video_row(path: Path, **changes: Any) -> dict[str, Any]:
    row = {
        "uri": str(path),
        "scan_key": ScanKeys(ScanConfig()).of(str(path)),
        "outcome": "ok",
        "failure": None,
        "detail": None,
        "video_id": path.stem,
    }
    return {**row, **changes}


def rejected_frames(name: str) -> npt.NDArray[np.uint8]:
    frames = scene(len(name), 64, 112)
    if name == "copy.mp4":
        return scene(0, 64, 112)
    if name == "static.mp4":
        frames[:] = frames[10]
    if name == "black.mp4":
        frames[:] = 3
    if name == "bars.mp4":
        frames[:, :12] = frames[:, -12:] = 0
    return frames


def clip_row(path: Path, number: int, base: Fraction, frames: npt.NDArray[np.uint8]) -> dict[str, Any]:
    ticks = int(1 / (FPS * base))
    first = number * FRAMES_PER_CLIP
    span = Span(start_pts=first * ticks, end_pts=(first + FRAMES_PER_CLIP) * ticks, time_base=base)
    return {
        "clip_id": clip_id(path.stem, span),
        "video_id": path.stem,
        "video_uri": str(path),
        "kind": "video",
        "start_s": span.start_s,
        "end_s": span.end_s,
        "start_pts": span.start_pts,
        "end_pts": span.end_pts,
        "time_base": str(base),
        "fps": float(FPS),
        "width": frames.shape[2],
        "height": frames.shape[1],
        "num_frames": FRAMES_PER_CLIP,
        "duration_s": span.duration_s,
        "short_side_px": float(min(frames.shape[1:3])),
        "bitrate": 5e5 if path.stem == "copy" else 1e6 + number,
        "motion": 0.0 if path.stem == "gone" else float(np.abs(np.diff(frames.astype(float), axis=0)).mean() / 255),
        "freeze_fraction": float(path.stem == "static"),
        "black_fraction": 0.0,
        "luminance": float(frames.mean() / 255),
        "letterbox_fraction": float((frames.max(axis=(0, 2, 3)) == 0).mean()),
        "text_match": None if path.name in REJECTED else 0.1 + 0.01 * number,
    }


def write_run(run: Path) -> None:
    (run / "samples").mkdir(parents=True)
    rng = np.random.default_rng(0)
    with (run / "metrics.jsonl").open("w") as log:
        for step in range(1, 201):
            row = {"step": step, "loss": 1.4 * math.exp(-step / 60) + 0.5 + 0.1 * rng.standard_normal()}
            row |= {"lr": 1e-3 * min(1, step / 20), "grad_norm": 2 / step + 0.3}
            row |= {"tokens_per_s": 4000 + 20 * (step % 7), "token_efficiency": 0.992, "seconds": 0.5}
            row |= {"loader_wait_s": 0.001 * (step % 5), "rank_idle_s": 0.0, "mfu": None, "memory_gib": 1.5}
            row |= (
                {"skipped": True, "skipped_clips": ["bad<clip>"], "loss": None} if step == 77 else {"skipped": False}
            )
            log.write(json.dumps(row) + "\n")
            if step % 40 == 0:
                row = {"step": step, "val_loss": 1.3 * math.exp(-step / 70) + 0.55}
                by_timestep = {t: float(t) + row["val_loss"] for t in ("0.1", "0.3", "0.5", "0.7", "0.9")}
                row |= {f"val_loss{kind}_by_timestep": by_timestep for kind in ("", "_ema")}
                bins = {"image": {"0-256 px": by_timestep}, "2-4 s": {"0-256 px": by_timestep, "256-512 px": {}}}
                row |= {"val_loss_ema_by_bin": bins}
                row |= {"val_clips_by_bin": {d: dict.fromkeys(cells, 3) for d, cells in bins.items()}}
                log.write(json.dumps(row | {"caption_loss_true": 0.51, "caption_loss_shuffled": 0.5234}) + "\n")
        log.write('{"step": 201, "lo')  # a kill in the middle of a line
    for step in range(20, 201, 20):
        folder = run / "samples" / f"step-{step:06d}"
        folder.mkdir()
        for number in range(2):
            noise = rng.integers(0, 255, (FRAMES_PER_CLIP, 48, 64, 3)) * (1 - step / 200)
            (folder / f"{number:02d}.mp4").write_bytes(
                encode((scene(40 + number, 48, 64) / 2 + noise / 2).astype("u1"))
            )
            facts = {"prompt": ("a <b>bold</b> disc", "a disc at dusk")[number], "step": step}
            (folder / f"{number:02d}.json").write_text(json.dumps(facts))
    for number in range(2):
        (run / "samples" / f"sample-{number}.mp4").write_bytes(encode(scene(20 + number, 80, 128)))
    Image.fromarray(scene(30, 80, 128)[8]).save(run / "samples" / "still.png")
    (run / "samples" / "sample-0.json").write_text(json.dumps({"prompt": "a disc over a meadow"}))
