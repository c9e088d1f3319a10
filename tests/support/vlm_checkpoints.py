"""Tiny random checkpoints of many classes, with the files that their repositories on the hub have.

What differs between those is kept: which file names the processor, whether the image processor goes by its slow or its
fast name, where the chat template lies, and which special tokens there are.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.encoders import torchvision_cpu
from tests.support import vlm_configs

PIXELS: dict[str, Any] = {
    "do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True,
    "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
}  # fmt: skip
SQUARE = {"size": {"height": 28, "width": 28}}
CLIP = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}, "do_center_crop": True}
ANYRES = {"image_grid_pinpoints": vlm_configs.TILES, "do_pad": True}
QWEN = {"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2, "min_pixels": 28 * 28, "max_pixels": 56 * 56}
QWEN3 = QWEN | {"patch_size": 16, "size": {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}}
IDEFICS = {
    "size": {"longest_edge": 64},
    "max_image_size": {"longest_edge": 32},
    "do_image_splitting": True,
    "do_pad": True,
}
LLAVA = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}

QWEN_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
QWEN_PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
GLM_TOKENS = tuple(f"<|{name}|>" for name in (
    "image", "video", "begin_of_image", "end_of_image", "begin_of_video", "end_of_video",
))  # fmt: skip
IDEFICS_TOKENS: tuple[str, ...] = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
IDEFICS_TOKENS += tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One class and its repository's files: JSON by name, the chat template in the file `template_in` (None: none)."""

    image: dict[str, Any]
    processor: dict[str, Any] | None = None
    video: dict[str, Any] | None = None
    picture: str = "<image>"
    template_in: str | None = "chat_template.json"
    tokens: tuple[str, ...] = ("<image>",)
    tokenizer: dict[str, Any] = field(default_factory=dict)


