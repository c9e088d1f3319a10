"""Any endpoint with OpenAI's chat completions: vLLM, SGLang, llama.cpp, vendors."""

import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from caption.backends.base import CaptionBackend, CaptionRequest, CaptionResult, FailedRequest, UnusableModel
from caption.backends.chat import FrameParts, ImageFormat, frame_parts, outcome_of
from caption.backends.endpoint import Endpoint, Unanswered, key_of
from caption.backends.refusals import advice, check_endpoint, is_filtered, why_lost
from caption.provenance import Provenance
from caption.quality.base import Check
from curate.daemon_threads import DaemonPool
from curate.encoders.fingerprint import library_versions
from curate.schema import FailureKind, content_digest

ENVIRONMENT_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
"""Keys have small letters: a key in place of a variable's name is refused and not stored."""
SECRET_NAMES = frozenset({"api_key", "apikey", "key", "authorization", "password", "secret", "token"})
PENALTY_PER_EXCESS = 5.0
"""`frequency_penalty` for a repetition penalty 1 above none: 1.2 becomes 1.0, of 2.0 at most."""
MAX_FREQUENCY_PENALTY = 2.0


class LostEndpoint(OSError):
    """The endpoint takes the key, or knows the model, no longer: no request can succeed, and the job ends."""


class OpenAiConfig(BaseModel):
    """A model behind an OpenAI-compatible endpoint, and what it is sent."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    kind: Literal["openai"] = "openai"
    base_url: str = Field(description="the endpoint, such as http://localhost:8000/v1; without key or password")
    model: str = Field(min_length=1, description="the model's name at the endpoint")
    revision: str = Field(
        "", description="what the name means at present; another text makes the captions another table"
    )
    api_key_env: str | None = Field(
        None, description="name of the environment variable that holds the key; none: no key is sent"
    )
    frames: FrameParts = Field(
        "images",
        description="images: one each; video_jpeg: one video as vLLM takes it; video_mp4: one video as a file",
    )
    image_format: ImageFormat = Field("jpeg", description="of images; png loses nothing and is larger")
    jpeg_quality: int = Field(90, ge=1, le=100, description="of JPEG, 1-100")
    max_side_px: int | None = Field(1024, ge=16, description="larger frames are made smaller; none: they are not")
    temperature: float | None = Field(0.0, ge=0, description="0 is greedy; none: not sent, the endpoint's counts")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus of the sampling; 1 is not sent")
    repetition_penalty: float = Field(1.0, gt=0, description="above 1 makes tokens that were written less likely")
    seed: int = Field(0, description="of the sampling, for a temperature above 0")
    penalty: Literal["repetition_penalty", "repeat_penalty", "frequency_penalty", "none"] = Field(
        "repetition_penalty",
        description="how a penalty is sent: vLLM's and SGLang's name, llama.cpp's, vendors' (converted), or not",
    )
    structured: Literal["json_schema", "json_object", "none"] = Field(
        "json_schema", description="how an answer in JSON is asked for: by its schema, as any object, or not"
    )
    token_limit: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="name of the token limit; OpenAI's newer models take the second alone"
    )
    extra_body: dict[str, Any] = Field(
        default={}, description="further fields of each request, such as top_k; null leaves a field out"
    )
    num_in_flight: int = Field(16, ge=1, description="requests at the same time, of each worker")
    requests_per_minute: float | None = Field(None, gt=0, description="at most, of each worker; none: no limit")
    timeout_s: float = Field(120.0, gt=0, description="seconds for one answer; then it is asked for again")
    max_retries: int = Field(5, ge=0, description="further tries after 429, 5xx, timeouts and lost connections")
    retry_wait_s: float = Field(1.0, ge=0, description="seconds before the first further try; doubled each time")

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, given: str) -> str:
        url = urlsplit(given)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("expected http://HOST/v1 or https://HOST/v1")
        if "@" in given or url.query or url.fragment:
            raise ValueError(
                "has a user, a password or a query, which would be stored; put the key into an environment variable "
                "and name it in api_key_env"
            )
        return given.rstrip("/").removesuffix("/chat/completions")

    @field_validator("api_key_env")
    @classmethod
    def _name_not_key(cls, given: str | None) -> str | None:
        if given is not None and not ENVIRONMENT_NAME.fullmatch(given):
            raise ValueError(
                "expected the name of an environment variable in capitals, such as OPENAI_API_KEY, not the key itself"
            )
        return given

    @field_validator("extra_body")
    @classmethod
    def _no_secrets(cls, given: dict[str, Any]) -> dict[str, Any]:
        if found := SECRET_NAMES.intersection(map(str.lower, _names(given))):
            raise ValueError(
                f"{min(found)} would be stored; put the key into an environment variable, see api_key_env"
            )
        return given

    @property
    def name(self) -> str:
        """Last part of the model's name."""
        return re.sub(r"[^\w.-]+", "-", self.model.rstrip("/").rpartition("/")[2]) or "model"

    @property
    def caveat(self) -> str | None:
        return None

    def pinned(self) -> "OpenAiConfig":
        return self  # what the name means is known at the endpoint alone: `revision`, and `served_by` of each answer

    def build(self) -> CaptionBackend:
        return OpenAiBackend(self)


