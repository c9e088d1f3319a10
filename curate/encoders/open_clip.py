"""open_clip: any CLIP-like model that it knows, with weights from its hub tags or from a local checkpoint."""

import difflib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors import SafetensorError

from curate.device import pick_device
from curate.encoders import torchvision_cpu
from curate.encoders.batches import in_batches
from curate.encoders.fingerprint import path_digest
from curate.encoders.resize import resized
from curate.encoders.weights import MissingWeights
from curate.schema import content_digest

if TYPE_CHECKING:
    import torch

    from curate.encoders.base import Backbone

MISFITS = (
    AssertionError, AttributeError, EOFError, LookupError, OSError, RuntimeError, SafetensorError, TypeError,
    UnpicklingError, ValueError,
)  # fmt: skip
"""What open_clip raises over weights of another architecture, and over files that are none."""
CHECKPOINT_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".safetensors", ".npz", ".npy"})
LOCAL_DIR, HF_HUB = "local-dir:", "hf-hub:"
PREPROCESSING = {
    "image_mean": "mean",
    "image_std": "std",
    "image_interpolation": "interpolation",
    "image_resize_mode": "resize_mode",
}
"""Option of open_clip's loader → what its tags call it."""
OF_OPEN_CLIP = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
    "image_interpolation": "bicubic",
    "image_resize_mode": "shortest",
}
"""What open_clip does to pictures for the path of any checkpoint."""


