"""Text encoder: a caption becomes the hidden states of its tokens (for cross-attention), or one vector (for ConSE).

The embedded default is MiniLM (all-MiniLM-L6-v2, docs/models/minilm.md). `text_weights.py` says what else is loaded.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.device import pick_device
from curate.encoders.fingerprint import library_versions
from curate.encoders.text_config import TextEncoderConfig
from curate.encoders.text_weights import content_of, load, text_config
from curate.schema import content_digest

if TYPE_CHECKING:
    import torch

GPU_BATCH_SIZE = 32


class TextEncoder:
    """Texts to token states. Up to rounding, a text's states do not depend on the other texts in its batch."""

    def __init__(self, config: TextEncoderConfig) -> None:
        self.config = config
        self._model: Any = None
        self._tokenizer: Any = None
        self._device: torch.device

    def setup(self) -> None:
        """Load tokenizer and model.

        Raises:
            MissingWeights: embedded weights that were not fetched.
            ValueError: transformers cannot load the model, or it is shorter than `max_tokens` or `layer` ask for.
        """
        if self._model is not None:
            return
        model, tokenizer = load(self.config.pinned())
        positions = getattr(text_config(model), "max_position_embeddings", None)
        if positions is not None and self.config.max_tokens > positions:
            raise ValueError(
                f"text.max_tokens: got {self.config.max_tokens}; expected at most {positions}, the positions that "
                f"{self.config.model} has"
            )
        num_layers = getattr(text_config(model), "num_hidden_layers", None)
        if self.config.layer is not None and num_layers is not None and -self.config.layer > num_layers + 1:
            raise ValueError(f"text.layer: got {self.config.layer}; {self.config.model} has {num_layers} layers")
        tokenizer.padding_side = "right"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._device = pick_device(self.config.device)
        self._model, self._tokenizer = model.to(self._device).eval(), tokenizer

    @property
    def dim(self) -> int:
        """Width of the token states. Known after `setup`."""
        config = text_config(self._model)
        return int(getattr(config, "hidden_size", None) or config.d_model)

    @cached_property
    def fingerprint(self) -> str:
        """Names the function text → states: weights and tokenizer by content (hub ids by commit), and the settings
        that change a value."""
        config = self.config.pinned()
        fields = TextEncoderConfig.model_fields
        changed = [
            f"{name}={value}"
            for name in ("layer", "padding")
            if (value := getattr(config, name)) != fields[name].default  # which names nothing: as before they existed
        ]
        return content_digest("text", content_of(config), str(config.max_tokens), config.dtype, *changed)

    @property
    def libraries(self) -> dict[str, str]:
        """Versions of what computes the states, for the record."""
        return library_versions("transformers", "tokenizers", "torch")

    def fits(self, text: str) -> bool:
        """Whether the text has at most `max_tokens` tokens, special ones included. Known after `setup`."""
        return len(self._tokenizer(text).input_ids) <= self.config.max_tokens

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token states of each text, in order.

        Returns:
            One (n, dim) float16 array per text: its own n tokens, special tokens included. Padding is not, except
            where `padding` is "stored": then n is `max_tokens`.
        """
        states: list[np.ndarray] = [np.empty(0)] * len(texts)
        for index, state in self._states(texts):
            # Some models (T5) have a few states beyond what float16 holds; an infinity would poison every use.
            limit = np.finfo(np.float16).max
            states[index] = state.float().clamp(-limit, limit).cpu().numpy().astype(np.float16)
        return states

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before it is cut off at `max_tokens`, special tokens included."""
        return [len(self._tokenizer(text, truncation=False, verbose=False).input_ids) for text in texts]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """One vector per text: the mean over its token states, of unit length, (M, dim) float32.

        That is how all-MiniLM-L6-v2 was trained (Reimers & Gurevych 2019, Sentence-BERT, section 3).
        """
        import torch

        embeddings = np.zeros((len(texts), self.dim), np.float32)
        for index, state in self._states(texts):
            embeddings[index] = torch.nn.functional.normalize(state.float().mean(0), dim=0).cpu().numpy()
        return embeddings

    def _states(self, texts: Sequence[str]) -> Iterator[tuple[int, "torch.Tensor"]]:
        """(index, (n, dim) states) of every text, sorted by length to keep padding low."""
        import torch

        tokens = [
            self._tokenizer(text, truncation=True, max_length=self.config.max_tokens).input_ids for text in texts
        ]
        order = sorted(range(len(texts)), key=lambda index: len(tokens[index]))
        size = self.config.batch_size or (1 if self._device.type == "cpu" else GPU_BATCH_SIZE)
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            lengths = [len(tokens[index]) for index in batch]
            width = max(lengths) if self.config.padding == "none" else self.config.max_tokens
            ids = torch.full((len(batch), width), self._tokenizer.pad_token_id)
            mask = torch.full_like(ids, self.config.padding != "none")
            for row, index in enumerate(batch):
                ids[row, : lengths[row]] = torch.tensor(tokens[index])
                mask[row, : lengths[row]] = 1
            states = self._forward(ids.to(self._device), mask.to(self._device))
            for row, index in enumerate(batch):
                yield index, states[row] if self.config.padding == "stored" else states[row, : lengths[row]]

    def _forward(self, ids: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
        """(B, n) of tokens to their states (B, n, dim)."""
        import torch

        layer = self.config.layer
        with torch.inference_mode():
            output = self._model(input_ids=ids, attention_mask=mask, output_hidden_states=layer is not None)
        return output.last_hidden_state if layer is None else output.hidden_states[layer]
