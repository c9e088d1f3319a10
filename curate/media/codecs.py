"""The encoders of clips: one entry per codec. Equal pixels and settings give equal bytes."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from curate.media import x264

CodecName = Literal["x264", "x265", "av1"]
Preset = Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"]

SVT_PRESETS: Mapping[str, int] = MappingProxyType(
    {
        "ultrafast": 12, "superfast": 11, "veryfast": 10, "faster": 9, "fast": 8, "medium": 7, "slow": 5, "slower": 4,
        "veryslow": 3,
    }
)  # fmt: skip
"""SVT-AV1's presets have numbers; these take about as long as those of x265."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Codec:
    """An encoder.

    Attributes:
        encoder: FFmpeg's name.
        crf: The default quality.
        max_crf: The coarsest.
        options: Options of the encoder by quality, preset and number of threads.
    """

    encoder: str
    crf: int
    max_crf: int
    options: Callable[[int, Preset, int], dict[str, str]]


def _x265(crf: int, preset: Preset, num_threads: int) -> dict[str, str]:
    # A fixed number of frame threads: the bytes depend on it. "none": no pool for the rows of a frame.
    params = f"log-level=none:frame-threads={num_threads}:pools=none"
    return {"crf": str(crf), "preset": preset, "x265-params": params}


def _av1(crf: int, preset: Preset, num_threads: int) -> dict[str, str]:
    os.environ.setdefault("SVT_LOG", "1")  # errors alone; it prints its settings otherwise
    return {"crf": str(crf), "preset": str(SVT_PRESETS[preset]), "svtav1-params": f"lp={num_threads}"}


CODECS: Mapping[CodecName, Codec] = MappingProxyType(
    {
        "x264": Codec(encoder="libx264", crf=18, max_crf=51, options=x264.options),
        "x265": Codec(encoder="libx265", crf=20, max_crf=51, options=_x265),
        "av1": Codec(encoder="libsvtav1", crf=25, max_crf=63, options=_av1),
    }
)


class EncodeConfig(BaseModel):
    """How frames are encoded. The number of threads is fixed, because the encoded bytes depend on it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    codec: CodecName = Field(default="x264", description="x264 (H.264), x265 (HEVC) or av1 (SVT-AV1)")
    crf: int | None = Field(
        default=None,
        ge=0,
        le=63,
        description="constant quality, lower is better; null: x264 18 (looks lossless), x265 20, av1 25",
    )
    preset: Preset = Field(default="veryfast", description="trade of time for size, by the names of x264")
    gop_frames: int = Field(default=72, ge=1, description="frames between key frames at most: what a seek costs")
    num_threads: int = Field(
        default=1, ge=1, description="threads of the encoder; clips are encoded side by side, so more only cost bytes"
    )

    @model_validator(mode="after")
    def _quality_is_on_the_codec_s_scale(self) -> "EncodeConfig":
        if self.crf is not None and self.crf > CODECS[self.codec].max_crf:
            raise ValueError(f"crf {self.crf}: {self.codec} takes 0 to {CODECS[self.codec].max_crf}")
        return self

    @property
    def encoder(self) -> str:
        """FFmpeg's name of the encoder."""
        return CODECS[self.codec].encoder

    @property
    def options(self) -> dict[str, str]:
        """Of the encoder."""
        codec = CODECS[self.codec]
        return codec.options(codec.crf if self.crf is None else self.crf, self.preset, self.num_threads)
