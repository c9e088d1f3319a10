"""YAML that reelpack itself writes and reads: libyaml takes a seventh of the time, where PyYAML was built with it."""

from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def from_yaml(text: str | bytes) -> Any:
    """
    Raises:
        yaml.YAMLError: the text is no YAML.
    """
    return yaml.load(text, Loader=_LOADER)


def to_yaml(value: Any, *, sort_keys: bool = True) -> str:
    """The text that `yaml.safe_dump` gives."""
    return str(yaml.dump(value, Dumper=_DUMPER, sort_keys=sort_keys))
