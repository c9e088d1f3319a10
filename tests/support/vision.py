"""A small DINOv2 with random weights, as transformers stores one."""

import json
from pathlib import Path

PATCH_PX = 8


def write_tiny_dinov2(folder: Path, seed: int = 0) -> Path:
    """Patches of 8 px, 16 features, images of 32 px."""
    import torch

    from curate.encoders import torchvision_cpu

    torchvision_cpu.repair()
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(seed)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32}
    Dinov2Model(Dinov2Config(patch_size=PATCH_PX, **shape)).save_pretrained(folder)
    processor = {"image_processor_type": "BitImageProcessor", "rescale_factor": 1 / 255}
    means = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (folder / "preprocessor_config.json").write_text(json.dumps({**processor, **means}))
    return folder
