"""The caption backends, one line per member."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from caption.backends.embedded import NAME, EmbeddedConfig
from caption.backends.openai import OpenAiConfig
from caption.backends.transformers_vlm import TransformersVlmConfig
from caption.backends.vllm import VllmConfig


def _kind_by_model(given: Any) -> Any:
    """A backend with a model's name and no other kind runs in transformers.

    Settings on top of the defaults hold the default kind. Datasets of an earlier reelpack name the embedded captioner
    as a model of transformers.
    """
    if not isinstance(given, dict) or given.get("kind", "embedded") not in ("embedded", "transformers"):
        return given
    if given.get("model") == NAME:
        of_embedded = {name: value for name, value in given.items() if name in EmbeddedConfig.model_fields}
        return {**of_embedded, "kind": "embedded"}
    return {**given, "kind": "transformers"} if "model" in given else given


BackendConfig = Annotated[
    EmbeddedConfig | OpenAiConfig | TransformersVlmConfig | VllmConfig,
    Field(discriminator="kind"),
    BeforeValidator(_kind_by_model),
]
