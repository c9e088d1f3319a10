"""`reelpack sample`: generate videos from a trained run."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import ConfigOption, SetOption, StepOption, resolved_config


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
        typer.Option(help="image to begin with, or clip to continue (runs with the task first_frames)"),
    ] = None,
    negative: Annotated[str | None, typer.Option(help="prompt that guidance leads away from: sample.negative")] = None,
    upsample: Annotated[
        bool, typer.Option("--upsample", help="write short prompts as captions of the run's style first")
    ] = False,
    autoencoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="what decodes, of the same latents: a folder of train-autoencoder, or settings; none: what made the "
            "latents of the run",
        ),
    ] = None,
    step: StepOption = None,
    config: ConfigOption = None,
    set: SetOption = None,
) -> None:
    """Generate videos from a trained run."""
    if not prompt and not label and not start:
        raise ValueError("got neither --prompt nor --label nor --start; expected what to show")
    settings = resolved_config(config, set)
    resolved = settings.sample
    if step is not None:
        resolved = resolved.model_copy(update={"step": step})
    if negative is not None:
        resolved = type(resolved).model_validate(resolved.model_dump() | {"negative": negative})
    from pipelines.drivers.sample import sample_to_files
    from train.autoencoder.given import autoencoder_given

    rewriting = settings.upsample if upsample else None
    paths = sample_to_files(
        run,
        prompt or (),
        out,
        size,
        frames,
        resolved,
        labels=label or (),
        start=start,
        upsampling=rewriting,
        autoencoder=None if autoencoder is None else autoencoder_given(autoencoder),
    )
    for path in paths:
        typer.echo(path)
