"""The vision tower of the embedded captioner: EfficientNet-Lite0's last map as LLaVA tokens.

One image becomes one global token and a grid of them, each an average over its part of the last feature map,
standardized per channel (the statistics are part of the weights) and layer-normalized. Importing this module registers
the tower with transformers' `AutoConfig` and `AutoModel`, which lets a `LlavaForConditionalGeneration` name it.
"""

import hashlib
from collections import OrderedDict
from typing import Any

import torch
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

STRIDE_PX = 32
"""Pixels per side of one cell of EfficientNet-Lite0's last map."""
NUM_REMEMBERED = 512
"""Images, 87 KB each, whose averages are kept: the check of a clip and each prompt about it show the same ones."""


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
        self._remembered: OrderedDict[bytes, torch.Tensor] = OrderedDict()
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

    def remembered(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`pool` without gradients; an image among the last `NUM_REMEMBERED` is not computed again."""
        digests = [hashlib.blake2b(image.cpu().contiguous().numpy()).digest() for image in pixel_values]
        new = {digest: row for row, digest in enumerate(digests) if digest not in self._remembered}
        if new:
            self._remembered.update(zip(new, self.pool(pixel_values[list(new.values())]), strict=True))
        for digest in digests:
            self._remembered.move_to_end(digest)
        pooled = torch.stack([self._remembered[digest] for digest in digests])
        while len(self._remembered) > NUM_REMEMBERED:
            self._remembered.popitem(last=False)
        return pooled

    def standardize(self, pooled: torch.Tensor) -> torch.Tensor:
        """Averages of `pool` to tokens of the same shape."""
        return F.layer_norm((pooled - self.channel_mean) / self.channel_std, (self.config.hidden_size,))

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """(N, 3, image_size, image_size) to (N, tokens, 1280), in the dtype of `pixel_values` (the projector's)."""
        pool = self.pool if torch.is_grad_enabled() else self.remembered
        tokens = self.standardize(pool(pixel_values.to(self.channel_mean.dtype))).to(pixel_values.dtype)
        return BaseModelOutputWithPooling(last_hidden_state=tokens, hidden_states=(tokens,))


AutoConfig.register(EfficientNetLiteVisionConfig.model_type, EfficientNetLiteVisionConfig, exist_ok=True)
AutoModel.register(EfficientNetLiteVisionConfig, EfficientNetLiteVisionModel, exist_ok=True)
