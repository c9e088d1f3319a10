import pickle
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from curate.encoders import torchvision_cpu, weights
from curate.encoders.text import TextEncoder
from curate.encoders.text_config import TextEncoderConfig

TEXTS = [
    "A big gray rabbit stands in a meadow and looks at a butterfly, while the camera slowly moves closer to its face.",
    "",
    "a rabbit",
    "Two squirrels throw nuts.",
    "The sky over a forest at dusk, seen from below.",
]


@pytest.fixture(scope="module")
def minilm(embedded_weights: None) -> TextEncoder:
    """With padding: all of `TEXTS` in one batch."""
    encoder = TextEncoder(TextEncoderConfig(device="cpu", batch_size=8))
    encoder.setup()
    return encoder


def save_tokenizer(folder: Path) -> None:
    """A word-level tokenizer without padding token, ending each text with </s> as T5's does."""
    torchvision_cpu.repair()
    from transformers import PreTrainedTokenizerFast

    words = ["</s>", "<unk>", *["a", "big", "gray", "rabbit", "in", "the", "sky"]]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>").save_pretrained(folder)


@pytest.fixture(scope="module")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("t5")
    save_tokenizer(folder)
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(vocab_size=16, d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=2, pad_token_id=0)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    save_tokenizer(folder)
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_states_are_those_of_the_text_alone(minilm: TextEncoder) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = weights.resolve("minilm-l6-v2")
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    together = minilm.encode(TEXTS)
    for text, states in zip(TEXTS, together, strict=True):
        with torch.inference_mode():
            alone = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy()
        assert states.dtype == np.float16
        assert states.shape == alone.shape == (len(tokenizer(text).input_ids), minilm.dim)
        np.testing.assert_allclose(states.astype(np.float32), alone, atol=2e-3, rtol=2e-3)


def test_neither_batch_size_nor_order_matters(minilm: TextEncoder) -> None:
    pairs = TextEncoder(TextEncoderConfig(batch_size=2, device="cpu"))
    pairs.setup()
    for a, b in zip(minilm.encode(TEXTS), pairs.encode(TEXTS[::-1])[::-1], strict=True):
        np.testing.assert_allclose(a.astype(np.float32), b.astype(np.float32), atol=2e-3, rtol=2e-3)
    np.testing.assert_allclose(minilm.embed(TEXTS), pairs.embed(TEXTS), atol=1e-5)


def test_by_default_a_cpu_gives_the_same_bits_in_any_company(embedded_weights: None) -> None:
    encoder = TextEncoder(TextEncoderConfig(device="cpu"))
    encoder.setup()
    for text, states in zip(TEXTS, encoder.encode(TEXTS), strict=True):
        assert np.array_equal(states, encoder.encode([text])[0])


def test_long_texts_are_cut_to_max_tokens(embedded_weights: None) -> None:
    encoder = TextEncoder(TextEncoderConfig(max_tokens=6, device="cpu"))
    encoder.setup()
    assert [len(states) for states in encoder.encode(TEXTS)] == [6, 2, 4, 6, 6]


def test_vectors_are_of_unit_length_and_nearer_for_a_paraphrase(minilm: TextEncoder) -> None:
    vectors = minilm.embed(["A dog runs on the beach.", "A puppy is running along the shore.", "Taxes were raised."])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.5 > 0.2 > vectors[0] @ vectors[2]


def test_of_an_encoder_decoder_only_the_encoder_is_loaded(tiny_t5: Path) -> None:
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    encoder = TextEncoder(TextEncoderConfig(model=str(tiny_t5), device="cpu"))
    encoder.setup()
    reference, tokenizer = (
        T5ForConditionalGeneration.from_pretrained(tiny_t5).eval(),
        AutoTokenizer.from_pretrained(tiny_t5),
    )
    texts = ["a big gray rabbit", "the sky", ""]
    for text, states in zip(texts, encoder.encode(texts), strict=True):
        with torch.inference_mode():
            ids = tokenizer(text, return_tensors="pt").input_ids
            expected = reference.encoder(input_ids=ids).last_hidden_state[0].numpy()
        np.testing.assert_allclose(states.astype(np.float32), expected, atol=2e-3, rtol=2e-3)
    assert encoder.dim == 24
    assert not any("decoder" in name for name, _ in encoder._model.named_parameters())


def test_a_decoder_without_padding_token_gives_the_states_of_the_text_alone(tiny_llama: Path) -> None:
    encoder = TextEncoder(TextEncoderConfig(model=str(tiny_llama), device="cpu"))
    encoder.setup()
    texts = ["a big gray rabbit in the sky", "a rabbit"]
    for text, states in zip(texts, encoder.encode(texts), strict=True):
        np.testing.assert_allclose(
            states.astype(np.float32), encoder.encode([text])[0].astype(np.float32), atol=2e-3, rtol=2e-3
        )


def test_states_beyond_float16_stay_finite(tiny_t5: Path, tmp_path: Path) -> None:
    from transformers import T5ForConditionalGeneration

    model = T5ForConditionalGeneration.from_pretrained(tiny_t5)
    model.encoder.final_layer_norm.weight.data.fill_(1e6)
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    encoder = TextEncoder(TextEncoderConfig(model=str(tmp_path), device="cpu"))
    encoder.setup()
    states = encoder.encode(["a big gray rabbit"])[0]
    assert np.isfinite(states).all() and np.abs(states).max() > 60000


def test_the_fingerprint_follows_what_changes_a_value_and_nothing_else(tiny_t5: Path, tiny_llama: Path) -> None:
    base = TextEncoderConfig(model=str(tiny_t5))
    same = {"batch_size": 1, "device": "cpu"}
    assert TextEncoder(base).fingerprint == TextEncoder(base.model_copy(update=same)).fingerprint
    others = [{"max_tokens": 8}, {"dtype": "bfloat16"}, {"model": str(tiny_llama)}]
    fingerprints = {TextEncoder(base.model_copy(update=update)).fingerprint for update in [{}, *others]}
    assert len(fingerprints) == 4


def test_it_pickles_before_setup(embedded_weights: None) -> None:
    encoder = pickle.loads(pickle.dumps(TextEncoder(TextEncoderConfig(device="cpu"))))
    encoder.setup()
    assert encoder.encode(["a rabbit"])[0].shape == (4, 384)


def test_a_model_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=f"text encoder model '{tmp_path}'"):
        TextEncoder(TextEncoderConfig(model=str(tmp_path))).setup()


def test_missing_embedded_weights_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REELPACK_CACHE", str(tmp_path))
    with pytest.raises(weights.MissingWeights, match="reelpack weights minilm-l6-v2"):
        TextEncoder(TextEncoderConfig()).setup()


@pytest.mark.parametrize("damage", ["cut", "objects"])
def test_weights_that_cannot_be_read_are_one_message(tiny_t5: Path, tmp_path: Path, damage: str) -> None:
    folder = Path(shutil.copytree(tiny_t5, tmp_path / "t5"))
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.unlink()
    if damage == "cut":
        weights.write_bytes(whole[:-9])
    else:
        torch.save({"weight": Fraction(1, 2)}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="transformers cannot load it") as error:
        TextEncoder(TextEncoderConfig(model=str(folder))).setup()
    assert "weights_only" not in str(error.value)
