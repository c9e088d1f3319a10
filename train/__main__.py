"""`python -m train` and `torchrun -m train`: the command line's `train`."""

from pipelines.commands.entry import main_of
from pipelines.commands.train import train

if __name__ == "__main__":
    main_of(train, "train")
