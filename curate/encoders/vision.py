"""Vision models of transformers (DINOv2, DINOv3, ViT, the image towers of CLIP and SigLIP): features of patches."""

from functools import cached_property
from inspect import signature
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.device import pick_device
from curate.encoders import torchvision_cpu
from curate.encoders.batches import in_batches
from curate.encoders.fingerprint import path_digest
from curate.encoders.hub import resolve_commit
from curate.encoders.resize import near_square, resized
from curate.schema import content_digest

if TYPE_CHECKING:
    import torch

UNUSED = ("pooler.", "head.")
"""Weights that no patch's features depend on."""
MAX_PREFIX = 16
"""Tokens before those of patches, at most: of the class, and registers."""


class VisionConfig(BaseModel):
    """A vision model of transformers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["transformers"] = "transformers"
    model: str = Field(description="a local folder, or a hub id such as facebook/dinov2-base")
    revision: str | None = Field(None, description="commit, branch or tag of a hub id; none: main")
    side_px: int | None = Field(
        None,
        ge=1,
        description="images keep their shape, at the area of a square of this side; null: that of the model's images",
    )
    batch_size: int = Field(32, ge=1, description="images per forward pass")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<n>")

    def build(self) -> "VisionEncoder":
        return VisionEncoder(self)


class VisionEncoder:
    """The last hidden states of an image's patches."""

    def __init__(self, config: VisionConfig) -> None:
        self.config = config
        self._model: Any = None
        self._processor: Any = None
        self._device: torch.device

    @cached_property
    def fingerprint(self) -> str:
        """Local weights by content, hub ids by commit."""
        folder = Path(self.config.model).expanduser()
        content = path_digest(folder) if folder.is_dir() else f"hub:{self.config.model}@{self._commit}"
        return content_digest("vision", content, str(self.config.side_px))

    @cached_property
    def _commit(self) -> str:
        return resolve_commit(self.config.model, self.config.revision, "image encoder model")

    def setup(self) -> None:
        """Load the weights; the second call does nothing.

        Raises:
            ValueError: transformers cannot load them, they are incomplete, or they are no vision model's.
        """
        if self._model is not None:
            return
        torchvision_cpu.repair()
        from safetensors import SafetensorError
        from transformers import AutoImageProcessor, AutoModel

        folder = Path(self.config.model).expanduser()
        source, options = (str(folder), {}) if folder.is_dir() else (self.config.model, {"revision": self._commit})
        try:
            model, report = AutoModel.from_pretrained(source, output_loading_info=True, **options)
            self._processor = AutoImageProcessor.from_pretrained(source, **options)
        except (EOFError, LookupError, OSError, RuntimeError, SafetensorError, UnpicklingError, ValueError) as error:
            raise ValueError(
                f"image encoder model {self.config.model!r}: transformers cannot load it. Expected a local folder "
                f"with config, weights and preprocessor_config.json, or a hub id: {error}"
            ) from error
        if missing := sorted(name for name in report["missing_keys"] if not name.startswith(UNUSED)):
            raise ValueError(
                f"image encoder model {self.config.model!r}: its weights lack {len(missing)} tensors: {missing[0]} …"
            )
        model = getattr(model, "vision_model", model)  # of models of images and texts
        if model.main_input_name != "pixel_values":
            raise ValueError(f"image encoder model {self.config.model!r}: {type(model).__name__} does not read images")
        self._device = pick_device(self.config.device)
        self._model = model.to(self._device).eval()

    def patch_features(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W, 3) uint8 RGB to (N, f, h, w) float32, without the tokens before those of patches.

        Raises:
            ValueError: the model does not take images of this shape, or its states are no grid of patches.
        """
        import torch

        settings, processor = self._model.config, self._processor
        patch = int(getattr(settings, "patch_size", 1))
        size = near_square(images.shape[1:3], self.config.side_px or int(settings.image_size), patch)
        mean, std = (torch.tensor(given).view(3, 1, 1) for given in (processor.image_mean, processor.image_std))
        options = {"interpolate_pos_encoding": True}
        options = {name: on for name, on in options.items() if name in signature(self._model.forward).parameters}

        def maps(batch: np.ndarray) -> np.ndarray:
            pixels = (resized(batch, size) * processor.rescale_factor - mean) / std
            with torch.inference_mode():
                states = self._model(pixels.to(self._device), **options).last_hidden_state.float()
            return self._on_grid(states, (size[0] // patch, size[1] // patch)).cpu().numpy()

        return in_batches(maps, images, self.config.batch_size)

    def _on_grid(self, states: "torch.Tensor", grid: tuple[int, int]) -> "torch.Tensor":
        """(N, prefix + h * w, f) to (N, f, h, w); of a convolutional network they are that."""
        if states.ndim == 4:
            return states
        prefix = states.shape[1] - grid[0] * grid[1]
        if not 0 <= prefix <= MAX_PREFIX:
            raise ValueError(
                f"image encoder model {self.config.model!r}: got {states.shape[1]} states of an image, expected those "
                f"of {grid[0]} x {grid[1]} patches after at most {MAX_PREFIX} others; take a vision transformer"
            )
        return states[:, prefix:].transpose(1, 2).unflatten(2, grid)
