"""Text encoders in folders of a diffusers pipeline: tiny random models of each class that pipelines have.

References follow `encode_prompt` of the pipelines: texts padded to a length, with or without a mask of the padding.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curate.encoders import torchvision_cpu
from curate.encoders.text import TextEncoder
from curate.encoders.text_config import TextEncoderConfig

TEXT = "a big gray rabbit"
WORDS = ("<pad>", "<s>", "</s>", "<unk>", "a", "big", "gray", "rabbit", "in", "the", "sky")
WIDTH = 24
CLIP = {"vocab_size": 16, "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 3, "pad_token_id": 0}
CLIP |= {"num_attention_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "projection_dim": 8}
T5 = {"vocab_size": 16, "d_model": WIDTH, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "pad_token_id": 0}
LLAMA = {name: CLIP[name] for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")}
LLAMA |= {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 12}
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
GEMMA = {"text_config": LLAMA, "vision_config": VISION | {"image_size": 28, "patch_size": 14}}

CLASSES = {
    "CLIPTextModel": ("CLIPTextConfig", CLIP),
    "CLIPTextModelWithProjection": ("CLIPTextConfig", CLIP),
    "CLIPModel": ("CLIPConfig", GEMMA | {"text_config": CLIP}),
    "T5EncoderModel": ("T5Config", T5),
    "UMT5EncoderModel": ("UMT5Config", T5),
    "LlamaModel": ("LlamaConfig", LLAMA),
    "LlamaForCausalLM": ("LlamaConfig", LLAMA),
    "Gemma2Model": ("Gemma2Config", LLAMA),
    "Gemma3ForConditionalGeneration": ("Gemma3Config", GEMMA),
}


def save_tokenizer(folder: Path, *, starts: bool, pad: str) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    single = "<s> $A </s>" if starts else "$A </s>"
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<s>", 1), ("</s>", 2)])
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token=pad)
    made.save_pretrained(folder)
    return made


def save(root: Path, name: str, number: str = "", **options: Any) -> tuple[Any, Any]:
    """A random model and a tokenizer as a pipeline stores them; both."""
    torchvision_cpu.repair()
    import transformers

    config, values = CLASSES[name]
    torch.manual_seed(0)
    model = getattr(transformers, name)(getattr(transformers, config)(**values)).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3)
    model.save_pretrained(root / f"text_encoder{number}", **options)
    is_clip = name.startswith("CLIP")
    tokenizer = save_tokenizer(root / f"tokenizer{number}", starts=is_clip, pad="</s>" if is_clip else "<pad>")
    (root / "model_index.json").write_text("{}")
    return model, tokenizer


def encoder(root: Path, subfolder: str | None = "text_encoder", **settings: Any) -> TextEncoder:
    config = TextEncoderConfig(model=str(root), subfolder=subfolder, device="cpu", **{"max_tokens": 32} | settings)
    made = TextEncoder(config)
    made.setup()
    return made


def padded(tokenizer: Any, length: int) -> Any:
    return tokenizer(TEXT, padding="max_length", max_length=length, return_tensors="pt")


def assert_equal(states: np.ndarray, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(states.astype(np.float32), expected.detach().numpy(), atol=3e-3, rtol=3e-3)


def clip(tokens: Any, model: Any) -> torch.Tensor:
    return model(tokens.input_ids).last_hidden_state[0]


def clip_penultimate(tokens: Any, model: Any) -> torch.Tensor:
    return model(tokens.input_ids, output_hidden_states=True).hidden_states[-2][0]


def masked(tokens: Any, model: Any) -> torch.Tensor:
    return model(tokens.input_ids, tokens.attention_mask).last_hidden_state[0]


def unmasked(tokens: Any, model: Any) -> torch.Tensor:
    return model(tokens.input_ids).last_hidden_state[0]


def third_last(tokens: Any, model: Any) -> torch.Tensor:
    return model(tokens.input_ids, tokens.attention_mask, output_hidden_states=True).hidden_states[-3][0]


PIPELINES: dict[str, tuple[str, Callable[[Any, Any], torch.Tensor], dict[str, Any]]] = {
    "SD": ("CLIPTextModel", clip, {}),
    "SD, all states": ("CLIPTextModel", clip, {"padding": "stored"}),
    "SDXL": ("CLIPTextModelWithProjection", clip_penultimate, {"layer": -2}),
    "Wan": ("UMT5EncoderModel", masked, {}),
    "Mochi": ("T5EncoderModel", masked, {}),
    "LTX": ("T5EncoderModel", unmasked, {"padding": "attended"}),
    "CogVideoX": ("T5EncoderModel", unmasked, {"padding": "stored"}),
    "Sana": ("Gemma2Model", masked, {}),
    "HunyuanVideo": ("LlamaModel", third_last, {"layer": -3}),
}


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_states_are_those_of_the_pipeline(pipeline: str, tmp_path: Path) -> None:
    name, reference, settings = PIPELINES[pipeline]
    model, tokenizer = save(tmp_path, name)
    made = encoder(tmp_path, **settings)
    (states,) = made.encode([TEXT])
    count = 32 if settings.get("padding") == "stored" else len(tokenizer(TEXT).input_ids)
    assert states.shape == (count, WIDTH) and made.dim == WIDTH
    assert_equal(states, reference(padded(tokenizer, 32), model)[:count])


def test_padding_that_is_seen_changes_the_states_of_t5_and_of_no_clip(tmp_path: Path) -> None:
    """Why LTX-Video needs a setting and SD does not: CLIP sees no later token."""
    for name, changes in (("T5EncoderModel", True), ("CLIPTextModel", False)):
        save(tmp_path / name, name)
        alone, seen = (encoder(tmp_path / name, padding=one).encode([TEXT])[0] for one in ("none", "attended"))
        assert (np.abs(alone - seen).max() > 0.1) == changes


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("layer", [None, -2])
def test_a_text_does_not_depend_on_its_batch(name: str, layer: int | None, tmp_path: Path) -> None:
    save(tmp_path, name)
    made = encoder(tmp_path, batch_size=4, layer=layer)
    _, short = made.encode(["a big gray rabbit in the sky", "the sky"])
    assert short.shape == made.encode(["the sky"])[0].shape
    scale = float(np.abs(short).max())
    np.testing.assert_allclose(short / scale, made.encode(["the sky"])[0] / scale, atol=3e-3)


def test_the_second_encoder_has_the_second_tokenizer(tmp_path: Path) -> None:
    save(tmp_path, "CLIPTextModel")
    save(tmp_path, "T5EncoderModel", "_2")
    assert len(encoder(tmp_path).encode([TEXT])[0]) == 6
    assert len(encoder(tmp_path, "text_encoder_2").encode([TEXT])[0]) == 5  # T5 has no first token


def test_the_fingerprint_follows_folder_layer_padding_and_tokenizer(tmp_path: Path) -> None:
    save(tmp_path, "CLIPTextModel")
    save(tmp_path, "T5EncoderModel", "_2")
    base = TextEncoderConfig(model=str(tmp_path), subfolder="text_encoder")
    found = [TextEncoder(base).fingerprint]
    for update in ({"subfolder": "text_encoder_2"}, {"layer": -2}, {"layer": -3}, {"padding": "stored"}):
        found.append(TextEncoder(base.model_copy(update=update)).fingerprint)
    with (tmp_path / "tokenizer/tokenizer.json").open("a") as file:
        file.write("\n")
    found.append(TextEncoder(base).fingerprint)
    assert len(set(found)) == 6


def test_settings_that_were_there_before_keep_their_fingerprint(tmp_path: Path) -> None:
    """Of a folder with these bytes, as earlier versions gave it."""
    (tmp_path / "config.json").write_text("{}")
    fingerprint = "bfa91cd9"
    assert TextEncoder(TextEncoderConfig(model=str(tmp_path))).fingerprint.startswith(fingerprint)


@pytest.mark.parametrize("layout", ["sharded", "fp16", "sharded fp16", "bin"])
def test_weights_are_found_however_they_are_stored(layout: str, tmp_path: Path) -> None:
    options = {"max_shard_size": "4KB"} if "sharded" in layout else {}
    model, _ = save(tmp_path, "T5EncoderModel", **options | ({"variant": "fp16"} if "fp16" in layout else {}))
    if layout == "bin":
        folder = tmp_path / "text_encoder"
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    expected = model(torch.tensor([[4, 5, 2]])).last_hidden_state[0]
    assert_equal(encoder(tmp_path).encode(["a big"])[0], expected)


def test_a_tokenizer_of_sentencepiece_alone_is_read(tmp_path: Path) -> None:
    """CogVideoX, LTX-Video, Mochi and google/t5-v1_1-xxl have no tokenizer.json."""
    import sentencepiece

    save(tmp_path, "T5EncoderModel")
    folder = tmp_path / "tokenizer"
    for file in folder.iterdir():
        file.unlink()
    with (folder / "spiece.model").open("wb") as written:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["a big gray rabbit in the sky"] * 9), model_writer=written, vocab_size=16,
            pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2,
        )  # fmt: skip
    names = {"tokenizer_class": "T5Tokenizer", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names | {"extra_ids": 0}))
    made = encoder(tmp_path)
    assert len(made.encode([TEXT])[0]) == made.count_tokens([TEXT])[0] > 2


def broken_variants(root: Path) -> None:
    folder = root / "text_encoder"
    weights = folder / "model.safetensors"
    weights.rename(folder / "model.fp16.safetensors")
    (folder / "model.bf16.safetensors").write_bytes(b"")


def broken_tensor(root: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = root / "text_encoder/model.safetensors"
    tensors = load_file(weights)
    del tensors["encoder.block.0.layer.0.SelfAttention.q.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})


def without_shard(root: Path) -> None:
    save(root, "T5EncoderModel", max_shard_size="4KB")
    (root / "text_encoder/model.safetensors").unlink()
    min((root / "text_encoder").glob("model-*")).unlink()


@pytest.mark.parametrize(
    ("settings", "damage", "message"),
    [
        ({"subfolder": None}, None, r"is a whole pipeline; set text.subfolder to one of text_encoder"),
        ({"subfolder": "encoder"}, None, r"no folder 'encoder' in .*; expected one of text_encoder"),
        ({}, lambda root: (root / "text_encoder/model.safetensors").unlink(), "no file named model.safetensors"),
        ({}, lambda root: (root / "tokenizer").rename(root / "elsewhere"), "no folder 'tokenizer'"),
        ({}, broken_variants, "variants bf16, fp16; keep one"),
        ({}, broken_tensor, r"lack 1 tensors: encoder.block.0.layer.0.SelfAttention.q.weight"),
        ({}, without_shard, "model-00001-of"),
        ({"layer": -4}, None, "text.layer: got -4; .* has 2 layers"),
    ],
)
def test_what_cannot_be_loaded_is_told(
    settings: dict[str, Any], damage: Callable[[Path], None] | None, message: str, tmp_path: Path
) -> None:
    save(tmp_path, "T5EncoderModel")
    if damage:
        damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        encoder(tmp_path, **{"subfolder": "text_encoder"} | settings)


def test_a_model_that_reads_no_text_is_told(tmp_path: Path) -> None:
    torchvision_cpu.repair()
    from transformers import ViTConfig, ViTModel

    ViTModel(ViTConfig(**VISION, image_size=28, patch_size=14)).save_pretrained(tmp_path / "text_encoder")
    save_tokenizer(tmp_path / "tokenizer", starts=True, pad="<pad>")
    with pytest.raises(ValueError, match="ViTModel does not read texts"):
        encoder(tmp_path)
