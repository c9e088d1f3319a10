#!/bin/sh
# Guess: open_clip computes weights that it knows by a tag as they were trained: activation and preprocessing belong to
# them. The path of a checkpoint, with the name of its architecture, is treated as the tag of that architecture is.
# Behaviour: the activation is that of the name alone. `ViT-L-14` with `openai`, its best known weights, gets GELU, and
# was trained with QuickGELU: embeddings are wrong, and a UserWarning is all that is said. So it is for 27 pairs, among
# them the DFN and MetaCLIP ones. And a path gets the mean, deviation and cropping of CLIP: wrong for SigLIP, which was
# trained on whole pictures squashed to a square, and for MobileCLIP; nothing is said.
# So: force_quick_gelu=True where the tag's configuration has it and the model's has not; for a path, image_mean,
# image_std, image_interpolation and image_resize_mode of the architecture's tags.
# Seen with open_clip_torch 3.3.0 (random weights: what is shown is configuration, no download).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q open_clip_torch==3.3.0 torch==2.13.0 torchvision==0.28.0
"$folder/venv/bin/python" - "$folder" <<'END'
import sys

import torch

# A torch without CUDA lacks two operators that torchvision 0.28 looks up at its import; they are not called here.
if torch.version.cuda is None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import open_clip
from open_clip.pretrained import get_pretrained_cfg

pairs = open_clip.list_pretrained()
wrong = [
    f"{model}:{tag}"
    for model, tag in pairs
    if get_pretrained_cfg(model, tag).get("quick_gelu") and not open_clip.get_model_config(model).get("quick_gelu")
]
print(f"{len(wrong)} of {len(pairs)} pairs get another activation than they were trained with:", *wrong[:12], "...")
assert "ViT-L-14:openai" in wrong, "the behaviour has changed"

name = "MobileCLIP2-S0"
path = f"{sys.argv[1]}/weights.pt"
torch.save(open_clip.create_model(name).state_dict(), path)
model, preprocess = open_clip.create_model_from_pretrained(name, path)
(tag,) = [tag for known, tag in pairs if known == name]
trained = get_pretrained_cfg(name, tag)
print(f"{name} from a path: mean {model.visual.preprocess_cfg['mean']}; trained with {trained['mean']}")
assert tuple(model.visual.preprocess_cfg["mean"]) != tuple(trained["mean"]), "the behaviour has changed"
END
