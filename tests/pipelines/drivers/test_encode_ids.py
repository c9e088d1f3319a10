"""Latents that are stored as numbers of codes: what is trained, exported, checked and sampled is their vectors."""

import json
import shutil
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load

from curate.shards.tar import TarReader, read_member
from pipelines.config import Config, load_config
from pipelines.drivers.encode import encode
from pipelines.drivers.export import Choice, export
from pipelines.drivers.sample import sample_to_files
from pipelines.inspection.verify import verify
from tests.pipelines.test_train_commands import run
from tests.support.curated import caption, copied, curated
from tests.train.autoencoder.models import save_own
from train.autoencoder.bottlenecks.config import FSQConfig, KLConfig, VQConfig
from train.data.manifest import Manifest, read_manifest
from train.data.read import ClipReader
from train.sampling.config import SampleConfig

PATCH = (1, 2, 2)
BOTTLENECKS = {"vq": VQConfig(codebook_size=300), "fsq": FSQConfig(levels=(8, 5, 5))}


@pytest.fixture(scope="module", params=BOTTLENECKS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A dataset with its latents as values and as ids."""
    folder = tmp_path_factory.mktemp(request.param)
    made = curated(folder)
    caption(made.dataset)
    autoencoder = save_own(BOTTLENECKS[request.param], folder / "weights")
    for store in ("values", "ids"):
        config = load_config(overrides=["execute.executor=local", "encode.max_area_px=6144", f"encode.store={store}"])
        settings = config.model_dump(mode="json")
        settings["encode"]["autoencoder"] = autoencoder.model_dump(mode="json")
        setattr(made, store, encode(made.url, Config.model_validate(settings)).latents)
    return made


def manifest(made: SimpleNamespace, latents: str) -> Manifest:
    return read_manifest(made.url, split="train", patch=PATCH, latents=latents)


def test_the_loader_reads_the_vectors_exactly_and_few_bytes(made: SimpleNamespace) -> None:
    values, ids = manifest(made, made.values), manifest(made, made.ids)
    assert len(values) == len(ids) == 2 and (values.grids == ids.grids).all()
    readers = [ClipReader(of, PATCH) for of in (values, ids)]
    for row in range(2):
        one, other = (reader.latent(reader.manifest.row(row)) for reader in readers)
        assert one.std() > 0 and torch.equal(one, other)
    assert sum(ids.table["size"].to_pylist()) < 0.5 * sum(values.table["size"].to_pylist())


def test_a_run_on_ids_loses_what_a_run_on_values_does_and_is_sampled(made: SimpleNamespace, tmp_path: Path) -> None:
    small = ["model.width=32", "model.num_heads=2", "model.depth=1", "steps=2", "device=cpu"]
    losses = {}
    for latents in (made.values, made.ids):
        settings = [part for name in [*small, f"data.latents={latents}"] for part in ("--set", f"train.{name}")]
        assert run("train", made.url, "--out", str(tmp_path / latents), *settings) == 0
        rows = map(json.loads, (tmp_path / latents / "metrics.jsonl").read_text().splitlines())
        losses[latents] = [row["loss"] for row in rows if "loss" in row]
    assert losses[made.values] == losses[made.ids] and len(losses[made.ids]) == 2
    [path] = sample_to_files(
        str(tmp_path / made.ids), [""], tmp_path / "x.png", "96x64", 1, SampleConfig(num_steps=1, device="cpu")
    )
    assert path.stat().st_size > 0
    weights = shutil.move(made.out.parent / "weights", tmp_path / "weights")
    try:
        save_own(KLConfig(), made.out.parent / "weights")
        with pytest.raises(
            ValueError, match=rf"made as {made.ids} .* stored ids.* got .*reelpack_kl.*Put the weights"
        ):
            sample_to_files(str(tmp_path / made.ids), [""], tmp_path / "y.png", "96x64", 1, SampleConfig(device="cpu"))
    finally:
        shutil.rmtree(made.out.parent / "weights")
        shutil.move(weights, made.out.parent / "weights")


def test_verify_reads_ids_and_an_export_has_values(made: SimpleNamespace, tmp_path: Path) -> None:
    [check] = [check for check in verify(made.url) if check.what.startswith("latents")]
    assert check.problems == ()
    for latents in (made.values, made.ids):
        export(made.url, str(tmp_path / latents), choice=Choice(latents=latents))
    values, ids = (_exported(tmp_path / latents) for latents in (made.values, made.ids))
    assert values and values.keys() == ids.keys()
    assert all(latent.dtype is torch.float16 and torch.equal(latent, ids[name]) for name, latent in values.items())


def _exported(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in folder.rglob("*.tar"):
        with tarfile.open(path) as tar:
            members = [member for member in tar.getmembers() if member.name.endswith(".safetensors")]
            found |= {member.name: load(tar.extractfile(member).read())["latent"] for member in members}
    return found


def test_a_codebook_that_is_missing_or_another_is_told_with_the_clip(made: SimpleNamespace, tmp_path: Path) -> None:
    made = copied(made, tmp_path)
    path = made.out / "latents" / made.ids / "codebook.safetensors"
    rows = manifest(made, made.ids)
    for change in (path.unlink, lambda: path.write_bytes(b"other")):
        change()
        with pytest.raises(
            ValueError, match=rf"clip {rows.clip_ids[0]} .*codebook.safetensors: got a codebook .*put it"
        ):
            ClipReader(rows, PATCH).latent(rows.row(0))
        [check] = [check for check in verify(made.url) if check.what.startswith("latents")]
        [problem] = check.problems
        assert problem.startswith(f"latents/{made.ids}: ") and "codebook.safetensors: got a codebook" in problem


def test_a_number_without_a_code_is_told_with_the_clip(made: SimpleNamespace, tmp_path: Path) -> None:
    rows = manifest(made, made.ids)
    reader, row = ClipReader(rows, PATCH), rows.row(0)
    payload = read_member(TarReader(row["latents_root"]), row)
    assert load(payload)["ids"].dtype in (torch.uint8, torch.uint16)
    reader._codebooks[row["latents_root"]] = tuple(table[:2] for table in reader._codebook(row["latents_root"]))
    with pytest.raises(ValueError, match=rf"clip {row['clip_id']} .*: got ids of shape .* expected"):
        reader.latent(row)
