"""A run that is told to stop."""

import os
import signal

from train.distributed.preempt import Preempted, stop_on_sigterm


def test_the_exit_code_is_that_of_a_process_ended_by_sigterm():
    assert Preempted("saved").code == 143


def test_sigterm_sets_the_event_and_nothing_afterwards():
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_sigterm() as told:
        assert not told.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert told.wait(10)
    assert signal.getsignal(signal.SIGTERM) is before
