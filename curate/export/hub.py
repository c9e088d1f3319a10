"""An export on the Hugging Face hub: a dataset repository that holds the folder."""

import re

from fsspec.implementations.local import LocalFileSystem

from curate.storage.place import locate


def repository(name: str) -> str:
    """`organization/name` of `hf://organization/name`, `hf://datasets/organization/name` or itself.

    Raises:
        ValueError: none of these.
    """
    match = re.fullmatch(r"(?:hf://)?(?:datasets/)?([\w.-]+/[\w.-]+)", name)
    if match is None:
        raise ValueError(f"--push {name}: expected the repository of a data set, such as hf://organization/name")
    return match[1]


def check_local(out: str) -> None:
    """Called before an export that is to be pushed.

    Raises:
        ValueError: the folder is no local one.
    """
    if not isinstance(locate(out)[0], LocalFileSystem):
        raise ValueError(f"--push uploads a local folder, and --out is {out}; export to a local one")


def push(folder: str, name: str) -> str:
    """Upload a folder; makes the repository, private, if it is not there. Returns its address.

    Raises:
        ValueError: the hub cannot be reached, or refuses it. What is on disk stays.
    """
    import httpx2
    from huggingface_hub import HfApi

    hub = HfApi()
    try:
        hub.create_repo(name, repo_type="dataset", private=True, exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=folder, repo_type="dataset", commit_message="Export")
    except (OSError, httpx2.HTTPError) as error:
        told = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"--push {name}: {hub.endpoint} did not take it ({told}); the export is complete in {folder}, and the "
            "same command pushes it without writing it again. `hf auth login` or HF_TOKEN says who you are"
        ) from error
    return f"{hub.endpoint}/datasets/{name}"
