"""Memory of `reelpack train-import`, beside the size of the checkpoint that it reads.

    python -m benchmarks.import_memory [--layers 30] [--shard-gib 1]

A checkpoint of the shapes of Wan 2.1 1.3B, random in bfloat16 and in shards, is imported in a process of its own: the
largest resident size of the process, less that before the import, over the size of the weights. `--layers` makes a
smaller one.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import described

WAN_1_3B = {
    "num_attention_heads": 12,
    "attention_head_dim": 128,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "ffn_dim": 8960,
    "patch_size": [1, 2, 2],
}
GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--shard-gib", type=float, default=1.0)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # in a process of its own
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(Path(arguments.one))))
        return
    print(described())
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "published", arguments.layers, arguments.shard_gib)
        command = [sys.executable, "-m", "benchmarks.import_memory", "--one", folder]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(said.splitlines()[-1])
    ratio = found["peak"] / found["size"]
    print(f"weights {found['size'] / GIB:.2f} GiB, import and save {found['seconds']:.0f} s of CPU, "
          f"at most {found['peak'] / GIB:.2f} GiB above the start: {ratio:.2f} x")  # fmt: skip


def write(folder: Path, layers: int, shard_gib: float) -> None:
    """Random weights in shards with an index, as diffusers writes them."""
    import torch

    from curate.storage.tensors import write_tensors
    from train.convert.wan import Wan
    from train.model.dit import DiT
    from train.run.load_state import parameters_on_meta

    family, config = Wan(), WAN_1_3B | {"num_layers": layers}
    shape = family.read(config)
    with parameters_on_meta():
        model = DiT(shape.config, channels=shape.channels, text_dim=shape.text_dim).state_dict()
    shapes = {
        name: tensor.shape
        for tie in family.ties(shape)
        for name, tensor in zip(tie.theirs, tie.give(model[tie.ours]), strict=True)
    }
    folder.mkdir()
    shards: list[list[str]] = [[]]
    for name in shapes:
        if sum(2 * shapes[other].numel() for other in shards[-1]) > shard_gib * GIB:
            shards.append([])
        shards[-1].append(name)
    index: dict[str, str] = {}
    for i, names in enumerate(shards, 1):
        file = f"diffusion_pytorch_model-{i:05d}-of-{len(shards):05d}.safetensors"
        write_tensors({name: torch.randn(shapes[name], dtype=torch.bfloat16) for name in names}, folder / file)
        index |= dict.fromkeys(names, file)
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "config.json").write_text(json.dumps({"_class_name": family.class_name} | config))


def measure(folder: Path) -> dict[str, float]:
    """Bytes and seconds of one import."""
    import time

    from pipelines.drivers.train_import import import_model

    before, start = resident("VmRSS"), time.process_time()
    import_model(str(folder / "published"), folder / "ours")
    size = (folder / "ours/model.safetensors").stat().st_size
    return {"peak": resident("VmHWM") - before, "size": size, "seconds": time.process_time() - start}


def resident(name: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM the most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
