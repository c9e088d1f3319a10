"""A run, or a cascade of runs, that turns what is asked into files. What draws is loaded once, and makes any number.

All files of `sample`, its files of prompts, `serve` and `evaluate` are made here.
"""

import json
import logging
import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curate.device import pick_device
from pipelines.generation.asked import Asked
from pipelines.generation.plan import Plan, drawn_together
from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.config import AutoencoderConfig, autoencoder_of
from train.autoencoder.pixels import decode_latent
from train.autoencoder.super_resolution.folder import enlarged
from train.autoencoder.super_resolution.folder import load as load_super_resolution
from train.autoencoder.super_resolution.network import SuperResolution
from train.data.fingerprint import is_outdated
from train.data.tasks.base import described
from train.run.folder import chosen_step, run_folder
from train.sampling.cascade import draw_stages, plan_stages, read_stages
from train.sampling.config import SampleConfig
from train.sampling.files import facts_of, write_generated
from train.sampling.given import Given
from train.sampling.loaded import LoadedRun
from train.sampling.provenance import Provenance
from train.sampling.read_given import check_given, read_given
from train.sampling.request import Request, check_requests, notes_on
from train.sampling.sample import Generated, draw
from train.sampling.slide import Slide, draw_windows, plan_slide
from train.sampling.source_prompt import caption_of

logger = logging.getLogger(__name__)

Drawn = tuple[int, Generated, np.ndarray]
"""Number, last latent and pixels (T, H, W, 3) uint8 of a video."""