class OpenAiBackend:
    """`CaptionBackend` over HTTP. Its texts depend on a batch as far as the endpoint's do."""

    checks: Sequence[Check] = ()

    def __init__(self, config: OpenAiConfig) -> None:
        self.config = config
        self._endpoint: Endpoint | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config, "_endpoint": None}

    @property
    def num_in_flight(self) -> int:
        return self.config.num_in_flight

    @cached_property
    def provenance(self) -> Provenance:
        """See `CaptionBackend`. The address is not in the fingerprint: a server that moves keeps its captions."""
        config = self.config
        sent = ("frames", "image_format", "jpeg_quality", "max_side_px", "temperature", "top_p", "repetition_penalty",
                "penalty", "structured", "extra_body")  # fmt: skip
        parameters = {name: getattr(config, name) for name in sent}
        seed = config.seed if config.temperature else None
        decides = (config.model, config.revision, json.dumps(parameters, sort_keys=True), str(seed))
        host = urlsplit(config.base_url).netloc
        return Provenance(
            backend=config.kind,
            model=config.model,
            revision=config.revision or f"as served by {host}",
            fingerprint=content_digest("openai", *decides),
            parameters={**parameters, "endpoint": host},
            seed=seed,
            libraries=library_versions("httpx2", "pillow"),
        )

    def setup(self) -> None:
        """See `CaptionBackend`: ask the endpoint for its models, or, where its list lacks this one, for a word.

        Raises:
            ValueError: no endpoint there, a wrong key, a model that it does not have.
        """
        if self._endpoint is not None:
            return
        config = self.config
        try:
            endpoint = Endpoint(
                config.base_url,
                key=key_of(config.api_key_env),
                timeout_s=config.timeout_s,
                max_retries=config.max_retries,
                retry_wait_s=config.retry_wait_s,
                requests_per_minute=config.requests_per_minute,
            )
            check_endpoint(endpoint, config)
        except UnusableModel as error:
            raise ValueError(f"caption endpoint {config.base_url}, model {config.model!r}: {error}") from None
        self._endpoint = endpoint

    def caption(self, requests: Sequence[CaptionRequest]) -> list[CaptionResult | FailedRequest]:
        """See `CaptionBackend`. Several requests are in flight together.

        Raises:
            LostEndpoint: the key or the model is refused now.
        """
        if len(requests) == 1:
            return [self._outcome(requests[0])]
        return list(DaemonPool(min(self.num_in_flight, len(requests)), "requests").map(self._outcome, requests))

    def _outcome(self, request: CaptionRequest) -> CaptionResult | FailedRequest:
        assert self._endpoint is not None, "setup comes first"
        try:
            return outcome_of(self._endpoint.post("chat/completions", self._body(request)), request.max_tokens)
        except Unanswered as error:
            if is_filtered(error):
                return FailedRequest(kind=FailureKind.REFUSED, detail=str(error))
            if (why := why_lost(error, self.config)) is not None:
                raise LostEndpoint(f"caption endpoint {self.config.base_url}: {why}") from None
            return FailedRequest(kind=error.kind, detail=f"{error}{advice(error, self.config)}")

    def _body(self, request: CaptionRequest) -> dict[str, Any]:
        config = self.config
        body: dict[str, Any] = {
            "model": config.model,
            "messages": [{"role": "user", "content": self._content(request)}],
            config.token_limit: request.max_tokens,
        }
        if config.temperature is not None:
            body["temperature"] = request.sampling_temperature(config.temperature)
        if request.seed is not None or config.temperature:
            body["seed"] = request.sampling_seed(config.seed)
        if config.top_p < 1:
            body["top_p"] = config.top_p
        body |= self._penalty(request.repetition_penalty or config.repetition_penalty)
        if request.schema is not None and config.structured == "json_schema":
            schema = {"name": "caption", "schema": dict(request.schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif request.schema is not None and config.structured == "json_object":
            body["response_format"] = {"type": "json_object"}
        return {name: value for name, value in (body | config.extra_body).items() if value is not None}

    def _content(self, request: CaptionRequest) -> str | list[dict[str, Any]]:
        config = self.config
        if not len(request.frames):
            return request.prompt
        parts = frame_parts(
            request.frames,
            request.times_s,
            as_=config.frames,
            image_format=config.image_format,
            jpeg_quality=config.jpeg_quality,
            max_side_px=config.max_side_px,
        )
        return [*parts, {"type": "text", "text": request.prompt}]

    def _penalty(self, penalty: float) -> dict[str, float]:
        name = self.config.penalty
        if name == "none" or penalty == 1:
            return {}
        if name == "frequency_penalty":
            return {name: round(min((penalty - 1) * PENALTY_PER_EXCESS, MAX_FREQUENCY_PENALTY), 6)}
        return {name: penalty}


def _names(value: Any) -> Iterator[str]:
    """Names of the fields in a JSON value, at any depth."""
    if isinstance(value, dict):
        yield from value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _names(part)
