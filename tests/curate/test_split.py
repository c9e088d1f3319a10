from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pyarrow as pa

from curate.policy import looked_up
from curate.split import CUT, GROUP, Draw, Split, SplitConfig, split_of

NONE: Mapping[str, Split] = MappingProxyType({})


def draw_splits(
    clips: Sequence[str],
    videos: Sequence[str],
    uris: Sequence[str],
    groups: Mapping[str, str],
    config: SplitConfig,
    cut: Mapping[str, Split] = NONE,
) -> list[str]:
    """The splits of clips that come in one table; in two they are the same."""
    columns = {"clip_id": list(clips), "video_id": list(videos), "video_uri": list(uris)}
    table = pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns]))
    for name, values in ((GROUP, groups), (CUT, cut)):
        table = table.append_column(name, looked_up(table["clip_id"], values, pa.string()))
    found = []
    for size in (len(table), 1 + len(table) // 2):
        draw, parts = Draw(config), [table.slice(start, size) for start in range(0, len(table), size)]
        for part in parts:
            draw.see(part)
        found.append([split for part in parts for split in draw.of(part).to_pylist()])
    assert found[0] == found[1]
    return found[0]


def test_the_split_is_a_function_of_the_id_alone_and_near_its_fraction() -> None:
    config = SplitConfig(val_fraction=0.2)
    ids = [f"clip{number}" for number in range(4000)]
    splits = draw_splits(ids, ["v"] * 4000, ["x.mp4"] * 4000, {}, config)
    assert splits == [split_of(name, config) for name in ids]
    assert 0.17 < splits.count("val") / len(splits) < 0.23


def test_held_out_sources_are_held_out_whole_and_so_are_their_copies() -> None:
    config = SplitConfig(val_fraction=0, hold_out=("*/test_*.mp4",))
    uris = ["films/test_1.mp4", "films/test_1.mp4", "films/other.mp4", "films/copy.mp4"]
    splits = draw_splits(["a", "b", "c", "d"], ["v", "v", "w", "x"], uris, {"b": "b", "d": "b"}, config)
    assert splits == ["val", "val", "train", "val"]


def test_films_that_share_a_clip_fall_to_the_same_side() -> None:
    config = SplitConfig(val_fraction=0.5, by="video")
    clips = [f"{film}-{number}" for film in range(200) for number in range(2)]
    films = [f"{film}" for film in range(200) for _ in range(2)]
    # The last clip of each even film is the first of the film after it.
    groups = {f"{film}-1": f"g{film}" for film in range(0, 200, 2)}
    groups |= {f"{film + 1}-0": f"g{film}" for film in range(0, 200, 2)}
    sides = dict(zip(clips, draw_splits(clips, films, films, groups, config), strict=True))
    assert all(len({sides[f"{film + k}-{n}"] for k in (0, 1) for n in (0, 1)}) == 1 for film in range(0, 200, 2))
    assert set(sides.values()) == {"train", "val"}


def test_what_lies_in_a_shard_stays_on_its_side_whatever_is_added() -> None:
    config = SplitConfig(val_fraction=0.5)
    ids = [f"{row:032x}" for row in range(400)]
    before = ids[1::2]
    videos = ["v"] * len(ids)
    cut = dict(zip(before, draw_splits(before, videos[: len(before)], before, {}, config), strict=True))
    # A copy of each is added, whose smaller id the draw looks at.
    groups = {ids[row]: ids[row // 2 * 2] for row in range(400)}
    assert draw_splits(ids, videos, ids, groups, config) != draw_splits(ids, videos, ids, groups, config, cut)
    after = dict(zip(ids, draw_splits(ids, videos, ids, groups, config, cut), strict=True))
    assert {name: after[name] for name in before} == cut
    assert all(after[copy] == after[groups[copy]] for copy in ids), "and its copies beside it"


def test_what_joins_both_sides_is_trained_on() -> None:
    config = SplitConfig(val_fraction=0.9)
    for cut in ({"a": "train", "b": "val"}, {"b": "train", "a": "val"}):
        groups = dict.fromkeys("abc", "a")
        assert draw_splits("abc", "uvw", "xyz", groups, config, cut) == ["train"] * 3


def test_a_source_that_was_trained_on_cannot_be_held_out_any_more() -> None:
    config = SplitConfig(val_fraction=0, hold_out=("y",))
    assert draw_splits("abc", "uvv", "xyy", {"a": "a", "b": "a"}, config, {"a": "train"}) == ["train", "train", "val"]
