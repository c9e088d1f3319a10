from pathlib import Path

import pytest
from huggingface_hub import constants

from caption.backends.transformers_vlm import TransformersVlmConfig
from caption.config import CaptionConfig
from curate.encoders.hub import resolve_commit
from curate.encoders.text import TextEncoder
from curate.encoders.text_config import TextEncoderConfig

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub out of reach, and `org/model` in its cache; the file that says which commit `main` is."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    main = tmp_path / "models--org--model" / "refs" / "main"
    main.parent.mkdir(parents=True)
    main.write_text(OLD)
    return main


def test_a_branch_is_the_commit_that_the_cache_has(cached: Path) -> None:
    assert resolve_commit("org/model", None, "text.model") == OLD
    cached.with_name("v1").write_text(NEW)
    assert resolve_commit("org/model", "v1", "text.model") == NEW
    assert resolve_commit("org/other", NEW, "text.model") == NEW


@pytest.mark.parametrize("name", ["org/unknown", "folders/that/are not there"])
def test_what_is_neither_folder_nor_known_is_refused_with_its_setting(cached: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"text.model: got '{name}'.*no local folder"):
        resolve_commit(name, None, "text.model")


def test_captions_and_text_embeddings_are_named_by_the_commit(cached: Path) -> None:
    captioner = CaptionConfig(backend=TransformersVlmConfig(model="org/model"))
    encoder = TextEncoderConfig(model="org/model")
    pinned, fingerprint = captioner.pinned(), TextEncoder(encoder).fingerprint
    assert (pinned.backend.revision, encoder.pinned().revision) == (OLD, OLD)
    assert pinned.key == captioner.key
    cached.write_text(NEW)
    assert CaptionConfig(backend=TransformersVlmConfig(model="org/model")).key != pinned.key
    assert TextEncoder(encoder).fingerprint != fingerprint
    assert pinned.pinned() == pinned and TextEncoder(encoder.pinned()).fingerprint != fingerprint
    with pytest.raises(ValueError, match=r"caption\.backend\.model"):
        TransformersVlmConfig(model="org/unknown").pinned()
