"""What the page sends: the settings of one prompt, checked by their own rules before the run's."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.generation.asked import FILES, Asked, problems_of
from pipelines.serve.uploads import Uploads
from train.sampling.config import SampleConfig
from train.sampling.given_files import GivenFiles

Text = Annotated[str, Field(max_length=4000)]
Upload = Annotated[str, Field(max_length=64, description="an uploaded picture or clip, by its name")]
MOST_SEEDS = 16


class Form(BaseModel):
    """Videos of one prompt, for the seeds from `seed` on. What is left out is as the server was started."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    prompt: Text = Field("", description="what to show; empty: none")
    negative: Text | None = Field(None, description="what guidance leads away from")
    width: int = Field(ge=1, le=1 << 16, description="px")
    height: int = Field(ge=1, le=1 << 16, description="px")
    num_frames: int = Field(ge=1, le=1 << 16, description="frames of a video; 1: a picture")
    seed: int = Field(0, ge=0, lt=1 << 53, description="of the first video's noise")
    num_seeds: int = Field(1, ge=1, le=MOST_SEEDS, description="videos, each of the next seed")
    num_steps: int | None = Field(None, ge=1, le=10_000, description="steps from noise to data")
    guidance: float | None = Field(None, ge=0, le=1000, description="weight of classifier-free guidance")
    sampler: str | None = Field(None, max_length=40, description="name of a sampler")
    conditions: dict[str, float] | None = Field(None, description="scalar conditions by name")
    label: str | None = Field(None, max_length=400, description="a class of the run")
    start: Upload | None = Field(None, description="what it begins with")
    end: Upload | None = Field(None, description="what it ends with")
    keys: dict[int, Upload] = Field({}, max_length=64, description="pictures by number of a frame")
    video: Upload | None = Field(None, description="a video that is edited, or with `extend` continued")
    mask: Upload | None = Field(None, description="what of the video is made new: white")
    invert: Upload | None = Field(None, description="a video that is edited by inversion")
    strength: float | None = Field(None, gt=0, le=1, description="how much of the video is made new")
    extend: Literal["back", "forward"] | None = Field(None, description="what leads to the video, or follows it")
    loop: bool = Field(False, description="return to the start")

    def asked(self, uploads: Uploads) -> list[Asked]:
        """One for each seed.

        Raises:
            ValueError: a file that is no longer there, or files that do not go together.
        """
        names = {name: getattr(self, name) for name in FILES}
        files = {name: uploads.file(upload) for name, upload in names.items() if upload is not None}
        keys = {number: uploads.file(name) for number, name in self.keys.items()}
        given = GivenFiles(**files, keys=keys, extend=self.extend, loop=self.loop)
        return [
            Asked(
                prompt=self.prompt.strip(),
                width=self.width,
                height=self.height,
                num_frames=self.num_frames,
                seed=seed,
                label=self.label,
                negative=self.negative,
                given=given,
            )
            for seed in range(self.seed, self.seed + self.num_seeds)
        ]

    def config(self, base: SampleConfig) -> SampleConfig:
        """How to sample.

        Raises:
            ValueError: a sampler that there is not, a negative prompt without guidance, ….
        """
        own = {name: getattr(self, name) for name in ("num_steps", "guidance", "sampler", "conditions", "strength")}
        changes = {name: value for name, value in own.items() if value is not None}
        try:
            return SampleConfig.model_validate(base.model_dump() | changes)
        except ValidationError as error:
            raise ValueError(problems_of(error)) from error


def form_of(values: Any) -> Form:
    """What was sent, checked.

    Raises:
        ValueError: in the words of the page.
    """
    if not isinstance(values, Mapping):
        raise ValueError("expected settings by name, as the page sends them")
    try:
        return Form.model_validate(values)
    except ValidationError as error:
        raise ValueError(problems_of(error)) from error
