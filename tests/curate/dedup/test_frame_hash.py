import cv2
import numpy as np
import pytest

from curate.dedup.frame_hash import NO_HASH, THUMB_PX, hash_frames, mirrored, thumbnail


def picture(seed: int, height: int = 180, width: int = 320) -> np.ndarray:
    """A smooth random picture, (H, W) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 16)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def hashed(luma: np.ndarray, box: tuple[float, float, float, float] = (0, 0, 1, 1)) -> np.uint64:
    return np.frombuffer(hash_frames(thumbnail(luma)[None], box), "<u8")[0]


def distance(one: np.uint64, other: np.uint64) -> int:
    return int(np.bitwise_count(one ^ other))


def test_unlike_pictures_differ_in_half_of_their_bits() -> None:
    distances = [distance(hashed(picture(a)), hashed(picture(b))) for a in range(12) for b in range(a)]
    assert 28 < np.mean(distances) < 35
    assert min(distances) > 16


def test_scaling_noise_and_exposure_change_few_bits() -> None:
    rng = np.random.default_rng(0)
    for seed in range(8):
        luma = picture(seed)
        copies = [
            np.asarray(cv2.resize(luma, (128, 72), interpolation=cv2.INTER_AREA)),
            np.clip(luma + rng.normal(0, 12, luma.shape), 0, 255).astype(np.uint8),
            np.clip(luma * 0.8 + 20, 0, 255).astype(np.uint8),
        ]
        assert max(distance(hashed(luma), hashed(copy)) for copy in copies) <= 6


def test_bars_do_not_count_where_the_content_box_is_known() -> None:
    luma = picture(3)
    boxed = np.pad(luma, ((40, 40), (0, 0)))
    top = 40 / 260
    assert distance(hashed(luma), hashed(boxed, (top, 0, 1 - top, 1))) <= 6
    assert distance(hashed(luma), hashed(boxed)) > 10


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_flat_picture_has_no_hash(level: int) -> None:
    assert hashed(np.full((90, 160), level, np.uint8)) == NO_HASH


def test_a_mirror_image_is_another_picture_and_its_hash_is_known() -> None:
    for seed in range(6):
        luma = picture(seed)
        flipped = hashed(np.ascontiguousarray(luma[:, ::-1]))
        assert distance(hashed(luma), flipped) > 16
        assert distance(mirrored(np.array([hashed(luma)]))[0], flipped) <= 6


def test_the_bits_are_what_they_were() -> None:
    """Stored hashes must stay comparable: whoever changes these bits raises the scan's version."""
    x = np.arange(THUMB_PX)
    rings = ((x[:, None] * 7 + x**2 + x[:, None] * x) // 5 % 256).astype(np.uint8)
    assert hash_frames(np.stack([rings, rings.T])).hex() == EXPECTED


EXPECTED = "48a4d64aaaaab65d807cc6b9c4728d76"
