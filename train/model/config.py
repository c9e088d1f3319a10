"""The family of denoisers, one line per member."""

from typing import Annotated, Any, TypeAlias, get_args

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from train.model.dit_config import DiTConfig
from train.model.unet.config import UNetConfig


class ByKind:
    """Tells the members of a union apart by `kind`, also where there is one: `Field(discriminator=...)` needs two.

    Args:
        default: the kind of settings that name none.
    """

    def __init__(self, default: str) -> None:
        self._default = default

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        members: tuple[type[BaseModel], ...] = get_args(source) or (source,)
        choices = {one.model_fields["kind"].default: handler.generate_schema(one) for one in members}
        union = core_schema.tagged_union_schema(choices, discriminator="kind")
        return core_schema.no_info_before_validator_function(self._with_kind, union)

    def _with_kind(self, settings: Any) -> Any:
        return {"kind": self._default} | settings if isinstance(settings, dict) else settings


ModelConfig: TypeAlias = Annotated[
    DiTConfig  # transformer
    | UNetConfig,  # convolutions, with attention within frames and along time
    ByKind("dit"),
]
