"""Threads keep their priority, also where an encoder sets another one.

SVT-AV1, run by root or with CAP_SYS_NICE, as in most containers, makes its threads and the thread that opens it
real-time (SCHED_FIFO, priority 99). Such a thread takes a core from every other process, and keeps the priority
after the encoder is closed (`findings/svt_av1_makes_threads_real_time.sh`).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def own_scheduling() -> Iterator[None]:
    """Give the threads of this process the policy back that the calling one had, if the block changes it."""
    if not hasattr(os, "sched_getscheduler"):  # Linux alone
        yield
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            for thread in os.listdir("/proc/self/task"):
                with suppress(ProcessLookupError):  # it has ended
                    os.sched_setscheduler(int(thread), policy, priority)
