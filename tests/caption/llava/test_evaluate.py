import numpy as np

from caption.llava.evaluate import read_images
from curate.media.encode import encode_mp4
from curate.media.frames import iter_frames


def test_images_of_clips_that_overlap_are_read_in_one_pass(tmp_path):
    video = tmp_path / "video.mp4"
    video.write_bytes(encode_mp4(np.random.default_rng(0).integers(0, 256, (12, 32, 48, 3), np.uint8), 12))
    frames = [frame.rgb for frame in iter_frames(str(video), short_side_px=720)]
    numbers = [np.array([0, 4]), np.array([2, 4, 6]), np.array([9])]
    for found, wanted in zip(read_images(video, numbers), numbers, strict=True):
        np.testing.assert_array_equal(found, np.stack([frames[number] for number in wanted]))
