"""The shell completes commands, shipped configurations, sections and keys."""

import pytest

from pipelines.cli import COMMANDS, main


def completed(words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What bash is offered for the last word."""
    monkeypatch.setattr("sys.argv", ["reelpack"])
    monkeypatch.setenv("_REELPACK_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    with pytest.raises(SystemExit):
        main()
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("reelpack cur", {"curate"}),
        ("reelpack train D --config dit_", {"dit_s", "dit_b", "dit_l", "dit_xl"}),
        ("reelpack train D --set train.optimizer.lr", {"train.optimizer.lr="}),
        ("reelpack config train.optimizer.lr", {"train.optimizer.lr"}),
    ],
)
def test_the_last_word_is_completed(
    words: str, offered: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(completed(words, monkeypatch, capsys)) == offered


def test_every_command_is_offered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert {name for name, _ in COMMANDS} <= set(completed("reelpack ", monkeypatch, capsys))
