from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.train.test_loop import config as tiny
from train.data.tasks.base import canvas_of
from train.loop import train
from train.model.dit import DiT
from train.sampling.config import SampleConfig
from train.sampling.given import whole_patches
from train.sampling.loaded import LoadedRun
from train.sampling.request import Request, latent_shape, notes_on
from train.sampling.sample import draw, sample

LATENTS = {"channels": 4, "temporal_stride": 4, "spatial_stride": 8}


def test_sizes_become_latent_grids_and_misfits_name_the_nearest():
    assert latent_shape(Request(prompt="", width=128, height=80, num_frames=17), LATENTS, (1, 2, 2)) == (4, 5, 10, 16)
    assert latent_shape(Request(prompt="", width=128, height=80, num_frames=1), LATENTS, (1, 2, 2)) == (4, 1, 10, 16)
    with pytest.raises(ValueError, match="17 frames of 128x80"):
        latent_shape(Request(prompt="", width=130, height=84, num_frames=16), LATENTS, (1, 2, 2))


def test_a_size_beyond_those_trained_on_is_told():
    latents = {**LATENTS, "config": {"max_area_px": 128 * 80, "max_frames": 17}}
    fits = Request(prompt="", width=128, height=80, num_frames=17)
    assert notes_on(fits, latents) == []
    [note] = notes_on(replace(fits, num_frames=33), latents)
    assert "33 frames of 128x80: the run was trained on at most 17" in note
    assert len(notes_on(replace(fits, height=160), latents)) == 1


def test_any_length_that_was_trained_on_can_be_sampled():
    """Frames of a latent are whole patches, or one more."""
    for frames, num_latent in ((1, 1), (5, 2), (9, 3), (13, 4), (17, 5)):
        request = Request(prompt="", width=32, height=32, num_frames=frames)
        assert latent_shape(request, LATENTS, (2, 2, 2))[1] == num_latent
    with pytest.raises(ValueError, match="9 frames of 32x32"):
        latent_shape(replace(request, num_frames=9), LATENTS, (4, 2, 2))


def test_a_start_fills_whole_patches():
    for latent_frames, num_start, patch, filled in (
        (5, 2, 1, 2),
        (5, 1, 2, 1),
        (5, 2, 2, 1),
        (4, 1, 2, 0),
        (4, 3, 2, 1),
    ):
        canvas = canvas_of((4, latent_frames, 4, 4), (patch, 2, 2))
        assert whole_patches(num_start, canvas, (patch, 2, 2)) == filled  # 5 frames in twos are 1 + 2 + 2


