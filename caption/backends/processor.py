"""A model's processor (tokenizer, image processor, chat template) for frames that are passed as images.

`AutoProcessor` loads another processor without torchvision: it hands `backend="pil"` on to the video processor,
which has no such backend, and it needs torchvision for a video processor even where no video is passed. Here each part
comes through its own Auto class, and nothing takes the video processor's place.
"""

import json
from typing import Any

import numpy as np
from transformers import (
    AutoImageProcessor,
    AutoProcessor,
    AutoTokenizer,
    ImageProcessingMixin,
    PreTrainedConfig,
)
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING, processor_class_from_name
from transformers.utils import cached_file

from caption.backends.base import UnusableModel

CLASS_FILES = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
"""Where repositories name the class of their processor; the first that does counts, then tokenizer_config.json."""

PROBE = "probe"


class NoVideoProcessor(ImageProcessingMixin):
    """Stands where processors want a video processor. It is never called: frames are images."""

    model_input_names = ()
    num_frames = None  # SmolVLM's processor passes both on
    fps = None


def load_processor(source: str, config: PreTrainedConfig, *, revision: str, trust_remote_code: bool) -> Any:
    """The processor in a folder or of a hub id, pads on the left, images through PIL: equal pixels everywhere.

    Args:
        source: a local folder or a hub id.
        config: the model's, of the same source.
        revision: of a hub id.
        trust_remote_code: run a processor class that comes with the source.

    Raises:
        UnusableModel: no processor class, or no chat template that shows images and text to the model.
        ImportError, OSError and others: as transformers fails to load a part.
    """
    options = {"revision": revision, "trust_remote_code": trust_remote_code}
    named = _named(source, revision)
    if trust_remote_code and "AutoProcessor" in named.get("auto_map", {}):
        processor = AutoProcessor.from_pretrained(source, **options)
    else:
        processor = _from_parts(_class(named, config), config, source, options)
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is None:
        raise UnusableModel(
            f"its {type(processor).__name__} has no tokenizer: it does not write text; use another model"
        )
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if processor.chat_template is None:  # older repositories keep it in tokenizer_config.json
        processor.chat_template = tokenizer.chat_template
    _check_template(processor)
    return processor


def conversation(frames: np.ndarray, prompt: str) -> list[dict[str, Any]]:
    """One turn of the user: the frames, `(T, H, W, 3)` uint8 RGB in order of time, then the prompt."""
    from PIL import Image

    # PIL's: some processors take no other, and of an array of 3 rows it is not known which axis holds the colors.
    images = [{"type": "image", "image": Image.fromarray(frame)} for frame in frames]
    return [{"role": "user", "content": [*images, {"type": "text", "text": prompt}]}]


def control_tokens(processor: Any) -> set[str]:
    """Texts that the tokenizer reads as something else than text: turns, images, ends."""
    return {
        token.content for token in processor.tokenizer.added_tokens_decoder.values() if not token.content.isspace()
    }


def _named(source: str, revision: str) -> dict[str, Any]:
    """The first of the source's files that names a processor class."""
    for name in (*CLASS_FILES, "tokenizer_config.json"):
        file = cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=False)
        if file is None:
            continue
        with open(file, encoding="utf-8") as text:
            content: dict[str, Any] = json.load(text)
        if content.get("processor_class") or "AutoProcessor" in content.get("auto_map", {}):
            return content
    return {}


def _class(named: dict[str, Any], config: PreTrainedConfig) -> Any:
    name = named.get("processor_class") or getattr(config, "processor_class", None)
    found = processor_class_from_name(name) if name else None
    if found is None and type(config) in PROCESSOR_MAPPING:
        found = PROCESSOR_MAPPING[type(config)]
    if found is None:
        raise UnusableModel(
            f"transformers knows no processor for {type(config).__name__} (it names {name!r}): it is no "
            "image-text-to-text model, or too new; use another"
        )
    return found


def _from_parts(processor_class: Any, config: PreTrainedConfig, source: str, options: dict[str, Any]) -> Any:
    parts = []
    for name in processor_class.get_attributes():
        if name == "tokenizer":
            parts.append(AutoTokenizer.from_pretrained(source, **options))
        elif name == "image_processor":
            parts.append(_image_processor(config, source, options))
        elif name == "video_processor":
            parts.append(NoVideoProcessor())
            processor_class = _without_video(processor_class)
        else:
            raise UnusableModel(f"its {processor_class.__name__} wants a {name}; use a model of images and text alone")
    settings, _ = processor_class.get_processor_dict(source, revision=options["revision"])
    return processor_class.from_args_and_dict(parts, settings)


def _image_processor(config: PreTrainedConfig, source: str, options: dict[str, Any]) -> Any:
    """The one that the source names, or, where transformers knows no such name any more, the one of its model."""
    try:
        return AutoImageProcessor.from_pretrained(source, backend="pil", **options)
    except ValueError:
        if type(config) not in IMAGE_PROCESSOR_MAPPING:
            raise
        return IMAGE_PROCESSOR_MAPPING[type(config)]["pil"].from_pretrained(source, **options)


def _without_video(processor_class: Any) -> Any:
    """The same class without the check that wants a real video processor (whose base class needs torchvision)."""

    class WithoutVideo(processor_class):
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            if isinstance(argument, NoVideoProcessor):
                return NoVideoProcessor
            return super().check_argument_for_proper_class(argument_name, argument)

    WithoutVideo.__name__ = processor_class.__name__
    return WithoutVideo


def _check_template(processor: Any) -> None:
    """That the chat template exists and puts both an image and the prompt before the model."""
    if not processor.chat_template:
        raise UnusableModel(
            "its processor has no chat template: how to ask it is unknown. Use a model tuned for instructions (often "
            "named -Instruct, -hf or -it), or put its template as chat_template.jinja into a local copy"
        )
    image = {"type": "image"}
    texts = [
        processor.apply_chat_template(
            [{"role": "user", "content": [*[image] * count, {"type": "text", "text": PROBE}]}],
            add_generation_prompt=True, tokenize=False,
        )
        for count in (1, 2)
    ]  # fmt: skip
    if any(PROBE not in text for text in texts) or texts[0] == texts[1]:
        raise UnusableModel(
            "its chat template leaves out the images or the text: it is one for text alone. Put the template of the "
            "model with images as chat_template.jinja into a local copy"
        )
