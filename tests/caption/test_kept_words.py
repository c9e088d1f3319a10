"""A longer text stands for a prompt only with its words, numbers, quotations and negations."""

import pytest

from caption.kept_words import changes


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a cat", "A small cat sits on a wall."),
        ("two dogs run", "Two brown dogs are running on a beach."),
        ("2 dogs running", "Two dogs run over a field with three trees."),
        ("a street without people", "An empty street at night, with no people in sight."),
        ("a man doesn't smile", "A man looks stern and does not smile."),
        ("a man carrying a baby", "A tall man carries a baby."),
        ('a sign that says "OPEN"', 'A neon sign in a window says "OPEN".'),
        ("一只猫在跑", "一只猫在跑，阳光明媚。"),
    ],
)
def test_a_text_that_says_the_same_and_more_passes(prompt: str, text: str) -> None:
    assert changes(prompt, text) == []


@pytest.mark.parametrize(
    ("prompt", "text", "told"),
    [
        ("a red car", "A car on a road.", "the word 'red'"),
        ("two dogs run", "Three dogs run after two birds.", "how many 'dog'"),
        ("a street without people", "A street full of people.", "the negation of 'peopl'"),
        ("a street without people", "A street without cars, where people walk.", "the negation of 'peopl'"),
        ("a cat", "There is no cat.", "'cat', which is negated now"),
        ('a sign that says "OPEN"', 'A sign that says "Open".', "the quoted text 'OPEN'"),
        ("一只猫在跑", "一只狗在跑。", "the word"),
    ],
)
def test_a_text_that_says_something_else_is_told(prompt: str, text: str, told: str) -> None:
    assert any(told in change for change in changes(prompt, text)), changes(prompt, text)
