#!/bin/sh
# Guess: `getrusage(RUSAGE_SELF).ru_maxrss` of a process that was just started is what this process used.
# Behaviour: on Linux it begins at the peak of the process that started it: exec carries the peak of the memory it
# replaces over. A small worker of a large parent reports the parent's memory, and workers of different size report the
# same figure. `VmHWM` in /proc/self/status is of the memory after exec alone.
# So: read VmHWM where /proc is there.
# Seen with Linux 6.18, Python 3.11.
set -eu
python3 - <<'END'
import resource
import subprocess
import sys

CHILD = """
import resource
lines = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, int(lines["VmHWM"].split()[0]) // 1024)
"""
held = bytearray(500 << 20)
parent = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
maxrss, peak = map(int, subprocess.run([sys.executable, "-c", CHILD], capture_output=True, check=True).stdout.split())
print(f"parent {parent} MiB; child: ru_maxrss {maxrss} MiB, VmHWM {peak} MiB")
assert maxrss > 400 > 100 > peak
END
