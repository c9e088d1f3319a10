"""A run that turns what is asked into files. It is loaded once, and makes any number of them."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from curate.storage.place import path_of
from pipelines.generation.asked import Asked
from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.config import AutoencoderConfig, autoencoder_of
from train.autoencoder.pixels import decode_latent
from train.run.folder import checkpoint_steps, read_run
from train.sampling.config import SampleConfig
from train.sampling.files import facts_of, write_generated
from train.sampling.given import Given
from train.sampling.given_files import GivenFiles
from train.sampling.loaded import LoadedRun
from train.sampling.provenance import Provenance
from train.sampling.read_given import read_given
from train.sampling.request import Request, check_requests
from train.sampling.sample import draw


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
        self.train_config, self.record = read_run(path_of(run))
        self.step = checkpoint_steps(path_of(run))[-1] if config.step is None else config.step
        self.config = config.model_copy(update={"step": self.step})

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
        request = self._request(asked)
        if asked.given and asked.given == GivenFiles(start=asked.given.start):  # files are not read yet: of one patch
            request = replace(request, given=Given(start=torch.empty(0, self.train_config.model.patch[0])))
        check_requests([request], config, self.train_config, self.record)

    def facts(self, asked: Asked, config: SampleConfig) -> dict[str, Any]:
        """What the .json of the file will say."""
        return facts_of(self._provenance(asked), asked.settings(config))

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
        requests = [self._with_inputs(one, config) for one in asked]
        for number, result in draw(self.loaded, requests, config, on_progress):
            one, path = asked[number], place(number)
            rgb = decode_latent(self.decoder, result.latent)
            write_generated(path, rgb, result.fps, self._provenance(one), one.settings(config))
            yield number, path

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

    def _with_inputs(self, asked: Asked, config: SampleConfig) -> Request:
        request = self._request(asked)
        if not asked.given:
            return request
        fps = config.fps or self.record.fps
        given = read_given(asked.given, request, self.train_config, self.record, self.decoder, fps)
        return replace(request, given=given)

    def provenance(self, prompt: str, seed: int | None = None, *, is_composite: bool = False) -> Provenance:
        """What a file of the run says of itself."""
        run = path_of(self.run).name
        return Provenance(run=run, step=self.step, prompt=prompt, seed=seed, is_composite=is_composite)

    def _provenance(self, asked: Asked) -> Provenance:
        return self.provenance(asked.prompt, asked.seed, is_composite=bool(asked.given))
