"""Settings of `reelpack train-captioner`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from caption.backends.config import BackendConfig
from caption.backends.embedded import NAME
from caption.backends.transformers_vlm import Dtype
from caption.llava.config import FilmConfig

Part = Literal["projector", "lora", "language_model", "vision_tower"]
"""What of a LLaVA-shaped model trains. `lora`: low-rank updates of the language model's linear layers."""
Task = Literal["short", "dense", "original", "human", "instructions"]
"""What a sample asks for: a caption of this level, or the answer to a question of `instructions.jsonl`."""
Kind = Literal["conversation", "detail", "reasoning"]
"""Of instructions (LLaVA section 3)."""


class LoraSettings(BaseModel):
    """Low-rank updates (Hu et al. 2021, arXiv:2106.09685), merged into the weights at the end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(16, ge=1, description="rank of the updates")
    alpha: float | None = Field(None, gt=0, description="scale of the updates is alpha / rank; null: twice the rank")
    dropout: float = Field(0.05, ge=0, lt=1, description="share of the inputs of an update that is dropped")
    layers: tuple[str, ...] | None = Field(
        None, description="names of the linear layers that are adapted; null: all of the language model"
    )


class StageConfig(BaseModel):
    """One stage: which parts train, on what, for how long."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9_-]+$", description="names its rows in metrics.jsonl")
    objective: Literal["answers", "contrastive"] = Field(
        "answers",
        description="answers: next-token loss of the answers, through the language model. contrastive: image tokens "
        "near the words of their captions, without the language model; with data.kind=film alone",
    )
    lr: dict[Part, float] = Field(description="peak learning rate of each part that trains; the others are frozen")
    tasks: dict[Task, float] = Field(
        description="weight of each task; a clip is asked one of those that it has a text for"
    )
    epochs: float | None = Field(None, gt=0, description="passes over the clips; null where steps is given")
    steps: int | None = Field(None, ge=1, description="optimizer steps; null where epochs is given")
    batch_size: int = Field(8, ge=1, description="samples per forward pass")
    accumulation: int = Field(1, ge=1, description="forward passes per optimizer step")
    warmup: float = Field(0.03, ge=0, le=1, description="share of the steps with a rising learning rate")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="learning rate after the warm-up")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    beta2: float = Field(0.999, gt=0, lt=1, description="of AdamW")
    clip_norm: float | None = Field(1.0, gt=0, description="largest norm of the gradient; null: not clipped")

    @model_validator(mode="after")
    def _complete(self) -> "StageConfig":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"stage {self.name}: expected either epochs or steps, got {self.epochs} and {self.steps}")
        for field, table in (("lr", self.lr), ("tasks", self.tasks)):
            if not table or min(table.values()) <= 0:
                raise ValueError(f"stage {self.name}: {field} is {table}; expected at least one name, numbers above 0")
        return self


class InstructionsConfig(BaseModel):
    """Questions and answers about clips, made from `caption_fields` by a language model (LLaVA section 3)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: BackendConfig = Field(description="the model that writes them; it sees the fields and no frames")
    kinds: tuple[Kind, ...] = Field(
        ("conversation", "detail", "reasoning"), min_length=1, description="what is asked for, once per clip each"
    )
    max_tokens: int = Field(512, ge=1, description="token limit of an answer of the model")
    batch_size: int = Field(16, ge=1, description="requests per batch")


class DatasetConfig(BaseModel):
    """The captioned clips of a dataset: its train split trains, its val split evaluates."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["dataset"] = "dataset"
    num_decoders: int = Field(2, ge=1, description="threads that decode clips while the model trains")


DataConfig = Annotated[DatasetConfig | FilmConfig, Field(discriminator="kind")]

LLAVA_STAGES = (
    StageConfig(name="projector", lr={"projector": 1e-3}, tasks={"short": 1}, epochs=1, batch_size=8, accumulation=4),
    StageConfig(
        name="captions",
        lr={"projector": 2e-5, "lora": 2e-4},
        tasks={"dense": 0.5, "short": 0.5, "human": 0.5},
        epochs=1,
        batch_size=4,
        accumulation=4,
    ),
)


class CaptionerTrainConfig(BaseModel):
    """How a captioner is trained: on which model, on what, in which stages."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(
        NAME, description="a local folder or hub id with vision tower, multi_modal_projector and language model"
    )
    revision: str | None = Field(None, description="commit, branch or tag of a hub id; null: main")
    dtype: Dtype = Field(
        "auto", description="of what is frozen, and of the arithmetic; what trains is kept in float32"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<n>")
    seed: int = Field(0, ge=0, description="of the order of the samples, new weights and dropout")
    data: DataConfig = DatasetConfig()
    stages: tuple[StageConfig, ...] = Field(LLAVA_STAGES, min_length=1, description="in this order")
    lora: LoraSettings = LoraSettings()
    instructions: InstructionsConfig | None = Field(
        None, description="makes the samples of the task `instructions`; null: none are made"
    )
    max_answer_tokens: int = Field(
        512, ge=1, description="longest answer in the model's tokens; a longer text is cut off and has no end"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute the language model's activations twice, to hold fewer of them"
    )
    num_evaluated: int = Field(32, ge=0, description="held-out clips on which loss and grounding are measured")
    checkpoint_every: int = Field(50, ge=1, description="optimizer steps between checkpoints")

    @model_validator(mode="after")
    def _consistent(self) -> "CaptionerTrainConfig":
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages: expected names that differ, got {', '.join(names)}")
        trained = {part for stage in self.stages for part in stage.lr}
        if {"lora", "language_model"} <= trained:
            raise ValueError("stages: a run trains the language model by `lora` or in full, not both; use two runs")
        is_film = isinstance(self.data, FilmConfig)
        for stage in self.stages:
            if stage.objective == "contrastive" and not is_film:
                raise ValueError(f"stage {stage.name}: objective=contrastive needs data.kind=film; use answers")
            if "instructions" in stage.tasks and self.instructions is None:
                raise ValueError(
                    f"stage {stage.name}: the task `instructions` needs train_captioner.instructions, such as "
                    "{backend: {model: MODEL}}"
                )
        if is_film and (self.model != NAME or {"vision_tower"} & trained):
            raise ValueError("data.kind=film trains the embedded captioner from its parts, the vision tower frozen")
        return self

    @property
    def uses_lora(self) -> bool:
        return any("lora" in stage.lr for stage in self.stages)
