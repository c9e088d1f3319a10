"""`python -m train` and `torchrun -m train`: the command line's `train`."""

import sys

from pipelines.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
