"""A released model adapted in each way: losses before and after; and runs that are killed, or on several ranks.

    python -m benchmarks.adapt_wan [OUT] [--dataset PATH] [--steps 120] [--only full lora …]

A small random `WanTransformer3DModel` and a small random `PixArtTransformer2DModel` of diffusers come in by
`train-import`. Clips are those of the demo's excerpts, curated and captioned in OUT by the embedded models; of a
curated and captioned dataset (`--dataset PATH`, which gets three sets of latents); or moving shapes
(`--dataset shapes`, benchmarks/moving_shapes.py).

- full: all weights of the imported Wan, on videos and images.
- LoRA: updates of attention and MLP of that model, on clips of other sizes and lengths.
- inflation: the imported PixArt learns images, of films single frames; then layers along time are added, which alone
  train, on videos.
- image-to-video: the first frame is shown to that model by channels that it gets (the task gray_video).
- one-shot: Tune-A-Video's query projections and temporal attention, on one clip, whose own loss is looked at.

The loss is of clips that are held out, with fixed noise at three timesteps, and of the weights, not their average.
Then a full and a LoRA run are killed by `kill -9` and continued, and steps are taken by 1, 2 and 4 ranks that share
packs. Exit code 1 where a loss did not fall, or something differs that must not. What OUT has is not made again.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch

from benchmarks.demo_dataset import make_demo_dataset
from benchmarks.machine import described
from benchmarks.moving_shapes import SETTINGS, make
from curate.encoders import torchvision_cpu
from curate.storage.place import path_of
from pipelines.config import load_config
from pipelines.drivers.encode import encode
from pipelines.drivers.train_import import import_model
from tests.support.forks import run_ranks
from train.data.manifest import Manifest
from train.data.mix import read_datasets
from train.distributed.ranks import RankGrid
from train.evaluate.base import EvaluationContext
from train.evaluate.fixed_noise import FixedNoiseLoss
from train.loop import train
from train.model.base import Denoiser
from train.monitor.metrics import MEASURED, read_metrics
from train.optim.trainable import trainable_parameters
from train.run.config import TrainConfig
from train.run.export import export_run
from train.run.folder import RunRecord, adapt_base, build_model, load_model

TEXT_DIM = 384
WAN = {"num_attention_heads": 4, "attention_head_dim": 24, "text_dim": TEXT_DIM, "ffn_dim": 256, "num_layers": 4}
PIXART = {
    "num_attention_heads": 4, "attention_head_dim": 24, "num_layers": 4, "cross_attention_dim": 96, "sample_size": 8,
    "caption_channels": TEXT_DIM,
}  # fmt: skip
TIMESTEPS = (0.25, 0.5, 0.75)
SMALL: Sequence[str] = (
    "train.device=cpu",
    "train.data.plan={token_budget: 640, packs_per_step: 2}",
    "train.optimizer.warmup_steps=10",
    "train.ema.decay=0",
    "train.evaluate={held_out: {every: 0}, captions: {every: 0}}",
)
CLIPS: Mapping[str, Mapping[str, Any]] = {
    "clips": {"seed": 0, "num_train": 96, "num_held_out": 24},
    "images": {"seed": 1, "num_train": 96, "num_held_out": 24, "sizes": {(1, 64, 64): 0.5, (1, 48, 80): 0.5}},
    "others": {"seed": 2, "num_train": 48, "num_held_out": 16, "sizes": {(33, 48, 48): 0.5, (25, 32, 80): 0.5}},
}
VIEWS: Mapping[str, Sequence[str]] = {
    "clips": (),
    "images": ("encode.fps=1", "encode.max_frames=1"),
    "others": ("encode.max_area_px=5120", "encode.max_frames=9"),
    "shown": ("encode.gray=[first]",),
}
"""How one dataset is encoded where the shapes are three; the rest is as in the demo."""
RANKS = (1, 2, 4)
LIMIT_S = 900
"""For processes that train for a few steps, on a machine that others use."""
TOLERANCE = 1e-5


class Data(NamedTuple):
    """A dataset, and which of its latents."""

    url: str
    latents: str

    def manifest(self, config: TrainConfig, split: str = "val") -> Manifest:
        data = config.data.model_copy(update={"latents": self.latents})
        return read_datasets(self.url, split=split, data=data, model=config.model)


Way: TypeAlias = tuple[TrainConfig, Data]


@dataclass(frozen=True, kw_only=True)
class Study:
    """Where everything lies, what of, and how long it trains."""

    out: Path
    steps: int
    dataset: str | None

    def data(self, name: str) -> Data:
        if not (done := self.out / f"{name}.done").exists():
            done.write_text("\n".join(self._made(name)))
        return Data(*done.read_text().split("\n"))

    def _made(self, name: str) -> Data:
        if self.dataset == "shapes":
            if name in CLIPS:
                make(self.out / name, **CLIPS[name])
                made = Data(str(self.out / name), "auto")
                return made._replace(latents=made.manifest(TrainConfig()).latents["fingerprint"])
            summary = encode(self.data("clips").url, load_config(overrides=[*SETTINGS, *VIEWS[name]]))
            return Data(self.data("clips").url, summary.latents)
        url = self.dataset or make_demo_dataset(self.out / "demo")
        summary = encode(url, load_config("demo", ["execute.executor=local", *VIEWS[name]]))
        return Data(url, summary.latents)

    def imported(self, kind: str) -> Path:
        """A random model of diffusers' class `kind`, as `train-import` brings it in; its own latents' channels."""
        out = self.out / kind
        if not (out / "train.yaml").exists():
            torchvision_cpu.repair()
            import diffusers

            channels = self.data("clips").manifest(TrainConfig()).channels
            torch.manual_seed(0)
            settings: dict[str, Any] = {
                "WanTransformer3DModel": {**WAN, "in_channels": channels, "out_channels": channels},
                "PixArtTransformer2DModel": {**PIXART, "in_channels": channels, "out_channels": 2 * channels},
            }
            model = getattr(diffusers, kind)(**settings[kind])
            model.save_pretrained(self.out / f"{kind}-of-diffusers")
            import_model(str(self.out / f"{kind}-of-diffusers"), out)
        return out

    def config(self, base: Path, data: Data, *overrides: str) -> TrainConfig:
        """A run that begins with a folder of `train-import`."""
        short = ["train.model.text_padding=null"] if "Wan" in base.name else []  # 512 states of zeros for each caption
        given = [f"train.steps={self.steps}", f"train.data.latents={data.latents}", *SMALL, *short, *overrides]
        return load_config(str(base / "train.yaml"), given).train

    def run(self, name: str, config: TrainConfig, data: Data) -> Path:
        if not (self.out / name / "summary.json").exists():
            train(config, data.url, self.out / name)
        return self.out / name

    def exported(self, run: Path) -> Path:
        """A model that another run begins with."""
        folder = run.with_name(f"{run.name}-model")
        return folder if folder.exists() else export_run(run, folder)


def compare(study: Study, name: str, config: TrainConfig, data: Data, split: str = "val") -> bool:
    """Train, and print what the loss was before and after; True if it fell."""
    start = time.monotonic()
    manifest, record = data.manifest(config, split), RunRecord.of(data.manifest(config, "train"))
    model = build_model(config, record)
    assert config.init is not None
    adapt_base(model, config, config.init)
    trains = sum(parameter.numel() for parameter in trainable_parameters(model).values())
    before = loss_of(model, config, manifest, study.out)
    run = study.run(name, config, data)
    after = loss_of(load_model(path_of(run), weights="model")[0], config, manifest, study.out)
    print(
        f"| {name} | {trains:,} of {sum(p.numel() for p in model.parameters()):,} | {config.steps} | "
        f"{before:.3f} → {after:.3f} |   {time.monotonic() - start:.0f} s",
        flush=True,
    )
    return after < before


def loss_of(model: Denoiser, config: TrainConfig, manifest: Manifest, out: Path) -> float:
    """Mean over the clips of a manifest and timesteps, with fixed noise."""
    context = EvaluationContext(
        train=manifest,
        val=manifest,
        objective=config.objective.build(),
        plan=config.data.plan,
        model=config.model,
        ranks=RankGrid(rank=0, world_size=1, device=torch.device("cpu")),
        out=out,
    )
    rows = list(range(len(manifest)))
    return float(FixedNoiseLoss(TIMESTEPS, context).losses(model.eval(), manifest, rows, [rows]).mean())


def full(study: Study) -> bool:
    return compare(study, "full", *_full(study))


def _full(study: Study) -> Way:
    data = study.data("clips")
    return study.config(study.imported("WanTransformer3DModel"), data, "train.optimizer.lr=1e-3"), data


def _base(study: Study) -> str:
    """What full fine-tuning made of the imported model."""
    return str(study.exported(study.run("full", *_full(study))))


def lora(study: Study) -> bool:
    return compare(study, "LoRA", *_lora(study))


def _lora(study: Study) -> Way:
    data = study.data("others")
    config = study.config(
        study.imported("WanTransformer3DModel"),
        data,
        f"train.init={_base(study)}",
        "train.finetune={kind: lora, rank: 16, targets: ['blocks.*attention*', 'blocks.*.mlp.*']}",
        "train.optimizer.lr=3e-3",
    )
    return config, data


def image_to_video(study: Study) -> bool:
    return compare(study, "image-to-video", *_image_to_video(study))


def _image_to_video(study: Study) -> Way:
    data = study.data("shown")
    latents = data.manifest(TrainConfig()).latents
    config = study.config(
        study.imported("WanTransformer3DModel"),
        data,
        f"train.init={_base(study)}",
        f"train.model.shown_channels={latents['channels'] + latents['temporal_stride']}",
        "train.data.tasks=[{kind: gray_video}]",
        "train.optimizer.lr=1e-3",
    )
    return config, data


def inflation(study: Study) -> bool:
    images, data = study.data("images"), study.data("clips")
    config = study.config(study.imported("PixArtTransformer2DModel"), images, "train.optimizer.lr=1e-3")
    fell = compare(study, "image model", config, images)
    video = study.out / "PixArt-inflated"
    if not video.exists():
        import_model(str(study.exported(study.out / "image model")), video, temporal="both", pattern="spatial")
    config = study.config(video, data, "train.trainable=['blocks.*.temporal*']", "train.optimizer.lr=3e-3")
    return compare(study, "inflation", config, data) and fell


def one_shot(study: Study) -> bool:
    data = study.data("others")
    clip = data.manifest(TrainConfig(), "train").clip_ids[0]
    config = study.config(
        study.imported("WanTransformer3DModel"),
        data,
        f"train.init={_base(study)}",
        "train.model.mixer.pattern=sparse_causal",
        "train.trainable=['blocks.*.to_q.*', 'blocks.*.self_attentions.1.*']",
        f"train.data.clips=[{clip}]",
        "train.data.plan.packs_per_step=1",
        "train.optimizer.lr=1e-3",
    )
    return compare(study, "one-shot", config, data, split="train")


def killed(step: int, config: TrainConfig, dataset: str, out: Path) -> None:
    """Trains until a step is done, and then ends by the signal."""

    def kill(row: Mapping[str, Any]) -> None:
        if row["step"] == step:
            os.kill(os.getpid(), signal.SIGKILL)

    train(config, dataset, out, on_step=kill)


def kill_and_resume(study: Study) -> bool:
    ways = {"full": _full(study), "LoRA": _lora(study), "image-to-video": _image_to_video(study)}
    equal = True
    for name, (config, data) in ways.items():
        short = config.model_copy(
            update={"steps": 12, "checkpoint": config.checkpoint.model_copy(update={"every": 4})}
        )
        with folder(study) as out:
            train(short, data.url, out / "whole")
            [ended] = run_ranks(1, short, data.url, out / "killed", partial(killed, 7), LIMIT_S)
            assert ended.code == -signal.SIGKILL, ended
            train(short, data.url, out / "killed")
            same = rows(out / "whole") == rows(out / "killed") and weights(out / "whole") == weights(out / "killed")
        print(f"{name}, killed after step 7 of 12, continued from 4: {'EQUAL in every bit' if same else 'DIFFERENT'}")
        equal &= same
    return equal


def rows(run: Path) -> list[dict[str, Any]]:
    """Of metrics.jsonl, without what the clock says."""
    return [{k: v for k, v in row.items() if k not in MEASURED} for row in read_metrics(run / "metrics.jsonl")]


def weights(run: Path) -> dict[str, bytes]:
    state = load_model(path_of(run), weights="model")[0].state_dict()
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}


def on_ranks(study: Study) -> bool:
    (full, data), losses = _full(study), dict[int, list[float]]()
    with folder(study) as out:
        for count in RANKS:
            parallel = full.parallel.model_copy(update={"context": count})
            few = full.model_copy(update={"steps": 4, "parallel": parallel})
            ended = run_ranks(count, few, data.url, out / str(count), limit_s=LIMIT_S)
            assert not any(one.code for one in ended), ended
            losses[count] = [row["loss"] for row in rows(out / str(count))]
    worst = {count: max(abs(a - b) / b for a, b in zip(losses[count], losses[1], strict=True)) for count in RANKS}
    for count, found in losses.items():
        apart = f", at most {worst[count]:.0e} from one rank's" if count > 1 else ""
        print(f"{count} ranks that share packs: losses {', '.join(f'{loss:.6f}' for loss in found)}{apart}")
    return max(worst.values()) < TOLERANCE


@contextmanager
def folder(study: Study) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=study.out) as temporary:
        yield Path(temporary)


PARTS: Mapping[str, Callable[[Study], bool]] = {
    "full": full,
    "lora": lora,
    "image-to-video": image_to_video,
    "inflation": inflation,
    "one-shot": one_shot,
    "kill": kill_and_resume,
    "ranks": on_ranks,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", help="folder; without it, one that is removed at the end")
    parser.add_argument("--dataset", help="curated and captioned; or: shapes; without it, the demo's, which OUT gets")
    parser.add_argument("--steps", type=int, default=120, help="of each training")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(described(), flush=True)
    with tempfile.TemporaryDirectory(prefix="adapt-") as temporary:
        study = Study(out=arguments.out or Path(temporary), steps=arguments.steps, dataset=arguments.dataset)
        study.out.mkdir(parents=True, exist_ok=True)
        holds = [PARTS[name](study) for name in arguments.only]
    sys.exit(0 if all(holds) else 1)


if __name__ == "__main__":
    main()
