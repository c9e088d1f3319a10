"""Greedy decoding by the embedded captioner: what transformers' `generate` writes, to rounding, in less time.

The prompts of a clip begin with the same frames: keys and values of this beginning are computed once. A row leaves the
batch when its text ends.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from caption.backends.base import CaptionRequest, CaptionResult
from caption.backends.processor import control_tokens
from caption.backends.thinking import without_thinking
from caption.llava.by_frames import ByFrames
from caption.llava.kv import RoomyCache


class GreedyDecoder:
    """Writes for many requests at the same time.

    Args:
        model: a `LlavaForConditionalGeneration` whose tower is `caption.llava.vision`'s.
        processor: its `LlavaProcessor`.
        pooled: of frames, the tower's averages (T, tokens, channels).
    """

    def __init__(self, model: Any, processor: Any, pooled: ByFrames[torch.Tensor]) -> None:
        self._model, self._tokenizer, self._template = model, processor.tokenizer, processor.chat_template
        self._pooled, self._begun = pooled, ByFrames(self._begin)
        self._control = control_tokens(processor)
        self._start, _ = self._tokens("")

    @torch.inference_mode()
    def write(self, requests: Sequence[CaptionRequest]) -> list[CaptionResult]:
        """The texts. Every request has frames, and neither a seed nor a penalty."""
        begun = self._begun.of([request.frames for request in requests])
        cache, starts = RoomyCache(begun), [row.shape[3] for row in begun]
        asked = [torch.tensor(self._tokens(request.prompt)[1]) for request in requests]
        tokens, real = _left_padded(asked)
        real = torch.cat([_left_padded([torch.ones(start) for start in starts])[1], real], 1).to(self._model.device)
        written: list[list[int]] = [[] for _ in requests]
        rows = list(range(len(requests)))
        while rows:
            hidden = self._hidden(cache, real, input_ids=tokens.to(self._model.device))
            tokens = self._model.lm_head(hidden[:, -1]).argmax(-1, keepdim=True)  # (rows, 1)
            for row, token in zip(rows, tokens[:, 0].tolist(), strict=True):
                written[row].append(token)
            stay = [at for at, row in enumerate(rows) if not self._is_done(written[row], requests[row])]
            if len(stay) < len(rows):
                rows = [rows[at] for at in stay]
                chosen = torch.tensor(stay, dtype=torch.long, device=tokens.device)
                tokens, real = tokens[chosen], real[chosen]
                cache.batch_select_indices(chosen)
            real = torch.nn.functional.pad(real, (0, 1), value=1)
        return [self._result(one, start + len(rest)) for one, start, rest in zip(written, starts, asked, strict=True)]

    def forget(self) -> None:
        """What is known of frames."""
        self._begun.clear()
        self._pooled.clear()

    def _begin(self, arrays: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """Keys and values of the beginnings of prompts, up to the last frame: (layers, 2, heads, tokens, width)."""
        model = self._model.model
        start = model.get_input_embeddings()(torch.tensor(self._start, device=self._model.device))
        rows = []
        for pooled in self._pooled.of(arrays):
            images = model.multi_modal_projector(model.vision_tower.standardize(pooled).to(start.dtype))
            rows.append(torch.cat([start, images.flatten(0, 1)]))
        embedded, real = _left_padded(rows)
        cache = DynamicCache()
        self._hidden(cache, real.to(start.device), inputs_embeds=embedded)
        both = torch.stack([torch.stack([layer.keys, layer.values]) for layer in cache.layers])
        return [both[:, :, at, :, real.shape[1] - len(row) :] for at, row in enumerate(rows)]

    def _hidden(self, cache: Any, real: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """(rows, tokens, width) of further tokens; `real`: (rows, tokens so far), 0 where a row is padded."""
        num_new = next(iter(inputs.values())).shape[1]
        places = (real.cumsum(1) - 1).clamp_min(0)[:, -num_new:]
        found: torch.Tensor = self._model.model.language_model(
            attention_mask=real, position_ids=places, past_key_values=cache, use_cache=True, **inputs
        ).last_hidden_state
        return found

    def _tokens(self, prompt: str) -> tuple[list[int], list[int]]:
        """The tokens before the images and behind them."""
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        tokens = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            chat_template=self._template,
            add_generation_prompt=True,
            return_dict=False,
            sanitize_control_tokens=any(token in prompt for token in self._control),
        )
        image = tokens.index(self._model.config.image_token_id)
        return tokens[:image], tokens[image + 1 :]

    def _ends(self) -> set[int]:
        ends = self._model.generation_config.eos_token_id
        return {ends} if isinstance(ends, int) else set(ends)

    def _is_done(self, written: Sequence[int], request: CaptionRequest) -> bool:
        return written[-1] in self._ends() or len(written) >= request.max_tokens

    def _result(self, written: list[int], num_prompt: int) -> CaptionResult:
        is_ended = written[-1] in self._ends()
        text = written[:-1] if is_ended else written
        return CaptionResult(
            text=without_thinking(self._tokenizer.decode(text, skip_special_tokens=True)),
            finish_reason="stop" if is_ended else "length",
            num_prompt_tokens=num_prompt,
            num_output_tokens=len(written),
        )


def _left_padded(rows: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of one length, (rows, tokens, …), and (rows, tokens) of 1 where they are not padded."""
    real = [torch.ones(len(row), dtype=torch.long) for row in rows]
    return _padded(rows), _padded(real)


def _padded(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    return pad_sequence(list(rows), batch_first=True, padding_side="left")
