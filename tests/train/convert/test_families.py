"""Every family in a pack gives the outputs and gradients of diffusers' class one by one, and goes back bit for bit."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.train.convert.families import CASES, WAN, Case, packed_outputs, read, sample, text
from train.convert.diffusers_folder import to_diffusers, write_folder
from train.convert.families import FAMILIES
from train.convert.family import Shape
from train.model.dit import DiT


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def folder(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    case.build().save_pretrained(path)
    return path


def off(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((ours.float() - theirs.float()).abs().max() / theirs.float().abs().max())


@torch.no_grad()
def test_packed_outputs_are_those_of_diffusers_one_by_one(case: Case, folder: Path):
    theirs, (imported, _) = case.build(), read(folder)
    for ours, one in zip(packed_outputs(imported.model, case.samples), case.samples, strict=True):
        assert off(ours, case.ask(theirs, one, torch.float32)) < 1e-5


def test_gradients_are_those_of_diffusers(case: Case, folder: Path):
    theirs, (imported, family) = case.build(), read(folder)
    torch.cat([x.flatten() for x in packed_outputs(imported.model, case.samples)]).square().sum().backward()
    torch.cat([case.ask(theirs, one, torch.float32).flatten() for one in case.samples]).square().sum().backward()
    reference, ours = dict(theirs.named_parameters()), dict(imported.model.named_parameters())
    ties = family.ties(family.read(json.loads((folder / "config.json").read_text())))
    assert {name for tie in ties for name in tie.theirs} == reference.keys()
    assert [tie.ours for tie in ties] and {tie.ours for tie in ties} == ours.keys()
    for tie in ties:
        expected = tie.take([reference[name].grad for name in tie.theirs])
        assert expected.abs().max() > 0 and off(ours[tie.ours].grad, expected) < 1e-4, tie.ours


@torch.no_grad()
def test_bfloat16_outputs_are_as_near_as_those_of_diffusers(case: Case, folder: Path):
    exact, (imported, _) = case.build(), read(folder)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = packed_outputs(imported.model, case.samples)
    references = [case.ask(exact, one, torch.float32) for one in case.samples]
    half = exact.to(torch.bfloat16)
    for ours, reference, one in zip(found, references, case.samples, strict=True):
        assert off(ours, reference) < 1.5 * off(case.ask(half, one, torch.bfloat16), reference) < 0.1


def test_what_came_in_goes_out_bit_for_bit(case: Case, folder: Path, tmp_path: Path):
    imported, _ = read(folder)
    write_folder(tmp_path, *to_diffusers(imported.model))
    back, there = (load_file(path / "diffusion_pytorch_model.safetensors") for path in (tmp_path, folder))
    assert back.keys() == there.keys() and all(torch.equal(back[name], there[name]) for name in back)
    opened, report = case.their_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    one = case.samples[0]
    with torch.no_grad():
        assert off(case.ask(opened, one, torch.float32), case.ask(case.build(), one, torch.float32)) < 1e-6


def test_shards_and_types_are_taken_as_they_are(case: Case, folder: Path, tmp_path: Path):
    case.build().to(torch.bfloat16).save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*-of-*.safetensors"))) > 1
    sharded, whole = read(tmp_path)[0].model.state_dict(), read(folder)[0].model.state_dict()
    assert {tensor.dtype for tensor in sharded.values()} == {torch.bfloat16}
    assert all(torch.equal(sharded[name], whole[name].to(torch.bfloat16)) for name in whole)
    next(tmp_path.glob("*-00002-of-*")).unlink()
    with pytest.raises(ValueError, match=r"no diffusion_pytorch_model-00002-of-"):
        read(tmp_path)


def test_weights_of_another_model_are_refused_before_they_are_read(case: Case, folder: Path, tmp_path: Path):
    state = load_file(folder / "diffusion_pytorch_model.safetensors")
    name = next(name for name in state if name.endswith("attn1.to_q.weight"))
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    width = state[name].shape[0]
    for wrong, told in (
        ({key: tensor for key, tensor in state.items() if key != name}, f"they lack {name}"),
        (state | {"guidance.weight": torch.zeros(1)}, "unknown are guidance.weight"),
        (state | {name: torch.zeros(7, width)}, rf"{name} \(7, {width}\) \(config.json says \({width}, {width}\)\)"),
    ):
        save_file(wrong, tmp_path / "diffusion_pytorch_model.safetensors")
        with pytest.raises(ValueError, match=told):
            read(tmp_path)


@pytest.mark.parametrize(
    ("name", "changed", "told"),
    [
        ("wan", {"qk_norm": None}, r"got {'qk_norm': None}; of Wan.* only {'qk_norm': 'rms_norm_across_heads'}"),
        ("wan", {"in_channels": 3}, "got in_channels 3, out_channels 4"),
        ("wan", {"image_dim": 1280}, r"image_dim 1280, added_kv_proj_dim None.*expected .* model's own width, 42"),
        ("wan", {"added_kv_proj_dim": 42}, r"image_dim None, added_kv_proj_dim 42"),
        ("pixart-sigma", {"caption_channels": None}, "got no caption_channels"),
        ("pixart-sigma", {"cross_attention_dim": 7}, r"cross_attention_dim 7; expected .* width, 24"),
        ("ltx", {"patch_size": 2}, r"got {'patch_size': 2}.* only {'patch_size': 1}"),
        ("ltx", {"cross_attention_dim": 7}, r"cross_attention_dim 7; expected .* width, 28"),
        ("sana-1.0", {"guidance_embeds": True}, r"got {'guidance_embeds': True}"),
        ("sana-1.0", {"num_cross_attention_heads": 2}, r"2 heads of 8 in cross-attention.* width, 24"),
        ("latte", {"norm_eps": 1e-5}, r"got {'norm_eps': 1e-05}.* only {'norm_eps': 1e-06}"),
    ],
)
def test_models_with_other_parts_are_refused(name: str, changed: dict, told: str, tmp_path: Path):
    config = {"_class_name": CASES[name].class_name, **CASES[name].settings, **changed}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=told):
        read(tmp_path)


def test_a_model_that_no_class_has_is_told_how_it_differs(tmp_path: Path):
    CASES["wan"].their_class(**WAN).save_pretrained(tmp_path)
    imported, family = read(tmp_path)
    shape = Shape(config=imported.model.config, channels=4, text_dim=20)
    assert family.read(family.config_json(shape)) == shape
    config = shape.config.model_copy(update={"text_padding": None})
    to_diffusers(DiT(config, channels=4, text_dim=20))  # it is no property of the weights
    other = config.model_copy(update={"qk_norm": True, "conditions": ("motion",)})
    told = r"is WanTransformer3DModel, which has conditions=\[\] \(here \['motion'\]\), qk_norm=width \(here True\)$"
    with pytest.raises(ValueError, match=told):
        to_diffusers(DiT(other, channels=4, text_dim=20))


@torch.no_grad()
def test_a_lag_of_frames_gives_the_positions_of_the_condition_pipeline_of_ltx(tmp_path: Path):
    case, stride, fps = CASES["ltx"], 8, 25.0
    theirs = case.build()
    theirs.save_pretrained(tmp_path)
    imported, _ = read(tmp_path)
    one = sample(0.25, (3, 4, 6), text(5), temporal_stride=stride)
    one = replace(one, fps=fps)
    grid = torch.cartesian_prod(torch.arange(3), torch.arange(4), torch.arange(6)).T[None] * torch.tensor(
        [[stride], [32], [32]]
    )
    grid[:, 0] = (grid[:, 0] + 1 - stride).clamp(min=0)
    places = grid.float() * torch.tensor([[1 / fps], [1.0], [1.0]])
    tokens, timestep = one.latent.flatten(1).T[None], torch.tensor([[250.0]])
    expected = theirs(tokens, one.text[None], timestep, None, video_coords=places).sample[0].T.unflatten(1, (3, 4, 6))
    lagging = DiT(imported.model.config.model_copy(update={"frame_lag": 0.875}), channels=4, text_dim=20)
    lagging.load_state_dict(imported.model.state_dict())
    assert off(packed_outputs(lagging, [one])[0], expected) < 1e-5
    assert off(packed_outputs(imported.model, [one])[0], expected) > 1e-2
    assert to_diffusers(lagging)[1]["_class_name"] == case.class_name


def test_a_caption_that_the_padding_does_not_hold_is_refused():
    shape = FAMILIES[0].read(CASES["wan"].settings | {"patch_size": [1, 2, 2]})
    model = DiT(shape.config.model_copy(update={"text_padding": 8}), channels=4, text_dim=20)
    assert packed_outputs(model, [sample(0.5, (1, 4, 4), text(8))])
    with pytest.raises(
        ValueError, match=r"clip 0\.25: got a caption of 9 tokens, and train\.model\.text_padding is 8"
    ):
        packed_outputs(model, [sample(0.5, (1, 4, 4), text(8)), sample(0.25, (1, 4, 4), text(9))])
