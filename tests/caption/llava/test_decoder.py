"""What makes the embedded captioner fast does not change what it writes."""

import gc

import numpy as np
import pytest
import torch

from caption.backends.base import CaptionRequest
from caption.backends.transformers_vlm import TransformersVlm, TransformersVlmConfig
from caption.llava.by_frames import ByFrames
from caption.llava.packed import PackedLinear, pack_linears
from tests.support.small_llava import SIDE_PX, small_parts

PROMPTS = ("Describe this video briefly.", "Describe this image in detail.", "<|im_end|> is text <image>")


@pytest.fixture(scope="module")
def vlm() -> TransformersVlm:
    """As it is after `setup`."""
    parts = small_parts()
    vlm = TransformersVlm(TransformersVlmConfig(model="small"))
    vlm.model, vlm.processor, vlm.dtype = parts.model, parts.processor, torch.float32
    vlm.model.lm_head = torch.nn.Linear(64, vlm.model.lm_head.out_features, bias=False)  # tied, it repeats a token
    for part in (vlm.model.model.multi_modal_projector, vlm.model.model.language_model, vlm.model.lm_head):
        for layer in part.modules():
            if isinstance(layer, torch.nn.Linear):
                torch.nn.init.normal_(layer.weight, std=0.3)  # images weigh as much as words
    return vlm


def _pooled(vlm: TransformersVlm, calls: list[int]) -> ByFrames[torch.Tensor]:
    from caption.llava.vision import pool_frames

    def compute(arrays):
        calls.append(len(arrays))
        return pool_frames(vlm.model.model.vision_tower, vlm.processor.image_processor, arrays)

    return ByFrames(compute)


def test_texts_are_those_of_generate(vlm, monkeypatch):
    """Rows of one and three frames, other prompts, other limits; some texts end, at different tokens."""
    from caption.llava.decoder import GreedyDecoder

    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 256, (count, 48, 80, 3), np.uint8) for count in (1, 3, 3, 1)]
    requests = [
        CaptionRequest(frames=frames, prompt=prompt, max_tokens=limit)
        for frames in clips
        for prompt, limit in zip(PROMPTS, (30, 9, 80), strict=True)
    ]
    calls: list[int] = []
    decoder = GreedyDecoder(vlm.model, vlm.processor, _pooled(vlm, calls))
    written: list[list[int]] = []
    monkeypatch.setattr(vlm.processor.tokenizer, "decode", lambda tokens, **_: written.append(list(tokens)) or "")
    decoder.write(requests)
    monkeypatch.undo()
    ends = [2, *(tokens[len(tokens) // 2] for tokens in written[5::3])]
    monkeypatch.setattr(vlm.model.generation_config, "eos_token_id", ends)
    expected = vlm.caption(requests)
    assert {one.finish_reason for one in expected} == {"stop", "length"}
    assert len({one.num_output_tokens for one in expected}) > 3
    assert decoder.write(requests) == expected
    assert decoder.write(requests[::-1]) == expected[::-1] and calls == [4], "the frames of a clip are seen once"


def test_packed_layers_multiply_alike():
    layers = torch.nn.ModuleDict(
        {
            "plain_": torch.nn.Linear(48, 80, bias=False),
            "biased_": torch.nn.Linear(48, 80),
            "half_": torch.nn.Linear(8, 8, bias=False).half(),
        }
    )
    inputs = torch.randn(2, 5, 48)
    with torch.inference_mode():
        expected = layers["plain_"](inputs)
        pack_linears(layers)
        torch.testing.assert_close(layers["plain_"](inputs), expected)
    assert [isinstance(layer, PackedLinear) for layer in layers.values()] == [
        torch.backends.mkldnn.is_available(), False, False
    ]  # fmt: skip


def test_folded_batch_norms_change_no_feature(vlm):
    from caption.llava.vision import fold_batch_norm

    tower = small_parts().model.model.vision_tower
    norms = [norm for norm in tower.modules() if isinstance(norm, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 2)
    pixels = torch.randn(2, 3, SIDE_PX, SIDE_PX)
    with torch.inference_mode():
        expected = tower.pool(pixels)
        fold_batch_norm(tower.backbone)
        torch.testing.assert_close(tower.pool(pixels), expected, atol=1e-4, rtol=1e-3)
    assert norms and not any(isinstance(norm, torch.nn.BatchNorm2d) for norm in tower.modules())


def test_values_live_as_long_as_their_frames():
    calls: list[int] = []
    values = ByFrames(lambda arrays: (calls.append(len(arrays)), [one.sum() for one in arrays])[1])
    one, other = np.ones((1, 2, 2, 3), np.uint8), np.zeros((1, 2, 2, 3), np.uint8)
    assert values.of([one, other, one]) == [12, 0, 12] and calls == [2]
    assert values.of([one, one.copy()]) == [12, 12] and calls == [2, 1], "an equal array is another one"
    del one
    gc.collect()
    assert len(values._found) == 1, "of the array that somebody holds"
