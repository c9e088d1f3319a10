"""What the refusals of an OpenAI-compatible endpoint mean, and what to do about them."""

import difflib
import json
import re
from collections.abc import Sequence
from typing import Any, Protocol

from caption.backends.base import FailedRequest, UnusableModel
from caption.backends.chat import outcome_of
from caption.backends.endpoint import NO_CREDIT, Endpoint, Unanswered

FILTERED = re.compile(
    r"content[ _-]?(filter|policy|management)|responsible ?ai|data_inspection|moderation|flagged|safety", re.IGNORECASE
)
"""How endpoints say that a request is refused for what it shows."""
PROBE_TOKENS = 16
MAX_NAMES = 10
"""Models in a message: those with the nearest names."""


class Settings(Protocol):
    """What counts of `caption.backends.openai.OpenAiConfig`."""

    @property
    def model(self) -> str: ...

    @property
    def api_key_env(self) -> str | None: ...

    @property
    def token_limit(self) -> str: ...

    @property
    def penalty(self) -> str: ...

    @property
    def extra_body(self) -> dict[str, Any]: ...


def check_endpoint(endpoint: Endpoint, config: Settings) -> None:
    """Check that the endpoint takes the key and has the model.

    Its list of models is read. Some endpoints have no list or not all models in it, and some take any name: a model
    that is not listed is asked for a word.

    Raises:
        UnusableModel: says what is wrong and what to do.
    """
    names = _models(endpoint, config)
    if config.model in names:
        return
    body: dict[str, Any] = {"model": config.model, "messages": [{"role": "user", "content": "Hello"}]}
    body |= {config.token_limit: PROBE_TOKENS, **config.extra_body}
    try:
        answer = endpoint.post("chat/completions", {name: value for name, value in body.items() if value is not None})
    except Unanswered as error:
        raise UnusableModel(_why_unusable(error, config, names)) from None
    outcome = outcome_of(answer, PROBE_TOKENS)
    if isinstance(outcome, FailedRequest):
        raise UnusableModel(f"{outcome.detail}; expected an OpenAI-compatible endpoint, base_url often ends in /v1")


def is_filtered(error: Unanswered) -> bool:
    """The request is refused for what it shows."""
    return error.status is not None and error.status < 500 and FILTERED.search(str(error)) is not None


def why_lost(error: Unanswered, config: Settings, names: Sequence[str] = ()) -> str | None:
    """Why no request can succeed; None: others can. `names` are the models that there are."""
    if error.status in (401, 403):
        name = config.api_key_env
        if name is None:
            return f"it asks for a key; name its environment variable in caption.backend.api_key_env ({error})"
        return f"the key in the environment variable {name} is refused; export the right one ({error})"
    if error.status == 402 or NO_CREDIT.decode() in str(error):
        return f"the account has no credit ({error})"
    if error.status == 404:
        nearest = difflib.get_close_matches(config.model, names, MAX_NAMES, 0)
        has = f"it has {', '.join(nearest)}" if nearest else "base_url often ends in /v1"
        return f"it does not know the model, or has no chat completions; {has} ({error})"
    return None


def advice(error: Unanswered, config: Settings) -> str:
    """What to set so that such a request succeeds."""
    message = str(error)
    if error.status == 413:
        return "; lower caption.backend.max_side_px or the number of frames"
    if error.status not in (400, 422):
        return ""
    for words, setting in (
        ("max_completion_tokens", "token_limit=max_completion_tokens"),
        ("response_format", "structured=json_object, or none"),
        (config.penalty, "penalty=frequency_penalty, or none"),
        ("temperature", "temperature=null"),
    ):
        if words in message:
            return f"; set caption.backend.{setting}"
    return ""


def _models(endpoint: Endpoint, config: Settings) -> list[str]:
    """Names of the endpoint's models; none where it has no list of them."""
    try:
        return sorted(str(model["id"]) for model in json.loads(endpoint.get("models"))["data"])
    except Unanswered as error:
        if error.status is None or error.status == 401 or error.status >= 500:
            raise UnusableModel(_why_unusable(error, config, ())) from None
        return []
    except (ValueError, RecursionError, LookupError, TypeError):
        return []


def _why_unusable(error: Unanswered, config: Settings, names: Sequence[str]) -> str:
    if error.status is None:
        return f"{error}; is the server running, and is caption.backend.base_url its address?"
    return why_lost(error, config, names) or f"{error}{advice(error, config)}"
