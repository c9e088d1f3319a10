import json
import pickle
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from caption import captioner
from caption.backends.base import CaptionRequest, CaptionResult, FailedRequest
from caption.backends.transformers_vlm import TransformersVlmConfig
from caption.captioner import CaptionStage
from caption.config import CaptionConfig
from caption.frames import FramesConfig
from caption.item import CaptionItem
from caption.provenance import Provenance
from caption.quality.base import Check
from caption.record import Finding, record_row
from curate.dataset.captions import CaptionStatus, reason_of
from curate.dataset.schemas import CAPTIONS
from curate.media.readers.config import MediaConfig
from curate.schema import Failure, FailureKind
from tests.support.caption_checks import WITHOUT_SENTENCES
from tests.support.readers import reader


def _config(model: Path, **changes: object) -> CaptionConfig:
    backend = TransformersVlmConfig(model=str(model), dtype="float32", device="cpu")
    settings = {"prompts": "plain-v1", "max_attempts": 1, "short_max_tokens": 4, "dense_max_tokens": 9}
    settings["checks"] = WITHOUT_SENTENCES
    return CaptionConfig(backend=backend, **(settings | changes))


def _items(shards, *keys: str) -> list[CaptionItem]:
    members = [shards.members[key] for key in keys]
    return [CaptionItem(clip_id=m.key, shard=m.shard, offset=m.offset, size=m.size, kind="video") for m in members]


@pytest.fixture(scope="module")
def stage(tiny_vlm, shards) -> CaptionStage:
    stage = pickle.loads(pickle.dumps(CaptionStage(_config(tiny_vlm), shards.root)))
    stage.setup()
    return stage


def test_every_clip_gets_a_short_and_a_dense_caption_in_order(stage, shards):
    outcomes = stage.process(_items(shards, "clip9", "still", "clip3"))
    assert [[(r.clip_id, r.level) for r in outcome.records] for outcome in outcomes] == [
        [("clip9", "short"), ("clip9", "dense")],
        [("still", "short"), ("still", "dense")],
        [("clip3", "short"), ("clip3", "dense")],
    ]


def test_a_clip_that_cannot_be_read_fails_alone(stage, shards):
    members = _items(shards, "clip3", "broken", "still")
    lost = CaptionItem(clip_id="lost", shard="train-000009.tar", offset=0, size=8, kind="video")
    outcomes = stage.process([*members, lost])
    assert isinstance(outcomes[1], Failure) and outcomes[1].subject == "broken" and not outcomes[1].retryable
    assert isinstance(outcomes[3], Failure) and outcomes[3].kind == FailureKind.IO
    assert outcomes[0].records == stage.process(members[:1])[0].records
    assert len(outcomes[2].records) == 2


def test_captions_do_not_depend_on_the_batch(stage, shards):
    """Clips of one, three and four frames in one batch: the pads of a shorter one must not be seen."""
    items = _items(shards, "clip20", "still", "clip3", "clip9")
    together = [outcome.records for outcome in stage.process(items)]
    alone = [stage.process([item])[0].records for item in items]
    assert together == alone
    assert len({records[1].text for records in together}) > 1, "the tiny model must tell clips apart for this to count"


def test_a_record_says_which_library_read_the_frames_if_another_reader_is_chosen(tiny_vlm, shards, stage):
    reader("decord")
    settings = _config(tiny_vlm).read_by(MediaConfig(reader="decord"))
    by_decord = pickle.loads(pickle.dumps(CaptionStage(settings, shards.root)))
    by_decord.setup()
    photos = [replace(one, kind="image") for one in _items(shards, "still")]
    (video,), (still,) = (by_decord.process(items) for items in (_items(shards, "clip9"), photos))
    assert video.records[0].provenance.libraries["decord"] and video.fallback is None
    before, photo = stage.process([*_items(shards, "clip9"), *photos])
    assert video.records[0].frame_indices == before.records[0].frame_indices
    assert "decord" not in before.records[0].provenance.libraries
    assert photo.records == still.records


