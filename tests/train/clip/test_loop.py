"""Runs of a small model with random weights on clips of shapes."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from curate.shards.tar import write_tar
from tests.support.shapes import shuffled
from tests.train.clip.conftest import ALONE, Made
from train.clip.gradient import backward
from train.clip.load import Loaded, embed
from train.clip.loop import ClipRun, Row
from train.clip.loss import info_nce, loss_of
from train.clip.model import ClipModel
from train.clip.pairs import FrameReader, Pairs
from train.distributed.preempt import Preempted
from train.run.checkpoint import list_checkpoints
from train.run.spool import Spool

LEARNS = {"epochs": 12.0, "num_evaluated": 100}
FULL = {"image": "full", "epochs": 1.0, "num_evaluated": 0, "levels": {"short": 1.0}}


class Stopped(Exception): ...


def measured(rows: list[Row], when: str) -> Row:
    (row,) = [row for row in rows if row.get("when") == when]
    return row


def weights(model: ClipModel) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.net.named_parameters()}


def stop_after(step: int) -> Callable[[Row], None]:
    def on_row(row: Row) -> None:
        if row["step"] == step + 1 and "loss" in row:  # its checkpoint is not written
            raise Stopped

    return on_row


def test_held_out_texts_find_their_clips_after_training(made: Made, tmp_path: Path) -> None:
    rows, _ = made.run(tmp_path, made.config(**LEARNS))
    before, after = (measured(rows, when)["text_to_clip"] for when in ("before", "after"))
    assert before["num"] == before["num_queries"] == 32
    assert before["recall@1_low"] <= before["chance@1"] == pytest.approx(1 / 32)
    assert after["recall@1"] >= 4 * after["chance@1"] and after["recall@1_low"] > after["chance@1"]
    assert after["recall@5"] > 0.6 and measured(rows, "after")["clip_to_text"]["recall@5"] > 0.6


def test_captions_that_say_nothing_of_the_clips_leave_retrieval_at_chance(made: Made, tmp_path: Path) -> None:
    rows, _ = made.run(tmp_path, made.config(**LEARNS), shuffled(made.clips))
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0] - 0.5  # it does learn them by heart
    for direction in ("text_to_clip", "clip_to_text"):
        after = measured(rows, "after")[direction]
        assert after["recall@1_low"] <= after["chance@1"] and after["recall@5_low"] <= after["chance@5"]


@pytest.mark.parametrize("loss", ["info_nce", "sigmoid"])
def test_both_towers_learn_by_either_loss(made: Made, tmp_path: Path, loss: str) -> None:
    rows, model = made.run(tmp_path, made.config(**{**FULL, "loss": loss, "epochs": 2.0, "temperature_lr": 0.05}))
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == 8 and losses[-1] < losses[0] - 0.3
    before = weights(ClipModel(made.config(**FULL, loss=loss), ALONE.device))
    assert all(not torch.equal(weight, before[name]) for name, weight in weights(model).items())
    if loss == "sigmoid":
        assert losses[0] < 10  # the bias begins where the vectors ask for it
        assert rows[0]["bias"] != 0


@pytest.mark.parametrize("image", ["locked", "full"])
@pytest.mark.parametrize("loss", ["info_nce", "sigmoid"])
@pytest.mark.parametrize("chunk_size", [None, 5])
def test_gradients_are_those_of_the_loss_of_the_whole_batch(
    made: Made, image: str, loss: str, chunk_size: int | None
) -> None:
    config = made.config(**{**FULL, "image": image, "loss": loss, "chunk_size": chunk_size})
    model, frames = ClipModel(config, ALONE.device), made.frames(config)
    clips = [model.pixels(frames.read(clip)) for clip in made.clips[:12]]
    if image == "locked":
        with torch.no_grad():
            clips = [*model.embed_clips(clips)]
    own = [Loaded(text=clip.texts["short"][0], clip=one) for clip, one in zip(made.clips, clips, strict=False)]
    shared = np.eye(12, dtype=bool)
    shared[0, 1] = shared[1, 0] = True
    value, num = backward(model, own, shared, loss_of(config.loss), ALONE, chunk_size)
    found = {name: weight.grad for name, weight in model.net.named_parameters() if weight.requires_grad}
    model.net.zero_grad()
    vectors = embed(model, own)
    expected = loss_of(config.loss)(*vectors, model.log_scale, model.bias, torch.from_numpy(shared))
    expected.backward()
    assert num == 12 and value == pytest.approx(expected.item(), rel=1e-5) and "logit_scale" in found
    for name, weight in model.net.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(found[name], weight.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("image", ["locked", "full"])
def test_a_stopped_run_resumes_to_the_same_weights_bit_by_bit(made: Made, tmp_path: Path, image: str) -> None:
    settings = {**FULL, "image": image, "epochs": 1.5, "num_evaluated": 4, "checkpoint": {"every": 2}}
    expected_rows, expected = made.run(tmp_path / "whole", made.config(**settings))
    out = tmp_path / "stopped"
    for step in (0, 4):  # before the first checkpoint, and behind the second
        with pytest.raises(Stopped):
            made.run(out, made.config(**settings), on_row=stop_after(step))
    assert [path.name for path in list_checkpoints(out / "checkpoints")][:1] == ["step-000002"]
    rows, model = made.run(out, made.config(**settings))
    for name, weight in weights(expected).items():
        assert torch.equal(weights(model)[name], weight), name
    assert [without_times(row) for row in rows] == [without_times(row) for row in expected_rows]


def without_times(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "seconds"}


def test_a_damaged_checkpoint_is_not_continued_from(made: Made, tmp_path: Path) -> None:
    made.run(tmp_path, made.config(**FULL, checkpoint={"every": 2}))
    *_, last = list_checkpoints(tmp_path / "checkpoints")
    (file,) = last.glob("__0_0.distcp")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"its checksum is another.*continue from step-000002"):
        made.run(tmp_path, made.config(**FULL))


def test_vectors_of_a_locked_tower_are_computed_once(made: Made, tmp_path: Path) -> None:
    config = made.config(**{**FULL, "image": "locked", "num_evaluated": 4})
    made.run(tmp_path, config)
    moved = Made(shards=tmp_path / "nowhere", model=made.model, clips=made.clips)
    (tmp_path / "metrics.jsonl").write_text("")  # to be measured again, from the vectors
    rows, _ = moved.run(tmp_path, config)
    assert measured(rows, "after")["text_to_clip"]["num"] == 4


def test_sigterm_leaves_a_checkpoint(made: Made, tmp_path: Path) -> None:
    def on_row(row: Row) -> None:
        if row["step"] == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Preempted) as stopped:
        made.run(tmp_path, made.config(**FULL), on_row=on_row)
    assert "saved after step 1" in stopped.value.message
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == ["step-000001"]


def test_a_loss_that_is_no_number_stops_the_run_with_what_to_lower(made: Made, tmp_path: Path) -> None:
    config = made.config(**FULL)
    model = ClipModel(config, ALONE.device)
    with torch.no_grad():
        model.net.text_projection[0, 0] = torch.nan
    run = ClipRun(tmp_path, config, model, Pairs(made.clips, config.levels), ALONE, Spool(tmp_path, writes=True))
    with pytest.raises(ValueError, match=r"step 1: the loss is nan .*Lower train_clip\.lr \(it is 0\.01\)"):
        run.train(made.frames(config), tmp_path / "vectors")
    assert not list_checkpoints(tmp_path / "checkpoints")


@pytest.mark.parametrize("image", ["locked", "full"])
def test_a_clip_that_cannot_be_decoded_is_left_out_of_its_batch(made: Made, tmp_path: Path, image: str) -> None:
    good = made.clips[0]
    (member,) = write_tar(str(tmp_path / "shards" / "broken.tar"), [("f" * 16, {"mp4": b"no video"})])
    os.symlink(made.shards / good.shard, tmp_path / "shards" / good.shard)
    place = {"shard": "broken.tar", "offset": member.offset, "size": member.size, "digest": member.digest}
    broken = replace(good, clip_id="f" * 16, **place)
    clips = [clip for clip in made.clips if not clip.is_held_out][:23]
    given = Made(shards=tmp_path / "shards", model=made.model, clips=[*clips, broken])
    rows, _ = given.run(tmp_path / "out", given.config(**{**FULL, "image": image}))
    assert [row["pairs"] for row in rows] == [23]


def test_a_batch_without_clips_says_so(made: Made) -> None:
    model = ClipModel(made.config(**FULL), ALONE.device)
    with pytest.raises(ValueError, match="0 of the 3 clips of a batch can be decoded; `reelpack verify"):
        backward(model, [None] * 3, np.eye(3, dtype=bool), info_nce, ALONE, None)


def test_bytes_that_are_not_those_of_the_index_end_the_run(made: Made, tmp_path: Path) -> None:
    clips = [replace(clip, digest="0" * 32) for clip in made.clips]
    with pytest.raises(ValueError, match="are not those that were written"):
        made.run(tmp_path, made.config(**FULL), clips)


def test_rows_tell_what_a_step_did(made: Made, tmp_path: Path) -> None:
    rows, _ = made.run(tmp_path, made.config(**FULL))
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == rows
    names = {"step", "loss", "grad_norm", "lr", "pairs", "not_negative", "temperature", "seconds"}
    assert all(row.keys() == names for row in rows)
    assert max(row["lr"] for row in rows) == pytest.approx(0.01) and rows[-1]["lr"] < 0.01
    assert any(row["not_negative"] for row in rows)  # of three clips with one caption, some meet in a batch


def test_frames_that_differ_in_number_make_one_batch(made: Made) -> None:
    model = ClipModel(made.config(**FULL), ALONE.device)
    frames = FrameReader(str(made.shards), 4, 256).read(made.clips[0])
    own = [Loaded(text=str(count), clip=model.pixels(frames[:count])) for count in (1, 2, 4)]
    assert backward(model, own, np.eye(3, dtype=bool), info_nce, ALONE, 2)[1] == 3
