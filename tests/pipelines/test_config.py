import re
from pathlib import Path

import pytest

from pipelines.config import RENAMED, Config, dump, find_file, load_config, overrides, upgraded
from train.run.folder import check_ranks

README = Path(__file__).parents[2] / "README.md"


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("select: {rules: {motion: {min: 0.5, max: 0.7}}}\n")
    config = load_config(file, ["select.rules.motion.min=0.6"])
    assert config.select.rules["motion"].sides == {"min": 0.6, "max": 0.7}
    assert config.select.rules["luminance"] == Config().select.rules["luminance"]


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("select.moton.min=1", "select.rules.motion.min"),
        ("trian.steps=1", "train.steps"),
        ("train.optimizer.lrr=1", "train.optimizer.lr"),
        ("scan.detector.treshold=3", "scan.detector.threshold"),
        ("train.lr=1", "train.optimizer.lr"),
        ("caption.model=x", "caption.backend.model"),
        ("caption.blend=1", "train.data.blend"),
        ("train.model.patch_size=2", "train.model.patch"),
    ],
)
def test_an_unknown_key_names_the_nearest_valid_one(typo: str, meant: str) -> None:
    with pytest.raises(ValueError, match="unknown key") as caught:
        load_config(overrides=[typo])
    named = str(caught.value).rsplit(" ", 1)[-1]
    assert named == meant or meant.startswith(f"{named}.")


@pytest.mark.parametrize(
    ("wrong", "listed", "not_listed"),
    [
        ("train.model.hidden_size=512", "train.model are .*width, depth", "steps"),
        ("train.model.num_layers=3", "train.model are .*width, depth", "steps"),
        ("train.batch_size=8", "train are steps", "width"),
        ("frobnicate.x=8", "the sections are scan", "steps"),
    ],
)
def test_a_key_that_is_like_no_other_names_those_of_its_section(wrong: str, listed: str, not_listed: str) -> None:
    with pytest.raises(ValueError, match=f"unknown key; .*{listed}") as caught:
        load_config(overrides=[wrong])
    assert not_listed not in str(caught.value).replace(",", "").split()


def test_the_keys_that_are_named_are_those_of_the_kind_that_is_set() -> None:
    with pytest.raises(ValueError, match=r"the keys of caption\.backend are .*num_in_flight") as caught:
        load_config(overrides=["caption.backend={kind: openai, base_url: http://x/v1, model: m, zzz: 1}"])
    assert "dtype" not in str(caught.value)


def test_an_unknown_side_of_a_rule_names_the_column_and_the_sides() -> None:
    with pytest.raises(ValueError, match=r"select\.rules\.motion: unknown side mn: a rule has min, max, in, not_in"):
        load_config(overrides=["select.rules.motion.mn=1"])


def test_a_bound_that_is_no_number_names_the_column() -> None:
    with pytest.raises(ValueError, match=r"^select\.rules\.motion\.min: .*got 'low'"):
        load_config(overrides=["select.rules.motion.min=low"])


