"""URLs without keys: what stays names the file, also when the signature is renewed."""

import pytest

from curate.storage.access import public, without_secrets


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://b.s3.amazonaws.com/a.mp4?X-Amz-Algorithm=A&X-Amz-Signature=1f&x-amz-security-token=t", "https://b.s3.amazonaws.com/a.mp4"),
        ("https://h/a.mp4?AWSAccessKeyId=AK&Signature=x%3D&Expires=17&versionId=3", "https://h/a.mp4?versionId=3"),
        ("https://h/a.mp4?X-Goog-Credential=c&X-Goog-Signature=1", "https://h/a.mp4"),
        ("https://a.blob.core.windows.net/c/a.mp4?sv=2024&se=2026&sr=b&sp=r&sig=x", "https://a.blob.core.windows.net/c/a.mp4"),
        ("https://h/a.mp4?Policy=p&Key-Pair-Id=k&Signature=s", "https://h/a.mp4"),
        ("https://h/watch?id=7&token=secret#t=3", "https://h/watch?id=7#t=3"),
        ("https://h/a.mp4?api_key=1&access_token=2&key=films/a.mp4&st=3", "https://h/a.mp4?key=films/a.mp4&st=3"),
        ("https://me:pass@h:8000/a@b.mp4", "https://h:8000/a@b.mp4"),
        ("https://ghp_token@h/a.mp4", "https://h/a.mp4"),
        ("sftp://me:pass@h/a.mp4", "sftp://me@h/a.mp4"),
        ("abfs://films@account.dfs.core.windows.net/a.mp4", "abfs://films@account.dfs.core.windows.net/a.mp4"),
        ("simplecache::https://me:pass@h/a.mp4?sig=1", "simplecache::https://h/a.mp4"),
        ("https://h/a.mp4?b=1&a=%20", "https://h/a.mp4?b=1&a=%20"),
        ("s3://bucket/a b.mp4", "s3://bucket/a b.mp4"),
        ("/films/a.mp4?token=1", "/films/a.mp4?token=1"),
        ("file:///films/a.mp4?token=1", "file:///films/a.mp4?token=1"),
    ],
)  # fmt: skip
def test_a_public_url_has_neither_signature_nor_password(url: str, expected: str) -> None:
    assert public(url) == expected == public(expected)


def test_messages_have_public_urls() -> None:
    told = "403, message='Forbidden', url='https://me:p@h/a.mp4?X-Amz-Signature=1f&v=2' (of a.mp4?token=1)"
    assert without_secrets(told) == "403, message='Forbidden', url='https://h/a.mp4?v=2' (of a.mp4?token=1)"
