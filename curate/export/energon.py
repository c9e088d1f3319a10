"""Tars for Megatron-Energon: samples as they were cut, and `.nv-meta/dataset.yaml`, which says that they are plain
dicts. `energon prepare` adds the index and the splits."""

from collections.abc import Iterator
from functools import partial
from typing import ClassVar, Literal

from curate.dataset.layout import shard_name
from curate.export.base import File, Layout, text_file
from curate.export.source import Source
from curate.export.webdataset import write_shard

DATASET_YAML = "__module__: megatron.energon\n__class__: CrudeWebdataset\n"
GUIDE = """\
Index it once, then read it:

```
energon prepare --non-interactive --skip-dataset-yaml PARTS DIR
```

```python
from megatron.energon import Cooker, DefaultTaskEncoder, WorkerConfig, get_loader, get_train_dataset, stateless


@stateless
def clip(sample):  # a dict: mp4 or png, txt, json
    return sample


class Clips(DefaultTaskEncoder):
    cookers = [Cooker(clip)]


workers = WorkerConfig.default_worker_config(num_workers=4)
options = {"shuffle_buffer_size": 100, "max_samples_per_sequence": 100, "worker_config": workers}
loader = get_loader(get_train_dataset("DIR", batch_size=None, task_encoder=Clips(), **options))
```
"""


class EnergonLayout(Layout):
    """Tars that `energon prepare` indexes."""

    kind: Literal["energon"] = "energon"
    takes_latents: ClassVar[bool] = True

    def files(self, source: Source) -> Iterator[File]:
        for split, number, _, rows in source.shards():
            write = partial(write_shard, source=source, rows=rows, both=False)
            yield File(name=shard_name(split, number), write=write, num_clips=rows.num_rows)
        yield text_file(".nv-meta/dataset.yaml", DATASET_YAML)

    def guide(self, source: Source) -> str:
        return GUIDE.replace("PARTS", " ".join(f"--split-parts '{split}:{split}-.*'" for split in source.splits))
