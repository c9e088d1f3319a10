"""Texts of the web as plain text: what is markup or hidden goes, what a reader sees stays."""

import pytest

from caption.plain_text import plain_text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("<b>A dog</b> &amp; a cat<br>run", "A dog & a cat run"),
        ("&lt;script&gt;steal()&lt;/script&gt; hello world", "hello world"),
        ("a < b and c > d, I <3 you", "a < b and c > d, I <3 you"),
        ("A cat <!-- hidden", "A cat"),
        ('<a href="', ""),
        ("see [a link](http://x.y/z) and **bold** text", "see a link and bold text"),
        ("# Title\n- one\n- two", "Title one two"),
        ("[[File:a.jpg|thumb]] '''Rome''' is [[City|the city]] of {{flag|it}} Italy", "Rome is the city of Italy"),
        ("[b]A dog[/b] runs", "A dog runs"),
        ("rock 'n' roll, M*A*S*H, 5*3*2 = 30", "rock 'n' roll, M*A*S*H, 5*3*2 = 30"),
    ],
)  # fmt: skip
def test_markup_goes_and_its_text_stays(given: str, expected: str) -> None:
    assert plain_text(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("A wave. Watch here: https://films.example/a?b=1", "A wave. Watch here"),
        ("A cat, by someone@films.example", "A cat, by"),
        ("Cat playing with @tom", "Cat playing with"),
        ("Cat playing #cute #cat #fyp", "Cat playing"),
        ("A walk with my #dog in the park", "A walk with my dog in the park"),
        ("#cute #cat", ""),
    ],
)
def test_addresses_handles_and_rows_of_hashtags_go(given: str, expected: str) -> None:
    assert plain_text(given) == expected


def test_what_nobody_sees_goes() -> None:
    hidden_tags = "".join(chr(0xE0000 + ord(char)) for char in "hidden")
    hidden_bytes = "".join(map(chr, range(0xE0100, 0xE0110)))
    given = f"tab\there\x00 \x1b[31mred\x1b[0m zero\u200bwidth \u202eturned\u202c{hidden_tags}{hidden_bytes}\ufffe"
    assert plain_text(given) == "tab here red zerowidth turned"


def test_scripts_and_emoji_stay() -> None:
    surfer, england = "🏄\u200d♂️", "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
    for text in (f"Surfing {surfer} in {england}", "می\u200cخواهم بروم", "夕阳西下", "Ünïcödé naïve"):
        assert plain_text(text) == text
    assert plain_text("Cafe\u0301 noir") == "Café noir"
