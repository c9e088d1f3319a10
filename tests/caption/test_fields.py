"""The level `fields`: its schema, and what is read from the texts that models really write."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caption.fields import FIELDS_SCHEMA, SHOT_SIZES, CaptionFields, Salvaged, salvage

WHOLE = CaptionFields(
    subjects=("a woman in a red coat", "a dog"),
    actions=("The woman throws a ball", "The dog runs after it"),
    scene="a park",
    camera="pan left",
    shot_size="wide shot",
    light="soft morning light",
    style="animation",
    visible_text=("STOP", 'the "Moon"'),
)
words = st.text(st.characters(codec="utf-8", categories=("L", "P", "N")), min_size=2, max_size=12).map(
    lambda text: f"say {text}"
)
some_fields = st.builds(
    CaptionFields,
    subjects=st.lists(words, max_size=3).map(tuple),
    actions=st.lists(words, max_size=3).map(tuple),
    scene=st.none() | words,
    shot_size=st.none() | st.sampled_from(SHOT_SIZES),
    visible_text=st.lists(words, max_size=3).map(tuple),
).filter(lambda fields: fields != CaptionFields())


def test_the_schema_is_what_strict_decoders_accept() -> None:
    assert FIELDS_SCHEMA["additionalProperties"] is False
    assert FIELDS_SCHEMA["required"] == list(FIELDS_SCHEMA["properties"]) == list(CaptionFields.model_fields)
    for schema in FIELDS_SCHEMA["properties"].values():
        assert schema["type"] in ("string", "array") and schema["description"]
        assert schema.keys() <= {"type", "items", "enum", "description"}
    json.dumps(FIELDS_SCHEMA)


@given(some_fields)
def test_fields_come_back_from_their_text(fields: CaptionFields) -> None:
    assert salvage(fields.to_json()) == Salvaged(fields=fields, is_whole=True)


def everything(fields: CaptionFields) -> str:
    """What a constrained model writes: each property, empty where it says nothing."""
    return json.dumps({name: value or "" for name, value in fields.model_dump().items()} | {"visible_text": []})


@pytest.mark.parametrize(
    "text",
    [
        "```json\n{}\n```",
        "Here is the {{JSON}} you asked for:\n\n{}\n\nLet me know if you need more!",
        '<think>I see {{"subjects": ["a cat"]}}? No.</think>\n{}',
        "the template opened the block</think>{}",
        '{{"caption": {}}}',
        "<|begin_of_box|>{}<|end_of_box|>",
        "◁think▷hm◁/think▷{}",
    ],
)
def test_the_object_is_found_in_what_models_put_around_it(text: str) -> None:
    fields = WHOLE.model_copy(update={"visible_text": ()})
    assert salvage(text.format(everything(fields))) == Salvaged(fields=fields, is_whole=True)


def test_python_s_way_of_writing_it_is_read() -> None:
    text = """{'subjects': ['the dog's "house"', 'a cat',], 'Shot Size': 'Close up', scene: 'it\\'s a yard', }"""
    expected = CaptionFields(subjects=('the dog\'s "house"', "a cat"), shot_size="close-up", scene="it's a yard")
    assert salvage(text) == Salvaged(fields=expected, is_whole=True)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ('{"subjects": ["a cat", "a d', CaptionFields(subjects=("a cat",))),
        ('{"scene": "a park", "light": "so', CaptionFields(scene="a park")),
        ('{"scene": "a park", "li', CaptionFields(scene="a park")),
        ('{"scene": "a park"', CaptionFields(scene="a park")),
        ("{'scene': 'a park', 'light': 'it", CaptionFields(scene="a park")),
        ('{"scene": "a park", "visible_text": ["it says "STOP" there"]}', CaptionFields(scene="a park")),
        ('{"scene": "a park", "light": NaN, "style": "film"}', CaptionFields(scene="a park")),
        ('{"scene": "a park", "light": {"kind": "soft"}}', CaptionFields(scene="a park")),
    ],
)
def test_closed_fields_of_a_damaged_object_count_and_open_ones_do_not(text: str, fields: CaptionFields) -> None:
    assert salvage(text) == Salvaged(fields=fields, is_whole=False)


@settings(max_examples=50)
@given(some_fields, st.data())
def test_an_object_cut_anywhere_says_nothing_new(fields: CaptionFields, data: st.DataObject) -> None:
    text = fields.to_json()
    read = salvage(text[: data.draw(st.integers(0, len(text) - 1))])
    assert not read.is_whole
    for name, value in read.fields or CaptionFields():
        whole = getattr(fields, name)
        assert not value or value == whole or (isinstance(value, tuple) and value == whole[: len(value)])


@given(st.text(st.sampled_from("{}[]\"'\\:, \nabscene<think>/NaN01"), max_size=60))
def test_no_text_raises(text: str) -> None:
    for damaged in (text, '{"scene": ' + text, '{"subjects": [' + text):
        read = salvage(damaged)
        assert read.fields is None or salvage(read.fields.to_json()) == Salvaged(fields=read.fields, is_whole=True)


@pytest.mark.parametrize(
    "text", ["{" * 9999, '{"scene":' * 9999, "{'" + "'" * 9999, '{"a":[' * 9999, '{"scene": "' + "\\" * 9999]
)
def test_hostile_texts_are_refused(text: str) -> None:
    assert salvage(text) == Salvaged(fields=None, is_whole=False)


def test_nothing_said_is_no_field() -> None:
    text = '{"subjects": ["a cat", "None", ""], "scene": "N/A", "shot_size": "unknown", "visible_text": ["no text."]}'
    assert salvage(text) == Salvaged(fields=CaptionFields(subjects=("a cat",)), is_whole=True)
    assert salvage('{"scene": "none"}').fields is None


def test_texts_are_one_line_of_valid_unicode() -> None:
    text = r'{"subjects": "a\n cat\u0000", "scene": "\ud83d a park", "visible_text": [42], "light": ["soft", "warm"]}'
    expected = CaptionFields(subjects=("a cat",), scene="a park", visible_text=("42",), light="soft, warm")
    assert salvage(text) == Salvaged(fields=expected, is_whole=True)


def test_other_names_of_the_fields_are_known() -> None:
    text = '{"Subject": "a cat", "Setting": "a park", "camera movement": "static", "lighting": "soft", "text": []}'
    expected = CaptionFields(subjects=("a cat",), scene="a park", camera="static", light="soft")
    assert salvage(text) == Salvaged(fields=expected, is_whole=True)