class OpenClipConfig(BaseModel):
    """Which open_clip model. Random weights cannot be asked for.

    `model: ViT-L-14:openai` names architecture and weights in one: `model: ViT-L-14`, `pretrained: openai`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["open_clip"] = "open_clip"
    model: str = Field(
        "ViT-B-32",
        description="architecture known to open_clip, or <architecture>:<pretrained>; or local-dir:<folder> or "
        "hf-hub:<org>/<name>, which hold the architecture, the weights and the preprocessing",
    )
    pretrained: str | None = Field(
        None, description="open_clip's tag of the weights, or path of a checkpoint; none where `model` names them"
    )
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    batch_size: int = Field(32, ge=1, description="images or texts per forward pass")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<n>")

    @model_validator(mode="before")
    @classmethod
    def _apart(cls, given: Any) -> Any:
        model = given.get("model") if isinstance(given, Mapping) else None
        if not isinstance(model, str) or ":" not in model or model.startswith((LOCAL_DIR, HF_HUB)):
            return given
        architecture, _, pretrained = model.partition(":")
        if given.get("pretrained"):
            raise ValueError(f"model {model} names its weights; leave out `pretrained` (got {given['pretrained']!r})")
        return {**given, "model": architecture, "pretrained": pretrained}

    @model_validator(mode="after")
    def _weights_are_named(self) -> "OpenClipConfig":
        holds_weights = self.model.startswith((LOCAL_DIR, HF_HUB))
        if holds_weights and self.pretrained:
            raise ValueError(f"model {self.model} holds its weights; leave out `pretrained` (got {self.pretrained!r})")
        if not holds_weights and not self.pretrained:
            raise ValueError(
                f"model {self.model} needs `pretrained`: a tag of open_clip or the path of a checkpoint, also as "
                f"`model: {self.model}:<tag or path>`"
            )
        return self

    def build(self) -> "OpenClipEncoder":
        return OpenClipEncoder(self)


class OpenClipEncoder:
    """Images and texts in one open_clip model's space, with the preprocessing it was evaluated with."""

    def __init__(self, config: OpenClipConfig) -> None:
        self.config = config
        self.backbone: Backbone = self
        """Image embeddings come out of the model in one step: they are its features."""
        self._model: Any = None
        self._preprocess: Any = None
        self._tokenizer: Any = None
        self._device: torch.device

    @property
    def name(self) -> str:
        return f"open_clip {self.config.model} {self.config.pretrained or ''}".rstrip()

    def setup(self) -> None:
        """Load model, preprocessing and tokenizer.

        Raises:
            MissingWeights: a local checkpoint or folder that is not there.
            ValueError: open_clip knows neither the model nor the tag, or cannot load the weights.
        """
        if self._model is None:
            model, self._preprocess, self._tokenizer = self.load()
            self._model = model.eval()

    def load(self) -> tuple[Any, Any, Any]:
        """Model (on the device), preprocessing of an image and tokenizer of texts, as open_clip makes them.

        Raises:
            MissingWeights, ValueError: as `setup`.
        """
        self.local_path()
        torchvision_cpu.repair()
        import open_clip

        config, as_trained = self.config, self.as_trained
        self._device = pick_device(config.device)
        try:
            model, preprocess = open_clip.create_model_from_pretrained(
                config.model, config.pretrained, precision=config.precision, device=self._device, **as_trained
            )
            return model, preprocess, open_clip.get_tokenizer(config.model)
        except MISFITS as error:
            raise ValueError(
                f"image–text encoder {self.name}: open_clip cannot load it: {_first_line(error)}. Is `pretrained` a "
                f"checkpoint of `model` ({config.model})? SigLIP's tokenizer is on the hub, or in a "
                f"{LOCAL_DIR} folder"
            ) from error

    @cached_property
    def fingerprint(self) -> str:
        """Names the function: local weights by content, hub weights by model name and tag; precision.

        Raises:
            MissingWeights: a local checkpoint or folder that is not there.
            ValueError: open_clip knows no such architecture, or no such tag of it.
        """
        local = self.local_path()
        model = "local" if self.config.model.startswith(LOCAL_DIR) else self.config.model
        source = path_digest(local) if local else str(self.config.pretrained)
        as_trained = [f"{name}={value}" for name, value in sorted(self.as_trained.items())]
        return content_digest("open_clip", model, source, self.config.precision, *as_trained)

    @cached_property
    def as_trained(self) -> dict[str, Any]:
        """What open_clip is told, since it does not take it from the weights: the activation of a tag that was trained
        with QuickGELU, and for a checkpoint's path the preprocessing that all tags of its architecture have.

        Raises:
            ValueError: open_clip knows no such architecture, or no such tag of it.
        """
        name, pretrained = self.config.model, self.config.pretrained
        if pretrained is None:  # the folder says everything
            return {}
        torchvision_cpu.repair()
        import open_clip
        from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

        if (architecture := open_clip.get_model_config(name)) is None:
            near = difflib.get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.5)
            raise ValueError(f"open_clip: got model {name!r}, which is none of its {_or_few(near)}")
        tags = list_pretrained_tags_by_model(name)
        if self.local_path() is None:
            if pretrained not in tags:
                raise ValueError(
                    f"open_clip: got pretrained {pretrained!r}, expected the path of a checkpoint, or a tag of {name} "
                    f"({', '.join(tags) or 'it has none'})"
                )
            is_quick = get_pretrained_cfg(name, pretrained).get("quick_gelu") and not architecture.get("quick_gelu")
            return {"force_quick_gelu": True} if is_quick else {}
        known = [get_pretrained_cfg(name, tag) for tag in tags]
        seen = {option: {str(one.get(key)): one.get(key) for one in known} for option, key in PREPROCESSING.items()}
        agreed = {option: next(iter(values.values())) for option, values in seen.items() if len(values) == 1}
        return {option: value for option, value in agreed.items() if value not in (None, OF_OPEN_CLIP[option])}

    @property
    def on_gpu(self) -> bool:
        return self._device.type != "cpu"

    def features(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """N images, (H, W, 3) uint8 RGB, to their (N, d) float32 embeddings of unit length."""
        import torch
        from open_clip import get_input_dtype
        from PIL import Image

        dtype = get_input_dtype(self.config.precision)

        def embed(batch: Sequence[np.ndarray]) -> np.ndarray:
            pixels = torch.stack([self._preprocess(Image.fromarray(image)) for image in batch])
            with torch.inference_mode():
                return _numpy(self._model.encode_image(pixels.to(self._device, dtype), normalize=True))

        return in_batches(embed, images, self.config.batch_size)

    def embed_features(self, features: np.ndarray) -> np.ndarray:
        """The features are the embeddings."""
        return features

    def embed_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """N images, (H, W, 3) uint8 RGB, to (N, d) float32 of unit length."""
        return self.features(images)

    def patch_features(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W, 3) uint8 RGB, scaled to the model's square, to the tokens of its last layer as a map: (N, f, h, w)
        float32.

        Raises:
            ValueError: its image tower has no such tokens.
        """
        import torch
        from open_clip import get_input_dtype
        from open_clip.model import get_model_preprocess_cfg

        tower = self._model.visual
        if not hasattr(tower, "forward_intermediates"):
            raise ValueError(
                f"image encoder {self.name}: its {type(tower).__name__} gives no features of patches; take a "
                "vision transformer"
            )
        side = tower.image_size
        size = (side, side) if isinstance(side, int) else tuple(side)
        wanted = {"mean": OF_OPEN_CLIP["image_mean"], "std": OF_OPEN_CLIP["image_std"]}
        wanted |= get_model_preprocess_cfg(self._model)
        mean, std = (torch.tensor(wanted[name]).view(3, 1, 1) for name in ("mean", "std"))
        dtype = get_input_dtype(self.config.precision)
        options = {"indices": 1, "normalize_intermediates": True, "intermediates_only": True}

        def maps(batch: np.ndarray) -> np.ndarray:
            pixels = (resized(batch, size) / 255 - mean) / std
            with torch.inference_mode():
                found = tower.forward_intermediates(pixels.to(self._device, dtype), **options)
            return _numpy(found["image_intermediates"][-1])

        return in_batches(maps, images, self.config.batch_size)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """M texts to (M, d) float32 of unit length. What is beyond the model's context is cut off; see `fits`."""
        import torch

        def embed(batch: Sequence[str]) -> np.ndarray:
            with torch.inference_mode():
                return _numpy(self._model.encode_text(self._tokenizer(list(batch)).to(self._device), normalize=True))

        return in_batches(embed, texts, self.config.batch_size)

    def fits(self, text: str) -> bool:
        """Whether the model reads the whole text: CLIP 77 tokens, SigLIP 64, the marks at both ends included."""
        length = self._tokenizer.context_length
        # With room for one token more, a text that fits is followed by padding, as is the empty one.
        padding, last = self._tokenizer(["", text], context_length=length + 1)[:, length].tolist()
        return bool(last == padding)

    def local_path(self) -> Path | None:
        """The checkpoint or folder on this machine that holds the weights; None if they come from a hub.

        Raises:
            MissingWeights: it is not there.
        """
        pretrained = self.config.pretrained or ""
        if self.config.model.startswith(LOCAL_DIR):
            path = Path(self.config.model.removeprefix(LOCAL_DIR))
        elif "/" in pretrained or Path(pretrained).suffix in CHECKPOINT_SUFFIXES:
            path = Path(pretrained)
        else:
            return None
        if not path.exists():
            raise MissingWeights(
                f"image–text encoder {self.name}: {path.absolute()} is not there; set `pretrained` (or `model: "
                f"{LOCAL_DIR}<folder>`) to a checkpoint on this machine, or to one of open_clip's tags"
            )
        return path


def _or_few(near: Sequence[str]) -> str:
    return f"architectures; the nearest are {', '.join(near)}" if near else "architectures (open_clip.list_models())"


def _first_line(error: BaseException) -> str:
    """An error's message, without the names of all weights; its type where it has no message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] if lines else type(error).__name__


def _numpy(embeddings: "torch.Tensor") -> np.ndarray:
    return embeddings.float().cpu().numpy()
