"""The embedded captioner's architecture with a small language model of random weights."""

import torch

from caption.llava.parts import CHAT_TEMPLATE, Parts
from caption.prompts import PLAIN_V1
from curate.encoders import torchvision_cpu

SIDE_PX = 64


def small_parts() -> Parts:
    """Random weights, two layers of text; tokens are bytes and the words of the prompts."""
    torchvision_cpu.repair()
    import transformers as tf
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    from caption.llava.vision import EfficientNetLiteVisionConfig

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, special_tokens=special)
    tokenizer.train_from_iterator(
        [PLAIN_V1.of("short").text(), PLAIN_V1.of("dense").text(), "user assistant"], trainer
    )
    wrapped = tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    vision = EfficientNetLiteVisionConfig(image_size=SIDE_PX, patch_size=32)
    text = tf.LlamaConfig(
        vocab_size=len(wrapped), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, eos_token_id=2, pad_token_id=0, bos_token_id=1, tie_word_embeddings=True,
    )  # fmt: skip
    config = tf.LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=3, image_seq_length=vision.num_tokens,
        vision_feature_layer=-1, vision_feature_select_strategy="full", tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    model = tf.LlavaForConditionalGeneration(config).eval()
    torch.nn.init.normal_(model.lm_head.weight, std=0.3)  # tied to the embeddings; nearly uniform answers test nothing
    model.generation_config.eos_token_id = 2
    processor = tf.LlavaProcessor(
        image_processor=tf.CLIPImageProcessorPil(
            size={"height": SIDE_PX, "width": SIDE_PX}, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
        ),
        tokenizer=wrapped, patch_size=32, vision_feature_select_strategy="full", num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )  # fmt: skip
    return Parts(model=model, processor=processor)
