"""The checks of captions, one line per member, in the order in which they run."""

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from caption.quality.base import Check
from caption.quality.boilerplate import BoilerplateConfig
from caption.quality.camera import CameraConfig
from caption.quality.empty import EmptyConfig
from caption.quality.fields import FieldsConfig
from caption.quality.invented import InventedConfig
from caption.quality.language import LanguageConfig
from caption.quality.leak import LeakConfig
from caption.quality.length import LengthConfig
from caption.quality.match import MatchConfig
from caption.quality.medium import MediumConfig
from caption.quality.overflow import OverflowConfig
from caption.quality.refusal import RefusalConfig
from caption.quality.repeated import RepeatedConfig
from caption.quality.repetition import RepetitionConfig
from caption.quality.tics import TicsConfig
from caption.quality.truncated import TruncatedConfig
from caption.quality.visible import VisibleConfig


class ChecksConfig(BaseModel):
    """Which checks run. Null switches one off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    visible: VisibleConfig | None = VisibleConfig()
    empty: EmptyConfig | None = EmptyConfig()
    truncated: TruncatedConfig | None = TruncatedConfig()
    refusal: RefusalConfig | None = RefusalConfig()
    boilerplate: BoilerplateConfig | None = BoilerplateConfig()
    leak: LeakConfig | None = LeakConfig()
    repetition: RepetitionConfig | None = RepetitionConfig()
    language: LanguageConfig | None = LanguageConfig()
    length: LengthConfig | None = LengthConfig()
    fields: FieldsConfig | None = FieldsConfig()
    overflow: OverflowConfig | None = OverflowConfig()
    camera: CameraConfig | None = CameraConfig()
    medium: MediumConfig | None = MediumConfig()
    invented: InventedConfig | None = InventedConfig()
    match: MatchConfig | None = MatchConfig()
    repeated: RepeatedConfig | None = RepeatedConfig()
    tics: TicsConfig | None = TicsConfig()

    def build(self) -> tuple[Check, ...]:
        return tuple(check for _, check in self._built())

    def of_frames(self) -> "ChecksConfig":
        """Those that look at frames alone: the others can be applied to stored captions."""
        kept = {name for name, check in self._built() if check.reads == "frames"}
        return self.model_copy(update=dict.fromkeys(self.__class__.model_fields.keys() - kept))

    def _built(self) -> Iterator[tuple[str, Check]]:
        for name in type(self).model_fields:
            if (settings := getattr(self, name)) is not None:
                yield name, settings.build()
