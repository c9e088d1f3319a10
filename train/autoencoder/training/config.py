"""Settings of `reelpack train-autoencoder`. Nothing here needs torch."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from train.autoencoder.network_config import NetworkConfig
from train.autoencoder.perceptual.config import FeaturesConfig, FrameDistanceConfig
from train.autoencoder.super_resolution.config import TrainSuperResolutionConfig
from train.autoencoder.temporal_decoder.training_config import TrainTemporalDecoderConfig
from train.evaluate.video_features.config import VideoFeaturesConfig
from train.run.config import CheckpointConfig, EMAConfig, OptimizerConfig, ParallelConfig


class ClipsConfig(BaseModel):
    """What is drawn of the clips: crops of random size, place, scale, length and frame rate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sizes_px: tuple[tuple[int, int], ...] = Field(
        ((64, 64), (64, 96), (96, 64), (80, 128)),
        min_length=1,
        description="height and width of crops; a batch has one of them",
    )
    lengths: tuple[int, ...] = Field(
        (1, 5, 9, 13, 17), min_length=1, description="frames of a sample: 1 + temporal stride x k; of images 1"
    )
    length_odds: tuple[float, ...] | None = Field(
        None, description="how often each of the lengths is drawn, in proportion; null: one as often as the other"
    )
    frame_steps: tuple[int, ...] = Field((1, 2, 3), min_length=1, description="every n-th frame is taken")
    short_side_px: tuple[float, float] = Field(
        (72.0, 160.0), description="scales: the short side that the whole frame has, least and most"
    )
    batch_px: int = Field(
        300_000, ge=1024, description="pixels of a batch on a rank: samples x frames x height x width"
    )
    decoded_px: int = Field(160, ge=16, description="short side that clips are decoded to and kept in memory at")
    max_frames: int = Field(129, ge=1, description="frames of a clip that are kept; of a longer one an excerpt")
    window: int = Field(64, ge=1, description="decoded clips in memory at a time, from which samples are drawn")
    samples_per_clip: float = Field(
        32.0, gt=0, description="samples that are drawn of a clip, on average, before another one takes its place"
    )
    num_decoders: int = Field(2, ge=1, description="threads that decode clips while the network trains")
    flip: float = Field(0.5, ge=0, le=1, description="share of samples that are mirrored")
    recolor: float = Field(0.25, ge=0, le=1, description="share with colors exchanged, stretched and shifted")
    bars: float = Field(0.05, ge=0, le=1, description="share with black bars above and below")

    @model_validator(mode="after")
    def _ranges_ascend(self) -> Self:
        low, high = self.short_side_px
        if not 0 < low <= high:
            raise ValueError(f"short_side_px: got {self.short_side_px}, expected two numbers above 0, least and most")
        odds = self.length_odds or (1.0,) * len(self.lengths)
        if len(odds) != len(self.lengths):
            raise ValueError(f"length_odds: got {len(odds)} numbers for {len(self.lengths)} lengths")
        if min((*odds, *self.lengths, *self.frame_steps)) <= 0:
            raise ValueError("lengths, length_odds and frame_steps: expected numbers above 0")
        return self


class AdversaryConfig(BaseModel):
    """A discriminator of patches (`train/autoencoder/training/adversary.py`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(0.5, gt=0, description="of its loss, relative to the reconstruction's where `adaptive`")
    adaptive: bool = Field(
        True, description="scale its gradient at the decoder's last layer to that of the reconstruction"
    )
    start: int = Field(2000, ge=0, description="step from which it is trained and counts")
    over_time: bool = Field(True, description="its convolutions reach over 3 frames; false: over one")
    width: int = Field(64, ge=8, multiple_of=8, description="channels of its first layer; doubled by the next ones")
    depth: int = Field(3, ge=1, description="layers that halve height and width")
    lr: float = Field(1e-4, gt=0, description="its learning rate, which is constant")
    r1: float = Field(
        0.0, ge=0, description="weight of the squared gradient at videos (Mescheder et al. 2018); 0: none"
    )
    lecam: float = Field(0.0, ge=0, description="weight of LeCam's regularization (Tseng et al. 2021); 0: none")


class PerceptualConfig(BaseModel):
    """What a network sees of the error (Rombach et al. 2022, section 3.1)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    distance: FrameDistanceConfig = Field(FeaturesConfig(), description="what measures it")
    weight: float = Field(
        0.1,
        gt=0,
        description="of the distance, relative to the error of values in [-1, 1]; LDM has 1, with LPIPS of VGG16",
    )
    frames_per_batch: int = Field(
        4, ge=1, description="frames of a batch on a rank, drawn at each step, that are compared: bounds the cost"
    )


