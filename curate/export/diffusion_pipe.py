"""For diffusion-pipe: each clip beside its caption, and one `dataset.toml` for the folders of a split. It takes every
file of a folder that is no text, JSON, Parquet or cache for a picture or a video: the folders hold nothing else."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from curate.export.base import File, Layout, text_file
from curate.export.folders import FOLDERS, folder_of, pairs
from curate.export.source import Source
from curate.export.toml import settings_name, toml

GUIDE = """\
In the training file: `dataset = 'DIR/dataset.toml'`, and `eval_datasets = [{name = 'held_out', config =
'DIR/dataset_val.toml'}]` for the clips that are held out. The paths in them are those of the export.

```
deepspeed --num_gpus=1 train.py --deepspeed --config training.toml
```
"""


class DiffusionPipeLayout(Layout):
    """Folders of clips with `.txt`, and the files that name them."""

    kind: Literal["diffusion-pipe"] = "diffusion-pipe"
    resolutions: tuple[int, ...] = Field((512,), description="sides in px of squares with the area of the frames")
    frame_buckets: tuple[int, ...] = Field(
        (1, 33), description="frames at the model's rate; shorter clips are dropped"
    )

    def files(self, source: Source) -> Iterator[File]:
        yield from pairs(source, folder_of)
        for split in source.splits:
            yield text_file(settings_name(split), self._settings(source, split))

    def _settings(self, source: Source, split: str) -> str:
        paths = [f"{source.out}/{split}/{FOLDERS[kind]}" for one, kind in source.groups if one == split]
        general = {
            "resolutions": list(self.resolutions),
            "enable_ar_bucket": True,
            "min_ar": 0.5,
            "max_ar": 2.0,
            "num_ar_buckets": 7,
            "frame_buckets": list(self.frame_buckets),
        }
        return toml(general, directory=[{"path": path, "num_repeats": 1} for path in paths])

    def guide(self, source: Source) -> str:
        return GUIDE
