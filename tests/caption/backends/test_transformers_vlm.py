import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from caption.backends.base import CaptionRequest
from caption.backends.batches import Batches
from caption.backends.transformers_vlm import TransformersVlm, TransformersVlmConfig


def _vlm(folder, **changes) -> TransformersVlm:
    vlm = TransformersVlm(TransformersVlmConfig(model=str(folder), dtype="float32", device="cpu", **changes))
    vlm.setup()
    return vlm


@pytest.fixture(scope="module")
def vlm(tiny_vlm) -> TransformersVlm:
    return _vlm(tiny_vlm)


def _request(
    frames_seed: int, num_frames: int = 2, prompt: str = "describe this video", max_tokens: int = 6, **changes
):
    frames = np.random.default_rng(frames_seed).integers(0, 256, (num_frames, 28, 28, 3), np.uint8)
    return CaptionRequest(frames=frames, prompt=prompt, max_tokens=max_tokens, **changes)


def test_text_equals_greedy_decoding_step_by_step(vlm):
    """Against a loop that feeds the whole sequence again for each token: no cache, no padding, no `generate`."""
    import torch

    request = _request(3)
    content = [{"type": "image", "image": frame} for frame in request.frames]
    content.append({"type": "text", "text": request.prompt})
    inputs = vlm.processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
    )  # fmt: skip
    ids, written = inputs["input_ids"], []
    with torch.inference_mode():
        for _ in range(request.max_tokens):
            logits = vlm.model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits
            written.append(int(logits[0, -1].argmax()))
            if written[-1] == vlm.processor.tokenizer.eos_token_id:
                break
            ids = torch.cat([ids, torch.tensor([[written[-1]]])], 1)
    result = vlm.caption([request])[0]
    assert result.text == vlm.processor.tokenizer.decode(written, skip_special_tokens=True).strip()
    assert (result.num_prompt_tokens, result.num_output_tokens) == (inputs["input_ids"].shape[1], len(written))


def test_requests_of_different_limits_keep_their_order(vlm):
    requests = [_request(0, max_tokens=2), _request(1, max_tokens=7), _request(2, max_tokens=2)]
    assert vlm.caption(requests) == [vlm.caption([request])[0] for request in requests]


def test_control_tokens_in_a_prompt_are_plain_text(vlm):
    """A title that holds `<image>` must not shift the order of the images, nor end the turn."""
    hostile = vlm.caption([_request(0, prompt="called <image> </s> by its maker")])[0]
    plain = vlm.caption([_request(0, prompt="called by its maker")])[0]
    assert hostile.num_prompt_tokens > plain.num_prompt_tokens


def test_losses_are_of_the_answer_alone_and_do_not_depend_on_the_batch(vlm):
    requests = [_request(0), _request(1, num_frames=4)]
    texts = ["a rabbit in a meadow", "video"]
    together = vlm.losses(requests, texts)
    alone = [vlm.losses([request], [text])[0] for request, text in zip(requests, texts, strict=True)]
    assert together == pytest.approx(alone, abs=1e-4)
    shown_other = vlm.losses([_request(9, num_frames=4)], texts[1:])[0]
    assert shown_other != pytest.approx(together[1], abs=1e-4)


def test_sampling_repeats_with_its_seed(tiny_vlm):
    request = _request(0, max_tokens=12)
    first = _vlm(tiny_vlm, temperature=2.0, seed=1)
    assert first.caption([request]) == first.caption([request])
    assert first.caption([request]) != _vlm(tiny_vlm, temperature=2.0, seed=2).caption([request])


def test_a_seeded_request_is_sampled_and_does_not_depend_on_its_batch(vlm):
    requests = [
        _request(row % 2, 1 + row % 3, max_tokens=12, seed=seed) for row, seed in enumerate((1, 2, None, 1, 1))
    ]
    together = vlm.caption(requests)
    assert together == [vlm.caption([request])[0] for request in requests]
    same_clip = [vlm.caption([_request(0, max_tokens=12, seed=seed)])[0].text for seed in (None, 1, 2, 3)]
    assert len(set(same_clip)) == 4


