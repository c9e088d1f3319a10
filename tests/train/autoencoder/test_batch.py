"""Latents of a clip do not depend on the batch that it is encoded in."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.media.encode import encode_mp4
from curate.schema import Failure
from curate.shards.tar import write_tar
from train.autoencoder.batch import Batcher, batch_px_of
from train.autoencoder.clip import EncodeItem
from train.autoencoder.config import EncodeConfig, ReelpackConfig
from train.autoencoder.encode import EncodeStage
from train.autoencoder.own import ReelpackAutoencoder

CONFIG = EncodeConfig(autoencoder=ReelpackConfig(device="cpu"), max_area_px=32 * 48, max_frames=9)
TOLERANCE = 1e-5
"""Of normalized latents, before they are rounded to float16; `Batcher` states it."""
CLIPS = {"a": (9, 32, 48), "b": (5, 32, 48), "c": (20, 32, 48), "d": (9, 48, 32), "e": (9, 32, 48), "f": (1, 32, 48)}


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[EncodeItem]]:
    folder, rng = tmp_path_factory.mktemp("shards"), np.random.default_rng(0)
    samples = [
        (name, {"mp4": encode_mp4(rng.integers(0, 255, (*shape, 3), np.uint8), 24)}) for name, shape in CLIPS.items()
    ]
    members = write_tar(str(folder / "train-000000.tar"), [*samples, ("x", {"mp4": b"no video" * 99})])
    found = [
        EncodeItem(clip_id=one.key, shard=one.shard, offset=one.offset, size=one.size, kind="video") for one in members
    ]
    return str(folder), found


def latents(stage: EncodeStage, items: list[EncodeItem]) -> dict[tuple[str, int], np.ndarray]:
    outcomes = stage.process(items)
    assert [isinstance(outcome, Failure) for outcome in outcomes] == [item.clip_id == "x" for item in items]
    windows = [window for outcome in outcomes if not isinstance(outcome, Failure) for window in outcome]
    return {(window.clip_id, window.window): window.latent for window in windows}


@pytest.fixture(scope="module")
def alone(items: tuple[str, list[EncodeItem]]) -> dict[tuple[str, int], np.ndarray]:
    root, all_items = items
    return {key: latent for item in all_items for key, latent in latents(EncodeStage(CONFIG, root), [item]).items()}


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(7)), count=st.integers(1, 7), batch_px=st.sampled_from([0, 1 << 14, 1 << 20]))
def test_latents_of_a_clip_are_those_that_it_has_alone(items, alone, order, count, batch_px) -> None:
    root, all_items = items
    chosen = [all_items[number] for number in order[:count]]
    for key, latent in latents(EncodeStage(CONFIG, root, batch_px=batch_px), chosen).items():
        if batch_px:
            np.testing.assert_allclose(latent.astype(float), alone[key].astype(float), rtol=1e-3, atol=TOLERANCE)
        else:
            assert latent.tobytes() == alone[key].tobytes()


def test_a_cpu_encodes_one_by_one_and_videos_of_one_shape_go_together_elsewhere(
    items: tuple[str, list[EncodeItem]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert batch_px_of(torch.device("cpu")) == 0 < batch_px_of(torch.device("cuda"))
    sizes, encode_parts = [], ReelpackAutoencoder.encode_parts

    def watched(self, parts, *, moments=False):
        latent = encode_parts(self, parts, moments=moments)
        sizes.append((len(latent), latent.shape[2]))
        return latent

    monkeypatch.setattr(ReelpackAutoencoder, "encode_parts", watched)
    root, all_items = items
    latents(EncodeStage(CONFIG, root), all_items)
    assert {size for size, _ in sizes} == {1} and len(sizes) == 7
    sizes.clear()
    latents(EncodeStage(CONFIG, root, batch_px=1 << 20), all_items)
    assert sorted(sizes) == [(1, 1), (1, 2), (1, 3), (4, 3)]  # `c` has two windows, of the shape of `a` and `e`


def test_videos_wait_for_few_others_and_a_batch_beyond_the_memory_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    autoencoder = CONFIG.autoencoder.build()
    batcher = Batcher(autoencoder, max_px=3 * 5 * 32 * 32)
    video = np.zeros((5, 32, 32, 3), np.uint8)
    begun = [batcher.add(iter(video), 5) for _ in range(4)]
    assert [one.done() for one in begun] == [True, True, True, False]
    large = batcher.add(iter(np.zeros((9, 32, 32, 3), np.uint8)), 9)
    assert large.done()  # it leaves no room for another
    batcher.flush()
    assert torch.allclose(begun[3].result(), begun[0].result(), atol=TOLERANCE)

    encode_parts = ReelpackAutoencoder.encode_parts

    def lacks_memory(self, parts, *, moments=False):
        parts = list(parts)
        if len(parts[0]) > 1:
            raise torch.OutOfMemoryError("no")
        return encode_parts(self, parts, moments=moments)

    monkeypatch.setattr(ReelpackAutoencoder, "encode_parts", lacks_memory)
    again = [batcher.add(iter(video), 5) for _ in range(3)]
    assert torch.allclose(again[1].result(), begun[0].result(), atol=TOLERANCE)
