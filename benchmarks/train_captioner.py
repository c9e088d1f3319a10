"""Two-stage training of a captioner, end to end on a CPU: what is learned, and whether it looks at the clips.

    python -m benchmarks.train_captioner [OUT] [--clips 384]

Generated films of a colored shape that moves one way, with their captions, go through `curate`, `train-captioner` and
`caption`. The captioner is a LLaVA of half a million weights, put together as LLaVA is: a language model that was
trained on texts (captions behind words that say what they are about), a vision tower that was trained on images
(frames, with what their patches show), and a new projector. Printed are loss and grounding on held-out clips before
and after each stage, and how many held-out clips get exactly their caption; and the same where captions belong to
other clips, which cannot be learned from the frames. A stopped run resumes.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import described
from curate.dataset.dataset import Dataset
from curate.dataset.schemas import CAPTIONS
from curate.encoders import torchvision_cpu
from curate.media.encode import encode_mp4
from curate.report.captioner import COLUMNS, grounding_cells
from curate.shards.tar import TarReader, payload_digest, read_member
from pipelines.config import Config, load_config
from pipelines.dataset import config_of
from pipelines.drivers.caption import caption
from pipelines.drivers.curate import curate
from pipelines.drivers.train_captioner import CaptionerSummary, train_captioner

COLORS = {"red": (220, 50, 40), "green": (60, 180, 70), "blue": (60, 90, 220), "yellow": (230, 200, 60)}
SHAPES = ("disc", "square")
MOVES = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
SIDE_PX, NUM_FRAMES, FPS = 64, 16, 8
IMAGE_PX, PATCH_PX, WIDTH = 32, 8, 96
PROMPT = "Describe this video briefly."
NUM_HINTS, ANSWER_TOKENS = 64, 7
IMAGE_MEAN, IMAGE_STD = 0.4, 0.23
STAGES: Sequence[Mapping[str, Any]] = (
    {"name": "projector", "lr": {"projector": 2e-3}, "tasks": {"short": 1}, "steps": 150, "batch_size": 16,
     "warmup": 0.1},
    {"name": "captions", "lr": {"projector": 1e-3, "lora": 2e-3}, "tasks": {"short": 1}, "steps": 500,
     "batch_size": 16, "warmup": 0.1},
)  # fmt: skip
CHAT_TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}:{% endif %}"
)


def text_of(color: str, shape: str, move: str) -> str:
    return f"A {color} {shape} moves {move}."


def image(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(SIDE_PX, SIDE_PX, 3) uint8: a shape on a ground of gray blocks; and what each patch of it shows, (patches,)
    int64: 0 where it is the ground, else color and shape."""
    color, shape = int(rng.integers(len(COLORS))), int(rng.integers(len(SHAPES)))
    ground, center = _ground(rng), rng.uniform(8, SIDE_PX - 8, 2)
    frame = _drawn(ground, list(COLORS.values())[color], SHAPES[shape], center, rng.uniform(8, 12))
    patches = SIDE_PX * PATCH_PX // IMAGE_PX
    covered = (frame != ground).any(2).reshape(SIDE_PX // patches, patches, -1, patches).mean((1, 3)).flatten() > 0.2
    return frame, np.where(covered, 1 + color * len(SHAPES) + shape, 0)


def film(color: str, shape: str, move: str, rng: np.random.Generator) -> np.ndarray:
    """(NUM_FRAMES, SIDE_PX, SIDE_PX, 3) uint8: a shape that moves over a ground of gray blocks."""
    ground, radius, reach = _ground(rng), rng.uniform(8, 12), rng.uniform(14, 20)
    center = rng.uniform(26, 38, 2)
    places = [center + along * np.array(MOVES[move]) for along in np.linspace(-reach, reach, NUM_FRAMES)]
    return np.stack([_drawn(ground, COLORS[color], shape, place, radius) for place in places])


def _ground(rng: np.random.Generator) -> np.ndarray:
    blocks = rng.integers(60, 130, (8, 8, 1), np.uint8).repeat(3, 2)
    return blocks.repeat(SIDE_PX // 8, 0).repeat(SIDE_PX // 8, 1)


def _drawn(
    ground: np.ndarray, color: tuple[int, int, int], shape: str, center: np.ndarray, radius: float
) -> np.ndarray:
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    dy, dx = y - center[0], x - center[1]
    inside = np.hypot(dy, dx) < radius if shape == "disc" else np.maximum(abs(dy), abs(dx)) < radius * 0.9
    frame = ground.copy()
    frame[inside] = color
    return frame


def write_films(folder: Path, num_clips: int) -> None:
    """Films named by what they show."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = [(color, shape, move) for color in COLORS for shape in SHAPES for move in MOVES]
    for number in range(num_clips):
        kind = kinds[number % len(kinds)]
        path = folder / f"{'-'.join(kind)}-{number:04}.mp4"
        path.write_bytes(encode_mp4(film(*kind, np.random.default_rng(number)), FPS))


def make_dataset(folder: Path, num_clips: int) -> tuple[Dataset, dict[str, str]]:
    """A dataset of the films, and clip id → caption."""
    films, out = folder / "films", folder / "dataset"
    dataset = Dataset(str(out))
    if not out.exists():
        write_films(films, num_clips)
        settings = ["score.scorers=null", "dedup.perceptual.enabled=false", "select.rules={}",
                    "execute.executor=local", "select.split.val_fraction=0.15",
                    f"shards.encode.short_side_px={SIDE_PX}"]  # fmt: skip
        curate([str(films)], str(out), load_config(overrides=settings))
    names = {row["video_id"]: Path(row["uri"]).stem.split("-")[:3] for row in dataset.videos.rows()}
    texts = {row["clip_id"]: text_of(*names[row["video_id"]]) for row in dataset.read_index().to_pylist()}
    return dataset, texts


def set_captions(dataset: Dataset, texts: Mapping[str, str], family: str) -> None:
    """Make these the captions of a dataset."""
    reader = TarReader(dataset.layout.shards)
    numbers = dict.fromkeys(("num_prompt_tokens", "num_output_tokens", "max_tokens", "variant"), 0) | {"attempt": 1}
    empty = dict.fromkeys(CAPTIONS.names, "") | dict.fromkeys(("findings", "earlier", "parents", "windows"), ())
    rows = [
        empty | numbers | {
            "clip_id": row["clip_id"], "media_digest": payload_digest(read_member(reader, row)), "level": "short",
            "status": "ok", "text": texts[row["clip_id"]], "frame_indices": (), "frame_times_s": (),
            "provenance": {"backend": "known", "model": "known"},
        }
        for row in dataset.read_index().to_pylist()
    ]  # fmt: skip
    dataset.captions(family).publish(rows)
    dataset.save_section("caption_family", family)
    dataset.write_index(config_of(dataset).shards.key)


def make_llava(folder: Path, texts: Sequence[str]) -> Path:
    """A LLaVA whose language model has learned texts, and whose vision tower has learned images."""
    if folder.is_dir():
        return folder
    import transformers as tf
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<pad>", "<s>", "</s>", "<unk>", "<image>"]
    tokenizer.train_from_iterator([*texts, PROMPT, "ground", ":"], trainers.WordLevelTrainer(special_tokens=special))
    wrapped = tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4}
    text_config = tf.LlamaConfig(
        **sizes, hidden_size=WIDTH, intermediate_size=2 * WIDTH, vocab_size=len(wrapped), pad_token_id=0,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    config = tf.LlavaConfig(
        # The usual initialization is so small that every image looks the same, and nothing is learned from them.
        vision_config=tf.CLIPVisionConfig(
            **sizes, hidden_size=64, intermediate_size=128, image_size=IMAGE_PX, patch_size=PATCH_PX,
            initializer_factor=5.0,
        ),
        text_config=text_config,
        image_token_index=wrapped.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=(IMAGE_PX // PATCH_PX) ** 2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = tf.LlavaForConditionalGeneration(config)
    _learn_texts(model, wrapped)
    _learn_images(model.model.vision_tower)
    processor = tf.LlavaProcessor(
        image_processor=tf.CLIPImageProcessorPil(
            size={"height": IMAGE_PX, "width": IMAGE_PX}, do_center_crop=False, image_mean=[IMAGE_MEAN] * 3,
            image_std=[IMAGE_STD] * 3,
        ),
        tokenizer=wrapped, patch_size=PATCH_PX, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=CHAT_TEMPLATE,
    )  # fmt: skip
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _learn_texts(model: Any, tokenizer: Any, steps: int = 600) -> None:
    """The language model alone, on captions behind words that say what they are about, or not: among NUM_HINTS words
    each one of the caption's stands with a share drawn per text. So it answers from its context, as language models
    do, and writes likely captions where that says nothing."""
    rng = np.random.default_rng(0)
    weights = [*model.model.language_model.parameters(), *model.lm_head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=2e-3)
    for _ in range(steps):
        rows = []
        for _ in range(16):
            kind = [str(rng.choice(list(names))) for names in (COLORS, SHAPES, MOVES)]
            share = rng.choice((0.0, 0.3, 0.9))
            hints = [kind[rng.integers(3)] if rng.random() < share else "ground" for _ in range(NUM_HINTS)]
            rows.append(f"{' '.join(hints)} {PROMPT}: {text_of(*kind)}")
        ids = torch.tensor([[*tokenizer(row, add_special_tokens=False).input_ids, 2] for row in rows])
        labels = ids.clone()
        labels[:, :-ANSWER_TOKENS] = -100
        _update(optimizer, model(input_ids=ids, labels=labels).loss)


def _learn_images(tower: Any, steps: int = 400) -> None:
    """The vision tower alone on single frames: which color and shape is in each of its patches, if any."""
    rng = np.random.default_rng(1)
    head = torch.nn.Linear(tower.config.hidden_size, 1 + len(COLORS) * len(SHAPES))
    optimizer = torch.optim.AdamW([*tower.parameters(), *head.parameters()], lr=1e-3)
    for _ in range(steps):
        drawn = [image(rng) for _ in range(32)]
        small = np.stack([frame for frame, _ in drawn]).reshape(32, IMAGE_PX, 2, IMAGE_PX, 2, 3).mean((2, 4)) / 255
        pixels = torch.from_numpy((small - IMAGE_MEAN) / IMAGE_STD).permute(0, 3, 1, 2).float()
        states = tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-1]
        labels = torch.from_numpy(np.stack([label for _, label in drawn])).flatten()
        _update(optimizer, torch.nn.functional.cross_entropy(head(states[:, 1:]).flatten(0, 1), labels))


def _update(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def settings(model: Path) -> Config:
    given = {"model": str(model), "dtype": "float32", "device": "cpu", "stages": list(STAGES), "num_evaluated": 64,
             "lora": {"rank": 32, "dropout": 0}}  # fmt: skip
    return Config.model_validate({"train_captioner": given})


def exact(dataset: Dataset, trained: CaptionerSummary, texts: Mapping[str, str]) -> tuple[int, int]:
    """Held-out clips whose caption by the trained model is exactly theirs, of how many."""
    overrides = (trained.caption_command or "").split(" --set ")[1:]
    overrides += ["caption.short_max_tokens=8", "caption.dense_max_tokens=1", "caption.max_attempts=1"]
    caption(dataset.url, load_config(overrides=[*overrides, "execute.executor=local"]))
    held_out = [row for row in dataset.read_index().to_pylist() if row["split"] == "val"]
    # The tokenizer, of whole words, writes a space before the full stop.
    said = [(row["caption_short"] or "").replace(" .", ".") == texts[row["clip_id"]] for row in held_out]
    return sum(said), len(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path, nargs="?", help="folder; none: a temporary one")
    parser.add_argument("--clips", type=int, default=384, help="films that are made")
    arguments = parser.parse_args()
    torchvision_cpu.repair()
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        console = Console(width=120, highlight=False)
        start = time.monotonic()
        dataset, texts = make_dataset(out, arguments.clips)
        model = make_llava(out / "llava", sorted(texts.values()))
        console.print(f"{described()}\n{len(texts)} clips and the model: {time.monotonic() - start:.0f} s")
        ids = sorted(texts)
        other = dict(zip(ids, np.random.default_rng(0).permutation([texts[name] for name in ids]), strict=True))
        for name, captions in (("own captions", texts), ("captions of other clips", other)):
            start = time.monotonic()
            set_captions(dataset, captions, f"known-{name.split()[-2]}")
            trained = train_captioner(dataset.url, out / name.replace(" ", "-"), settings(model))
            seconds = time.monotonic() - start
            table = Table(*COLUMNS, title=f"{name}, {seconds:.0f} s", box=None, pad_edge=False)
            for row in trained.rows:
                if "when" in row:
                    table.add_row(*grounding_cells(row))
            console.print(table)
            for note in trained.notes:
                console.print(f"note: {note}")
            right, number = exact(dataset, trained, texts)
            console.print(f"held-out clips with exactly their caption: {right} of {number}\n")


if __name__ == "__main__":
    main()
