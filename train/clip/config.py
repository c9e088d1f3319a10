"""Settings of `reelpack train-clip`. Nothing here needs torch."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from curate.encoders.open_clip import OpenClipConfig
from train.run.config import CheckpointConfig

Level = Literal["short", "dense", "original", "human"]
"""Of captions: those whose texts say what a clip shows (`curate.dataset.captions`)."""
Trained = Literal["locked", "full"] | Annotated[int, Field(ge=1)]
"""What of a tower trains: nothing, everything, or its last blocks and what follows them."""


class InitConfig(BaseModel):
    """The open_clip model that a run begins with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(
        "hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        description="architecture known to open_clip; or local-dir:<folder> or hf-hub:<org>/<name>, which hold the "
        "architecture, the weights and the preprocessing",
    )
    pretrained: str | None = Field(
        None, description="open_clip's tag of the weights, or path of a checkpoint; none with local-dir: and hf-hub:"
    )

    @model_validator(mode="after")
    def _weights_are_named(self) -> "InitConfig":
        try:
            self.encoder("auto")
        except ValidationError as error:
            raise ValueError(str(error.errors()[0]["ctx"]["error"])) from error
        return self

    def encoder(self, device: str) -> OpenClipConfig:
        """As an encoder, whose settings say what is wrong with these."""
        return OpenClipConfig(model=self.model, pretrained=self.pretrained, device=device)


class TrainClipConfig(BaseModel):
    """Contrastive fine-tuning of an open_clip model on a dataset's clips and captions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    init: InitConfig = InitConfig()
    loss: Literal["info_nce", "sigmoid"] = Field(
        "info_nce", description="info_nce: a softmax over the batch (CLIP); sigmoid: each pair by itself (SigLIP)"
    )
    image: Trained = Field(
        "locked",
        description="what of the image tower trains: locked (LiT), full, or a number: its last blocks and what "
        "follows them",
    )
    text: Trained = Field("full", description="what of the text tower trains, likewise")
    levels: dict[Level, float] = Field(
        {"short": 1.0, "dense": 1.0, "original": 1.0, "human": 1.0},
        description="weight of each level; a clip's caption is drawn in every epoch among those that it has",
    )
    num_frames: int = Field(8, ge=1, description="frames of a clip, evenly spread; score.num_frames has the same")
    short_side_px: int = Field(
        256, ge=32, description="shorter side that frames are decoded to before the model's own preprocessing, px"
    )
    epochs: float = Field(5.0, gt=0, description="passes over the pairs")
    batch_size: int = Field(64, ge=2, description="pairs of a step, over all ranks: each is negative to the others")
    chunk_size: int | None = Field(
        16,
        ge=1,
        description="pairs of a forward pass on a rank; a step of several computes each twice (gradient cache) and "
        "equals one without chunks; null: all at once",
    )
    lr: float = Field(1e-5, gt=0, description="peak learning rate of the towers")
    temperature_lr: float = Field(1e-3, gt=0, description="peak learning rate of log-temperature and bias")
    warmup: float = Field(0.1, ge=0, le=1, description="share of the steps with a rising learning rate; then cosine")
    betas: tuple[float, float] = Field((0.9, 0.98), description="decay of AdamW's moments; these are CLIP's")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW, on weight matrices")
    clip_norm: float = Field(1.0, gt=0, description="largest L2 norm of the gradient")
    activation_checkpointing: bool = Field(
        False, description="compute activations twice, to hold fewer of them; where the model can"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is a device")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of activations (autocast; weights stay float32); auto: bfloat16 on CUDA, float32 on CPU"
    )
    seed: int = Field(0, ge=0, description="of the order of pairs and of the drawn captions")
    num_decoders: int = Field(2, ge=1, description="threads that decode clips while the model trains")
    num_evaluated: int = Field(
        1000, ge=0, description="held-out pairs at most on which retrieval is measured; recall falls with their number"
    )
    checkpoint: CheckpointConfig = CheckpointConfig(every=100, keep=2)

    @model_validator(mode="after")
    def _something_trains(self) -> "TrainClipConfig":
        if self.image == self.text == "locked":
            raise ValueError("image and text are both locked: set one of them to full, or to a number of last blocks")
        if not self.levels or min(self.levels.values()) <= 0:
            raise ValueError(f"levels is {self.levels}; expected at least one level, weights above 0")
        return self
