"""No encoder changes the priority of who encodes with it."""

import os

import numpy as np
import pytest

from curate.media.codecs import CODECS, EncodeConfig
from curate.media.encode import encode_mp4
from curate.media.scheduling import own_scheduling


def may_be_real_time() -> bool:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return False
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return True


needs_the_right = pytest.mark.skipif(not may_be_real_time(), reason="needs the right to raise priorities")


def policies() -> set[int]:
    return {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}


@needs_the_right
@pytest.mark.parametrize("codec", CODECS)
def test_an_encoder_leaves_the_priority_of_the_process(codec: str) -> None:
    rgb = np.zeros((3, 64, 64, 3), np.uint8)
    encode_mp4(rgb, 24, EncodeConfig(codec=codec, preset="ultrafast"))  # type: ignore[arg-type]
    assert policies() == {os.SCHED_OTHER}


@needs_the_right
def test_the_policy_of_before_is_set_back_also_after_an_error() -> None:
    with pytest.raises(KeyError), own_scheduling():
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        raise KeyError
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@needs_the_right
def test_a_process_that_is_real_time_by_choice_stays_so() -> None:
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        with own_scheduling():
            pass
        assert os.sched_getscheduler(0) == os.SCHED_RR
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
