"""States of a picture's patches by the image tower of a CLIP model, as Wan image-to-video reads them.

The penultimate layer, with the class token, of a picture that the tower's own processor prepares
(`WanImageToVideoPipeline.encode_image`).
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.device import pick_device
from curate.encoders import torchvision_cpu
from curate.encoders.fingerprint import path_digest
from curate.encoders.hub import resolve_commit
from curate.schema import content_digest

if TYPE_CHECKING:
    import torch

LAYER = -2
UNUSED = ("post_layernorm", "visual_projection", "text_model", "vision_model.post_layernorm")
"""Parts of weights that the states do not depend on."""


class PictureStatesConfig(BaseModel):
    """The image encoder of a pipeline of diffusers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(description="folder of the pipeline, or its hub id")
    revision: str | None = Field(None, description="commit, branch or tag of a hub id; none: main")
    subfolder: str = Field("image_encoder", description="folder of the image encoder in it, a CLIPVisionModel")
    processor: str = Field("image_processor", description="folder of the processor in it")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<n>")

    def build(self, worker: "torch.device | None" = None) -> "PictureStates":
        """Not loaded yet; on `worker`, the device of a training process, where the settings allow it."""
        return PictureStates(self, worker)


class PictureStates:
    """Cheap to construct; `setup` loads the weights."""

    def __init__(self, config: PictureStatesConfig, worker: "torch.device | None" = None) -> None:
        self.config = config
        self._device = pick_device(config.device, setting="encode.picture.device", worker=worker)
        self._model: Any = None
        self._processor: Any = None

    @cached_property
    def fingerprint(self) -> str:
        """Local files by content, those of a hub id by commit."""
        folder = Path(self.config.model).expanduser()
        parts = (self.config.subfolder, self.config.processor)
        if folder.is_dir():
            return content_digest("picture", *(path_digest(folder / part) for part in parts))
        return content_digest("picture", f"hub:{self.config.model}@{self._commit}", *parts)

    @cached_property
    def _commit(self) -> str:
        return resolve_commit(self.config.model, self.config.revision, "encode.picture.model")

    def setup(self) -> None:
        """Load the weights; the second call does nothing.

        Raises:
            ValueError: transformers cannot load them, or they are incomplete.
        """
        if self._model is not None:
            return
        torchvision_cpu.repair()
        from safetensors import SafetensorError
        from transformers import CLIPImageProcessor, CLIPVisionModel

        config, folder = self.config, Path(self.config.model).expanduser()
        source, options = (str(folder), {}) if folder.is_dir() else (config.model, {"revision": self._commit})
        try:
            model, report = CLIPVisionModel.from_pretrained(
                source, subfolder=config.subfolder, output_loading_info=True, **options
            )
            self._processor = CLIPImageProcessor.from_pretrained(source, subfolder=config.processor, **options)
        except (EOFError, LookupError, OSError, RuntimeError, SafetensorError, UnpicklingError, ValueError) as error:
            raise ValueError(
                f"encode.picture: transformers cannot load the image encoder {config.subfolder} and the processor "
                f"{config.processor} of {config.model!r}; expected a pipeline of Wan 2.1 image-to-video: {error}"
            ) from error
        missing = sorted(name for name in report["missing_keys"] if not any(part in name for part in UNUSED))
        if missing:
            raise ValueError(
                f"encode.picture: the weights of {config.subfolder} of {config.model!r} lack {len(missing)} tensors: "
                f"{missing[0]} …"
            )
        self._model = model.float().to(self._device).eval()

    @property
    def dim(self) -> int:
        """D of `states`. Known after `setup`."""
        return int(self._model.config.hidden_size)

    @property
    def num_states(self) -> int:
        """n of `states`, the class token among them. Known after `setup`."""
        return 1 + (int(self._model.config.image_size) // int(self._model.config.patch_size)) ** 2

    def states(self, images: Sequence[np.ndarray]) -> "torch.Tensor":
        """N >= 1 images, (H, W, 3) uint8 RGB of any sizes, to (N, n, D) float32 on the CPU."""
        import torch

        pixels = self._processor(images=list(images), return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            hidden = self._model(pixel_values=pixels.to(self._device), output_hidden_states=True).hidden_states
        states: torch.Tensor = hidden[LAYER].float().cpu()
        return states
