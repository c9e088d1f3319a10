"""Generated videos on disk, and what networks see of them and of clips; the ranks share the work.

    FOLDER/00000.mp4  00000.json  …  nearest/00000.mp4  …

A video whose .json is there is whole and is not generated again.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from curate.media.decode import decode_clip
from curate.media.encode import encode_mp4
from curate.schema import MediaError
from curate.storage.publish import publish
from train.autoencoder.config import autoencoder_of
from train.autoencoder.pixels import decode_latent
from train.distributed.ranks import RankGrid
from train.evaluate.quality.clips import RealClip, View
from train.evaluate.quality.figures import Figures
from train.evaluate.quality.measure import SeenSet
from train.evaluate.quality.observe import Observation, Observer
from train.sampling.config import SampleConfig
from train.sampling.files import suffix_of, write_generated
from train.sampling.loaded import LoadedRun
from train.sampling.provenance import Provenance
from train.sampling.request import Request
from train.sampling.sample import draw

logger = logging.getLogger(__name__)
Watch = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""Passes items through, and shows how far they are: of items, their number, and what is done."""


def video_file(folder: Path, number: int, num_frames: int) -> Path:
    return folder / f"{number:05d}{suffix_of(num_frames)}"


def generate_missing(
    run: str, asked: Sequence[Request], folder: Path, sampling: SampleConfig, ranks: RankGrid, watch: Watch
) -> None:
    """Generate the videos that are not in the folder, and those of other prompts."""
    missing = [number for number, request in enumerate(asked) if not _is_there(folder, number, request)]
    own = missing[ranks.rank :: ranks.world_size]
    if own:
        loaded = LoadedRun(run, sampling)
        decoder = autoencoder_of(loaded.record.latents, ranks.device)
        for position, result in watch(draw(loaded, [asked[i] for i in own], sampling), len(own), "generate"):
            request = result.request
            made_by = Provenance(run=loaded.name, step=loaded.step, prompt=request.prompt, seed=result.seed)
            path = video_file(folder, own[position], request.num_frames)
            write_generated(path, decode_latent(decoder, result.latent), result.fps, made_by, {"label": request.label})
    ranks.barrier()


def _is_there(folder: Path, number: int, request: Request) -> bool:
    """Whether a video is whole, and of this prompt; a .json that is damaged says nothing of it."""
    path = video_file(folder, number, request.num_frames)
    try:
        facts = json.loads(path.with_suffix(".json").read_text())
        return path.is_file() and bool((facts["prompt"], facts["label"]) == (request.prompt, request.label))
    except (FileNotFoundError, ValueError, KeyError):
        return False


def see_videos(
    asked: Sequence[Request], folder: Path, fps: float, observer: Observer, ranks: RankGrid, watch: Watch
) -> SeenSet:
    """The videos of the folder."""
    seen: dict[int, Observation] = {}
    own = range(ranks.rank, len(asked), ranks.world_size)
    for number in watch(own, len(own), "look at samples"):
        path = video_file(folder, number, asked[number].num_frames)
        seen[number] = observer.see(decode_clip(path.read_bytes()).rgb, fps)
    names = [f"{number:05d}" for number in range(len(asked))]
    return _of_all(seen, names, [request.prompt for request in asked], observer, ranks)


def see_clips(
    clips: Sequence[RealClip], view: View, observer: Observer, ranks: RankGrid, watch: Watch, *, with_text: bool
) -> SeenSet:
    """Clips that fit the view; those that cannot be read are left out. Without text: features alone."""
    seen: dict[int, Observation] = {}
    own = range(ranks.rank, len(clips), ranks.world_size)
    for number in watch(own, len(own), "look at held-out clips" if with_text else "look at training clips"):
        try:
            rgb = clips[number].frames(view)
        except (MediaError, OSError, ValueError) as error:
            logger.warning("clip %s is left out: %s", clips[number].clip_id, error)
            continue
        seen[number] = observer.see(rgb, view.fps, with_text=with_text)
    prompts = [clip.caption for clip in clips] if with_text else []
    return _of_all(seen, [clip.clip_id for clip in clips], prompts, observer, ranks)


def write_nearest(figures: Figures, training: Sequence[RealClip], folder: Path, view: View, most: int) -> None:
    """The nearest training clips of the first videos, to be looked at beside them."""
    clips = {clip.clip_id: clip for clip in training}
    for video in figures.videos[:most]:
        if video.nearest is not None:
            data = encode_mp4(clips[video.nearest].frames(view), view.fps or 1)
            with publish(str(folder / "nearest" / f"{video.number:05d}.mp4")) as file:
                file.write(data)


def _of_all(
    seen: Mapping[int, Observation], names: Sequence[str], prompts: Sequence[str], observer: Observer, ranks: RankGrid
) -> SeenSet:
    """What the ranks have seen, in the order of the numbers; what none has is left out."""
    joined = {number: one for part in ranks.all_gather_object(dict(seen)) for number, one in part.items()}
    numbers = sorted(joined)
    kept = [prompts[number] for number in numbers] if prompts else []
    return SeenSet(
        videos=[joined[number] for number in numbers],
        names=[names[number] for number in numbers],
        prompts=kept,
        texts=observer.texts(kept),
    )
