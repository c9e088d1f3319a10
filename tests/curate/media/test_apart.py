import os
import signal
from pathlib import Path

import pytest

from curate.media.apart import run_apart
from curate.media.probe import content_id
from curate.schema import FailureKind, MediaError


def test_a_call_in_another_process_gives_what_it_gives_here(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert run_apart(content_id, str(tmp_path / "file"), limit_s=60) == content_id(str(tmp_path / "file"))
    with pytest.raises(MediaError) as error:
        run_apart(content_id, str(tmp_path / "gone"), limit_s=60)
    assert error.value.kind is FailureKind.MISSING


def test_what_ends_the_other_process_does_not_end_this_one() -> None:
    with pytest.raises(MediaError, match=str(-signal.SIGABRT)) as error:
        run_apart(os.abort, limit_s=60)
    assert error.value.kind is FailureKind.WORKER_DIED


def test_what_does_not_come_back_is_ended() -> None:
    with pytest.raises(MediaError) as error:
        run_apart(signal.pause, limit_s=0.5)
    assert error.value.kind is FailureKind.TIMEOUT
