"""What ranks that share a pack exchange and hold: bytes of a step and memory of a rank, at 1, 2 and 4 ranks.

    python -m benchmarks.context_parallel            # about a minute on 2 cores; --tokens, --width, --depth

One clip is trained on, by heads that are exchanged and by keys that go round (3 heads do not divide by 2 or 4). Bytes
are those that a rank hands to collectives of its group in a forward and a backward pass, gradients of weights apart.
Memory is what autograd keeps for the backward pass, weights apart: what the number of tokens decides.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing import spawn

from benchmarks.machine import described
from train.distributed.ranks import RankGrid
from train.model.dit import DiT
from train.model.dit_config import DiTConfig
from train.objective.config import FlowConfig
from train.packing.batch import PackedBatch, Sample, pack

CHANNELS, TEXT_DIM = 16, 64


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Of the model and of the clip."""

    tokens: int
    width: int
    depth: int
    heads: int


def clip(model: DiT, num_tokens: int) -> PackedBatch:
    generator = torch.Generator().manual_seed(0)
    latent, noise = torch.randn(2, CHANNELS, num_tokens // 64, 16, 16, generator=generator)
    text = torch.randn(24, TEXT_DIM, generator=generator)
    sample = Sample(clip_id="clip", latent=latent, noise=noise, timestep=0.5, fps=12.0, text=text)
    return model.config.prepare(pack([sample], model.config.patch, TEXT_DIM))


def measure(rank: int, folder: str, num_ranks: int, shape: Shape) -> None:
    """One step of one rank; the first writes what it saw."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=num_ranks)
    ranks = RankGrid.of_group(torch.device("cpu"), num_ranks)
    torch.manual_seed(0)
    config = DiTConfig(width=shape.width, depth=shape.depth, num_heads=shape.heads)
    model = DiT(config, channels=CHANNELS, text_dim=TEXT_DIM)
    batch = clip(model, shape.tokens)
    if ranks.context_group is not None:
        batch = config.share(batch, ranks.context_group)
    sent, kept = [0], dict[int, int]()
    exchange = dist.all_to_all_single

    def counted(found: Tensor, own: Tensor, received: list[int], parts: list[int], **options: Any) -> Any:
        others = sum(parts) - parts[rank]
        sent[0] += others * own[:1].numel() * own.element_size()
        return exchange(found, own, received, parts, **options)

    dist.all_to_all_single = counted
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    objective = FlowConfig().build()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss = objective.loss_sum(objective.token_losses(model, batch), batch)
    loss.backward()
    total = ranks.sum(loss.detach()).item()
    if rank == 0:
        torch.save((sent[0], sum(kept.values()), total), f"{folder}/found.pt")
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=4096, help="of the clip, a multiple of 64")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--depth", type=int, default=4)
    options = parser.parse_args()
    print(described())
    for heads, way in ((4, "heads are exchanged (4 heads)"), (3, "keys go round (3 heads)")):
        shape = Shape(tokens=options.tokens, width=options.width, depth=options.depth, heads=heads)
        print(f"\n{way}: {shape.depth} blocks of width {shape.width}, a clip of {shape.tokens:,} tokens, float32")
        print("ranks   sent by a rank   kept by a rank   of one rank's       loss")
        alone = None
        for num_ranks in (1, 2, 4):
            with tempfile.TemporaryDirectory() as folder:
                spawn(measure, (folder, num_ranks, shape), nprocs=num_ranks)
                sent, kept, loss = torch.load(Path(folder, "found.pt"))
            alone = alone or kept
            print(f"{num_ranks:5} {sent / 2**20:12.1f} MiB {kept / 2**20:12.1f} MiB {kept / alone:15.2f} {loss:10.6f}")


if __name__ == "__main__":
    main()