def test_a_record_says_which_frames_were_shown(stage, shards):
    record = stage.process(_items(shards, "clip20"))[0].records[0]
    assert record.frame_indices == (2, 7, 12, 17)
    assert record.frame_times_s == pytest.approx([index / 12 for index in record.frame_indices])
    assert stage.process(_items(shards, "still"))[0].records[0].frame_indices == (0,)


def test_a_caption_at_its_limit_is_marked_truncated(stage, shards):
    for record in stage.process(_items(shards, "clip9"))[0].records:
        assert record.num_output_tokens <= record.max_tokens
        assert (record.status == CaptionStatus.TRUNCATED) == (record.finish_reason == "length")
        assert record.status == CaptionStatus.OK or reason_of(record_row(record)) != record.status


def test_records_survive_parquet(stage, shards, tmp_path):
    import pyarrow.parquet as pq

    records = [record for outcome in stage.process(_items(shards, "clip3", "still")) for record in outcome.records]
    rows = [record_row(record) for record in records]
    pq.write_table(pa.Table.from_pylist(rows, CAPTIONS), tmp_path / "part.parquet")
    read = pq.read_table(tmp_path / "part.parquet").to_pylist()
    assert read == rows
    stored = read[0]["provenance"]
    assert stored["fingerprint"] == records[0].provenance.fingerprint
    assert json.loads(stored["parameters"]) == records[0].provenance.parameters


def test_the_key_changes_with_what_changes_captions_and_with_nothing_else(tiny_vlm, tmp_path):
    key = _config(tiny_vlm).key
    moved = tmp_path / "elsewhere"
    moved.symlink_to(tiny_vlm)
    assert _config(moved).key == key
    assert _config(tiny_vlm, batch_size=3).key == key
    for changes in ({"frames": FramesConfig(num_frames=2)}, {"prompts": "detailed-v1"}, {"max_attempts": 2}):
        assert _config(tiny_vlm, **changes).key != key
    other = TransformersVlmConfig(model=str(tiny_vlm), dtype="float32", device="cpu", repetition_penalty=1.2)
    assert _config(tiny_vlm).model_copy(update={"backend": other}).name == "tiny-llava"
    assert _config(tiny_vlm).model_copy(update={"backend": other}).key != key


class TooShort(Check):
    def of_frames(self, frames: np.ndarray) -> Iterator[Finding]:
        if len(frames) == 3:
            yield Finding(code="too_short", status=CaptionStatus.UNSURE, detail="it is too short")


class Clerk:
    """A backend that writes how many frames it was shown, and notes the sizes of its batches."""

    provenance = Provenance(backend="clerk", model="clerk", revision="1", fingerprint="clerk")
    checks = (TooShort(),)
    num_in_flight = 0

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.refused_frames = 0

    def setup(self) -> None: ...

    def caption(self, requests: Sequence[CaptionRequest]) -> list[CaptionResult | FailedRequest]:
        self.batches.append(len(requests))
        return [self._answer(len(request.frames)) for request in requests]

    def _answer(self, num_frames: int) -> CaptionResult | FailedRequest:
        if num_frames == self.refused_frames:
            return FailedRequest(kind=FailureKind.REFUSED, detail="it says no")
        text = f"{num_frames} frames"
        return CaptionResult(text=text, finish_reason="stop", num_prompt_tokens=1, num_output_tokens=2)


@pytest.fixture
def clerk(shards, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[CaptionStage, Clerk]]:
    clerk = Clerk()
    monkeypatch.setattr(TransformersVlmConfig, "build", lambda config: clerk)
    yield (
        CaptionStage(
            CaptionConfig(backend=TransformersVlmConfig(model="clerk"), prompts="plain-v1", checks=WITHOUT_SENTENCES),
            shards.root,
        ),
        clerk,
    )


