"""A run that turns what is asked into files. It is loaded once, and makes any number of them."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from pipelines.generation.asked import Asked
from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.config import AutoencoderConfig, autoencoder_of
from train.autoencoder.pixels import decode_latent
from train.run.folder import checkpoint_steps, read_run, run_folder
from train.sampling.config import SampleConfig
from train.sampling.files import facts_of, write_generated
from train.sampling.given import Given
from train.sampling.given_files import GivenFiles
from train.sampling.loaded import LoadedRun
from train.sampling.provenance import Provenance
from train.sampling.read_given import read_given
from train.sampling.request import Request, check_requests
from train.sampling.sample import Generated, draw
from train.sampling.slide import Slide, draw_windows, plan_slide

Plan: TypeAlias = tuple[Request, Slide | None]
"""What is drawn at once, and of a long video its windows."""


class Generator:
    """Args:
    run: Directory of a training run.
    config: Which checkpoint, weights and device.
    autoencoder: What decodes, of the same latents; None: what made those that the run was trained on.

    Raises:
        ValueError: No run there, or none that can be sampled here.
    """

    def __init__(self, run: str, config: SampleConfig, autoencoder: AutoencoderConfig | None = None) -> None:
        self.run, self.chosen = run, autoencoder
        self.train_config, self.record = read_run(run_folder(run))
        self.step = checkpoint_steps(run_folder(run))[-1] if config.step is None else config.step
        self.config = config.model_copy(update={"step": self.step})
        self._slides: dict[tuple[int | None, ...], Slide | None] = {}  # each is said once

    @property
    def name(self) -> str:
        return run_folder(self.run).name

    @cached_property
    def loaded(self) -> LoadedRun:
        return LoadedRun(self.run, self.config)

    @cached_property
    def decoder(self) -> VideoAutoencoder:
        return autoencoder_of(self.record.latents, chosen=self.chosen)

    def load(self) -> None:
        """Load all that is loaded once."""
        _ = self.loaded, self.decoder
        if self.takes_prompts:
            _ = self.loaded.text_encoder

    @property
    def takes_prompts(self) -> bool:
        return self.train_config.model.reads_captions and bool(self.record.text.get("config"))

    @property
    def takes(self) -> frozenset[str]:
        """What a video can be generated from, besides the prompt: options of `reelpack sample`."""
        told = " ".join(task.takes for task in self.train_config.data.tasks if task.weight)
        return frozenset(re.findall(r"--(\w+)", told))

    def check(self, asked: Asked, config: SampleConfig) -> None:
        """See that the run can make this, before anything is loaded.

        Raises:
            ValueError: It cannot; with what would work.
        """
        request, slide = self._planned(asked, config)
        is_start_alone = asked.given == GivenFiles(start=asked.given.start)
        if slide is not None and not is_start_alone:
            slide.check_given(Given(frames={0: torch.empty(0)}))
        if asked.given and is_start_alone:  # files are not read yet: of one patch
            request = replace(request, given=Given(start=torch.empty(0, self.train_config.model.patch[0])))
        check_requests([request], config, self.train_config, self.record)

    def rate(self, asked: Asked, config: SampleConfig) -> float:
        """Frames per second of a video."""
        return config.fps or self.record.fps

    def settings(self, asked: Asked, config: SampleConfig) -> dict[str, Any]:
        """What a video was made with."""
        return asked.settings(config)

    def facts(self, asked: Asked, config: SampleConfig) -> dict[str, Any]:
        """What the .json of the file will say."""
        return facts_of(self._provenance(asked), self.settings(asked, config))

    def make(
        self,
        asked: Sequence[Asked],
        config: SampleConfig,
        place: Callable[[int], Path],
        on_progress: Callable[[float], None] | None = None,
    ) -> Iterator[tuple[int, Path]]:
        """Generate and write, pack by pack.

        Args:
            asked: What to generate.
            config: How; checkpoint, weights and device stay those of the generator.
            place: The file of the video with this number, asked when it is there.
            on_progress: See `draw`.

        Yields:
            The number of a video, and its file.

        Raises:
            ValueError: The run cannot make one of them.
        """
        plans = [self._with_inputs(one, config) for one in asked]
        for number, result, rgb in self._drawn(plans, config, on_progress):
            one, path = asked[number], place(number)
            write_generated(path, rgb, result.fps, self._provenance(one), self.settings(one, config))
            yield number, path

    def _drawn(
        self, plans: Sequence[Plan], config: SampleConfig, on_progress: Callable[[float], None] | None
    ) -> Iterator[tuple[int, Generated, np.ndarray]]:
        """Number, last latent and pixels of each video: those that are drawn whole together, then the long ones."""
        whole = [number for number, (_, slide) in enumerate(plans) if slide is None]
        done = 0

        def told(count: int) -> Callable[[float], None] | None:
            before = done
            return on_progress and (lambda share: on_progress((before + share * count) / len(plans)))

        if whole:
            for i, result in draw(self.loaded, [plans[number][0] for number in whole], config, told(len(whole))):
                yield whole[i], result, decode_latent(self.decoder, result.latent)
        done = len(whole)
        for number, (request, slide) in enumerate(plans):
            if slide is not None:
                windows = draw_windows(self.loaded, [request], config, slide, self.decoder, told(1))
                yield from ((number, result, rgb) for _, result, rgb in windows)
                done += 1

    def _planned(self, asked: Asked, config: SampleConfig) -> Plan:
        """What is drawn at once: a video, or the first window of a long one."""
        request = self._request(asked)
        key = request.width, request.height, request.num_frames, config.window_frames
        if key not in self._slides:
            self._slides[key] = plan_slide(request, config, self.train_config, self.record)
        slide = self._slides[key]
        return (request if slide is None else replace(request, num_frames=slide.window)), slide

    def _request(self, asked: Asked) -> Request:
        return Request(
            prompt=asked.prompt,
            width=asked.width,
            height=asked.height,
            num_frames=asked.num_frames,
            label=asked.label,
            seed=asked.seed,
            negative=asked.negative,
        )

    def _with_inputs(self, asked: Asked, config: SampleConfig) -> Plan:
        request, slide = self._planned(asked, config)
        if not asked.given:
            return request, slide
        fps = self.rate(asked, config)
        given = read_given(asked.given, request, self.train_config, self.record, self.decoder, fps)
        if slide is not None:
            slide.check_given(given)
        return replace(request, given=given), slide

    def provenance(self, prompt: str, seed: int | None = None, *, is_composite: bool = False) -> Provenance:
        """What a file of the run says of itself."""
        return Provenance(run=self.name, step=self.step, prompt=prompt, seed=seed, is_composite=is_composite)

    def _provenance(self, asked: Asked) -> Provenance:
        return self.provenance(asked.prompt, asked.seed, is_composite=bool(asked.given))
