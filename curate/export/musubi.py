"""For musubi-tuner: each clip beside its caption, one folder for each frame rate, and `dataset.toml`. musubi-tuner
takes the rate of videos from `source_fps`, which holds for a folder, not from the files."""

from collections.abc import Iterator
from typing import Any, Literal

import pyarrow.compute as pc
from pydantic import Field

from curate.export.base import File, Layout, text_file
from curate.export.folders import FOLDERS, pairs
from curate.export.source import Clip, Source
from curate.export.toml import settings_name, toml

GUIDE = """\
`dataset.toml` has an entry for each frame rate, because `source_fps` holds for a folder. The paths in it are those of
the export. A clip without caption has an empty `.txt`: where the file is missing, musubi-tuner stops.

```
python wan_cache_latents.py --dataset_config DIR/dataset.toml --vae …
python wan_cache_text_encoder_outputs.py --dataset_config DIR/dataset.toml --t5 …
accelerate launch wan_train_network.py --dataset_config DIR/dataset.toml …
```
"""


class MusubiLayout(Layout):
    """Folders of clips with `.txt`, and the files that name them."""

    kind: Literal["musubi"] = "musubi"
    resolution: tuple[int, int] = Field((960, 544), description="width and height in px, as an area")
    max_frames: int = Field(129, ge=1, description="longest clip, frames at the model's rate: longer ones are cut")

    def files(self, source: Source) -> Iterator[File]:
        yield from pairs(source, lambda clip: f"{clip.row['split']}/{_folder_of(clip)}")
        for split in source.splits:
            yield text_file(settings_name(split), self._settings(source, split))

    def _settings(self, source: Source, split: str) -> str:
        general = {
            "resolution": list(self.resolution),
            "caption_extension": ".txt",
            "batch_size": 1,
            "enable_bucket": True,
            "bucket_no_upscale": True,
        }
        return toml({"general": general}, datasets=list(self._datasets(source, split)))

    def _datasets(self, source: Source, split: str) -> Iterator[dict[str, Any]]:
        for kind in (kind for one, kind in source.groups if one == split):
            rates = pc.unique(source.rows(split, kind)["fps"]).to_pylist()
            for folder, rate in sorted({_folder(kind, rate): rate for rate in rates}.items()):
                folders = {
                    f"{kind}_directory": f"{source.out}/{split}/{folder}",
                    "cache_directory": f"{source.out}/{split}/cache_{folder}",
                }
                whole = {"frame_extraction": "full", "max_frames": self.max_frames, "source_fps": float(f"{rate:g}")}
                yield folders | (whole if kind == "video" else {})

    def guide(self, source: Source) -> str:
        return GUIDE


def _folder_of(clip: Clip) -> str:
    return _folder(clip.row["kind"], clip.row["fps"])


def _folder(kind: str, rate: float) -> str:
    return f"{FOLDERS[kind]}_{rate:g}fps" if kind == "video" else FOLDERS[kind]
