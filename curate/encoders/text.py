"""Text encoder: a caption becomes the hidden states of its tokens (for cross-attention), or one vector (for ConSE).

The embedded default is MiniLM (all-MiniLM-L6-v2, docs/models/minilm.md). Any encoder that transformers loads works: of
encoder–decoders such as T5 the encoder alone is loaded, everything else through `AutoModel`.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.device import pick_device
from curate.encoders import torchvision_cpu, weights
from curate.encoders.fingerprint import library_versions, path_digest
from curate.encoders.hub import resolve_commit
from curate.encoders.manifest import ASSETS
from curate.schema import content_digest

if TYPE_CHECKING:
    import torch

GPU_BATCH_SIZE = 32


class TextEncoderConfig(BaseModel):
    """Which text encoder, and how much of a text it sees."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field("minilm-l6-v2", description="embedded weights by name, a local folder, or a hub id")
    revision: str | None = Field(
        None, description="commit, branch or tag of a hub id; none: main. A run stays with the commit that it means"
    )
    max_tokens: int = Field(256, ge=1, description="longer texts are cut off, special tokens included")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="precision of the model")
    batch_size: int | None = Field(
        None,
        ge=1,
        description="texts per forward pass; none: 32 on a GPU, 1 on a CPU, where a batch saves little and where a "
        "text's states are then equal to the bit in any batch",
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<n>")

    @property
    def path(self) -> Path | None:
        """The path of a model that is no hub id.

        Raises:
            MissingWeights: embedded weights that were not fetched.
        """
        if self.model in ASSETS:
            return weights.resolve(self.model)
        folder = Path(self.model).expanduser()
        return folder if folder.is_dir() else None

    def pinned(self) -> "TextEncoderConfig":
        """The same settings with the hub id's current commit: every worker and every rerun then loads that one.

        Raises:
            MissingWeights: embedded weights that were not fetched.
            ValueError: neither the hub nor its local cache knows the id.
        """
        if self.path is not None:
            return self
        return self.model_copy(update={"revision": resolve_commit(self.model, self.revision, "text encoder model")})


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
            ValueError: transformers cannot load the model.
        """
        if self._model is not None:
            return
        torchvision_cpu.repair()
        import torch
        from safetensors import SafetensorError
        from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer

        config = self.config.pinned()
        source, options = str(config.path or config.model), {"revision": config.revision or "main"}
        try:
            architecture = AutoConfig.from_pretrained(source, **options)
            loader = AutoModelForTextEncoding if architecture.is_encoder_decoder else AutoModel
            model = loader.from_pretrained(source, dtype=getattr(torch, self.config.dtype), **options)
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
        except (EOFError, LookupError, OSError, RuntimeError, SafetensorError, UnpicklingError, ValueError) as error:
            is_pickle = isinstance(error, UnpicklingError)
            said = "its weights hold more than tensors, which could run code" if is_pickle else error
            raise ValueError(
                f"text encoder model {self.config.model!r}: transformers cannot load it. Expected embedded weights "
                f"({', '.join(ASSETS)}), a local folder with config and tokenizer, or a hub id: {said}"
            ) from error
        positions = getattr(model.config, "max_position_embeddings", None)
        if positions is not None and self.config.max_tokens > positions:
            raise ValueError(
                f"text.max_tokens: got {self.config.max_tokens}; expected at most {positions}, the positions that "
                f"{self.config.model} has"
            )
        tokenizer.padding_side = "right"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._device = pick_device(self.config.device)
        self._model, self._tokenizer = model.to(self._device).eval(), tokenizer

    @property
    def dim(self) -> int:
        """Width of the token states. Known after `setup`."""
        config = self._model.config
        return int(getattr(config, "hidden_size", None) or config.d_model)

    @cached_property
    def fingerprint(self) -> str:
        """Names the function text → states: weights and tokenizer by content (hub ids by commit), max_tokens, type."""
        path = self.config.path
        content = path_digest(path) if path else f"hub:{self.config.model}@{self.config.pinned().revision}"
        return content_digest("text", content, str(self.config.max_tokens), self.config.dtype)

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
            One (n, dim) float16 array per text: its own n tokens, special tokens included, padding not.
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
            ids = torch.full((len(batch), max(lengths)), self._tokenizer.pad_token_id)
            mask = torch.zeros_like(ids)
            for row, index in enumerate(batch):
                ids[row, : lengths[row]] = torch.tensor(tokens[index])
                mask[row, : lengths[row]] = 1
            with torch.inference_mode():
                output = self._model(input_ids=ids.to(self._device), attention_mask=mask.to(self._device))
            for row, index in enumerate(batch):
                yield index, output.last_hidden_state[row, : lengths[row]]
