"""The demo's dataset, curated and captioned by the embedded models, without its report and its training."""

from pathlib import Path

from pipelines.config import load_config
from pipelines.demo.inputs import make_demo_inputs, write_titles
from pipelines.drivers.caption import caption
from pipelines.drivers.curate import curate


def make_demo_dataset(out: Path) -> str:
    """Its path, a folder of `out`; a rerun resumes where it stopped."""
    dataset, titles = str(out / "dataset"), out / "titles.csv"
    config = load_config("demo", ["execute.executor=local"])
    make_demo_inputs(out / "inputs")
    write_titles(titles)
    curate([str(out / "inputs")], dataset, config, sidecar=str(titles))
    caption(dataset, config)
    return dataset
