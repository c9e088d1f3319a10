"""The checks of captions, one line per member, in the order in which they run."""

from pydantic import BaseModel, ConfigDict

from caption.quality.base import Check
from caption.quality.empty import EmptyConfig
from caption.quality.truncated import TruncatedConfig
from caption.quality.visible import VisibleConfig


class ChecksConfig(BaseModel):
    """Which checks run. Null switches one off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    visible: VisibleConfig | None = VisibleConfig()
    empty: EmptyConfig | None = EmptyConfig()
    truncated: TruncatedConfig | None = TruncatedConfig()

    def build(self) -> tuple[Check, ...]:
        settings = (getattr(self, name) for name in type(self).model_fields)
        return tuple(check.build() for check in settings if check is not None)