@pytest.mark.parametrize("old", RENAMED)
def test_a_renamed_key_is_refused_with_its_new_name(old: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{old}: is called {RENAMED[old]} now")):
        load_config(overrides=[f"{old}.min=1"])


def test_one_scorer_is_changed_and_the_others_stay() -> None:
    changed = load_config(overrides=["score.scorers.text_match.wanted=[a rabbit]", "score.scorers.nsfw=null"]).score
    default = Config().score.scorers
    assert changed.scorers.keys() == default.keys() - {"nsfw"}
    assert [name for name, scorer in changed.scorers.items() if scorer != default[name]] == ["text_match"]
    assert load_config(overrides=["score.scorers=null"]).score.scorers == {}


def test_one_key_names_the_encoder_of_all_scorers_that_name_none() -> None:
    score = load_config(overrides=["score.encoder.model=ViT-L-14:openai"]).score
    assert score.encoder is not None and score.encoder.kind == "open_clip"
    own = load_config(overrides=["score.encoder.model=x:y", "score.scorers.text_match.encoder.kind=conse"]).score
    encoders = {name: getattr(scorer, "encoder", None) for name, scorer in own.complete().items()}
    assert encoders["embedding"] == own.encoder != encoders["text_match"]


def test_scorers_in_a_list_are_refused_with_the_table_in_its_place_and_read_where_they_were_saved() -> None:
    listed = [{"kind": "brisque", "num_frames": 2}, {"kind": "sound"}]
    with pytest.raises(ValueError, match=r"score\.scorers: got list, .* such as (\{.*\}): names") as caught:
        load_config(overrides=[f"score.scorers={listed}"])
    table = re.search(r"(\{.*\}): names", str(caught.value))
    assert table is not None
    shown = load_config(overrides=[f"score.scorers={table[1]}"]).score.scorers
    saved = Config.model_validate(upgraded({"score": {"scorers": listed}})).score.scorers
    assert saved == {"sound": Config().score.scorers["sound"], "brisque": shown["brisque"]}
    assert list(saved) == ["sound", "brisque"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("text_mach.encoder.kind=open_clip", "text_mach: no scorer of that name; the nearest one is text_match"),
        ("nfsw=null", "nfsw: no scorer of that name; the nearest one is nsfw"),
        ("zzz.num_frames=3", "zzz: no scorer of that name; a new one says its kind: static_overlay"),
        ("second={kind: brisque}", "brisque and second both write the column brisque"),
        ("kind=brisque", r"expected scorers by name, such as {\"brisque\": {}}"),
        (
            "nsfw.devise=cpu",
            r"devise: unknown key; the nearest valid one is score\.scorers\.nsfw\.device",
        ),
        ("text_match.encoder.kind=open_clip", r"text_match\.encoder: model ViT-B-32 needs `pretrained`"),
    ],
)
def test_a_wrong_scorer_is_told_what_is_right(wrong: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_config(overrides=[f"score.scorers.{wrong}"])


@pytest.mark.parametrize("old", [old for old in RENAMED if old.startswith("select.")])
def test_a_renamed_rule_is_read_where_it_was_saved(old: str) -> None:
    *parents, leaf = old.split(".")
    saved: dict = {leaf: {"min": 0.5, "max": None}}
    for name in reversed(parents):
        saved = {name: saved}
    read = Config.model_validate(upgraded(saved))
    assert read.select.rules[leaf].sides == {"min": 0.5}


def test_a_key_of_another_kind_says_that_the_kind_has_it_not() -> None:
    with pytest.raises(ValueError, match=r"temperature: not a key of this kind; set caption\.backend\.kind"):
        load_config(overrides=["caption.backend.temperature=1"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["kind=unet", "mixer.pattern=windows"],
            r"train\.model\.mixer: not a key of this kind; set train\.model\.kind",
        ),
        (["kind=unet", "conditioning=in_context"], r"train\.model\.conditioning: not a key of this kind"),
        (["mixer={kind: mamba, pattern: windows}"], r"train\.model\.mixer\.pattern: not a key of this kind"),
        (["mixer={kind: mamba, chunk: 0}"], r"train\.model\.mixer\.chunk: .*greater than or equal to 1"),
        (["mixer={kind: samba, mamba: {chunk: 0}}"], r"train\.model\.mixer\.mamba\.chunk: .*greater than"),
        (["mixer={kind: mamba}"], r"position rope .* mixer mamba has none; set position to sincos"),
        (["kind=unet", "text=in_context"], r"train\.model\.text: .*'cross_attention', 'pooled' or 'none'"),
    ],
)
def test_what_a_denoiser_or_mixer_does_not_take_is_told_by_the_path_that_was_set(
    settings: list[str], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        load_config(overrides=[f"train.model.{setting}" for setting in settings])


def test_a_value_out_of_range_says_what_was_got() -> None:
    with pytest.raises(ValueError, match=r"train\.steps.*got -1"):
        load_config(overrides=["train.steps=-1"])


def test_a_flag_through_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="not a section"):
        load_config(overrides=["train.steps=1", "train.steps.more=1"])


def test_one_key_of_a_member_of_a_union_can_be_set() -> None:
    config = load_config(overrides=["scan.detector.threshold=0.3"])
    assert (config.scan.detector.kind, config.scan.detector.threshold) == ("cascade", 0.3)


def test_another_member_of_a_union_replaces_the_default_one() -> None:
    assert load_config(overrides=["scan.detector.kind=whole"]).scan.detector.kind == "whole"


def test_a_section_that_nothing_resembles_lists_the_sections() -> None:
    with pytest.raises(ValueError, match="the sections are scan, score, dedup, select"):
        load_config(overrides=["zzz=1"])


