"""A trained model as a folder that open_clip loads by `local-dir:`, without a network."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from curate.encoders.open_clip import LOCAL_DIR, OpenClipConfig
from curate.storage.place import AnyPath
from curate.storage.publish import publish, sync_folder
from curate.storage.tensors import write_tensors
from train.clip.model import ClipModel

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
"""Names that open_clip looks for in a `local-dir:`."""
TEXTS = ("a photo of a cat", "Two people: walking, slowly, on a beach at dusk!")
"""On which the folder is compared with the model."""
TOLERANCE = 1e-4


def export(model: ClipModel, folder: AnyPath, card: str) -> AnyPath:
    """Write architecture, weights, preprocessing, tokenizer and card. The folder is loaded and compared with the model
    before it appears: by one rename, or on a store with its architecture as the last file.

    Raises:
        ValueError: what open_clip loads from it computes something else.
    """
    here = folder.parent if isinstance(folder, Path) else None
    if here is not None:
        here.mkdir(parents=True, exist_ok=True)
        for leftover in here.glob(f".{folder.name}.tmp-*"):  # of a killed run
            shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(dir=here, prefix=f".{folder.name}.tmp-") as temporary:
        staged = Path(temporary) / "model"
        _write(model, staged, card)
        _check(model, staged)
        if isinstance(folder, Path):
            sync_folder(staged)
            staged.rename(folder)
            return folder
        for file in sorted(staged.iterdir(), key=lambda file: file.name == CONFIG):
            with file.open("rb") as source, publish(str(folder / file.name)) as to:
                shutil.copyfileobj(source, to)
    return folder


def _write(model: ClipModel, folder: Path, card: str) -> None:
    folder.mkdir()
    if hasattr(model.tokenizer, "save_pretrained"):  # of a hub; open_clip's own one is in its package
        model.tokenizer.save_pretrained(str(folder))
    config = {"model_cfg": _architecture(model), "preprocess_cfg": model.net.visual.preprocess_cfg}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    (folder / "README.md").write_text(card)
    write_tensors(model.net.state_dict(), folder / WEIGHTS, metadata={"format": "pt"})
    with (folder / WEIGHTS).open("rb") as file:
        os.fsync(file.fileno())


def _architecture(model: ClipModel) -> dict[str, Any]:
    """open_clip's settings of the model, with the bias that the sigmoid loss gave it and the activation of its tag."""
    import open_clip

    config: dict[str, Any] = open_clip.get_model_config(_named(model.config.init.model))
    if model.net.logit_bias is not None and config.get("init_logit_bias") is None:
        config["init_logit_bias"] = 0.0
    if model.config.init.encoder(str(model.device)).build().as_trained.get("force_quick_gelu"):
        config["quick_gelu"] = True
    return config


def _named(model: str) -> str:
    """ViT-B/32 is ViT-B-32 to open_clip, where it is no place."""
    return model if ":" in model else model.replace("/", "-")


@torch.no_grad()
def _check(model: ClipModel, folder: Path) -> None:
    """Compares texts: tokenizer and weights; images: preprocessing and weights."""
    encoder = OpenClipConfig(model=f"{LOCAL_DIR}{folder}", device=str(model.device)).build()
    net, preprocess, tokenizer = encoder.load()
    net.eval()
    image = _picture()
    pairs = [
        (tokenizer([*TEXTS]), model.tokenizer([*TEXTS])),
        (preprocess(image), model.preprocess(image)),
        (net.encode_text(tokenizer([*TEXTS]).to(model.device), normalize=True),
         model.net.encode_text(model.tokenizer([*TEXTS]).to(model.device), normalize=True)),
        (net.encode_image(preprocess(image)[None].to(model.device), normalize=True),
         model.net.encode_image(model.preprocess(image)[None].to(model.device), normalize=True)),
    ]  # fmt: skip
    names = ("tokens", "pixels", "vectors of texts", "vectors of images")
    differ = [
        name
        for name, (theirs, ours) in zip(names, pairs, strict=True)
        if theirs.shape != ours.shape or not torch.allclose(theirs.float(), ours.float(), atol=TOLERANCE)
    ]
    if differ:
        raise ValueError(
            f"{model.name}: a folder of the trained model gives other {', '.join(differ)} than the model itself, and "
            "is not written. The run's checkpoints stay. Begin with the same model as local-dir:<folder>, whose "
            "tokenizer and preprocessing are in files"
        )


def _picture() -> Any:
    """Gradients, wider than high: what is resized and cropped shows."""
    import numpy as np
    from PIL import Image

    rows, columns = np.mgrid[0:120, 0:200]
    return Image.fromarray(np.stack([rows * 2, columns, (rows + columns) % 256], axis=2).astype(np.uint8))
