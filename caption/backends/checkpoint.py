"""Loads a vision–language model and its processor, and says what is wrong with a checkpoint that does not load."""

from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any

from caption.backends.base import UnusableModel
from curate.device import pick_device
from curate.encoders import torchvision_cpu

MAX_MESSAGE = 600


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A model in evaluation mode on its device, its processor, and the `torch.dtype` that it computes in."""

    model: Any
    processor: Any
    dtype: Any


def load_checkpoint(source: str, *, revision: str, dtype: str, device: str, trust_remote_code: bool) -> Loaded:
    """Load a checkpoint.

    Args:
        source: a local folder or a hub id.
        revision: of a hub id.
        dtype: name of a `torch.dtype`, or `auto`: the checkpoint's where the device computes in it, else float32.
        device: `auto`, `cpu`, `cuda` or `cuda:<n>`.
        trust_remote_code: run code that comes with the source.

    Raises:
        UnusableModel: the model cannot be loaded, or has no chat template for images; says what is missing.
    """
    from safetensors import SafetensorError

    torchvision_cpu.repair()
    try:
        return _load(source, dtype, device, {"revision": revision, "trust_remote_code": trust_remote_code})
    except UnusableModel:
        raise
    # What transformers raises on checkpoints that are incomplete, of another kind, or need packages that are missing.
    except (
        UnpicklingError, OSError, ValueError, ImportError, LookupError, TypeError, AttributeError, RuntimeError,
        SafetensorError,
    ) as error:  # fmt: skip
        raise UnusableModel(_why_not(error)) from error


def _load(source: str, dtype: str, device: str, options: dict[str, Any]) -> Loaded:
    from transformers import AutoConfig, AutoModelForImageTextToText

    from caption.backends.processor import load_processor

    _check_own_code(source, options["revision"])
    _register_tower(source, options["revision"])
    target = pick_device(device)
    config = AutoConfig.from_pretrained(source, **options)
    processor = load_processor(source, config, **options)
    chosen = _pick_dtype(config, dtype, target)
    # Not cast afterwards: some models keep parts in float32 on purpose.
    model, info = AutoModelForImageTextToText.from_pretrained(
        source, dtype=chosen, output_loading_info=True, **options
    )
    lacking = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    if unset := sorted(lacking & {name for name, _ in model.named_parameters()}):  # each of tied ones once
        raise UnusableModel(
            f"{len(unset)} of its weights are not in the checkpoint, {unset[0]} among them, and would stay "
            "random: the download is not complete, or config.json is of another model"
        )
    return Loaded(model=model.to(target).eval(), processor=processor, dtype=chosen)


def _check_own_code(source: str, revision: str) -> None:
    """Checks that a checkpoint's own code has a captioning class, before the user is asked to allow that code."""
    from transformers import CONFIG_MAPPING, PreTrainedConfig

    stored, _ = PreTrainedConfig.get_config_dict(source, revision=revision)
    own = stored.get("auto_map") or {}
    if own and "AutoModelForImageTextToText" not in own and stored.get("model_type") not in CONFIG_MAPPING:
        raise UnusableModel(
            f"its own code has no AutoModelForImageTextToText (it has {', '.join(sorted(own))}), and transformers has "
            f"no class for {stored.get('model_type')!r}; use the repository that is converted for transformers, often "
            "the one that ends in -hf"
        )


def _register_tower(source: str, revision: str) -> None:
    """The vision tower of the embedded captioner, and of what is trained from it, is a class of this project."""
    from transformers import PreTrainedConfig

    stored, _ = PreTrainedConfig.get_config_dict(source, revision=revision)
    if (stored.get("vision_config") or {}).get("model_type") == "reelpack_efficientnet_lite":
        import caption.llava.vision  # noqa: F401


def _pick_dtype(config: Any, name: str, device: Any) -> Any:
    import torch

    if name != "auto":
        return getattr(torch, name)
    stored = config.dtype or getattr(config.get_text_config(), "dtype", None) or torch.float32
    if device.type != "cpu" or stored == torch.float32:
        return stored
    # CPUs without bfloat16 units emulate it, and none has float16 kernels for everything that models use.
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def _why_not(error: Exception) -> str:
    """What transformers said, and what to do."""
    if isinstance(error, UnpicklingError):  # torch advises to run what is in the file
        return (
            "its weights hold more than tensors, which could run code; expected those of its repository as safetensors"
        )
    said = f"transformers cannot load it as an image-text-to-text model: {type(error).__name__}: {str(error).strip()}"
    if len(said) > MAX_MESSAGE:  # some list every class that there is
        said = f"{said[:MAX_MESSAGE]}…"
    if isinstance(error, ImportError):
        return f"{said}\nInstall it; `pip install 'reelpack[caption]'` brings what the models in README.md need"
    return (
        f"{said}\nExpected a local folder with config, weights, tokenizer and processor, or a hub id of a model whose "
        "class transformers has (often the repository that ends in -hf), complete in the cache or in reach"
    )
