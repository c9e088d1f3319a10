"""A contract of all token mixers, and one that is added by its files and one line."""

from typing import Annotated, Any, ClassVar, Literal, get_args

import pytest
import torch
from pydantic import Field, TypeAdapter
from torch import Tensor, nn

from tests.train.conftest import ragged_samples
from train.model.dit import DiT
from train.model.dit_config import DiTConfig
from train.model.mixers.base import TokenMixer
from train.model.mixers.base_config import MixerConfig
from train.model.mixers.config import MixerUnion
from train.packing.batch import pack
from train.packing.shapes import WHOLE, BlockWindows


class ScaleConfig(MixerConfig):
    """A dummy: settings of a mixer that scales tokens."""

    rotates: ClassVar[bool] = False
    kind: Literal["scale"] = "scale"

    def windows(self, block: int, depth: int) -> BlockWindows:
        return ((WHOLE,),)

    def pair_cost(self, width: int) -> float:
        return 0.0

    def build(self, *, block: int, width: int, num_heads: int, qk_norm: bool, qk_norm_eps: float) -> TokenMixer:
        return Scale(width)


class Scale(TokenMixer):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, layouts: Any, rotation: Any) -> Tensor:
        return x * self.weight

    def flops(self, layouts: Any, num_tokens: int) -> int:
        return 0


MEMBERS = get_args(get_args(MixerUnion)[0])
Extended = Annotated[get_args(MixerUnion)[0] | ScaleConfig, Field(discriminator="kind")]
"""The union with one line more."""


def test_a_line_in_the_union_adds_a_member():
    read = TypeAdapter(Extended).validate_python
    assert read({"kind": "scale"}) == ScaleConfig()
    assert [read({"kind": member().kind}) for member in MEMBERS] == [member() for member in MEMBERS]


@pytest.fixture(params=[*MEMBERS, ScaleConfig], ids=lambda member: member.__name__)
def model(request: pytest.FixtureRequest) -> DiT:
    shape = DiTConfig(width=32, depth=2, num_heads=2, position="sincos")
    built = DiT(shape.model_copy(update={"mixer": request.param()}), channels=4, text_dim=12)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
    return built


def test_packed_equals_alone(model: DiT):
    samples = ragged_samples()
    with torch.no_grad():
        batch = pack(samples, model.config.patch, 12)
        together = model(batch.tokens, batch.timesteps, batch).split(batch.segments.lengths)
        for sample, part in zip(samples, together, strict=True):
            alone = pack([sample], model.config.patch, 12)
            expected = model(alone.tokens, alone.timesteps, alone)
            torch.testing.assert_close(part, expected, atol=1e-5, rtol=0)


def test_flops_are_positive_and_add_up_over_samples(model: DiT):
    samples = ragged_samples()
    each = [model.flops(pack([sample], model.config.patch, 12)) for sample in samples]
    assert min(each) > 0
    assert model.flops(pack(samples, model.config.patch, 12)) == sum(each)


def test_activation_bytes_grow_with_tokens_and_fall_with_checkpointing(model: DiT):
    def losses(model: nn.Module, batch: Any) -> Tensor:
        return model(batch.tokens, batch.timesteps, batch).square()

    few, many = (model.activation_bytes(n, torch.float32, losses, 0) for n in (100, 200))
    assert many == pytest.approx(2 * few, rel=1e-3)
    assert 0 < model.activation_bytes(100, torch.float32, losses, 1) < few


@pytest.mark.parametrize("member", MEMBERS)
def test_a_checkpoint_gives_the_same_model(tmp_path: Any, member: type[MixerConfig]):
    config = DiTConfig(width=32, depth=2, num_heads=2, position="sincos", mixer=member())
    built = DiT(config, channels=4, text_dim=12).eval()
    built.save_pretrained(tmp_path)
    loaded = DiT.from_pretrained(tmp_path)
    assert loaded.config == config
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in built.state_dict().items())


def test_rotary_positions_need_a_mixer_that_rotates():
    with pytest.raises(ValueError, match=r"position rope rotates .* set position to sincos"):
        DiTConfig.model_validate({"mixer": {"kind": "pooling"}})


def test_old_keys_name_the_new_ones():
    with pytest.raises(ValueError, match=r"train\.model\.pattern is now train\.model\.mixer\.pattern"):
        DiTConfig.model_validate({"pattern": "joint"})
