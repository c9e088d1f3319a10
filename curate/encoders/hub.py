"""Hub ids: which commit a name means. A branch moves; what is computed is named by the commit."""

import re

COMMIT = re.compile(r"[0-9a-f]{40}")


def resolve_commit(repo_id: str, revision: str | None, setting: str) -> str:
    """The commit of a hub id's branch or tag (None: main), by the hub, or by the local cache without a network.

    Args:
        repo_id: such as `Qwen/Qwen3-VL-8B-Instruct`.
        revision: commit, branch or tag.
        setting: the option that holds `repo_id`, for the message.

    Raises:
        ValueError: neither the hub nor the cache knows it.
    """
    if revision and COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RevisionResolutionError

    try:
        found = HfApi().resolve_revision(repo_id, revision=revision, local_files_only=constants.HF_HUB_OFFLINE)
    except (OSError, ValueError, RevisionResolutionError) as error:
        raise ValueError(
            f"{setting}: got {repo_id!r}, which is no local folder, and neither the hub nor its local cache knows "
            f"which commit {revision or 'main'!r} is. Expected a folder that exists, or a hub id that was downloaded "
            f"before or is within reach (a private one needs HF_TOKEN): {error}"
        ) from error
    return str(found.resolved)
