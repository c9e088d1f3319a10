"""Imported weights give the outputs of the published forward, written out here, and of diffusers' model."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from curate.encoders.torchvision_cpu import repair
from train.convert.dit import from_diffusers, from_dit_state_dict, read_checkpoint, to_diffusers
from train.convert.layouts import inflate_embedding, ours_from_published, published_from_diffusers
from train.model.dit import DiT
from train.packing.batch import Sample, pack, unpack

WIDTH, HEADS, DEPTH, CHANNELS, PATCH, CLASSES, SIDE = 32, 4, 2, 3, 2, 5, 8
# Timesteps are given as i / 1000; these come back exactly from the multiplication.
TIMESTEPS, LABELS = [0, 17, 500, 999], [0, 4, None, 2]


def published_state(seed: int = 0) -> dict[str, Tensor]:
    """Random weights under the names of facebookresearch/DiT, with learned variances."""
    generator = torch.Generator().manual_seed(seed)
    out = PATCH**2 * 2 * CHANNELS
    shapes = {
        "x_embedder.proj": (WIDTH, CHANNELS, PATCH, PATCH),
        "t_embedder.mlp.0": (WIDTH, 256),
        "t_embedder.mlp.2": (WIDTH, WIDTH),
        "final_layer.adaLN_modulation.1": (2 * WIDTH, WIDTH),
        "final_layer.linear": (out, WIDTH),
    }
    for i in range(DEPTH):
        shapes |= {
            f"blocks.{i}.attn.qkv": (3 * WIDTH, WIDTH),
            f"blocks.{i}.attn.proj": (WIDTH, WIDTH),
            f"blocks.{i}.mlp.fc1": (4 * WIDTH, WIDTH),
            f"blocks.{i}.mlp.fc2": (WIDTH, 4 * WIDTH),
            f"blocks.{i}.adaLN_modulation.1": (6 * WIDTH, WIDTH),
        }
    state = {"y_embedder.embedding_table.weight": torch.randn(CLASSES + 1, WIDTH, generator=generator)}
    for name, shape in shapes.items():
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) / shape[1] ** 0.5
        state[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
    return state


def published_forward(state: dict[str, Tensor], x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    """models.py of facebookresearch/DiT, written out: (N, C, H, W), (N,) integers, (N,) classes to (N, 2 C, H, W)."""

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return F.layer_norm(x, (WIDTH,), eps=1e-6) * (1 + scale[:, None]) + shift[:, None]

    side = x.shape[-1] // PATCH
    h = F.conv2d(x, state["x_embedder.proj.weight"], state["x_embedder.proj.bias"], stride=PATCH)
    h = h.flatten(2).transpose(1, 2)  # (N, T, D)
    omega = 10_000.0 ** -(torch.arange(WIDTH // 4, dtype=torch.float64) / (WIDTH / 4))
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [place.flatten()[:, None] * omega for place in (columns, rows)]  # the column comes first
    h = h + torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], dim=1).float()
    frequencies = torch.exp(-torch.log(torch.tensor(10_000.0)) * torch.arange(128) / 128)
    args = t[:, None].float() * frequencies
    c = linear("t_embedder.mlp.2", F.silu(linear("t_embedder.mlp.0", torch.cat([args.cos(), args.sin()], dim=-1))))
    c = F.silu(c + state["y_embedder.embedding_table.weight"][labels])
    for i in range(DEPTH):
        block = f"blocks.{i}"
        shift1, scale1, gate1, shift2, scale2, gate2 = linear(f"{block}.adaLN_modulation.1", c).chunk(6, dim=1)
        qkv = linear(f"{block}.attn.qkv", norm(h, shift1, scale1)).unflatten(-1, (3, HEADS, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (N, heads, T, D_head)
        attended = (q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5).softmax(-1) @ v
        h = h + gate1[:, None] * linear(f"{block}.attn.proj", attended.transpose(1, 2).flatten(2))
        hidden = F.gelu(linear(f"{block}.mlp.fc1", norm(h, shift2, scale2)), approximate="tanh")
        h = h + gate2[:, None] * linear(f"{block}.mlp.fc2", hidden)
    shift, scale = linear("final_layer.adaLN_modulation.1", c).chunk(2, dim=1)
    out = (
        linear("final_layer.linear", norm(h, shift, scale))
        .unflatten(1, (side, side))
        .unflatten(-1, (PATCH, PATCH, -1))
    )
    return torch.einsum("nhwpqc->nchpwq", out).reshape(len(x), -1, side * PATCH, side * PATCH)


def images() -> list[Sample]:
    generator = torch.Generator().manual_seed(1)
    return [
        Sample(
            clip_id=str(i),
            latent=torch.randn(CHANNELS, 1, SIDE, SIDE, generator=generator),
            noise=torch.zeros(CHANNELS, 1, SIDE, SIDE),
            timestep=i / 1000,
            fps=0.0,
            text=None,
            label=label,
        )
        for i, label in zip(TIMESTEPS, LABELS, strict=True)
    ]


def inputs(samples: list[Sample]) -> tuple[Tensor, Tensor, Tensor]:
    """What the published models take; "no label" is the class after the last."""
    labels = [CLASSES if sample.label is None else sample.label for sample in samples]
    return torch.stack([sample.latent[:, 0] for sample in samples]), torch.tensor(TIMESTEPS), torch.tensor(labels)


@torch.no_grad()
def output(model: DiT, samples: list[Sample]) -> Tensor:
    """(N, 2 C, H, W) of images in one pack."""
    batch = pack(samples, model.config.patch, model.text_dim, model.config.conditions)
    out = model(batch.tokens, batch.timesteps, batch)
    halves = [torch.stack(unpack(half, batch, model.config.patch)) for half in out.chunk(2, dim=-1)]
    return torch.cat(halves, dim=1)[:, :, 0]


VIDEO_MODELS = [
    {},
    {"frames_per_patch": 2},
    {"frames_per_patch": 3, "tubelet": "uniform"},
    {"mixer": {"kind": "attention", "pattern": "factorized_self_attention"}, "reference_fps": 24.0},
    {"text": "cross_attention", "text_dim": 6, "condition_on_fps": True, "conditions": ("motion",)},
]


@pytest.mark.parametrize("settings", VIDEO_MODELS, ids=lambda s: "-".join(map(str, s.values())) or "image")
def test_images_come_out_as_from_the_published_code_also_inflated_to_video(settings: dict):
    state, samples = published_state(), images()
    model = from_dit_state_dict(state, num_heads=HEADS, **settings)
    reference = published_forward(state, *inputs(samples))
    assert reference.abs().max() > 1
    torch.testing.assert_close(output(model, samples), reference, atol=1e-5, rtol=0)


@pytest.mark.parametrize("tubelet", ["central", "uniform"])
def test_a_still_video_embeds_as_its_image_in_inflated_tubelets(tubelet: str):
    weight, image = torch.randn(7, 3, 2, 2), torch.randn(3, 2, 2)
    inflated = inflate_embedding(weight, 4, tubelet)
    still = image[:, None].expand(-1, 4, -1, -1)
    torch.testing.assert_close(inflated.flatten(1) @ still.flatten(), weight.flatten(1) @ image.flatten())
    moving = torch.randn(3, 4, 2, 2)
    seen = moving[:, 2] if tubelet == "central" else moving.mean(1)
    torch.testing.assert_close(inflated.flatten(1) @ moving.flatten(), weight.flatten(1) @ seen.flatten())


def diffusers_model(*, shared: bool):
    repair()
    from diffusers import DiTTransformer2DModel

    torch.manual_seed(0)
    model = DiTTransformer2DModel(
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH // HEADS,
        in_channels=CHANNELS,
        out_channels=2 * CHANNELS,
        num_layers=DEPTH,
        sample_size=SIDE,
        patch_size=PATCH,
        num_embeds_ada_norm=CLASSES,
    )
    for name, parameter in model.named_parameters():
        parameter.data = torch.randn(parameter.shape) / (parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 10)
        if shared and ".1.norm1.emb." in name:
            parameter.data = model.get_parameter(name.replace(".1.norm1", ".0.norm1")).data.clone()
    return model.eval()


@pytest.mark.parametrize("shared", [True, False])
@torch.no_grad()
def test_diffusers_models_come_in_and_go_out_with_the_same_outputs(shared: bool):
    theirs, samples = diffusers_model(shared=shared), images()
    reference = theirs(*inputs(samples)).sample
    ours = from_diffusers(theirs.state_dict(), theirs.config)
    assert ours.config.embedders_per_block is not shared
    assert reference.abs().max() > 1
    torch.testing.assert_close(output(ours, samples), reference, atol=1e-5, rtol=0)

    state, config = to_diffusers(ours, {"sample_size": SIDE})
    back = type(theirs).from_config(config).eval()
    back.load_state_dict(state)
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in back.state_dict().items())
    torch.testing.assert_close(back(*inputs(samples)).sample, output(ours, samples), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shared", [True, False])
def test_gradients_are_those_of_diffusers(shared: bool):
    theirs, samples = diffusers_model(shared=shared), images()
    ours = from_diffusers(theirs.state_dict(), theirs.config)
    batch = pack(samples, ours.config.patch, ours.text_dim, ours.config.conditions)
    ours(batch.tokens, batch.timesteps, batch).square().sum().backward()
    theirs(*inputs(samples)).sample.square().sum().backward()
    published, embedders = published_from_diffusers({name: p.grad for name, p in theirs.named_parameters()})
    if shared:  # one of ours is theirs in every block
        embedders = [{name: torch.stack([one[name] for one in embedders]).sum(0) for name in embedders[0]}]
    expected = ours_from_published(published, embedders, ours.config)
    found = dict(ours.named_parameters())
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0
        assert (found[name].grad - gradient).abs().max() < 1e-4 * gradient.abs().max(), name


@torch.no_grad()
def test_a_model_trained_here_goes_to_diffusers():
    samples = images()
    ours = from_dit_state_dict(published_state(), num_heads=HEADS)
    config = ours.config.model_copy(update={"timestep_frequencies": "diffusers"})
    ours = DiT(config, channels=CHANNELS, text_dim=1, num_outputs=ours.num_outputs)
    for parameter in ours.parameters():
        parameter.data = torch.randn(parameter.shape) / (parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 10)
    state, config = to_diffusers(ours, {"sample_size": SIDE})
    theirs = type(diffusers_model(shared=True)).from_config(config).eval()
    theirs.load_state_dict(state)
    torch.testing.assert_close(theirs(*inputs(samples)).sample, output(ours, samples), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("self_conditioning", 0.5),
        ("mlp", "gated_convolution"),
        ("norm", "rms"),
        ("conditioning_latents", {"spatial": 4}),
        ("conditions", ("motion",)),
    ],
)
def test_a_model_with_inputs_that_diffusers_has_not_is_refused(name: str, value: object):
    config = from_dit_state_dict(published_state(), num_heads=HEADS).config.model_copy(update={name: value})
    with pytest.raises(ValueError, match=rf"got {{'{name}': .*is an image model of labels"):
        to_diffusers(DiT(config, channels=CHANNELS, text_dim=1))


def test_checkpoints_are_read_from_files_of_either_layout(tmp_path: Path):
    samples, state = images(), published_state()
    reference = output(from_dit_state_dict(state, num_heads=HEADS), samples)
    torch.save({"model": published_state(1), "ema": state}, tmp_path / "DiT.pt")
    save_file(state, tmp_path / "DiT.safetensors")
    for name in ("DiT.pt", "DiT.safetensors"):
        assert torch.equal(output(read_checkpoint(tmp_path / name, num_heads=HEADS), samples), reference)
    theirs = diffusers_model(shared=True)
    theirs.save_pretrained(tmp_path / "pipeline/transformer")
    assert torch.equal(
        output(read_checkpoint(tmp_path / "pipeline"), samples),
        output(from_diffusers(theirs.state_dict(), json.loads(json.dumps(dict(theirs.config)))), samples),
    )


def test_what_cannot_be_converted_is_refused(tmp_path: Path):
    state = published_state()
    with pytest.raises(ValueError, match="facebookresearch/DiT"):
        from_dit_state_dict({"weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="got width 32; expected one of DiT's"):
        from_dit_state_dict(state)
    with pytest.raises(ValueError, match="under pattern alternating"):
        from_dit_state_dict(state, num_heads=HEADS, mixer={"kind": "attention", "pattern": "alternating"})
    with pytest.raises(ValueError, match=r"'qk_norm': True.*the checkpoint has .*'qk_norm': False"):
        from_dit_state_dict(state, num_heads=HEADS, qk_norm=True)
    with pytest.raises(ValueError, match="pos_embed: got other positions"):
        from_dit_state_dict(state | {"pos_embed": torch.zeros(1, 16, WIDTH)}, num_heads=HEADS)
    with pytest.raises(ValueError, match="no such file"):
        read_checkpoint(tmp_path / "DiT-XL-2-256x256.pt")
    save_file({name: x for name, x in state.items() if "1.mlp" not in name}, tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match=r"cut\.safetensors: the checkpoint has no 'blocks\.1\.mlp"):
        read_checkpoint(tmp_path / "cut.safetensors", num_heads=HEADS)
    save_file(state | {"final_layer.linear.bias": torch.zeros(3)}, tmp_path / "bias.safetensors")
    with pytest.raises(ValueError, match=r"bias\.safetensors: its tensors have other shapes than those of a DiT"):
        read_checkpoint(tmp_path / "bias.safetensors", num_heads=HEADS)
    save_file(state | {"blocks.0.attn.proj.bias": torch.zeros(3)}, tmp_path / "bias.safetensors")
    with pytest.raises(ValueError, match=r"of another shape are blocks\.0\..*\.bias \(3,\) \(expected \(32,\)\)$"):
        read_checkpoint(tmp_path / "bias.safetensors", num_heads=HEADS)
    with pytest.raises(ValueError, match="is an image model of labels"):
        to_diffusers(from_dit_state_dict(state, num_heads=HEADS, frames_per_patch=2))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("object.pt", {"x_embedder.proj.weight": Fraction(1, 2)}),
        ("list.pt", [torch.zeros(1)]),
        ("cut.pt", b"PK\x03\x04 no archive"),
        ("empty.pt", b""),
        ("text.pt", b"hello"),
        ("text.safetensors", b"hello"),
    ],
)
def test_a_file_of_something_else_is_one_message(tmp_path: Path, name: str, content: object):
    """No object in it is made, and none of what torch says of it is repeated."""
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        torch.save(content, tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name}: (damaged, no file of weights|got a list)") as error:
        read_checkpoint(tmp_path / name, num_heads=HEADS)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
