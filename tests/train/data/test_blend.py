"""Which text of a clip is drawn: shares, variants, and what does not change them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pipelines.config import load_config, overrides
from tests.support.latents import TEXT_DIM, SyntheticClip
from train.data.blend import DEFAULT_BLEND, BlendConfig, ordered, reference_text
from train.data.config import DataConfig
from train.data.generator import keyed_generator
from train.data.load import PackLoader
from train.data.mix import read_datasets
from train.data.plan import Cursor, PlannedSample
from train.data.reference import reference_caption
from train.estimate.blend import blend_of
from train.model.dit_config import DiTConfig
from train.objective.config import FlowConfig
from train.run.config import TrainConfig

MODEL = DiTConfig(width=32, depth=1, num_heads=2)


def states(number: int) -> np.ndarray:
    """A text of one token that tells its number."""
    return np.full((1, TEXT_DIM), number, np.float16)


TEXTS = {name: states(n) for n, name in enumerate(["dense", "dense.1", "dense.2", "short", "original", "human"], 1)}


def with_texts(clip: SyntheticClip, *names: str) -> SyntheticClip:
    return replace(clip, short=None, dense=None, others={name: TEXTS[name] for name in names})


def data(blend: BlendConfig = DEFAULT_BLEND, **changes: object) -> DataConfig:
    return DataConfig.model_validate({"blend": blend.model_dump(), "caption_dropout": 0, **changes})


def loader(dataset: str | Path, config: DataConfig, model: DiTConfig = MODEL) -> PackLoader:
    manifest = read_datasets(str(dataset), split="train", data=config, model=model)
    return PackLoader(manifest, FlowConfig().build(), config, model=model, seed=0)


def drawn(source: PackLoader, row: int, epoch: int) -> str | None:
    """Name of the text that a sample gets."""
    text = source.builder.build(PlannedSample(row, 0, int(source.manifest.num_tokens[row])), epoch).text
    return None if text is None else next(name for name, state in TEXTS.items() if state[0, 0] == text[0, 0].item())


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["short", "dense", "original"], {"dense": 0.6, "short": 0.35, "original": 0.05}),
        (["short", "dense", "human"], {"dense": 0.6, "short": 0.35, "human": 0.05}),
        (["dense", "dense.1", "dense.2", "short"], {"dense": 0.2 / 0.95, "dense.1": 0.2 / 0.95,
                                                   "dense.2": 0.2 / 0.95, "short": 0.35 / 0.95}),
        (["original"], {"original": 1.0}),
        (["fields", "title"], {}),
        ([], {}),
    ],
)  # fmt: skip
def test_realised_shares_are_the_weights_of_the_levels_that_a_clip_has(names: list[str], expected: dict[str, float]):
    counts = Counter()
    for key in range(20_000):
        u = float(torch.rand((), generator=keyed_generator("clip", key)))
        counts[DEFAULT_BLEND.draw(names, u)] += 1
    assert DEFAULT_BLEND.shares(names) == pytest.approx(expected)
    for name, share in (expected or {None: 1.0}).items():
        assert counts[name] / 20_000 == pytest.approx(share, abs=0.01)
    assert set(counts) == set(expected or {None})


def test_every_number_below_one_is_a_text_that_has_a_weight():
    for blend in (DEFAULT_BLEND, BlendConfig(dense=1e-9, short=3), BlendConfig(original=0.1)):
        for names in (["dense", "short", "original"], ["original", "original.1"], ["short", "original"]):
            ends = [blend.draw(names, u) for u in (0.0, 1 - 2**-24, 1 - 2**-53)]
            assert all(name is None or getattr(blend, name.partition(".")[0]) for name in ends)
            assert (ends[0] is None) == (not blend.shares(names))


def test_the_order_in_which_texts_are_stored_changes_nothing():
    names = [f"dense.{n}" if n else "dense" for n in range(12)] + ["short", "original"]
    for u in np.linspace(0, 0.999, 50):
        assert len({DEFAULT_BLEND.draw(order, u) for order in (names, names[::-1], sorted(names))}) == 1
    assert ordered(reversed(names))[:12] == names[:12]


def test_a_sample_draws_the_same_text_on_every_rank_and_in_every_pack(make_dataset: Callable, make_clips: Callable):
    names = (("dense", "dense.1", "short"), ("original",), ("short",), ("dense.2", "human"))
    clips = [with_texts(clip, *names[i % 4]) for i, clip in enumerate(make_clips(16))]
    root, given = make_dataset(clips), []
    for packs, budget in ((1, 96), (2, 200)):
        source = loader(root, data(plan={"token_budget": budget, "packs_per_step": packs}))
        found = {}
        for rank in range(packs):
            for step in islice(source.steps(Cursor(), rank, packs), 30):
                for batch in step.batches if step.epoch == 0 else ():
                    texts = batch.text.split(batch.text_segments.lengths)
                    found |= {clip: text[0, 0].item() for clip, text in zip(batch.clip_ids, texts, strict=True)}
        given.append(found)
    assert given[0] == given[1] and len(given[0]) == 16
    of_levels = dict(zip((clip.clip_id for clip in clips), (names[i % 4] for i in range(16)), strict=True))
    assert all(value in {TEXTS[name][0, 0] for name in of_levels[clip]} for clip, value in given[0].items())


def test_shares_are_realised_within_an_epoch_and_over_the_epochs_of_a_clip(dataset: str) -> None:
    builder = loader(dataset, data()).builder

    def largest_gap(positions: list[float]) -> float:
        """Largest difference between a share of the unit interval and the share of the positions in it."""
        counts = Counter(DEFAULT_BLEND.draw(["dense", "short", "original"], u) for u in positions)
        shares = DEFAULT_BLEND.shares(["dense", "short", "original"])
        return max(abs(counts[name] / len(positions) - share) for name, share in shares.items())

    def position(row: int, epoch: int, occurrence: int = 0) -> float:
        u = builder._caption_position(PlannedSample(row, occurrence, 1), epoch)
        assert 0 <= u < 1
        return u

    for fixed in (0, 3, 17):
        assert largest_gap([position(row, fixed) for row in range(400)]) < 0.01
        assert largest_gap([position(fixed, epoch) for epoch in range(400)]) < 0.01
        assert largest_gap([position(fixed, 0, occurrence) for occurrence in range(400)]) < 0.01
    assert largest_gap([position(row, epoch) for row in range(21) for epoch in range(20)]) < 0.01


def test_validation_prefers_levels_in_a_fixed_order(make_dataset: Callable, make_clips: Callable):
    names = (("short", "dense.1", "dense"), ("original", "human", "short"), ("original", "human"), ("original",), ())
    clips = [with_texts(clip, *names[i]) for i, clip in enumerate(make_clips(5))]
    source = loader(make_dataset(clips), data(BlendConfig(original=1)))
    found = {}
    for row, clip in enumerate(source.manifest.clip_ids):
        text = reference_caption(source.builder.reader, row)
        found[clip] = None if text is None else text[0, 0].item()
    expected = [1, 4, 6, 5, None]  # numbers of TEXTS
    assert found == dict(zip((clip.clip_id for clip in clips), expected, strict=True))
    assert reference_text(["dense.1", "original"]) == "original"  # prompts of variants are in no index


def test_a_level_that_no_clip_has_is_told_with_counts(
    make_dataset: Callable, make_clips: Callable, caplog: pytest.LogCaptureFixture
):
    clips = [with_texts(clip, *(("dense",) if i % 2 else ("original",))) for i, clip in enumerate(make_clips(6))]
    root = make_dataset(clips)
    loader(root, data(BlendConfig(dense=1, short=1)))
    assert "no clip has a text of level short; of 6 clips have texts: dense: 3, original: 3" in caplog.text
    assert "3 of 6 clips with texts have none of dense, short: they are trained without a caption" in caplog.text
    caplog.clear()
    loader(root, data())
    assert "train.data.blend" not in caplog.text
    with pytest.raises(ValueError, match=r"got short, and no clip has such a text; .*dense: 3, original: 3"):
        loader(root, data(BlendConfig(short=1)))


@pytest.mark.parametrize(("dropout", "num_classes"), [(0.0, None), (0.25, None), (0.25, 3)])
def test_the_forecast_draws_what_training_draws(
    make_dataset: Callable, make_clips: Callable, dropout: float, num_classes: int | None
):
    names = (("dense", "dense.1", "short"), ("original", "short"), ("short",), ())
    root = make_dataset([with_texts(clip, *names[i % 4]) for i, clip in enumerate(make_clips(40))])
    model = MODEL.model_copy(update={"num_classes": num_classes})
    config = TrainConfig(data=data(caption_dropout=dropout, null_dropout=0.3), model=model)
    source = loader(root, config.data, model)
    counts = Counter(drawn(source, row, 0) for row in range(40))
    found = blend_of(config, source.manifest)
    assert found is not None and found.num_samples == 40
    for level in found.levels:
        of_level = sum(count for name, count in counts.items() if name and name.partition(".")[0] == level.level)
        assert level.drawn == pytest.approx(of_level / (40 - counts[None]))
    assert found.captioned == pytest.approx(1 - counts[None] / 40)
    assert found.captioned + found.dropped + found.uncaptioned == pytest.approx(1)
    by_level = {level.level: level for level in found.levels}
    assert {name: level.num_texts for name, level in by_level.items()} == {
        "dense": 20, "short": 30, "human": 0, "original": 10,
    }  # fmt: skip
    if not dropout:
        assert by_level["original"].expected == pytest.approx(10 * (0.05 / 0.4) / 30)
        assert found.uncaptioned == 0.25


def test_the_forecast_has_a_histogram_of_tokens_and_what_is_cut(make_dataset: Callable, make_clips: Callable):
    clips = [with_texts(clip, "dense", "short") for clip in make_clips(4)]
    root = make_dataset(clips)
    path = root / "text/txt0/index.parquet"
    table = pq.read_table(path)
    lists = ([["dense", "short"]] * 4, [[16, n + 1] for n in range(4)], [[16 + 4 * n, n + 1] for n in range(4)])
    for name, values in zip(("names", "num_tokens", "num_uncut_tokens"), lists, strict=True):
        table = table.set_column(table.schema.get_field_index(name), name, [values])
    pq.write_table(table, path)
    config = TrainConfig(model=MODEL)
    found = blend_of(config, read_datasets(str(root), split="train", data=config.data, model=MODEL))
    assert found is not None and found.max_tokens == 16 and found.edges == tuple(range(1, 17))
    dense, short = found.levels[:2]
    assert (dense.level, dense.num_cut, dense.most_tokens, dense.median_tokens) == ("dense", 3, 28, 22)
    assert dense.tokens == (*[0] * 15, 1, 3)
    assert short.tokens == (1, 1, 1, 1, *[0] * 13) and short.num_cut == 0


def test_an_index_of_an_earlier_reelpack_opens_and_counts(
    make_dataset: Callable, make_clips: Callable, caplog: pytest.LogCaptureFixture
):
    root = make_dataset(make_clips(20))
    config = TrainConfig(model=MODEL)
    manifest = read_datasets(str(root), split="train", data=config.data, model=MODEL)
    now = blend_of(config, manifest)
    path = root / "text/txt0/index.parquet"
    rows = pq.read_table(path).to_pylist()
    table = pq.read_table(path).drop_columns(["names", "num_tokens", "num_uncut_tokens"])
    for level in ("short", "dense"):
        counts = [dict(zip(row["names"], row["num_tokens"], strict=True)).get(level) for row in rows]
        table = table.append_column(f"num_tokens_{level}", [counts])
    pq.write_table(table, path)
    former = read_datasets(str(root), split="train", data=config.data, model=MODEL)
    assert blend_of(config, former) == now is not None
    pq.write_table(table.drop_columns(["num_tokens_short", "num_tokens_dense"]), path)  # another tool's
    unnamed = read_datasets(str(root), split="train", data=config.data, model=MODEL)
    assert blend_of(config, unnamed) is None and "train.data.blend" not in caplog.text
    assert any(drawn_text is not None for drawn_text in (
        loader(root, data()).builder.build(PlannedSample(row, 0, 1), 0).text for row in range(5)
    ))  # fmt: skip


def test_a_given_blend_replaces_the_default():
    config = load_config(overrides=["train.data.blend={short: 1}"])
    assert config.train.data.blend == BlendConfig(short=1)
    one_by_one = load_config(overrides=["train.data.blend.dense=3", "train.data.blend.original=1"])
    assert one_by_one.train.data.blend == BlendConfig(dense=3, original=1)
    assert load_config(overrides=overrides(config), base=one_by_one) == config
    assert load_config(overrides=overrides(one_by_one)) == one_by_one
    assert load_config().train.data.blend == DEFAULT_BLEND


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("{dense: 0}", "weights that are all 0"),
        ("{dense: -1}", "greater than or equal to 0"),
        ("{dense: .nan}", "finite"),
        ("{dens: 1}", r"train\.data\.blend\.dens: unknown key; the nearest valid one is train\.data\.blend\.dense"),
        ("{fields: 1}", r"train\.data\.blend\.fields: unknown key"),
    ],
)
def test_weights_that_draw_nothing_are_refused(given: str, told: str):
    with pytest.raises(ValueError, match=told):
        load_config(overrides=[f"train.data.blend={given}"])
