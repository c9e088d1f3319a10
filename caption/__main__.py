"""`python -m caption DATASET` is `reelpack caption DATASET`."""

import sys

from pipelines.cli import main

if __name__ == "__main__":
    main(["caption", *sys.argv[1:]])
