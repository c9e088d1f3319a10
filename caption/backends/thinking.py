"""Texts of models that think before they answer."""

BEGIN, END = "<think>", "</think>"


def without_thinking(text: str) -> str:
    """What follows the thinking, without surrounding white space; empty where the token limit came before its end.

    Some chat templates put `<think>` at the end of the prompt: then a text has the end of the thinking alone.
    """
    _, end, answer = text.rpartition(END)
    if end:
        return answer.strip()
    return "" if text.lstrip().startswith(BEGIN) else text.strip()
