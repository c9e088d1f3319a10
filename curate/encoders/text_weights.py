"""Weights and tokenizer of a text encoder, as transformers or a pipeline of diffusers stores them.

Of encoder–decoders (T5, UMT5) the encoder alone is loaded, of models of images and texts (CLIP) the text tower, and
everything else through `AutoModel`. Of a causal language model that is the stack of layers without its head.
"""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from curate.encoders import torchvision_cpu
from curate.encoders.fingerprint import path_digest
from curate.encoders.manifest import ASSETS
from curate.encoders.pipeline_folder import model_folder, variant_of
from curate.encoders.text_config import TextEncoderConfig
from curate.schema import content_digest

PART = "text_encoder"
WEIGHTS = "model|pytorch_model"
UNUSED = ("pooler.", "text_projection.")
"""Weights that no token state depends on: many checkpoints lack them."""


def load(config: TextEncoderConfig) -> tuple[Any, Any]:
    """The model, on the CPU, and its tokenizer.

    Raises:
        MissingWeights: embedded weights that were not fetched.
        ValueError: transformers cannot load one of them, or weights are missing.
    """
    torchvision_cpu.repair()
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

    source, options = _place(config, config.subfolder)
    tokens, of_tokens = _place(config, _tokenizer_folder(config.subfolder))
    variant = variant_of(Path(source), WEIGHTS) if config.path else None
    try:
        architecture = AutoConfig.from_pretrained(source, **options)
        encodes_text = architecture.is_encoder_decoder or type(architecture) in MODEL_FOR_TEXT_ENCODING_MAPPING
        loader = AutoModelForTextEncoding if encodes_text else AutoModel
        dtype = getattr(torch, config.dtype)
        model, report = loader.from_pretrained(
            source, dtype=dtype, variant=variant, output_loading_info=True, **options
        )
        tokenizer = AutoTokenizer.from_pretrained(tokens, **of_tokens)
    except (EOFError, LookupError, OSError, RuntimeError, SafetensorError, UnpicklingError, ValueError) as error:
        is_pickle = isinstance(error, UnpicklingError)
        said = "its weights hold more than tensors, which could run code" if is_pickle else error
        raise ValueError(
            f"text encoder model {_name(config)}: transformers cannot load it. Expected embedded weights "
            f"({', '.join(ASSETS)}), a local folder with config and tokenizer, or a hub id; in a pipeline "
            f"of diffusers text.subfolder=text_encoder names the folder: {said}"
        ) from error
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(UNUSED))
    if missing:
        raise ValueError(
            f"text encoder model {_name(config)}: its weights lack {len(missing)} tensors: {missing[0]} …"
        )
    model = getattr(model, "text_model", model)
    if model.main_input_name != "input_ids":
        raise ValueError(f"text encoder model {_name(config)}: {type(model).__name__} does not read texts")
    return model, tokenizer


def text_config(model: Any) -> Any:
    """Of the part that reads text."""
    return model.config.get_text_config()


def content_of(config: TextEncoderConfig) -> str:
    """Names weights and tokenizer: by content, or those of a hub id by its commit.

    Raises:
        MissingWeights: embedded weights that were not fetched.
        ValueError: `subfolder` does not exist.
    """
    subfolder = config.subfolder
    if config.path is None:
        return f"hub:{config.model}@{config.revision}" + (f"/{subfolder}" if subfolder else "")
    folders = sorted({_place(config, name)[0] for name in (subfolder, _tokenizer_folder(subfolder))})
    digests = [path_digest(Path(folder)) for folder in folders]
    return digests[0] if len(digests) == 1 else content_digest("pipeline", *digests)


def _place(config: TextEncoderConfig, subfolder: str | None) -> tuple[str, dict[str, Any]]:
    """Where transformers finds a folder, and its options."""
    root = config.path
    if root is not None:
        return str(model_folder(root, subfolder, "text", PART)), {}
    return config.model, {"revision": config.revision or "main", "subfolder": subfolder or ""}


def _tokenizer_folder(subfolder: str | None) -> str | None:
    """`tokenizer_2` of `text_encoder_2`; folders of another name hold their own."""
    return subfolder.replace(PART, "tokenizer", 1) if subfolder else None


def _name(config: TextEncoderConfig) -> str:
    return repr(config.model) + (f" in its folder {config.subfolder!r}" if config.subfolder else "")
