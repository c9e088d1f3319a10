"""Do the data fit what a run is to learn from them? Known from the indices alone."""

import logging

import pyarrow.compute as pc

from curate.errors import Missing
from train.data.blend import DEFAULT_BLEND, ORDER, BlendConfig
from train.data.config import DataConfig
from train.data.fingerprint import NO_TEXT, stored_gray, stored_lone_frames
from train.data.manifest import Manifest
from train.data.tasks.base import gray_of, lone_frames_of
from train.data.texts import levels_of, read_texts
from train.data.uncaptioned import captioned, why_uncaptioned
from train.model.config import ModelConfig

logger = logging.getLogger(__name__)


def check_uncaptioned(dataset: str, manifest: Manifest, split: str, data: DataConfig) -> None:
    """Say so where clips are trained on without the text that the model takes, as `train.data.uncaptioned` says.

    Args:
        dataset: its URL.
        manifest: of this dataset alone.
        split: "train" or "val".
        data: of the run.

    Raises:
        ValueError: a training clip has none, and they are to be refused; or no clip of a training split has any, and
            the dataset has captions that could be embedded.
    """
    bare = manifest.table["text_shard"].is_null()
    lacking = manifest.column("clip_id").filter(bare)
    missing = len(lacking)
    if not missing or (split != "train" and not manifest.has_texts):
        return
    is_all = missing == len(manifest) and split == "train"
    if data.uncaptioned == "allow":
        num_images = int(pc.sum(pc.equal(manifest.column("kind").filter(bare), "image")).as_py() or 0)
        logger.info(
            "%s: %d of %d %s clips are under the null caption on purpose (train.data.uncaptioned=allow); "
            "videos: %d, images: %d",
            dataset, missing, len(manifest), split, missing - num_images, num_images,
        )  # fmt: skip
        return
    if is_all and data.uncaptioned == "warn" and data.text == NO_TEXT["fingerprint"]:
        logger.warning(
            "%s: all %d training clips are trained under the null caption: train.data.text=none", dataset, missing
        )
        return
    clip_ids = set(lacking.to_pylist())
    why = why_uncaptioned(dataset, clip_ids)
    if split == "train" and data.uncaptioned == "refuse":
        raise Missing(
            f"{dataset}: {missing} of {len(manifest)} training clips have no text embedding, and "
            f"train.data.uncaptioned=refuse; {why}; or set it to allow to train them without captions"
        )
    if is_all and captioned(dataset, clip_ids):
        where = f"in text/{manifest.text['fingerprint']}" if manifest.has_texts else "(there is no text/)"
        raise Missing(
            f"{dataset}: none of the {missing} training clips has a text embedding {where}; {why}; or set "
            "train.data.uncaptioned=allow to train these clips without captions, train.data.text=none for all "
            "clips of the run"
        )
    if is_all:
        logger.warning("%s: all %d training clips are trained under the null caption: %s", dataset, missing, why)
        return
    logger.warning(
        "%s: %d of %d %s clips (%.1f %%) have no text embedding and count as clips without a caption: %s",
        dataset,
        missing,
        len(manifest),
        split,
        100 * missing / len(manifest),
        why,
    )


def check_blend(manifest: Manifest, blend: BlendConfig) -> None:
    """Say so where the clips do not have the levels of captions that a blend names.

    Raises:
        ValueError: no clip has any of them, and some have others.
    """
    texts = read_texts(manifest, ["names"])
    has = levels_of(texts)
    counts = dict(zip(ORDER, has.sum(0).tolist(), strict=True))
    known = texts.num_rows - texts["names"].null_count
    captioned, drawn = (int(part.any(1).sum()) for part in (has, has[:, [level in blend.levels for level in ORDER]]))
    if not captioned:
        return
    named = ", ".join(blend.levels)
    there = ", ".join(f"{level}: {count}" for level, count in counts.items() if count)
    if not drawn:
        raise ValueError(
            f"train.data.blend: got {named}, and no clip has such a text; of {known} clips have texts: {there}. Name "
            "one of these levels, or caption and encode the dataset again"
        )
    absent = [level for level in blend.levels if not counts[level]]
    if absent and blend != DEFAULT_BLEND:
        logger.warning(
            "train.data.blend: no clip has a text of level %s; of %d clips have texts: %s",
            ", ".join(absent), known, there,
        )  # fmt: skip
    if drawn < captioned:
        logger.warning(
            "train.data.blend: %d of %d clips with texts have none of %s: they are trained without a caption",
            captioned - drawn, captioned, named,
        )  # fmt: skip


