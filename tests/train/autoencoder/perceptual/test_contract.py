"""Every distance of frames: 0 for equal frames, larger for larger errors, with gradients, by a frozen network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args
from urllib.error import URLError

import pytest
import torch
from torch import nn

from curate.encoders import torchvision_cpu
from train.autoencoder.perceptual.config import FeaturesConfig, FrameDistanceConfig, LpipsConfig
from train.autoencoder.perceptual.features import Features
from train.autoencoder.perceptual.lpips_heads import Lpips

torchvision_cpu.repair()

import lpips  # noqa: E402
import timm  # noqa: E402
import torchvision  # noqa: E402

SLOW = pytest.mark.slow  # random weights of classifiers that nobody needs
CPU = torch.device("cpu")
NETS = {"alex": "alexnet", "squeeze": "squeezenet1_1", "vgg": "vgg16"}
SMALL_NET = "test_efficientnet"
SEEN = {"alex": (1, 4, 7, 9, 11), "squeeze": (1, 4, 7, 9, 10, 11, 12), "vgg": (3, 8, 15, 22, 29)}
"""Layers of torchvision's `features` that LPIPS compares."""


def saved(folder: Path, net: str) -> str:
    """A random network's state dict, without its classifier."""
    torch.manual_seed(0)
    with torch.device("meta"):
        layers = getattr(torchvision.models, NETS[net])().features
    state = {}
    for name, value in layers.state_dict().items():
        fan_in = value[0].numel()
        state[f"features.{name}"] = torch.randn(value.shape) * (2 / fan_in) ** 0.5
    torch.save(state, folder / f"{net}.pth")
    return str(folder / f"{net}.pth")


def saved_timm(folder: Path) -> str:
    torch.manual_seed(0)
    torch.save(timm.create_model(SMALL_NET).state_dict(), folder / "small.pth")
    return str(folder / "small.pth")


MEMBERS: dict[str, Callable[[Path], Any]] = {
    "lpips_squeeze": lambda folder: LpipsConfig(path=saved(folder, "squeeze")),
    "features_efficientnet_lite0": lambda folder: FeaturesConfig(),
    f"features_{SMALL_NET}": lambda folder: FeaturesConfig(model=SMALL_NET, path=saved_timm(folder)),
}


def frames(count: int, side: int) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("name", MEMBERS)
def test_a_distance_grows_with_the_error_and_has_gradients(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    config = MEMBERS[name](tmp_path)
    distance = config.build(CPU)
    assert distance.name == config.name == name and distance.min_side_px == config.min_side_px
    sources, noise = frames(2, distance.min_side_px), torch.randn(2, 3, 1, 1)
    assert distance(sources, sources).tolist() == [0, 0]
    near, far = (distance(sources, sources + share * noise) for share in (0.05, 0.5))
    assert near.shape == (2,) and near.dtype == torch.float32 and (near > 0).all() and (near < far).all()
    assert torch.equal(distance(sources, sources + 0.5 * noise), far)
    out = (sources + 0.5 * noise).bfloat16().requires_grad_()
    distance(sources, out).mean().backward()
    assert out.grad is not None and out.grad.isfinite().all() and out.grad.abs().sum() > 0
    assert not any(value.requires_grad for value in vars(distance).values() if isinstance(value, torch.Tensor))
    modules = [value for value in vars(distance).values() if isinstance(value, nn.Module)]
    assert modules and not any(p.requires_grad for module in modules for p in module.parameters())
    assert not any(module.training for module in modules)


def test_every_kind_is_tested() -> None:
    kinds = {member.model_fields["kind"].default for member in get_args(get_args(FrameDistanceConfig)[0])}
    assert kinds == {name.partition("_")[0] for name in MEMBERS}


@pytest.mark.parametrize("net", ["squeeze", pytest.param("alex", marks=SLOW), pytest.param("vgg", marks=SLOW)])
def test_lpips_is_that_of_its_paper(net: str, tmp_path: Path) -> None:
    path = saved(tmp_path, net)
    with torch.device("meta"):
        layers = getattr(torchvision.models, NETS[net])().features.eval()
    layers.load_state_dict({k.removeprefix("features."): v for k, v in torch.load(path).items()}, assign=True)
    heads = torch.load(Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth", map_location="cpu")
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])

    def seen(x: torch.Tensor) -> list[torch.Tensor]:
        x = (((x + 1) / 2) - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
        found = []
        for number, layer in enumerate(layers[: SEEN[net][-1] + 1]):
            x = layer(x)
            if number in SEEN[net]:
                found.append(x / x.square().sum(1, keepdim=True).sqrt().clamp(min=1e-10))
        return found

    one, other = frames(2, 32), frames(2, 32).flip(0)
    with torch.no_grad():
        pairs = zip(seen(one), seen(other), strict=True)
        terms = [
            (heads[f"lin{n}.model.1.weight"] * (a - b) ** 2).sum(1).mean((1, 2)) for n, (a, b) in enumerate(pairs)
        ]
        found = LpipsConfig.model_validate({"net": net, "path": path}).build(CPU)(one, other)
    torch.testing.assert_close(found, torch.stack(terms).sum(0), rtol=1e-3, atol=1e-5)


def test_a_network_that_cannot_be_downloaded_is_to_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fails)
    with pytest.raises(ValueError, match=r"lpips_squeeze: .*no network.*; give its file as `path`"):
        LpipsConfig().build(CPU)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"features.0.weight has the shape .*torchvision's squeeze"):
        Lpips(LpipsConfig(net="squeeze", path=saved(tmp_path, "alex")), CPU)
    with pytest.raises(ValueError, match=r"there is no .*; expected the state dict of timm's test_efficientnet"):
        Features(FeaturesConfig(model=SMALL_NET, path=saved(tmp_path, "squeeze")), CPU)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "nowhere.pth"}, "nowhere.pth is no file"),
        ({"path": "text.pth"}, "text.pth cannot be read"),
        ({"path": "text.safetensors"}, "text.safetensors cannot be read"),
        ({"path": "list.pth"}, "holds no state dict"),
        ({"model": "no_such", "path": "x"}, "has no architecture no_such"),
        ({"model": "test_vit", "path": "x"}, "takes frames of one size"),
        ({"model": SMALL_NET}, "got no path of its weights"),
    ],
)
def test_what_is_no_network_is_told(
    settings: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("text.pth", "text.safetensors"):
        Path(name).write_text("text")
    torch.save([1, 2], "list.pth")
    with pytest.raises(ValueError, match=message):
        FeaturesConfig.model_validate(settings).build(CPU)
