"""The vision tower of the embedded captioner: EfficientNet-Lite0's last map as LLaVA tokens.

One image becomes one global token and a grid of them, each an average over its part of the last feature map,
standardized per channel (the statistics are part of the weights) and layer-normalized. Importing this module registers
the tower with transformers' `AutoConfig` and `AutoModel`, which lets a `LlavaForConditionalGeneration` name it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

STRIDE_PX = 32
"""Pixels per side of one cell of EfficientNet-Lite0's last map."""


class EfficientNetLiteVisionConfig(PreTrainedConfig):
    """`image_size` px square images; one token per `patch_size` px square, and a global one before them."""

    model_type = "reelpack_efficientnet_lite"

    hidden_size: int = 1280
    image_size: int = 256
    patch_size: int = 64
    backbone: str = "tf_efficientnet_lite0"

    @property
    def num_tokens(self) -> int:
        return 1 + (self.image_size // self.patch_size) ** 2


class EfficientNetLiteVisionModel(PreTrainedModel):
    """timm's EfficientNet-Lite0 without its classifier.

    Its weights stay float32 in any dtype of the language model: batch norm loses much in bfloat16, and the
    tower is 3 % of the model.
    """

    config_class = EfficientNetLiteVisionConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _keep_in_fp32_modules_strict = frozenset({"backbone", "channel_mean", "channel_std"})

    def __init__(self, config: EfficientNetLiteVisionConfig) -> None:
        super().__init__(config)
        import timm

        self.backbone = timm.create_model(config.backbone, pretrained=False, num_classes=0, global_pool="")
        self.register_buffer("channel_mean", torch.zeros(config.hidden_size))
        self.register_buffer("channel_std", torch.ones(config.hidden_size))
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Nothing: every weight is loaded."""

    def pool(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W), scaled as EfficientNet-Lite expects, to averages (N, 1 + grid, 1280), not standardized."""
        pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)  # a third faster on CPUs
        maps = self.backbone(pixel_values)  # (N, 1280, H/32, W/32)
        cell = self.config.patch_size // STRIDE_PX
        grid = F.avg_pool2d(maps, cell).flatten(2).transpose(1, 2)  # (N, grid, 1280), row by row
        return torch.cat([maps.mean((2, 3))[:, None], grid], 1)

    def standardize(self, pooled: torch.Tensor) -> torch.Tensor:
        """Averages of `pool` to tokens of the same shape."""
        return F.layer_norm((pooled - self.channel_mean) / self.channel_std, (self.config.hidden_size,))

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """(N, 3, image_size, image_size) to (N, tokens, 1280), in the dtype of `pixel_values` (the projector's)."""
        pooled = self.pool(pixel_values.to(self.channel_mean.dtype))
        tokens = self.standardize(pooled).to(pixel_values.dtype)
        return BaseModelOutputWithPooling(last_hidden_state=tokens, hidden_states=(tokens,))


def fold_batch_norm(backbone: torch.nn.Module) -> None:
    """Multiplies the scales of batch norms into the convolutions before them, in place: 2/3 of the time remains."""
    for parent in list(backbone.modules()):
        before: torch.nn.Module | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.BatchNorm2d) and isinstance(before, torch.nn.Conv2d):
                setattr(parent, name, torch.nn.Sequential(*child.children()))  # timm's norms end with an activation
                fused = fuse_conv_bn_eval(before, child)
                before.weight, before.bias = fused.weight, fused.bias
            before = child


def pool_frames(tower: Any, image_processor: Any, arrays: Sequence[np.ndarray]) -> list[torch.Tensor]:
    """The averages of frames, (T, H, W, 3) uint8 RGB each: (T, 1 + grid, 1280) float32, not standardized."""
    pooled = []
    with torch.inference_mode():
        for frames in arrays:
            pixels = image_processor(list(frames), return_tensors="pt")["pixel_values"]
            pooled.append(tower.pool(pixels.to(tower.channel_mean)))
    return pooled


AutoConfig.register(EfficientNetLiteVisionConfig.model_type, EfficientNetLiteVisionConfig, exist_ok=True)
AutoModel.register(EfficientNetLiteVisionConfig, EfficientNetLiteVisionModel, exist_ok=True)
