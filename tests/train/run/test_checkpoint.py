"""Checkpoints: what is there is whole, is what was written, and runs nothing; one training in a folder at a time."""

import copyreg
import errno
import io
import os
import pickle
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import _MEM_FORMAT_ENCODING
from torch.distributed.checkpoint.staging import DefaultStager

from curate.storage.lease import LeaseLost, hold
from tests.support.forks import run_at_once
from tests.train.test_loop import config, logged
from train.data.plan import Cursor
from train.distributed.ranks import RankGrid
from train.loop import train
from train.optim.ema import EMA
from train.run import commit
from train.run.checkpoint import Checkpointer, RunState, list_checkpoints, staging_options
from train.run.commit import CHECKSUMS
from train.run.config import CheckpointConfig, EMAConfig
from train.run.folder import load_model
from train.run.hold import hold_run
from train.run.storage import HashingWriter, SafePlanner, SafeReader, damaged, file_digest, write_checksums

ROOT = Path(__file__).parents[3]
SETTINGS: dict[str, Any] = {"checkpoint__every": 1, "checkpoint__keep": 3, "evaluate__held_out__first": 0}


@pytest.fixture(scope="module")
def finished(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints after steps 1, 2 and 3."""
    out = tmp_path_factory.mktemp("finished") / "run"
    train(config(steps=3, **SETTINGS), dataset, out)
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def flip(path: Path, place: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)


def checkpointer(root: Path, lease: Any = None) -> Checkpointer:
    model = torch.nn.Linear(3, 2)
    model(torch.ones(1, 3)).sum().backward()
    optimizer = torch.optim.AdamW(model.parameters())
    optimizer.step()
    ranks = RankGrid(rank=0, world_size=1, device=torch.device("cpu"))
    return Checkpointer(root, model, EMA(model, EMAConfig()), optimizer, ranks, CheckpointConfig(), lease)


def saved(root: Path, step: int = 1) -> Path:
    saver = checkpointer(root)
    saver.save(RunState(step=step, cursor=Cursor()))
    saver.finish()
    return root / f"step-{step:06d}"


def test_each_flipped_bit_is_refused_with_the_files_name(tmp_path: Path):
    folder = saved(tmp_path)
    names = sorted(path.name for path in folder.iterdir())
    assert {".metadata", "state.json", CHECKSUMS} < set(names) and len(names) == 4
    assert damaged(folder) == []
    for name in names:
        for place in (0, 0.3, 0.7, 1):
            before = (folder / name).read_bytes()
            flip(folder / name, place)
            (problem,) = damaged(folder)
            assert problem.startswith(name)
            with pytest.raises(ValueError, match=rf"{re.escape(str(folder))}: cannot continue .*{re.escape(name)}"):
                checkpointer(tmp_path).load(folder)
            (folder / name).write_bytes(before)
    for name in names:
        (folder / name).rename(tmp_path / "away")
        assert [problem.split()[:3] for problem in damaged(folder)] in (
            [[name, "is", "missing"]],
            [[name, "is", "missing:"]],
        )
        (tmp_path / "away").rename(folder / name)
    checkpointer(tmp_path).load(folder)


def test_generators_go_on_where_they_were(tmp_path: Path):
    torch.manual_seed(1)
    folder = saved(tmp_path)
    expected = torch.rand(3)
    torch.manual_seed(2)
    checkpointer(tmp_path).load(folder)
    assert torch.equal(torch.rand(3), expected)


def test_of_replicas_the_first_alone_copies_and_writes_the_state(tmp_path: Path):
    saver = checkpointer(tmp_path)
    assert saver._own_part().keys() == {"model", "ema", "optimizer", "rng"}
    saver.ranks = RankGrid(rank=1, world_size=1, device=torch.device("cpu"))
    assert saver._own_part().keys() == {"rng"}


def test_state_is_copied_from_a_gpu_into_pinned_memory_and_on_a_cpu_nothing_is_kept(tmp_path: Path):
    gpu, cpu = (staging_options(torch.device(name)) for name in ("cuda", "cpu"))
    assert gpu.use_pinned_memory and gpu.use_non_blocking_copy
    assert not (cpu.use_pinned_memory or cpu.use_non_blocking_copy or gpu.use_shared_memory or cpu.use_shared_memory)
    assert checkpointer(tmp_path)._stager is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pinned_memory_is_taken_once_for_all_checkpoints():
    stager, state = DefaultStager(staging_options(torch.device("cuda"))), {"x": torch.ones(1000, device="cuda")}
    first, second = (stager.stage(state)["x"] for _ in range(2))
    assert first.is_pinned() and first.data_ptr() == second.data_ptr()
    stager.close()


def test_ranks_share_the_reading(tmp_path: Path):
    folder = saved(tmp_path)
    flip(folder / "state.json")
    assert sorted(len(damaged(folder, part, 3)) for part in range(3)) == [0, 0, 1]


def test_a_run_with_a_damaged_checkpoint_names_the_one_that_is_whole(dataset: str, run: Path):
    checkpoints = list_checkpoints(run / "checkpoints")
    (part,) = checkpoints[-1].glob("*.distcp")
    flip(part)
    told = r"step-000003: cannot continue .*__0_0\.distcp is not what was written.*remove {} to continue from {}"
    with pytest.raises(ValueError, match=told.format("it", "step-000002, which is whole")):
        train(config(steps=4, **SETTINGS), dataset, run)
    with pytest.raises(ValueError, match=r"weights cannot be read \(__0_0\.distcp .*such as step-000002"):
        load_model(run)
    flip(checkpoints[1] / "state.json")
    with pytest.raises(ValueError, match=told.format("it and step-000002", "step-000001, which is whole")):
        train(config(steps=4, **SETTINGS), dataset, run)
    flip(checkpoints[0] / ".metadata")
    with pytest.raises(ValueError, match=told.format("it and step-000001 and step-000002", "the first step")):
        train(config(steps=4, **SETTINGS), dataset, run)
    for checkpoint in checkpoints[1:]:
        shutil.rmtree(checkpoint)
    flip(checkpoints[0] / ".metadata")
    assert train(config(steps=4, **SETTINGS), dataset, run).steps == 4


class Touches:
    """Pickled, it makes a file where it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (self.path,)


def test_nothing_in_a_foreign_checkpoint_is_run(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Its list of tensors is a pickle, and so is what is no tensor."""
    folder, marker = saved(tmp_path), tmp_path / "was_run"
    (folder / ".metadata").write_bytes(pickle.dumps(Touches(marker)))
    write_checksums(folder, {path.name: file_digest(path) for path in folder.iterdir() if path.name != CHECKSUMS})
    assert damaged(folder) == []
    with pytest.raises(ValueError, match=r"\.metadata names .*touch"):
        checkpointer(tmp_path).load(folder)
    assert "Traceback" not in caplog.text
    values = tmp_path / "values"
    dcp.save({"value": Touches(marker)}, storage_writer=HashingWriter(values), no_dist=True)
    with pytest.raises(CheckpointException, match="value is no plain value"):
        dcp.load({"value": 0}, storage_reader=SafeReader(values), planner=SafePlanner(), no_dist=True)
    assert not marker.exists()


def by_name(member: Enum) -> tuple[Callable, tuple]:
    """As Python 3.11.2 pickles a member of an enumeration."""
    return getattr, (type(member), member.name)


def test_a_checkpoint_of_another_patch_of_python_is_read(tmp_path: Path):
    """Some pickle a member of an enumeration by its value, some by its name."""
    folder = saved(tmp_path)
    metadata = SafeReader(folder).read_metadata()
    text = io.BytesIO()
    pickler = pickle.Pickler(text)
    pickler.dispatch_table = copyreg.dispatch_table | {_MEM_FORMAT_ENCODING: by_name}
    pickler.dump(metadata)
    assert b"getattr" in text.getvalue()
    (folder / ".metadata").write_bytes(text.getvalue())
    assert SafeReader(folder).read_metadata().state_dict_metadata == metadata.state_dict_metadata


def test_getattr_reaches_members_of_enumerations_only(tmp_path: Path):
    class Reaches:
        def __reduce__(self) -> tuple[Callable, tuple]:
            return getattr, (OrderedDict, "fromkeys")

    folder = saved(tmp_path)
    (folder / ".metadata").write_bytes(pickle.dumps(Reaches()))
    with pytest.raises(pickle.UnpicklingError, match=r"OrderedDict.*fromkeys, which is no part of a list of tensors"):
        SafeReader(folder).read_metadata()


def test_a_list_that_names_files_elsewhere_is_refused(tmp_path: Path):
    folder = saved(tmp_path / "checkpoints")
    reader = SafeReader(folder)
    metadata = reader.read_metadata()
    for info in metadata.storage_data.values():
        info.relative_path = "../../elsewhere.distcp"
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(pickle.UnpicklingError, match="a file elsewhere"):
        reader.read_metadata()


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All its files, and the list of their names; and then its own name."""
    files, folders = set[int](), dict[int, set[str]]()  # by their inodes; what a folder held when it was synchronised
    fsync, rename, published = os.fsync, Path.rename, []

    def watched(descriptor: int) -> None:
        status = os.fstat(descriptor)
        files.add(status.st_ino)
        if stat.S_ISDIR(status.st_mode):
            folders[status.st_ino] = set(os.listdir(descriptor))
        fsync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        if target.name.startswith("step-"):
            assert {one.stat().st_ino for one in path.iterdir()} <= files
            assert folders[path.stat().st_ino] == {one.name for one in path.iterdir()}
            published.append(target)
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", watched)
    monkeypatch.setattr(Path, "rename", renamed)
    folder = saved(tmp_path)
    assert published == [folder] and folder.name in folders[tmp_path.stat().st_ino]


def test_a_removed_checkpoint_goes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whoever looks while its files are removed does not see half of it under its name."""
    folder = saved(tmp_path)
    seen, rmtree = [], shutil.rmtree

    def watched(path: Path, *args: Any, **options: Any) -> None:
        seen.append(folder.exists())
        rmtree(path, *args, **options)

    monkeypatch.setattr(commit.shutil, "rmtree", watched)
    assert folder.exists()
    commit.remove_folder(folder)
    assert seen[-1] is False and list(tmp_path.iterdir()) == []


def test_what_a_killed_save_or_removal_left_goes_with_the_next_run(dataset: str, run: Path):
    root = run / "checkpoints"
    for name in (".step-000009.tmp", ".step-000001.removed"):
        shutil.copytree(root / "step-000002", root / name)
    (root / "notes.txt").write_text("mine")
    (run / f".run.json.{'0' * 32}.tmp").write_text("{")
    train(config(steps=4, **SETTINGS), dataset, run)
    names = sorted(path.name for path in root.iterdir())
    assert names == ["notes.txt", "step-000002", "step-000003", "step-000004"]
    assert not list(run.glob(".*.tmp"))


def test_a_run_that_is_trained_is_not_trained_by_another(dataset: str, run: Path):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    with (
        hold(run, "train"),
        pytest.raises(ValueError, match=rf"{re.escape(str(run))} is being written by .*pid {os.getpid()} of .* on "),
    ):
        train(config(steps=4, **SETTINGS), dataset, run)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before
    train(config(steps=4, **SETTINGS), dataset, run)


@pytest.mark.parametrize("rank", [0, 1])
def test_all_ranks_are_refused_with_the_first(tmp_path: Path, rank: int):
    """Which alone asks for the lease, and tells the others."""

    class Rank(RankGrid):
        def all_gather_object(self, value: Any) -> list[Any]:
            assert (value is None) is not self.is_main
            return [value if self.is_main else "the first one's message", None]

    ranks = Rank(rank=rank, world_size=2, device=torch.device("cpu"))
    told = "is being written by" if rank == 0 else "the first one's message"
    with (
        hold(tmp_path, "train"),
        pytest.raises(ValueError, match=told),
        hold_run(tmp_path, ranks, is_restart=False),
    ):
        pass


def test_of_two_trainings_at_once_one_is_refused_and_the_other_is_undisturbed(dataset: str, run: Path):
    settings = config(steps=8, **SETTINGS)
    alone = Path(shutil.copytree(run, run.with_name("alone")))
    train(settings, dataset, alone)
    ended = run_at_once([{}, {}], settings, dataset, run)
    (refused,) = [i for i, training in enumerate(ended) if training.code]
    assert (
        "is being written by" in ended[refused].errors and f"pid {ended[1 - refused].pid} of" in ended[refused].errors
    )
    assert logged(run) == logged(alone)
    names = [[path.name for path in list_checkpoints(folder / "checkpoints")] for folder in (run, alone)]
    assert names[0] == names[1]


def test_the_lease_of_a_killed_training_ends_with_it(dataset: str, run: Path):
    script = f"""from curate.storage.lease import hold
with hold({str(run)!r}, 'train'):
    print('held', flush=True); input()
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=rf"is being written by .*pid {other.pid} of "):
            train(config(steps=4, **SETTINGS), dataset, run)
        other.send_signal(signal.SIGKILL)
    train(config(steps=4, **SETTINGS), dataset, run)


def test_a_full_disk_ends_a_run_with_one_message_and_costs_no_checkpoint(
    dataset: str, run: Path, monkeypatch: pytest.MonkeyPatch
):
    write = HashingWriter.write_data

    def full(writer: HashingWriter, *args: Any) -> Any:
        if "step-000005" in str(writer.path):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(writer, *args)

    monkeypatch.setattr(HashingWriter, "write_data", full)
    told = r"step-000005: this checkpoint could not be written \(OSError: .*No space left.*resumes from step-000004"
    with pytest.raises(OSError, match=told):
        train(config(steps=6, **SETTINGS), dataset, run)
    monkeypatch.undo()
    train(config(steps=6, **SETTINGS), dataset, run)
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == ["step-000004", "step-000005", "step-000006"]


def test_without_its_lease_a_run_publishes_nothing(tmp_path: Path):
    class Lost:
        def check(self) -> None:
            raise LeaseLost("another process may write there")

    saver = checkpointer(tmp_path, Lost())
    saver.save(RunState(step=1, cursor=Cursor()))
    with pytest.raises(LeaseLost):
        saver.finish()
    assert list_checkpoints(tmp_path) == []
