"""Captions that are composed from fields: good English from what models write, and variants that differ."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caption.compose import compose, short_of
from caption.fields import SHOT_SIZES, CaptionFields

WHOLE = CaptionFields(
    subjects=("A woman in a red coat.", "A brown dog"),
    actions=("the woman throws a ball;", "The dog runs after it", "The dog brings it back."),
    scene="A park with yellow trees",
    camera="slow pan left, zoom in",
    shot_size="extreme wide shot",
    light="Bright and warm.",
    style="hand-drawn animation",
    visible_text=("STOP", '"Open"'),
)
TOLD = "A woman in a red coat and a brown dog. The woman throws a ball. The dog runs after it. The dog brings it back."


def of(**fields: object) -> str:
    return compose(CaptionFields(**fields), key="clip", variant=0)


def test_all_fields_make_a_paragraph_of_sentences() -> None:
    text = compose(WHOLE, key="clip", variant=0)
    assert re.sub("The (setting|scene) is", "The scene is", text).replace("The framing is an", "An") == (
        f"{TOLD} "
        "The scene is a park with yellow trees. The camera pans slowly left and zooms in. An extreme wide shot. "
        'The light is bright and warm. The style is hand-drawn animation. The texts "STOP" and "Open" can be read.'
    )


@pytest.mark.parametrize(
    ("subjects", "actions", "expected"),
    [
        (["a man"], ["Walks along the street", "looks inside."], "A man walks along the street and looks inside."),
        (["a man"], ["walking slowly"], "A man is walking slowly."),
        (["two children"], ["Playing in the sand", "laughing"], "Two children, playing in the sand and laughing."),
        (["Max", "a cat, asleep", "The red car"], [], "Max; a cat, asleep; the red car."),
        (["salt and pepper", "a spoon"], [], "Salt and pepper; a spoon."),
        (["dogs"], ["dogs run in a field"], "Dogs. Dogs run in a field."),
        (["a boy"], ["Bees fly", "The boy hides"], "A boy. Bees fly. The boy hides."),
        ([], ["something  moves!"], "Something moves!"),
        (["a cat", "A cat."], ["it sleeps", "It sleeps."], "A cat. It sleeps."),
    ],
)
def test_who_does_what_is_english(subjects: list[str], actions: list[str], expected: str) -> None:
    assert of(subjects=tuple(subjects), actions=tuple(actions)) == expected


@pytest.mark.parametrize(
    ("field", "said", "expected"),
    [
        ("scene", "The scene takes place in a forest.", "The scene takes place in a forest."),
        ("scene", "busy street at night", "Busy street at night."),
        ("camera", "static", "The camera is static."),
        ("camera", "Hand-held and pan right", "The camera is handheld and pans right."),
        ("camera", "tilting up", "The camera tilts up."),
        ("camera", "Moves slowly through the trees", "The camera moves slowly through the trees."),
        ("camera", "the camera follows him", "The camera follows him."),
        ("camera", "a dolly shot", "A dolly shot."),
        ("style", "Bauhaus", "Bauhaus style."),
        ("light", "The light is low.", "The light is low."),
        ("visible_text", ('say "hi"',), "The text \"say 'hi'\" can be read."),
    ],
)
def test_a_detail_is_english(field: str, said: object, expected: str) -> None:
    assert of(**{field: said}) == expected


def test_light_that_is_a_noun_is_there() -> None:
    texts = {compose(CaptionFields(light="Soft daylight"), key=str(key), variant=0) for key in range(20)}
    assert texts == {"Soft daylight.", "There is soft daylight."}


def test_variants_are_drawn_by_key_and_number_and_differ() -> None:
    texts = [compose(WHOLE, key="clip", variant=number) for number in range(12)]
    assert texts == [compose(WHOLE, key="clip", variant=number) for number in range(12)]
    assert len(set(texts)) == 12
    assert texts[1:] != [compose(WHOLE, key="other", variant=number) for number in range(1, 12)]
    lengths = {len(text) for text in texts[1:]}
    assert min(lengths) < 0.7 * len(texts[0])
    assert sum(not text.startswith("A woman") for text in texts) >= 1 and texts[0].startswith("A woman")


def test_variants_keep_subjects_and_the_order_of_actions() -> None:
    assert all(TOLD in compose(WHOLE, key="clip", variant=number) for number in range(8))


def test_fields_with_one_thing_to_say_say_it_in_each_variant() -> None:
    assert {compose(CaptionFields(camera="static"), key="a", variant=n) for n in range(5)} == {"The camera is static."}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (WHOLE, "A woman in a red coat throws a ball."),
        (CaptionFields(subjects=("a man",), actions=("opens a door", "leaves")), "A man opens a door."),
        (CaptionFields(subjects=("the sea",), actions=("Waves break",)), "Waves break."),
        (CaptionFields(subjects=("a dog", "a cat"), scene="a park"), "A dog."),
        (CaptionFields(scene="a park"), "A park."),
        (CaptionFields(subjects=("a dog " + "with very long ears " * 8,), actions=("A dog barks",)), "A dog barks."),
        (CaptionFields(light="daylight"), ""),
    ],
)
def test_a_short_caption_is_the_main_subject_and_what_it_does(fields: CaptionFields, expected: str) -> None:
    assert short_of(fields) == expected


said = st.text(st.sampled_from("aA bc.,;:-\"'!?éing s(\n"), max_size=20)
any_fields = st.builds(
    CaptionFields,
    **{name: st.lists(said, max_size=3).map(tuple) for name in ("subjects", "actions", "visible_text")},
    **{name: st.none() | said for name in ("scene", "camera", "light", "style")},
    shot_size=st.none() | st.sampled_from(SHOT_SIZES),
)


@given(any_fields, st.integers(0, 3))
def test_any_fields_give_sentences(fields: CaptionFields, variant: int) -> None:
    for text in (compose(fields, key="clip", variant=variant), short_of(fields)):
        assert text == " ".join(text.split()) and text == text.strip()
        assert not text or text.endswith((".", "!", "?"))
