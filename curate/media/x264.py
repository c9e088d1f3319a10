"""Settings of libx264 with which equal pixels give equal bytes, from call to call and from machine to machine."""

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

X264Preset = Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"]

BELOW_AVX512 = "AVX2,FMA3,BMI2,LZCNT"
"""x264's names of what every CPU with AVX-512 has, too."""
CPU_FLAGS = Path("/proc/cpuinfo")


class EncodeConfig(BaseModel):
    """H.264 by libx264. The number of threads is fixed, because the encoded bytes depend on it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    crf: int = Field(default=18, ge=0, le=51, description="constant quality; lower is better, 18 looks lossless")
    preset: X264Preset = Field(default="veryfast", description="x264's trade of time for size")
    gop_frames: int = Field(default=48, ge=1, description="frames between key frames at most: what a seek costs")
    num_threads: int = Field(
        default=1, ge=1, description="threads of the encoder; clips are encoded side by side, so more only cost bytes"
    )

    @property
    def options(self) -> dict[str, str]:
        """Of the codec "libx264"."""
        # Closed captions that a frame carries are no pixels.
        options = {"crf": str(self.crf), "preset": self.preset, "a53cc": "0"}
        if _has_avx512():
            # There, macroblock-tree rate control reads memory that nobody wrote, except where the picture is a
            # multiple of 128 pixels wide. The other instruction sets from SSSE3 on give the same bytes.
            options["x264-params"] = f"asm={BELOW_AVX512}"
        return options


@cache
def _has_avx512() -> bool:
    return CPU_FLAGS.exists() and "avx512f" in CPU_FLAGS.read_text()
