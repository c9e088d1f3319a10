"""Which readers there are, and which of them reads: one line per member."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from curate.media.readers.base import FrameDecoder
from curate.media.readers.decord import DecordDecoder
from curate.media.readers.frames import FrameReader
from curate.media.readers.pyav import PyavDecoder
from curate.media.readers.torchcodec import TorchcodecDecoder

READERS: Mapping[str, Callable[[str], FrameDecoder]] = MappingProxyType(
    {
        "auto": PyavDecoder,  # docs/decisions/readers.md says why
        "pyav": PyavDecoder,
        "decord": DecordDecoder,
        "torchcodec": TorchcodecDecoder,
    }
)


class MediaConfig(BaseModel):
    """What reads the sampled frames that are scored, captioned and encoded. Scans and cuts are PyAV's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reader: Literal["auto", "pyav", "decord", "torchcodec"] = Field(
        "auto",
        description="reader of sampled frames; PyAV reads what another one does not read right. auto: pyav. Another "
        "reader scales in another way, so what is computed from its frames has a key of its own",
    )
    device: Literal["cpu", "cuda"] = Field(
        "cpu", description="where torchcodec decodes; cuda: by NVDEC, with a build of torchcodec for CUDA"
    )

    @model_validator(mode="after")
    def _only_torchcodec_has_a_device(self) -> "MediaConfig":
        if self.device != "cpu" and self.reader != "torchcodec":
            raise ValueError(f"device={self.device}: {self.reader} decodes on the CPU; expected reader=torchcodec")
        return self

    def build(self) -> FrameReader:
        return FrameReader(READERS[self.reader](self.device))
