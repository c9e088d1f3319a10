"""`reelpack autoencoder-check`: is an autoencoder good on these clips?"""

import json as json_lines
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pipelines.commands.options import ConfigOption, SetOption
from pipelines.console.tables import out as console
from pipelines.console.tables import size_text
from pipelines.settings import resolved_config

if TYPE_CHECKING:
    from pipelines.inspection.autoencoder_check import Comparison

NUM_WORST = 5
FEW_VIDEOS = "rFVD of a few clips is too high, the more so the fewer: compare it only at equal numbers of clips"


def autoencoder_check(
    source: Annotated[str, typer.Argument(help="dataset directory, a video, or a folder of videos")],
    autoencoder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="embedded, embedded-fsq, a folder of train-autoencoder, or settings such as "
            "'{kind: diffusers, path: FOLDER}'; repeatable; else that of encode.autoencoder",
        ),
    ] = None,
    perceptual: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="what compares frames: features (embedded), or settings such as '{kind: lpips, path: FILE}'; "
            "repeatable",
        ),
    ] = None,
    rfvd: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SETTINGS",
            help="network of videos for rFVD: '{kind: i3d, path: FILE}', '{kind: videomae, path: FOLDER}'; repeatable",
        ),
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="clips of the dataset, or excerpts of the videos")] = 32,
    video: Annotated[
        str | None, typer.Option(metavar="FILE", help="MP4 to write: source, reconstruction, error of the worst clips")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="one JSON object per autoencoder, for scripts")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Measure one or several autoencoders on your clips: reconstruction, flicker, latents, codes, speed, memory."""
    settings = resolved_config(config, set_).encode
    from pipelines.inspection.autoencoder_check import compare

    found = compare(
        source,
        autoencoder or (),
        settings,
        num_clips=clips,
        video=video,
        distances=perceptual or (),
        rfvd=rfvd or (),
    )
    if json:
        for name, check in zip(found.given, found.checks, strict=True):
            typer.echo(json_lines.dumps({"autoencoder": name, **asdict(check)}))
    else:
        show(found)


def show(found: "Comparison") -> None:
    table = Table("", *found.given, box=None, pad_edge=False)
    rows: dict[str, list[str]] = {}
    distances = dict.fromkeys(name for check in found.checks for clip in check.clips for name in clip.distances)
    of_videos = dict.fromkeys(name for check in found.checks for name in check.rfvd)
    for check in found.checks:
        psnr, ssim, flicker = (check.mean(name) for name in ("psnr_db", "ssim", "flicker"))
        std, mean, kurtosis = check.channel_std, check.channel_mean, check.channel_kurtosis
        cells = {
            "failed": str(len(check.failures)) if check.failures else "–",
            "PSNR, mean": "–" if psnr is None else f"{psnr:.2f} dB",
            "PSNR, worst clip": f"{check.clips[0].psnr_db:.2f} dB" if check.clips else "–",
            "SSIM": "–" if ssim is None else f"{ssim:.4f}",
            "flicker, of 255": "–" if flicker is None else f"{flicker:.2f}",
            **{name: _figure(check.mean(name)) for name in distances},
            **{name: _figure(check.rfvd.get(name)) for name in of_videos},
            "strides, channels": f"{check.spatial_stride} px, {check.temporal_stride} frames, {check.channels}",
            "bits per pixel": "–" if check.bits_per_pixel is None else f"{check.bits_per_pixel:.3f}",
            "latents: deviation of channels": f"{min(std):.2f} – {max(std):.2f}" if std else "–",
            "latents: largest mean of a channel": f"{max(map(abs, mean)):.2f}" if mean else "–",
            "latents: largest kurtosis": f"{max(kurtosis):.1f}" if kurtosis else "–",
            "latents: beyond 5": "–" if check.outliers is None else f"{check.outliers:.3%}",
            "latents: deviation of a posterior": _figure(check.posterior_std),
            "codes used": "–" if check.code_usage is None else f"{check.code_usage:.1%}",
            "perplexity": "–" if check.perplexity is None else f"{check.perplexity:,.0f}",
            "frames/s, encode": "–" if check.encoded_per_s is None else f"{check.encoded_per_s:,.1f}",
            "frames/s, decode": "–" if check.decoded_per_s is None else f"{check.decoded_per_s:,.1f}",
            "memory beyond the weights": "–" if check.memory_bytes is None else size_text(check.memory_bytes),
        }
        for name, cell in cells.items():
            rows.setdefault(name, []).append(cell)
    for name, values in rows.items():
        if set(values) != {"–"}:
            table.add_row(name, *values)
    console.print(f"{found.num_clips} clips")
    console.print(table)
    if of_videos:
        console.print(FEW_VIDEOS)
    for name, check in zip(found.given, found.checks, strict=True):
        console.print(f"worst by {name}:", markup=False)
        for clip in check.clips[:NUM_WORST]:
            seen = "".join(f"  {distance} {value:.3f}" for distance, value in clip.distances.items())
            console.print(f"  {clip.psnr_db:6.2f} dB  {clip.name}{seen}", markup=False)
        for failure in check.failures:
            console.print(f"  failed: {failure.subject}: {failure.detail}", markup=False)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
