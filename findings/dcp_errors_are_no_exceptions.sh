#!/bin/sh
# Guess: an error while torch.distributed.checkpoint saves or loads is an `Exception`: the OSError of a full disk, or
# one of the library's own, so that `except Exception` around `save`, `load` or the future of `async_save` reports it.
# Behaviour: any error of a storage writer or reader, in a single process too, comes as `CheckpointException`, which
# derives from `BaseException` alone: `except Exception` and `except OSError` let it pass, and a command that reports
# errors in one line prints a traceback. What happened is in its `failures`: rank -> (error, traceback). Safe: name it,
# `from torch.distributed.checkpoint.api import CheckpointException`.
# Seen with torch 2.13.0 (CPU).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - "$folder/checkpoint" <<'END'
import errno
import logging
import sys

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

logging.disable()  # of the files that a load finds missing
print("torch", torch.__version__)


class Full(dcp.FileSystemWriter):
    def write_data(self, plan, planner):
        raise OSError(errno.ENOSPC, "No space left on device")


def caught(act):
    try:
        act()
    except Exception as error:
        return type(error).__name__, True
    except BaseException as error:
        (reason, _), = error.failures.values()
        return f"{type(error).__name__} of {type(reason).__name__}", False


state = {"x": torch.zeros(2)}
acts = {
    "save": lambda: dcp.save(state, storage_writer=Full(sys.argv[1]), no_dist=True),
    "async_save": lambda: dcp.async_save(state, storage_writer=Full(sys.argv[1]), no_dist=True).result(),
    "load": lambda: dcp.load(state, checkpoint_id=sys.argv[1], no_dist=True),
}
seen = {name: caught(act) for name, act in acts.items()}
for name, (kind, is_exception) in seen.items():
    print(f"{name}: {kind}; `except Exception` catches it: {is_exception}")
print("bases:", [base.__name__ for base in CheckpointException.__mro__])
assert not any(is_exception for _, is_exception in seen.values()), "the behaviour has changed"
END
