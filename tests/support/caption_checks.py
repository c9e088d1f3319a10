"""Captions of models that write no sentences, for tests of what does not depend on what a model says."""

from caption.quality.config import ChecksConfig

KEPT = ("visible", "empty", "truncated")
OF_SENTENCES = tuple(name for name in ChecksConfig.model_fields if name not in KEPT)
WITHOUT_SENTENCES = ChecksConfig().model_copy(update=dict.fromkeys(OF_SENTENCES))
"""The checks of frames, and of texts that are empty or cut off."""

OVERRIDES = tuple(f"caption.checks.{name}=null" for name in OF_SENTENCES)
"""The same as settings of a command."""
