"""The family of autoencoders: settings of each member, and of what goes into them. A member's class, which needs
torch, is in a file of its own."""

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator

from curate.encoders.config import PatchConfig
from curate.encoders.picture_states import PictureStatesConfig
from train.autoencoder.temporal_decoder.config import TemporalDecoderConfig
from train.data.space import described_latents
from train.data.tasks.base import GrayVideo

if TYPE_CHECKING:
    import torch

    from train.autoencoder.base import VideoAutoencoder


class ReelpackConfig(BaseModel):
    """A causal video autoencoder of one's own (`train/autoencoder/network.py`), or the embedded one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["reelpack", "reelpack_kl"] = Field("reelpack", description="reelpack_kl is its earlier name")
    path: str | None = Field(
        None,
        description="folder that `reelpack train-autoencoder` wrote; null: the embedded KL; embedded-fsq: the "
        "embedded FSQ, whose latents are codes",
    )
    chunk_latent_frames: int = Field(
        2, ge=1, description="latent frames computed at a time: bounds memory, changes no value beyond rounding"
    )
    tile_px: int | None = Field(
        None,
        ge=64,
        description="longest side that is computed at a time, in overlapping tiles: bounds memory, changes "
        "values near the seams; null: frames are not divided",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is a device")

    def build(self, device: "torch.device | None" = None) -> "VideoAutoencoder":
        """On `device`, the worker's, where the settings do not name another kind."""
        return resolve_name("train.autoencoder.own:ReelpackAutoencoder")(self, device)


class DiffusersAutoencoderConfig(BaseModel):
    """Any autoencoder class of diffusers, by local folder or hub id."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["diffusers"] = "diffusers"
    path: str = Field(description="local folder with the autoencoder's config.json, or hub id")
    revision: str | None = Field(None, description="commit, branch or tag of a hub id; none: main")
    subfolder: str | None = Field(None, description="folder of the autoencoder in it, such as `vae` in a pipeline")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="type of the computation")
    tiling: bool = Field(False, description="encode and decode in overlapping tiles: less memory, other values")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is a device")

    def build(self, device: "torch.device | None" = None) -> "VideoAutoencoder":
        """On `device`, the worker's, where the settings do not name another kind."""
        return resolve_name("train.autoencoder.diffusers_vae:DiffusersAutoencoder")(self, device)


AutoencoderConfig = Annotated[
    ReelpackConfig  # one line per member
    | DiffusersAutoencoderConfig
    | TemporalDecoderConfig,
    Field(discriminator="kind"),
]


