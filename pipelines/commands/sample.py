"""`reelpack sample`: generate videos from a trained run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipelines.commands.options import ConfigOption, DecoderOption, SetOption, StepOption
from pipelines.settings import resolved_config

if TYPE_CHECKING:
    from train.sampling.config import SampleConfig


def sample(
    run: Annotated[
        list[str],
        typer.Argument(help="run directory of a training; several: a cascade, from the first stage to the last"),
    ],
    prompt: Annotated[list[str] | None, typer.Option(help="what to show; repeat it for several videos")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="class of a run with labels, by name or number; repeatable")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="file of prompts (.txt, .jsonl, .csv); OUT is a folder, what is there stays"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="file to write, .mp4 (or .png for one frame); none: sample.mp4, of --prompts FILE its name"),
    ] = None,
    grid: Annotated[bool, typer.Option("--grid", help="also write all videos side by side in one file")] = False,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT, px")] = "128x80",
    frames: Annotated[int, typer.Option(min=1, help="number of frames")] = 17,
    start: Annotated[Path | None, typer.Option(help="picture to begin with, or clip to continue")] = None,
    end: Annotated[Path | None, typer.Option(help="picture to end with, or clip to lead to")] = None,
    keys: Annotated[
        list[str] | None, typer.Option(metavar="N=FILE", help="picture at frame N, counted from 0; repeatable")
    ] = None,
    video: Annotated[Path | None, typer.Option(help="video to edit (--mask, --strength) or to extend")] = None,
    mask: Annotated[
        Path | None, typer.Option(help="white where the video is made new: a picture, or a video of as many frames")
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="how much of the video is made new, above 0 to 1: sample.strength")
    ] = None,
    invert: Annotated[
        Path | None, typer.Option(help="clip to edit by inversion: led to noise, then made again under --prompt")
    ] = None,
    source_prompt: Annotated[
        str | None, typer.Option(help="what the clip of --invert shows; none: its caption: sample.source_prompt")
    ] = None,
    null_text: Annotated[
        int | None,
        typer.Option(min=0, help="iterations a step of null-text optimization, with --invert: sample.null_text"),
    ] = None,
    scores: Annotated[
        bool,
        typer.Option("--scores", help="say how alike the frames are, and how well they match the prompts (--invert)"),
    ] = False,
    extend: Annotated[
        Literal["back", "forward"] | None,
        typer.Option(help="generate what leads to the video, or what follows it"),
    ] = None,
    loop: Annotated[bool, typer.Option("--loop", help="return to the start")] = False,
    negative: Annotated[str | None, typer.Option(help="prompt that guidance leads away from: sample.negative")] = None,
    upsample: Annotated[
        bool, typer.Option("--upsample", help="write short prompts as captions of the run's style first")
    ] = False,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE[:STRENGTH]", help="low-rank updates to add to the run's model; repeatable: sample.lora"
        ),
    ] = None,
    autoencoder: DecoderOption = None,
    step: StepOption = None,
    config: ConfigOption = None,
    set: SetOption = None,
) -> None:
    """Generate videos from a trained run."""
    shown = {"prompt": prompt, "label": label, "start": start, "end": end, "keys": keys, "video": video}
    shown |= {"invert": invert}
    further = {"scores": scores, "mask": mask, "extend": extend, "loop": loop, "upsample": upsample}
    if prompts is not None and (others := [f"--{name}" for name, value in (shown | further).items() if value]):
        raise ValueError(f"--prompts {prompts} has what to show in its lines; leave {', '.join(others)} out")
    of_inversion = {"--source-prompt": source_prompt, "--null-text": null_text, "--scores": scores}
    if invert is None and (unused := [option for option, value in of_inversion.items() if value]):
        raise ValueError(f"{unused[0]} is of a clip that is edited by inversion: expected --invert FILE, too")
    if lora and len(run) > 1:
        raise ValueError(
            f"--lora {lora[0]} is of one model, and a cascade has {len(run)}; merge it into its run's model"
        )
    own = {"step": step, "negative": negative, "strength": strength, "lora": lora or None}
    own |= {"source_prompt": source_prompt, "null_text": null_text}
    given = [f"sample.{name}={json.dumps(value)}" for name, value in own.items() if value is not None]
    settings = resolved_config(config, [*(set or []), *given])
    resolved = settings.sample
    if prompts is not None:
        _of_file(run, prompts, out, size, frames, resolved, grid, autoencoder)
        return
    from pipelines.drivers.sample import sample_to_files
    from train.autoencoder.given import autoencoder_given
    from train.sampling.given_files import GivenFiles

    rewriting = settings.upsample if upsample else None
    paths = sample_to_files(
        run,
        prompt or (),
        out or Path("sample.mp4"),
        size,
        frames,
        resolved,
        labels=label or (),
        given=GivenFiles(
            start=start,
            end=end,
            keys=_by_frame(keys or ()),
            video=video,
            mask=mask,
            extend=extend,
            loop=loop,
            invert=invert,
        ),
        upsampling=rewriting,
        autoencoder=None if autoencoder is None else autoencoder_given(autoencoder),
        grid=grid,
        scores=settings.evaluate.text[0] if scores else None,
    )
    for path in paths:
        typer.echo(path)


def _of_file(
    runs: Sequence[str],
    file: Path,
    out: Path | None,
    size: str,
    frames: int,
    config: "SampleConfig",
    grid: bool,
    decoder: str | None,
) -> None:
    from pipelines.drivers.sample_prompts import sample_prompts
    from pipelines.generation.generator import Generator
    from train.autoencoder.given import autoencoder_given

    if out is not None and out.suffix in (".mp4", ".png"):
        raise ValueError(f"--out {out}: expected a folder, as --prompts {file} has several videos")
    generator = Generator(runs, config, None if decoder is None else autoencoder_given(decoder))
    folder = file.with_suffix("") if out is None else out
    for path in sample_prompts(generator, file, folder, size, frames, config, grid=grid):
        typer.echo(path)


def _by_frame(keys: Sequence[str]) -> dict[int, Path]:
    """`24=a.png` … by number."""
    found: dict[int, Path] = {}
    for key in keys:
        number, separator, path = key.partition("=")
        if not separator or not number.isdecimal() or not path:
            raise ValueError(f"--keys {key}: expected N=FILE, such as 24=a.png")
        if int(number) in found:
            raise ValueError(f"--keys {key}: frame {number} has a picture already; expected one for each frame")
        found[int(number)] = Path(path)
    return found
