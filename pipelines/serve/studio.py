"""A run behind a page: what it can be asked, the queue, and the one thread that generates."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from curate.schema import MediaError
from pipelines.generation.asked import command_of
from pipelines.generation.generator import Generator
from pipelines.serve.form import MOST_SEEDS, form_of
from pipelines.serve.gallery import Gallery
from pipelines.serve.jobs import Cancelled, Job, Queue, State
from pipelines.serve.uploads import Uploads
from train.autoencoder.record import config_of
from train.sampling.config import SampleConfig
from train.sampling.files import suffix_of
from train.sampling.samplers.config import AnySampler

logger = logging.getLogger(__name__)

USUAL_FRAMES = 17
"""Of a video that the page proposes, where the run was trained on so many."""


class Studio:
    """Args:
    generator: What makes files.
    config: How, where the page says nothing else.
    folder: Of the gallery.
    """

    def __init__(self, generator: Generator, config: SampleConfig, folder: Path) -> None:
        self.generator, self.config = generator, config
        self.gallery, self.queue = Gallery(folder), Queue()
        self.uploads = Uploads(self.gallery.given)

    def ask(self, values: Any) -> Job:
        """Put what the page sent into the queue.

        Raises:
            ValueError: The run cannot make it.
        """
        try:
            form = form_of(values)
            asked, config = form.asked(self.uploads), form.config(self.config)
            notes = [self.uploads.for_page(note) for note in self.generator.check(asked[0], config)]
        except (ValueError, OSError, MediaError) as error:
            raise ValueError(self.uploads.for_page(str(error))) from error
        return self.queue.add(asked, config, notes)

    def work(self) -> None:
        """Generate what is asked, without an end."""
        while True:
            self.run(self.queue.next())

    def run(self, job: Job) -> None:
        """Generate the videos of a job. What it fails of is its message; the next job can succeed."""
        try:
            job.progress(0.0)
            made = self.generator.make(job.asked, job.config, lambda number: self._place(job, number), job.progress)
            for _, path in made:
                job.files.append(path.name)
            self.queue.end(job, State.DONE)
        except Cancelled:
            self.queue.end(job, State.CANCELLED)
        except (ValueError, OSError, MediaError, RuntimeError, MemoryError) as error:  # out of memory, a full disk
            logger.warning("generation %d failed: %s", job.number, error)
            self.queue.end(job, State.FAILED, self.uploads.for_page(str(error)) or type(error).__name__)

    def items(self, before: str | None, limit: int) -> dict[str, Any]:
        """Some items of the gallery, newest first.

        Args:
            before: Those that are older than this one; None: the newest.
            limit: As many, at most.
        """
        names = self.gallery.names()
        older = [name for name in names if before is None or name < before]
        shown = ((name, self.gallery.facts(name)) for name in older[:limit])
        return {"total": len(names), "items": [self._item(name, facts) for name, facts in shown if facts is not None]}

    def state(self) -> dict[str, Any]:
        """What changes."""
        names = self.gallery.names()
        return {"jobs": self.queue.shown(), "newest": next(iter(names), None), "total": len(names)}

    def about(self) -> dict[str, Any]:
        """What the page has to know of the run."""
        first, config, record = self.generator.train_config, self.generator.last_config, self.generator.last_record
        stride_t, stride = int(record.latents["temporal_stride"]), int(record.latents["spatial_stride"])
        patch, encoded = config.model.patch, config_of(record.latents)
        step = stride * max(patch[1:])
        side = (encoded.max_area_px * 5 / 8) ** 0.5  # 8 : 5
        height = max(1, int(side / step)) * step
        width = max(1, int(side * 8 / 5 / step)) * step
        longest = 1 + (min(USUAL_FRAMES, encoded.max_frames) - 1) // stride_t * stride_t if record.fps else 1
        own = self.config.guidance
        return {
            "run": self.generator.name,
            "step": self.generator.step,
            "fps": self.config.fps or record.fps,
            "prompts": self.generator.takes_prompts,
            "negative": self.config.negative,
            "labels": list(self.generator.record.labels or map(str, range(first.model.num_classes or 0))),
            "conditions": list(config.model.conditions),
            "takes": sorted(self.generator.takes),
            "size": {"width": width, "height": height, "step": step},
            "frames": {"usual": longest, "step": stride_t if record.fps else 0},
            "samplers": self._samplers(),
            "sampler": self.config.sampler.kind,
            "num_steps": self.config.num_steps,
            "strength": self.config.strength,
            "guidance": own[0].weight if len(own) == 1 and own[0].kind == "constant" else None,
            "seed": self.config.seed,
            "most_seeds": MOST_SEEDS,
            "folder": str(self.gallery.folder),
        }

    def _samplers(self) -> list[str]:
        """Those that fit the run's objective."""
        gives = self.generator.train_config.objective.gives
        return [sampler.model_fields["kind"].default for sampler in get_args(AnySampler) if sampler.needs <= gives]

    def _item(self, name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        return {"name": name, "facts": facts, "command": command_of(self.generator.runs, facts)}

    def _place(self, job: Job, number: int) -> Path:
        one = job.asked[number]
        return self.gallery.place(one.seed, suffix_of(one.num_frames))