class EncodeConfig(BaseModel):
    """What becomes of a clip before and in the autoencoder. All of it is part of the latents' fingerprint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    autoencoder: AutoencoderConfig = Field(ReelpackConfig(), description="which autoencoder, and its weights")
    fps: float | None = Field(None, gt=0, description="frames per second to resample to; null keeps each clip's own")
    max_area_px: int = Field(256 * 256, ge=64, description="largest height x width; smaller clips are not enlarged")
    multiple_px: int = Field(
        16,
        ge=1,
        description="sides are multiples of this and of the autoencoder's spatial stride: spatial stride x the "
        "model's patch",
    )
    max_frames: int = Field(
        129, ge=1, description="most frames of a latent, after `fps`; what becomes of longer clips says `windows`"
    )
    windows: Literal["all", "middle"] = Field(
        "all",
        description="of clips longer than max_frames; all: every frame, in the fewest windows of equal length, each a "
        "training sample; middle: one window",
    )
    posterior: Literal["mean", "sample", "mean_logvar"] = Field(
        "mean",
        description="of an autoencoder that gives a Gaussian, what latents are: its mean; one draw from it; or both "
        "moments, from which training draws a latent for each sample of each epoch",
    )
    posterior_seed: int = Field(0, ge=0, description="of the draws of posterior=sample")
    store: Literal["values", "ids", False] = Field(
        "values",
        description="values: float16; ids: numbers of codes, of an autoencoder with a codebook; false: only the sizes "
        "of latents, and training decodes and encodes a clip when it meets it",
    )

    lone_frames: Literal["none", "last", "all"] = Field(
        "none",
        description="frames that are stored as they are encoded alone, too, for tasks that show pictures "
        "(train.data.tasks): the last of a latent, or the last of each latent frame, which doubles what is stored and "
        "takes the time of a frame in every temporal stride; nothing to set where store is false",
    )

    gray: tuple[GrayVideo, ...] = Field(
        (),
        description="gray videos whose latents are stored, too, for the task gray_video: all but the first frame, or "
        "all but both ends, is gray (Wan image-to-video). Each takes the time and the room of a latent",
    )
    picture: PictureStatesConfig | None = Field(
        None,
        description="image encoder whose states of the frames that gray videos have are stored, too (Wan 2.1 "
        "image-to-video, CLIP); null: none",
    )

    features: PatchConfig | None = Field(
        None,
        description="image encoder whose map of each latent frame is stored, too, in float16 on the encoder's own "
        "grid, for alignment by patch (train.align.stored); null: none",
    )

    @field_validator("store", mode="before")
    @classmethod
    def _true_means_values(cls, store: Any) -> Any:
        return "values" if store is True else store

    @model_validator(mode="after")
    def _what_is_stored_is_consistent(self) -> Self:
        if not self.store and self.lone_frames != "none":
            raise ValueError(
                f"store=false and lone_frames={self.lone_frames}: nothing is stored, and training encodes the frames "
                "that its tasks show; leave lone_frames out"
            )
        if self.store == "ids" and self.gray:
            raise ValueError(
                f"store=ids and gray={list(self.gray)}: latents of gray videos are stored as values; set store=values"
            )
        if self.features is not None and self.store != "values":
            raise ValueError(f"features is set, and store is {self.store}: they lie beside values; set store=values")
        if self.picture is not None and not self.gray:
            raise ValueError("picture is set, and gray is empty: set gray to the frames whose states are wanted")
        if self.store == "ids" and self.posterior != "mean":
            raise ValueError(
                f"store=ids and posterior={self.posterior}: codes are no Gaussians; leave posterior=mean, or set "
                "store=values"
            )
        return self


def autoencoder_of(
    record: dict[str, Any], device: "torch.device | None" = None, chosen: "AutoencoderConfig | None" = None
) -> "VideoAutoencoder":
    """The autoencoder that made the latents of a `fingerprint.json`, to decode what was trained on them; on `device`,
    that of a worker, where its settings allow it. `chosen` takes its place: of equal latents, with another decoder.

    Raises:
        ValueError: The record names no autoencoder, it cannot be loaded, or the weights found now are not those that
            made the latents.
    """
    if "autoencoder" not in record.get("config", {}):
        raise ValueError(
            f"latents {record.get('fingerprint')}: their record names no autoencoder, so they cannot be "
            "decoded here; expected latents that `reelpack encode` wrote"
        )
    config: AutoencoderConfig = TypeAdapter(AutoencoderConfig).validate_python(record["config"]["autoencoder"])
    try:
        autoencoder: VideoAutoencoder = (chosen or config).build(device)
    except ValueError as error:
        raise ValueError(
            f"the latents were made as {described_latents(record)}, and this autoencoder cannot be loaded: {error}"
        ) from error
    if autoencoder.fingerprint != record["autoencoder_fingerprint"]:
        found = {
            "autoencoder": autoencoder.name,
            "autoencoder_fingerprint": autoencoder.fingerprint,
            "channels": autoencoder.channels,
            "temporal_stride": autoencoder.temporal_stride,
            "spatial_stride": autoencoder.spatial_stride,
        }
        raise ValueError(
            f"the latents were made as {described_latents(record)}; got {described_latents(found)}, which cannot "
            f"decode them. {_remedy(config, record)}, name their folder (`reelpack sample --autoencoder`), or encode "
            "and train again"
        )
    return autoencoder


def _remedy(config: BaseModel, record: Mapping[str, Any]) -> str:
    version = record.get("libraries", {}).get("reelpack")
    if isinstance(config, ReelpackConfig) and config.path is None and version:
        return f"Put the weights back, which came with reelpack {version}"
    return "Put the weights back"