class Generator:
    """Args:
    runs: Directory of a training run; several: stages of a cascade, the first draws from the prompts alone. Of a
        cascade one stage at a time is in memory.
    config: Which checkpoint, weights and device.
    autoencoder: What decodes, of the same latents; None: what made those that the last run was trained on.

    Raises:
        ValueError: No run there, no such checkpoint, or none that can be sampled here.
    """

    def __init__(
        self, runs: str | Sequence[str], config: SampleConfig, autoencoder: AutoencoderConfig | None = None
    ) -> None:
        self.runs, self.chosen = (runs,) if isinstance(runs, str) else tuple(runs), autoencoder
        if not self.runs:
            raise ValueError("got no run; expected the folder of one, or several for a cascade")
        self.is_cascade = len(self.runs) > 1
        read = read_stages(self.runs, config)
        (self.train_config, self.record), (self.last_config, self.last_record) = read[0], read[-1]
        self.steps = [chosen_step(run_folder(run), config.step) for run in self.runs]
        self.config = config if self.is_cascade else config.model_copy(update={"step": self.step})
        self._networks: dict[str, SuperResolution] = {}
        self._slides: dict[tuple[int | None, ...], Slide | None] = {}  # each is said once
        for run, (_, record) in zip(self.runs, read, strict=True):
            if is_outdated(record.latents):
                logger.warning("%s was trained on latents of an earlier reelpack, which may have been scrambled", run)

    @property
    def step(self) -> int:
        """Of the last run's checkpoint."""
        return self.steps[-1]

    @property
    def name(self) -> str:
        """For people and in files."""
        return " + ".join(run_folder(run).name for run in self.runs)

    @cached_property
    def loaded(self) -> LoadedRun:
        return LoadedRun(self.runs[0], self.config)

    @cached_property
    def decoder(self) -> VideoAutoencoder:
        return autoencoder_of(self.last_record.latents, self._device, self.chosen)

    @cached_property
    def encoder(self) -> VideoAutoencoder:
        """Of what is given to the first stage."""
        return autoencoder_of(self.record.latents, self._device) if self.is_cascade else self.decoder

    def _super_resolution(self, name: str) -> SuperResolution:
        """Loaded once.

        Raises:
            ValueError: None is there.
        """
        if name not in self._networks:
            self._networks[name], settings = load_super_resolution(name, self._device)
            if settings.base_fingerprint != self.last_record.latents.get("autoencoder_fingerprint"):
                logger.warning(
                    "sample.super_resolution=%s was trained on what %s decodes (%s), not on the autoencoder of %s",
                    name,
                    settings.base_name,
                    settings.base_fingerprint,
                    self.name,
                )
        return self._networks[name]

    @property
    def _device(self) -> torch.device:
        return pick_device(self.config.device, setting="sample.device")

    def load(self) -> None:
        """Load all that is loaded once."""
        _ = self.decoder
        if not self.is_cascade:
            _ = self.loaded
            _ = self.takes_prompts and self.loaded.text_encoder

    @property
    def takes_prompts(self) -> bool:
        return self.train_config.model.reads_captions and bool(self.record.text.get("config"))

    @property
    def takes(self) -> frozenset[str]:
        """What a video can be generated from, besides the prompt: options of `reelpack sample`."""
        told = " ".join(task.takes for task in self.train_config.data.tasks if task.weight)
        return frozenset(re.findall(r"--(\w+)", told))

    def check(self, asked: Asked, config: SampleConfig) -> list[str]:
        """See that the runs can make this, before anything is loaded.

        Returns:
            What the user may not have meant, in words: a size beyond those trained on, a picture that is cut.

        Raises:
            ValueError: They cannot; with what would work.
        """
        asked.given.check_strength(config.strength)
        if config.super_resolution is not None:
            self._super_resolution(config.super_resolution)
        plan = self._planned(asked, config)
        request, settings = self._first(plan, config)
        notes = notes_on(request, self.record.latents)
        for stage in plan.stages[1:]:
            notes += notes_on(stage.request(request, 0, None), stage.record.latents)
        if asked.given:
            fps = settings.fps or self.record.fps
            given, cut = check_given(asked.given, request, self.train_config, self.record, fps)
            request, notes = replace(request, given=given), notes + cut
            if given.inverted:
                notes.append(f"--invert {asked.given.invert}: its own prompt is {request.source!r} (--source-prompt)")
        elif not any(task.weight and task.kind == "unconditional" for task in self.train_config.data.tasks):
            told = described(self.train_config.data.tasks)
            notes.append(f"{self.runs[0]} was trained on the tasks ({told}), and is given nothing")
        check_requests([request], settings, self.train_config, self.record)
        return notes

    def facts(self, asked: Asked, config: SampleConfig) -> dict[str, Any]:
        """What the .json of the file will say."""
        return facts_of(self._provenance(asked), self._settings(asked, config))

    def has_made(self, path: Path, asked: Asked, config: SampleConfig) -> bool:
        """Whether a file is there, whole, and of these settings."""
        try:
            made = json.loads(path.with_suffix(".json").read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return False
        return path.is_file() and bool(made == self.facts(asked, config))

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
            ValueError: The runs cannot make one of them.
        """
        read: dict[Hashable, Given] = {}
        plans = [self._with_inputs(one, config, read) for one in asked]
        for number, result, rgb in self._drawn(plans, config, on_progress):
            one, path = asked[number], place(number)
            if config.super_resolution is not None:
                rgb = enlarged(self._super_resolution(config.super_resolution), rgb, self._device)
            write_generated(path, rgb, result.fps, self._provenance(one), self._settings(one, config))
            yield number, path

    def _drawn(
        self, plans: Sequence[Plan], config: SampleConfig, on_progress: Callable[[float], None] | None
    ) -> Iterator[Drawn]:
        """Those that can be drawn together are."""
        done = 0
        for numbers in drawn_together(plans, config, self.train_config, self.record):

            def told(share: float, done: int = done, count: int = len(numbers)) -> None:
                if on_progress is not None:
                    on_progress((done + share * count) / len(plans))

            own = [plans[number] for number in numbers]
            yield from ((numbers[i], result, rgb) for i, result, rgb in self._together(own, config, told))
            done += len(numbers)

    def _together(self, plans: Sequence[Plan], config: SampleConfig, told: Callable[[float], None]) -> Iterator[Drawn]:
        requests, stages, slide = [plan.request for plan in plans], plans[0].stages, plans[0].slide
        if slide is not None:
            yield from draw_windows(self.loaded, requests, config, slide, self.decoder, told)
        elif stages:
            for i, result, _ in draw_stages(stages, requests, told):
                yield i, result, decode_latent(self.decoder, result.latent)
        else:
            for i, result in draw(self.loaded, requests, config, told):
                yield i, result, decode_latent(self.decoder, result.latent)

    def _planned(self, asked: Asked, config: SampleConfig) -> Plan:
        """Before what is given is read."""
        request = Request(
            prompt=asked.prompt,
            width=asked.width,
            height=asked.height,
            num_frames=asked.num_frames,
            label=asked.label,
            seed=asked.seed,
            negative=asked.negative,
            source=self.source(asked, config),
        )
        if self.is_cascade:
            return Plan(request, None, plan_stages(self.runs, request, config))
        key = request.width, request.height, request.num_frames, config.window_frames
        if key not in self._slides:
            self._slides[key] = plan_slide(request, config, self.train_config, self.record)
        if (slide := self._slides[key]) is None:
            return Plan(request, None, ())
        slide.check_given(asked.given)
        return Plan(replace(request, num_frames=slide.window), slide, ())

    def source(self, asked: Asked, config: SampleConfig) -> str:
        """What a clip that is inverted shows."""
        if (clip := asked.given.invert) is None:
            return ""
        return caption_of(clip, self.record) if config.source_prompt is None else config.source_prompt

    def _first(self, plan: Plan, config: SampleConfig) -> tuple[Request, SampleConfig]:
        """What the first stage draws, and how."""
        if not plan.stages:
            return plan.request, config
        return plan.stages[0].request(plan.request, 0, None), plan.stages[0].settings

    def _with_inputs(self, asked: Asked, config: SampleConfig, read: dict[Hashable, Given]) -> Plan:
        """With what is given, which is encoded once."""
        plan = self._planned(asked, config)
        if not asked.given:
            return plan
        request, settings = self._first(plan, config)
        key = str(asked.given.facts), request.width, request.height, request.num_frames
        if key not in read:
            fps = settings.fps or self.record.fps
            read[key] = read_given(asked.given, request, self.train_config, self.record, self.encoder, fps)
        return plan._replace(request=replace(plan.request, given=read[key]))

    def _settings(self, asked: Asked, config: SampleConfig) -> dict[str, Any]:
        return asked.settings(config) | ({"steps": self.steps} if self.is_cascade else {})

    def provenance(self, prompt: str, seed: int | None = None, *, is_composite: bool = False) -> Provenance:
        """What a file of the runs says of itself."""
        return Provenance(run=self.name, step=self.step, prompt=prompt, seed=seed, is_composite=is_composite)

    def _provenance(self, asked: Asked) -> Provenance:
        return self.provenance(asked.prompt, asked.seed, is_composite=bool(asked.given))
