"""Token mixers on one sample of more and more tokens: time and memory per token, beside joint attention.

    python -m benchmarks.linear_mixers [--tokens 1024,4096,16384,32768,65536] [--mixers mamba,samba,...] [--rounds 2]

A step is forward and backward of two blocks (width 192, 3 heads, adaLN-Zero, an MLP in each) on one thread. Each
measurement runs in a process of its own, in turns; a figure is the least CPU time of the rounds. Memory is the largest
resident size of the process less that before the step. Joint attention is measured up to 32,768 tokens.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

from benchmarks.machine import described

MIXERS = ("mamba", "samba", "sliding_attention", "attention")
LONGEST_JOINT = 32_768
WIDTH, DEPTH, HEADS = 192, 2, 3
SHORT = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", default="1024,4096,16384,32768,65536")
    parser.add_argument("--mixers", default=",".join(MIXERS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # in a process of its own
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one[0], int(arguments.one[1]))))
        return
    print(described())
    counts, mixers = [int(n) for n in arguments.tokens.split(",")], arguments.mixers.split(",")
    wanted = [(m, n) for n in counts for m in mixers if m != "attention" or n <= LONGEST_JOINT]
    found: dict[tuple[str, int], list[dict[str, float]]] = {one: [] for one in wanted}
    for _ in range(arguments.rounds):
        for mixer, n in wanted:
            command = [sys.executable, "-m", "benchmarks.linear_mixers", "--one", mixer, str(n)]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found[mixer, n].append(json.loads(said.splitlines()[-1]))
    print(f"{'mixer':20}{'tokens':>8}{'us / token':>12}{'KiB / token':>13}{'x joint':>9}")
    for (mixer, n), rounds in found.items():
        seconds, kept = (min(one[name] for one in rounds) for name in ("seconds", "bytes"))
        joint = found.get(("attention", n))
        ratio = f"{min(one['seconds'] for one in joint) / seconds:.2f}" if joint else ""
        print(f"{mixer:20}{n:8}{1e6 * seconds / n:12.1f}{kept / n / 1024:13.1f}{ratio:>9}")


def measure(mixer: str, num_tokens: int) -> dict[str, float]:
    """CPU seconds and bytes of one step."""
    import torch

    from train.model.dit import DiT
    from train.model.dit_config import DiTConfig
    from train.packing.batch import Sample, pack

    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = {"width": WIDTH, "depth": DEPTH, "num_heads": HEADS, "position": "sincos", "text": "none"}
    config = DiTConfig.model_validate(shape | {"mixer": {"kind": mixer}, "condition_on_fps": False})
    model = DiT(config, channels=4, text_dim=8)

    def step(n: int) -> float:
        latent = torch.randn(4, n // 256, 32, 32)
        sample = Sample(clip_id="", latent=latent, noise=latent, timestep=0.5, fps=8.0, text=None)
        batch = model.config.prepare(pack([sample], config.patch, 8))
        start = time.process_time()
        model(batch.tokens, batch.timesteps, batch).square().mean().backward()
        return time.process_time() - start

    for _ in range(SHORT):
        step(1024)  # what is set up once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = min(step(num_tokens) for _ in range(SHORT))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "bytes": 1024.0 * (peak - before)}


if __name__ == "__main__":
    main()