CHECKPOINTS = {
    "llava": Checkpoint(
        image=CLIP | {"image_processor_type": "CLIPImageProcessor", "processor_class": "LlavaProcessor"},
        processor=LLAVA | {"processor_class": "LlavaProcessor", "image_token": "<image>"},
    ),
    "llava_next": Checkpoint(
        image=CLIP | ANYRES | {"image_processor_type": "LlavaNextImageProcessor"},
        processor=LLAVA | {"processor_class": "LlavaNextProcessor"},
        tokenizer={"extra_special_tokens": {"image_token": "<image>"}},
    ),
    "llava_next_video": Checkpoint(
        image=CLIP | ANYRES | {"image_processor_type": "LlavaNextImageProcessor"},
        processor=LLAVA | {"processor_class": "LlavaNextVideoProcessor"},
        tokens=("<image>", "<video>"),
    ),
    "llava_onevision": Checkpoint(
        image=SQUARE | ANYRES | {"image_processor_type": "LlavaOnevisionImageProcessor"},
        video=SQUARE | {"video_processor_type": "LlavaOnevisionVideoProcessor"},
        processor={
            "processor_class": "LlavaOnevisionProcessor", "num_image_tokens": 4,
            "vision_feature_select_strategy": "full",
        },
        tokens=("<image>", "<video>"),
    ),
    "vipllava": Checkpoint(
        image=CLIP | {"image_processor_type": "CLIPImageProcessor", "processor_class": "LlavaProcessor"},
        processor=LLAVA | {"processor_class": "LlavaProcessor"},
        template_in="chat_template.jinja",
    ),
    "video_llava": Checkpoint(
        image=CLIP | {"image_processor_type": "VideoLlavaImageProcessor", "processor_class": "VideoLlavaProcessor"},
        processor=LLAVA | {"processor_class": "VideoLlavaProcessor"},
        tokens=("<image>", "<video>"),
    ),
    "pixtral": Checkpoint(
        image={
            "image_processor_type": "PixtralImageProcessor", "processor_class": "PixtralProcessor",
            "patch_size": {"height": 8, "width": 8}, "size": {"longest_edge": 32},
        },
        processor={"processor_class": "PixtralProcessor", "patch_size": 8, "image_token": "[IMG]"},
        picture="[IMG]",
        tokens=("[IMG]", "[IMG_BREAK]", "[IMG_END]"),
    ),
    "qwen2_vl": Checkpoint(
        image=QWEN | {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2VLProcessor"},
        picture=QWEN_PICTURE,
        tokens=QWEN_TOKENS,
        tokenizer={"tokenizer_class": "Qwen2Tokenizer"},
    ),
    "qwen2_5_vl": Checkpoint(
        image=QWEN | {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"},
        picture=QWEN_PICTURE,
        template_in="tokenizer_config.json",
        tokens=QWEN_TOKENS,
        tokenizer={"tokenizer_class": "Qwen2TokenizerFast"},
    ),
    "qwen3_vl": Checkpoint(
        image=QWEN3 | {"image_processor_type": "Qwen2VLImageProcessorFast", "processor_class": "Qwen3VLProcessor"},
        video=QWEN3 | {"video_processor_type": "Qwen3VLVideoProcessor", "processor_class": "Qwen3VLProcessor"},
        picture=QWEN_PICTURE,
        tokens=QWEN_TOKENS,
        tokenizer={"tokenizer_class": "Qwen2Tokenizer"},
    ),
    "glm4v": Checkpoint(
        image=QWEN | {"image_processor_type": "Glm4vImageProcessor", "processor_class": "Glm4vProcessor",
                      "size": {"shortest_edge": 28 * 28, "longest_edge": 56 * 56 * 2}},
        video=QWEN | {"video_processor_type": "Glm4vVideoProcessor", "processor_class": "Glm4vProcessor"},
        picture="<|begin_of_image|><|image|><|end_of_image|>",
        template_in="chat_template.jinja",
        tokens=GLM_TOKENS,
    ),
    "idefics2": Checkpoint(
        image={"size": {"longest_edge": 32, "shortest_edge": 16}, "do_image_splitting": False, "do_pad": True,
               "image_processor_type": "Idefics2ImageProcessor", "processor_class": "Idefics2Processor"},
        processor={"processor_class": "Idefics2Processor", "image_seq_len": 4},
        tokens=IDEFICS_TOKENS,
    ),
    "idefics3": Checkpoint(
        image=IDEFICS | {"image_processor_type": "Idefics3ImageProcessor", "processor_class": "Idefics3Processor"},
        processor={"processor_class": "Idefics3Processor", "image_seq_len": 4},
        tokens=IDEFICS_TOKENS,
    ),
    "smolvlm_v1": Checkpoint(  # Idefics3's class with the tokenizer of SmolLM
        image=IDEFICS | {"image_processor_type": "Idefics3ImageProcessor", "processor_class": "Idefics3Processor"},
        processor={"processor_class": "Idefics3Processor", "image_seq_len": 4},
        tokens=IDEFICS_TOKENS,
        tokenizer={"tokenizer_class": "GPT2Tokenizer", "processor_class": "Idefics3Processor"},
    ),
    "smolvlm": Checkpoint(
        image=IDEFICS | {
            "image_processor_type": "SmolVLMImageProcessor", "processor_class": "SmolVLMProcessor",
            "video_sampling": {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": 32}},
        },
        processor={"processor_class": "SmolVLMProcessor", "image_seq_len": 4},
        tokens=IDEFICS_TOKENS,
        tokenizer={"tokenizer_class": "GPT2Tokenizer", "extra_special_tokens": {
            "image_token": "<image>", "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>", "end_of_utterance_token": "<end_of_utterance>",
        }},
    ),
    "internvl": Checkpoint(
        image=SQUARE | {
            "image_processor_type": "GotOcr2ImageProcessorFast", "processor_class": "InternVLProcessor",
            "crop_to_patches": False, "min_patches": 1, "max_patches": 4,
        },
        video=SQUARE | {"video_processor_type": "InternVLVideoProcessor", "processor_class": "InternVLProcessor"},
        processor={"processor_class": "InternVLProcessor", "image_seq_length": 4},
        picture="<IMG_CONTEXT>\n",
        template_in="chat_template.jinja",
        tokens=("<IMG_CONTEXT>", "<img>", "</img>", "<video>"),
        tokenizer={"tokenizer_class": "Qwen2Tokenizer", "extra_special_tokens": {
            "context_image_token": "<IMG_CONTEXT>", "start_image_token": "<img>", "end_image_token": "</img>",
            "video_token": "<video>",
        }},
    ),
    "gemma3": Checkpoint(
        image=SQUARE | {"image_processor_type": "Gemma3ImageProcessor", "processor_class": "Gemma3Processor"},
        processor={"processor_class": "Gemma3Processor", "image_seq_length": 4},
        picture="<start_of_image>",
        tokens=("<start_of_image>", "<end_of_image>", "<image_soft_token>"),
        tokenizer={"extra_special_tokens": {
            "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>",
        }},
    ),
    "mllama": Checkpoint(
        image=SQUARE | {
            "image_processor_type": "MllamaImageProcessor", "processor_class": "MllamaProcessor", "max_image_tiles": 2,
            "do_pad": True,
        },
        picture="<|image|>",
        tokens=("<|image|>", "<|python_tag|>"),
    ),
    "paligemma": Checkpoint(
        image=SQUARE | {
            "image_processor_type": "SiglipImageProcessor", "processor_class": "PaliGemmaProcessor",
            "image_seq_length": 16,
        },
        template_in=None,
    ),
}  # fmt: skip


def write_checkpoint(name: str, folder: Path) -> Path:
    """The checkpoint of this name in `folder`, its weights random and the same each time."""
    torchvision_cpu.repair()
    import torch
    from transformers import AutoModelForImageTextToText

    checkpoint = CHECKPOINTS[name]
    config = getattr(vlm_configs, name)(_write_tokenizer(checkpoint, folder))
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config)
    for weight_name, weight in model.named_parameters():
        if weight.ndim > 1 and "norm" not in weight_name:  # so that the pictures decide what comes next
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    files = {
        "preprocessor_config.json": PIXELS | checkpoint.image,
        "processor_config.json": checkpoint.processor,
        "video_preprocessor_config.json": checkpoint.video and PIXELS | checkpoint.video,
    }
    for file, content in files.items():
        if content:
            (folder / file).write_text(json.dumps(content))
    if checkpoint.template_in:
        put_template(folder, checkpoint.template_in, template(checkpoint.picture))
    return folder


def template(picture: str) -> str:
    """A chat template: each picture where it stands, then the text."""
    return (
        "{% for message in messages %}{{ message['role'] }}: {% for part in message['content'] %}"
        f"{{% if part['type'] == 'image' %}}{picture}{{% else %}}{{{{ part['text'] }}}}{{% endif %}}{{% endfor %}}\n"
        "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )


def put_template(folder: Path, file: str, text: str) -> None:
    """Write a chat template into the file of this name, which may be there already."""
    path = folder / file
    if path.suffix == ".jinja":
        path.write_text(text)
    else:
        stored = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(stored | {"chat_template": text}))


def _write_tokenizer(checkpoint: Checkpoint, folder: Path) -> Mapping[str, int]:
    """A byte-level tokenizer of a few hundred tokens, in the files of slow and fast ones; its vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    special = ["<pad>", "<s>", "</s>", *checkpoint.tokens]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=special)
    tokenizer.train_from_iterator(["user: describe this video", "assistant: a rabbit in a meadow"], trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab()
    flags = {"special": True, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"},
        "added_tokens_decoder": {str(vocabulary[token]): {"content": token, **flags} for token in special},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | checkpoint.tokenizer))
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    merges = json.loads((folder / "tokenizer.json").read_text())["model"]["merges"]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]))
    return vocabulary
