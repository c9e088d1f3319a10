"""From a dataset to a model and its videos: `train`, `sample`, `evaluate`. Each is the command of its name."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pipelines.console.interrupted import of_run
from pipelines.settings import File, Settings, resolved_config
from reelpack.dataset import Dataset, url_of
from reelpack.results import Evaluated, Sample, Sampled, Trained
from reelpack.running import running

Name = str | os.PathLike[str]


def train(
    dataset: Dataset | Name | Sequence[Dataset | Name],
    out: Name,
    *,
    config: File | None = None,
    settings: Settings | None = None,
) -> Trained:
    """Train a denoiser on packs of the encoded clips, in this process. A run that was stopped resumes from its last
    checkpoint.

    Args:
        dataset: a dataset or its directory; several are mixed by the setting `train.data.mix`.
        out: the run's directory.
        config: section `train`: `"dit_s"`, `"unet_s"`, … or a file.
        settings: likewise: `{"train.steps": 1000}`.

    Raises:
        Missing: the dataset has no latents; the message names the command.
        ValueError: another dataset or run than its folder holds, or a mistake in a setting.
        Interrupted: by Ctrl-C; the same call resumes.
    """
    run = os.fspath(out)
    given = [dataset] if isinstance(dataset, Dataset | str | os.PathLike) else dataset
    with running("train", of_run, run):
        from pipelines.drivers.train import train_here

        resolved = resolved_config(config, settings)
        return Trained.of(run, train_here([url_of(one) for one in given], run, resolved))


def sample(
    run: Name | Sequence[Name],
    prompt: str | Sequence[str] = (),
    *,
    out: Name = "sample.mp4",
    size: str | tuple[int, int] = "128x80",
    frames: int = 17,
    label: str | int | Sequence[str | int] = (),
    start: Name | None = None,
    end: Name | None = None,
    keys: Mapping[int, Name] | None = None,
    video: Name | None = None,
    mask: Name | None = None,
    extend: Literal["back", "forward"] | None = None,
    loop: bool = False,
    invert: Name | None = None,
    autoencoder: Name | None = None,
    grid: bool = False,
    config: File | None = None,
    settings: Settings | None = None,
) -> Sampled:
    """Generate videos, one per prompt and seed, or with one frame images.

    Args:
        run: directory of a training, or `"embedded"`; several: a cascade, from the first stage to the last.
        prompt: what to show, or several; `""` of a run without captions.
        out: file, .mp4 (.png for one frame); of several videos the file names are numbered.
        size: width and height, px: `(128, 80)` or `"128x80"`.
        frames: of each video.
        label: class of a run with labels, by name or number, or several.
        start: picture to begin with, or clip to continue.
        end: picture to end with, or clip to lead to.
        keys: pictures by number of a frame, from 0.
        video: video to edit (with `mask`, or the setting `sample.strength`), or to extend.
        mask: white where the video is made new: a picture, or a video of as many frames.
        extend: generate what leads to the video, or what follows it.
        loop: return to the start.
        invert: clip to edit by inversion.
        autoencoder: what decodes, of the same latents; None: what made those of the run.
        grid: also all videos side by side in one file.
        config: section `sample`.
        settings: likewise: `{"sample.num_steps": 20, "sample.seed": 7}`.

    Raises:
        ValueError: no run, a size that it cannot make, a file that cannot be read, or nothing to show.
    """
    resolved = resolved_config(config, settings).sample
    runs = [os.fspath(run)] if isinstance(run, str | os.PathLike) else [os.fspath(one) for one in run]
    with running("sample"):
        from pipelines.drivers.sample import sample_to_files
        from train.autoencoder.given import autoencoder_given
        from train.sampling.given_files import GivenFiles

        given = GivenFiles(
            start=_file(start),
            end=_file(end),
            keys={number: Path(picture) for number, picture in (keys or {}).items()},
            video=_file(video),
            mask=_file(mask),
            extend=extend,
            loop=loop,
            invert=_file(invert),
        )
        paths = sample_to_files(
            runs,
            _texts(prompt),
            Path(out),
            size if isinstance(size, str) else "x".join(map(str, size)),
            frames,
            resolved,
            labels=_texts(label),
            given=given,
            autoencoder=None if autoencoder is None else autoencoder_given(os.fspath(autoencoder)),
            grid=grid,
        )
    files = tuple(map(Sample, paths))
    return Sampled(samples=files[:-1] if grid else files, grid=files[-1] if grid else None)


def evaluate(
    run: Name,
    *,
    prompts: Name | None = None,
    samples: int = 64,
    against: Dataset | Name | Sequence[Dataset | Name] = (),
    size: str | tuple[int, int] | None = None,
    frames: int | None = None,
    config: File | None = None,
    settings: Settings | None = None,
) -> Evaluated:
    """Generate samples of a run and measure them beside real clips (docs/evaluation.md).

    Args:
        run: directory of a training.
        prompts: file of what they show; None: captions of held-out clips.
        samples: videos to generate. Those of the same settings that are there stay.
        against: datasets to compare with; none: what the run was trained on.
        size: width and height, px; None: that of most clips.
        frames: of a video; None: likewise.
        config: sections `evaluate` and `sample`.
        settings: likewise.

    Raises:
        ValueError: no run, or too few clips to compare with.
    """
    resolved = resolved_config(config, settings)
    beside = [against] if isinstance(against, Dataset | str | os.PathLike) else against
    with running("sample"):
        from pipelines.drivers import evaluate as driver

        found = driver.evaluate(
            os.fspath(run),
            resolved.evaluate,
            resolved.sample,
            num_samples=samples,
            prompts=_file(prompts),
            against=[url_of(one) for one in beside],
            size=size if size is None or isinstance(size, str) else "x".join(map(str, size)),
            num_frames=frames,
        )
    return Evaluated.of(found)


def _file(path: Name | None) -> Path | None:
    return None if path is None else Path(path)


def _texts(given: str | int | Sequence[str | int]) -> list[str]:
    return [str(one) for one in ([given] if isinstance(given, str | int) else given)]