class LossConfig(BaseModel):
    """What a reconstruction costs; the bottleneck adds its own part."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pixel: Literal["l1", "l2"] = Field("l1", description="mean absolute or mean squared error of values in [-1, 1]")
    edge_weight: float = Field(
        0.5, ge=0, description="of L1 of the differences between neighbors in space (three scales) and in time"
    )
    perceptual: PerceptualConfig | None = Field(None, description="textures for lower PSNR; null: none")
    adversary: AdversaryConfig | None = Field(None, description="sharper details for lower PSNR; null: none")


class HeldOutConfig(BaseModel):
    """Reconstructions of held-out clips while the run trains."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    every: int = Field(500, ge=0, description="steps between them, and the last step; 0: never")
    max_clips: int = Field(16, ge=1, description="held-out clips, at most")
    max_frames: int = Field(33, ge=1, description="first frames of each")
    max_area_px: int = Field(128 * 80, ge=1024, description="largest height x width")
    distances: tuple[FrameDistanceConfig, ...] = Field(
        (), description="distances of frames that are measured, beside that of `loss.perceptual`"
    )
    rfvd: tuple[VideoFeaturesConfig, ...] = Field(
        (), description="networks of videos: the Fréchet distance of their features of sources and reconstructions"
    )
    num_shown: int = Field(4, ge=0, description="clips in the picture of sources, reconstructions and errors")


class TrainAutoencoderConfig(BaseModel):
    """A training of a video autoencoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: NetworkConfig = Field(NetworkConfig(), description="strides, widths and bottleneck")
    init: str | None = Field(
        None,
        description="folder with weights that a new run begins with; embedded, embedded-fsq: those. The bottleneck "
        "may differ",
    )
    temporal_decoder: TrainTemporalDecoderConfig | None = Field(
        None, description="temporal layers for the decoder of a trained autoencoder, in place of a network; null: none"
    )
    super_resolution: TrainSuperResolutionConfig | None = Field(
        None,
        description="a network that enlarges what a trained autoencoder decodes, in place of a network; null: none",
    )
    clips: ClipsConfig = ClipsConfig()
    loss: LossConfig = LossConfig()
    steps: int = Field(6000, ge=1, description="optimizer steps in all")
    optimizer: OptimizerConfig = OptimizerConfig(
        lr=1.5e-3, betas=(0.9, 0.99), weight_decay=1e-3, warmup_steps=100, schedule="cosine", clip_norm=0.5
    )
    ema: EMAConfig = EMAConfig(decay=0.998)
    held_out: HeldOutConfig = HeldOutConfig()
    checkpoint: CheckpointConfig = CheckpointConfig(every=250, keep=2)
    parallel: ParallelConfig = Field(ParallelConfig(), description="replicas or shards; `compile` is not offered")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is a device")
    dtype: Literal["float32", "bfloat16"] = Field(
        "bfloat16", description="of activations (autocast; weights stay float32); fast where the CPU has AVX512-BF16"
    )
    num_measured: int = Field(
        100, ge=1, description="batches over which the latents' mean and deviation are measured at the end"
    )
    seed: int = Field(0, ge=0, description="of the initial weights, the order of clips, crops and noise")

    @model_validator(mode="after")
    def _settings_fit_the_network(self) -> Self:
        behind = [name for name in ("temporal_decoder", "super_resolution") if getattr(self, name) is not None]
        if not behind:
            self.check_samples(self.network.temporal_stride, self.network.spatial_stride)
        elif len(behind) > 1:
            raise ValueError(
                "temporal_decoder, super_resolution: got both; train the decoder first, then super_resolution with a "
                "base of kind temporal_decoder"
            )
        elif self.network != NetworkConfig() or self.init is not None:
            raise ValueError(f"{behind[0]}: the network is that of its base; leave network and init out")
        elif self.parallel != ParallelConfig():
            raise ValueError(f"{behind[0]}: its layers are replicated; leave parallel out")
        if self.parallel.context > 1:
            raise ValueError(
                f"parallel.context: got {self.parallel.context}; an autoencoder's convolutions need a clip on one "
                "rank, leave it 1"
            )
        if self.parallel.compile:
            raise ValueError("parallel.compile: got true; blocks of autoencoders are not compiled, leave it false")
        return self

    def check_samples(self, in_time: int, in_space: int) -> None:
        """See that an autoencoder of these strides takes what is drawn of the clips.

        Raises:
            ValueError: it does not.
        """
        if unfit := [length for length in self.clips.lengths if (length - 1) % in_time]:
            raise ValueError(f"clips.lengths: got {unfit}; a temporal stride of {in_time} takes 1 + {in_time}k frames")
        seen = self.loss.perceptual and self.loss.perceptual.distance
        if seen and min(map(min, self.clips.sizes_px)) < seen.min_side_px:
            raise ValueError(
                f"clips.sizes_px: got {self.clips.sizes_px}; {seen.name} sees {seen.min_side_px} px or more"
            )
        if odd := [size for size in self.clips.sizes_px if size[0] % in_space or size[1] % in_space]:
            raise ValueError(f"clips.sizes_px: got {odd}; expected multiples of the spatial stride, {in_space}")
