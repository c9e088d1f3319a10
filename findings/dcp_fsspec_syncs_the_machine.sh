#!/bin/sh
# Guess: torch.distributed.checkpoint's FsspecWriter writes to a bucket and leaves this machine's disks alone; its
# `sync_files=True`, the default, is about files of its own.
# Behaviour: a file of an object store has no descriptor, so `sync_files` falls back to os.sync(): each file of a
# checkpoint, and its .metadata, first waits until every filesystem of the machine is flushed, those of others too. On a
# node with dirty pages on a slow mount that is minutes for each checkpoint.
# So: FsspecWriter(url, sync_files=False), for whatever is no local disk.
# Seen with torch 2.13.0, fsspec 2026.9.0.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 fsspec==2026.9.0 numpy
"$folder/venv/bin/python" - <<'END'
import os
import warnings
from importlib.metadata import version

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint._fsspec_filesystem import FsspecWriter

warnings.simplefilter("ignore")
print("torch", version("torch"), "fsspec", version("fsspec"))
calls = []
os.sync = lambda: calls.append("os.sync()")
for name, options in (("default", {}), ("sync_files=False", {"sync_files": False})):
    calls.clear()
    writer = FsspecWriter(f"memory://bucket/{name}", **options)
    dcp.save({"weight": torch.zeros(3)}, storage_writer=writer, no_dist=True)
    print(f"{name}: {len(calls)} calls of os.sync()")
    assert bool(calls) == (name == "default"), "the behaviour has changed"
END
