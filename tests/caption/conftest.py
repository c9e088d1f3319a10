"""A tiny LLaVA with random weights, for what does not depend on what a model says; and shards of generated clips."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from curate.encoders import torchvision_cpu
from curate.media.encode import encode_mp4
from curate.media.still import encode_png
from curate.shards.tar import Member, write_tar

CHAT_TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %} assistant:{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `LlavaForConditionalGeneration` of a quarter million random weights."""
    torchvision_cpu.repair()
    import torch
    import transformers as tf
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<pad>", "<s>", "</s>", "<image>"],
    )
    tokenizer.train_from_iterator(["user: describe this video", "assistant: a rabbit in a meadow"], trainer)
    wrapped = tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = tf.LlavaConfig(
        vision_config=tf.CLIPVisionConfig(**sizes, image_size=28, patch_size=14),
        text_config=tf.LlamaConfig(
            **sizes, vocab_size=len(wrapped), num_key_value_heads=1, pad_token_id=0, bos_token_id=1, eos_token_id=2
        ),
        image_token_index=wrapped.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=4,
    )
    torch.manual_seed(0)
    model = tf.LlavaForConditionalGeneration(config)
    torch.nn.init.normal_(model.lm_head.weight, std=1.0)  # so that no two tokens are nearly equally likely
    processor = tf.LlavaProcessor(
        image_processor=tf.CLIPImageProcessorPil(size={"height": 28, "width": 28}, do_center_crop=False),
        tokenizer=wrapped,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-llava"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@dataclass(frozen=True, kw_only=True, slots=True)
class Shards:
    """A folder of shards, and the media members in it by key."""

    root: str
    members: dict[str, Member]


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """Three clips of different colors and lengths, a still image, a black clip, and bytes that are no video."""
    root = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    samples = [
        (f"clip{length}", {"mp4": encode_mp4(_noise(rng, length), 12)}) for length in (3, 9, 20)
    ]  # fmt: skip
    samples.append(("black", {"mp4": encode_mp4(np.zeros((12, 48, 64, 3), np.uint8), 12)}))
    samples += [("still", {"png": encode_png(_noise(rng, 1)[0])}), ("broken", {"mp4": b"not a video at all"})]
    members = write_tar(str(root / "train-000000.tar"), samples)
    return Shards(root=str(root), members={member.key: member for member in members})


def _noise(rng: np.random.Generator, length: int) -> np.ndarray:
    """(length, 48, 64, 3) uint8: random blocks, so that every clip looks its own way."""
    blocks = rng.integers(0, 256, (length, 6, 8, 3), np.uint8)
    return blocks.repeat(8, 1).repeat(8, 2)
