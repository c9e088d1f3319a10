import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.rules import Rule
from curate.select import SelectConfig, broken, decide, funnel
from curate.split import SplitConfig

RULES = {"duration_s": Rule(min=1.0), "motion": Rule(min=0.1), "luminance": Rule(min=0.1, max=0.9)}
POLICY = SelectConfig(rules=RULES)


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


def test_a_clip_without_a_caption_passes_a_rule_on_its_match() -> None:
    """It would never be cut and captioned otherwise."""
    table = clips({}, {}, {}).append_column("caption_match", pa.array([None, 0.1, 0.3], pa.float64()))
    for rule in (Rule(min=0.2), Rule(not_in=[0.1])):
        decided = decide(table, SelectConfig(rules={"caption_match": rule}))
        (side,) = rule.sides
        assert outcome(decided) == [("keep", []), ("reject", [f"caption_match.{side}"]), ("keep", [])]


def test_a_clip_that_a_step_failed_on_is_failed() -> None:
    decided = decide(clips({"motion": None, "luminance": 0.5}), POLICY, failed={"0": "score"})
    assert outcome(decided) == [("failed", ["score"])]


def test_rules_about_time_pass_over_images() -> None:
    image = {"kind": "image", "duration_s": None, "motion": None, "luminance": 0.5}
    assert outcome(decide(clips(image), POLICY)) == [("keep", [])]


def test_a_rule_on_a_score_that_is_not_computed_names_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"select\.rules\.text_match.*switch on score\.scorers\.text_match.*=null"):
        decide(clips({"motion": 1.0}), SelectConfig(rules={**RULES, "text_match": Rule(min=0.1)}))


def test_a_rule_on_an_unknown_column_names_the_nearest_one() -> None:
    with pytest.raises(ValueError, match=r"select\.rules\.moton: no column.*the nearest one is motion"):
        decide(clips({"motion": 1.0}), SelectConfig(rules={"moton": Rule(min=0.1)}))


def test_a_default_rule_passes_over_a_dataset_without_its_column() -> None:
    table = clips({"duration_s": 9.0})
    assert outcome(decide(table.select([n for n in table.column_names if n != "motion"]), only_motion())) == [
        ("keep", [])
    ]


def only_motion() -> SelectConfig:
    return SelectConfig(rules={"motion": SelectConfig().rules["motion"]})


OWN = {
    "licence": pa.array(["CC0", "CC-BY", "none", None]),
    "rating": pa.array([3, 1, 5, 4]),
    "checked": pa.array([True, False, True, True]),
    "unknown": pa.nulls(4),
    "tags": pa.array([["cat", "dog"], [], ["advert"], ["dog"]]),
}


@pytest.mark.parametrize(
    ("rules", "reasons"),
    [
        ({"licence": {"in": ["CC0", "CC-BY"]}}, [[], [], ["licence.in"], ["licence.missing"]]),
        ({"licence": {"not_in": ["none"]}}, [[], [], ["licence.not_in"], ["licence.missing"]]),
        ({"rating": {"min": 2, "max": 4}}, [[], ["rating.min"], ["rating.max"], []]),
        ({"rating": {"min": 2, "not_in": [4]}}, [[], ["rating.min"], [], ["rating.not_in"]]),
        ({"checked": {"in": [True]}}, [[], ["checked.in"], [], []]),
        ({"unknown": {"in": ["dog"], "min": 1}}, [["unknown.missing"]] * 4),
        ({"tags": {"in": ["dog"]}}, [[], ["tags.in"], ["tags.in"], []]),
        ({"tags": {"not_in": ["advert"]}}, [[], [], ["tags.not_in"], []]),
    ],
)
def test_rules_judge_the_user_s_own_columns(rules: dict, reasons: list[list[str]]) -> None:
    table = clips(*({} for _ in range(4)))
    for name, values in OWN.items():
        table = table.append_column(name, values)
    policy = SelectConfig.model_validate({"rules": rules})
    assert decide(table, policy)["reasons"].to_pylist() == reasons
    early = [broken({name: values[row].as_py() for name, values in OWN.items()}, "video", policy) for row in range(4)]
    assert early == [[name for name in row if not name.endswith("missing")] for row in reasons]


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (
            {"licence": {"min": 1}},
            r"licence: min and max are for numbers, and the column holds text; use in or not_in",
        ),
        ({"tags": {"max": 1}}, r"tags: min and max are for numbers, and the column holds lists of text"),
        ({"rating": {"in": ["high"]}}, r"rating: in names 'high', and the column holds numbers"),
        ({"licence": {"not_in": [1]}}, r"licence: not_in names 1, and the column holds text"),
    ],
)
def test_a_rule_that_cannot_judge_its_column_is_refused(rules: dict, said: str) -> None:
    table = clips({})
    for name, values in OWN.items():
        table = table.append_column(name, values[:1])
    with pytest.raises(ValueError, match=said):
        decide(table, SelectConfig.model_validate({"rules": rules}))


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"min": 1, "max": 0}, "no value can pass"),
        ({"in": []}, "no value can pass"),
        ({"mn": 1}, "a rule has min, max"),
    ],
)
def test_a_rule_that_nothing_can_pass_or_that_has_an_unknown_side_is_refused(rule: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Rule.model_validate(rule)


def test_null_removes_a_default_rule() -> None:
    default = SelectConfig()
    assert "motion" in default.rules
    given = {**default.model_dump(mode="json")["rules"], "motion": None, "luminance": {"min": None}}
    assert default.rules.keys() - SelectConfig(rules=given).rules.keys() == {"motion", "luminance"}


@settings(deadline=None)
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


def test_clusters_of_which_no_clip_is_kept_weigh_nothing() -> None:
    rows = [{"motion": motion, "luminance": 0.5} for motion in (1.0, 1.0, 0.0, 1.0, 1.0)]
    decided = decide(clips(*rows), POLICY, clusters={"0": 1, "1": 1, "2": 7, "3": 3})
    root = 2**-0.5
    mean = (2 * root + 1) / 3
    expected = [root / mean, root / mean, None, 1 / mean, 1.0]
    assert decided["balance_weight"].to_pylist() == [one and round(one, 6) for one in expected]


def test_no_copy_of_a_training_clip_is_held_out() -> None:
    rows = [{"motion": 1.0, "luminance": 0.5, "width": 64.0, "height": 64.0} for _ in range(60)]
    groups = {str(row): str(row // 3) for row in range(60)}
    policy = POLICY.model_copy(update={"split": SplitConfig(val_fraction=0.5)})
    splits = decide(clips(*rows), policy, groups=groups)["split"].to_pylist()
    assert {len(set(splits[start : start + 3])) for start in range(0, 60, 3)} == {1}
    assert set(splits) == {"train", "val"}


@settings(deadline=None)
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
