"""Sound: how loud a clip is, how much of it is silent, and what its track is.

Loudness is that of ITU-R BS.1770-4 (EBU R 128), by FFmpeg's filter `ebur128`: K-weighted, gated blocks of 400 ms.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from curate.encoders.base import EncoderPool
from curate.media.sound import Sound
from curate.rules import Column
from curate.schema import content_digest
from curate.scores.base import Value
from curate.scores.frames import ClipFrames

QUIETEST_LUFS = -70.0
"""The absolute gate of BS.1770: what is quieter does not count, and what never sounds has this loudness."""

BLOCK_S = 0.05


class SoundConfig(BaseModel):
    """What counts as silence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["sound"] = "sound"
    columns: ClassVar[Mapping[str, Column]] = {
        "loudness": Column(
            description="integrated loudness, LUFS; -70 where nothing sounds",
            range=(QUIETEST_LUFS, 10),
            for_images=False,
        ),
        "silence_fraction": Column(
            description="share of the clip's time without sound; 1 without a track", range=(0, 1), for_images=False
        ),
        "audio_codec": Column(
            description="codec of the source's sound track; empty without one", type=pa.string(), for_images=False
        ),
        "audio_channels": Column(
            description="channels of the source's sound track; 0 without one", range=(0, 64), for_images=False
        ),
        "audio_rate": Column(
            description="samples per second of the source's sound track; 0 without one",
            range=(0, 1_000_000),
            for_images=False,
        ),
    }
    silence_db: float = Field(
        -60.0, le=0, description="root mean square below which 50 ms are silent, dB of full scale"
    )

    def build(self) -> "SoundScorer":
        return SoundScorer(self)


class SoundScorer:
    """Measures the sound of each clip's source. A clip shorter than 400 ms has no block, so its loudness is -70."""

    def __init__(self, config: SoundConfig) -> None:
        self.config = config

    @property
    def key(self) -> str:
        return content_digest(self.config.kind, "1", str(self.config.silence_db))

    def setup(self, encoders: EncoderPool) -> None:
        """There is nothing to load."""

    def score(self, clips: Sequence[ClipFrames]) -> list[dict[str, Value]]:
        return [self._values(clip) for clip in clips]

    def _values(self, clip: ClipFrames) -> dict[str, Value]:
        sound = clip.sound
        if sound is None:
            return {
                "loudness": QUIETEST_LUFS,
                "silence_fraction": 1.0,
                "audio_codec": "",
                "audio_channels": 0.0,
                "audio_rate": 0.0,
            }
        loud = self._loud_blocks(sound)
        num_blocks = max(len(loud), round(clip.duration_s / BLOCK_S), 1)  # the track can end before the picture
        return {
            "loudness": loudness(sound),
            "silence_fraction": 1 - float(loud.sum()) / num_blocks,
            "audio_codec": sound.track.codec,
            "audio_channels": float(sound.track.channels),
            "audio_rate": float(sound.track.rate),
        }

    def _loud_blocks(self, sound: Sound) -> np.ndarray:
        """`(n,)` bool: which blocks of the sound are not silent, in the loudest channel."""
        size = max(1, round(BLOCK_S * sound.track.rate))
        starts = np.arange(0, sound.samples.shape[1], size)
        power = np.add.reduceat(np.square(sound.samples, dtype=np.float64), starts, axis=1)
        lengths = np.diff([*starts, sound.samples.shape[1]])
        loud: np.ndarray = (power / lengths).max(axis=0) > 10 ** (self.config.silence_db / 10)
        return loud


def loudness(sound: Sound) -> float:
    """Integrated loudness, LUFS, at least `QUIETEST_LUFS`."""
    import av
    from av.error import BlockingIOError, EOFError

    rate, layout = sound.track.rate, sound.track.layout
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=rate, format="fltp", layout=layout, time_base=Fraction(1, rate))
    meter, sink = graph.add("ebur128", "metadata=1:framelog=quiet"), graph.add("abuffersink")
    source.link_to(meter)
    meter.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.samples), "fltp", layout)
    frame.rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    graph.push(frame)
    graph.push(None)
    integrated = QUIETEST_LUFS
    while True:
        try:
            measured = graph.pull()
        except (EOFError, BlockingIOError):
            return max(QUIETEST_LUFS, integrated)
        integrated = float(measured.metadata.get("lavfi.r128.I", integrated))