def test_clips_that_cannot_be_known_are_refused_before_the_model(clerk, shards):
    stage, backend = clerk
    black, short, seen = (o.records for o in stage.process(_items(shards, "black", "clip3", "clip9")))
    assert [(r.level, r.status, r.text, r.finish_reason) for r in black] == [
        (kind, CaptionStatus.BLANK, "", "not_asked") for kind in ("short", "dense")
    ]
    assert "of one color (luma 0 of 255" in black[0].findings[0].detail
    assert [(r.status, r.text) for r in short] == [(CaptionStatus.UNSURE, "")] * 2
    assert [[finding.code for finding in record.findings] for record in short] == [["too_short"]] * 2
    assert [(r.status, r.text) for r in seen] == [(CaptionStatus.OK, "4 frames")] * 2
    assert backend.batches == [2], "both levels of the clip that is asked about"


def test_a_request_that_fails_costs_its_caption_alone(clerk, shards):
    stage, backend = clerk
    backend.refused_frames = 1
    clip, still = stage.process(_items(shards, "clip9", "still"))
    assert [record.text for record in clip.records] == ["4 frames"] * 2
    assert not still.records and [failure.kind for failure in still.failures] == [FailureKind.REFUSED] * 2
    assert not still.failures[0].retryable and still.failures[0].detail == "short caption: it says no"
    assert backend.batches == [4], "both levels of both clips"


def test_frames_that_are_held_at_a_time_are_bounded(clerk, shards, monkeypatch: pytest.MonkeyPatch):
    stage, backend = clerk
    items = _items(shards, "clip9", "still", "clip20", "clip9", "still")
    together = [outcome.records for outcome in stage.process(items)]
    frame = 48 * 64 * 3
    monkeypatch.setattr(captioner, "MAX_HELD_BYTES", 5 * frame)
    backend.batches.clear()
    assert [outcome.records for outcome in stage.process(items)] == together
    assert backend.batches == [4, 4, 2]


def test_a_long_clip_is_decoded_without_holding_it(clerk, tmp_path, monkeypatch: pytest.MonkeyPatch):
    """As many images are made of a clip's frames as the model is shown, however many it has."""
    from curate.media import decode
    from curate.media.encode import encode_mp4
    from curate.shards.tar import write_tar

    made = []
    convert = decode.RgbConverter.__call__
    monkeypatch.setattr(decode.RgbConverter, "__call__", lambda *given: made.append(1) or convert(*given))
    frames = np.random.default_rng(0).integers(0, 256, (240, 6, 8, 3), np.uint8).repeat(4, 1).repeat(4, 2)
    (member,) = write_tar(str(tmp_path / "train-000000.tar"), [("long", {"mp4": encode_mp4(frames, 24)})])
    stage = CaptionStage(
        CaptionConfig(backend=TransformersVlmConfig(model="clerk"), prompts="plain-v1", checks=WITHOUT_SENTENCES),
        str(tmp_path),
    )
    item = CaptionItem(clip_id="long", shard=member.shard, offset=member.offset, size=member.size, kind="video")
    assert stage.process([item])[0].records[0].frame_indices == (30, 90, 150, 210)
    assert len(made) == 4


@pytest.mark.parametrize("file", ["tokenizer.json", "chat_template.jinja", "processor_config.json"])
def test_the_key_changes_with_tokenizer_and_processor(tiny_vlm, tmp_path, file):
    other = Path(shutil.copytree(tiny_vlm, tmp_path / "tiny-llava"))
    assert _config(other).key == _config(tiny_vlm).key
    (other / file).write_text((other / file).read_text() + "\n")
    assert _config(other).key != _config(tiny_vlm).key


def test_the_key_changes_with_the_major_version_of_transformers(tiny_vlm, monkeypatch: pytest.MonkeyPatch):
    from curate.encoders import fingerprint

    key = _config(tiny_vlm).key
    current = fingerprint.version("transformers")
    monkeypatch.setattr(fingerprint, "version", lambda name: f"{current}.post1" if name == "transformers" else "9")
    assert _config(tiny_vlm).key == key
    monkeypatch.setattr(fingerprint, "version", lambda name: "6.0.0")
    assert _config(tiny_vlm).key != key


def test_a_batch_of_full_hd_clips_is_asked_whole():
    config = CaptionConfig()
    assert config.batch_size * config.frames.num_frames * 1920 * 1080 * 3 <= captioner.MAX_HELD_BYTES
