import json
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from curate.media.decode import clip_times
from curate.media.encode import encode_mp4
from curate.media.readers.frames import PYAV
from curate.schema import Failure, FailureKind
from curate.shards.tar import write_tar
from tests.train.autoencoder.models import save_model
from train.autoencoder.clip import EncodeItem
from train.autoencoder.config import EncodeConfig, ReelpackConfig, autoencoder_of
from train.autoencoder.encode import Encoded, EncodeStage
from train.autoencoder.evaluate import psnr
from train.autoencoder.pixels import covering_frames, covering_size, decode_latent, encode_frames
from train.autoencoder.sizes import target_size
from train.autoencoder.weights_folder import save

CONFIG = EncodeConfig(autoencoder=ReelpackConfig(device="cpu"), fps=12, max_area_px=48 * 64, max_frames=9)


def png(rgb: np.ndarray) -> bytes:
    import cv2

    return cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()


@pytest.fixture
def shards(tmp_path, square_clip) -> dict[str, EncodeItem]:
    """A clip of 13 frames at 24 fps, an image, rubbish, and a member that is not there."""
    samples = {
        "video": {"mp4": encode_mp4(square_clip, 24)},
        "image": {"png": png(square_clip[0])},
        "rubbish": {"mp4": b"no video" * 100},
    }
    members = write_tar(str(tmp_path / "train-000000.tar"), samples.items())
    items = {
        m.key: EncodeItem(
            clip_id=m.key, shard=m.shard, offset=m.offset, size=m.size, kind="image" if m.ext == "png" else "video"
        )
        for m in members
    }
    items["missing"] = EncodeItem(clip_id="missing", shard="train-000001.tar", offset=512, size=10, kind="video")
    items["beyond"] = EncodeItem(clip_id="beyond", shard="train-000000.tar", offset=1 << 20, size=10, kind="video")
    return items


def encoded(config: EncodeConfig, root, item: EncodeItem) -> Encoded:
    stage = EncodeStage(config, str(root))
    stage.setup()
    [outcome] = stage.process([item])
    assert not isinstance(outcome, Failure), outcome
    [window] = outcome
    return window


def test_every_item_ends_in_order_with_latents_or_a_typed_failure(shards, tmp_path) -> None:
    stage = EncodeStage(CONFIG, str(tmp_path))
    stage.setup()
    outcomes = stage.process(list(shards.values()))
    ends = {
        o.subject if isinstance(o, Failure) else o[0].clip_id: o.kind if isinstance(o, Failure) else o[0].latent.shape
        for o in outcomes
    }
    assert list(ends) == list(shards)
    assert ends["video"] == (16, 2, 6, 8)  # 13 frames at 24 fps are 7 at 12 fps, of which 5 are 1 + 4k
    assert ends["image"] == (16, 1, 6, 8)
    assert ends["rubbish"] == FailureKind.NOT_MEDIA
    assert ends["missing"] == FailureKind.MISSING
    assert ends["beyond"] == FailureKind.TRUNCATED


def test_latents_decode_to_the_clip(shards, tmp_path, square_clip) -> None:
    outcome = encoded(CONFIG, tmp_path, shards["video"])
    assert (outcome.num_frames, outcome.height, outcome.width, outcome.fps) == (5, 48, 64, 12.0)
    assert outcome.latent.dtype == np.float16
    record = json.loads(json.dumps(EncodeStage(CONFIG, str(tmp_path)).fingerprint_record()))
    rgb = decode_latent(autoencoder_of(record), outcome.latent)
    assert rgb.shape == (5, 48, 64, 3) and rgb.dtype == np.uint8
    start = 1  # 7 frames at 12 fps; the middle 5 begin at the second
    assert psnr(rgb, square_clip[::2][start : start + 5]) > 22.0


def test_an_image_has_one_latent_frame_and_no_rate(shards, tmp_path) -> None:
    outcome = encoded(CONFIG, tmp_path, shards["image"])
    assert (outcome.num_frames, outcome.fps, outcome.latent.shape[1]) == (1, 0.0, 1)


