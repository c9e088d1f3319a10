"""URLs without what gives access to them: signatures, tokens, passwords.

A presigned URL is a key. It is used to fetch and nowhere kept: tables, records, messages and names of copies have the
URL without it, which stays the same when the signature is renewed.
"""

import re

from curate.storage.inside import CONTAINERS, MARK

URL = re.compile(r"\b(?!file://)[A-Za-z][A-Za-z0-9+.\-]*://[^\s'\"<>`]+")
USER = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#@]*)@")
ACCOUNTS = frozenset({"abfs", "abfss", "wasb", "wasbs"})
"""Whose URLs have a container before the @."""
LOGINS = frozenset({"ftp", "sftp", "ssh", "smb"})
"""Whose URLs need the user's name, which is no secret."""

SECRET = re.compile(
    r"x-(amz|goog|oss|cos|obs|ms)-.*|q-.+"  # S3, Google, Aliyun, Tencent, Huawei
    r"|(aws|google|oss)?access-?(key-?)?id|key-pair-id|policy|expires|hdn(ts|ea|tl)"  # CloudFront, Akamai
    r"|(.*[-_])?(signature|sign|sig|token|jwt|hmac|secret|password|passwd|pwd|credentials?|auth|authorization)"
    r"|(access|auth|security|session|id|sas)token|(.*[-_])?(api|access|account|secret)[-_]?key",
    re.IGNORECASE,
)
"""Names of parameters."""
_AZURE_KEY = ("skoid", "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid")
AZURE = frozenset(
    {*("sv", "ss", "srt", "sp", "st", "se", "sr", "sip", "spr", "si", "sdd", "ses", "scid"), *_AZURE_KEY}
)
"""Of a shared access signature, which has a `sig`."""


def public(url: str) -> str:
    """The URL without password and signing parameters; any other text as it is."""
    return USER.sub(_user, _unsigned(url)) if URL.search(url) else url


def without_secrets(text: str) -> str:
    """A message whose URLs are public."""
    return URL.sub(lambda found: public(found[0]), text)


def _unsigned(url: str) -> str:
    before, _, rest = url.partition("?")
    inside = ""
    if rest and before.lower().endswith(CONTAINERS):  # a member of a signed file
        rest, mark, name = rest.rpartition(MARK) if MARK in rest else (rest, "", "")
        inside = mark + name
    query, mark, fragment = rest.partition("#")
    parameters = [(text.partition("=")[0].lower(), text) for text in query.split("&") if text]
    azure = AZURE if "sig" in dict(parameters) else frozenset()
    kept = [text for name, text in parameters if name not in azure and not SECRET.fullmatch(name)]
    return before + ("?" if kept else "") + "&".join(kept) + mark + fragment + inside


def _user(found: re.Match[str]) -> str:
    scheme, name = found[1], found[2].partition(":")[0]
    if scheme.lower() in ACCOUNTS:
        return found[0]
    return f"{scheme}://{name}@" if scheme.lower() in LOGINS and name else f"{scheme}://"
