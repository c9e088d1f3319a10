"""Settings of a training run.

Nothing here needs torch: a command reads its settings, and finds a mistake in them, before it loads what takes
seconds.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from train.align.config import AlignConfig
from train.align.pooled_config import PooledConfig
from train.data.config import DataConfig
from train.evaluate.config import EvaluateConfig
from train.finetune.config import FinetuneConfig, FullConfig
from train.model.config import ModelConfig
from train.model.dit_config import DiTConfig
from train.monitor.metrics import LogConfig
from train.objective.config import FlowConfig, ObjectiveConfig
from train.run.renamed import refuse_renamed


class OptimizerConfig(BaseModel):
    """AdamW (Loshchilov & Hutter 2019), or Muon (Jordan et al. 2024) for hidden matrices.

    DiT trains at a constant 1e-4 without weight decay, warm-up or clipping."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["adamw", "muon", "adamw_8bit", "paged_adamw_8bit"] = Field(
        "adamw",
        description="muon: matrices inside the blocks by Muon, the rest by AdamW, at one learning rate. adamw_8bit, "
        "paged_adamw_8bit: by bitsandbytes, on one GPU or with parallel.mode: ddp",
    )
    lr: float = Field(1e-4, gt=0, description="peak learning rate")
    betas: tuple[float, float] = Field(
        (0.9, 0.999), description="decay of the first and second moments; these are DiT's"
    )
    weight_decay: float = Field(
        0.0, ge=0, description="on weight matrices; never on biases, norms, labels, positions and what stands for none"
    )
    warmup_steps: int = Field(1000, ge=0, description="steps of linear rise from 0")
    schedule: Literal["constant", "cosine"] = Field("constant", description="after warm-up; cosine falls to 0")
    clip_norm: float = Field(1.0, gt=0, description="largest L2 norm of the gradient")


class EMAConfig(BaseModel):
    """How slowly the average moves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decay: float = Field(
        0.9999,
        ge=0,
        lt=1,
        description="weight of the average at each step, once (1 + n) / (10 + n) is above it; DiT: from the first on",
    )


class ParallelConfig(BaseModel):
    """How a model is spread over ranks and fitted into memory. None of it changes what is computed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["ddp", "fsdp", "hsdp"] = Field(
        "ddp",
        description="ddp: every rank holds the model; fsdp: every rank holds a part of it (FSDP2); hsdp: ranks in "
        "groups of `shard` do, and the groups are replicas",
    )
    shard: int | None = Field(
        None, ge=2, description="hsdp: ranks that hold the model together, those of a node at best; a divisor of all"
    )
    context: int = Field(
        1,
        ge=1,
        description="ranks side by side that share the tokens of a pack (context parallelism), so that each holds "
        "its part of data.plan.token_budget; a divisor of all ranks",
    )
    activation_checkpoint_every: int = Field(
        0,
        ge=0,
        description="activation checkpointing of every n-th block: the backward pass computes its activations again; "
        "0: of no block",
    )
    compile: bool = Field(False, description="torch.compile each block, with dynamic shapes")

    @model_validator(mode="after")
    def _shards_are_of_hsdp(self) -> "ParallelConfig":
        if (self.mode == "hsdp") != (self.shard is not None):
            raise ValueError(
                f"got parallel.mode {self.mode} and parallel.shard {self.shard}; hsdp takes a number of ranks as "
                "shard, and the others none"
            )
        return self

    @property
    def is_sharded(self) -> bool:
        """No rank holds the whole model."""
        return self.mode != "ddp"

    def num_shards(self, num_ranks: int) -> int:
        """Ranks that hold a model together."""
        return 1 if self.mode == "ddp" else self.shard or num_ranks


