"""Settings of libx264 with which equal pixels give equal bytes, from call to call and from machine to machine."""

from functools import cache
from pathlib import Path

BELOW_AVX512 = "AVX2,FMA3,BMI2,LZCNT"
"""x264's names of what every CPU with AVX-512 has, too."""
CPU_FLAGS = Path("/proc/cpuinfo")


def options(crf: int, preset: str, num_threads: int) -> dict[str, str]:
    """Of the codec "libx264"; its threads are those of the codec context."""
    # Closed captions that a frame carries are no pixels.
    given = {"crf": str(crf), "preset": preset, "a53cc": "0"}
    if _has_avx512():
        # There, macroblock-tree rate control reads memory that nobody wrote, except where the picture is a
        # multiple of 128 pixels wide. The other instruction sets from SSSE3 on give the same bytes.
        given["x264-params"] = f"asm={BELOW_AVX512}"
    return given


@cache
def _has_avx512() -> bool:
    return CPU_FLAGS.exists() and "avx512f" in CPU_FLAGS.read_text()