def check_causality(manifest: Manifest, data: DataConfig) -> None:
    """See that nothing relies on the first latent frames of a video being those of its beginning, where its
    autoencoder normalizes over time: Hunyuan's and CogVideoX's.

    Raises:
        ValueError: names the setting.
    """
    if manifest.latents.get("is_causal", True):
        return
    why = (
        f"the autoencoder of latents {manifest.latents['fingerprint']} ({manifest.latents.get('autoencoder')}) lets "
        "later frames change the first latent ones"
    )
    if tasks := [task.kind for task in data.tasks if task.needs_causal and task.weight]:
        raise ValueError(
            f"train.data.tasks, {', '.join(tasks)}: {why}: a frame that is encoded alone has other latents than the "
            "same frame in a clip; remove the task, or encode with a causal autoencoder (reelpack_kl, Wan, LTX)"
        )
    if data.plan.oversize == "crop" and (manifest.num_tokens > data.plan.token_budget).any():
        raise ValueError(
            f"train.data.plan.oversize=crop: {why}, so that what is left of a latent is not that of a shorter clip; "
            "set it to own_pack or refuse, raise train.data.plan.token_budget, or lower encode.max_frames"
        )


def check_lone_frames(manifest: Manifest, data: DataConfig) -> None:
    """See that the pictures which tasks show are stored as they are encoded alone, as sampling encodes them.

    Raises:
        ValueError: says how to encode.
    """
    needed, stored = lone_frames_of(data.tasks), stored_lone_frames(manifest.latents)
    if needed == "none":
        return
    if stored == "last" and data.plan.oversize == "crop" and (manifest.num_tokens > data.plan.token_budget).any():
        needed = "all"  # other frames are the last ones of what is left
    if stored != "all" and stored != needed:
        kinds = ", ".join(task.kind for task in data.tasks if task.weight and task.lone_frames != "none")
        raise ValueError(
            f"train.data.tasks, {kinds}: they show frames of a clip as pictures, which are encoded alone, and latents "
            f"{manifest.latents['fingerprint']} have of these: {stored}; expected {needed}: encode with "
            f"encode.lone_frames={needed}, or with encode.store=false, which encodes them while training"
        )


def check_gray(manifest: Manifest, data: DataConfig, model: ModelConfig) -> None:
    """See that the gray videos which tasks show are stored, and that the model reads them.

    Raises:
        ValueError: says what to set.
    """
    kinds, latents = gray_of(data.tasks), manifest.latents
    takes = manifest.channels + int(latents["temporal_stride"])
    if not kinds and not model.shown:
        return
    if model.shown != (takes if kinds else 0):
        remedy = (
            f"a model of shown_channels {takes} (`train-import` of Wan image-to-video), or another task"
            if kinds
            else "train.data.tasks=[{kind: gray_video}], and encode.gray=[first]"
        )
        raise ValueError(
            f"train.model.shown_channels is {model.shown}, and the tasks show "
            f"{'gray videos: ' + ', '.join(kinds) if kinds else 'no gray video'}; latents "
            f"{latents['fingerprint']} have {manifest.channels} channels and a mask {takes - manifest.channels}; "
            f"expected {remedy}"
        )
    stored = stored_gray(latents)
    if lacking := [kind for kind in kinds if kind not in stored]:
        raise ValueError(
            f"train.data.tasks, gray_video: latents {latents['fingerprint']} have gray videos of "
            f"{', '.join(stored) or 'none'}, and the tasks show {', '.join(kinds)}: encode with "
            f"encode.gray=[{', '.join(dict.fromkeys([*stored, *lacking]))}]"
        )
    crops = data.plan.oversize == "crop" and (manifest.num_tokens > data.plan.token_budget).any()
    if crops and "both_ends" in kinds:
        raise ValueError(
            "train.data.tasks, gray_video of both_ends: train.data.plan.oversize=crop cuts the end off; set it to "
            "own_pack or refuse, or lower encode.max_frames"
        )
    _check_pictures(manifest, 2 if "both_ends" in kinds else 1, model)


def _check_pictures(manifest: Manifest, most: int, model: ModelConfig) -> None:
    """`most`: pictures of a sample."""
    needed, stored = model.pictures, manifest.latents.get("picture")
    if needed is None:
        return
    states = most * stored["states"] if stored else 0
    if stored and stored["dim"] == needed.dim and states <= (needed.positions or states):
        return
    has = f"pictures of {stored['states']} states of {stored['dim']} features" if stored else "no states of pictures"
    limit = "" if needed.positions is None else f", at most {needed.positions} for a sample of {most}"
    raise ValueError(
        f"train.model.picture: the model reads states of {needed.dim} features{limit}, and latents "
        f"{manifest.latents['fingerprint']} have {has}; encode with the model's image encoder: "
        "encode.picture.model=PIPELINE"
    )
