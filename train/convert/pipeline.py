"""The pipeline that an imported model came from, and a copy of it around the model that is exported.

    OUT/model_index.json  transformer/  text_encoder/  tokenizer/  vae/  scheduler/ …

The folder that `train-import` writes says where the model lay, and its config.json of diffusers; whatever was trained
from the folder is followed back to it.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.encoders.hub import resolve_commit
from curate.encoders.pipeline_folder import PIPELINE
from curate.storage.place import AnyPath
from curate.storage.publish import write_text
from curate.storage.yaml_text import from_yaml
from train.convert.source import PART, Source, downloaded, parts_of, read_json

ENTRY = "released"
"""Of the config.json that `train-import` writes."""
OTHER_FRAMEWORKS = ("*.msgpack", "*.h5", "*.onnx", "*.onnx_data")
"""Weights that are not copied: torch does not read them."""
CLASSES = "num_embeds_ada_norm"
"""Number of classes, of a DiT."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Released:
    """Where a model of diffusers lay that is one of ours now."""

    config: Mapping[str, Any]  # its config.json
    pipeline: str | None  # path or hub id; None: it lay in none
    revision: str | None = None  # commit of a hub id
    subfolder: str = PART

    @classmethod
    def of(cls, source: Source) -> "Released":
        in_pipeline = source.folder.name in source.parts
        return cls(
            config=source.config,
            pipeline=source.name if in_pipeline else None,
            revision=source.revision if in_pipeline else None,
            subfolder=source.folder.name if in_pipeline else PART,
        )


def released(folder: AnyPath) -> Released | None:
    """What the model of an import, an export or a run began as. None: as none of diffusers, or the folder is gone."""
    seen: set[AnyPath] = set()
    while folder not in seen:
        seen.add(folder)
        entries = read_json(folder / "config.json")
        if isinstance(entries.get(ENTRY), dict):
            return Released(**entries[ENTRY])
        run = folder / "config.yaml"
        settings: Any = entries.get("train") or (from_yaml(run.read_text()) if run.is_file() else None)
        if not isinstance(settings, dict) or not settings.get("init"):
            return None
        folder = Path(settings["init"])
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pipeline:
    """A whole pipeline on this machine."""

    root: Path
    index: Mapping[str, Any]  # its model_index.json
    subfolder: str  # of the model that is exported

    @classmethod
    def find(cls, name: str, revision: str | None, subfolder: str) -> "Pipeline":
        """That of a path or hub id, whose parts besides `subfolder` are downloaded.

        Raises:
            ValueError: there is none, or parts of it are missing.
        """
        remedy = "give --pipeline FOLDER_OR_HUB_ID, or --pipeline none for the model's folder alone"
        root = Path(name).expanduser()
        if not root.is_dir():
            if root.is_absolute() or name.count("/") != 1 or name.startswith("."):
                raise ValueError(f"{name}: no such pipeline; {remedy}")
            commit = resolve_commit(name, revision, "--pipeline")
            parts = parts_of(read_json(downloaded(name, commit, [PIPELINE]) / PIPELINE)) - {subfolder}
            wanted = [PIPELINE, f"{subfolder}/config.json", *(f"{part}/*" for part in sorted(parts))]
            root = downloaded(name, commit, wanted)
        index = read_json(root / PIPELINE)
        if not index:
            raise ValueError(f"{root}: no {PIPELINE}; {remedy}")
        if subfolder not in parts_of(index):
            raise ValueError(f"{root}/{PIPELINE}: got {', '.join(sorted(parts_of(index)))}; expected {subfolder} too")
        if missing := sorted(part for part in parts_of(index) - {subfolder} if not (root / part).is_dir()):
            raise ValueError(f"{root}: {PIPELINE} names {', '.join(missing)}, which is not there; fetch it again")
        return cls(root=root, index=index, subfolder=subfolder)

    @property
    def config(self) -> Mapping[str, Any]:
        """config.json of its own transformer."""
        return read_json(self.root / self.subfolder / "config.json")

    def check(self, config: Mapping[str, Any]) -> None:
        """See that a model takes the place of the pipeline's own: latents of the autoencoder, states of the text
        encoder.

        Args:
            config: config.json of the model.

        Raises:
            ValueError: another class, or other widths; both sides.
        """
        there, own = self.index[self.subfolder][1], self.config
        inputs = ("in_channels", "text_dim", "caption_channels", "image_dim")
        ours = {"class": config["_class_name"]} | {name: config.get(name) for name in inputs}
        theirs = {"class": there} | {name: own.get(name, ours[name]) for name in inputs}
        if differing := [name for name in ours if ours[name] != theirs[name]]:
            told = ", ".join(f"{name} {theirs[name]} (the exported model has {ours[name]})" for name in differing)
            raise ValueError(
                f"{self.root}: its {self.subfolder} has {told}; expected a pipeline with the model's own "
                "autoencoder and text encoder"
            )

    def copy(self, out: Path, config: Mapping[str, Any], *, links: bool) -> None:
        """Everything but the model.

        Args:
            out: folder that holds the model already.
            config: config.json of the model.
            links: symbolic links to the parts instead of copies.
        """
        for part in sorted(parts_of(self.index) - {self.subfolder}):
            if links:
                (out / part).symlink_to((self.root / part).resolve(), target_is_directory=True)
            else:
                shutil.copytree(self.root / part, out / part, ignore=shutil.ignore_patterns(*OTHER_FRAMEWORKS))
        other_classes = self.config.get(CLASSES, config.get(CLASSES)) != config.get(CLASSES)
        kept = {name: value for name, value in self.index.items() if not (other_classes and name == "id2label")}
        write_text(str(out / PIPELINE), json.dumps(kept, indent=2) + "\n")
