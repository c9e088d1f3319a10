"""The threshold explorer in a real browser: what it recounts is what `curate.select.decide` decides."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from curate.report.build import build_report
from curate.rules import Rule
from curate.schema import content_digest
from curate.select import SelectConfig, decide
from pipelines.config import Config, load_config

pytestmark = pytest.mark.browser
NUM_CLIPS = 600
FAMILIES = ("text_match-0a1b", "aesthetic-2c3d")
DECISIONS = ("keep", "reject", "pending", "failed")
COUNTS = """
    const count = (name, at) => Number((document.querySelector(`.decisions [data-name="${name}"]`)?.children[at]
      .textContent ?? "0").replaceAll(",", ""));
    const counts = (at) => ["kept", "rejected", "pending", "failed"].map((name) => count(name, at));"""
STATE = """
    const { clips } = explorer;
    const state = () => ({
      reasons: clips.ids.map((_, row) => reasonsOf(clips, explorer.policy, explorer.outcome, row)),
      decisions: [...explorer.outcome.decisions],
      copies: [...explorer.outcome.copyOf].map((pair) => pair.map((row) => clips.ids[row])),
      counts: counts(2),
      rules: [...document.querySelectorAll(".rules .rule")].map((row) =>
        [row.dataset.name, ...[...row.children].slice(1).map((cell) => Number(cell.textContent))]),
      command: document.querySelector(".command")?.textContent ?? "",
      yaml: document.querySelector(".yaml")?.textContent ?? "",
    });
    const panel = (name) => document.querySelector(`[data-column="${name}"]`);
    const type = (rule, text) => {
      const [name, side] = rule.split(".");
      const field = panel(name).querySelectorAll(".fields input")[side === "min" ? 0 : 1];
      field.value = text;
      field.dispatchEvent(new Event("input"));
      return field;
    };
    const slide = (rule, position) => {
      const [name, side] = rule.split("."), slider = panel(name).querySelector(`.sliders .${side}`);
      slider.value = position;
      slider.dispatchEvent(new Event("input"));
      return slider;
    };"""


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """A dataset of clips of every fate; `given` is what `decide` was told beside the clips and the policy."""

    path: Path
    clips: pa.Table
    policy: SelectConfig
    given: Mapping[str, Any]

    def decide(self, policy: SelectConfig) -> pa.Table:
        return decide(self.clips, policy, **self.given)

    @cached_property
    def page(self) -> Path:
        return Path(build_report(str(self.path)))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    path = tmp_path_factory.mktemp("mixed") / "with 'quotes' & spaces"
    rng = np.random.default_rng(0)
    ids = [content_digest(str(row)) for row in range(NUM_CLIPS)]
    is_image = rng.random(NUM_CLIPS) < 0.1
    sizes = rng.choice([240, 360, 720], NUM_CLIPS)
    start_s = rng.integers(0, 9000, NUM_CLIPS) / 24
    sharpness = rng.lognormal(4, 1.5, NUM_CLIPS)
    sharpness[:3] = np.nan, np.inf, -0.0
    length_s = rng.integers(6, 200, NUM_CLIPS) / 24
    columns = {
        "clip_id": ids,
        "video_id": [f"v{row // 7}" for row in range(NUM_CLIPS)],
        "video_uri": [f"/films/<b>{row // 7}\n.mp4" for row in range(NUM_CLIPS)],
        "kind": np.where(is_image, "image", "video"),
        "start_s": start_s,
        "end_s": start_s + length_s,
        "start_pts": (start_s * 24).astype(int),
        "end_pts": ((start_s + length_s) * 24).astype(int),
        "time_base": ["1/24"] * NUM_CLIPS,
        "fps": np.full(NUM_CLIPS, 24.0),
        "width": sizes * 2,
        "height": sizes,
        "num_frames": np.full(NUM_CLIPS, 48),
        "duration_s": pa.array(length_s, mask=is_image),
        "short_side_px": sizes.astype(float),
        "bitrate": rng.lognormal(14, 1, NUM_CLIPS),
        "motion": pa.array(np.round(rng.lognormal(-4, 1.5, NUM_CLIPS), 6), mask=is_image),
        "sharpness": sharpness,
        "luminance": pa.array(np.round(rng.beta(3, 3, NUM_CLIPS), 5), mask=rng.random(NUM_CLIPS) < 0.05),
        "text_match": pa.array(np.round(rng.normal(0, 0.05, NUM_CLIPS), 5), mask=rng.random(NUM_CLIPS) < 0.2),
    }
    columns["licence"] = pa.array(rng.choice(["CC0", "CC-BY", "none"], NUM_CLIPS, p=[0.5, 0.4, 0.1]))
    columns["rating"] = pa.array(rng.integers(1, 9, NUM_CLIPS), mask=rng.random(NUM_CLIPS) < 0.02)
    match = rng.normal(0.25, 0.05, NUM_CLIPS)
    columns["caption_match"] = pa.array(np.round(match, 5), mask=rng.random(NUM_CLIPS) < 0.5)
    clips = pa.table(columns)
    rules = {"duration_s": Rule(min=1.0), "motion": Rule(min=0.004, max=0.2), "luminance": Rule(min=0.1)}
    rules["caption_match"] = Rule(min=0.2, not_in=(0.25,))
    rules |= {"bitrate": Rule(max_percentile=97), "sharpness": Rule(min_z=-0.4)}
    own = {"rating": Rule(min=2, not_in=(4,)), "licence": Rule.model_validate({"in": ["CC0", "CC-BY"]})}
    policy = SelectConfig(rules={**rules, **own})
    unmeasured = [ids[row] for row in np.flatnonzero(np.asarray(clips["text_match"].is_null()))]
    given = {
        "failed": {ids[3]: "score", **dict.fromkeys(ids[5::40], "cut")},
        "unscored": {clip: {"text_match"} for clip in unmeasured[::3]},
        "groups": {ids[row]: ids[row // 4 * 4] for row in range(200)},
    }
    write(path, decide(clips, policy, **given), policy)
    return Mixed(path=path, clips=clips, policy=policy, given=given)


def with_motion(policy: SelectConfig, rule: Rule) -> SelectConfig:
    return policy.model_copy(update={"rules": {**policy.rules, "motion": rule}})


def write(path: Path, decided: pa.Table, policy: SelectConfig) -> None:
    """What the explorer reads of a dataset directory: clips.parquet and config.yaml."""
    path.mkdir()
    own = pa.array([f"Tale {row % 50}" for row in range(NUM_CLIPS)])
    pq.write_table(decided.append_column("title", own), path / "clips.parquet")
    config = Config(select=policy).model_dump(mode="json")
    (path / "config.yaml").write_text(yaml.safe_dump({"curate": {**config, "families": list(FAMILIES)}}))


def assert_equal(state: Mapping[str, Any], decided: pa.Table) -> None:
    """What the page says of every clip, and the counts that it shows, are what was decided."""
    assert [DECISIONS[code] for code in state["decisions"]] == decided["decision"].to_pylist()
    assert state["reasons"] == decided["reasons"].to_pylist()
    copies = zip(decided["clip_id"].to_pylist(), decided["duplicate_of"].to_pylist(), strict=True)
    assert sorted(map(tuple, state["copies"])) == sorted((clip, kept) for clip, kept in copies if kept is not None)
    decisions = decided["decision"].to_pylist()
    assert state["counts"] == [decisions.count(name) for name in DECISIONS]
    reasons = [row for row, name in zip(decided["reasons"].to_pylist(), decisions, strict=True) if name == "reject"]
    for rule, _, after, alone in state["rules"]:
        assert after == sum(rule in names for names in reasons), rule
        assert alone == reasons.count([rule]), rule
    assert {name for names in reasons for name in names} <= {row[0] for row in state["rules"]}


def test_the_recount_of_the_dataset_s_own_policy_is_clips_parquet(browser, mixed: Mixed) -> None:
    script = 'return [state(), counts(1), document.querySelectorAll(".warning").length]'
    state, before, warnings = browser.probe(mixed.page, COUNTS + STATE + script)
    decided = mixed.decide(mixed.policy)
    assert set(decided["decision"].to_pylist()) == set(DECISIONS), "or the test would pass vacuously"
    assert any(kept is not None for kept in decided["duplicate_of"].to_pylist())
    assert_equal(state, decided)
    assert before == state["counts"]
    assert warnings == 0
    assert state["command"] == ""


def test_moved_thresholds_decide_as_the_printed_command_would(browser, mixed: Mixed, tmp_path: Path) -> None:
    moves = """
        const states = [];
        const then = (move) => { move(); states.push(state()); };
        then(() => slide("motion.min", 200));
        then(() => slide("sharpness.max", 333));
        then(() => type("text_match.min", "-0.0123"));
        then(() => type("luminance.min", ""));
        then(() => slide("duration_s.min", 0));
        then(() => type("motion.min", "1e-7"));
        then(() => slide("short_side_px.min", 241));
        then(() => type("rating.min", "3"));
        then(() => type("bitrate.max", "4e6"));
        then(() => type("sharpness.min", ""));
        return states"""
    states = browser.probe(mixed.page, COUNTS + STATE + moves)
    assert len(states) == 10
    seen = set()
    for state in states:
        program, command, dataset, *flags = shlex.split(state["command"])
        assert (program, command, dataset) == ("reelpack", "select", str(mixed.path))
        policy = load_config(overrides=flags[1::2], base=Config(select=mixed.policy)).select
        (tmp_path / "policy.yaml").write_text(state["yaml"])
        assert load_config(tmp_path / "policy.yaml", base=Config(select=mixed.policy)).select == policy
        assert_equal(state, mixed.decide(policy))
        seen.add(tuple(state["counts"]))
    assert len(seen) == len(states), "every move changed the counts"


def test_a_slider_stays_where_it_is_put_and_does_not_pass_the_other(browser, mixed: Mixed) -> None:
    moves = """
        const positions = [];
        for (const rule of ["motion.min", "luminance.max", "sharpness.min"]) {
          for (const put of [100, 101, 102, 479, 1]) {
            explorer.reset();
            const slider = slide(rule, put);
            positions.push([rule, put, slider.valueAsNumber, explorer.policy[rule.split(".")[0]]]);
          }
        }
        return positions"""
    for rule, put, position, bound in browser.probe(mixed.page, COUNTS + STATE + moves):
        if bound["min"] is None or bound["max"] is None or bound["min"] < bound["max"]:
            assert position == put, (rule, put)
        assert (bound["min"] if bound["min"] is not None else -1e9) <= (bound["max"] or 1e9), rule


def test_a_typed_minimum_above_the_maximum_is_marked_and_not_taken(browser, mixed: Mixed) -> None:
    moves = """
        const field = type("motion.min", "0.9");
        return [field.matches(":invalid"), explorer.policy.motion, type("motion.min", "0.1").matches(":invalid")]"""
    assert browser.probe(mixed.page, COUNTS + STATE + moves) == [True, {"min": 0.004, "max": 0.2}, False]


def test_every_stored_value_is_in_the_page_to_the_last_bit(browser, mixed: Mixed) -> None:
    script = """return explorer.clips.columns.map(({ name, values, valid }) =>
        [name, Array.from(values, (value, row) => valid === null || valid[row]
          ? (Object.is(value, -0) ? "-0" : String(value)) : null)])"""
    columns = dict(browser.probe(mixed.page, script))
    assert {"bitrate", "sharpness", "text_match", "duration_s"} <= columns.keys()
    for name, texts in columns.items():
        stored = mixed.clips[name].to_pylist()
        assert [text is None for text in texts] == [value is None for value in stored], name
        given = np.array([float(text) for text in texts if text is not None])
        wanted = np.array([value for value in stored if value is not None], float)
        assert given.tobytes() == np.where(np.isnan(wanted), np.nan, wanted).tobytes(), name


def test_clips_at_the_edge_are_the_nearest_on_both_sides(browser, mixed: Mixed) -> None:
    script = """
        type("motion.min", "0.02");
        return [...document.querySelectorAll(".edges .row")].map((row) =>
          [...row.children].map((figure) => figure.dataset.clip))"""
    rejected, kept = browser.probe(mixed.page, COUNTS + STATE + script)
    policy = with_motion(mixed.policy, Rule(min=0.02, max=0.2))
    rows = mixed.decide(policy).select(["clip_id", "motion", "decision"]).to_pylist()
    below = sorted((row["motion"] for row in rows if row["motion"] is not None and row["motion"] < 0.02), reverse=True)
    above = sorted(row["motion"] for row in rows if row["decision"] == "keep" and row["motion"] is not None)
    motion = {row["clip_id"]: row["motion"] for row in rows}
    assert [motion[clip] for clip in rejected] == below[:3]
    assert [motion[clip] for clip in kept] == above[:3]


def test_the_list_of_clips_is_searched_filtered_and_sorted_a_page_at_a_time(browser, mixed: Mixed) -> None:
    script = """
        const list = document.querySelector(".cliplist"), search = list.querySelector("input");
        const [which, sort] = list.querySelectorAll("select");
        const put = (node, value) => { node.value = value; node.dispatchEvent(new Event("input")); };
        const note = () => list.querySelector(".controls .muted").textContent;
        const rows = () => [...list.querySelectorAll("tbody tr")].map((row) => row.dataset.clip);
        const seen = [note()];
        put(search, "tale 7"), seen.push(note());
        put(search, ""), put(sort, "motion"), put(which, "0"), seen.push(rows());
        put(which, "changed"), seen.push(note());
        type("motion.min", "0.01"), seen.push(note());
        list.querySelector("[aria-label='next page']").click(), seen.push(note());
        return seen"""
    found = browser.probe(mixed.page, COUNTS + STATE + script)
    everything, searched, sorted_kept, unchanged, changed, second = found
    assert everything == "600 of 600 clips, page 1 of 24"
    assert searched == "12 of 600 clips, page 1 of 1"
    before = mixed.decide(mixed.policy)
    kept = before.filter(pa.compute.equal(before["decision"], "keep"))
    motion = dict(zip(kept["clip_id"].to_pylist(), kept["motion"].to_pylist(), strict=True))
    assert len(sorted_kept) == 25
    wanted = sorted(value for value in motion.values() if value is not None)
    assert [motion[clip] for clip in sorted_kept] == wanted[:25]
    assert unchanged == "0 of 600 clips, page 1 of 1"
    after = mixed.decide(with_motion(mixed.policy, Rule(min=0.01, max=0.2)))
    pairs = zip(after["decision"].to_pylist(), before["decision"].to_pylist(), strict=True)
    num_changed = sum(one != other for one, other in pairs)
    assert changed.startswith(f"{num_changed} of 600 clips, page 1 of")
    assert "page 2 of" in second


def test_a_table_decided_under_another_policy_is_told_apart(browser, mixed: Mixed, tmp_path: Path) -> None:
    sections = yaml.safe_load((mixed.path / "config.yaml").read_text())
    sections["curate"]["select"]["rules"]["motion"]["min"] = 0.05
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(sections))
    (tmp_path / "clips.parquet").write_bytes((mixed.path / "clips.parquet").read_bytes())
    (tmp_path / "tables").symlink_to(mixed.path / "tables")
    warning = browser.probe(Path(build_report(str(tmp_path))), 'return document.querySelector(".warning").textContent')
    assert "decided differently in clips.parquet" in warning
    assert "reelpack select" in warning
