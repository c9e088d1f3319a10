"""Small open_clip checkpoints with random weights, as the real loader reads them."""

import json
from pathlib import Path
from typing import Any

from curate.encoders import torchvision_cpu

TINY: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
SIGLIP_TEXT = {"vocab_size": 64, "hf_tokenizer_name": "none", "tokenizer_kwargs": {"clean": "canonicalize"},
               "no_causal_mask": True, "proj_bias": True, "pool_type": "last"}  # fmt: skip
WORDS = ["a", "rabbit", "the", "sky", "page", "of", "text", "dog", "on", "beach"]


def write_tiny_open_clip(folder: Path, seed: int = 0) -> Path:
    """A folder as `local-dir:` expects it: open_clip_config.json and open_clip_model.safetensors."""
    return _write(folder, TINY, {}, seed)


def write_tiny_siglip(folder: Path) -> Path:
    """The same in the manner of SigLIP: a bias of the logits, a bidirectional text tower whose last token counts, a
    tokenizer of its own, pictures squashed to a square."""
    text = {**TINY["text_cfg"], **SIGLIP_TEXT}
    config = {**TINY, "text_cfg": text, "init_logit_bias": -10, "custom_text": True}
    half = [0.5, 0.5, 0.5]
    _write_tokenizer(folder)
    return _write(folder, config, {"mean": half, "std": half, "resize_mode": "squash"}, 0)


def _write(folder: Path, config: dict[str, Any], preprocess: dict[str, Any], seed: int) -> Path:
    torchvision_cpu.repair()
    import open_clip
    import torch
    from safetensors.torch import save_file

    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    towers = {name: value for name, value in config.items() if name != "custom_text"}
    torch.manual_seed(seed)
    model = (open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP)(**towers)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return folder


def _write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(["<pad>", "<eos>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    ).save_pretrained(folder)