@pytest.mark.parametrize(
    ("name", "shape"),
    [("dit_s", (384, 12, 6)), ("dit_b", (768, 12, 12)), ("dit_l", (1024, 24, 16)), ("dit_xl", (1152, 28, 16))],
)
def test_a_recipe_is_a_model_of_the_paper_for_one_gpu_or_eight(name: str, shape: tuple[int, int, int]) -> None:
    train = load_config(name).train
    assert (train.model.width, train.model.depth, train.model.num_heads) == shape
    for mode in ("ddp", "fsdp"):
        alike = load_config(name, [f"train.parallel.mode={mode}"]).train
        for num_ranks in (1, 2, 4, 8):
            check_ranks(alike, num_ranks)
    assert train.data.plan.token_budget * train.data.plan.packs_per_step == 2**18


@pytest.mark.parametrize(("name", "kind"), [("unet_s", "unet"), ("walt_s", "dit")])
def test_a_recipe_of_another_model_is_for_one_gpu_or_eight(name: str, kind: str) -> None:
    train = load_config(name).train
    assert train.model.kind == kind
    for num_ranks in (1, 2, 4, 8):
        check_ranks(train, num_ranks)


def test_every_setting_that_the_documents_name_is_one() -> None:
    root = Path(__file__).parents[2]
    texts = [(root / "README.md").read_text(), *(path.read_text() for path in (root / "docs").rglob("*.md"))]
    commands = [line for text in texts for line in text.replace("\\\n", " ").splitlines()]
    settings = [re.findall(r"--set ([\w.]+=[^\s`]+)", command) for command in commands]
    assert sum(map(len, settings)) > 3
    for of_command in settings:
        load_config(overrides=[setting.strip("'`") for setting in of_command])


@pytest.mark.parametrize("page", ["README.md", "docs/captioning.md"])
def test_the_sections_that_the_documents_print_load(tmp_path: Path, page: str) -> None:
    text = (README.parent / page).read_text()
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)):
        (tmp_path / f"{number}.yaml").write_text(block)
        load_config(tmp_path / f"{number}.yaml")
    assert number >= 0


def test_a_value_that_is_no_yaml_is_named() -> None:
    with pytest.raises(ValueError, match="the value is not YAML"):
        load_config(overrides=["select.split.hold_out=*bbb*"])


def test_a_missing_file_lists_the_shipped_ones() -> None:
    with pytest.raises(ValueError, match=r"no such file.*demo"):
        load_config("nowhere.yaml")


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("select: {motion: [")
    with pytest.raises(ValueError, match=r"broken\.yaml is not YAML"):
        load_config(file)


@pytest.mark.parametrize("name", sorted(path.stem for path in find_file("demo").parent.glob("*.yaml")))
def test_shipped_configurations_load_and_survive_a_round_trip(name: str, tmp_path: Path) -> None:
    config = load_config(name)
    (tmp_path / "again.yaml").write_text(dump(config))
    assert load_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize("change", ["score.scorers=null", "score.scorers.nsfw=null"])
def test_what_was_removed_from_a_table_stays_removed(change: str, tmp_path: Path) -> None:
    config = load_config(overrides=[change])
    assert "nsfw" not in config.score.scorers
    (tmp_path / "again.yaml").write_text(dump(config))
    assert load_config(tmp_path / "again.yaml") == config


def test_a_section_of_another_kind_is_typed_without_its_defaults() -> None:
    config = load_config(overrides=["caption.backend={kind: openai, base_url: http://x/v1, model: m, seed: 7}"])
    assert overrides(config) == [
        'caption.backend={"kind": "openai", "base_url": "http://x/v1", "model": "m", "seed": 7}'
    ]


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["select.rules.licence.in=[CC0]", "select.rules.motion=null", "select.rules={a b: {max: 1}}"],
        ["sidecar.types.rating=int", "sidecar.types={meta.size: float}"],
        ["select.rules.motion.min=0.5", "select.rules.letterbox_fraction.max=null", "execute.publish_every_s=1e-9"],
        ["score.scorers=null", "execute.executor=local", "execute.address='123'", "scan.detector.kind=whole"],
        ["score.scorers.text_match.encoder={kind: open_clip, pretrained: x}", "score.scorers.nsfw=null"],
        ["score.scorers.own={kind: aesthetic, head: h.pth, encoder: {kind: conse}}"],
        ["scan.detector={kind: adaptive, threshold: 4}", "select.split={val_fraction: 0.25}"],
        ["caption.backend={kind: openai, base_url: http://x/v1, model: m}", "caption.fallback.model=y"],
    ],
)
def test_what_was_changed_can_be_typed_again(changes: list[str]) -> None:
    config = load_config(overrides=changes)
    assert load_config(overrides=overrides(config)) == config
    assert (overrides(config) == []) == (changes == [])
