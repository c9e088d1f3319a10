"""Small random pipelines of diffusers' own classes, around the transformers of `tests/train/convert/families.py`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.train.convert.families import CASES, CHANNELS, DIT, IMAGE_DIM, TEXT_DIM, Case

PROMPT = "a big gray rabbit in the sky"
WORDS = ("<pad>", "</s>", "<unk>", *PROMPT.split())


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A pipeline's parts, and what it is asked for."""

    class_name: str
    case: Case  # its transformer
    scheduler: tuple[str, Mapping[str, Any]]
    autoencoder: tuple[str, Mapping[str, Any]]
    text_encoder: str | None
    ask: Mapping[str, Any]
    further: Mapping[str, Any] = field(default_factory=dict)
    transformers: tuple[str, ...] = ("transformer",)
    sees: bool = False  # a picture, through an image encoder


LAYERS = {"num_layers": 2, "num_heads": 2, "d_kv": 8, "d_ff": 32, "d_model": TEXT_DIM, "vocab_size": 16}
GEMMA = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 10}
GEMMA |= {"hidden_size": TEXT_DIM, "intermediate_size": 32, "vocab_size": 16}
TEXT_ENCODERS = {
    "T5EncoderModel": ("T5Config", LAYERS),
    "UMT5EncoderModel": ("UMT5Config", LAYERS),
    "Gemma2Model": ("Gemma2Config", GEMMA),
}
KL = {"block_out_channels": (8, 8), "latent_channels": CHANNELS, "norm_num_groups": 4, "sample_size": 16}
KL |= {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
KL_WAN = {"base_dim": 3, "z_dim": CHANNELS, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
KL_WAN |= {"temperal_downsample": [False, True, True], "latents_mean": [0.1] * CHANNELS}
KL_WAN |= {"latents_std": [1.5] * CHANNELS}
KL_LTX = {"latent_channels": CHANNELS, "patch_size": 1, "upsample_factor": (1,) * 4, "upsample_residual": (False,) * 4}
KL_LTX |= {"decoder_inject_noise": (False,) * 5}
for side in ("", "decoder_"):
    KL_LTX |= {f"{side}block_out_channels": (8, 8, 8, 8), f"{side}layers_per_block": (1,) * 5}
    KL_LTX |= {f"{side}spatio_temporal_scaling": (True, True, False, False)}
DC = {"latent_channels": CHANNELS, "attention_head_dim": 2, "upsample_block_type": "interpolate"}
for side in ("encoder", "decoder"):
    DC |= {f"{side}_block_types": ("ResBlock", "EfficientViTBlock"), f"{side}_block_out_channels": (8, 8)}
    DC |= {f"{side}_qkv_multiscales": ((), (5,)), f"{side}_layers_per_block": (1, 1)}

VISION = {"hidden_size": IMAGE_DIM, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION |= {"image_size": 28, "patch_size": 14}
PICTURE = Image.fromarray(np.arange(32 * 64 * 3, dtype=np.uint8).reshape(32, 64, 3))
LAST = PICTURE.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
IMAGE = {"prompt": PROMPT, "height": 32, "width": 32, "max_sequence_length": 16}
VIDEO = {"prompt": PROMPT, "height": 32, "width": 64, "num_frames": 9, "max_sequence_length": 16}
FLOW_OF_WAN = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
PIXART: dict[str, Any] = {
    "scheduler": ("DDIMScheduler", {}),
    "autoencoder": ("AutoencoderKL", KL),
    "text_encoder": "T5EncoderModel",
    "ask": IMAGE | {"clean_caption": False, "use_resolution_binning": False},
}
RECIPES = {
    "wan": (
        wan := Recipe(
            class_name="WanPipeline",
            case=CASES["wan"],
            scheduler=("UniPCMultistepScheduler", FLOW_OF_WAN),
            autoencoder=("AutoencoderKLWan", KL_WAN),
            text_encoder="UMT5EncoderModel",
            ask=VIDEO,
        )
    ),
    "wan-2.2-ti2v": replace(wan, further={"expand_timesteps": True}),
    "wan-2.1-i2v": (
        i2v := replace(
            wan,
            class_name="WanImageToVideoPipeline",
            case=CASES["wan-2.1-i2v"],
            ask=VIDEO | {"image": PICTURE},
            sees=True,
        )
    ),
    "wan-2.1-flf2v": replace(i2v, case=CASES["wan-2.1-flf2v"], ask={**i2v.ask, "last_image": LAST}),
    "wan-2.2-i2v": replace(
        i2v,
        case=CASES["wan-2.2-i2v"],
        transformers=("transformer", "transformer_2"),
        further={"boundary_ratio": 0.9},
        sees=False,
    ),
    "pixart-alpha": Recipe(class_name="PixArtAlphaPipeline", case=CASES["pixart-alpha"], **PIXART),
    "pixart-sigma": Recipe(class_name="PixArtSigmaPipeline", case=CASES["pixart-sigma"], **PIXART),
    "latte": Recipe(
        class_name="LattePipeline",
        case=CASES["latte"],
        **PIXART | {"ask": {"prompt": PROMPT, "height": 16, "width": 16, "video_length": 16, "clean_caption": False}},
    ),
    "ltx": Recipe(
        class_name="LTXPipeline",
        case=CASES["ltx"],
        scheduler=("FlowMatchEulerDiscreteScheduler", {}),
        autoencoder=("AutoencoderKLLTXVideo", KL_LTX),
        text_encoder="T5EncoderModel",
        ask=VIDEO,
    ),
    "sana-1.0": (
        sana := Recipe(
            class_name="SanaPipeline",
            case=CASES["sana-1.0"],
            scheduler=("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
            autoencoder=("AutoencoderDC", DC),
            text_encoder="Gemma2Model",
            ask=IMAGE | {"clean_caption": False, "use_resolution_binning": False, "complex_human_instruction": None},
        )
    ),
    "sana-1.5": replace(sana, case=CASES["sana-1.5"]),
    "dit": Recipe(
        class_name="DiTPipeline",
        case=DIT,
        scheduler=("DDIMScheduler", {}),
        autoencoder=("AutoencoderKL", KL),
        text_encoder=None,
        ask={"class_labels": [2]},
        further={"id2label": {1: "goldfish", 2: "great white shark"}},
    ),
}


def write_pipeline(name: str, folder: Path) -> Path:
    """The pipeline of a recipe's name, as diffusers writes it."""
    import diffusers
    import transformers

    recipe = RECIPES[name]
    torch.manual_seed(0)
    parts: dict[str, Any] = {name: recipe.case.build() for name in recipe.transformers}
    parts |= recipe.further
    for part, (class_name, settings) in (("scheduler", recipe.scheduler), ("vae", recipe.autoencoder)):
        parts[part] = getattr(diffusers, class_name)(**settings)
    if recipe.text_encoder is not None:
        config, settings = TEXT_ENCODERS[recipe.text_encoder]
        parts["text_encoder"] = getattr(transformers, recipe.text_encoder)(getattr(transformers, config)(**settings))
        parts["tokenizer"] = tokenizer()
    if recipe.sees:
        size = {"size": {"shortest_edge": 28}, "crop_size": 28}
        parts["image_encoder"] = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**VISION))
        parts["image_processor"] = transformers.CLIPImageProcessor(**size)
    getattr(diffusers, recipe.class_name)(**parts).save_pretrained(folder)
    return folder


def tokenizer() -> Any:
    """Of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **names)


def generated(name: str, folder: Path, **further: Any) -> np.ndarray:
    """What `DiffusionPipeline.from_pretrained` makes of the folder, from one seed, in two steps."""
    import diffusers

    pipeline: Any = diffusers.DiffusionPipeline.from_pretrained(folder)
    assert type(pipeline).__name__ == RECIPES[name].class_name
    pipeline.set_progress_bar_config(disable=True)
    return ask(name, pipeline, **further)


def ask(name: str, pipeline: Any, **further: Any) -> np.ndarray:
    """Frames or images in [0, 1], from one seed, in two steps."""
    given = {**RECIPES[name].ask, "num_inference_steps": 2, "output_type": "np", **further}
    out: Any = pipeline(generator=torch.Generator().manual_seed(0), return_dict=False, **given)[0]
    return np.asarray(out)