class CheckpointConfig(BaseModel):
    """How often a run is saved."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    every: int = Field(1000, ge=1, description="steps between checkpoints; the last step is always saved")
    keep: int = Field(2, ge=1, description="newest checkpoints that are kept")
    keep_every: int = Field(
        0, ge=0, description="steps between checkpoints that are kept for good, those at multiples of it; 0: none is"
    )


class TrainConfig(BaseModel):
    """A training run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(100_000, ge=1, description="optimizer steps in all")
    seed: int = Field(0, ge=0, description="of weights, packs, noise, timesteps and captions")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is a device")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of activations (autocast; weights stay float32); auto: bfloat16 on CUDA, float32 on CPU"
    )
    max_skipped_steps: int = Field(
        10, ge=0, description="steps in a row with a non-finite loss or gradient that are skipped before the run stops"
    )
    init: str | None = Field(
        None,
        description="folder of an exported or imported model, whose weights a new run begins with; embedded: the "
        "generator that comes with reelpack",
    )
    init_tubelet: Literal["central", "uniform"] = Field(
        "central", description="init from an image model with patches of several frames: which of them it sees"
    )
    init_latents: Literal["same", "other"] = Field(
        "same",
        description="same: init takes a model of the dataset's autoencoder; other: of any with as many channels, and "
        "the model learns the new latent space",
    )
    init_text: Literal["same", "other"] = Field(
        "same",
        description="same: init takes an imported model of the dataset's text encoder; other: of any with states as "
        "wide, and the model learns the new states",
    )
    finetune: FinetuneConfig = Field(FullConfig(), description="all weights train, or low-rank updates of some")
    trainable: tuple[str, ...] = Field(
        (),
        description="globs of names of parameters that train, such as *.bias (* crosses dots), besides what the model "
        "of init lacks; added: that alone; none: all with kind: full, the updates alone with kind: lora",
    )
    data: DataConfig = DataConfig()
    model: ModelConfig = DiTConfig()
    objective: ObjectiveConfig = Field(FlowConfig(), description="rectified flow or DDPM")
    optimizer: OptimizerConfig = OptimizerConfig()
    ema: EMAConfig = EMAConfig()
    parallel: ParallelConfig = ParallelConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    align: AlignConfig = Field(PooledConfig(), description="representation alignment, by clip or by patch")
    log: LogConfig = LogConfig()

    @model_validator(mode="before")
    @classmethod
    def _has_no_old_names(cls, settings: Any) -> Any:
        return refuse_renamed(settings)

    @model_validator(mode="after")
    def _optimizer_takes_shards(self) -> "TrainConfig":
        if self.optimizer.kind.endswith("8bit") and self.parallel.is_sharded:
            raise ValueError(
                f"optimizer.kind is {self.optimizer.kind}, which knows no sharded parameters, and parallel.mode is "
                f"{self.parallel.mode}; set parallel.mode to ddp, or optimizer.kind to adamw"
            )
        return self

    @model_validator(mode="after")
    def _ranks_can_share_packs(self) -> "TrainConfig":
        if self.parallel.context > 1:
            self.model.check_context(self.parallel.context)
        return self

    @property
    def freezes(self) -> bool:
        """Some of the model does not train: its weights are those of `init`, and no checkpoint has them."""
        return self.finetune.kind != "full" or bool(self.trainable)

    @property
    def drops_inputs(self) -> bool:
        """The model draws random numbers in training."""
        return self.finetune.kind == "lora" and self.finetune.dropout > 0

    @model_validator(mode="after")
    def _can_freeze(self) -> "TrainConfig":
        frozen_dtype = self.finetune.frozen_dtype
        what = f"finetune.kind is {self.finetune.kind}" if self.finetune.kind != "full" else "trainable is set"
        if self.freezes and self.init is None:
            raise ValueError(
                f"{what}, and init is none: random weights would be frozen. Set train.init to the folder of the model "
                "that is adapted (`reelpack train-export` and `train-import` write one)"
            )
        if frozen_dtype != "float32" and not self.freezes:
            raise ValueError(
                f"finetune.frozen_dtype is {frozen_dtype}, and nothing is frozen; set finetune.kind to lora or "
                "trainable to the parameters that train, or leave it out"
            )
        if frozen_dtype == "bfloat16" and self.dtype == "float32":
            raise ValueError(
                "finetune.frozen_dtype is bfloat16, and dtype is float32: frozen layers compute in the type of "
                "activations. Set dtype to bfloat16, or frozen_dtype to float32"
            )
        if frozen_dtype in ("int8", "nf4") and (self.parallel.is_sharded or self.model.kind == "unet"):
            of = f"parallel.mode is {self.parallel.mode}" if self.parallel.is_sharded else "model.kind is unet"
            raise ValueError(
                f"finetune.frozen_dtype is {frozen_dtype}, and {of}: codes of weights are not sharded, and "
                "only blocks of a DiT are quantized; set frozen_dtype to bfloat16 or float32"
            )
        return self

    @model_validator(mode="after")
    def _model_and_objective_agree(self) -> "TrainConfig":
        for name in ("held_out", "captions"):
            for timestep in getattr(self.evaluate, name).timesteps:
                try:
                    self.objective.check_timestep(timestep)
                except ValueError as error:
                    raise ValueError(f"evaluate.{name}.timesteps: {error}") from error
        for name, drawn in (("samples", self.evaluate.samples), ("quality", self.evaluate.quality)):
            try:
                self.objective.check_num_steps(drawn.num_steps if drawn.every else 0)
            except ValueError as error:
                raise ValueError(f"evaluate.{name}.num_steps: {error}") from error
        if self.align.weight and self.align.block >= self.model.num_blocks:
            raise ValueError(f"align.block is {self.align.block}, and the model has {self.model.num_blocks} blocks")
        if self.data.epoch.drop.distribution != "none" and not self.model.takes_dropped_tokens:
            raise ValueError(
                f"data.epoch.drop.distribution is {self.data.epoch.drop.distribution}, and model.kind "
                f"{self.model.kind} needs all tokens of a sample; set it to none, or model.kind to dit"
            )
        return self
