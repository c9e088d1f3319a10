import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.select import Bounds, SelectConfig, SplitConfig, decide, funnel, split_of

RULES = {
    "duration_s": Bounds(min=1.0),
    "short_side_px": Bounds(),
    "motion": Bounds(min=0.1),
    "luminance": Bounds(min=0.1, max=0.9),
    "black_fraction": Bounds(),
    "freeze_fraction": Bounds(),
    "letterbox_fraction": Bounds(),
}
POLICY = SelectConfig(**RULES)


def clips(*rows: dict) -> pa.Table:
    given = [
        {"clip_id": str(i), "video_id": "v", "video_uri": "a/v.mp4", "kind": "video", "duration_s": 2.0, **row}
        for i, row in enumerate(rows)
    ]
    schema = [(name, pa.string()) for name in ("clip_id", "video_id", "video_uri", "kind")]
    return pa.Table.from_pylist(given, pa.schema([*schema, *((n, pa.float64()) for n in RULES)]))


def outcome(table: pa.Table) -> list[tuple[str, list[str]]]:
    return list(zip(table["decision"].to_pylist(), table["reasons"].to_pylist(), strict=True))


def test_every_broken_rule_is_a_reason() -> None:
    decided = decide(clips({"motion": 0.0, "luminance": 0.95, "duration_s": 0.5}), set(), POLICY)
    assert outcome(decided) == [("reject", ["duration_s.min", "motion.min", "luminance.max"])]


def test_a_value_on_the_threshold_passes() -> None:
    assert outcome(decide(clips({"motion": 0.1, "luminance": 0.9}), set(), POLICY)) == [("keep", [])]


def test_a_value_that_nobody_measured_leaves_the_clip_pending_never_rejected() -> None:
    decided = decide(clips({"motion": None, "luminance": 0.5}), set(), POLICY)
    assert outcome(decided) == [("pending", ["motion.missing"])]


def test_a_clip_that_a_step_failed_on_is_failed() -> None:
    decided = decide(clips({"motion": None, "luminance": 0.5}), {"0"}, POLICY)
    assert outcome(decided) == [("failed", ["failed"])]


def test_rules_about_time_pass_over_images() -> None:
    image = {"kind": "image", "duration_s": None, "motion": None, "luminance": 0.5}
    assert outcome(decide(clips(image), set(), POLICY)) == [("keep", [])]


def test_a_rule_on_a_score_that_no_step_stores_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"select\.text_match.*no step stores"):
        decide(clips({"motion": 1.0}), set(), SelectConfig(**RULES, text_match=Bounds(min=0.1)))


def test_bounds_that_nothing_can_pass_are_refused() -> None:
    with pytest.raises(ValueError, match="no value can pass"):
        Bounds(min=1, max=0)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=30))
def test_counts_add_up(values: list[tuple[float, float]]) -> None:
    decided = decide(clips(*({"motion": m, "luminance": v} for m, v in values)), {"3"}, POLICY)
    counts = funnel(decided)
    assert (
        sum(counts.get(name, 0) for name in ("keep", "reject", "pending", "failed")) == counts["clips"] == len(values)
    )
    assert sum(n for name, n in counts.items() if name.startswith("reject:")) == counts.get("reject", 0)


def test_the_split_is_a_function_of_the_id_alone_and_near_its_fraction() -> None:
    config = SplitConfig(val_fraction=0.2)
    splits = [split_of(f"clip{i}", "x.mp4", config) for i in range(4000)]
    assert splits == [split_of(f"clip{i}", "y.mp4", config) for i in range(4000)]
    assert 0.17 < splits.count("val") / len(splits) < 0.23


def test_held_out_sources_are_held_out_whole() -> None:
    config = SplitConfig(val_fraction=0, hold_out=("*/test_*.mp4",))
    assert split_of("a", "films/test_1.mp4", config) == "val"
    assert split_of("a", "films/other.mp4", config) == "train"
