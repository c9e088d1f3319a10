"""`datasets` decodes the columns of an `hf` export."""

from pathlib import Path

import numpy as np
import pytest

from curate.export.config import layout_of
from curate.media.decode import decode_clip
from pipelines.drivers.export import export
from tests.support.exportable import NUM_CLIPS, media, write_dataset


def test_videos_and_images_are_decoded_as_the_card_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("torchcodec", exc_type=ImportError)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    export(write_dataset(tmp_path / "dataset"), str(tmp_path / "out"), layout_of("hf"))
    opened = datasets.load_dataset(str(tmp_path / "out"), streaming=True)
    rows = {int(row["clip_id"], 16): row for split in opened.values() for row in split}
    assert len(rows) == NUM_CLIPS
    for number, row in rows.items():
        expected = decode_clip(media(number)[1]).rgb
        frames = row["video"][:].permute(0, 2, 3, 1).numpy() if row["video"] else np.asarray(row["image"])[None]
        assert frames.shape == expected.shape and np.abs(frames.astype(int) - expected).mean() < 3
