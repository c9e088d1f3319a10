"""An open_clip model that trains: clips and texts to vectors, and which of its weights change."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.clip.config import TrainClipConfig, Trained
from train.clip.loss import MAX_LOG_SCALE

STATE_BYTES = 16
"""Of a weight that trains: weight, gradient and two moments, each float32."""
FROZEN_BYTES = 4
BLOCK_LISTS = frozenset({"resblocks", "blocks", "block", "layers", "layer", "layer1", "layer2", "layer3", "layer4"})
"""Names of the lists of blocks in the towers of open_clip, timm and transformers."""


class ClipModel:
    """An open_clip model with its preprocessing and tokenizer, in evaluation mode: statistics of batch normalization
    stay those of the checkpoint, and nothing is dropped out, so that a forward pass can be computed twice.

    Args:
        config: of the run.
        device: to put it on.

    Raises:
        MissingWeights: a local checkpoint that is not there.
        ValueError: open_clip cannot load it, or it has no two towers that can be trained so.
    """

    def __init__(self, config: TrainClipConfig, device: torch.device) -> None:
        encoder = config.init.encoder(str(device)).build()
        self.net, self.preprocess, self.tokenizer = encoder.load()
        self.config, self.device, self.name = config, device, encoder.name
        _check_towers(self.net, self.name)
        self.net.eval()
        self._max_log_scale = max(MAX_LOG_SCALE, self.log_scale.item())
        half = config.dtype == "bfloat16" or (config.dtype == "auto" and device.type == "cuda")
        self.dtype = torch.bfloat16 if half else torch.float32
        self.had_bias = self.net.logit_bias is not None
        if config.loss == "sigmoid" and not self.had_bias:
            self.net.logit_bias = nn.Parameter(torch.zeros_like(self.net.logit_scale))
        with torch.no_grad():
            self.dim = self.embed_texts(["a"]).shape[1]
        """Of a vector."""
        self._choose_trained()
        if config.activation_checkpointing:
            self.net.set_grad_checkpointing(True)

    @property
    def log_scale(self) -> Tensor:
        """Scalar: log of the inverse temperature."""
        scale: Tensor = self.net.logit_scale
        return scale.reshape(())

    @property
    def bias(self) -> Tensor | None:
        """Scalar, where the loss has one."""
        return self.net.logit_bias.reshape(()) if self.config.loss == "sigmoid" else None

    def pixels(self, frames: Sequence[np.ndarray]) -> Tensor:
        """T frames, (H, W, 3) uint8, as the model takes them: (T, 3, h, w) float32."""
        from PIL import Image

        return torch.stack([self.preprocess(Image.fromarray(frame)) for frame in frames])

    def embed_clips(self, clips: Sequence[Tensor]) -> Tensor:
        """Pixels of n clips → (n, d) float32 unit vectors: the direction of the mean of the frames' unit vectors, as
        the scorer `embedding` has it."""
        with self._autocast():
            frames = self.net.encode_image(torch.cat([*clips]).to(self.device)).float()
        means = [of_clip.mean(0) for of_clip in F.normalize(frames, dim=-1).split([len(clip) for clip in clips])]
        return F.normalize(torch.stack(means), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """n texts → (n, d) float32 unit vectors."""
        tokens = self.tokenizer(list(texts)).to(self.device)
        with self._autocast():
            return F.normalize(self.net.encode_text(tokens).float(), dim=-1)

    def is_cut(self, text: str) -> bool:
        """Whether the text is longer than the model's context: then a word at its end changes nothing."""
        return bool(torch.equal(self.tokenizer([text]), self.tokenizer([f"{text} end"])))

    @torch.no_grad()
    def clip_scale(self) -> None:
        """Keep the temperature within CLIP's bounds, after a step. SigLIP's checkpoints are already beyond: their own
        temperature is their bound."""
        self.net.logit_scale.clamp_(0, self._max_log_scale)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """For AdamW: matrices, other weights of the towers, temperature and bias; each with its peak learning rate."""
        config, towers = self.config, [p for tower in ("image", "text") for p in self.trained(tower)]
        scalars = [p for name, p in self.net.named_parameters() if _is_scalar(name) and p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in towers if p.ndim >= 2], "peak": config.lr, "weight_decay": config.weight_decay},
            {"params": [p for p in towers if p.ndim < 2], "peak": config.lr, "weight_decay": 0.0},
            {"params": scalars, "peak": config.temperature_lr, "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    def trained(self, tower: str) -> list[nn.Parameter]:
        """The weights of a tower, `image` or `text`, that train."""
        return [p for p in _tower(self.net, tower).values() if p.requires_grad]

    @property
    def state_bytes(self) -> int:
        """Weights, gradients and moments."""
        sizes = [(p.numel(), p.requires_grad) for p in self.net.parameters()]
        return sum(STATE_BYTES * n if trains else FROZEN_BYTES * n for n, trains in sizes)

    def activation_bytes(self, num_frames: int) -> int:
        """What a pair keeps for the backward pass: what an image and a text add to the tensors that are saved."""
        image = text = 0
        if self.trained("image"):
            image = _saved_bytes(lambda n: self.embed_clips([self._black()] * n))
        if self.trained("text"):
            text = _saved_bytes(lambda n: self.embed_texts(["a"] * n))
        return num_frames * image + text

    def _choose_trained(self) -> None:
        """`requires_grad` of all weights: that of the ones which the gradient of what is to train reaches."""
        self.net.requires_grad_(True)
        embeds = {"image": lambda: self.embed_clips([self._black()]), "text": lambda: self.embed_texts(["a"])}
        chosen = {"image": self.config.image, "text": self.config.text}
        for tower, embed in embeds.items():
            weights = list(_tower(self.net, tower).values())
            reached = _reached(self.net, tower, weights, embed, chosen[tower])
            for weight, trains in zip(weights, reached, strict=True):
                weight.requires_grad_(trains)
        if self.net.logit_bias is not None:
            self.net.logit_bias.requires_grad_(self.config.loss == "sigmoid")

    def _black(self) -> Tensor:
        return self.pixels([np.zeros((64, 64, 3), np.uint8)])

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype is torch.bfloat16)


