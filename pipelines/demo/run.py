"""The whole pipeline on one machine: demo inputs → curate → caption → encode → train → sample → report.

Each step is the one behind its own command, with the shipped configuration `demo`; a rerun resumes where it stopped.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from rich.table import Table

from curate.dataset.dataset import Dataset
from curate.dataset.layout import Layout
from curate.report.build import build_report
from curate.shards.verify import verify_index
from pipelines.commands import caption as caption_command
from pipelines.commands import curate as curate_command
from pipelines.commands import train as train_command
from pipelines.config import load_config
from pipelines.console.progress import console
from pipelines.console.tables import out as stdout
from pipelines.console.tables import plain_table
from pipelines.demo.inputs import INPUTS, make_demo_inputs, write_pictures, write_titles
from pipelines.drivers import caption as caption_clips
from pipelines.drivers import curate as curate_videos
from pipelines.drivers import encode as encode_latents
from pipelines.drivers.train import train_here
from pipelines.generation.asked import Asked
from pipelines.generation.generator import Generator
from pipelines.generation.shown import make_shown
from pipelines.inspection.failures import standing_failures
from train.sampling.config import SampleConfig
from train.sampling.given_files import NOTHING, GivenFiles

PROMPTS = (
    "A big gray rabbit smiles happily.",
    "A flying squirrel glides in the blue sky.",
    "A red squirrel looks up with a dull face.",
    "A bird sings on a branch.",
)
WIDTH, HEIGHT, NUM_FRAMES = 128, 80, 17
Result = TypeVar("Result")


LARGER = "sample-0-larger"
"""The first sample at twice the size."""


def _asked(inputs: Path, pictures: tuple[Path, Path]) -> dict[str, Asked]:
    """Text to video, image to video, and interpolation between two frames of the held-out film; by file name."""
    first, last = pictures
    shown = [(f"sample-{number}", prompt, NOTHING) for number, prompt in enumerate(PROMPTS)]
    shown += [
        ("image-to-video", "A flying squirrel moves on a branch.", GivenFiles(start=inputs / "still_squirrel.jpg")),
        ("interpolation", "A big gray rabbit.", GivenFiles(start=first, end=last)),
    ]
    return {
        name: Asked(prompt=prompt, width=WIDTH, height=HEIGHT, num_frames=NUM_FRAMES, seed=seed, given=given)
        for seed, (name, prompt, given) in enumerate(shown)
    }


def run_demo(out: Path, overrides: Sequence[str] = ()) -> None:
    """Run the demo in `out`, print the outcome of every input and the path of the report."""
    config = load_config("demo", overrides)
    inputs, dataset, run = out / "inputs", str(out / "dataset"), out / "run"
    titles = out / "titles.csv"
    _step("make the demo's input files", lambda: make_demo_inputs(inputs))
    write_titles(titles)
    curated = _step("curate", lambda: curate_videos.curate([str(inputs)], dataset, config, sidecar=str(titles)))
    curate_command.show(curated, dataset)
    local = load_config("demo", [*overrides, "execute.executor=local"])
    captioned = _step("caption", lambda: caption_clips.caption(dataset, local))
    encoded = _step("encode", lambda: encode_latents.encode(dataset, local))
    trained = _step("train", lambda: train_here(dataset, str(run), config))
    asked = _asked(inputs, write_pictures(out / "pictures"))
    samples = [run / "samples" / f"{name}.mp4" for name in asked]
    larger = run / "samples" / f"{LARGER}.mp4"
    _step("sample", lambda: _generate(str(run), [*asked.values()], samples, larger, config.sample))
    report = _step("report", lambda: build_report(dataset, [str(run)], failures=standing_failures(Dataset(dataset))))
    problems = verify_index(Layout(dataset).shards, Dataset(dataset).read_index().to_pylist())
    stdout.print(_fates(dataset))
    table = plain_table()
    table.add_row("inputs", f"{curated.num_inputs}, of them {curated.num_failed_inputs} failed")
    rejected = {name[7:]: n for name, n in curated.funnel.items() if name.startswith("reject:")}
    table.add_row("clips kept", str(curated.funnel.get("keep", 0)))
    table.add_row("clips rejected", ", ".join(f"{n} {rule}" for rule, n in sorted(rejected.items())) or "0")
    table.add_row("clips failed", str(curated.funnel.get("failed", 0)))
    levels = ", ".join(f"{count} {level}" for level, count in captioned.levels.items())
    table.add_row("captions", f"{captioned.num_captions} ({levels}), by {captioned.family}")
    table.add_row("latent tokens", f"{encoded.num_tokens:,}")
    table.add_row("index and shards", "agree" if not problems else "; ".join(problems))
    stdout.print(table)
    caption_command.show(captioned)
    train_command.show(trained)
    for one, path in zip([*asked.values(), next(iter(asked.values()))], [*samples, larger], strict=True):
        stdout.print(f"sample: {path}  {one.prompt!r}")
    stdout.print(f"report: {report}")


def _generate(run: str, asked: Sequence[Asked], files: Sequence[Path], larger: Path, config: SampleConfig) -> None:
    """All samples, and the first one once more through the embedded network of super-resolution."""
    generator = Generator(run, config)
    doubled = config.model_copy(update={"super_resolution": "embedded"})
    for _ in make_shown(generator, asked, config, lambda number: files[number], "sample"):
        pass
    for _ in make_shown(generator, asked[:1], doubled, lambda _: larger, "enlarge"):
        pass


def _step(name: str, work: Callable[[], Result]) -> Result:
    start = time.monotonic()
    console.rule(name, align="left")
    result = work()
    console.print(f"{name}: {time.monotonic() - start:.0f} s", highlight=False)
    return result


def _fates(url: str) -> Table:
    """One line per input file: what it is, and its outcome."""
    dataset = Dataset(url)
    videos = {Path(row["uri"]).name: row for row in dataset.videos.rows()}
    clips = dataset.read_clips().to_pylist()
    table = Table("input", "what it is", "what became of it", box=None, pad_edge=False)
    for given in INPUTS:
        video = videos[given.name]
        if video["outcome"] == "failed":
            table.add_row(given.name, given.what, f"failed: {video['failure']}")
            continue
        fates = Counter(_fate(clip) for clip in clips if clip["video_id"] == video["video_id"])
        table.add_row(given.name, given.what, ", ".join(f"{n} {fate}" for fate, n in sorted(fates.items())))
    return table


def _fate(clip: dict[str, object]) -> str:
    reasons = clip["reasons"]
    assert isinstance(reasons, list)
    return {"keep": "kept"}.get(str(clip["decision"]), f"{clip['decision']} ({', '.join(reasons)})")
