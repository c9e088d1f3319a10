"""One HTTP endpoint: a key, a rate, a time limit, retries. What it raises says what the endpoint did."""

import json
import logging
import os
import random
import threading
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from caption.backends.base import UnusableModel
from curate.schema import FailureKind

MAX_WAIT_S = 60.0
"""Longest wait before another try. An endpoint that asks for a longer one is not waited for."""
MAX_FIRST_RETRIES = 2
"""Tries after the first as long as nothing has answered at all: a wrong address costs seconds, not the waits between
all tries."""
MAX_ANSWER_BYTES = 16 << 20
MAX_MESSAGE = 300
"""Characters of an endpoint's own message that ours repeats."""
MIN_SECRET = 8
"""Shorter keys are placeholders, such as EMPTY, and are not searched for in answers."""
REDACTED = b"[key]"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
PASSING = frozenset({408, 409, 425, 429})
"""Statuses besides 500 and above that another try can change."""
NO_CREDIT = b"insufficient_quota"


logger = logging.getLogger(__name__)


class Unanswered(Exception):
    """A request without an answer.

    Attributes:
        kind: What that means for the request.
        status: Of HTTP; None where no answer came.
        is_passing: Another try can end differently.
        wait_s: How long the endpoint asks to wait; None: it does not say.
    """

    def __init__(
        self,
        detail: str,
        *,
        kind: FailureKind,
        status: int | None = None,
        is_passing: bool = False,
        wait_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind, self.status, self.is_passing, self.wait_s = kind, status, is_passing, wait_s


class Endpoint:
    """Safe in any number of threads.

    Args:
        url: without a slash at its end.
        key: sent as bearer token; never in an answer or a message. None: no key.
        timeout_s: for one try, from its first byte to the last of the answer.
        max_retries: tries after the first; at most `MAX_FIRST_RETRIES` until something answers.
        retry_wait_s: before the first of them, doubled each time; less by up to a half, at random.
        requests_per_minute: at most; None: no limit.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None,
        timeout_s: float,
        max_retries: int,
        retry_wait_s: float,
        requests_per_minute: float | None,
    ) -> None:
        import httpx2

        self._url, self._timeout_s = url, timeout_s
        self._max_retries, self._retry_wait_s = max_retries, retry_wait_s
        self._has_answered = self._has_succeeded = False
        self._secret = key.encode() if key and len(key) >= MIN_SECRET else None
        self._pace = _Pace(60 / requests_per_minute if requests_per_minute else 0.0)
        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(timeout_s, pool=None),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
            trust_env=urlsplit(url).hostname not in LOOPBACK,  # HTTP_PROXY is not for servers on this machine
        )

    def get(self, path: str) -> bytes:
        """See `post`."""
        return self._send("GET", path, None)

    def post(self, path: str, body: Any) -> bytes:
        """The answer to a JSON body.

        Raises:
            Unanswered: after the last try.
        """
        return self._send("POST", path, json.dumps(body).encode())

    def _send(self, method: str, path: str, content: bytes | None) -> bytes:
        for retry in range(self._max_retries + 1):
            self._pace.wait()
            try:
                return self._try(method, path, content)
            except Unanswered as error:
                if not error.is_passing or retry >= self._most_retries or (error.wait_s or 0) > MAX_WAIT_S:
                    raise
                if retry == 0 and not self._has_succeeded:
                    logger.warning("%s: %s; tried again, %d times at most", self._url, error, self._most_retries)
                if error.wait_s is not None:
                    self._pace.hold(error.wait_s)
            time.sleep(min(MAX_WAIT_S, self._retry_wait_s * 2**retry) * random.uniform(0.5, 1))
        raise AssertionError("the last try returns or raises")

    @property
    def _most_retries(self) -> int:
        return self._max_retries if self._has_answered else min(self._max_retries, MAX_FIRST_RETRIES)

    def _try(self, method: str, path: str, content: bytes | None) -> bytes:
        import httpx2

        deadline = time.monotonic() + self._timeout_s
        headers = {"Content-Type": "application/json"} if content else {}
        data = bytearray()
        try:
            with self._client.stream(method, f"{self._url}/{path}", content=content, headers=headers) as response:
                self._has_answered = True
                for chunk in response.iter_bytes():
                    data += chunk
                    if time.monotonic() > deadline:
                        raise self._late()
                    if len(data) > MAX_ANSWER_BYTES:
                        raise Unanswered(f"the answer exceeds {MAX_ANSWER_BYTES >> 20} MiB", kind=FailureKind.MODEL)
        except httpx2.TimeoutException:
            raise self._late() from None
        except httpx2.RequestError as error:  # refused, reset, closed in the middle; its message has no header
            detail = f"no answer: {type(error).__name__}: {printable(str(error))}"
            raise Unanswered(detail, kind=FailureKind.IO, is_passing=True) from None
        answer = bytes(data) if self._secret is None else bytes(data).replace(self._secret, REDACTED)
        if not response.is_success:
            raise _refused(response.status_code, answer, wait_of(response.headers))
        self._has_succeeded = True
        return answer

    def _late(self) -> Unanswered:
        detail = f"no answer within {self._timeout_s:g} s"
        return Unanswered(detail, kind=FailureKind.TIMEOUT, is_passing=True)


class _Pace:
    """Lets requests begin, one every `step_s` seconds."""

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Until this request can begin."""
        with self._lock:
            begin = max(time.monotonic(), self._next)
            if self._step_s:
                self._next = begin + self._step_s
        time.sleep(max(0.0, begin - time.monotonic()))

    def hold(self, seconds: float) -> None:
        """No request begins within this time."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def wait_of(headers: Any) -> float | None:
    """Seconds that `Retry-After` asks to wait: a number or a date, RFC 9110 section 10.2.3. None: it asks nothing."""
    given = headers.get("retry-after", "").strip()
    if given.isdecimal():
        return float(given)
    try:
        at = parsedate_to_datetime(given)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def message_of(answer: bytes) -> str:
    """The message in an endpoint's answer and its code, or how the answer begins."""
    try:
        found: Any = json.loads(answer)
    except (ValueError, RecursionError):
        found = None
    code = ""
    for name in ("error", "message", "detail"):
        if isinstance(found, dict):
            code = f" ({found['code']})" if isinstance(found.get("code"), str) else code
            found = found.get(name, found)
    text = found + code if isinstance(found, str) else answer[: 4 * MAX_MESSAGE].decode(errors="replace")
    return printable(text) or "an empty answer"


def printable(text: str) -> str:
    """One line without control characters, cut to `MAX_MESSAGE`."""
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return plain if len(plain) <= MAX_MESSAGE else f"{plain[:MAX_MESSAGE]}…"


def _refused(status: int, answer: bytes, wait_s: float | None) -> Unanswered:
    kind = FailureKind.MODEL
    is_passing = (status in PASSING or status >= 500) and NO_CREDIT not in answer
    if status in (408, 504):
        kind = FailureKind.TIMEOUT
    elif is_passing:
        kind = FailureKind.IO
    elif status == 413:
        kind = FailureKind.TOO_LARGE
    detail = f"HTTP {status}: {message_of(answer)}"
    if is_passing and (wait_s or 0) > MAX_WAIT_S:
        detail += f" (it asks to wait {wait_s:.0f} s)"
    return Unanswered(detail, kind=kind, status=status, is_passing=is_passing, wait_s=wait_s)


def key_of(name: str | None) -> str | None:
    """The key in an environment variable; None without a name.

    Raises:
        UnusableModel: the variable is not set, or holds what no header can.
    """
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise UnusableModel(f"the environment variable {name} is not set; export it where the workers run")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UnusableModel(f"the environment variable {name} holds no key: expected one line of letters and digits")
    return key