def _saved_bytes(embed: Callable[[int], Tensor]) -> int:
    """By how much the tensors that autograd saves grow from one item to two."""
    sizes = []
    for count in (1, 2):
        saved: dict[int, int] = {}

        def note(tensor: Tensor, saved: dict[int, int] = saved) -> Tensor:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            embedded = embed(count)
        del embedded
        sizes.append(sum(saved.values()))
    return sizes[1] - sizes[0]


def _check_towers(net: nn.Module, name: str) -> None:
    from open_clip import CLIP, CustomTextCLIP

    if not isinstance(net, CLIP | CustomTextCLIP):
        raise ValueError(
            f"train_clip.init: {name} is a {type(net).__name__}, whose caption decoder this loss does not train; "
            "expected a model of an image tower and a text tower, such as ViT-B-32, ViT-L-14, ViT-B-16-SigLIP or "
            "MobileCLIP-S2"
        )


def _is_scalar(name: str) -> bool:
    return name in ("logit_scale", "logit_bias")


def _tower(net: nn.Module, tower: str) -> dict[str, nn.Parameter]:
    """The weights of the image tower, or all others but temperature and bias."""
    return {
        name: p
        for name, p in net.named_parameters()
        if not _is_scalar(name) and name.startswith("visual.") == (tower == "image")
    }


def _reached(
    net: nn.Module, tower: str, weights: Sequence[nn.Parameter], embed: Callable[[], Tensor], trained: Trained
) -> list[bool]:
    """Which weights of a tower train. Of the last blocks: those that a gradient reaches which does not get further
    than the input of the first of them."""
    if trained == "locked":
        return [False] * len(weights)
    if trained == "full":
        return _reach(weights, embed)
    blocks = list(_blocks(net, tower))
    if not blocks:
        raise ValueError(
            f"train_clip.{tower}={trained}: the {tower} tower has no list of blocks that is known; set it to locked "
            "or full"
        )
    if trained > len(blocks):
        raise ValueError(
            f"train_clip.{tower}={trained}, and the {tower} tower has {len(blocks)} blocks; set it to at most "
            f"{len(blocks)}, or to full"
        )
    hook = blocks[-trained].register_forward_pre_hook(_without_history, with_kwargs=True)
    try:
        return _reach(weights, embed)
    finally:
        hook.remove()


def _reach(weights: Sequence[nn.Parameter], embed: Callable[[], Tensor]) -> list[bool]:
    with torch.enable_grad():
        found = torch.autograd.grad(embed().sum(), [*weights], allow_unused=True)
    return [gradient is not None for gradient in found]


def _without_history(_: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The inputs of a block, detached."""

    def cut(value: Any) -> Any:
        return value.detach() if isinstance(value, Tensor) else value

    return tuple(map(cut, args)), {name: cut(value) for name, value in kwargs.items()}


def _blocks(net: nn.Module, tower: str) -> Iterator[nn.Module]:
    """The blocks of a tower, in order: the members of its outermost lists that have a name of such."""
    found: list[str] = []
    for name, module in net.named_modules():
        is_list = isinstance(module, nn.ModuleList | nn.Sequential) and name.rpartition(".")[2] in BLOCK_LISTS
        is_inside = any(name.startswith(f"{outer}.") for outer in found)
        if is_list and not is_inside and name.startswith("visual.") == (tower == "image"):
            found.append(name)
            yield from module.children()
