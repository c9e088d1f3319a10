"""The embedded language model, SmolLM2-135M-Instruct without the film's tuning: how well one text follows another.

135 M weights are too few to write a caption that keeps to a prompt, but tell which of some endings fits.
"""

from collections.abc import Sequence
from typing import Any

from curate.device import pick_device
from curate.encoders import torchvision_cpu, weights


class EmbeddedLanguageModel:
    """Scores texts. `setup` loads the weights."""

    def __init__(self, device: str = "auto") -> None:
        self.device = device
        self._model: Any = None
        self._tokenizer: Any = None

    def setup(self) -> None:
        """Raises:
        MissingWeights: the weights are not in the cache.
        """
        if self._model is not None:
            return
        gguf = next(weights.resolve("smollm2-135m-instruct").glob("*.gguf"))
        torchvision_cpu.repair()
        from caption.llava.parts import language_model

        self._tokenizer, model = language_model(gguf)
        self._model = model.eval().to(pick_device(self.device))

    def log_likelihoods(self, text: str, endings: Sequence[str]) -> list[float]:
        """Mean log-likelihood of the tokens of each ending after the text, nats."""
        import torch

        start = self._tokenizer(text).input_ids
        tails = [self._tokenizer(f" {ending}").input_ids for ending in endings]
        longest = max(map(len, tails))
        rows = [start + tail + [self._tokenizer.pad_token_id] * (longest - len(tail)) for tail in tails]
        ids = torch.tensor(rows, device=self._model.device)  # (N, S); what follows the ending is not looked at
        is_tail = torch.tensor([[at < len(tail) for at in range(longest)] for tail in tails], device=ids.device)
        with torch.inference_mode():
            logits = self._model(input_ids=ids).logits[:, len(start) - 1 : -1].float()
        found = logits.log_softmax(-1).gather(2, ids[:, len(start) :, None])[..., 0]
        means: list[float] = ((found * is_tail).sum(1) / is_tail.sum(1)).tolist()
        return means