def test_no_rate_keeps_the_clips_own_frames(shards, tmp_path) -> None:
    outcome = encoded(CONFIG.model_copy(update={"fps": None, "windows": "middle"}), tmp_path, shards["video"])
    assert outcome.fps == pytest.approx(24.0)
    assert outcome.num_frames == 9  # max_frames


def test_latents_that_are_not_finite_are_a_failure(shards, tmp_path, tiny_model) -> None:
    with torch.no_grad():
        tiny_model.encoder.head.bias[0] = float("nan")
    save(tiny_model, tmp_path / "weights")
    autoencoder = ReelpackConfig(path=str(tmp_path / "weights"), device="cpu")
    stage = EncodeStage(CONFIG.model_copy(update={"autoencoder": autoencoder}), str(tmp_path))
    [outcome] = stage.process([shards["video"]])
    assert isinstance(outcome, Failure) and (outcome.subject, outcome.kind) == ("video", FailureKind.MODEL)
    assert outcome.detail.startswith("the autoencoder gave 96 NaN of 384 values, in channels 0 of 4; look at")


def test_half_precision_that_overflows_is_a_failure_with_what_to_set(shards, tmp_path) -> None:
    config = save_model("stable_diffusion", tmp_path / "vae")
    weights = tmp_path / "vae/diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    save_file({name: 1e3 * v if name.startswith("encoder") else v for name, v in state.items()}, weights)
    for dtype, remedy in (
        ("float16", "computes in float16: set encode.autoencoder.dtype=float32"),
        ("float32", "look at"),
    ):
        autoencoder = config.model_copy(update={"dtype": dtype})
        stage = EncodeStage(CONFIG.model_copy(update={"autoencoder": autoencoder}), str(tmp_path))
        [outcome] = stage.process([shards["image"]])
        assert isinstance(outcome, Failure) and (outcome.subject, outcome.kind) == ("image", FailureKind.MODEL)
        assert "values, in channels 0, 1, 2, 3 of 4" in outcome.detail and remedy in outcome.detail


def test_a_stage_is_cheap_to_send_and_works_there(shards, tmp_path) -> None:
    stage = EncodeStage(CONFIG, str(tmp_path))
    stage.setup()
    sent = pickle.dumps(stage)
    assert len(sent) < 5000
    copy = pickle.loads(sent)
    copy.setup()
    [[here]], [[there]] = stage.process([shards["video"]]), copy.process([shards["video"]])
    assert np.array_equal(here.latent, there.latent)


@pytest.mark.parametrize(
    "change",
    [{"fps": 8}, {"fps": None}, {"max_area_px": 4096}, {"multiple_px": 8}, {"max_frames": 5}, {"store": False}],
)
def test_every_setting_changes_the_fingerprint(change) -> None:
    before = EncodeStage(CONFIG, "shards").fingerprint_record()
    after = EncodeStage(CONFIG.model_copy(update=change), "shards").fingerprint_record()
    assert before["fingerprint"] != after["fingerprint"]


def test_what_changes_no_value_does_not_change_the_fingerprint(tmp_path) -> None:
    before = EncodeStage(CONFIG, "shards").fingerprint_record()["fingerprint"]
    assert EncodeStage(CONFIG, "elsewhere").fingerprint_record()["fingerprint"] == before
    auto = CONFIG.model_copy(update={"autoencoder": ReelpackConfig(device="cpu", chunk_latent_frames=3)})
    assert EncodeStage(auto, "shards").fingerprint_record()["fingerprint"] == before


