"""An autoencoder of diffusers in a folder or on the hub: its class and weights, or why it is refused."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from curate.encoders.fingerprint import path_digest
from curate.encoders.hub import resolve_commit
from curate.encoders.pipeline_folder import PIPELINE, model_folder, variant_of
from curate.schema import content_digest

if TYPE_CHECKING:
    from train.autoencoder.config import DiffusersAutoencoderConfig

SETTING = "encode.autoencoder"
PART = "vae"
WEIGHTS = "diffusion_pytorch_model"
ROOT_FILES = ["*.json", f"{WEIGHTS}*"]
"""Of a hub id without subfolder: a whole pipeline is told by its `model_index.json`, and not downloaded."""

SOUND = "it codes sound"
REFUSED: Mapping[str, str] = {
    "AutoencoderKLAllegro": "it codes groups of four frames, so an image has no latent of its own",
    "AutoencoderKLKVAEAudio": SOUND,
    "AutoencoderKLLTX2Audio": SOUND,
    "AutoencoderKLMiniMaxH3": "it codes clips of 17 frames whose latents overlap, and decodes no single frame",
    "AutoencoderKLMiniMaxH3Audio": SOUND,
    "AutoencoderKLQwenImage21": "it codes images of four channels, with transparency",
    "AutoencoderOobleck": SOUND,
    "AutoencoderRAE": "its latents have one size, whatever that of the frames",
    "AutoencoderSAME": SOUND,
    "AutoencoderVidTok": "it codes groups of frames, so an image has no latent of its own",
    "ConsistencyDecoderVAE": "it decodes by a diffusion that draws noise. Its latents are those of Stable Diffusion: "
    "name the AutoencoderKL of that pipeline",
    "Cosmos3AVAEAudioTokenizer": SOUND,
    "MMAudioVAE": SOUND,
    "RFD4ProteinaAutoencoder": "it codes proteins",
}
"""Classes of diffusers that cannot be used, with the reason."""


def local_folder(config: "DiffusersAutoencoderConfig") -> Path:
    """The autoencoder's folder; that of a hub id is downloaded.

    Raises:
        ValueError: there is none.
    """
    root = Path(config.path).expanduser()
    if not root.is_dir():
        if root.is_absolute() or config.path.startswith(".") or config.path.count("/") != 1:
            raise ValueError(f"{SETTING}.path: no folder {config.path}; give a local folder or a hub id")
        from huggingface_hub import snapshot_download

        try:
            wanted = [f"{config.subfolder}/*", PIPELINE] if config.subfolder else ROOT_FILES
            commit = resolve_commit(config.path, config.revision, f"{SETTING}.path")
            root = Path(snapshot_download(config.path, revision=commit, allow_patterns=wanted))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{SETTING}.path: {config.path} is no local folder, and the hub did not give it: {error}"
            ) from error
    return model_folder(root, config.subfolder, SETTING, PART)


def fingerprint_of(folder: Path, config: "DiffusersAutoencoderConfig") -> str:
    """Names what makes latents: the files of a folder, and the settings of the computation."""
    return content_digest("diffusers", path_digest(folder), config.dtype, str(config.tiling))


def load(folder: Path, name: str, dtype: torch.dtype) -> Any:
    """The model of a folder, on the CPU, ready for inference.

    Raises:
        ValueError: the folder holds no autoencoder of images or videos, or weights are missing or damaged.
    """
    from curate.encoders.torchvision_cpu import repair

    repair()
    import diffusers
    from safetensors import SafetensorError

    class_name = _class_name(folder)
    if reason := REFUSED.get(class_name):
        raise ValueError(f"{SETTING}: {name} is of class {class_name}, which cannot be used: {reason}")
    loader: Any = getattr(diffusers, class_name, None) if class_name else None
    if not (hasattr(loader, "encode") and hasattr(loader, "decode") and hasattr(loader, "from_pretrained")):
        raise ValueError(
            f"{SETTING}.path: {name} has _class_name {class_name!r} in {folder / 'config.json'}; expected an "
            f"autoencoder class of diffusers {diffusers.__version__}; for a whole pipeline set `subfolder: vae`"
        )
    try:
        model, report = loader.from_pretrained(
            str(folder), variant=variant_of(folder, WEIGHTS), local_files_only=True, torch_dtype=dtype,
            output_loading_info=True,
        )  # fmt: skip
    except (EOFError, LookupError, OSError, RuntimeError, SafetensorError, TypeError, ValueError) as error:
        raise ValueError(f"{SETTING}: diffusers cannot load {name} from {folder}: {error}") from error
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"{SETTING}: the weights of {name} in {folder} lack {len(missing)} tensors: {missing[0]} …")
    return model.eval().requires_grad_(False)


def _class_name(folder: Path) -> str:
    file = folder / "config.json"
    try:
        return str(json.loads(file.read_text()).get("_class_name", "")) if file.is_file() else ""
    except (AttributeError, ValueError) as error:
        raise ValueError(f"{SETTING}.path: {file} is no configuration of a model ({error})") from None
