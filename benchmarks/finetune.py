"""A step of LoRA against one of full fine-tuning of the same model, on a CPU: seconds of work and bytes of memory.

    python -m benchmarks.finetune [--models S B] [--tokens 2048] [--rank 16] [--rounds 5] [--kinds lora …]

Both models train on the same pack, one after the other in every round. Seconds are processor time, of each part of a
step the least of all rounds: what others do on the machine makes them longer, never shorter. Memory is what a rank is
told to take before the start, and, of a process of its own, what its resident memory grew by. int8 and nf4 are LoRA on
blocks in 8 and 4 bits.

Promise: LoRA takes at most 0.7 of the time and 0.5 of the memory, for S and B.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from benchmarks.machine import described
from train.estimate.memory import estimate_memory
from train.finetune.adapt import adapt
from train.model.base import Denoiser
from train.monitor.meter import peak_memory
from train.optim.ema import EMA
from train.optim.optimizer import AnyOptimizer, build_optimizer
from train.optim.trainable import trainable_parameters
from train.packing.batch import PackedBatch, Sample, pack
from train.run.config import TrainConfig

SHAPES = {"S": (384, 12, 6), "B": (768, 12, 12), "tiny": (64, 2, 2)}
"""Width, depth, heads (DiT, Peebles & Xie 2023, table 1)."""
CHANNELS, TEXT_DIM, TEXT_TOKENS = 16, 384, 24
GRID = (4, 16, 16)
"""Of a clip's latent: 256 tokens."""
PROMISED_TIME, PROMISED_MEMORY = 0.7, 0.5


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A model in training."""

    config: TrainConfig
    model: Denoiser
    optimizer: AnyOptimizer
    ema: EMA

    @classmethod
    def of(cls, model: str, kind: str, rank: int) -> "Trained":
        width, depth, heads = SHAPES[model]
        settings: dict[str, Any] = {"model": {"width": width, "depth": depth, "num_heads": heads}}
        if kind != "full":
            frozen = {"frozen_dtype": kind} if kind in ("int8", "nf4") else {}
            settings |= {"init": "base", "finetune": {"kind": "lora", "rank": rank, "dora": kind == "dora"} | frozen}
        config = TrainConfig.model_validate(settings)
        torch.manual_seed(0)
        built: Denoiser = config.model.build(channels=CHANNELS, text_dim=TEXT_DIM)
        for parameter in built.parameters():  # no gate is zero
            torch.nn.init.normal_(parameter, std=0.02)
        adapt(built, config)
        optimizer = build_optimizer(built, config.optimizer)
        return cls(config=config, model=built, optimizer=optimizer, ema=EMA(built, config.ema))

    def step(self, batch: PackedBatch, number: int) -> list[float]:
        """Processor seconds of forward pass, backward pass, and the rest."""
        moments = [time.process_time()]
        loss = self.config.objective.build().token_losses(self.model, batch).mean()
        moments.append(time.process_time())
        loss.backward()
        moments.append(time.process_time())
        torch.nn.utils.clip_grad_norm_(trainable_parameters(self.model).values(), 1.0)
        self.optimizer.step()
        self.ema.update(self.model, number)
        self.optimizer.zero_grad()
        moments.append(time.process_time())
        return [end - start for start, end in pairwise(moments)]

    def predicted(self, num_tokens: int) -> int:
        return estimate_memory(self.config, self.model, num_tokens, 1, torch.float32).total_bytes


def packed(num_tokens: int, config: TrainConfig) -> PackedBatch:
    torch.manual_seed(1)
    latents = [torch.randn(CHANNELS, *GRID) for _ in range(max(1, num_tokens // 256))]
    text = torch.randn(TEXT_TOKENS, TEXT_DIM)
    samples = [
        Sample(clip_id=str(i), latent=x, noise=torch.randn_like(x), timestep=0.5, fps=8.0, text=text)
        for i, x in enumerate(latents)
    ]
    return pack(samples, config.model.patch, TEXT_DIM)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=["S", "B"])
    parser.add_argument("--kinds", nargs="+", choices=["lora", "dora", "int8", "nf4"], default=["lora"])
    parser.add_argument("--tokens", type=int, default=2048, help="of the pack")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--grown", nargs=2, help=argparse.SUPPRESS)  # what a process of its own does
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.grown:
        print(json.dumps(grown(arguments.grown[0], arguments.grown[1], arguments)))
        return
    print(described())
    for model in arguments.models:
        measure(model, arguments)


def grown(model: str, kind: str, arguments: argparse.Namespace) -> int:
    """Bytes by which the process grows while it trains for two steps."""
    batch = packed(arguments.tokens, TrainConfig())
    Trained.of("tiny", kind, 4).step(packed(256, TrainConfig()), 0)  # libraries are loaded
    before = peak_memory(torch.device("cpu"))
    trained = Trained.of(model, kind, arguments.rank)
    for number in range(2):
        trained.step(batch, number)
    return peak_memory(torch.device("cpu")) - before


def measure(model: str, arguments: argparse.Namespace) -> None:
    kinds = ["full", *arguments.kinds]
    ways = {kind: Trained.of(model, kind, arguments.rank) for kind in kinds}
    batch = packed(arguments.tokens, ways["full"].config)
    steps: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    for number in range(arguments.rounds):
        for kind, way in ways.items():
            steps[kind].append(way.step(batch, number))
    seconds = {kind: [min(parts) for parts in zip(*rounds, strict=True)] for kind, rounds in steps.items()}
    predicted = {kind: way.predicted(batch.segments.num_tokens) for kind, way in ways.items()}
    trains = {kind: sum(p.numel() for p in trainable_parameters(way.model).values()) for kind, way in ways.items()}
    del ways
    shared = [f"--tokens={arguments.tokens}", f"--rank={arguments.rank}"]
    for kind in kinds:
        command = [sys.executable, "-m", "benchmarks.finetune", *shared, "--grown", model, kind]
        measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        forward, backward, rest = seconds[kind]
        print(
            f"DiT-{model} {kind:5} trains {trains[kind]:>11,}: {sum(seconds[kind]):6.2f} s (forward {forward:.2f}, "
            f"backward {backward:.2f}, rest {rest:.2f}), ×{sum(seconds[kind]) / sum(seconds['full']):.2f}; predicted "
            f"{predicted[kind] / 2**30:.2f} GiB, ×{predicted[kind] / predicted['full']:.2f}; grew "
            f"{measured / 2**30:.2f} GiB"
        )


if __name__ == "__main__":
    main()