def test_other_weights_change_the_fingerprint_and_are_refused_for_decoding(tiny_model, tmp_path) -> None:
    save(tiny_model, tmp_path)
    autoencoder = ReelpackConfig(path=str(tmp_path), device="cpu")
    stage = EncodeStage(CONFIG.model_copy(update={"autoencoder": autoencoder}), "shards")
    record = stage.fingerprint_record()
    assert record["fingerprint"] != EncodeStage(CONFIG, "shards").fingerprint_record()["fingerprint"]
    autoencoder_of(record)
    before = record["autoencoder_fingerprint"][:12]
    with torch.no_grad():
        tiny_model.decoder.head.bias[0] += 0.1
    save(tiny_model, tmp_path)
    with pytest.raises(ValueError, match=rf"made as .*weights {before}.*; got .*channels 4.*encode and train again"):
        autoencoder_of(record)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(
        ValueError, match=rf"made as {record['fingerprint']} .* cannot be loaded: no model.safetensors"
    ):
        autoencoder_of(record)


def test_sides_follow_the_autoencoders_stride_and_the_clips_own_size_is_told(shards, tmp_path, square_clip) -> None:
    config = CONFIG.model_copy(update={"multiple_px": 12})
    found = encoded(config, tmp_path, shards["video"])
    assert (found.height % 24, found.width % 24) == (0, 0)
    assert (found.source_height, found.source_width) == square_clip.shape[1:3]
    assert EncodeStage(config, "shards").fingerprint_record()["sides_multiple_px"] == 24


@given(
    height=st.integers(2, 3000),
    width=st.integers(2, 3000),
    max_area=st.sampled_from([4096, 10240, 65536, 262144]),
    multiple=st.sampled_from([8, 16, 32]),
)
def test_target_sizes_fit(height, width, max_area, multiple) -> None:
    h, w = target_size(height, width, max_area_px=max_area, multiple_px=multiple)
    assert h % multiple == w % multiple == 0
    assert multiple**2 <= h * w <= max(multiple**2, min(max_area, height * width))


@pytest.mark.parametrize(("max_area", "worst"), [(128 * 80, 0.20), (256 * 256, 0.08), (512 * 512, 0.045)])
def test_the_aspect_ratio_changes_as_little_as_documented(max_area, worst) -> None:
    for percent in range(-100, 101):
        aspect = 3 ** (percent / 100)
        height, width = round(1500 / math.sqrt(aspect)), round(1500 * math.sqrt(aspect))
        h, w = target_size(height, width, max_area_px=max_area, multiple_px=16)
        assert abs(math.log((w / h) / (width / height))) <= math.log(1 + worst) + 1e-9


def test_a_16_to_9_clip_of_the_demo_becomes_128_by_80() -> None:
    assert target_size(720, 1280, max_area_px=128 * 80, multiple_px=16) == (80, 128)
    assert target_size(1280, 720, max_area_px=128 * 80, multiple_px=16) == (128, 80)


def test_what_is_left_over_of_another_shape_is_cut_off_on_both_sides(tmp_path, square_clip) -> None:
    (tmp_path / "a.png").write_bytes(png(square_clip[0]))
    times, first = clip_times(str(tmp_path / "a.png")), np.zeros(1, np.int64)
    half = covering_frames(PYAV, str(tmp_path / "a.png"), times, first, size=(48, 32), multiple_px=16)
    latent = encode_frames(CONFIG.autoencoder.build(), half, 1)
    assert psnr(decode_latent(CONFIG.autoencoder.build(), latent), square_clip[:1, :, 16:48]) > 20


def test_a_picture_that_training_would_scale_to_a_size_is_not_cut() -> None:
    assert covering_size(360, 640, size=(80, 128), multiple_px=16) == (80, 128)
    assert covering_size(45, 80, size=(80, 128), multiple_px=16) == (80, 128), "an image is enlarged"
    assert covering_size(360, 640, size=(80, 80), multiple_px=16) == (80, 142)


def test_a_record_without_an_autoencoder_is_one_message() -> None:
    for record in ({"fingerprint": "lat0"}, {"fingerprint": "lat0", "config": {}}):
        with pytest.raises(ValueError, match="latents lat0: their record names no autoencoder"):
            autoencoder_of(record)