def test_sampled_frames_lie_where_trained_ones_did(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    train(tiny(steps=1, model__reference_fps=24.0), dataset, tmp_path / "run")
    seen, forward = [], DiT.forward

    def watched(model, x, timesteps, batch):
        seen.append(batch.layout.coordinates[:, 0].unique().tolist())
        return forward(model, x, timesteps, batch)

    monkeypatch.setattr(DiT, "forward", watched)
    request = Request(prompt="", width=32, height=32, num_frames=9)  # at 12 a second, 4 to a frame of the latent
    sample(tmp_path / "run", [request], SampleConfig(num_steps=1, device="cpu"))
    assert seen == [[0.0, 8.0, 16.0]]


def test_a_video_of_a_run_that_knows_no_rate_is_refused(make_dataset, make_clips, tmp_path: Path):
    images = [clip for clip in make_clips(24, num_val=3) if clip.latent.shape[1] == 1]
    train(tiny(steps=1), str(make_dataset(images)), tmp_path / "run")
    request = Request(prompt="", width=32, height=32, num_frames=9)
    with pytest.raises(ValueError, match=r"got 9 frames, and the run was trained on images alone.*sample\.fps"):
        sample(tmp_path / "run", [request], SampleConfig(num_steps=1, device="cpu"))
    [one] = sample(tmp_path / "run", [request], SampleConfig(num_steps=1, device="cpu", fps=12))
    assert one.fps == 12


def test_prompts_are_sampled_in_packs_of_the_budget_and_in_the_runs_precision(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    train(tiny(steps=1, dtype="bfloat16", data__plan__token_budget=16), dataset, tmp_path / "run")
    packs, forward = [], DiT.forward

    def watched(model, x, timesteps, batch):
        packs.append((batch.segments.num_tokens, torch.is_autocast_enabled("cpu")))
        return forward(model, x, timesteps, batch)

    monkeypatch.setattr(DiT, "forward", watched)
    requests = [Request(prompt="", width=32, height=32, num_frames=1) for _ in range(5)]  # of four tokens
    together = sample(tmp_path / "run", requests, SampleConfig(num_steps=1, device="cpu"))
    assert packs == [(16, True), (16, True), (8, True)]
    assert [one.request for one in together] == requests
    assert len({one.latent.numpy().tobytes() for one in together}) == 5


def test_a_size_that_no_machine_holds_is_refused_before_anything_is_allocated(dataset: str, tmp_path: Path):
    train(tiny(steps=1), dataset, tmp_path / "run")
    request = Request(prompt="", width=160_000, height=160_000, num_frames=5)
    with pytest.raises(ValueError, match=r"5 frames of 160000x160000 are .* at least .* GiB; this machine"):
        sample(tmp_path / "run", [request], SampleConfig(num_steps=1, device="cpu"))


def test_autoguidance_is_led_by_the_oldest_checkpoint_or_by_another_run(dataset: str, tmp_path: Path):
    run, other, single = (tmp_path / name for name in ("run", "other", "single"))
    train(tiny(steps=4), dataset, run)
    train(tiny(steps=1, model__patch=[1, 1, 1], data__plan__token_budget=512), dataset, other)
    train(tiny(steps=1), dataset, single)

    def drawn(of: Path, **rule: object) -> torch.Tensor:
        guidance = {"kind": "autoguidance", "weight": 3, **rule}
        settings = SampleConfig.model_validate({"num_steps": 2, "guidance": guidance, "device": "cpu"})
        return sample(of, [Request(prompt="", width=32, height=32, num_frames=1)], settings)[0].latent

    assert torch.equal(drawn(run), drawn(run, step=3))
    assert not torch.equal(drawn(run), drawn(run, weight=1))
    assert torch.equal(drawn(run, step=4), drawn(run, weight=1)), "the model itself leads nowhere"
    assert drawn(single, run=str(run)).isfinite().all()
    with pytest.raises(ValueError, match=r"needs an earlier checkpoint, and .*single has one alone"):
        drawn(single)
    with pytest.raises(
        ValueError, match=r"has train\.model\.patch \(1, 1, 1\), and .* \(1, 2, 2\); expected the same"
    ):
        drawn(run, run=str(other))


def test_a_loaded_run_draws_what_sample_does_and_a_seed_is_the_same_in_any_place(dataset: str, tmp_path: Path):
    """Ancestral: the noise of each step is keyed as the first one is."""
    train(tiny(steps=1), dataset, tmp_path / "run")
    settings = SampleConfig.model_validate({"num_steps": 3, "sampler": "ancestral", "seed": 7, "device": "cpu"})
    plain = Request(prompt="", width=32, height=32, num_frames=5)
    seventh, eighth = sample(tmp_path / "run", [plain, plain], settings)
    run, other = LoadedRun(tmp_path / "run", settings), settings.model_copy(update={"seed": 6})
    sixth, again, last = (one for _, one in sorted(draw(run, [plain, plain, replace(plain, seed=8)], other)))
    assert [one.seed for one in (seventh, eighth, sixth, again, last)] == [7, 8, 6, 7, 8]
    torch.testing.assert_close(again.latent, seventh.latent)
    torch.testing.assert_close(last.latent, eighth.latent)
    assert not torch.isclose(sixth.latent, seventh.latent).all()
    assert not torch.isclose(seventh.latent, eighth.latent).all()


def test_progress_rises_over_packs_and_what_it_raises_ends_the_sampling(dataset: str, tmp_path: Path):
    train(tiny(steps=1, data__plan__token_budget=16), dataset, tmp_path / "run")
    settings = SampleConfig.model_validate({"num_steps": 2, "sampler": "heun", "guidance": 2, "device": "cpu"})
    run, asked = LoadedRun(tmp_path / "run", settings), [Request(prompt="", width=32, height=32, num_frames=1)] * 3
    told: list[float] = []
    assert sorted(number for number, _ in draw(run, asked, settings, told.append)) == [0, 1, 2]
    assert told[0] == 0 < told[-1] < 1 and told == sorted(told) and len(set(told)) == 4  # 2 packs of 2 steps

    def stop(share: float) -> None:
        if share:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(draw(run, asked, settings, stop))
