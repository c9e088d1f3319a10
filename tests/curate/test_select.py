import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.select import Bounds, SelectConfig, broken, decide, funnel
from curate.split import SplitConfig

RULES = {
    "duration_s": Bounds(min=1.0),
    "short_side_px": Bounds(),
    "motion": Bounds(min=0.1),
    "luminance": Bounds(min=0.1, max=0.9),
    "black_fraction": Bounds(),
    "freeze_fraction": Bounds(),
    "flash_rate": Bounds(),
    "fade_fraction": Bounds(),
    "letterbox_fraction": Bounds(),
}
POLICY = SelectConfig(**RULES)


def clips(*rows: dict) -> pa.Table:
    given = [
        {"clip_id": str(i), "video_id": "v", "video_uri": "a/v.mp4", "kind": "video", "duration_s": 2.0, **row}
        for i, row in enumerate(rows)
    ]
    schema = [(name, pa.string()) for name in ("clip_id", "video_id", "video_uri", "kind")]
    numbers = ("width", "height", "bitrate", "sharpness", *RULES)
    return pa.Table.from_pylist(given, pa.schema([*schema, *((name, pa.float64()) for name in numbers)]))


def outcome(table: pa.Table) -> list[tuple[str, list[str]]]:
    return list(zip(table["decision"].to_pylist(), table["reasons"].to_pylist(), strict=True))


def test_every_broken_rule_is_a_reason() -> None:
    decided = decide(clips({"motion": 0.0, "luminance": 0.95, "duration_s": 0.5}), POLICY)
    assert outcome(decided) == [("reject", ["duration_s.min", "motion.min", "luminance.max"])]


def test_a_value_on_the_threshold_passes() -> None:
    assert outcome(decide(clips({"motion": 0.1, "luminance": 0.9}), POLICY)) == [("keep", [])]


def test_a_value_that_nobody_measured_leaves_the_clip_pending_never_rejected() -> None:
    decided = decide(clips({"motion": None, "luminance": 0.5}), POLICY)
    assert outcome(decided) == [("pending", ["motion.missing"])]


def test_a_clip_that_a_step_failed_on_is_failed() -> None:
    decided = decide(clips({"motion": None, "luminance": 0.5}), POLICY, failed={"0": "score"})
    assert outcome(decided) == [("failed", ["score"])]


def test_rules_about_time_pass_over_images() -> None:
    image = {"kind": "image", "duration_s": None, "motion": None, "luminance": 0.5}
    assert outcome(decide(clips(image), POLICY)) == [("keep", [])]


def test_a_rule_on_a_score_that_no_step_stores_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"select\.text_match.*no step stores"):
        decide(clips({"motion": 1.0}), SelectConfig(**RULES, text_match=Bounds(min=0.1)))


def test_bounds_that_nothing_can_pass_are_refused() -> None:
    with pytest.raises(ValueError, match="no value can pass"):
        Bounds(min=1, max=0)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=30))
def test_counts_add_up(values: list[tuple[float, float]]) -> None:
    decided = decide(clips(*({"motion": m, "luminance": v} for m, v in values)), POLICY, failed={"3": "cut"})
    counts = funnel(decided)
    assert (
        sum(counts.get(name, 0) for name in ("keep", "reject", "pending", "failed")) == counts["clips"] == len(values)
    )
    assert sum(n for name, n in counts.items() if name.startswith("reject:")) == counts.get("reject", 0)


def test_a_value_that_a_scorer_failed_to_give_fails_the_clip_if_a_rule_asks_for_it() -> None:
    table = clips({"motion": None, "luminance": 0.5})
    assert outcome(decide(table, POLICY, unscored={"0": {"motion", "sharpness"}})) == [("failed", ["motion"])]
    assert outcome(decide(table, POLICY, unscored={"0": {"sharpness"}})) == [("pending", ["motion.missing"])]


COPIES = (
    {"motion": 1.0, "luminance": 0.5, "width": 64.0, "height": 64.0},
    {"motion": 1.0, "luminance": 0.5, "width": 640.0, "height": 360.0},
    {"motion": 0.0, "luminance": 0.5, "width": 1920.0, "height": 1080.0},
)


def test_of_duplicates_the_best_of_those_that_the_rules_keep_is_kept() -> None:
    decided = decide(clips(*COPIES), POLICY, groups={"0": "0", "1": "0", "2": "0"})
    assert outcome(decided) == [("reject", ["duplicate"]), ("keep", []), ("reject", ["motion.min"])]
    assert decided["duplicate_of"].to_pylist() == ["1", None, None]
    assert decided["duplicate_group"].to_pylist() == ["0", "0", "0"]


def test_no_copy_of_a_training_clip_is_held_out() -> None:
    rows = [{"motion": 1.0, "luminance": 0.5, "width": 64.0, "height": 64.0} for _ in range(60)]
    groups = {str(row): str(row // 3) for row in range(60)}
    policy = POLICY.model_copy(update={"split": SplitConfig(val_fraction=0.5)})
    splits = decide(clips(*rows), policy, groups=groups)["split"].to_pylist()
    assert {len(set(splits[start : start + 3])) for start in range(0, 60, 3)} == {1}
    assert set(splits) == {"train", "val"}


@given(
    kind=st.sampled_from(["video", "image"]),
    values=st.dictionaries(st.sampled_from(["duration_s", "motion", "luminance"]), st.floats(-1, 3)),
    later=st.dictionaries(st.sampled_from(["duration_s", "motion", "luminance"]), st.floats(-1, 3)),
)
def test_what_breaks_a_rule_early_is_rejected_for_it_in_the_end(
    kind: str, values: dict[str, float], later: dict[str, float]
) -> None:
    early = broken(values, kind, POLICY)
    unknown = dict.fromkeys(RULES)
    ((decision, reasons),) = outcome(decide(clips({"kind": kind, **unknown, **later, **values}), POLICY))
    assert set(early) <= set(reasons)
    assert not early or decision == "reject"
    assert broken({**later, **values}, kind, POLICY) == (reasons if decision == "reject" else [])
