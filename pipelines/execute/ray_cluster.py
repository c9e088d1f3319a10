"""Ray itself: join a cluster, or start a private one on this machine."""

import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.execute.base import ExecuteConfig

KNOCK_S = 5
STORE_BYTES = 256 * 2**20
"""Object store of a private Ray: items and outcomes are small rows, frames never travel."""


def connect(config: ExecuteConfig) -> bool:
    """Join the cluster of the configuration or of RAY_ADDRESS, else start a private Ray; True if it is private.

    Raises:
        ConnectionError: no cluster answers at the address, or no Ray starts here.
    """
    import ray

    address = check_address(config)
    private = {"num_cpus": config.num_cpus, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    # Ray's core prints harmless lines about restartable actors at its error level.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        # Ray's processes take standard input over, and hand it to every worker.
        with _empty_stdin(), _without(b"Set ray log level from environment variable"):
            ray.init(
                address=address,
                logging_level=logging.ERROR,
                log_to_driver=False,
                **(private if address == "local" else {}),
            )
    except ConnectionError as error:
        raise ConnectionError(
            f"no Ray cluster answers at {address} ({error}); check --address, and RAY_AUTH_MODE=token with its token "
            "(docs/cluster.md)"
        ) from error
    except Exception as error:
        # Where a process of its own does not come up in time, Ray raises what it has at hand, a bare Exception too.
        if address != "local":
            raise
        ray.shutdown()
        raise ConnectionError(
            f"Ray did not start on this machine ({error}); if it is busy, or short of memory or of room in /tmp, try "
            "again later; `--executor local` works without Ray (its logs are in /tmp/ray/session_latest/logs)"
        ) from error
    return address == "local"


def check_address(config: ExecuteConfig) -> str:
    """The address of Ray that the configuration or RAY_ADDRESS names, "local" for a private one. Ray itself would wait
    for minutes for a head that is not there.

    Raises:
        ConnectionError: nothing listens at HOST:PORT.
    """
    # Without an address Ray would follow a file that any earlier cluster on this machine left behind.
    address = config.address or os.environ.get("RAY_ADDRESS") or "local"
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=KNOCK_S).close()
        except OSError as error:
            raise ConnectionError(
                f"nothing listens at {address} ({error}); check --address, the head (`ray status` there) and firewalls"
            ) from error
    return address


@contextmanager
def _empty_stdin() -> Iterator[None]:
    """What is started inside reads nothing from this process's terminal."""
    try:
        ours = os.dup(0)
    except OSError:  # closed by whoever started this process
        ours = os.open(os.devnull, os.O_RDONLY)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    try:
        yield
    finally:
        os.dup2(ours, 0)
        os.close(ours)
        os.close(empty)


@contextmanager
def _without(words: bytes) -> Iterator[None]:
    """Lines with these words are left out of what is written to standard error inside, by native code too; all others
    appear at the end."""
    try:
        theirs = os.dup(2)
    except OSError:  # closed: nothing appears anywhere
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(theirs, 2)
            os.close(theirs)
            said.seek(0)
            os.write(2, b"".join(line for line in said if words not in line))
