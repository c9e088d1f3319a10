"""How likely an ending is after a text does not depend on the other endings."""

from types import SimpleNamespace

import pytest
import torch

from caption.llava.language import EmbeddedLanguageModel
from curate.encoders import torchvision_cpu


class Letters:
    """A token per letter."""

    pad_token_id = 0

    def __call__(self, text: str) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[1 + ord(letter) % 60 for letter in text])


@pytest.fixture
def model() -> EmbeddedLanguageModel:
    torchvision_cpu.repair()
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    settings = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, initializer_range=0.5,
    )  # fmt: skip
    model = EmbeddedLanguageModel()
    model._model, model._tokenizer = LlamaForCausalLM(settings).eval(), Letters()
    return model


def test_each_ending_is_scored_alone_and_after_its_text(model: EmbeddedLanguageModel) -> None:
    endings = ["Wide shot.", "Close.", "Low camera, soft light."]
    together = model.log_likelihoods("A cat.", endings)
    alone = [model.log_likelihoods("A cat.", [ending])[0] for ending in endings]
    assert together == pytest.approx(alone, abs=1e-5)
    assert together != pytest.approx(model.log_likelihoods("A dog at night.", endings), abs=1e-3)


def test_the_score_is_the_mean_log_probability_of_the_endings_tokens(model: EmbeddedLanguageModel) -> None:
    start, tail = Letters()("A cat.").input_ids, Letters()(" Low.").input_ids
    with torch.no_grad():
        logits = model._model(input_ids=torch.tensor([start + tail])).logits[0].log_softmax(-1)
    expected = sum(float(logits[len(start) - 1 + at, token]) for at, token in enumerate(tail)) / len(tail)
    assert model.log_likelihoods("A cat.", ["Low."]) == pytest.approx([expected], abs=1e-5)
