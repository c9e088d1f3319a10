"""The embedded captioner's architecture, put together from the parts in the weights cache: nothing here is trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.encoders import torchvision_cpu, weights

IMAGE_TOKEN = "<image>"
IMAGE_SIZE_PX = 256
PATCH_SIZE_PX = 128

CHAT_TEMPLATE = """\
{% for message in messages %}<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}\
{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}\
{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""SmolLM2's own turns, without its default system message: 20 tokens that say nothing about an image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """`model` is a `LlavaForConditionalGeneration` in float32 whose projector is not trained; `processor` its
    `LlavaProcessor`."""

    model: Any
    processor: Any


def build_parts() -> Parts:
    """EfficientNet-Lite0 as vision tower, LLaVA's two-layer projector, SmolLM2-135M-Instruct as language model.

    Raises:
        MissingWeights: a part is not in the weights cache.
    """
    tower_file = weights.resolve("efficientnet-lite0")
    gguf = next(weights.resolve("smollm2-135m-instruct").glob("*.gguf"))
    torchvision_cpu.repair()
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    from caption.llava.vision import EfficientNetLiteVisionConfig

    tokenizer, language = language_model(gguf)
    vision_config = EfficientNetLiteVisionConfig(image_size=IMAGE_SIZE_PX, patch_size=PATCH_SIZE_PX)
    config = LlavaConfig(
        vision_config=vision_config,
        text_config=language.config,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=vision_config.num_tokens,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.language_model.load_state_dict(language.model.state_dict())
    _load_tower(model.model.vision_tower.backbone, tower_file)
    model.tie_weights()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return Parts(model=model.eval(), processor=_processor(tokenizer))


def language_model(gguf: Path) -> tuple[Any, Any]:
    """Tokenizer and model out of the GGUF file, with a token for images added."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, padding_side="left")
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]})
    source = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # transformers takes the loaded object for a quantized one and would not save it: the weights move to a plain one.
    settings = {key: value for key, value in source.config.to_dict().items() if key != "quantization_config"}
    plain = type(source)(LlamaConfig(**settings))
    plain.load_state_dict(source.state_dict())
    plain.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return tokenizer, plain


def _load_tower(backbone: Any, file: Path) -> None:
    from safetensors.torch import load_file

    state = {key: value for key, value in load_file(file).items() if not key.startswith("classifier.")}
    backbone.load_state_dict(state)


def _processor(tokenizer: Any) -> Any:
    """Images of any shape are scaled to a square: nothing at the edges is lost."""
    from transformers import CLIPImageProcessorPil, LlavaProcessor

    image_processor = CLIPImageProcessorPil(
        size={"height": IMAGE_SIZE_PX, "width": IMAGE_SIZE_PX},
        do_center_crop=False,
        image_mean=[127 / 255] * 3,  # what EfficientNet-Lite's weights expect: (x - 127) / 128
        image_std=[128 / 255] * 3,
    )
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=PATCH_SIZE_PX,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=1,
        image_token=IMAGE_TOKEN,
        chat_template=CHAT_TEMPLATE,
    )
