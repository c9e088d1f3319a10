"""Calls in threads: in order, with their results, and no reason for a process to stay."""

import gc
import subprocess
import sys
import threading

import pytest

from curate.daemon_threads import DaemonPool


def test_results_come_in_order_and_calls_run_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=10)

    def call(number: int) -> int:
        together.wait()
        return number * 2

    assert list(DaemonPool(3, "test").map(call, range(6))) == [0, 2, 4, 6, 8, 10]


def test_an_error_is_raised_where_the_result_is_wanted_and_the_thread_lives_on() -> None:
    pool = DaemonPool(1, "test")
    failed = pool.submit(int, "x")
    assert pool.submit(int, "7").result() == 7
    with pytest.raises(ValueError, match="'x'"):
        failed.result()


def test_a_pool_that_nobody_has_ends_its_threads() -> None:
    pool = DaemonPool(2, "ends")
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("ends")]
    assert pool.submit(len, "ab").result() == 2 and len(threads) == 2
    del pool
    gc.collect()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_a_process_does_not_stay_for_calls_that_wait() -> None:
    program = (
        "import sys, threading; from curate.daemon_threads import DaemonPool; pool = DaemonPool(1, 'x');"
        "begun = threading.Event(); waits = threading.Event();"
        "pool.submit(lambda: (begun.set(), waits.wait(600))); pool.submit(waits.wait, 600); begun.wait(); sys.exit(3)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 3
