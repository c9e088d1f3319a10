"""Trouble at every point at which a command changes a dataset, one after the other: it is killed, or the disk is full
or read-only from then on. Then the same command runs again, and its dataset must be that of an undisturbed run.

    python -m benchmarks.commit_points [--commands curate,select,caption,encode] [--troubles kill,full,read-only]
        [--every 1]

A point is a file that is opened for writing, renamed or removed below the dataset; Python itself tells of them (its
audit events). Exit code 1 where a dataset differs, or a command ends without a plain message.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.support.commit_points import COMMANDS, TROUBLES, Points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", default=",".join(COMMANDS))
    parser.add_argument("--troubles", default=",".join(TROUBLES))
    parser.add_argument("--every", type=int, default=1, help="every so many points only")
    arguments = parser.parse_args()
    num_wrong = 0
    with tempfile.TemporaryDirectory(prefix="points-") as folder:
        points = Points(Path(folder))
        for command in arguments.commands.split(","):
            for trouble in arguments.troubles.split(","):
                found = [wrong for _, wrong in points.all(command, trouble, arguments.every)]
                num_wrong += sum(map(bool, found)) or not found
                print(f"{command:7} {trouble:9} at {len(found):3} points: {sum(map(bool, found))} differ", flush=True)
                for wrong in filter(None, found):
                    print("        " + "\n        ".join(wrong), flush=True)
    sys.exit(1 if num_wrong else 0)


if __name__ == "__main__":
    main()
