"""Cuts and gradual transitions by TransNet V2 (Souček & Lokoč 2020), whose weights are embedded.

Its second head marks the frames of a transition. Clips that were cut at the marks of the first one alone would hold
the frames of dissolves.
"""

from collections.abc import Collection
from threading import Lock
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.device import pick_device
from curate.encoders import weights
from curate.shots.base import Timeline, Transition, Window
from curate.shots.ranges import joined, runs

if TYPE_CHECKING:
    from curate.shots.transnetv2_network import TransNetV2

WEIGHTS = "transnetv2"
DIGITS = 4
"""Decimals of a probability that are kept: what follows differs from one kind of processor to the next."""


class TransNetV2Config(BaseModel):
    """TransNet V2 on every frame: the most accurate on dissolves; blind to wipes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["transnetv2"] = "transnetv2"
    threshold: float = Field(
        0.5, gt=0, lt=1, description="frames of this probability or more are part of a transition, 0-1"
    )
    margin_frames: int = Field(
        2, ge=0, description="frames left out before and after those of a gradual transition, which begins faintly"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<n>")

    def build(self) -> "TransNetV2Detector":
        return TransNetV2Detector(self)


class TransNetV2Detector:
    """Scores are the probabilities of both heads, 0-1: one frame of each transition, all frames of one."""

    window = Window(back=25, stride=50, ahead=25, size_px=(27, 48), aligned=True)
    num_scores = 2

    def __init__(self, config: TransNetV2Config) -> None:
        self._config = config
        self._model = Model(config.device)
        self.uses_gpu = config.device != "cpu"

    def digest(self, uri: str) -> str:
        return weights.digest(WEIGHTS)

    def check(self, uris: Collection[str]) -> list[str]:
        self._model.check()
        return []

    def setup(self) -> None:
        """Load the weights.

        Raises:
            MissingWeights: they were not fetched.
        """
        self._model.setup()

    def score(self, windows: np.ndarray) -> np.ndarray:
        """`(b, 100, 27, 48, 3)` to `(b, 50, 2)`. Windows go through the network one by one: batches of other sizes can
        give other last bits."""
        inner = slice(self.window.back, self.window.back + self.window.stride)
        return np.stack([self._model(window)[inner] for window in windows])

    def transitions(self, scores: np.ndarray, timeline: Timeline) -> list[Transition]:
        """At a hard cut the last frame before it is marked; at a blended frame, that one, the one before, or both."""
        found: list[Transition] = []
        for first, end in runs(scores[:, 1] >= self._config.threshold):
            if end == len(scores) == first + 1:
                continue
            if end == first + 1:
                found.append(Transition(end, end))
            elif end == first + 2:
                found.append(Transition(first, end, "blend"))
            else:
                margin = self._config.margin_frames
                found.append(Transition(max(0, first - margin), min(len(scores), end + margin), "gradual"))
        return joined(found)


_LOADING = Lock()
"""Two threads of one process do not load the network at once."""


class Model:
    """The network with its weights. Cheap to construct and to pickle; `setup`, or the first call, loads them.

    Args:
        device: auto, cpu, cuda or cuda:<n>.
        fast: Use bfloat16 on CPUs that compute with it, in half the time. Probabilities differ by about 0.001.
    """

    def __init__(self, device: str, *, fast: bool = False) -> None:
        self._device, self._fast = device, fast
        self._network: TransNetV2 | None = None

    def check(self) -> None:
        """Raises:
        MissingWeights: they were not fetched.
        """
        weights.resolve(WEIGHTS)

    def setup(self) -> None:
        import torch

        from curate.shots import transnetv2_network

        device = pick_device(self._device, setting="scan.detector.device")
        fast = self._fast and device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
        dtype = torch.bfloat16 if fast else torch.float32
        self._network = transnetv2_network.load(weights.resolve(WEIGHTS), device, dtype)

    def __call__(self, window: np.ndarray) -> np.ndarray:
        """`(100, 27, 48, 3)` uint8 RGB to `(100, 2)` float64, probabilities."""
        import torch

        with _LOADING:
            if self._network is None:
                self.setup()
        assert self._network is not None
        with torch.inference_mode():
            logits = self._network(
                torch.from_numpy(np.ascontiguousarray(window)).to(next(self._network.parameters()).device)
            )
            return logits.double().sigmoid().cpu().numpy().round(DIGITS)
