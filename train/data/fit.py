"""Do the data fit what a run is to learn from them? Known from the indices alone."""

import logging

from train.data.config import DataConfig
from train.data.manifest import Manifest

logger = logging.getLogger(__name__)


def warn_of_uncaptioned(dataset: str, manifest: Manifest, split: str) -> None:
    """Say so where clips are trained on without the text that the model takes.

    Raises:
        ValueError: no clip of a training split has any.
    """
    missing = manifest.table["text_shard"].null_count
    if not missing:
        return
    remedy = f"run `reelpack caption {dataset}`, then `reelpack encode {dataset}`"
    if missing == len(manifest) and split == "train":
        raise ValueError(
            f"{dataset}: none of the {missing} training clips has a text embedding in text/"
            f"{manifest.text['fingerprint']}; {remedy}, or set train.model.text=none to train without captions"
        )
    logger.warning(
        "%s: %d of %d %s clips (%.1f %%) have no text embedding and count as clips without a caption; %s",
        dataset,
        missing,
        len(manifest),
        split,
        100 * missing / len(manifest),
        remedy,
    )


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
