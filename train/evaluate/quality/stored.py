"""What networks see of generated videos and of clips; the ranks share the work.

FOLDER/00000.mp4  00000.json  …  nearest/00000.mp4  …
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from curate.media.decode import decode_clip
from curate.media.encode import encode_mp4
from curate.schema import MediaError
from curate.storage.publish import publish
from train.distributed.ranks import RankGrid
from train.evaluate.quality.clips import RealClip, View
from train.evaluate.quality.figures import Figures
from train.evaluate.quality.kept import KeptObservations, key_of
from train.evaluate.quality.measure import SeenSet
from train.evaluate.quality.observe import Observation, Observer
from train.sampling.files import suffix_of

logger = logging.getLogger(__name__)
Watch = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""Passes items through, and shows how far they are: of items, their number, and what is done."""


def video_file(folder: Path, number: int, num_frames: int) -> Path:
    return folder / f"{number:05d}{suffix_of(num_frames)}"


def see_videos(
    files: Sequence[Path], prompts: Sequence[str], fps: float, observer: Observer, ranks: RankGrid, watch: Watch
) -> SeenSet:
    """Generated videos, each with its prompt."""
    seen: dict[int, Observation] = {}
    own = range(ranks.rank, len(files), ranks.world_size)
    for number in watch(own, len(own), "look at samples"):
        seen[number] = observer.see(decode_clip(files[number].read_bytes()).rgb, fps)
    return _of_all(seen, [file.stem for file in files], prompts, observer, ranks)


def see_clips(
    clips: Sequence[RealClip],
    view: View,
    observer: Observer,
    ranks: RankGrid,
    watch: Watch,
    kept_in: Path,
    *,
    with_text: bool,
) -> SeenSet:
    """Clips that fit the view; those that cannot be read are left out. Without text: features alone. What is seen is
    kept in `kept_in`, see `KeptObservations`."""
    kept = KeptObservations(kept_in, view, observer, with_text=with_text)
    before = ranks.all_gather_object(kept.read() if ranks.is_main else {})[0]  # the same for all ranks
    keys = [key_of(clip) for clip in clips]
    seen = {number: before[key] for number, key in enumerate(keys) if key in before and ranks.is_main}
    own = [number for number, key in enumerate(keys) if key not in before][ranks.rank :: ranks.world_size]
    for number in watch(own, len(own), "look at held-out clips" if with_text else "look at training clips"):
        try:
            rgb = clips[number].frames(view)
        except (MediaError, OSError, ValueError) as error:
            logger.warning("clip %s is left out: %s", clips[number].clip_id, error)
            continue
        seen[number] = observer.see(rgb, view.fps, with_text=with_text)
    prompts = [clip.caption for clip in clips] if with_text else []
    of_all = _of_all(seen, keys, prompts, observer, ranks)
    if ranks.is_main and (new := {k: v for k, v in zip(of_all.names, of_all.videos, strict=True) if k not in before}):
        kept.write(before | new)
    return replace(of_all, names=[key.partition("-")[0] for key in of_all.names])


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
