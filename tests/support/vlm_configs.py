"""Tiny configurations of the vision–language classes that users name. Each takes the vocabulary of its tokenizer."""

from collections.abc import Mapping
from typing import Any

TEXT: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
VISION: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip
TILES = [[28, 56], [56, 28], [56, 56]]

Tokens = Mapping[str, int]


def llava(tokens: Tokens, of: str = "Llava", **changes: Any) -> Any:
    import transformers as tf

    settings: dict[str, Any] = {
        "vision_config": tf.CLIPVisionConfig(**VISION, image_size=28, patch_size=14),
        "text_config": tf.LlamaConfig(**TEXT, vocab_size=len(tokens)),
        "image_token_index": tokens["<image>"],
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
    }
    return getattr(tf, f"{of}Config")(**settings | changes)


def llava_next(tokens: Tokens) -> Any:
    return llava(tokens, "LlavaNext", image_grid_pinpoints=TILES)


def llava_next_video(tokens: Tokens) -> Any:
    return llava(tokens, "LlavaNextVideo", image_grid_pinpoints=TILES, video_token_index=tokens["<video>"])


def vipllava(tokens: Tokens) -> Any:
    changes = {"vision_feature_layers": [-2, -1], "vision_feature_layer": None, "vision_feature_select_strategy": None}
    return llava(tokens, "VipLlava", **{name: value for name, value in changes.items() if value})


def video_llava(tokens: Tokens) -> Any:
    return llava(tokens, "VideoLlava", video_token_index=tokens["<video>"])


def pixtral(tokens: Tokens) -> Any:
    """LLaVA's class with Pixtral's tower and processor."""
    import transformers as tf

    tower = tf.PixtralVisionConfig(**VISION, head_dim=16, image_size=64, patch_size=8)
    return llava(
        {**tokens, "<image>": tokens["[IMG]"]}, vision_config=tower, vision_feature_select_strategy="full",
        text_config=tf.MistralConfig(**TEXT, head_dim=16, vocab_size=len(tokens)),
    )  # fmt: skip


def llava_onevision(tokens: Tokens) -> Any:
    import transformers as tf

    return llava(
        tokens,
        "LlavaOnevision",
        vision_config=tf.SiglipVisionConfig(**VISION, image_size=28, patch_size=14),
        text_config=tf.Qwen2Config(**TEXT, vocab_size=len(tokens)),
        video_token_index=tokens["<video>"],
        vision_feature_select_strategy="full",
        image_grid_pinpoints=TILES,
    )


def _qwen(tokens: Tokens, of: str, vision: Mapping[str, Any], **rope: Any) -> Any:
    import transformers as tf

    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0} | rope
    return getattr(tf, f"{of}Config")(
        text_config=TEXT | {"vocab_size": len(tokens), "rope_parameters": rope, "head_dim": 16},
        vision_config=dict(vision),
        image_token_id=tokens["<|image_pad|>"],
        video_token_id=tokens["<|video_pad|>"],
        vision_start_token_id=tokens["<|vision_start|>"],
        vision_end_token_id=tokens["<|vision_end|>"],
    )


def qwen2_vl(tokens: Tokens) -> Any:
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14}
    return _qwen(tokens, "Qwen2VL", vision)


QWEN_VISION = {"depth": 2, "hidden_size": 32, "out_hidden_size": 32, "num_heads": 2, "intermediate_size": 48}


def qwen2_5_vl(tokens: Tokens) -> Any:
    vision = QWEN_VISION | {"patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]}
    return _qwen(tokens, "Qwen2_5_VL", vision)


def qwen3_vl(tokens: Tokens) -> Any:
    vision = QWEN_VISION | {"patch_size": 16, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    return _qwen(tokens, "Qwen3VL", vision, mrope_interleaved=True)


def glm4v(tokens: Tokens) -> Any:
    import transformers as tf

    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4, "partial_rotary_factor": 0.5}
    return tf.Glm4vConfig(
        text_config=TEXT | {"vocab_size": len(tokens), "rope_parameters": rope},
        vision_config=QWEN_VISION | {"patch_size": 14, "image_size": 56},
        image_token_id=tokens["<|image|>"],
        video_token_id=tokens["<|video|>"],
        image_start_token_id=tokens["<|begin_of_image|>"],
        image_end_token_id=tokens["<|end_of_image|>"],
        video_start_token_id=tokens["<|begin_of_video|>"],
        video_end_token_id=tokens["<|end_of_video|>"],
    )


def idefics2(tokens: Tokens) -> Any:
    import transformers as tf

    return tf.Idefics2Config(
        vision_config=VISION | {"image_size": 32, "patch_size": 8},
        text_config=tf.MistralConfig(**TEXT, head_dim=16, vocab_size=len(tokens)),
        perceiver_config={
            "hidden_size": 32, "resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 2,
            "resampler_head_dim": 16, "num_key_value_heads": 1,
        },
        image_token_id=tokens["<image>"],
    )  # fmt: skip


def idefics3(tokens: Tokens, of: str = "Idefics3") -> Any:
    import transformers as tf

    return getattr(tf, f"{of}Config")(
        vision_config=getattr(tf, f"{of}VisionConfig")(**VISION, image_size=32, patch_size=8),
        text_config=tf.LlamaConfig(**TEXT, vocab_size=len(tokens)),
        image_token_id=tokens["<image>"],
        scale_factor=2,
        pad_token_id=0,
    )


def smolvlm_v1(tokens: Tokens) -> Any:
    return idefics3(tokens)


def smolvlm(tokens: Tokens) -> Any:
    return idefics3(tokens, "SmolVLM")


def internvl(tokens: Tokens) -> Any:
    import transformers as tf

    return tf.InternVLConfig(
        vision_config=tf.InternVLVisionConfig(**VISION, image_size=[28, 28], patch_size=[7, 7]),
        text_config=tf.Qwen2Config(**TEXT, vocab_size=len(tokens)),
        image_token_id=tokens["<IMG_CONTEXT>"],
        image_seq_length=4,
    )


def gemma3(tokens: Tokens) -> Any:
    import transformers as tf

    return tf.Gemma3Config(
        vision_config=tf.SiglipVisionConfig(**VISION, image_size=28, patch_size=7),
        text_config=TEXT | {"vocab_size": len(tokens), "head_dim": 16, "sliding_window": 64},
        mm_tokens_per_image=4,
        image_token_index=tokens["<image_soft_token>"],
        boi_token_index=tokens["<start_of_image>"],
        eoi_token_index=tokens["<end_of_image>"],
    )


def paligemma(tokens: Tokens) -> Any:
    import transformers as tf

    return tf.PaliGemmaConfig(
        vision_config=tf.SiglipVisionConfig(**VISION, image_size=28, patch_size=7, vision_use_head=False),
        text_config=TEXT | {"model_type": "gemma", "vocab_size": len(tokens), "head_dim": 16},
        image_token_index=tokens["<image>"],
    )


def mllama(tokens: Tokens) -> Any:
    import transformers as tf
    from transformers.models.mllama import configuration_mllama as parts

    vision = parts.MllamaVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_global_layers=1, attention_heads=2,
        image_size=28, patch_size=14, max_num_tiles=2, intermediate_layers_indices=[1], vision_output_dim=64,
        supported_aspect_ratios=[[1, 1], [1, 2], [2, 1]],
    )  # fmt: skip
    text = parts.MllamaTextConfig(**TEXT, vocab_size=len(tokens), cross_attention_layers=[1])
    return tf.MllamaConfig(vision_config=vision, text_config=text, image_token_index=tokens["<|image|>"])