def test_samples_are_distributed_as_the_softmax_of_the_nucleus():
    import torch

    from caption.backends.sampling import SeededSampling

    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -torch.inf])
    rows = logits.expand(4000, -1)
    expected = torch.softmax(logits / 0.5, 0)
    drawn = SeededSampling(range(4000), temperature=0.5, top_p=1.0)(rows, rows).argmax(1)
    found = torch.bincount(drawn, minlength=5) / 4000
    torch.testing.assert_close(found, expected, atol=0.025, rtol=0)  # more than three standard deviations
    nucleus = SeededSampling(range(500), temperature=0.5, top_p=0.9)(rows[:500], rows[:500]).argmax(1)
    assert set(nucleus.tolist()) == {0, 1}  # 0.865 alone are less than 0.9


def test_equal_seeds_draw_differently_for_other_clips_and_equally_for_equal_ones():
    first, second = (_request(row, seed=1).sampling_seed(0) for row in (0, 1))
    assert first == _request(0, seed=1).sampling_seed(9) != second
    assert _request(0).sampling_seed(1) == first
    assert 0 <= first < 2**31


def test_a_penalty_of_a_request_counts_instead_of_the_backends(tiny_vlm, vlm):
    asked = _request(0, max_tokens=24)
    penalized = vlm.caption([asked, replace(asked, repetition_penalty=5.0)])
    assert penalized[0] == vlm.caption([asked])[0] != penalized[1]
    assert penalized[1] == _vlm(tiny_vlm, repetition_penalty=5.0).caption([asked])[0]


def test_without_frames_the_language_model_answers_beside_clips(vlm):
    alone = _request(0, num_frames=0)
    (text, clip, again) = vlm.caption([alone, _request(0), alone])
    assert text == again == vlm.caption([alone])[0] != clip
    assert text.num_prompt_tokens < clip.num_prompt_tokens


def test_a_batch_that_does_not_fit_into_memory_gives_the_same_captions(vlm, monkeypatch):
    import torch

    requests = [_request(row, 1 + row % 3) for row in range(5)]
    fitting = vlm.caption(requests)
    generate = vlm.model.generate

    def limited(**inputs):
        if len(inputs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return generate(**inputs)

    monkeypatch.setattr(vlm.model, "generate", limited)
    assert vlm.caption(requests) == fitting


def test_batches_hold_requests_of_like_length(vlm, monkeypatch):
    """So that halves of a batch are padded little."""
    lengths = []
    generate = vlm._generate
    monkeypatch.setattr(vlm, "_batches", Batches())
    vlm._batches.max_rows = 2

    def recorded(requests, decoding):
        lengths.append([len(request.frames) for request in requests])
        return generate(requests, decoding)

    monkeypatch.setattr(vlm, "_generate", recorded)
    vlm.caption([_request(row, num) for row, num in enumerate((4, 1, 3, 2))])
    assert lengths == [[1, 2], [3, 4]]


def test_a_model_without_a_chat_template_is_refused_with_the_remedy(tiny_vlm, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(tiny_vlm, folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="no chat template"):
        _vlm(folder)


def test_a_folder_that_is_no_vision_language_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="image-text-to-text"):
        _vlm(tmp_path)


def test_a_strip_of_three_rows_is_an_image(vlm):
    """Of an array (3, W, 3) it cannot be known which axis holds the colors."""
    strip = np.random.default_rng(0).integers(0, 256, (3, 60, 3), np.uint8)
    wide = CaptionRequest(frames=strip[None], prompt="describe this video", max_tokens=6)
    tall = CaptionRequest(frames=np.repeat(strip, 4, 0)[None], prompt="describe this video", max_tokens=6)
    assert vlm.caption([wide])[0].num_prompt_tokens == vlm.caption([tall])[0].num_prompt_tokens
