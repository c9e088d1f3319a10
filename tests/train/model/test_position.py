import torch
from hypothesis import given
from hypothesis import strategies as st

from train.model.position import RotaryEmbedding, frame_seconds, rotate, sincos_embedding

place = st.tuples(*[st.integers(0, 30)] * 3)


@given(place, place, place)
def test_rotary_scores_depend_on_the_offset_only(query, key, move):
    rope = RotaryEmbedding(16)
    q, k = torch.randn(1, 2, 16).double(), torch.randn(1, 2, 16).double()

    def score(shift):
        at = [torch.tensor([p]) + torch.tensor([shift]) for p in (query, key)]
        return (rotate(q, rope(at[0])) * rotate(k, rope(at[1]))).sum(-1)

    torch.testing.assert_close(score((0, 0, 0)), score(move), atol=1e-3, rtol=1e-3)


def test_rotary_tells_every_axis_apart():
    rope, q, k = RotaryEmbedding(12), torch.randn(1, 1, 12), torch.randn(1, 1, 12)
    places = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])
    scores = (rotate(q.expand(5, -1, -1), rope(places)) * k).sum(-1).flatten()
    assert len(scores.unique()) == 5


def test_sincos_gives_every_place_its_own_row():
    places = torch.cartesian_prod(*[torch.arange(6)] * 3)
    table = sincos_embedding(places, 48)
    distances = torch.cdist(table, table) + torch.eye(len(table))
    assert distances.min() > 0.1


def test_seconds_make_frames_of_unlike_rates_comparable():
    positions = torch.tensor([[0, 1, 2], [6, 1, 2], [12, 1, 2], [0, 3, 4]]).float()
    seconds = frame_seconds(positions, torch.tensor([12.0, 12.0, 24.0, 0.0]), reference_fps=24.0)
    assert seconds[:, 0].tolist() == [0, 12, 12, 0]
    assert torch.equal(seconds[:, 1:], positions[:, 1:])
