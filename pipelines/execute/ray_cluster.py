"""Ray itself: join a cluster, or start a private one on this machine."""

import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.execute.base import ExecuteConfig

REACH_TIMEOUT_S = 5
"""Limit of the connection that tests whether an address answers."""
STORE_BYTES = 256 * 2**20
"""Object store of a private Ray. Items and outcomes are small rows; frames stay in their worker."""


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
        # Ray's processes inherit standard input and pass it to every worker.
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
        # If one of its processes does not start in time, Ray raises various errors, a bare Exception among them.
        if address != "local":
            raise
        ray.shutdown()
        raise ConnectionError(
            f"Ray did not start on this machine ({error}); if it is busy, or short of memory or of room in /tmp, try "
            "again later; `--executor local` works without Ray (its logs are in /tmp/ray/session_latest/logs)"
        ) from error
    return address == "local"


def check_address(config: ExecuteConfig) -> str:
    """The address of Ray that the configuration or RAY_ADDRESS names, "local" for a private one. It is tested here,
    because Ray waits for minutes for a head that does not answer.

    Raises:
        ConnectionError: nothing listens at HOST:PORT.
    """
    # Without an address Ray reads one from a file that an earlier cluster may have left on this machine.
    address = config.address or os.environ.get("RAY_ADDRESS") or "local"
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=REACH_TIMEOUT_S).close()
        except OSError as error:
            raise ConnectionError(
                f"nothing listens at {address} ({error}); check --address, the head (`ray status` there) and firewalls"
            ) from error
    return address


@contextmanager
def _empty_stdin() -> Iterator[None]:
    """Processes started inside read nothing from the terminal of this process."""
    try:
        ours = os.dup(0)
    except OSError:  # closed by the parent process
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
    """Drop lines with these words from standard error, that of native code included. The other lines appear at the
    end of the block."""
    try:
        theirs = os.dup(2)
    except OSError:  # closed: there is no output to filter
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
