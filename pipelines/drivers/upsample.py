"""Prompts → captions in the style of a run. The driver behind `reelpack upsample` and `reelpack sample --upsample`."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from caption.prompt_examples import PromptExamples, choose_examples
from caption.upsample import UpsampleConfig, Upsampled, upsample
from curate.dataset.captions import caption_column
from curate.dataset.dataset import Dataset
from curate.storage.place import path_of
from curate.storage.publish import write_text

EXAMPLES = "prompt_examples.json"
"""Of a run's folder."""


def upsample_prompts(run: str, prompts: Sequence[str], config: UpsampleConfig) -> list[Upsampled]:
    """Each prompt as a caption of the run's style, or itself with the reason.

    Raises:
        ValueError: no run there, its dataset has no pairs of captions, or the model cannot be loaded.
    """
    examples = read_examples(run)
    writer = config.build()
    writer.setup()
    return [upsample(prompt, examples, config, writer) for prompt in prompts]


def read_examples(run: str) -> PromptExamples:
    """What the run keeps of its captions.

    Raises:
        ValueError: nothing.
    """
    file = path_of(run) / EXAMPLES
    if not file.is_file():
        raise ValueError(
            f"{file} is not there: no run, one of an earlier reelpack, or one whose clips lack a short or a dense "
            "caption; continue the training (it is written at the start), or give prompts as long as its captions"
        )
    try:
        return PromptExamples.from_json(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def keep_examples(datasets: str | Sequence[str], out: str) -> None:
    """Write what a run keeps of the captions of its training clips; nothing where no clip has a short and a dense one,
    or where the run has it."""
    file = path_of(out) / EXAMPLES
    if file.exists():
        return
    urls = [datasets] if isinstance(datasets, str) else datasets
    pairs = [pair for url in urls for pair in _pairs(Dataset(url).read_index())]
    if examples := choose_examples(pairs):
        write_text(str(file), examples.to_json())


def _pairs(index: pa.Table) -> list[tuple[str, str]]:
    """Short and dense caption of each training clip that has both."""
    columns = [caption_column("short"), caption_column("dense")]
    if not {"split", *columns} <= set(index.column_names):  # an earlier reelpack wrote it
        return []
    found = index.filter(pc.equal(index["split"], "train")).select(columns).drop_null()
    return list(zip(*(found[name].to_pylist() for name in columns), strict=True))
